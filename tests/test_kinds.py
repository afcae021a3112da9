"""Prompts that are no texts, in whole programs: pictures, vectors, noise, regions, lists, alternatives."""

import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from command import Command
from conftest import TinyModels, save_tiny_clip
from PIL import Image
from safetensors.torch import save_file

from vqclip.common.errors import UsageError
from vqclip.config.loader import load_config
from vqclip.hub.model_files import find_models
from vqclip.models.provenance import ModelHash
from vqclip.pipeline.assemble import Parts
from vqclip.pipeline.build import build
from vqclip.pipeline.plan import make_plan
from vqclip.pipeline.vectors import Vectors, read_vectors, write_vectors


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def draw(seed: int, name: str, side: int = 16) -> None:
    pixels = np.random.default_rng(seed).integers(0, 255, (side, side, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(name)


def parts(tiny: TinyModels, *prompts: str, **options: object) -> Parts:
    plan = make_plan(load_config([str(tiny.config)], [], {"prompts": list(prompts), "seed": 1, **options}))
    return build(plan, find_models(plan.config))


def test_a_picture_as_a_prompt_is_an_image_prompt(tiny: TinyModels) -> None:
    draw(1, "a.png")
    (prompted,), (asked,) = (
        parts(tiny, "a cat | @image:a.png:0.5").targets,
        parts(tiny, "a cat", image_prompts=["a.png:0.5"]).targets,
    )
    assert torch.equal(prompted.embeddings, asked.embeddings) and torch.equal(prompted.weights, asked.weights)


def test_noise_is_a_unit_vector_of_its_seed(tiny: TinyModels) -> None:
    (found,) = parts(tiny, "@noise:7 | @noise:7 | @noise:8:-1").targets
    assert torch.equal(found.embeddings[0], found.embeddings[1]) and found.weights.tolist() == [1, 1, -1]
    numbers = torch.randn(16, generator=torch.Generator().manual_seed(7))
    torch.testing.assert_close(found.embeddings[0], numbers / numbers.norm())
    assert (found.embeddings[0] @ found.embeddings[2]).abs() < 0.9


def test_a_named_direction_goes_from_its_texts_to_its_texts(tiny: TinyModels) -> None:
    (found,) = parts(tiny, "@vector:textoff | letters and numbers | a photo").targets
    direction, letters, photo = found.embeddings
    assert direction @ photo > direction @ letters and direction.norm().item() == pytest.approx(1)


def test_a_vector_is_made_and_followed(run: Command, tiny: TinyModels) -> None:
    draw(1, "a.png")
    made = run("embed", "a cat", "a.png", "--minus", "a dog", "-m", str(tiny.clip), "-o", "v.safetensors", "--json")
    assert made.code == 0 and json.loads(made.stdout)["says"] == "a cat + a.png - a dog"
    (prompted,) = parts(tiny, "@vector:v.safetensors:2 | a cat | @image:a.png | a dog").targets
    direction, cat, picture, dog = prompted.embeddings
    middle = torch.nn.functional.normalize((cat + picture) / 2, dim=0)
    torch.testing.assert_close(direction, torch.nn.functional.normalize(middle - dog, dim=0))
    assert run("embed", "a cat", "-m", str(tiny.clip), "-o", "v.safetensors").code == 6
    words = ("-c", str(tiny.config), "--set", "seed=1", "--steps", "2")
    assert run("generate", "@vector:v.safetensors | a cat", *words, "-o", "a/").code == 0
    assert run("rerun", "a/image.png", "-o", "b.png").code == 0
    assert (np.asarray(Image.open("a/image.png")) == np.asarray(Image.open("b.png"))).all()
    save_file({str(tiny.clip): torch.ones(16)}, "v.safetensors")
    done = run("rerun", "a/image.png", "-o", "c.png")
    assert done.code == 2 and "is not the file that the picture was made from" in done.stderr


def test_vectors_are_of_one_guide_whatever_it_is_called() -> None:
    guides = [ModelHash("first", "aa"), ModelHash("second", "bb")]
    write_vectors(Path("v.safetensors"), guides, [torch.eye(4)[0], torch.eye(6)[1]], "a cat")
    found = read_vectors(Path("v.safetensors").read_bytes(), "v")
    assert found.says == "a cat" and torch.equal(found.of_guide(ModelHash("renamed", "bb"), 6, "v"), torch.eye(6)[1])
    for guide, width, says in (
        (ModelHash("third", "cc"), 4, "of 'first', 'second' and none of 'third'"),
        (ModelHash("first", "aa"), 6, "has 4 numbers, those of 'first' have 6"),
        (ModelHash("first", "cc"), 4, "other weights of 'first'"),
    ):
        with pytest.raises(UsageError, match=says):
            found.of_guide(guide, width, "v")
    assert torch.equal(Vectors({"x": torch.eye(2)[0]}).of_guide(ModelHash("x", "aa"), 2, "v"), torch.eye(2)[0])


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 100,
        b"\xff" * 20,
        *(({"x": each}) for each in (torch.ones(2, 2), torch.zeros(3), torch.ones(2).int())),
    ],
)
def test_what_is_no_file_of_vectors_is_one_sentence(data: bytes | dict[str, torch.Tensor]) -> None:
    if isinstance(data, dict):
        save_file(data, "v.safetensors")
        data = Path("v.safetensors").read_bytes()
    with pytest.raises(UsageError, match="Cannot read the vectors 'v'"):
        read_vectors(data, "v")


