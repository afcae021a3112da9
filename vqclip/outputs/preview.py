"""A picture in the terminal: two pixels a character cell, the upper one as ink, the lower as ground."""

from collections.abc import Iterator

from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleDimensions, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style

UPPER_HALF_BLOCK = "▀"

BELOW = 2
"""Lines of the terminal that a picture leaves to what stands under it."""


def cells(image: Image.Image, columns: int, room: ConsoleDimensions) -> tuple[int, int]:
    """How many cells (across, down) a picture takes, twice as high as wide each: at most `columns`, and no more than
    the terminal has."""
    highest = max(1, room.height - BELOW)
    width = max(1, min(columns, room.width, 2 * highest * image.width // image.height))
    return width, max(1, round(width * image.height / image.width / 2))


class Preview:
    """Draws an RGB picture with half blocks, at most `columns` wide and as high as the terminal (a rich renderable)."""

    def __init__(self, image: Image.Image, columns: int) -> None:
        self.image = image
        self.columns = columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the rows of cells."""
        room = ConsoleDimensions(options.max_width, options.size.height)
        width, lines = cells(self.image, min(self.columns, self.image.width), room)
        small = self.image.resize((width, 2 * lines), Image.Resampling.BOX)
        for row in range(0, 2 * lines, 2):
            yield from _row(small, row)
            yield Segment.line()


def _row(image: Image.Image, row: int) -> Iterator[Segment]:
    for column in range(image.width):
        upper, lower = (Color.from_rgb(*image.getpixel((column, row + below))) for below in (0, 1))  # type: ignore[misc]
        yield Segment(UPPER_HALF_BLOCK, Style(color=upper, bgcolor=lower))
