"""Targets that move while the loop runs: the pictures on the way are the frames of a path from one point to the next.

Each frame starts from its neighbour: the latent goes on, moved by what the latents of the points differ by there.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Journey:
    """A path over P points in a number of `frames`, at least 2, which share the updates evenly.

    `aim` is called with a point's index and the share of the way to the next one, whenever a frame begins. `latents`
    (P, N, C, h, w) are the points' own, if every point has one; `enter` makes of a latent what is optimised for it.
    """

    frames: int
    points: int
    aim: Callable[[int, float], None]
    latents: Tensor | None = None
    enter: Callable[[Tensor], Tensor] = lambda latent: latent

    def frame(self, number: int, total: int) -> int:
        """Return which frame the update after `number` of `total` belongs to."""
        return min(self.frames - 1, number * self.frames // max(1, total))

    @torch.no_grad()
    def __call__(self, latent: Tensor, number: int, total: int) -> bool:
        """Aim for the update after `number`, move the latent where a frame begins with it, and say if it was moved."""
        frame, before = (self.frame(max(0, each), total) for each in (number, number - 1))
        self.aim(*self.place(frame))
        if self.latents is None or frame == before:
            return False
        latent += (self.enter(self._between(frame)) - self.enter(self._between(before))).to(latent)
        return True

    def place(self, frame: int) -> tuple[int, float]:
        """Return the point before a frame, and the share of the way to the next one."""
        way = frame / (self.frames - 1) * (self.points - 1)
        point = min(int(way), self.points - 2)
        return point, way - point

    def _between(self, frame: int) -> Tensor:
        assert self.latents is not None
        point, share = self.place(frame)
        return torch.lerp(self.latents[point], self.latents[point + 1], share)


def last_updates(frames: int, total: int) -> list[int]:
    """Return after how many of `total` updates each frame of a journey is finished; of few, some are the same."""
    return [-(-frame * total // frames) for frame in range(1, frames + 1)]


def aim_targets(
    rows: Sequence[Tensor], points: Sequence[Tensor], way: Callable[[Tensor, Tensor, float], Tensor]
) -> Callable[[int, float], None]:
    """Return what writes, for each guide, the vector between two of its `points` (P, D) into its `rows` (N, D), in
    place, as `way` has it."""

    def aim(point: int, share: float) -> None:
        for row, known in zip(rows, points, strict=True):
            row.copy_(way(known[point], known[point + 1], share))

    return aim
