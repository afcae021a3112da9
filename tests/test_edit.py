"""vqclip edit, outpaint and vary on tiny models: what changes, what stays, what can be repeated, what is refused."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Command, Outcome
from conftest import TINY_PRIOR, TinyModels, tiny_prior
from PIL import Image

from vqclip.batch.fields import Base, checked, config_of
from vqclip.config.loader import ConfigReader, load_config
from vqclip.config.starts import NEAR
from vqclip.guidance.objective import Targets
from vqclip.hub.model_files import find_models
from vqclip.hub.prior_files import has_embedded_prior
from vqclip.models.prior import FREE, Sampling
from vqclip.models.rerank import fill_free, seam
from vqclip.optimisation import start
from vqclip.optimisation.journey import Journey, last_updates
from vqclip.optimisation.start import bent, grains, lowest
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.picture import read_metadata
from vqclip.pipeline import assemble, edits
from vqclip.pipeline.build import build
from vqclip.pipeline.mask import whole_thing
from vqclip.pipeline.plan import make_plan
from vqclip.pipeline.run import run as run_parts


class Edits:
    """The commands with the tiny models, `--seed 1` and two steps."""

    def __init__(self, command: Command, config: Path) -> None:
        self.command, self.config = command, config

    def __call__(self, name: str, *words: str) -> Outcome:
        return self.command(name, *words, "-c", str(self.config), "--steps", "2", "--seed", "1")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: TinyModels) -> Edits:
    numbers = np.random.default_rng(0)
    Image.fromarray(numbers.integers(0, 256, (40, 60, 3), np.uint8)).save("photo.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 255
    Image.fromarray(mask).save("mask.png")
    Image.fromarray(mask).resize((30, 20)).save("half.png")
    Image.fromarray(mask[:, :40]).save("square.png")
    Image.new("L", (60, 40)).save("black.png")
    Image.new("L", (60, 40), 255).save("white.png")
    Path("torn.png").write_bytes(Path("photo.png").read_bytes()[:900])
    Image.new("1", (10_001, 10_000)).save("huge.png")
    Image.new("RGB", (3000, 2)).save("thread.png")
    Image.new("1", (17_000, 100)).save("long.png")
    Path("text.png").write_text("no picture")
    return Edits(Command(monkeypatch, capsys), tiny.config)


class Keeping:
    """A sink that keeps every picture and state."""

    def __init__(self) -> None:
        self.images: list[torch.Tensor] = []
        self.states: list[dict[str, Any]] = []

    def step(self, step: Step) -> None:
        self.images.append(step.render())
        self.states.append(step.state())

    def finish(self, finished: Finished) -> None:
        pass

    def stop(self, last: Step | None) -> None:
        pass


def pixels(path: str | Path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB"))


def done(outcome: Outcome) -> Outcome:
    assert outcome.code == 0, outcome.stderr
    return outcome


def test_only_what_is_masked_changes(run: Edits) -> None:
    before = Path("photo.png").read_bytes()
    event = json.loads(done(run("edit", "photo.png", "a hat", "--mask", "mask.png", "-o", "new.png", "--json")).stdout)
    assert event["size"] == [60, 40] and event["path"] == "new.png"
    changed = (pixels("new.png") != pixels("photo.png")).any(-1)
    assert changed[12:28, 22:48].mean() > 0.9
    assert not changed[:10].any() and not changed[30:].any() and not changed[:, :20].any() and not changed[:, 50:].any()
    assert Path("photo.png").read_bytes() == before and not Path("new.png.run").exists()


def test_boxes_and_masks_come_together_and_can_be_inverted(run: Edits) -> None:
    words = ("--mask", "mask.png", "--box", "0,0,10,10", "--invert", "--feather", "0", "-o", "new.png")
    done(run("edit", "photo.png", "a hat", *words, "--show-mask", "shown.png"))
    shown = np.asarray(Image.open("shown.png").convert("L")) > 0
    assert not shown[:10, :10].any() and not shown[10:30, 20:50].any() and shown[10:, :20].all()
    assert np.array_equal(pixels("new.png")[~shown], pixels("photo.png")[~shown])


def test_a_mask_of_another_size_is_resized_and_that_is_said(run: Edits) -> None:
    outcome = done(run("edit", "photo.png", "a hat", "--mask", "half.png", "-o", "new.png"))
    assert "resized to the picture's 60x40" in outcome.stderr


@pytest.mark.parametrize("kind", ["prior", "codes", "image", "noise"])
def test_what_is_masked_can_start_from_anything(run: Edits, tiny: TinyModels, kind: str) -> None:
    words = ("--set", f"prior.name={tiny.prior}", "--set", f"init.kind={kind}")
    done(run("edit", "photo.png", "a hat", "--mask", "mask.png", *words, "-o", f"{kind}.png"))
    assert np.array_equal(pixels(f"{kind}.png")[:10], pixels("photo.png")[:10])


def test_it_can_be_made_again_from_its_file_and_knows_its_inputs(run: Edits) -> None:
    done(run("edit", "photo.png", "a hat", "--mask", "mask.png", "-o", "new.png"))
    inputs = read_metadata(Path("new.png")).inputs
    assert sorted(Path(name).name for name in inputs) == ["mask.png", "photo.png"]
    done(run.command("rerun", "new.png", "-o", "again.png"))
    assert Path("again.png").read_bytes() == Path("new.png").read_bytes()
    Path("mask.png").rename("moved.png")
    gone = run.command("rerun", "new.png", "-o", "third.png")
    assert gone.code == 2 and "mask.png" in gone.stderr and "--file OLD=NEW" in gone.stderr
    old = str(Path("mask.png").absolute())
    done(run.command("rerun", "new.png", "-o", "third.png", "--file", f"{old}=moved.png"))
    assert np.array_equal(pixels("third.png"), pixels("new.png"))


def test_a_stopped_edit_goes_on_to_the_same_picture(run: Edits, tiny: TinyModels) -> None:
    options = {"mask.original": "photo.png", "mask.boxes": ["20%,20%,50%,50%"], "prompts": ["a hat"], "seed": 1}
    plan = make_plan(load_config([str(tiny.config)], ["optimise.steps=4"], options))
    kept = Keeping()
    whole = run_parts(build(plan, find_models(plan.config)))
    assert run_parts(build(plan, find_models(plan.config)), [kept], lambda: len(kept.states) == 2) is None
    parts = build(plan, find_models(plan.config))
    parts.descent.load_state_dict(kept.states[-1])
    rest = run_parts(parts)
    assert whole is not None and rest is not None and torch.equal(whole.images, rest.images)


MASKED = ("edit", "photo.png", "a hat", "--box", "10,10,30,20")
TURNED = ("edit", "photo.png", "--from", "a cat", "--to", "a dog")
WIDER = ("outpaint", "photo.png", "hills", "--left", "20")


@pytest.mark.parametrize("words", [MASKED, TURNED, WIDER])
def test_where_no_prior_begins_the_steps_are_those_of_a_start_from_a_picture(
    run: Edits, tiny: TinyModels, words: tuple[str, ...]
) -> None:
    nets = (f"vqgan.file={tiny.vqgan}", f"perceptors=[{tiny.clip}]", "runtime.device=cpu")
    settings = [word for each in nets for word in ("--set", each)]
    done(run.command(*words, *settings, "--size", "24x16", "--seed", "1", "-o", "new.png"))
    config = read_metadata(Path("new.png")).config
    for key, value in NEAR["optimise"].items():
        assert config["optimise"][key] == value
    assert {**config["cutouts"], **NEAR["cutouts"]} == config["cutouts"]


@pytest.mark.parametrize(
    ("layer", "given"),
    [
        ("edit", {"mask.original": "photo.png", "mask.boxes": ["10,10,30,20"]}),
        ("change", {"init.image": "photo.png"}),
        ("outpaint", {"mask.original": "photo.png", "mask.extend": "20,0,0,0"}),
    ],
)
def test_what_the_prior_continues_takes_eight_small_steps(layer: str, given: dict[str, object]) -> None:
    config = load_config([layer], [], {"prompts": ["a hat"], **given})
    assert (config.optimise.steps, config.optimise.lr, config.cutouts.count) == (8, 0.01, 8)
    assert load_config([layer], ["optimise.steps=3"], {"prompts": ["a hat"], **given}).optimise.steps == 3


def test_words_that_are_found_are_repainted(run: Edits, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqclip.pipeline.mask.FOUND", 0.0)
    done(run("edit", "photo.png", "a hat", "--where", "the head", "--show-mask", "shown.png", "-o", "new.png"))
    shown = np.asarray(Image.open("shown.png").convert("L")) > 0
    assert shown.any() and np.array_equal(pixels("new.png")[~shown], pixels("photo.png")[~shown])


def test_a_text_difference_changes_the_whole_picture_towards_the_words(run: Edits) -> None:
    done(run("edit", "photo.png", "--from", "a cat", "--to", "a dog", "--amount", "0.4", "-o", "new.png"))
    config = read_metadata(Path("new.png")).config
    assert {"away": "a cat", "towards": "a dog", "amount": 0.4}.items() <= config["targets"].items()
    assert config["init"]["image"] == str(Path("photo.png").absolute()) and config["mask"]["original"] is None


@pytest.mark.parametrize(
    ("words", "size", "corner"),
    [
        (("--left", "20", "--bottom", "25%"), (80, 50), (20, 0)),
        (("--ratio", "2:1"), (80, 40), (10, 0)),
        (("--ratio", "1:1", "hills"), (60, 60), (0, 10)),
    ],
)
def test_outpainting_keeps_the_picture_inside_a_new_rim(
    run: Edits, words: tuple[str, ...], size: tuple[int, int], corner: tuple[int, int]
) -> None:
    done(run("outpaint", "photo.png", *words, "-o", "wide.png"))
    whole, (x, y) = pixels("wide.png"), corner
    assert whole.shape == (size[1], size[0], 3)
    assert np.array_equal(whole[y : y + 40, x : x + 60], pixels("photo.png"))


def test_variations_differ(run: Edits) -> None:
    out = done(run("vary", "photo.png", "-n", "3", "--strength", "0.5", "-o", "v.png", "--json")).stdout
    assert [json.loads(line)["path"] for line in out.splitlines()] == ["v-0.png", "v-1.png", "v-2.png"]
    assert not np.array_equal(pixels("v-0.png"), pixels("v-1.png"))


def test_a_variation_starts_from_the_picture_bent_as_far_as_the_strength_says(run: Edits, tiny: TinyModels) -> None:
    """At 0 it is the picture's own codes, whatever the seed."""

    def start(strength: float) -> torch.Tensor:
        fixed = {**edits.vary("photo.png").fixed, "count": 2, "seed": 1, "init.strength": strength, "size": "24x16"}
        plan = make_plan(load_config(["vary", str(tiny.config)], [], fixed))
        assert plan.config.init.kind == "bent"
        return build(plan, find_models(plan.config)).descent.latent.detach()

    first, second = start(0.0)
    assert torch.equal(first, second)
    torch.testing.assert_close(start(1e-4)[0], first)
    first, second = start(0.5)
    assert not torch.equal(first, second)


