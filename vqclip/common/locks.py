"""Locks between processes: never made of a file that is somebody's, and waited for without becoming deaf."""

import contextlib
import errno
import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from filelock import FileLock, Timeout

log = logging.getLogger(__name__)

LOOK = 0.5
"""Seconds between two looks at a lock that another process holds."""


def lock_at(path: Path) -> FileLock:
    """Return the lock at `path`, which holds nothing; a file that does is not ours, and taking it would empty it.

    Raises:
        OSError: it is somebody's file, or cannot be looked at.
    """
    with contextlib.suppress(FileNotFoundError):
        if path.lstat().st_size:
            raise FileExistsError(errno.EEXIST, "a file that is no lock of vqclip has that name; move it away")
    return FileLock(path)


@contextlib.contextmanager
def waiting_for(path: Path, doing: str, meanwhile: Callable[[], object] = lambda: None) -> Iterator[None]:
    """Hold the lock at `path`, whose folder must exist; wait for who holds it.

    The person is told once that another process is `doing` it. `meanwhile` is called now and then, and may raise to
    end the waiting.

    Raises:
        OSError: the lock cannot be made.
    """
    lock = lock_at(path)
    told = False
    while True:
        try:
            lock.acquire(timeout=LOOK)
            break
        except Timeout:
            if not told:
                log.warning("Another vqclip %s; waiting for it.", doing)
            told = True
            meanwhile()
    try:
        yield
    finally:
        lock.release()
