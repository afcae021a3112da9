import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from vqclip.common.errors import UsageError
from vqclip.folders.inputs import MARK, Given, gather, walk


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("b.png", "a.png", "sub/c.jpg", "sub/.hidden.png", ".git/d.png", "odd[1].png"):
        (tmp_path / "p" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / name).touch()
    monkeypatch.chdir(tmp_path / "p")
    return tmp_path / "p"


def names(found: list[Given]) -> list[str]:
    return [f"{given.path}{'!' if given.named else ''}" for given in found]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["a.png", "gone.png"], ["a.png!", "gone.png!"]),
        (["."], ["a.png", "b.png", "odd[1].png", "sub/c.jpg"]),
        (["*.png"], ["a.png", "b.png", "odd[1].png"]),
        (["**/*.jpg"], ["sub/c.jpg"]),
        (["odd[1].png"], ["odd[1].png!"]),
        (["sub", "sub/c.jpg", "sub"], ["sub/c.jpg!"]),
        (["-", "a.png"], ["x y.png!", " z.png!", "a.png!"]),
    ],
)
def test_what_is_meant(place: Path, words: list[str], expected: list[str]) -> None:
    assert names(gather(words, ["x y.png", " z.png"])) == expected


@pytest.mark.parametrize(
    ("words", "says"), [(["*.gif"], "Nothing matches"), ([], "No image"), (["-"], "No image"), (["new"], "holds no")]
)
def test_nothing_is_said(place: Path, words: list[str], says: str) -> None:
    (place / "new").mkdir()
    with pytest.raises(UsageError, match=says):
        gather(words)


def test_an_absolute_pattern(place: Path) -> None:
    assert names(gather([f"{place}/s*/*.jpg"])) == [f"{place}/sub/c.jpg"]


# One walk, whatever lies in a folder


def tree(*names: str, top: str = "t") -> Path:
    for name in names:
        path = Path(top) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return Path(top)


def walked(top: Path, **options: Any) -> tuple[list[str], dict[str, str]]:
    left_out: dict[str, str] = {}
    found = [
        str(path.relative_to(top))
        for path in walk(top, skip=lambda path, why: left_out.update({str(path.relative_to(top)): why}), **options)
    ]
    return found, left_out


def test_only_regular_files_are_taken_and_the_rest_is_told() -> None:
    top = tree("a.png", "sub/b.png")
    os.mkfifo(top / "pipe.png")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(top / "socket.png"))
    (top / "gone.png").symlink_to("nowhere")
    (top / "self.png").symlink_to("self.png")
    found, left_out = walked(top)
    assert found == ["a.png", "sub/b.png"]
    assert set(left_out) == {"pipe.png", "socket.png", "gone.png", "self.png"}


def test_links_to_folders_are_followed_and_circles_known() -> None:
    """`**` found one picture 41 times through a circle, and a linked folder was left out without a word."""
    top, other = tree("a/x.png"), tree("y.png", top="other")
    (top / "a" / "up").symlink_to("..")
    (top / "round").symlink_to("a")
    (top / "linked").symlink_to(Path("..") / other)
    (other / "back").symlink_to(Path("..") / top)
    found, left_out = walked(top)
    assert found == ["a/x.png", "linked/y.png"]
    assert set(left_out) == {"a/up", "round", "linked/back"}
    assert names(gather(["t/**/*.png"])) == ["t/a/x.png", "t/linked/y.png"]


def test_a_folder_that_cannot_be_read_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    top = tree("a.png", "locked/b.png")
    scan = os.scandir

    def forbidden(path: Any) -> Any:
        if Path(path).name == "locked":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return scan(path)

    monkeypatch.setattr(os, "scandir", forbidden)
    assert walked(top) == (["a.png"], {"locked": "Permission denied"})


