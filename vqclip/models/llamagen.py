"""LlamaGen's names of a VQGAN's tensors, and ours.

P. Sun et al., "Autoregressive Model Beats Diffusion: Llama for Scalable Image Generation" (2024,
https://arxiv.org/abs/2406.06525): the network is taming-transformers', its levels and the parts of its middle are
lists, those of the decoder in the order in which they run; latents and entries have unit length.
"""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

QUANTISER = "l2"
"""What finds the entries of such a file."""

LEVEL = re.compile(r"(encoder|decoder)\.conv_blocks\.(\d+)\.(res|attn|downsample|upsample)\.(.+)")
MIDDLE = re.compile(r"(encoder|decoder)\.mid\.([012])\.(.+)")
SIDES, PARTS = {"encoder": "down", "decoder": "up"}, {"res": "block"}
MIDDLES = ("block_1", "attn_1", "block_2")
USE = "quantize.codebook_used"
"""A record of training."""


def is_llamagen(names: Iterable[str]) -> bool:
    """Whether tensors have LlamaGen's names."""
    return any(LEVEL.fullmatch(name) for name in names)


def in_our_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors of a file of LlamaGen's under taming-transformers' names; others stay as they are."""
    levels = {int(found[2]) for name in tensors if (found := LEVEL.fullmatch(name)) and found[1] == "decoder"}
    return {_our_name(name, len(levels)): tensor for name, tensor in tensors.items() if name != USE}


def _our_name(name: str, levels: int) -> str:
    if found := LEVEL.fullmatch(name):
        side, number, part, rest = found[1], int(found[2]), found[3], found[4]
        level = number if side == "encoder" else levels - 1 - number
        return f"{side}.{SIDES[side]}.{level}.{PARTS.get(part, part)}.{rest}"
    if found := MIDDLE.fullmatch(name):
        return f"{found[1]}.mid.{MIDDLES[int(found[2])]}.{found[3]}"
    return name
