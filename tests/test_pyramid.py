"""Coarse to fine: stages of the right size at the right steps, one run, the same bits after a stop in any of them."""

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from command import Command
from conftest import TinyModels
from PIL import Image
from test_loop import Towards, make_descent
from test_pipeline import build, outcome, plan_of
from torch import Tensor

from vqclip.common.images import open_image
from vqclip.guidance.losses import hold_loss
from vqclip.models.vqgan import VQGAN, load_vqgan
from vqclip.optimisation.descent import Descent, Growth, repeated
from vqclip.optimisation.loop import optimise
from vqclip.optimisation.pyramid import grids, growths, in_size, resized, view_shares
from vqclip.optimisation.step import Step
from vqclip.pipeline.run import run

STAGES = [[0.25, 0.25], [0.5, 0.25], [1, 0.5]]
PYRAMID = "optimise.pyramid=[[0.25, 0.25], [0.5, 0.25], [1, 0.5]]"


def test_stages_are_shares_of_the_grid_and_of_the_steps() -> None:
    assert grids(STAGES, (16, 24)) == [(4, 6), (8, 12), (16, 24)]
    assert growths(STAGES, (16, 24)) == [Growth(0.25, (8, 12)), Growth(0.5, (16, 24))]
    assert grids([[0.01, 0.5], [1, 0.5]], (4, 4))[0] == (1, 1)
    assert grids([], (3, 5)) == [(3, 5)] and growths([], (3, 5)) == []
    with_views = [[0.25, 0.25, 0.2], [0.5, 0.25], [1, 0.5, 0.9]]
    assert grids(with_views, (16, 24)) == grids(STAGES, (16, 24))
    assert growths(with_views, (16, 24)) == growths(STAGES, (16, 24))
    assert view_shares(with_views) == [0.2, 1.0, 0.9] and view_shares([]) == []


class Still(Towards):
    """The objective of test_loop for pictures of any size, without noise; it remembers what it is held near."""

    def __init__(self, inner: Towards, near: Tensor) -> None:
        self.goal, self.near = inner.goal, near

    def __call__(self, images: Tensor, latent: Tensor) -> dict[str, Tensor]:
        assert self.near.shape == latent.shape
        loss = (images - self.goal).square().flatten(1).sum(1) / 2
        loss.sum().backward()
        return {"prompt": loss.detach()}

    def grow(self, change: Any) -> None:
        self.near = change(self.near)


def growing(ema: float = 0.0) -> Descent:
    descent = make_descent("adam", lr=0.1, ema=ema)
    descent.growth, descent.enlarge = [Growth(0.25, (8, 8)), Growth(0.5, (16, 12))], repeated
    descent.objective = Still(descent.objective, torch.zeros(2, 3, 4, 4))  # type: ignore[arg-type]
    descent.show = lambda images: in_size(images, (16, 12))
    return descent


def sizes(steps: list[Step]) -> list[tuple[int, ...]]:
    return [tuple(step.images.shape[-2:]) for step in steps]


def test_every_stage_gets_its_share_of_the_steps_and_all_are_one_run() -> None:
    descent = growing()
    steps = list(optimise(descent, 8))
    assert sizes(steps) == [(4, 4)] * 2 + [(8, 8)] * 2 + [(16, 12)] * 4
    assert [step.number for step in steps] == list(range(1, 9))
    assert descent.result().shape == (2, 3, 16, 12)


def test_a_stage_goes_on_with_the_average_of_the_one_before_and_a_new_optimiser() -> None:
    descent = growing(ema=0.5)
    steps = optimise(descent, 8)
    next(steps), next(steps)
    kept = descent.average.value(descent.latent.detach())
    assert not torch.equal(kept, descent.latent)
    next(steps)  # Adam's first step is its rate times the sign of the gradient: everything moves by a tenth
    torch.testing.assert_close(descent.latent.detach(), repeated(kept, (8, 8)) + 0.1)


def test_frames_have_the_final_size_in_every_stage() -> None:
    assert {tuple(step.render().shape) for step in optimise(growing(), 8)} == {(2, 3, 16, 12)}


