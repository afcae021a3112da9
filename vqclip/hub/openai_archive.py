"""Turn one of OpenAI's TorchScript CLIP archives into safetensors: python -m vqclip.hub.openai_archive SOURCE TARGET.

It runs in a process of its own, and only on files whose sha256 is known, because opening a
TorchScript archive makes torch read a program.
"""

import sys
import warnings
from pathlib import Path

import torch
from safetensors.torch import save_file

NOT_WEIGHTS = ("input_resolution", "context_length", "vocab_size")


def convert(source: Path, target: Path) -> None:
    """Write the archive's tensors, as they are (half precision in the published files), to `target`."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        state = torch.jit.load(source, map_location="cpu").state_dict()
    tensors = {name: tensor.clone().contiguous() for name, tensor in state.items() if name not in NOT_WEIGHTS}
    save_file(tensors, target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
