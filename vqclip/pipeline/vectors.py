"""Files of vectors: a direction or a meaning as each guide embeds it, one tensor (D,) by the guide's name.

A safetensors file, whose header says with which weights each was made, so that no other guide takes it for its own.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import safetensors.torch
import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.files import write_bytes
from vqclip.common.registry import shown
from vqclip.common.text import parse_json, utf8
from vqclip.models.provenance import ModelHash

LARGEST = 2**26
"""Bytes of a file of vectors that are read."""


@dataclass(frozen=True)
class Vectors:
    """Unit vectors (D,) by the names of their guides, the SHA-256 of these where it is known, and what they say."""

    of: Mapping[str, Tensor]
    weights: Mapping[str, str] = field(default_factory=dict)
    says: str = ""

    def of_guide(self, guide: ModelHash, width: int, file: str) -> Tensor:
        """Return the vector of the guide whose weights these are, whatever it is called.

        Raises:
            UsageError: there is none, or one of other weights or of another width than the guide's.
        """
        again = f"make one with vqclip embed -m {guide.name}"
        name = next((name for name, sha256 in self.weights.items() if sha256 == guide.sha256), guide.name)
        if name not in self.of:
            known = ", ".join(map(repr, sorted(self.of)))
            raise UsageError(f"The vectors {file!r} are of {known} and none of {guide.name!r}; {again}.")
        if len(self.of[name]) != width:
            raise UsageError(
                f"The vector {file!r} has {len(self.of[name])} numbers, those of {guide.name!r} have {width}; {again}."
            )
        if self.weights.get(name, guide.sha256) != guide.sha256:
            raise UsageError(f"The vector {file!r} was made with other weights of {guide.name!r}; {again}.")
        return self.of[name]


def read_vectors(data: bytes, file: str) -> Vectors:
    """Read what `write_vectors` wrote, or any safetensors file of one-dimensional tensors; `file` names it.

    Raises:
        UsageError: it is none.
    """
    wrong = f"Cannot read the vectors {file!r}"
    if len(data) > LARGEST:
        raise UsageError(f"{wrong}: they are over {LARGEST // 2**20} MiB.")
    try:
        tensors = safetensors.torch.load(data)
        header = parse_json(data[8 : 8 + int.from_bytes(data[:8], "little")]).get("__metadata__", {})
        weights = json.loads(header.get("models", "{}"))
    except (SafetensorError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise UsageError(f"{wrong}: it is no safetensors file of vectors; vqclip embed makes one.") from error
    if not tensors or not isinstance(weights, dict):
        raise UsageError(f"{wrong}: there is none in it.")
    for name, tensor in tensors.items():
        whole = tensor.dim() == 1 and tensor.is_floating_point()
        if not (whole and tensor.isfinite().all() and float(tensor.float().norm()) > 0):
            raise UsageError(f"{wrong}: {shown(name)} is no vector of finite numbers.")
    unit = {name: F.normalize(tensor.float(), dim=0) for name, tensor in tensors.items()}
    return Vectors(unit, {str(name): str(sha256) for name, sha256 in weights.items()}, str(header.get("says", "")))


def write_vectors(path: Path, guides: Sequence[ModelHash], vectors: Sequence[Tensor], says: str) -> None:
    """Write a vector (D,) for each guide; `says` is what they were made of, in words."""
    header = {
        "format": "vqclip vectors",
        "models": json.dumps({utf8(each.name): each.sha256 for each in guides}),
        "says": utf8(says),
    }
    named = {
        utf8(guide.name): vector.detach().to("cpu", torch.float32)
        for guide, vector in zip(guides, vectors, strict=True)
    }
    write_bytes(path, safetensors.torch.save(named, header))
