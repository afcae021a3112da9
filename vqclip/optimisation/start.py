"""Where a run starts: the prior's proposal, random codes, a picture, noise or a gradient, as a latent of entries."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vqclip.common.registry import pick
from vqclip.models.drawers.drawer import Drawer
from vqclip.models.drawers.vqgan import VqganDrawer, stays
from vqclip.models.prior import FREE, Near
from vqclip.models.vqgan import VQGAN
from vqclip.optimisation.pyramid import resized

GRAINS = 16
"""Places along the short side of which each is drawn anew or stays: as many as the embedded VQGAN has codes there."""

FIRST = 2
"""Places along the sides of the corner that a prior begins with."""

ZOOM, TURN, SHIFT, WARP = 0.25, 0.4, 0.2, 0.06
"""What `bent` does at most: share of the size, radians, share of half a side; and the deviation of what it pulls by."""

WAVES = 3
"""Random places along a side that a bent picture is pulled at."""

Propose = Callable[[Sequence[Generator], Tensor | None, Near | None], Tensor]
"""Draws codes (N, h, w) for the prompts; some may be given, the others FREE, and all near to vectors (N, h, w, C):
see `Prior.sample`."""

PULL = 6.0
"""How much a picture that is drawn anew counts beside the prompt at strength 1/2; chosen by eye, on six pictures."""


@dataclass(frozen=True)
class Start:
    """What an init may use: the drawer, one CPU generator per picture, the user's picture (1, 3, H, W) in [0, 1] or one
    for each of the run, if any, and what draws codes for the prompts in a grid whose short side is `side`, if anything
    does.

    `strength` in [0, 1] is how far from the user's picture one that is drawn anew may go. `kept` (N, 1, H, W) in [0, 1]
    is how much of the user's picture stays at each place; None: nothing, or all if the init is the picture.
    """

    drawer: Drawer
    rngs: Sequence[Generator]
    image: Tensor | None = None
    strength: float = 1.0
    kept: Tensor | None = None
    propose: Propose | None = None
    side: int = 0

    @property
    def coded(self) -> VqganDrawer:
        """The drawer of a start that is made of codes."""
        assert isinstance(self.drawer, VqganDrawer), "the plan refuses codes for other drawers"
        return self.drawer

    @property
    def vqgan(self) -> VQGAN:
        """The VQGAN whose codes those are."""
        return self.coded.vqgan


def first_latent(kind: str, start: Start) -> Tensor:
    """Return the first latent (N, …); of a VQGAN every vector of it is an entry of the codebook.

    Raises:
        UsageError: an unknown kind.
    """
    latent = pick(INITS, kind, "init.kind")(start)
    if start.kept is None or start.image is None:
        return latent
    return start.coded.blend(latent, start.image, start.kept)


def grains(shape: tuple[int, int], rngs: Sequence[Generator]) -> Tensor:
    """Draw a field (N, 1, H, W) of uniform numbers in [0, 1), each of a square, GRAINS of them along the short side.

    The places where it is low lie scattered, so that what is drawn anew there fits what is around each: no room for a
    thing of its own. The first ones, above and left of which a prior finds nothing to fit to, are the highest.
    """
    across = [max(1, round(length * GRAINS / min(shape))) for length in shape]
    field = torch.stack([torch.rand(1, *across, generator=rng) for rng in rngs])
    field[..., :FIRST, :FIRST] = 1
    return F.interpolate(field, shape)


def lowest(field: Tensor, share: float) -> Tensor:
    """Return the places (N, 1, H, W), `share` of each picture's, where a field is lowest."""
    limits = field.flatten(1).quantile(share, dim=1) if share < 1 else field.flatten(1).amax(1) + 1
    return field < limits[:, None, None, None]


def bent(image: Tensor, amount: float, rngs: Sequence[Generator]) -> Tensor:
    """Return a picture (1, 3, H, W) moved, turned, sized, warped and perhaps mirrored by chance, (N, 3, H, W).

    `amount` in [0, 1] is how far: at 0 nothing, above 0 half of them are mirrored. Its edge goes on around.
    """
    if amount == 0:
        return image.expand(len(rngs), -1, -1, -1)
    grids = torch.cat([_bent_grid(image.shape, amount, rng) for rng in rngs])
    return F.grid_sample(image.expand(len(rngs), -1, -1, -1), grids, padding_mode="border", align_corners=False)


def _bent_grid(shape: torch.Size, amount: float, rng: Generator) -> Tensor:
    """Where each pixel comes from, (1, H, W, 2)."""
    zoom, turn, across, down, coin = (amount * (2 * torch.rand(5, generator=rng) - 1)).tolist()
    size, angle, mirror = 1 + ZOOM * zoom, TURN * turn, -1 if coin < 0 else 1
    cosine, sine = size * math.cos(angle), size * math.sin(angle)
    form = shape[-2] / shape[-1]  # the places of a grid go from -1 to 1 along both sides, whichever is longer
    rows = [[mirror * cosine, -sine * form, SHIFT * across], [mirror * sine / form, cosine, SHIFT * down]]
    places = F.affine_grid(torch.tensor([rows]), [1, 1, *shape[-2:]], align_corners=False)
    pulls = torch.randn(1, 2, WAVES, WAVES, generator=rng) * WARP * amount
    warp = F.interpolate(pulls, shape[-2:], mode="bicubic", align_corners=False)
    return places + warp.permute(0, 2, 3, 1)


