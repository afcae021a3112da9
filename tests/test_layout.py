"""What stands on the screen at the end of commands that take a while, on wide, narrow and plain terminals."""

import contextlib
import os
import re
import struct
import sys
from pathlib import Path

import pyte
import pytest
from command import Command
from conftest import TINY_SIZES, TinyModels
from faulty_server import Behaviour, serving
from PIL import Image
from published import publish
from rich.cells import cell_len
from tiny_vqgan import weights, write_lightning

from vqclip.cli.console import Console
from vqclip.cli.transfers import Transfers
from vqclip.cli.viewer import open_file

HIGH = 24
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
TIMES = re.compile(r"[\d.]+ steps/s|[\d.]+ s/step|loss \d\.\d{4}|\d:\d\d:\d\d|-:--:--")
"""What differs from run to run."""


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("LINES", str(HIGH))
    return Command(monkeypatch, capsys, terminal=True)


def lines(stderr: str, columns: int) -> list[str]:
    """The lines that a terminal shows in the end."""
    screen = pyte.HistoryScreen(columns, HIGH, history=1000)
    pyte.Stream(screen).feed(stderr.replace("\n", "\r\n"))
    above = ["".join(line[column].data for column in range(columns)) for line in screen.history.top]
    return [line.rstrip() for line in [*above, *screen.display] if line.strip()]


def whole(stderr: str, columns: int) -> None:
    """No line of a bar or picture was ever wider than the terminal, and no part of one ends in an ellipsis."""
    drawn = [ESCAPES.sub("", piece) for piece in re.split(r"[\r\n]", stderr)]
    drawn = [piece for piece in drawn if "━" in piece or "▀" in piece]
    assert all(cell_len(piece) <= columns for piece in drawn)
    assert not any("…" in piece for piece in drawn)


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (100, f"drawing {'━' * 40} 6/6 # # #"),
        (72, f"drawing {'━' * 18} 6/6 # # #"),
        (60, f"drawing {'━' * 20} 6/6 # #"),
        (40, f"drawing {'━' * 12} 6/6 #"),
        (24, "drawing 6/6"),
    ],
    ids=["100", "72", "60", "40", "24"],
)
def test_generate(run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, columns: int, shown: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    done = run("generate", "a cat", "-c", str(tiny.config), "--seed", "1", "-o", "a.png", "--size", "96x96")
    assert (done.code, done.stdout) == (0, "a.png\n"), done.stderr
    whole(done.stderr, columns)
    seen = lines(done.stderr, columns)
    picture = [line for line in seen if set(line) == {"▀"}]
    assert len(picture) == HIGH - 2 if columns >= 44 else len(picture) == columns // 2
    (bar,) = [line for line in seen if line.startswith("drawing ")]
    assert TIMES.sub("#", bar) == shown
    assert seen.index(bar) < seen.index(picture[0])


@pytest.mark.parametrize(
    ("environment", "bars"), [({"NO_COLOR": "1"}, True), ({"TERM": "dumb"}, False), ({"TTY_COMPATIBLE": "0"}, False)]
)
@pytest.mark.parametrize("columns", [100, 40])
def test_plain_terminals(
    run: Command,
    tiny: TinyModels,
    monkeypatch: pytest.MonkeyPatch,
    columns: int,
    environment: dict[str, str],
    bars: bool,
) -> None:
    """Without colours there is no picture, and without a cursor that can be moved no bar either."""
    for name, value in {"COLUMNS": str(columns), **environment}.items():
        monkeypatch.setenv(name, value)
    Path("jobs.txt").write_text("a cat\na dog\n")
    for words in (("generate", "a cat", "-o", "a.png"), ("batch", "jobs.txt", "-o", "out/")):
        done = run(*words, "-c", str(tiny.config), "--seed", "1")
        assert done.code == 0 and "▀" not in done.stderr and not re.search(r"\x1b\[[0-9;]*m", done.stderr)
        whole(done.stderr, columns)
        assert bars == ("━" in done.stderr) == ("\x1b" in done.stderr)


@pytest.mark.parametrize("columns", [100, 40])
def test_batch(run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, columns: int) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    Path("jobs.txt").write_text("a cat\na dog\n")
    done = run("batch", "jobs.txt", "-c", str(tiny.config), "-o", "out/", "--seed", "1")
    whole(done.stderr, columns)
    drawn = ESCAPES.sub("", done.stderr)
    assert "0/2" in drawn and "2/2" in drawn
    left, *_ = lines(done.stderr, columns)
    assert re.fullmatch(
        r"2 done, 0 done before, 0 failed, 0 left, \d+ s|2 done, 0 done before, 0 failed, 0 left,", left
    )


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (100, rf"vq-f4 {'━' * 32} ([\d.]+)/\1 [kM]B +[\d.?]+ ?[kMG]?B?(/s)? +#"),
        (40, r"vq-f4 ([\d.]+)/\1 [kM]B #"),
    ],
    ids=["wide", "narrow"],
)
def test_pull(run: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, columns: int, shown: str) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.delenv("HF_HUB_OFFLINE")
    content = write_lightning(tmp_path / "last.ckpt", weights(TINY_SIZES)).read_bytes()
    with serving({"/a": Behaviour(content)}) as server:
        publish(monkeypatch, content, vq_f4=server.url + "/a")
        done = run("models", "pull", "vq-f4", "--no-clip")
    assert done.code == 0, done.stderr
    whole(done.stderr, columns)
    (bar,) = [line for line in lines(done.stderr, columns) if line.startswith("vq-f4 ")]
    assert re.fullmatch(shown, TIMES.sub("#", bar)), bar


