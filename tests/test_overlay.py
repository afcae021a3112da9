"""Overlays: when they come, what comes of a picture, and that a run which goes on is the same; steps as shares."""

from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from conftest import TinyModels
from PIL import Image
from safetensors.torch import load_file

from vqclip.common.errors import UsageError
from vqclip.config.loader import load_config
from vqclip.hub.model_files import find_models
from vqclip.optimisation.loop import optimise
from vqclip.optimisation.overlay import Overlay
from vqclip.pipeline.build import build
from vqclip.pipeline.plan import make_plan


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def overlay(every: int, begin: int = 0, end: int = 100, alpha: float = 0.25) -> Overlay:
    """Over pictures that are their own numbers."""
    return Overlay(torch.ones(1, 3, 4, 4), alpha, every, begin, end, show=lambda z: z, take=lambda pictures: pictures)


@pytest.mark.parametrize(
    ("every", "begin", "end", "due"),
    [(3, 0, 100, [0, 3, 6, 9]), (4, 2, 100, [2, 6]), (3, 1, 6, [1, 4]), (1, 8, 100, [8, 9]), (20, 0, 100, [0])],
)
def test_an_overlay_comes_when_it_is_due(every: int, begin: int, end: int, due: list[int]) -> None:
    assert [number for number in range(10) if overlay(every, begin, end).is_due(number)] == due


def test_an_overlay_covers_its_share_in_any_size_and_leaves_the_others_alone() -> None:
    latent = torch.zeros(2, 3, 8, 8, requires_grad=True)
    overlay(2)(latent, 1, 10)
    assert not latent.any()
    overlay(2)(latent, 2, 10)
    torch.testing.assert_close(latent.detach(), torch.full((2, 3, 8, 8), 0.25))


def draw(name: str, colour: tuple[int, int, int]) -> None:
    Image.new("RGB", (16, 16), colour).save(name)


def test_an_overlay_shows_and_a_run_that_goes_on_is_the_same(run: Command, tiny: TinyModels) -> None:
    draw("o.png", (250, 20, 20))
    words = ("generate", "a cat", "-c", str(tiny.config), "--seed", "1", "--set", "overlay.every=2", "--set")
    assert run(*words, "overlay.image=o.png", "--steps", "6", "-o", "whole/").code == 0
    assert run("generate", "a cat", "-c", str(tiny.config), "--seed", "1", "-o", "plain/").code == 0
    whole, plain = (load_file(f"{name}/latent.safetensors")["latent"] for name in ("whole", "plain"))
    assert not torch.equal(whole, plain)
    plan = make_plan(load_config(["whole/run.yaml"]))
    first, second = (build(plan, find_models(plan.config)).descent for _ in range(2))
    state = next(step.state() for step in optimise(first, 6) if step.number == 3)
    second.load_state_dict(state)
    assert [step.number for step in optimise(second, 6)] == [4, 5, 6]
    assert torch.equal(second.result(), whole)
    assert run("rerun", "whole/image.png", "-o", "again.png").code == 0
    assert (np.asarray(Image.open("again.png")) == np.asarray(Image.open("whole/image.png"))).all()
    draw("o.png", (0, 0, 0))
    done = run("rerun", "whole/image.png", "-o", "other.png")
    assert done.code == 2 and "is not the file" in done.stderr


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (["overlay.image=gone.png"], "Cannot read the image"),
        (["overlay.every=0"], "overlay.every is 0"),
        (["overlay.every=50 percent"], "a whole number of steps, or a share of them such as 50%"),
        (["overlay.alpha=2"], "overlay.alpha is 2"),
        (["overlay.begin=5", "overlay.end=4"], "overlay.end is 4"),
        (["overlay.image=a.png", "mask.original=a.png", "mask.boxes=['0,0,1,1']"], "null beside a mask"),
    ],
)
def test_an_overlay_that_is_not_right_is_one_sentence(
    run: Command, tiny: TinyModels, settings: list[str], says: str
) -> None:
    sets = [word for each in settings for word in ("--set", each)]
    done = run("generate", "a cat", "-c", str(tiny.config), *sets, "-o", "b.png")
    assert done.code == 2 and says in done.stderr and not Path("b.png").exists()


def test_steps_between_may_be_a_share_of_the_run() -> None:
    given = [
        "output.save_every=10%",
        "overlay.every=25%",
        "overlay.begin=0%",
        "overlay.end=50%",
        "runtime.state_every=1%",
    ]
    config = load_config([], [*given, "optimise.steps=80"])
    found = config.output.save_every, config.overlay.every, config.overlay.begin, config.overlay.end
    assert found == (8, 20, 0, 40) and config.runtime.state_every == 1
    assert load_config([], ["output.save_every=7"]).output.save_every == 7
    with pytest.raises(UsageError, match="a share of them such as 50%"):
        load_config([], ["output.save_every=half"])


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ("square", "128x128"),
        ("widescreen", "171x96"),
        ("portrait", "114x143"),
        ("16:9", "171x96"),
        ("16:9@64k", "341x192"),
        ("@64k", "256x256"),
        ("square@0.25M", "512x512"),
        ("100x50@20000", "200x100"),
        ("96x64", "96x64"),
        ("96", "96"),
        ("auto", "auto"),
    ],
)
def test_sizes_by_shape_and_number_of_pixels(size: str, expected: str) -> None:
    assert load_config([], [], {"size": size}).size == expected


@pytest.mark.parametrize("size", ["wide", "16:9@", "16:9@many", "auto@64k", "@0", "0:9", "99999999:1"])
def test_a_size_that_is_none_is_one_sentence(size: str) -> None:
    with pytest.raises(UsageError, match="must be"):
        load_config([], [], {"size": size})


def test_pixels_stand_beside_the_shape(run: Command) -> None:
    shown = run("generate", "a cat", "--size", "widescreen", "--pixels", "64k", "--dry-run")
    assert shown.code == 0 and "size: 344x192" in shown.stdout


def test_a_quality_is_a_factor_of_what_the_configs_say_and_the_command_line_stays() -> None:
    plain = load_config(["codes"])
    for name, steps, cutouts in (("draft", 0.5, 0.5), ("normal", 1, 1), ("best", 2.5, 2), ("supreme", 4, 3)):
        config = load_config(["codes"], [], {"quality": name})
        assert config.optimise.steps == round(steps * plain.optimise.steps) and config.quality == "normal"
        assert config.cutouts.count == round(cutouts * plain.cutouts.count)
    assert load_config([], [], {"quality": "supreme"}).size == "192x192"
    assert load_config([], [], {"quality": "draft"}).optimise.steps == 3  # half of the prior's
    assert load_config(["codes"], ["quality=best"], {"optimise.steps": 7}).optimise.steps == 7
    with pytest.raises(UsageError, match="Unknown quality 'superb'"):
        load_config([], ["quality=superb"])
