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
from vqclip.batch.work import Made, Worker
from vqclip.common.errors import ExitCode
from vqclip.hub.access import Access

RETRIES = 2
"""How often a job is tried again whose worker died."""

POLL = 0.5
"""Seconds between two looks at whether to stop."""


class Engine(Protocol):
    """Does groups of jobs, somewhere, and yields what came of each as it comes."""

    def results(self, groups: Iterable[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[Made]:
        """Yield what came of every job, in any order, until all are done or `stop` says so."""


class InProcess:
    """One worker, in this process."""

    def __init__(self, access: Access = Access.HERE, states: Path | None = None) -> None:
        self.worker = Worker(access, states)

    def results(self, groups: Iterable[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[Made]:
        """Yield what came of every job, group by group."""
        for group in groups:
            made = None if stop() else self.worker.make(group, stop)
            if made is None:
                return
            yield from made


@dataclass
class _Hand:
    """One worker process, the pipe to it, and what it does."""

    process: Any
    pipe: Connection
    group: Sequence[Job] = ()


class Processes:
    """Several workers, a process each: one per GPU, or with the CPU's threads divided among them.

    A worker that dies (out of memory, a crash in a library) is replaced, and its jobs are done again one by one, each
    at most RETRIES times.
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

    def results(self, groups: Iterable[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[Made]:
        """Yield what came of every job as the workers finish their groups."""
        waiting, tries = deque(groups), dict[str, int]()
        hands = [self._hire(number) for number in range(min(self.count, len(waiting)))]
        try:
            while True:
                for number, hand in enumerate(hands):
                    if not hand.group and waiting and not self.stopping.is_set():
                        hands[number] = self._give(number, hand, waiting.popleft())
                busy = [hand for hand in hands if hand.group]
                if not busy:
                    return
                if stop():
                    self.stopping.set()
                ready = wait([hand.pipe for hand in busy], timeout=POLL)
                for number, hand in enumerate(hands):
                    if hand.pipe not in ready:
                        continue
                    made = _received(hand)
                    if made is _DEAD:
                        hands[number] = self._hire(number)
                        again, given_up = _again(hand, tries)
                        waiting.extendleft(reversed(again))
                        yield from given_up
                        continue
                    hand.group = ()
                    yield from made or ()
        finally:
            self.stopping.set()
            for hand in hands:
                hand.pipe.close()
            for hand in hands:
                hand.process.join(timeout=10)
                if hand.process.is_alive():
                    hand.process.kill()

    def _give(self, number: int, hand: _Hand, group: Sequence[Job]) -> _Hand:
        """Give a group to a worker, or to another one in its place if it died while it was idle."""
        try:
            hand.pipe.send(group)
        except OSError:
            hand = self._hire(number)
            hand.pipe.send(group)
        hand.group = group
        return hand

    def _hire(self, number: int) -> _Hand:
        ours, theirs = self.context.Pipe()
        device = self.devices[number % len(self.devices)] if self.devices else None
        process = self.context.Process(
            target=_work, args=(theirs, self.stopping, device, self.threads, self.access, self.states), daemon=True
        )
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited: Ctrl-C is the parent's to hear
        try:
            process.start()
        finally:
            signal.signal(signal.SIGINT, before)
        theirs.close()
        return _Hand(process, ours)


_DEAD: Any = object()


def _received(hand: _Hand) -> Any:
    try:
        return hand.pipe.recv()
    except (EOFError, OSError):
        hand.process.join(timeout=10)
        return _DEAD


def _again(hand: _Hand, tries: dict[str, int]) -> tuple[list[list[Job]], list[Made]]:
    """Which of a dead worker's jobs to do again, one by one, and what is said of those that are given up."""
    again, given_up = [], []
    for job in hand.group:
        tries[job.id] = tries.get(job.id, 0) + (len(hand.group) == 1)
        if tries[job.id] > RETRIES:
            given_up.append(Made(job.id, error=_death(hand.process.exitcode), code=int(ExitCode.MEMORY)))
        else:
            again.append([job])
    return again, given_up


def _death(code: int | None) -> str:
    how = f"signal {-code}" if code is not None and code < 0 else f"exit code {code}"
    return f"The worker died {RETRIES + 1} times over this job ({how}); it may need less memory: a smaller size."


def _work(
    pipe: Connection, stopping: Any, device: str | None, threads: int | None, access: Access, states: Path | None
) -> None:
    """A worker process: takes groups until the pipe closes."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the parent says when to stop
    if device is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = device
    if threads is not None:
        from vqclip.common.runtime import set_threads

        set_threads(threads)
    worker = Worker(access, states)
    while True:
        try:
            group = pipe.recv()
        except (EOFError, OSError):
            return
        made = worker.make(group, stopping.is_set)
        with contextlib.suppress(OSError):  # the parent may be gone
            pipe.send(made)
