"""The part of a picture that is painted anew: where it lies, how it is looked at, and how it goes back.

A window around the masked part is worked on at the model's size; outside of the mask the original's own pixels stay,
bit for bit, whatever the VQGAN makes of them.

Sizes: the canvas has W x H pixels, the window w x h of them, and it is worked on in any size.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.images import PIXEL_LIMIT, PROFILE, rgb_profile, to_image, to_tensor
from vqclip.config.regions import place_box, place_margins

Box = tuple[int, int, int, int]
"""Left, top, right, bottom in pixels."""

Mask = NDArray[np.bool_]
"""(H, W): true where the picture is painted anew."""

SURROUNDINGS = 0.3
"""What is seen on each side of what is masked, over its longer side, where the canvas has room: enough to fit into."""

LEAST = 48
"""Shortest side of a window in pixels; below it a photo has nothing to fit into."""

FEATHER = 24
"""The window's short side over the feather that nobody chose."""

RINGS = 16
"""Steps of a feather; a wider one is made small and enlarged."""

WHITE = 128
"""Grey levels above this are white in a mask."""

RATIO = 0.02
"""How much a mask's ratio of sides may differ from the picture's."""


@dataclass(frozen=True)
class Patch:
    """A canvas, the mask of what is painted anew, and the window that is worked on.

    `alpha` (h, w) in [0, 1] is how much of the new picture shows in the window; it is 0 outside of the mask.
    """

    canvas: Image.Image
    mask: Mask
    window: Box
    alpha: NDArray[np.float32]

    def under(self, size: tuple[int, int]) -> Tensor:
        """Return the window of the canvas in a size (width, height), (1, 3, height, width) in [0, 1]."""
        return self.seen(self.canvas, size)

    def seen(self, picture: Image.Image, size: tuple[int, int]) -> Tensor:
        """Return the same window of another picture, which is stretched over the canvas, as `under` does."""
        across, down = picture.width / self.canvas.width, picture.height / self.canvas.height
        left, top, right, bottom = self.window
        box = (left * across, top * down, right * across, bottom * down)
        return to_tensor(picture.resize(size, Image.Resampling.LANCZOS, box=box))

    def cover(self, size: tuple[int, int]) -> Tensor:
        """Return how much of the new picture shows, (1, 1, height, width) in [0, 1]."""
        small = Image.fromarray(self.alpha).resize(size, Image.Resampling.BOX)
        return torch.from_numpy(np.array(small)).clamp(0, 1)[None, None]

    def compose(self, pixels: Tensor) -> Image.Image:
        """Put what was drawn in the window, (3, any, any) in [0, 1], into a copy of the canvas."""
        left, top, right, bottom = self.window
        new = to_image(pixels).resize((right - left, bottom - top), Image.Resampling.LANCZOS)
        old = np.asarray(self.canvas.crop(self.window), dtype=np.float32)
        alpha = self.alpha[..., None]
        blended = (old + alpha * (np.asarray(new, dtype=np.float32) - old)).round().astype(np.uint8)
        whole = self.canvas.copy()
        whole.paste(Image.fromarray(blended), (left, top))
        whole.info = {PROFILE: profile} if (profile := rgb_profile(self.canvas)) else {}
        return whole


def make_patch(canvas: Image.Image, mask: Mask, feather: int | None = None) -> Patch:
    """Choose the window around a mask of the canvas, and the way from old to new over `feather` pixels inside it.

    Raises:
        UsageError: the mask is empty, or nothing is outside of it.
    """
    if not mask.any():
        raise UsageError("The mask has no white in it, so there is nothing to paint anew.")
    if mask.all():
        raise UsageError("The mask covers the whole picture, so nothing of it would stay; vqclip vary does that.")
    window = _window(mask)
    left, top, right, bottom = window
    inside = mask[top:bottom, left:right]
    chosen = min(inside.shape) // FEATHER if feather is None else feather
    return Patch(canvas, mask, window, _soften(inside, chosen))


