"""The index of a folder: right after every kind of change, and exact in what it finds."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from conftest import TinyModels
from PIL import Image

from vqclip.common.errors import OutputError, UsageError
from vqclip.common.hashes import Stamp
from vqclip.common.paths import cache_dir
from vqclip.hub.clip_files import find_clip
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.tools.search import find, query_vector
from vqclip.tools.search_index import Index, index_file, read_index, update_index, write_index


def picture(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), dtype=np.uint8)
    Image.fromarray(pixels).resize((32, 32)).save(path)
    return path


@pytest.fixture
def perceptor(tiny: TinyModels) -> Perceptor:
    return load_perceptor(find_clip(str(tiny.clip)), torch.device("cpu"))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in range(6):
        picture(tmp_path / "photos" / ("sub" if number % 2 else "") / f"{number}.png", number)
    return tmp_path / "photos"


class Looks:
    """Updates the index of a folder and counts the files that were looked at."""

    def __init__(self, folder: Path, perceptor: Perceptor, tiny: TinyModels) -> None:
        self.folder, self.perceptor = folder, perceptor
        self.weights = tiny.clip / "open_clip_model.safetensors"
        self.file = index_file(folder, self.weights)

    def __call__(self) -> tuple[Index, int]:
        seen = [0]
        index = update_index(self.folder, self.perceptor, self.weights, lambda done, total: seen.append(done))
        return index, seen[-1]


@pytest.fixture
def looks(folder: Path, perceptor: Perceptor, tiny: TinyModels) -> Looks:
    return Looks(folder, perceptor, tiny)


def test_only_what_changed_is_looked_at(looks: Looks, folder: Path) -> None:
    first, seen = looks()
    assert seen == 6 and sorted(first.names) == ["0.png", "2.png", "4.png", "sub/1.png", "sub/3.png", "sub/5.png"]
    assert looks()[1] == 0
    picture(folder / "new.png", 9)
    (folder / "0.png").unlink()
    (folder / "2.png").rename(folder / "moved.png")
    before = (folder / "4.png").stat()
    picture(folder / "4.png", 44)
    os.utime(folder / "4.png", ns=(before.st_atime_ns, before.st_mtime_ns + 1))
    index, seen = looks()
    assert seen == 3
    assert sorted(index.names) == ["4.png", "moved.png", "new.png", "sub/1.png", "sub/3.png", "sub/5.png"]
    fresh = {name: looks.perceptor.view_picture(Image.open(folder / name).convert("RGB")) for name in index.names}
    expected = looks.perceptor.encode_image(torch.stack(list(fresh.values())))
    np.testing.assert_allclose(index.vectors, expected, atol=1e-6)


def test_a_file_that_only_goes_is_forgotten(looks: Looks, folder: Path) -> None:
    looks()
    (folder / "0.png").unlink()
    assert len(looks()[0].names) == 5
    assert len(read_index(looks.file).names) == 5


def test_files_that_are_no_pictures_are_remembered_too(looks: Looks, folder: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    assert looks()[1] == 7
    index, seen = looks()
    assert seen == 0 and "notes.txt" in index.refused and "not an image" in index.refused["notes.txt"][1]
    picture(folder / "tmp.png", 1).rename(folder / "notes.txt")
    index, seen = looks()
    assert seen == 1 and index.refused == {} and "notes.txt" in index.names


@pytest.mark.parametrize("damage", ["cut", "flip", "empty", "text", "other"])
def test_a_damaged_index_is_made_anew(looks: Looks, damage: str) -> None:
    whole = looks()[0]
    content = looks.file.read_bytes()
    other = looks.file.with_name("other.npz")
    np.savez(other, facts=np.zeros(3, np.uint8), vectors=np.zeros((2, 2)))
    flipped = bytearray(content)
    flipped[len(content) // 2] ^= 0xFF
    looks.file.write_bytes(
        {"cut": content[:-40], "flip": bytes(flipped), "empty": b"", "text": b"hello", "other": other.read_bytes()}[
            damage
        ]
    )
    index, seen = looks()
    assert seen == 6
    np.testing.assert_array_equal(index.vectors, whole.vectors)


def test_an_interrupted_first_run_loses_little(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqclip.tools.search_index.SAVE_EVERY", 2)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(looks.folder, looks.perceptor, looks.weights, stop)
    index, seen = looks()
    assert seen == 1 and len(index.names) == 6


def test_another_model_has_another_index(folder: Path, tiny: TinyModels, tmp_path: Path) -> None:
    copy = tmp_path / "other.safetensors"
    copy.write_bytes((tiny.clip / "open_clip_model.safetensors").read_bytes() + b" ")
    assert index_file(folder, copy) != index_file(folder, tiny.clip / "open_clip_model.safetensors")


def test_a_cache_that_cannot_be_written_is_named(looks: Looks) -> None:
    cache_dir().write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="Cannot write"):
        looks()


def test_two_processes_share_an_index(looks: Looks, folder: Path, tiny: TinyModels) -> None:
    words = [sys.executable, "-m", "vqclip", "search", str(folder), "a cat", "-m", str(tiny.clip), "-q"]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    told = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0]
    assert told[0] == told[1] and len(told[0].splitlines()) == 6
    assert looks()[1] == 0


def test_the_nearest_are_found_best_first() -> None:
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(500, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    index = Index([f"{number:03}.png" for number in range(500)], [Stamp(0, 0)] * 500, vectors)
    query = torch.from_numpy(vectors[123])
    hits = find(index, Path("f"), query, 10)
    order = np.argsort(-(vectors @ vectors[123]), kind="stable")[:10]
    assert [hit.path for hit in hits] == [Path("f") / f"{number:03}.png" for number in order]
    assert hits[0].score == pytest.approx(1, abs=1e-6)
    assert len(find(index, Path("f"), query, 1000)) == 500
    assert find(Index(), Path("f"), query, 3) == []


def test_a_hundred_thousand_are_compared_in_no_time(tmp_path: Path) -> None:
    vectors = torch.nn.functional.normalize(torch.randn(100_000, 256), dim=1).numpy()
    index = Index([str(number) for number in range(100_000)], [Stamp(1, 2)] * 100_000, vectors)
    write_index(tmp_path / "index.npz", index)
    again = read_index(tmp_path / "index.npz")
    assert again.names == index.names and np.array_equal(again.vectors, vectors)
    query = torch.from_numpy(vectors[7])
    find(again, Path(), query, 10)
    spent = []
    for _ in range(5):
        began = time.perf_counter()
        assert find(again, Path(), query, 10)[0].path == Path("7")
        spent.append(time.perf_counter() - began)
    assert min(spent) < 0.25  # 50 ms are wanted of an idle machine


def test_a_query_is_a_picture_or_a_text(perceptor: Perceptor, folder: Path) -> None:
    by_text = query_vector(perceptor, "a cat")
    torch.testing.assert_close(by_text, perceptor.encode_text(["a cat"])[0])
    by_picture = query_vector(perceptor, str(folder / "0.png"))
    assert by_picture.norm() == pytest.approx(1, abs=1e-5)
    for query, says in {
        "gone.png": "There is no file",
        " ": "empty",
        str(folder / "notes.txt"): "not an image",
    }.items():
        (folder / "notes.txt").write_text("hello")
        with pytest.raises(UsageError, match=says):
            query_vector(perceptor, query)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_the_command_finds_the_picture_itself(run: Command, folder: Path, tiny: TinyModels, tmp_path: Path) -> None:
    (folder / "notes.txt").write_text("hello")
    words = ("search", str(folder), str(folder / "sub/3.png"), "-k", "2", "-m", str(tiny.clip))
    done = run(*words, "--grid", str(tmp_path / "new" / "grid.png"), "--json")
    assert done.code == 0, done.stderr
    first, _ = (json.loads(line) for line in done.stdout.splitlines())
    assert first == {"event": "hit", "path": str(folder / "sub/3.png"), "score": pytest.approx(1, abs=1e-3)}
    assert "Skipped 1 file" in done.stderr and "2 of 6 pictures" in done.stderr
    with Image.open(tmp_path / "new" / "grid.png") as grid:
        assert grid.width == 2 * (160 + 12)


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["nowhere", "a cat"], 2, "not a folder"),
        ([".", "a cat", "--grid", "grid.txt"], 2, "is no picture"),
        ([".", "a cat", "--grid", "there.png"], 6, "is there already"),
        ([".", "gone.jpg"], 2, "There is no file"),
        ([".", "a cat", "-k", "0"], 2, "greater than or equal to 1"),
    ],
)
def test_bad_usage_is_a_sentence(run: Command, tiny: TinyModels, words: list[str], code: int, says: str) -> None:
    Path("there.png").touch()
    done = run("search", *words, "-m", str(tiny.clip))
    assert done.code == code and says in done.stderr and "Traceback" not in done.stderr and done.stdout == ""
