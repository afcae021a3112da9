"""From a config's mask to the patch of the picture that is painted anew."""

import logging
import math

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageFilter
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.images import to_tensor
from vqclip.config.schema import MaskConfig
from vqclip.guidance.where import occlusion_map
from vqclip.models.perceptor import Perceptor
from vqclip.pipeline.inputs import Inputs
from vqclip.pipeline.patch import WHITE, Mask, Patch, extend, inside_boxes, make_patch, white_in

log = logging.getLogger(__name__)

FOUND = 2.4
"""Least score of words that are found: their odds fall to an eleventh (e^-2.4) where the best place is hidden."""

EDGE = 0.2
"""Score at the edge of what is found, over the best one."""

GROWN = 0.05
"""How much further the mask reaches, over the short side: what is repainted should not leave a rest of the old."""

NEAR = 0.25
"""How far the rest of a thing is looked for by its colours, over the short side."""

LEVELS = 8
"""Shades of each colour that are told apart then."""

LOOKED_AT = 2
"""Short side of the picture that is searched, over the perceptor's input."""


def find_patch(config: MaskConfig, inputs: Inputs, perceptor: Perceptor) -> Patch | None:
    """Return what is painted anew, or None where the whole picture is.

    Raises:
        UsageError: a mask of another form, one that is empty or covers all, a box outside, words that are not found.
    """
    if config.original is None:
        return None
    original = inputs.images[config.original]
    canvas, rim = extend(original, config.extend)
    mask = inside_boxes(config.boxes, original.size)
    if config.image is not None:
        drawn = inputs.images[config.image]
        mask |= white_in(drawn, original.size, config.image)
        if drawn.size != original.size:
            log.warning("The mask %r is resized to the picture's %dx%d pixels.", config.image, *original.size)
    if config.where is not None:
        mask |= find_words(config.where, original, perceptor)
    if config.invert:
        mask = ~mask
    rim[_inner(rim, original.size)] |= mask
    return make_patch(canvas, rim, config.feather)


def find_words(words: str, picture: Image.Image, perceptor: Perceptor) -> Mask:
    """Return where in a picture the perceptor finds the words.

    Raises:
        UsageError: nowhere.
    """
    scores = perceptor.scale * places_of(perceptor.encode_text([words])[0], picture, perceptor)
    best = float(scores.max())
    if not best >= FOUND or not math.isfinite(best):
        raise UsageError(
            f"{words!r} is not found in the picture: its best score is {best:.2f}, and {FOUND} is needed; "
            "name something else, or give --mask or --box; for what is around a thing, name that and add --invert."
        )
    found: Mask = (scores > EDGE * best).cpu().numpy()
    small = picture.resize((found.shape[1], found.shape[0]), Image.Resampling.LANCZOS)
    whole = Image.fromarray(_grown(whole_thing(found, np.asarray(small)), GROWN))
    return np.asarray(whole.convert("L").resize(picture.size, Image.Resampling.BILINEAR)) > WHITE


def whole_thing(found: Mask, pixels: NDArray[np.uint8]) -> Mask:
    """Return a part (H, W) of a thing with what it goes on into, by colours that it has and the picture's edge has not.

    `pixels` are (H, W, 3). A perceptor knows a thing by its most telling parts; this finds its ears and feet.
    """
    edge = np.ones_like(found)
    edge[1:-1, 1:-1] = False
    shades = (pixels // (256 // LEVELS)).astype(np.int64) @ (LEVELS**2, LEVELS, 1)
    alike = np.isin(shades, shades[found]) & ~np.isin(shades, shades[edge])
    reached = found
    for _ in range(round(NEAR * min(found.shape))):
        reached = reached | (_grown(reached, 1 / min(found.shape)) & alike)
    return reached


def _grown(mask: Mask, share: float) -> Mask:
    """The mask and what lies within a share of its short side around it."""
    reach = 2 * round(share * min(mask.shape)) + 1
    return np.asarray(Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(reach))) > WHITE


def places_of(meaning: Tensor, picture: Image.Image, perceptor: Perceptor) -> Tensor:
    """Return how much a picture, made small, says what a vector (D,) says by each of its places, (H, W)."""
    short = LOOKED_AT * perceptor.size / min(picture.size)
    size = tuple(max(1, round(length * min(1, short))) for length in picture.size)
    image = to_tensor(picture.resize((size[0], size[1]), Image.Resampling.LANCZOS)).to(perceptor.device)
    return occlusion_map(image, lambda images: perceptor.encode_image(_whole(images, perceptor.size)), meaning)


def _whole(images: Tensor, side: int) -> Tensor:
    """All of the pictures (B, 3, H, W) squashed to (B, 3, side, side), so that no place is left out."""
    return F.interpolate(images, (side, side), mode="bicubic", antialias=True).clamp(0, 1)


def _inner(rim: Mask, size: tuple[int, int]) -> tuple[slice, slice]:
    """Where the original lies within its rim."""
    rows, columns = np.flatnonzero(~rim.all(1)), np.flatnonzero(~rim.all(0))
    return slice(rows[0], rows[0] + size[1]), slice(columns[0], columns[0] + size[0])
