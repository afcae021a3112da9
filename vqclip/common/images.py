"""Pictures in and out: whatever a user has becomes RGB in [0, 1], and tensors become 8-bit pictures."""

import contextlib
import errno
import logging
import os
import stat
import struct
import zlib
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vqclip.common.depth import deep_values, eight_bits
from vqclip.common.errors import UnreadableError, UsageError

log = logging.getLogger(__name__)

READING = 3
"""Counts up whenever `open_image` gives other pixels for the same file, so that what was made of them is not reused."""

PIXEL_LIMIT = 100_000_000
ASPECT_LIMIT = 250
"""How many times the shorter side the longer one may be: what resizes a strip's short side makes the long one huge."""

MID_GREY = (128, 128, 128)
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}
READ_SUFFIXES = frozenset(
    (*SUFFIXES, ".jfif", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".heif", ".hif", ".jp2", ".j2k", ".ppm")
) | {".pgm", ".pnm"}
"""How files are called that are meant as pictures, and not as words."""

LARGEST_SIDES = {"WEBP": 16_383, "JPEG": 65_500}
"""Pixels that a side may have in each format, where that is fewer than anybody draws (RFC 9649; libjpeg's own)."""

PROFILE = "icc_profile"
"""What Pillow calls a picture's colour profile among what it holds beside pixels; it writes that of itself into PNG
only."""

FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "AVIF", "JPEG2000", "PPM")
"""Formats that are read, whatever the file is called. Pillow knows more, some of which start programs (EPS) or open
other files."""

HEIF_BRANDS = (b"heic", b"heix", b"hevc", b"heim", b"heis", b"mif1", b"msf1")
"""What stands in bytes 8 to 12 of a phone's HEIC or HEIF (ISO/IEC 23008-12)."""

DAMAGE = (
    ValueError,
    SyntaxError,
    EOFError,
    RuntimeError,
    LookupError,
    TypeError,
    AttributeError,
    ArithmeticError,
    AssertionError,
    struct.error,
    zlib.error,
)
"""What Pillow's decoders raise on damaged files, beside OSError."""


def open_image(source: Path | str | BinaryIO, name: str | None = None) -> Image.Image:
    """Read a picture as RGB, upright, alpha laid over mid-grey, deeper ones scaled to 8 bits; `name` is what errors
    call it.

    Raises:
        UsageError: missing, no regular file, truncated, not a picture, over 100 megapixels, or a strip.
        UnreadableError: it may be a picture, but may not be read, or not without a package.
    """
    with opening(source, name) as image:
        if max(image.size) > ASPECT_LIMIT * min(image.size):
            size = "x".join(map(str, image.size))
            raise UsageError(
                f"The image {name or str(source)!r} has {size} pixels; a side may be {ASPECT_LIMIT} times the other."
            )
        picture = _to_rgb(image, name or str(source))
        turn = _turn(image)
        return picture if turn is None else picture.transpose(turn)


def picture_size(source: Path | str) -> tuple[int, int]:
    """Return the width and height that `open_image` would give; nothing is decoded.

    Raises:
        UsageError: as `open_image`, for what its first bytes tell.
    """
    with opening(source) as image:
        width, height = image.size
        upright = image.format == "TIFF"  # Pillow's reader of those says the size of the upright picture
        return (height, width) if not upright and _turn(image) in LYING else (width, height)


