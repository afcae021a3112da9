"""One optimisation of N latents: all that it needs, and all that changes while it runs, copied and put back.

It knows only callables, so that everything here can be tested without a network.
"""

import copy
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from vqclip.models.drawers.drawer import Space


class Objective(Protocol):
    """Scores pictures and latent, and adds the gradient of the summed losses to both."""

    def __call__(self, images: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """Take leaves (N, 3, H, W) and (N, C, h, w); add to their `.grad`; return {term: (N,)} detached."""

    def begin(self, number: int, stage: int, reached: Tensor | None) -> None:
        """Get ready for the update after `number` others, in this stage; `reached` (N, 3, h, w) are the pictures at the
        end of the one before, if there was one."""

    def form(self) -> Hashable:
        """Return what makes a step's computation another one: a recording of it holds while this stays the same."""

    def draw(self, images: Tensor) -> list[Any]:
        """Draw a step's random numbers, for pictures of this shape."""

    def score(self, images: Tensor, latent: Tensor, views: list[Any]) -> dict[str, Tensor]:
        """Do as `__call__` with numbers that `draw` returned."""

    def reduce_memory(self) -> bool:
        """Need less memory from now on, for the same gradient; return False if that cannot be."""

    def grow(self, change: Callable[[Tensor], Tensor]) -> None:
        """Take a latent of another size from now on; `change` makes one of the size before into one of it."""

    def state_dict(self) -> dict[str, Any]:
        """Copy what `reduce_memory` changes, as it decides the rounding."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a copied state back, unless it needs more memory than this objective may use."""


class Average(Protocol):
    """A running average of the latent, such as `optimisers.Ema`."""

    def update(self, latent: Tensor) -> None:
        """Take the latent after an update into account."""

    def value(self, latent: Tensor) -> Tensor:
        """Return the average; with averaging off, the latent itself."""

    def reset(self) -> None:
        """Forget everything."""

    def state_dict(self) -> dict[str, Any]:
        """Copy the average's state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put a copied state back."""


class Streams(Protocol):
    """The random generators of the run, such as `runtime.Generators`."""

    def state_dict(self) -> dict[str, Any]:
        """Copy every generator's state."""

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Put copied states back."""


class Differentiate(Protocol):
    """How the gradient of the summed losses comes onto the latent."""

    def __call__(
        self, latent: Tensor, render: Callable[[Tensor], Tensor], objective: Objective
    ) -> tuple[dict[str, Tensor], Tensor]:
        """Add to `latent.grad`; return {term: (N,)} and the pictures (N, 3, H, W) they are of, detached."""


def differentiate(
    latent: Tensor, render: Callable[[Tensor], Tensor], objective: Callable[[Tensor, Tensor], dict[str, Tensor]]
) -> tuple[dict[str, Tensor], Tensor]:
    """Decode once, let the objective add its gradient to a detached copy of the picture, in as many pieces as it likes,
    and take the sum through the decoder in one backward pass."""
    images = render(latent)
    seen = images.detach().requires_grad_()
    losses = objective(seen, latent)
    if seen.grad is not None:
        # The same gradient as backward(seen.grad); told one, torch imports sympy (0.6 s) to compare two shapes.
        (images * seen.grad).sum().backward(inputs=[latent])
    return losses, seen.detach()


@dataclass(frozen=True)
class Growth:
    """The end of a coarse stage: after this share of all updates the latent goes on with a `grid` of (h, w) cells."""

    after: float
    grid: tuple[int, int]


def repeated(latent: Tensor, grid: tuple[int, int]) -> Tensor:
    """Return latents (N, C, *grid) whose cells are those of (N, C, h, w), each repeated."""
    return F.interpolate(latent, grid)


@dataclass
class Descent:
    """All that one optimisation of N latents needs, and all that changes while it runs.

    `latent` is the leaf that the optimiser updates, (N, C, h, w) or what `space` has instead; it is clamped to the
    space's bounds after every update. `render` decodes it to (N, 3, H, W) in [0, 1]; `draw`, where there is one, does
    so for those who look, and `show` brings that to the size that is looked at. `schedule` maps progress in [0, 1] to a
    factor of `lr`.

    Coarse to fine: the latent starts with few cells, and at each of `growth` `enlarge` makes it larger, for a new
    optimiser and a new average; the objective is told which pictures the stage before `reached`. `disturb` gives what
    is added to the latent while the gradient is taken, by progress; `shape_gradient` changes the gradient before the
    update. `travel` is called with the latent, the updates made and their total before each of them; it may move the
    latent and says if it did, and the average begins anew then.

    `reduce_render_memory` makes `render` need less for the same gradient, and returns False if that cannot be.
    `differentiate` may be replaced by what does the same faster.
    """

    latent: Tensor
    render: Callable[[Tensor], Tensor]
    objective: Objective
    make_optimiser: Callable[[Tensor], Optimizer]
    lr: float
    schedule: Callable[[float], float]
    average: Average
    space: Space
    streams: Streams
    draw: Callable[[Tensor], Tensor] | None = None
    show: Callable[[Tensor], Tensor] = lambda images: images
    growth: Sequence[Growth] = ()
    enlarge: Callable[[Tensor, tuple[int, int]], Tensor] = repeated
    disturb: Callable[[Tensor, float], Tensor] | None = None
    shape_gradient: Callable[[Tensor], Tensor] = lambda gradient: gradient
    travel: Callable[[Tensor, int, int], bool] = lambda latent, number, total: False
    reduce_render_memory: Callable[[], bool] = lambda: False
    differentiate: Differentiate = differentiate
    number: int = 0
    stage: int = 0
    reached: Tensor | None = None
    optimiser: Optimizer = field(init=False)

    def __post_init__(self) -> None:
        self.optimiser = self.make_optimiser(self.latent)

    def state_dict(self) -> dict[str, Any]:
        """Copy everything that changes: the run goes on from it bit for bit."""
        return {
            "number": self.number,
            "stage": self.stage,
            "reached": self.reached,
            "lr": self.lr,
            "latent": self.latent.detach().clone(),
            "optimiser": copy.deepcopy(self.optimiser.state_dict()),
            "average": self.average.state_dict(),
            "streams": self.streams.state_dict(),
            "objective": self.objective.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state that `state_dict` returned back; one of an earlier version knows no stages."""
        self.number, self.lr = state["number"], state["lr"]
        self._go_to(state.get("stage", 0))
        reached = state.get("reached")
        self.reached = None if reached is None else reached.to(self.latent.device)
        self._take(state["latent"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        self.streams.load_state_dict(state["streams"])
        self.objective.load_state_dict(state["objective"])

    def reduce_memory(self) -> bool:
        """Need less memory from now on, for the same gradient up to rounding; return False if that cannot be."""
        return self.objective.reduce_memory() or self.reduce_render_memory()

    def start_from(self, latent: Tensor, number: int) -> None:
        """Take this latent (N, C, h, w) as the result of `number` updates; the optimiser knows nothing of them.

        Raises:
            ValueError: it is of another shape than the run's result.
        """
        self.number = number
        self._go_to(len(self.growth))
        self.reached = None
        numbers = self.space.enter(latent)
        if numbers.shape != self.latent.shape:
            raise ValueError(f"the latent is {tuple(latent.shape)}")
        self._take(numbers)

    def grow(self, total: int) -> None:
        """Enter the stage that the next of `total` updates belongs to."""
        while self.stage < len(self.growth) and self.number >= round(self.growth[self.stage].after * total):
            self._go_to(self.stage + 1)
        self.objective.begin(self.number, self.stage, self.reached)

    def result(self) -> Tensor:
        """Return the latent (N, C, h, w) that the picture is decoded from: the average, where there is one."""
        return self.space.leave(self.average.value(self.latent.detach()))

    @torch.no_grad()
    def pictures(self) -> Tensor:
        """Return the pictures of the result, (N, 3, H, W) in [0, 1]."""
        return self.show((self.draw or self.render)(self.average.value(self.latent.detach())))

    def _go_to(self, stage: int) -> None:
        """Enlarge the latent, and what the objective holds it near, to a later stage's size."""
        for growth in self.growth[self.stage : stage]:
            end = self.average.value(self.latent.detach())
            with torch.no_grad():
                self.reached = self.render(end)
            self._renew(self._grown(end, growth))
            self.objective.grow(partial(self._grown, growth=growth))
        self.stage = stage

    @torch.no_grad()
    def _grown(self, numbers: Tensor, growth: Growth) -> Tensor:
        return self.space.enter(self.enlarge(self.space.leave(numbers), growth.grid))

    def _take(self, numbers: Tensor) -> None:
        """Go on with these numbers: in place where they have the size, else anew."""
        if numbers.shape == self.latent.shape:
            with torch.no_grad():
                self.latent.copy_(numbers)
        else:
            self._renew(numbers)

    def _renew(self, numbers: Tensor) -> None:
        """Go on with these numbers, of any size, as another latent with a new optimiser and average."""
        self.latent = numbers.to(self.latent).clone().requires_grad_()
        self.optimiser = self.make_optimiser(self.latent)
        self.average.reset()