def test_without_a_size_the_picture_gives_the_form(run: Edits, tiny: TinyModels) -> None:
    """A VQGAN without a YAML is taken for one of 256 pixels."""
    options = {"init.image": "photo.png", "init.kind": "image", "prompts": ["a"]}
    plan = make_plan(load_config([str(tiny.config)], ["size=auto"], options))
    assert (plan.width, plan.height) == plan.result_size == (384, 256)
    masked = {"mask.original": "photo.png", "mask.boxes": ["1,1,9,9"], "prompts": ["a"]}
    plan = make_plan(load_config([str(tiny.config)], [], masked))
    assert (plan.width, plan.height, plan.result_size) == (24, 16, (60, 40))


def test_the_way_between_two_points_is_a_strip_of_frames(run: Edits) -> None:
    words = ("interpolate", "a cat", "photo.png", "a dog", "-n", "5", "-o", "way.png", "--save-every", "2")
    event, film, kept = map(json.loads, done(run(*words, "--video", "webp", "--json")).stdout.splitlines())
    assert (film["path"], kept["path"]) == ("way.webp", "way.png.frames")
    assert pixels("way.png").shape == (16, 5 * 16, 3) and event["steps"] == 10
    frames = sorted(Path("way.png.frames").iterdir())
    assert [frame.name for frame in frames] == [f"{number:06d}.png" for number in (2, 4, 6, 8, 10)]
    assert np.array_equal(pixels("way.png")[:, 32:48], pixels(frames[2]))
    with Image.open("way.webp") as film:
        assert getattr(film, "n_frames", 1) == 5
    assert list(read_metadata(Path("way.png")).inputs) == [str(Path("photo.png").absolute())]
    done(run.command("rerun", "way.png", "-o", "again.png"))
    assert np.array_equal(pixels("again.png"), pixels("way.png")) and not Path("again.png.frames").exists()