@contextlib.contextmanager
def opening(source: Path | str | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """Open a picture without decoding it yet.

    Raises:
        UsageError: as `open_image`, for what Pillow raises inside the block too.
    """
    called = repr(name or str(source))
    try:
        with open_regular(source) as file, Image.open(file, formats=_formats(file, called)) as image:
            width, height = image.size
            if width * height > PIXEL_LIMIT:
                raise UsageError(f"The image {called} has {width}x{height} pixels; at most 100 megapixels are read.")
            yield image
    except UnidentifiedImageError as error:
        raise UsageError(f"{called} is not an image that can be read (PNG, JPEG, WebP, …).") from error
    except Image.DecompressionBombError as error:
        raise UsageError(f"The image {called} is too large; at most 100 megapixels are read.") from error
    except OSError as error:
        if error.strerror:  # the system's word; Pillow's own errors have none
            raise UnreadableError(f"Cannot read the image {called}: {error.strerror}.") from error
        raise UsageError(f"Cannot read the image {called}: the file is damaged or truncated.") from error
    except DAMAGE as error:
        raise UsageError(f"Cannot read the image {called}: the file is damaged.") from error


def rgb_profile(picture: Image.Image) -> bytes | None:
    """The ICC profile that came with a picture, if it is one of RGB: ICC.1:2022, 7.2.6."""
    profile = picture.info.get(PROFILE)
    return profile if isinstance(profile, bytes) and profile[16:20] == b"RGB " else None


def check_side(path: Path, size: tuple[int, int]) -> None:
    """Refuse a picture of `size` (width, height) that the format of `path` cannot hold.

    Raises:
        UsageError: a side is too long for it.
    """
    limit = LARGEST_SIDES.get(SUFFIXES.get(path.suffix.lower(), ""))
    if limit is not None and max(size) > limit:
        raise UsageError(
            f"{str(path)!r} cannot hold {size[0]}x{size[1]} pixels: a {path.suffix} has sides of at most {limit:,}; "
            "choose .png."
        )


@contextlib.contextmanager
def open_regular(source: Path | str | BinaryIO) -> Iterator[BinaryIO]:
    """Open a regular file; a pipe or a device, which may never have an end, is not waited for.

    Raises:
        OSError, ValueError: it is none, or cannot be opened.
    """
    if not isinstance(source, Path | str):
        yield source
        return
    handle = os.open(source, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
    with os.fdopen(handle, "rb") as file:
        kind = os.fstat(handle).st_mode
        if not stat.S_ISREG(kind):
            raise OSError(0, os.strerror(errno.EISDIR) if stat.S_ISDIR(kind) else "it is no regular file")
        yield file


def _formats(file: BinaryIO, called: str) -> tuple[str, ...]:
    """The formats to try: HEIF where the file is one and its package is here, else FORMATS."""
    head = file.read(12)
    file.seek(0)
    if head[4:8] != b"ftyp" or head[8:] not in HEIF_BRANDS:
        return FORMATS
    if find_spec("pillow_heif") is None:
        raise UnreadableError(
            f"{called} is a HEIC photograph, which needs another package: pip install 'vqclip[heic]'."
        )
    from pillow_heif import register_heif_opener

    register_heif_opener()
    return ("HEIF",)


TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation ─▶ what makes the picture upright (CIPA DC-008, table 6)."""

LYING = tuple(TURNS[orientation] for orientation in (5, 6, 7, 8))
"""Those that exchange width and height."""


def _turn(image: Image.Image) -> Image.Transpose | None:
    """What makes a picture upright, as its EXIF says; an EXIF that cannot be read says nothing (Pillow's
    `exif_transpose` rewrites it whole, and fails). In a PNG it may stand behind the pixels."""
    try:
        return TURNS.get(image.getexif().get(0x0112, 1))
    except (OSError, *DAMAGE):
        return None


def _to_rgb(image: Image.Image, name: str) -> Image.Image:
    deep = deep_values(image)  # first, as it reads the file twice
    if deep is not None:
        image = Image.fromarray(eight_bits(deep, image, name))
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    ground = Image.new("RGBA", picture.size, (*MID_GREY, 255))
    whole = Image.alpha_composite(ground, picture).convert("RGB")
    if PROFILE in image.info:
        whole.info[PROFILE] = image.info[PROFILE]
    return whole


def fit(image: Image.Image, size: tuple[int, int]) -> Tensor:
    """Crop to the aspect of `size` (width, height), resize (Lanczos), return (1, 3, H, W) in [0, 1]."""
    return to_tensor(ImageOps.fit(image, size, Image.Resampling.LANCZOS))


def to_tensor(image: Image.Image) -> Tensor:
    """Turn an RGB picture into (1, 3, H, W) in [0, 1]."""
    pixels = torch.from_numpy(np.asarray(image, dtype=np.float32) / 255)
    return pixels.permute(2, 0, 1)[None].contiguous()


def to_image(pixels: Tensor) -> Image.Image:
    """Turn (3, H, W) in [0, 1] into an 8-bit RGB picture, each value rounded to the nearest level."""
    levels = (pixels.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())
