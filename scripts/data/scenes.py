"""What a scene may show: the table of scenes, which combinations are held out, and the inventing of scenes.

Everything about scene `index` follows from `(seed, index)` alone. The combinations named in
`configs/prompts/heldout-*.txt` are never invented for training.
"""

import random
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from scripts.data.scene_styles import GREY_STYLES, STYLES
from scripts.data.scene_things import COLOURS, article, everyday, may_be_painted, mean_colour, names, people, things

PROMPTS = Path(__file__).resolve().parents[2] / "configs" / "prompts"

# A landscape is a sky over a ground; phrase: (sky, horizon, near ground, far ground).
LANDSCAPES = {
    "in a green field": ((120, 190, 245), (205, 232, 250), (70, 150, 50), (130, 190, 80)),
    "in the desert": ((110, 180, 240), (245, 230, 190), (214, 170, 96), (238, 206, 140)),
    "in the snow": ((150, 180, 210), (225, 232, 240), (250, 252, 255), (222, 232, 244)),
    "by the sea": ((110, 190, 250), (220, 240, 250), (30, 90, 170), (60, 150, 200)),
    "at night": ((8, 10, 40), (40, 40, 90), (14, 28, 30), (24, 40, 50)),
    "at sunset": ((90, 50, 130), (255, 150, 70), (60, 30, 50), (120, 60, 60)),
}
BLACKBOARD = "in front of a blackboard"
PLACES = (*LANDSCAPES, BLACKBOARD)
PATTERNS = {"striped": "stripes", "dotted": "dots", "checked": "squares"}
SIZES = {"small": ("small", "tiny", "little"), "big": ("big", "large", "huge")}
SIDES = {
    "left": ("on the left", "on the left side"),
    "right": ("on the right", "on the right side"),
    "top": ("at the top", "in the upper part"),
    "bottom": ("at the bottom", "in the lower part"),
}
RELATIONS = {
    "left of": ("to the left of", "left of"),
    "right of": ("to the right of", "right of"),
    "above": ("above", "over"),
    "below": ("below", "under"),
}
OF_RELATION = {
    "left of": ("left", "right"),
    "right of": ("right", "left"),
    "above": ("top", "bottom"),
    "below": ("bottom", "top"),
}
HOLDING = "with"  # the place of a person who holds the second thing
BOOK = "open book"
TEACHERS = {  # what people are called too, with a book or in front of a blackboard
    "man": ("man teacher", "male teacher", "young male teacher"),
    "woman": ("woman teacher", "female teacher", "young female teacher"),
    "old man": ("old man teacher", "old male teacher"),
    "old woman": ("old woman teacher", "old female teacher"),
}
OPENINGS = ("a picture of ", "an illustration of ", "an image of ", "an emoji of ")


@dataclass(frozen=True)
class Scene:
    """What a scene shows. Empty strings mean "not so": no second thing, no own colour, no style."""

    first: str  # name of a Thing
    second: str = ""
    first_colour: str = ""  # the thing is painted over in this colour
    second_colour: str = ""
    size: str = ""  # a key of SIZES, for a single thing
    place: str = ""  # a key of SIDES for a single thing, of RELATIONS for two, or HOLDING
    ground: str = "plain"  # plain, graded, a key of PATTERNS, or one of PLACES
    ground_colour: str = "white"  # "" for PLACES
    style: str = ""  # a key of STYLES


def parse_prompt(prompt: str) -> Scene:
    """The scene that a line of configs/prompts/heldout-*.txt names. Three forms are understood:

    "a cat on a blue background", "a cat to the left of a dog", "a watercolour painting of a cat on the left".
    Raises ValueError on anything else.
    """
    for style, phrases in STYLES.items():
        if prompt.startswith(phrases[0] + " of "):
            rest = prompt.removeprefix(phrases[0] + " of ")
            for side, (words, _) in SIDES.items():
                if rest.endswith(" " + words):
                    return Scene(_thing(rest.removesuffix(" " + words)), place=side, style=style)
    for colour in COLOURS:
        tail = f" on {article(colour)} background"
        if prompt.endswith(tail):
            return Scene(_thing(prompt.removesuffix(tail)), ground_colour=colour)
    for relation, (words, _) in RELATIONS.items():
        first, found, second = prompt.partition(f" {words} ")
        if found:
            return Scene(_thing(first), _thing(second), place=relation)
    raise ValueError(f"not a prompt of a known form: {prompt!r}")


