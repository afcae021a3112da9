"""Filters by what they promise: tiles without a seam, mirrors that are mirrors, colours of the palette only."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from command import Command
from conftest import TinyModels
from PIL import Image
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.config.loader import load_config
from vqclip.guidance.colours import PALETTES, parse_colours
from vqclip.guidance.filters import PLAIN, SQUARE, TOLD, find_filter, find_finish
from vqclip.guidance.wallpaper import GROUPS
from vqclip.hub.model_files import find_models
from vqclip.pipeline.build import build
from vqclip.pipeline.plan import make_plan

CPU = torch.device("cpu")
ALL = [*PLAIN, *(f"{name}:{example}" for name, (example, _) in TOLD.items())]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def pictures(n: int = 1, height: int = 12, width: int = 12) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def filtered(spec: str, images: Tensor) -> Tensor:
    return find_filter(spec, CPU)(images)


@pytest.mark.parametrize("spec", ALL)
def test_filters_keep_shape_and_range_and_pictures_apart(spec: str) -> None:
    images = pictures(3)
    result = filtered(spec, images)
    assert result.shape == images.shape and result.dtype == images.dtype
    assert result.min() >= 0 and result.max() <= 1
    torch.testing.assert_close(filtered(spec, images[1:2]), result[1:2])


@pytest.mark.parametrize("spec", sorted({*ALL} - SQUARE - {*GROUPS}))
@pytest.mark.parametrize("size", [(1, 6), (6, 1), (1, 1), (2, 2)])
def test_filters_take_pictures_one_pixel_wide(spec: str, size: tuple[int, int]) -> None:
    result = filtered(spec, pictures(2, *size))
    assert result.shape == (2, 3, *size) and result.min() >= 0 and result.max() <= 1


@pytest.mark.parametrize("spec", [spec for spec in ALL if not spec.startswith("palette")])
def test_filters_pass_gradcheck(spec: str) -> None:
    assert torch.autograd.gradcheck(find_filter(spec, CPU), pictures(1, 4, 4).requires_grad_())


@pytest.mark.parametrize("side", [12, 128])
@pytest.mark.parametrize("spec", [spec for spec in ALL if not spec.startswith("kaleidoscope")])
def test_what_is_put_over_a_finished_picture_changes_nothing_in_what_the_filter_made(spec: str, side: int) -> None:
    """A tile may change by less than half a grey level of 255."""
    once = filtered(spec, pictures(1, side, side))
    torch.testing.assert_close(
        find_finish(spec, CPU)(once), once, atol=0.5 / 255 if spec == "tile" else 1e-7, rtol=1e-7
    )


@pytest.mark.parametrize("size", [(96, 96), (48, 120), (120, 48)])
@pytest.mark.parametrize("sectors", [2, 4, 6, 8, 12])
def test_a_kaleidoscope_only_interpolates_anew_in_what_it_made(sectors: int, size: tuple[int, int]) -> None:
    """Beside the mirrors, in a smooth picture of any form; mirrors along sides and diagonals have nothing to."""
    smooth = torch.nn.functional.interpolate(pictures(1, 6, 6), size, mode="bicubic").clamp(0, 1)
    once = filtered(f"kaleidoscope:{sectors}", smooth)
    changed = (find_finish(f"kaleidoscope:{sectors}", CPU)(once) - once).abs()
    assert changed.max() < (1e-9 if sectors in (2, 4, 8) else 0.1) and changed.mean() < 1e-3


def test_the_seam_of_a_tile_that_was_enlarged_is_mended() -> None:
    """An upscaler that knows nothing beyond the edge spoils its two outermost rows."""
    made = filtered("tile", pictures(1, 128, 128))
    spoiled = made.clone()
    for dim in (-1, -2):
        for edge in (0, 1, 126, 127):
            spoiled.select(dim, edge).add_(0.3 if edge < 64 else -0.3)
    mended = find_finish("tile", CPU)(spoiled)
    for dim in (-1, -2):
        for edge in (0, 127):
            torch.testing.assert_close(
                mended.select(dim, edge)[..., 4:-4], made.select(dim, edge)[..., 4:-4], atol=0.01, rtol=0
            )
    assert torch.equal(mended[..., 4:-4, 4:-4], spoiled[..., 4:-4, 4:-4])


@pytest.mark.parametrize("spec", ["tile", "pmm", "p4m"])
@pytest.mark.parametrize("side", [12, 13])
def test_a_tile_goes_on_where_it_meets_itself(spec: str, side: int) -> None:
    """Of a picture of slow changes, rolling must not bring forth a step that is larger than those it had."""
    across = torch.linspace(0, 1, side, dtype=torch.float64)
    ramp = (across + across[:, None]).expand(1, 3, -1, -1) / 2
    made = filtered(spec, ramp)
    for dim in (-1, -2):
        seam = (made.select(dim, 0) - made.select(dim, -1)).abs().max()
        assert seam <= ramp.diff(dim=dim).abs().max() + 1e-12
        assert (ramp.select(dim, 0) - ramp.select(dim, -1)).abs().max() > 0.4


def test_what_meets_at_the_seam_of_a_tile_were_neighbours_in_its_middle() -> None:
    images = pictures(1, 12, 12)
    made = find_filter("tile", CPU)(images)
    middle = images.roll((6, 6), (-2, -1))
    torch.testing.assert_close(made[..., 0, 0], middle[..., 0, 0])
    torch.testing.assert_close(made[..., -1, -1], middle[..., -1, -1])
    torch.testing.assert_close(made[..., 5:7, 5:7], images[..., 5:7, 5:7])


SYMMETRIES = {
    "p2": [lambda i: i.rot90(2, (-2, -1))],
    "pm": [lambda i: i.flip(-1), lambda i: i.roll(6, -2)],
    "pg": [lambda i: i.flip(-1).roll(6, -2)],
    "cm": [lambda i: i.flip(-1), lambda i: i.roll((6, 6), (-2, -1))],
    "pmg": [lambda i: i.rot90(2, (-2, -1)), lambda i: i.flip(-1).roll(6, -1), lambda i: i.flip(-2).roll(6, -1)],
    "pgg": [lambda i: i.rot90(2, (-2, -1)), lambda i: i.flip(-1).roll((6, 6), (-2, -1))],
    "cmm": [lambda i: i.flip(-1), lambda i: i.flip(-2), lambda i: i.roll((6, 6), (-2, -1))],
    "p4": [lambda i: i.rot90(1, (-2, -1))],
    "p4g": [lambda i: i.rot90(1, (-2, -1)), lambda i: i.flip(-1).roll((6, 6), (-2, -1))],
}
"""What leaves a picture of 12 x 12 pixels of a group as it is, once the group's origin is its corner."""


