"""Layered YAML settings: default.yaml, then each config, then `key=value` words, into frozen dataclasses.

Every value and its meaning stand in configs/default.yaml; the classes here hold the types and checks.
"""

import dataclasses
import math
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

import yaml
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import ConfigKeyError, MissingMandatoryValue, OmegaConfBaseException

from vqclip.errors import UsageError
from vqclip.paths import configs_dir, is_there
from vqclip.registry import did_you_mean

SEED_LIMIT = 2**63
VIDEO_FORMATS = ("mp4", "gif", "webp")
MARK = "\ue000"  # put after `$` and `?` so that OmegaConf sees neither `${…}` nor `???` in anybody's data


def _require(ok: bool, key: str, value: object, rule: str) -> None:
    if not ok:
        raise UsageError(f"{key} is {value!r}; it must be {rule}.")


@dataclass(frozen=True)
class VqganConfig:
    """Which VQGAN: a published `name`, or a local `file` (used instead) with its `config` YAML."""

    name: str | None
    file: str | None
    config: str | None

    def __post_init__(self) -> None:
        _require(bool(self.name or self.file), "vqgan.name", self.name, "given, or vqgan.file")


@dataclass(frozen=True)
class PriorConfig:
    """Which prior, how many pictures it draws to choose from, and how it draws them."""

    name: str
    candidates: int
    temperature: float
    top_k: int
    guidance: float

    def __post_init__(self) -> None:
        _require(1 <= self.candidates <= 1024, "prior.candidates", self.candidates, "between 1 and 1024")
        ok = self.temperature >= 0 and math.isfinite(self.temperature)
        _require(ok, "prior.temperature", self.temperature, "0 or more")
        _require(self.top_k >= 0, "prior.top_k", self.top_k, "0 (off) or more")
        _require(math.isfinite(self.guidance), "prior.guidance", self.guidance, "a finite number")


@dataclass(frozen=True)
class InitConfig:
    """What the first latent is made of, and how strongly the run is held near it."""

    kind: str
    image: str | None
    weight: float

    def __post_init__(self) -> None:
        _require(self.weight >= 0 and math.isfinite(self.weight), "init.weight", self.weight, "0 or more")
        _require(
            (self.kind == "image") == (self.image is not None),
            "init.image",
            self.image,
            'a file when init.kind is "image", and null otherwise',
        )
        _require(
            self.weight == 0 or self.kind in ("image", "prior"),
            "init.weight",
            self.weight,
            '0 unless init.kind is "image" or "prior"',
        )


@dataclass(frozen=True)
class CutoutsConfig:
    """How the perceptors look at a picture."""

    recipe: str
    count: int
    micro_batch: int | None

    def __post_init__(self) -> None:
        _require(self.count >= 1, "cutouts.count", self.count, "at least 1")
        _require(
            self.micro_batch is None or self.micro_batch >= 1,
            "cutouts.micro_batch",
            self.micro_batch,
            "at least 1",
        )


@dataclass(frozen=True)
class OptimiseConfig:
    """The descent on the latent."""

    steps: int
    name: str
    lr: float
    schedule: str
    ema: float

    def __post_init__(self) -> None:
        _require(0 <= self.steps <= 1_000_000, "optimise.steps", self.steps, "between 0 and 1000000")
        _require(self.lr > 0 and math.isfinite(self.lr), "optimise.lr", self.lr, "above 0")
        _require(0 <= self.ema < 1, "optimise.ema", self.ema, "at least 0 and below 1")


@dataclass(frozen=True)
class OutputConfig:
    """Where results go and what is kept on the way."""

    path: str | None
    save_every: int
    video: str | None
    metadata: bool
    overwrite: bool

    def __post_init__(self) -> None:
        _require(self.save_every >= 0, "output.save_every", self.save_every, "0 (off) or more")
        _require(
            self.video is None or self.video in VIDEO_FORMATS,
            "output.video",
            self.video,
            "mp4, gif, webp or null",
        )


@dataclass(frozen=True)
class RuntimeConfig:
    """The machine: device, number format, threads, quicker blocks; how often state is saved; short memory."""

    device: str
    precision: str
    threads: int | None
    accelerate: bool
    state_every: int
    state_seconds: float
    low_memory: bool

    def __post_init__(self) -> None:
        _require(self.threads is None or 1 <= self.threads <= 4096, "runtime.threads", self.threads, "1 to 4096")
        _require(self.state_every >= 0, "runtime.state_every", self.state_every, "0 (off) or more")
        ok = self.state_seconds >= 0 and math.isfinite(self.state_seconds)
        _require(ok, "runtime.state_seconds", self.state_seconds, "0 (off) or more")


@dataclass(frozen=True)
class Config:
    """One run, as the user asked for it or, after `plan.make_plan`, as it will be done."""

    prompts: list[str]
    seed: int | None
    count: int
    size: str
    vqgan: VqganConfig
    perceptors: list[str]
    prior: PriorConfig
    init: InitConfig
    image_prompts: list[str]
    cutouts: CutoutsConfig
    losses: dict[str, float]
    optimise: OptimiseConfig
    output: OutputConfig
    runtime: RuntimeConfig

    def __post_init__(self) -> None:
        _require(
            self.seed is None or 0 <= self.seed < SEED_LIMIT,
            "seed",
            self.seed,
            f"between 0 and {SEED_LIMIT - 1}",
        )
        _require(1 <= self.count <= 10_000, "count", self.count, "between 1 and 10000")
        _require(
            self.seed is None or self.seed + self.count <= SEED_LIMIT,
            "seed",
            self.seed,
            f"at most {SEED_LIMIT - self.count} for {self.count} pictures",
        )
        _require(len(self.perceptors) > 0, "perceptors", self.perceptors, "a list with at least one model")
        parse_size(self.size)
        for key in ("prompts", "perceptors", "image_prompts"):
            for number, entry in enumerate(getattr(self, key)):
                _require(isinstance(entry, str), f"{key}[{number}]", entry, "text; quote one that holds `: `")
        for name, weight in self.losses.items():
            ok = isinstance(weight, float) and math.isfinite(weight)
            _require(ok, f"losses.{name}", weight, "a finite number")


def parse_size(text: str) -> tuple[int, int]:
    """Read `WxH` in pixels.

    Raises:
        UsageError: not two whole numbers between 1 and 16384.
    """
    found = re.fullmatch(r"\s*([0-9]{1,5})\s*[xX×]\s*([0-9]{1,5})\s*", text)
    width, height = (int(found[1]), int(found[2])) if found else (0, 0)
    _require(1 <= width <= 16384 and 1 <= height <= 16384, "size", text, "WIDTHxHEIGHT in pixels, e.g. 256x256")
    return width, height


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
