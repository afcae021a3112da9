"""What a newcomer types first: a prompt without a command, words of other tools, prompts from a pipe."""

import io
import os
import re
import shlex
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


@pytest.mark.parametrize(
    "words", ["generate", "generate -q", "models", "models list", "models info", "search", "prompt explain"]
)
@pytest.mark.parametrize("option", ["--version", "-V"])
def test_every_command_tells_the_version(run: Command, words: str, option: str) -> None:
    done = run(*words.split(), option)
    assert (done.code, done.stdout) == (0, run("--version").stdout)


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


@pytest.mark.parametrize("behind", [[], ["-q"], ["a cat"]])
def test_a_video_needs_no_format(behind: list[str]) -> None:
    known = {**KNOWN, "--video": True, "-q": False}
    assert our_words(["--video", *behind], known, "vqclip generate") == ["--video", "gif", *behind]
    assert our_words(["--video", "mp4"], known, "vqclip generate") == ["--video", "mp4"]


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


COMMON = [
    ("genrate 'a cat'", 2, "did you mean 'generate'"),
    ("generate", 2, 'vqclip generate "a red apple"'),
    ("generate 'a cat' --size big", 2, "--size is 'big'"),
    ("generate 'a cat' --size 0x10", 2, "--size is '0x10'"),
    ("generate 'a cat' --steps many", 2, "'--steps': it must be a whole number"),
    ("generate 'a cat' --seed abc", 2, "give a number, 1,2,3, 1-4 or random"),
    ("generate 'a cat' -o cat.txt", 2, "neither a picture"),
    ("generate 'a cat' -o there.png", 6, "is there already"),
    ("generate 'a cat' --init-image gone.png", 2, "gone.png"),
    ("generate 'a cat' --init-image notes.txt", 2, "notes.txt"),
    ("generate 'a cat' --strength 0.5", 2, "add --init-image FILE"),
    ("generate 'a cat' -c imagenet-16384 --image-prompt there.png --strength 0.5", 2, "add --init-image FILE"),
    ("generate 'a cat' --drawer pixels --image-prompt there.png --strength 0.5", 2, "add --init-image FILE"),
    ("generate 'a cat' --image-prompt there.png --set init.kind=prior --strength 0.5", 2, "add --init-image FILE"),
    ("edit there.png 'a cat' --box 0,0,8,8 -c imagenet-16384 --strength 0.5", 2, "add --set init.kind=codes"),
    ("outpaint there.png --left 8 --set init.kind=image --strength 0.5", 2, "add --set init.kind=codes"),
    ("vary there.png --upscale none", 2, "--set output.upscale=none"),
    ("generate 'a cat' --init-image there.png --strength 2", 2, "--strength is 2"),
    ("generate 'a cat:1,5'", 2, "1,5"),
    ("generate 'a cat ||'", 2, "column"),
    ("generate 'a cat' --device gpu", 2, "gpu"),
    ("generate 'a cat' --set steps=3", 2, "unknown key 'steps'"),
    ("generate 'a cat' --set optimise.steps", 2, "is not key=value"),
    ("generate 'a cat' --set optimise.step=3", 2, "did you mean 'steps'"),
    ("generate 'a cat' --video avi", 2, "--video is 'avi'"),
    ("generate 'a cat' -c drat", 2, "did you mean 'draft'"),
    ("generate 'a cat' -c imagenet-16384", 3, "vqclip models pull imagenet-16384"),
    ("score gone.png -p 'a cat'", 2, "gone.png"),
    ("score there.png", 2, "--prompt"),
    ("search nowhere 'a cat'", 2, "not a folder"),
    ("search .", 2, "Say what to look for"),
    ("'my prompts.txt'", 2, "vqclip batch 'my prompts.txt' -o pictures/"),
    ("search 'a cat' .", 2, "The folder stands before the query: vqclip search . 'a cat'"),
    ("models remove nope", 2, "there is none yet"),
    ("info there.png", 2, "carries no vqclip metadata"),
    ("resume nope", 2, "nope"),
    ("rerun gone.png", 2, "gone.png"),
    ("batch gone.txt -o out/", 2, "gone.txt"),
    ("models pull imagnet-16384", 2, "did you mean 'imagenet-16384'"),
    ("config show drat", 2, "did you mean 'draft'"),
    ("reconstruct gone.png", 2, "gone.png"),
    ("upscale there.png -m x9", 2, "x9"),
    ("search . 'a cat' --min-score nan", 2, "--min-score is nan; it must be between -1 and 1"),
    ("search . 'a cat' --min-score 1.5", 2, "--min-score is 1.5"),
    ("reconstruct there.png --size 16:9", 2, "it must be WIDTHxHEIGHT in pixels, or one number for both, e.g. 256x256"),
    ("interpolate 'a cat' dgo.gif", 2, "Cannot read the image 'dgo.gif'"),
    (
        "resume there.png",
        2,
        "'there.png' is a picture, finished or not of vqclip, and nothing",
    ),
    (
        "resume there.png --steps 9",
        2,
        "'there.png' is a picture, finished or not of vqclip, and nothing",
    ),
    ("generate 'a cat' --threads 0", 2, "'--threads': it must be greater than or equal to 1"),
    ("score there.png -p 'a cat' --threads 0", 2, "'--threads': it must be greater than or equal to 1"),
    ("upscale there.png --threads 5000", 2, "'--threads': it must be less than or equal to 4096"),
    ("embed 'a cat' -o v.safetensors --threads -1", 2, "'--threads': it must be greater than or equal to 1"),
]


@pytest.mark.parametrize(("line", "code", "said"), COMMON, ids=[line for line, _, _ in COMMON])
def test_common_mistakes_get_a_sentence(run: Command, line: str, code: int, said: str) -> None:
    Image.new("RGB", (16, 16)).save("there.png")
    for name in ("notes.txt", "my prompts.txt"):
        Path(name).write_text("hello")
    done = run(*shlex.split(line))
    assert (done.code, done.stdout) == (code, ""), done.stderr
    sentences = [text for text in done.stderr.splitlines() if text.startswith("Error: ")]
    assert said in sentences[0] and "Traceback" not in done.stderr
    assert len(sentences) == 1 + line.startswith("score gone")  # each bad file, and how many there were


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


def test_a_pipe_is_left_alone_where_a_way_is_given(tiny: TinyModels) -> None:
    """In a loop such as `while read …` standard input is the list of what comes next."""
    words = ["-c", str(tiny.config), "--set", "targets.path=[a cat, a dog]", "--set", "targets.frames=2", "--dry-run"]
    command = [sys.executable, "-m", "vqclip", "generate", *words, "-q"]
    shown = subprocess.run(command, input=b"a tree\n", capture_output=True, check=True, env=os.environ)
    assert yaml.safe_load(shown.stdout)["prompts"] == []


def test_a_file_is_no_prompt(run: Command) -> None:
    Path("prompts.txt").write_text("a cat\n")
    for name in ("photo.png", "photo.gif"):
        Image.new("RGB", (4, 4)).save(name)
    for word, said in {
        "prompts.txt": "vqclip batch prompts.txt",
        "photo.png": "--init-image photo.png",
        "photo.gif": "--init-image photo.gif",
    }.items():
        done = run(word)
        assert done.code == 2 and said in done.stderr
