"""Names that can be no file's, wherever the command line takes one: one sentence, the contract's code, no bug."""

import os
from pathlib import Path

import pytest
from command import Command
from conftest import TinyModels
from PIL import Image

NAMES = {
    "300 letters and an ending": "n" * 300 + ".png",
    "not UTF-8": os.fsdecode(b"caf\xe9"),
    "many parts": "x/" * 3000 + "x.png",
    "below a file": "page.html/x.png",
    "a circle": "circle/x.png",
}

PLACES = {
    "generate -o": ("generate", "-c", "TINY", "a", "--steps", "1", "-o", "NAME"),
    "generate -c": ("generate", "a", "-c", "NAME"),
    "generate --init-image": ("generate", "-c", "TINY", "a", "--init-image", "NAME"),
    "generate --image-prompt": ("generate", "-c", "TINY", "a", "--image-prompt", "NAME"),
    "vqgan.file": ("generate", "-c", "TINY", "a", "--set", "vqgan.file=NAME"),
    "vqgan.config": ("generate", "-c", "TINY", "a", "--set", "vqgan.config=NAME"),
    "vqgan.name": ("generate", "a", "--set", "vqgan.name=NAME"),
    "prior.name": ("sample", "a", "--set", "prior.name=NAME"),
    "perceptors": ("generate", "-c", "TINY", "a", "--set", "perceptors=[NAME]"),
    "perceptor's file": ("generate", "-c", "TINY", "a", "--set", 'perceptors=["ViT-B-32:NAME"]'),
    "reconstruct": ("reconstruct", "NAME", "-c", "TINY"),
    "upscale": ("upscale", "NAME", "-m", "realesr-general-x4v3"),
    "upscale -m": ("upscale", "a.png", "-m", "NAME"),
    "upscale -o": ("upscale", "a.png", "-m", "TINY", "-o", "NAME"),
    "generate --upscale": ("generate", "a", "-c", "TINY", "--upscale", "NAME"),
    "score": ("score", "NAME", "-p", "a", "-m", "CLIP"),
    "score -m": ("score", "a.png", "-p", "a", "-m", "NAME"),
    "classify -l": ("classify", "a.png", "-l", "@NAME", "-m", "CLIP"),
    "search": ("search", "NAME", "a", "-m", "CLIP"),
    "search --grid": ("search", ".", "a", "--grid", "NAME", "-m", "CLIP"),
    "search --forget": ("search", "NAME", "--forget"),
    "resume": ("resume", "NAME"),
    "rerun": ("rerun", "NAME"),
    "info": ("info", "NAME"),
    "batch": ("batch", "NAME", "-o", "out"),
    "batch -o": ("batch", "jobs.txt", "-o", "NAME", "-c", "TINY", "--dry-run"),
    "gallery": ("gallery", "NAME"),
    "evaluate": ("evaluate", "NAME", "-o", "report"),
    "models info": ("models", "info", "NAME"),
    "models path": ("models", "path", "NAME"),
    "models pull": ("models", "pull", "NAME", "--offline"),
    "models verify": ("models", "verify", "NAME"),
    "models remove": ("models", "remove", "NAME"),
    "models convert": ("models", "convert", "NAME"),
    "models convert --name": ("models", "convert", "VQGAN", "--name", "NAME"),
    "models convert -o": ("models", "convert", "VQGAN", "-o", "NAME.safetensors"),
    "models convert --config": ("models", "convert", "VQGAN", "--name", "x", "--config", "NAME"),
    "config show": ("config", "show", "NAME"),
    "config validate": ("config", "validate", "NAME"),
}


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def in_place(words: tuple[str, ...], name: str, tiny: TinyModels) -> list[str]:
    stands_for = {"TINY": tiny.config, "CLIP": tiny.clip, "VQGAN": tiny.vqgan, "NAME": name}
    found = []
    for word in words:
        for mark, value in stands_for.items():
            word = word.replace(mark, str(value))
        found.append(word)
    return found


@pytest.mark.parametrize("place", PLACES)
def test_a_name_that_can_be_no_files_is_one_sentence(run: Command, tiny: TinyModels, place: str) -> None:
    """A name of 300 letters was "vqclip has a bug" in eleven commands."""
    for name in NAMES.values():
        Path("page.html").write_text("<html>")
        Path("jobs.txt").write_text("a cat\n")
        if not Path("circle").is_symlink():
            Path("circle").symlink_to("circle")
        Image.new("RGB", (16, 16)).save("a.png")
        done = run(*in_place(PLACES[place], name, tiny))
        told = done.stderr + done.stdout
        assert done.code in (0, 2, 3, 6) and "has a bug" not in told and "Traceback" not in told, (name[:40], done)
        assert (done.code != 0) == ("Error: " in done.stderr), done


@pytest.mark.parametrize("cache", ["~nosuchuser/x", "n" * 300, "page.html/x", "circle"])
@pytest.mark.parametrize(
    "words",
    [
        ("models", "list"),
        ("models", "verify"),
        ("models", "path", "x"),
        ("models", "remove", "x"),
        ("models", "convert", "VQGAN", "--name", "x"),
        ("search", ".", "a", "-m", "CLIP"),
        ("search", "--list-indexes"),
        ("doctor",),
    ],
    ids=" ".join,
)
def test_a_cache_that_can_be_no_folder_is_one_sentence(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, cache: str, words: tuple[str, ...]
) -> None:
    Path("page.html").write_text("<html>")
    Path("circle").symlink_to("circle")
    Image.new("RGB", (16, 16)).save("a.png")
    monkeypatch.setenv("VQCLIP_CACHE", cache)
    done = run(*in_place(words, "", tiny))
    assert done.code in (0, 2, 3, 6) and "has a bug" not in done.stderr and "Traceback" not in done.stderr, done
