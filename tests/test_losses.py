"""Losses against plain maths and torch's own functions, with finite gradients where they are delicate."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.guidance.losses import (
    LOSSES,
    TOLD,
    commitment_loss,
    find_loss,
    init_loss,
    prompt_loss,
    replace_grad,
    spherical_distance,
)

CPU = torch.device("cpu")
ALL = [*LOSSES, *(f"{name}:{example}" for name, (example, _) in TOLD.items())]

FOREVER = -math.inf


def unit(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=rng, dtype=torch.float64), dim=-1).to(dtype)


def pictures(n: int = 2, height: int = 6, width: int = 8) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_spherical_distance_is_half_the_squared_angle_and_the_published_formula():
    x, t = unit(5, 16)[:, None], unit(3, 16, seed=1)
    distance = spherical_distance(x, t)
    torch.testing.assert_close(distance, torch.acos((x * t).sum(-1)).square() / 2)
    torch.testing.assert_close(distance, 2 * torch.asin((x - t).norm(dim=-1) / 2).square())


def test_spherical_distance_is_exact_to_single_precision_near_zero():
    x = unit(1, 64)
    near = F.normalize(x + 1e-4 * unit(1, 64, seed=2), dim=-1)
    exact = spherical_distance(x, near)
    torch.testing.assert_close(spherical_distance(x.float(), near.float()), exact.float(), rtol=1e-2, atol=0)
    assert spherical_distance(x, x).item() == 0


@pytest.mark.parametrize("sign", [1, -1])
def test_spherical_distance_has_a_finite_gradient_at_both_ends(sign):
    x = unit(1, 8).requires_grad_()
    distance = spherical_distance(x, sign * x.detach())
    assert distance.item() == pytest.approx(0 if sign == 1 else math.pi**2 / 2)
    (grad,) = torch.autograd.grad(distance.sum(), x)
    assert grad.isfinite().all()
    if sign == 1:
        assert not grad.any()


def test_spherical_distance_passes_gradcheck():
    assert torch.autograd.gradcheck(spherical_distance, (unit(4, 6).requires_grad_(), unit(4, 6, seed=3)))


def test_replace_grad_gives_the_value_of_one_and_the_gradient_of_the_other():
    value, source = torch.tensor([1e8, 0.1]), torch.tensor([0.3, 0.7], requires_grad=True)
    result = replace_grad(value, source * 3)
    assert torch.equal(result, value)
    result.sum().backward()
    assert source.grad is not None
    assert source.grad.tolist() == [3, 3]


@pytest.mark.parametrize(
    ("weight", "stop", "value", "slopes"),
    [
        (1.0, FOREVER, [0.4, 1.0], [1, 1]),
        (2.5, FOREVER, [1.0, 2.5], [2.5, 2.5]),
        (-1.0, FOREVER, [-0.4, -1.0], [-1, -1]),
        (0.0, FOREVER, [0.0, 0.0], [0, 0]),
        (1.0, 0.7, [0.4, 1.0], [0, 1]),  # near enough: rests; still far: pulls
        (-1.0, -0.9, [-0.4, -1.0], [-1, 0]),  # still near: pushes; further than 0.9: rests
        (-2.0, -0.9, [-0.8, -2.0], [-2, 0]),  # the stop is of the distance, not of the weighted one
    ],
)
def test_prompt_loss_is_as_published(weight, stop, value, slopes):
    distance = torch.tensor([[0.4, 1.0]], requires_grad=True)
    loss = prompt_loss(distance, torch.tensor([weight]), torch.tensor([stop]))
    torch.testing.assert_close(loss, torch.tensor([value]))  # the value is never clipped
    loss.sum().backward()
    assert distance.grad is not None
    assert distance.grad.tolist() == [slopes]


def test_prompt_loss_passes_gradcheck_away_from_the_stop():
    x, t = unit(2, 3, 6).requires_grad_(), unit(2, 1, 6, seed=3)
    weight, stop = torch.tensor([1.5, -0.5]).double(), torch.tensor([FOREVER, FOREVER]).double()
    assert torch.autograd.gradcheck(lambda x: prompt_loss(spherical_distance(x, t), weight, stop), x)


def test_init_loss_is_half_the_mse_to_the_start_and_pulls_there():
    start = torch.randn(2, 4, 3, 3, generator=torch.Generator().manual_seed(0))
    latent = (start + torch.tensor([1.0, 2.0])[:, None, None, None]).requires_grad_()
    loss = init_loss(latent, start)
    expected = torch.stack([F.mse_loss(latent[i], start[i]) / 2 for i in range(2)])
    torch.testing.assert_close(loss, expected)
    loss.sum().backward()
    assert latent.grad is not None
    torch.testing.assert_close(latent - latent.grad * latent[0].numel(), start)


@pytest.mark.parametrize("name", ALL)
def test_picture_losses_pass_gradcheck_and_keep_pictures_apart(name):
    images, loss = pictures(3), find_loss(name, CPU)
    assert torch.autograd.gradcheck(loss, images.clone().requires_grad_())
    assert loss(images).shape == (3,)
    torch.testing.assert_close(loss(images)[1:2], loss(images[1:2]))


@pytest.mark.parametrize("name", ALL)
def test_a_weight_of_1_means_as_much_in_a_larger_picture(name):
    small = pictures(1, 32, 32)
    large = F.interpolate(small, scale_factor=4, mode="nearest")
    told = find_loss(name, CPU)
    ratio = (told(large) / told(small)).item()
    assert 0.04 < ratio < 1.1  # differences of neighbours fall with the size, as there are more of them in a form


def test_upside_is_zero_for_a_picture_that_is_the_same_upside_down_only():
    images = pictures(1)
    assert LOSSES["upside"](torch.cat([images, images.flip(-2)], dim=-2)).item() == 0
    torch.testing.assert_close(LOSSES["upside"](images)[0], F.mse_loss(images, images.flip(-2)))


def test_detail_falls_when_a_picture_is_blurred():
    images = pictures(1, 16, 16)
    kernel = torch.tensor([1.0, 2, 1], dtype=torch.float64)
    kernel = (kernel[:, None] * kernel / 16).expand(3, 1, 3, 3)
    blurred = F.conv2d(F.pad(images, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)
    torch.testing.assert_close(LOSSES["detail"](images)[0], F.mse_loss(images, blurred))
    assert LOSSES["detail"](blurred) < LOSSES["detail"](images) / 4


def test_contrast_is_minus_the_deviation_of_the_brightness():
    images = pictures(1)
    red, green, blue = images[0]
    brightness = 0.299 * red + 0.587 * green + 0.114 * blue
    torch.testing.assert_close(LOSSES["contrast"](images)[0], -brightness.std(correction=0))


def test_palette_is_the_distance_to_the_nearest_colour():
    red_and_grey = torch.tensor([[1.0, 0, 0], [0.5, 0.5, 0.5]]).T.reshape(1, 3, 1, 2)
    loss = find_loss("palette:red,#808080,white", CPU)(red_and_grey)
    assert loss.item() == pytest.approx((0 + (128 / 255 - 0.5) ** 2) / 2, rel=1e-3)


def test_edge_looks_at_the_rim_only():
    images = torch.ones(1, 3, 16, 16)
    images[..., 2:14, 2:14] = torch.rand(3, 12, 12)
    loss = find_loss("edge:white", CPU)
    assert loss(images).item() == pytest.approx(0, abs=1e-6)
    images[..., 0, :] = 0
    assert loss(images).item() == pytest.approx(16 / (16 * 16 - 12 * 12))


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("tvv", "did you mean 'tv'"),
        ("palete:red", "did you mean 'palette'"),
        ("palette", "palette:red,white"),
        ("palette:", "is no colour"),
        ("palette:rot", "'rot' is no colour"),
        ("edge:red,white", "One colour"),
        ("tv:1", "takes no argument"),
        ("palette:" + ",".join(["red"] * 257), "at most 256"),
    ],
)
def test_a_loss_that_is_not_right_is_one_sentence(spec, says):
    with pytest.raises(UsageError, match=says):
        find_loss(spec, CPU)


@pytest.mark.parametrize("name", LOSSES)
def test_picture_losses_have_a_finite_gradient_on_one_colour(name):
    images = torch.full((1, 3, 8, 8), 0.5, requires_grad=True)
    loss = LOSSES[name](images)
    loss.sum().backward()
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert images.grad is not None
    assert images.grad.isfinite().all()


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("size", [(1, 5), (5, 1), (1, 1)])
def test_picture_losses_take_pictures_one_pixel_wide(name: str, size: tuple[int, int]) -> None:
    images = pictures(2, *size).requires_grad_()
    loss = find_loss(name, CPU)(images)
    loss.sum().backward()
    assert loss.isfinite().all() and images.grad is not None and images.grad.isfinite().all()


def test_smoothness_of_a_row_is_that_of_many_like_it() -> None:
    row = pictures(1, 1, 8)
    for images in (row, row.mT):
        torch.testing.assert_close(
            find_loss("smoothness", CPU)(images), find_loss("smoothness", CPU)(row.expand(1, 3, 6, 8))
        )


def test_tv_is_the_mean_squared_step_with_edges_repeated():
    images = pictures()
    padded = F.pad(images, (0, 1, 0, 1), mode="replicate")
    across, down = padded[..., :-1, 1:] - images, padded[..., 1:, :-1] - images
    torch.testing.assert_close(LOSSES["tv"](images), (across**2 + down**2).mean((1, 2, 3)))


def test_smoothness_of_a_ramp_is_its_slope():
    ramp = (0.01 * torch.arange(20.0)).expand(1, 3, 20, 20)
    assert LOSSES["smoothness"](ramp).item() == pytest.approx(0.01 * math.sqrt(3), rel=1e-5)


def test_saturation_is_pixrays_formula_and_falls_with_colour():
    images = pictures(1)
    red, green, blue = images[0].flatten(1)
    first, second = red - green, (red + green) / 2 - blue
    spread = torch.sqrt(first.var() + second.var())
    mean = torch.sqrt(first.mean() ** 2 + second.mean() ** 2)
    torch.testing.assert_close(LOSSES["saturation"](images)[0], -(spread + 0.3 * mean) / 10)
    grey = images.mean(1, keepdim=True)
    assert LOSSES["saturation"](images) < LOSSES["saturation"](grey + 0.2 * (images - grey))


def test_symmetry_is_zero_for_a_mirrored_picture_only():
    images = pictures(1)
    mirrored = torch.cat([images, images.flip(-1)], dim=-1)
    assert LOSSES["symmetry"](mirrored).item() == 0
    torch.testing.assert_close(LOSSES["symmetry"](images)[0], F.mse_loss(images, images.flip(-1)))


def test_commitment_is_the_mse_to_the_entries_and_pulls_there():
    latent = torch.tensor([1.0, 3.0]).view(1, 2, 1, 1).requires_grad_()
    loss = commitment_loss(latent, torch.tensor([0.0, 1.0]).view(1, 2, 1, 1))
    assert loss.tolist() == [(1 + 4) / 2]
    loss.sum().backward()
    assert latent.grad is not None and latent.grad.flatten().tolist() == [1.0, 2.0]
