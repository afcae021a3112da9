"""The index of a folder: right after every kind of change, and exact in what it finds."""

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command import Command
from conftest import TinyModels, save_tiny_clip
from filelock import Timeout
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vqclip.common import images
from vqclip.common.errors import Interrupted, UsageError
from vqclip.common.hashes import Stamp
from vqclip.common.paths import cache_dir
from vqclip.folders import embedding, search_index
from vqclip.folders.embedding import embed_files
from vqclip.folders.search_index import Index, index_file, read_index, search_dir, update_index, write_index
from vqclip.hub.clip_files import find_clip
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.tools.queries import query_vectors, read_query
from vqclip.tools.search import find


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
        self.files = find_clip(str(tiny.clip))
        self.file = index_file(folder, perceptor, self.files)

    def __call__(self, **options: Any) -> tuple[Index, int]:
        seen = [0]
        index = update_index(self.folder, self.perceptor, self.files, lambda done, total: seen.append(done), **options)
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
        {"cut": content[:-400], "flip": bytes(flipped), "empty": b"", "text": b"hello", "other": other.read_bytes()}[
            damage
        ]
    )
    index, seen = looks()
    assert seen == 6
    np.testing.assert_array_equal(index.vectors, whole.vectors)


def test_an_interrupted_first_run_loses_little(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqclip.folders.search_index.SAVE_EVERY", 2)

    def stop(done: int, total: int) -> None:
        if done == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        update_index(looks.folder, looks.perceptor, looks.files, stop)
    index, seen = looks()
    assert seen == 1 and len(index.names) == 6


@pytest.mark.parametrize("change", ["weights", "preprocessing", "precision", "reading"])
def test_whatever_a_vector_depends_on_has_an_index_of_its_own(
    folder: Path, tiny: TinyModels, tmp_path: Path, looks: Looks, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another `open_clip_config.json` beside the same weights gave the first model's hits, digit for digit."""
    looks()
    shutil.copytree(tiny.clip, tmp_path / "clip")
    if change == "weights":
        save_tiny_clip(tmp_path / "other", seed=1)
        shutil.copy(tmp_path / "other" / "open_clip_model.safetensors", tmp_path / "clip")
    if change == "preprocessing":
        path = tmp_path / "clip" / "open_clip_config.json"
        config = json.loads(path.read_text())
        config["preprocess_cfg"] |= {"mean": [0.1, 0.2, 0.3], "interpolation": "bilinear"}
        path.write_text(json.dumps(config))
    if change == "reading":
        monkeypatch.setattr("vqclip.folders.search_index.READING", 1000)
    files = find_clip(str(tmp_path / "clip"))
    perceptor = load_perceptor(files, torch.device("cpu"), "bf16" if change == "precision" else "fp32")
    assert index_file(folder, perceptor, files) != looks.file
    index = update_index(folder, perceptor, files)
    (_, expected), *_ = embed_files(perceptor, [folder / index.names[0]])
    np.testing.assert_allclose(index.vectors[0], expected, atol=1e-6)


def test_search_and_score_agree(run: Command, folder: Path, tiny: TinyModels) -> None:
    words = ("-m", str(tiny.clip), "--json")
    found = [json.loads(line) for line in run("search", str(folder), "a cat", *words).stdout.splitlines()]
    scored = [json.loads(line) for line in run("score", str(folder), "-p", "a cat", *words).stdout.splitlines()]
    assert {hit["path"]: hit["score"] for hit in found} == {each["path"]: each["cosine"] for each in scored}


def test_a_cache_that_cannot_be_written_only_costs_time(looks: Looks, warned: pytest.LogCaptureFixture) -> None:
    cache_dir().write_text("a file where the folder should be")
    index, seen = looks()
    assert seen == len(index.names) == 6
    assert "Cannot write" in warned.text and "looked at again next time" in warned.text


def test_a_full_disk_gives_the_answer_and_one_warning(
    looks: Looks, warned: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("vqclip.folders.search_index.SAVE_EVERY", 2)
    monkeypatch.setattr(Path, "write_bytes", full)
    index, seen = looks()
    assert seen == len(index.names) == 6 and warned.text.count("No space left on device") == 1


def test_a_current_index_in_a_cache_that_is_read_only_is_used(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    looks()

    def forbidden(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr("vqclip.folders.search_index.write_bytes", forbidden)
    monkeypatch.setattr("vqclip.common.locks.FileLock.acquire", forbidden)
    assert looks()[1] == 0


@pytest.fixture
def warned(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> pytest.LogCaptureFixture:
    monkeypatch.setattr(logging.getLogger("vqclip"), "propagate", True)
    return caplog


def test_the_person_is_told_what_is_waited_for_and_can_end_it(
    looks: Looks, warned: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks.file.parent.mkdir(parents=True)
    waits = []

    def held(lock: object, timeout: float) -> None:
        waits.append(timeout)
        if len(waits) == 3:
            raise Interrupted("Stopped.", 2)  # what the signal's handler raises
        raise Timeout("held")

    monkeypatch.setattr("vqclip.common.locks.FileLock.acquire", held)
    with pytest.raises(Interrupted):
        looks()
    assert warned.text.count("Another vqclip indexes") == 1 and max(waits) <= 1


def test_a_subfolder_takes_over_what_is_known_of_the_folder_above(looks: Looks, folder: Path) -> None:
    whole, _ = looks()
    (folder / "sub" / "new.png").write_bytes((folder / "0.png").read_bytes())
    seen = [0]
    below = update_index(folder / "sub", looks.perceptor, looks.files, lambda done, total: seen.append(done))
    assert seen[-1] == 1 and sorted(below.names) == ["1.png", "3.png", "5.png", "new.png"]
    for name in ("1.png", "3.png", "5.png"):
        expected = whole.vectors[whole.names.index(f"sub/{name}")]
        np.testing.assert_array_equal(below.vectors[below.names.index(name)], expected)


def test_what_is_excluded_is_not_looked_at_and_what_is_known_is_kept(looks: Looks) -> None:
    index, seen = looks(exclude=["sub"])
    assert seen == 3 and sorted(index.names) == ["0.png", "2.png", "4.png"]
    index, seen = looks()
    assert seen == 3 and len(index.names) == 6
    index, seen = looks(exclude=["sub/*"])
    assert seen == 0 and len(index.names) == 6
    hits = find(index, looks.folder, torch.from_numpy(index.vectors[0]), 10, ["sub/*"])
    assert sorted(hit.path.name for hit in hits) == ["0.png", "2.png", "4.png"]


def test_indexes_are_listed_and_forgotten(run: Command, folder: Path, tiny: TinyModels) -> None:
    assert run("search", "--list-indexes").stdout == ""
    assert run("search", str(folder), "a cat", "-m", str(tiny.clip)).code == 0
    (search_dir() / "0123456789abcdef.npz").write_bytes(b"an older one")
    lines = run("search", "--list-indexes").stdout.splitlines()
    assert len(lines) == 2 and "unknown folder" in lines[0] and str(folder) in lines[1] and "6 pictures" in lines[1]
    events = [json.loads(line) for line in run("search", "--list-indexes", "--json").stdout.splitlines()]
    assert [(event["folder"], event["pictures"]) for event in events] == [("", 0), (str(folder), 6)]
    shutil.rmtree(folder)
    done = run("search", str(folder), "--forget")
    assert done.code == 0 and "forgotten" in done.stdout
    assert len(run("search", "--list-indexes").stdout.splitlines()) == 1
    assert run("search", str(folder), "--forget").code == 2
    assert run("search", ".").code == 2


def test_equal_scores_are_cut_in_the_order_of_their_names() -> None:
    """`-k 3` of eight equal files gave p5, p6, p7."""
    vectors = np.tile(np.array([[1.0, 0.0]], np.float32), (8, 1))
    index = Index([f"p{number}.png" for number in reversed(range(8))], [Stamp(0, 0)] * 8, vectors)
    hits = find(index, Path(), torch.tensor([1.0, 0.0]), 3)
    assert [hit.path.name for hit in hits] == ["p0.png", "p1.png", "p2.png"]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 7)), min_size=1, max_size=3))
def test_any_flipped_bit_of_an_index_is_noticed(tmp_path: Path, flips: list[tuple[float, int]]) -> None:
    """Flips leaked numpy's and tokenize's own exceptions, or were believed."""
    seed = tmp_path / "seed.npz"
    if not seed.exists():
        vectors = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)
        refused = {"n.txt": (Stamp(1, 2), "no picture")}
        write_index(seed, Index(["a", "b", "c"], [Stamp(1, 2)] * 3, vectors, refused, "/photos", "embedded"))
    content = bytearray(seed.read_bytes())
    for place, bit in flips:
        content[int(place * len(content))] ^= 1 << bit
    (tmp_path / "flipped.npz").write_bytes(content)
    index, whole = read_index(tmp_path / "flipped.npz"), read_index(seed)
    assert not index.names or (index.names == whole.names and np.array_equal(index.vectors, whole.vectors))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    facts=st.binary(max_size=30)
    | st.fixed_dictionaries(
        {"names": st.lists(st.text(max_size=3) | st.integers(), max_size=2), "refused": st.just({}) | st.integers()},
        optional={"stamps": st.lists(st.lists(st.integers() | st.text(max_size=2), max_size=3), max_size=2)},
    ),
    shape=st.sampled_from([(0, 0), (2,), (1, 3), (2, 4), (1, 1, 1)]),
    kind=st.sampled_from([np.float32, np.float64, np.int8, np.complex64]),
)
def test_an_index_with_foreign_content_is_empty_or_whole(tmp_path: Path, facts: Any, shape: Any, kind: Any) -> None:
    packed = facts if isinstance(facts, bytes) else json.dumps(facts).encode()
    np.savez(tmp_path / "x.npz", facts=np.frombuffer(packed, np.uint8), vectors=np.ones(shape, kind))
    index = read_index(tmp_path / "x.npz")
    assert len(index.names) == len(index.stamps) == len(index.vectors)


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


def test_a_query_is_pictures_and_texts_by_their_weights(perceptor: Perceptor, folder: Path) -> None:
    file = str(folder / "0.png")

    def vector(query: str) -> torch.Tensor:
        return query_vectors(perceptor, [read_query(query)])[0]

    cat, dog = perceptor.encode_text(["a cat", "a dog"])
    torch.testing.assert_close(vector("a cat"), cat)
    ((_, seen),) = embed_files(perceptor, [Path(file)])
    torch.testing.assert_close(vector(file), seen)
    mixed = vector(f"a cat:2 | a dog:-0.5 | {file}:0.25")
    torch.testing.assert_close(mixed, torch.nn.functional.normalize(2 * cat - 0.5 * dog + 0.25 * seen, dim=0))


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("gone.png", "There is no file 'gone.png'"),
        ("a cat | gone.png:2", "There is no file 'gone.png'"),
        (" ", "empty"),
        ("notes.txt", "not an image"),
        ("a cat | a cat:-1", "cancel each other out"),
        ("a cat:1:0.5", "write a cat:1"),
        ("a cat ||", "column"),
    ],
)
def test_what_is_no_query(perceptor: Perceptor, query: str, says: str) -> None:
    Path("notes.txt").write_text("hello")
    with pytest.raises(UsageError, match=says):
        query_vectors(perceptor, [read_query(query)])[0]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def test_the_command_finds_what_is_like_a_picture(run: Command, folder: Path, tiny: TinyModels, tmp_path: Path) -> None:
    """A copy elsewhere is found first; the picture of the query itself is not shown."""
    (folder / "notes.txt").write_text("hello")
    (folder / "twin.png").write_bytes((folder / "sub/3.png").read_bytes())
    words = ("search", str(folder), str(folder / "sub/3.png"), "-k", "2", "-m", str(tiny.clip))
    done = run(*words, "--grid", str(tmp_path / "new" / "grid.png"), "--json")
    assert done.code == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert first == {"event": "hit", "path": str(folder / "twin.png"), "score": pytest.approx(1, abs=1e-3)}
    assert second["path"] != str(folder / "sub/3.png")
    assert "Skipped 1 file" in done.stderr and "2 of 7 pictures" in done.stderr
    with Image.open(tmp_path / "new" / "grid.png") as grid:
        assert grid.width == 2 * (160 + 12)


