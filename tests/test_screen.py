"""Results while a bar is on the screen: they go where stdout goes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TinyModels
from faulty_server import Behaviour, serving
from PIL import Image
from tiny_vqgan import NARROW, weights, write_lightning

PULL = """
import sys
from dataclasses import replace
from vqclip.hub import vqgan_catalogue
from vqclip.hub.sources import WebFile
from vqclip.cli.app import main
entry = replace(vqgan_catalogue.VQGANS["vq-f4"], places=(WebFile(sys.argv.pop()),), sha256=None, exact=False)
vqgan_catalogue.VQGANS["vq-f4"] = entry
main()
"""


def on_a_terminal(command: list[str], **environment: str) -> tuple[str, str]:
    """Run a command whose stderr is a terminal and whose stdout is a file; return both."""
    pty = pytest.importorskip("pty")
    ours, theirs = pty.openpty()
    with Path("out.txt").open("w") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=theirs,
            env={**os.environ, "TERM": "xterm", **environment},
        )
    os.close(theirs)
    screen = b""
    try:
        while piece := os.read(ours, 65536):
            screen += piece
    except OSError:  # the end of a terminal, on Linux
        pass
    os.close(ours)
    assert process.wait() == 0, screen
    return Path("out.txt").read_text(), screen.decode()


def test_scores_go_to_stdout_while_a_bar_is_shown(tiny: TinyModels) -> None:
    """`vqclip score … > file` at a terminal left the file empty: the bar had taken the results."""
    Image.new("RGB", (16, 16)).save("a.png")
    command = [sys.executable, "-m", "vqclip", "score", "a.png", "-p", "a cat", "-m", str(tiny.clip), "--json"]
    out, screen = on_a_terminal(command)
    assert json.loads(out)["path"] == "a.png" and "looking" in screen


def test_paths_go_to_stdout_while_a_bar_is_shown(tmp_path: Path) -> None:
    content = write_lightning(tmp_path / "a.ckpt", weights(NARROW)).read_bytes()
    with serving({"/a": Behaviour(content)}) as server:
        command = [sys.executable, "-c", PULL, "models", "pull", "vq-f4", "--no-clip", server.url + "/a"]
        out, _ = on_a_terminal(command, HF_HUB_OFFLINE="0")
    assert out.strip().endswith("vq-f4.safetensors") and Path(out.strip()).is_file()
