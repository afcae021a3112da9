"""Going on from a finished run: more steps from its latent, and nothing of it lost."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command import Command
from conftest import TinyModels
from PIL import Image
from safetensors.torch import load_file

from vqclip.common.errors import NumericsError
from vqclip.outputs import frames
from vqclip.outputs.picture import read_latent, read_metadata


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def finished(run: Command, tiny: TinyModels) -> Path:
    done = run("generate", "-c", str(tiny.config), "a cat", "--seed", "5", "--steps", "4", "-o", "run/", "-q")
    assert done.code == 0, done.stderr
    return Path("run")


def test_a_finished_run_goes_on_from_its_latent(run: Command, finished: Path) -> None:
    before = (finished / "image.png").read_bytes()
    latent = load_file(finished / "latent.safetensors")["latent"]
    done = run("resume", "run", "--steps", "7", "--json")
    assert done.code == 0, done.stderr
    (made,) = [event for event in map(json.loads, done.stdout.splitlines()) if event["event"] == "image"]
    assert made["steps"] == 7
    assert (finished / "image.step4.png").read_bytes() == before != (finished / "image.png").read_bytes()
    assert read_metadata(finished / "image.png").step == 7
    steps = [json.loads(line)["step"] for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7]
    after, number = read_latent(finished / "latent.safetensors")
    assert number == 7 and after.shape == latent.shape and not torch.equal(after, latent)
    assert not (finished / "state").exists()


def test_a_finished_run_is_only_shown_without_steps(run: Command, finished: Path) -> None:
    before = {path: path.read_bytes() for path in finished.iterdir()}
    done = run("resume", "run")
    assert done.code == 0 and done.stdout == "run/image.png\n" and "--steps N goes on" in done.stderr
    assert {path: path.read_bytes() for path in finished.iterdir()} == before


@pytest.mark.parametrize("steps", ["4", "3"])
def test_steps_that_are_done_already_are_said(run: Command, finished: Path, steps: str) -> None:
    done = run("resume", "run", "--steps", steps)
    assert done.code == 2 and "finished with 4 steps" in done.stderr


def test_a_damaged_latent_and_a_lone_picture_are_said(run: Command, finished: Path, tiny: TinyModels) -> None:
    (finished / "latent.safetensors").write_bytes(b"junk")
    assert "is damaged" in run("resume", "run", "--steps", "9").stderr
    (finished / "latent.safetensors").unlink()
    done = run("resume", "run", "--steps", "9")
    assert done.code == 2 and "kept no latent" in done.stderr
    assert (finished / "image.png").is_file()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_an_extension_that_fails_early_leaves_the_finished_run(
    run: Command, finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = contents(finished)
    monkeypatch.setattr("vqclip.optimisation.loop.Descent.start_from", _fails)
    assert run("resume", "run", "--steps", "9").code == 7
    assert contents(finished) == before and not (finished / "state").exists()
    assert run("resume", "run").stdout == "run/image.png\n"


def _fails(*_: object) -> None:
    raise NumericsError("The loss is NaN.")


def test_an_extension_that_was_killed_before_its_first_state_goes_on_from_the_latent(
    run: Command, finished: Path, tmp_path: Path
) -> None:
    """What a kill leaves then: run.yaml with more steps, and an empty state folder."""
    twin = tmp_path / "twin"
    shutil.copytree(finished, twin)
    assert run("resume", str(twin), "--steps", "7").code == 0
    (finished / "run.yaml").write_text((finished / "run.yaml").read_text().replace("steps: 4", "steps: 7"))
    (finished / "state").mkdir()
    done = run("resume", "run")
    assert done.code == 0, done.stderr
    assert (finished / "image.png").read_bytes() == (twin / "image.png").read_bytes()
    assert (finished / "image.step4.png").is_file()
    steps = [json.loads(line)["step"] for line in (finished / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6, 7]


def test_a_rerun_says_that_a_picture_was_made_in_two_parts(run: Command, finished: Path) -> None:
    assert read_metadata(finished / "image.png").extended == 0
    assert run("resume", "run", "--steps", "6").code == 0
    assert read_metadata(finished / "image.png").extended == 4
    done = run("rerun", "run/image.png", "-o", "again.png")
    assert done.code == 0 and "from the latent of 4 steps" in done.stderr
    assert "latent of" not in run("rerun", "run/image.step4.png", "-o", "before.png").stderr


def test_a_file_in_the_place_of_a_finished_picture_stays(run: Command, finished: Path) -> None:
    (finished / "image.step4.png").write_bytes(b"mine")
    done = run("resume", "run", "--steps", "6")
    assert done.code == 6 and "move it away" in done.stderr
    assert (finished / "image.step4.png").read_bytes() == b"mine"


def test_a_run_that_was_killed_while_it_made_its_video_makes_it(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        """As a signal that nothing hears."""

    def killed(*words: object) -> None:
        raise Killed

    words = ("generate", "-c", str(tiny.config), "a cat", "--seed", "5", "--steps", "4", "-o", "run/", "--video", "gif")
    with monkeypatch.context() as patch:
        patch.setattr(frames, "write_video", killed)
        assert run(*words).code == 1
    before = Path("run/image.png").read_bytes()
    assert Path("run/state").exists() and not Path("run/video.gif").exists()
    done = run("resume", "run")
    assert done.code == 0, done.stderr
    assert Path("run/video.gif").exists() and Path("run/image.png").read_bytes() == before
    assert not Path("run/state").exists()


def test_the_video_of_a_finished_run_is_kept_and_the_new_one_said_to_begin_later(
    run: Command, tiny: TinyModels
) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "--seed", "5", "--steps", "4", "-o", "run/", "--video", "gif")
    assert run(*words).code == 0
    before = Path("run/video.gif").read_bytes()
    Path("run/video.step4.gif").write_bytes(b"mine")
    refused = run("resume", "run", "--steps", "6")
    assert refused.code == 6 and "video.step4.gif" in refused.stderr and "move it away" in refused.stderr
    Path("run/video.step4.gif").unlink()
    done = run("resume", "run", "--steps", "6")
    assert done.code == 0 and "begin after step 4" in done.stderr
    assert done.stdout.splitlines()[-1] == "run/video.step4.gif"
    assert Path("run/video.step4.gif").read_bytes() == before
    with Image.open("run/video.gif") as video:
        assert video.n_frames == 2


def test_a_stopped_run_does_not_go_on_to_a_step_before_its_own(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter(range(100))
    with monkeypatch.context() as patch:
        patch.setattr("vqclip.cli.interrupts.Interrupts.received", lambda self: next(asked) == 3)
        run("generate", "-c", str(tiny.config), "a cat", "--seed", "5", "--steps", "6", "-o", "run/")
    before = contents(Path("run"))
    done = run("resume", "run", "--steps", "3")
    assert done.code == 2 and "at step 4 already" in done.stderr
    assert contents(Path("run")) == before
    assert run("resume", "run", "--steps", "4").code == 0
    assert read_metadata(Path("run/image.png")).step == 4


def test_the_pictures_of_a_finished_run_of_several_are_shown(run: Command, tiny: TinyModels) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "a dog", "--seed", "5", "--steps", "2", "-o", "pets.png")
    assert run(*words).code == 0
    for name in ("pets.png", "pets.png.run"):
        done = run("resume", name)
        assert done.code == 0 and done.stdout == "pets-0.png\npets-1.png\n"


def test_the_names_of_another_run_are_forgotten(run: Command, tiny: TinyModels) -> None:
    home = Path("p/a-cat.png.run")
    home.mkdir(parents=True)
    (home / "names.json").write_text('["a-cat.png", "a-dog.png"]')
    words = ("-c", str(tiny.config), "a cat", "--seed", "5", "--steps", "2", "-n", "2", "-o", "p/a-cat.png")
    assert run("generate", *words, "--overwrite").code == 0
    assert sorted(path.name for path in Path("p").glob("*.png")) == ["a-cat-0.png", "a-cat-1.png"]
    assert not home.exists()
