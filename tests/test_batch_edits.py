"""Pictures made of pictures in a batch: each job is what the command is, with all that it leaves."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Command
from conftest import TinyModels
from PIL import Image
from tiny_upscaler import random_upscaler, save

from vqclip.batch import work
from vqclip.batch.fields import Base
from vqclip.batch.jobs import Job, read_jobs
from vqclip.batch.work import Worker, groups

COMMANDS: dict[str, tuple[dict[str, object], list[str]]] = {
    "a box": (
        {"edit": "photo.png", "prompt": "a hat", "box": ["2,2,5,5", "50%,50%,20%,20%"], "feather": 0},
        ["edit", "photo.png", "a hat", "--box", "2,2,5,5", "--box", "50%,50%,20%,20%", "--feather", "0"],
    ),
    "a mask": (
        {
            "edit": "photo.png",
            "mask": "mask.png",
            "invert": True,
            "strength": 0.5,
            "prompt": "a",
            "set": "init.kind=codes",
        },
        ["edit", "photo.png", "a", "--mask", "mask.png", "--invert", "--strength", "0.5", "--set", "init.kind=codes"],
    ),
    "a text difference": (
        {"edit": "photo.png", "from": "a cat", "to": "a dog", "amount": 0.4},
        ["edit", "photo.png", "--from", "a cat", "--to", "a dog", "--amount", "0.4"],
    ),
    "a rim": (
        {"outpaint": "photo.png", "prompt": "hills", "left": "20", "bottom": "25%"},
        ["outpaint", "photo.png", "hills", "--left", "20", "--bottom", "25%"],
    ),
    "a rim in numbers": ({"outpaint": "photo.png", "left": 20}, ["outpaint", "photo.png", "--left", "20"]),
    "a start": (
        {"prompt": "a", "init_image": "photo.png", "strength": 0.8, "size": 32},
        ["generate", "a", "--init-image", "photo.png", "--strength", "0.8", "--size", "32"],
    ),
    "a ratio": ({"outpaint": "photo.png", "ratio": "2:1"}, ["outpaint", "photo.png", "--ratio", "2:1"]),
    "a variation": ({"vary": "photo.png"}, ["vary", "photo.png", "-n", "1"]),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: TinyModels) -> Command:
    numbers = np.random.default_rng(0)
    Image.fromarray(numbers.integers(0, 256, (40, 60, 3), np.uint8)).save("photo.png")
    mask = np.zeros((40, 60), np.uint8)
    mask[10:30, 20:50] = 255
    Image.fromarray(mask).save("mask.png")
    return Command(monkeypatch, capsys)


def jobs_of(base: Base, *rows: dict[str, object]) -> list[Job]:
    return read_jobs("a.jsonl", "\n".join(map(json.dumps, rows)), base)


@pytest.mark.parametrize("kind", COMMANDS)
def test_a_job_makes_the_picture_of_its_command(run: Command, tiny: TinyModels, kind: str) -> None:
    row, words = COMMANDS[kind]
    alone = run(*words, "-c", str(tiny.config), "--steps", "2", "--seed", "1", "-o", "alone.png")
    assert alone.code == 0, alone.stderr
    (job,) = jobs_of(Base([str(tiny.config)]), {**row, "steps": 2, "seed": 1})
    assert job.error is None, job.error
    (made,) = Worker().make([job]) or []
    assert made.error is None and made.picture == Path("alone.png").read_bytes()


ALONE = {
    "the first of two": [
        "a | @image:photo.png:0.7 | @image:mask.png:0.2",
        "a | @image:mask.png:0.7 | @image:photo.png:0.2",
    ],
    "a region more": ["@image:photo.png | [left] @image:mask.png", "@image:photo.png"],
    "less of it": ["a | @image:photo.png | @image:mask.png:-1", "a | @image:photo.png:-1 | @image:mask.png"],
}


@pytest.mark.parametrize("kind", ALONE)
def test_what_prompts_start_from_is_of_their_own_picture(run: Command, tiny: TinyModels, kind: str) -> None:
    """What a job's prompt begins with is not what the one beside it does, although their settings are the same."""
    base = Base([str(tiny.config)], ["init.kind=vary"])
    jobs = jobs_of(base, *({"prompt": prompt, "seed": 1, "steps": 1} for prompt in ALONE[kind]))
    alone = [(Worker().make([job]) or [])[0] for job in jobs]
    beside = [made for group in groups(jobs, 4) for made in Worker().make(group) or []]
    assert all(each.picture for each in alone) and alone[0].picture != alone[1].picture
    assert [made.picture for made in beside] == [made.picture for made in alone]