def test_another_model_s_vector_is_refused_before_anything_is_drawn(run: Command, tiny: TinyModels) -> None:
    save_tiny_clip(Path("other"), seed=5)
    assert run("embed", "a cat", "-m", "other", "-o", "v.safetensors").code == 0
    done = run("generate", "@vector:v.safetensors", "-c", str(tiny.config), "-o", "a.png")
    assert done.code == 2 and "none of" in done.stderr and not Path("a.png").exists()


def test_regions_reach_the_guides_and_survive_resume_and_another_folder(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (8, 8), 0).save("black.png")
    mask = Image.new("L", (8, 8), 0)
    mask.paste(255, (0, 0, 4, 4))
    mask.save("m.png")
    (found,) = parts(tiny, "[left] a cat | [in m.png] a dog | a boat | [8,0,8,8] fog:-1").targets
    assert found.maps is not None
    assert [round(each, 3) for each in found.maps.mean((1, 2)).tolist()] == [0.5, 0.25, 1, 0.25]
    words = ("-c", str(tiny.config), "--seed", "1", "--steps", "4")
    prompt = "[left] a cat | [in m.png] @image:m.png"
    plain = run("generate", "a cat | @image:m.png", *words, "-o", "plain.png")
    assert plain.code == 0 and run("generate", prompt, *words, "-o", "run/").code == 0
    assert (np.asarray(Image.open("plain.png")) != np.asarray(Image.open("run/image.png"))).any()
    assert yaml.safe_load(Path("run/run.yaml").read_text())["prompts"] == [
        f"[left] a cat | [in {Path('m.png').absolute()}] @image:{Path('m.png').absolute()}"
    ]
    work = Path().absolute()
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert run("generate", "-c", str(work / "run/run.yaml"), "-o", "again.png").code == 0
    assert (np.asarray(Image.open("again.png")) == np.asarray(Image.open(work / "run/image.png"))).all()
    painted = Image.new("RGBA", (8, 8), (0, 0, 0, 0))
    painted.paste((255, 255, 255, 255), (0, 0, 4, 4))
    painted.save("painted.png")
    (found,) = parts(tiny, "[in painted.png] a dog").targets
    assert found.maps is not None and round(float(found.maps.mean()), 3) == 0.25  # what is transparent is not white
    done = run("generate", f"[in {work}/black.png] a cat", *words)
    assert done.code == 2 and "nothing white" in done.stderr


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        ("a | @image:gone.png", "column 12: there is no file 'gone.png'"),
        ("[in gone.png] a", "column 5: there is no file 'gone.png'"),
        ("@vector:gone.safetensors", "column 9: there is no file"),
        ("[20,0,4,4] a", "column 1: The box '20,0,4,4' lies outside the picture, which has 16x16 pixels"),
        ("@gone.txt", "Cannot read the prompts in 'gone.txt'"),
        ("@jobs.jsonl", "vqclip batch jobs.jsonl"),
    ],
)
def test_what_is_not_there_is_one_sentence(run: Command, tiny: TinyModels, prompt: str, says: str) -> None:
    done = run("generate", prompt, "-c", str(tiny.config), "-o", "a.png")
    assert done.code == 2 and says in done.stderr and done.stderr.count("\n") == 1
    assert not list(Path().iterdir())


def test_a_region_beside_a_mask_is_refused(run: Command, tiny: TinyModels) -> None:
    draw(1, "a.png")
    done = run("edit", "a.png", "[left] a cat", "--box", "0,0,8,8", "-c", str(tiny.config), "-o", "b.png")
    assert done.code == 2 and "column 1: the mask says where" in done.stderr


def test_lists_and_alternatives_are_pictures_of_their_own(run: Command, tiny: TinyModels) -> None:
    Path("pets.txt").write_text("a cat\na {red|blue} dog\n")
    done = run(
        "generate",
        "@pets.txt",
        "a boat",
        "-c",
        str(tiny.config),
        "--steps",
        "1",
        "--seed",
        "1",
        "-o",
        "p.png",
        "--json",
    )
    drawn = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["prompt"] for each in drawn if each["event"] == "image"] == [
        "a cat",
        "a red dog",
        "a blue dog",
        "a boat",
    ]


