"""One link and one file: asked for what is missing, until all of it is here, or until it is clear why not.

What is here of a file lies in `NAME.part`, beside a note `NAME.part.json` of the link it comes from. Everything that
vqclip takes from the network comes through `ask`, so that proxies and certificates are set in one way.
"""

import contextlib
import logging
import os
import socket
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import requests
from urllib3.exceptions import HTTPError, ReadTimeoutError

from vqclip.common.files import write_json
from vqclip.common.text import parse_json
from vqclip.hub.sources import HubFile, Place

log = logging.getLogger(__name__)

CHUNK = 1 << 20
ATTEMPTS = 5
"""Tries at one link while it keeps failing; each that brought something does not count."""

CONNECTS = 2
"""Tries at a host that cannot be reached at all."""

PAUSE = 0.5
"""Seconds before the second try; twice as long before each further one."""

TIMEOUT = (5.0, 60.0)
"""Seconds to connect, and between two pieces of an answer."""

NO_HEADERS: Mapping[str, str] = {}

PASSING = {408, 425, 429, 500, 502, 503, 504}
"""Answers of a server that may do better when asked again."""

WEB_PAGE = "answered with a web page instead of the file; the link is dead, or a login page stands in between"

CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
"""Environment variables that name the certificates to trust, the first one set counts: whatever another tool reads."""

T = TypeVar("T")

Watch = Callable[[int, int | None], None]
"""Is told the bytes that are here and how many there will be, if that is known."""


class MirrorError(Exception):
    """One mirror cannot give the file; the next one may."""


class NotReachedError(MirrorError):
    """The host was not reached; it may be the network that is missing, and then no other mirror will do."""


class MissingError(MirrorError):
    """The host has no such file."""


class _PassingError(Exception):
    """The transfer broke off; what came so far is kept, and asking again may bring the rest."""


class _NoConnectionError(_PassingError):
    """There was no connection."""


def ask(
    method: str, place: Place, headers: Mapping[str, str] = NO_HEADERS, *, url: str = "", redirects: bool = True
) -> requests.Response:
    """Send one request to a place, or to the `url` that it named; the answer's body is not read yet, and the caller
    closes it.

    The hub gets the token of `hf auth login`, and nobody else does, as it is dropped when the hub sends us elsewhere.

    Raises:
        MirrorError: asking again would not help.
        _PassingError: it may.
    """
    trusted = next((path for name in CERTIFICATES if (path := os.environ.get(name))), True)
    sent = {"Accept-Encoding": "identity", "User-Agent": "vqclip", **_token(place), **headers}
    options: dict[str, Any] = {"stream": True, "timeout": TIMEOUT, "allow_redirects": redirects, "verify": trusted}
    with _failures():
        try:
            return requests.request(method, url or place.url, headers=sent, **options)
        except OSError as error:
            if not isinstance(error, requests.RequestException):  # the certificates are not there
                raise MirrorError(first_line(error)) from error
            raise


def _token(place: Place) -> dict[str, str]:
    if not isinstance(place, HubFile):
        return {}
    from huggingface_hub import get_token

    token = get_token()
    return {"Authorization": f"Bearer {token}"} if token else {}


@contextlib.contextmanager
def _failures() -> Iterator[None]:
    """Turn the HTTP library's failures into ours, each said as what it is."""
    try:
        yield
    except requests.exceptions.SSLError as error:
        if not isinstance(cause := _cause(error), ssl.SSLCertVerificationError):
            raise _PassingError("cut the connection while it was being secured") from error
        raise MirrorError(
            f"its certificate cannot be trusted ({cause.verify_message}); if your network has one of its own, let "
            "SSL_CERT_FILE name it"
        ) from error
    except requests.exceptions.ProxyError as error:
        raise MirrorError(f"the proxy does not let it through ({first_line(_cause(error))})") from error
    except requests.exceptions.ConnectTimeout as error:
        raise NotReachedError("does not answer") from error
    except (requests.Timeout, ReadTimeoutError) as error:
        raise _PassingError("does not answer in time") from error
    except (requests.exceptions.ChunkedEncodingError, HTTPError) as error:
        raise _PassingError("cut the connection") from error
    except requests.ConnectionError as error:
        cause = _cause(error)
        if isinstance(cause, socket.gaierror):
            raise NotReachedError("its name cannot be looked up") from error
        raise _NoConnectionError(f"cannot be reached ({first_line(cause)})") from error
    except requests.RequestException as error:  # an address that is none, redirects without an end
        raise MirrorError(first_line(error)) from error


def receive(place: Place, size: int | None, part: Path, watch: Watch, pause: float = PAUSE) -> None:
    """Fill `part` from the link, going on where it stopped, with pauses between tries; `size` is what it must have.

    Raises:
        MirrorError: the host does not give the file.
        OSError: `part` cannot be written.
    """
    persist(lambda: _transfer(place, size, part, watch), place, lambda: length(part), watch, pause)


