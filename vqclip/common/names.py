"""A name that somebody gave becomes the name of one file, and never a path."""

import unicodedata
from pathlib import Path

from vqclip.common.errors import UsageError

LONGEST = 200
"""Bytes of a name; file systems take 255, and endings are added."""

SEPARATORS = "/\\:"
"""What parts a path anywhere, on Windows too."""


def is_name(name: str) -> bool:
    """Whether `name` can be one file's name: no separator, no `..`, not hidden, nothing unprintable, not too long."""
    try:
        length = len(name.encode())
    except UnicodeEncodeError:  # half a character
        return False
    plain = not any(letter in SEPARATORS or unicodedata.category(letter) == "Cc" for letter in name)
    return plain and 0 < length <= LONGEST and not name.startswith(".") and name == name.strip()


def named(folder: Path, name: str, suffix: str, what: str) -> Path:
    """Return `folder`/`name``suffix`, which lies in `folder` whatever the name holds.

    `what` is how the sentence calls it, e.g. "a model's".

    Raises:
        UsageError: the name is none that a file can have.
    """
    if not is_name(name):
        shown = name if len(name) <= 60 else f"{name[:60]}…"
        raise UsageError(f"{shown!r} cannot be {what} name: {_fault(name)}.")
    return folder / f"{name}{suffix}"


def _fault(name: str) -> str:
    """What is wrong with a name that is none."""
    if not name:
        return "it is empty"
    if name != name.strip():
        return "it begins or ends with a blank"
    if len(name.encode(errors="replace")) > LONGEST:
        return f"it is longer than {LONGEST} bytes"
    return "a name holds no `/`, `\\` or `:`, nothing that cannot be printed, and starts with no dot"
