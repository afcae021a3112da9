"""A folder's embeddings, remembered: what is known of each file, and what changed since.

One file per folder and model in the cache, `search/MODEL-FOLDER.npz`, where MODEL stands for all that a picture's
vector depends on. A file counts as the same while its size and time are the same; what is new or changed is embedded,
what is gone is forgotten. The cache only saves time: where it cannot be written, everything is embedded anew.
"""

import contextlib
import hashlib
import io
import json
import logging
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

import numpy as np
from torch import Tensor

from vqclip.common.checksum import sealed, unsealed
from vqclip.common.errors import OutputError, UnreadableError, UsageError
from vqclip.common.files import write_bytes
from vqclip.common.hashes import Stamp, known_sha256, sha256, stamp_of
from vqclip.common.images import READING
from vqclip.common.locks import waiting_for
from vqclip.common.paths import cache_dir, is_file
from vqclip.common.text import parse_json
from vqclip.folders.embedding import embed_files
from vqclip.folders.inputs import Skip, is_excluded, walk
from vqclip.models.files import ClipFiles
from vqclip.models.perceptor import Perceptor

log = logging.getLogger(__name__)

SAVE_EVERY = 4096
"""Pictures embedded between two saves: an interrupted first run loses no more."""

NOW = Stamp(-1, -1)
"""No file has it, so that what has it is looked at again the next time."""

Watch = Callable[[int, int], None]
"""Is told how many new pictures are embedded, and of how many."""


@dataclass
class Index:
    """What is known of a folder: the pictures' names and stamps with their unit vectors (N, D) in float32, in the same
    order, and the files that are no pictures, with why; those with the stamp NOW may be pictures another time.
    `folder` and `model` are names for people.
    """

    names: list[str] = field(default_factory=list)
    stamps: list[Stamp] = field(default_factory=list)
    vectors: np.ndarray = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    refused: dict[str, tuple[Stamp, str]] = field(default_factory=dict)
    folder: str = ""
    model: str = ""


def search_dir() -> Path:
    """Return the folder of the indexes."""
    return cache_dir() / "search"


def index_file(folder: Path, perceptor: Perceptor, files: ClipFiles) -> Path:
    """Return where the index of a folder by a model is kept."""
    parts = (json.dumps(model_facts(perceptor, files), sort_keys=True), os.fsencode(folder.resolve()))
    model, place = (hashlib.sha256(part.encode() if isinstance(part, str) else part).hexdigest()[:16] for part in parts)
    return search_dir() / f"{model}-{place}.npz"


def model_facts(perceptor: Perceptor, files: ClipFiles) -> dict[str, object]:
    """Return all that a picture's vector depends on: weights, architecture, preprocessing, precision, and how pictures
    are read."""
    kind, _, folder = files.architecture.partition("local-dir:")
    return {
        "weights": known_sha256(files.weights),
        "architecture": kind or sha256(Path(folder) / "open_clip_config.json"),
        "size": perceptor.size,
        "squash": perceptor.squash,
        "interpolation": perceptor.interpolation,
        "mean": perceptor.mean.flatten().tolist(),
        "std": perceptor.std.flatten().tolist(),
        "precision": perceptor.precision,
        "reading": READING,
    }


def read_index(path: Path) -> Index:
    """Read an index; one that is missing or damaged is empty, so that it is made anew."""
    try:
        return _parse(unsealed(path.read_bytes()))
    except FileNotFoundError:
        return Index()
    except Exception as error:  # numpy's and zipfile's readers raise anything on what is none of theirs
        log.info("The index %r is not used: %s.", str(path), error)
        return Index()


def _parse(data: bytes) -> Index:
    with np.load(io.BytesIO(data), allow_pickle=False) as stored:
        facts, vectors = parse_json(bytes(stored["facts"])), stored["vectors"]
    names, stamps = facts["names"], [_stamp_from(pair) for pair in facts["stamps"]]
    if vectors.dtype != np.float32 or vectors.ndim != 2 or not len(vectors) == len(names) == len(stamps):
        raise ValueError("its parts do not belong together")
    if not np.isfinite(vectors).all() or not all(isinstance(name, str) for name in names):
        raise ValueError("it holds what is no vector or no name")
    refused = {str(name): (_stamp_from(pair), str(why)) for name, (pair, why) in facts["refused"].items()}
    return Index(names, stamps, vectors, refused, str(facts.get("folder", "")), str(facts.get("model", "")))


def _stamp_from(pair: Sequence[object]) -> Stamp:
    size, time = pair
    if type(size) is not int or type(time) is not int:
        raise ValueError("a size or a time is no number")
    return Stamp(size, time)


def write_index(path: Path, index: Index) -> None:
    """Write an index whole or not at all.

    Raises:
        OutputError: the cache cannot be written.
    """
    facts = {
        "folder": index.folder,
        "model": index.model,
        "names": index.names,
        "stamps": [(stamp.size, stamp.mtime_ns) for stamp in index.stamps],
        "refused": {name: ((stamp.size, stamp.mtime_ns), why) for name, (stamp, why) in index.refused.items()},
    }
    packed = io.BytesIO()
    np.savez(packed, facts=np.frombuffer(json.dumps(facts).encode(), np.uint8), vectors=index.vectors)
    write_bytes(path, sealed(packed.getvalue()))


