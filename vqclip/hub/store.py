"""The store of VQGANs in the user's cache: how models get there, are checked and go; `store_index.py` has its files."""

import contextlib
import errno
import logging
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from vqclip.common.errors import ModelError, OutputError, UsageError
from vqclip.common.files import replacing
from vqclip.common.hashes import Stamp, sha256, stamp_of
from vqclip.common.locks import waiting_for
from vqclip.common.paths import is_file, is_there, listing
from vqclip.common.registry import did_you_mean
from vqclip.hub.access import Access, not_here
from vqclip.hub.download import Wanted, fetch, is_published
from vqclip.hub.store_index import (
    SUFFIXES,
    Record,
    model_path,
    read_record,
    store_dir,
    stored_file,
    stored_names,
    write_record,
)
from vqclip.hub.transfer import Watch
from vqclip.hub.upscaler_catalogue import UPSCALERS
from vqclip.hub.vqgan_catalogue import VQGANS, PublishedVQGAN
from vqclip.models.architecture import Architecture
from vqclip.models.files import EMBEDDED
from vqclip.models.vqgan import save_vqgan

log = logging.getLogger(__name__)


def locate(name: str, access: Access = Access.HERE) -> Path:
    """Return the file of a model in the store; a published one that is not there is fetched where `access` says so.

    Raises:
        UsageError: nothing of that name is published or in the store.
        ModelError: it is not here, cannot be fetched, or is not what was stored.
        OutputError: the cache cannot be written.
    """
    path = stored_file(name)
    if path is not None:
        _refuse_damaged(name, path)
        return path
    entry = published(name)
    if access is not Access.FETCH:
        raise _not_here(entry, access)
    return pull_vqgan(entry)


def published(name: str) -> PublishedVQGAN:
    """Return the catalogue's entry.

    Raises:
        UsageError: there is none of that name; the nearest is suggested.
    """
    if name not in VQGANS:
        raise UsageError(f"Unknown VQGAN {name!r}: {did_you_mean(name, [*VQGANS, *stored_names()])}")
    return VQGANS[name]


def pull_vqgan(
    entry: PublishedVQGAN,
    *,
    half: bool = False,
    keep_original: bool = False,
    force: bool = False,
    watch: Watch = lambda done, total: None,
) -> Path:
    """Fetch a published model, check it, and store it slim; return its file.

    A second process that wants the same model waits for the first. With `half` the weights are stored in half
    precision; with `keep_original` the published file stays in the store's `originals/`; with `force` what is there
    is replaced.

    Raises:
        ModelError: it cannot be fetched, or is not the model it should be.
        OutputError: there is no room, or the cache cannot be written.
    """
    originals = store_dir() / "originals"
    original = originals / f"{entry.name}.ckpt"
    with _writing(entry.name):
        originals.mkdir(parents=True, exist_ok=True)
        with waiting_for(_lock(entry.name), f"fetches {entry.name!r}", lambda: watch(0, None)):
            path = stored_file(entry.name)
            if path is not None and not force:
                _refuse_damaged(entry.name, path)
                return path
            wanted = Wanted(entry.name, entry.places, entry.size, entry.sha256)
            known = entry.sha256 is not None or not force  # whether what is kept can be told from what is published
            if not (known and is_file(original) and is_published(original, wanted) is None):
                fetch(wanted, original, watch)
            stamp = stamp_of(original)
            digest = entry.sha256 or sha256(original)
            try:
                path = _store(original, Making(entry.name, stamp, digest, entry.places[0].host, half, entry=entry))
            except ModelError:
                original.unlink()  # what cannot be read is not worth keeping: the next pull fetches it again
                raise
            if not keep_original:
                original.unlink()
            return path


