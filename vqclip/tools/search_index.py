"""A folder's embeddings, remembered: what is known of each file, and what changed since.

One file per folder and model in the cache, `search/….npz`. A file counts as the same while its size and time are the
same; what is new or changed is embedded, what is gone is forgotten.
"""

import contextlib
import hashlib
import json
import os
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from filelock import FileLock
from torch import Tensor

from vqclip.common.errors import OutputError, UsageError
from vqclip.common.files import replacing
from vqclip.common.hashes import Stamp, known_sha256, stamp_of
from vqclip.common.paths import cache_dir
from vqclip.models.perceptor import Perceptor
from vqclip.tools.embedding import embed_files
from vqclip.tools.inputs import walk

SAVE_EVERY = 4096
"""Pictures embedded between two saves: an interrupted first run loses no more."""

Watch = Callable[[int, int], None]
"""Is told how many new pictures are embedded, and of how many."""


@dataclass
class Index:
    """What is known of a folder: the pictures' names and stamps with their unit vectors (N, D) in float32, in the same
    order, and the files that are no pictures, with why.
    """

    names: list[str] = field(default_factory=list)
    stamps: list[Stamp] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    refused: dict[str, tuple[Stamp, str]] = field(default_factory=dict)


def index_file(folder: Path, weights: Path) -> Path:
    """Return where the index of a folder by a model is kept."""
    key = f"{folder.resolve()}\0{known_sha256(weights)}"
    return cache_dir() / "search" / f"{hashlib.sha256(os.fsencode(key)).hexdigest()[:32]}.npz"


def read_index(path: Path) -> Index:
    """Read an index; one that is missing or damaged is empty, so that it is made anew."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile, EOFError):
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            facts = json.loads(bytes(stored["facts"]).decode())
            vectors = np.asarray(stored["vectors"], np.float32)
        stamps = [Stamp(*pair) for pair in facts["stamps"]]
        if len(vectors) == len(facts["names"]) == len(stamps) and np.isfinite(vectors).all():
            refused = {name: (Stamp(*stamp), why) for name, (stamp, why) in facts["refused"].items()}
            return Index(facts["names"], stamps, vectors, refused)
    return Index()


def write_index(path: Path, index: Index) -> None:
    """Write an index whole or not at all.

    Raises:
        OutputError: the cache cannot be written.
    """
    facts = {
        "names": index.names,
        "stamps": [(stamp.size, stamp.mtime_ns) for stamp in index.stamps],
        "refused": {name: ((stamp.size, stamp.mtime_ns), why) for name, (stamp, why) in index.refused.items()},
    }
    packed = np.frombuffer(json.dumps(facts).encode(), np.uint8)
    with replacing(path) as part, part.open("wb") as file:
        np.savez(file, facts=packed, vectors=index.vectors)


def update_index(folder: Path, perceptor: Perceptor, weights: Path, watch: Watch = lambda done, total: None) -> Index:
    """Return the index of a folder as it is now, embedding only what is new or changed.

    Two processes that update the same index do so one after the other.

    Raises:
        OutputError: the cache cannot be written.
    """
    path = index_file(folder, weights)
    with _locked(path):
        before = read_index(path)
        present = {str(file.relative_to(folder)): file for file in walk(folder) if _stamp(file)}
        index, missing = _kept(before, present)
        if missing or len(index.names) != len(before.names) or index.refused.keys() != before.refused.keys():
            index = _add(index, folder, missing, perceptor, lambda partial: write_index(path, partial), watch)
        return index


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    lock = FileLock(path.with_suffix(".lock"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except OSError as error:
        raise OutputError(f"Cannot write to {str(path.parent)!r}: {error.strerror or error}.") from error
    try:
        yield
    finally:
        lock.release()


def _kept(before: Index, present: dict[str, Path]) -> tuple[Index, list[str]]:
    """What of the index still holds, and the names of what must be looked at."""
    stamps = {name: _stamp(file) for name, file in present.items()}
    kept = [number for number, name in enumerate(before.names) if stamps.get(name) == before.stamps[number]]
    refused = {name: fact for name, fact in before.refused.items() if stamps.get(name) == fact[0]}
    index = Index([before.names[i] for i in kept], [before.stamps[i] for i in kept], before.vectors[kept], refused)
    known = {*index.names, *refused}
    return index, [name for name in present if name not in known]


def _add(
    index: Index, folder: Path, missing: list[str], perceptor: Perceptor, save: Callable[[Index], None], watch: Watch
) -> Index:
    """Embed the missing files into the index, saving now and then and at the end."""
    stamps = {name: _stamp(folder / name) for name in missing}
    fresh: list[tuple[str, Stamp, Tensor]] = []
    refused = dict(index.refused)

    def joined() -> Index:
        rows = [vector.numpy().astype(np.float32) for _, _, vector in fresh]
        old = [index.vectors] if len(index.vectors) else []
        vectors = np.concatenate([*old, *([np.stack(rows)] if rows else [])]) if old or rows else index.vectors
        names, known = [name for name, _, _ in fresh], [stamp for _, stamp, _ in fresh]
        return Index([*index.names, *names], [*index.stamps, *known], vectors, refused)

    try:
        for done, (file, found) in enumerate(embed_files(perceptor, (folder / name for name in missing)), 1):
            name = str(file.relative_to(folder))
            stamp = stamps[name]
            if stamp is not None and isinstance(found, UsageError):
                refused[name] = (stamp, str(found))
            elif stamp is not None and isinstance(found, Tensor):
                fresh.append((name, stamp, found))
            if done % SAVE_EVERY == 0:
                save(joined())
            watch(done, len(missing))
    finally:  # also when the user stops it
        result = joined()
        save(result)
    return result


def _stamp(file: Path) -> Stamp | None:
    """A regular file's stamp; None for what is none, or has gone meanwhile."""
    with contextlib.suppress(OSError):
        return stamp_of(file) if file.is_file() else None
    return None
