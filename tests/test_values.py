"""Values as people write them: sizes, shapes, seeds, homes, URLs, and sentences that name what was typed."""

import io
import json
import math
import sys
from pathlib import Path

import pytest
import yaml
from command import Command
from conftest import TinyModels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vqclip.cli.options import MOST_SEEDS, read_seeds
from vqclip.common.errors import UsageError
from vqclip.common.quantities import counted, memory
from vqclip.config.loader import load_config
from vqclip.config.schema import in_pixels, parse_size


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_one_number_is_a_square() -> None:
    assert parse_size("512") == parse_size("512x512") == (512, 512)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(64, 2048), st.integers(64, 2048))
@settings(deadline=None)
def test_a_shape_keeps_the_area(across: int, down: int, width: int, height: int) -> None:
    found = parse_size(in_pixels(f"{across}:{down}", f"{width}x{height}"))
    area, ratio = math.prod(found) / (width * height), found[0] / found[1] / (across / down)
    side = min(found)  # rounding moves each side by half a pixel
    assert abs(area - 1) <= 1.1 / side and abs(ratio - 1) <= 1.1 / side


def test_a_shape_counts_from_the_layer_below() -> None:
    assert load_config([], ["size=64x64"], {"size": "4:1"}).size == "128x32"
    assert load_config([], ["size=64x64", "size=1:1"]).size == "64x64"
    with pytest.raises(UsageError, match="two sides"):
        load_config([], ["size=0:1"])


@pytest.mark.parametrize(
    ("text", "seeds"),
    [("1,2,3", [1, 2, 3]), ("1-4", [1, 2, 3, 4]), ("9, 2 ,5-6", [9, 2, 5, 6]), ("3-3", [3])],
)
def test_several_seeds(text: str, seeds: list[int]) -> None:
    assert read_seeds(text) == {"seeds": seeds}


def test_one_seed_and_a_drawn_one() -> None:
    assert read_seeds("7") == {"seed": "7", "seeds": []}
    drawn = {read_seeds(word)["seed"] for word in ("random", "-1") for _ in range(8)}
    assert len(drawn) > 1 and all(isinstance(seed, int) and 0 <= seed < 2**32 for seed in drawn)


@pytest.mark.parametrize("text", ["4-1", "1,,2", "a", "-2", "1.5", "", f"0-{MOST_SEEDS}", f"0-{'9' * 19}", "٣"])
def test_no_seed(text: str) -> None:
    with pytest.raises(UsageError, match="--seed"):
        read_seeds(text)


def test_a_picture_of_each_seed_and_each_is_the_one_of_its_seed_alone(run: Command, tiny: TinyModels) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "--json")
    done = run(*words, "--seed", "5,2", "-o", "p.png")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["path"], event["seed"]) for event in events] == [("p-0.png", 5), ("p-1.png", 2)], done.stderr
    again = run("rerun", "p-1.png", "-o", "again.png")
    assert again.code == 0 and json.loads(run("info", "again.png", "--json").stdout)["seed"] == 2
    assert run(*words, "--seed", "5,2", "--count", "3").code == 2


def test_a_run_of_several_seeds_repeats_from_its_run_yaml(run: Command, tiny: TinyModels) -> None:
    run("generate", "-c", str(tiny.config), "a cat", "--seed", "5,2", "-o", "one/")
    run("generate", "-c", "one/run.yaml", "-o", "two/")
    for name in ("image-0.png", "image-1.png"):
        assert Path("one", name).read_bytes() == Path("two", name).read_bytes()
    one = yaml.safe_load(run("generate", "-c", "one/run.yaml", "--seed", "3", "--count", "1", "--dry-run").stdout)
    assert (one["seed"], one["seeds"], one["count"]) == (3, [], 1)


def test_a_batch_takes_a_range(run: Command, tiny: TinyModels) -> None:
    Path("p.txt").write_text("a cat\n")
    words = ("batch", "p.txt", "-c", str(tiny.config), "-o", "d", "--json")
    done = run(*words, "--seed", "3-4", "--steps", "1")
    assert [json.loads(line).get("seed") for line in done.stdout.splitlines()] == [3, 4, None], done.stderr
    assert "a range" in run(*words, "--seed", "3,9").stderr


