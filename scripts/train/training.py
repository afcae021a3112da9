"""What the training scripts share: the stored scenes, the learning-rate schedule, checkpoints and the export."""

import json
import math
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.data import DataLoader, Dataset

from scripts.data.scenes import Scene
from vqclip.common import runtime

Batch = TypeVar("Batch")


class _Steps(Dataset[Batch]):
    """What `make` gives for each step."""

    def __init__(self, make: Callable[[int], Batch]) -> None:
        self.make = make

    def __getitem__(self, step: int) -> Batch:
        return self.make(step)


def batches(make: Callable[[int], Batch], first: int, workers: int) -> Iterator[Batch]:
    """What `make` gives for the steps from `first` on, without end; `workers` processes make it ahead of time, which
    a GPU waits for otherwise (0: this process, when it is asked for). `make` depends on the step alone, touches no GPU,
    and gives tensors and numbers."""
    steps = range(first, 2**31)
    way = {"multiprocessing_context": "fork", "prefetch_factor": 4} if workers else {}
    return iter(DataLoader(_Steps(make), batch_size=None, sampler=steps, num_workers=workers, **way))


def load_scenes(folder: Path) -> tuple[np.ndarray, list[Scene]]:
    """The data set that `draw_scenes.py --data` wrote: pictures (n, side, side, 3) uint8 and their scenes."""
    pictures = np.load(folder / "scenes.npy", mmap_mode="r")
    with (folder / "scenes.jsonl").open(encoding="utf8") as lines:
        scenes = [Scene(**json.loads(line)) for line in lines]
    return pictures, scenes


class Joined:
    """The pictures of several data sets as one, read with an array of indices."""

    def __init__(self, parts: Sequence[np.ndarray]) -> None:
        self.parts = parts
        self.starts = np.cumsum([0, *(len(part) for part in parts)])

    def __len__(self) -> int:
        """The number of pictures in all."""
        return int(self.starts[-1])

    def __getitem__(self, chosen: np.ndarray) -> np.ndarray:
        """The pictures of these indices (n,), as (n, side, side, 3) uint8."""
        found = np.searchsorted(self.starts, chosen, side="right") - 1
        return np.stack([self.parts[p][i - self.starts[p]] for p, i in zip(found, chosen, strict=True)])


def load_several(folders: Sequence[Path]) -> tuple[Joined, list[Scene]]:
    """Several data sets as one, in the order given."""
    loaded = [load_scenes(folder) for folder in folders]
    return Joined([pictures for pictures, _ in loaded]), [scene for _, scenes in loaded for scene in scenes]


def to_images(pictures: np.ndarray | torch.Tensor, device: torch.device) -> torch.Tensor:
    """(n, h, w, 3) uint8 as (n, 3, h, w) float in [0, 1]."""
    held = pictures if isinstance(pictures, torch.Tensor) else torch.from_numpy(np.array(pictures))
    return held.to(device, non_blocking=True).permute(0, 3, 1, 2).float() / 255


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """Compute in the number format that the device is faster in."""
    return runtime.autocast(device, runtime.resolve_precision("auto", device))


def learning_rate(peak: float, progress: float, warmup: float = 0.03) -> float:
    """Linear warm-up, then half a cosine down to 2 % of the peak; `progress` in 0..1."""
    if progress < warmup:
        return peak * (progress / warmup + 1e-3)
    share = min(1.0, (progress - warmup) / (1 - warmup))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * share)))


class Clock:
    """How far the training is: by steps, or by minutes where `minutes` is given (summed over resumed runs)."""

    def __init__(self, steps: int, minutes: float | None, spent: float = 0.0) -> None:
        self.steps, self.minutes = steps, minutes
        self._start = time.monotonic() - spent

    def seconds(self) -> float:
        """Training time so far."""
        return time.monotonic() - self._start

    def progress(self, step: int) -> float:
        """0 at the start, 1 at the end."""
        return step / self.steps if self.minutes is None else self.seconds() / 60 / self.minutes


class Saves:
    """When to save: every so many steps, and where training is quick only once in `seconds`."""

    def __init__(self, every: int, seconds: float = 30.0) -> None:
        self.every, self.seconds = every, seconds
        self._last = time.monotonic()

    def due(self, step: int) -> bool:
        """Whether `step` is one to save after."""
        if step % self.every or time.monotonic() - self._last < self.seconds:
            return False
        self._last = time.monotonic()
        return True


class Average:
    """Exponential moving average of a module's parameters; those whose names start with `present` are as they are."""

    def __init__(self, module: torch.nn.Module, decay: float, present: str = "\0") -> None:
        self.decay, self.present = decay, present
        self.values = {name: value.detach().clone() for name, value in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module, step: int) -> None:
        """Takes the module's present values in; the first steps count more."""
        keep = min(self.decay, (1 + step) / (10 + step))
        for name, value in module.state_dict().items():
            if value.is_floating_point() and not name.startswith(self.present):
                self.values[name].lerp_(value, 1 - keep)
            else:
                self.values[name].copy_(value)


def save_checkpoint(file: Path, **parts: Any) -> None:
    """Writes `parts` to `file`, beside it first, so that a killed run leaves the last good file."""
    write_beside(file, lambda beside: torch.save(parts, beside))


def load_checkpoint(file: Path, device: torch.device) -> dict[str, Any] | None:
    """What `save_checkpoint` wrote, or None where there is no file yet."""
    return torch.load(file, map_location=device, weights_only=True) if file.is_file() else None


def load_start(place: Path, weights: str, device: torch.device) -> dict[str, torch.Tensor]:
    """The weights to go on from: the averaged ones of a training's --out, or exported ones, the file `weights` there.

    Raises SystemExit where there is neither.
    """
    state = load_checkpoint(place / "last.pt", device)
    if state:
        return state["average"]
    if not (place / weights).is_file():
        raise SystemExit(f"nothing to start from in {place}: neither last.pt nor {weights}")
    return {name: value.to(device).float() for name, value in load_file(place / weights).items()}


def write_beside(file: Path, write: Callable[[Path], object]) -> None:
    """Lets `write` write a neighbour of `file`, then renames it: `file` is never half-written."""
    beside = file.with_name(file.name + ".part")
    write(beside)
    beside.replace(file)


def export_weights(file: Path, weights: dict[str, torch.Tensor], notes: dict[str, str] | None = None) -> None:
    """Writes floating-point weights in half precision as safetensors, with `notes` in the header."""
    halves = {
        name: (value.half() if value.is_floating_point() else value).cpu().contiguous()
        for name, value in weights.items()
    }
    write_beside(file, lambda beside: save_file(halves, beside, notes))
