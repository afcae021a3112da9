"""vqclip upscale, and the published upscalers of vqclip models, against a server on this machine."""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command, Outcome
from conftest import TinyModels
from faulty_server import Behaviour, Server, serving
from PIL import Image
from tiny_upscaler import random_upscaler, save, save_published

from vqclip.common.errors import UsageError
from vqclip.common.images import open_image, to_image, to_tensor
from vqclip.hub.sources import WebFile
from vqclip.hub.upscaler_catalogue import UPSCALERS
from vqclip.hub.upscaler_store import upscaler_path
from vqclip.models import enlarge as module
from vqclip.models.enlarge import enlarge
from vqclip.outputs.picture import read_metadata

NAME = "realesrgan-x4plus-anime"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def upscaler(tmp_path: Path) -> str:
    """A file that doubles the sides."""
    return str(save(random_upscaler(), tmp_path / "up.safetensors"))


def noise(path: str, width: int = 20, height: int = 12) -> str:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_a_picture_is_enlarged_beside_the_others(run: Command, upscaler: str) -> None:
    noise("a.png"), noise("b.png", 7, 9)
    done = run("upscale", "a.png", "b.png", "-m", upscaler, "-o", "large/", "--json")
    assert done.code == 0, done.stderr
    first, second = (json.loads(line) for line in done.stdout.splitlines())
    assert (first["path"], first["source"], first["size"], first["scale"]) == (
        "large/a-upscaled.png",
        "a.png",
        [40, 24],
        2,
    )
    assert second["size"] == [14, 18] and "b.png: 7x9 to 14x18" in done.stderr
    expected = to_image(enlarge(random_upscaler(), to_tensor(open_image("a.png")))[0])
    assert np.abs(np.int16(open_image(first["path"])) - np.int16(expected)).max() <= 1
    assert run("upscale", "a.png", "-m", upscaler, "-o", "one.webp", "-q").stderr == ""
    assert open_image("one.webp").size == (40, 24)


def test_photographs_are_told_of_a_better_upscaler(run: Command, tiny: TinyModels) -> None:
    noise("photo.png")
    done = run("upscale", "photo.png", "missing.png", "-o", "large/")
    assert done.code == 5
    assert "Note: 'photo.png' was not made by vqclip, and the embedded upscaler draws outlines" in done.stderr
    assert done.stderr.count("Note:") == 1
    assert run("generate", "-c", str(tiny.config), "a cat", "-o", "cat.png").code == 0
    assert "Note:" not in run("upscale", "cat.png", "-o", "larger.png").stderr


def test_a_large_picture_is_drawn_in_tiles(run: Command, upscaler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    noise("a.png", 100, 70)
    assert run("upscale", "a.png", "-m", upscaler, "-o", "whole.png").code == 0
    monkeypatch.setattr(module, "ROOM", 38**2 * random_upscaler().pixel_bytes)  # tiles of 32, and 3 around them
    asked: list[tuple[int, ...]] = []
    inner = module._draw
    monkeypatch.setattr(
        module, "_draw", lambda network, read, box, size: asked.append(box) or inner(network, read, box, size)
    )
    assert run("upscale", "a.png", "-m", upscaler, "-o", "tiles.png").code == 0
    assert len(asked) == 4 * 3
    whole, tiles = (np.int16(open_image(path)) for path in ("whole.png", "tiles.png"))
    assert np.abs(whole - tiles).max() <= 1 and (whole != tiles).mean() < 1e-3


def test_what_a_picture_says_of_itself_is_carried_on_and_repeats_it(
    run: Command, tiny: TinyModels, upscaler: str
) -> None:
    """But for rounding: the picture was 8-bit before it was enlarged."""
    assert run("generate", "-c", str(tiny.config), "a cat", "--seed", "5", "-o", "cat.png").code == 0
    assert run("upscale", "cat.png", "-m", upscaler, "-o", "large.png").code == 0
    metadata = read_metadata(Path("large.png"))
    assert metadata.prompt == "a cat" and metadata.models and metadata.models.upscaler
    assert run("rerun", "large.png", "-o", "again.png").code == 0
    again, large = (np.int16(open_image(path)) for path in ("again.png", "large.png"))
    assert np.abs(again - large).max() <= 3
    assert run("upscale", "large.png", "-m", upscaler, "-o", "larger.png").code == 0
    assert run("info", "larger.png").code == 2  # one config cannot say that it was upscaled twice


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("gone.png",), 2, "Cannot read the image"),
        (("page.html",), 2, "is not an image"),
        (("huge.png",), 2, "would become 14000x8000; at most 100 megapixels"),
        (("wide.png", "-o", "x.webp"), 2, "choose .png"),
        (("a.png", "-o", "x.txt"), 2, "neither a picture"),
        (("a.png", "a.png"), 2, "Two pictures would be written"),
        (("a.png", "-o", "a.png"), 6, "is there already"),
        (("a.png", "gone.png", "-o", "f/"), 5, "1 of 2 pictures"),
        (("a.png", "-m", "none"), 2, "enlarges nothing"),
        (("a.png", "-m", "auto"), 2, "Unknown upscaler 'auto', known: embedded, real"),
        (("a.png", "-m", "page.html"), 3, "a web page"),
        (("a.png", "-m", "realesr-general-x4v3"), 3, "vqclip models pull realesr-general-x4v3"),
        ((), 2, "Missing argument"),
    ],
)
def test_what_cannot_be_is_one_sentence(
    run: Command, upscaler: str, words: tuple[str, ...], code: int, says: str
) -> None:
    Path("page.html").write_text("<html>")
    Image.new("RGB", (7000, 4000)).save("huge.png")
    Image.new("RGB", (9000, 40)).save("wide.png")
    noise("a.png")
    before = {str(path) for path in Path().iterdir()}
    done = run("upscale", *words, *(() if "-m" in words else ("-m", upscaler)))
    assert done.code == code and says in done.stderr and done.stderr.count("Error: ") == (2 if code == 5 else 1), done
    assert {str(path) for path in Path().iterdir()} - before == ({"f"} if code == 5 else set())