@pytest.mark.parametrize("every", ["3", "7", "50%"])
def test_frames_that_are_kept_change_nothing_of_the_strip(run: Edits, every: str) -> None:
    words, before = ("interpolate", "a cat", "photo.png", "-n", "5"), {path.name for path in Path.cwd().iterdir()}
    done(run(*words, "-o", "way.png"))
    done(run(*words, "-o", "kept.png", "--save-every", every))
    assert pixels("way.png").shape == (16, 5 * 16, 3)
    assert np.array_equal(pixels("way.png"), pixels("kept.png"))
    names = {"3": (3, 6, 9, 10), "7": (7, 10), "50%": (5, 10)}
    assert sorted(path.name for path in Path("kept.png.frames").iterdir()) == [f"{n:06d}.png" for n in names[every]]
    left = {path.name for path in Path.cwd().iterdir()} - before
    assert left == {"way.png", "kept.png", "kept.png.frames"}


@pytest.mark.parametrize(("frames", "steps"), [(3, 5), (5, 10), (8, 32), (4, 3), (2, 0)])
def test_a_strip_has_each_frame_of_the_journey_as_its_last_update_left_it(frames: int, steps: int) -> None:
    journey, ends = Journey(frames, 2, lambda point, share: None), last_updates(frames, steps)
    assert len(ends) == frames and ends[-1] == steps
    if frames <= steps:
        belongs = [journey.frame(number, steps) for number in range(steps)]
        assert ends == [steps - belongs[::-1].index(frame) for frame in range(frames)]


@pytest.mark.parametrize(
    "words", [("-n", "9"), ("-n", "3", "--save-every", "4"), ("-n", "3", "--set", "output.upscale=none")]
)
def test_the_size_that_is_said_is_the_strip_s(run: Edits, words: tuple[str, ...]) -> None:
    """Nine pictures of 16 pixels lie in rows of eight; what else is kept does not count."""
    words = ("interpolate", "a cat", "a dog", *words, "-o", "way.png", "--json")
    said = (done(run(*words, *more)).stdout.splitlines()[0] for more in (("--dry-run",), ()))
    planned, made = (json.loads(line)["size"] for line in said)
    assert planned == made == [*pixels("way.png").shape[1::-1]]


