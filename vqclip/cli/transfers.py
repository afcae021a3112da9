"""What a person sees of downloads: a bar for each on a terminal, a line now and then elsewhere."""

import threading
import time
from types import TracebackType

from rich.progress import DownloadColumn, TransferSpeedColumn

from vqclip.cli import bars
from vqclip.cli.console import Console

SECONDS_BETWEEN_LINES = 10.0

LONGEST_NAME = 32
"""Cells of a file's name; a longer one is cut."""


class Stopped(Exception):
    """Ends a transfer in its own thread once the command is to stop."""


class Transfers:
    """Shows several transfers while entered; each is told through what `watch` returns, from any thread."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.stopping = threading.Event()
        self.progress = bars.bar(
            console,
            LONGEST_NAME,
            [bars.Part(DownloadColumn(), 15), bars.Part(TransferSpeedColumn(), 10, least=80), bars.time_left()],
        )

    def __enter__(self) -> "Transfers":
        self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.stopping.set()
        self.progress.stop()

    def watch(self, name: str) -> "Transfer":
        """Make the callback of one transfer, called with the bytes that are here and how many there will be."""
        return Transfer(self, name)


class Transfer:
    """One transfer's bar or lines."""

    def __init__(self, transfers: Transfers, name: str) -> None:
        self.transfers, self.name = transfers, name
        self.task = transfers.progress.add_task(name, total=None)
        self.shown = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        """Take in how far it is.

        Raises:
            Stopped: the command is to stop.
        """
        if self.transfers.stopping.is_set():
            raise Stopped
        self.transfers.progress.update(self.task, completed=done, total=total)
        now = time.monotonic()
        if not self.transfers.console.interactive and now - self.shown >= SECONDS_BETWEEN_LINES:
            self.shown = now
            of = f" of {total / 1e6:,.0f}" if total else ""
            self.transfers.console.say(f"{self.name}: {done / 1e6:,.0f}{of} MB")
