"""The folder of a run: names, what may be overwritten, who holds it, and that a user's own files stay."""

import errno
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from command import Command
from conftest import TinyModels
from PIL import Image

from vqclip.common.errors import BusyError, OutputError, UsageError
from vqclip.hub import model_files
from vqclip.runs import folder as module
from vqclip.runs.folder import (
    RunFolder,
    check_free,
    clear,
    close,
    existing_run,
    holding,
    locate_run,
    point_latest,
)
from vqclip.runs.naming import slug


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def touch(*paths: Path | str) -> None:
    for path in map(Path, paths):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")


def tree(folder: Path | str = ".") -> set[str]:
    return {path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file()}


def test_a_picture_file() -> None:
    run = locate_run("pics/apple.jpg", 1, "s")
    assert run.is_file
    assert run.images == [Path("pics/apple.jpg")]
    assert (run.home, run.frames) == (Path("pics/apple.jpg.run"), Path("pics/apple.jpg.frames"))
    assert run.videos("mp4") == [Path("pics/apple.mp4")]
    assert (run.config, run.state) == (run.home / "run.yaml", run.home / "state")
    assert run.latent is None


def test_a_run_folder() -> None:
    Path("there").mkdir()
    for given in ("new/", "there", "there/"):
        run = locate_run(given, 1, "s")
        home = Path(given)
        assert not run.is_file
        assert run.images == [home / "image.png"]
        assert run.partials == [home / "partial.png"]
        assert run.videos("gif") == [home / "video.gif"]
        assert (run.frames, run.latent) == (home / "frames", home / "latent.safetensors")
        assert (run.config, run.metrics, run.state) == (home / "run.yaml", home / "metrics.jsonl", home / "state")


def test_a_folder_named_like_a_picture_is_a_folder() -> None:
    Path("a.png").mkdir()
    assert locate_run("a.png", 1, "s").images == [Path("a.png/image.png")]


def test_several_pictures_are_numbered_from_0() -> None:
    run = locate_run("F.png", 3, "s")
    assert run.images == [Path("F-0.png"), Path("F-1.png"), Path("F-2.png")]
    assert run.partials == [Path(f"F.png.run/partial-{number}.png") for number in range(3)]
    assert run.videos("mp4") == [Path("F-0.mp4"), Path("F-1.mp4"), Path("F-2.mp4")]
    assert locate_run("D/", 2, "s").images == [Path("D/image-0.png"), Path("D/image-1.png")]


def test_no_output_makes_a_dated_name_that_is_free() -> None:
    run = locate_run(None, 1, "a-red-apple_s7")
    assert re.fullmatch(r"outputs/\d{8}-\d{6}_a-red-apple_s7", run.home.as_posix())
    assert run.home == run.target
    taken = Path("outputs/x")
    touch(taken / "a", "outputs/x-2/a")
    assert module._unused(taken) == Path("outputs/x-3")


def test_a_name_is_chosen_where_nothing_may_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(self: Path, **_: object) -> os.stat_result:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", refuse)
    assert locate_run(None, 1, "s").home.parent == module.OUTPUTS


@pytest.mark.parametrize("path", ["a.gif", "a", "a.png.txt", ".png", "", "a.svg"])
def test_other_names_are_refused(path: str) -> None:
    with pytest.raises(UsageError, match=re.escape(f"--output {path!r} is neither")):
        locate_run(path, 1, "s")


def test_places_that_cannot_be_looked_at_are_an_output_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match="File name too long"):
        locate_run("n" * 300 + ".png", 1, "s")

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "stat", forbidden)
    with pytest.raises(OutputError, match="Permission denied"):
        locate_run("a.png", 1, "s")
    with pytest.raises(OutputError, match="Permission denied"):
        check_free(RunFolder(Path("a"), Path("a"), 1), [], overwrite=False)


@pytest.mark.parametrize("given", ["d/F.png", "d/F.png.run", "d/F.png.run/"])
def test_a_run_is_found_by_any_of_its_names(given: str) -> None:
    assert existing_run(given, 2) == RunFolder(Path("d/F.png.run"), Path("d/F.png"), 2)


