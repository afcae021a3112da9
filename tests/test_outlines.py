"""Outlines: edges become steep where they were, and nothing is added to a picture that it did not have."""

import math
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from tiny_upscaler import random_upscaler
from torch import Tensor

from vqclip.models.enlarge import FINISH, Outlined, enlarge, load_network
from vqclip.models.outlines import Outlines

CPU = torch.device("cpu")
QUICK = Outlines(steps=4, every=2, scale=1.0)


def soft_edge(side: int = 48, deviation: float = 4.0) -> Tensor:
    """An upright edge in the middle from 0.2 to 0.8, as soft as a Gaussian's integral, (1, 3, 8, side)."""
    places = torch.arange(side) + 0.5 - side / 2
    profile = 0.5 + 0.3 * torch.erf(places / (deviation * math.sqrt(2)))
    return profile.expand(1, 3, 8, side).clone()


def width(profile: Tensor) -> float:
    """Pixels from a tenth to nine tenths of the way up a rising profile of one dimension."""
    shares = (profile - profile.min()) / (profile.max() - profile.min())
    return float(((shares > 0.1) & (shares < 0.9)).sum())


def test_a_soft_edge_becomes_steep_and_stays_where_it_was() -> None:
    before, after = (each[0, 0, 4] for each in (soft_edge(), Outlines()(soft_edge())))
    assert width(before) >= 10 and width(after) <= 3
    torch.testing.assert_close(after.flip(0), 1 - after, atol=1e-4, rtol=0)  # as far from the middle on both sides
    assert float(after[:12].max()) < 0.21 and float(after[-12:].min()) > 0.79


def test_an_even_slope_is_no_edge() -> None:
    """Its second derivative is nothing: neither carried nor diffused, but for the border."""
    slope = torch.linspace(0.3, 0.7, 96).expand(1, 3, 12, 96).clone()
    after = QUICK(slope)
    torch.testing.assert_close(after[..., QUICK.reach : -QUICK.reach], slope[..., QUICK.reach : -QUICK.reach])


def test_faint_noise_fades() -> None:
    noise = 0.5 + 0.004 * torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(0))
    assert float(Outlines()(noise).std()) < 0.2 * float(noise.std())


def test_the_channels_of_an_edge_stay_together() -> None:
    """Between two colours there are only mixtures of the two, so no coloured fringes."""
    share = (soft_edge(deviation=3.0)[:, :1] - 0.2) / 0.6
    one, other = torch.tensor([0.9, 0.1, 0.2]), torch.tensor([0.1, 0.6, 0.7])
    colours = [each.view(1, 3, 1, 1) for each in (one, other)]
    after = Outlines()(colours[0] * (1 - share) + colours[1] * share)
    direction = (other - one) / (other - one).norm()
    away = after.permute(0, 2, 3, 1) - one
    aside = away - (away @ direction)[..., None] * direction
    assert float(aside.abs().max()) < 1e-5


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 99))
def test_any_size_and_no_colour_out_of_range(width: int, height: int, seed: int) -> None:
    images = torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(seed))
    after = QUICK(images)
    assert after.shape == images.shape
    assert float(after.min()) >= 0 and float(after.max()) <= 1


@pytest.mark.parametrize("dims", [(2,), (3,), (2, 3)])
def test_a_mirrored_picture_becomes_the_mirrored_one(dims: tuple[int, ...]) -> None:
    images = torch.nn.functional.interpolate(torch.rand(1, 3, 6, 6), (36, 36), mode="bicubic").clamp(0, 1)
    torch.testing.assert_close(Outlines()(images.flip(dims)), Outlines()(images).flip(dims), atol=1e-4, rtol=0)


def test_nothing_beyond_the_reach_counts() -> None:
    one = torch.rand(1, 3, 1, 80, generator=torch.Generator().manual_seed(1))
    other = one.clone()
    other[..., 0] = 1 - other[..., 0]
    same = (QUICK(one) == QUICK(other))[0].all(0)[0]
    assert not bool(same[0]) and bool(same[QUICK.reach + 1 :].all())


def test_a_file_asks_for_outlines_and_tiles_are_the_whole_picture(tmp_path: Path) -> None:
    network = random_upscaler()
    save_file(network.state_dict(), tmp_path / "plain.safetensors")
    save_file(network.state_dict(), tmp_path / "outlined.safetensors", {FINISH: "shock filter"})
    images = torch.rand(1, 3, 20, 24)
    plain, outlined = (load_network(tmp_path / f"{name}.safetensors", CPU) for name in ("plain", "outlined"))
    assert isinstance(outlined, Outlined) and not isinstance(plain, Outlined)
    torch.testing.assert_close(enlarge(outlined, images), Outlines()(enlarge(plain, images)))

    quick = Outlined(network, QUICK)
    whole = quick(images)
    left = slice(0, 12 + quick.reach)
    torch.testing.assert_close(quick(images[..., left])[..., : quick.scale * 12], whole[..., : quick.scale * 12])
