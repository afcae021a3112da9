"""The descent on problems whose answer is known, and its state."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from vqclip.common.runtime import Generators
from vqclip.optimisation.descent import Descent, Space
from vqclip.optimisation.loop import optimise
from vqclip.optimisation.optimisers import SCHEDULES, Ema, make_optimiser
from vqclip.optimisation.step import Step

SHAPE = (2, 3, 4, 4)


class Towards:
    """Half the squared distance of the picture to a goal, plus noise from the run's own generators."""

    def __init__(self, goal: float, streams: Generators, noise: float = 0.0) -> None:
        self.goal, self.streams, self.noise = goal, streams, noise

    def __call__(self, images: Tensor, latent: Tensor) -> dict[str, Tensor]:
        jitter = torch.stack([torch.randn(SHAPE[1:], generator=rng) for rng in self.streams.noise])
        loss = (images - self.goal - self.noise * jitter).square().flatten(1).sum(1) / 2
        loss.sum().backward()
        return {"prompt": loss.detach()}

    def begin(self, number: int, stage: int, reached: Tensor | None) -> None:
        pass

    def grow(self, change: Callable[[Tensor], Tensor]) -> None:
        pass

    def reduce_memory(self) -> bool:
        return False

    def state_dict(self) -> dict[str, Any]:
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        pass


def make_descent(
    name: str = "plain",
    lr: float = 0.5,
    schedule: str = "constant",
    ema: float = 0.0,
    goal: float = 1.0,
    noise: float = 0.0,
    render: Callable[[Tensor], Tensor] = lambda latent: 1 * latent,
    bounds: tuple[float, float] = (-9, 9),
) -> Descent:
    streams = Generators.from_seeds([0, 1], torch.device("cpu"))
    latent = torch.zeros(SHAPE, requires_grad=True)
    low, high = (torch.full((1, 3, 1, 1), float(bound)) for bound in bounds)
    return Descent(
        latent=latent,
        render=render,
        objective=Towards(goal, streams, noise),
        make_optimiser=lambda leaf: torch.optim.SGD([leaf], lr) if name == "plain" else make_optimiser(name, leaf, lr),
        lr=lr,
        schedule=SCHEDULES[schedule],
        average=Ema(ema),
        space=Space((low, high), torch.ones(())),
        streams=streams,
    )


def test_plain_descent_halves_the_distance_at_every_step() -> None:
    distances = [(1 - step.render()).max().item() for step in optimise(make_descent(), 4)]
    assert distances == [0.5, 0.25, 0.125, 0.0625]


def test_the_step_shows_the_picture_and_the_loss_before_its_update() -> None:
    first = next(optimise(make_descent(), 4))
    assert (first.number, first.total) == (1, 4)
    assert first.images.eq(0).all()
    assert first.losses["prompt"].tolist() == [24.0, 24.0]


def test_the_gradient_passes_through_the_decoder() -> None:
    descent = make_descent(lr=0.125, render=lambda latent: 2 * latent)
    next(optimise(descent, 1))
    # d/dx of (2x - 1)^2 / 2 at 0 is -2; one step of 1/8 moves by 1/4
    assert descent.latent.eq(0.25).all()


def test_the_latent_stays_between_the_bounds() -> None:
    descent = make_descent(lr=1.0, goal=5.0, bounds=(-1, 2))
    list(optimise(descent, 3))
    assert descent.latent.eq(2).all()


def test_the_learning_rate_follows_the_schedule_over_the_whole_run() -> None:
    descent = make_descent(schedule="linear", lr=1.0)
    rates = [descent.optimiser.param_groups[0]["lr"] for _ in optimise(descent, 4)]
    assert rates == [SCHEDULES["linear"](number / 4) for number in range(4)]
    assert rates[0] == 1.0 and rates == sorted(rates, reverse=True) and rates[-1] < rates[0]


def test_with_averaging_the_picture_is_the_average_s() -> None:
    descent = make_descent(ema=0.5)
    for step in optimise(descent, 3):
        last = step
    # latents 1/2, 3/4, 7/8 weighted 1/4, 1/2, 1 and divided by 7/4
    assert torch.allclose(last.render(), torch.full(SHAPE, (0.125 + 0.375 + 0.875) / 1.75))


def test_leaving_the_loop_stops_it() -> None:
    descent = make_descent()
    for step in optimise(descent, 100):
        if step.number == 3:
            break
    assert descent.number == 3


def test_no_steps_change_nothing() -> None:
    descent = make_descent()
    assert list(optimise(descent, 0)) == []
    assert descent.result().eq(0).all()


def run_to(descent: Descent, total: int, stop: int) -> list[Step]:
    steps = []
    for step in optimise(descent, total):
        steps.append(step)
        if step.number == stop:
            break
    return steps


@pytest.mark.parametrize("ema", [0.0, 0.9])
@pytest.mark.parametrize("name", ["adam", "adamw", "adamax", "adagrad", "nadam", "radam", "rmsprop", "sgd"])
def test_three_steps_and_three_more_are_six_bit_for_bit(name: str, ema: float) -> None:
    settings = {"name": name, "lr": 0.1, "schedule": "cosine", "ema": ema, "noise": 0.3}
    whole = make_descent(**settings)
    losses = [step.losses["prompt"] for step in run_to(whole, 6, 6)]
    state = run_to(make_descent(**settings), 6, 3)[-1].state()
    rest = make_descent(**settings)
    rest.load_state_dict(state)
    resumed = [step.losses["prompt"] for step in run_to(rest, 6, 6)]
    assert all(torch.equal(a, b) for a, b in zip(losses[3:], resumed, strict=True))
    assert torch.equal(whole.latent, rest.latent)
    assert torch.equal(whole.result(), rest.result())


def test_a_state_does_not_change_while_the_run_goes_on() -> None:
    descent = make_descent("adam")
    steps = optimise(descent, 3)
    state = next(steps).state()
    before = state["latent"].clone()
    list(steps)
    assert torch.equal(state["latent"], before) and state["number"] == 1
