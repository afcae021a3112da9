"""Cutouts: drawing owns its randomness; cutting is exact, batched, differentiable and does not alias."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.guidance.cutouts import Draws, cut, draw, draw_noise
from vqclip.guidance.recipes import RECIPES, Erase, Jitter, Look, Recipe, Sharpen
from vqclip.guidance.warps import Affine, Canvas, Padding, Perspective, Square, Warp

CPU = torch.device("cpu")
NAMES = sorted(RECIPES)


def rngs(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def pictures(n: int = 1, height: int = 32, width: int = 32, dtype: torch.dtype = torch.float32) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(9), dtype=dtype)


def plain(*warps: Warp) -> Recipe:
    return Recipe(looks=(Look(warps),))


def drawn(recipe: Recipe, images: Tensor, size: int = 16, count: int = 5, seeds: tuple[int, ...] = (0,)) -> Draws:
    canvas = Canvas(images.shape[-2], images.shape[-1], size)
    return draw(recipe, count, rngs(*seeds), canvas, CPU, images.dtype)


def tensors(draws: Draws) -> dict[str, Tensor]:
    return {name: value for name, value in vars(draws).items() if isinstance(value, Tensor)}


# ---- drawing


@pytest.mark.parametrize("name", NAMES)
def test_a_pictures_draws_depend_on_its_own_generator_only(name):
    images = pictures(3)
    together = tensors(drawn(RECIPES[name], images, seeds=(0, 1, 2)))
    alone = tensors(drawn(RECIPES[name], images[1:2], seeds=(1,)))
    for key, value in alone.items():
        assert torch.equal(together[key][1:2], value), key
    assert not torch.equal(together["frames"][0], together["frames"][1])


@pytest.mark.parametrize("name", NAMES)
def test_drawing_repeats_bit_for_bit_and_moves_on(name):
    images, generator = pictures(), rngs(7)
    canvas = Canvas(32, 32, 16)
    first, second = (draw(RECIPES[name], 5, generator, canvas, CPU) for _ in range(2))
    again = draw(RECIPES[name], 5, rngs(7), canvas, CPU)
    assert all(torch.equal(value, tensors(again)[key]) for key, value in tensors(first).items())
    assert not torch.equal(first.frames, second.frames)
    assert torch.equal(cut(images, first, 16), cut(images, again, 16))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_recipe_gives_every_count_on_every_shape(name, count):
    for height, width in ((32, 32), (16, 48), (48, 16)):
        images = pictures(2, height, width)
        views = cut(images, drawn(RECIPES[name], images, count=count, seeds=(0, 1)), 16)
        assert views.shape == (2, count, 3, 16, 16)
        assert views.isfinite().all()
        assert views.min() > -0.2
        assert views.max() < 1.25  # colours may leave [0, 1] by the jitter, no further


def test_pixray_zooms_three_of_five_and_shows_the_whole_in_the_rest():
    draws = drawn(RECIPES["pixray"], pictures())
    assert draws.fill is not None
    assert draws.fill.any(-1)[0].tolist() == [False, False, False, True, True]
    many = drawn(RECIPES["pixray"], pictures(), count=100)
    assert many.zoom[0, :60].median() < 1.0 < many.zoom[0, 60:].median()


def test_padding_and_box_are_shared_by_a_steps_cutouts_as_published():
    pixray = [drawn(RECIPES["pixray"], pictures(), seeds=(seed,)) for seed in range(40)]
    coins = {tuple(d.mirror[0, :3].any(-1).tolist()) for d in pixray if d.mirror is not None}
    assert coins == {(True, True, True), (False, False, False)}
    assert all(len(set(d.ground[0, 3:].tolist())) == 1 for d in pixray)
    assert len({d.ground[0, 4].item() for d in pixray}) == 40
    box = drawn(RECIPES["nerdyrodent"], pictures(), seeds=(3,)).erased
    assert box is not None
    assert torch.equal(box, box[:, :1].expand_as(box))


@pytest.mark.parametrize(("count", "whole"), [(1, 1), (2, 2), (4, 2), (8, 2), (16, 4)])
def test_coherent_cutouts_are_whole_pictures_and_windows_and_count_by_what_they_show(count, whole):
    """Without the gentle moves a quarter, at least two, show a square picture whole and count three times."""
    looks = tuple(dataclasses.replace(look, warps=look.warps[:1]) for look in RECIPES["coherent"].looks)
    draws = drawn(dataclasses.replace(RECIPES["coherent"], looks=looks), pictures(2), count=count, seeds=(0, 1))
    assert draws.weight is not None
    assert torch.equal(draws.zoom[:, :whole], torch.ones(2, whole))
    assert (draws.zoom[:, whole:] < 1).all() and (draws.zoom[:, whole:] >= 0.5).all()  # never below 16 of 32 pixels
    torch.testing.assert_close(draws.weight.mean(1), torch.ones(2))
    shown = torch.cat([3 * draws.zoom[:, :whole], draws.zoom[:, whole:]], dim=1)
    torch.testing.assert_close(draws.weight / draws.weight[:, :1], shown / shown[:, :1])


@pytest.mark.parametrize("name", NAMES)
def test_a_part_of_the_draws_gives_that_part_of_the_cutouts(name):
    images = pictures(2)
    draws = drawn(RECIPES[name], images, count=7, seeds=(0, 1))
    parts = [cut(images, draws[start : start + 3], 16) for start in (0, 3, 6)]
    torch.testing.assert_close(torch.cat(parts, dim=1), cut(images, draws, 16), rtol=0, atol=1e-6)


# ---- geometry


def test_no_warp_is_a_plain_copy():
    images = pictures(2)
    views = cut(images, drawn(plain(Square(least=1.0)), images, size=32, seeds=(0, 1)), 32)
    torch.testing.assert_close(views, images[:, None].expand_as(views))


def test_an_affine_recipe_is_affine_grid_and_grid_sample():
    images = pictures(1, dtype=torch.float64)
    draws = drawn(plain(Affine(degrees=40, translate=0.2, p=1.0, padding="border")), images, size=32)
    for k in range(5):
        grid = F.affine_grid(draws.frames[:, k, 0, :2], [1, 3, 32, 32], align_corners=False)
        expected = F.grid_sample(images, grid, padding_mode="border", align_corners=False)
        torch.testing.assert_close(cut(images, draws, 32)[:, k], expected)


def test_open_warps_compose_into_one_homography_and_one_reading():
    images = pictures(1, dtype=torch.float64)
    warps = (Square(least=0.5), Affine(degrees=30, translate=0.0, p=1.0), Perspective(0.4, p=1.0))
    draws = drawn(plain(*warps), images)
    assert draws.frames.shape == (1, 5, 1, 3, 3)
    u = torch.rand(6, 8 + 18, generator=rngs(0)[0], dtype=torch.float64)[None, 1:, 8:]
    numbers = u.split([3, 6, 9], dim=-1)
    canvas = Canvas(32, 32, 16)
    window, turn, tilt = (warp.homography(number, canvas) for warp, number in zip(warps, numbers, strict=True))
    torch.testing.assert_close(draws.frames[:, :, 0], window @ turn @ tilt)


@pytest.mark.parametrize("padding", ["border", "reflection", "zeros"])
def test_each_frames_padding_equals_warping_pixels_twice(padding: Padding):
    """Reading once at padded places is what two grid_samples do, but for their second interpolation."""
    line = torch.linspace(0, 1, 64, dtype=torch.float64)
    images = torch.stack([line.expand(64, 64), line[:, None].expand(64, 64), 0 * line.expand(64, 64) + 0.5])[None]
    warps = (Affine(30, 0.2, p=1.0, padding=padding), Perspective(0.5, p=1.0, padding=padding))
    draws = drawn(plain(*warps), images, size=64, count=8)
    assert draws.frames.shape[2] == 2
    expected = []
    for k in range(8):
        once = warp_pixels(images, draws.frames[0, k, 1], padding)
        expected.append(warp_pixels(once, draws.frames[0, k, 0], padding))
    difference = (cut(images, draws, 64)[0] - torch.cat(expected)).abs()
    assert difference.median() < 1e-3
    assert (difference > 0.05).double().mean() < 0.05  # pixels on the seams only


def warp_pixels(images: Tensor, homography: Tensor, padding: str) -> Tensor:
    line = (torch.arange(64, dtype=images.dtype) + 0.5) / 32 - 1
    x, y = torch.meshgrid(line, line, indexing="xy")
    moved = torch.stack([x, y, torch.ones_like(x)], dim=-1) @ homography.T
    depth = moved[..., 2:].clamp(min=1e-6)
    return F.grid_sample(images, (moved[..., :2] / depth)[None], padding_mode=padding, align_corners=False)


def test_zeros_fill_what_the_inner_frame_lacks_even_where_the_picture_goes_on():
    """Crowson's perspective shows black outside the crop, not the picture around it."""
    images = torch.ones(1, 3, 64, 64)
    recipe = plain(Square(least=0.5, most=0.5), Perspective(0.9, p=1.0, padding="zeros"))
    views = cut(images, drawn(recipe, images, size=32), 32)
    assert set(views.unique().round(decimals=5).tolist()) == {0.0, 1.0}
    seen_beyond = cut(images, drawn(plain(Square(0.5, 0.5), Perspective(0.9, p=1.0)), images, size=32), 32)
    torch.testing.assert_close(seen_beyond, torch.ones_like(seen_beyond))