def test_paths_alone_for_other_programs(run: Command, folder: Path, tiny: TinyModels) -> None:
    """Names may hold anything, so `-0` ends them by zero bytes; `--min-score` says how alike they must be."""
    picture(folder / "odd\nname.png", 3)  # as sub/3.png
    words = ("search", str(folder), str(folder / "sub/3.png"), "-m", str(tiny.clip), "-q")
    scores = [float(line.split()[0]) for line in run(*words).stdout.splitlines()]
    assert len(scores) == 6 and scores[0] > 0.999 > scores[1]
    assert run(*words, "-0", "--min-score", "0.999").stdout == f"{folder}/odd\nname.png\0"
    assert run(*words, "-f", "--min-score", "0.999").stdout == f"{folder}/odd\\nname.png\n"
    assert len(run(*words, "-f", "--min-score", str(scores[2] - 1e-4)).stdout.splitlines()) == 3
    assert run(*words, "--min-score", "1.5").stdout == ""
    assert run(*words, "-0", "--json").code == 2


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


def test_a_file_that_may_not_be_read_now_is_looked_at_again(looks: Looks, monkeypatch: pytest.MonkeyPatch) -> None:
    reads, writes = images.open_regular, []

    def forbidden(source: Any) -> Any:
        if Path(str(source)).name == "0.png":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return reads(source)

    with monkeypatch.context() as patch:
        patch.setattr(images, "open_regular", forbidden)
        index, seen = looks()
        assert seen == 6 and len(index.names) == 5 and "Permission denied" in index.refused["0.png"][1]
        patch.setattr(search_index, "write_index", lambda path, index: writes.append(path))
        assert looks()[1] == 1 and writes == []  # nothing new is known
    index, seen = looks()
    assert seen == 1 and index.refused == {} and "0.png" in index.names


