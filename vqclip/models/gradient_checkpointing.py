"""A decoder that keeps only what goes into each of its blocks, and computes the rest again in the backward pass.

Chen, Xu, Zhang, Guestrin 2016, "Training Deep Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174.
"""

import copy
from functools import partial
from itertools import chain
from typing import Any

from torch import nn
from torch.utils.checkpoint import checkpoint

from vqclip.models.vqgan import VQGAN


def blocks(vqgan: VQGAN) -> list[nn.Module]:
    """Return what the decoder is made of: residual and attention blocks, and what doubles the sides."""
    decoder: Any = vqgan.decoder
    found = list(decoder.mid.children())
    for level in decoder.up:
        found += [*level.block, *level.attn, *([level.upsample] if hasattr(level, "upsample") else [])]
    return found


def checkpointed(vqgan: VQGAN) -> VQGAN:
    """Return the same VQGAN, weights shared, that keeps the input of each block only: the same picture and gradient."""
    shared = {id(tensor): tensor for tensor in chain(vqgan.parameters(), vqgan.buffers())}
    light = copy.deepcopy(vqgan, shared)
    for block in blocks(light):  # nothing in them draws random numbers
        vars(block)["forward"] = partial(checkpoint, block.forward, use_reentrant=False, preserve_rng_state=False)
    return light
