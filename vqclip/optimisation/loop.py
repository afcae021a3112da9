"""The optimisation: descend on a latent so that its picture fits the objective.

It knows only callables. Stop by leaving the `for`; go on by passing a state that a `Step` gave. A step that went wrong
is tried again, in smaller steps or with less memory; it is noticed before the latent moves, so little is to be undone.
"""

import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim import Optimizer

from vqclip.common.errors import NumericsError
from vqclip.optimisation.step import Step

log = logging.getLogger(__name__)

RETRIES = 2
"""How often a run's step size is halved before it is given up."""


class Objective(Protocol):
    """Scores pictures and latent, and adds the gradient of the summed losses to both."""

    def __call__(self, images: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """Take leaves (N, 3, H, W) and (N, C, h, w); add to their `.grad`; return {term: (N,)} detached."""

    def draw(self, images: Tensor) -> list[Any]:
        """Draw a step's random numbers, for pictures of this shape."""

    def score(self, images: Tensor, latent: Tensor, views: list[Any]) -> dict[str, Tensor]:
        """Do as `__call__` with numbers that `draw` returned."""

    def reduce_memory(self) -> bool:
        """Need less memory from now on, for the same gradient; return False if that cannot be."""

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
        images.backward(seen.grad, inputs=[latent])
    return losses, seen.detach()


@dataclass
class Descent:
    """All that one optimisation of N latents needs, and all that changes while it runs.

    `latent` is the leaf (N, C, h, w) that `optimiser` updates. `render` decodes it to (N, 3, H, W) in
    [0, 1]. `bounds` are the lowest and highest value per channel, (1, C, 1, 1) each, which the latent
    is clamped to after every update. `schedule` maps progress in [0, 1] to a factor of `lr`. `reduce_render_memory`
    makes `render` need less for the same gradient, and returns False if that cannot be. `differentiate` may be replaced
    by what does the same faster.
    """

    latent: Tensor
    render: Callable[[Tensor], Tensor]
    objective: Objective
    optimiser: Optimizer
    lr: float
    schedule: Callable[[float], float]
    average: Average
    bounds: tuple[Tensor, Tensor]
    streams: Streams
    number: int = 0
    reduce_render_memory: Callable[[], bool] = lambda: False
    differentiate: Differentiate = differentiate

    def state_dict(self) -> dict[str, Any]:
        """Copy everything that changes: the run goes on from it bit for bit."""
        return {
            "number": self.number,
            "lr": self.lr,
            "latent": self.latent.detach().clone(),
            "optimiser": _copy(self.optimiser.state_dict()),
            "average": self.average.state_dict(),
            "streams": self.streams.state_dict(),
            "objective": self.objective.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Put a state that `state_dict` returned back."""
        self.number, self.lr = state["number"], state["lr"]
        with torch.no_grad():
            self.latent.copy_(state["latent"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.average.load_state_dict(state["average"])
        self.streams.load_state_dict(state["streams"])
        self.objective.load_state_dict(state["objective"])

    def reduce_memory(self) -> bool:
        """Need less memory from now on, for the same gradient up to rounding; return False if that cannot be."""
        return self.objective.reduce_memory() or self.reduce_render_memory()

    def start_from(self, latent: Tensor, number: int) -> None:
        """Take this latent (N, C, h, w) as the result of `number` updates; the optimiser knows nothing of them."""
        self.number = number
        with torch.no_grad():
            self.latent.copy_(latent)

    def result(self) -> Tensor:
        """Return the latent that the picture is decoded from: the average, where there is one."""
        return self.average.value(self.latent.detach())


def optimise(descent: Descent, total: int) -> Iterator[Step]:
    """Update until `total` updates are done, yielding a `Step` after each.

    A step that gives NaN or infinity is tried again with other draws and half the step size. One for which a GPU's
    memory is too small is tried again as it was, with half the objective's micro-batch, and at last with less of the
    decoder kept: that changes only the rounding.

    Raises:
        NumericsError: a step gives NaN or infinity also after RETRIES halvings; the latent stands before it.
        torch.OutOfMemoryError: the memory is too small even so.
    """
    halvings = 0
    while descent.number < total:
        number, streams = descent.number + 1, descent.streams.state_dict()  # nothing else changes before the update
        descent.optimiser.zero_grad(set_to_none=True)
        try:
            losses, images = descent.differentiate(descent.latent, descent.render, descent.objective)
        except torch.OutOfMemoryError:
            if not descent.reduce_memory():
                raise
            log.warning("The GPU's memory is too small for this step; trying it in smaller parts.")
            descent.streams.load_state_dict(streams)
            continue
        if wrong := _not_finite(losses, descent.latent.grad):
            if halvings == RETRIES:
                raise NumericsError(
                    f"The {wrong} became NaN or infinite at step {number}, also with a smaller step size; lower "
                    "optimise.lr or the weight."
                )
            log.warning("The %s became NaN or infinite at step %d; trying with half the step size.", wrong, number)
            halvings, descent.lr = halvings + 1, descent.lr / 2
            continue
        _update(descent, total)
        yield Step(
            number=descent.number,
            total=total,
            images=images,
            losses=losses,
            render=lambda: _render(descent),
            state=descent.state_dict,
        )


def _not_finite(losses: Mapping[str, Tensor], gradient: Tensor | None) -> str | None:
    """What is NaN or infinite: `loss 'tv'` or `gradient`; None if nothing is. The device is waited for once."""
    values = {f"loss {term!r}": loss for term, loss in losses.items()}
    if gradient is not None:
        values["gradient"] = gradient
    finite = torch.stack([torch.isfinite(value).all() for value in values.values()]).tolist() if values else []
    return next((name for name, fine in zip(values, finite, strict=True) if not fine), None)


@torch.no_grad()
def _update(descent: Descent, total: int) -> None:
    """Move the latent by its gradient."""
    for group in descent.optimiser.param_groups:
        group["lr"] = descent.lr * descent.schedule(descent.number / total)
    descent.optimiser.step()
    descent.latent.clamp_(*descent.bounds)
    descent.average.update(descent.latent)
    descent.number += 1


@torch.no_grad()
def _render(descent: Descent) -> Tensor:
    return descent.render(descent.result())


def _copy(state: Any) -> Any:
    """Copy nested dictionaries and lists, cloning tensors."""
    if isinstance(state, Tensor):
        return state.detach().clone()
    if isinstance(state, dict):
        return {key: _copy(value) for key, value in state.items()}
    if isinstance(state, list):
        return [_copy(value) for value in state]
    return state
