"""What a job may say: the fields of a row, checked and brought to their types, and the config that they ask for."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from vqclip.common.errors import UsageError
from vqclip.common.images import SUFFIXES
from vqclip.common.names import is_name
from vqclip.common.paths import THUMBS, at_home
from vqclip.common.registry import shown
from vqclip.config.loader import ConfigReader, overridden
from vqclip.config.schema import SEED_LIMIT, Config
from vqclip.config.starts import REDRAW
from vqclip.config.typed import SWITCHES
from vqclip.pipeline import edits
from vqclip.pipeline.edits import Edit
from vqclip.pipeline.settle import uses_strength

RIMS = ("left", "top", "right", "bottom", "ratio")

EDITS: Mapping[str, Sequence[str]] = {
    "edit": ("mask", "box", "where", "invert", "feather", "strength", "from", "to", "amount"),
    "outpaint": (*RIMS, "feather", "strength"),
    "vary": ("strength",),
    "interpolate": ("frames",),
}
"""The commands that make pictures of pictures, and what a job may say that names one with its picture or its points."""

OF_START = ("strength",)
"""What belongs to a job with an `init_image`, if it is none of EDITS."""

OWNERS: Mapping[str, Sequence[str]] = {**EDITS, "init_image": OF_START}

KEYS: Mapping[str, str] = {
    "size": "size",
    "drawer": "drawer",
    "video": "output.video",
    "save_every": "output.save_every",
    "mask": "mask.image",
    "box": "mask.boxes",
    "where": "mask.where",
    "invert": "mask.invert",
    "feather": "mask.feather",
    "strength": "init.strength",
    "from": "targets.away",
    "to": "targets.towards",
    "amount": "targets.amount",
}
"""Fields that are settings, by their dotted keys."""

OF_EDITS = tuple(dict.fromkeys(own for fields in EDITS.values() for own in fields))

FIELDS = (
    *("prompt", "seed", "size", "steps", "config", "count", "init_image", "image_prompts", "output", "set"),
    *("video", "save_every", "drawer", *EDITS),
    *OF_EDITS,
)
"""What a job may say; everything else in it is an error of that job."""

TEXTS = ("prompt", "size", "drawer", "config", "init_image", "output", "edit", "outpaint", "vary", *RIMS)
NUMBERS = ("seed", "steps", "count", "frames")
OF_JOBS = frozenset({"seed", "seeds", "count", "prompts"})
"""Settings that a batch takes from the jobs, or from --seed and --count."""

LENGTHS = ("size", *edits.SIDES)
"""Texts that may be written as a number, too."""

DEEPEST = 16
"""Folders that a picture's name may hold."""

NUMBER = re.compile(r"[+-]?\d{1,30}")


@dataclass(frozen=True)
class Base:
    """What all jobs share: config layers, `key=value` overrides and named options (dotted key ─▶ value)."""

    layers: Sequence[str] = ()
    overrides: Sequence[str] = ()
    options: Mapping[str, object] = field(default_factory=dict)


def checked(row: object) -> dict[str, Any]:
    """Check the fields of a row and bring them to their types; text numbers, as CSV has them, are accepted."""
    if not isinstance(row, dict):
        raise UsageError(f"A job is a prompt or `field: value` pairs, not {type(row).__name__}.")
    unknown = [key for key in row if not isinstance(key, str) or key not in FIELDS]
    if unknown:
        raise UsageError(f"Unknown field {shown(unknown[0])} in a job; known: {', '.join(FIELDS)}.")
    facts = {key: value for key, value in row.items() if value is not None}
    for key in facts:
        if not _encodes(facts[key]):
            raise UsageError(f"The field {key!r} of a job holds half a character, which is no text.")
    for key in NUMBERS:
        if key in facts:
            facts[key] = _whole(key, facts[key])
    for key in LENGTHS:
        if isinstance(facts.get(key), int) and not isinstance(facts[key], bool):
            facts[key] = str(facts[key])
    for key in TEXTS:
        if key in facts and not isinstance(facts[key], str):
            raise UsageError(f"The field {key!r} of a job must be text, not {shown(facts[key])}.")
    if isinstance(facts.get("invert"), str):
        facts["invert"] = SWITCHES.get(facts["invert"].lower(), facts["invert"])
    _check_edits(facts)
    if not facts.get("prompt", "").strip() and not any(facts.get(key) for key in ("image_prompts", *EDITS)):
        raise UsageError("A job needs a prompt, image_prompts, or one of " + ", ".join(EDITS) + ".")
    facts.setdefault("prompt", "")
    if not 1 <= facts.get("count", 1) <= 10_000:
        raise UsageError(f"count is {facts['count']}; it must be between 1 and 10000.")
    if not 0 <= facts.get("seed", 0) < SEED_LIMIT:
        raise UsageError(f"seed is {facts['seed']}; it must be between 0 and {SEED_LIMIT - 1}.")
    if "output" in facts:
        _check_inside(facts["output"])
    return facts


def _check_edits(facts: Mapping[str, Any]) -> None:
    """Refuse two commands in one job, and fields that belong to another command or to none."""
    named = [key for key in EDITS if key in facts]
    if len(named) > 1:
        raise UsageError(f"A job is one command: give {named[0]!r} or {named[1]!r}.")
    known = EDITS[named[0]] if named else OF_START if "init_image" in facts else ()
    for key in OF_EDITS:
        if key in facts and key not in known:
            owners = " or ".join(repr(name) for name, fields in OWNERS.items() if key in fields)
            raise UsageError(f"The field {key!r} of a job belongs to {owners}, which names the picture.")
    points = facts.get("interpolate", "")
    if not isinstance(points, str) and not (isinstance(points, list) and all(isinstance(each, str) for each in points)):
        raise UsageError(f"The field 'interpolate' of a job must be texts, not {shown(points)}.")
    if "interpolate" in facts and facts.get("prompt"):
        raise UsageError("'interpolate' holds all the points of its way; leave the prompt out.")
    if not 2 <= facts.get("frames", 2) <= 10_000:
        raise UsageError(f"frames is {facts['frames']}; it must be between 2 and 10000.")


