"""SHA-256 of files, remembered for the large ones so that a run does not read a gigabyte to name its model."""

import contextlib
import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vqclip.common.paths import cache_dir

LARGE = 64_000_000
"""Bytes from which on a hash is worth remembering; smaller files are hashed in a few hundredths of a second."""


def sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file, computed once for a large one: as long as its size and time stay the same."""
    path = Path(path).resolve()
    stamp = stamp_of(path)
    if stamp.size < LARGE:
        return sha256(path)
    note = cache_dir() / "hashes" / f"{hashlib.sha256(os.fsencode(path)).hexdigest()[:32]}.json"
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = json.loads(note.read_text("utf-8"))
        if Stamp(known["size"], known["mtime_ns"]) == stamp and len(known["sha256"]) == 64:
            return str(known["sha256"])
    digest = sha256(path)
    with contextlib.suppress(OSError):  # a cache that cannot be written only costs time
        write_json(note, {"file": str(path), **asdict(stamp), "sha256": digest})
    return digest


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written anew: its size in bytes, and the time of the last change."""

    size: int
    mtime_ns: int


def stamp_of(path: Path) -> Stamp:
    """Return a file's stamp."""
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns)


def write_json(path: Path, content: object) -> None:
    """Write a small JSON file: beside its place first, then renamed. Missing folders are made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f"{path.name}.{os.getpid()}.part")
    beside.write_text(json.dumps(content, indent=2, ensure_ascii=False) + "\n", "utf-8")
    beside.replace(path)
