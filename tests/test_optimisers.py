"""Optimisers go downhill, keep pictures apart and resume exactly; schedules and average are plain maths."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.optimisation.optimisers import GRADIENTS, OPTIMISERS, SCHEDULES, Ema, make_optimiser


def latents(n: int = 3) -> Tensor:
    return torch.randn(n, 4, 2, 2, generator=torch.Generator().manual_seed(0))


def descend(name: str, start: Tensor, steps: int, targets: Tensor) -> Tensor:
    """Pull each picture to its own target, with gradients of very different sizes."""
    latent = start.clone().requires_grad_()
    optimiser = make_optimiser(name, latent, lr=0.05)
    scale = torch.tensor([1.0, 100.0, 0.01])[: len(start), None, None, None]
    for _ in range(steps):
        optimiser.zero_grad()
        (scale * (latent - targets) ** 2).sum().backward()
        optimiser.step()
    return latent.detach()


def test_the_peers_optimisers_are_torchs():
    assert set(OPTIMISERS) == {"adam", "adamw", "adamax", "adagrad", "nadam", "radam", "rmsprop", "sgd"}
    for name in set(OPTIMISERS) - {"sgd"}:
        assert type(make_optimiser(name, latents().requires_grad_(), 0.1)).__name__.lower() == name


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_picture_moves_in_a_batch_as_it_does_alone(name):
    start = latents()
    together = descend(name, start, 10, torch.zeros_like(start))
    alone = descend(name, start[:1], 10, torch.zeros_like(start[:1]))
    assert torch.equal(together[:1], alone)
    assert (together[0] - start[0]).norm() > 0


@pytest.mark.parametrize("name", OPTIMISERS)
def test_every_optimiser_goes_downhill(name):
    start = latents(1)
    assert descend(name, start, 30, torch.zeros_like(start)).norm() < start.norm()


@pytest.mark.parametrize("name", OPTIMISERS)
def test_a_saved_optimiser_goes_on_bit_for_bit(name):
    def steps(latent: Tensor, optimiser: torch.optim.Optimizer, count: int) -> None:
        for _ in range(count):
            optimiser.zero_grad()
            (latent**2).sum().backward()
            optimiser.step()

    whole = latents().requires_grad_()
    steps(whole, make_optimiser(name, whole, 0.05), 6)
    first = latents().requires_grad_()
    before = make_optimiser(name, first, 0.05)
    steps(first, before, 3)
    second = first.detach().clone().requires_grad_()
    after = make_optimiser(name, second, 0.05)
    after.load_state_dict(copy.deepcopy(before.state_dict()))
    steps(second, after, 3)
    assert torch.equal(whole, second)


def test_an_unknown_optimiser_is_refused_with_the_nearest_name():
    with pytest.raises(UsageError, match="did you mean 'adam'"):
        make_optimiser("adan", latents().requires_grad_(), 0.1)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("constant", [1, 1, 1, 1]),
        ("cosine", [1, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
        ("linear", [1, 0.5, 0.25, 0]),
        ("drop", [1, 1, 0.1, 0.1]),
    ],
)
def test_schedules(name, values):
    assert [SCHEDULES[name](progress) for progress in (0, 0.5, 0.75, 1)] == pytest.approx(values)


def test_the_average_is_the_weighted_mean_of_what_it_took_in():
    seen = [latents() + i for i in range(5)]
    average = Ema(0.9)
    for latent in seen:
        average.update(latent)
    weights = torch.tensor([0.9 ** (4 - i) for i in range(5)])
    expected = sum(w * x for w, x in zip(weights / weights.sum(), seen, strict=True))
    torch.testing.assert_close(average.value(seen[-1]), expected)


def test_the_average_of_one_latent_is_that_latent():
    average = Ema(0.99)
    average.update(latents())
    torch.testing.assert_close(average.value(latents()), latents())


def test_no_average_is_the_latent_itself():
    off, fresh = Ema(0.0), Ema(0.9)
    off.update(latents() + 1)
    assert torch.equal(off.value(latents()), latents())
    assert torch.equal(fresh.value(latents()), latents())


def test_a_saved_average_goes_on_bit_for_bit_and_is_a_copy():
    whole, first, second = Ema(0.9), Ema(0.9), Ema(0.9)
    for i in range(6):
        whole.update(latents() * i)
    for i in range(3):
        first.update(latents() * i)
    second.load_state_dict(first.state_dict())
    for i in range(3, 6):
        second.update(latents() * i)
    assert torch.equal(whole.value(latents()), second.value(latents()))
    assert not torch.equal(first.value(latents()), second.value(latents()))


@pytest.mark.parametrize("decay", [-0.1, 1.0, math.nan])
def test_a_decay_outside_its_range_is_refused(decay):
    with pytest.raises(UsageError, match="decay"):
        Ema(decay)


def test_a_unit_gradient_has_a_mean_square_of_one_for_each_picture_and_its_direction():
    gradient = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    gradient *= torch.tensor([1e-6, 30.0]).view(2, 1, 1, 1)
    unit = GRADIENTS["unit"](gradient)
    torch.testing.assert_close(unit.square().mean((1, 2, 3)), torch.ones(2))
    torch.testing.assert_close(F.cosine_similarity(unit.flatten(1), gradient.flatten(1)), torch.ones(2))
    assert GRADIENTS["unit"](torch.zeros(1, 2, 2, 2)).eq(0).all()
    assert torch.equal(GRADIENTS["plain"](gradient), gradient)
    assert torch.equal(GRADIENTS["sign"](gradient), gradient.sign())
