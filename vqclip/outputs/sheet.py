"""Contact sheets: many pictures in a grid, each with a line of text below it."""

import textwrap
from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vqclip.common.files import replacing
from vqclip.common.images import SUFFIXES, check_side

MARGIN = 6  # pixels around every cell
LINES = 3  # of text below a picture
FONT_SIZE = 11  # pixels
STRIP_COLUMNS = 8  # frames in a row of a strip


def make_sheet(pictures: Sequence[Image.Image], captions: Sequence[str], columns: int = 10) -> Image.Image:
    """Lay pictures of one size out in rows, with as much of their captions as LINES lines hold."""
    font = ImageFont.load_default(FONT_SIZE)
    width, height = pictures[0].size
    cell_width, cell_height = width + 2 * MARGIN, height + 2 * MARGIN + LINES * (FONT_SIZE + 2)
    columns = min(columns, len(pictures))
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * cell_width, rows * cell_height), "white")
    pen = ImageDraw.Draw(sheet)
    letters = max(8, int(width / font.getlength("n")))
    for number, (picture, caption) in enumerate(zip(pictures, captions, strict=True)):
        x, y = number % columns * cell_width + MARGIN, number // columns * cell_height + MARGIN
        sheet.paste(picture, (x, y))
        for line, text in enumerate(textwrap.wrap(caption, letters)[:LINES]):
            pen.text((x, y + height + 2 + line * (FONT_SIZE + 2)), text, fill="black", font=font)
    return sheet


def strip_size(size: tuple[int, int], frames: int) -> tuple[int, int]:
    """Return width and height of the strip of so many frames of `size`."""
    columns = min(STRIP_COLUMNS, frames)
    return columns * size[0], -(-frames // columns) * size[1]


def make_strip(paths: Sequence[Path]) -> Image.Image:
    """Lay pictures of one size, read from their files, out in rows without a gap."""
    pictures = [Image.open(path).convert("RGB") for path in paths]
    width, height = pictures[0].size
    strip = Image.new("RGB", strip_size((width, height), len(pictures)), "white")
    for number, picture in enumerate(pictures):
        strip.paste(picture, (number % STRIP_COLUMNS * width, number // STRIP_COLUMNS * height))
    return strip


def save_sheet(path: Path, sheet: Image.Image) -> None:
    """Write a sheet whole or not at all; the suffix chooses PNG, JPEG or WebP.

    Raises:
        UsageError: it is too large for the format.
        OutputError: it cannot be written.
    """
    check_side(path, sheet.size)
    with replacing(path) as part:
        sheet.save(part, format=SUFFIXES.get(path.suffix.lower(), "PNG"))
