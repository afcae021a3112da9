"""What the optimisation reports after every update, and what it returns at the end."""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Step:
    """One finished update of N pictures.

    `number` counts updates from 1 to `total`. `images` (N, 3, H, W) in [0, 1] are the pictures that
    the update looked at, made before it; `losses` maps each term to its (N,) values there. `render`
    decodes the latent as it stands after the update, into pictures as the user gets them, which may be
    larger, and `state` copies all that is needed to go on from here; both cost time, so call them only
    when needed.
    """

    number: int
    total: int
    images: "Tensor"
    losses: Mapping[str, "Tensor"]
    render: Callable[[], "Tensor"]
    state: Callable[[], dict[str, Any]]


@dataclass(frozen=True)
class Finished:
    """The end of a run: final `images` (N, 3, H, W) in [0, 1] and `latent` (N, C, h, w) after `step` updates.

    `scores` holds, for each picture, the cosine similarity to its own prompts by perceptor name.
    """

    step: int
    images: "Tensor"
    latent: "Tensor"
    scores: list[dict[str, float]]
    seconds: float


class Sink(Protocol):
    """Something that watches a run: a bar, a file of metrics, frames, resume state."""

    def step(self, step: Step) -> None:
        """Called after every update."""

    def finish(self, finished: Finished) -> None:
        """Called once when the run reached its last update."""

    def stop(self, last: Step | None) -> None:
        """Called once when the run ends early; `last` is the last finished update, if any."""


class Interruption(Protocol):
    """How a run learns that it should stop: signals on the command line, anything else elsewhere."""

    def received(self) -> bool:
        """Whether the run should stop after the step at hand."""

    def deferred(self) -> AbstractContextManager[None]:
        """While entered, nothing but `received` tells of an interruption."""


class Uninterrupted:
    """An `Interruption` that never comes."""

    def received(self) -> bool:
        """Return False."""
        return False

    def deferred(self) -> AbstractContextManager[None]:
        """Return a context that does nothing."""
        return nullcontext()
