"""The only place that prints: results to stdout, everything else to stderr.

stdout lines are results, whole and plain: never wrapped, coloured or taken for markup.
"""

import json
import logging
import sys
from collections.abc import Mapping
from typing import Any

from rich.console import Console as RichConsole
from rich.text import Text


class Console:
    """How a command talks: `as_json` makes every result one JSON object a line, `quiet` mutes stderr
    except for errors.
    """

    def __init__(self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.screen = RichConsole(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        _show_log(self, logging.INFO if verbose else logging.WARNING)

    @property
    def interactive(self) -> bool:
        """Whether a person watches: stderr is a terminal and nobody asked for quiet."""
        return self.screen.is_terminal and not self.quiet

    def result(self, line: str, event: Mapping[str, Any]) -> None:
        """Write one result: the line, or with --json the event."""
        text = json.dumps(event, ensure_ascii=False) if self.as_json else _one_line(line)
        sys.stdout.write(_writable(text) + "\n")
        sys.stdout.flush()

    def text(self, text: str) -> None:
        """Write a result that has no lines of its own, such as a YAML file."""
        sys.stdout.write(text)
        sys.stdout.flush()

    def say(self, message: str) -> None:
        """Write a message for the person, unless --quiet."""
        if not self.quiet:
            self.screen.print(Text(message))

    def error(self, message: str, code: int) -> None:
        """Write why the command fails."""
        if self.as_json:
            self.result("", {"event": "error", "code": code, "message": message})
        self.screen.print(Text("Error: ", style="bold red") + Text(message, style="not bold default"))


class _Handler(logging.Handler):
    """Shows the library's log records as messages."""

    def __init__(self, console: Console) -> None:
        super().__init__()
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        """Show one record."""
        prefix = "Warning: " if record.levelno >= logging.WARNING else ""
        self.console.say(prefix + record.getMessage())


def _show_log(console: Console, level: int) -> None:
    logger = logging.getLogger("vqclip")
    logger.handlers = [_Handler(console)]
    logger.setLevel(level)
    logger.propagate = False


def _writable(text: str) -> str:
    """Replace halves of characters, as names of files that are not UTF-8 hold them, which no terminal can show."""
    return text.encode("utf-8", "backslashreplace").decode()


def _one_line(text: str) -> str:
    """Keep a path with line breaks on one line."""
    return text.replace("\n", "\\n").replace("\r", "\\r")