@pytest.mark.parametrize("group", GROUPS)
def test_a_wallpaper_has_the_symmetries_of_its_group_and_no_more(group: str) -> None:
    made = filtered(group, pictures())
    x, y = GROUPS[group].origin
    at_corner = made.roll((-round(12 * y), -round(12 * x)), (-2, -1))
    for same in SYMMETRIES[group]:
        torch.testing.assert_close(same(at_corner), at_corner)
    others = [same for name, each in SYMMETRIES.items() for same in each if name != group]
    assert sum(not torch.allclose(same(at_corner), at_corner) for same in others) >= 3


@pytest.mark.parametrize("group", GROUPS)
def test_a_wallpaper_goes_on_where_it_meets_itself(group: str) -> None:
    """Of a smooth picture with unlike edges: no step at the seam is larger than those inside."""
    across = torch.linspace(0, 1, 96, dtype=torch.float64)
    made = filtered(group, ((across + across[:, None]) / 2).expand(1, 3, -1, -1))
    for dim in (-1, -2):
        seam = (made.select(dim, 0) - made.select(dim, -1)).abs().max()
        assert seam <= made.diff(dim=dim).abs().max() + 1e-9 and made.diff(dim=dim).abs().max() < 0.12


def test_mirrors_are_mirrors() -> None:
    images = pictures(1, 10, 12)
    left = filtered("mirror", images)
    torch.testing.assert_close(left, left.flip(-1))
    torch.testing.assert_close(left[..., :6], images[..., :6])
    both = filtered("pmm", images)
    torch.testing.assert_close(both, both.flip(-1))
    torch.testing.assert_close(both, both.flip(-2))
    square = filtered("p4m", pictures())
    for other in (square.flip(-1), square.flip(-2), square.mT):
        torch.testing.assert_close(square, other)


@pytest.mark.parametrize("sectors", [4, 6, 12])
def test_a_kaleidoscope_turned_by_two_sectors_is_the_same(sectors: int) -> None:
    """Of a smooth picture: what lies at an angle lies there again after two sectors, up to interpolation."""
    side = 96
    rows, columns = torch.meshgrid(*(torch.linspace(-1, 1, side, dtype=torch.float64),) * 2, indexing="ij")
    made = filtered(f"kaleidoscope:{sectors}", (0.5 + rows / 3 + columns / 5).expand(1, 3, -1, -1))[0, 0]
    turn = 2 * 2 * math.pi / sectors
    for angle in (0.3, 1.1, 2.0):
        values = []
        for each in (angle, angle + turn, -angle):
            y, x = -0.6 * math.cos(each), 0.6 * math.sin(each)
            values.append(made[round((y + 1) / 2 * (side - 1)), round((x + 1) / 2 * (side - 1))].item())
        assert values == pytest.approx([values[0]] * 3, abs=0.02)


