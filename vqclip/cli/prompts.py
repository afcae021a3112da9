"""The prompts of a command line: its words, or the lines of standard input."""

import logging
import os
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

from vqclip.common.errors import UsageError
from vqclip.common.paths import is_file
from vqclip.common.text import decode, read_stdin
from vqclip.config.alternatives import is_list
from vqclip.config.prompts import KIND

STDIN = "-"
SOURCE = "standard input"

log = logging.getLogger(__name__)


def read_prompts(words: Sequence[str], layers: Sequence[str] = ()) -> list[str]:
    """Return the prompts that the words stand for; `-` stands for the lines of standard input, `@FILE.txt` for itself.

    Raises:
        UsageError: a file's name where a prompt belongs, nothing on standard input, or one of the config's `layers` is
            there too.
    """
    if STDIN in words and STDIN in layers:
        raise UsageError("Standard input cannot be both the config (-c -) and the prompts (-).")
    for word in words:
        _refuse_file(word)
    if STDIN in words and not (lines := piped_prompts()):
        raise UsageError("Standard input holds no prompt; give one a line.")
    if len(words) > 1 and all(word.isalnum() for word in words):
        log.warning("%d prompts: %s; put quotes around one", len(words), ", ".join(words))
    return [prompt for word in words for prompt in (lines if word == STDIN else [word])]


def piped_prompts() -> list[str]:
    """Read the prompts on standard input, one a line, without blank lines and comments (`# …`)."""
    lines = [line.strip() for line in decode(read_stdin(SOURCE), SOURCE).splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


def is_piped() -> bool:
    """Whether standard input is a pipe or a file, and not a terminal or nothing."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (OSError, ValueError, AttributeError):
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _refuse_file(word: str) -> None:
    """A name of a file with an ending is meant as the file."""
    name = word.removeprefix("@")
    suffix = Path(name).suffix.lower()
    if is_list(word) or KIND.match(word):
        return
    if word.startswith("@") and name and " " not in name:
        raise UsageError(
            f"{word!r} is no prompt; the prompts of a file: @FILE.txt, or vqclip batch {quote(name)} -o pictures/"
        )
    if suffix and is_file(name):
        from vqclip.common.images import READ_SUFFIXES

        way = (
            f"start from it with --init-image {quote(name)}, or see how it was made with vqclip info {quote(name)}"
            if suffix in READ_SUFFIXES
            else f"draw its prompts with vqclip batch {quote(name)} -o pictures/"
        )
        raise UsageError(f"{word!r} is a file: {way}")
