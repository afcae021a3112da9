"""Arithmetic of unit vectors against plain trigonometry, and words found in a picture."""

import math

import pytest
import torch
from torch import Tensor

from vqclip.guidance.vectors import mean_vector, slerp, text_difference
from vqclip.guidance.where import occlusion_map


def at(angle: float) -> Tensor:
    return torch.tensor([math.cos(angle), math.sin(angle)], dtype=torch.float64)


@pytest.mark.parametrize("share", [0.0, 0.25, 0.5, 1.0])
@pytest.mark.parametrize("angle", [1e-8, 0.3, 1.5, 3.1])
def test_slerp_turns_by_a_share_of_the_angle(share: float, angle: float) -> None:
    torch.testing.assert_close(slerp(at(0), at(angle), share), at(share * angle), rtol=0, atol=1e-7)


def test_slerp_of_many_is_slerp_of_each() -> None:
    a, b = torch.nn.functional.normalize(torch.randn(2, 5, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    torch.testing.assert_close(slerp(a, b, 0.3)[2], slerp(a[2], b[2], 0.3))


def test_a_difference_of_texts_and_a_mean_have_unit_length() -> None:
    torch.testing.assert_close(text_difference(at(0), at(math.pi / 2)), at(3 * math.pi / 4))
    torch.testing.assert_close(mean_vector(torch.stack([at(0.2), at(0.8)])), at(0.5))


def test_words_are_missed_where_they_are_hidden() -> None:
    """A perceptor that sees red in the upper left: hiding that place, and no other, makes the words fit less."""
    picture = torch.full((1, 3, 48, 64), 0.5)
    picture[:, 0, 4:16, 6:20] = 1.0

    def see(images: Tensor) -> Tensor:
        red = (images[:, 0] - images[:, 1]).clamp(min=0).flatten(1).sum(1)
        return torch.stack([red, torch.full_like(red, 50.0)], -1)

    missed = occlusion_map(picture, see, torch.tensor([0.01, 0.0]))
    assert missed.shape == (48, 64)
    row, column = divmod(int(missed.argmax()), 64)
    assert 0 <= row < 22 and 0 <= column < 26
    assert float(missed[30:, 36:].abs().max()) < 0.01 * float(missed.max())


def test_no_more_hidden_pictures_than_are_seen_at_once_are_made() -> None:
    seen = []

    def see(images: Tensor) -> Tensor:
        seen.append(len(images))
        return images.flatten(1)[:, :4]

    occlusion_map(torch.rand(1, 3, 24, 36), see, torch.ones(4))
    assert max(seen) <= 32 and sum(seen) == 144 + 1
