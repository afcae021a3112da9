"""Ctrl-C, SIGTERM and hang-up: stop after the step at hand; a second one stops at once."""

import contextlib
import os
import signal
from collections.abc import Iterator
from types import FrameType, TracebackType

from vqclip.common.errors import Interrupted

SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)]


class Interrupts:
    """While entered, remembers the first signal instead of dying of it.

    Outside `deferred()` the first signal raises `Interrupted` with the `message` where the program stands; inside, the
    work asks `received` when it is ready to stop. The second signal ends the process at once.
    """

    def __init__(self, message: str = "Stopped before the first step; nothing was written.") -> None:
        self.message = message
        self.signal: int | None = None
        self._deferred = False

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
        self._before = {number: signal.signal(number, self._handle) for number in SIGNALS if not _left_alone(number)}
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self.signal is not None:
            os._exit(128 + number)
        self.signal = number
        if not self._deferred:
            raise self.error(self.message)


def _left_alone(number: int) -> bool:
    """Whether this is a hang-up that `nohup` told the process to ignore."""
    return number == getattr(signal, "SIGHUP", None) and signal.getsignal(number) is signal.SIG_IGN
