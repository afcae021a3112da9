"""Turn a pickle that wants to run code into safetensors: python -m vqclip.hub.trusted_pickle SOURCE TARGET.

It runs in a process of its own, and only on files that the catalogue knows by their hash or that the user vouched for.
Classes that are not installed are replaced by empty ones: only the tensors matter.
"""

import pickle
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from safetensors.torch import save_file

from vqclip.models.weights.reader import named_tensors


class Lenient(pickle.Unpickler):
    """Unpickles with an empty class in place of each that cannot be imported."""

    def find_class(self, module: str, name: str) -> Any:
        """The class or function of that name, or an empty class."""
        try:
            return super().find_class(module, name)
        except (ImportError, AttributeError):
            return type(name, (_Anything,), {})


class _Anything(dict):
    """Takes any arguments and any state."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Forget it."""


def convert(source: Path, target: Path) -> None:
    """Write the tensors of `source` to `target`."""
    reader = SimpleNamespace(Unpickler=Lenient, load=pickle.load, __name__="pickle")
    content = torch.load(source, map_location="cpu", weights_only=False, pickle_module=reader)
    tensors = {name: value.clone().contiguous() for name, value in named_tensors(content).items()}
    save_file(tensors, target)


if __name__ == "__main__":
    convert(Path(sys.argv[1]), Path(sys.argv[2]))
