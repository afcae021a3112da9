"""Upscaling in the program: every picture that the user gets, what it says of itself, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from command import Command
from conftest import TinyModels, save_tiny_clip
from PIL import Image
from tiny_upscaler import random_upscaler, save, save_published

from vqclip.cli import interrupts
from vqclip.common.errors import ModelError
from vqclip.common.hashes import sha256
from vqclip.common.images import open_image, to_image, to_tensor
from vqclip.config.loader import load_config
from vqclip.hub import upscaler_files
from vqclip.hub.access import Access
from vqclip.hub.model_files import find_models
from vqclip.hub.upscaler_catalogue import UPSCALERS
from vqclip.hub.upscaler_store import locate_upscaler, upscaler_path
from vqclip.models.enlarge import enlarge
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.picture import read_metadata
from vqclip.pipeline.build import build
from vqclip.pipeline.plan import Plan, make_plan
from vqclip.pipeline.provenance import fingerprint
from vqclip.pipeline.run import run as run_parts
from vqclip.pipeline.settle import settle


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def upscaler(tmp_path: Path) -> Path:
    """A file that doubles the sides."""
    return save(random_upscaler(), tmp_path / "up.safetensors")


def plan_of(tiny: TinyModels, upscale: str) -> Plan:
    return make_plan(load_config([str(tiny.config)], [f"output.upscale={upscale}"], {"prompts": ["a cat"], "seed": 1}))


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


class Seen:
    """A sink that keeps what it is shown."""

    def __init__(self) -> None:
        self.looked: list[torch.Tensor] = []
        self.rendered: list[torch.Tensor] = []

    def step(self, step: Step) -> None:
        self.looked.append(step.images)
        self.rendered.append(step.render())

    def finish(self, finished: Finished) -> None:
        self.rendered.append(finished.images)

    def stop(self, last: Step | None) -> None:
        pass


# One place


def test_sinks_see_the_loops_pictures_enlarged_and_the_loop_its_own(tiny: TinyModels, upscaler: Path) -> None:
    pairs = []
    for upscale in ("none", str(upscaler)):
        plan, seen = plan_of(tiny, upscale), Seen()
        finished = run_parts(build(plan, find_models(plan.config)), [seen])
        assert finished is not None
        pairs.append((seen, finished))
    (plain, small), (large, result) = pairs
    assert all(torch.equal(one, other) for one, other in zip(plain.looked, large.looked, strict=True))
    assert torch.equal(small.latent, result.latent)
    for one, other in zip(plain.rendered, large.rendered, strict=True):
        torch.testing.assert_close(other, enlarge(random_upscaler(), one), atol=1e-6, rtol=0)
    assert result.scores != small.scores


def test_every_file_is_enlarged(run: Command, tiny: TinyModels, upscaler: Path) -> None:
    words = ("a cat", "--upscale", str(upscaler), "--save-every", "3", "--video", "webp", "--json")
    done = run("generate", "-c", str(tiny.config), *words, "-o", "r/")
    assert done.code == 0, done.stderr
    event = json.loads(done.stdout.splitlines()[0])
    assert event["size"] == [32, 32] and "the pictures are 32x32: drawn as 16x16" in event["notes"][0]
    made = ("r/image.png", "r/frames/000003.png", "r/frames/000006.png", "r/video.webp")
    assert {size_of(path) for path in made} == {(32, 32)}
    metadata = read_metadata(Path("r/image.png"))
    assert metadata.models and metadata.models.upscaler and metadata.models.upscaler.sha256 == sha256(upscaler)
    assert metadata.config["size"] == "16x16" and metadata.config["output"]["upscale"] == str(upscaler)
    with Image.open("r/image.png") as image:
        assert "Hires upscaler: " + str(upscaler) in image.info["parameters"]


def test_none_is_the_picture_of_the_loop(run: Command, tiny: TinyModels) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "--seed", "1")
    assert run(*words, "-o", "auto.png").code == run(*words, "--upscale", "none", "-o", "none.png").code == 0
    assert Path("auto.png").read_bytes() == Path("none.png").read_bytes() and size_of("auto.png") == (16, 16)
    assert "upscaler" not in read_metadata(Path("auto.png")).to_json()["models"]


def test_a_stopped_run_goes_on_to_the_same_bytes(
    run: Command, tiny: TinyModels, upscaler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "--seed", "1", "--set", f"output.upscale={upscaler}")
    assert run(*words, "-o", "whole.png").code == 0
    asked = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr(interrupts.Interrupts, "received", lambda self: next(asked) == 3)
        assert run(*words, "-o", "part.png").code == 130
    assert size_of("part.png.run/partial.png") == (32, 32)
    assert run("resume", "part.png").code == 0
    assert Path("part.png").read_bytes() == Path("whole.png").read_bytes()


def test_another_upscaler_is_told_apart_when_a_run_goes_on(
    run: Command, tiny: TinyModels, upscaler: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr(interrupts.Interrupts, "received", lambda self: next(asked) == 3)
        run("generate", "-c", str(tiny.config), "a cat", "--upscale", str(upscaler), "-o", "part.png")
    save(random_upscaler(seed=1), upscaler)
    done = run("resume", "part.png")
    assert done.code == 3 and "other model files" in done.stderr


def test_a_run_of_an_earlier_version_goes_on_without(run: Command, tiny: TinyModels, upscaler: Path) -> None:
    """Its run.yaml says nothing of upscaling, and today's default must not change its picture."""
    assert run("generate", "-c", str(tiny.config), "a cat", "--seed", "1", "-o", "r/").code == 0
    kept = Path("r/run.yaml").read_text()
    assert "upscale: none" in kept
    Path("r/run.yaml").write_text(kept.replace("  upscale: none\n", "").replace(f"  file: {tiny.vqgan}\n", ""))
    from vqclip.runs.session import unfinished

    assert unfinished("r")[1].output.upscale == "none"