def update_index(
    folder: Path,
    perceptor: Perceptor,
    files: ClipFiles,
    watch: Watch = lambda done, total: None,
    exclude: Sequence[str] = (),
    skip: Skip = lambda path, why: None,
) -> Index:
    """Return the index of a folder as it is now, embedding only what is new or changed and not excluded, as `walk`
    says; `skip` is told what is left out for another reason.

    Two processes that update the same index do so one after the other. What an index of a folder above knows is taken
    from there.
    """
    path = index_file(folder, perceptor, files)
    with _locked(path, folder):
        before = read_index(path)
        present = {str(file.relative_to(folder)): file for file in walk(folder, skip=skip)}
        stamps = {name: stamp for name, file in present.items() if (stamp := _stamp(file))}
        index = _kept(before, stamps)
        index.folder, index.model = str(folder.resolve()), files.name
        wanted = {name for name in stamps if not is_excluded(PurePath(name), exclude)}
        missing = wanted - {*index.names, *index.refused}
        _borrow(index, folder, stamps, missing, perceptor, files)
        if missing or index.names != before.names or index.refused.keys() != before.refused.keys():
            index = _add(
                index,
                folder,
                {name: stamps[name] for name in stamps if name in missing},
                perceptor,
                _Saver(path, before),
                watch,
            )
        return index


class _Saver:
    """Saves an index that is another than `before`, until that fails once; then the person is told, and it is left."""

    def __init__(self, path: Path, before: Index) -> None:
        self.path = path
        self.known = self._facts(before)
        self.works = True

    def __call__(self, index: Index) -> None:
        if self.works and self._facts(index) != self.known:
            try:
                write_index(self.path, index)
            except OutputError as error:
                self.works = False
                log.warning("%s The pictures will be looked at again next time.", error)
            self.known = self._facts(index)

    @staticmethod
    def _facts(index: Index) -> tuple[object, ...]:
        return tuple(index.names), tuple(index.stamps), tuple(index.refused.items())


@contextlib.contextmanager
def _locked(path: Path, folder: Path) -> Iterator[None]:
    """Keep others from updating the same index; where there can be no lock, nothing is written either."""
    with contextlib.ExitStack() as stack:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            stack.enter_context(waiting_for(path.with_suffix(".lock"), f"indexes {str(folder)!r}"))
        except OSError as error:
            log.info("No lock beside the index %r: %s.", str(path), error.strerror or error)
        yield


def _kept(before: Index, stamps: dict[str, Stamp]) -> Index:
    """What of the index still holds."""
    kept = [number for number, name in enumerate(before.names) if stamps.get(name) == before.stamps[number]]
    refused = {name: fact for name, fact in before.refused.items() if stamps.get(name) == fact[0]}
    return Index([before.names[i] for i in kept], [before.stamps[i] for i in kept], before.vectors[kept], refused)


def _borrow(
    index: Index, folder: Path, stamps: dict[str, Stamp], missing: set[str], perceptor: Perceptor, files: ClipFiles
) -> None:
    """Take over what the index of a folder above knows of the `missing` files, and strike them off."""
    top = folder.resolve()
    for above in top.parents if missing else ():
        path = index_file(above, perceptor, files)
        if not is_file(path):
            continue
        known, prefix = read_index(path), top.relative_to(above)
        places = {name: number for number, name in enumerate(known.names)}
        found = [
            (name, places[full])
            for name in missing
            if (full := str(prefix / name)) in places and known.stamps[places[full]] == stamps[name]
        ]
        if found:
            rows = known.vectors[[number for _, number in found]]
            index.vectors = np.concatenate([index.vectors, rows]) if len(index.vectors) else rows
            index.names += [name for name, _ in found]
            index.stamps += [stamps[name] for name, _ in found]
            missing -= {name for name, _ in found}


def _add(
    index: Index,
    folder: Path,
    missing: dict[str, Stamp],
    perceptor: Perceptor,
    save: Callable[[Index], None],
    watch: Watch,
) -> Index:
    """Embed the missing files into the index, saving now and then and at the end."""
    fresh: list[tuple[str, Tensor]] = []
    refused = dict(index.refused)

    def joined() -> Index:
        rows = [vector.numpy().astype(np.float32)[None] for _, vector in fresh]
        known = [index.vectors] if len(index.vectors) else []
        vectors = np.concatenate([*known, *rows]) if known or rows else index.vectors
        names = [name for name, _ in fresh]
        stamps = [*index.stamps, *(missing[name] for name in names)]
        return Index([*index.names, *names], stamps, vectors, refused, index.folder, index.model)

    try:
        for done, (file, found) in enumerate(embed_files(perceptor, (folder / name for name in missing)), 1):
            name = str(file.relative_to(folder))
            if isinstance(found, UsageError):
                refused[name] = (NOW if isinstance(found, UnreadableError) else missing[name], str(found))
            else:
                fresh.append((name, found))
            if done % SAVE_EVERY == 0:
                save(joined())
            watch(done, len(missing))
    finally:  # also when the user stops it
        result = joined()
        save(result)
    return result


def _stamp(file: Path) -> Stamp | None:
    """A file's stamp; None for what has gone meanwhile."""
    with contextlib.suppress(OSError):
        return stamp_of(file)
    return None
