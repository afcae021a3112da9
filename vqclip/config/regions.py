"""Parts of a picture in words: `10,20,64,32` in pixels, `25%,0,50%,100%` of its sides, or a mixture; `top left`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches

from vqclip.common.errors import UsageError

LENGTH = re.compile(r"\s*([0-9]{1,6}(?:\.[0-9]{1,4})?)\s*(%|px)?\s*", re.ASCII)

BOX = re.compile(r"[-+.\d%px\s]+(?:,[-+.\d%px\s]*)+", re.ASCII)
"""What is meant as a box, right or wrong."""

SHARES = {"": 50, " half": 50, " third": 100 / 3, " quarter": 25}
SIDES: Mapping[str, tuple[float, float]] = {"left": (0, 0), "right": (1, 0), "top": (0, 0), "bottom": (0, 1)}
"""Sides, with the corner that they end in."""

MASK = "in "
"""Stands before a picture whose white is meant."""

NEAR = 0.75
"""How alike a word is (difflib's ratio) to one of PARTS that it is taken for, mistyped."""


def _parts() -> dict[str, str]:
    found = {"middle": "25%,25%,50%,50%"}
    found |= {
        f"{y} {x}": f"{50 * (x == 'right')}%,{50 * (y == 'bottom')}%,50%,50%"
        for y in ("top", "bottom")
        for x in ("left", "right")
    }
    for side, (across, down) in SIDES.items():
        for word, share in SHARES.items():
            wide, high = (share, 100) if side in ("left", "right") else (100, share)
            box = (across * (100 - wide), down * (100 - high), wide, high)
            found[side + word] = ",".join(f"{length:.4g}%" for length in box)
    return found


PARTS: Mapping[str, str] = _parts()
"""Parts of a picture by name, as boxes: a side is its half."""

ASIDE = (("on the left", "on the right"), ("at the top", "at the bottom"))
BESIDE = (("to the left of", "to the right of"), ("above", "below"))
"""Where a thing lies, and where from another, across and down, as the captions of the prior's training say it."""

HALVES = (("left", "right"), ("top", "bottom"))
"""The regions that are meant, across and down."""

CENTRAL = 0.1
"""Share of a side by which a middle may be off before it is said."""

RATIO = re.compile(r"\s*([0-9]{1,4}(?:\.[0-9]{1,4})?)\s*:\s*([0-9]{1,4}(?:\.[0-9]{1,4})?)\s*", re.ASCII)


Middle = tuple[float, float] | None


@dataclass(frozen=True)
class Length:
    """A length in pixels, or in per cent of a side."""

    value: float
    percent: bool

    def pixels(self, side: int) -> int:
        """Return it in whole pixels, for a side of so many."""
        return round(self.value * side / 100 if self.percent else self.value)


def parse_box(text: str) -> tuple[Length, Length, Length, Length]:
    """Read `X,Y,W,H`: left edge, top edge, width and height.

    Raises:
        UsageError: it is not four lengths, or one without width or height.
    """
    left, top, width, height = _lengths(text, f"The box {text!r} is not X,Y,W,H in pixels or per cent: 25%,0,50%,64")
    if not (width.value and height.value):
        raise UsageError(f"The box {text!r} is empty: give it a width and a height.")
    return left, top, width, height


def read_region(text: str) -> str | None:
    """Return what stands in the brackets before a prompt: a name of PARTS, a box, or `in MASK.png`;
    None where that is no region, but text.

    Raises:
        UsageError: a box that is not right, a mask without a name, or a name that is mistyped.
    """
    plain = " ".join(text.split())
    name = plain.lower().replace("centre", "middle").replace("center", "middle")
    if name in PARTS:
        return name
    if name == MASK.strip() or name.startswith(MASK):
        file = text.strip()[len(MASK) :].strip()  # as it is written, with any blanks in it
        if not file:
            raise UsageError("The region 'in' needs a picture whose white is meant: [in mask.png].")
        return MASK + file
    if BOX.fullmatch(plain):
        parse_box(plain)
        return plain
    if near := get_close_matches(name, PARTS, n=1, cutoff=NEAR):
        raise UsageError(f"there is no region {plain!r}; write \\[ for a plain bracket; did you mean {near[0]!r}?")
    return None


def mask_of(region: str) -> str | None:
    """Return the picture whose white a region is, if it is one."""
    return region.removeprefix(MASK) if region.startswith(MASK) else None


def parse_margins(text: str) -> tuple[Length, Length, Length, Length]:
    """Read `LEFT,TOP,RIGHT,BOTTOM`.

    Raises:
        UsageError: it is not four lengths, or all are nothing.
    """
    margins = _lengths(text, f"The rim {text!r} is not LEFT,TOP,RIGHT,BOTTOM in pixels or per cent: 64,0,25%,0")
    if not any(margin.value for margin in margins):
        raise UsageError(f"The rim {text!r} is empty: give at least one side more than 0.")
    return margins


def place_box(text: str, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a box in a picture of this size; what lies beyond it is cut off.

    Raises:
        UsageError: as `parse_box`, or the box lies outside the picture.
    """
    x, y, wide, high = parse_box(text)
    left, top = x.pixels(width), y.pixels(height)
    right, bottom = min(width, left + wide.pixels(width)), min(height, top + high.pixels(height))
    if right <= left or bottom <= top:
        raise UsageError(f"The box {text!r} lies outside the picture, which has {width}x{height} pixels.")
    return left, top, right, bottom


def caption(placed: Sequence[tuple[str, str]]) -> str:
    """Return texts, each with its region, as one caption of the prior's training."""
    middles = [_middle(region) for _, region in placed]
    if len(placed) == 2 and all(middles) and (relation := _said(BESIDE, middles[0], middles[1])):
        return f"{placed[0][0]} {relation} {placed[1][0]}"
    wheres = (_said(ASIDE, middle, (0.5, 0.5)) for middle in middles)
    return ", ".join(f"{text} {where}".strip() for (text, _), where in zip(placed, wheres, strict=True))


def parted(text: str) -> list[tuple[str, str]]:
    """Return the things that a caption places, each with its region, as `caption` says it of one or two; the whole text
    without a region where it places nothing.
    """
    for (before, after), (low, high) in zip(BESIDE, HALVES, strict=True):
        for relation, regions in ((before, (low, high)), (after, (high, low))):
            things = text.split(f" {relation} ")
            if len(things) == 2:
                return list(zip(things, regions, strict=True))
    for wheres, regions in zip(ASIDE, HALVES, strict=True):
        for where, region in zip(wheres, regions, strict=True):
            if text.endswith(f" {where}"):
                return [(text.removesuffix(f" {where}"), region)]
    return [(text, "")]


def _said(words: Sequence[tuple[str, str]], place: Middle, other: Middle) -> str:
    """What is said of a place beside another, of the axis on which they differ more; nothing where they hardly do."""
    if place is None or other is None:
        return ""
    differences = [here - there for here, there in zip(place, other, strict=True)]
    axis = 0 if abs(differences[0]) >= abs(differences[1]) else 1
    return words[axis][differences[axis] > 0] if abs(differences[axis]) > CENTRAL else ""


def _middle(region: str) -> Middle:
    """The middle of a region in shares of the sides; None of a mask, and of a box in pixels."""
    if not region or mask_of(region):
        return None
    box = parse_box(PARTS.get(region, region))
    if not all(length.percent or not length.value for length in box):
        return None
    left, top, wide, high = (length.value / 100 for length in box)
    return left + wide / 2, top + high / 2


def place_region(region: str, width: int, height: int) -> tuple[float, float, float, float]:
    """Return left, top, right and bottom of a name of PARTS or a box, as shares of a picture's sides.

    Raises:
        UsageError: as `place_box`.
    """
    left, top, right, bottom = place_box(PARTS.get(region, region), width, height)
    return left / width, top / height, right / width, bottom / height


def place_margins(text: str, width: int, height: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a rim in pixels.

    Raises:
        UsageError: as `parse_margins`.
    """
    left, top, right, bottom = parse_margins(text)
    return left.pixels(width), top.pixels(height), right.pixels(width), bottom.pixels(height)


def _lengths(text: str, wrong: str) -> tuple[Length, Length, Length, Length]:
    found = [LENGTH.fullmatch(part) for part in text.split(",")]
    if len(found) != 4 or not all(found):
        raise UsageError(wrong)
    first, second, third, fourth = (Length(float(each[1]), each[2] == "%") for each in found if each)
    return first, second, third, fourth


def margins_for(ratio: str, width: int, height: int) -> str:
    """Return the rim, as `parse_margins` reads it, that brings a picture to a ratio `W:H`, equal on both sides.

    Raises:
        UsageError: no ratio, or the picture has it.
    """
    found = RATIO.fullmatch(ratio)
    across, down = (float(found[1]), float(found[2])) if found else (0.0, 0.0)
    if not (across and down):
        raise UsageError(f"--ratio {ratio!r} is not W:H, e.g. 16:9.")
    wide, high = max(0, round(height * across / down) - width), max(0, round(width * down / across) - height)
    if not (wide or high):
        raise UsageError(f"The picture has the ratio {ratio} already, so there is no rim to paint.")
    return f"{wide // 2},{high // 2},{wide - wide // 2},{high - high // 2}"
