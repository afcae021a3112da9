"""Every command line of README, docs and config headers is run: in a folder that has what they name, by small models,
with downloads from a server of this machine; what draws is planned with --dry-run, as far as drawing itself goes."""

import hashlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from command import Command
from conftest import TINY_SIZES, TinyModels
from faulty_server import Behaviour, serving
from PIL import Image
from published import WEIGHTS, publish, published_on_hub
from test_documents import COMMANDS, NAMED
from tiny_upscaler import save_published
from tiny_vqgan import NARROW, weights, write_lightning, write_yaml

from scripts.documents import ROOT
from vqclip.cli.words import first_word
from vqclip.config.loader import load_config
from vqclip.hub.clip_catalogue import ROBUST
from vqclip.hub.clip_files import CONFIG
from vqclip.hub.sources import WebFile
from vqclip.hub.upscaler_catalogue import UPSCALERS

PICTURES = ("photo.jpg", "photo.png", "sketch.jpg", "holiday.jpg", "saddle.png", "a.png", "cat.png", "dog.png")
ELSEWHERE = {"…", "FILE", "NAME", "COMMAND", "ray", "cuda:1", "--install-completion"}
"""Words of lines that are forms to fill in, or need other machines or the person's own shell."""

DRAWING = ("generate", "sample", "edit", "outpaint", "vary", "interpolate")

BEFORE = {
    "vqgan.name=flowers": ("models", "convert", "last.ckpt", "--name", "flowers"),
    "@vector:winter.safetensors": ("embed", "a winter day", "--minus", "a summer day", "-o", "winter.safetensors"),
}
"""What a page says to type before a line that holds this."""

LINES = sorted(  # CONTRIBUTING.md's are run by tests/test_contributing.py
    {
        words
        for page, *words_ in COMMANDS
        if page != "CONTRIBUTING.md"
        and (words := tuple(words_))
        and not ELSEWHERE & set(words)
        and " ".join(words) not in NAMED
    }
)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture(scope="module")
def named(tiny: TinyModels, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what the documents name: pictures, job files, a checkpoint, and a run that vqclip made."""
    home = tmp_path_factory.mktemp("named")
    for name in PICTURES:
        Image.new("RGB", (48, 32), "orange").save(home / name)
    Image.new("L", (48, 32)).save(home / "mask.png")
    (home / "docs").symlink_to(ROOT / "docs")
    (home / "prompts.txt").write_text("a cat\na dog\n")
    (home / "jobs.jsonl").write_text('{"prompt": "a cat", "seed": 3}\n')
    (home / "run.yaml").write_text("prompts: [a cat]\n")
    (home / "old.yaml").write_text("prompts: a cat\n")
    write_lightning(home / "last.ckpt", weights(NARROW))
    write_yaml(home / "model.yaml", NARROW)
    drawing = [sys.executable, "-m", "vqclip", "a cat", "-c", str(tiny.config), "--steps", "1", "-q"]
    subprocess.run(drawing, cwd=home, check=True, stdout=subprocess.DEVNULL)
    for name in ("picture.png", "sailboat.png", "pictures/a.png", "photos/sea.png"):
        (home / name).parent.mkdir(exist_ok=True)
        shutil.copy(home / "outputs" / "latest" / "image.png", home / name)
    return home


@pytest.fixture
def published(tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The models that the documents pull, small."""
    content = write_lightning(tmp_path / "last.ckpt", weights(TINY_SIZES)).read_bytes()
    specs = {guide.name for name in ("imagenet-16384", "imagenet") for guide in load_config([name]).guides}
    paths = {path: each for spec in specs for path, each in published_on_hub(WEIGHTS, spec=spec).items()}
    architecture = (tiny.clip / CONFIG).read_bytes()
    paths |= published_on_hub(architecture, spec=ROBUST, file=CONFIG, cdn="/architecture")
    enlarging = save_published(tmp_path / "published.pth").read_bytes()
    with serving({"/vqgan": Behaviour(content), "/upscaler": Behaviour(enlarging), **paths}) as server:
        publish(monkeypatch, content, imagenet_16384=server.url + "/vqgan")
        facts = {"size": len(enlarging), "sha256": hashlib.sha256(enlarging).hexdigest()}
        entry = replace(UPSCALERS["realesr-general-x4v3"], place=WebFile(server.url + "/upscaler"), **facts)
        monkeypatch.setitem(UPSCALERS, "realesr-general-x4v3", entry)  # type: ignore[arg-type]
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        monkeypatch.delenv("HF_HUB_OFFLINE")
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.environ["HF_HUB_CACHE"])
        yield


def planned(words: tuple[str, ...], tiny: TinyModels) -> list[str]:
    return [*words, *([] if "--dry-run" in words else ["--dry-run"])]


def with_small(*added: str) -> Callable[[tuple[str, ...], TinyModels], list[str]]:
    """The line with small models in place of those that come with vqclip."""
    places = {"CONFIG": "config", "CLIP": "clip"}
    return lambda words, tiny: [
        *words,
        *(str(getattr(tiny, places[word])) if word in places else word for word in added),
    ]


RUN: dict[str, Callable[[tuple[str, ...], TinyModels], list[str]]] = {
    **dict.fromkeys(DRAWING, planned),
    "batch": with_small("-c", "CONFIG"),
    "reconstruct": with_small("-c", "CONFIG"),
    "evaluate": with_small("-c", "CONFIG", "--first", "2"),
    **dict.fromkeys(("score", "classify", "search"), with_small("-m", "CLIP")),
}
"""How a line of each command is run; all others as they are."""


@pytest.mark.slow
@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_what_the_documents_say_to_type_runs(
    words: tuple[str, ...],
    run: Command,
    tiny: TinyModels,
    named: Path,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    shutil.copytree(named, ".", symlinks=True, dirs_exist_ok=True)
    if {"pull", "--pull"} & set(words):
        request.getfixturevalue("published")
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"a cat\n")))
    words = tuple(word.replace("$SLURM_ARRAY_TASK_ID", "1") for word in words)
    for before in (line for held, line in BEFORE.items() if held in " ".join(words)):
        assert run(*before).code == 0
    if words[0] not in RUN and not words[0].startswith("-"):
        words = tuple(first_word(words, {name.partition(" ")[0] for name in NAMED}))
    done = run(*RUN.get(words[0], lambda given, tiny: list(given))(words, tiny))
    assert done.code == 0, done.stderr


def test_most_lines_are_run() -> None:
    assert len(LINES) > 130
