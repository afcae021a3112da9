"""Layered settings: default.yaml, then each config, `key=value` overrides and options, into a `schema.Config`."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import Any, get_origin

from vqclip.common.errors import UsageError
from vqclip.common.paths import configs_dir, is_file, is_there
from vqclip.common.registry import did_you_mean, pick, shown
from vqclip.common.text import YAML_LIMIT, decode, read_stdin, read_text
from vqclip.config.alternatives import expand
from vqclip.config.prompts import likeness
from vqclip.config.schema import AUTO_SIZE, Config, in_pixels, parse_size
from vqclip.config.starts import EMBEDDED, QUALITIES, SETTINGS, begun_with, start_of
from vqclip.config.typed import FilePath, Interval, fit, hints, in_steps, make
from vqclip.config.yaml_text import NULLS, dump_yaml, parse_structure

NORMAL = "normal"
"""The quality that changes nothing, which all have once it was made of the settings."""

DEFAULT = "default"
"""The layer that holds every setting."""


def available_configs() -> dict[str, Path]:
    """Return the shipped configs by name."""
    return {path.stem: path for path in sorted(configs_dir().glob("*.yaml"))}


def available_prompts() -> dict[str, Path]:
    """Return the shipped prompt lists by name."""
    return {path.stem: path for path in sorted((configs_dir() / "prompts").glob("*.txt"))}


def load_config(
    layers: Sequence[str] = (), overrides: Sequence[str] = (), options: Mapping[str, object] | None = None
) -> Config:
    """Merge default.yaml, each layer (name, file or `-`), each `key=value` override, then named options.

    `options` maps dotted keys to values and skips None, so that an option not given changes nothing. The config's
    prompts are those that lists and alternatives stand for.

    Raises:
        UsageError: a layer or list that cannot be read, an unknown key, or a value that does not fit.
    """
    return ConfigReader().load(layers, overrides, options)


class ConfigReader:
    """`load_config` for many configs of the same layers: it reads each combination of layers once and keeps it."""

    def __init__(self) -> None:
        self.known: dict[str, dict[str, Any]] = {}
        self.merged: dict[tuple[tuple[str, ...], tuple[str, ...]], dict[str, Any]] = {}

    def load(
        self, layers: Sequence[str] = (), overrides: Sequence[str] = (), options: Mapping[str, object] | None = None
    ) -> Config:
        """Do what `load_config` does.

        Raises:
            UsageError: as `load_config`.
        """
        return _made(lambda starts: _changed(self.merge(starts, tuple(layers)), overrides, options), expand)

    def merge(self, starts: tuple[str, ...], layers: tuple[str, ...]) -> dict[str, Any]:
        """Merge default.yaml, what starts and drawers say, and the layers, from the longest beginning that is known.

        Raises:
            UsageError: as `load_config`.
        """
        key = (starts, layers)
        if key not in self.merged:
            if layers:
                below = self.merge(starts, layers[:-1])
                self.merged[key] = _laid(below, self._read(layers[-1], f"config {layers[-1]!r}"))
            else:
                said = (SETTINGS.get(start, {}) for start in starts)
                self.merged[key] = reduce(_merge, said, self._read(DEFAULT, "default.yaml"))
        return self.merged[key]

    def _read(self, layer: str, label: str) -> dict[str, Any]:
        if layer not in self.known:
            self.known[layer] = _fit(_read_layer(layer), label)
        return self.known[layer]


def config_from_dict(
    data: object, label: str, overrides: Sequence[str] = (), options: Mapping[str, object] | None = None
) -> Config:
    """Rebuild a config that was saved by `to_dict`, over today's defaults, under `key=value` overrides and options.

    Raises:
        UsageError: as `load_config`.
    """
    given, reader = _fit(data, label), ConfigReader()
    return _made(lambda starts: _changed(_laid(reader.merge(starts, ()), given), overrides, options))


def to_dict(config: Config) -> dict[str, Any]:
    """Return the config as plain dictionaries, lists, strings and numbers."""
    return dataclasses.asdict(config)


def to_yaml(config: Config) -> str:
    """Return the config as YAML that `load_config` reads back to an equal config."""
    return dump_yaml(to_dict(config))


def _made(merge: Callable[[tuple[str, ...]], dict[str, Any]], read: Callable[[list[str]], list[str]] = list) -> Config:
    """Merge all layers, and once more over what the kind of start and the drawer say that they come to; `read` turns
    what is written for prompts into them."""
    merged = merge(())
    prompts = read(merged["prompts"])
    init, vqgan, kept = merged["init"], merged["vqgan"], merged["mask"]["original"] is not None
    like = bool(merged["image_prompts"] or likeness(prompts))
    alike = like and not (kept or init["image"] or merged["targets"]["path"])
    drawn = (vqgan["name"] == EMBEDDED and vqgan["file"] is None) or merged["prior"]["name"] != EMBEDDED
    colours = merged["pixelart"]["colours"]  # of the palette's own there is nothing yet: noise and grey begin alike
    start = start_of(init["kind"], merged["drawer"], colours, prior=drawn, kept=kept, alike=alike)
    path = merged["targets"]["path"]
    between = bool(path) and all(map(is_file, path))
    begun = begun_with(start, kept=kept, image=init["image"] is not None, between=between)
    settled = merge((init["kind"], start, *begun, merged["drawer"]))
    config: Config = make(Config, {**_in_steps(settled, settled["optimise"]["steps"]), "prompts": prompts})
    return config


def _in_steps(data: Mapping[str, Any], steps: int, kind: Any = Config) -> dict[str, Any]:
    """Turn what is said in shares of the run into numbers of steps."""
    declared = {name: hints(kind)[name] for name in data}
    sections = {name for name, each in declared.items() if dataclasses.is_dataclass(each)}
    return {
        name: _in_steps(value, steps, declared[name])
        if name in sections
        else in_steps(value, steps)
        if declared[name] in (Interval, Interval | None)
        else value
        for name, value in data.items()
    }


def _changed(merged: dict[str, Any], overrides: Sequence[str], options: Mapping[str, object] | None) -> dict[str, Any]:
    """Put what the command line says over the layers: first `key=value`, then the options that were given. Before that
    the quality makes more or less of what the layers say."""
    given = {key: value for key, value in (options or {}).items() if value is not None}
    said = [_fit(_read_override(override), f"--set {shown(override)}") for override in overrides]
    said.append(_fit(nested(given), "command line"))
    quality = next((each["quality"] for each in reversed(said) if "quality" in each), merged["quality"])
    changed = _in_quality(merged, quality)
    for each in said:
        changed = _laid(changed, each)
    return {**changed, "quality": NORMAL}


def _in_quality(merged: dict[str, Any], name: str) -> dict[str, Any]:
    """Make more or less of steps, cutouts and size, as a quality says.

    Raises:
        UsageError: there is none of this name.
    """
    quality = pick(QUALITIES, name, "quality")
    optimise, cutouts, size = merged["optimise"], merged["cutouts"], merged["size"]
    larger = size if size == AUTO_SIZE else "x".join(str(round(quality.sides * side)) for side in parse_size(size))
    return {
        **merged,
        "optimise": {**optimise, "steps": round(quality.steps * optimise["steps"])},
        "cutouts": {**cutouts, "count": max(1, round(quality.cutouts * cutouts["count"]))},
        "size": size if quality.sides == 1 else larger,
    }


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
    name = "the config from standard input"
    return parse_structure(decode(read_stdin(name, YAML_LIMIT), name), "standard input")


def _read_yaml(path: Path) -> object:
    return parse_structure(read_text(path, "the config", YAML_LIMIT), str(path))


def _read_override(override: str) -> object:
    """Read `key=value`; the value is YAML, but stays as typed when the key holds text."""
    key, equals, value = override.partition("=")
    if not (equals and all(part.strip() for part in _parts(key))):
        raise UsageError(f"--set {shown(override)} is not key=value; write e.g. --set optimise.steps=100")
    key = key.strip()
    kind = _type_of(key)
    plain = kind in (str, FilePath) or (kind in (str | None, FilePath | None) and value not in NULLS)
    return nested({key: value if plain else parse_structure(value, f"--set {shown(override)}")})


def overridden(override: str) -> list[str]:
    """The dotted keys that a `key=value` sets; of a mapping those of what it holds.

    Raises:
        UsageError: it is none.
    """

    def keys(value: object, before: str) -> list[str]:
        if isinstance(value, dict):
            return [key for name, inner in value.items() for key in keys(inner, f"{before}.{name}" if before else name)]
        return [before]

    return keys(_read_override(override), "")


def _parts(key: str) -> list[str]:
    """The names that a dotted key goes through; the last of a section of free names, as losses, may hold dots."""
    return key.split(".", 1 if _is_free(key.partition(".")[0].strip()) else -1)


def _is_free(section: str) -> bool:
    """Whether a section's names are the user's, as those of losses."""
    return get_origin(hints(Config).get(section)) is dict


def _type_of(key: str) -> object:
    """Return the declared type of a dotted key, or None for an unknown one."""
    kind: Any = Config
    for part in _parts(key):
        kind = hints(kind).get(part) if isinstance(kind, type) and dataclasses.is_dataclass(kind) else None
    return kind


def nested(options: Mapping[str, object]) -> dict[str, Any]:
    """Turn {"a.b": v, "a.c": w} into {"a": {"b": v, "c": w}}."""
    nested: dict[str, Any] = {}
    for key, value in options.items():
        *sections, last = _parts(key)
        place = nested
        for section in sections:
            place = place.setdefault(section, {})
        place[last] = value
    return nested


def _fit(data: object, label: str) -> dict[str, Any]:
    """Bring a layer to the types of `Config`; one without a line changes nothing."""
    if data is None:
        return {}
    if not isinstance(data, dict):
        raise UsageError(f"{label} must hold `key: value` lines, not {shown(data)}.")
    try:
        fitted: dict[str, Any] = fit(Config, data)
    except UsageError as error:
        raise UsageError(f"{label}: {error}") from error
    return fitted


def _laid(below: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """Lay one layer over those before; a size that is a shape keeps the area of the size below."""
    merged = _merge(below, over)
    return {**merged, "size": in_pixels(over["size"], below["size"])} if "size" in over else merged


def _merge(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Sections and losses merge key by key; everything else, lists too, is replaced, and `losses: {}` leaves none."""
    merged = dict(base)
    for key, value in over.items():
        merges = isinstance(value, dict) and key in base and (value or not _is_free(key))
        merged[key] = _merge(base[key], value) if merges else value
    return merged
