"""A decoder that keeps only what goes into each of its blocks, and computes the rest again on the way back.

Chen, Xu, Zhang, Guestrin 2016, "Training Deep Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174.
"""

import contextlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, Protocol

from torch import nn
from torch.utils.checkpoint import checkpoint


class Decoder(Protocol):
    """taming's decoder, or one that stands in for it."""

    @property
    def mid(self) -> nn.Module:
        """The blocks of the smallest size."""

    @property
    def up(self) -> Any:
        """The levels of growing size."""


def blocks(decoder: Decoder) -> list[nn.Module]:
    """Return what taming's decoder is made of: residual and attention blocks, and what doubles the sides."""
    found = list(decoder.mid.children())
    for level in decoder.up:
        found += [*level.block, *level.attn, *([level.upsample] if hasattr(level, "upsample") else [])]
    return found


@contextlib.contextmanager
def checkpointed(decoder: Decoder) -> Iterator[None]:
    """Within this, a forward pass keeps the input of each block only; picture and gradient are the same."""
    replaced = [(vars(block), vars(block).get("forward")) for block in blocks(decoder)]
    for block in blocks(decoder):
        vars(block)["forward"] = _again(block.forward)
    try:
        yield
    finally:
        for attributes, own in replaced:
            del attributes["forward"]
            if own is not None:
                attributes["forward"] = own


def _again(forward: Callable[..., Any]) -> Callable[..., Any]:
    """Run a block now, and once more when its gradient is wanted; nothing in it draws random numbers."""
    return partial(checkpoint, forward, use_reentrant=False, preserve_rng_state=False)
