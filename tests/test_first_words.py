"""What a newcomer types first: a prompt without a command, words of other tools, prompts from a pipe."""

import io
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from command import Command
from conftest import TinyModels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vqclip.cli.app import app
from vqclip.cli.words import ASKED, FIRST, OTHERWISE, PROMPT, SAME, first_word, our_words

KNOWN = {
    "--config": True,
    "-c": True,
    "--count": True,
    "--size": True,
    "--output": True,
    "--quiet": False,
    PROMPT: True,
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def plan(run: Command, tiny: TinyModels, *words: str) -> dict[str, object]:
    """The settings that a command line comes to."""
    shown = run(*words, "-c", str(tiny.config), "--dry-run")
    assert shown.code == 0, shown.stderr
    found: dict[str, object] = yaml.safe_load(shown.stdout)
    return found


def test_alone_it_shows_its_help_on_stdout(run: Command) -> None:
    for words in ((), ("help",), ("models",), ("config",)):
        shown = run(*words)
        assert (shown.code, shown.stderr) == (0, "") and shown.stdout.startswith("Usage: vqclip")
    assert run("help", "score").stdout == run("score", "--help").stdout


def test_a_first_word_that_is_no_command_is_a_prompt(run: Command, tiny: TinyModels) -> None:
    for words in (("a cat",), ("cat",), ("gen", "a cat"), ("horse", "--steps", "2")):
        assert plan(run, tiny, *words)["prompts"] == [words[-1] if words[0] == "gen" else words[0]]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("generat", "a cat"), "did you mean 'generate'"),
        (("sampel", "a cat"), "did you mean 'sample'"),
        (("list",), "vqclip models list"),
        (("img2img",), "--init-image"),
        (("--seed", "3", "a cat"), "--seed"),
    ],
)
def test_a_mistyped_command_is_no_prompt(run: Command, words: tuple[str, ...], said: str) -> None:
    done = run(*words)
    assert (done.code, done.stdout) == (2, "") and said in done.stderr


def test_versions(run: Command) -> None:
    assert run("version").stdout == run("-V").stdout == run("--version").stdout != ""


@settings(deadline=None)
@given(st.lists(st.text(min_size=1), min_size=1))
def test_a_command_is_never_taken_for_another_word(rest: list[str]) -> None:
    for command in ("generate", "batch", "models"):
        assert first_word([command, *rest], {"generate", "batch", "models"}) == [command, *rest]


@pytest.mark.parametrize(
    ("theirs", "ours"),
    [
        (["-p", "a cat"], ["--", "a cat"]),
        (["--prompt=-5 degrees", "-q"], ["-q", "--", "-5 degrees"]),
        (["--model", "best", "a cat"], ["--config", "best", "a cat"]),
        (["-n", "3"], ["--count", "3"]),
        (["--num_images=3"], ["--count", "3"]),
        (["--width", "64", "a cat", "-H", "32"], ["a cat", "--size", "64x32"]),
        (["-o", "--width", "--", "--width", "3"], ["-o", "--width", "--", "--width", "3"]),
    ],
)
def test_words_of_other_tools(theirs: list[str], ours: list[str]) -> None:
    assert our_words(theirs, {**KNOWN, "-o": True, "-q": False}, "vqclip generate") == ours


def test_a_home_is_opened_where_no_shell_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/anna")
    words = ["-c", "~/a.yaml", "--output=~/b.png", "~/c", "~ a cat ~"]
    home = ["-c", "/home/anna/a.yaml", "--output", "/home/anna/b.png", "/home/anna/c", "~ a cat ~"]
    assert our_words(words, KNOWN, "vqclip generate") == home


MISTAKES = {
    "--negative-prompt": (["--negative-prompt", "fog"], "fog:-0.5"),
    "-s": (["-s", "3"], "--steps, --seed or --size"),
    "--iterations": (["--iterations", "3"], "--steps (updates of a picture) or --count"),
    "--cfg-scale": (["--cfg-scale", "7"], "prior.guidance"),
    "--gpu": (["--gpu"], "--device cuda"),
    "--grid": (["--grid"], "vqclip gallery"),
    "one side": (["--width", "64"], "--height"),
    "no value": (["--prompt"], "needs a value"),
    "mistyped": (["--sed", "3"], "did you mean --seed"),
    "mistyped word of another tool": (["--modle", "best"], "did you mean --model"),
    "like nothing": (["--zzz", "3"], "No such option: --zzz."),
    "unknown model": (["--model", "imagnet"], "Unknown config 'imagnet'"),
}


@pytest.mark.parametrize(("words", "said"), MISTAKES.values(), ids=MISTAKES.keys())
def test_mistakes_get_our_word(run: Command, words: list[str], said: str) -> None:
    done = run("generate", "a cat", *words)
    assert (done.code, done.stdout, done.stderr.count("Error: ")) == (2, "", 1) and said in done.stderr


def test_the_tables_hold_no_word_of_our_own() -> None:
    """What a table gives exists, and what it takes is no option or command that is meant otherwise."""
    from typer.main import get_command

    commands = get_command(app).commands  # type: ignore[attr-defined]
    options = {name for command in commands.values() for param in command.params for name in param.opts}
    assert set(SAME.values()) - {PROMPT} <= options
    assert {option for option, _ in OTHERWISE.values()} <= options
    assert not set(commands) & {*FIRST, *ASKED}
    spoken = "; ".join([*ASKED.values(), *(sentence for _, sentence in OTHERWISE.values())])
    assert set(re.findall(r"vqclip ([a-z]+)", spoken)) <= set(commands)


def test_several_bare_words_get_a_note(run: Command, tiny: TinyModels) -> None:
    note = "2 prompts: a, cat; put quotes around one"
    words = ("-c", str(tiny.config), "--dry-run")
    assert note in run("generate", "a", "cat", *words).stderr
    assert "put quotes" not in run("generate", "a cat", "a dog", *words).stderr


def test_prompts_from_a_pipe(run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    lines = b"a cat\n\n# not this\n a dog \r\n"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(lines)))
    assert plan(run, tiny, "generate", "-", "a tree")["prompts"] == ["a cat", "a dog", "a tree"]
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    assert "holds no prompt" in run("generate", "-").stderr
    assert "both" in run("generate", "-", "-c", "-").stderr


def test_a_pipe_is_read_where_no_prompt_is_given(tiny: TinyModels) -> None:
    words = [sys.executable, "-m", "vqclip", "generate", "-c", str(tiny.config), "--dry-run", "-q"]
    shown = subprocess.run(words, input=b"a cat\na dog\n", capture_output=True, check=True, env=os.environ)
    assert yaml.safe_load(shown.stdout)["prompts"] == ["a cat", "a dog"]


def test_a_file_is_no_prompt(run: Command) -> None:
    Path("prompts.txt").write_text("a cat\n")
    Image.new("RGB", (4, 4)).save("photo.png")
    for word, said in {
        "prompts.txt": "vqclip batch prompts.txt",
        "@prompts.txt": "vqclip batch prompts.txt",
        "photo.png": "--init-image photo.png",
    }.items():
        done = run(word)
        assert done.code == 2 and said in done.stderr
