"""Pictures given by users: every odd kind has the colour that its definition says, every bad one a sentence."""

import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vqclip.common.errors import UsageError
from vqclip.common.images import fit, open_image, to_image, to_tensor

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
