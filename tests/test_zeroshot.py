"""Scores and classes against open_clip's own steps, and the commands as a whole."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import open_clip
import pytest
import torch
from command import Command
from conftest import TinyModels
from PIL import Image

from vqclip.common.errors import UsageError
from vqclip.folders.embedding import embed_files
from vqclip.hub.clip_files import find_clip
from vqclip.models.files import ClipFiles
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.tools.zeroshot import (
    TEMPLATES,
    Calibration,
    chances,
    fill,
    label_vectors,
    others,
    parse_labels,
    probabilities,
)


@pytest.fixture
def perceptor(tiny: TinyModels) -> Perceptor:
    return load_perceptor(find_clip(str(tiny.clip)), torch.device("cpu"))


def picture(path: Path, size: tuple[int, int] = (40, 30), seed: int = 0) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((size[0], size[1])).save(path)
    return path


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.mark.parametrize("mode", ["shortest", "squash"])
@pytest.mark.parametrize("size", [(40, 30), (30, 47), (16, 16), (9, 300), (200, 201)])
def test_a_picture_is_seen_as_open_clips_own_transform_shows_it(
    tiny: TinyModels, tmp_path: Path, mode: str, size: tuple[int, int]
) -> None:
    weights = tiny.clip / "open_clip_model.safetensors"
    files = ClipFiles("tiny", f"local-dir:{tiny.clip}", weights, None, {"resize_mode": mode})
    perceptor = load_perceptor(files, torch.device("cpu"))
    given = {"mean": (0.0, 0.0, 0.0), "std": (1.0, 1.0, 1.0), "interpolation": "bicubic", "resize_mode": mode}
    transform = open_clip.image_transform(perceptor.size, is_train=False, **given)
    image = Image.open(picture(tmp_path / "a.png", size)).convert("RGB")
    assert torch.equal(perceptor.view_picture(image), transform(image))


def test_batches_give_what_single_pictures_give(perceptor: Perceptor, tmp_path: Path) -> None:
    paths = [picture(tmp_path / f"{number}.png", (20 + number, 30), number) for number in range(70)]
    (tmp_path / "35.png").write_bytes(b"no picture")
    found = list(embed_files(perceptor, paths))
    assert [path for path, _ in found] == paths
    assert isinstance(found[35][1], UsageError)
    for number in (0, 31, 32, 69):
        alone = perceptor.encode_image(perceptor.view_picture(Image.open(paths[number]).convert("RGB"))[None])[0]
        torch.testing.assert_close(found[number][1], alone, atol=1e-6, rtol=0)


def test_probabilities_are_the_models_own(perceptor: Perceptor) -> None:
    cosines = torch.tensor([[0.3, 0.1], [-0.2, 0.2]])
    scale = float(perceptor.model.logit_scale.exp())
    logits = np.exp(scale * cosines.numpy())
    np.testing.assert_allclose(probabilities(perceptor, cosines), logits / logits.sum(1, keepdims=True), rtol=1e-5)
    perceptor.model.logit_bias = torch.tensor(-3.0)
    np.testing.assert_allclose(
        probabilities(perceptor, cosines), 1 / (1 + np.exp(3 - scale * cosines.numpy())), rtol=1e-5
    )


def test_labels_are_the_mean_of_their_templates(perceptor: Perceptor) -> None:
    vectors = label_vectors(perceptor, ["cat", "owl"], ["a {}", "{} here"])
    plain = perceptor.encode_text(["an owl", "owl here"]).mean(0)
    torch.testing.assert_close(vectors[1], plain / plain.norm())
    by_open_clip = open_clip.build_zero_shot_classifier(
        perceptor.model, perceptor.tokenizer, ["cat", "dog"], [lambda c, t=t: t.format(c) for t in TEMPLATES]
    )
    torch.testing.assert_close(label_vectors(perceptor, ["cat", "dog"]), by_open_clip.T, atol=1e-6, rtol=0)


def test_labels_are_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "labels.txt"
    file.write_text("# animals\ncat\n\n tree frog \ncat\n")
    assert parse_labels(["dog, cat ,", f"@{file}"]) == ["dog", "cat", "tree frog"]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parse_labels(["@~/labels.txt"]) == ["cat", "tree frog"]
    for bad in (["cat"], ["cat,cat"], [","]):
        with pytest.raises(UsageError, match="at least two different labels"):
            parse_labels(bad)
    with pytest.raises(UsageError, match="Cannot read the labels"):
        parse_labels([f"@{tmp_path}/none.txt"])


def test_score_prints_a_line_for_every_picture_and_text(run: Command, tiny: TinyModels, tmp_path: Path) -> None:
    one, two = (str(picture(tmp_path / name, seed=seed)) for seed, name in enumerate(("1.png", "2.png")))
    done = run("score", one, two, "-p", "a cat", "-p", "a dog", "-m", str(tiny.clip), "--json")
    assert done.code == 0
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["path"], event["prompt"]) for event in events] == [
        (path, text) for path in (one, two) for text in ("a cat", "a dog")
    ]
    assert events[0]["probability"] + events[1]["probability"] == pytest.approx(1, abs=2e-4)
    alone = run("score", one, "-p", "a cat", "-m", str(tiny.clip), "--json")
    assert json.loads(alone.stdout)["probability"] is None
    assert json.loads(alone.stdout)["cosine"] == events[0]["cosine"]


def test_bad_files_of_a_folder_are_skipped_and_named(run: Command, tiny: TinyModels, tmp_path: Path) -> None:
    picture(tmp_path / "good.png")
    (tmp_path / "cut.png").write_bytes((tmp_path / "good.png").read_bytes()[:900])
    (tmp_path / "notes.txt").write_text("hello")
    done = run("classify", str(tmp_path), "-l", "cat,dog", "-m", str(tiny.clip))
    assert done.code == 0 and len(done.stdout.splitlines()) == 1
    assert "Skipped 2 files" in done.stderr and "cut.png" in done.stderr and "notes.txt" in done.stderr


def test_a_bad_file_that_was_named_is_an_error_after_the_others(run: Command, tiny: TinyModels, tmp_path: Path) -> None:
    good = picture(tmp_path / "good.png")
    words = ("classify", f"{tmp_path}/gone.png", str(good), "-l", "cat,dog", "-k", "2", "-m", str(tiny.clip))
    done = run(*words)
    assert done.code == 2 and done.stdout.startswith(f"{good}  ")
    assert "gone.png" in done.stderr and "1 of 2 files" in done.stderr


def test_a_list_on_standard_input(
    run: Command, tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = picture(tmp_path / "a b.png")
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(f"{good}\n".encode())))
    done = run("score", "-", "-p", "a cat", "-m", str(tiny.clip))
    assert done.code == 0 and str(good) in done.stdout


def test_a_list_holds_any_name_in_any_locale(
    run: Command, tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names that are not UTF-8 or hold a line break; zero bytes end names that may hold anything."""
    names = [os.fsdecode(b"caf\xe9.png"), "two\nlines.png"]
    for name in names:
        picture(tmp_path / "plain.png").rename(tmp_path / name)
    for ending, option, wanted in ((b"\n", (), names[:1]), (b"\0", ("-0",), names)):
        listed = b"".join(os.fsencode(tmp_path / name) + ending for name in wanted)
        monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(listed), "ascii", errors="strict"))
        done = run("score", "-", *option, "-p", "a cat", "-m", str(tiny.clip), "--json")
        assert done.code == 0, done.stderr
        assert len(done.stdout.splitlines()) == len(wanted)


