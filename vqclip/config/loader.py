"""Layered YAML settings: default.yaml, then each config, then `key=value` words, into `settings.Config`."""

import dataclasses
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from vqclip.common.errors import UsageError
from vqclip.common.paths import configs_dir, is_there
from vqclip.common.registry import did_you_mean
from vqclip.config.schema import Config

MARK = "\ue000"  # put after `$` and `?` so that OmegaConf sees neither `${…}` nor `???` in anybody's data


def available_configs() -> dict[str, Path]:
    """Return the shipped configs by name."""
    return {path.stem: path for path in sorted(configs_dir().glob("*.yaml"))}


def available_prompts() -> dict[str, Path]:
    """Return the shipped prompt lists by name."""
    return {path.stem: path for path in sorted((configs_dir() / "prompts").glob("*.txt"))}


def load_config(
    layers: Sequence[str] = (), words: Sequence[str] = (), options: Mapping[str, object] | None = None
) -> Config:
    """Merge default.yaml, each layer (name, file or `-`), each `key=value` word, then named options.

    `options` maps dotted keys to values and skips None, so that an option not given changes nothing.

    Raises:
        UsageError: a layer that cannot be read, an unknown key, or a value that does not fit.
    """
    return ConfigReader().load(layers, words, options)


class ConfigReader:
    """`load_config` for many configs of the same layers: it reads each combination of layers once and keeps it."""

    def __init__(self) -> None:
        self.merged: dict[tuple[str, ...], DictConfig] = {}

    def load(
        self, layers: Sequence[str] = (), words: Sequence[str] = (), options: Mapping[str, object] | None = None
    ) -> Config:
        """Do what `load_config` does.

        Raises:
            UsageError: as `load_config`.
        """
        merged = self._layers(tuple(layers))
        for word in words:
            merged = _merge(merged, _read_word(word), f"--set {word!r}")
        given = {key: value for key, value in (options or {}).items() if value is not None}
        return _to_config(_merge(merged, _nest(given), "command line") if given else merged)

    def _layers(self, layers: tuple[str, ...]) -> DictConfig:
        """Merge default.yaml and the layers, from the longest beginning that is known."""
        if layers not in self.merged:
            if layers:
                below = self._layers(layers[:-1])
                self.merged[layers] = _merge(below, _read_layer(layers[-1]), f"config {layers[-1]!r}")
            else:
                defaults = _read_yaml(configs_dir() / "default.yaml")
                self.merged[layers] = _merge(OmegaConf.structured(Config), defaults, "default.yaml")
        return self.merged[layers]


def config_from_dict(data: object, label: str, words: Sequence[str] = ()) -> Config:
    """Rebuild a config that was saved by `to_dict`, over today's defaults and under `key=value` words.

    Raises:
        UsageError: as `load_config`.
    """
    merged = _merge(OmegaConf.structured(Config), _read_yaml(configs_dir() / "default.yaml"), "default.yaml")
    merged = _merge(merged, data, label)
    for word in words:
        merged = _merge(merged, _read_word(word), f"--set {word!r}")
    return _to_config(merged)


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as plain dictionaries, lists, strings and numbers."""
    return dataclasses.asdict(config)


def to_yaml(config: Config) -> str:
    """Return the config as YAML that `load_config` reads back to an equal config."""
    return yaml.dump(to_dict(config), Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Quotes text with Unicode's own line ends, which PyYAML would write as a plain one."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)


class _Loader(yaml.SafeLoader):
    """Refuses aliases (`*name`): a few lines of them stand for billions of values."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases (`*name`) are not read", problem_mark=mark)
        return super().compose_node(parent, index)


def _read_layer(layer: str) -> object:
    if layer == "-":
        return _read_stdin()
    known = available_configs()
    if layer in known:
        return _read_yaml(known[layer])
    path = Path(layer)
    if not (path.name != layer or path.suffix in {".yaml", ".yml"} or is_there(path)):
        raise UsageError(f"Unknown config {layer!r}: {did_you_mean(layer, known)}")
    return _read_yaml(path)


