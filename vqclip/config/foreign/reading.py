"""Settings of older tools turned into ours: pixray's YAML, nerdyrodent's command line, pytti's YAML.

Each tool has its defaults, in our keys, and a rule for each of its settings: a function from its value to our keys, or
a sentence on what there is instead.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar

from vqclip.common.errors import UsageError
from vqclip.common.registry import shown
from vqclip.config.foreign.nerdyrodent import NERDYRODENT, flags
from vqclip.config.foreign.pixray import PIXRAY
from vqclip.config.foreign.pytti import PYTTI
from vqclip.config.foreign.rules import BESIDE, Keys, NoEqualError, Tool, is_on
from vqclip.config.yaml_text import Structure, parse_structure

T = TypeVar("T")

IDLE = {
    True: ("init_noise", "the run starts from init_image; left out"),
    False: ("init_weight", "it pulls to init_image, and there is none; left out"),
}
"""With a picture to start from, and without: the setting that does nothing then, and why."""


@dataclass(frozen=True)
class Imported:
    """Our settings by dotted key, the tool they came from, and sentences on what has no equal here."""

    tool: str
    settings: Keys
    notes: list[str]


def import_settings(text: str, source: str) -> Imported:
    """Read a settings file of one of TOOLS, told apart by what it holds; `source` names it in sentences.

    Raises:
        UsageError: it is none, or a value cannot be what it says.
    """
    tool, theirs = _read(text, source)
    settings, notes = {**tool.defaults, **_told(tool.together, "the whole", theirs)}, []
    idle, reason = IDLE[is_on(theirs.get("init_image"))]
    for key, value in sorted(theirs.items(), key=lambda pair: pair[0] not in tool.first):
        rule = tool.rules.get(key)
        try:
            if key == idle and is_on(value):
                raise NoEqualError(reason)
            if rule is None and key not in tool.ignored:
                raise NoEqualError("no equal here; left out")
            if isinstance(rule, str) and is_on(value):
                raise NoEqualError(rule)
            if rule is not None and not isinstance(rule, str) and value is not None:
                settings = _joined(settings, _told(rule, key, value))
        except NoEqualError as error:
            settings = _joined(settings, error.kept)
            notes.append(f"{key}: {error}.")
    notes += [f"{key}: {why}." for key, why in tool.unread(theirs).items()]
    beside = settings.get(BESIDE)
    if isinstance(beside, list) and beside:
        prompts = settings.get("prompts")
        own = prompts if isinstance(prompts, list) and prompts else [""]
        settings = {**settings, "prompts": [" | ".join(filter(None, [each, *beside])) for each in own]}
    settings = {key: value for key, value in settings.items() if key != BESIDE}
    return Imported(tool.name, {key: value for key, value in settings.items() if value is not None}, notes)


def _joined(settings: Keys, further: Keys) -> dict[str, object]:
    """Put further settings over others; of losses, filters and prompts beside the pictures' own, all stay."""
    losses: dict[str, object] = {}
    lists: dict[str, list[object]] = {}
    for each in (settings, further):
        named = each.get("losses")
        losses |= named if isinstance(named, dict) else {}
        for key in ("filters", BESIDE):
            more = each.get(key)
            lists[key] = [*lists.get(key, []), *(more if isinstance(more, list) else [])]
    kept = {key: value for key, value in (("losses", losses), *lists.items()) if value}
    return {**settings, **further, **kept}


def _told(rule: "Callable[[T], Keys]", key: str, value: "T") -> Keys:
    try:
        return rule(value)
    except (ValueError, TypeError, LookupError, AttributeError, ArithmeticError) as error:
        raise UsageError(f"{key} is {shown(value)}, which cannot be read.") from error


def _read(text: str, source: str) -> tuple[Tool, Mapping[str, Structure]]:
    """Tell whose settings these are, and take them apart."""
    line = text.strip()
    if re.match(r"(python\S*\s|\./|)generate\.py|python\S*\s|-{1,2}[a-z]", line):
        return NERDYRODENT, flags(line, source)
    theirs = parse_structure(text, source)
    if not isinstance(theirs, dict):
        raise UsageError(
            f"{source} is no settings file that is known: a YAML of pixray or pytti, or a line `python generate.py …`."
        )
    return (PYTTI if "scenes" in theirs or "image_model" in theirs else PIXRAY), theirs