def test_only_the_palette_s_colours_are_left_and_the_gradient_passes() -> None:
    images = pictures().float().requires_grad_()
    made = find_filter("palette:gameboy", CPU)(images)
    colours = parse_colours("gameboy")
    distances = (made.detach().movedim(1, -1)[..., None, :] - colours).abs().amax(-1)
    assert distances.amin(-1).max() < 1e-6
    nearest = torch.cdist(images.detach().movedim(1, -1).reshape(-1, 3), colours).argmin(1)
    torch.testing.assert_close(made.detach().movedim(1, -1).reshape(-1, 3), colours[nearest])
    made.sum().backward()
    assert images.grad is not None and torch.equal(images.grad, torch.ones_like(images))


def test_grey_has_no_colour_and_the_brightness_that_pillow_gives() -> None:
    levels = (pictures() * 255).round()
    made = (filtered("grey", levels / 255) * 255)[0]
    assert torch.equal(made[0], made[1]) and torch.equal(made[0], made[2])
    picture = Image.fromarray(levels[0].permute(1, 2, 0).byte().numpy())
    assert np.abs(made[0].numpy() - np.asarray(picture.convert("L"))).max() <= 1


def test_a_frame_is_as_wide_as_it_says_and_leaves_the_inside() -> None:
    images = pictures(1, 32, 48)
    made = filtered("frame:white", images)
    assert torch.equal(made[..., 2:30, 2:46], images[..., 2:30, 2:46])
    assert made[..., :2, :].min() == made[..., :, -2:].min() == 1


@pytest.mark.parametrize("name", PALETTES)
def test_every_palette_has_colours(name: str) -> None:
    assert len(parse_colours(name)) >= 4


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("tyle", "did you mean 'tile'"),
        ("tile:3", "takes no argument"),
        ("kaleidoscope", "kaleidoscope:6"),
        ("kaleidoscope:3", "even number"),
        ("kaleidoscope:-2", "even number"),
        ("kaleidoscope:" + "9" * 5000, "even number"),
        ("palette:#12", "is no colour"),
        ("frame:red,blue", "One colour"),
        ("", "Unknown filter"),
    ],
)
def test_a_filter_that_is_not_right_is_one_sentence(spec: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        find_filter(spec, CPU)


def test_a_run_s_pictures_are_filtered_and_so_is_what_was_upscaled(run: Command, tiny: TinyModels) -> None:
    words = ("generate", "a cat", "-c", str(tiny.config), "--steps", "2", "--set", "filters=[p4m,'palette:pico8']")
    for upscale, side in (("none", 16), ("embedded", 32)):
        assert run(*words, "--upscale", upscale, "-o", "a.png", "--overwrite").code == 0
        pixels = np.asarray(Image.open("a.png"))
        assert pixels.shape == (side, side, 3)
        allowed = {tuple(round(255 * value) for value in colour) for colour in parse_colours("pico8").tolist()}
        assert {tuple(pixel) for pixel in pixels.reshape(-1, 3).tolist()} <= allowed
        assert (pixels == pixels[::-1]).all() and (pixels == pixels.transpose(1, 0, 2)).all()
    assert run("rerun", "a.png", "-o", "b.png").code == 0
    assert (np.asarray(Image.open("b.png")) == pixels).all()


def test_a_square_filter_wants_a_square_picture(run: Command, tiny: TinyModels) -> None:
    done = run("generate", "a", "-c", str(tiny.config), "--size", "32x16", "--set", "filters=[p4m]", "-o", "a.png")
    assert done.code == 2 and "needs a square picture" in done.stderr
    assert not list(Path().iterdir())


@pytest.mark.parametrize("size", ["99x100", "100x99"])
@pytest.mark.parametrize("group", ["p2", "cmm"])
def test_a_wallpaper_wants_even_sides(run: Command, tiny: TinyModels, group: str, size: str) -> None:
    words = ("-c", str(tiny.config), "--drawer", "pixels", "--set", f"filters=[grey, {group}]", "-o", "a.png")
    done = run("generate", "a", *words, "--size", size)
    assert done.code == 2 and f"{group!r} needs sides of an even number" in done.stderr and size in done.stderr
    assert not list(Path().iterdir())


def test_a_picture_s_part_is_filtered_before_it_goes_into_the_original(run: Command, tiny: TinyModels) -> None:
    """The left half is black, the right one white, but for a patch on the right: nothing of that turns black."""
    original = np.zeros((64, 64, 3), np.uint8)
    original[:, 32:] = 255
    Image.fromarray(original).save("photo.png")
    options = {"mask.original": "photo.png", "mask.boxes": ["48,16,8,32"], "prompts": ["a"], "mask.feather": 0}
    words = ["filters=[mirror]", "output.upscale=embedded", "optimise.steps=0"]
    plan = make_plan(load_config([str(tiny.config)], words, {**options, "seed": 1}))
    parts = build(plan, find_models(plan.config))
    drawn = parts.descent.pictures()
    small = torch.nn.functional.interpolate(parts.present(drawn), drawn.shape[-2:], mode="area")
    assert (small - drawn).abs().mean() < 0.05 and drawn[..., -1].min() > 0.9
