"""A picture in the terminal: sharp where it has graphics and `vqclip[show]` is installed, else of half blocks."""

import importlib
import logging
import os
import sys

from PIL.Image import Image
from rich.console import RenderableType
from rich.measure import Measurement

from vqclip.cli.console import Console
from vqclip.outputs.preview import Preview, cells

SHARP = ("TGPImage", "SixelImage")
"""The kinds of textual-image that are better than half blocks: kitty's protocol, and sixels (iTerm2, foot, WezTerm)."""


def show_picture(console: Console, image: Image, columns: int) -> None:
    """Show a picture at most so many cells wide and as high as the terminal; for where `console.draws`."""
    console.screen.print(_sharp(console, image, columns) or Preview(image, columns))


def _sharp(console: Console, image: Image, columns: int) -> RenderableType | None:
    """The picture for a terminal that says that it has graphics; the library asks it when it is imported, and raises
    what it likes where somebody types at that moment."""
    try:
        if not _can_answer():
            return None
        logging.getLogger("textual_image").setLevel(logging.ERROR)
        kinds = importlib.import_module("textual_image.renderable")
        if kinds.Image not in [getattr(kinds, name) for name in SHARP]:
            return None
        sharp: RenderableType = kinds.Image(image, cells(image, columns, console.screen.size)[0], "auto")
        Measurement.get(console.screen, console.screen.options, sharp)  # asks how many pixels a cell has
        return sharp
    except Exception:
        return None


def _can_answer() -> bool:
    """Whether all streams are one terminal, in whose foreground the command is: it would be stopped elsewhere."""
    streams = (sys.__stdin__, sys.__stdout__, sys.__stderr__)
    return all(stream and stream.isatty() for stream in streams) and os.tcgetpgrp(0) == os.getpgrp()