def test_exhausted_memory_has_its_own_code(run: Command, upscaler: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(*_: object) -> torch.Tensor:
        raise MemoryError

    monkeypatch.setattr(module, "_draw", exhausted)
    done = run("upscale", noise("a.png"), "-m", upscaler, "-o", "large.png")
    assert done.code == 4 and "not even in small tiles" in done.stderr and not Path("large.png").exists()


# Published ones


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Server]:
    """Lets the catalogue's entry be a small network of the same form, on a server that breaks off once."""
    content = save_published(tmp_path / "published.pth").read_bytes()
    with serving({"/a": Behaviour(content, ["cut:999"])}) as found:
        digest = hashlib.sha256(content).hexdigest()
        entry = replace(UPSCALERS[NAME], place=WebFile(found.url + "/a"), size=len(content), sha256=digest)
        monkeypatch.setitem(UPSCALERS, NAME, entry)  # type: ignore[arg-type]
        yield found


@pytest.fixture
def online(run: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Outcome]:
    """Runs a command as a process of its own would: without what another one set for itself."""

    def command(*words: str) -> Outcome:
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        return run(*words)

    return command


def test_a_published_upscaler_is_pulled_used_verified_and_removed(
    online: Callable[..., Outcome], server: Server
) -> None:
    assert f"  upscaler {NAME}" in online("models", "list").stdout
    done = online("models", "pull", NAME)
    assert done.code == 0 and done.stdout.strip() == str(upscaler_path(NAME)), done.stderr
    assert len(server.asked) == 2 and online("models", "pull", NAME).code == 0 and len(server.asked) == 2
    assert json.loads(online("models", "info", NAME, "--json").stdout)["terms"] == "BSD-3-Clause"
    assert online("models", "verify").stdout == f"{NAME}: ok\n"
    assert online("models", "path", NAME).stdout.strip() == str(upscaler_path(NAME))
    assert online("models", "list", "--here").stdout.split()[:3] == ["*", "upscaler", NAME]
    assert online("upscale", noise("a.png"), "-m", NAME, "-o", "large.png").code == 0
    assert open_image("large.png").size == (80, 48)
    assert online("models", "remove", NAME).code == 0 and not upscaler_path(NAME).exists()
    assert online("models", "remove", NAME).code == 2


def test_a_damaged_one_is_refused_and_mended(online: Callable[..., Outcome], server: Server) -> None:
    assert online("upscale", noise("a.png"), "-m", NAME, "--pull", "-o", "large.png").code == 0
    upscaler_path(NAME).write_bytes(b"PK\x03\x04 and nothing more")
    for words in (("models", "verify"), ("upscale", "a.png", "-m", NAME, "-o", "x.png"), ("models", "pull", NAME)):
        done = online(*words)
        assert done.code == 3 and f"models pull {NAME} --force" in done.stderr, words
    assert online("models", "pull", NAME, "--force").code == 0 and online("models", "verify", NAME).code == 0


def test_a_file_that_is_not_the_published_one_is_not_kept(online: Callable[..., Outcome], server: Server) -> None:
    server.paths["/a"].content = b"PK\x03\x04" + bytes(len(server.paths["/a"].content) - 4)
    done = online("models", "pull", NAME)
    assert done.code == 3 and "another file than was published" in done.stderr and not upscaler_path(NAME).exists()


def test_a_vqgan_cannot_take_an_upscalers_name(run: Command, tiny: TinyModels) -> None:
    done = run("models", "convert", str(tiny.vqgan), "--name", NAME)
    assert done.code == 2 and "means another one already" in done.stderr


def test_a_colour_profile_is_kept(run: Command, upscaler: str) -> None:
    profile = b"\0" * 16 + b"RGB " + b"\0" * 108
    Image.new("RGB", (8, 8), "red").save("a.png", icc_profile=profile)
    assert run("upscale", "a.png", "-m", upscaler, "-o", "b.png").code == 0
    with Image.open("b.png") as image:
        assert image.info["icc_profile"] == profile


def test_only_what_can_be_made_again_says_how(run: Command, tiny: TinyModels, upscaler: str) -> None:
    words = ("-c", str(tiny.config), "--seed", "1", "--steps", "2")
    assert run("generate", "a cat", *words, "-o", "cat.png").code == 0
    assert run("edit", "cat.png", "a dog", "--box", "0,0,9,9", *words, "-o", "part.png").code == 0
    assert run("upscale", "cat.png", "part.png", "-m", os.path.relpath(upscaler), "-o", "large/").code == 0
    named = Path(read_metadata(Path("large/cat-upscaled.png")).config["output"]["upscale"])
    assert named.is_absolute() and named.samefile(upscaler)
    drawn = (["--drawer", "pixelart", "--size", "32x32"], ["--set", "filters=[grey]"])
    for name, further in zip(("squares", "filtered"), drawn, strict=True):
        assert run("generate", "a cat", *words, *further, "-o", f"{name}.png").code == 0
        assert run("upscale", f"{name}.png", "-m", upscaler, "-o", "large/").code == 0
    for name in ("part", "squares", "filtered"):
        with pytest.raises(UsageError, match="carries no vqclip metadata"):
            read_metadata(Path(f"large/{name}-upscaled.png"))
