"""Enlarging pictures with an upscaler of any architecture: whole where it fits, in overlapping tiles where it does not.

What becomes of a pixel depends on its surroundings only as far as the network reaches. A tile is given that much more
on each side, which is cut off again, so that the tiles together are the picture that the network makes of the whole,
up to rounding.
"""

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from torch import Tensor

from vqclip.common.errors import OutOfMemoryError
from vqclip.common.images import PROFILE, rgb_profile, to_image, to_tensor
from vqclip.common.runtime import is_out_of_memory
from vqclip.models.outlines import Outlines
from vqclip.models.published_upscaler import load_published
from vqclip.models.upscaler import infer_sizes, upscaler_of
from vqclip.models.weights.reader import check_finite, read_metadata, read_tensors

log = logging.getLogger(__name__)

ROOM = 2**29
"""Bytes that the network's own tensors may take at once."""

SMALLEST = 16
"""Pixels of the smallest tile that is tried, without what it overlaps. The sides of all tiles are multiples of it, as
some networks look at a picture in blocks of 2, 8 or 16, which must lie where they lie in the whole."""

FINISH = "outlines"
"""The note in the header of a safetensors file of our form that asks for outlines after the network."""

FINISHING = 160
"""Bytes that outlines take for each pixel of the large picture: some 40 planes of it at once."""

Box = tuple[int, int, int, int]
"""Left, top, right and bottom of a part of the small picture, in pixels."""

Watch = Callable[[int, int], None]
"""Is told how many tiles are done, and of how many."""


class Network(Protocol):
    """An upscaler on its device, in fp32 and frozen."""

    @property
    def scale(self) -> int:
        """How many times the sides grow."""

    @property
    def reach(self) -> int:
        """How many pixels of the small picture around a pixel count for it."""

    @property
    def pixel_bytes(self) -> int:
        """What a pixel of the small picture takes while it is drawn; 0 if the network should see the whole picture."""

    def __call__(self, images: Tensor) -> Tensor:
        """(1, 3, h, w) in [0, 1] ─▶ (1, 3, scale · h, scale · w), not clipped."""


@dataclass(frozen=True)
class Outlined:
    """An upscaler whose pictures are given outlines, a `Network` itself."""

    network: Network
    outlines: Outlines = field(default_factory=Outlines)

    @property
    def scale(self) -> int:
        """How many times the sides grow."""
        return self.network.scale

    @property
    def reach(self) -> int:
        """How many pixels of the small picture around a pixel count for it."""
        return self.network.reach + math.ceil(self.outlines.reach / self.scale)

    @property
    def pixel_bytes(self) -> int:
        """What a pixel of the small picture takes while it is drawn."""
        return max(self.network.pixel_bytes, FINISHING * self.scale**2)

    def __call__(self, images: Tensor) -> Tensor:
        """(1, 3, h, w) in [0, 1] ─▶ (1, 3, scale · h, scale · w) in [0, 1]."""
        return self.outlines(self.network(images).clamp(0, 1))


def load_network(path: Path, device: torch.device) -> Network:
    """Load an upscaler's file: of our own form, or of one that spandrel knows. No code in the file is run.

    Raises:
        ModelError: the file is missing, damaged, refused, of an unknown architecture, or needs the extra `upscale`.
    """
    tensors = {name: _in_fp32(tensor) for name, tensor in read_tensors(path).items()}
    check_finite(path, tensors)
    compact = upscaler_of(tensors)
    if compact is None:
        return load_published(path, tensors, device)
    network = compact.to(device).to(memory_format=torch.channels_last)  # on CPUs in half the time
    return Outlined(network) if FINISH in read_metadata(path) else network


def read_scale(path: Path) -> int:
    """Return how many times the sides grow; one of our own form is not loaded for that.

    Raises:
        ModelError: as `load_network`.
    """
    sizes = infer_sizes({name: tuple(tensor.shape) for name, tensor in read_tensors(path).items()})
    return sizes.scale if sizes else load_network(path, torch.device("cpu")).scale


