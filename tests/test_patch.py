"""What is painted anew: regions in words, masks, windows, feathers, and pixels that stay."""

import io
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageCms

from vqclip.common.errors import UsageError
from vqclip.common.images import open_image, picture_size, to_image
from vqclip.config.regions import margins_for, parse_box, parse_margins, place_box, place_margins
from vqclip.guidance.paste import Pasted
from vqclip.outputs.picture import save_picture
from vqclip.pipeline.patch import Patch, extend, extended_size, inside_boxes, make_patch, white_in


def test_boxes_are_in_pixels_or_per_cent() -> None:
    assert place_box("10,20,30,40", 100, 200) == (10, 20, 40, 60)
    assert place_box(" 25%, 0 ,50%,100% ", 100, 200) == (25, 0, 75, 200)
    assert place_box("90,0,50,10px", 100, 200) == (90, 0, 100, 10)  # what lies beyond is cut off


@pytest.mark.parametrize("box", ["", "1,2,3", "1,2,3,4,5", "a,2,3,4", "-1,0,3,4", "1,2,0,4", "1,2,nan,4", "1,2,3,1e3"])
def test_what_is_no_box_is_refused(box: str) -> None:
    with pytest.raises(UsageError, match="box"):
        parse_box(box)


def test_a_box_outside_is_refused() -> None:
    with pytest.raises(UsageError, match="outside the picture, which has 100x200"):
        place_box("100,0,5,5", 100, 200)


@pytest.mark.parametrize("rim", ["0,0,0,0", "-5,0,0,0", "1,2", "x"])
def test_what_is_no_rim_is_refused(rim: str) -> None:
    with pytest.raises(UsageError, match="rim"):
        parse_margins(rim)


@given(st.integers(1, 4000), st.integers(1, 4000), st.integers(1, 30), st.integers(1, 30))
def test_a_ratio_gives_a_rim_that_has_it(width: int, height: int, across: int, down: int) -> None:
    try:
        left, top, right, bottom = place_margins(margins_for(f"{across}:{down}", width, height), width, height)
    except UsageError:
        assert abs(width * down - height * across) <= max(across, down) / 2
        return
    whole = (width + left + right, height + top + bottom)
    assert abs(whole[0] - whole[1] * across / down) <= 0.5 or abs(whole[1] - whole[0] * down / across) <= 0.5
    assert min(left + right, top + bottom) == 0 and abs(left - right) <= 1 and abs(top - bottom) <= 1


def test_a_rim_that_makes_too_large_a_picture_is_refused() -> None:
    with pytest.raises(UsageError, match="at most 100 million"):
        extended_size(20_000, 4_000, "100%,0,0,0")


def test_a_mask_is_white_where_it_is_nearer_to_white() -> None:
    levels = Image.fromarray(np.array([[0, 127, 128, 129, 255]] * 2, np.uint8))
    assert white_in(levels.convert("RGB"), (5, 2), "m.png")[0].tolist() == [False, False, False, True, True]


def test_a_mask_of_another_form_is_refused_and_one_of_another_size_is_resized() -> None:
    half = Image.fromarray(np.repeat([[0, 255]], 2, 0).astype(np.uint8).repeat(20, 0).repeat(20, 1)).convert("RGB")
    resized = white_in(half, (80, 80), "m.png")
    assert resized[:, 42:].all() and not resized[:, :38].any()
    with pytest.raises(UsageError, match=r"'m\.png' has 40x40 pixels, and the picture 80x40"):
        white_in(half, (80, 40), "m.png")


@pytest.mark.parametrize(("level", "reason"), [(False, "no white"), (True, "covers the whole")])
def test_a_mask_of_one_colour_is_refused(level: bool, reason: str) -> None:
    with pytest.raises(UsageError, match=reason):
        make_patch(Image.new("RGB", (8, 8)), np.full((8, 8), level))


def random_patch(seed: int) -> Patch:
    numbers = np.random.default_rng(seed)
    width, height = numbers.integers(3, 300, 2)
    canvas = Image.fromarray(numbers.integers(0, 256, (height, width, 3), np.uint8))
    mask = np.zeros((height, width), bool)
    for _ in range(numbers.integers(1, 4)):
        x, y = numbers.integers(0, width), numbers.integers(0, height)
        mask[y : y + numbers.integers(1, height + 1), x : x + numbers.integers(1, width + 1)] = True
    mask &= numbers.random((height, width)) < numbers.choice([0.5, 1.0])
    mask[0, 0], mask[-1, -1] = False, True
    return make_patch(canvas, mask, [None, 0, 1, 5, 40][seed % 5])