def convert_vqgan(
    source: Path,
    name: str,
    *,
    config: Path | None = None,
    quantiser: str | None = None,
    half: bool = False,
    force: bool = False,
    origin: Path | None = None,
) -> Path:
    """Store a VQGAN that the user has, of any layout that `load_vqgan` reads, slim and under a name; return its file.

    `origin` is the file that the record names, where `source` was made of it.

    Raises:
        UsageError: the name is taken, or none that a file can have.
        ModelError: the file is missing, damaged, refused or no VQGAN.
        OutputError: the cache cannot be written.
    """
    if name in (EMBEDDED, *UPSCALERS) or ":" in name:
        raise UsageError(f"{name!r} cannot be a model's name: it means another one already.")
    lock = _lock(name)
    if not is_file(source):
        raise UsageError(f"There is no file {str(source)!r}; check the path.")
    with _writing(name):
        store_dir().mkdir(parents=True, exist_ok=True)
        with waiting_for(lock, f"stores {name!r}"):
            if stored_file(name) and not force:
                raise UsageError(f"The store has a model {name!r} already; choose another --name, or add --force.")
            named = origin or source
            making = Making(name, stamp_of(source), _sha256_of(named), str(named.resolve()), half, config, quantiser)
            return _store(source, making)


def _sha256_of(file: Path) -> str:
    try:
        return sha256(file)
    except OSError as error:
        raise ModelError(f"Cannot read {str(file)!r}: {error.strerror or error}.") from error


LEFTOVER = r"\.ckpt(\.hub|(\.[0-9a-f]{8})?\.(part|part\.json|member))?"
"""What follows a model's name in the names of its published file and of what a broken download left of it."""


@dataclass(frozen=True)
class Making:
    """How a checkpoint becomes a model of the store.

    `stamp` is what it had before it was read for `original`, its SHA-256; `source` is where it came from.
    """

    name: str
    stamp: Stamp
    original: str
    source: str
    half: bool
    config: Path | None = None
    quantiser: str | None = None
    entry: PublishedVQGAN | None = None


def _store(checkpoint: Path, making: Making) -> Path:
    """Write the network of `checkpoint` to the store, and its record."""
    target = model_path(making.name, ".safetensors")
    quantiser = making.entry.quantiser if making.entry else making.quantiser
    notes = {"name": making.name, "original": making.original}
    with replacing(target) as part:
        sizes = save_vqgan(checkpoint, part, making.config, quantiser, half=making.half, notes=notes)
        if making.entry:
            _check_architecture(making.entry, sizes)
        if stamp_of(checkpoint) != making.stamp:
            raise ModelError(f"The file {str(checkpoint)!r} was changed while it was read; try again.")
        digest = sha256(part)
    stamp = stamp_of(target)  # the record follows the file at once: who comes in between finds two that disagree
    write_record(Record(making.name, stamp.size, stamp.mtime_ns, digest, making.source, making.original, making.half))
    model_path(making.name, ".ckpt").unlink(missing_ok=True)
    return target


def _check_architecture(entry: PublishedVQGAN, found: Architecture) -> None:
    """Refuse a file that holds another network than the catalogue says, where that is known for sure."""
    wanted = entry.architecture
    same = replace(found, resolution=wanted.resolution, attn_resolutions=wanted.attn_resolutions) == wanted
    if entry.exact and not (same and found.attention_levels == wanted.attention_levels):
        raise ModelError(
            f"The file fetched for {entry.name!r} holds another network: {found.n_embed} codes of "
            f"{found.embed_dim} numbers at {found.factor} pixels a cell, instead of {wanted.n_embed} of "
            f"{wanted.embed_dim} at {wanted.factor}."
        )


