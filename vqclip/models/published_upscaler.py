"""Upscalers of other makers, through spandrel (https://github.com/chaiNNer-org/spandrel): Real-ESRGAN, SwinIR, DAT,
SPAN and some forty more networks, each told by its tensors. spandrel never sees the file, only what our reader read.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from vqclip.common.errors import ModelError

REACH = 32
"""Pixels around a tile that a network is shown. Many could look further, but hardly do; Real-ESRGAN's own program
shows 10."""

PIXEL_BYTES = 1000
"""What a pixel of the large picture takes at most while Real-ESRGAN's x4plus draws it (measured on a CPU: 710 to 960).
"""


@dataclass(frozen=True)
class PublishedUpscaler:
    """A network of spandrel's, as `enlarge.Network` says; it pads small pictures to the sides that it needs."""

    network: Callable[[Tensor], Tensor]
    scale: int
    pixel_bytes: int
    reach: int = REACH

    def __call__(self, images: Tensor) -> Tensor:
        """(1, 3, h, w) in [0, 1] ─▶ (1, 3, scale · h, scale · w) in [0, 1]."""
        return self.network(images)


def load_published(path: Path, tensors: dict[str, Tensor], device: torch.device) -> PublishedUpscaler:
    """Make the network that tensors (fp32, by name) belong to; `path` is where they were read.

    Raises:
        ModelError: spandrel is not there, does not know it, or it is none that makes RGB of RGB.
    """
    if find_spec("spandrel") is None:
        raise ModelError(
            f"The upscaler {str(path)!r} is damaged, or of a form that needs another package: "
            "pip install 'vqclip[upscale]'."
        )
    from spandrel import ImageModelDescriptor, ModelLoader, ModelTiling, UnsupportedModelError

    try:
        found = ModelLoader(device).load_from_state_dict(dict(tensors))
    except UnsupportedModelError as error:
        raise ModelError(f"{str(path)!r} is not an upscaler, or one of an architecture that is not known.") from error
    except Exception as error:  # its networks are built from the tensors' shapes and fail in every way
        raise ModelError(f"The upscaler {str(path)!r} is damaged: its tensors do not fit together.") from error
    if not isinstance(found, ImageModelDescriptor) or (found.input_channels, found.output_channels) != (3, 3):
        raise ModelError(f"{str(path)!r} holds a network that does not make an RGB picture of an RGB picture.")
    found.model.eval().requires_grad_(False)
    whole = found.tiling is not ModelTiling.SUPPORTED
    return PublishedUpscaler(found, found.scale, 0 if whole else PIXEL_BYTES * found.scale**2)
