"""The grounds of the scenes: plain, graded, patterned, a landscape or a room with a blackboard."""

import numpy as np
from PIL import Image, ImageDraw

from scripts.data.scene_things import COLOURS
from scripts.data.scenes import BLACKBOARD, LANDSCAPES, Scene

LETTERS = (  # A, B and C, each of strokes through points of a box of 24 x 26
    (((0, 26), (12, 0), (24, 26)), ((6, 17), (18, 17))),
    (((2, 0), (2, 26), (22, 22), (22, 16), (2, 13), (20, 9), (20, 4), (2, 0)),),
    (((23, 4), (14, 0), (3, 6), (1, 14), (4, 22), (14, 26), (23, 22)),),
)

SIDE = 128  # pixels of a scene's side, times the scale it is drawn at


def draw_ground(scene: Scene, numbers: np.random.Generator, scale: int = 1) -> Image.Image:
    """The picture behind the things, SIDE * scale pixels wide."""
    side = SIDE * scale
    rows, columns = np.mgrid[0:side, 0:side].astype(np.float32) / side
    if scene.ground == BLACKBOARD:
        return _blackboard(scale)
    if scene.ground in LANDSCAPES:
        return Image.fromarray(_landscape(scene.ground, rows, numbers))
    base = np.array(COLOURS[scene.ground_colour], dtype=np.float32) + numbers.uniform(-12, 12, 3)
    other = _companion(base, numbers)
    if scene.ground == "graded":
        angle = numbers.uniform(0, 2 * np.pi)
        mix = (rows - 0.5) * np.sin(angle) + (columns - 0.5) * np.cos(angle) + 0.5
    else:
        mix = _pattern(scene.ground, rows, columns, numbers)
    picture = base + (other - base) * np.clip(mix, 0, 1)[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _companion(base: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    """A lighter or darker shade of `base`, so that the ground's colour keeps its name."""
    target = 255.0 if base.mean() < 150 else 0.0
    return base + (target - base) * numbers.uniform(0.25, 0.42)


def _pattern(ground: str, rows: np.ndarray, columns: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    """How much of the companion colour each pixel has, 0..1."""
    if ground == "plain":
        return np.zeros_like(rows)
    count = numbers.uniform(4, 9)
    shift = numbers.uniform(0, 1, 2)
    x, y = columns * count + shift[0], rows * count + shift[1]
    if ground == "striped":
        along = (x, y, x + y)[int(numbers.integers(3))]
        return (along % 1 > 0.5).astype(np.float32)
    if ground == "checked":
        return ((np.floor(x) + np.floor(y)) % 2).astype(np.float32)
    return ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.09).astype(np.float32)


def _blackboard(scale: int) -> Image.Image:
    """A dark green board in a wooden frame on a light wall, with three large letters in chalk along its upper edge."""
    picture = Image.new("RGB", (SIDE * scale,) * 2, (226, 210, 180))
    pen = ImageDraw.Draw(picture)
    box = (0, 0, SIDE * scale - 1, 104 * scale - 1)
    pen.rectangle(box, fill=(24, 60, 44), outline=(150, 90, 40), width=6 * scale)
    for left, letter in zip((16, 52, 88), LETTERS, strict=True):
        for stroke in letter:
            pen.line([((left + x) * scale, (10 + y) * scale) for x, y in stroke], (240, 244, 240), 4 * scale, "curve")
    return picture


def _landscape(ground: str, rows: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    sky, horizon, near, far = (np.array(c, dtype=np.float32) for c in LANDSCAPES[ground])
    side = len(rows)
    line = numbers.uniform(0.5, 0.75) + 0.02 * np.sin(
        np.arange(side) / side * numbers.uniform(2, 9) + numbers.uniform(0, 6)
    )
    above = np.clip(rows / line, 0, 1)[..., None]
    below = np.clip((rows - line) / (1 - line), 0, 1)[..., None]
    picture = np.where((rows < line)[..., None], sky + (horizon - sky) * above, far + (near - far) * below)
    if ground == "at night":
        stars = numbers.integers(0, SIDE, (2, 30))
        for top, left in (stars.T // (2, 1)) * (side // SIDE):
            picture[top : top + side // SIDE, left : left + side // SIDE] = (255, 255, 220)
    return picture.astype(np.uint8)
