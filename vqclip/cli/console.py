"""The only place that prints: results to stdout, everything else to stderr.

stdout lines are results, whole and plain: never wrapped, coloured or taken for markup. Control characters in names,
prompts and whatever else is not ours are shown as `\\x1b` and never reach a terminal.
"""

import contextlib
import io
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator, Mapping
from typing import Any, TextIO

from rich.console import Console as RichConsole
from rich.text import Text

from vqclip.common.errors import OutputError

CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
"""What a terminal may take for a command: C0 without tab and line feed, DEL, and C1."""


class ReaderGone(Exception):
    """Nobody reads the results any more (`| head`): the command ends, and that is no failure."""


class Screen(RichConsole):
    """Standard error; where nobody reads it any more it falls silent, and the command goes on."""

    def on_broken_pipe(self) -> None:
        """Write nothing from now on; rich would end the command."""
        self.quiet = True


class Console:
    """How a command talks: `as_json` makes every result one JSON object a line, `quiet` mutes stderr
    except for errors, and `opens` asks for the finished picture in the desktop's viewer too.
    """

    def __init__(
        self, *, as_json: bool = False, quiet: bool = False, verbose: bool = False, opens: bool = False
    ) -> None:
        self.as_json = as_json
        self.quiet = quiet
        self.verbose = verbose
        self.opens = opens
        self.screen = Screen(stderr=True, highlight=False, markup=False, emoji=False, soft_wrap=True)
        _show_log(self, logging.INFO if verbose else logging.WARNING)

    @property
    def interactive(self) -> bool:
        """Whether a bar can move before a person: stderr is a terminal that can, and nobody asked for quiet.

        FORCE_COLOR makes rich take a file for a terminal, which may have colours then, but no bars.
        """
        screen = self.screen
        return sys.stderr.isatty() and screen.is_terminal and not screen.is_dumb_terminal and not self.quiet

    @property
    def draws(self) -> bool:
        """Whether pictures can be shown: a terminal that has colours, where nobody asked for none."""
        screen = self.screen
        return self.interactive and not screen.no_color and screen.color_system is not None

    @property
    def shared(self) -> bool:
        """Whether results show on the screen too, so that a bar must make room for them; else it leaves them alone."""
        return sys.stdout.isatty()

    def result(self, line: str, event: Mapping[str, Any], *, null: bool = False) -> None:
        """Write one result: the line, or with --json the event; `null` ends a line by a zero byte instead, and leaves
        the names in it as they are."""
        if null and not self.as_json:
            return self.data(os.fsencode(line) + b"\0")
        text = _json(event, sys.stdout) if self.as_json else visible(line).replace("\n", "\\n")
        self.text(text + "\n")

    def text(self, text: str) -> None:
        """Write a result that has no lines of its own, such as a YAML file."""
        with _told("standard output"):
            sys.stdout.write(text if self.as_json else visible(text))
            sys.stdout.flush()

    def data(self, content: bytes) -> None:
        """Write a result that is no text, such as a picture."""
        with _told("standard output"):
            sys.stdout.flush()
            sys.stdout.buffer.write(content)
            sys.stdout.buffer.flush()

    def say(self, message: str) -> None:
        """Write a message for the person, unless --quiet."""
        if not self.quiet:
            self._write(Text(visible(message)))

    def error(self, message: str, code: int) -> None:
        """Write why the command fails."""
        if self.as_json:
            self.result("", {"event": "error", "code": code, "message": message})
        self._write(Text("Error: ", style="bold red") + Text(visible(message), style="not bold default"))

    def trace(self, error: BaseException) -> None:
        """Write where an error came up, as Python does."""
        self._write(Text(visible("".join(traceback.format_exception(error)).rstrip("\n"))))

    def _write(self, text: Text) -> None:
        """Write to the screen."""
        with _told("standard error"):
            self.screen.print(text)


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


def visible(text: str) -> str:
    """Write control characters as Python would escape them; tabs and line feeds stay."""
    return CONTROLS.sub(lambda found: f"\\x{ord(found.group()):02x}", text)


def open_streams() -> None:
    """Let the standard streams write what their encoding lacks as an escape, so that showing a result cannot fail for
    that; one that was closed from the start leads nowhere.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", encoding="utf-8"))
        if isinstance(stream := getattr(sys, name), io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def close_quietly() -> None:
    """Give the standard streams a place to flush to at exit, after their reader has gone."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextlib.contextmanager
def _told(where: str) -> Iterator[None]:
    """Turn what goes wrong with writing to a standard stream into the command's end, or a sentence."""
    try:
        yield
    except BrokenPipeError as error:
        raise ReaderGone from error
    except OSError as error:
        raise OutputError(f"Cannot write to {where}: {error.strerror or error}.") from error


def _json(event: Mapping[str, Any], stream: TextIO) -> str:
    """Write an event as JSON, with JSON's own escapes for control characters and what the stream cannot write."""
    text = json.dumps(event, ensure_ascii=False)
    try:
        text.encode(stream.encoding or "utf-8")
    except UnicodeEncodeError:
        return json.dumps(event)
    return CONTROLS.sub(lambda found: f"\\u{ord(found.group()):04x}", text)
