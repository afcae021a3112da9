"""Where the shipped files are: beside the package in a checkout, inside it when installed."""

import errno
import os
from pathlib import Path

import pytest

from vqclip.common import paths
from vqclip.common.errors import UsageError


def test_a_checkout_uses_the_repositorys_root(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parent.parent
    monkeypatch.setattr(paths, "PACKAGE", root / "vqclip")
    assert paths.data_root() == root
    assert (paths.configs_dir() / "default.yaml").is_file()
    assert paths.embedded_dir().parts[-2:] == ("checkpoints", "embedded")


def test_an_installed_package_uses_its_own_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "_data").mkdir()
    monkeypatch.setattr(paths, "PACKAGE", tmp_path)
    assert paths.configs_dir() == tmp_path / "_data" / "configs"
    assert paths.embedded_dir() == tmp_path / "_data" / "checkpoints" / "embedded"


def test_what_cannot_be_looked_at_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert paths.is_there(tmp_path)
    assert not any(paths.is_there(path) for path in (tmp_path / "none", "n" * 300, "a\0b"))

    def forbidden(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(Path, "stat", forbidden)
    assert not paths.is_there(tmp_path)


@pytest.mark.parametrize("path", ["n" * 300, "a\0b", "x/" * 3000, "file/below", "gone", "", "circle", "\ud800"])
def test_asking_what_is_at_a_path_never_fails(path: str) -> None:
    Path("file").touch()
    Path("circle").symlink_to("circle")
    for question in (paths.is_there, paths.is_file, paths.is_folder):
        assert question(path) is (path == "" and question is not paths.is_file)  # "" is where we are


def test_asking_what_is_at_a_path_tells_kinds_apart() -> None:
    Path("file").touch()
    Path("folder").mkdir()
    os.mkfifo("pipe")
    kinds = {name: (paths.is_file(name), paths.is_folder(name)) for name in ("file", "folder", "pipe")}
    assert kinds == {"file": (True, False), "folder": (False, True), "pipe": (False, False)}
    assert paths.is_there("pipe")


def test_a_cache_of_a_user_who_is_not_there_is_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VQCLIP_CACHE", "~nosuchuser/x")
    with pytest.raises(UsageError, match="VQCLIP_CACHE is '~nosuchuser/x'"):
        paths.cache_dir()