def test_what_a_folder_holds_besides_is_told(run: Command, tiny: TinyModels, tmp_path: Path) -> None:
    """A named pipe in a folder made `score` wait for ever."""
    (tmp_path / "f" / "raw").mkdir(parents=True)
    picture(tmp_path / "f" / "good.png")
    os.mkfifo(tmp_path / "f" / "pipe.png")
    (tmp_path / "f" / "round").symlink_to(tmp_path / "f")
    picture(tmp_path / "f" / "raw" / "other.png")
    for words in (
        ("score", str(tmp_path / "f"), "-p", "a cat"),
        ("classify", str(tmp_path / "f"), "-l", "cat,dog"),
        ("search", str(tmp_path / "f"), "a cat"),
    ):
        done = run(*words, "-m", str(tiny.clip), "--exclude", "raw")
        assert done.code == 0 and len(done.stdout.splitlines()) == 1, done
        assert "Left out 1 (no regular file): " in done.stderr and "pipe.png" in done.stderr
        assert "Left out 1 (a second way to a folder that was looked into): " in done.stderr


def test_every_hole_of_a_template_is_filled() -> None:
    assert fill("a {} beside another {}, a {}", "apple") == "an apple beside another apple, an apple"
    assert fill("data {}", "{}") == "data {}"


def test_labels_are_read_as_what_they_are(tmp_path: Path) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(b"\xef\xbb\xbfcat\r\n# a note\ndog\n")
    assert parse_labels([f"@{path}"]) == ["cat", "dog"]
    with pytest.raises(UsageError, match=r"Cannot read the labels in 'gone\.txt': No such file"):
        parse_labels(["@gone.txt"])


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["score", "x.png"], 2, "--prompt"),
        (["score", "*.none", "-p", "a"], 2, "Nothing matches"),
        (["classify", "x.png", "-l", "cat"], 2, "two different labels"),
        (["classify", ".", "-l", "cat,dog", "--template", "a photo"], 2, "no {}"),
        (["score", ".", "-p", "a", "-m", "ViT-B-32:opena"], 2, "did you mean 'openai'"),
        (["score", ".", "-p", "a", "-m", "ViT-B-32:openai"], 3, "vqclip models pull ViT-B-32:openai"),
        (["score", ".", "-p", "a", "--device", "tpu"], 2, "Unknown device"),
    ],
)
def test_bad_usage_is_a_sentence(
    run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, says: str
) -> None:
    picture(Path("here.png"))
    done = run(*words)
    assert done.code == code and says in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_none_of_the_labels_is_a_share_of_the_softmax(perceptor: Perceptor) -> None:
    """With one text of the background at the labels' level and no offset, three equal answers; e^-1 of it with -1."""
    labels, sure = torch.tensor([0.2, 0.2]), Calibration(10.0)
    torch.testing.assert_close(chances(perceptor, labels, None, sure), torch.full((2,), 1 / 2))
    torch.testing.assert_close(chances(perceptor, labels, torch.tensor([0.2]), sure), torch.full((3,), 1 / 3))
    two = chances(perceptor, labels, torch.tensor([0.2, 0.2]), Calibration(10.0, -1.0))
    share = 2 * np.exp(-1) / (2 + 2 * np.exp(-1))
    torch.testing.assert_close(two, torch.tensor([(1 - share) / 2, (1 - share) / 2, share]).float())
    perceptor.model.logit_bias = torch.tensor(-3.0)
    own = chances(perceptor, labels, torch.tensor([-0.5, 0.9]), sure)
    torch.testing.assert_close(own, probabilities(perceptor, torch.tensor([[0.2, 0.2, 0.9]]))[0])


