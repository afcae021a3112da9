"""Proposals: the prior draws several pictures for a caption as codes, and the best of them is where a run starts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from vqclip.common.errors import UsageError
from vqclip.common.runtime import autocast
from vqclip.models.caption_tokeniser import caption_tokeniser
from vqclip.models.files import PriorFiles
from vqclip.models.prior import FREE, Near, Prior, Sampling, load_prior
from vqclip.models.vqgan import VQGAN

DRAWN = 64
"""Pictures drawn at once, however many are asked for."""

DECODED = 16
"""Pictures decoded at once for the ranking."""


@dataclass(frozen=True)
class Proposer:
    """A prior, the tokeniser of its captions, the VQGAN that its codes belong to, and in what that one computes."""

    prior: Prior
    tokenise: Callable[[list[str]], Tensor]
    vqgan: VQGAN
    precision: str = "fp32"

    def draw(
        self,
        captions: Sequence[str],
        candidates: int,
        rngs: Sequence[Generator],
        sampling: Sampling,
        given: Tensor | None = None,
        near: Near | None = None,
    ) -> Tensor:
        """Draw codes (N, candidates, side, side), one row per caption and its CPU generator.

        A row depends on its own caption and generator alone, up to rounding. An empty caption is any picture. `given`
        (N, side, side) are codes that all candidates of a row share, and `near` (N, side, side, C) what they all lie
        near to, as in `Prior.sample`.
        """
        side = self.prior.sizes.side
        device = self.prior.codebook.device
        numbers = torch.cat([torch.rand(candidates, side, side, generator=rng) for rng in rngs])
        tokens = torch.stack([self._tokens(caption) for caption in captions]).repeat_interleave(candidates, 0)
        shared = None if given is None else given.repeat_interleave(candidates, 0).to(device)
        near = near and Near(near.vectors.repeat_interleave(candidates, 0).to(device), near.pull)
        tokens, numbers, codes = tokens.to(device), numbers.to(device), []
        for start in range(0, len(tokens), DRAWN):
            rows = slice(start, start + DRAWN)
            known, around = None if shared is None else shared[rows], near and Near(near.vectors[rows], near.pull)
            codes.append(self.prior.sample(tokens[rows], numbers[rows], sampling, known, around))
        return torch.cat(codes).unflatten(0, (len(captions), candidates))

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
    given: Tensor | None = None,
    near: Near | None = None,
) -> Tensor:
    """Return for each caption the codes (N, side, side) of the best of its candidates.

    `rank` turns pictures (N, candidates, 3, H, W) into scores (N, candidates), where more is better; `given` are codes
    to keep, and `near` what to lie near to, as in `Prior.sample`.
    """
    codes = proposer.draw(captions, candidates, rngs, sampling, given, near)
    if candidates == 1:
        return codes[:, 0]
    pictures = proposer.pictures(codes.flatten(0, 1)).unflatten(0, codes.shape[:2])
    return codes[torch.arange(len(codes)), rank(pictures).argmax(1).cpu()]


def seam(pictures: Tensor, given: Tensor) -> Tensor:
    """Return how far the colours differ across the border between given and FREE codes (N, h, w), in pictures
    (N, M, 3, H, W) made of them: the mean over neighbouring cells, (N, M); 0 where there is no border.
    """
    cells = F.adaptive_avg_pool2d(pictures.flatten(0, 1), (given.shape[1], given.shape[2])).unflatten(
        0, pictures.shape[:2]
    )
    total, count = pictures.new_zeros(pictures.shape[:2]), pictures.new_zeros(len(pictures), 1)
    free = given == FREE
    for axis in (-2, -1):
        border = free.diff(dim=axis)[:, None]
        total += (cells.diff(dim=axis).abs().mean(2) * border).flatten(2).sum(2)
        count += border.flatten(2).sum(2)
    return total / count.clamp(min=1)


def fill_free(given: Tensor, side: int, draw: Callable[[Tensor, tuple[slice, slice]], Tensor]) -> Tensor:
    """Replace every FREE among given codes (N, h, w), h and w at least `side`, by strides of windows that overlap.

    `draw` fills one window (N, side, side), given with its rows and columns. Each time the window that knows most comes
    next, so that what is new grows from what is there.
    """
    codes = given.clone()
    places = [(top, left) for top in _strides(given.shape[1], side) for left in _strides(given.shape[2], side)]
    while places:
        spans = {place: (slice(place[0], place[0] + side), slice(place[1], place[1] + side)) for place in places}
        windows = {place: codes[:, rows, columns] for place, (rows, columns) in spans.items()}
        free = {place: int((window == FREE).sum()) for place, window in windows.items()}
        places = [place for place in places if free[place]]
        if places:
            nearest = min(places, key=lambda place: free[place])
            windows[nearest].copy_(draw(windows[nearest], spans[nearest]))
    return codes


def _strides(length: int, side: int) -> list[int]:
    """First places of windows that cover a length, each half over the one before."""
    return sorted({*range(0, length - side, side // 2), length - side})