def test_prompts_of_the_same_pictures_go_together_and_no_others(run: Command) -> None:
    prompts = ("a | @image:photo.png", "a dog", "b | @image:photo.png", "a cat")
    jobs = jobs_of(Base([], ["init.strength=0.6"]), *({"prompt": prompt} for prompt in prompts))
    assert [[job.prompt for job in group] for group in groups(jobs, 4)] == [list(prompts[::2]), list(prompts[1::2])]


LARGE = {
    "its size": ({"prompt": "a", "size": "16x16384", "output": "a.webp"}, "16x16384"),
    "upscaled": (
        {"prompt": "a", "size": "16x8192", "output": "a.webp", "set": "output.upscale=up.safetensors"},
        "32x16384",
    ),
    "a strip": ({"interpolate": ["a", "b"], "frames": 8193, "output": "a.webp"}, "128x16400"),
    "a photograph": ({"edit": "long.png", "prompt": "a", "box": "0,0,50,50", "output": "a.jpg"}, "65501x300"),
}


@pytest.mark.parametrize("kind", LARGE)
def test_a_picture_that_its_file_cannot_hold_is_said_before_anything_is_drawn(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    save(random_upscaler(), Path("up.safetensors"))
    Image.new("1", (65_501, 300)).save("long.png")
    monkeypatch.setattr(work, "load_models", None)
    (job,) = jobs_of(Base([str(tiny.config)]), LARGE[kind][0])
    (made,) = Worker().make([job]) or []
    assert made.code == 2 and f"cannot hold {LARGE[kind][1]}" in (made.error or ""), made.error


def test_a_way_in_a_batch_leaves_its_strip_frames_and_film(run: Command, tiny: TinyModels) -> None:
    words = ["interpolate", "a cat", "photo.png", "-n", "3", "--steps", "2", "--save-every", "2", "--video", "webp"]
    assert run(*words, "-c", str(tiny.config), "--seed", "1", "-o", "alone.png").code == 0
    row = {"interpolate": ["a cat", "photo.png"], "frames": 3, "steps": 2, "save_every": 2, "video": "webp", "seed": 1}
    Path("jobs.jsonl").write_text(json.dumps({**row, "output": "way.png"}))
    for _ in range(2):
        assert run("batch", "jobs.jsonl", "-c", str(tiny.config), "-o", "out").code == 0
    names = {"alone.png": "way.png", "alone.webp": "way.webp"}
    names |= {f"alone.png.frames/{step:06d}.png": f"way.png.frames/{step:06d}.png" for step in (2, 4, 6)}
    for one, other in names.items():
        assert Path("out", other).read_bytes() == Path(one).read_bytes(), other
    assert not list(Path("out/.states").glob("*"))


def test_a_way_goes_alone_and_a_stopped_one_keeps_its_frames(run: Command, tiny: TinyModels, tmp_path: Path) -> None:
    rows = [{"interpolate": ["a cat", "a dog"], "frames": 3, "steps": 1, "seed": seed} for seed in (1, 2)]
    jobs = jobs_of(Base([str(tiny.config)]), *rows)
    assert [len(group) for group in groups(jobs, 4)] == [1, 1]
    whole = Worker().make(jobs[:1]) or []
    asked = iter(range(100))
    assert Worker(states=tmp_path / "states").make(jobs[:1], lambda: next(asked) == 1) is None
    assert (Worker(states=tmp_path / "states").make(jobs[:1]) or [])[0].picture == whole[0].picture


def test_several_pictures_have_frames_of_their_own(run: Command, tiny: TinyModels) -> None:
    rows = [{"prompt": "a", "output": f"{name}.png", "seed": 1, "save_every": 1, "steps": 1} for name in "ab"]
    made = Worker().make(jobs_of(Base([str(tiny.config)]), *rows)) or []
    assert [name for each in made for name, _ in each.beside] == ["a.png.frames/000001.png", "b.png.frames/000001.png"]


def test_a_file_of_the_users_beside_the_picture_stays(run: Command, tiny: TinyModels) -> None:
    Path("out").mkdir()
    Path("out/way.webp").write_bytes(b"mine")
    row = {"interpolate": ["a cat", "a dog"], "frames": 2, "steps": 1, "video": "webp", "output": "way.png"}
    Path("jobs.jsonl").write_text(json.dumps(row))
    failed = run("batch", "jobs.jsonl", "-c", str(tiny.config), "-o", "out")
    assert failed.code == 5 and "way.webp' is there already" in failed.stderr
    assert Path("out/way.webp").read_bytes() == b"mine" and not Path("out/way.png").exists()


def test_lines_of_csv_hold_several_boxes_and_points(run: Command, tiny: TinyModels) -> None:
    text = 'edit,prompt,box,invert,feather\nphoto.png,a hat,"1,1,5,5; 9,9,5,5",true,3\n'
    (job,) = read_jobs("a.csv", text, Base([str(tiny.config)]))
    assert job.config is not None, job.error
    assert (job.config.mask.boxes, job.config.mask.invert, job.config.mask.feather) == (["1,1,5,5", "9,9,5,5"], True, 3)
    (job,) = read_jobs("a.csv", "vary,invert\nphoto.png,\n", Base([str(tiny.config)]))
    assert job.error is None
    (job,) = read_jobs("a.csv", "edit,to,invert\nphoto.png,a cat,false\n", Base([str(tiny.config)]))
    assert job.error is None and job.config is not None
    (job,) = read_jobs("a.csv", "interpolate,frames\na cat | photo.png,5\n", Base([str(tiny.config)]))
    assert job.config is not None, job.error
    assert (job.config.targets.path, job.config.targets.frames) == (["a cat", "photo.png"], 5)


def test_contents_decide_an_id_and_not_names(run: Command, tiny: TinyModels) -> None:
    def ids(photo: str, mask: str) -> list[str]:
        rows: list[dict[str, object]] = [
            {"edit": photo, "prompt": "a hat", "mask": mask, "seed": 1},
            {"interpolate": ["a cat", photo], "seed": 1},
        ]
        return [job.id for job in jobs_of(Base([str(tiny.config)]), *rows)]

    before = ids("photo.png", "mask.png")
    Path("moved.png").write_bytes(Path("photo.png").read_bytes())
    Path("white.png").write_bytes(Path("mask.png").read_bytes())
    assert ids("moved.png", "white.png") == before
    Image.new("RGB", (60, 40)).save("moved.png")
    assert not set(ids("moved.png", "white.png")) & set(before)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"edit": "photo.png"}, "nothing to draw"),
        ({"edit": "photo.png", "vary": "photo.png"}, "one command"),
        ({"prompt": "a", "mask": "mask.png"}, "belongs to 'edit'"),
        ({"prompt": "a", "strength": 0.5}, "or 'vary' or 'init_image', which names the picture"),
        ({"outpaint": "photo.png", "left": True}, "must be text"),
        ({"vary": "photo.png", "left": "5"}, "belongs to 'outpaint'"),
        ({"vary": "photo.png", "feather": 5}, "'edit' or 'outpaint'"),
        ({"edit": "photo.png", "prompt": "a", "box": "1,2,3"}, "X,Y,W,H"),
        ({"edit": "photo.png", "prompt": "a", "invert": True}, "need a mask"),
        ({"edit": "photo.png", "prompt": "a", "box": "1,1,5,5", "invert": "maybe"}, "true or false"),
        ({"edit": 7, "prompt": "a"}, "must be text"),
        ({"vary": "photo.png", "strength": 2}, "strength is 2"),
        ({"outpaint": "photo.png"}, "no rim"),
        ({"outpaint": "photo.png", "ratio": "2:1", "left": "5"}, "ratio"),
        ({"outpaint": "photo.png", "left": "-5"}, "rim"),
        ({"outpaint": "gone.png", "ratio": "2:1"}, "gone.png"),
        ({"interpolate": "a cat"}, "two texts"),
        ({"interpolate": 7}, "texts"),
        ({"interpolate": ["a", "b"], "prompt": "c"}, "leave the prompt out"),
        ({"interpolate": ["a", "b"], "frames": 1}, "between 2 and 10000"),
        ({"prompt": "a", "video": "avi"}, "video"),
        ({"vary": "photo.png", "set": "image_prompts=[mask.png]"}, "decides image_prompts itself"),
        ({"edit": "photo.png", "to": "a cat", "strength": 1}, "at 1 nothing of it stays"),
        ({"interpolate": ["a", "b"], "set": {"optimise": {"steps": 9}}}, "decides optimise.steps itself"),
        (
            {"edit": "photo.png", "prompt": "a", "box": "1,1,5,5", "strength": 0.2, "config": "imagenet-16384"},
            "strength says nothing",
        ),
    ],
)
def test_what_cannot_be_done_is_said_of_its_job(run: Command, row: dict[str, Any], says: str) -> None:
    job, good = jobs_of(Base(), row, {"prompt": "good"})
    assert job.error and says in job.error and job.code == 2 and good.error is None