def test_the_size_that_is_said_is_the_whole_picture_s(run: Edits) -> None:
    words = ("edit", "photo.png", "a cat", "--box", "10%,10%,20%,20%", "-o", "e.png", "--json")
    planned, made = (json.loads(done(run(*words, *more)).stdout)["size"] for more in (("--dry-run",), ()))
    assert planned == made == [*pixels("photo.png").shape[1::-1]]


@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_a_stopped_journey_goes_on_to_the_same_frames(run: Edits, tiny: TinyModels, at: int) -> None:
    words = ["optimise.steps=5", "targets.frames=3", "targets.path=[a cat, photo.png]", f"prior.name={tiny.prior}"]
    plan = make_plan(load_config([str(tiny.config)], words, {"seed": 1}))
    kept = Keeping()
    whole = run_parts(build(plan, find_models(plan.config)), [kept])
    parts = build(plan, find_models(plan.config))
    stopped = Keeping()
    assert run_parts(parts, [stopped], lambda: len(stopped.states) == at) is None
    parts = build(plan, find_models(plan.config))
    parts.descent.load_state_dict(stopped.states[-1])
    rest = Keeping()
    assert whole is not None and run_parts(parts, [rest]) is not None
    assert all(torch.equal(one, two) for one, two in zip(kept.images[at:], rest.images, strict=True))


def test_a_journey_goes_in_logits_too(run: Edits) -> None:
    """What a logit is moved by is what those of the latents differ by."""
    words = ("interpolate", "a cat", "photo.png", "-n", "3", "--set", "optimise.space=logits", "-o", "way.png")
    done(run(*words))
    assert pixels("way.png").shape == (16, 3 * 16, 3)
    latents = torch.tensor([0.0, 2.0]).view(2, 1, 1, 1, 1)
    journey = Journey(3, 2, lambda point, share: None, latents, enter=lambda latent: torch.cat([latent, -latent], 1))
    logits = torch.zeros(1, 2, 1, 1)
    journey(logits, 1, 3)
    assert logits.flatten().tolist() == [1, -1]


def test_a_journey_visits_its_points() -> None:
    """Five frames over three points in ten updates: two each, the latent moved by the difference where one begins."""
    latents = torch.tensor([0.0, 1.0, 5.0]).view(3, 1, 1, 1, 1)
    aims: list[tuple[int, float]] = []
    journey = Journey(5, 3, lambda point, share: aims.append((point, share)), latents)
    latent = torch.zeros(1, 1, 1, 1)
    found = []
    for number in range(10):
        journey(latent, number, 10)
        found.append(float(latent))
    assert found == [0, 0, 0.5, 0.5, 1, 1, 3, 3, 5, 5]
    assert aims[::2] == [(0, 0.0), (0, 0.5), (1, 0.0), (1, 0.5), (1, 1.0)]