def _encodes(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _whole(key: str, value: object) -> int:
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UsageError(f"The field {key!r} of a job must be a whole number, not {shown(value)}.")


def _check_inside(output: str) -> None:
    """Refuse a name that leaves the folder, is no picture's, or stands in a folder that holds something else."""
    parts = output.replace("\\", "/").split("/", DEEPEST + 1)
    if len(parts) > DEEPEST:
        raise UsageError(f"output {shown(output)} holds more than {DEEPEST} folders.")
    if not parts[0] or ".." in parts or ":" in output or "\0" in output:
        raise UsageError(f"output {shown(output)} leaves the folder of the batch; give a plain name inside it.")
    place = PurePosixPath(*parts)
    if place.suffix.lower() not in SUFFIXES:
        raise UsageError(f"output {shown(output)} is no picture; it ends in {', '.join(SUFFIXES)}.")
    if any(part.startswith(".") for part in place.parts) or place.parts[0].lower() == THUMBS:
        raise UsageError(f"output {shown(output)} is a hidden file, or one of {THUMBS}/; give a plain name.")
    if not all(map(is_name, place.parts)):
        raise UsageError(f"output {shown(output)} is too long for a file's name, or holds what a name cannot.")


def config_of(facts: Mapping[str, Any], base: Base, reader: ConfigReader) -> Config:
    """Read the config that checked facts ask for, on top of what all jobs share.

    Raises:
        UsageError: a layer, setting, or picture that is not right.
    """
    facts = {**facts, **{key: at_home(facts[key]) for key in ("config", "outpaint") if key in facts}}
    if facts.get("config") == "-":
        raise UsageError("The config of a job cannot be `-`: name one, or a file.")
    boxes = {"box": _listed(facts["box"], ";")} if "box" in facts else {}
    given = {key: {**facts, **boxes}[name] for name, key in KEYS.items() if name in facts}
    made = _edit(facts, given, base)
    layers = [*([made.layer] if made else []), *base.layers, *([facts["config"]] if "config" in facts else [])]
    overrides = [*base.overrides, *_overrides(facts.get("set"))]
    check_overrides(overrides)
    options = {
        **base.options,
        "prompts": [facts["prompt"]] if facts["prompt"] else [],
        "count": 1,
        "seeds": [],
        **({"optimise.steps": facts["steps"]} if "steps" in facts else {}),
        "init.kind": REDRAW if "init_image" in facts else None,
        "init.image": facts.get("init_image"),
        "image_prompts": _listed(facts["image_prompts"]) if "image_prompts" in facts else None,
        **given,
        **(made.fixed if made else {}),
    }
    edits.check_unsaid(made.fixed if made else {}, _overrides(facts.get("set")))
    settings = reader.load(layers, overrides, options)
    if "strength" in facts and not uses_strength(settings):
        raise UsageError("strength says nothing where the start is the picture itself: add set: init.kind=codes.")
    if "interpolate" in facts:
        return edits.paced(settings, overrides)
    return edits.shaped(settings, options, overrides) if made and made.layer in edits.WHOLE else settings


def check_overrides(overrides: Sequence[str]) -> None:
    """Refuse `key=value` for what is each job's own.

    Raises:
        UsageError: one of them is that, or no `key=value`.
    """
    own = next((each for each in overrides if not OF_JOBS.isdisjoint(overridden(each))), None)
    if own is not None:
        raise UsageError(f"`set` cannot hold {own!r} in a batch: give a job's own field, or --seed and --count.")


def _edit(facts: Mapping[str, Any], given: Mapping[str, object], base: Base) -> Edit | None:
    """The command that makes a picture of pictures, if the job is one."""
    said = {**given, "prompts": facts["prompt"]}
    if "edit" in facts:
        return edits.edit(facts["edit"], said)
    if "outpaint" in facts:
        rims = {side: facts[side] for side in edits.SIDES if side in facts}
        return edits.outpaint(facts["outpaint"], said, rims, facts.get("ratio"))
    if "vary" in facts:
        return edits.vary(facts["vary"])
    if "interpolate" in facts:
        points = [at_home(point) for point in _listed(facts["interpolate"], "|")]
        updates = facts.get("steps", base.options.get("optimise.steps", edits.UPDATES))
        return edits.interpolate(points, facts.get("frames", edits.FRAMES), updates)
    return None


def _listed(given: Any, parted: str | None = None) -> Any:
    """A list of what is given, which may be one text, or several `parted` by a sign, as CSV needs it."""
    if not isinstance(given, str):
        return given
    return [part.strip() for part in given.split(parted)] if parted else [given]


def _overrides(given: object) -> list[str]:
    """Read `set`: a list of `key=value`, one such text, or pairs."""
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if isinstance(given, dict):
        try:
            return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]
        except (TypeError, ValueError) as error:
            raise UsageError("The field 'set' of a job holds a value that is neither text nor a number.") from error
    if isinstance(given, list) and all(isinstance(word, str) for word in given):
        return given
    raise UsageError("The field 'set' of a job must be `key=value` texts or pairs.")
