"""Every warp against plain maths: affine_grid, the 8 equations of a homography, windows by hand."""

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.guidance.warps import Affine, Canvas, Flip, Letterbox, Perspective, ResizedCrop, Square, one_per_cell

SQUARE = Canvas(64, 64, 32)
WIDE = Canvas(64, 128, 32)
TALL = Canvas(128, 64, 32)
CORNERS = torch.tensor([[-1.0, -1], [1, -1], [1, 1], [-1, 1]], dtype=torch.float64)


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def apply(homography: Tensor, points: Tensor) -> Tensor:
    """Map points (P, 2) by (N, K, 3, 3): (N, K, P, 2)."""
    lifted = torch.cat([points, torch.ones_like(points[:, :1])], dim=-1)
    moved = torch.einsum("nkij,pj->nkpi", homography, lifted)
    return moved[..., :2] / moved[..., 2:]


def test_affine_is_the_inverse_of_shear_scale_rotate_move():
    warp = Affine(degrees=15, translate=0.1, scale=(0.8, 1.2), shear=5, p=1.0)
    u = uniform(1, 1, 6)
    theta, slant = (2 * u[0, 0, 0] - 1) * math.radians(15), math.tan((2 * u[0, 0, 1] - 1) * math.radians(5))
    factor = 0.8 + 0.4 * u[0, 0, 2]
    cos, sin = torch.cos(theta), torch.sin(theta)
    linear = factor * torch.tensor([[cos, sin], [-sin, cos]]) @ torch.tensor([[1, slant], [0, 1]], dtype=torch.float64)
    shift = (2 * u[0, 0, 3:5] - 1) * 0.2  # a tenth of the side, which is 2
    inverse = torch.cat([torch.linalg.inv(linear), -torch.linalg.inv(linear) @ shift[:, None]], dim=1)
    expected = F.affine_grid(inverse[None], (1, 3, 8, 8), align_corners=False)[0].reshape(-1, 2)
    line = (torch.arange(8, dtype=torch.float64) + 0.5) / 4 - 1
    grid = torch.stack(torch.meshgrid(line, line, indexing="xy"), dim=-1).reshape(-1, 2)
    torch.testing.assert_close(apply(warp.homography(u, SQUARE), grid)[0, 0], expected)


def test_perspective_takes_the_pushed_corners_to_the_corners():
    warp = Perspective(0.7, p=1.0)
    u = uniform(2, 5, 9)
    homography = warp.homography(u, SQUARE)
    for n in range(2):
        for k in range(5):
            pushed = CORNERS * (1 - 0.7 * u[n, k, :8].view(4, 2))
            expected = solve_homography(pushed.numpy(), CORNERS.numpy())
            np.testing.assert_allclose(homography[n, k].numpy(), expected, atol=1e-9)