def extend(original: Image.Image, margins: str | None) -> tuple[Image.Image, Mask]:
    """Put the original on a larger canvas, whose rim continues its edge; return it and the mask of the rim."""
    left, top, right, bottom = place_margins(margins, *original.size) if margins else (0, 0, 0, 0)
    sides = ((top, bottom), (left, right))
    mask = np.pad(np.zeros((original.height, original.width), bool), sides, constant_values=True)
    if margins is None:
        return original, mask
    canvas = Image.fromarray(np.pad(np.asarray(original), (*sides, (0, 0)), mode="edge"))
    canvas.info.update(original.info)
    return canvas, mask


def extended_size(width: int, height: int, margins: str | None) -> tuple[int, int]:
    """Return the size of the canvas.

    Raises:
        UsageError: it is too large.
    """
    left, top, right, bottom = place_margins(margins, width, height) if margins else (0, 0, 0, 0)
    size = width + left + right, height + top + bottom
    if size[0] * size[1] > PIXEL_LIMIT:
        raise UsageError(f"With the rim {margins!r} the picture has {size[0]}x{size[1]} pixels; at most 100 million.")
    return size


def white_in(picture: Image.Image, size: tuple[int, int], name: str) -> Mask:
    """Return where a mask is white, for a picture of `size` (width, height).

    Raises:
        UsageError: its sides have another ratio.
    """
    ratio = (picture.width * size[1]) / (picture.height * size[0])
    if abs(math.log(ratio)) > RATIO:
        raise UsageError(
            f"The mask {name!r} has {picture.width}x{picture.height} pixels, and the picture {size[0]}x{size[1]}: "
            "give a mask of the picture's form."
        )
    return np.asarray(picture.convert("L").resize(size, Image.Resampling.BILINEAR)) > WHITE


def inside_boxes(boxes: Sequence[str], size: tuple[int, int]) -> Mask:
    """Return what lies in any of the boxes, for a picture of `size` (width, height).

    Raises:
        UsageError: one lies outside.
    """
    mask = np.zeros((size[1], size[0]), bool)
    for box in boxes:
        left, top, right, bottom = place_box(box, *size)
        mask[top:bottom, left:right] = True
    return mask


def _window(mask: Mask) -> Box:
    """What is masked and its surroundings, made a square where the canvas has room."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    across, down = int(columns[-1] - columns[0]) + 1, int(rows[-1] - rows[0]) + 1
    margin = math.ceil(max(across, down) * SURROUNDINGS)
    side = max(LEAST, min(max(across, down) + 2 * margin, max(min(width, height), max(across, down) + margin)))
    left, right = _span(int(columns[0]), across, side, width)
    top, bottom = _span(int(rows[0]), down, side, height)
    return left, top, right, bottom


def _span(first: int, covered: int, length: int, limit: int) -> tuple[int, int]:
    """A stretch of this length around [first, first + covered) within [0, limit), or all of it."""
    length = min(length, limit)
    start = min(max(0, first - (length - covered) // 2), limit - length)
    return start, start + length


def _soften(mask: Mask, feather: int) -> NDArray[np.float32]:
    """Rise from 0 at the mask's edge to 1 at `feather` pixels inside it, or where it is thinner, at its thickest."""
    if feather == 0:
        return mask.astype(np.float32)
    hard = torch.from_numpy(mask.astype(np.float32))[None, None]
    step = -(-feather // RINGS)
    inside = F.max_pool2d(hard, step, ceil_mode=True)
    total, rings = inside.clone(), 1
    while rings < feather // step:
        inside = -F.max_pool2d(-inside, 3, 1, 1)
        if not inside.any():
            break
        total, rings = total + inside, rings + 1
    soft = F.interpolate(total / rings, mask.shape, mode="bilinear", align_corners=False)
    return (soft * hard)[0, 0].numpy()
