"""The optimisation: descend on a latent so that its picture fits the objective.

Stop by leaving the `for`; go on by passing a state that a `Step` gave. A step that went wrong is tried again, in
smaller steps or with less memory; it is noticed before the latent moves, so little is to be undone.
"""

import contextlib
import logging
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from vqclip.common.errors import NumericsError
from vqclip.optimisation.descent import Descent
from vqclip.optimisation.step import Step

log = logging.getLogger(__name__)

RETRIES = 2
"""How often a run's step size is halved before it is given up."""


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
    _prepare(descent, total)
    while descent.number < total:
        number, streams = descent.number + 1, descent.streams.state_dict()  # nothing else changes before the update
        descent.optimiser.zero_grad(set_to_none=True)
        try:
            with _disturbed(descent, total):
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
            render=descent.pictures,
            state=descent.state_dict,
        )
        _prepare(descent, total)


def _prepare(descent: Descent, total: int) -> None:
    """Get ready for the next update, if there is one."""
    descent.grow(total)
    if descent.number < total and descent.travel(descent.latent, descent.number, total):
        descent.average.reset()


@contextlib.contextmanager
def _disturbed(descent: Descent, total: int) -> Iterator[None]:
    """Within this, the latent is disturbed as `descent.disturb` has it for this time."""
    if descent.disturb is None:
        yield
        return
    latent, still = descent.latent, descent.latent.detach().clone()
    with torch.no_grad():
        latent.add_(descent.disturb(still, descent.number / total))
    try:
        yield
    finally:
        with torch.no_grad():
            latent.copy_(still)


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
    if descent.latent.grad is not None:
        descent.latent.grad = descent.shape_gradient(descent.latent.grad)
    descent.optimiser.step()
    descent.latent.clamp_(*descent.space.bounds)
    descent.average.update(descent.latent)
    descent.number += 1