def test_a_long_name_is_cut_where_there_is_no_room(monkeypatch: pytest.MonkeyPatch, run: Command) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    run.show()
    with Transfers(Console()) as transfers:
        transfers.watch("ViT-B-32-256:datacomp_s34b_b86k")(512_000_000, 1_000_000_000)
    (bar,) = lines(run.capsys.readouterr().err, 40)
    assert re.fullmatch(r"ViT-B-32-256:da… +0\.5/1\.0 GB +#", TIMES.sub("#", bar)), bar


PICTURE = """
from PIL import Image
from vqclip.cli.console import Console
from vqclip.cli.graphics import show_picture
show_picture(Console(), Image.linear_gradient("L").convert("RGB"), 8)
"""


def answered(answers: dict[bytes, bytes]) -> bytes:
    """What a command writes to a terminal of its own that answers its questions so."""
    fcntl, pty, termios = (pytest.importorskip(name) for name in ("fcntl", "pty", "termios"))
    child, terminal = pty.fork()
    if child == 0:
        os.environ.update({"TERM": "xterm-256color", "COLUMNS": "80"})
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("4H", HIGH, 80, 80 * 8, HIGH * 16))
        os.execv(sys.executable, [sys.executable, "-c", PICTURE])
    written = b""
    with contextlib.suppress(OSError):  # the end of a terminal, on Linux
        while piece := os.read(terminal, 65536):
            written += piece
            for question in [each for each in answers if each in written]:
                os.write(terminal, answers.pop(question))
    os.close(terminal)
    assert os.waitpid(child, 0)[1] == 0, written
    return written


SIXELS = {b"\x1b[c": b"\x1b[?62;4;22c"}
KITTY = {b"\x1b[c": b"\x1b[?62c", b"\x1b_G": b"\x1b_Gi=1;OK\x1b\\"}
NEITHER = {b"\x1b[c": b"\x1b[?62c"}


@pytest.mark.parametrize(
    ("answers", "drawn", "not_drawn"),
    [
        (SIXELS, b"\x1bP", b"\xe2\x96\x80"),
        (KITTY, b";iVBORw0KGgo", b"\xe2\x96\x80"),
        (NEITHER, b"\xe2\x96\x80", b"\x1bP"),
    ],
    ids=["sixels", "kitty", "neither"],
)
def test_a_picture_is_sharp_where_the_terminal_says_so(
    answers: dict[bytes, bytes], drawn: bytes, not_drawn: bytes
) -> None:
    written = answered(dict(answers))
    assert drawn in written and not_drawn not in written


@pytest.mark.parametrize("command", ["generate", "gallery"])
@pytest.mark.parametrize("desktop", [True, False])
def test_open(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, desktop: bool, command: str, tmp_path: Path
) -> None:
    """The viewer gets the picture's whole path; without a desktop (or the program) that is said, and no failure."""
    opened: list[list[str]] = []
    monkeypatch.setattr("vqclip.cli.viewer.subprocess.Popen", lambda words, **more: opened.append(words))
    monkeypatch.setattr("vqclip.cli.viewer.sys.platform", "linux")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.setenv("DISPLAY", ":0") if desktop else monkeypatch.delenv("DISPLAY", raising=False)
    Image.new("RGB", (8, 8)).save("b.png")
    words = (
        ("generate", "a cat", "-c", str(tiny.config), "--steps", "1", "-o", "a.png")
        if command == "generate"
        else ("gallery", ".")
    )
    done = run(*words, "--open")
    assert done.code == 0 and len(done.stdout.splitlines()) == 1
    made = Path(done.stdout.strip()).absolute()
    assert opened == ([["xdg-open", str(made)]] if desktop else [])
    assert ("there is no desktop here" in done.stderr) != desktop


def test_a_viewer_that_is_not_there_is_said(monkeypatch: pytest.MonkeyPatch, run: Command) -> None:
    monkeypatch.setenv("DISPLAY", ":0")
    monkeypatch.setenv("PATH", "")
    open_file(Console(), Path("a.png"))
    assert "'a.png' was not opened: xdg-open: No such file" in run.capsys.readouterr().err.replace("\n", " ")