def _thing(phrase: str) -> str:
    name = phrase.removeprefix("an ").removeprefix("a ")
    if name not in things():
        raise ValueError(f"things.txt has no thing named {name!r}")
    return name


def heldout_prompts(kind: str) -> list[str]:
    """The prompts of the list `kind`, "single" or "composed"."""
    lines = (PROMPTS / f"heldout-{kind}.txt").read_text(encoding="utf8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


@cache
def forbidden() -> frozenset[tuple[str, ...]]:
    """The combinations that training never draws; see `combinations`."""
    prompts = heldout_prompts("single") + heldout_prompts("composed")
    scenes = [parse_prompt(prompt) for prompt in prompts]
    return frozenset(found for scene in scenes for found in combinations(scene, exact=True))


def combinations(scene: Scene, exact: bool = False) -> list[tuple[str, ...]]:
    """The combinations that `scene` shows and that may be held out.

    (thing, ground colour), whatever the ground's pattern and whatever else is there; (thing, thing), in either
    order; (thing, side, style). With `exact`, only the one that a held-out prompt of this form is about.
    """
    pair: list[tuple[str, ...]] = [tuple(sorted((scene.first, scene.second)))] if scene.second else []
    styled: list[tuple[str, ...]] = (
        [(scene.first, scene.place, scene.style)] if scene.style and scene.place in SIDES else []
    )
    shown = [name for name in (scene.first, scene.second) if name]
    grounds: list[tuple[str, ...]] = [("on", name, scene.ground_colour) for name in shown if scene.ground_colour]
    return (pair or styled or grounds) if exact else pair + styled + grounds


def is_held_out(scene: Scene) -> bool:
    """Whether training must never see this scene."""
    return any(found in forbidden() for found in combinations(scene))


def random_ground(random_: random.Random) -> dict[str, str]:
    """A ground's fields of Scene."""
    kind = random_.choices(["plain", "graded", "pattern", "place"], weights=[50, 20, 14, 16])[0]
    if kind == "place":
        return {"ground": random_.choice(PLACES), "ground_colour": ""}
    ground = random_.choice(list(PATTERNS)) if kind == "pattern" else kind
    return {"ground": ground, "ground_colour": random_.choice(list(COLOURS))}


def random_style(random_: random.Random) -> dict[str, str]:
    """A style's field of Scene; half of the scenes have none."""
    return {"style": random_.choice(list(STYLES)) if random_.random() < 0.5 else ""}


def random_paint(name: str, random_: random.Random) -> str:
    """The colour that a thing is painted over with; most keep their own."""
    return random_.choice(list(COLOURS)) if random_.random() < 0.08 and may_be_painted(name) else ""


def random_name(random_: random.Random) -> str:
    """A thing; three of four are everyday ones."""
    return random_.choice(everyday() if random_.random() < 0.75 else names())


def another_name(than: str, random_: random.Random) -> str:
    """A thing of another name."""
    while (name := random_name(random_)) == than:
        pass
    return name


def random_portrait(random_: random.Random) -> dict[str, str]:
    """A person who fills the picture, most with something in hand: all fields but ground and style."""
    person, held = random_.choice(people()), random_name(random_)
    holds = random_.random() < 0.6 and held != person
    return {
        "first": person,
        "second": held if holds else "",
        "first_colour": "",
        "second_colour": "",
        "place": HOLDING if holds else "",
        "size": "" if holds else "big",
    }


def styled_portrait(random_: random.Random) -> dict[str, str]:
    """A portrait as painters are asked for: more than half show a man or woman, young or old, many at a blackboard or
    with a book, most in a style. All fields of Scene. The font's own teachers, small before a board, are left out."""
    content = random_portrait(random_)
    ground = {"ground": BLACKBOARD, "ground_colour": ""} if random_.random() < 0.35 else random_ground(random_)
    plain = random_.random() < 0.6 or content["first"].endswith("teacher")
    person = random_.choice(list(TEACHERS)) if plain else content["first"]
    if plain and content["second"] and random_.random() < 0.4:
        content["second"] = BOOK
    style = random_.choice(list(STYLES)) if random_.random() < 0.75 else ""
    return {**content, **ground, "first": person, "style": style}


def random_content(random_: random.Random) -> dict[str, str]:
    """The things and their arrangement: all fields but ground and style."""
    if random_.random() < 0.12:
        return random_portrait(random_)
    first = random_name(random_)
    second = another_name(first, random_)
    paint = [random_paint(name, random_) for name in (first, second)]
    if random_.random() < 0.3:
        return {
            "first": first,
            "second": second,
            "first_colour": paint[0],
            "second_colour": paint[1],
            "place": random_.choice(list(RELATIONS)),
            "size": "",
        }
    place = random_.choice(list(SIDES)) if random_.random() < 0.25 else ""
    size = random_.choice(list(SIZES)) if random_.random() < 0.2 else ""
    return {
        "first": first,
        "second": "",
        "first_colour": paint[0],
        "second_colour": "",
        "place": place,
        "size": "" if place and size == "big" else size,
    }


def is_visible(scene: Scene) -> bool:
    """Whether the things stand out from the ground, and colours are only asked of styles that have some."""
    if scene.style in GREY_STYLES:
        return not scene.first_colour and not scene.second_colour and scene.ground_colour in ("", "white")
    if not scene.ground_colour:
        return True
    ground = np.array(COLOURS[scene.ground_colour])
    for name, colour in ((scene.first, scene.first_colour), (scene.second, scene.second_colour)):
        ink = COLOURS[colour] if colour else mean_colour(name) if name else (999.0, 999.0, 999.0)
        if np.linalg.norm(np.array(ink) - ground) < 60:
            return False
    return True


def fit_style(scene: Scene) -> Scene:
    """A scene in a grey style has no colours to speak of: drop them."""
    if scene.style not in GREY_STYLES:
        return scene
    ground_colour = "white" if scene.ground_colour else ""
    return replace(scene, first_colour="", second_colour="", ground="plain", ground_colour=ground_colour or "white")


def composition(random_: random.Random) -> dict[str, str]:
    """Two things, or a thing in a place, most without a style. All fields of Scene."""
    first, second = random_name(random_), ""
    ground = random_ground(random_)
    if random_.random() < 0.65:
        second = another_name(first, random_)
    else:
        ground = {"ground": random_.choice(list(LANDSCAPES)), "ground_colour": ""}
    style = random_style(random_) if random_.random() < 0.4 else {"style": ""}
    return {
        **ground,
        **style,
        "first": first,
        "second": second,
        "first_colour": random_paint(first, random_),
        "second_colour": random_paint(second, random_) if second else "",
        "place": random_.choice(list(RELATIONS)) if second else "",
        "size": "",
    }


def random_fields(random_: random.Random) -> dict[str, str]:
    """Scenes of all kinds. All fields of Scene."""
    return {**random_content(random_), **random_ground(random_), **random_style(random_)}


KINDS = {"": random_fields, "portraits": styled_portrait, "pairs": composition}


def training_scene(seed: int, index: int, kind: str = "") -> Scene:
    """Scene `index` of a data set of one kind (of KINDS). Scenes 2k and 2k+1 are near relatives: they differ in one or
    two fields (the things, the colours, the ground or the style), which teaches CLIP what each word means."""
    family = random.Random(f"vqclip scene {seed} {index // 2}")
    invent = KINDS[kind]
    while True:
        parent = fit_style(Scene(**invent(family)))
        if is_visible(parent) and not is_held_out(parent):
            break
    if index % 2 == 0:
        return parent
    while True:
        child = fit_style(_relative(parent, family))
        if child != parent and is_visible(child) and not is_held_out(child):
            return child


def _relative(scene: Scene, random_: random.Random) -> Scene:
    change = random_.choice(["thing", "thing", "colour", "place", "ground", "ground", "style"])
    if scene.place == HOLDING and change in ("thing", "colour", "place"):
        return replace(scene, second=another_name(scene.first, random_))
    if change == "thing" or (change == "colour" and not may_be_painted(scene.first)):
        first = random_name(random_)
        return replace(scene, first=first, first_colour=scene.first_colour if may_be_painted(first) else "")
    if change == "colour":
        return replace(scene, first_colour=random_.choice(list(COLOURS)))
    if change == "place":
        return replace(scene, place=random_.choice(list(RELATIONS if scene.second else SIDES)), size="")
    return replace(scene, **(random_ground(random_) if change == "ground" else random_style(random_)))


def heldout_scene(prompt: str, seed: int) -> Scene:
    """The scene of a held-out prompt, what the prompt leaves open chosen by `seed`."""
    random_ = random.Random(f"vqclip heldout {seed} {prompt}")
    scene = parse_prompt(prompt)
    if not scene.second and not scene.style:
        return replace(scene, ground=random_.choice(["plain", "graded"]))
    while True:
        candidate = fit_style(replace(scene, **random_ground(random_)))
        if is_visible(candidate):
            return candidate
