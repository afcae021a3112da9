"""What came of each job: `results.jsonl`, one line per attempt, safe against a kill in the middle of a line."""

import contextlib
import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from vqclip.batch.jobs import Job
from vqclip.common.checksum import with_check, without_check
from vqclip.common.errors import UsageError
from vqclip.common.files import check_inside, write_text, writing
from vqclip.common.paths import is_file
from vqclip.common.text import parse_json
from vqclip.config.typed import fit

RESULTS, WRITING = "results.jsonl", ".writing"
DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class ResultRow:
    """One attempt at a job. `path` is relative to the batch's folder and `size` the bytes of that picture (None in rows
    of version 0.1.0); `code` and `error` say why it failed.

    `losses` are the total loss at some of the steps, for a curve, and `together` is how many pictures were made at
    once, which decides the last digits of rounding. `place` is where a job that failed had put a picture before.
    """

    id: str
    prompt: str
    seed: int | None
    status: str
    path: str | None = None
    size: int | None = None
    code: int = 0
    error: str | None = None
    seconds: float = 0.0
    scores: dict[str, float] | None = None
    losses: tuple[float, ...] = ()
    together: int = 1
    place: str | None = None


class ResultsFile:
    """The results of a batch in `folder`/results.jsonl; the last line of a job counts.

    `folder`/.writing holds the ids of jobs whose files were begun and whose line is still to come, a line each.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / RESULTS
        self.results = read_results(self.path)
        self.begun = set((folder / WRITING).read_text("utf-8").split()) if is_file(folder / WRITING) else set()

    def begin(self, job: Job) -> None:
        """Write down that what stands in the job's places from now on is its own.

        Raises:
            OutputError: it cannot be written, or is a link.
        """
        self._keep_begun(self.begun | {job.id})

    def _keep_begun(self, begun: set[str]) -> None:
        file = self.folder / WRITING
        check_inside(self.folder, file)
        self.begun = begun
        if begun:
            write_text(file, "".join(f"{name}\n" for name in sorted(begun)))
        else:
            with writing(file):
                file.unlink(missing_ok=True)

    def owns(self, job: Job) -> bool:
        """Whether what is at the job's places was written for it, as far as is recorded."""
        before = self.of(job)
        return job.id in self.begun or (before is not None and job.output in (before.path, before.place))

    def add(self, result: ResultRow) -> None:
        """Append one result and let it reach the disk.

        Raises:
            OutputError: it cannot be written, or is a link.
        """
        check_inside(self.folder, self.path)
        line = json.dumps(with_check(asdict(result)), ensure_ascii=False) + "\n"
        with writing(self.path), self.path.open("ab") as file:
            if _torn(self.path):
                file.write(b"\n")  # end what a killed process left, so that it is a line of its own
            file.write(line.encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
        self.results[result.id] = result
        if result.id in self.begun:
            self._keep_begun(self.begun - {result.id})

    def of(self, job: Job) -> ResultRow | None:
        """The last attempt at a job, also under the id that an earlier version gave it."""
        return self.results.get(job.id) or self.results.get(job.former)

    def is_done(self, job: Job) -> bool:
        """Whether the job's picture was made where the job wants it, and is still there, whole."""
        result = self.of(job)
        if (
            result is None
            or result.status != DONE
            or result.path not in (job.output, f"{job.id}.png", f"{job.former}.png")
        ):
            return False
        file = self.folder / result.path
        return is_file(file) and result.size in (None, file.stat().st_size)

    def left(self, jobs: Iterable[Job], only_failed: bool = False) -> list[Job]:
        """The jobs still to do: those that failed too, or `only_failed` ones."""
        return [job for job in jobs if not self.is_done(job) and (self.of(job) or not only_failed)]


def read_results(path: Path) -> dict[str, ResultRow]:
    """Return the last result of every job; lines that are not whole, not as they were written (by their checksum, which
    earlier versions did not write), or something else, are passed over."""
    found: dict[str, ResultRow] = {}
    if not is_file(path):
        return found
    with path.open("rb") as file:
        for line in file:
            with contextlib.suppress(ValueError, UsageError, TypeError):
                result = _result(without_check(parse_json(line.decode("utf-8", "surrogatepass"))))
                found[result.id] = result
    return found


def _result(row: dict[str, object]) -> ResultRow:
    """Make a result of a line's JSON.

    Raises:
        UsageError, ValueError, TypeError: it is none.
    """
    known = {key: value for key, value in row.items() if key in ResultRow.__dataclass_fields__}
    result = ResultRow(**fit(ResultRow, known))
    if result.status not in (DONE, FAILED):
        raise ValueError("not a result")
    return result


def _torn(path: Path) -> bool:
    """Whether the file ends in the middle of a line."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    return False
