"""What a tool's settings are read with: rules from a value of theirs to our keys."""

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias, TypeVar

from vqclip.common.registry import pick, shown
from vqclip.config.schema import FASTEST
from vqclip.config.yaml_text import Structure

T = TypeVar("T")

Keys: TypeAlias = Mapping[str, object]
Rule: TypeAlias = "Callable[[Structure], Keys] | str"


@dataclass(frozen=True)
class Tool:
    """A tool whose settings are read: what it does unless told, in our keys, and a rule for each setting. `together`
    reads what follows from several of them; `ignored` are settings that say nothing about a picture, or are read there.
    `first` are read before the others, which count more wherever they stand. `unread` says of settings that count only
    beside others, by their keys, why they have no equal.
    """

    name: str
    defaults: Keys
    rules: Mapping[str, Rule]
    ignored: frozenset[str]
    together: Callable[[Mapping[str, Structure]], Keys] = lambda theirs: {}
    first: frozenset[str] = frozenset()
    unread: Callable[[Mapping[str, Structure]], Mapping[str, str]] = lambda theirs: {}


class NoEqualError(Exception):
    """There is nothing like it here, or like a part of it; its text says what is done instead, and `kept` is what the
    rest comes to, in our keys.
    """

    def __init__(self, text: str, kept: Keys | None = None) -> None:
        super().__init__(text)
        self.kept = kept or {}


def is_on(value: Structure) -> bool:
    """Whether a setting asks for anything."""
    return value not in (None, "", "false", "False", "off", "0", "0.0", [], {})


def number(key: str) -> Callable[[Structure], Keys]:
    """The same number under our key."""
    return lambda value: {key: float(text_of(value))}


def whole(key: str) -> Callable[[Structure], Keys]:
    """The same whole number under our key."""
    return lambda value: {key: int(float(text_of(value)))}


def text(key: str) -> Callable[[Structure], Keys]:
    """The same text under our key."""
    return lambda value: {key: text_of(value)}


def text_of(value: Structure) -> str:
    """A single value as text. Raises TypeError for a list, a mapping or nothing."""
    if not isinstance(value, str):
        raise TypeError
    return value.strip()


def seed(value: Structure) -> Keys:
    """Theirs may be negative, or a word: then any seed will do."""
    seed = text_of(value)
    return {"seed": int(seed)} if seed.isascii() and seed.isdigit() else {}


BESIDE = "prompts beside"
"""Stands in what rules return for prompts that every picture gets beside its own."""


def stories(value: Structure) -> Keys:
    """Prompts of one picture are joined by `|`, those of one after another by `^`."""
    stories = " ".join(map(text_of, value)) if isinstance(value, list) else text_of(value)
    parts = (" | ".join(plain(part) for part in story.split("|")) for story in stories.split("^"))
    return {"prompts": [story for story in parts if story]}


def plain(part: str) -> str:
    """Write one of their texts so that nothing in it means more here: braces, and brackets or @ at the beginning."""
    escaped = re.sub(r"[{}]", r"\\\g<0>", part.strip())
    return f"\\{escaped}" if escaped.startswith(("[", "@")) else escaped


def listed(value: Structure) -> list[str]:
    """One value, or a list of them, as texts."""
    return [*map(text_of, value)] if isinstance(value, list) else text_of(value).split()


def size(value: Structure) -> Keys:
    """Width and height, as a list or with a comma between them."""
    width, height = (int(text_of(side)) for side in (value if isinstance(value, list) else text_of(value).split(",")))
    return {"size": f"{width}x{height}"}


def clips(value: Structure) -> Keys:
    """OpenAI's CLIP models by their names there, such as `ViT-B/32`, with commas between them."""
    given = value if isinstance(value, list) else text_of(value).split(",")
    names = [name for name in map(text_of, given) if name]

    def read(found: Sequence[str]) -> Keys:
        ours = [name.replace("/", "-").replace("@336px", "-336") for name in found]
        return {"perceptors": [f"{name}-quickgelu:openai" for name in ours]} if ours else {}

    return all_known(CLIPS, names, read)


CLIPS = ("RN50", "RN101", "RN50x4", "RN50x16", "RN50x64", "ViT-B/32", "ViT-B/16", "ViT-L/14", "ViT-L/14@336px")
"""The models that OpenAI published."""


def start(value: Structure) -> Keys:
    """A picture to start from, as it is, if there is one."""
    return {"init.kind": "image", "init.image": text_of(value)} if value else {}


def noise(value: Structure) -> Keys:
    """What to start from, where it is no picture."""
    return {"init.kind": known({"gradient": "gradient", "pixels": "noise", "snow": "noise"}, text_of(value))}


OF_RECIPE = "the recipe of cutouts holds what is done to each; left out"
"""What is said of the details of cutouts."""


def rate(value: Structure) -> Keys:
    """Frames a second of a video; 0 leaves it to the tool."""
    frames = int(float(text_of(value)))
    if frames > FASTEST:
        raise NoEqualError(f"a video has at most {FASTEST} frames a second here: say output.fps")
    return {"output.fps": frames} if frames else {}


def optimiser(value: Structure) -> Keys:
    """The optimiser by its name, if it is one of ours."""
    return {"optimise.name": known({name: name for name in OPTIMISERS}, text_of(value).lower())}


OPTIMISERS = ("adam", "adamw", "adamax", "adagrad", "nadam", "radam", "rmsprop", "sgd")
"""The names of `optimise.name`."""


def image_prompts(value: Structure) -> Keys:
    """Pictures to resemble, maybe with weights, joined by `|`."""
    texts = " ".join(map(text_of, value)) if isinstance(value, list) else text_of(value)
    return {"image_prompts": [part.strip() for part in texts.split("|") if part.strip()]}


def chosen(table: Mapping[str, T], theirs: Mapping[str, Structure], key: str, default: str) -> T:
    """What a table has for the setting `key`, or for `default` where it is not set.

    Raises:
        UsageError: the setting is no word of the table.
    """
    return pick(table, text_of(theirs.get(key) or default), key)


def known(table: Mapping[str, str], name: str) -> str:
    """Our name for theirs. Raises NoEqualError where there is none."""
    if name not in table:
        raise NoEqualError(f"there is nothing like {shown(name)}; left out")
    return table[name]


def all_known(table: Container[str], names: Sequence[str], read: Callable[[Sequence[str]], Keys]) -> Keys:
    """What `read` makes of the names that are in the table. Raises NoEqualError for the others, which keeps that."""
    kept = read([name for name in names if name in table])
    if others := [shown(name) for name in names if name not in table]:
        raise NoEqualError(f"there is nothing like {', '.join(others)}; left out", kept)
    return kept