def test_rerun_gives_the_same_bytes_and_says_when_the_upscaler_is_another(
    run: Command, tiny: TinyModels, upscaler: Path
) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "--seed", "1", "--upscale", str(upscaler))
    assert run(*words, "-o", "cat.png").code == 0
    done = run("rerun", "cat.png", "-o", "again.png")
    assert done.code == 0 and "upscaler is another" not in done.stderr
    assert Path("again.png").read_bytes() == Path("cat.png").read_bytes()
    assert run("rerun", "cat.png", "--upscale", "none", "-o", "small.png").code == 0
    assert size_of("small.png") == (16, 16)
    save(random_upscaler(seed=1), upscaler)
    done = run("rerun", "cat.png", "-o", "other.png")
    assert done.code == 0 and "Note: the file of the upscaler is another one" in done.stderr


def test_the_fingerprint_knows_the_upscaler(tiny: TinyModels, upscaler: Path) -> None:
    def of(upscale: str) -> dict[str, object]:
        plan = plan_of(tiny, upscale)
        return fingerprint(build(plan, find_models(plan.config)))

    assert of("none")["config"] == of(str(upscaler))["config"] and of("none") != of(str(upscaler))


def test_a_batch_and_an_evaluation_are_of_the_pictures_that_the_user_gets(
    run: Command, tiny: TinyModels, upscaler: Path, tmp_path: Path
) -> None:
    Path("jobs.jsonl").write_text(
        json.dumps({"prompt": "a cat"}) + "\n" + json.dumps({"prompt": "a cat", "set": {"output.upscale": "none"}})
    )
    words = ("-c", str(tiny.config), "--set", f"output.upscale={upscaler}")
    assert run("batch", "jobs.jsonl", "-o", "b", *words).code == 0
    assert sorted(size_of(str(path)) for path in Path("b").glob("*.png")) == [(16, 16), (32, 32)]
    save_tiny_clip(tmp_path / "judge", seed=1)
    Path("list.txt").write_text("a cat\na dog\n")
    judged = ("evaluate", "list.txt", *words, "--judge", str(tmp_path / "judge"), "--json")
    done = run(*judged)
    assert done.code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["size"] == [32, 32]
    assert json.loads(run(*judged, "--set", "output.upscale=none").stdout)["clip_score"] != facts["clip_score"]


# What is chosen, and what is refused


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, upscaler: Path) -> Path:
    """A place for the embedded upscaler, where there is one."""
    folder = tmp_path / "embedded"
    folder.mkdir()
    monkeypatch.setattr(upscaler_files, "embedded_dir", lambda: folder)
    return Path(shutil.copy(upscaler, folder / "upscaler.safetensors"))


