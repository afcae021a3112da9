"""Model files: read their tensors without running code."""

import re
import struct
import threading
import warnings
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vqclip.common.errors import ModelError
from vqclip.models.weights.file_type import FORMATS, sniff
from vqclip.models.weights.pickle_stubs import stand_ins

WRAPPERS = ("state_dict", "model", "params_ema", "params", "ema")
"""Keys under which training programs put the tensors. Of BasicSR's two the averaged ones, as its own programs do."""

WAY_OUT = (
    "load it once with a program you trust and save its tensors as safetensors, or see `vqclip models convert "
    "--trust-pickle`."
)

UNPICKLING = threading.Lock()
"""Held while a pickle is read: what torch's reader allows, and which warnings are shown, is the whole process's."""

REMEDIES = {
    "an empty file": "; fetch it again",
    "a web page": ": the link it came from is dead or wants a login; fetch the file again from another place",
    "a Git LFS pointer": "; run `git lfs pull`",
    "no checkpoint": ": it is neither safetensors nor a file of torch.save",
}
"""What `sniff` finds instead of tensors ─▶ how the sentence ends."""

DAMAGE = (
    RuntimeError,
    EOFError,
    LookupError,
    TypeError,
    ValueError,
    AttributeError,
    AssertionError,
    OSError,
    struct.error,
)
"""What torch's reader raises on a damaged file, depending on where it tears."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a safetensors file or of a torch pickle (zip or legacy), by name, on the CPU.

    Tensors of a training file are found under one of WRAPPERS. No code of the file is run
    (see `pickle_stubs.py`). The tensors are mapped from the file where its format allows, so those that nobody
    touches cost no memory.

    Raises:
        ModelError: the file is missing, empty, truncated, a web page, not a checkpoint, or wants to run code.
    """
    return READERS[_kind(path)](path)


def read_metadata(path: Path) -> dict[str, str]:
    """Return the text notes in a safetensors file's header; other files have none.

    Raises:
        ModelError: as for `read_tensors`.
    """
    if _kind(path) != "safetensors":
        return {}
    try:
        with safe_open(path, "pt") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise _damaged(path) from error


def check_finite(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """See to it that what was read from a file are numbers: one NaN makes every picture NaN.

    Raises:
        ModelError: a tensor holds NaN or infinity.
    """
    for name, tensor in tensors.items():
        if not tensor.isfinite().all():
            raise ModelError(f"{str(path)!r} is damaged: {name} holds NaN or infinity.")


def _kind(path: Path) -> str:
    """Tell a file's format by its first bytes, whatever its name.

    Raises:
        ModelError: it is none that could hold tensors.
    """
    try:
        kind = sniff(path)
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {str(path)!r}; check the path.") from error
    except OSError as error:
        raise ModelError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
    if kind not in FORMATS:
        raise ModelError(f"The checkpoint {str(path)!r} is {kind}, not weights{REMEDIES[kind]}.")
    return kind


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_file(path)
    except (SafetensorError, *DAMAGE) as error:
        raise _damaged(path) from error


def _read_zip(path: Path) -> dict[str, Tensor]:
    """Read a torch zip; it is mapped into memory unless someone compressed it again."""
    if not zipfile.is_zipfile(path):
        raise _damaged(path)
    try:
        with zipfile.ZipFile(path) as archive:
            members = archive.infolist()
    except (zipfile.BadZipFile, *DAMAGE) as error:
        raise _damaged(path) from error
    names = {Path(member.filename).name for member in members}
    if "constants.pkl" in names:
        raise ModelError(
            f"The checkpoint {str(path)!r} is a TorchScript program (an OpenAI CLIP archive?), which is not "
            f"run; {WAY_OUT}"
        )
    if "data.pkl" not in names:
        raise ModelError(f"{str(path)!r} is a plain zip archive; unpack it and give the checkpoint inside.")
    return _read_pickle(path, mmap=all(member.compress_type == zipfile.ZIP_STORED for member in members))


def _read_pickle(path: Path, mmap: bool = False) -> dict[str, Tensor]:
    try:
        with UNPICKLING, torch.serialization.safe_globals(stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which torch then reads or refuses
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except UnpicklingError as error:
        raise refused(path, str(error)) from error
    except DAMAGE as error:
        raise _damaged(path) from error
    except MemoryError as error:
        raise ModelError(
            f"The checkpoint {str(path)!r} asks for more memory than this machine has, for a file of "
            f"{path.stat().st_size:,} bytes; fetch it again."
        ) from error
    tensors = named_tensors(content)
    if not tensors:
        raise ModelError(f"{str(path)!r} is not a checkpoint: it holds no named tensors.")
    if not all(map(_is_stored, tensors.values())):
        raise _damaged(path)
    return tensors


def _is_stored(tensor: Tensor) -> bool:
    """Whether each number of a tensor is in the file. One that is repeated or sparse may be of any size."""
    return tensor.layout is torch.strided and tensor.nbytes <= tensor.untyped_storage().nbytes()


def named_tensors(content: Any) -> dict[str, Tensor]:
    """Return the tensors of what torch.save wrote, by name: those under one of its WRAPPERS, if it has one."""
    for wrapper in WRAPPERS:
        if isinstance(content, dict) and isinstance(content.get(wrapper), dict):
            content = content[wrapper]
    pairs = content.items() if isinstance(content, dict) else ()
    return {name: value.detach() for name, value in pairs if isinstance(name, str) and isinstance(value, Tensor)}


READERS: dict[str, Callable[[Path], dict[str, Tensor]]] = {
    "safetensors": _read_safetensors,
    "zip": _read_zip,
    "pickle": _read_pickle,
}


def refused(path: Path, reason: str) -> ModelError:
    """Explain a refusal by torch's reader, whose message names the offending global if there is one."""
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f"wants to call {named[1]}" if named else "holds instructions that weights do not need"
    return ModelError(f"The checkpoint {str(path)!r} {what}, so it was not read; {WAY_OUT}")


def _damaged(path: Path) -> ModelError:
    size = path.stat().st_size
    return ModelError(f"The checkpoint {str(path)!r} is truncated or damaged ({size:,} bytes); fetch it again.")