@pytest.mark.parametrize("padding", ["open", "border", "reflection", "alternating"])
def test_one_colour_stays_one_colour(padding: Padding):
    images = torch.tensor([0.2, 0.5, 0.7])[None, :, None, None].expand(1, 3, 48, 32)
    warps = (Square(0.3, padding=padding), Affine(30, 0.3, p=1.0, padding=padding), Perspective(0.8, p=1.0))
    views = cut(images, drawn(plain(*warps), images, count=20), 16)
    torch.testing.assert_close(views, images[:, None, :, :1, :1].expand_as(views))


def test_the_horizon_shows_padding_and_no_ghost():
    """Beyond its vanishing line a strong perspective must not show the picture again, upside down."""
    images = torch.ones(1, 3, 32, 32)
    draws = drawn(plain(Perspective(0.5, p=1.0, padding="zeros")), images, count=1)
    tilt = torch.tensor([[1.0, 0, 0], [0, 1.0, 0], [0, 2.0, 1.0]])  # depth is negative above y = -1/2
    draws = dataclasses.replace(draws, frames=tilt.expand(1, 1, 1, 3, 3))
    assert cut(images, draws, 32)[0, 0, 0, :8].max() == 0


def test_pooled_recipes_squash_the_whole_picture_by_mean_and_maximum():
    images = pictures(1, 16, 64)
    views = cut(images, drawn(Recipe(looks=(Look((Square(1.0),)),), pooled=True), torch.zeros(1, 3, 16, 16)), 16)
    blocks = images.view(1, 3, 16, 16, 4)
    torch.testing.assert_close(views[:, 0], (blocks.mean(-1) + blocks.amax(-1)) / 2)