def solve_homography(source: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The textbook system of 8 equations for 8 unknowns."""
    rows, values = [], []
    for (x, y), (a, b) in zip(source, target, strict=True):
        rows += [[x, y, 1, 0, 0, 0, -x * a, -y * a], [0, 0, 0, x, y, 1, -x * b, -y * b]]
        values += [a, b]
    return np.append(np.linalg.solve(np.array(rows), np.array(values)), 1).reshape(3, 3)


def test_perspective_pushes_corners_inwards_by_at_most_its_strength():
    homography = Perspective(0.4, p=1.0).homography(uniform(1, 500, 9), SQUARE)
    pushed = apply(torch.linalg.inv(homography), CORNERS)
    inward = 1 - pushed * CORNERS
    assert inward.min() >= -1e-9
    assert 0.38 < inward.max() <= 0.4 + 1e-9


@pytest.mark.parametrize("canvas", [SQUARE, WIDE, TALL])
def test_square_windows_are_square_in_pixels_inside_the_picture_and_of_the_sizes_asked(canvas):
    seen = apply(Square(least=0.5, most=1.0, power=1.0).homography(uniform(1, 1000, 3), canvas), CORNERS)[0]
    assert seen.abs().max() <= 1 + 1e-9
    sides = (seen[:, 2] - seen[:, 0]) / 2 * torch.tensor([canvas.width, canvas.height])
    torch.testing.assert_close(sides[:, 0], sides[:, 1])
    assert 32 <= sides.min() < 34
    assert 62 < sides.max() <= 64
    assert sides.mean().item() == pytest.approx(48, abs=1)


def test_square_as_published_shrinks_to_the_cut_size_and_not_below_the_picture():
    small = Square().homography(uniform(1, 1000, 3), Canvas(512, 512, 224))
    assert (small[..., 0, 0] * 512).min().item() == pytest.approx(224, abs=2)
    below = Square().homography(uniform(1, 10, 3), Canvas(128, 128, 224))  # short side under the cut size
    torch.testing.assert_close(below, torch.eye(3, dtype=torch.float64).expand(1, 10, 3, 3))


def test_power_favours_large_windows_below_one_and_small_ones_above():
    u = uniform(1, 1000, 3)
    mean = {power: Square(least=0.0, power=power).homography(u, SQUARE)[..., 0, 0].mean() for power in (0.5, 1, 2)}
    assert mean[0.5].item() == pytest.approx(2 / 3, abs=0.02)  # the mean of u**p is 1 / (p + 1)
    assert mean[1].item() == pytest.approx(1 / 2, abs=0.02)
    assert mean[2].item() == pytest.approx(1 / 3, abs=0.02)


@pytest.mark.parametrize("canvas", [SQUARE, WIDE])
def test_resized_crops_have_the_area_and_ratio_asked(canvas):
    homography = ResizedCrop(area=(0.25, 0.45), ratio=(0.85, 1.2)).homography(uniform(1, 1000, 4), canvas)
    seen = apply(homography, CORNERS)[0]
    assert seen.abs().max() <= 1 + 1e-9
    width, height = ((seen[:, 2] - seen[:, 0]) / 2).unbind(-1)
    area, ratio = width * height, width * canvas.width / (height * canvas.height)
    assert ratio.max() <= 1.2 + 1e-9
    if canvas is SQUARE:  # on the wide one the largest do not fit and are narrowed
        assert 0.25 <= area.min() < 0.26
        assert 0.44 < area.max() <= 0.45
        assert 0.85 <= ratio.min() < 0.86


def test_letterbox_shows_all_of_a_wide_picture_between_bars():
    middle = torch.full((1, 1, 3), 0.5, dtype=torch.float64)
    middle[..., 0] = 1.0  # the largest scale: the width fits exactly
    seen = apply(Letterbox(square=0.95, slack=0.9).homography(middle, WIDE), CORNERS)[0, 0]
    torch.testing.assert_close(seen, CORNERS * torch.tensor([1.0, 2.0], dtype=torch.float64))
    seen = apply(Letterbox(square=0.95, slack=0.9).homography(middle, TALL), CORNERS)[0, 0]
    torch.testing.assert_close(seen, CORNERS * torch.tensor([2.0, 1.0], dtype=torch.float64))


@pytest.mark.parametrize("canvas", [SQUARE, WIDE, TALL])
def test_letterbox_keeps_the_whole_picture_in_view(canvas):
    homography = Letterbox(square=0.95, slack=0.9).homography(uniform(1, 500, 3), canvas)
    placed = apply(torch.linalg.inv(homography), CORNERS)[0]
    assert placed.abs().max() <= 1 + 1e-9
    pixels = (placed[:, 2] - placed[:, 0]) / torch.tensor([canvas.width, canvas.height])
    torch.testing.assert_close(pixels[:, 0], pixels[:, 1])  # aspect kept
    assert placed.std(dim=0).max() > 0.01  # it does move


def test_flip_mirrors_half_the_time():
    sign = Flip(p=0.5).homography(uniform(1, 1000, 1), SQUARE)[0, :, 0, 0]
    assert set(sign.tolist()) == {-1.0, 1.0}
    assert sign.mean().abs() < 0.1


@pytest.mark.parametrize("make", [lambda p: Affine(30, 0.1, p=p, shear=5), lambda p: Perspective(0.5, p=p)])
def test_probability_is_how_often_something_moves(make):
    eye = torch.eye(3, dtype=torch.float64)
    moved = (make(0.7).homography(uniform(1, 2000, make(0.7).randoms), SQUARE) != eye).any(-1).any(-1)
    assert moved.double().mean().item() == pytest.approx(0.7, abs=0.03)
    never = make(0.0).homography(uniform(1, 10, make(0.0).randoms), SQUARE)
    assert torch.equal(never, eye.expand(1, 10, 3, 3))


@pytest.mark.parametrize("aspect", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 6, 16, 31])
def test_every_cell_of_a_grid_gets_one_point_and_all_cells_are_as_large(count: int, aspect: float):
    """The cells, from their corners: any place lies in just one, so they cover the square; and each has area 1 / K."""
    low, high = (one_per_cell(torch.full((1, count, 2), at, dtype=torch.float64), aspect)[0] for at in (0.0, 1.0))
    torch.testing.assert_close((high - low).prod(1), torch.full((count,), 1 / count, dtype=torch.float64))
    places = uniform(500, 1, 2)
    assert ((places >= low) & (places < high)).all(2).sum(1).eq(1).all()
    u = uniform(1, count, 2)
    torch.testing.assert_close(one_per_cell(u, aspect)[0], low + u[0] * (high - low))


def test_stratified_squares_look_everywhere_and_have_the_same_sizes():
    u = uniform(1, 9, 3)
    free, spread = (Square(least=0.2, most=0.2, stratified=on).homography(u, SQUARE)[0] for on in (False, True))
    assert torch.equal(free[:, :2, :2], spread[:, :2, :2])
    x, y = spread[:, 0, 2], spread[:, 1, 2]  # centres between -0.8 and 0.8, in thirds
    assert sorted(((x + 0.8) / 1.6 * 3).long().tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert sorted(((y + 0.8) / 1.6 * 3).long().tolist()) == [0, 0, 0, 1, 1, 1, 2, 2, 2]