BAD = {
    "one point": (("interpolate", "a cat"), "two texts"),
    "a point that is not there": (("interpolate", "a cat", "nope.png"), "nope.png"),
    "no words": (("edit", "photo.png", "--mask", "mask.png"), "nothing to draw"),
    "no mask to invert": (("edit", "photo.png", "a", "--invert"), "need a mask"),
    "a mask without white": (("edit", "photo.png", "a", "--mask", "black.png"), "no white"),
    "a mask of white": (("edit", "photo.png", "a", "--mask", "white.png"), "covers the whole"),
    "a mask of another form": (
        ("edit", "photo.png", "a", "--mask", "square.png"),
        "40x40 pixels, and the picture 60x40",
    ),
    "a mask that is not there": (("edit", "photo.png", "a", "--mask", "nope.png"), "nope.png"),
    "a box outside": (("edit", "photo.png", "a", "--box", "60,0,5,5"), "outside the picture"),
    "no box": (("edit", "photo.png", "a", "--box", "1,2,3"), "X,Y,W,H"),
    "words that are not found": (("edit", "photo.png", "a", "--where", "a"), "its best score is"),
    "a picture that is not there": (("edit", "nope.png", "a", "--box", "1,1,5,5"), "nope.png"),
    "a damaged picture": (("edit", "torn.png", "a", "--box", "1,1,5,5"), "torn.png"),
    "a picture over 100 megapixels": (("edit", "huge.png", "a", "--box", "1,1,5,5"), "100"),
    "a mask over 100 megapixels": (("edit", "photo.png", "a", "--mask", "huge.png"), "100"),
    "a picture that is a text": (("edit", "text.png", "a", "--box", "1,1,5,5"), "text.png"),
    "a folder": (("vary", "."), "directory"),
    "a box of nothing": (("edit", "photo.png", "a", "--box", "1,1,0,5"), "is empty"),
    "a box of no number": (("edit", "photo.png", "a", "--box", "a,1,5,5"), "X,Y,W,H"),
    "a negative box": (("edit", "photo.png", "a", "--box=-5,1,5,5"), "X,Y,W,H"),
    "an empty prompt": (("edit", "photo.png", " ", "--box", "1,1,5,5"), "prompt"),
    "the mask of nothing": (("edit", "photo.png", "a", "--show-mask", "m.png"), "--show-mask needs a mask"),
    "the mask over the picture": (
        ("edit", "photo.png", "a", "--box", "1,1,5,5", "--show-mask", "./photo.png", "--overwrite"),
        "a picture that is read",
    ),
    "the mask over the mask": (
        ("edit", "photo.png", "a", "--mask", "mask.png", "--show-mask", "mask.png", "--overwrite"),
        "a picture that is read",
    ),
    "the mask under the result": (("edit", "photo.png", "a", "--box", "1,1,5,5", "--show-mask", "new.png"), "or made"),
    "a mask that is no picture": (("edit", "photo.png", "a", "--box", "1,1,5,5", "--show-mask", "m.txt"), "ends in"),
    "no words to find": (("edit", "photo.png", "a", "--where", " "), "--where is ' '"),
    "what is turned to nothing": (("edit", "photo.png", "a", "--amount", "0.2"), "go with --to"),
    "what a thread would be drawn as": (("vary", "thread.png", "--set", "size=auto"), "3000x2 pixels would be drawn"),
    "a rim like a thread": (("outpaint", "photo.png", "--left", "200000%"), "choose a smaller rim"),
    "an empty point": (("interpolate", "a cat", ""), "point of the way is empty"),
    "a ratio of nothing": (("outpaint", "photo.png", "--ratio", "0:1"), "is not W:H"),
    "an empty rim": (("outpaint", "photo.png", "--left", "0"), "is empty"),
    "a rim around nothing": (("outpaint", "nope.png", "--left", "9"), "nope.png"),
    "a damaged point": (("interpolate", "a cat", "torn.png"), "torn.png"),
    "a strip too high for its file": (
        ("interpolate", "a cat", "a dog", "-n", "8193", "-o", "way.webp"),
        "cannot hold 128x16400",
    ),
    "a picture too wide for its file": (
        ("edit", "long.png", "a", "--box", "0,0,50,50", "-o", "long.webp"),
        "cannot hold 17000x100",
    ),
    "one frame": (("interpolate", "a cat", "a dog", "-n", "1"), "greater than or equal to 2"),
    "a strength that keeps nothing": (
        ("vary", "photo.png", "--strength", "1", "--set", "init.kind=codes"),
        "at 1 nothing of it stays",
    ),
    "a strength over 1": (("vary", "photo.png", "--strength", "1.5"), "--strength is 1.5"),
    "a negative feather": (("edit", "photo.png", "a", "--box", "1,1,5,5", "--feather", "-1"), "--feather is -1"),
    "an amount over 1": (("edit", "photo.png", "--to", "a", "--amount", "2"), "--amount is 2"),
    "no rim": (("outpaint", "photo.png", "a"), "no rim"),
    "a negative rim": (("outpaint", "photo.png", "a", "--left", "-5"), "rim"),
    "two kinds of rim": (("outpaint", "photo.png", "--left", "5", "--ratio", "2:1"), "--ratio"),
    "a rim that is there": (("outpaint", "photo.png", "--ratio", "3:2"), "already"),
    "too large a rim": (("outpaint", "photo.png", "--left", "999999", "--top", "99999"), "100 million"),
    "all drawn anew without a mask": (("edit", "photo.png", "a", "--strength", "1"), "at 1 nothing of it stays"),
    "frames that the command says": (
        ("interpolate", "a cat", "a dog", "--set", "targets.frames=20"),
        "decides targets.frames itself",
    ),
    "targets that the command says": (
        ("interpolate", "a", "b", "--set", "targets={frames: 20}"),
        "decides targets.frames itself",
    ),
    "a picture to be like that the command says": (
        ("vary", "photo.png", "--set", "image_prompts=[mask.png]"),
        "decides image_prompts itself",
    ),
    "a picture to vary that is not there": (("vary", "nope.png"), "nope.png"),
}


@pytest.mark.parametrize("words", BAD)
def test_what_cannot_be_done_is_said_in_one_sentence_and_leaves_nothing(run: Edits, words: str) -> None:
    before = sorted(path.name for path in Path.cwd().rglob("*"))
    (name, *rest), reason = BAD[words]
    failed = run(name, *(() if "-o" in rest else ("-o", "new.png")), *rest, "-q")
    assert failed.code == 2 and reason in failed.stderr and len(failed.stderr.strip().splitlines()) == 1, failed.stderr
    assert "Traceback" not in failed.stderr and sorted(path.name for path in Path.cwd().rglob("*")) == before