def _read_stdin() -> object:
    try:
        text = sys.stdin.read()
    except ValueError as error:
        raise UsageError("Cannot read the config from standard input: it is not UTF-8 text.") from error
    return _parse_yaml(text, "standard input")


def _read_yaml(path: Path) -> object:
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise UsageError(f"Cannot read the config {str(path)!r}: {reason}.") from error
    return _parse_yaml(text, str(path))


def _parse_yaml(text: str, source: str) -> object:
    try:
        return yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{source}{where} is not usable YAML: {reason}.") from error
    except (RecursionError, ValueError) as error:
        raise UsageError(f"{source} is not usable YAML: {error}.") from error


def _read_word(word: str) -> object:
    """Read `key=value`; the value is YAML, but stays as typed when the key holds text."""
    key, equals, value = word.partition("=")
    if not (equals and all(part.strip() for part in key.split("."))):
        raise UsageError(f"--set {word!r} is not key=value; write e.g. --set optimise.steps=100")
    key = key.strip()
    kind = _type_of(key)
    plain = kind is str or (kind == str | None and value not in ("null", "~", ""))
    return _nest({key: value if plain else _parse_yaml(value, f"--set {word!r}")})


def _type_of(key: str) -> object:
    """Return the declared type of a dotted key, or None for an unknown one."""
    kind: Any = Config
    for part in key.split("."):
        kind = get_type_hints(kind).get(part) if dataclasses.is_dataclass(kind) else None
    return kind


def _nest(options: Mapping[str, object]) -> dict[str, Any]:
    """Turn {"a.b": v, "a.c": w} into {"a": {"b": v, "c": w}}."""
    nested: dict[str, Any] = {}
    for key, value in options.items():
        *sections, last = key.split(".")
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return nested


def _merge(base: DictConfig, data: object, label: str) -> DictConfig:
    if data is None:
        return base
    if not isinstance(data, dict):
        raise UsageError(f"{label} must hold `key: value` lines, not {type(data).__name__}.")
    try:
        return OmegaConf.merge(base, _guard(data))  # type: ignore[return-value]
    except RecursionError as error:
        raise UsageError(f"{label} is nested too deeply to be a config.") from error
    except ConfigKeyError as error:
        key = _unguard(str(error.full_key or error.key))
        section = get_type_hints(_section(key))
        raise UsageError(f"{label}: unknown key {key!r}; {did_you_mean(key.split('.')[-1], section)}") from error
    except (OmegaConfBaseException, TypeError, ValueError) as error:
        reason = _unguard(str(error).splitlines()[0].strip().rstrip("."))
        key = _unguard(str(getattr(error, "full_key", None) or "a value"))
        raise UsageError(f"{label}: {key} does not fit: {reason}.") from error


def _section(key: str) -> type:
    """Return the dataclass that the last part of a dotted key should be a field of."""
    found = _type_of(key.rpartition(".")[0])
    return found if isinstance(found, type) and dataclasses.is_dataclass(found) else Config


def _to_config(merged: DictConfig) -> Config:
    try:
        guarded = OmegaConf.to_container(merged, resolve=False, throw_on_missing=True)
    except MissingMandatoryValue as error:
        raise UsageError(f"The config leaves {error.full_key} out; give it a value.") from error
    return _build(Config, _unguard(guarded))


def _build(kind: type, data: Any) -> Any:
    """Make the dataclass `kind` from nested dictionaries whose types OmegaConf has checked."""
    hints = get_type_hints(kind)
    return kind(
        **{
            name: _build(hints[name], value) if dataclasses.is_dataclass(hints[name]) else value
            for name, value in data.items()
        }
    )


def _guard(data: Any) -> Any:
    """Mark every `$` and `?` in strings, so that no user's text is an interpolation or a missing value."""
    return _map_strings(data, lambda text: re.sub(r"[$?]", lambda found: found.group() + MARK, text))


def _unguard(data: Any) -> Any:
    return _map_strings(data, lambda text: re.sub(rf"([$?]){MARK}", r"\1", text))


def _map_strings(data: Any, change: Any) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, Mapping):
        return {_map_strings(key, change): _map_strings(value, change) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_map_strings(value, change) for value in data]
    return data
