"""Which files a user means: files, folders, globs, and lists on standard input."""

import glob
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from vqclip.common.errors import UsageError
from vqclip.common.paths import is_there

STDIN = "-"


@dataclass(frozen=True)
class Given:
    """A file to look at; `named` if the user named it, and did not merely name a folder or a pattern around it."""

    path: Path
    named: bool


def gather(words: Sequence[str], lines: Iterable[str] = ()) -> list[Given]:
    """Return the files behind a command's arguments, each once and in their order.

    A folder stands for all files in it and below it, hidden ones left out; a pattern (`*`, `?`, `[`, `**`) that is
    no file for what matches it; `-` for the `lines`, one path each. A named file need not exist.

    Raises:
        UsageError: a pattern or a folder that yields nothing, or no argument at all.
    """
    found: dict[Path, Given] = {}
    for word in words:
        for given in _expand(word, lines):
            before = found.get(given.path)
            found[given.path] = Given(given.path, given.named or (before is not None and before.named))
    if not found:
        raise UsageError("No image was given: name files, folders or patterns, or - for a list on standard input.")
    return list(found.values())


def walk(folder: Path) -> Iterator[Path]:
    """Yield the files in a folder and below it, sorted, without hidden ones."""
    for place, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if not name.startswith("."):
                yield Path(place) / name


def _expand(word: str, lines: Iterable[str]) -> list[Given]:
    if word == STDIN:
        return [Given(Path(line), True) for line in (line.rstrip("\r\n") for line in lines) if line.strip()]
    if is_there(word) and Path(word).is_dir():
        return _some([Given(path, False) for path in walk(Path(word))], f"The folder {word!r} holds no files.")
    if glob.has_magic(word) and not is_there(word):
        matches = [Path(match) for match in sorted(glob.glob(word, recursive=True))]  # noqa: PTH207 (takes absolute patterns)
        return _some([Given(path, False) for path in matches if path.is_file()], f"Nothing matches {word!r}.")
    return [Given(Path(word), True)]


def _some(found: list[Given], complaint: str) -> list[Given]:
    if not found:
        raise UsageError(complaint)
    return found
