"""Steps that give NaN are tried again with half the step size, twice; those that need too much memory, with less."""

import pytest
import torch
from test_loop import SHAPE, Towards, make_descent
from torch import Tensor

from vqclip.common.errors import NumericsError
from vqclip.optimisation.descent import Descent
from vqclip.optimisation.loop import optimise


class Breaking(Towards):
    """The objective of test_loop that gives NaN, or a gradient of NaN, at some of its calls."""

    def __init__(self, inner: Towards, calls: set[int], gradient: bool = False) -> None:
        self.inner, self.calls, self.gradient, self.count = inner, calls, gradient, 0

    def __call__(self, images: Tensor, latent: Tensor) -> dict[str, Tensor]:
        losses = self.inner(images, latent)
        self.count += 1
        if self.count in self.calls:
            assert images.grad is not None
            images.grad.fill_(torch.nan)
            return losses if self.gradient else {"prompt": losses["prompt"] * torch.nan}
        return losses


class Crowded(Towards):
    """The objective of test_loop for a GPU that holds so many cutouts at once only."""

    def __init__(self, inner: Towards, micro_batch: int, room: int) -> None:
        self.inner, self.micro_batch, self.room = inner, micro_batch, room

    def __call__(self, images: Tensor, latent: Tensor) -> dict[str, Tensor]:
        losses = self.inner(images, latent)
        if self.micro_batch > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return losses

    def reduce_memory(self) -> bool:
        before, self.micro_batch = self.micro_batch, max(1, self.micro_batch // 2)
        return before > 1


def broken(calls: set[int], gradient: bool = False) -> Descent:
    descent = make_descent("adam", lr=0.1, noise=0.5, ema=0.5)
    descent.objective = Breaking(descent.objective, calls, gradient)  # type: ignore[arg-type]
    return descent


@pytest.mark.parametrize("gradient", [False, True])
def test_a_bad_step_is_tried_again_with_half_the_size(gradient: bool, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("WARNING", "vqclip")
    descent = broken({3}, gradient)
    numbers = [step.number for step in optimise(descent, 5)]
    assert numbers == [1, 2, 3, 4, 5] and descent.lr == 0.05
    expected = make_descent("adam", lr=0.1, noise=0.5, ema=0.5)
    list(optimise(expected, 2))
    expected.objective(*(torch.zeros(SHAPE, requires_grad=True) for _ in range(2)))  # other draws
    expected.lr = 0.05
    list(optimise(expected, 5))
    assert torch.equal(descent.result(), expected.result())
    assert caplog.text.count("trying with half the step size") == 1


def test_the_smaller_size_is_part_of_the_state() -> None:
    descent = broken({2})
    states = [step.state() for step in optimise(descent, 4)]
    again = make_descent("adam", lr=0.1, noise=0.5, ema=0.5)
    again.load_state_dict(states[1])
    list(optimise(again, 4))
    assert torch.equal(again.result(), descent.result())


def test_after_two_tries_the_run_is_given_up_before_the_bad_step() -> None:
    descent = broken(set(range(3, 99)))
    with pytest.raises(NumericsError, match="step 3, also with a smaller step size"):
        list(optimise(descent, 5))
    assert descent.number == 2 and bool(torch.isfinite(descent.latent).all())


def test_too_little_memory_means_fewer_cutouts_at_once_and_the_same_steps() -> None:
    descent, expected = (make_descent("adam", lr=0.1, noise=0.5) for _ in range(2))
    descent.objective = Crowded(descent.objective, 8, 3)  # type: ignore[arg-type]
    assert [step.number for step in optimise(descent, 4)] == [1, 2, 3, 4]
    list(optimise(expected, 4))
    assert torch.equal(descent.result(), expected.result()) and descent.objective.micro_batch == 2  # type: ignore[attr-defined]


def test_then_the_decoder_is_asked_and_at_last_the_run_is_given_up() -> None:
    descent, asked = make_descent("adam"), []

    def reduce_memory() -> bool:
        asked.append(descent.objective.micro_batch)  # type: ignore[attr-defined]
        return len(asked) == 1

    descent.objective = Crowded(descent.objective, 8, 0)  # type: ignore[arg-type]
    descent.reduce_render_memory = reduce_memory
    with pytest.raises(torch.OutOfMemoryError):
        list(optimise(descent, 4))
    assert asked == [1, 1]
