"""Runs the command line in this process, as the installed script would."""

import sys
from dataclasses import dataclass

import pytest

from vqclip.cli.app import main


@dataclass(frozen=True)
class Outcome:
    """What one command returned and wrote."""

    code: int
    stdout: str
    stderr: str


class Command:
    """`vqclip` with arguments, perhaps before a `terminal` where it writes messages; see `Outcome`."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, terminal: bool = False
    ) -> None:
        self.monkeypatch = monkeypatch
        self.capsys = capsys
        self.terminal = terminal

    def show(self) -> None:
        """Make standard error a terminal; pytest gives each phase of a test a stream of its own."""
        self.monkeypatch.setattr(sys.stderr, "isatty", lambda: True)

    def __call__(self, *words: str) -> Outcome:
        self.capsys.readouterr()
        self.monkeypatch.setattr(sys, "argv", ["vqclip", *words])
        if self.terminal:
            self.show()
        with pytest.raises(SystemExit) as caught:
            main()
        written = self.capsys.readouterr()
        return Outcome(int(caught.value.code or 0), written.out, written.err)
