"""What came of each job: `results.jsonl`, one line per attempt, safe against a kill in the middle of a line."""

import contextlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from vqclip.batch.jobs import Job
from vqclip.common.files import writing
from vqclip.common.paths import is_file

DONE, FAILED = "done", "failed"


@dataclass(frozen=True)
class ResultRow:
    """One attempt at a job. `path` is relative to the batch's folder; `code` and `error` say why it failed.

    `losses` are the total loss at some of the steps, for a curve, and `together` is how many pictures were made at
    once, which decides the last digits of rounding.
    """

    id: str
    prompt: str
    seed: int | None
    status: str
    path: str | None = None
    code: int = 0
    error: str | None = None
    seconds: float = 0.0
    scores: Mapping[str, float] | None = None
    losses: tuple[float, ...] = ()
    together: int = 1


class ResultsFile:
    """The results of a batch in `folder`/results.jsonl; the last line of a job counts."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "results.jsonl"
        self.results = read_results(self.path)

    def add(self, result: ResultRow) -> None:
        """Append one result and let it reach the disk.

        Raises:
            OutputError: it cannot be written.
        """
        line = json.dumps(asdict(result), ensure_ascii=False) + "\n"
        with writing(self.path), self.path.open("ab") as file:
            if _torn(self.path):
                file.write(b"\n")  # end what a killed process left, so that it is a line of its own
            file.write(line.encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
        self.results[result.id] = result

    def is_done(self, job: Job) -> bool:
        """Whether the job's picture was made and is still there."""
        result = self.results.get(job.id)
        return result is not None and result.status == DONE and is_file(self.folder / (result.path or job.output))

    def left(self, jobs: Iterable[Job], only_failed: bool = False) -> list[Job]:
        """The jobs still to do: those that failed too, or `only_failed` ones."""
        return [job for job in jobs if not self.is_done(job) and (job.id in self.results or not only_failed)]


def read_results(path: Path) -> dict[str, ResultRow]:
    """Return the last result of every job; lines that are not whole are passed over."""
    found: dict[str, ResultRow] = {}
    if not is_file(path):
        return found
    for line in path.read_text("utf-8", errors="replace").split("\n"):
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            result = _result(json.loads(line))
            found[result.id] = result
    return found


def _result(row: dict[str, Any]) -> ResultRow:
    known = {key: value for key, value in row.items() if key in ResultRow.__dataclass_fields__}
    if not isinstance(known["id"], str) or known["status"] not in (DONE, FAILED):
        raise ValueError("not a result")
    return ResultRow(**{**known, "losses": tuple(float(value) for value in known.get("losses") or ())})


def _torn(path: Path) -> bool:
    """Whether the file ends in the middle of a line."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        if file.seek(0, os.SEEK_END):
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    return False
