"""One batch from start to end: what is left of the jobs, through an engine, into pictures and the record."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from vqclip.batch.jobs import Job
from vqclip.batch.local import Engine
from vqclip.batch.results import DONE, FAILED, RESULTS, WRITING, ResultRow, ResultsFile
from vqclip.batch.work import JobResult, groups, is_of_the_disk
from vqclip.common.errors import BusyError, OutputError
from vqclip.common.files import check_inside, write_bytes, writing
from vqclip.common.locks import lock_at
from vqclip.common.paths import is_file, is_there
from vqclip.common.quantities import counted
from vqclip.runs.naming import slug

LOCK, STATES = ".lock", ".states"
OURS = (LOCK, STATES, RESULTS, WRITING)
"""What a batch keeps beside its pictures; `.states` is for what is half done."""

GALLERY_EVERY = 60.0
"""Seconds between two writings of the gallery while a batch goes on."""


@dataclass
class Summary:
    """How a batch stands: jobs `done` now, `skipped` because they were done before, `failed` now, and `left`."""

    done: int = 0
    skipped: int = 0
    failed: int = 0
    left: int = 0


@contextlib.contextmanager
def holding_batch(folder: Path, patient: bool) -> Iterator[None]:
    """Make the batch's folder and keep every other process out of it; a `patient` one waits for its turn.

    Raises:
        BusyError: another process works in it.
        OutputError: it cannot be made.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        for name in OURS:
            check_inside(folder, folder / name)
        with writing(folder / LOCK):
            lock = lock_at(folder / LOCK)
        try:
            lock.acquire(timeout=-1 if patient else 0)
        except Timeout as error:
            raise BusyError(
                f"Another vqclip works in {str(folder)!r}; wait for it (--wait does), or choose another -o."
            ) from error
    try:
        yield
    finally:
        lock.release()


def run_batch(
    jobs: Sequence[Job],
    record: ResultsFile,
    engine: Engine,
    together: int,
    *,
    only_failed: bool = False,
    limit: int | None = None,
    stop: Callable[[], bool] = lambda: False,
    tell: Callable[[ResultRow, Summary], None] = lambda result, summary: None,
    gallery: Callable[[], object] = lambda: None,
) -> Summary:
    """Do what is left of the jobs, at most `limit` of them; `tell` hears of every result.

    Raises:
        OutputError: a picture, a state or the record cannot be written; what was written before is whole, and the
            sentence says how many jobs are left.
    """
    todo = record.left(jobs, only_failed)
    skipped = sum(record.is_done(job) for job in jobs)
    chosen = todo[:limit]
    summary = Summary(skipped=skipped, left=len(todo))
    by_id = {job.id: job for job in chosen}
    written = time.monotonic()
    try:
        for job in chosen:
            if job.error is not None:
                _take(job, JobResult(job.id, error=job.error, code=job.code), record, summary, tell)
        good = [job for job in chosen if job.error is None]
        tried = [job for job in good if record.of(job)]  # apart, or the others' groups, and states, were others now
        fresh = [job for job in good if not record.of(job)]
        for made in engine.results([*groups(fresh, together), *groups(tried, together)], stop):
            _take(by_id[made.id], made, record, summary, tell)
            if time.monotonic() - written >= GALLERY_EVERY:
                gallery()
                written = time.monotonic()
    except OutputError as error:
        raise OutputError(
            f"{error} {counted(summary.left, 'job')} left; the same command goes on with them."
        ) from error
    if record.results:
        gallery()
    return summary


def _written(job: Job, made: JobResult, record: ResultsFile) -> JobResult:
    """Write a job's picture, after what goes with it, unless a place is taken or impossible; that is then what came of
    the job.

    Raises:
        OutputError: the disk is full or may not be written, which the next job would meet too.
    """
    if made.error is not None:
        return made
    place = record.folder / job.output
    try:
        files = [*((record.folder / name, content) for name, content in made.beside), (place, made.picture)]
        for file, content in files:
            check_inside(record.folder, file)
            if not (record.owns(job) or _is_ours(file, content, job)):
                raise OutputError(f"{str(file)!r} is there already and not of this job; give it another output.")
        record.begin(job)
        for file, content in files:
            write_bytes(file, content)
    except OutputError as error:
        if is_of_the_disk(error):
            raise
        return JobResult(job.id, error=str(error), code=int(error.code), seconds=made.seconds)
    return made


def _is_ours(place: Path, content: bytes, job: Job) -> bool:
    """Whether a file's place is free or holds what must be this job's own: named after it, or the same bytes."""
    return (
        not is_there(place)
        or place.stem in (job.id, f"{slug(job.prompt, job.seed or 0)}_{job.id[:6]}")
        or (is_file(place) and place.read_bytes() == content)
    )


def _take(
    job: Job, made: JobResult, record: ResultsFile, summary: Summary, tell: Callable[[ResultRow, Summary], None]
) -> None:
    """Write one job's picture, then its line: a line without its picture never stands."""
    made = _written(job, made, record)
    failed, before = made.error is not None, record.of(job)
    result = ResultRow(
        id=job.id,
        prompt=job.prompt,
        seed=job.seed,
        status=FAILED if failed else DONE,
        path=None if failed else job.output,
        size=None if failed else len(made.picture),
        code=made.code,
        error=made.error,
        seconds=made.seconds,
        scores=made.scores,
        losses=made.losses,
        together=made.together,
        place=(before.path or before.place) if failed and before else None,
    )
    record.add(result)
    summary.left -= 1
    summary.failed += failed
    summary.done += not failed
    tell(result, summary)
