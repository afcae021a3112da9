"""Pictures given by users: every odd kind has the colour that its definition says, every bad one a sentence."""

import contextlib
import os
import re
import struct
import subprocess
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TinyModels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vqclip.common import images
from vqclip.common.errors import UsageError
from vqclip.common.images import FORMATS, check_side, fit, open_image, to_image, to_tensor
from vqclip.common.remarks import quiet_pillow
from vqclip.config.loader import load_config
from vqclip.outputs.sheet import save_sheet
from vqclip.pipeline.inputs import read_inputs
from vqclip.pipeline.plan import make_plan

GREY = (128, 128, 128)


def png(width: int, height: int, depth: int, kind: int, rows: bytes) -> bytes:
    """Assemble a PNG file chunk by chunk (RFC 2083), for what Pillow does not write."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def colour(path: str) -> tuple[int, ...]:
    image = open_image(path)
    assert image.mode == "RGB"
    return image.getpixel((0, 0))


def saved(image: Image.Image, path: str = "a.png", **settings: object) -> str:
    image.save(path, **settings)
    return path


def noise(path: str) -> bytes:
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return Path(saved(Image.fromarray(pixels), path)).read_bytes()


@pytest.mark.parametrize(
    ("mode", "value", "expected"),
    [
        ("RGB", (1, 2, 3), (1, 2, 3)),
        ("L", 7, (7, 7, 7)),
        ("1", 1, (255, 255, 255)),
        ("RGBA", (9, 8, 7, 255), (9, 8, 7)),
        ("RGBA", (255, 0, 0, 0), GREY),
        ("RGBA", (255, 0, 0, 128), (192, 64, 64)),  # 128/255 of 255 or 0 over the rest of 128
        ("LA", (200, 0), GREY),
    ],
)
def test_modes_and_alpha(mode: str, value: int | tuple[int, ...], expected: tuple[int, ...]) -> None:
    assert colour(saved(Image.new(mode, (2, 2), value))) == expected


def test_cmyk_is_converted() -> None:
    """No cyan, full magenta and yellow, no black: red."""
    assert colour(saved(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "a.jpg")) == (255, 0, 0)


@pytest.mark.parametrize(("level", "expected"), [(0, 0), (255, 1), (257, 1), (32768, 128), (33023, 128), (65535, 255)])
def test_16_bit_grey_is_scaled(level: int, expected: int) -> None:
    """65535 = 255 * 257, so a level is 1/257 as many in 8 bits; 32768 / 257 = 127.5, 33023 / 257 = 128.49."""
    assert colour(saved(Image.fromarray(np.full((2, 2), level, np.uint16)))) == (expected,) * 3


def test_16_bit_colour_and_alpha_are_scaled() -> None:
    Path("rgb.png").write_bytes(png(1, 1, 16, 2, b"\0" + struct.pack(">HHH", 65535, 32768, 0)))
    assert colour("rgb.png") == (255, 128, 0)
    Path("rgba.png").write_bytes(png(1, 1, 16, 6, b"\0" + struct.pack(">HHHH", 65535, 0, 0, 0)))
    assert colour("rgba.png") == GREY


def test_palettes_with_and_without_transparency() -> None:
    image = Image.new("P", (2, 2), 1)
    image.putpalette([0, 0, 0, 10, 200, 30])
    assert colour(saved(image)) == (10, 200, 30)
    assert colour(saved(image, transparency=1)) == GREY
    assert colour(saved(image, transparency=0)) == (10, 200, 30)


def test_a_transparent_colour_is_laid_over_grey() -> None:
    assert colour(saved(Image.new("RGB", (2, 2), (1, 2, 3)), transparency=(1, 2, 3))) == GREY
    assert colour(saved(Image.new("L", (2, 2), 7), transparency=7)) == GREY


def test_float_pictures_are_taken_as_0_to_1() -> None:
    levels = np.array([[0.5, np.nan, 2.0, -1.0]], np.float32)
    image = open_image(saved(Image.fromarray(levels), "a.tif"))
    assert [image.getpixel((x, 0))[0] for x in range(4)] == [128, 0, 255, 0]


def test_exif_orientation_is_applied() -> None:
    """Orientation 6 says: turn by 90 degrees clockwise to see it upright, so left-bottom comes to left-top."""
    image = Image.new("RGB", (32, 16), "black")
    image.paste("white", (0, 8, 32, 16))
    exif = Image.Exif()
    exif[0x0112] = 6
    upright = open_image(saved(image, "a.png", exif=exif))
    assert upright.size == (16, 32)
    assert (upright.getpixel((2, 2)), upright.getpixel((13, 2))) == ((255, 255, 255), (0, 0, 0))


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif"])
@pytest.mark.parametrize("kept", [0, 1, 20, 40, 100, 0.5, 0.9])
def test_cut_files_are_refused_without_a_remark(suffix: str, kept: float) -> None:
    """Half a picture is no picture; Pillow's warnings about it would fail this test."""
    data = noise(f"whole.{suffix}")
    Path(f"cut.{suffix}").write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    with pytest.raises(UsageError, match=rf"'cut\.{suffix}'"):
        open_image(f"cut.{suffix}")


