"""The published numbers stand in the recipes, and colours and boxes are what they claim."""

import colorsys
import math

import pytest
import torch
from torch import Tensor

from vqclip.guidance.recipes import LUMA, RECIPES, Erase, Jitter, Sharpen
from vqclip.guidance.warps import Affine, Flip, Letterbox, Perspective, ResizedCrop, Square


def uniform(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_crowson_has_the_notebooks_numbers():
    recipe = RECIPES["crowson"]
    (look,) = recipe.looks
    assert look.warps == (
        Square(least=None, most=1.0, power=1.0),
        Flip(0.5),
        Affine(degrees=30, translate=0.1, p=0.8, padding="border"),
        Perspective(0.2, p=0.4, padding="zeros"),
    )
    assert (recipe.sharpen, recipe.jitter) == (Sharpen(0.3, 0.4), Jitter(p=0.7, hue=0.01, saturation=0.01))
    assert (recipe.pooled, recipe.noise, recipe.erase) == (False, 0.1, None)


def test_nerdyrodent_has_latests_numbers():
    recipe = RECIPES["nerdyrodent"]
    (look,) = recipe.looks
    assert look.warps == (
        Affine(degrees=15, translate=0.1, shear=5, p=0.7, padding="zeros"),
        Perspective(0.7, p=0.7, padding="zeros"),
    )
    assert recipe.jitter == Jitter(p=0.7, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1)
    assert recipe.erase == Erase(area=(0.1, 0.4), ratio=(0.3, 1 / 0.3), p=0.7)
    assert (recipe.pooled, recipe.noise, recipe.sharpen) == (True, 0.1, None)


def test_pixray_has_its_zoom_and_wide_numbers():
    recipe = RECIPES["pixray"]
    zoom, wide = recipe.looks
    assert (zoom.share, wide.share) == (0.6, 0.4)
    assert zoom.warps == (
        Perspective(0.4, p=0.7, padding="alternating"),
        ResizedCrop(area=(0.25, 0.95), ratio=(0.85, 1.2)),
    )
    assert wide.warps == (
        Letterbox(square=0.95, slack=0.9, padding="grey"),
        Perspective(0.2, p=0.7, padding="grey"),
    )
    assert (recipe.jitter, recipe.pooled, recipe.noise) == (Jitter(p=0.8, hue=0.1, saturation=0.1), True, 0.1)


@pytest.mark.parametrize("name", RECIPES)
def test_shares_are_a_whole(name):
    assert math.isclose(sum(look.share for look in RECIPES[name].looks), 1)


def test_colour_keeps_grey_grey_and_off_is_the_identity():
    jitter = Jitter(p=1.0, saturation=0.5, hue=0.5)
    matrix = jitter.colour(uniform(1, 50, 5))
    grey = matrix[..., :3].sum(-1) * 0.3 + matrix[..., 3]
    torch.testing.assert_close(grey, torch.full_like(grey, 0.3))
    off = Jitter(p=0.0, brightness=1.0, hue=0.5).colour(uniform(1, 3, 5))
    assert torch.equal(off, torch.eye(3, 4, dtype=torch.float64).expand(1, 3, 3, 4))


def test_each_colour_change_is_the_textbooks():
    low = torch.zeros(1, 1, 5, dtype=torch.float64)  # every factor at its lowest
    colour = torch.tensor([0.8, 0.4, 0.2], dtype=torch.float64)

    def change(jitter: Jitter) -> Tensor:
        matrix = jitter.colour(low)[0, 0]
        return matrix[:, :3] @ colour + matrix[:, 3]

    luma = (colour * torch.tensor(LUMA, dtype=torch.float64)).sum()
    torch.testing.assert_close(change(Jitter(1.0, brightness=0.1)), 0.9 * colour)
    torch.testing.assert_close(change(Jitter(1.0, contrast=0.1)), 0.5 + 0.9 * (colour - 0.5))
    torch.testing.assert_close(change(Jitter(1.0, saturation=0.1)), luma + 0.9 * (colour - luma))


def test_hue_turns_red_into_green_by_a_third_of_a_turn():
    up = torch.zeros(1, 1, 5, dtype=torch.float64)
    up[..., 3] = 1.0  # hue at its highest
    matrix = Jitter(1.0, hue=1 / 3).colour(up)[0, 0, :, :3]
    red = torch.tensor([1.0, 0, 0], dtype=torch.float64)
    expected = torch.tensor(colorsys.hsv_to_rgb(1 / 3, 1, 1), dtype=torch.float64)
    torch.testing.assert_close(matrix @ red, expected, atol=1e-12, rtol=0)


def test_sharpness_is_one_when_off_and_below_the_most_when_on():
    factor = Sharpen(0.3, p=0.4).factor(uniform(1, 2000, 2))
    on = factor != 1
    assert on.double().mean().item() == pytest.approx(0.4, abs=0.03)
    assert factor[on].max() < 0.3


def test_boxes_have_the_area_and_ratio_asked_and_stay_inside():
    left, top, right, bottom = Erase(area=(0.1, 0.4), ratio=(0.3, 1 / 0.3), p=0.7).box(uniform(1, 4000, 6)).unbind(-1)
    on = right > left
    assert on.double().mean().item() == pytest.approx(0.7, abs=0.03)
    assert min(left.min(), top.min()) >= 0
    assert max(right.max(), bottom.max()) <= 1
    width, height = (right - left)[on], (bottom - top)[on]
    free = (width < 1) & (height < 1)  # a box wider than the cutout is narrowed
    area, ratio = (width * height)[free], (height / width)[free]
    assert 0.1 <= area.min() < 0.11
    assert 0.38 < area.max() <= 0.4
    assert 0.3 <= ratio.min() < 0.32
    assert 3.1 < ratio.max() <= 1 / 0.3
    assert (ratio > 1).double().mean().item() == pytest.approx(0.5, abs=0.05)
