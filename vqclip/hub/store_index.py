"""What is in the store of VQGANs, and what is known of it; nothing here reads weights.

A model is one file `vqgan/NAME.safetensors` (slim: the network alone, its architecture in the header) or
`vqgan/NAME.ckpt` (as published) in the user's cache, beside a record `NAME.json` of what it is. Published models and
the user's own live side by side and are named alike.
"""

import contextlib
import json
import re
from dataclasses import dataclass
from pathlib import Path

from vqclip.common.paths import cache_dir

SUFFIXES = (".safetensors", ".ckpt")
NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
"""Names a user may give: they become file names."""


@dataclass(frozen=True)
class Record:
    """What is known of a model in the store.

    `size` in bytes, `mtime_ns` and `sha256` are those of the file itself; `source` says where it came from and
    `original` is the SHA-256 of the checkpoint that it was made of. `damaged` is set when a check failed.
    """

    name: str
    size: int
    mtime_ns: int
    sha256: str
    source: str
    original: str
    half: bool = False
    damaged: bool = False


def store_dir() -> Path:
    """Return the folder of the store."""
    return cache_dir() / "vqgan"


def stored_file(name: str) -> Path | None:
    """Return a model's file, whatever its state, or None."""
    places = (store_dir() / f"{name}{suffix}" for suffix in SUFFIXES)
    return next((path for path in places if path.is_file()), None)


def read_record(name: str) -> Record | None:
    """Return what is known of a model; None for a file that was put there by hand."""
    with contextlib.suppress(OSError, ValueError, TypeError):
        return Record(**json.loads((store_dir() / f"{name}.json").read_text("utf-8")))
    return None


def stored_names() -> list[str]:
    """Return the names of all models in the store."""
    with contextlib.suppress(OSError):
        return sorted({path.stem for path in store_dir().iterdir() if path.suffix in SUFFIXES})
    return []
