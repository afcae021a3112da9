"""What a CLIP's image tower sees before it knows what is there: the features of an early layer, place by place."""

from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqclip.common.errors import UsageError
from vqclip.models.perceptor import Perceptor

EARLY = 3
"""Blocks of a transformer behind which its tokens are read: of 12, a quarter."""


class EarlyFeatures:
    """An early layer of a perceptor's tower: the third block of a transformer, the first stage of a convolutional one.

    Raises:
        UsageError: a tower of another build.
    """

    def __init__(self, perceptor: Perceptor) -> None:
        self.perceptor = perceptor
        self.next = _behind_early(perceptor)

    def __call__(self, images: Tensor) -> Tensor:
        """Return the features (N, P, D) of pictures (N, 3, H, W) in [0, 1] at P places, with a gradient."""
        seen: list[Tensor] = []
        handle = self.next.register_forward_pre_hook(lambda layer, given: seen.append(given[0]))
        try:
            self.perceptor.encode_image(self.perceptor.view(images))
        finally:
            handle.remove()
        features = seen[0].float()
        if features.dim() == 4:
            return features.flatten(2).mT
        return F.layer_norm(features[:, 1:], features.shape[-1:])  # without the token of the whole


def _behind_early(perceptor: Perceptor) -> nn.Module:
    """The layer that is given these features; the last block of a quick transformer returns a single token."""
    visual: Any = perceptor.model.visual
    blocks = getattr(getattr(visual, "transformer", None), "resblocks", None)
    blocks = blocks if blocks is not None else getattr(getattr(visual, "trunk", None), "blocks", None)
    if blocks is not None:
        return cast(nn.Module, blocks[min(EARLY, len(blocks) - 1)])
    stages = getattr(getattr(visual, "trunk", None), "stages", None)
    second = stages[1] if stages is not None else getattr(visual, "layer2", None)
    if second is None:
        raise UsageError(
            f"The loss 'style' cannot look into {perceptor.name!r}; it is for ViT, ResNet and ConvNeXt towers."
        )
    return cast(nn.Module, second)


@torch.no_grad()
def width_of(perceptor: Perceptor) -> int:
    """Return the length D of a perceptor's vectors."""
    side = perceptor.size
    return int(perceptor.encode_image(torch.zeros(1, 3, side, side, device=perceptor.device)).shape[1])
