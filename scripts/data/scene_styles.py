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


def _edges(picture: Image.Image, scale: int) -> np.ndarray:
    """Strength of the edges, 0..1, (h, w, 1)."""
    grey = np.asarray(picture.convert("L").filter(ImageFilter.GaussianBlur(0.7 * scale)), dtype=np.float32)
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    across = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    return np.clip((down + across) * scale / 60, 0, 1)[..., None]


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
    """Grey strokes on paper: the picture divided by its own blur ("colour dodge")."""
    grey = ImageOps.grayscale(picture)
    blurred = np.asarray(grey.filter(ImageFilter.GaussianBlur(5 * scale)), dtype=np.float32)
    light = np.asarray(grey, dtype=np.float32)
    dodge = np.clip(light * 235 / np.maximum(blurred, 1), 0, 245)
    shade = dodge * (0.8 + 0.2 * light / 255) + 14 * (_grain(numbers, picture, scale) - 0.5)
    return _image(np.repeat(shade[..., None], 3, axis=2))


def pixel(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Large square pixels in few colours."""
    small = picture.resize((32, 32), Image.Resampling.BOX)
    return ImageOps.posterize(small, 3).resize(picture.size, Image.Resampling.NEAREST)


def oil(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Blobs of paint with a raised canvas texture."""
    blobs = picture.filter(ImageFilter.ModeFilter(_window(7, scale)))
    grain = (_noise(numbers, 48, picture.width) - 0.5) * 36
    light = np.asarray(blobs.filter(ImageFilter.EMBOSS).convert("L"), dtype=np.float32)[..., None] - 128
    return _image(np.asarray(blobs, dtype=np.float32) + grain + 0.25 * light)


def chalk(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """White broken lines on a dark board."""
    lines = _edges(picture, scale) * (0.55 + 0.45 * _grain(numbers, picture, scale)[..., None])
    fill = np.asarray(picture.convert("L"), dtype=np.float32)[..., None] / 255
    board = np.array([38, 52, 46], dtype=np.float32)
    return _image(board + 8 * _noise(numbers, 12, picture.width) + 40 * (1 - fill) + (225 - board) * lines)


def mosaic(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Small stones of one colour each, with grout between them."""
    side, stone = picture.width, 8 * scale
    means = np.asarray(picture.resize((side // stone,) * 2, Image.Resampling.BOX), dtype=np.float32)
    cells = means + numbers.uniform(-16, 16, (*means.shape[:2], 1))
    stones = cells.repeat(stone, 0).repeat(stone, 1)
    grid = np.arange(side) % stone < scale
    stones[grid] *= 0.55
    stones[:, grid] *= 0.55
    return _image(stones)


def comic(picture: Image.Image, numbers: np.random.Generator, scale: int) -> Image.Image:
    """Flat bright colours with black outlines."""
    flat = ImageOps.posterize(picture.filter(ImageFilter.MedianFilter(_window(3, scale))), 2)
    bright = ImageChops.add(flat, Image.new("RGB", picture.size, (40, 40, 40)))
    ink = np.clip(_edges(picture, scale) * 1.6 - 0.15, 0, 1)
    return _image(np.asarray(bright, dtype=np.float32) * (1 - ink))


FILTERS: dict[str, Filter] = {
    "watercolour": watercolour,
    "pencil": pencil,
    "pixel": pixel,
    "oil": oil,
    "chalk": chalk,
    "mosaic": mosaic,
    "comic": comic,
}
