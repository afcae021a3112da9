"""Colours as people write them: names, `#hex`, lists of these, and a few palettes by name."""

from collections.abc import Mapping

import torch
from PIL import ImageColor
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.registry import shown

PALETTES: Mapping[str, str] = {
    "gameboy": "#0f380f,#306230,#8bac0f,#9bbc0f",
    "cga": "#000000,#55ffff,#ff55ff,#ffffff",
    "pico8": "#000000,#1d2b53,#7e2553,#008751,#ab5236,#5f574f,#c2c3c7,#fff1e8,"
    "#ff004d,#ffa300,#ffec27,#00e436,#29adff,#83769c,#ff77a8,#ffccaa",
    "sepia": "#2b1b0e,#5c3d22,#8f6a44,#c39f72,#ecd9b4",
}
"""The Game Boy's four greens, IBM's CGA palette 1, the PICO-8's sixteen colours, and browns."""

MOST = 256
"""Colours of a palette."""


def parse_colours(text: str) -> Tensor:
    """Read a palette's name, or names of CSS and `#hex` with commas between them; return (K, 3) in [0, 1].

    Raises:
        UsageError: one is no colour, there is none, or there are more than MOST.
    """
    names = [name.strip() for name in PALETTES.get(text.strip(), text).split(",")]
    if len(names) > MOST:
        raise UsageError(f"A palette has at most {MOST} colours, this one {len(names)}.")
    return torch.tensor([_colour(name) for name in names]) / 255


def parse_colour(text: str) -> Tensor:
    """Read one colour; return (3,) in [0, 1].

    Raises:
        UsageError: it is none, or there are several.
    """
    colours = parse_colours(text)
    if len(colours) != 1:
        raise UsageError(f"One colour belongs here; {shown(text)} are {len(colours)}.")
    return colours[0]


def _colour(name: str) -> tuple[int, ...]:
    try:
        return ImageColor.getrgb(name)[:3]
    except ValueError as error:
        raise UsageError(
            f"{shown(name)} is no colour: write a name such as orange, or #rrggbb, several with commas between them, "
            f"or a palette's name ({', '.join(PALETTES)})."
        ) from error
