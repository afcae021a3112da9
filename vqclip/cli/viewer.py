"""Finished pictures and pages in the desktop's own viewer."""

import os
import subprocess
import sys
from pathlib import Path

from vqclip.cli.console import Console

PROGRAMS = {"darwin": "open", "win32": "explorer"}
"""What opens a file as a double click does, by `sys.platform`; elsewhere it is freedesktop's `xdg-open`."""

DISPLAYS = ("DISPLAY", "WAYLAND_DISPLAY")
"""Variables of which one is set where freedesktop's programs have a screen."""


def open_file(console: Console, path: Path) -> None:
    """Open a file in the viewer and go on at once; where there is none, the person is told, and that is no failure.

    The viewer gets none of our streams, so that whoever reads our results need not wait for its end.
    """
    program = PROGRAMS.get(sys.platform, "xdg-open")
    if sys.platform not in PROGRAMS and not any(map(os.environ.get, DISPLAYS)):
        console.say(f"Note: there is no desktop here to open {str(path)!r} on.")
        return
    nothing = subprocess.DEVNULL
    try:
        subprocess.Popen(
            [program, str(path.absolute())], stdin=nothing, stdout=nothing, stderr=nothing, start_new_session=True
        )
    except OSError as error:
        console.say(f"Note: {str(path)!r} was not opened: {program}: {error.strerror or error}.")