@pytest.mark.parametrize("seed", range(50))
def test_outside_of_the_mask_every_pixel_stays(seed: int) -> None:
    """Fifty random masks, sizes and feathers: a new picture of any size changes nothing outside, bit for bit."""
    patch = random_patch(seed)
    new = torch.rand(3, 16, 24, generator=torch.Generator().manual_seed(seed))
    whole, before = np.asarray(patch.compose(new)), np.asarray(patch.canvas)
    assert np.array_equal(whole[~patch.mask], before[~patch.mask])
    left, top, right, bottom = patch.window
    assert 0 <= left < right <= patch.canvas.width and 0 <= top < bottom <= patch.canvas.height
    assert not patch.mask.copy()[:top].any() and not patch.mask[:, :left].any()
    assert not patch.mask[bottom:].any() and not patch.mask[:, right:].any()
    inside = patch.mask[top:bottom, left:right]
    assert patch.alpha.min() >= 0 and patch.alpha.max() > 0.8 and not patch.alpha[~inside].any()
    assert (patch.alpha[inside] > 0).all()  # all that is masked is repainted, however thin


def test_the_feather_rises_from_the_edge_inwards() -> None:
    mask = np.zeros((64, 64), bool)
    mask[16:48, 16:48] = True
    patch = make_patch(Image.new("RGB", (64, 64)), mask, feather=4)
    left, top, *_ = patch.window
    row = patch.alpha[32 - top, 16 - left : 24 - left]
    np.testing.assert_allclose(row, [0.25, 0.5, 0.75, 1, 1, 1, 1, 1], atol=1e-6)


def test_a_mask_at_the_canvas_border_is_not_feathered_there() -> None:
    canvas, rim = extend(Image.new("RGB", (32, 32), "red"), "0,0,100%,0")
    patch = make_patch(canvas, rim, feather=8)
    assert patch.alpha[16, -1] == 1 and patch.alpha[0, -1] == 1 and patch.alpha[31, -1] == 1
    assert 0 < patch.alpha[16, 32 - patch.window[0]] < 0.2


def test_a_rim_continues_the_edge() -> None:
    original = Image.fromarray(np.random.default_rng(0).integers(0, 256, (10, 20, 3), np.uint8))
    canvas, rim = extend(original, "5,50%,0,2")
    assert canvas.size == (25, 17) == extended_size(20, 10, "5,50%,0,2")
    assert np.array_equal(np.asarray(canvas)[5:15, 5:], np.asarray(original))
    assert not rim[5:15, 5:].any() and rim.sum() == 25 * 17 - 200
    assert np.array_equal(np.asarray(canvas)[0, 5:], np.asarray(original)[0])


def test_the_window_shows_what_is_around() -> None:
    mask = inside_boxes(["400,300,100,60"], (1000, 800))
    patch = make_patch(Image.new("RGB", (1000, 800)), mask)
    assert patch.window == (370, 250, 530, 410)  # a square, 0.3 of the longer side more on each side
    wide = make_patch(Image.new("RGB", (1000, 200)), inside_boxes(["100,50,800,100"], (1000, 200)))
    assert wide.window == (0, 0, 1000, 200)


def test_a_large_photograph_is_worked_on_in_part() -> None:
    photo = Image.new("RGB", (4000, 3000), (10, 20, 30))
    patch = make_patch(photo, inside_boxes(["50%,50%,10%,10%"], photo.size))
    assert patch.window[2] - patch.window[0] == 640 and patch.under((32, 32)).shape == (1, 3, 32, 32)
    assert patch.compose(torch.ones(3, 32, 32)).getpixel((2200, 1650)) == (255, 255, 255)


def test_guides_see_the_new_only_where_it_shows() -> None:
    patch = random_patch(4)
    size = (32, 24)
    pasted = Pasted(lambda latent: latent, patch.under(size), patch.cover(size))
    latent = torch.rand(2, 3, 24, 32, generator=torch.Generator().manual_seed(0)).requires_grad_()
    seen = pasted(latent)
    hidden = (patch.cover(size) == 0).expand_as(seen)
    assert torch.equal(seen[hidden], patch.under(size).expand_as(seen)[hidden])
    seen.sum().backward()
    assert latent.grad is not None and torch.equal(latent.grad, patch.cover(size).expand_as(seen))
    assert pasted(latent[..., ::2, ::2]).shape == (2, 3, 12, 16)  # an early stage, in a smaller size


def rgb() -> Image.Image:
    return Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 60, 3), np.uint8))


def bytes_of(image: Image.Image, kind: str, **options: object) -> io.BytesIO:
    data = io.BytesIO()
    image.save(data, kind, **options)  # type: ignore[arg-type]
    data.seek(0)
    return data


