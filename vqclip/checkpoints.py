"""Model files: read their tensors without running code, and keep the published ones in the user's cache."""

import errno
import hashlib
import os
import re
import shutil
import struct
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import platformdirs
import torch
from filelock import FileLock
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from vqclip.catalogue import VQGANS, PublishedVQGAN
from vqclip.errors import ModelError, OutputError
from vqclip.inert import stand_ins
from vqclip.registry import pick

WRAPPERS = ("state_dict", "model")
"""Keys under which training programs put the tensors."""

SUFFIXES = (".safetensors", ".ckpt")

WAY_OUT = "load it once with a program you trust and save its tensors as safetensors."

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

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EPERM, errno.EROFS}
"""Failures of the cache folder, not of the network."""


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return every tensor of a safetensors file or of a torch pickle (zip or legacy), by name, on the CPU.

    Tensors of a training file are found under its `state_dict` or `model`. No code of the file is run
    (see `inert.py`). The tensors are mapped from the file where its format allows, so those that nobody
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


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cache_dir() -> Path:
    """Return the folder for what vqclip downloads: `VQCLIP_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("VQCLIP_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("vqclip")


def locate(name: str, *, pull: bool = False, offline: bool = False) -> Path:
    """Return the file of a published VQGAN, fetching it first if it is not in the cache and `pull` is set.

    With `offline`, or `HF_HUB_OFFLINE` in the environment, the network is not touched.

    Raises:
        UsageError: nothing of that name is published.
        ModelError: the file is not here and may not or cannot be fetched, or arrived damaged.
        OutputError: the cache cannot be written.
    """
    entry = pick(VQGANS, name, "VQGAN")
    folder = cache_dir() / "vqgan"
    present = [folder / f"{name}{suffix}" for suffix in SUFFIXES if (folder / f"{name}{suffix}").is_file()]
    if present:
        return present[0]
    if not pull or offline or _hub_is_offline():
        raise _not_here(entry, folder, forbidden=pull)
    return _fetch(entry, folder)


def _kind(path: Path) -> str:
    """Tell a file's format by its first bytes, whatever its name.

    Raises:
        ModelError: it is none that could hold tensors.
    """
    try:
        with path.open("rb") as file:
            head = file.read(64)
    except FileNotFoundError as error:
        raise ModelError(f"There is no file {str(path)!r}; check the path.") from error
    except OSError as error:
        raise ModelError(f"Cannot read {str(path)!r}: {error.strerror}.") from error
    if not head:
        raise ModelError(f"The checkpoint {str(path)!r} is empty; fetch it again.")
    if head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"<"):
        raise ModelError(
            f"The checkpoint {str(path)!r} is a web page, not weights: the link it came from is dead or "
            "wants a login; fetch the file again from another place."
        )
    if head.startswith(b"version https://git-lfs"):
        raise ModelError(f"The checkpoint {str(path)!r} is a Git LFS pointer, not weights; run `git lfs pull`.")
    signatures = {
        "zip": head[:4] == b"PK\x03\x04",
        "safetensors": head[8:9] == b"{",
        "pickle": head[:1] == b"\x80",
    }
    kind = next((kind for kind, matches in signatures.items() if matches), None)
    if kind is None:
        raise ModelError(f"{str(path)!r} is not a checkpoint: it is neither safetensors nor a file of torch.save.")
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
        with torch.serialization.safe_globals(stand_ins()), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which torch then reads or refuses
            content = torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except UnpicklingError as error:
        raise _refused(path, str(error)) from error
    except DAMAGE as error:
        raise _damaged(path) from error
    tensors = _named_tensors(content)
    if not tensors:
        raise ModelError(f"{str(path)!r} is not a checkpoint: it holds no named tensors.")
    return tensors


def _named_tensors(content: Any) -> dict[str, Tensor]:
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


def _refused(path: Path, reason: str) -> ModelError:
    """Explain a refusal by torch's reader, whose message names the offending global if there is one."""
    named = re.search(r"GLOBAL ([\w.]+)", reason)
    what = f"wants to call {named[1]}" if named else "holds instructions that weights do not need"
    return ModelError(f"The checkpoint {str(path)!r} {what}, so it was not read; {WAY_OUT}")


def _damaged(path: Path) -> ModelError:
    size = path.stat().st_size
    return ModelError(f"The checkpoint {str(path)!r} is truncated or damaged ({size:,} bytes); fetch it again.")


def _hub_is_offline() -> bool:
    """Read the variable as huggingface_hub does, but now rather than when it was imported."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _not_here(entry: PublishedVQGAN, folder: Path, forbidden: bool) -> ModelError:
    how = (
        "and working offline forbids fetching it"
        if forbidden
        else f'so fetch it ({entry.size_text}) with: vqclip generate -c {entry.name} --pull "…"'
    )
    return ModelError(
        f"The VQGAN {entry.name!r} is not on this machine, {how}; a file you already have goes to "
        f"{folder / entry.name!s}.ckpt (or .safetensors)."
    )


def _fetch(entry: PublishedVQGAN, folder: Path) -> Path:
    """Download beside the final place (an interrupted download goes on next time), verify, then rename."""
    target, part = folder / f"{entry.name}.ckpt", folder / f"{entry.name}.part"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / f"{entry.name}.lock"):
            if not target.is_file():
                downloaded = _download(entry, part)
                _verify(downloaded, entry, part)
                downloaded.replace(target)
                shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        need = f"; it needs {entry.size_text}" if error.errno == errno.ENOSPC else ""
        raise OutputError(
            f"Cannot write the VQGAN {entry.name!r} to {str(folder)!r}: {error.strerror or error}{need}."
        ) from error
    return target


def _download(entry: PublishedVQGAN, part: Path) -> Path:
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.hf_hub_download(entry.repository, entry.file, revision=entry.revision, local_dir=part)
        )
    except Exception as error:  # the hub raises its HTTP library's own classes too
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise ModelError(
            f"Cannot fetch the VQGAN {entry.name!r} from huggingface.co/{entry.repository}: {reason}"
        ) from error


def _verify(path: Path, entry: PublishedVQGAN, part: Path) -> None:
    """Compare with the catalogue; a file that differs is thrown away."""
    if entry.sha256 is None:
        return
    size, digest = path.stat().st_size, sha256(path)
    if digest != entry.sha256:
        shutil.rmtree(part, ignore_errors=True)
        raise ModelError(
            f"The file fetched for the VQGAN {entry.name!r} is not the published one (sha256 {digest}, "
            f"{size:,} bytes) and was thrown away; try again later."
        )
