"""Doing groups of jobs on this machine: in this process, or in several that may die and are replaced."""

import contextlib
import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any, Protocol

from vqclip.batch.jobs import Job
from vqclip.batch.retry import Retries
from vqclip.batch.work import JobResult, Worker
from vqclip.common.deferred import defer_imports
from vqclip.common.errors import OutputError
from vqclip.common.remarks import quiet_pillow
from vqclip.hub.access import Access

POLL = 0.5
"""Seconds between two looks at whether to stop."""


class Engine(Protocol):
    """Does groups of jobs, somewhere, and yields what came of each as it comes."""

    def results(self, groups: Iterable[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[JobResult]:
        """Yield what came of every job, in any order, until all are done or `stop` says so."""


class InProcess:
    """One worker, in this process."""

    def __init__(self, access: Access = Access.HERE, states: Path | None = None) -> None:
        self.worker = Worker(access, states)

    def results(self, groups: Iterable[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[JobResult]:
        """Yield what came of every job, group by group."""
        for group in groups:
            made = None if stop() else self.worker.make(group, stop)
            if made is None:
                return
            yield from made


@dataclass
class WorkerHandle:
    """One worker process, the pipe to it, and what it does."""

    process: Any
    pipe: Connection
    group: Sequence[Job] = ()

    def death(self) -> str:
        """How the process ended."""
        code = self.process.exitcode
        return f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"


class Processes:
    """Several workers, a process each: one per GPU, or with the CPU's threads divided among them.

    A worker that dies (out of memory, a crash in a library) is replaced, and its jobs are done again (see `Retries`).
    """

    def __init__(
        self,
        count: int,
        devices: Sequence[str | None],
        threads: int | None,
        access: Access = Access.HERE,
        states: Path | None = None,
    ) -> None:
        self.count, self.devices, self.threads, self.access, self.states = count, devices, threads, access, states
        self.context = multiprocessing.get_context("spawn")
        self.stopping = self.context.Event()

    def results(self, groups: Iterable[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[JobResult]:
        """Yield what came of every job as the workers finish their groups."""
        waiting, retries = deque(groups), Retries()
        workers = [self._spawn(number) for number in range(min(self.count, len(waiting)))]
        try:
            while True:
                for number, worker in enumerate(workers):
                    if not worker.group and waiting and not self.stopping.is_set():
                        workers[number] = self._give(number, worker, waiting.popleft())
                busy = [worker for worker in workers if worker.group]
                if not busy:
                    return
                if stop():
                    self.stopping.set()
                ready = wait([worker.pipe for worker in busy], timeout=POLL)
                for number, worker in enumerate(workers):
                    if worker.pipe not in ready:
                        continue
                    made = _received(worker)
                    if isinstance(made, OutputError):
                        raise made
                    if made is _DEAD:
                        workers[number] = self._spawn(number)
                        again, given_up = retries.after(worker.group, worker.death())
                        waiting.extendleft(reversed(again))
                        yield from given_up
                        continue
                    worker.group = ()
                    yield from made or ()
        finally:
            self.stopping.set()
            for worker in workers:
                worker.pipe.close()
            for worker in workers:
                worker.process.join(timeout=10)
                if worker.process.is_alive():
                    worker.process.kill()

    def _give(self, number: int, worker: WorkerHandle, group: Sequence[Job]) -> WorkerHandle:
        """Give a group to a worker, or to another one in its place if it died while it was idle."""
        try:
            worker.pipe.send(group)
        except OSError:
            worker = self._spawn(number)
            worker.pipe.send(group)
        worker.group = group
        return worker

    def _spawn(self, number: int) -> WorkerHandle:
        ours, theirs = self.context.Pipe()
        device = self.devices[number % len(self.devices)] if self.devices else None
        process = self.context.Process(
            target=_work,
            args=(theirs, self.stopping, device, self.threads, self.access, self.states, self.count),
            daemon=True,
        )
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is the parent's to hear
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()
        return WorkerHandle(process, ours)


_DEAD: Any = object()


def _received(worker: WorkerHandle) -> Any:
    try:
        return worker.pipe.recv()
    except (EOFError, OSError):
        worker.process.join(timeout=10)
        return _DEAD


def _work(
    pipe: Connection,
    stopping: Any,
    device: str | None,
    threads: int | None,
    access: Access,
    states: Path | None,
    count: int,
) -> None:
    """A worker process: takes groups until the pipe closes; it stops too when the parent is gone."""
    parent = os.getppid()
    for number in filter(None, (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", None))):
        signal.signal(number, signal.SIG_IGN)  # the parent says when to stop
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    defer_imports()
    if threads is not None:
        from vqclip.common.runtime import set_threads

        set_threads(threads)
    quiet_pillow()
    worker = Worker(access, states, count)
    while True:
        try:
            group = pipe.recv()
        except (EOFError, OSError):
            return
        try:
            made: Any = worker.make(group, lambda: stopping.is_set() or os.getppid() != parent)
        except OutputError as error:
            made = error
        with contextlib.suppress(OSError):  # the parent may be gone
            pipe.send(made)
