"""What becomes of the jobs of a worker that was lost, wherever it ran."""

from collections.abc import Sequence

from vqclip.batch.jobs import Job
from vqclip.batch.work import JobResult
from vqclip.common.errors import ExitCode

RETRIES = 2
"""How often a job is tried again, alone, whose worker died."""


class Retries:
    """Counts how often each job lost its worker while it was the only one there."""

    def __init__(self) -> None:
        self.lost: dict[str, int] = {}

    def after(self, group: Sequence[Job], how: str) -> tuple[list[list[Job]], list[JobResult]]:
        """Part a lost worker's jobs: those to do again, one by one, and what is said of those that are given up.

        `how` says what befell the worker.
        """
        again, given_up = [], []
        for job in group:
            self.lost[job.id] = self.lost.get(job.id, 0) + (len(group) == 1)
            if self.lost[job.id] > RETRIES:
                message = f"The worker was lost {RETRIES + 1} times over this job ({how}); a smaller size may help."
                given_up.append(JobResult(job.id, error=message, code=int(ExitCode.MEMORY)))
            else:
                again.append([job])
        return again, given_up
