"""Writing so that neither a killed process nor a power cut leaves half a file: write beside, sync, then rename."""

import contextlib
import json
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryFile

from vqclip.common.errors import OutputError
from vqclip.common.text import utf8

LETTERS = 40  # of a name that its temporary file repeats, so that a long name's fits the file system too


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary path beside `path`, which takes its place when the block ends well.

    File and folder reach the disk before that is said to be done, so that whatever is written later can rely on it.

    Raises:
        OutputError: the disk is full, or the place cannot be written.
    """
    part = path.with_name(f".{path.name[:LETTERS]}.{os.getpid()}-{threading.get_native_id()}.part")
    with writing(path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            yield part
            settle(part, path)
        finally:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


def settle(part: Path, path: Path) -> None:
    """Give a whole file its final name, once its bytes are on the disk; the name follows before this returns.

    Raises:
        OSError: as `Path.replace`.
    """
    _sync(part, os.O_RDWR)
    part.replace(path)
    with contextlib.suppress(OSError):  # Windows cannot open a folder, and needs not
        _sync(path.parent, os.O_RDONLY)


def _sync(path: Path, flags: int) -> None:
    handle = os.open(path, flags)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's failures inside into one sentence about `path`.

    Raises:
        OutputError: as `replacing`.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(f"Cannot write {str(path)!r}: {error.strerror or error}.") from error


def ready_folder(folder: Path) -> None:
    """Make a folder, and see to it that a file can be written there: before hours of work, not after them.

    Raises:
        OutputError: it cannot.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with TemporaryFile(dir=folder):
            pass


def check_inside(folder: Path, place: Path) -> None:
    """See to it that what is written at `place` lands in `folder`, which may be reached through a link itself.

    Raises:
        OutputError: `place` is a link, or a link on the way there leads out of the folder; or it cannot be looked at.
    """
    try:
        with writing(place):
            inside = not place.is_symlink() and place.parent.resolve().is_relative_to(folder.resolve())
    except RuntimeError:  # links in a circle
        inside = False
    if not inside:
        raise OutputError(f"{str(place)!r} is, or lies behind, a link that leads elsewhere; put a folder there.")


def write_bytes(path: Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(data)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file whole or not at all."""
    with replacing(path) as part:
        part.write_text(text, "utf-8")


def write_json(path: Path, content: object) -> None:
    """Write a small JSON file whole or not at all."""
    write_text(path, utf8(json.dumps(content, indent=2, ensure_ascii=False)) + "\n")
