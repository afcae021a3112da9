"""What is printed: every stream can take it, no terminal obeys it, and a reader that goes away is no failure."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from conftest import TinyModels
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vqclip.cli.app import main
from vqclip.cli.console import CONTROLS, Console, visible
from vqclip.cli.interrupts import PATIENCE
from vqclip.cli.progress import Bar
from vqclip.common.errors import Interrupted, UsageError

ESCAPE = "\x1b]0;owned\x07\x9b31m"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def vqclip(*words: str, **more: object) -> "subprocess.CompletedProcess[bytes]":
    """The command as a process of its own."""
    return subprocess.run([sys.executable, "-m", "vqclip", *words], check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.fixture
def gone(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.TextIOWrapper]:
    """A standard output whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    stream = io.TextIOWrapper(os.fdopen(writer, "wb"), "utf-8")
    monkeypatch.setattr(sys, "stdout", stream)
    yield stream
    stream.close()


@pytest.mark.parametrize(
    ("environment", "draws"),
    [
        ({"TERM": "xterm-256color"}, True),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, False),
        ({"TERM": "dumb"}, False),
        ({"TERM": "xterm-256color", "TTY_COMPATIBLE": "0"}, False),
    ],
)
def test_pictures_are_for_terminals_with_colours(
    environment: dict[str, str], draws: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "COLORTERM"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"TTY_COMPATIBLE": "1", **environment}.items():
        monkeypatch.setenv(name, value)
    assert not Console().interactive, "a file is no terminal, whatever the environment says of colours"
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    console = Console()
    assert console.draws == draws and not Console(quiet=True).draws
    bar = Bar(console, 0, 1, True)
    bar.stop(None)
    assert bar.preview == draws


