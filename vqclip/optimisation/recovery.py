"""Steps that went wrong: they are taken back exactly and tried again, in smaller steps or with less memory."""

import logging
from collections.abc import Iterator

import torch
from torch import Tensor

from vqclip.common.errors import NumericsError
from vqclip.optimisation.loop import Descent, optimise
from vqclip.optimisation.step import Step

log = logging.getLogger(__name__)

RETRIES = 2
"""How often a run's step size is halved before it is given up."""


def finite_steps(descent: Descent, total: int) -> Iterator[Step]:
    """Yield the steps of `optimise`; one that went wrong is taken back exactly and tried again.

    One that gave NaN or infinity, with half the step size; one for which a GPU's memory was too small, with half the
    objective's micro-batch, and at last with less of the decoder kept: that changes nothing but the rounding.

    Raises:
        NumericsError: a step gives NaN or infinity also after RETRIES halvings; the descent stands before it.
        torch.OutOfMemoryError: the memory is too small even so.
    """
    failures = 0
    while descent.number < total:
        before = descent.state_dict()
        try:
            step = next(optimise(descent, total))
        except torch.OutOfMemoryError:
            descent.load_state_dict(before)
            if not descent.lighten():
                raise
            log.warning("The GPU's memory is too small for this step; trying it in smaller parts.")
            continue
        wrong = _not_finite(step, descent.latent)
        if wrong is None:
            yield step
            continue
        descent.load_state_dict(before)
        failures += 1
        if failures > RETRIES:
            raise NumericsError(
                f"The {wrong} became NaN or infinite at step {step.number}, also with a smaller step size; lower "
                "optimise.lr or the weight."
            )
        descent.lr /= 2
        log.warning("The %s became NaN or infinite at step %d; trying with half the step size.", wrong, step.number)


def _not_finite(step: Step, latent: Tensor) -> str | None:
    """What is NaN or infinite after a step: `loss 'tv'` or `latent`; None if nothing is."""
    wrong = [term for term, values in step.losses.items() if not bool(torch.isfinite(values).all())]
    if wrong:
        return f"loss {wrong[0]!r}"
    return None if bool(torch.isfinite(latent).all()) else "latent"