def test_who_stops_asking_does_not_wait_for_what_is_decoded(
    folder: Path, perceptor: Perceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave, reads = threading.Event(), embedding.open_image

    def slow(path: Path) -> Image.Image:
        if path.name == "9.png":
            leave.wait(30)
        return reads(path)

    monkeypatch.setattr(embedding, "open_image", slow)
    paths = [folder / "0.png"] * 64 + [folder / "9.png"] * 64
    found = embed_files(perceptor, paths)
    assert next(found)[0].name == "0.png"
    began = time.monotonic()
    found.close()
    assert time.monotonic() - began < 5
    leave.set()


def test_what_was_indexed_before_a_signal_is_kept(
    folder: Path, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    reads = embedding.open_image

    def stopping(path: Path) -> Image.Image:
        if path.name == "5.png":
            os.kill(os.getpid(), signal.SIGINT)
        return reads(path)

    monkeypatch.setattr(embedding, "open_image", stopping)
    done = Command(monkeypatch, capsys)("search", str(folder), "a cat", "-m", str(tiny.clip))
    assert done.code == 130 and "Stopped; what was indexed is kept." in done.stderr
    (kept,) = search_dir().glob("*.npz")
    assert len(read_index(kept).names) >= 1


def test_pictures_that_are_left_out_are_not_counted(
    folder: Path, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "sub" / "notes.txt").write_text("hello")
    vqclip = Command(monkeypatch, capsys)
    words = ("search", str(folder), "a cat", "-m", str(tiny.clip))
    assert "6 of 6 pictures" in vqclip(*words).stderr
    done = vqclip(*words, "--exclude", "sub")
    assert "3 of 3 pictures" in done.stderr and "notes.txt" not in done.stderr