def verify(name: str) -> Record:
    """Read a model's file whole and compare it with its record; a file without one gets it.

    Raises:
        UsageError, ModelError: it is not in the store, or not what was stored; it is refused from then on.
    """
    path = stored_file(name)
    if path is None:
        raise _not_here(published(name), Access.HERE)
    record, stamp, digest = read_record(name), stamp_of(path), sha256(path)
    if record is None:
        expected = VQGANS[name].sha256 if name in VQGANS and path.suffix == ".ckpt" else None
        if expected and digest != expected:
            raise ModelError(f"{str(path)!r} is not the published {name!r}; {_remedy(name)}.")
        record = Record(name, 0, 0, digest, source="put there by hand", original=digest)
    if digest != record.sha256:
        if (found := read_record(name)) != record and found is not None:
            return verify(name)  # another process stored a new file meanwhile
        _remember(replace(record, damaged=True))
        raise _damaged(name, path)
    record = replace(record, size=stamp.size, mtime_ns=stamp.mtime_ns, damaged=False)
    _remember(record)
    return record


def _remember(record: Record) -> None:
    """Write a record where the store can be written; where it cannot, the next look costs the same again."""
    try:
        write_record(record)
    except OutputError as error:
        log.warning("%s What was found is not remembered.", error)


def remove(name: str) -> int:
    """Take a model out of the store, with what a download left of it; return how many bytes that freed.

    Raises:
        UsageError: it is not in the store.
        OutputError: a file cannot be removed.
    """
    found = [model_path(name, suffix) for suffix in (*SUFFIXES, ".json")]
    leftovers = re.compile(re.escape(name) + LEFTOVER)
    found += [path for path in listing(store_dir() / "originals") if leftovers.fullmatch(path.name)]
    found = [path for path in found if is_there(path)]
    if not found:
        raise UsageError(f"The store has no model {name!r}: {did_you_mean(name, stored_names())}")
    with _writing(name), waiting_for(_lock(name), f"works on {name!r}"):
        freed = sum(_size(path) for path in found)
        for path in found:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    return freed


def _size(path: Path) -> int:
    """Bytes of a file, or of all files of a folder."""
    inside = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in inside if file.is_file())


def _refuse_damaged(name: str, path: Path) -> None:
    """Compare size and time with the record, and the content only where these changed."""
    record = read_record(name)
    if record is None:
        return
    stamp = stamp_of(path)
    if record.damaged or stamp.size != record.size:
        raise _damaged(name, path)
    if stamp.mtime_ns != record.mtime_ns:
        verify(name)


def _lock(name: str) -> Path:
    return model_path(name, ".lock")


def _damaged(name: str, path: Path) -> ModelError:
    return ModelError(f"The file {str(path)!r} is not what was stored as {name!r}; {_remedy(name)}.")


def _remedy(name: str) -> str:
    if name in VQGANS:
        return f"mend it with: vqclip models pull {name} --force"
    return f"convert it again: vqclip models convert FILE --name {name} --force"


def _not_here(entry: PublishedVQGAN, access: Access) -> ModelError:
    otherwise = f"a file you already have is taken in by: vqclip models convert FILE --name {entry.name}"
    return not_here(f"The VQGAN {entry.name!r}", entry.name, access, otherwise, entry.size_text)


@contextlib.contextmanager
def _writing(name: str) -> Iterator[None]:
    """Turn failures of the cache's folder into a sentence."""
    try:
        yield
    except OSError as error:
        room = " (no room left)" if error.errno == errno.ENOSPC else ""
        raise OutputError(
            f"Cannot write the VQGAN {name!r} to {str(store_dir())!r}: {error.strerror or error}{room}."
        ) from error


def unpickle(source: Path, target: Path) -> None:
    """Write the tensors of a pickle that wants to run code to `target`, by a process that lets it run.

    Raises:
        ModelError: even so it cannot be read.
    """
    command = [sys.executable, "-P", "-m", "vqclip.hub.trusted_pickle", str(source), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["the reader ended without a word"])[-1]
        raise ModelError(f"Cannot read {str(source)!r} even with its code: {reason.rstrip('.')}.")


def catalogue_hashes() -> dict[str, str]:
    """Return {sha256: name} of the published files."""
    return {entry.sha256: name for name, entry in VQGANS.items() if entry.sha256}