def _in_fp32(tensor: Tensor) -> Tensor:
    return tensor.float() if tensor.is_floating_point() else tensor


@torch.no_grad()
def enlarge(network: Network, images: Tensor) -> Tensor:
    """Enlarge pictures (N, 3, h, w) in [0, 1] to (N, 3, scale · h, scale · w) in [0, 1], each by itself.

    Raises:
        OutOfMemoryError: not even small tiles fit.
    """
    count, _, height, width = images.shape
    scale = network.scale
    large = images.new_empty(count, 3, scale * height, scale * width)
    for small, place in zip(images, large, strict=True):

        def read(box: Box, small: Tensor = small) -> Tensor:
            left, top, right, bottom = box
            return small[None, :, top:bottom, left:right]

        def write(box: Box, pixels: Tensor, place: Tensor = place) -> None:
            left, top, right, bottom = (scale * side for side in box)
            place[:, top:bottom, left:right] = pixels

        _in_tiles(network, (width, height), read, write)
    return large


@torch.no_grad()
def enlarge_image(
    network: Network, image: Image.Image, device: torch.device, watch: Watch = lambda done, total: None
) -> Image.Image:
    """Enlarge an RGB picture, which keeps its colour profile; only a tile of it is ever held as anything but 8-bit
    numbers.

    Raises:
        OutOfMemoryError: not even small tiles fit.
    """
    large = Image.new("RGB", (network.scale * image.width, network.scale * image.height))

    def write(box: Box, pixels: Tensor) -> None:
        large.paste(to_image(pixels), (network.scale * box[0], network.scale * box[1]))

    _in_tiles(network, image.size, lambda box: to_tensor(image.crop(box)).to(device), write, watch)
    if profile := rgb_profile(image):
        large.info[PROFILE] = profile
    return large


def _in_tiles(
    network: Network,
    size: tuple[int, int],
    read: Callable[[Box], Tensor],
    write: Callable[[Box, Tensor], None],
    watch: Watch = lambda done, total: None,
) -> None:
    """Draw a picture of this (width, height) tile by tile; where memory ends, again in tiles of half the side."""
    side = min(_first_side(network), max(size))
    while True:
        try:
            tiles = list(_tiles(size, side))
            for done, box in enumerate(tiles):
                watch(done, len(tiles))
                write(box, _draw(network, read, box, size))
            return watch(len(tiles), len(tiles))
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            if side <= SMALLEST:
                raise OutOfMemoryError(
                    "Not enough memory to upscale, not even in small tiles: close other programs, or give a smaller "
                    "picture or output.upscale=none."
                ) from error
        side = _in_blocks(side // 2)
        log.warning("The memory is too small for this; upscaling in tiles of %d pixels.", side)


def _first_side(network: Network) -> int:
    """The side of the tiles that, with what they overlap, take ROOM."""
    if not network.pixel_bytes:
        return 2**31
    return _in_blocks(math.isqrt(ROOM // network.pixel_bytes) - 2 * network.reach)


def _in_blocks(side: int) -> int:
    return max(1, side // SMALLEST) * SMALLEST


def _tiles(size: tuple[int, int], side: int) -> Iterator[Box]:
    """Cut a picture of this (width, height) into tiles of at most this side."""
    width, height = size
    for top in range(0, height, side):
        for left in range(0, width, side):
            yield left, top, min(left + side, width), min(top + side, height)


def _draw(network: Network, read: Callable[[Box], Tensor], box: Box, size: tuple[int, int]) -> Tensor:
    """Draw one tile, (3, scale · height, scale · width) in [0, 1], with all around it that counts for it."""
    left, top, right, bottom = box
    seen_left, seen_top = max(0, left - network.reach), max(0, top - network.reach)
    seen = seen_left, seen_top, min(size[0], right + network.reach), min(size[1], bottom + network.reach)
    drawn = network(read(seen))[0]
    rows = slice(network.scale * (top - seen_top), network.scale * (bottom - seen_top))
    columns = slice(network.scale * (left - seen_left), network.scale * (right - seen_left))
    return drawn[:, rows, columns].clamp(0, 1)