def turned() -> io.BytesIO:
    exif = Image.Exif()
    exif[0x0112] = 6
    return bytes_of(rgb(), "JPEG", exif=exif)


def turned_tiff() -> io.BytesIO:
    return bytes_of(rgb(), "TIFF", tiffinfo={0x0112: 6})


def deep() -> io.BytesIO:
    return bytes_of(Image.fromarray(np.random.default_rng(1).integers(0, 65536, (40, 60), np.uint16)), "PNG")


def see_through() -> io.BytesIO:
    picture = rgb()
    picture.putalpha(Image.fromarray(np.random.default_rng(2).integers(0, 256, (40, 60), np.uint8)))
    return bytes_of(picture, "PNG")


KINDS: dict[str, Callable[[], io.BytesIO]] = {
    "PNG": lambda: bytes_of(rgb(), "PNG"),
    "alpha": see_through,
    "EXIF-turned": turned,
    "turned TIFF": turned_tiff,
    "16 bits": deep,
    "CMYK": lambda: bytes_of(rgb().convert("CMYK"), "JPEG"),
    "palette": lambda: bytes_of(rgb().quantize(16), "PNG"),
    "WebP": lambda: bytes_of(rgb(), "WEBP"),
}


@pytest.mark.parametrize("suffix", ["png", "webp"])
@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_kind_keep_their_pixels(
    tmp_path_factory: pytest.TempPathFactory, kind: str, suffix: str
) -> None:
    """The original is the picture as it is read: upright RGB. PNG and WebP store what stays without loss."""
    original = open_image(KINDS[kind]())
    patch = make_patch(original, inside_boxes(["20%,20%,40%,40%"], original.size))
    path = tmp_path_factory.mktemp("kinds") / f"a.{suffix}"
    save_picture(path, torch.zeros(3, 16, 16), compose=patch.compose)
    again = np.asarray(open_image(path))
    assert again.shape == (original.height, original.width, 3)
    assert np.array_equal(again[~patch.mask], np.asarray(original)[~patch.mask])


def test_a_colour_profile_of_rgb_is_kept() -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    original = open_image(bytes_of(rgb(), "PNG", icc_profile=profile))
    patch = make_patch(original, inside_boxes(["0,0,50%,50%"], original.size))
    assert patch.compose(torch.zeros(3, 4, 4)).info == {"icc_profile": profile}
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    foreign = open_image(bytes_of(rgb(), "PNG", icc_profile=lab))
    assert make_patch(foreign, patch.mask).compose(torch.zeros(3, 4, 4)).info == {}


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_a_colour_profile_goes_from_file_to_file(tmp_path: Path, mode: str, suffix: str) -> None:
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    original = open_image(bytes_of(rgb().convert(mode), "PNG", icc_profile=profile))
    patch = make_patch(original, inside_boxes(["0,0,50%,50%"], original.size))
    save_picture(tmp_path / f"a{suffix}", torch.zeros(3, 4, 4), compose=patch.compose)
    with Image.open(tmp_path / f"a{suffix}") as written:
        assert written.info["icc_profile"] == profile


@pytest.mark.parametrize("kind", KINDS)
def test_the_size_is_known_without_decoding(tmp_path_factory: pytest.TempPathFactory, kind: str) -> None:
    path = tmp_path_factory.mktemp("sizes") / "a"
    path.write_bytes(KINDS[kind]().getvalue())
    assert picture_size(path) == open_image(path).size


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 200), st.integers(1, 200))
def test_what_is_worked_on_covers_the_window(width: int, height: int) -> None:
    mask = np.zeros((height, width), bool)
    mask[-1, -1] = True
    if mask.all():
        return
    patch = make_patch(to_image(torch.rand(3, height, width)), mask)
    assert patch.under((8, 8)).shape == (1, 3, 8, 8) and math.isfinite(float(patch.under((8, 8)).sum()))
    assert float(patch.cover((8, 8)).sum()) > 0


def test_a_new_tone_begins_as_the_old_one_and_goes_on_as_its_own() -> None:
    """Half of a grey picture is masked, and drawn 20 levels brighter, the known half too, as a VQGAN may."""
    cover = torch.zeros(1, 1, 64, 64)
    cover[..., 32:] = 1
    pasted = Pasted(lambda latent: latent, torch.full((1, 3, 64, 64), 100 / 255), cover)
    row = 255 * pasted(torch.full((1, 3, 64, 64), 120 / 255))[0, 0, 32]
    torch.testing.assert_close(row[:32], torch.full((32,), 100.0))
    torch.testing.assert_close(row[48:], torch.full((16,), 120.0))
    assert row[32] <= 105 and (row.diff() >= -1e-3).all() and row.diff().max() <= 5
