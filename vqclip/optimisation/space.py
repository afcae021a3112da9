"""What is optimised: the latent, or logits over the codebook's entries."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from vqclip.models.drawers.drawer import Space
from vqclip.models.vqgan import VQGAN

SOFTNESS = 0.1
"""Softmax temperature of the logits, in mean squared distances of an entry to all entries' mean."""


def latent_space(vqgan: VQGAN) -> tuple[Space, Callable[[Tensor], Tensor]]:
    """The latent itself, between the codebook's bounds; the nearest entries are drawn (Crowson's z + quantize)."""
    return Space(vqgan.bounds, vqgan.codebook.float().std(0).view(1, -1, 1, 1)), vqgan.quantise


def logits_space(vqgan: VQGAN) -> tuple[Space, Callable[[Tensor], Tensor]]:
    """Logits (N, K, h, w) over the K entries, without bounds; the likeliest entry is drawn.

    The gradient is that of the softmax's mean entry (straight-through), as in Katherine Crowson's codebook-sampling
    notebook, there with samples. A latent's logits are its squared distances to the entries.
    """
    entries = vqgan.codebook.float()
    scale = 1 / (SOFTNESS * entries.var(0, correction=0).sum())

    def enter(latent: Tensor) -> Tensor:
        vectors = latent.float().movedim(1, -1)
        return (
            (-scale * torch.cdist(vectors.flatten(0, 2), entries).square())
            .unflatten(0, vectors.shape[:3])
            .movedim(-1, 1)
        )

    def leave(logits: Tensor) -> Tensor:
        return vqgan.lookup(logits.argmax(1))

    def quantise(logits: Tensor) -> Tensor:
        soft = torch.einsum("nkhw,kc->nchw", logits.softmax(1), entries)
        return leave(logits) + (soft - soft.detach())

    everything = entries.new_full((), torch.inf)
    return Space((-everything, everything), torch.ones_like(everything), enter, leave), quantise


SPACES: Mapping[str, Callable[[VQGAN], tuple[Space, Callable[[Tensor], Tensor]]]] = {
    "latent": latent_space,
    "logits": logits_space,
}
"""A space, and what turns its numbers into the entries (N, C, h, w) that are drawn, with a gradient."""
