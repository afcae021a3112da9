"""Captions of scenes: the same scene is worded differently each time."""

import random

from scripts.data.scene_styles import GREY_STYLES, STYLES
from scripts.data.scene_things import COLOURS, article, people, things
from scripts.data.scenes import (
    BLACKBOARD,
    BOOK,
    HOLDING,
    OPENINGS,
    PATTERNS,
    PLACES,
    RELATIONS,
    SIDES,
    SIZES,
    TEACHERS,
    Scene,
)

HOLDING_WORDS = ("with", "with", "holding")
TOGETHER = ("and", "and", "next to")
UNSAID = "left of"  # where the first of two things is that are TOGETHER: were it left open, a prior would mix them


def noun(name: str, colour: str, size: str, random_: random.Random) -> str:
    """A thing in words: article, size, colour, and its name or another one for it."""
    thing = things()[name]
    word = random_.choice(thing.synonyms) if thing.synonyms and random_.random() < 0.35 else name
    if colour:
        first, _, rest = word.partition(" ")
        word = f"{colour} {rest if first in COLOURS and rest else word}"
    if size:
        word = f"{random_.choice(SIZES[size])} {word}"
    return article(word) if random_.random() < 0.9 else word


def ground_phrase(scene: Scene, random_: random.Random) -> str:
    """The ground in words, beginning with a space."""
    colour, ground = scene.ground_colour, scene.ground
    if ground in PLACES:
        return " " + ground
    if ground in PATTERNS:
        return random_.choice(
            [
                f" on {article(colour)} {ground} background",
                f" on {article(colour)} background with {PATTERNS[ground]}",
                f" on {colour} {PATTERNS[ground]}",
            ]
        )
    graded = [f" on {article(colour)} gradient"] if ground == "graded" else []
    return random_.choice(
        [
            f" on {article(colour)} background",
            f" on {article(colour)} background",
            f" on {colour}",
            f" against {article(colour)} backdrop",
            f" with {article(colour)} background",
            *graded,
        ]
    )


def teaches(scene: Scene) -> bool:
    """Whether what is to be seen speaks for a teacher."""
    return scene.ground == BLACKBOARD or (scene.place == HOLDING and scene.second == BOOK)


def caption(scene: Scene, random_: random.Random, complete: bool = False) -> tuple[str, frozenset[str]]:
    """A caption of `scene` and the names of the fields of Scene that it speaks of.

    A `complete` one leaves out nothing but, at times, a ground without a pattern and the place of UNSAID; others at
    times any ground, the size, where one thing stands or the style too.
    """

    def mentions(share: float) -> bool:
        return complete or random_.random() < share

    said = {"first", "first_colour"}
    size = scene.size if mentions(0.6) else ""
    said |= {"size"} if size else set()
    portrait = scene.first in people() and (scene.size == "big" or scene.place == HOLDING) and random_.random() < 0.7
    text = noun(scene.first, scene.first_colour, "" if portrait else size, random_)
    if scene.first in TEACHERS and teaches(scene) and random_.random() < 0.6:
        text = article(random_.choice(TEACHERS[scene.first]))
    if scene.place == HOLDING:
        said |= {"second", "second_colour", "place"}
        text += f" {random_.choice(HOLDING_WORDS)} {noun(scene.second, scene.second_colour, '', random_)}"
    elif scene.second:
        said |= {"second", "second_colour"}
        second = noun(scene.second, scene.second_colour, "", random_)
        if scene.place != UNSAID or random_.random() < 0.5:
            said |= {"place"}
            text += f" {random_.choice(RELATIONS[scene.place])} {second}"
        else:
            text += f" {random_.choice(TOGETHER)} {second}"
    elif scene.place and mentions(0.85):
        said |= {"place"}
        text += " " + random_.choice(SIDES[scene.place])
    busy = scene.ground not in ("plain", "graded")
    if scene.style not in GREY_STYLES and ((complete and busy) or random_.random() < 0.7):
        said |= {"ground_colour", "ground"} if busy else {"ground_colour"}
        text += ground_phrase(scene, random_)
    if scene.style and mentions(0.9):
        said |= {"style"}
        return styled(text, scene.style, portrait, random_), frozenset(said)
    if portrait:
        return f"a portrait of {text}", frozenset(said)
    opening = random_.choice(OPENINGS) if random_.random() < 0.2 else ""
    return opening + text, frozenset(said)


def styled(text: str, style: str, portrait: bool, random_: random.Random) -> str:
    """`text` with the style in words."""
    phrase = f"{article(style)} portrait" if portrait else random_.choice(STYLES[style])
    return f"{text}, {phrase}" if random_.random() < 0.15 else f"{phrase} of {text}"
