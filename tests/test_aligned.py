"""Gradients that point to the scene: against likenesses whose gradients are known."""

import open_clip
import pytest
import torch

from scripts.train import clip
from scripts.train.aligned import alignment, stride
from scripts.train.contrast import fitted
from scripts.train.dreams import Dreams


def test_a_likeness_that_falls_with_the_distance_points_to_the_scene() -> None:
    views, scenes = torch.rand(2, 3, 3, 8, 8)
    nearer, gradient = alignment(lambda seen: -0.5 * (seen - scenes).square().sum((1, 2, 3)), views, scenes)
    away, _ = alignment(lambda seen: (seen - scenes).square().sum((1, 2, 3)), views, scenes)
    assert nearer.item() == pytest.approx(0, abs=1e-5) and away.item() == pytest.approx(2, abs=1e-5)
    assert torch.allclose(gradient, scenes - views)


def test_what_is_finer_than_two_pixels_does_not_count() -> None:
    views, scenes = torch.zeros(2, 3, 8, 8), torch.ones(2, 3, 8, 8)
    stripes = torch.ones(8, 8)
    stripes[:, 1::2] = -1
    loss, _ = alignment(lambda seen: (seen * (1 + 5 * stripes)).sum((1, 2, 3)), views, scenes)
    assert loss.item() == pytest.approx(0, abs=1e-5)


def test_the_loss_teaches_the_weights_of_the_gradient() -> None:
    torch.manual_seed(0)
    views, scenes = torch.rand(2, 4, 3, 8, 8, dtype=torch.float64)
    weights = torch.randn(3, 8, 8, dtype=torch.float64, requires_grad=True)

    def loss(w: torch.Tensor) -> torch.Tensor:
        return alignment(lambda seen: (seen.square() * w).sum((1, 2, 3)), views, scenes)[0].double()

    assert torch.autograd.gradcheck(loss, (weights,), eps=1e-3, atol=1e-3)  # cosines are in fp32


def test_a_stride_goes_a_part_of_the_way() -> None:
    views, scenes = torch.full((5, 3, 8, 8), 0.25), torch.full((5, 3, 8, 8), 0.75)
    after = stride(views, scenes, 100 * (scenes - views), torch.Generator().manual_seed(1))
    shares = ((after - views) / (scenes - views)).flatten(1)
    assert torch.allclose(shares, shares[:, :1].expand_as(shares), atol=1e-5)
    assert ((shares >= 0.1 - 1e-5) & (shares <= 0.5 + 1e-5)).all() and len(shares[:, 0].unique()) == 5


def test_dreams_go_on_where_they_are_led_and_every_weight_learns() -> None:
    torch.manual_seed(0)
    recipe = clip.RECIPES["aligned"]
    model = clip.build(recipe).eval()
    dreams = Dreams(8, recipe.side, clip.CONTEXT, torch.device("cpu"))
    tokens = torch.zeros(4, clip.CONTEXT, dtype=torch.long)
    tokens[:, 0], tokens[:, 1], tokens[:, 2] = clip.VOCABULARY - 2, torch.arange(4), clip.VOCABULARY - 1
    real = torch.rand(4, 3, recipe.side, recipe.side)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        loss = dreams.aligned(model, tokens, real, torch.Generator().manual_seed(2))
        loss.backward()
    assert 0 < loss.item() < 2 and dreams.begun.sum() == 4
    assert model.visual.conv1.weight.grad.abs().max() > 0 and model.text_projection.grad.abs().max() > 0
    assert not torch.equal(dreams.views[dreams.begun], real)


def test_weights_fit_another_size_of_input() -> None:
    small, large = (clip.build(clip.RECIPES[name]) for name in ("aligned", "guide"))
    weights = large.state_dict()
    changed = fitted(weights, small)
    small.load_state_dict(changed)
    name = "visual.attnpool.positional_embedding"
    corners = weights[name][[0, 1, 3, 7, 9]]  # the mean's, then the corners of 3 x 3
    assert torch.allclose(changed[name], corners, atol=1e-6)
    assert fitted(weights, large) is weights
    judge: open_clip.CLIP = clip.build(clip.RECIPES["judge"])
    assert fitted(judge.state_dict(), judge).keys() == judge.state_dict().keys()
