"""A picture in the terminal: two pixels a character cell, the upper one as ink, the lower as ground."""

from collections.abc import Iterator

from PIL import Image
from rich.color import Color
from rich.console import Console, ConsoleOptions, RenderResult
from rich.segment import Segment
from rich.style import Style
from torch import Tensor

from vqclip.common.images import to_image

UPPER_HALF_BLOCK = "▀"


class Preview:
    """Draws pixels (3, H, W) in [0, 1] with half blocks, at most `columns` wide (a rich renderable)."""

    def __init__(self, pixels: Tensor, columns: int) -> None:
        self.image = to_image(pixels)
        self.columns = columns

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the rows of cells."""
        width = min(self.columns, options.max_width, self.image.width)
        height = max(2, round(width * self.image.height / self.image.width / 2) * 2)
        small = self.image.resize((width, height), Image.Resampling.BOX)
        for row in range(0, height, 2):
            yield from _row(small, row)
            yield Segment.line()


def _row(image: Image.Image, row: int) -> Iterator[Segment]:
    for column in range(image.width):
        upper, lower = (Color.from_rgb(*image.getpixel((column, row + below))) for below in (0, 1))  # type: ignore[misc]
        yield Segment(UPPER_HALF_BLOCK, Style(color=upper, bgcolor=lower))