LINES = [
    ["--help"],
    ["--version"],
    ["models", "list"],
    ["models", "list", "--json"],
    ["config", "list"],
    ["config", "show"],
    ["config", "validate", "default", "draft"],
    ["doctor"],
    ["info", "a.png"],
    ["generate", "a cat", "a dog", "-c", "TINY", "-o", "two/"],
    ["generate", "a cat", "-c", "TINY", "--dry-run"],
    ["score", "a.png", "a.png", "-p", "x", "-p", "y", "-m", "CLIP"],
    ["classify", "a.png", "a.png", "-l", "x,y", "-m", "CLIP"],
    ["search", ".", "a cat", "-m", "CLIP"],
    ["reconstruct", "a.png", "-c", "TINY", "-o", "r/"],
    ["gallery", "."],
    ["batch", "jobs.txt", "-o", "out", "-c", "TINY"],
]


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_a_reader_that_went_away_is_no_failure(
    words: list[str],
    run: Command,
    tiny: TinyModels,
    gone: io.TextIOWrapper,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    stdout = sys.stdout
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)
    assert run("generate", "a cat", "-c", str(tiny.config), "-o", "a.png").code == 0
    monkeypatch.setattr(sys, "stdout", stdout)
    Path("jobs.txt").write_text("a cat\na dog\n")
    places = {"TINY": str(tiny.config), "CLIP": str(tiny.clip)}
    monkeypatch.setattr(sys, "argv", ["vqclip", *(places.get(word, word) for word in words)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 0


@pytest.mark.parametrize("words", [["models", "list"], ["config", "list"], ["--help"]], ids=" ".join)
def test_the_command_ends_with_0_and_in_silence_when_its_reader_has_gone(words: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    done = vqclip(*words, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_picture_is_made_though_nobody_reads_the_messages(tiny: TinyModels) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    words = ["generate", "a cat", "-c", str(tiny.config), "--steps", "1", "-o", "a.png"]
    done = vqclip(*words, stdout=subprocess.PIPE, stderr=writer)
    assert (done.returncode, done.stdout) == (0, b"a.png\n") and Path("a.png").is_file()
    assert vqclip("info", "gone.png", stderr=writer).returncode == 2
    os.close(writer)


def test_colours_that_are_forced_make_no_bar_in_a_file(tiny: TinyModels) -> None:
    words = ["generate", "a cat", "-c", str(tiny.config), "--steps", "1", "-o", "a.png"]
    done = vqclip(*words, env={**os.environ, "FORCE_COLOR": "1"}, capture_output=True)
    assert done.returncode == 0 and "━" not in done.stderr.decode() and b"\x1b[?25l" not in done.stderr


@pytest.mark.parametrize(
    ("error", "code"),
    [(UsageError("so"), 2), (Interrupted("so", signal.SIGINT), 130), (ZeroDivisionError("so"), 1)],
    ids=repr,
)
def test_a_traceback_changes_neither_code_nor_events(
    error: BaseException, code: int, run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr("vqclip.cli.config.available_configs", fail)
    plain = run("config", "list", "--json")
    monkeypatch.setenv("VQCLIP_DEBUG", "1")
    done = run("config", "list", "--json")
    assert (done.code, done.stdout) == (plain.code, plain.stdout) and done.code == code
    assert json.loads(done.stdout)["event"] == "error"
    assert "Traceback" not in plain.stderr and done.stderr.startswith("Traceback") and plain.stderr in done.stderr


@pytest.mark.parametrize("stuck", ["time.sleep(60)", "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"])
def test_a_terminal_has_its_cursor_again_when_the_command_ends_at_once(stuck: str) -> None:
    """By a second signal, and by what hears none."""
    pty = pytest.importorskip("pty")
    program = (
        "import contextlib, hashlib, sys, time\n"
        "from vqclip.cli.interrupts import Interrupts\n"
        "with Interrupts():\n"
        "    while True:\n"
        "        with contextlib.suppress(Exception):\n"
        "            print('stuck', flush=True)\n"
        f"            {stuck}\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=theirs) as process:
        assert process.stdout and process.stdout.readline() == b"stuck\n"
        process.send_signal(signal.SIGINT)
        if "sleep" in stuck:
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
        assert process.wait(timeout=30) == 130
    assert b"\x1b[?25h" in os.read(ours, 1000)
    os.close(ours)
    os.close(theirs)


class FullDisk(io.StringIO):
    def flush(self) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_behind_standard_output_is_said(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdout", FullDisk())
    done = run("config", "list")
    assert done.code == 6 and "Cannot write to standard output: No space left" in done.stderr


def test_a_standard_output_that_is_closed_is_none() -> None:
    done = subprocess.run(["sh", "-c", f"{sys.executable} -m vqclip config list >&-"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_result_is_shown_in_an_encoding_that_lacks_its_letters(tiny: TinyModels) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "cp1252:strict"}
    words = ["generate", "🍎 日本", "-c", str(tiny.config), "--steps", "1", "-o", "🍎.png", "--json", "-v"]
    done = vqclip(*words, env=environment, capture_output=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["prompt"] == "🍎 日本"


@pytest.mark.parametrize("encoding", ["cp1252", "ascii", "utf-8"])
def test_a_batch_is_shown_in_any_encoding(
    encoding: str, run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("jobs.txt").write_text("🍎\n日本\n", "utf-8")
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding))
    done = run("batch", "jobs.txt", "-o", "bätch🍎", "-c", str(tiny.config), "--steps", "1")
    assert done.code == 0, done.stderr
    assert len(raw.getvalue().splitlines()) == 2 and Path("bätch🍎/index.html").is_file()


@pytest.mark.parametrize(
    "words",
    [
        ["score", "NAME", "-p", ESCAPE, "-m", "CLIP"],
        ["score", "gone" + ESCAPE, "-p", "x"],
        ["classify", "NAME", "-l", ESCAPE, "-l", "b", "-m", "CLIP"],
        ["search", ".", ESCAPE, "-m", "CLIP"],
        ["generate", ESCAPE, "-c", "TINY", "-v"],
        ["generate", "a cat", "-c", ESCAPE],
        ["generate", "a cat", "-c", "TINY", "--dry-run", "-o", ESCAPE + "/"],
        ["generate", "a cat", "--set", f"optimise.{ESCAPE}=1"],
        ["config", "show", ESCAPE],
        ["models", "info", ESCAPE],
        ["models", "path", ESCAPE],
        ["info", "NAME"],
        ["rerun", ESCAPE],
        ["resume", ESCAPE],
        ["gallery", ESCAPE],
        ["batch", ESCAPE, "-o", "out"],
        ["evaluate", ESCAPE],
        [ESCAPE],
        ["generate", "--" + ESCAPE],
    ],
    ids=lambda words: " ".join(words).encode("unicode_escape").decode(),
)
@pytest.mark.parametrize("as_json", [False, True])
def test_what_is_not_ours_cannot_steer_the_terminal(
    words: list[str], as_json: bool, run: Command, tiny: TinyModels
) -> None:
    name = f"a{ESCAPE.replace('/', '')}.png"
    Image.new("RGB", (20, 20), "red").save(name)
    places = {"TINY": str(tiny.config), "CLIP": str(tiny.clip), "NAME": name}
    done = run(*(places.get(word, word) for word in words), *(["--json"] if as_json and words[0] != ESCAPE else []))
    written = done.stdout + done.stderr
    assert not CONTROLS.search(written) and "has a bug" not in written
    assert done.code in (0, 2, 3)


@given(st.text(), st.text())
def test_what_is_shown_holds_no_control_and_json_loses_nothing(line: str, value: str) -> None:
    shown = io.TextIOWrapper(raw := io.BytesIO(), "utf-8", errors="backslashreplace")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", shown)
        Console().result(line, {})
        Console(as_json=True).result("", {"value": value})
    first, second, end = raw.getvalue().split(b"\n")
    assert not CONTROLS.search(first.decode()) and not CONTROLS.search(second.decode()) and not end
    assert json.loads(second) == {"value": value} and visible("plain\ttext\n") == "plain\ttext\n"


@pytest.mark.slow
@pytest.mark.parametrize("stuck", ["time.sleep(60)", "hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)"])
def test_a_reader_that_never_returns_does_not_hold_the_command(stuck: str) -> None:
    """SIGTERM ends it: while a thread hangs that the interpreter waits for, and inside a library that hears nothing."""
    program = (
        "import hashlib, threading, time, sys\n"
        "from vqclip import __main__ as entry\n"
        "import vqclip.tools.gallery as gallery\n"
        "def hang(*_, **__):\n"
        "    threading.Thread(target=time.sleep, args=(60,)).start()\n"
        "    print('stuck', flush=True)\n"
        f"    {stuck}\n"
        "gallery.write_gallery = hang\n"
        "sys.argv = ['vqclip', 'gallery', '.']\n"
        "entry.main()\n"
    )
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout and process.stderr
        assert process.stdout.readline() == b"stuck\n"
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        assert process.wait(timeout=30) == 143
        assert time.monotonic() - began < 30 > PATIENCE
        assert b"Stopped" in process.stderr.read()
