"""Where a run starts: the prior's proposal, random codes, a picture, noise or a gradient, as a latent of entries."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vqclip.common.registry import pick
from vqclip.models.vqgan import VQGAN
from vqclip.optimisation.pyramid import resized

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Start:
    """What an init may use: the VQGAN, the size in pixels (multiples of its factor), one CPU generator
    per picture, the user's picture (1, 3, H, W) in [0, 1], if any, and what draws codes (N, side, side) for
    the prompts, if anything does.
    """

    vqgan: VQGAN
    width: int
    height: int
    rngs: Sequence[Generator]
    image: Tensor | None = None
    propose: Callable[[Sequence[Generator]], Tensor] | None = None


def first_latent(kind: str, start: Start) -> Tensor:
    """Return the first latent (N, C, h, w), every vector of it an entry of the codebook.

    Raises:
        UsageError: an unknown kind.
    """
    return pick(INITS, kind, "init.kind")(start)


def _from_codes(start: Start) -> Tensor:
    """Uniformly random codes (Crowson's notebooks, `one_hot @ codebook`)."""
    shape = (start.height // start.vqgan.factor, start.width // start.vqgan.factor)
    entries = start.vqgan.codebook.shape[0]
    codes = torch.stack([torch.randint(entries, shape, generator=rng) for rng in start.rngs])
    return start.vqgan.lookup(codes.to(start.vqgan.codebook.device))


def _from_prior(start: Start) -> Tensor:
    """The prior's best proposal; where the picture has another size, the proposal enlarged and encoded again."""
    assert start.propose is not None, "the pipeline gives a proposer for init.kind=prior"
    latent = start.vqgan.lookup(start.propose(start.rngs))
    grid = (start.height // start.vqgan.factor, start.width // start.vqgan.factor)
    return latent if latent.shape[-2:] == grid else resized(start.vqgan, latent, grid)


def _from_image(start: Start) -> Tensor:
    """The user's picture, the same for every picture of the run."""
    assert start.image is not None, "Config requires init.image for init.kind=image"
    return _encode(start.vqgan, start.image).expand(len(start.rngs), -1, -1, -1).clone()


def _from_noise(start: Start) -> Tensor:
    """Uniform noise, each pixel on its own (nerdyrodent's `pixels`)."""
    images = [torch.rand(3, start.height, start.width, generator=rng) for rng in start.rngs]
    return _encode(start.vqgan, torch.stack(images))


def _from_gradient(start: Start) -> Tensor:
    """Four random corner colours, blended bilinearly."""
    corners = torch.stack([torch.rand(3, 2, 2, generator=rng) for rng in start.rngs])
    size = (start.height, start.width)
    return _encode(start.vqgan, F.interpolate(corners, size, mode="bilinear", align_corners=True))


@torch.no_grad()
def _encode(vqgan: VQGAN, images: Tensor) -> Tensor:
    return vqgan.quantise(vqgan.encode(images.to(vqgan.codebook.device)))


INITS: dict[str, Callable[[Start], Tensor]] = {
    "prior": _from_prior,
    "codes": _from_codes,
    "image": _from_image,
    "noise": _from_noise,
    "gradient": _from_gradient,
}