def test_seeds_say_how_many_pictures_a_variation_has(run: Edits) -> None:
    done = run.command("vary", "photo.png", "-c", str(run.config), "--steps", "1", "--seed", "5,9", "-o", "v.png", "-q")
    assert done.code == 0, done.stderr
    assert [read_metadata(Path(f"v-{number}.png")).seed for number in (0, 1)] == [5, 9]
    way = run.command("interpolate", "a cat", "a dog", "-c", str(run.config), "--seed", "1,2")
    assert way.code == 2 and "there is one run" in way.stderr
    refused = run.command("vary", "photo.png", "-c", str(run.config), "--seed", "5,9", "--set", "count=3")
    assert refused.code == 2 and "as many as seeds" in refused.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("-o", "out.png", "--count", "2", "--show-mask", "out-0.png"), 2, "'out-0.png' is a picture that is made"),
        (("-o", "d/", "--show-mask", "d/image.png"), 2, "'d/image.png' is a picture that is made"),
        (("-o", "d/", "--show-mask", "d/frames/000001.png"), 2, "is a picture that is made"),
        (("-o", "out.png", "--video", "webp", "--show-mask", "out.webp"), 2, "is a picture that is made"),
        (("-o", "out.png", "--show-mask", "mine.png"), 6, "'mine.png' is there already"),
        (("-o", "out.png", "--show-mask", f"{'n' * 300}.png"), 6, "Cannot write"),
    ],
)
def test_a_mask_has_a_place_of_its_own(run: Edits, words: tuple[str, ...], code: int, said: str) -> None:
    Path("mine.png").write_text("mine")
    before = sorted(path.name for path in Path.cwd().rglob("*"))
    failed = run("edit", "photo.png", "a hat", "--box", "1,1,5,5", *words)
    assert failed.code == code and said in failed.stderr, failed.stderr
    assert "loading models" not in failed.stderr
    assert sorted(path.name for path in Path.cwd().rglob("*")) == before


def test_the_picture_itself_is_replaced_only_when_that_is_said(run: Edits) -> None:
    words = ("edit", "photo.png", "a hat", "--mask", "mask.png", "-o", "photo.png")
    before = pixels("photo.png")
    assert run(*words).code == 6 and np.array_equal(pixels("photo.png"), before)
    done(run(*words, "--overwrite"))
    assert not np.array_equal(pixels("photo.png"), before) and np.array_equal(pixels("photo.png")[:10], before[:10])


def test_given_codes_stay_and_free_ones_are_drawn_as_without_them() -> None:
    prior, side = tiny_prior(), TINY_PRIOR.side
    numbers = torch.rand(2, side, side, generator=torch.Generator().manual_seed(0))
    tokens, sampling = torch.ones(2, TINY_PRIOR.context, dtype=torch.long), Sampling()
    free = torch.full((2, side, side), FREE)
    assert torch.equal(prior.sample(tokens, numbers, sampling, free), prior.sample(tokens, numbers, sampling))
    given = free.clone()
    given[:, :, :3] = 5
    drawn = prior.sample(tokens, numbers, sampling, given)
    assert (drawn[:, :, :3] == 5).all() and (drawn >= 0).all()


def test_strides_grow_from_what_is_known() -> None:
    given = torch.full((1, 4, 20), FREE)
    given[..., 12:14] = 7
    drawn: list[int] = []

    def draw(window: torch.Tensor, place: tuple[slice, slice]) -> torch.Tensor:
        assert torch.equal(given[:, *place] == 7, window == 7)  # the window is where it says
        drawn.append(int((window == FREE).sum()))
        return torch.where(window == FREE, 20 + len(drawn), window)

    codes = fill_free(given, 4, draw)
    assert (codes != FREE).all() and (codes[..., 12:14] == 7).all() and (given == FREE).sum() == 72
    assert drawn == [8] * 9  # always half of a window, beside what is there


def test_a_seam_is_the_step_between_old_and_new() -> None:
    given = torch.full((1, 2, 4), FREE)
    given[..., :2] = 0
    pictures = torch.zeros(1, 2, 3, 8, 16)
    pictures[0, 1, ..., 8:] = 0.25
    torch.testing.assert_close(seam(pictures, given), torch.tensor([[0.0, 0.25]]))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_a_share_of_the_places_is_drawn_anew(share: float) -> None:
    places = lowest(grains((40, 60), [torch.Generator().manual_seed(seed) for seed in (1, 2)]), share)
    assert places.shape == (2, 1, 40, 60)
    assert places.float().mean((1, 2, 3)).tolist() == pytest.approx([share] * 2, abs=0.01)


def test_bent_pictures_differ_by_chance_and_invent_no_colour() -> None:
    def rngs() -> list[torch.Generator]:
        return [torch.Generator().manual_seed(seed) for seed in (1, 2)]

    picture = torch.rand(1, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    assert torch.equal(bent(picture, 0.0, rngs()), picture.expand(2, -1, -1, -1))
    some = bent(picture, 0.3, rngs())
    assert torch.equal(some, bent(picture, 0.3, rngs())) and not torch.equal(some[0], some[1])
    assert picture.min() <= some.min() and some.max() <= picture.max()
    red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1).expand(1, 3, 16, 24)
    torch.testing.assert_close(bent(red, 1.0, rngs()), red.expand(2, -1, -1, -1))