def test_what_vqclip_made_beside_pictures_is_passed_over() -> None:
    top = tree(
        "a.png",
        "a.png.frames/000010.png",
        "b.jpg.run/partial.png",
        "index.html",
        "thumbs/a.png.webp",
        "run/run.yaml",
        "run/image.png",
        "run/frames/000010.png",
        "run/state/frames/000001.png",
        "mine/frames/x.png",
        "mine/thumbs/y.png",
        "mine/index.html",
        "holiday.frames/z.png",
    )
    (top / "index.html").write_text(f"<html>{MARK}")
    wanted = ["a.png", "holiday.frames/z.png", "index.html", "mine/frames/x.png", "mine/index.html"]
    assert sorted(walked(top)[0]) == [*wanted, "mine/thumbs/y.png", "run/image.png", "run/run.yaml"]


@pytest.mark.parametrize(
    ("exclude", "expected"),
    [
        (["raw"], ["a.png", "sub/b.png"]),
        (["*.png"], ["raw/d.jpg"]),
        (["sub/*"], ["a.png", "raw/c.png", "raw/d.jpg"]),
        (["**/*.jpg", "a.*"], ["sub/b.png", "raw/c.png"]),
        (["[", "nothing"], ["a.png", "sub/b.png", "raw/c.png", "raw/d.jpg"]),
    ],
)
def test_what_is_excluded_is_not_found(exclude: list[str], expected: list[str]) -> None:
    top = tree("a.png", "sub/b.png", "raw/c.png", "raw/d.jpg")
    assert sorted(walked(top, exclude=exclude)[0]) == sorted(expected)
    assert sorted(names(gather(["t"], exclude=exclude))) == sorted(f"t/{name}" for name in expected)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("**/*.png", ["a.png", "x/b.png", "x/y/c.png"]),
        ("x/**/*.png", ["x/b.png", "x/y/c.png"]),
        ("**/y/*", ["x/y/c.png"]),
        ("**", ["a.png", "x/b.png", "x/y/c.png", "x/y/d/e.gif"]),
        ("**/**/**/**/*.gif", ["x/y/d/e.gif"]),
        ("x/*/c.png", ["x/y/c.png"]),
        ("*/b.png", ["x/b.png"]),
    ],
)
def test_patterns_mean_what_they_mean_in_a_shell(pattern: str, expected: list[str]) -> None:
    top = tree("a.png", "x/b.png", "x/y/c.png", "x/y/d/e.gif", ".git/f.png")
    assert sorted(names(gather([f"{top}/{pattern}"]))) == sorted(f"{top}/{name}" for name in expected)
    assert sorted(names(gather([f"{top.resolve()}/{pattern}"]))) == sorted(f"{top.resolve()}/{n}" for n in expected)


def test_a_hostile_pattern_takes_no_time() -> None:
    top = tree(*("/".join(["a"] * depth) + "/x.png" for depth in range(1, 30)))
    with pytest.raises(UsageError, match="Nothing matches"):
        gather([f"{top}/" + "**/a/" * 25 + "b"])


@pytest.mark.parametrize("word", ["n" * 300, "a\0b", "*" * 300, "x/" * 2000])
def test_a_word_that_can_be_no_path_is_looked_up_without_a_fault(word: str) -> None:
    with contextlib.suppress(UsageError):
        assert gather([word])


def test_what_is_left_out_is_said_below_the_pattern(place: Path) -> None:
    assert names(gather(["../p/sub/*.jpg"], exclude=["p"])) == ["../p/sub/c.jpg"]
    with pytest.raises(UsageError, match="Nothing matches"):
        gather(["../p/*/*.jpg"], exclude=["sub/*"])


def test_unfinished_pictures_of_a_run_are_passed_over(place: Path) -> None:
    for name in ("partial.png", "partial-1.png", "image.png"):
        (place / "run" / name).parent.mkdir(exist_ok=True)
        (place / "run" / name).touch()
    assert len(names(gather(["run"]))) == 3
    (place / "run" / "run.yaml").touch()
    assert names(gather(["run"])) == ["run/image.png", "run/run.yaml"]
