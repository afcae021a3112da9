"""Filters: what becomes of a picture between what draws it and what sees it.

Guides, losses and files all get the filtered picture. Once that was upscaled it is filtered again, so that what a
filter promises holds for the file. Each does nothing more to what it made, but that a kaleidoscope interpolates anew
beside its mirrors, and that a tile would blend anew: of that only the outermost edge is mended.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.registry import pick_told
from vqclip.guidance.colours import parse_colour, parse_colours
from vqclip.guidance.losses import luma, replace_grad
from vqclip.guidance.wallpaper import GROUPS, SQUARE_GROUPS, WALLPAPERS

Filter = Callable[[Tensor], Tensor]
"""From pictures (N, 3, H, W) in [0, 1] to such pictures, each on its own."""

RIM = 0.25
"""Share of a side over which a tile's edge goes over into its middle."""

EDGE = 1 / 64
"""The same of what was a tile before it was enlarged: its edge and its middle are alike there, to half a grey level."""

FRAME = 1 / 16
"""Width of a frame, as a share of the short side."""

MOST_SECTORS = 64
"""Of a kaleidoscope."""

FOLDS = 4
"""How often a place is mirrored into a kaleidoscope's wedge, and back into the picture where that has left it."""


def tile(images: Tensor, rim: float = RIM) -> Tensor:
    """Make pictures (N, 3, H, W) that go on without a seam, laid side by side and one above the other.

    Towards each edge a picture goes over into itself moved by half its side, over a `rim` as a share of that, so that
    what was neighbours in its middle meets at the edge.
    """
    return _seamless(_seamless(images, -1, rim), -2, rim)


def _seamless(images: Tensor, dim: int, rim: float) -> Tensor:
    """Make pictures go on along one dimension."""
    length = images.shape[dim]
    places = torch.linspace(0, 1, length, device=images.device, dtype=images.dtype)
    near = (torch.minimum(places, 1 - places) / rim).clamp(max=1)
    weight = near.square() * (3 - 2 * near)
    weight = weight if dim == -1 else weight[:, None]
    return torch.lerp(images.roll(length // 2, dim), images, weight)


def mirror(images: Tensor) -> Tensor:
    """Make the right half of pictures (N, 3, H, W) the mirror image of the left one."""
    return images[..., _folded(images.shape[-1], images.device)]


def mirrors(images: Tensor) -> Tensor:
    """Repeat the upper left quarter of pictures (N, 3, H, W) in mirrors: the wallpaper group pmm, which tiles."""
    return mirror(images)[..., _folded(images.shape[-2], images.device), :]


def diagonals(images: Tensor) -> Tensor:
    """Repeat an eighth of square pictures (N, 3, S, S) in mirrors along sides and diagonals: the group p4m."""
    fold = _folded(images.shape[-1], images.device)
    rows, columns = torch.minimum(fold[:, None], fold), torch.maximum(fold[:, None], fold)
    return images[..., rows, columns]


def _folded(length: int, device: torch.device) -> Tensor:
    """The numbers 0, 1, 2… up to the middle and back."""
    places = torch.arange(length, device=device)
    return torch.minimum(places, length - 1 - places)


def grey(images: Tensor) -> Tensor:
    """Take the colour out of pictures (N, 3, H, W)."""
    return luma(images).expand_as(images)


def kaleidoscope(device: torch.device, argument: str) -> Filter:
    """Repeat a wedge of a picture in mirrors around its middle; the argument is how many sectors there are."""
    sectors = int(argument) if argument.isascii() and argument.isdigit() and len(argument) < 4 else 0
    if not 2 <= sectors <= MOST_SECTORS or sectors % 2:
        raise UsageError(
            f"A kaleidoscope has an even number of sectors from 2 to {MOST_SECTORS}, as mirrors make them in pairs; "
            f"this one has {argument!r}."
        )

    def reflect(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        down, across = (
            torch.arange(side, device=images.device, dtype=images.dtype) + 0.5 - side / 2 for side in (height, width)
        )
        y, x = torch.meshgrid(down, across, indexing="ij")
        wedge = 2 * math.pi / sectors
        for _ in range(FOLDS):
            radius, angle = torch.hypot(x, y), torch.atan2(x, -y).remainder(2 * wedge)  # from the top on
            angle = torch.minimum(angle, 2 * wedge - angle)
            x, y = _within(radius * angle.sin(), width / 2), _within(-radius * angle.cos(), height / 2)
        grid = torch.stack([x * 2 / width, y * 2 / height], -1).expand(len(images), -1, -1, -1)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    return reflect


def _within(places: Tensor, most: float) -> Tensor:
    """Mirror places into [-most, most], however far beyond they are."""
    return most - ((places + most).remainder(4 * most) - 2 * most).abs()


def palette(device: torch.device, argument: str) -> Filter:
    """Give each pixel the nearest colour of a palette; the gradient is that of the pixel (pixray's lookup filter)."""
    colours = parse_colours(argument).to(device)

    def lock(images: Tensor) -> Tensor:
        pixels = images.movedim(1, -1)
        with torch.no_grad():
            nearest = torch.cdist(pixels.flatten(0, 2).float(), colours).argmin(1)
            locked = colours[nearest].to(images.dtype).view(pixels.shape)
        return replace_grad(locked.movedim(-1, 1), images)

    return lock


def frame(device: torch.device, argument: str) -> Filter:
    """Paint a frame in the one colour of the argument."""
    colour = parse_colour(argument).to(device)

    def framed(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        wide = max(1, round(FRAME * min(height, width)))
        inside = images.new_zeros(height, width)
        inside[wide : height - wide, wide : width - wide] = 1
        return torch.lerp(colour.to(images.dtype)[:, None, None].expand_as(images), images, inside)

    return framed


PLAIN: Mapping[str, Filter] = {
    "tile": tile,
    "mirror": mirror,
    "pmm": mirrors,
    "p4m": diagonals,
    **WALLPAPERS,
    "grey": grey,
}
"""Filters that need nothing to be said."""

TOLD: Mapping[str, tuple[str, Callable[[torch.device, str], Filter]]] = {
    "kaleidoscope": ("6", kaleidoscope),
    "palette": ("red,white,#000080", palette),
    "frame": ("white", frame),
}
"""Filters that are told something behind a colon, each with an example of it."""

FINISHING: Mapping[str, Filter] = {"tile": partial(tile, rim=EDGE)}
"""What is put over an enlarged picture instead, where a filter does more to what it made."""

SQUARE = frozenset({"p4m"}) | SQUARE_GROUPS
"""Filters of square pictures only."""

EVEN = frozenset(GROUPS)
"""Filters of pictures with even sides only."""


def find_filter(spec: str, device: torch.device) -> Filter:
    """Return the filter `NAME` or `NAME:ARGUMENT`, for pictures on `device`.

    Raises:
        UsageError: an unknown name, or an argument that is missing, too much or wrong.
    """
    told = {name: (example, partial(make, device)) for name, (example, make) in TOLD.items()}
    return pick_told(PLAIN, told, spec, "filter")


def find_finish(spec: str, device: torch.device) -> Filter:
    """Return what is put over pictures that the filter made, once they were enlarged.

    Raises:
        UsageError: as `find_filter`.
    """
    return FINISHING.get(spec) or find_filter(spec, device)


class Filtered:
    """Renders, and puts the pictures through filters, in their order."""

    def __init__(self, render: Filter, filters: Sequence[Filter]) -> None:
        self.render, self.filters = render, filters

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the pictures (N, 3, H, W)."""
        images = self.render(latent)
        for each in self.filters:
            images = each(images)
        return images