@pytest.mark.parametrize("shape", [(40, 40), (40, 80), (90, 30)])
def test_a_bent_picture_is_turned_and_not_skewed(shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A step to the right and one down come from steps of one length, at a right angle, in pixels."""
    monkeypatch.setattr(start, "WARP", 0.0)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(start.F, "grid_sample", lambda picture, grid, **_: seen.append(grid) or picture)
    bent(torch.rand(1, 3, *shape), 1.0, [torch.Generator().manual_seed(3)])
    places = seen[0][0].double() * torch.tensor([shape[1] / 2, shape[0] / 2])
    right, down = places[0, 1] - places[0, 0], places[1, 0] - places[0, 0]
    assert float(right @ down) == pytest.approx(0, abs=1e-4) and abs(float(right[1])) > 0.05
    assert float(right.norm()) == pytest.approx(float(down.norm()), abs=1e-4)


@pytest.mark.parametrize(("kind", "seen"), [("redraw", [[0.5], [0.5], [1.0]]), ("prior", [[0.5]])])
def test_proposals_are_judged_by_the_regions_of_their_own_part(
    run: Edits, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, kind: str, seen: list[list[float]]
) -> None:
    """Twice as wide as high: three windows of the prior, which show the cat, half of the dog, and the dog alone; or one
    drawing in the middle, which shows half of the dog."""
    parts: list[list[float]] = []

    def rank(pictures: torch.Tensor, found: Targets, see: object) -> torch.Tensor:
        assert found.maps is not None
        parts.append([float(each.mean()) for each in found.maps])
        return torch.zeros(pictures.shape[:2])

    monkeypatch.setattr(assemble, "rank_by_place", rank)
    image, prompts = "photo.png" if kind == "redraw" else None, ["[left quarter] a cat | [right] a dog"]
    words = [f"prior.name={tiny.prior}", "optimise.steps=0", "init.strength=1", "size=32x16"]
    options = {"init.kind": kind, "init.image": image, "prompts": prompts, "seed": 1}
    plan = make_plan(load_config([str(tiny.config)], words, options))
    build(plan, find_models(plan.config))
    assert sorted(parts) == seen


def test_what_the_words_are_about_is_drawn_anew_and_the_rest_stays(run: Edits, tiny: TinyModels) -> None:
    """The tiny CLIP finds something somewhere: as much as --strength says, and the same place for every seed."""
    options = {"init.image": "photo.png", "image_prompts": ["photo.png"], "init.strength": 0.25, "count": 2, "seed": 1}
    words = {"targets.away": "a cat", "targets.towards": "a dog", "init.kind": "codes", "size": "32x32"}
    plan = make_plan(load_config([str(tiny.config)], [], {**options, **words}))
    parts = build(plan, find_models(plan.config))
    one, two = parts.descent.latent.detach()
    same = (one == two).all(0)
    assert 0.5 <= same.float().mean() <= 0.8


@pytest.mark.parametrize("frames", ["2", "10"])
def test_the_size_of_a_strip_is_known_before(run: Edits, tiny: TinyModels, frames: str) -> None:
    done(run("interpolate", "a cat", "a dog", "-n", frames, "-o", "way.png", "--save-every", "4"))
    config = load_config([str(tiny.config)], [], read_metadata(Path("way.png")).config)
    size = {"2": (32, 16), "10": (128, 32)}[frames]
    assert make_plan(config).result_size == pixels("way.png").shape[1::-1] == size


def test_a_strip_that_is_too_large_is_refused_before_it_is_drawn(run: Edits) -> None:
    """A row of eight pictures of 512 pixels has 2 megapixels: 48 rows are too many, and of 128 pixels they are not."""
    words = ("interpolate", "a cat", "a dog", "-n", "384", "--dry-run", "--size")
    done(run(*words, "128"))
    refused = run(*words, "512")
    assert refused.code == 2 and "384 pictures would have 4096x24576 pixels" in refused.stderr


def test_a_film_never_takes_the_pictures_name(run: Edits) -> None:
    failed = run("interpolate", "a cat", "a dog", "-n", "2", "-o", "way.webp", "--video", "webp")
    assert failed.code == 2 and "video's name" in failed.stderr and not list(Path.cwd().glob("way*"))


def test_a_part_that_is_found_grows_to_its_thing_and_not_into_the_ground() -> None:
    """A red thing on a green and blue ground, found with some of the ground; a second red thing lies apart."""
    pixels = np.zeros((40, 40, 3), np.uint8)
    pixels[:20], pixels[20:] = (0, 200, 0), (0, 0, 200)
    thing, apart, found = (np.zeros((40, 40), bool) for _ in range(3))
    thing[10:30, 12:20] = apart[10:30, 24:28] = found[15:25, 10:18] = True
    pixels[thing | apart] = (200, 0, 0)
    assert np.array_equal(whole_thing(found, pixels), found | thing)


def test_a_frame_that_is_passed_over_is_moved_for_too() -> None:
    """Four updates for eight frames: each moves the latent by two frames' worth."""
    latents = torch.tensor([0.0, 7.0]).view(2, 1, 1, 1, 1)
    journey = Journey(8, 2, lambda point, share: None, latents)
    latent = torch.zeros(1, 1, 1, 1)
    moved = [(journey(latent, number, 4), float(latent)) for number in range(4)]
    assert moved == [(False, 0), (True, 2), (True, 4), (True, 6)]


@pytest.mark.parametrize(
    ("words", "lr", "schedule"),
    [
        (("a cat", "a dog", "--set", "vqgan.name=imagenet-16384"), 0.1, "constant"),
        (("a cat", "photo.png", "--set", "vqgan.name=imagenet-16384"), 0.1, "constant"),
        (("photo.png", "square.png", "--set", "vqgan.name=imagenet-16384"), 0.01, "constant"),
        (("a cat", "a dog", "-c", "codes"), 0.1, "constant"),
        (("a cat", "a dog", "-c", "codes", "--set", "optimise.schedule=linear"), 0.1, "linear"),
        pytest.param(
            ("a cat", "a dog"),
            0.01,
            "constant",
            marks=pytest.mark.skipif(not has_embedded_prior(), reason="no embedded prior"),
        ),
    ],
)
def test_the_steps_of_a_way_keep_their_size(run: Edits, words: tuple[str, ...], lr: float, schedule: str) -> None:
    told = done(run.command("interpolate", *words, "--dry-run", "--json")).stdout
    optimise = json.loads(told)["config"]["optimise"]
    assert (optimise["lr"], optimise["schedule"], optimise["steps"]) == (lr, schedule, 32)


def test_a_job_s_way_keeps_the_size_of_its_steps(tiny: TinyModels) -> None:
    for given, schedule in (({}, "constant"), ({"set": ["optimise.schedule=drop"]}, "drop")):
        facts = checked({"interpolate": ["a cat", "a dog"], "config": "codes", **given})
        assert config_of(facts, Base(), ConfigReader()).optimise.schedule == schedule


@pytest.mark.parametrize(
    ("points", "words", "said"),
    [
        (("a cat", "a dog"), (), True),
        (("a cat", "photo.png"), (), True),
        (("a cat", "a dog"), ("optimise.steps=240",), False),
        (("square.png", "photo.png"), (), False),
        (("a cat", "a dog"), ("prior.name={prior}",), False),
    ],
)
def test_a_way_over_texts_that_nothing_draws_says_what_it_needs(
    run: Edits, tiny: TinyModels, points: tuple[str, ...], words: tuple[str, ...], said: bool
) -> None:
    overrides = ["optimise.steps=32", *(word.format(prior=tiny.prior) for word in words)]
    plan = make_plan(load_config([str(tiny.config)], overrides, {"targets.path": list(points)}))
    assert [note for note in plan.notes if "--steps 30 or more" in note] == (plan.notes if said else [])
    assert bool(plan.notes) == said


def test_every_picture_of_a_way_needs_a_step(run: Edits) -> None:
    done = run.command("generate", "-c", str(run.config), "--set", "targets.path=[a cat, a dog]", "-o", "way.png")
    assert done.code == 2 and "optimise.steps is 6; each of the 8 pictures of targets.path needs one" in done.stderr


def test_a_way_does_not_go_on_for_more_steps(run: Edits) -> None:
    done(run("interpolate", "a cat", "a dog", "-n", "3", "-o", "way/"))
    refused = run.command("resume", "way", "--steps", "60")
    assert refused.code == 2 and "is a way of 3 pictures that share its 6 steps" in refused.stderr


@pytest.mark.parametrize("words", [("vary",), ("edit", "--from", "a cat", "--to", "a dog")])
def test_a_picture_keeps_its_form_in_the_area_that_a_config_says(run: Edits, words: tuple[str, ...]) -> None:
    """The config of the tiny models says 16x16, as those of published models say 256x256."""
    Image.new("RGB", (60, 20)).save("wide.png")
    name, *more = words
    planned = json.loads(done(run(name, *more, "wide.png", "--dry-run", "--json")).stdout)["size"]
    assert planned == [28, 10]
    planned = json.loads(done(run(name, *more, "wide.png", "--dry-run", "--json", "--size", "16x16")).stdout)["size"]
    assert planned == [16, 16]


def test_words_are_found_in_what_is_worked_on(run: Edits, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    """A photo of another form is cut for the start, and looked at as it was cut."""
    Image.new("RGB", (60, 20)).save("wide.png")
    looked_at = []

    def places(meaning: torch.Tensor, picture: Image.Image, perceptor: object) -> torch.Tensor:
        looked_at.append(picture.size)
        return torch.zeros(picture.size[::-1])

    monkeypatch.setattr(assemble, "places_of", places)
    words = ("edit", "wide.png", "--from", "a cat", "--to", "a dog", "--set", f"prior.name={tiny.prior}")
    done(run(*words, "--set", "init.kind=prior", "--size", "16x16", "-o", "e.png"))
    assert looked_at == [(16, 16)]