def test_a_flipped_bit_is_refused() -> None:
    data = bytearray(noise("whole.png"))
    data[200] ^= 255
    Path("flipped.png").write_bytes(data)
    with pytest.raises(UsageError, match="damaged"):
        open_image("flipped.png")


def test_what_is_no_picture() -> None:
    Path("text.png").write_text("hello")
    Path("page.png").write_text("<html>404</html>")
    Path("folder.png").mkdir()
    for path, message in [
        ("none.png", "No such file"),
        ("folder.png", "Is a directory"),
        ("text.png", "not an image"),
        ("page.png", "not an image"),
        ("nul\0.png", "damaged"),
    ]:
        with pytest.raises(UsageError, match=message):
            open_image(path)


@pytest.mark.parametrize(
    ("width", "height"),
    [(10_001, 10_000), (13_000, 10_000), (100_000, 100_000), (2**31 - 1, 2**31 - 1)],
)
def test_over_100_megapixels_is_refused_before_decoding(width: int, height: int) -> None:
    """The file holds a header and no pixels: decoding it would say `truncated`."""
    Path("huge.png").write_bytes(png(width, height, 8, 2, b""))
    with pytest.raises(UsageError, match="at most 100 megapixels"):
        open_image("huge.png")


def test_90_megapixels_are_decoded_without_a_warning() -> None:
    """Pillow warns of a decompression bomb from 89 megapixels on; the contract allows 100."""
    Path("big.png").write_bytes(png(9500, 9500, 8, 2, b""))
    with pytest.raises(UsageError, match="truncated"):
        open_image("big.png")


def test_every_level_survives_both_ways() -> None:
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, 2)
    tensor = to_tensor(Image.fromarray(pixels))
    assert tensor.shape == (1, 3, 16, 16)
    assert (tensor.min(), tensor.max()) == (0, 1)
    assert np.array_equal(np.asarray(to_image(tensor[0])), pixels)


def test_channels_rows_and_columns_keep_their_places() -> None:
    tensor = to_tensor(Image.fromarray(np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)))
    assert (tensor[0, 2, 1, 0] * 255).round() == 1 * 9 + 0 * 3 + 2  # blue, second row, first column


def test_values_are_rounded_and_clamped() -> None:
    values = torch.tensor([-1.0, 0.4 / 255, 0.6 / 255, 2.0], dtype=torch.float64).view(1, 1, 4).repeat(3, 1, 1)
    assert list(np.asarray(to_image(values.requires_grad_()))[0, :, 0]) == [0, 0, 1, 255]


def test_fit_crops_the_middle_to_the_aspect() -> None:
    """Of three equal stripes 96 wide, a square keeps the middle one."""
    image = Image.new("RGB", (96, 32), "red")
    image.paste("lime", (32, 0, 64, 32))
    fitted = fit(image, (16, 16))
    assert fitted.shape == (1, 3, 16, 16)
    middle = fitted[..., 3:-3]  # Lanczos at half the size looks 6 pixels far, also beyond the crop
    assert torch.equal(middle, torch.tensor([0.0, 1, 0]).view(1, 3, 1, 1).expand_as(middle))
    assert fit(image, (8, 24)).shape == (1, 3, 24, 8)  # (width, height) in, (…, H, W) out


def test_the_sentence_names_the_file() -> None:
    with pytest.raises(UsageError, match=re.escape("'[red] ${x}.png'")):
        open_image("[red] ${x}.png")


# Depths that Pillow itself turns black or white


def depth_ramp(dtype: type, top: float) -> np.ndarray:
    return np.linspace(0, top, 256).reshape(16, 16).astype(dtype)


@pytest.mark.parametrize(
    ("dtype", "top"),
    [
        *((np.uint16, top) for top in (1023, 4095, 65535)),
        *((np.int32, top) for top in (255, 4095, 65535)),
        *((np.float32, top) for top in (1.0, 255.0, 65535.0)),
    ],
)
def test_deep_tiffs_keep_their_greys(dtype: type, top: float) -> None:
    """12 bits in 16 came out black, 32-bit and float ones white, and both ranked high in every search."""
    image = open_image(saved(Image.fromarray(depth_ramp(dtype, top)), "a.tif"))
    assert np.abs(np.asarray(image)[..., 0].astype(int) - np.arange(256).reshape(16, 16)).max() <= 1


