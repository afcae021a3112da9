"""Draws captioned scenes from Noto Color Emoji: the pictures that the embedded models learn from.

A scene is one or two things from `things.txt` on a plain, graded or patterned ground, or in a landscape, in one
of several drawing styles, with a caption. Everything about scene `index` follows from `(seed, index)` alone, so
worker processes and resumed trainings draw the same pictures. The combinations named in
`configs/prompts/heldout-*.txt` are never drawn for training.

    python scripts/draw_scenes.py --count 64 --sheet sheet.png        # look at some
    python scripts/draw_scenes.py --count 60000 --data FOLDER         # store a data set for the trainings
    python scripts/draw_scenes.py --heldout single --sheet sheet.png  # the held-out scenes

Needs the font (Debian: fonts-noto-color-emoji; licence OFL) and Pillow with raqm (Debian: libraqm0), because
many things are joined sequences of characters. The font is not shipped; its glyphs are kept rendered in a cache.
"""

import argparse
import hashlib
import json
import multiprocessing
import os
import random
import re
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import scene_styles
from PIL import Image, ImageDraw, ImageFont
from scene_styles import GREY_STYLES, STYLES

SIDE = 128  # pixels of a scene's side
GLYPH = 112  # pixels of a cached glyph's side
FONT_SIZE = 109  # the only size at which this bitmap font opens
FONTS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
)
HERE = Path(__file__).resolve().parent
PROMPTS = HERE.parent / "configs" / "prompts"

COLOURS = {
    "red": (214, 40, 40),
    "orange": (244, 132, 30),
    "yellow": (250, 212, 50),
    "green": (52, 160, 72),
    "turquoise": (60, 200, 196),
    "blue": (46, 100, 210),
    "purple": (128, 64, 170),
    "pink": (246, 150, 190),
    "brown": (124, 78, 46),
    "black": (24, 24, 26),
    "white": (248, 248, 246),
    "grey": (134, 136, 140),
}
# A landscape is a sky over a ground; phrase: (sky, horizon, near ground, far ground).
LANDSCAPES = {
    "in a green field": ((120, 190, 245), (205, 232, 250), (70, 150, 50), (130, 190, 80)),
    "in the desert": ((110, 180, 240), (245, 230, 190), (214, 170, 96), (238, 206, 140)),
    "in the snow": ((150, 180, 210), (225, 232, 240), (250, 252, 255), (222, 232, 244)),
    "by the sea": ((110, 190, 250), (220, 240, 250), (30, 90, 170), (60, 150, 200)),
    "at night": ((8, 10, 40), (40, 40, 90), (14, 28, 30), (24, 40, 50)),
    "at sunset": ((90, 50, 130), (255, 150, 70), (60, 30, 50), (120, 60, 60)),
}
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
OPENINGS = ("a picture of ", "an illustration of ", "an image of ", "an emoji of ")


@dataclass(frozen=True)
class Thing:
    """One kind of thing: its name, its glyphs (the first is the usual one) and other everyday names."""

    name: str
    glyphs: tuple[str, ...]
    synonyms: tuple[str, ...]


@dataclass(frozen=True)
class Scene:
    """What a scene shows. Empty strings mean "not so": no second thing, no own colour, no style."""

    first: str  # name of a Thing
    second: str = ""
    first_colour: str = ""  # the thing is painted over in this colour
    second_colour: str = ""
    size: str = ""  # a key of SIZES, for a single thing
    place: str = ""  # a key of SIDES for a single thing, of RELATIONS for two
    ground: str = "plain"  # plain, graded, a key of PATTERNS or of LANDSCAPES
    ground_colour: str = "white"  # "" for landscapes
    style: str = ""  # a key of STYLES


@cache
def things() -> dict[str, Thing]:
    """All things by name, in the order of things.txt."""
    found = {}
    for line in (HERE / "things.txt").read_text(encoding="utf8").splitlines():
        if line and not line.startswith("#"):
            name, glyphs, *rest = line.split("\t")
            synonyms = tuple(rest[0].split("|")) if rest and rest[0] else ()
            found[name] = Thing(name, tuple(glyphs.split(" ")), synonyms)
    return found


@cache
def names() -> tuple[str, ...]:
    """The names of all things."""
    return tuple(things())


# ---- glyphs -------------------------------------------------------------------------------------------------