def test_a_run_folder_is_found() -> None:
    Path("x.png").mkdir()
    for given in ("outputs/latest", "dir/", "x.png", "odd.run"):
        assert existing_run(given, 1) == RunFolder(Path(given), Path(given), 1)


@pytest.mark.parametrize(
    ("prompt", "name"),
    [
        ("A red  apple!", "a-red-apple_s3"),
        ("", "image_s3"),
        ("🍎", "image_s3"),
        ("日本の山", "日本の山_s3"),
        ("../../etc/passwd", "etc-passwd_s3"),
        ("a|b:2 \\ c\0\n", "a-b-2-c_s3"),
        ("b" * 100, "b" * 40 + "_s3"),
        ("b" * 39 + " c", "b" * 39 + "_s3"),
    ],
)
def test_slugs(prompt: str, name: str) -> None:
    assert slug(prompt, 3) == name


def test_a_slug_fits_into_a_file_name() -> None:
    """255 bytes are what file systems allow; letters take up to 4, and the date takes 16."""
    assert 16 + len(slug("𠀀" * 100, 2**63 - 1).encode()) < 255


@pytest.mark.parametrize("there", ["image-0.png", "image-1.png", "run.yaml", "frames/000050.png", "video.mp4"])
def test_nothing_existing_is_overwritten_unless_told(there: str) -> None:
    touch(f"D/{there}")
    run = locate_run("D", 2, "s")
    with pytest.raises(OutputError, match=re.escape(f"D/{there.split('/')[0]}") + r".*--overwrite"):
        check_free(run, [Path("D/video.mp4")], overwrite=False)
    check_free(run, [Path("D/video.mp4")], overwrite=True)
    assert tree("D") == {there}


def test_an_unfinished_run_is_not_overwritten() -> None:
    touch("F.png.run/state/00000010.pt")
    run = locate_run("F.png", 1, "s")
    with pytest.raises(OutputError, match="unfinished run: go on with vqclip resume"):
        check_free(run, [], overwrite=False)
    check_free(run, [], overwrite=True)


def test_strangers_do_not_matter() -> None:
    touch("D/notes.txt", "D/other.png", "F-0.png", "F.mp4")
    check_free(locate_run("D", 1, "s"), [], overwrite=False)
    check_free(locate_run("F.png", 1, "s"), [], overwrite=False)  # no video was asked for, and one picture


@pytest.mark.parametrize("where", ["D/", "sub/F.png"])
def test_holding_leaves_nothing_behind_when_nothing_was_kept(where: str) -> None:
    run = locate_run(where, 1, "s")
    with holding(run):
        assert run.state.is_dir()
    assert not run.home.exists()


def test_holding_keeps_what_was_written() -> None:
    run = locate_run("D/", 1, "s")
    with pytest.raises(RuntimeError), holding(run):
        touch(run.config, run.state / "00000002.pt")
        raise RuntimeError
    assert tree("D") >= {"run.yaml", "state/00000002.pt"}
    with holding(run):  # the lock is free again
        pass


def test_a_second_process_is_kept_out() -> None:
    run = locate_run("D/", 1, "s")
    code = "from vqclip.runs.folder import *\nwith holding(locate_run('D/', 1, 's')): print('held')"
    with holding(run):
        touch(run.config)
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert other.stdout == ""
        assert "BusyError: Another vqclip works on 'D'; wait for it" in other.stderr
        with pytest.raises(BusyError) as caught, holding(run):  # a second run in the same process, too
            pass
        assert caught.value.code == 75
        assert run.state.is_dir()  # the ones that were kept out removed nothing
    with holding(run):  # free again
        pass


def test_places_that_cannot_be_made() -> None:
    touch("file")
    for run in (locate_run("file/F.png", 1, "s"), RunFolder(Path("file"), Path("file"), 1)):
        with pytest.raises(OutputError, match="Cannot write"), holding(run):
            pass
    assert tree() == {"file"}


OURS = {"state/00000010.pt", "state/frames/000010.png", "state/frames/000010-1.png", "state/.00000020.pt.7.part"}
THEIRS = {"notes.txt", "state/mine.txt", "state/model.pt", "state/frames/cat.png", "frames/cat.png", "picture.png"}


