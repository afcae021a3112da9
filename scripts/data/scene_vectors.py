"""The things of the scenes as vector drawings, by several hands: glyphs of any size.

Each hand is an npm package with drawings named by code points. They are not shipped; unpack them once:

    mkdir -p training/sources && cd training/sources
    for set in noto twemoji fluent-emoji-flat fluent-emoji-high-contrast; do
      file=$(npm pack --silent @iconify-json/$set); mkdir $set && tar xzf $file -C $set --strip-components=1; done

`VECTOR_DRAWINGS` names another folder. checkpoints/embedded/ATTRIBUTION.md says who drew what, under which terms.
Rendered by resvg (`pip install resvg-py`), and kept in a cache beside the font's.
"""

import hashlib
import io
import json
import os
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image

from scripts.data.scene_things import GLYPH, HERE, centred, kept, things

INK = "#222222"  # of the drawings in one colour
HOME = Path(__file__).resolve().parents[2] / "training" / "sources"


@dataclass(frozen=True)
class Hand:
    """A set of drawings by one hand, and how captions call it."""

    package: str
    words: tuple[str, ...]


HANDS = {
    "noto": Hand("noto", ()),  # the hand of the font: nothing is said of it
    "twemoji": Hand("twemoji", ("a flat sticker", "a flat icon")),
    "fluent": Hand("fluent-emoji-flat", ("a soft flat illustration", "a vector illustration")),
    "woodcut": Hand("fluent-emoji-high-contrast", ("a woodcut", "a black and white print")),
}
REFERENCE = "noto"  # has every thing, and stands in for what another hand has not drawn


def folder(hand: str) -> Path:
    """Where the drawings of a hand lie. Raises FileNotFoundError where they are not unpacked."""
    place = Path(os.environ.get("VECTOR_DRAWINGS", HOME)) / HANDS[hand].package
    if not (place / "icons.json").is_file():
        raise FileNotFoundError(f"no drawings in {place}; see the first lines of scene_vectors.py")
    return place


@cache
def drawings(hand: str) -> tuple[dict, dict[str, str]]:
    """A hand's set in Iconify's form, and the drawings' names by code points ("1f468-200d-1f3eb")."""
    place = folder(hand)
    icons, names = (json.loads((place / f"{part}.json").read_text("utf8")) for part in ("icons", "chars"))
    return icons, names


def as_svg(hand: str, glyph: str) -> str | None:
    """The drawing of a glyph as an SVG document, or None where this hand has not drawn it."""
    icons, names = drawings(hand)
    name = names.get("-".join(f"{ord(sign):x}" for sign in glyph if sign != "\ufe0f"))
    if name is None:
        return None
    found = icons["icons"].get(name) or icons["icons"][icons["aliases"][name]["parent"]]
    left, top = (found.get(key, icons.get(key, 0)) for key in ("left", "top"))
    width, height = (found.get(key, icons.get(key, 16)) for key in ("width", "height"))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
        f'viewBox="{left} {top} {width} {height}" width="{width}" height="{height}">'
        f"{found['body'].replace('currentColor', INK)}</svg>"
    )


def render(svg: str, side: int) -> np.ndarray:
    """An SVG document, trimmed to its ink and centred, (side, side, 4) uint8; twice as fine first."""
    import resvg_py

    png = resvg_py.svg_to_bytes(svg_string=svg, width=2 * side, dpi=96)
    return centred(Image.open(io.BytesIO(bytes(png))).convert("RGBA"), side)


def render_all(hand: str, side: int) -> np.ndarray:
    """Every glyph of every thing, (G, side, side, 4) uint8, in the order of `scene_things.glyphs`."""
    wanted = [glyph for thing in things().values() for glyph in thing.glyphs]
    found = ((as_svg(hand, glyph) or as_svg(REFERENCE, glyph), glyph) for glyph in wanted)
    return np.stack([render(svg or _missing(glyph), side) for svg, glyph in found])


def _missing(glyph: str) -> str:
    raise LookupError(f"{REFERENCE} has no drawing of {glyph!r}")


@cache
def vector_glyphs(hand: str, scale: int) -> np.ndarray:
    """All glyphs by `hand`, `scale` times as large as the font's: (G, scale GLYPH, scale GLYPH, 4) uint8."""
    sources = [folder(name) / "icons.json" for name in dict.fromkeys((hand, REFERENCE))]
    table = (HERE / "things.txt").read_bytes()
    key = hashlib.sha256(table + b"".join(source.read_bytes() for source in sources)).hexdigest()[:16]
    return kept(f"vectors-{hand}-{scale}-{key}", lambda: render_all(hand, scale * GLYPH))
