"""Where the shipped files are: beside the package in a checkout, inside it when installed."""

import errno
from pathlib import Path

import pytest

from vqclip.common import paths


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