def colour_tiff(values: np.ndarray, order: str, packed: bool) -> bytes:
    """A TIFF of 16-bit colours (H, W, 3), as TIFF 6.0 lays it out; Pillow writes none."""
    height, width, _ = values.shape
    data = values.astype(f"{order}u2").tobytes()
    data = zlib.compress(data) if packed else data
    bits = 8 + 2 + 12 * 9 + 4
    entries = [
        struct.pack(f"{order}HHI", tag, kind, count)
        + struct.pack(f"{order}H2x" if kind == 3 > count else f"{order}I", value)
        for tag, kind, count, value in (
            (256, 3, 1, width),
            (257, 3, 1, height),
            (258, 3, 3, bits),
            (259, 3, 1, 8 if packed else 1),
            (262, 3, 1, 2),
            (273, 4, 1, bits + 6),
            (277, 3, 1, 3),
            (278, 3, 1, height),
            (279, 4, 1, len(data)),
        )
    ]
    head = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}IH", 8, len(entries))
    return head + b"".join(entries) + struct.pack(f"{order}IHHH", 0, 16, 16, 16) + data


@pytest.mark.parametrize("order", "<>")
@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("top", [1023, 4095, 65535])
def test_deep_colours_keep_their_brightness(tmp_path: Path, order: str, packed: bool, top: int) -> None:
    """Pillow keeps the upper byte of each colour, so that 12 bits in 16 came out nearly black."""
    ramp = np.linspace(0, top, 16 * 16 * 3).round().reshape(16, 16, 3)
    (tmp_path / "a.tif").write_bytes(colour_tiff(ramp, order, packed))
    image = open_image(tmp_path / "a.tif")
    assert np.abs(np.asarray(image) - ramp / top * 255).max() <= 1.01


@pytest.mark.parametrize("values", [[-1000.0, 0.0, 1000.0], [0.0, 1e6, 2e6], [0.0, 1.0, 2.0]])
def test_values_of_no_usual_depth_are_scaled_by_their_range(values: list[float]) -> None:
    image = open_image(saved(Image.fromarray(np.array([values], np.float32)), "a.tif"))
    assert np.abs(np.asarray(image)[0, :, 0].astype(int) - [0, 128, 255]).max() <= 1


def test_what_the_file_calls_white_is_white() -> None:
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    tags = ImageFileDirectory_v2()
    tags[281] = 50_000
    image = open_image(saved(Image.fromarray(np.array([[0, 25_000, 50_000]], np.uint16)), "a.tif", tiffinfo=tags))
    assert [image.getpixel((x, 0))[0] for x in range(3)] == [0, 128, 255]


@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf, 0.0, 7.5, -3.0])
def test_a_flat_float_picture_is_some_grey(fill: float) -> None:
    colour(saved(Image.fromarray(np.full((2, 2), fill, np.float32)), "a.tif"))


# What Pillow would do with more than we mean