def test_clear_removes_what_a_new_run_would_mix_with_and_nothing_else() -> None:
    ours = OURS | {"frames/000050.png", "frames/000050-1.png", "metrics.jsonl", "partial.png"}
    touch(*(f"D/{name}" for name in ours | THEIRS))
    clear(locate_run("D", 1, "s"))
    assert tree("D") == THEIRS


def test_close_removes_the_state_and_nothing_else() -> None:
    results = {"image.png", "run.yaml", "metrics.jsonl", "latent.safetensors", "frames/000050.png", "video.mp4"}
    touch(*(f"D/{name}" for name in OURS | THEIRS | results | {"partial.png", "state/lock"}))
    close(locate_run("D", 1, "s"))
    assert tree("D") == THEIRS | results


def test_a_closed_run_has_no_state_folder() -> None:
    """That is how a finished run is told from an unfinished one, also if the process dies right after."""
    run = locate_run("D/", 1, "s")
    with holding(run):
        touch(run.config, *(f"D/{name}" for name in OURS))
        close(run)
        assert not run.state.exists()
    assert tree("D") == {"run.yaml"}


def test_a_finished_picture_file_stands_alone() -> None:
    run = locate_run("F.png", 2, "s")
    with holding(run):
        touch(run.config, run.metrics, *run.partials, run.state / "00000010.pt", *run.images)
        close(run)
    assert tree() == {"F-0.png", "F-1.png"}
    assert not run.home.exists()


def test_a_finished_picture_file_keeps_a_users_own_file() -> None:
    run = locate_run("F.png", 1, "s")
    with holding(run):
        touch(run.config, run.home / "mine.txt")
        close(run)
    assert tree() == {"F.png.run/mine.txt"}


def test_latest_points_to_the_newest_run() -> None:
    for name in ("one", "two"):
        run = RunFolder(Path("outputs") / name, Path("outputs") / name, 1)
        touch(run.config)
        run.config.write_text(name)
        point_latest(run)
        assert Path("outputs/latest/run.yaml").read_text() == name
    assert Path("outputs/latest").readlink() == Path("two")  # relative: the folder can be moved
    assert {path.name for path in Path("outputs").iterdir()} == {"one", "two", "latest"}


def test_latest_is_only_for_runs_that_were_named_for_the_user() -> None:
    touch("D/run.yaml")
    point_latest(RunFolder(Path("D"), Path("D"), 1))
    assert not Path("outputs").exists()


def test_a_users_folder_called_latest_is_left_alone() -> None:
    touch("outputs/latest/mine.txt", "outputs/one/run.yaml")
    point_latest(RunFolder(Path("outputs/one"), Path("outputs/one"), 1))
    assert tree("outputs") == {"latest/mine.txt", "one/run.yaml"}
    assert {path.name for path in Path("outputs").iterdir()} == {"one", "latest"}


def test_every_suffix_that_is_accepted_can_be_written() -> None:
    for suffix in (".png", ".jpg", ".jpeg", ".webp", ".PNG"):
        Image.new("RGB", (2, 2)).save(locate_run(f"a{suffix}", 1, "s").images[0])


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("d/metrics.jsonl", "d/"),
        ("d/partial.png", "d/"),
        ("d/latent.safetensors", "d/"),
        ("d/run.yaml", "d/"),
        ("d/frames/notes.txt", "d/"),
        ("p.png.run/metrics.jsonl", "p.png"),
        ("p.png.run/partial.png", "p.png"),
        ("p.png.run/run.yaml", "p.png"),
        ("p.png.frames/a.txt", "p.png"),
        ("d/video.gif", "d/"),
    ],
)
def test_a_users_file_is_not_replaced_without_being_told(
    run: Command, tiny: TinyModels, name: str, output: str
) -> None:
    mine = Path(name)
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine")
    words = ("generate", "a cat", "-c", str(tiny.config), "--video", "gif", "-o", output)
    done = run(*words)
    assert done.code == 6 and mine.read_bytes() == b"mine", done.stderr
    assert {path for path in Path().rglob("*") if path.is_file()} == {mine}