# ---- resolution


@pytest.mark.parametrize(("side", "size"), [(512, 224), (256, 64), (512, 64)])
def test_a_fine_checkerboard_comes_out_grey(side, size):
    board = (torch.arange(side)[:, None] + torch.arange(side)) % 2.0
    images = board.expand(1, 3, side, side)
    views = cut(images, drawn(plain(Square(least=0.95), Affine(20, 0.05, p=1.0)), images, size=size), size)
    torch.testing.assert_close(views, torch.full_like(views, 0.5))


@pytest.mark.parametrize(("height", "width", "size"), [(128, 128, 32), (100, 60, 16), (96, 200, 17)])
def test_shrinking_keeps_the_mean(height, width, size):
    images = F.interpolate(pictures(1, 7, 9), (height, width), mode="bicubic").clamp(0, 1)
    recipe = Recipe(looks=(Look(()),))
    views = cut(images, drawn(recipe, images, size=size), size)
    torch.testing.assert_close(views.mean((-2, -1))[0, 0], images.mean((-2, -1))[0], atol=0.01, rtol=0)


def test_each_view_reads_the_level_that_suits_its_own_size():
    """A large view of a checkerboard is grey; a small one, at the picture's own resolution, is not."""
    board = ((torch.arange(256)[:, None] + torch.arange(256)) % 2.0).expand(1, 3, 256, 256)
    large = cut(board, drawn(plain(Square(1.0)), board, size=64), 64)
    small = cut(board, drawn(plain(Square(0.25, 0.25)), board, size=64), 64)
    assert large.std() < 1e-6
    assert small.std() > 0.03