def font_path() -> Path | None:
    """Where the font is (environment variable NOTO_EMOJI, else the usual places), or None."""
    places = [os.environ["NOTO_EMOJI"]] if "NOTO_EMOJI" in os.environ else list(FONTS)
    return next((Path(place) for place in places if Path(place).is_file()), None)


def render_glyphs(font_file: Path) -> np.ndarray:
    """Every glyph of every thing, (G, GLYPH, GLYPH, 4) uint8, trimmed to its ink and centred."""
    font = ImageFont.truetype(str(font_file), FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    pictures = []
    for thing in things().values():
        for glyph in thing.glyphs:
            sheet = Image.new("RGBA", (160, 160))
            ImageDraw.Draw(sheet).text((10, 10), glyph, font=font, embedded_color=True)
            ink = sheet.crop(sheet.getbbox())
            side = max(ink.size)
            square = Image.new("RGBA", (side, side))
            square.paste(ink, ((side - ink.width) // 2, (side - ink.height) // 2))
            pictures.append(np.asarray(square.resize((GLYPH, GLYPH), Image.Resampling.LANCZOS)))
    return np.stack(pictures)


@cache
def glyphs() -> np.ndarray:
    """The rendered glyphs, kept in a cache file named after the font's and the table's content.

    Raises FileNotFoundError where the font is absent.
    """
    font_file = font_path()
    if font_file is None:
        raise FileNotFoundError("Noto Color Emoji is not installed; see the first lines of draw_scenes.py")
    key = hashlib.sha256(font_file.read_bytes() + (HERE / "things.txt").read_bytes()).hexdigest()[:16]
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vqclip-scenes"
    file = home / f"glyphs-{key}.npy"
    if not file.is_file():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, delete=False) as beside:
            np.save(beside, render_glyphs(font_file))
        Path(beside.name).replace(file)
    return np.load(file, mmap_mode="r")


@cache
def first_glyph() -> dict[str, int]:
    """The row in `glyphs()` of each thing's first glyph."""
    rows, row = {}, 0
    for thing in things().values():
        rows[thing.name] = row
        row += len(thing.glyphs)
    return rows


@cache
def mean_colour(name: str) -> tuple[float, float, float]:
    """The mean colour of a thing's usual glyph, RGB in 0..255."""
    glyph = glyphs()[first_glyph()[name]].astype(np.float32)
    weight = glyph[..., 3:]
    red, green, blue = (glyph[..., :3] * weight).sum((0, 1)) / weight.sum()
    return float(red), float(green), float(blue)


# ---- what is held out ---------------------------------------------------------------------------------------


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
    pair = [tuple(sorted((scene.first, scene.second)))] if scene.second else []
    styled = [(scene.first, scene.place, scene.style)] if scene.style and scene.place in SIDES else []
    shown = [name for name in (scene.first, scene.second) if name]
    grounds = [("on", name, scene.ground_colour) for name in shown if scene.ground_colour]
    return (pair or styled or grounds) if exact else pair + styled + grounds


def is_held_out(scene: Scene) -> bool:
    """Whether training must never see this scene."""
    return any(found in forbidden() for found in combinations(scene))


# ---- inventing scenes ---------------------------------------------------------------------------------------


def random_ground(random_: random.Random) -> dict[str, str]:
    """A ground's fields of Scene."""
    kind = random_.choices(["plain", "graded", "pattern", "landscape"], weights=[50, 20, 14, 16])[0]
    if kind == "landscape":
        return {"ground": random_.choice(list(LANDSCAPES)), "ground_colour": ""}
    ground = random_.choice(list(PATTERNS)) if kind == "pattern" else kind
    return {"ground": ground, "ground_colour": random_.choice(list(COLOURS))}


def random_style(random_: random.Random) -> dict[str, str]:
    """A style's field of Scene; most scenes have none."""
    return {"style": random_.choice(list(STYLES)) if random_.random() < 0.35 else ""}


def may_be_painted(name: str) -> bool:
    """Whether a thing may be drawn in another colour: all may but people, who come in skin tones instead."""
    return len(things()[name].glyphs) == 1 and not re.search(r"\b(wo)?m[ae]n\b|\bperson\b", name)


def random_paint(name: str, random_: random.Random) -> str:
    """The colour that a thing is painted over with; most keep their own."""
    return random_.choice(list(COLOURS)) if random_.random() < 0.12 and may_be_painted(name) else ""


def random_content(random_: random.Random) -> dict[str, str]:
    """The things and their arrangement: all other fields of Scene."""
    first, second = random_.sample(names(), 2)
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
    size = random_.choice(list(SIZES)) if random_.random() < 0.3 else ""
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


def training_scene(seed: int, index: int) -> Scene:
    """Scene `index` of the training data. Scenes 2k and 2k+1 are near relatives: they differ in one or two fields
    (the things, the colours, the ground or the style), which teaches CLIP what each word means."""
    family = random.Random(f"vqclip scene {seed} {index // 2}")
    while True:
        parent = fit_style(Scene(**{**random_content(family), **random_ground(family), **random_style(family)}))
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
    if change == "thing" or (change == "colour" and not may_be_painted(scene.first)):
        first = random_.choice(names())
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


# ---- drawing ------------------------------------------------------------------------------------------------


def draw(scene: Scene, seed: int, index: int) -> Image.Image:
    """The picture of `scene`, SIDE x SIDE RGB. `(seed, index)` decides what the scene leaves open."""
    numbers = np.random.default_rng([seed, index])
    picture = draw_ground(scene, numbers)
    for name, colour, (x, y, side) in arrangement(scene, numbers):
        stamp = draw_thing(name, colour, round(side), numbers)
        corner = (round(x - stamp.width / 2), round(y - stamp.height / 2))
        picture.paste(stamp, corner, stamp)
    return scene_styles.apply(scene.style, picture, numbers) if scene.style else picture


Spot = tuple[float, float, float]  # centre x, centre y, side, in pixels


def arrangement(scene: Scene, numbers: np.random.Generator) -> list[tuple[str, str, Spot]]:
    """Where each thing stands: (name, colour, (centre x, centre y, side))."""
    jitter = numbers.uniform(-1, 1, 4)
    if scene.second:
        side = numbers.uniform(46, 60)
        near, far = 33 + 3 * jitter[0], 95 + 3 * jitter[1]
        a, b = 64 + 14 * jitter[2], 64 + 14 * jitter[3]
        spots = {
            "left of": ((near, a), (far, b)),
            "right of": ((far, a), (near, b)),
            "above": ((a, near), (b, far)),
            "below": ((a, far), (b, near)),
        }[scene.place]
        first, second = ((*spot, side * numbers.uniform(0.9, 1.1)) for spot in spots)
        return [(scene.first, scene.first_colour, first), (scene.second, scene.second_colour, second)]
    low, high = {"small": (26, 40), "big": (96, 116), "": (58, 92)}[scene.size]
    side = numbers.uniform(low, high) * (0.72 if scene.place and not scene.size else 1)
    free = max(0.0, (SIDE - side) / 2 - 2)
    across, along = free * 0.5 * jitter[0], free * numbers.uniform(0.75, 1)
    dx, dy = {
        "": (free * 0.6 * jitter[0], free * 0.6 * jitter[1]),
        "left": (-along, across),
        "right": (along, across),
        "top": (across, -along),
        "bottom": (across, along),
    }[scene.place]
    return [(scene.first, scene.first_colour, (64 + dx, 64 + dy, side))]


def draw_thing(name: str, colour: str, side: int, numbers: np.random.Generator) -> Image.Image:
    """A thing's glyph `side` pixels wide, RGBA, slightly turned, perhaps painted over in `colour`."""
    variants = len(things()[name].glyphs)
    variant = int(numbers.integers(variants)) if numbers.random() < 0.4 else 0
    glyph = np.array(glyphs()[first_glyph()[name] + variant])
    if colour:
        glyph[..., :3] = paint_over(glyph[..., :3], colour)
    stamp = Image.fromarray(glyph)
    if numbers.random() < 0.3:
        stamp = stamp.rotate(float(numbers.uniform(-15, 15)), Image.Resampling.BILINEAR)
    return stamp.resize((side, side), Image.Resampling.BOX if side < 60 else Image.Resampling.BILINEAR)


def paint_over(pixels: np.ndarray, colour: str) -> np.ndarray:
    """`pixels` (h, w, 3) uint8 in shades of one colour: black over the colour to white, by luminance."""
    light = (pixels @ np.array([0.299, 0.587, 0.114]) / 255)[..., None]
    middle = np.array(COLOURS[colour], dtype=np.float32)
    dark = middle * (0.25 + 0.75 * np.clip(light / 0.55, 0, 1))
    bright = (255 - middle) * np.clip((light - 0.55) / 0.45, 0, 1) * 0.55
    return (dark + bright).astype(np.uint8)


def draw_ground(scene: Scene, numbers: np.random.Generator) -> Image.Image:
    """The picture behind the things."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    if scene.ground in LANDSCAPES:
        return Image.fromarray(_landscape(scene.ground, rows, numbers))
    base = np.array(COLOURS[scene.ground_colour], dtype=np.float32) + numbers.uniform(-12, 12, 3)
    other = _companion(base, numbers)
    if scene.ground == "graded":
        angle = numbers.uniform(0, 2 * np.pi)
        mix = (rows - 0.5) * np.sin(angle) + (columns - 0.5) * np.cos(angle) + 0.5
    else:
        mix = _pattern(scene.ground, rows, columns, numbers)
    picture = base + (other - base) * np.clip(mix, 0, 1)[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _companion(base: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    """A lighter or darker shade of `base`, so that the ground's colour keeps its name."""
    target = 255.0 if base.mean() < 150 else 0.0
    return base + (target - base) * numbers.uniform(0.25, 0.42)


def _pattern(ground: str, rows: np.ndarray, columns: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    """How much of the companion colour each pixel has, 0..1."""
    if ground == "plain":
        return np.zeros_like(rows)
    count = numbers.uniform(4, 9)
    shift = numbers.uniform(0, 1, 2)
    x, y = columns * count + shift[0], rows * count + shift[1]
    if ground == "striped":
        along = (x, y, x + y)[int(numbers.integers(3))]
        return (along % 1 > 0.5).astype(np.float32)
    if ground == "checked":
        return ((np.floor(x) + np.floor(y)) % 2).astype(np.float32)
    return ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.09).astype(np.float32)


def _landscape(ground: str, rows: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    sky, horizon, near, far = (np.array(c, dtype=np.float32) for c in LANDSCAPES[ground])
    line = numbers.uniform(0.5, 0.75) + 0.02 * np.sin(
        np.arange(SIDE) / SIDE * numbers.uniform(2, 9) + numbers.uniform(0, 6)
    )
    above = np.clip(rows / line, 0, 1)[..., None]
    below = np.clip((rows - line) / (1 - line), 0, 1)[..., None]
    picture = np.where((rows < line)[..., None], sky + (horizon - sky) * above, far + (near - far) * below)
    if ground == "at night":
        stars = numbers.integers(0, SIDE, (2, 30))
        picture[stars[0] // 2, stars[1]] = (255, 255, 220)
    return picture.astype(np.uint8)


def heldout_pictures(kind: str, seed: int) -> np.ndarray:
    """One picture of each prompt of a held-out list, (100, SIDE, SIDE, 3) uint8."""
    prompts = heldout_prompts(kind)
    return np.stack([np.asarray(draw(heldout_scene(p, seed), seed, number)) for number, p in enumerate(prompts)])


# ---- captions -----------------------------------------------------------------------------------------------


def article(words: str) -> str:
    """`words` with "a" or "an" before it, or nothing before a plural ("grapes", "slices of cake")."""
    head = re.split(r" (?:with|without|of|in|on|at|for|and) ", words)[0]
    if head.endswith("s") and not head.endswith(("ss", "us", "is", "as")):
        return words
    return ("an " if words[0] in "aeiouAEIOU" and not words.startswith(("uni", "ewe", "euro")) else "a ") + words


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
    if ground in LANDSCAPES:
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


def caption(scene: Scene, random_: random.Random) -> tuple[str, frozenset[str]]:
    """A caption of `scene` and the names of the fields of Scene that it speaks of."""
    said = {"first", "first_colour"}
    size = scene.size if random_.random() < 0.6 else ""
    said |= {"size"} if size else set()
    text = noun(scene.first, scene.first_colour, size, random_)
    if scene.second:
        said |= {"second", "second_colour"}
        second = noun(scene.second, scene.second_colour, "", random_)
        if random_.random() < 0.75:
            said |= {"place"}
            text += f" {random_.choice(RELATIONS[scene.place])} {second}"
        else:
            text += f"{random_.choice([' and ', ' next to ', ' with '])}{second}"
    elif scene.place and random_.random() < 0.85:
        said |= {"place"}
        text += " " + random_.choice(SIDES[scene.place])
    if scene.style not in GREY_STYLES and random_.random() < 0.7:
        said |= {"ground_colour"} if scene.ground in ("plain", "graded") else {"ground_colour", "ground"}
        text += ground_phrase(scene, random_)
    if scene.style and random_.random() < 0.9:
        said |= {"style"}
        return styled(text, scene.style, random_), frozenset(said)
    opening = random_.choice(OPENINGS) if random_.random() < 0.2 else ""
    return opening + text, frozenset(said)


def styled(text: str, style: str, random_: random.Random) -> str:
    """`text` with the style in words."""
    phrase = random_.choice(STYLES[style])
    return f"{text}, {phrase}" if random_.random() < 0.15 else f"{phrase} of {text}"


# ---- the command --------------------------------------------------------------------------------------------


def training_example(seed: int, index: int) -> tuple[Scene, np.ndarray]:
    """Training scene `index` and its picture (SIDE, SIDE, 3) uint8. Raises ValueError on a held-out scene."""
    scene = training_scene(seed, index)
    if is_held_out(scene):
        raise ValueError(f"held out, never drawn for training: {scene}")
    return scene, np.asarray(draw(scene, seed, index))


def _one_example(job: tuple[int, int]) -> tuple[Scene, np.ndarray]:
    return training_example(*job)


def store(folder: Path, count: int, seed: int, workers: int) -> None:
    """Writes `folder`/scenes.npy (count, SIDE, SIDE, 3) uint8 and scenes.jsonl, one Scene a line."""
    folder.mkdir(parents=True, exist_ok=True)
    glyphs()
    shape = (count, SIDE, SIDE, 3)
    pictures = np.lib.format.open_memmap(folder / "scenes.npy.part", mode="w+", dtype=np.uint8, shape=shape)
    with (folder / "scenes.jsonl").open("w") as lines, multiprocessing.Pool(workers) as pool:
        jobs = ((seed, index) for index in range(count))
        for index, (scene, picture) in enumerate(pool.imap(_one_example, jobs, chunksize=64)):
            pictures[index] = picture
            lines.write(json.dumps(asdict(scene)) + "\n")
            if index % 5000 == 0:
                print(f"{index} of {count} scenes", flush=True)
    pictures.flush()
    (folder / "scenes.npy.part").rename(folder / "scenes.npy")


def contact_sheet(captioned: list[tuple[str, Image.Image]], columns: int = 8) -> Image.Image:
    """All pictures in a grid, each with its caption below it."""
    font = ImageFont.load_default(10)
    rows = -(-len(captioned) // columns)
    sheet = Image.new("RGB", (columns * 136, rows * 172), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (text, picture) in enumerate(captioned):
        x, y = number % columns * 136 + 4, number // columns * 172 + 4
        sheet.paste(picture, (x, y))
        for line in range(3):
            pen.text((x, y + 129 + 11 * line), text[line * 25 : line * 25 + 25], fill="black", font=font)
    return sheet


def chosen(heldout: str | None, count: int, seed: int) -> Iterator[tuple[str, Image.Image]]:
    """Captioned pictures: of a held-out list, or of the training scenes."""
    if heldout:
        for number, prompt in enumerate(heldout_prompts(heldout)[:count]):
            yield prompt, draw(heldout_scene(prompt, seed), seed, number)
        return
    for index in range(count):
        scene, picture = training_example(seed, index)
        yield caption(scene, random.Random(f"{seed} {index}"))[0], Image.fromarray(picture)


def main() -> None:
    """Draws a contact sheet or a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="how many scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="write a captioned contact sheet here")
    parser.add_argument("--data", type=Path, help="write a data set into this folder")
    parser.add_argument("--heldout", choices=("single", "composed"), help="draw a held-out list for the sheet")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.data:
        store(options.data, options.count, options.seed, options.workers)
    if options.sheet:
        contact_sheet(list(chosen(options.heldout, options.count, options.seed))).save(options.sheet)


if __name__ == "__main__":
    main()