@pytest.mark.parametrize(
    ("output", "came"), [("a.png", "a.png"), ("b/", "b/image.png"), ("b/", "b/run.yaml"), ("c.png", "c.gif")]
)
def test_a_file_that_came_meanwhile_is_not_replaced(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, output: str, came: str
) -> None:
    """While models were looked for, which may fetch them for minutes."""
    find = model_files.find_models

    def slowly(*given: Any) -> object:
        touch(came)
        return find(*given)

    monkeypatch.setattr(model_files, "find_models", slowly)
    words = ("generate", "a cat", "-c", str(tiny.config), "--steps", "2", "--video", "gif", "-o", output)
    done = run(*words)
    assert done.code == 6 and f"{came!r} is there already" in done.stderr, done
    assert tree() == {came} and Path(came).read_text() == "x"
    assert run(*words, "--overwrite").code == 0


@pytest.mark.parametrize("name", ["123456-holiday.png", "12345.png", ".foo.part", "000001.jpg", "1.pt"])
def test_overwriting_a_run_removes_only_what_a_run_makes(run: Command, tiny: TinyModels, name: str) -> None:
    words = ("generate", "a cat", "-c", str(tiny.config), "--save-every", "1", "--steps", "2", "-o", "d/", "-q")
    assert run(*words).code == 0
    for place in ("d/frames", "d/state"):
        Path(place).mkdir(exist_ok=True)
        Path(place, name).write_bytes(b"mine")
    assert run(*words, "--overwrite", "--steps", "1").code == 0
    assert all(Path(place, name).read_bytes() == b"mine" for place in ("d/frames", "d/state"))
    assert not Path("d/frames/000002.png").exists() and Path("d/frames/000001.png").is_file()


def test_fewer_pictures_leave_none_of_the_earlier_ones(run: Command, tiny: TinyModels) -> None:
    words = ("generate", "a cat", "-c", str(tiny.config), "--steps", "1", "-o", "d/", "-q")
    assert run(*words, "--count", "3").code == 0
    Path("d/image-7.png").write_bytes(b"mine")
    assert run(*words, "--count", "2", "--overwrite").code == 0
    assert sorted(path.name for path in Path("d").glob("*.png")) == ["image-0.png", "image-1.png", "image-7.png"]
    assert run(*words, "--overwrite").code == 0
    assert sorted(path.name for path in Path("d").glob("*.png")) == ["image-7.png", "image.png"]


def test_fewer_picture_files_leave_none_of_the_earlier_ones(run: Command, tiny: TinyModels) -> None:
    words = ("generate", "a cat", "-c", str(tiny.config), "--steps", "1", "-q", "-o")
    assert run(*words, "f.png", "--count", "4").code == 0 and run(*words, "g-1.png").code == 0
    shutil.copy("f-1.png", "f-2.png.png")
    shutil.copy("g-1.png", "f-7.png")  # pictures of other names, which only look like this run's
    shutil.copy("f-2.png", "f-8.png")
    Path("f-9.png").write_bytes(b"mine")
    others = {"g-1.png", "f-2.png.png", "f-7.png", "f-8.png", "f-9.png"}
    for count, left in (("2", {"f-0.png", "f-1.png"}), ("1", {"f.png"}), ("3", {"f-0.png", "f-1.png", "f-2.png"})):
        assert run(*words, "f.png", "--count", count, "--overwrite").code == 0
        assert {path.name for path in Path().glob("*.png")} == left | others


def test_what_a_run_is_made_of_stays(run: Command, tiny: TinyModels) -> None:
    """A picture of an earlier run of several that a new run under their name is made of."""
    words = ("-c", str(tiny.config), "--steps", "1", "-q", "--overwrite")
    made = ("generate", "a cat", "--count", "3", "-o", "f.png", "--save-every", "1", *words)
    for source, command in (
        ("f-1.png", ("vary", "f-1.png", "-n", "1")),
        ("f-2.png", ("edit", "f-2.png", "a dog", "--box", "0,0,8,8")),
        ("f.png.frames/000001-1.png", ("vary", "f.png.frames/000001-1.png", "-n", "1")),
    ):
        assert run(*made).code == 0
        before = Path(source).read_bytes()
        done = run(*command, "-o", "f.png", *words)
        assert done.code == 0, done.stderr
        assert Path(source).read_bytes() == before and Path("f.png").is_file() and not Path("f-0.png").exists()
        Path("f.png").unlink()
    assert run(*made).code == 0
    before = Path("f-1.png").read_bytes()
    assert run("rerun", "f-1.png", "-o", "f.png", "-q", "--overwrite").code == 0
    assert Path("f-1.png").read_bytes() == before and Path("f.png").is_file()


