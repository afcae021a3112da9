"""What a person sees of downloads: a bar for each on a terminal, a line now and then elsewhere."""

import threading
import time
from types import TracebackType

from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

from vqclip.cli.console import Console

SECONDS_BETWEEN_LINES = 10.0


class Stopped(Exception):
    """Ends a transfer in its own thread once the command is to stop."""


class Transfers:
    """Shows several transfers while entered; each is told through what `watch` returns, from any thread."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.stopping = threading.Event()
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=console.screen,
            disable=not console.interactive,
            redirect_stdout=console.shared,
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
