"""SHA-256 of files, remembered for the large ones so that a run does not read a gigabyte to name its model."""

import contextlib
import hashlib
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from vqclip.common.errors import OutputError
from vqclip.common.files import write_json
from vqclip.common.paths import cache_dir
from vqclip.common.text import parse_json

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
        known = parse_json(note.read_bytes())
        if Stamp(known["size"], known["mtime_ns"]) == stamp and len(known["sha256"]) == 64:
            return str(known["sha256"])
    digest = sha256(path)
    with contextlib.suppress(OutputError):  # a cache that cannot be written only costs time
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
