"""The drawing styles of the scenes, as image filters on pictures of 128 pixels, or `scale` times as many.

`STYLES` names each with its wordings (the first is the one used in the held-out lists); `apply` filters.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

STYLES = {
    "watercolour": ("a watercolour painting", "a watercolor painting", "a watercolour"),
    "pencil": ("a pencil sketch", "a pencil drawing", "a sketch"),
    "pixel": ("a pixel art picture", "pixel art", "an 8-bit picture"),
    "oil": ("an oil painting", "a painting in oil"),
    "chalk": ("a chalk drawing", "a chalk drawing on a blackboard"),
    "mosaic": ("a mosaic", "a tile mosaic"),
    "comic": ("a comic drawing", "a cartoon with thick outlines", "an ink drawing"),
}
GREY_STYLES = frozenset({"pencil", "chalk"})
CELL = (
    8  # pixels of a code of the embedded VQGAN: what repeats with it, and lies on its grid, is the same code each time
)

SHADES = (255, 160)  # what a cover is where the first and the second thing are seen

Filter = Callable[[Image.Image, np.ndarray, np.random.Generator, int], Image.Image]


def apply(
    style: str, picture: Image.Image, cover: Image.Image, numbers: np.random.Generator, scale: int = 1
) -> Image.Image:
    """`picture` in the style named (a key of STYLES). `cover`, of mode L, is 0 where the ground is seen and SHADES
    where each thing is; strokes, stones and grain are `scale` times as large."""
    things = np.asarray(cover, dtype=np.float32)[..., None] / SHADES[0]
    return FILTERS[style](picture, things, numbers, scale)


def _window(size: int, scale: int) -> int:
    """The side of a filter's window, which is odd."""
    return (size - 1) * scale + 1


