"""How the latent moves: optimisers, learning-rate schedules and changes of the gradient by name, and an average.

All of it is elementwise, so that a picture of a batch moves as it would alone. Optimisers that mix
elements (Adafactor, LBFGS, Muon) would break that and are left out.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adagrad, Adam, Adamax, AdamW, NAdam, Optimizer, RAdam, RMSprop

from vqclip.common.errors import UsageError
from vqclip.common.registry import pick


def _momentum_sgd(latents: list[Tensor], lr: float) -> SGD:
    return SGD(latents, lr=lr, momentum=0.9)


OPTIMISERS: Mapping[str, Callable[[list[Tensor], float], Optimizer]] = {
    "adam": Adam,
    "adamw": AdamW,
    "adamax": Adamax,
    "adagrad": Adagrad,
    "nadam": NAdam,
    "radam": RAdam,
    "rmsprop": RMSprop,
    "sgd": _momentum_sgd,
}
"""torch's optimisers with its defaults, except that `sgd` has momentum 0.9."""


def _constant(progress: float) -> float:
    return 1.0


def _cosine(progress: float) -> float:
    """Half a cosine from 1 to 0 (Loshchilov and Hutter, "SGDR", 2017, without restarts)."""
    return (1 + math.cos(math.pi * progress)) / 2


def _linear(progress: float) -> float:
    return 1 - progress


def _drop(progress: float) -> float:
    """A tenth from three quarters on: pixray's default `learning_rate_drops` of 75 %."""
    return 0.1 if progress >= 0.75 else 1.0


SCHEDULES: Mapping[str, Callable[[float], float]] = {
    "constant": _constant,
    "cosine": _cosine,
    "linear": _linear,
    "drop": _drop,
}
"""Factor of the learning rate by progress, the fraction of updates already made, in [0, 1)."""


def _plain(gradient: Tensor) -> Tensor:
    return gradient


def _unit(gradient: Tensor) -> Tensor:
    """Each picture's gradient at a root mean square of 1: every step counts the same, however steep it is."""
    over = tuple(range(1, gradient.dim()))
    return gradient / gradient.square().mean(over, keepdim=True).sqrt().clamp_min(torch.finfo(gradient.dtype).tiny)


GRADIENTS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "plain": _plain,
    "unit": _unit,
    "sign": torch.sign,
}
"""What becomes of the gradient (N, …) before the optimiser takes it, each picture on its own."""


def make_optimiser(name: str, latent: Tensor, lr: float) -> Optimizer:
    """Make the optimiser `name` for one leaf tensor.

    Raises:
        UsageError: an unknown name.
    """
    return pick(OPTIMISERS, name, "optimiser")([latent], lr)


class Ema:
    """Exponential moving average of a latent, corrected for its start at zero (as in Adam, section 3).

    `decay` in [0, 1): 0 is the latent itself; big-sleep and pytti use 0.99.

    Raises:
        UsageError: a decay outside [0, 1).
    """

    def __init__(self, decay: float) -> None:
        if not 0 <= decay < 1:
            raise UsageError(f"The decay of the latent's average is {decay}; it must be at least 0 and below 1.")
        self.decay = decay
        self._sum: Tensor | None = None
        self._weight = 0.0

    @torch.no_grad()
    def update(self, latent: Tensor) -> None:
        """Take the latent after an update into account."""
        if self.decay:
            old = torch.zeros_like(latent) if self._sum is None else self._sum
            self._sum = old * self.decay + latent * (1 - self.decay)
            self._weight = self._weight * self.decay + (1 - self.decay)

    def value(self, latent: Tensor) -> Tensor:
        """Return the average; the latent itself before the first update, and with averaging off."""
        return latent if self._sum is None else self._sum / self._weight

    def reset(self) -> None:
        """Forget every latent."""
        self._sum, self._weight = None, 0.0

    def state_dict(self) -> dict[str, Any]:
        """Copy what `load_state_dict` needs to go on bit for bit."""
        total = None if self._sum is None else self._sum.clone()
        return {"decay": self.decay, "sum": total, "weight": self._weight}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a state that `state_dict` returned."""
        self.decay = state["decay"]
        self._sum = None if state["sum"] is None else state["sum"].clone()
        self._weight = state["weight"]
