import hashlib
import os
from pathlib import Path

import pytest

from vqclip.common import hashes
from vqclip.common.hashes import known_sha256, sha256
from vqclip.common.paths import cache_dir


def test_sha256_is_hashlibs(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc" * 100_000)
    assert sha256(tmp_path / "file") == hashlib.sha256(b"abc" * 100_000).hexdigest()


@pytest.fixture
def large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(hashes, "LARGE", 4)
    path = tmp_path / "large"
    path.write_bytes(b"weights")
    return path


def test_a_large_file_is_read_once(large: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = known_sha256(large)
    monkeypatch.setattr(hashes, "sha256", lambda path: pytest.fail("it was read again"))
    assert known_sha256(str(large)) == digest == hashlib.sha256(b"weights").hexdigest()


def test_a_changed_file_is_read_again(large: Path) -> None:
    known_sha256(large)
    before = large.stat().st_mtime_ns
    large.write_bytes(b"WEIGHTS")
    os.utime(large, ns=(before + 1, before + 1))
    assert known_sha256(large) == hashlib.sha256(b"WEIGHTS").hexdigest()


@pytest.mark.parametrize("note", ["", "[]", "{", '{"size": 7, "mtime_ns": 0, "sha256": "x"}', "null"])
def test_a_damaged_note_is_made_anew(large: Path, note: str) -> None:
    digest = known_sha256(large)
    (path,) = (cache_dir() / "hashes").iterdir()
    path.write_text(note)
    assert known_sha256(large) == digest and digest in path.read_text()


def test_a_cache_that_cannot_be_written_only_costs_time(large: Path) -> None:
    cache_dir().write_text("a file where the folder should be")
    assert known_sha256(large) == hashlib.sha256(b"weights").hexdigest()
