"""Logits over the codebook: entries come back as themselves, and the gradient is the softmax's."""

import pytest
import torch
from conftest import TinyModels
from test_pipeline import outcome, plan_of
from torch import Tensor

from vqclip.common.runtime import Generators
from vqclip.models.vqgan import VQGAN, load_vqgan
from vqclip.optimisation.latent_noise import LatentNoise
from vqclip.optimisation.loop import optimise
from vqclip.optimisation.space import SOFTNESS, SPACES


@pytest.fixture
def vqgan(tiny: TinyModels) -> VQGAN:
    return load_vqgan(tiny.vqgan)


def entries(vqgan: VQGAN) -> Tensor:
    numbers = torch.Generator().manual_seed(3)
    return vqgan.lookup(torch.randint(vqgan.codebook.shape[0], (2, 3, 4), generator=numbers))


@pytest.mark.parametrize("name", SPACES)
def test_a_latent_of_entries_comes_back_and_is_drawn_as_it_is(vqgan: VQGAN, name: str) -> None:
    space, quantise = SPACES[name](vqgan)
    latent = entries(vqgan)
    numbers = space.enter(latent)
    assert torch.equal(space.leave(numbers), latent)
    assert torch.equal(quantise(numbers), latent)
    assert torch.equal(numbers.clamp(*space.bounds), numbers)


def test_the_logits_are_those_of_squared_distances_and_their_gradient_is_the_softmax_s(vqgan: VQGAN) -> None:
    space, quantise = SPACES["logits"](vqgan)
    book = vqgan.codebook
    latent = entries(vqgan) + 0.1
    logits = space.enter(latent)
    distance = (latent[0, :, 1, 2] - book).square().sum(1)
    spread = (book - book.mean(0)).square().sum(1).mean()
    torch.testing.assert_close(logits[0, :, 1, 2], -distance / (SOFTNESS * spread), rtol=1e-4, atol=1e-4)
    weight = torch.randn(latent.shape, generator=torch.Generator().manual_seed(5))
    ours, plain = logits.clone().requires_grad_(), logits.clone().requires_grad_()
    (quantise(ours) * weight).sum().backward()
    mean = (plain.softmax(1)[:, :, None] * book[None, :, :, None, None]).sum(1)
    (mean * weight).sum().backward()
    torch.testing.assert_close(ours.grad, plain.grad)


@pytest.mark.parametrize("word", ["space=logits", "noise=0.3", "gradient=unit", "gradient=sign", "commitment=0.25"])
def test_the_loss_falls_by_every_way_to_step(tiny: TinyModels, word: str) -> None:
    sums = outcome(plan_of(tiny, f"optimise.{word}", "optimise.steps=30", "optimise.schedule=cosine"))[1].sums
    assert sum(sums[-3:]) < sum(sums[:3])


@pytest.mark.parametrize("word", ["space=logits", "noise=0.3", "gradient=unit", "commitment=0.25"])
def test_a_picture_is_the_same_alone_and_among_others(tiny: TinyModels, word: str) -> None:
    words = (f"optimise.{word}", "optimise.steps=3")
    both = outcome(plan_of(tiny, *words, prompts=("a cat", "the sun")))[0]
    alone = outcome(plan_of(tiny, *words, prompts=("the sun",)))[0]
    torch.testing.assert_close(both.images[1:], alone.images, atol=1e-3, rtol=0)


def test_the_noise_has_its_deviation_at_first_and_falls_to_nothing_at_two_thirds() -> None:
    scale = torch.tensor([0.5, 2.0]).view(1, 2, 1, 1)
    noise = LatentNoise(scale, Generators.from_seeds([1, 2], torch.device("cpu")).noise)
    latent = torch.zeros(2, 2, 60, 60)
    torch.testing.assert_close(noise(latent, 0.0).std((0, 2, 3)), torch.tensor([0.5, 2.0]), rtol=0.05, atol=0)
    torch.testing.assert_close(noise(latent, 1 / 3).std((0, 2, 3)), torch.tensor([0.25, 1.0]), rtol=0.05, atol=0)
    assert noise(latent, 2 / 3).eq(0).all() and noise(latent, 0.99).eq(0).all()


def test_noise_is_on_the_latent_only_while_the_gradient_is_taken() -> None:
    from test_loop import make_descent

    still, moved = make_descent(lr=0.5), make_descent(lr=0.5)
    seen: list[Tensor] = []
    moved.disturb = lambda latent, progress: torch.full_like(latent, 0.25 * (1 - progress))
    moved.render = lambda latent: seen.append(latent.detach().clone()) or 1 * latent  # type: ignore[func-returns-value]
    next(optimise(still, 2))
    next(optimise(moved, 2))
    assert seen[0].eq(0.25).all()  # the start is 0
    # the gradient of (x - 1)^2 / 2 at 0.25 is -0.75; half of it from 0, not from 0.25
    assert still.latent.eq(0.5).all() and moved.latent.eq(0.375).all()
