"""Resume state: everything a run needs to go on bit for bit, written whole or not at all."""

import io
import logging
import time
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from vqclip.common.checksum import is_sealed, sealed, unsealed
from vqclip.common.files import write_bytes, writing
from vqclip.common.images import to_image
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.picture import Compose, save_picture

log = logging.getLogger(__name__)

KEPT = 2
"""States that are kept, in case the newest is damaged."""

SHARE = 0.02
"""The part of a run's time that saving may take."""


class State:
    """Saves the state every `every` steps and every `seconds` (0: off), and when the run is stopped; two are kept.

    A state that is due waits where saving would take more than SHARE of the time: after one that took t seconds, the
    next comes t / SHARE later. `fingerprint` says what the state belongs to (config, model and input hashes) and
    is kept beside it. `clock` tells seconds.
    """

    def __init__(
        self,
        folder: Path,
        every: int,
        seconds: float,
        fingerprint: Mapping[str, Any],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.folder = folder
        self.every = every
        self.seconds = seconds
        self.fingerprint = dict(fingerprint)
        self.clock = clock
        self.saved = self.allowed = clock()
        self.due = False

    def step(self, step: Step) -> None:
        """Save when it is time."""
        now = self.clock()
        by_steps = self.every > 0 and step.number % self.every == 0
        by_seconds = self.seconds > 0 and now - self.saved >= self.seconds
        self.due = self.due or by_steps or by_seconds
        if self.due and now >= self.allowed:
            self._save(step)
            self.due, self.saved = False, self.clock()
            self.allowed = self.saved + (self.saved - now) / SHARE

    def finish(self, finished: Finished) -> None:
        """Nothing: the state goes with the folder."""

    def stop(self, last: Step | None) -> None:
        """Save where the run stands."""
        if last is not None:
            self._save(last)

    def _save(self, step: Step) -> None:
        data = io.BytesIO()  # torch.save raises RuntimeError, not OSError, when the disk is full
        torch.save({"fingerprint": self.fingerprint, "state": step.state()}, data)
        write_bytes(self.folder / f"{step.number:08d}.pt", sealed(data.getvalue()))
        with writing(self.folder):
            for old in saved_states(self.folder)[KEPT:]:
                old.unlink(missing_ok=True)


class Partial:
    """Writes the picture of a run that is stopped."""

    def __init__(self, paths: list[Path], compose: Compose = to_image) -> None:
        self.paths = paths
        self.compose = compose

    def step(self, step: Step) -> None:
        """Wait for the end."""

    def finish(self, finished: Finished) -> None:
        """Nothing: the run has its pictures."""

    def stop(self, last: Step | None) -> None:
        """Write the pictures as they stand."""
        if last is not None:
            for path, pixels in zip(self.paths, last.render(), strict=True):
                save_picture(path, pixels, compose=self.compose)


def saved_states(folder: Path) -> list[Path]:
    """Return the state files, newest first."""
    return sorted(folder.glob(f"{'[0-9]' * 8}.pt"), reverse=True)


@dataclass(frozen=True)
class SavedState:
    """A state, and the fingerprint of the run that it belongs to."""

    fingerprint: dict[str, Any]
    state: dict[str, Any]


def load_state(folder: Path) -> SavedState | None:
    """Return the newest whole state in a folder, or None when there is none; a damaged one is named."""
    for path in saved_states(folder):
        try:
            saved = torch.load(io.BytesIO(_whole(path)), map_location="cpu", weights_only=True)
            return SavedState(dict(saved["fingerprint"]), dict(saved["state"]))
        except Exception as error:  # a damaged file of any kind: the one before it counts
            log.warning("The state %r is damaged and not used (%s).", str(path), type(error).__name__)
    return None


def _whole(path: Path) -> bytes:
    """The bytes of a state, checked; those of an older version by the checksums of zip, which torch passes over.

    Raises:
        ValueError, OSError, zipfile.BadZipFile: they are damaged.
    """
    data = path.read_bytes()
    if not is_sealed(data):
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if archive.testzip() is not None:
                raise ValueError("a part has another checksum")
    return unsealed(data)