@pytest.mark.parametrize("total", [0, 1, 2])
def test_the_result_has_the_final_size_however_few_the_steps(total: int) -> None:
    descent = growing()
    list(optimise(descent, total))
    assert descent.number == total and descent.result().shape == (2, 3, 16, 12)


@pytest.mark.parametrize("stop", range(1, 8))
def test_a_run_goes_on_bit_for_bit_from_any_stage(stop: int) -> None:
    whole, stopped, rest = growing(0.9), growing(0.9), growing(0.9)
    list(optimise(whole, 8))
    state = next(step.state() for step in optimise(stopped, 8) if step.number == stop)
    rest.load_state_dict(state)
    assert [step.number for step in optimise(rest, 8)] == list(range(stop + 1, 9))
    assert torch.equal(whole.latent, rest.latent) and torch.equal(whole.result(), rest.result())


def test_more_steps_after_the_end_are_steps_of_the_last_stage() -> None:
    descent = growing()
    descent.start_from(torch.zeros(2, 3, 16, 12), 8)
    assert sizes(list(optimise(descent, 10))) == [(16, 12)] * 2
    with pytest.raises(ValueError, match=r"\(2, 3, 8, 8\)"):
        growing().start_from(torch.zeros(2, 3, 8, 8), 8)


# ---- with networks


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def vqgan(tiny: TinyModels) -> VQGAN:
    return load_vqgan(tiny.vqgan)


def test_a_larger_latent_is_that_of_the_larger_picture(vqgan: VQGAN) -> None:
    latent = vqgan.lookup(torch.randint(vqgan.codebook.shape[0], (2, 3, 4), generator=torch.Generator().manual_seed(0)))
    pictures = F.interpolate(vqgan.render(latent), (12, 16), mode="bicubic", antialias=True).clamp(0, 1)
    assert torch.equal(resized(vqgan, latent, (6, 8)), vqgan.quantise(vqgan.encode(pictures)))


def states(tiny: TinyModels, *words: str) -> tuple[list[dict[str, Any]], Tensor]:
    """The state after every step of a whole run, and its picture."""
    parts, found = build(plan_of(tiny, "optimise.steps=8", PYRAMID, *words)), []

    class Keep:
        def step(self, step: Step) -> None:
            found.append(step.state())

        def finish(self, finished: Any) -> None: ...
        def stop(self, last: Any) -> None: ...

    finished = run(parts, [Keep()])
    assert finished is not None
    return found, finished.images


LOGITS = ("optimise.space=logits", "optimise.noise=0.2", "optimise.ema=0.8")
VIEWS = (
    "optimise.pyramid=[[0.25, 0.25, 0.3], [0.5, 0.25], [1, 0.5]]",
    "perceptors=[CLIP, 'CLIP share=0.5']",
    "optimise.guides=turns",
    "optimise.hold=5",
)


@pytest.mark.parametrize("words", [(), LOGITS, VIEWS])
def test_a_run_with_networks_goes_on_bit_for_bit_from_every_stage(tiny: TinyModels, words: tuple[str, ...]) -> None:
    words = tuple(word.replace("CLIP", str(tiny.clip)) for word in words)
    found, images = states(tiny, *words)
    assert {state["stage"] for state in found} == {0, 1, 2}
    for state in (found[0], found[1], found[2], found[4]):  # within each stage, and at an end
        parts = build(plan_of(tiny, "optimise.steps=8", PYRAMID, *words))
        parts.descent.load_state_dict(state)
        finished = run(parts)
        assert finished is not None and torch.equal(finished.images, images)


def test_a_hold_keeps_a_picture_nearer_to_the_stage_before(tiny: TinyModels) -> None:
    """And a state of an earlier version, which knows of none, goes on without."""
    drifts = []
    for weight in (0, 1000):
        found, images = states(tiny, f"optimise.hold={weight}", "optimise.lr=0.3")
        held = found[-1]["reached"]
        assert [state["reached"] is None for state in found] == [True, True, *[False] * 6]
        drifts.append(float(hold_loss(images, held).sum()))
    assert drifts[1] < 0.9 * drifts[0]
    parts = build(plan_of(tiny, "optimise.steps=8", PYRAMID))
    parts.descent.load_state_dict({key: value for key, value in found[5].items() if key != "reached"})
    assert parts.descent.reached is None and run(parts) is not None


