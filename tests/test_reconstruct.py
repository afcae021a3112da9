"""Through the codes and back: the library function, and the command with its files and failures."""

import json
import math
from pathlib import Path

import pytest
import torch
from command import Command
from conftest import TinyModels
from PIL import Image

from vqclip.models.perceptor import Perceptor
from vqclip.models.vqgan import VQGAN, load_vqgan
from vqclip.tools.reconstruct import psnr, reconstruct, side_by_side


@pytest.fixture
def vqclip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def picture(path: str, size: tuple[int, int] = (16, 16)) -> str:
    Image.linear_gradient("L").resize(size).convert("RGB").save(path)
    return path


def test_psnr_is_what_the_formula_says() -> None:
    black, grey = torch.zeros(1, 3, 4, 4), torch.full((1, 3, 4, 4), 0.1)
    assert psnr(black, grey) == pytest.approx(20)  # 10 log10(1 / 0.1²)
    assert psnr(grey, grey) == math.inf


def test_the_codes_are_the_picture(tiny: TinyModels) -> None:
    vqgan = load_vqgan(tiny.vqgan)
    found = reconstruct(vqgan, Image.linear_gradient("L").convert("RGB"), (16, 8))
    assert found.codes.shape == (4, 8) and found.original.shape == found.picture.shape == (3, 8, 16)
    assert torch.equal(found.picture, vqgan.decode(vqgan.lookup(found.codes[None])).clamp(0, 1)[0])
    assert found.psnr == pytest.approx(psnr(found.original, found.picture))
    assert found.used == len(set(found.codes.flatten().tolist()))
    both = side_by_side(found)
    assert torch.equal(both[..., :16], found.original) and torch.equal(both[..., 16:], found.picture)


@pytest.mark.parametrize(("size", "expected"), [((17, 9), (18, 10)), ((3, 5), (4, 6)), ((2048, 512), (512, 128))])
def test_sides_become_multiples_and_large_pictures_smaller(
    tiny: TinyModels, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    found = reconstruct(load_vqgan(tiny.vqgan), Image.new("RGB", size))
    assert tuple(found.picture.shape) == (3, expected[1], expected[0])


def test_the_command(vqclip: Command, tiny: TinyModels) -> None:
    done = vqclip("reconstruct", "-c", str(tiny.config), picture("a.png"), "--json")
    event = json.loads(done.stdout)
    assert done.code == 0 and event["path"] == "outputs/a-reconstructed.png"
    assert event["size"] == [16, 16] and event["codes"] == 64 and 1 <= event["different_codes"] <= 16
    with Image.open(event["path"]) as image:
        assert image.size == (32, 16)
    alone = vqclip("reconstruct", "-c", str(tiny.config), "a.png", "-o", "b.webp", "--alone")
    assert alone.stdout == "b.webp\n" and "PSNR" in alone.stderr
    with Image.open("b.webp") as image:
        assert image.size == (16, 16) and image.format == "WEBP"


def test_nothing_is_overwritten_unless_told(vqclip: Command, tiny: TinyModels) -> None:
    words = ("reconstruct", "-c", str(tiny.config), picture("a.png"), "-o", "b.png")
    Path("b.png").write_text("mine")
    refused = vqclip(*words)
    assert refused.code == 6 and Path("b.png").read_text() == "mine"
    assert vqclip(*words, "--overwrite").code == 0


def test_several_pictures_of_which_one_is_bad(vqclip: Command, tiny: TinyModels) -> None:
    Path("bad.png").write_text("no picture")
    done = vqclip("reconstruct", "-c", str(tiny.config), picture("a.png"), "bad.png", picture("c.png"), "-o", "out/")
    assert done.code == 5
    assert done.stdout == "out/a-reconstructed.png\nout/c-reconstructed.png\n"
    assert "bad.png" in done.stderr and "1 of 3" in done.stderr


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("missing.png",), 2, "missing.png"),
        (("a.png", "b.png", "-o", "one.png"), 2, "one file for 2 pictures"),
        (("a.png", "sub/a.png", "-o", "out/"), 2, "Two pictures would be written"),
        (("a.png", "-o", "a.txt"), 2, "neither a picture"),
        (("a.png", "--size", "axb"), 2, "WIDTHxHEIGHT"),
    ],
)
def test_bad_usage(vqclip: Command, tiny: TinyModels, words: tuple[str, ...], code: int, said: str) -> None:
    for name in ("a.png", "b.png"):
        picture(name)
    done = vqclip("reconstruct", "-c", str(tiny.config), *words)
    assert (done.code, done.stdout) == (code, "")
    assert said in done.stderr and "Traceback" not in done.stderr
    assert not Path("out").exists() and not Path("one.png").exists()


COMMANDS = {
    "reconstruct": ("reconstruct", "a.png", "-c", "CONFIG", "-o", "r.png"),
    "score": ("score", "a.png", "-p", "a cat", "-m", "CLIP"),
    "classify": ("classify", "a.png", "-l", "cat,dog", "-m", "CLIP"),
    "search": ("search", ".", "a cat", "-m", "CLIP"),
    "embed": ("embed", "a.png", "-o", "v.safetensors", "-m", "CLIP"),
}


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("on_gpu", [False, True], ids=["cpu", "gpu"])
def test_memory_that_ends_is_said(
    vqclip: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, command: str, on_gpu: bool
) -> None:
    """A CPU's allocator has an error without a class of its own: it is asked for more than there can be."""

    def full(*_: object, **__: object) -> None:
        if on_gpu:
            raise torch.OutOfMemoryError("CUDA out of memory")
        torch.empty(2**55, dtype=torch.uint8)

    picture("a.png")
    monkeypatch.setattr(VQGAN, "encode", full)
    monkeypatch.setattr(Perceptor, "encode_image", full)
    monkeypatch.setattr(Perceptor, "encode_text", full)
    places = {"CONFIG": str(tiny.config), "CLIP": str(tiny.clip)}
    done = vqclip(*(places.get(word, word) for word in COMMANDS[command]))
    assert (done.code, done.stdout) == (4, ""), done.stderr
    assert "Not enough memory" in done.stderr and "bug" not in done.stderr


def test_a_picture_too_wide_for_its_format_is_said(vqclip: Command, tiny: TinyModels) -> None:
    done = vqclip("reconstruct", "-c", str(tiny.config), picture("a.png"), "--size", "8200x16", "-o", "x.webp")
    assert done.code == 2 and "'x.webp' cannot hold 16400x16 pixels" in done.stderr and not Path("x.webp").exists()


def test_a_bad_size_is_found_once_and_before_the_model(vqclip: Command) -> None:
    done = vqclip("reconstruct", picture("a.png"), picture("b.png"), "--size", "foo", "--set", "vqgan.name=none")
    assert done.code == 2 and done.stderr.count("foo") == 1 and "size" in done.stderr