def test_levels_do_not_bleed_into_each_other():
    images = torch.ones(1, 3, 64, 64)
    for least in (1.0, 0.5, 0.25):
        views = cut(images, drawn(plain(Square(least, least)), images, size=16), 16)
        torch.testing.assert_close(views, torch.ones_like(views))


# ---- colour, softness, box, noise


def test_colour_is_applied_per_cutout():
    images = pictures()
    recipe = dataclasses.replace(plain(Square(1.0)), jitter=Jitter(1.0, brightness=0.3, contrast=0.3, hue=0.2))
    draws = drawn(recipe, images, size=32)
    assert draws.colour is not None
    expected = torch.stack([m[:, :3] @ images[0].flatten(1) + m[:, 3:] for m in draws.colour[0]])
    torch.testing.assert_close(cut(images, draws, 32)[0].flatten(2), expected)


def test_sharpness_zero_is_the_kernel_of_ones_with_a_five():
    images = pictures()
    draws = drawn(dataclasses.replace(plain(Square(1.0)), sharpen=Sharpen(0.0, p=1.0)), images, size=32)
    kernel = torch.ones(3, 1, 3, 3)
    kernel[:, :, 1, 1] = 5
    expected = F.conv2d(images, kernel / 13, groups=3)
    torch.testing.assert_close(cut(images, draws, 32)[:, 0, :, 1:-1, 1:-1], expected)


def test_the_erased_box_is_black_and_the_rest_untouched():
    images = pictures() + 0.5
    draws = drawn(dataclasses.replace(plain(Square(1.0)), erase=Erase((0.2, 0.3), (0.5, 2.0), p=1.0)), images, size=32)
    assert draws.erased is not None
    views = cut(images, draws, 32)[0, 0]
    left, top, right, bottom = (draws.erased[0, 0] * 32 - 0.5).ceil().long().tolist()
    expected = images[0].clone()
    expected[:, top:bottom, left:right] = 0
    torch.testing.assert_close(views, expected)
    assert 0.15 < (views == 0).double().mean() < 0.35


def test_noise_is_each_pictures_own_with_its_cutouts_strength():
    draws = drawn(RECIPES["crowson"], pictures(2), count=50, seeds=(0, 1))
    noise = draw_noise(draws, 32, rngs(5, 6))
    assert noise is not None
    assert draws.noise is not None
    assert draws.noise.min() >= 0
    assert draws.noise.max() < 0.1
    assert draws.noise.mean().item() == pytest.approx(0.05, abs=0.01)
    torch.testing.assert_close(noise.flatten(2).std(-1), draws.noise, rtol=0.1, atol=1e-3)
    alone = draw_noise(drawn(RECIPES["crowson"], pictures(), count=50, seeds=(1,)), 32, rngs(6))
    assert alone is not None
    assert torch.equal(noise[1:], alone)
    assert draw_noise(drawn(plain(Square()), pictures()), 16, rngs(0)) is None


# ---- gradient and compilation


@pytest.mark.parametrize("name", NAMES)
def test_gradcheck(name):
    images = pictures(1, 6, 8, torch.float64).requires_grad_()
    draws = drawn(RECIPES[name], images, size=3, count=3)
    assert torch.autograd.gradcheck(lambda x: cut(x, draws, 3), images)


def test_pictures_do_not_mix():
    images = pictures(3).requires_grad_()
    views = cut(images, drawn(RECIPES["crowson"], images, seeds=(0, 1, 2)), 16)
    views[1].sum().backward()
    assert images.grad is not None
    assert [bool(grad.any()) for grad in images.grad] == [False, True, False]


def test_half_precision_pictures_are_cut_in_full_precision():
    images = pictures()
    draws = drawn(RECIPES["vqclip"], images)
    views = cut(images.bfloat16(), draws, 16)
    assert views.dtype == torch.float32
    torch.testing.assert_close(views, cut(images, draws, 16), atol=0.01, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_cutting_is_one_graph_for_the_compiler(name):
    images = pictures(2)
    draws = drawn(RECIPES[name], images, seeds=(0, 1))
    compiled = torch.compile(cut, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(images, draws, 16), cut(images, draws, 16))
