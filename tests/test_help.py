"""Help that cannot go stale: every command has a whole summary, an example that its own options allow, and defaults."""

import json
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest
from command import Command
from conftest import TinyModels
from typer.main import get_command

from vqclip.cli.app import app
from vqclip.cli.command import EXAMPLE, GROUPS
from vqclip.config.loader import load_config
from vqclip.hub.store_index import store_dir


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def commands() -> Iterator[tuple[str, object]]:
    """Every command with its words."""
    for name, command in get_command(app).commands.items():  # type: ignore[attr-defined]
        for inner, below in getattr(command, "commands", {"": command}).items():
            yield f"{name} {inner}".strip(), below


@pytest.mark.parametrize(("words", "command"), list(commands()), ids=[words for words, _ in commands()])
def test_an_example_that_the_command_understands(words: str, command: object) -> None:
    first = str(command.help).splitlines()[0]  # type: ignore[attr-defined]
    assert EXAMPLE in first
    example = shlex.split(first.partition(EXAMPLE)[2])
    assert " ".join(example).startswith(words)
    known = {name for param in command.params for name in param.opts}  # type: ignore[attr-defined]
    assert {word for word in example if word.startswith("-")} <= known


def test_summaries_are_whole(run: Command) -> None:
    for group in ((), ("models",), ("config",)):
        assert "..." not in run(*group, "-h").stdout.partition("Commands:")[2]


def test_the_help_of_generate(run: Command) -> None:
    shown = " ".join(run("generate", "-h").stdout.split())
    assert "generate [OPTIONS] [PROMPT]..." in shown and 'Example: vqclip generate "a red apple"' in shown
    config = load_config()
    for default in (config.size, str(config.optimise.steps), str(config.count), "random", config.runtime.device):
        assert f"[default: {default}]" in shown
    assert all(f"{heading}:" in shown for heading in GROUPS)


def test_the_groups_name_options_that_there_are() -> None:
    known = {param.name for _, command in commands() for param in command.params}  # type: ignore[attr-defined]
    assert {name for names in GROUPS.values() for name in names} - {"help"} <= known


@pytest.mark.parametrize("option", ["-m", "--model", "--perceptor"])
def test_the_model_that_looks_has_its_old_name_too(run: Command, option: str) -> None:
    for words in (("score", "a.png", "-p", "a cat"), ("classify", "a.png", "-l", "cat,dog"), ("search", ".", "a cat")):
        done = run(*words, option, "nowhere")
        assert done.code in (2, 3) and "nowhere" in done.stderr + words[1] and "No such option" not in done.stderr


def test_info_says_first_what_a_person_wants_to_know(run: Command, tiny: TinyModels) -> None:
    run("generate", "-c", str(tiny.config), "a cat", "--seed", "7", "-o", "my cat.png", "--steps", "2")
    lines = run("info", "my cat.png").stdout.splitlines()
    found = {line.split()[0]: line.split(maxsplit=1)[1] for line in lines}
    facts = json.loads(run("info", "my cat.png", "--json").stdout)
    assert (found["prompt"], found["seed"], found["size"], found["steps"]) == ("a cat", "7", "16x16", "2")
    assert all(f"{score:.3f}" in found["score"] for score in facts["scores"].values()) and facts["models"]["vqgan"]
    assert list(found) == ["prompt", "seed", "size", "steps", "score", "models", "again"]
    again = shlex.split(found["again"])[1:]
    assert run(*again, "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path("my cat.png").read_bytes()
    assert "config:" in run("info", "my cat.png", "-v").stdout
    said = run("info", "-h").stdout
    assert "All that is stored." in said and "stderr" not in said


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("generate -c imagenet-1", {"imagenet-1024", "imagenet-16384"}),
        ("generate --device c", {"cpu", "cuda", "cuda:0"}),
        ("generate --set cutouts.", {"cutouts.recipe=", "cutouts.count=", "cutouts.micro_batch="}),
        ("generate --set cutouts.recipe=cr", {"cutouts.recipe=crowson"}),
        ("generate --set losses.t", {"losses.tv="}),
        ("score --model emb", {"embedded"}),
        ("models info gumbel", {"gumbel-f8"}),
        ("models info realesrgan-", {"realesrgan-x2plus", "realesrgan-x4plus", "realesrgan-x4plus-anime"}),
        ("models info mi", {"mine"}),
    ],
)
def test_a_shell_completes_values(
    run: Command, monkeypatch: pytest.MonkeyPatch, words: str, expected: set[str]
) -> None:
    (store_dir() / "mine.safetensors").parent.mkdir(parents=True)
    (store_dir() / "mine.safetensors").write_bytes(b"")
    monkeypatch.setenv("_VQCLIP_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"vqclip {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    assert set(run().stdout.split()) == expected


def test_an_output_is_said_to_be_what_the_command_takes(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    shown = {command: run(command, "-h").stdout for command in ("generate", "rerun", "upscale", "reconstruct")}
    assert [command for command, text in shown.items() if "for stdout" in text] == ["generate"]
    assert [command for command, text in shown.items() if "{seed}" in text] == ["generate", "rerun"]


@pytest.mark.parametrize(
    "words",
    [
        ("gallery", ""),
        ("score", "", "-p", "cat"),
        ("search", "", "a cat"),
        ("generate", "a cat", "-o", ""),
        ("upscale", "a.png", "--output="),
        ("batch", "jobs.txt", "-o", ""),
        ("edit", "a.png", "a hat", "--mask", ""),
    ],
)
def test_an_empty_word_is_no_place(run: Command, words: tuple[str, ...]) -> None:
    """A script's unset variable names no folder, and surely not the one it runs in."""
    done = run(*words)
    assert done.code == 2 and "is empty; name a file or folder" in done.stderr
    assert list(Path.cwd().iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("classify", "a.png", "-l", ""), "--label is empty; give LABEL,LABEL or @FILE."),
        (("embed", "", "-o", "v.safetensors"), "TEXT|IMAGE is empty; give TEXT or IMAGE."),
        (("generate", "a cat", "-c", ""), "--config is empty; give NAME or FILE or -, or leave it out."),
        (("generate", "a cat", "-o", ""), "--output is empty; name a file or folder, or leave it out."),
        (("gallery", ""), "DIR is empty; name a file or folder."),
    ],
)
def test_an_empty_word_is_answered_with_what_fits(run: Command, words: tuple[str, ...], said: str) -> None:
    assert run(*words).stderr == f"Error: {said}\n"
