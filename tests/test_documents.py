"""Documents that cannot go stale: what they say to type is understood, what they link to is there, what they show."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from command import Command
from PIL import Image
from typer import Context
from typer.main import get_command

from scripts.documents import REFERENCE, ROOT, ROW, reference
from vqclip import __version__
from vqclip.cli.app import app
from vqclip.cli.words import first_word
from vqclip.common.images import picture_size

README = ROOT / "README.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
ENDS = set("|&;()<>")
PROGRAM: Any = get_command(app)
NAMED = {
    f"{name} {inner}".strip() for name, each in PROGRAM.commands.items() for inner in getattr(each, "commands", {"": 0})
}
"""The commands by their names, as a text speaks of them without saying what to type."""


def typed(text: str) -> Iterator[str]:
    """The lines that a page says to type: in blocks of sh, and between backquotes."""
    for language, block in FENCE.findall(text):
        if language in ("sh", "ini", ""):
            yield from block.replace("\\\n", " ").splitlines()
    for span in re.findall(r"`([^`]+)`", FENCE.sub("", text)):
        yield span.replace("\\|", "|").replace("\n", " ")


def headers(text: str) -> Iterator[str]:
    """The commands in the comments that a config opens with."""
    return (line.lstrip("# ") for line in text.splitlines() if re.match(r"# +vqclip ", line))


def calls(line: str) -> Iterator[list[str]]:
    """The words behind each `vqclip` of a shell's line."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;()<>")
    lexer.whitespace_split = True
    found: list[str] | None = None
    for word in [*lexer, ";"]:
        if set(word) <= ENDS:
            if found:
                yield found
            found = None
        elif found is not None:
            found.append(word)
        elif word == "vqclip" or word.endswith("/vqclip"):
            found = []


COMMANDS = sorted(
    {
        (page.name, *call)
        for pages, lines in ((PAGES, typed), (CONFIGS, headers))
        for page in pages
        for line in lines(page.read_text("utf-8"))
        for call in calls(line)
    }
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def understand(words: list[str]) -> Context:
    """Read the words as the program does, up to where the command would begin.

    Raises:
        UsageError, TyperException: it is no command, or an option, number or value that the command does not take.
    """
    command = PROGRAM
    context, left = Context(command, info_name="vqclip"), first_word(words, command.commands)
    while hasattr(command, "commands"):
        name, *left = left
        command = command.commands[name]
        context = command.make_context(name, left, parent=context) if not hasattr(command, "commands") else context
    return context


def test_there_are_commands_to_look_at() -> None:
    assert len(COMMANDS) > 100
    assert {name for name, *_ in COMMANDS} >= {page.name for page in [*PAGES, *CONFIGS]} - {"commands.md", "python.md"}


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_what_the_documents_say_to_type_is_understood(words: tuple[str, ...]) -> None:
    if words[1].startswith("-"):
        options = {name for param in PROGRAM.params for name in param.opts}
        assert words[1] in options | {"--install-completion", "--help", "-h"}
    elif " ".join(words[1:]) not in NAMED and words[1:] != ("COMMAND", "-h"):
        understand(list(words[1:]))


def test_a_stale_command_would_be_found() -> None:
    for line in ("vqclip genrate a", "vqclip generate a --setps 3", "vqclip models fetch x", "vqclip batch"):
        with pytest.raises((Exception, SystemExit)):
            understand(next(iter(calls(line))))


@pytest.mark.parametrize(("name", "command"), ROW.findall(README.read_text("utf-8")))
def test_the_examples_with_pictures_are_planned(name: str, command: str, run: Command) -> None:
    for file in ("sailboat.png", "cat.png"):
        Image.new("RGB", (32, 32)).save(file)
    (Path("docs")).symlink_to(ROOT / "docs")
    done = run(*shlex.split(command)[1:], "--dry-run")
    assert done.code == 0, done.stderr
    with Image.open(ROOT / "docs" / "pictures" / f"{name}.webp") as picture:
        assert picture.height == 160


def test_the_reference_is_what_the_help_says() -> None:
    assert REFERENCE.read_text("utf-8") == reference(), "run python scripts/documents.py"


@pytest.mark.parametrize("page", PAGES, ids=[page.name for page in PAGES])
def test_what_a_page_links_to_is_there(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", page.read_text("utf-8"))):
        path, _, anchor = link.partition("#")
        if "://" in path:
            continue
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target.read_text("utf-8")), link


def anchors(text: str) -> set[str]:
    """What a heading is called in a link."""
    return {re.sub(r"[^\w\- ]", "", line).lower().replace(" ", "-") for line in re.findall(r"^#+ (.+)$", text, re.M)}


def test_readme_is_short_and_installs_with_two_commands() -> None:
    lines = README.read_text("utf-8").splitlines()
    assert len(lines) <= 150
    assert [line.startswith("pip install") for line in lines].count(True) == 2  # .ci/run runs them
    assert len(ROW.findall(README.read_text("utf-8"))) == 6


@pytest.mark.slow
def test_the_examples_in_python_run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    blocks = [block for language, block in FENCE.findall((ROOT / "docs" / "python.md").read_text("utf-8"))]
    names: dict[str, Any] = {}
    for block in blocks:
        exec(compile(block, "docs/python.md", "exec"), names)
    scores, told, nearness = capsys.readouterr().out.splitlines()[:3]
    assert len(blocks) == 3 and "embedded" in scores and told.startswith("3 steps")
    apple, dog = yaml.safe_load(nearness)[0]
    assert apple > dog
    assert picture_size("apple.png") == picture_size("through-the-codes.png")


def test_citation_names_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert (cited["version"], cited["license"]) == (__version__, "MIT")
    assert {"cff-version", "message", "title", "authors"} <= set(cited)
