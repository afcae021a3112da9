"""From latents to pictures while optimising, with the gradient, and with less memory where that is short."""

from collections.abc import Callable

import torch
from torch import Tensor

from vqclip.common.runtime import autocast
from vqclip.models.gradient_checkpointing import checkpointed
from vqclip.models.vqgan import VQGAN, clamp_with_grad


class Renderer:
    """Turns latents (N, C, h, w) into pictures (N, 3, H, W) in [0, 1]; the codebook is searched in fp32.

    `quantise` may take the place of the VQGAN's own: from any numbers to entries (N, C, h, w), with a gradient.

    With `low_memory` it keeps less of the decoder for the backward pass and computes it again there: the same numbers,
    later.
    """

    def __init__(
        self,
        vqgan: VQGAN,
        device: torch.device,
        precision: str,
        low_memory: bool = False,
        quantise: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.vqgan, self.device, self.precision, self.low_memory = vqgan, device, precision, False
        self.quantise = quantise or vqgan.quantise
        if low_memory:
            self.reduce_memory()

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the pictures."""
        quantised = self.quantise(latent)
        with autocast(self.device, self.precision):
            images = self.vqgan.decode(quantised)
        return clamp_with_grad(images.float())

    def reduce_memory(self) -> bool:
        """Need less memory from now on; return False where that is done already."""
        if self.low_memory:
            return False
        self.vqgan, self.low_memory = checkpointed(self.vqgan), True
        return True
