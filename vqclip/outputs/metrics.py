"""metrics.jsonl: the losses of every step, one JSON object a line."""

import json
from pathlib import Path

from vqclip.common.files import write_text, writing
from vqclip.common.paths import is_file
from vqclip.common.text import parse_json
from vqclip.optimisation.step import Finished, Step


class Metrics:
    """Appends one line per step; lines after step `start` are cut off first.

    A line is `{"step": 3, "losses": {"prompt": [0.81, …]}}` with one number per picture.
    """

    def __init__(self, path: Path, start: int) -> None:
        self.path = path
        write_text(path, "".join(_lines_until(path, start)))
        with writing(path):
            self.file = path.open("a", encoding="utf-8", buffering=1)

    def step(self, step: Step) -> None:
        """Append the step's losses."""
        losses = {term: values.tolist() for term, values in step.losses.items()}
        with writing(self.path):
            self.file.write(json.dumps({"step": step.number, "losses": losses}) + "\n")

    def finish(self, finished: Finished) -> None:
        """Close the file."""
        self.stop(None)

    def stop(self, last: Step | None) -> None:
        """Close the file."""
        with writing(self.path):
            self.file.close()


def step_of(line: str) -> int:
    """Read the step of a line.

    Raises:
        ValueError: it is none of ours.
    """
    row = parse_json(line)
    step = row.get("step") if isinstance(row, dict) else None
    if not isinstance(step, int) or isinstance(step, bool):
        raise ValueError("no step")
    return step


def _lines_until(path: Path, start: int) -> list[str]:
    """Return the whole lines of steps 1 to `start`."""
    if start == 0 or not is_file(path):
        return []
    kept = []
    for line in path.read_text("utf-8", errors="replace").splitlines(keepends=True):
        try:
            whole = line.endswith("\n") and step_of(line) <= start
        except ValueError:
            break
        if not whole:
            break
        kept.append(line)
    return kept