def test_the_pull_to_a_picture_grows_with_the_latent(tiny: TinyModels, tmp_path: Path) -> None:
    Image.effect_mandelbrot((32, 24), (-3, -2.5, 2, 2.5), 100).convert("RGB").save(tmp_path / "a.png")
    init = ("init.kind=image", f"init.image={tmp_path / 'a.png'}", "init.weight=1.0")
    finished, losses = outcome(plan_of(tiny, "optimise.steps=4", PYRAMID, *init))
    assert all(float(step.losses["init"].sum()) >= 0 for step in losses.steps)
    assert float(losses.steps[0].losses["init"].sum()) == 0.0  # at its start
    heights = [step.images.shape[-2] for step in losses.steps]
    assert heights[-1] == finished.images.shape[-2] and all(low <= high for low, high in pairwise(heights))


def test_the_command_draws_in_stages_and_frames_of_one_size(command: Command, tiny: TinyModels, tmp_path: Path) -> None:
    options = ["--set", PYRAMID, "--steps", "8", "--seed", "1", "--save-every", "2", "-o", f"{tmp_path}/r/"]
    done = command("generate", "a cat", "-c", str(tiny.config), *options)
    assert done.code == 0, done.stderr
    frames = sorted((tmp_path / "r" / "frames").iterdir())
    pictures = [open_image(path) for path in (tmp_path / "r" / "image.png", *frames)]
    assert len(frames) >= 4 and len({picture.size for picture in pictures}) == 1
    assert len((tmp_path / "r" / "metrics.jsonl").read_text("utf-8").splitlines()) == 8


@pytest.mark.parametrize(
    "pyramid",
    [
        "[[0.5, 0.5]]",
        "[[1, 0.5]]",
        "[[1, 0.5], [0.5, 0.5]]",
        "[[0.5], [1, 1]]",
        "[[0, 0.5], [1, 0.5]]",
        "[[0.5, 0.5, 0], [1, 0.5]]",
        "[[0.5, 0.5, 1, 1], [1, 0.5]]",
    ],
)
def test_stages_that_make_no_whole_are_refused(command: Command, tiny: TinyModels, pyramid: str) -> None:
    done = command("generate", "a cat", "-c", str(tiny.config), "--set", f"optimise.pyramid={pyramid}")
    assert done.code == 2 and "optimise.pyramid" in done.stderr


def test_a_hold_without_stages_is_refused(command: Command, tiny: TinyModels) -> None:
    done = command("generate", "a cat", "-c", str(tiny.config), "--set", "optimise.hold=1")
    assert done.code == 2 and "optimise.hold" in done.stderr


def test_a_stage_of_the_same_size_begins_anew_too() -> None:
    """A recorded step, which holds for one latent, would not see what the new stage is held near."""
    descent = growing(ema=0.5)
    descent.growth = [Growth(0.5, (4, 4))]
    before, optimiser = descent.latent, descent.optimiser
    steps = optimise(descent, 4)
    next(steps), next(steps)
    kept = descent.average.value(before.detach())
    next(steps)
    assert descent.latent is not before and descent.optimiser is not optimiser
    torch.testing.assert_close(descent.latent.detach(), kept + 0.1)


def test_an_average_begins_anew_where_the_latent_is_moved() -> None:
    descent = growing(ema=0.9)
    descent.growth = []

    def jump(latent: torch.Tensor, number: int, total: int) -> bool:
        if number == 2:
            latent.data += 5
        return number == 2

    descent.travel = jump
    steps = optimise(descent, 4)
    next(steps), next(steps), next(steps)
    torch.testing.assert_close(descent.average.value(descent.latent.detach()), descent.latent.detach())
