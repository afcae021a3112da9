"""Resume state: everything a run needs to go on bit for bit, written whole or not at all."""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vqclip.errors import ModelError, UsageError
from vqclip.outputs.files import write_bytes, writing
from vqclip.outputs.picture import save_picture
from vqclip.step import Finished, Step

KEPT = 2


class State:
    """Saves the state every `every` steps (0: only when the run is stopped) and keeps the last two.

    `fingerprint` says what the state belongs to (config and model hashes); `load_state` compares it.
    """

    def __init__(self, folder: Path, every: int, fingerprint: Mapping[str, Any]) -> None:
        self.folder = folder
        self.every = every
        self.fingerprint = dict(fingerprint)

    def step(self, step: Step) -> None:
        """Save when it is time."""
        if self.every and step.number % self.every == 0:
            self._save(step)

    def finish(self, finished: Finished) -> None:
        """Nothing: the state goes with the folder."""

    def stop(self, last: Step | None) -> None:
        """Save where the run stands."""
        if last is not None:
            self._save(last)

    def _save(self, step: Step) -> None:
        data = io.BytesIO()  # torch.save raises RuntimeError, not OSError, when the disk is full
        torch.save({"fingerprint": self.fingerprint, "state": step.state()}, data)
        write_bytes(self.folder / f"{step.number:08d}.pt", data.getvalue())
        with writing(self.folder):
            for old in saved_states(self.folder)[KEPT:]:
                old.unlink(missing_ok=True)


class Partial:
    """Writes the picture of a run that is stopped."""

    def __init__(self, paths: list[Path]) -> None:
        self.paths = paths

    def step(self, step: Step) -> None:
        """Wait for the end."""

    def finish(self, finished: Finished) -> None:
        """Nothing: the run has its pictures."""

    def stop(self, last: Step | None) -> None:
        """Write the pictures as they stand."""
        if last is not None:
            for path, pixels in zip(self.paths, last.render(), strict=True):
                save_picture(path, pixels)


def saved_states(folder: Path) -> list[Path]:
    """Return the state files, newest first."""
    return sorted(folder.glob("[0-9]*.pt"), reverse=True)


def load_state(folder: Path, fingerprint: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the newest whole state of this run, or None when none was saved yet.

    Raises:
        UsageError: it belongs to another config.
        ModelError: it belongs to other weights.
    """
    for path in saved_states(folder):
        try:
            saved = torch.load(path, map_location="cpu", weights_only=True)
            found, state = saved["fingerprint"], saved["state"]
        except Exception:  # a damaged file of any kind: the one before it counts
            continue
        if found["models"] != fingerprint["models"]:
            raise ModelError(f"The state in {str(folder)!r} was made with other model files; start the run anew.")
        if found != dict(fingerprint):
            raise UsageError(f"The state in {str(folder)!r} belongs to another config; start the run anew.")
        return state
    return None
