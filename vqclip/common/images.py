"""Pictures in and out: whatever a user has becomes RGB in [0, 1], and tensors become 8-bit pictures."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from vqclip.common.errors import UsageError

PIXEL_LIMIT = 100_000_000
MID_GREY = (128, 128, 128)
SUFFIXES = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG", ".webp": "WEBP"}


def open_image(source: Path | str | BinaryIO, name: str | None = None) -> Image.Image:
    """Read a picture as RGB, upright, alpha laid over mid-grey, 16-bit scaled to 8; `name` is what errors call it.

    Raises:
        UsageError: missing, unreadable, truncated, not a picture, or over 100 megapixels.
    """
    with opening(source, name) as image:
        return _to_rgb(ImageOps.exif_transpose(image))


@contextlib.contextmanager
def opening(source: Path | str | BinaryIO, name: str | None = None) -> Iterator[Image.Image]:
    """Open a picture without decoding it yet; Pillow's remarks inside the block are kept quiet.

    Raises:
        UsageError: as `open_image`, for what Pillow raises inside the block too.
    """
    path = name or source
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(source) as image:
            width, height = image.size
            if width * height > PIXEL_LIMIT:
                raise UsageError(
                    f"The image {str(path)!r} has {width}x{height} pixels; at most 100 megapixels are read."
                )
            yield image
    except UnidentifiedImageError as error:
        raise UsageError(f"{str(path)!r} is not an image that can be read (PNG, JPEG, WebP, …).") from error
    except Image.DecompressionBombError as error:
        raise UsageError(f"The image {str(path)!r} is too large; at most 100 megapixels are read.") from error
    except OSError as error:
        reason = error.strerror or "the file is damaged or truncated"
        raise UsageError(f"Cannot read the image {str(path)!r}: {reason}.") from error
    except (ValueError, SyntaxError, EOFError, RuntimeError) as error:  # Pillow's decoders raise any of them
        raise UsageError(f"Cannot read the image {str(path)!r}: the file is damaged.") from error


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # 16 bits a channel; Pillow's own conversion would clip at 255
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).clip(0, 255).round().astype(np.uint8))
    if image.mode == "F":
        image = Image.fromarray((np.nan_to_num(np.asarray(image)).clip(0, 1) * 255).round().astype(np.uint8))
    if not image.has_transparency_data:
        return image.convert("RGB")
    picture = image.convert("RGBA")
    ground = Image.new("RGBA", picture.size, (*MID_GREY, 255))
    return Image.alpha_composite(ground, picture).convert("RGB")


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
