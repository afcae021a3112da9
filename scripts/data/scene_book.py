"""An open book as somebody holds it before the face: few broad strokes, which the embedded VQGAN keeps.

The font's own book has lines of text a pixel wide; decoded it is a white square that people took for a coat.
"""

from PIL import Image, ImageDraw

COVER, PAPER, INK, FOLD = (200, 40, 40), (250, 248, 238), (60, 60, 70), (70, 50, 40)
PAGE = ((0.0, 0.24), (0.2, 0.15), (0.46, 0.19), (0.46, 0.8), (0.2, 0.76), (0.0, 0.85))  # from the fold, down
RIM = 0.04  # of the cover around the pages
LINE = ((0.09, 0.03), (0.2, -0.03), (0.38, 0.0))  # of text: from the fold, and below its height
LINES = (0.33, 0.48, 0.63)  # heights of the lines
FINER = 4  # times the size it is drawn at first


def open_book(side: int) -> Image.Image:
    """An open book, RGBA, `side` pixels wide and high, what is around it transparent."""
    picture = Image.new("RGBA", (side * FINER,) * 2)
    pen, unit = ImageDraw.Draw(picture), side * FINER

    def page(mirror: int, colour: tuple[int, int, int], rim: float) -> None:
        outline = [(x + rim * (x > 0.3), y + rim * (1 if y > 0.5 else -1)) for x, y in PAGE]
        pen.polygon([((0.5 + mirror * x) * unit, y * unit) for x, y in outline], colour)

    for colour, rim in ((COVER, RIM), (PAPER, 0.0)):
        for mirror in (-1, 1):
            page(mirror, colour, rim)
    pen.line([(unit / 2, 0.22 * unit), (unit / 2, 0.87 * unit)], FOLD, round(0.03 * unit))
    for mirror in (-1, 1):
        for height in LINES:
            stroke = [((0.5 + mirror * x) * unit, (height + y) * unit) for x, y in LINE]
            pen.line(stroke, INK, round(0.045 * unit), "curve")
    return picture.resize((side, side), Image.Resampling.BOX)
