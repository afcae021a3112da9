"""A recorded step gives the plain gradient at every step, and where it does not, the plain one is taken.

On a machine without a GPU the recording is a stand-in that computes its outputs anew, in the memory of the first ones:
what surrounds it, drawing, copying and comparing, is the real thing.
"""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from conftest import TinyModels
from torch import Tensor
from torch.optim import Adam
from torch.utils._python_dispatch import TorchDispatchMode

from vqclip.common.runtime import Generators
from vqclip.config.loader import load_config
from vqclip.guidance.losses import tv
from vqclip.guidance.objective import Guide, Objective, Targets
from vqclip.guidance.recipes import RECIPES
from vqclip.hub.model_files import find_models
from vqclip.optimisation.cuda_graphs import ReplayedGradient
from vqclip.optimisation.descent import Descent, Space, differentiate
from vqclip.optimisation.loop import optimise
from vqclip.optimisation.optimisers import SCHEDULES, Ema
from vqclip.pipeline.build import build
from vqclip.pipeline.plan import make_plan

gpu = pytest.mark.gpu
cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")


class StandIn:
    """What `GradientGraph` does, without a graph."""

    made = 0

    def __init__(self, latent: Tensor, render: Any, objective: Any, views: list[Any]) -> None:
        type(self).made += 1
        self.views = views

        def plain() -> tuple[dict[str, Tensor], Tensor, Tensor]:
            latent.grad = None
            losses, images = differentiate(latent, render, lambda seen, leaf: objective.score(seen, leaf, views))
            assert latent.grad is not None
            return losses, images, latent.grad

        self.plain = plain
        self.losses, self.images, self.grad = plain()
        self.expected = self.grad.clone()

    def replay(self, views: list[Any]) -> None:
        for mine, drawn in zip(self.views, views, strict=True):
            for place, value in zip(mine.tensors(), drawn.tensors(), strict=True):
                place.copy_(value)
        losses, images, grad = self.plain()
        for place, value in zip(
            (*self.losses.values(), self.images, self.grad), (*losses.values(), images, grad), strict=True
        ):
            place.copy_(value)


@pytest.fixture(autouse=True)
def counted() -> None:
    StandIn.made = 0


def descent(how: Callable[..., Any], device: str = "cpu", micro_batch: int | None = None) -> Descent:
    """A decoder of one convolution, and a perceptor that sees every pixel."""
    streams = Generators.from_seeds([4], torch.device(device))
    numbers = torch.Generator().manual_seed(0)
    kernel, eye, wanted, start = (
        torch.randn(*shape, generator=numbers).to(device) for shape in ((3, 4, 3, 3), (8, 192), (1, 8), (1, 4, 16, 16))
    )
    targets = Targets(
        torch.nn.functional.normalize(wanted, dim=-1),
        torch.ones(1, device=device),
        torch.full((1,), -torch.inf, device=device),
        torch.zeros(1, dtype=torch.long, device=device),
    )

    def encode(views: Tensor) -> Tensor:
        return torch.nn.functional.normalize(torch.tanh(views.flatten(1) @ eye.T), dim=-1)

    latent, limit = start.requires_grad_(), torch.tensor(9.0, device=device)
    return Descent(
        latent=latent,
        render=lambda leaf: torch.sigmoid(torch.nn.functional.conv2d(leaf, kernel, padding=1)),
        objective=Objective(
            [Guide(encode, 8, targets)],
            RECIPES["vqclip"],
            6,
            streams.cutouts,
            streams.noise,
            micro_batch,
            losses={"tv": (tv, 0.1)},
            init=(start.detach().clone(), 0.1),
        ),
        make_optimiser=lambda leaf: Adam([leaf], 0.05),
        lr=0.05,
        schedule=SCHEDULES["constant"],
        average=Ema(0.0),
        space=Space((-limit, limit), limit),
        streams=streams,
        differentiate=how,
    )


def outcome(parts: Descent, steps: int = 5) -> tuple[Tensor, list[dict[str, float]]]:
    seen = [
        {term: float(loss) for term, loss in step.losses.items()} | {"mean": float(step.images.mean())}
        for step in optimise(parts, steps)
    ]
    return parts.latent.detach().clone(), seen


def test_every_step_sees_its_own_cutouts_and_noise() -> None:
    plain, recorded = outcome(descent(differentiate)), outcome(descent(ReplayedGradient(StandIn)))  # type: ignore[arg-type]
    assert torch.equal(plain[0], recorded[0])
    assert plain[1] == recorded[1]
    assert StandIn.made == 1


