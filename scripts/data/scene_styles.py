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

Filter = Callable[[Image.Image, np.random.Generator, int], Image.Image]


def apply(style: str, picture: Image.Image, numbers: np.random.Generator, scale: int = 1) -> Image.Image:
    """`picture` in the style named (a key of STYLES); strokes, stones and grain are `scale` times as large."""
    return FILTERS[style](picture, numbers, scale)


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


def _image(pixels: np.ndarray) -> Image.Image:
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def watercolour(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Soft pale washes with uneven pigment and darker rims."""
    soft = picture.filter(ImageFilter.MedianFilter(_window(5, scale)))
    wash = np.asarray(soft, dtype=np.float32)
    rims = _edges(soft, scale) * 45
    pale = 255 - (255 - wash) * (0.5 + 0.45 * _noise(numbers, 10, picture.width))
    return _image(pale - rims + 10 * (_noise(numbers, 64, picture.width) - 0.5))


def pencil(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Dark outlines and hatched shades on paper."""
    light = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] / 255
    down, across = np.indices((picture.height, picture.width))[..., None] / scale
    hatch = ((down + across) % CELL < 3) * 1.0
    shade = 1 - 0.5 * hatch * np.clip(1.1 - light, 0, 1) - 0.12 * (1 - light)
    lines = np.clip(_edges(picture, scale, 1.3) * 1.3 - 0.1, 0, 1)
    grain = 10 * (_grain(numbers, picture, scale)[..., None] - 0.5)
    return _image(np.repeat(242 * shade * (1 - 0.7 * lines) + grain, 3, axis=2))


def pixel(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Large square pixels in few colours."""
    count = picture.width // (CELL * scale)
    small = picture.resize((count, count), Image.Resampling.BOX)
    return ImageOps.posterize(small, 3).resize(picture.size, Image.Resampling.NEAREST)


def oil(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Blobs of paint in strokes of a broad brush."""
    blobs = np.asarray(picture.filter(ImageFilter.ModeFilter(_window(7, scale))), dtype=np.float32)
    side = picture.width // scale
    down, across = np.indices((side, side)) - (side - 1) / 2
    bend = 9 * np.sin(across / 11) + 5 * np.sin(down / 7 + across / 23)
    strokes = np.sin((down + bend) * 2 * np.pi / 10)[..., None].repeat(scale, 0).repeat(scale, 1)
    return _image(blobs * (0.88 + 0.14 * strokes) + 10 * strokes)


def chalk(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Broad white lines on a dark board."""
    lines = np.clip(_edges(picture, scale, 1.5) * 1.4 - 0.15, 0, 1)
    lines = lines * (0.75 + 0.25 * _grain(numbers, picture, scale)[..., None])
    board = np.array([38, 52, 46], dtype=np.float32)
    return _image(board + 8 * _noise(numbers, 12, picture.width) + (235 - board) * lines)


def mosaic(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Small stones of one colour each, with grout between them."""
    side, stone = picture.width, CELL * scale
    means = np.asarray(picture.resize((side // stone,) * 2, Image.Resampling.BOX), dtype=np.float32)
    cells = means * numbers.uniform(0.8, 1.1, (*means.shape[:2], 1))
    stones = cells.repeat(stone, 0).repeat(stone, 1)
    grid = (np.arange(side) + scale) % stone < 2 * scale
    grout = np.array([235, 228, 215], dtype=np.float32)
    stones[grid], stones[:, grid] = grout, grout
    return _image(stones)


def comic(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Flat bright colours, printed in dots where they are pale, with thick black outlines."""
    flat = ImageOps.posterize(picture.filter(ImageFilter.MedianFilter(_window(3, scale))), 2)
    bright = np.asarray(ImageChops.add(flat, Image.new("RGB", picture.size, (40, 40, 40))), dtype=np.float32)
    down, across = np.indices((picture.height, picture.width))[..., None] / scale % CELL - 3.5
    dots = down**2 + across**2 < 8
    ink = np.clip(_edges(picture, scale, 1.4) * 2 - 0.4, 0, 1)
    return _image(bright * (1 - 0.28 * dots) * (1 - ink))


FILTERS: dict[str, Filter] = {
    "watercolour": watercolour,
    "pencil": pencil,
    "pixel": pixel,
    "oil": oil,
    "chalk": chalk,
    "mosaic": mosaic,
    "comic": comic,
}
