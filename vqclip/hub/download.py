"""Fetching a published file: mirrors one after another, resumed, and checked before it gets its name.

What is under way lies beside the target as `NAME.part`, with a note `NAME.part.json` of where it comes from. It is
renamed only when it is whole and is what was published, so nothing damaged ever stands under the final name.
"""

import contextlib
import hashlib
import json
import logging
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from vqclip.common.errors import ModelError, OutputError
from vqclip.common.hashes import sha256
from vqclip.hub.sources import HubFile, Place, WebFile
from vqclip.models.weights.file_type import FORMATS, sniff

log = logging.getLogger(__name__)

CHUNK = 1 << 20
ATTEMPTS = 5
"""Tries at one mirror while it keeps failing; each that brought something does not count."""

PAUSE = 0.5
"""Seconds before the second try; twice as long before each further one."""

TIMEOUT = (10.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""

PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that may do better when asked again."""

Watch = Callable[[int, int | None], None]
"""Is told the bytes that are here and how many there will be, if that is known."""


class MirrorError(Exception):
    """One mirror cannot give the file; the next one may."""


class _PassingError(Exception):
    """The transfer broke off; what came so far is kept, and asking again may bring the rest."""


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched. `size` counts only where `sha256` is given: it is then exact."""

    name: str
    places: Sequence[Place]
    size: int | None
    sha256: str | None

    @property
    def exact_size(self) -> int | None:
        """The size in bytes that the file must have."""
        return self.size if self.sha256 else None


def fetch(wanted: Wanted, target: Path, watch: Watch = lambda done, total: None, pause: float = PAUSE) -> None:
    """Bring the file to `target`, from the first mirror that has it; its folder must exist.

    Raises:
        ModelError: no mirror could give it; the sentence says what each of them answered.
        OutputError: there is no room for it, or it cannot be written.
    """
    check_space(target.parent, wanted)
    answers = []
    for place in wanted.places:
        try:
            downloaded = _download(place, wanted, target, watch, pause)
            _check(downloaded, wanted, target)
            downloaded.replace(target)
            _clear(target)
            return
        except MirrorError as error:
            log.info("%s: %s.", place.host, error)
            answers.append(f"{place.host}: {error}")
    raise ModelError(f"Cannot fetch {wanted.name!r}; {'; '.join(answers)}. Check the network, or try again later.")


def check_space(folder: Path, wanted: Wanted) -> None:
    """Refuse a file for which the disk has no room.

    Raises:
        OutputError: there is no room.
    """
    free = shutil.disk_usage(folder).free
    here = sum(path.stat().st_size for path in folder.glob(f"{wanted.name}.*.part") if path.is_file())
    if wanted.size and wanted.size > free + here:
        raise OutputError(
            f"{wanted.name!r} needs {wanted.size / 1e6:,.0f} MB and {str(folder)!r} has {free / 1e6:,.0f} MB left; "
            "make room, or set VQCLIP_CACHE to another disk."
        )


def _download(place: Place, wanted: Wanted, target: Path, watch: Watch, pause: float) -> Path:
    if isinstance(place, HubFile):
        return _from_hub(place, target, watch)
    mirror = hashlib.sha256(place.url.encode()).hexdigest()[:8]  # each keeps what it gave, whatever the others do
    part = target.with_name(f"{target.name}.{mirror}.part")
    _from_web(place, wanted.exact_size if place.member is None else None, part, watch, pause)
    if place.member is None:
        return part
    return _member(part, place.member, target.with_name(target.name + ".member"))


def _clear(target: Path) -> None:
    """Remove what the download left beside the finished file."""
    for leftover in target.parent.glob(f"{target.name}.*"):
        if leftover.name.endswith((".part", ".part.json", ".member")):
            leftover.unlink()
        if leftover.name.endswith(".hub"):
            shutil.rmtree(leftover, ignore_errors=True)


def _check(path: Path, wanted: Wanted, target: Path) -> None:
    """Compare with what was published; what differs is thrown away."""
    kind = sniff(path)
    problem = None
    if kind not in FORMATS:
        problem = f"answered with {kind}"
    elif wanted.exact_size is not None and path.stat().st_size != wanted.exact_size:
        problem = f"gave {path.stat().st_size:,} bytes instead of {wanted.exact_size:,}"
    elif wanted.sha256 and (digest := sha256(path)) != wanted.sha256:
        problem = f"gave another file than was published (sha256 {digest})"
    if problem:
        _clear(target)
        raise MirrorError(problem)


# ---- Hugging Face, by its own library


def _from_hub(place: HubFile, target: Path, watch: Watch) -> Path:
    """The hub's library resumes and checks on its own, in a folder of its own."""
    import huggingface_hub

    try:
        return Path(
            huggingface_hub.hf_hub_download(
                place.repository,
                place.file,
                revision=place.revision,
                local_dir=target.with_name(target.name + ".hub"),
                tqdm_class=hub_progress(watch),
            )
        )
    except Exception as error:  # the hub raises its HTTP library's own classes too
        if isinstance(error, OSError) and error.errno and not isinstance(error, ConnectionError | TimeoutError):
            raise
        raise MirrorError(first_line(error)) from error


def hub_progress(watch: Watch) -> Any:
    """A class that takes the place of the hub's progress bar and tells `watch`."""
    from huggingface_hub.utils import logging as hub_logging
    from tqdm.auto import tqdm

    hub_logging.set_verbosity_error()  # its remarks on tries that failed; what it raises in the end is told

    class Told(tqdm):
        """Counts without drawing."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            options.pop("name", None)
            super().__init__(*arguments, **{**options, "file": _Nowhere(), "disable": False})

        def update(self, n: float | None = 1) -> bool | None:
            """Count on."""
            self.n += n or 0
            watch(int(self.n), int(self.total) if self.total else None)
            return None

    return Told


class _Nowhere:
    def write(self, text: str) -> None:
        """Drop it."""

    def flush(self) -> None:
        """Do nothing."""


def first_line(error: BaseException) -> str:
    """What an exception says in one line, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


# ---- plain links


def _from_web(place: WebFile, size: int | None, part: Path, watch: Watch, pause: float) -> None:
    """Fill `part` from the link, going on where it stopped, with pauses between tries."""
    failures = 0
    while True:
        before = _length(part)
        try:
            _transfer(place, size, part, watch)
            return
        except _PassingError as error:
            failures = 1 if _length(part) > before else failures + 1
            if failures >= ATTEMPTS:
                raise MirrorError(str(error)) from error
            log.info("%s: %s; trying again.", place.host, error)
            _rest(pause * 2 ** (failures - 1), lambda: watch(_length(part), size))


def _rest(seconds: float, ask: Callable[[], None]) -> None:
    """Wait, but let `ask` end it within a fifth of a second by an exception of its own."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        ask()
        time.sleep(min(0.2, left))


def _transfer(place: WebFile, size: int | None, part: Path, watch: Watch) -> None:
    """Ask once for what is missing, and append it to `part`.

    Raises:
        _PassingError: it broke off.
        MirrorError: the host does not have the file.
    """
    note = part.with_name(part.name + ".json")
    start, tag = _resumable(part, note, place.url)
    headers = {"Accept-Encoding": "identity", "User-Agent": "vqclip"}
    if start:
        headers |= {"Range": f"bytes={start}-"} | ({"If-Range": tag} if tag else {})
    try:
        with requests.get(place.url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
            if answer.status_code == 416 and answer.headers.get("Content-Range", "").endswith(f"*/{start}"):
                return  # all of it came before, but was not checked yet
            if answer.status_code == 416 and start:
                _unlink(part, note)
                raise _PassingError("does not go on where the download stopped")
            start = _accept(answer, start)
            total = _total(answer, start)
            if size is not None and total is not None and total != size:
                raise MirrorError(f"has {total:,} bytes instead of {size:,}")
            note.write_text(json.dumps({"url": place.url, "tag": answer.headers.get("ETag")}), "utf-8")
            with part.open("r+b" if part.exists() else "wb") as file:
                file.truncate(start)
                file.seek(start)
                _receive(answer, file, start, total, watch)
    except (requests.RequestException, HTTPError) as error:
        raise _PassingError(_network_words(error)) from error
    if total is not None and _length(part) != total:
        raise _PassingError(f"stopped after {_length(part):,} of {total:,} bytes")


def _resumable(part: Path, note: Path, url: str) -> tuple[int, str | None]:
    """How many bytes are here of the same link, and the tag the server gave them."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        known = json.loads(note.read_text("utf-8"))
        if known.get("url") == url:
            return _length(part), known.get("tag")
    _unlink(part)
    return 0, None


def _accept(answer: requests.Response, start: int) -> int:
    """Where in the file this answer begins."""
    if answer.status_code in PASSING:
        raise _PassingError(f"answered {answer.status_code} {answer.reason}")
    if answer.status_code not in (200, 206):
        raise MirrorError(f"answered {answer.status_code} {answer.reason}")
    if "html" in answer.headers.get("Content-Type", ""):
        raise MirrorError("answered with a web page instead of the file; the link is dead or wants a login")
    if answer.status_code == 200:
        return 0
    said = answer.headers.get("Content-Range", "")
    if not said.startswith(f"bytes {start}-"):
        raise MirrorError(f"went on at the wrong place ({said or 'without saying where'})")
    return start


def _total(answer: requests.Response, start: int) -> int | None:
    """The size of the whole file, as far as the server says it."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if whole.isdigit():
        return int(whole)
    length = answer.headers.get("Content-Length", "")
    return start + int(length) if length.isdigit() else None


def _receive(answer: requests.Response, file: IO[bytes], start: int, total: int | None, watch: Watch) -> None:
    done = start
    watch(done, total)
    # read1 hands over what has come; iter_content would lose a broken connection's last piece
    while piece := answer.raw.read1(CHUNK):
        file.write(piece)
        done += len(piece)
        watch(done, total)
    file.flush()
    os.fsync(file.fileno())


def _network_words(error: Exception) -> str:
    """What happened, without the library's chain of causes."""
    match error:
        case requests.Timeout() | ReadTimeoutError():
            return "does not answer in time"
        case requests.exceptions.SSLError():
            return "has no certificate that can be trusted"
        case HTTPError() | requests.exceptions.ChunkedEncodingError():
            return "cut the connection"
        case requests.ConnectionError():
            return "cannot be reached"
        case _:
            return first_line(error)


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
    except (zipfile.BadZipFile, EOFError, NotImplementedError, RuntimeError) as error:  # all of them are zipfile's
        kind = sniff(archive)
        archive.unlink()
        raise MirrorError(f"gave {'a damaged archive' if kind in FORMATS else kind}") from error
    return target


def _length(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _unlink(*paths: Path) -> None:
    for path in paths:
        path.unlink(missing_ok=True)