@pytest.mark.parametrize("output", ["o.png", "o/", None])
def test_a_run_that_fails_at_its_first_step_leaves_nothing(run: Command, tiny: TinyModels, output: str | None) -> None:
    place = () if output is None else ("-o", output)
    words = ("generate", "a cat", "-c", str(tiny.config), "--set", "losses.tv=1e39", "--save-every", "1", *place)
    done = run(*words)
    assert done.code == 7, done.stderr
    assert not [path for path in Path().rglob("*") if path.is_file() or path.is_symlink()]


def test_a_run_that_fails_at_its_first_step_leaves_an_earlier_one(run: Command, tiny: TinyModels) -> None:
    words = ("generate", "a cat", "-c", str(tiny.config), "--steps", "2", "-o", "d/", "-q")
    assert run(*words, "--count", "2").code == 0
    before = {path: path.read_bytes() for path in Path("d").iterdir()}
    for count in ("1", "2"):
        assert run(*words, "--count", count, "--overwrite", "--set", "losses.tv=1e39").code == 7
        assert {path: path.read_bytes() for path in Path("d").iterdir()} == before


@pytest.mark.parametrize("name", ["state", "frames", "o.png.run"])
def test_a_link_in_a_run_folder_leads_nothing_elsewhere(
    run: Command, tiny: TinyModels, tmp_path: Path, name: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    Path("d").mkdir()
    place = Path(name) if name.startswith("o.") else Path("d", name)
    place.symlink_to(outside)
    output = "o.png" if name.startswith("o.") else "d/"
    done = run("generate", "a cat", "-c", str(tiny.config), "--save-every", "1", "-o", output, "--overwrite")
    assert done.code == 6 and "a link that leads elsewhere" in done.stderr
    assert list(outside.iterdir()) == [] and place.is_symlink()


def test_latest_of_the_users_own_stays(run: Command, tiny: TinyModels) -> None:
    Path("outputs").mkdir()
    Path("outputs/latest").write_text("mine")
    assert run("generate", "a cat", "-c", str(tiny.config), "--steps", "1").code == 0
    assert Path("outputs/latest").read_text() == "mine"


@pytest.mark.parametrize(
    ("lock", "words"),
    [
        ("d/state/lock", ("generate", "a cat", "--overwrite", "-o", "d/")),
        ("d/.lock", ("batch", "jobs.txt", "-o", "d/")),
    ],
)
def test_a_file_that_is_no_lock_is_not_taken_for_one(
    run: Command, tiny: TinyModels, lock: str, words: tuple[str, ...]
) -> None:
    Path("jobs.txt").write_text("a cat")
    Path(lock).parent.mkdir(parents=True)
    Path(lock).write_bytes(b"mine")
    done = run(*words, "-c", str(tiny.config), "--steps", "1")
    assert done.code == 6 and "no lock of vqclip" in done.stderr, done.stderr
    assert Path(lock).read_bytes() == b"mine"


def test_names_that_somebody_put_into_a_run_folder_lead_nothing_out_of_it(run: Command, tiny: TinyModels) -> None:
    words = ("generate", "a cat", "-c", str(tiny.config), "--steps", "2", "-o", "place/d/", "-q")
    assert run(*words).code == 0
    Path("place/photo.png").write_bytes(b"mine")
    Path("place/d/names.json").write_text('["photo.png"]', "utf-8")
    Path("place/d/image.png").unlink()
    assert run("resume", "place/d").code == 0
    assert run(*words, "--count", "2", "--overwrite").code == 0
    assert Path("place/photo.png").read_bytes() == b"mine"