def _grain(numbers: np.random.Generator, picture: Image.Image, scale: int) -> np.ndarray:
    """White noise in 0..1, one number for `scale` x `scale` pixels, (h, w)."""
    noise = numbers.random((picture.height // scale, picture.width // scale))
    return noise.repeat(scale, 0).repeat(scale, 1)


def _noise(numbers: np.random.Generator, coarse: int, side: int) -> np.ndarray:
    """Smooth noise in 0..1, (side, side, 1)."""
    seedling = Image.fromarray(numbers.integers(0, 256, (coarse, coarse), dtype=np.uint8))
    return np.asarray(seedling.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)[..., None] / 255


def _edges(picture: Image.Image, scale: int, width: float = 0.7) -> np.ndarray:
    """Strength of the edges, 0..1, (h, w, 1): of details of more than `width` pixels, and as wide."""
    grey = np.asarray(picture.convert("RGB").filter(ImageFilter.GaussianBlur(width * scale)), dtype=np.float32)
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    return np.clip((down + across).max(2, keepdims=True) * scale * width / 42, 0, 1)


def _mask(things: np.ndarray) -> np.ndarray:
    """1 where a thing hides the ground, 0 where none does."""
    return np.minimum(1, things * SHADES[0] / SHADES[1])


def _contour(things: np.ndarray, scale: int, width: float) -> np.ndarray:
    """1 on a line `width` pixels wide around each thing, 0 elsewhere, (h, w, 1)."""
    window = round(width * scale) // 2 * 2 + 1
    cover = Image.fromarray((things[..., 0] * 255).astype(np.uint8))
    wide, narrow = cover.filter(ImageFilter.MaxFilter(window)), cover.filter(ImageFilter.MinFilter(window))
    steps = (np.asarray(wide, dtype=np.float32) - np.asarray(narrow, dtype=np.float32))[..., None]
    return np.minimum(1, steps / (SHADES[0] - SHADES[1]))


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def watercolour(picture: Image.Image, things: np.ndarray, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Soft washes with uneven pigment, paler on the ground, and thin dark lines around and on the things."""
    mask = _mask(things)
    soft = picture.filter(ImageFilter.MedianFilter(_window(5, scale)))
    wash = np.asarray(soft, dtype=np.float32)
    rims = np.maximum(70 * mask * _edges(picture, scale, 1.0), 80 * _contour(things, scale, 2))
    pigment = 0.45 + 0.3 * mask + (0.5 - 0.25 * mask) * _noise(numbers, 10, picture.width)
    return _image(255 - (255 - wash) * pigment - rims)


def pencil(picture: Image.Image, things: np.ndarray, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Grey shades and darker lines on white paper."""
    mask = _mask(things)
    light = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] / 255
    lines = np.maximum(0.55 * mask * _edges(picture, scale, 1.0), 0.8 * _contour(things, scale, 2.5))
    shade = mask * (0.1 + 0.75 * (1 - light))
    grain = 10 * (_grain(numbers, picture, scale)[..., None] - 0.5)
    return _image(np.repeat(244 * (1 - np.maximum(shade, lines)) + grain, 3, axis=2))


def pixel(picture: Image.Image, things: np.ndarray, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Large square pixels in few colours, with a black line of such squares around the things."""
    count = picture.width // (CELL * scale)
    small = ImageOps.posterize(picture.resize((count, count), Image.Resampling.BOX), 3)
    cover = Image.fromarray((_mask(things)[..., 0] * 255).astype(np.uint8)).resize((count, count), Image.Resampling.BOX)
    inside = np.pad(np.asarray(cover) > 127, 1)
    beside = inside[:-2, 1:-1] | inside[2:, 1:-1] | inside[1:-1, :-2] | inside[1:-1, 2:]
    squares = np.where((beside & ~inside[1:-1, 1:-1])[..., None], 16, np.asarray(small))
    return Image.fromarray(squares.astype(np.uint8)).resize(picture.size, Image.Resampling.NEAREST)


def oil(picture: Image.Image, things: np.ndarray, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Blobs of paint in long slanting strokes of a broad brush, calmer on the things."""
    blobs = np.asarray(picture.filter(ImageFilter.ModeFilter(_window(5, scale))), dtype=np.float32)
    down, across = np.indices((picture.height, picture.width))[..., None] / scale
    ground = np.sin((down * 0.8 + across * 0.8 + 4 * np.sin((across - down) / 19)) * 2 * np.pi / 16)
    strokes = ground * (1 - 0.8 * _mask(things))
    return _image(blobs * (0.9 + 0.2 * strokes) + 12 * strokes)


def chalk(picture: Image.Image, things: np.ndarray, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Rubbed white shades and broad white lines on a dark board."""
    mask = _mask(things)
    light = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] / 255
    lines = np.maximum(0.6 * mask * _edges(picture, scale, 1.0), _contour(things, scale, 3))
    grain = 0.85 + 0.15 * _grain(numbers, picture, scale)[..., None]
    chalked = grain * np.maximum(lines, mask * 0.95 * light**1.3)
    board = np.array([38, 52, 46], dtype=np.float32)
    return _image(board + (238 - board) * chalked)


def mosaic(picture: Image.Image, things: np.ndarray, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Square stones of one colour each, light and dark ones in turns, with dark grout between them."""
    side, stone = picture.width, CELL * scale
    means = np.asarray(picture.resize((side // stone,) * 2, Image.Resampling.BOX), dtype=np.float32)
    covered = np.asarray(Image.fromarray(_mask(things)[..., 0]).resize(means.shape[:2], Image.Resampling.BOX))
    turns = np.indices(means.shape[:2]).sum(0) % 2 * 2 - 1
    cells = means * (0.95 + turns * (0.26 - 0.16 * covered))[..., None]
    stones = cells.repeat(stone, 0).repeat(stone, 1)
    grid = np.arange(side) % stone < scale
    stones[grid] *= 0.5
    stones[:, grid] *= 0.5
    return _image(stones)


def comic(picture: Image.Image, things: np.ndarray, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Flat bright colours before rays, things with a thick black contour and thin black lines."""
    mask = _mask(things)
    flat = ImageOps.posterize(picture.filter(ImageFilter.MedianFilter(_window(3, scale))), 3)
    bright = np.asarray(ImageChops.add(flat, Image.new("RGB", picture.size, (30, 30, 30))), dtype=np.float32)
    down, across = (np.indices((picture.height, picture.width))[..., None] - (picture.width - 1) / 2) / scale
    rays = np.clip(3 * np.sin(8 * np.arctan2(down, across)), -1, 1) * (1 - mask)
    ink = np.maximum(0.7 * _edges(picture, scale, 0.9) * mask, _contour(things, scale, 4.5))
    return _image((bright * (1 - 0.18 * rays) + 50 * np.maximum(-rays, 0)) * (1 - ink))


FILTERS: dict[str, Filter] = {
    "watercolour": watercolour,
    "pencil": pencil,
    "pixel": pixel,
    "oil": oil,
    "chalk": chalk,
    "mosaic": mosaic,
    "comic": comic,
}
