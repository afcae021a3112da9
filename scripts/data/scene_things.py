"""The things that the scenes show: names, other words for them, and their glyphs in Noto Color Emoji.

The font (Debian: fonts-noto-color-emoji; licence OFL) is not shipped; its glyphs are kept rendered in a cache.
Pillow needs raqm (Debian: libraqm0), because many things are joined sequences of characters.
"""

import hashlib
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, features

GLYPH = 112  # pixels of a cached glyph's side
FONT_SIZE = 109  # the only size at which this bitmap font opens
FONTS = (
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/noto/NotoColorEmoji.ttf",
    "/usr/share/fonts/google-noto-emoji/NotoColorEmoji.ttf",
)
HERE = Path(__file__).resolve().parent

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


@dataclass(frozen=True)
class Thing:
    """One kind of thing: its name, its glyphs (the first is the usual one) and other everyday names."""

    name: str
    glyphs: tuple[str, ...]
    synonyms: tuple[str, ...]


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


@cache
def everyday() -> tuple[str, ...]:
    """The names of the things that people ask for most (everyday.txt)."""
    lines = (HERE / "everyday.txt").read_text(encoding="utf8").splitlines()
    return tuple(line for line in lines if line and not line.startswith("#"))


@cache
def people() -> tuple[str, ...]:
    """The names of the things that are one grown person each."""
    pattern = re.compile(r"(wo)?man\b(?!'| and )|old (wo)?man$|(prince|princess|mage|elf)$")
    return tuple(name for name in names() if pattern.match(name))


def article(words: str) -> str:
    """`words` with "a" or "an" before it, or nothing before a plural ("grapes", "slices of cake")."""
    head = re.split(r" (?:with|without|of|in|on|at|for|and) ", words)[0]
    if head.endswith("s") and not head.endswith(("ss", "us", "is", "as")):
        return words
    return ("an " if words[0] in "aeiouAEIOU" and not words.startswith(("uni", "ewe", "euro")) else "a ") + words


def may_be_painted(name: str) -> bool:
    """Whether a thing may be drawn in another colour: all may but people, who come in skin tones instead."""
    return len(things()[name].glyphs) == 1 and not re.search(r"\b(wo)?m[ae]n\b|\bperson\b", name)


def font_path() -> Path | None:
    """Where the font is (environment variable NOTO_EMOJI, else the usual places), or None."""
    places = [os.environ["NOTO_EMOJI"]] if "NOTO_EMOJI" in os.environ else list(FONTS)
    return next((Path(place) for place in places if Path(place).is_file()), None)


def centred(picture: Image.Image, side: int) -> np.ndarray:
    """`picture` (RGBA) trimmed to its ink, in the middle of a square, (side, side, 4) uint8."""
    ink = picture.crop(picture.getbbox())
    longest = max(ink.size)
    square = Image.new("RGBA", (longest, longest))
    square.paste(ink, ((longest - ink.width) // 2, (longest - ink.height) // 2))
    return np.asarray(square.resize((side, side), Image.Resampling.LANCZOS))


def render_glyphs(font_file: Path) -> np.ndarray:
    """Every glyph of every thing, (G, GLYPH, GLYPH, 4) uint8, trimmed to its ink and centred.

    Raises RuntimeError where Pillow would draw a joined sequence as its parts.
    """
    if not features.check("raqm"):
        raise RuntimeError("Pillow finds no raqm, which joins characters; see the first lines of scene_things.py")
    font = ImageFont.truetype(str(font_file), FONT_SIZE, layout_engine=ImageFont.Layout.RAQM)
    pictures = []
    for thing in things().values():
        for glyph in thing.glyphs:
            sheet = Image.new("RGBA", (160, 160))
            ImageDraw.Draw(sheet).text((10, 10), glyph, font=font, embedded_color=True)
            pictures.append(centred(sheet, GLYPH))
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
    return kept(f"glyphs-{key}", lambda: render_glyphs(font_file))


def kept(name: str, make: Callable[[], np.ndarray]) -> np.ndarray:
    """An array out of the cache, made and put there where it is not yet."""
    home = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "vqclip-scenes"
    file = home / f"{name}.npy"
    if not file.is_file():
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=home, delete=False) as beside:
            np.save(beside, make())
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