def test_a_home_opens_in_every_path_of_a_config(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    found = load_config([], ["output.path=~/a/", "vqgan.file=~/m.ckpt", "image_prompts=[~/b.png:2]"])
    assert (found.output.path, found.vqgan.file) == ("/home/anna/a/", "/home/anna/m.ckpt")
    assert found.image_prompts == ["/home/anna/b.png:2"]


def test_a_url_is_no_file(run: Command) -> None:
    for words in (["--init-image", "https://a.org/b.png"], ["--image-prompt", "https://a.org/b.png"]):
        done = run("generate", "a cat", *words)
        assert done.code == 2 and "https://a.org/b.png" in done.stderr and "curl -LO" in done.stderr


@pytest.mark.parametrize(
    "words",
    [
        ("score", "https://a.org/b.png", "-p", "a cat"),
        ("classify", "https://a.org/b.png", "-l", "cat,dog"),
        ("search", ".", "https://a.org/b.png"),
        ("reconstruct", "https://a.org/b.png"),
        ("upscale", "https://a.org/b.png"),
        ("edit", "https://a.org/b.png", "a hat", "--box", "0,0,9,9"),
    ],
)
def test_every_command_says_what_to_do_with_a_url(run: Command, words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.code == 2 and "https://a.org/b.png" in done.stderr and "curl -LO" in done.stderr


@pytest.mark.parametrize(
    "words", [("--steps", "-3"), ("--count", "0"), ("--size", "big"), ("--save-every", "-1"), ("--video", "avi")]
)
def test_sentences_name_what_was_typed(run: Command, words: tuple[str, str]) -> None:
    assert run("generate", "a cat", *words).stderr.startswith(f"Error: {words[0]} is ")
    assert "optimise.steps is -3" in run("generate", "a cat", "--set", "optimise.steps=-3").stderr


def test_quantities() -> None:
    assert [counted(number, "job") for number in (0, 1, 2)] == ["0 jobs", "1 job", "2 jobs"]
    assert [memory(amount * 2**20) for amount in (830, 1024, 1536)] == ["830 MiB", "1.0 GiB", "1.5 GiB"]


def test_a_picture_to_standard_output(run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "--seed", "1")
    assert run(*words, "-o", "a.png").code == 0
    piped = io.TextIOWrapper(io.BytesIO())
    monkeypatch.setattr(sys, "stdout", piped)
    assert run(*words, "-o", "-").code == 0
    assert piped.buffer.getvalue() == Path("a.png").read_bytes()  # type: ignore[attr-defined]
    assert Image.open(piped.buffer).size == (16, 16) and [path.name for path in Path().iterdir()] == ["a.png"]


@pytest.mark.parametrize("more", [("--count", "2"), ("--json",), ("--video", "gif"), ("--seed", "1,2"), ("a dog",)])
def test_only_one_picture_fits_standard_output(run: Command, tiny: TinyModels, more: tuple[str, ...]) -> None:
    done = run("generate", "-c", str(tiny.config), "a cat", "-o", "-", *more)
    assert done.code == 2 and "one picture" in done.stderr and list(Path().iterdir()) == []


def test_a_batch_names_pictures_by_prompt_and_seed_and_knows_old_folders(run: Command, tiny: TinyModels) -> None:
    Path("p.txt").write_text("A cat!\n")
    words = ("batch", "p.txt", "-c", str(tiny.config), "-o", "d", "--json", "--seed", "7", "--steps", "1")
    made = json.loads(run(*words).stdout.splitlines()[0])
    name = f"a-cat_s7_{made['id'][:6]}.png"
    assert made["path"] == f"d/{name}" and Path(made["path"]).is_file()
    row = json.loads(Path("d/results.jsonl").read_text())
    old = {key: value for key, value in row.items() if key in ("id", "prompt", "seed", "status")}
    Path("d", name).rename(Path("d", f"{made['id']}.png"))
    Path("d/results.jsonl").write_text(json.dumps({**old, "path": f"{made['id']}.png"}) + "\n")
    assert json.loads(run(*words).stdout.splitlines()[-1])["skipped"] == 1
