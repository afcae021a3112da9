"""The upscaler: a small convolutional network that draws a picture anew with twice (or `scale` times) the side.

The network and its parameter names are SRVGGNetCompact's of Real-ESRGAN (Wang et al. 2021,
https://arxiv.org/abs/2107.10833): all convolutions work at the small size, a pixel shuffle makes the large picture,
and what they compute is added to the picture with every pixel repeated. Programs that know that layout (spandrel)
read our file, and files of that layout are read here.
"""

import math
import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn

from vqclip.common.errors import ModelError
from vqclip.models.weights.reader import read_tensors
from vqclip.models.weights.unfilled import unfilled


@dataclass(frozen=True)
class UpscalerSizes:
    """What to build: `depth` convolutions of `features` channels between the first and the last, for pictures
    `scale` times as wide and high.
    """

    features: int
    depth: int
    scale: int


LAYER = re.compile(r"body\.\d+\.weight", re.ASCII)


class Upscaler(nn.Module):
    """Pictures (N, 3, h, w) in [0, 1] ─▶ (N, 3, scale · h, scale · w), near [0, 1] but not clipped."""

    def __init__(self, sizes: UpscalerSizes) -> None:
        super().__init__()
        widths = [3, *[sizes.features] * (sizes.depth + 1)]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.PReLU(after)]
        self.body = nn.Sequential(*layers, nn.Conv2d(sizes.features, 3 * sizes.scale**2, 3, padding=1))
        self.sizes = sizes

    @property
    def scale(self) -> int:
        """How many times the sides grow."""
        return self.sizes.scale

    @property
    def pixel_bytes(self) -> int:
        """Bytes that a pixel of the small picture takes: features before and after a PReLU, and the end."""
        return 4 * (3 * self.sizes.features + 4 * 3 * self.sizes.scale**2)

    @property
    def reach(self) -> int:
        """How many pixels of the small picture around a pixel its result depends on, in each direction."""
        return self.sizes.depth + 2

    def forward(self, images: Tensor) -> Tensor:
        """images (N, 3, h, w) in [0, 1], whatever h and w."""
        scale = self.sizes.scale
        return F.pixel_shuffle(self.body(images), scale) + F.interpolate(images, scale_factor=float(scale))


def infer_sizes(shapes: dict[str, tuple[int, ...]]) -> UpscalerSizes | None:
    """Read the sizes off the tensors' shapes, by name; None where they cannot be this network's."""
    count = sum(bool(LAYER.fullmatch(name)) for name in shapes)
    if count < 3 or not all(f"body.{number}.weight" in shapes for number in range(count)):
        return None
    first, last = shapes["body.0.weight"], shapes[f"body.{count - 1}.weight"]
    if len(first) != 4 or len(last) != 4:
        return None
    scale = math.isqrt(last[0] // 3)
    return UpscalerSizes(features=first[0], depth=(count - 3) // 2, scale=scale) if scale else None


def upscaler_of(tensors: dict[str, Tensor]) -> Upscaler | None:
    """Make the network that tensors (fp32, by name) are the weights of, in evaluation mode and frozen; None where they
    are another network's.
    """
    sizes = infer_sizes({name: tuple(tensor.shape) for name, tensor in tensors.items()})
    if sizes is None:
        return None
    with unfilled():
        model = Upscaler(sizes)
    try:
        model.load_state_dict(tensors, strict=True, assign=True)
    except RuntimeError:
        return None
    return model.eval().requires_grad_(False)


def load_upscaler(path: Path) -> Upscaler:
    """Load an upscaler of this form on the CPU in fp32. No code in the file is run.

    Raises:
        ModelError: the file is missing, damaged, refused, or of another architecture.
    """
    model = upscaler_of({name: tensor.float() for name, tensor in read_tensors(path).items()})
    if model is None:
        raise ModelError(
            f"{str(path)!r} is damaged, or is not an upscaler of the compact form (SRVGGNetCompact) that vqclip reads."
        )
    return model