def test_auto_goes_with_the_embedded_vqgan_and_with_what_ships(tiny: TinyModels, embedded: Path) -> None:
    default, other = load_config(), load_config([str(tiny.config)])
    assert (settle(default).output.upscale, settle(other).output.upscale) == ("embedded", "none")
    published = load_config([], ["vqgan.name=imagenet-16384"])
    assert settle(published).output.upscale == "none"
    embedded.unlink()
    assert settle(default).output.upscale == "none"
    with pytest.raises(ModelError, match="comes without an upscaler"):
        upscaler_files.find_upscaler("embedded")


def test_the_size_is_the_loops_and_a_dry_run_says_the_files(run: Command, embedded: Path) -> None:
    done = run("generate", "a red apple", "--size", "64x96", "--dry-run", "--json")
    plan = json.loads(done.stdout)
    assert plan["config"]["size"] == "64x96" and plan["config"]["output"]["upscale"] == "embedded"
    assert plan["size"] == [128, 192]
    said = run("generate", "a red apple", "--dry-run")
    assert "the pictures are 256x256: drawn as 128x128" in said.stderr and "1 picture of 256x256" in said.stderr


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--upscale", "embeded"), 2, "did you mean 'embedded'"),
        (("--upscale", "realesrgan-x4plus-anim"), 2, "did you mean 'realesrgan-x4plus-anime'"),
        (("--upscale", "gone.pth"), 2, "Unknown upscaler"),
        (("--set", "output.upscale="), 2, "output.upscale is ''"),
        (("--upscale", "realesrgan-x4plus", "--size", "4096x4096"), 2, "at most 100 megapixels"),
        (("--upscale", "realesrgan-x4plus"), 3, "fetch it (67 MB) with: vqclip models pull realesrgan-x4plus"),
        (("--upscale", "realesrgan-x4plus", "--pull", "--offline"), 3, "working offline forbids"),
        (("--upscale", "bad.pth"), 3, "not an upscaler"),
    ],
)
def test_what_cannot_be_is_said_before_anything_is_made(
    run: Command, tiny: TinyModels, words: tuple[str, ...], code: int, says: str
) -> None:
    torch.save({"a": torch.zeros(3)}, "bad.pth")
    done = run("generate", "-c", str(tiny.config), "a cat", *words, "-o", "x.png")
    assert done.code == code and says in done.stderr.replace("\n", " "), done.stderr
    assert {str(path) for path in Path().iterdir()} == {"bad.pth"}


def test_a_missing_package_is_said_before_anything_is_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqclip.hub.upscaler_catalogue.find_spec", lambda name: None)
    with pytest.raises(ModelError, match=r"'vqclip\[upscale\]'. 'realesr-general-x4v3' needs nothing"):
        locate_upscaler("realesrgan-x4plus", Access.FETCH)
    with pytest.raises(ModelError, match="not on this machine"):
        locate_upscaler("realesr-general-x4v3")


def test_a_published_file_counts_only_with_its_hash(run: Command, tiny: TinyModels) -> None:
    path = upscaler_path("realesrgan-x4plus-anime")
    path.parent.mkdir(parents=True)
    save_published(path)
    done = run("generate", "-c", str(tiny.config), "a cat", "--upscale", "realesrgan-x4plus-anime", "-o", "x.png")
    assert done.code == 3 and "models pull realesrgan-x4plus-anime --force" in done.stderr


def test_the_catalogue_is_whole() -> None:
    for name, entry in UPSCALERS.items():
        assert name == entry.name and len(entry.sha256) == 64 and entry.scale in (2, 4)
        assert entry.place.url.startswith("https://github.com/xinntao/Real-ESRGAN/releases/download/v")
    assert not {"auto", "none", "embedded"} & UPSCALERS.keys()


def test_a_picture_file_is_the_enlarged_picture(run: Command, tiny: TinyModels, upscaler: Path) -> None:
    """Level for level what the plain picture becomes, but for the 8 bits it was rounded to in between."""
    for upscale, path in (("none", "small.png"), (str(upscaler), "large.png")):
        words = ("a cat", "--seed", "1", "--upscale", upscale, "-o", path)
        assert run("generate", "-c", str(tiny.config), *words).code == 0
    expected = to_image(enlarge(random_upscaler(), to_tensor(open_image("small.png")))[0])
    torch.testing.assert_close(to_tensor(open_image("large.png")), to_tensor(expected), atol=3 / 255, rtol=0)