def test_other_parts_are_recorded_anew() -> None:
    parts = descent(ReplayedGradient(StandIn))  # type: ignore[arg-type]
    outcome(parts, 2)
    assert parts.reduce_memory()
    outcome(parts, 4)
    assert StandIn.made == 2


def test_guides_in_turn_are_recorded_once_each() -> None:
    results = []
    for how in (differentiate, ReplayedGradient(StandIn)):  # type: ignore[arg-type]
        parts = descent(how)
        parts.objective.guides = [parts.objective.guides[0]] * 3  # type: ignore[attr-defined]
        parts.objective.in_turn = True  # type: ignore[attr-defined]
        results.append(outcome(parts, 8))
    assert torch.equal(results[0][0], results[1][0]) and results[0][1] == results[1][1]
    assert StandIn.made == 3


def test_what_a_step_gave_stays_when_the_next_is_made() -> None:
    steps = optimise(descent(ReplayedGradient(StandIn)), 2)  # type: ignore[arg-type]
    first = next(steps)
    before = first.images.clone(), first.losses["prompt"].clone()
    next(steps)
    assert torch.equal(first.images, before[0])
    assert torch.equal(first.losses["prompt"], before[1])


class Wrong(StandIn):
    """A recording that no longer reads what is copied for it, or lost its weights."""

    def replay(self, views: list[Any]) -> None:
        self.grad.mul_(0.9)


class Failing(StandIn):
    def __init__(self, *_: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore")


@pytest.mark.parametrize(("kind", "reason"), [(Wrong, "differs by 10%"), (Failing, "not permitted")])
def test_a_recording_that_is_not_the_plain_step_is_given_up(
    kind: type[StandIn], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    plain, recorded = outcome(descent(differentiate)), outcome(descent(ReplayedGradient(kind)))  # type: ignore[arg-type]
    assert torch.equal(plain[0], recorded[0])
    assert plain[1] == recorded[1]
    assert [reason in message for message in caplog.messages] == [True]


class Full(StandIn):
    def __init__(self, *arguments: Any) -> None:
        if type(self).made == 0:
            type(self).made += 1
            raise torch.OutOfMemoryError("full")
        super().__init__(*arguments)


def test_a_step_for_which_the_gpu_is_full_is_recorded_anew_in_smaller_parts() -> None:
    parts = descent(ReplayedGradient(Full))  # type: ignore[arg-type]
    latent, seen = outcome(parts)
    assert parts.objective.state_dict() == {"micro_batch": 3} and Full.made == 2
    expected = outcome(descent(differentiate, micro_batch=3))
    assert torch.equal(latent, expected[0]) and seen == expected[1]


class Waiting(TorchDispatchMode):
    """Notes the operations that would wait for a GPU, or send it a constant."""

    WAITS = ("_local_scalar_dense", "nonzero", "lift_fresh", "is_nonzero", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.met: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if any(name in str(func) for name in self.WAITS):
            self.met.append(str(func))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_nothing_in_a_step_waits_for_the_gpu(tiny: TinyModels, recipe: str, precision: str) -> None:
    words = [f"cutouts.recipe={recipe}", f"runtime.precision={precision}", "losses={tv: 0.1, saturation: 0.1}"]
    settings = load_config([str(tiny.config)], words, {"prompts": ["a cat | a dog:-1:-0.5"], "size": "48x32"})
    plan = make_plan(settings)
    parts = build(plan, find_models(plan.config)).descent
    views = parts.objective.draw(parts.render(parts.latent).detach())
    with Waiting() as waiting:
        differentiate(parts.latent, parts.render, lambda seen, leaf: parts.objective.score(seen, leaf, views))
    assert waiting.met == []


@gpu
@cuda
@pytest.mark.parametrize("micro_batch", [None, 2])
def test_a_graph_gives_the_plain_steps(micro_batch: int | None) -> None:
    plain, recorded = (outcome(descent(how, "cuda", micro_batch), 8) for how in (differentiate, ReplayedGradient()))
    torch.testing.assert_close(recorded[0], plain[0], atol=1e-4, rtol=1e-4)
    for one, other in zip(recorded[1], plain[1], strict=True):
        assert one == pytest.approx(other, rel=1e-4)


@gpu
@cuda
def test_a_graph_is_recorded_without_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    outcome(descent(ReplayedGradient(), "cuda"), 3)
    assert not caplog.messages
