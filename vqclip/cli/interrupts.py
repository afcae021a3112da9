"""Ctrl-C, SIGTERM and hang-up: stop after the step at hand; a second one stops at once."""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import NoReturn

from vqclip.common.errors import Interrupted

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]

PATIENCE = 1.5
"""Seconds that a command may take to end after its signal, where it has no step to finish and nothing to save."""

SHOW_CURSOR = b"\x1b[?25h"
"""What shows a terminal's cursor again, which a bar hides (DECTCEM)."""


class Interrupts:
    """While entered, remembers the first signal instead of dying of it.

    Outside `deferred()` the first signal raises `Interrupted` with the `message` where the program stands; inside, the
    work asks `received` when it is ready to stop. The second signal ends the process at once. So does PATIENCE, outside
    `deferred()`: what reads somebody's file in a thread, or in a library that hears no signal, may never return.
    """

    def __init__(self, message: str = "Stopped before the first step; nothing was written.") -> None:
        self.message = message
        self.signal: int | None = None
        self._deferred = False
        self._left = threading.Event()

    def received(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    @contextlib.contextmanager
    def deferred(self) -> Iterator[None]:
        """Let the block inside decide when to stop."""
        self._deferred = True
        try:
            yield
        finally:
            self._deferred = False

    def error(self, message: str) -> Interrupted:
        """Make the error that ends the command with the signal's exit code."""
        return Interrupted(message, self.signal or signal.SIGINT)

    def __enter__(self) -> "Interrupts":
        self._bell, self._ringer = socket.socketpair()
        self._ringer.setblocking(False)
        self._waker = signal.set_wakeup_fd(self._ringer.fileno(), warn_on_full_buffer=False)
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS if not _left_alone(number)}
        threading.Thread(target=self._watch, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._left.set()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._waker)
        self._ringer.close()

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            _end(number)
        self.signal = number
        if not self._deferred:
            raise self.error(self.message)

    def _watch(self) -> None:
        """Wait for a signal, which a thread hears even where Python's handler cannot run, and then for the end."""
        with self._bell:
            while heard := self._bell.recv(1):
                number = heard[0]
                if number in self._before and not self._deferred and not self._left.wait(PATIENCE):
                    _end(number, b"Error: Stopped.\n")


def _end(number: int, message: bytes = b"") -> NoReturn:
    """End the process at once, its terminal as it was found; a stderr that cannot be written does not hold it."""
    with contextlib.suppress(OSError):
        os.write(2, (SHOW_CURSOR if os.isatty(2) else b"") + message)
    os._exit(128 + number)


def _left_alone(number: int) -> bool:
    """Whether this is a hang-up that `nohup` told the process to ignore."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN
