"""Proposals: the prior draws several pictures for a caption as codes, and the best of them is where a run starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from vqclip.common.errors import UsageError
from vqclip.common.runtime import autocast
from vqclip.models.caption_tokeniser import caption_tokeniser
from vqclip.models.files import PriorFiles
from vqclip.models.prior import Prior, Sampling, load_prior
from vqclip.models.vqgan import VQGAN

DECODED = 16
"""Pictures decoded at once for the ranking."""


@dataclass(frozen=True)
class Proposer:
    """A prior, the tokeniser of its captions, the VQGAN that its codes belong to, and in what that one computes."""

    prior: Prior
    tokenise: Callable[[list[str]], Tensor]
    vqgan: VQGAN
    precision: str = "fp32"

    def draw(self, captions: Sequence[str], candidates: int, rngs: Sequence[Generator], sampling: Sampling) -> Tensor:
        """Draw codes (N, candidates, side, side), one row per caption and its CPU generator.

        A row depends on its own caption and generator alone, up to rounding. An empty caption is any picture.
        """
        side = self.prior.sizes.side
        device = self.prior.codebook.device
        numbers = torch.cat([torch.rand(candidates, side, side, generator=rng) for rng in rngs])
        tokens = torch.stack([self._tokens(caption) for caption in captions]).repeat_interleave(candidates, 0)
        codes = self.prior.sample(tokens.to(device), numbers.to(device), sampling)
        return codes.unflatten(0, (len(captions), candidates))

    @torch.no_grad()
    def pictures(self, codes: Tensor) -> Tensor:
        """Decode codes (M, side, side) to pictures (M, 3, H, W) in [0, 1]."""
        with autocast(codes.device, self.precision):
            parts = [self.vqgan.decode(self.vqgan.lookup(part)) for part in codes.split(DECODED)]
        return torch.cat(parts).float().clamp(0, 1)

    def _tokens(self, caption: str) -> Tensor:
        if not caption:
            return torch.zeros(self.prior.sizes.context, dtype=torch.long)
        return self.tokenise([caption])[0]


def load_proposer(files: PriorFiles, vqgan: VQGAN, precision: str = "fp32") -> Proposer:
    """Load the prior for this VQGAN, on the VQGAN's device.

    Raises:
        ModelError: a file is missing or damaged.
        UsageError: the prior was trained on another VQGAN's codes.
    """
    prior = load_prior(files.path).to(vqgan.codebook.device)
    if prior.codebook.shape != vqgan.codebook.shape or not torch.allclose(prior.codebook, vqgan.codebook, atol=1e-3):
        raise UsageError(
            f"The prior {files.name!r} belongs to another VQGAN: set init.kind to codes, or prior.name to its own."
        )
    return Proposer(prior, caption_tokeniser(files.merges, prior.sizes.context), vqgan, precision)


def best_proposals(
    proposer: Proposer,
    captions: Sequence[str],
    candidates: int,
    rngs: Sequence[Generator],
    sampling: Sampling,
    rank: Callable[[Tensor], Tensor],
) -> Tensor:
    """Return for each caption the codes (N, side, side) of the best of its candidates.

    `rank` turns pictures (N, candidates, 3, H, W) into scores (N, candidates), where more is better.
    """
    codes = proposer.draw(captions, candidates, rngs, sampling)
    if candidates == 1:
        return codes[:, 0]
    pictures = proposer.pictures(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
    return codes[torch.arange(len(codes)), rank(pictures).argmax(1).cpu()]