def _from_codes(start: Start) -> Tensor:
    """Random codes."""
    return start.coded.codes(start.rngs)


def _from_prior(start: Start) -> Tensor:
    """The prior's best proposal; where the picture has another size, the proposal enlarged and encoded again.

    A picture that is not square gets a square proposal in its middle, whose edges go on to both ends, so that things
    keep their shape; a prior that goes on by itself draws the things again there.
    """
    return _proposed(start, _given(start), None)


def _redrawn(start: Start) -> Tensor:
    """The user's picture, or one for each of the run, as the prior draws it for the prompts: near to it in every place,
    less with more strength.
    """
    assert start.image is not None, "Config requires a picture for init.kind=redraw"
    grid, device = _grid(start, start.side), start.vqgan.codebook.device
    vectors = start.vqgan.encode(_small(start, grid)).detach().movedim(1, -1)
    pull = PULL * (1 - start.strength) / max(start.strength, 1e-3)
    everywhere = torch.full((len(start.rngs), *grid), FREE, device=device)
    return _proposed(start, everywhere, Near(vectors.expand(len(start.rngs), -1, -1, -1), pull))


def _proposed(start: Start, given: Tensor | None, near: Near | None) -> Tensor:
    """What the prior proposes, in the size of the start."""
    assert start.propose is not None, "the pipeline gives a proposer where the prior draws"
    latent = start.vqgan.lookup(start.propose(start.rngs, given, near))
    formed = _grid(start, min(latent.shape[-2:]))
    if latent.shape[-2:] != formed:
        latent = _edges_extended(start.coded, latent, formed)
    grid = start.coded.grid
    return latent if latent.shape[-2:] == grid else resized(start.vqgan, latent, grid)


def _given(start: Start) -> Tensor | None:
    """The codes of the user's picture that stay, and FREE for the others, in a grid that the prior can fill."""
    if start.kept is None or start.image is None:
        return None
    grid, device = _grid(start, start.side), start.vqgan.codebook.device
    with torch.no_grad():
        codes = start.vqgan.codes(start.vqgan.encode(_small(start, grid)))
    return torch.where(stays(start.kept, grid)[:, 0].to(device), codes, FREE)


def _small(start: Start, grid: tuple[int, int]) -> Tensor:
    """The user's picture in the size that this grid stands for."""
    assert start.image is not None
    size = [length * start.vqgan.factor for length in grid]
    image = F.interpolate(start.image.to(start.vqgan.codebook.device), size, mode="bicubic", antialias=True)
    return image.clamp(0, 1)


def _grid(start: Start, side: int) -> tuple[int, int]:
    """The cells (h, w) of a picture of this form whose short side has `side` of them."""
    height, width = start.drawer.size
    short = min(width, height)
    return round(height * side / short), round(width * side / short)


@torch.no_grad()
def _edges_extended(drawer: VqganDrawer, latent: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return latents (N, C, *grid) of the same pictures in the middle of larger ones, their edges going on around."""
    before = [(outer - inner) // 2 for outer, inner in zip(grid, latent.shape[-2:], strict=True)]
    after = [outer - inner - pad for outer, inner, pad in zip(grid, latent.shape[-2:], before, strict=True)]
    pads = [drawer.vqgan.factor * pad for pad in (before[1], after[1], before[0], after[0])]
    return drawer.encode(F.pad(drawer.vqgan.render(latent), pads, mode="replicate"))


def _from_image(start: Start) -> Tensor:
    """The user's picture, the same for every picture of the run or one for each."""
    assert start.image is not None, "Config requires init.image for init.kind=image"
    latent = start.drawer.encode(start.image)
    return latent.expand(len(start.rngs), *latent.shape[1:]).clone()


def _from_noise(start: Start) -> Tensor:
    """What shows nothing."""
    return start.drawer.noise(start.rngs)


def _from_grey(start: Start) -> Tensor:
    """Mid-grey all over."""
    return start.drawer.encode(torch.full((len(start.rngs), 3, *start.drawer.size), 0.5))


def _from_gradient(start: Start) -> Tensor:
    """Four random corner colours, blended bilinearly."""
    corners = torch.stack([torch.rand(3, 2, 2, generator=rng) for rng in start.rngs])
    return start.drawer.encode(F.interpolate(corners, start.drawer.size, mode="bilinear", align_corners=True))


INITS: dict[str, Callable[[Start], Tensor]] = {
    "prior": _from_prior,
    "redraw": _redrawn,
    "vary": _redrawn,
    "codes": _from_codes,
    "image": _from_image,
    "bent": _from_image,
    "noise": _from_noise,
    "grey": _from_grey,
    "gradient": _from_gradient,
}