def test_words_that_mean_a_label_are_no_background() -> None:
    near, far = torch.tensor([1.0, 0.0]), torch.tensor([0.6, 0.8])
    assert others(torch.stack([near, far]), torch.tensor([[1.0, 0.0]])).tolist() == [False, True]


def answers(run: Command, *words: str) -> dict[str | None, float]:
    done = run("classify", *words, "--json")
    assert done.code == 0, done.stderr
    return {each["label"]: each["probability"] for each in json.loads(done.stdout)["labels"]}


def test_a_published_model_says_none_of_these_with_a_background(run: Command, tiny: TinyModels) -> None:
    picture(Path("a.png"))
    words = ("a.png", "-l", "cat,dog", "-m", str(tiny.clip), "-k", "2")
    own = answers(run, *words)
    beside = answers(run, *words, "--background", "a beach,a street")
    assert set(own) == {"cat", "dog"} and set(beside) <= {"cat", "dog", None}
    assert own["cat"] / own["dog"] == pytest.approx(beside["cat"] / beside["dog"], rel=1e-2)
    refused = run("classify", *words, "--background", "a beach", "--closed")
    assert refused.code == 2 and "leave one out" in refused.stderr


@pytest.mark.slow
def test_the_embedded_model_knows_when_it_is_none(run: Command) -> None:
    """The drawn cat is a cat; the same picture is neither lighthouse nor umbrella, nor is noise, if it may be."""
    cat = str(Path(__file__).parents[1] / "docs" / "pictures" / "cat.webp")
    noise = str(picture(Path("noise.png"), (128, 128)))
    assert max(found := answers(run, cat, "-l", "cat,umbrella", "-k", "2"), key=lambda name: found[name]) == "cat"
    for other in (cat, noise):
        found = answers(run, other, "-l", "lighthouse,umbrella")
        assert found[None] > 0.5 and len(found) == 2  # none, and the best of the labels all the same
    assert None not in answers(run, noise, "-l", "lighthouse,umbrella", "--closed")
    assert "none of these" in run("classify", noise, "-l", "lighthouse,umbrella").stdout


def test_one_grammar_for_all_commands(run: Command, tiny: TinyModels) -> None:
    """Weights, minus and pictures in the prompts of score and the labels of classify, as in a query of search."""
    one, two = picture(Path("1.png")), picture(Path("2.png"), seed=1)
    query, model = f"a cat | a dog:0.5 | {two}:-1", ("-m", str(tiny.clip), "--json")
    (hit,) = [json.loads(line) for line in run("search", ".", query, *model).stdout.splitlines()]
    score = json.loads(run("score", str(one), "-p", query, *model).stdout)
    assert score["cosine"] == pytest.approx(hit["score"], abs=1e-4) and score["prompt"] == query
    plain = ("--template", "{}", "-k", "2")
    found = answers(run, str(one), "-l", f"{query},a tree", *plain, "-m", str(tiny.clip))
    scored = run("score", str(one), "-p", query, "-p", "a tree", *model).stdout.splitlines()
    chance = [json.loads(line)["probability"] for line in scored]
    assert [found[query], found["a tree"]] == pytest.approx(chance, abs=2e-4)
    mistakes = {"cat:1:0.2": "nothing stops it", "gone.png": "There is no file", "cat | cat:-1": "cancel"}
    for words in (("score", str(one), "-p"), ("classify", str(one), "-l", "tree", "-l"), ("search", ".")):
        for bad, said in mistakes.items():
            done = run(*words, bad, "-m", str(tiny.clip))
            assert done.code == 2 and said in done.stderr, (words, bad)


def test_zero_bytes_end_the_lines_that_are_written(run: Command, tiny: TinyModels) -> None:
    name = os.fsdecode(b"two\nlines \xe9.png")
    picture(Path("plain.png")).rename(name)
    for words in (("score", ".", "-p", "a cat"), ("classify", ".", "-l", "cat,dog")):
        done = subprocess.run(
            [sys.executable, "-m", "vqclip", *words, "-m", str(tiny.clip), "-0"], capture_output=True, check=True
        )
        assert done.stdout.endswith(b"\0") and os.fsencode(name) in done.stdout and done.stdout.count(b"\0") == 1
