"""Parts of a picture in words: `10,20,64,32` in pixels, `25%,0,50%,100%` of its sides, or a mixture."""

import re
from dataclasses import dataclass

from vqclip.common.errors import UsageError

LENGTH = re.compile(r"\s*([0-9]{1,6}(?:\.[0-9]{1,4})?)\s*(%|px)?\s*", re.ASCII)

RATIO = re.compile(r"\s*([0-9]{1,4}(?:\.[0-9]{1,4})?)\s*:\s*([0-9]{1,4}(?:\.[0-9]{1,4})?)\s*", re.ASCII)


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