def test_a_batch_has_a_job_for_each_alternative(run: Command, tiny: TinyModels) -> None:
    Path("jobs.txt").write_text("a {red|blue} dog\n@other.txt\n")
    done = run("batch", "jobs.txt", "-o", "out", "-c", str(tiny.config), "--set", "optimise.steps=1", "--json")
    rows = [json.loads(line) for line in Path("out/results.jsonl").read_text().splitlines()]
    assert done.code == 5 and {row["prompt"] for row in rows} == {"a red dog", "a blue dog", "@other.txt"}
    assert [row["error"] for row in rows if row["error"]] == [
        "A job file holds prompts, and '@other.txt' is a list; put its lines there."
    ]


def test_explain_shows_parts_tokens_and_what_is_ignored(run: Command, tiny: TinyModels) -> None:
    done = run("prompt", "explain", "[left] a {red|} cat:2 | @noise:3:-1:0.4", "-c", str(tiny.config))
    assert done.code == 0 and done.stdout.splitlines()[:1] == ["[left] a red cat:2 | @noise:3:-1:0.4"]
    assert "text 'a red cat' in [left]: weight 2 (pulls)" in done.stdout
    assert "noise '3': weight -1 (pushes away), rests below 0.4" in done.stdout
    long = run("prompt", "explain", "a cat and " * 5 + "a dog", "-c", str(tiny.config), "--json")
    (part,) = json.loads(long.stdout)["parts"]
    (reading,) = part["readings"]
    assert reading["room"] == 10 and reading["tokens"] > 10 and reading["ignored"].endswith("a dog")
    embedded = json.loads(run("prompt", "explain", "a cat with a flurb", "--json").stdout)["parts"][0]["readings"][0]
    assert embedded["unknown"] == ["flurb"] and embedded["ignored"] == ""
    assert "read as 'a cat by the sea'" in run("prompt", "explain", "a fine kitten on the beach").stdout
    assert "read as" not in run("prompt", "explain", "A CAT's hat").stdout
    missing = run("prompt", "explain", "a cat", "--set", "perceptors=['ViT-B-32:openai']")
    assert missing.code == 0 and "what ViT-B-32:openai reads is not known" in missing.stderr
    assert run("prompt", "explain", "a | @foo:b").code == 2


def test_explain_reads_what_generate_reads(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a cat\n# not this\na dog\n")))
    said = run("prompt", "explain", "-", "a tree", "--json").stdout.splitlines()
    assert [json.loads(line)["prompt"] for line in said] == ["a cat", "a dog", "a tree"]
    Path("prompts.csv").write_text("a cat\n")
    for words in (("prompts.csv",), ("-", "-c", "-")):
        assert run("prompt", "explain", *words).stderr == run("generate", *words).stderr != ""


def test_a_vector_says_of_what_it_is_whatever_that_is_called(run: Command, tiny: TinyModels) -> None:
    Image.new("RGB", (8, 8)).save("\udcff.png")
    done = run("embed", "\udcff.png", "-m", str(tiny.clip), "-o", "v.safetensors")
    assert done.code == 0, done.stderr
    assert read_vectors(Path("v.safetensors").read_bytes(), "v").says == "\\udcff.png"


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("embed", "gone.heic", "-o", "v.safetensors"), "Cannot read the image 'gone.heic'"),
        (("embed", "photos", "-o", "v.safetensors"), "'photos' is a folder; name its pictures."),
        (("embed", "\udcff\udcfe", "-o", "v.safetensors"), "is neither a picture's file nor UTF-8 text."),
        (("search", "photos", "gone.jp2"), "There is no file 'gone.jp2' to search with"),
        (("search", "photos", "@image:gone"), "There is no file 'gone' to search with"),
    ],
)
def test_a_picture_that_is_not_there_is_never_read_as_words(run: Command, words: tuple[str, ...], says: str) -> None:
    Path("photos").mkdir()
    done = run(*words)
    assert done.code == 2 and says in done.stderr and not Path("v.safetensors").exists()


def test_what_is_no_picture_is_not_said_to_be_of_others(run: Command, tiny: TinyModels) -> None:
    assert run("generate", "a cat", "-c", str(tiny.config), "--steps", "2", "-o", "out/").code == 0
    assert (Path("out") / "run.yaml").exists()
    assert "was not made by vqclip" not in run("score", "out", "-p", "a cat").stderr
    Image.new("RGB", (8, 8)).save("holiday.jpg")
    assert "'holiday.jpg' was not made by vqclip" in run("score", "out", "holiday.jpg", "-p", "a cat").stderr
