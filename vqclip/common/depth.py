"""Pictures of more than 8 bits: their values as they stand in the file, and scaled to 8 bits by what they mean."""

import logging
import sys

import numpy as np
from PIL import Image

log = logging.getLogger(__name__)

LEVELS = {255: "8 bits", 1023: "10 bits", 4095: "12 bits", 65_535: "16 bits"}
"""Brightest values of the usual depths."""

UPPER = 4095 // 256
"""The largest upper byte of a value of 12 bits."""

OTHER_BYTE = {"L": "B", "B": "L", "N": "B" if sys.byteorder == "little" else "L"}
"""Order of the bytes in Pillow's names for 16-bit samples ─▶ the one that makes it read the byte it leaves out."""


def deep_values(image: Image.Image) -> np.ndarray | None:
    """Return the values (H, W) or (H, W, 3) of a picture that Pillow's own 8 bits would not show, else None.

    Those are grey ones of more than 8 bits, and TIFFs of 16-bit colours that only hold 12 bits or fewer, of which
    Pillow keeps the upper byte.
    """
    if image.mode == "F" or image.mode.startswith("I"):
        return np.asarray(image)
    if image.format != "TIFF" or image.mode != "RGB" or set(image.tag_v2.get(258, ())) != {16}:  # type: ignore[attr-defined]
        return None
    lower = Image.open(image.fp, formats=("TIFF",))  # type: ignore[attr-defined]
    lower.tile = [tile._replace(args=_other_byte(tile.args)) for tile in lower.tile]
    low, high = np.asarray(lower), np.asarray(image)
    return None if high.max() > UPPER else high.astype(np.uint16) * 256 + low


def _other_byte(arguments: object) -> tuple[object, ...]:
    """Change the order of bytes in a decoder's arguments, of which one is a raw mode such as `RGB;16L`."""
    return tuple(
        part[:-1] + OTHER_BYTE.get(part[-1], part[-1]) if isinstance(part, str) and ";16" in part else part
        for part in (arguments if isinstance(arguments, tuple) else (arguments,))
    )


def eight_bits(values: np.ndarray, image: Image.Image, name: str) -> np.ndarray:
    """Scale the deep values of an image to 0…255: by what its file says, else by the least usual depth that holds
    them, else by their own range.

    PNG and PNM files are scaled to 16 bits by their definitions. Floats between 0 and 1 are taken as they are, and have
    a depth only where they use half of it. `name` is what notes call the picture.
    """
    values = values.astype(np.float64)
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if finite.size else (0.0, 0.0)
    bottom, top = 0.0, _stated_top(image)
    if top is None and low >= 0:
        depths = [1, *(depth for depth in LEVELS if high > depth / 2)] if image.mode == "F" else list(LEVELS)
        top = next((float(depth) for depth in depths if high <= depth), None)
        if top not in (None, 1.0, 65_535.0) and high > 0:
            log.warning("The values of %r end at %g: taken as %s.", name, high, LEVELS[int(top)])
    if top is None or not bottom <= low <= high <= top:
        bottom, top = low, high
        log.warning("The values of %r lie between %g and %g: scaled from black to white.", name, low, high)
    scaled = (np.nan_to_num(values, nan=bottom, posinf=top, neginf=bottom) - bottom) / ((top - bottom) or 1) * 255
    return scaled.clip(0, 255).round().astype(np.uint8)


def _stated_top(image: Image.Image) -> float | None:
    """The value that a file calls white: a PNG or PNM always, a TIFF by MaxSampleValue or SMaxSampleValue."""
    if image.format in ("PNG", "PPM") and image.mode != "F":
        return 65_535.0
    tags = getattr(image, "tag_v2", {})
    for tag in (281, 341):  # TIFF 6.0, pages 36 and 80
        stated = tags.get(tag)
        stated = stated[0] if isinstance(stated, tuple) and stated else stated
        if isinstance(stated, int | float) and 0 < stated < float("inf"):
            return float(stated)
    return None
