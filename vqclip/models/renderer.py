"""From latents to pictures while optimising, with the gradient, and with less memory where that is short."""

import contextlib

import torch
from torch import Tensor

from vqclip.common.runtime import autocast
from vqclip.models.gradient_checkpointing import checkpointed
from vqclip.models.vqgan import VQGAN, clamp_with_grad


class Renderer:
    """Turns latents (N, C, h, w) into pictures (N, 3, H, W) in [0, 1]; the codebook is searched in fp32.

    A `light` one keeps less of the decoder for the way back and computes it again there: the same numbers, later.
    """

    def __init__(self, vqgan: VQGAN, device: torch.device, precision: str, light: bool = False) -> None:
        self.vqgan, self.device, self.precision, self.light = vqgan, device, precision, light

    def __call__(self, latent: Tensor) -> Tensor:
        """Return the pictures."""
        quantised = self.vqgan.quantise(latent)
        sparing = checkpointed(self.vqgan.decoder) if self.light else contextlib.nullcontext()
        with autocast(self.device, self.precision), sparing:
            images = self.vqgan.decode(quantised)
        return clamp_with_grad(images.float())

    def lighten(self) -> bool:
        """Need less memory from now on; return False where that is done already."""
        changed, self.light = not self.light, True
        return changed