@pytest.mark.parametrize("name", ["x.png", "x.eps", "x.jpg"])
def test_a_format_that_starts_programs_is_no_image(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pillow starts Ghostscript for an EPS, whatever the file is called."""
    monkeypatch.setattr(subprocess, "Popen", lambda *_, **__: pytest.fail("a program was started"))
    Path(name).write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n(x) run showpage\n%%EOF\n")
    with pytest.raises(UsageError, match="is not an image"):
        open_image(name)


def test_every_format_we_mean_is_one_of_pillows() -> None:
    Image.init()
    assert set(FORMATS) <= set(Image.OPEN)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "bmp", "tif", "jp2", "ppm", "avif"])
def test_the_formats_we_mean_are_read(suffix: str) -> None:
    noise(f"a.{suffix}")
    assert open_image(f"a.{suffix}").size == (64, 64)


def test_a_pipe_is_no_image_and_is_not_waited_for() -> None:
    os.mkfifo("pipe.png")
    with pytest.raises(UsageError, match="it is no regular file"):
        open_image("pipe.png")


@pytest.mark.parametrize("brand", [b"heic", b"mif1"])
def test_a_heic_photograph_is_called_one(brand: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.jpg").write_bytes(b"\0\0\0\x18ftyp" + brand + bytes(100))
    monkeypatch.setattr(images, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=r"is a HEIC photograph.*pip install 'vqclip\[heic\]'"):
        open_image("a.jpg")


def test_a_heic_photograph_is_read_with_its_package() -> None:
    heif = pytest.importorskip("pillow_heif")
    heif.from_pillow(Image.new("RGB", (64, 48), (200, 30, 40))).save("a.heic", quality=95)
    image = open_image("a.heic")
    assert image.size == (64, 48) and np.abs(np.array(image.getpixel((30, 20))) - (200, 30, 40)).max() < 12
    Path("cut.heic").write_bytes(Path("a.heic").read_bytes()[:200])
    with pytest.raises(UsageError):
        open_image("cut.heic")


@pytest.mark.parametrize("size", [(251, 1), (1, 251), (10**8, 1), (9 * 10**7, 1)])
def test_a_strip_is_refused_before_decoding(size: tuple[int, int]) -> None:
    """Resized by its short side, its long one would need a hundred times its memory."""
    Path("strip.png").write_bytes(png(*size, 8, 2, b""))
    with pytest.raises(UsageError, match="a side may be 250 times the other"):
        open_image("strip.png")


def test_a_side_that_a_format_cannot_hold_is_refused() -> None:
    check_side(Path("a.webp"), (16_383, 10))
    check_side(Path("a.png"), (70_000, 10))
    check_side(Path("a.jpg"), (1, 65_500))
    Image.new("L", (1, 65_500)).save("a.jpg")  # libjpeg's own limit
    with pytest.raises(OSError):
        Image.new("L", (1, 65_501)).save("b.jpg")
    for name, size in (("a.webp", (16_384, 10)), ("a.JPG", (10, 65_501))):
        with pytest.raises(UsageError, match=r"cannot hold .* choose \.png"):
            check_side(Path(name), size)
    with pytest.raises(UsageError, match="cannot hold"):
        save_sheet(Path("a.webp"), Image.new("RGB", (16_384, 10)))
    assert not Path("a.webp").exists()


EXIFS = (
    b"",
    b"MM",
    b"II*\0\x08\0\0\0",
    b"MM\0*" + b"\xff" * 40,
    b"II*\0\x08\0\0\0\x01\0\x12\x01\x02\0\xff\xff\xff\x7f",
)


@pytest.mark.parametrize("exif", EXIFS)
@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_an_odd_exif_does_not_hide_a_whole_picture(exif: bytes, suffix: str) -> None:
    path = saved(Image.new("RGB", (8, 8), (255, 255, 255)), f"a.{suffix}", exif=b"Exif\0\0" + exif)
    assert colour(path) == (255, 255, 255)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=80), st.integers(0, 65535), st.integers(0, 12), st.integers(0, 2**32 - 1))
def test_any_exif_leaves_the_picture(rest: bytes, tag: int, kind: int, count: int) -> None:
    entry = struct.pack("<HHHII", 1, 0x0112, kind, count, tag) + rest
    saved(Image.new("RGB", (8, 8), "white"), "a.jpg", exif=b"Exif\0\0II*\0\x08\0\0\0" + entry)
    assert open_image("a.jpg").size == (8, 8)


SEEDS = ("png", "jpg", "webp", "gif", "bmp", "tif", "ppm", "jp2")


@settings(max_examples=120, deadline=None)
@given(st.sampled_from(SEEDS), st.lists(st.tuples(st.integers(0, 400), st.integers(0, 7)), min_size=1, max_size=4))
def test_any_damage_is_a_picture_or_a_sentence(suffix: str, flips: list[tuple[int, int]]) -> None:
    seed = Path(f"seed.{suffix}")
    if not seed.exists():
        saved(Image.fromarray(np.arange(192, dtype=np.uint8).reshape(8, 8, 3)), str(seed))
    data = bytearray(seed.read_bytes())
    for place, bit in flips:
        data[place % len(data)] ^= 1 << bit
    Path("damaged").write_bytes(data)
    with contextlib.suppress(UsageError):
        assert open_image("damaged").mode == "RGB"


def test_pillows_remarks_are_kept_off_the_screen() -> None:
    """In several reader threads, where catching them one by one is not safe."""
    Path("a.tif").write_bytes(noise("whole.tif")[:-3000])
    with warnings.catch_warnings():
        warnings.resetwarnings()
        warnings.simplefilter("error")
        quiet_pillow()
        with ThreadPoolExecutor(4) as pool:
            for error in pool.map(lambda _: _why("a.tif"), range(40)):
                assert "truncated" in error or "damaged" in error


def _why(path: str) -> str:
    with pytest.raises(UsageError) as caught:
        open_image(path)
    return str(caught.value)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_a_run_waits_for_no_pipe_and_reads_no_device(tiny: TinyModels) -> None:
    os.mkfifo("pipe.png")
    for key, name in (("init.image", "pipe.png"), ("init.image", "/dev/zero"), ("image_prompts", ["/dev/zero"])):
        settings = {"prompts": ["a cat"], "init.kind": "image" if key == "init.image" else "codes", key: name}
        plan = make_plan(load_config([str(tiny.config)], [], settings))
        with pytest.raises(UsageError, match="no regular file"):
            read_inputs(plan)
