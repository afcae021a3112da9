"""Which files a user means: files, folders, patterns, and lists on standard input; by one walk with one set of rules.

The walk takes regular files, also through links, and enters each folder once, whatever links lead to it. Hidden files
and what vqclip made beside pictures (small copies, frames, unfinished runs) are passed over; what else is left out is
told with its reason.
"""

import glob
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path, PurePath

from vqclip.common.errors import UsageError
from vqclip.common.images import SUFFIXES
from vqclip.common.paths import PAGE, PARTIAL, RUN, THUMBS, check_local, is_file, is_folder, is_there

STDIN = "-"

MARK = '<meta name="generator" content="vqclip">'
"""What tells the page of a gallery from another's."""

DEEPEST = 100
"""Folders within folders that are entered."""

Skip = Callable[[Path, str], object]
"""Is told a file or folder that is left out, and why."""


@dataclass(frozen=True)
class Given:
    """A file to look at; `named` if the user named it, and did not merely name a folder or a pattern around it."""

    path: Path
    named: bool


def gather(
    words: Sequence[str],
    listed: Iterable[str] = (),
    exclude: Sequence[str] = (),
    skip: Skip = lambda path, why: None,
) -> list[Given]:
    """Return the files behind a command's arguments, each once and in their order.

    A folder stands for all files in it and below it; a pattern (`*`, `?`, `[`, `**`) that is no file for what matches
    it; `-` for the paths in `listed`. A named file need not exist. What one of the patterns `exclude` fits, by its name
    or by its path below the folder, is left out of folders and patterns.

    Raises:
        UsageError: a pattern or a folder that yields nothing, or no argument at all.
    """
    found: dict[Path, Given] = {}
    for word in words:
        for given in _expand(word, listed, exclude, skip):
            before = found.get(given.path)
            found[given.path] = Given(given.path, given.named or (before is not None and before.named))
    if not found:
        raise UsageError("No image was given: name files, folders or patterns, or - for a list on standard input.")
    return list(found.values())


def walk(folder: Path, exclude: Sequence[str] = (), skip: Skip = lambda path, why: None) -> Iterator[Path]:
    """Yield the files in a folder and below it, sorted within each folder."""
    yield from _walk(folder, PurePath(), exclude, skip, set())


def _walk(
    top: Path, below: PurePath, exclude: Sequence[str], skip: Skip, entered: set[tuple[int, int]]
) -> Iterator[Path]:
    place = top / below
    try:
        here = place.stat()
        entries = sorted(os.scandir(place), key=lambda entry: entry.name)
    except OSError as error:
        skip(place, error.strerror or str(error))
        return
    if (here.st_dev, here.st_ino) in entered:
        skip(place, "a second way to a folder that was looked into")
        return
    if len(below.parts) > DEEPEST:
        skip(place, f"more than {DEEPEST} folders deep")
        return
    entered.add((here.st_dev, here.st_ino))
    folders: list[os.DirEntry[str]] = []
    for entry in entries:
        path, inside = place / entry.name, below / entry.name
        if entry.name.startswith(".") or is_excluded(inside, exclude):
            continue
        kind = _kind(entry)
        if kind is None:
            skip(path, "a link to nowhere, or what may not be looked at")
        elif stat.S_ISDIR(kind):
            folders.append(entry)
        elif stat.S_ISREG(kind):
            if not (fnmatchcase(entry.name, PARTIAL) and is_file(place / RUN)):
                yield path
        else:
            skip(path, "no regular file")
    for entry in sorted(folders, key=lambda entry: entry.is_symlink()):  # a folder's own place before links to it
        if not _is_ours(place, entry.name):
            yield from _walk(top, below / entry.name, exclude, skip, entered)


def _kind(entry: os.DirEntry[str]) -> int | None:
    try:
        return entry.stat().st_mode
    except OSError:
        return None


def is_excluded(inside: PurePath, exclude: Sequence[str]) -> bool:
    """Whether a path below a folder, or a folder on its way, fits one of the patterns by its name or as a whole."""
    steps = [inside, *inside.parents][:-1] if exclude else []
    return any(fnmatchcase(step.name, pattern) or _fits(step.parts, pattern) for step in steps for pattern in exclude)


def _is_ours(place: Path, name: str) -> bool:
    """Whether a folder in `place` holds what vqclip made of pictures that are there themselves."""
    stem, dot, suffix = name.rpartition(".")
    if dot and suffix in ("frames", "run") and Path(stem).suffix.lower() in SUFFIXES:
        return True
    if name in ("frames", "state"):
        return is_file(place / RUN)
    return name == THUMBS and is_page(place / PAGE)


def is_page(path: Path) -> bool:
    """Whether a file is a page that `vqclip gallery` wrote."""
    if not is_file(path):
        return False
    try:
        with path.open("rb") as file:
            return MARK.encode() in file.read(4096)
    except OSError:
        return False


def _expand(word: str, listed: Iterable[str], exclude: Sequence[str], skip: Skip) -> list[Given]:
    if word == STDIN:
        return [Given(Path(line), True) for line in listed]
    check_local(word)
    if is_folder(word):
        return _some(
            [Given(path, False) for path in walk(Path(word), exclude, skip)], f"The folder {word!r} holds no files."
        )
    if glob.has_magic(word) and not is_there(word):
        return _some([Given(path, False) for path in _matching(word, exclude, skip)], f"Nothing matches {word!r}.")
    return [Given(Path(word), True)]


def _matching(pattern: str, exclude: Sequence[str], skip: Skip) -> Iterator[Path]:
    """Yield the files that fit a pattern, from a walk of the folder before its first special part."""
    parts = PurePath(pattern).parts
    plain = next(number for number, part in enumerate(parts) if glob.has_magic(part))
    base, rest = Path(*parts[:plain]), parts[plain:]
    if "**" not in rest:  # no need to walk deeper than the pattern goes
        for match in sorted(glob.glob(pattern)):  # noqa: PTH207 (takes absolute patterns)
            if is_file(match) and not is_excluded(PurePath(match).relative_to(base), exclude):
                yield Path(match)
        return
    for path in walk(base, exclude, skip):
        if _fits(path.relative_to(base).parts, "/".join(rest)):
            yield path


def _fits(parts: tuple[str, ...], pattern: str) -> bool:
    """Whether the parts of a path fit a pattern, where `**` stands for any number of them."""
    wanted = pattern.strip("/").split("/")

    @cache
    def fits(at: int, part: int) -> bool:
        if part == len(wanted):
            return at == len(parts)
        if wanted[part] == "**":
            return fits(at, part + 1) or (at < len(parts) and fits(at + 1, part))
        return at < len(parts) and fnmatchcase(parts[at], wanted[part]) and fits(at + 1, part + 1)

    return fits(0, 0)


def _some(found: list[Given], complaint: str) -> list[Given]:
    if not found:
        raise UsageError(complaint)
    return found
