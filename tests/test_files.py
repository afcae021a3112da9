"""Writing whole or not at all."""

import errno
import json
import os
from pathlib import Path

import pytest

from vqclip.common.errors import OutputError, UsageError
from vqclip.common.files import replacing, write_bytes, write_json, write_text, writing


def names(folder: Path = Path()) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_finished_block_replaces_the_file() -> None:
    path = Path("a.txt")
    path.write_text("old")
    with replacing(path) as part:
        part.write_text("new")
        assert path.read_text() == "old"  # nobody sees half of it
        assert part.parent == path.parent  # a rename is atomic only within one file system
    assert path.read_text() == "new"
    assert names() == ["a.txt"]


@pytest.mark.parametrize("error", [RuntimeError("bug"), KeyboardInterrupt(), UsageError("no")])
def test_a_failed_block_leaves_the_old_file(error: BaseException) -> None:
    Path("a.txt").write_text("old")
    with pytest.raises(type(error)), replacing(Path("a.txt")) as part:
        part.write_text("half")
        raise error
    assert names() == ["a.txt"]
    assert Path("a.txt").read_text() == "old"


@pytest.mark.parametrize("write", [lambda path: write_text(path, "ü"), lambda path: write_bytes(path, b"\0")])
def test_a_full_disk_is_one_sentence(write: object, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a").write_text("old")

    def full(part: Path, mode: str = "r", *_: object, **__: object) -> None:
        os.close(os.open(part, os.O_CREAT))  # the file was made, then the disk was full
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", full)
        patch.setattr(Path, "write_text", full)
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"^Cannot write 'a': No space left on device\.$"):
            write(Path("a"))
    assert names() == ["a"]
    assert Path("a").read_text() == "old"


def test_missing_folders_are_made() -> None:
    write_text(Path("x/y/a.txt"), "日本\n")
    assert Path("x/y/a.txt").read_bytes() == "日本\n".encode()
    write_bytes(Path("z/a"), b"\0\xff")
    assert Path("z/a").read_bytes() == b"\0\xff"


def test_places_that_cannot_be_written() -> None:
    Path("file").write_text("")
    Path("folder").mkdir()
    for path in (Path("file/a.txt"), Path("folder"), Path("n" * 300)):
        with pytest.raises(OutputError, match="Cannot write"):
            write_text(path, "x")
    assert names() == ["file", "folder"]


def test_writing_turns_only_the_systems_failures() -> None:
    with pytest.raises(OutputError, match="'a': no reason"), writing(Path("a")):
        raise OSError("no reason")
    with pytest.raises(ValueError, match="bug"), writing(Path("a")):
        raise ValueError("bug")


def test_what_is_written_reaches_the_disk_before_its_name_and_the_name_before_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told: list[str] = []
    sync, rename = os.fsync, Path.replace

    def watched_sync(handle: int) -> None:
        told.append(f"sync {Path(f'/proc/self/fd/{handle}').readlink().name.partition('.part')[1] or 'folder'}")
        sync(handle)

    def watched_rename(part: Path, target: Path) -> Path:
        told.append("rename")
        return rename(part, target)

    monkeypatch.setattr(os, "fsync", watched_sync)
    monkeypatch.setattr(Path, "replace", watched_rename)
    write_json(Path("a.json"), {"a": 1})
    assert told == ["sync .part", "rename", "sync folder"]


def test_a_name_as_long_as_the_file_system_takes_can_be_written() -> None:
    name = "ä" * 120 + "n" * 15  # 255 bytes
    write_text(Path(name), "x")
    assert Path(name).read_text() == "x" and names() == [name]


def test_a_name_that_is_no_text_is_written_as_json_writes_it(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9 \xf0\x9f\x8d\x8e")
    write_json(tmp_path / "a.json", {name: [name]})
    assert json.loads((tmp_path / "a.json").read_text("utf-8")) == {name: [name]}
