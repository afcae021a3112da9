from pathlib import Path

import pytest

from vqclip.common.errors import UsageError
from vqclip.tools.inputs import Given, gather


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
    assert names(gather(words, ["x y.png\n", "\n", " z.png\r\n"])) == expected


@pytest.mark.parametrize(
    ("words", "says"), [(["*.gif"], "Nothing matches"), ([], "No image"), (["-"], "No image"), (["new"], "holds no")]
)
def test_nothing_is_said(place: Path, words: list[str], says: str) -> None:
    (place / "new").mkdir()
    with pytest.raises(UsageError, match=says):
        gather(words)


def test_an_absolute_pattern(place: Path) -> None:
    assert names(gather([f"{place}/s*/*.jpg"])) == [f"{place}/sub/c.jpg"]