def persist(
    attempt: Callable[[], T],
    place: Place,
    here: Callable[[], int] = lambda: 0,
    watch: Watch = lambda done, total: None,
    pause: float = PAUSE,
) -> T:
    """Call `attempt` until it comes through; `here` tells how many bytes it brought so far.

    Raises:
        MirrorError: it does not.
    """
    failures = 0
    while True:
        before = here()
        try:
            return attempt()
        except _PassingError as error:
            failures = 1 if here() > before else failures + 1
            unreached = isinstance(error, _NoConnectionError)
            if failures >= (CONNECTS if unreached else ATTEMPTS):
                raise (NotReachedError if unreached else MirrorError)(str(error)) from error
            log.info("%s: %s; trying again.", place.host, error)
            _rest(pause * 2 ** (failures - 1), lambda: watch(here(), None))


def _rest(seconds: float, tell: Callable[[], None]) -> None:
    """Wait, but let `tell` end it within a fifth of a second by an exception of its own."""
    until = time.monotonic() + seconds
    while (left := until - time.monotonic()) > 0:
        tell()
        time.sleep(min(0.2, left))


def _transfer(place: Place, size: int | None, part: Path, watch: Watch) -> None:
    """Ask once for what is missing, and append it to `part`.

    Raises:
        _PassingError: it broke off.
        MirrorError: the host does not have the file.
    """
    note = note_of(part)
    start, tag = _resumable(part, note, place.url)
    headers = {"Range": f"bytes={start}-", **({"If-Range": tag} if tag else {})} if start else {}
    with ask("GET", place, headers) as answer:
        if answer.status_code == 416 and answer.headers.get("Content-Range", "").endswith(f"*/{start}"):
            return  # all of it came before, but was not checked yet
        if answer.status_code == 416 and start:
            discard(part)
            raise _PassingError("does not go on where the download stopped")
        start = _accept(answer, start)
        total = _total(answer, start)
        if size is not None and total is not None and total != size:
            raise MirrorError(f"has {total:,} bytes instead of {size:,}")
        write_json(note, {"url": place.url, "tag": answer.headers.get("ETag")})
        with part.open("r+b" if part.exists() else "wb") as file:
            file.truncate(start)
            file.seek(start)
            with _failures():
                _append(answer, file, start, total, watch)
    if total is not None and length(part) != total:
        raise _PassingError(f"stopped after {length(part):,} of {total:,} bytes")


def _resumable(part: Path, note: Path, url: str) -> tuple[int, str | None]:
    """How many bytes are here of the same link, and the tag the server gave them, if it is one that identifies them."""
    with contextlib.suppress(OSError, ValueError, TypeError, AttributeError):
        known = parse_json(note.read_bytes())
        if known.get("url") == url:
            tag = known.get("tag")
            return length(part), tag if isinstance(tag, str) and tag.startswith('"') else None  # not a weak one, W/"…"
    part.unlink(missing_ok=True)
    return 0, None


def _accept(answer: requests.Response, start: int) -> int:
    """Where in the file this answer begins."""
    refuse_status(answer, (200, 206))
    if "html" in answer.headers.get("Content-Type", ""):
        raise MirrorError(WEB_PAGE)
    if answer.status_code == 200:
        return 0
    said = answer.headers.get("Content-Range", "")
    if not said.startswith(f"bytes {start}-"):
        raise MirrorError(f"went on at the wrong place ({said or 'without saying where'})")
    return start


def refuse_status(answer: requests.Response, accepted: tuple[int, ...]) -> None:
    """Turn an answer other than the accepted ones into the failure that it is.

    Raises:
        _PassingError: asking again may help.
        MirrorError: it would not.
    """
    code = answer.status_code
    said = f"answered {code} {answer.reason or ''}".rstrip()
    if code in PASSING:
        raise _PassingError(said)
    if code in (404, 410):
        raise MissingError(said)
    if code in (401, 403):
        raise MirrorError(f"{said}; it may want a login (hf auth login) or its terms accepted")
    if code not in accepted:
        raise MirrorError(said)


def _total(answer: requests.Response, start: int) -> int | None:
    """The size of the whole file, as far as the server says it."""
    whole = answer.headers.get("Content-Range", "").rpartition("/")[2]
    if whole.isdecimal():
        return int(whole)
    said = answer.headers.get("Content-Length", "")
    return start + int(said) if said.isdecimal() else None


def _append(answer: requests.Response, file: IO[bytes], start: int, total: int | None, watch: Watch) -> None:
    done = start
    watch(done, total)
    # read1 hands over what has come; iter_content would lose a broken connection's last piece
    while piece := answer.raw.read1(CHUNK):
        file.write(piece)
        done += len(piece)
        watch(done, total)
    file.flush()
    os.fsync(file.fileno())


def note_of(part: Path) -> Path:
    """The note beside a partial file."""
    return part.with_name(part.name + ".json")


def discard(part: Path) -> None:
    """Forget what is here of a file."""
    for path in (part, note_of(part)):
        path.unlink(missing_ok=True)


def length(path: Path) -> int:
    """Bytes of a file; 0 if it is not there."""
    return path.stat().st_size if path.is_file() else 0


def first_line(error: BaseException) -> str:
    """What an exception says in one line, without the full stop."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _cause(error: BaseException) -> BaseException:
    """What is at the bottom of a chain of failures: the system's own."""
    inner = getattr(error, "reason", None)
    below = [inner, *error.args, error.__cause__, error.__context__]
    found = next((part for part in below if isinstance(part, BaseException)), None)
    return error if found is None else _cause(found)
