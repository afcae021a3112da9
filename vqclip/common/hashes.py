"""SHA-256 of files, remembered for the large ones so that a run does not read a gigabyte to name its model."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

from vqclip.common.errors import ModelError, OutputError, UsageError
from vqclip.common.files import write_json, writing
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
    if stamp_of(Path(path)).size < LARGE:
        return sha256(path)
    return remembered_sha256(path) or read_sha256(path)


def input_sha256(path: Path | str) -> str:
    """Return `known_sha256` of a file that the user names.

    Raises:
        UsageError: it cannot be read.
    """
    try:
        return known_sha256(path)
    except OSError as error:
        raise UsageError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error


def remembered_sha256(path: Path | str) -> str | None:
    """Return what the last `read_sha256` found, if the file has the same size and time since; the file is not read."""
    with contextlib.suppress(OSError, ValueError, TypeError, KeyError):
        known = parse_json(_note(path).read_bytes())
        if Stamp(known["size"], known["mtime_ns"]) == stamp_of(Path(path)) and len(known["sha256"]) == 64:
            return str(known["sha256"])
    return None


def read_sha256(path: Path | str) -> str:
    """Return the SHA-256 of a file, read whole now, and remember it."""
    stamp = stamp_of(Path(path))
    digest = sha256(path)
    with contextlib.suppress(OutputError, UsageError):  # a cache that cannot be written only costs time
        write_json(_note(path), {"file": str(Path(path).resolve()), **asdict(stamp), "sha256": digest})
    return digest


def _note(path: Path | str) -> Path:
    """Where the hash of a file is remembered."""
    return cache_dir() / "hashes" / f"{hashlib.sha256(os.fsencode(Path(path).resolve())).hexdigest()[:32]}.json"


@contextlib.contextmanager
def private_copy(path: Path) -> Iterator[tuple[Path, str]]:
    """Copy a file to where nobody else can write, and give the copy and its SHA-256, taken of the very same bytes.

    What is checked and then opened by its name again may be another file by then; this is for files whose code runs.

    Raises:
        OutputError: there is no room for it.
        ModelError: the file cannot be read.
    """
    with TemporaryDirectory(prefix="vqclip-") as folder:
        copy = Path(folder) / "copy"
        try:
            with path.open("rb") as source:
                digest = _copied(source, copy)
        except OSError as error:
            raise ModelError(f"Cannot read {str(path)!r}: {error.strerror or error}.") from error
        yield copy, digest


def _copied(source: BinaryIO, copy: Path) -> str:
    digest = hashlib.sha256()
    with writing(copy), copy.open("wb") as target:
        while piece := source.read(1 << 20):
            digest.update(piece)
            target.write(piece)
    return digest.hexdigest()


@dataclass(frozen=True)
class Stamp:
    """What changes when a file is written anew: its size in bytes, and the time of the last change."""

    size: int
    mtime_ns: int


def stamp_of(path: Path) -> Stamp:
    """Return a file's stamp."""
    found = path.stat()
    return Stamp(found.st_size, found.st_mtime_ns)
