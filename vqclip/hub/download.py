"""Fetching a published file: mirrors one after another, resumed, and checked before it gets its name.

What is under way lies beside the target, each mirror's apart (see `transfer.py`). It is renamed only when it is whole
and is what was published, so nothing damaged ever stands under the final name.
"""

import hashlib
import logging
import lzma
import shutil
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from vqclip.common.errors import ModelError, OutputError, UnreachableError
from vqclip.common.files import settle
from vqclip.common.hashes import sha256
from vqclip.hub.sources import Place
from vqclip.hub.transfer import CHUNK, PAUSE, MirrorError, NotReachedError, Watch, discard, receive
from vqclip.models.weights.file_type import FORMATS, sniff

log = logging.getLogger(__name__)

PATIENCE = 4.0
"""Seconds after which no further mirror is asked where none could be reached: it is the network that is missing."""


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched. `size` counts only where `sha256` is given: it is then exact. `kinds` are what it may be
    by its first bytes, as `sniff` says."""

    name: str
    places: Sequence[Place]
    size: int | None
    sha256: str | None
    kinds: Sequence[str] = FORMATS

    @property
    def exact_size(self) -> int | None:
        """The size in bytes that the file must have."""
        return self.size if self.sha256 else None


def fetch(wanted: Wanted, target: Path, watch: Watch = lambda done, total: None, pause: float = PAUSE) -> None:
    """Bring the file to `target`, from the first mirror that has it; its folder must exist.

    Raises:
        ModelError: no mirror could give it; the sentence says what each of them answered. It is UnreachableError
            where none of those asked was reached.
        OutputError: there is no room for it, or it cannot be written.
    """
    check_space(target, wanted)
    answers = []
    began, reached = time.monotonic(), False
    for place in wanted.places:
        try:
            _bring(place, wanted, target, watch, pause)
            return
        except MirrorError as error:
            log.info("%s: %s.", place.host, error)
            answers.append(f"{place.host}: {error}")
            reached = reached or not isinstance(error, NotReachedError)
            if not reached and time.monotonic() - began > PATIENCE:
                break
    raise (ModelError if reached else UnreachableError)(
        f"Cannot fetch {wanted.name!r}; {'; '.join(answers)}. Check the network, or try again later."
    )


def check_space(target: Path, wanted: Wanted) -> None:
    """Refuse a file for which the disk has no room.

    Raises:
        OutputError: there is no room.
    """
    folder = target.parent
    free = shutil.disk_usage(folder).free
    here = sum(path.stat().st_size for path in folder.glob(f"{target.name}.*.part") if path.is_file())
    if wanted.size and wanted.size > free + here:
        raise OutputError(
            f"{wanted.name!r} needs {wanted.size / 1e6:,.0f} MB and {str(folder)!r} has {free / 1e6:,.0f} MB left; "
            "make room, or set VQCLIP_CACHE to another disk."
        )


def is_published(path: Path, wanted: Wanted) -> str | None:
    """Compare a file with what was published; return what is wrong with it, or None."""
    kind = sniff(path)
    if kind not in wanted.kinds:
        return f"answered with {kind}"
    if wanted.exact_size is not None and path.stat().st_size != wanted.exact_size:
        return f"gave {path.stat().st_size:,} bytes instead of {wanted.exact_size:,}"
    if wanted.sha256 and (digest := sha256(path)) != wanted.sha256:
        return f"gave another file than was published (sha256 {digest})"
    return None


DAMAGED = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)
"""What zipfile raises on an archive that is damaged, or none."""


def _bring(place: Place, wanted: Wanted, target: Path, watch: Watch, pause: float) -> None:
    """Fetch, unpack, check and name; what one mirror gave and is wrong is thrown away, and nothing of the others'."""
    mirror = hashlib.sha256(place.url.encode()).hexdigest()[:8]
    part = target.with_name(f"{target.name}.{mirror}.part")
    receive(place, wanted.exact_size if place.member is None else None, part, watch, pause)
    try:
        whole = part if place.member is None else _member(part, place.member, part.with_suffix(".member"))
        if problem := is_published(whole, wanted):
            raise MirrorError(problem)
    except MirrorError:
        discard(part)
        part.with_suffix(".member").unlink(missing_ok=True)
        raise
    settle(whole, target)
    _clear(target)


def _clear(target: Path) -> None:
    """Remove what the download left beside the finished file."""
    for leftover in target.parent.glob(f"{target.name}.*"):
        if leftover.name.endswith((".part", ".part.json", ".member")):
            leftover.unlink()
        if leftover.name.endswith(".hub"):  # of older versions
            shutil.rmtree(leftover, ignore_errors=True)


def _member(archive: Path, wanted: str, target: Path) -> Path:
    """Take one file out of a zip archive; nothing else in it is looked at."""
    try:
        with zipfile.ZipFile(archive) as opened:
            found = [info for info in opened.infolist() if info.filename.split("/")[-1] == wanted]
            if not found:
                raise MirrorError(f"gave an archive without {wanted}")
            if found[0].file_size > shutil.disk_usage(target.parent).free:
                raise OutputError(f"No room for {wanted} of {str(archive)!r} ({found[0].file_size / 1e6:,.0f} MB).")
            with opened.open(found[0]) as packed, target.open("wb") as plain:
                shutil.copyfileobj(packed, plain, CHUNK)
    except DAMAGED as error:
        kind = sniff(archive)
        raise MirrorError(f"gave {'a damaged archive' if kind in FORMATS else kind}") from error
    return target
