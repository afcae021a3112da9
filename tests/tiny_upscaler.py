"""Upscalers of random weights, as files of our own form and of a published one."""

from pathlib import Path

import torch
from safetensors.torch import save_file

from vqclip.models.upscaler import Upscaler, UpscalerSizes

TWICE = UpscalerSizes(6, 1, 2)


def random_upscaler(sizes: UpscalerSizes = TWICE, seed: int = 0) -> Upscaler:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Upscaler(sizes).requires_grad_(False)


def save(model: Upscaler, path: Path, half: bool = False) -> Path:
    save_file({name: (value.half() if half else value) for name, value in model.state_dict().items()}, path)
    return path


def save_published(path: Path, scale: int = 4) -> Path:
    """A small ESRGAN in the layout of Real-ESRGAN's files; as theirs, that of scale 2 is one of 4 on folded pixels."""
    from spandrel.architectures.ESRGAN import ESRGAN

    with torch.random.fork_rng():
        torch.manual_seed(0)
        fold = 4 // scale
        network = ESRGAN(
            in_nc=3 * fold**2, num_filters=8, num_blocks=1, scale=4, shuffle_factor=fold if fold > 1 else None
        )
    torch.save({"params_ema": network.state_dict()}, path)
    return path
