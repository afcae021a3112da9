"""The objective: right pictures, right sums, and micro-batches that change nothing."""

import dataclasses
import math
from collections.abc import Callable, Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.guidance.cutouts import Draws, cut, draw, draw_noise
from vqclip.guidance.losses import LOSSES, saturation, spherical_distance, tv
from vqclip.guidance.objective import Guide, Objective, Targets
from vqclip.guidance.recipes import RECIPES, Look, Recipe
from vqclip.guidance.warps import Canvas, Square

RED, GREEN, BLUE = torch.eye(3)
STILL = Recipe(looks=(Look((Square(1.0),)),))


def mean_colour(views: Tensor) -> Tensor:
    """A fake perceptor that sees nothing but the mean colour: mixing up pictures shows at once."""
    return F.normalize(views.mean((-2, -1)), dim=-1)


def random_perceptor(size: int, width: int = 16, seed: int = 0) -> Callable[[Tensor], Tensor]:
    """A fake perceptor that sees every pixel."""
    weight = torch.randn(width, 3 * size * size, generator=torch.Generator().manual_seed(seed)) / size
    return lambda views: F.normalize(torch.tanh(views.flatten(1) @ weight.T), dim=-1)


def targets(
    embeddings: Sequence[Tensor],
    picture: Sequence[int],
    weights: Sequence[float] | None = None,
    stops: Sequence[float] | None = None,
) -> Targets:
    return Targets(
        embeddings=F.normalize(torch.stack(list(embeddings)), dim=-1),
        weights=torch.tensor(weights or [1.0] * len(picture)),
        stops=torch.tensor(stops or [-math.inf] * len(picture)),
        picture=torch.tensor(picture),
    )


def rngs(seeds: Sequence[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def score(objective: Objective, images: Tensor, latent: Tensor | None = None) -> tuple[dict[str, Tensor], Tensor]:
    """Return the losses and the gradient on the pictures."""
    images = images.clone().requires_grad_()
    latent = torch.zeros(len(images), 4, 2, 2) if latent is None else latent
    losses = objective(images, latent.requires_grad_())
    assert all(not loss.requires_grad and loss.shape == (len(images),) for loss in losses.values())
    return losses, torch.zeros_like(images) if images.grad is None else images.grad


def pictures(n: int = 3, height: int = 16, width: int = 16) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(3))


def make(n: int, micro_batch: int | None = None, recipe: str = "vqclip", only: int | None = None) -> Objective:
    """Three pictures with prompts of their own, seen by two perceptors of different sizes."""
    words = torch.randn(4, 16, generator=torch.Generator().manual_seed(8))
    owner, weights, stops = [0, 1, 1, 2], [1.0, 2.0, -0.5, 1.0], [-math.inf, 0.1, -1.2, -math.inf]
    rows = [row for row in range(4) if only is None or owner[row] == only]
    guide_targets = targets(
        [words[row] for row in rows],
        [owner[row] if only is None else 0 for row in rows],
        [weights[row] for row in rows],
        [stops[row] for row in rows],
    )
    seeds = range(n) if only is None else [only]
    return Objective(
        guides=[Guide(random_perceptor(size, seed=size), size, guide_targets) for size in (8, 12)],
        recipe=RECIPES[recipe],
        cutouts=7,
        crop_rngs=rngs([10 + seed for seed in seeds]),
        noise_rngs=rngs([20 + seed for seed in seeds]),
        micro_batch=micro_batch,
        losses={"tv": (tv, 0.5), "saturation": (saturation, 1.0)},
        init=None,
    )


def test_every_picture_goes_to_its_own_prompt():
    """Picture 0 wants red, picture 1 blue, and the targets are given in another order."""
    images = torch.full((2, 3, 8, 8), 0.5)
    guide = Guide(mean_colour, 8, targets([BLUE, RED], picture=[1, 0]))
    objective = Objective([guide], RECIPES["vqclip"], 4, rngs([0, 1]), rngs([2, 3]))
    for _ in range(30):
        _, grad = score(objective, images)
        images = (images - 20 * grad).clamp(0, 1)
    assert images[0].mean((-2, -1)).argmax() == 0
    assert images[1].mean((-2, -1)).argmax() == 2


@pytest.mark.parametrize("recipe", ["vqclip", "coherent"])
def test_the_loss_is_the_sum_over_prompts_and_guides_of_the_weighted_mean_over_cutouts(recipe):
    images = pictures(1)
    objective = make(1, recipe=recipe, only=1)
    losses, _ = score(objective, images)
    draws = draw(RECIPES[recipe], 7, rngs([11]), Canvas(16, 16, 12), images.device)
    noise_rngs = rngs([21])
    expected = 0.0
    for guide in objective.guides:
        noise = draw_noise(draws, guide.size, noise_rngs)
        assert noise is not None
        seen = guide.encode((cut(images, draws, guide.size) + noise).flatten(0, 1))
        for embedding, weight in zip(guide.targets.embeddings, (2.0, -0.5), strict=True):
            distance = spherical_distance(seen, embedding)
            counts = [1.0] * 7 if draws.weight is None else draws.weight[0].tolist()
            expected += weight * sum(w * d for w, d in zip(counts, distance.tolist(), strict=True)) / 7
    assert losses["prompt"].item() == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(losses["tv"], 0.5 * LOSSES["tv"](images))
    torch.testing.assert_close(losses["saturation"], LOSSES["saturation"](images))


@pytest.mark.parametrize("recipe", ["vqclip", "coherent"])
@pytest.mark.parametrize(("share", "seen"), [(1.0, [0, 1, 2, 3, 4, 5, 6]), (0.4, [1, 3, 5]), (0.01, [3])])
def test_a_guide_counts_by_its_weight_and_sees_its_share_of_the_same_places(recipe, share, seen):
    """The second of two guides, against plain maths; the first sees all as before, and no draw moves."""
    images, whole = pictures(1), make(1, recipe=recipe, only=1)
    whole.guides[1:] = [dataclasses.replace(whole.guides[1], weight=3.0, share=share)]  # type: ignore[index]
    losses, _ = score(whole, images)
    draws = draw(RECIPES[recipe], 7, rngs([11]), Canvas(16, 16, 12), images.device)
    noise_rngs, expected = rngs([21]), 0.0
    for guide, places, weight in zip(whole.guides, (list(range(7)), seen), (1.0, 3.0), strict=True):
        mine = Draws(**{k: v[:, places] if isinstance(v, Tensor) else v for k, v in vars(draws).items()})
        noise = draw_noise(mine, guide.size, noise_rngs)
        vectors = guide.encode((cut(images, mine, guide.size) + noise).flatten(0, 1))
        counts = torch.ones(len(places)) if mine.weight is None else mine.weight[0]
        for embedding, of_prompt in zip(guide.targets.embeddings, (2.0, -0.5), strict=True):
            distance = spherical_distance(vectors, embedding)
            expected += weight * of_prompt * float((counts * distance).sum() / counts.sum())
    assert losses["prompt"].item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("micro_batch", [1, 2])
def test_micro_batches_change_nothing_for_shares_either(micro_batch):
    whole, parted = make(3, recipe="coherent"), make(3, micro_batch, "coherent")
    for objective in (whole, parted):
        objective.guides[1:] = [dataclasses.replace(objective.guides[1], share=0.7)]  # type: ignore[index]
    (losses, grad), (in_parts, grad_in_parts) = score(whole, pictures()), score(parted, pictures())
    torch.testing.assert_close(in_parts["prompt"], losses["prompt"], rtol=1e-6, atol=1e-6)
    assert (grad_in_parts - grad).norm() <= 1e-6 * grad.norm()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("micro_batch", [1, 3, 7, 100])
def test_micro_batches_change_neither_draws_nor_losses_nor_gradient(recipe, micro_batch):
    losses, grad = score(make(3, recipe=recipe), pictures())
    in_parts, grad_in_parts = score(make(3, micro_batch, recipe), pictures())
    for name, loss in losses.items():
        torch.testing.assert_close(in_parts[name], loss, rtol=1e-6, atol=1e-6)
    assert (grad_in_parts - grad).norm() <= 1e-6 * grad.norm()


@pytest.mark.parametrize("recipe", RECIPES)
@pytest.mark.parametrize("picture", [0, 1, 2])
def test_a_picture_is_the_same_alone_and_in_a_batch(recipe, picture):
    losses, grad = score(make(3, recipe=recipe), pictures())
    alone, grad_alone = score(make(1, recipe=recipe, only=picture), pictures()[picture : picture + 1])
    for name, loss in alone.items():
        torch.testing.assert_close(losses[name][picture : picture + 1], loss, rtol=1e-6, atol=1e-6)
    assert (grad[picture] - grad_alone[0]).norm() <= 1e-6 * grad_alone.norm()


def test_repeats_are_bit_equal_and_steps_differ():
    first, second = make(3), make(3)
    for _ in range(2):
        losses, grad = score(first, pictures())
        again, grad_again = score(second, pictures())
        assert all(torch.equal(losses[name], again[name]) for name in losses)
        assert torch.equal(grad, grad_again)
    assert not torch.equal(score(make(3), pictures())[0]["prompt"], losses["prompt"])


@pytest.mark.parametrize("recipe", ["crowson", "coherent"])
def test_the_gradient_is_that_of_the_summed_losses(recipe):
    """Against finite differences of what the objective itself reports, in double precision."""
    words = torch.randn(2, 16, generator=torch.Generator().manual_seed(8)).double()
    never = torch.full((2,), -math.inf)
    both = Targets(F.normalize(words, dim=-1), torch.ones(2), never, torch.tensor([0, 1]))
    weight = torch.randn(16, 108, generator=torch.Generator().manual_seed(1)).double() / 6
    guide = Guide(lambda views: F.normalize(torch.tanh(views.flatten(1) @ weight.T), dim=-1), 6, both)

    def total(images: Tensor) -> tuple[float, Tensor]:
        objective = Objective(
            [guide],
            RECIPES[recipe],
            3,
            rngs([0, 1]),
            rngs([2, 3]),
            2,
            {"symmetry": (LOSSES["symmetry"], 0.3), "smoothness": (LOSSES["smoothness"], 0.1)},
        )
        losses, grad = score(objective, images)
        return sum(loss.sum().item() for loss in losses.values()), grad

    images = pictures(2, 8, 8).double()
    _, grad = total(images)
    direction = torch.randn(images.shape, generator=torch.Generator().manual_seed(4)).double()
    slope = (total(images + 1e-5 * direction)[0] - total(images - 1e-5 * direction)[0]) / 2e-5
    assert (grad * direction).sum().item() == pytest.approx(slope, rel=1e-6)


def test_a_stopped_prompt_pulls_no_more_but_is_reported():
    images = (RED[:, None, None] * 0.9).expand(1, 3, 8, 8)
    still = targets([RED + 0.5 * GREEN], picture=[0], stops=[1.0])
    losses, grad = score(Objective([Guide(mean_colour, 8, still)], STILL, 2, rngs([0]), rngs([1])), images)
    assert losses["prompt"].item() == pytest.approx(math.atan(0.5) ** 2 / 2, rel=1e-5)
    assert not grad.any()


def test_a_negative_prompt_pushes_away():
    images = torch.full((1, 3, 8, 8), 0.5)
    away = targets([RED], picture=[0], weights=[-1.0])
    losses, grad = score(Objective([Guide(mean_colour, 8, away)], STILL, 2, rngs([0]), rngs([1])), images)
    assert losses["prompt"].item() < 0
    assert grad[:, 0].sum() > 0 > grad[:, 1].sum()  # downhill is less red


def test_a_picture_without_prompts_scores_zero_beside_one_with():
    guide = Guide(mean_colour, 8, targets([RED], picture=[1]))
    losses, grad = score(Objective([guide], STILL, 2, rngs([0, 1]), rngs([2, 3])), pictures(2))
    assert losses["prompt"][0] == 0
    assert losses["prompt"][1] > 0
    assert not grad[0].any()
    assert grad[1].any()


def test_the_pull_goes_to_the_start_and_touches_the_latent_only():
    start = torch.randn(2, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    latent = (start + 1).requires_grad_()
    objective = Objective([], STILL, 1, rngs([0, 1]), rngs([2, 3]), init=(start, 3.0))
    losses, grad = score(objective, pictures(2), latent)
    assert list(losses) == ["init"]
    torch.testing.assert_close(losses["init"], torch.full((2,), 1.5))
    assert latent.grad is not None
    torch.testing.assert_close(latent.grad, torch.full_like(latent, 3 / 16))
    assert not grad.any()


def test_over_a_round_guides_in_turn_count_as_much_as_all_at_every_step():
    """The same cutouts at every step: the mean over a round is what all guides give together."""

    def at(number: int, in_turn: bool) -> tuple[dict[str, Tensor], Tensor]:
        objective = make(3, recipe="coherent")
        objective.recipe = dataclasses.replace(objective.recipe, noise=0.0)
        objective.in_turn = in_turn
        objective.begin(number, 0)
        assert [guide.size for guide in objective.looking] == ([(8, 12)[number % 2]] if in_turn else [8, 12])
        return score(objective, pictures())

    losses, grad = at(4, in_turn=False)
    (first, first_grad), (second, second_grad) = at(4, in_turn=True), at(5, in_turn=True)
    assert not torch.allclose(first["prompt"], second["prompt"])
    for name, loss in losses.items():
        torch.testing.assert_close((first[name] + second[name]) / 2, loss)
    torch.testing.assert_close((first_grad + second_grad) / 2, grad)


def test_a_stage_sees_its_share_of_the_cutouts():
    sizes = []

    def encode(views: Tensor) -> Tensor:
        sizes.append(len(views))
        return mean_colour(views)

    guide = Guide(encode, 8, targets([RED], picture=[0]))
    objective = Objective([guide], STILL, 10, rngs([0]), rngs([1]), shares=[0.01, 0.5, 1.0])
    for stage in range(3):
        objective.begin(stage, stage)
        score(objective, pictures(1))
    assert sizes == [1, 5, 10]


def test_the_hold_is_on_what_a_small_picture_shows_and_leaves_finer_details_free():
    before = pictures(2, 4, 4)
    details = torch.tensor([[0.1, -0.1], [-0.1, 0.1]]).repeat(4, 4)
    same = before.repeat_interleave(2, -1).repeat_interleave(2, -2) + details
    objective = Objective([], STILL, 1, rngs([0, 1]), rngs([2, 3]), hold=3.0)
    objective.begin(1, 1, before)
    losses, grad = score(objective, same)
    torch.testing.assert_close(losses["hold"], torch.zeros(2))
    torch.testing.assert_close(grad, torch.zeros_like(grad))
    losses, grad = score(objective, same + 0.2)
    torch.testing.assert_close(losses["hold"], torch.full((2,), 3 * 0.2**2 / 2))
    torch.testing.assert_close(grad, torch.full_like(grad, 3 * 0.2 / (3 * 8 * 8)))
    objective.begin(0, 0, None)
    assert not score(objective, same)[0]


def test_gradients_are_added_to_what_is_there():
    images = pictures(1).requires_grad_()
    images.grad = torch.ones_like(images)
    objective = Objective([], STILL, 1, rngs([0]), rngs([1]), losses={"tv": (tv, 1.0)})
    objective(images, torch.zeros(1, 4, 2, 2))
    _, grad = score(Objective([], STILL, 1, rngs([0]), rngs([1]), losses={"tv": (tv, 1.0)}), pictures(1))
    torch.testing.assert_close(images.grad, 1 + grad)


def test_a_perceptor_keeps_no_gradient_of_its_own():
    layer = torch.nn.Linear(3, 4)
    guide = Guide(lambda v: F.normalize(layer(v.mean((-2, -1))), dim=-1), 8, targets([torch.ones(4)], picture=[0]))
    _, grad = score(Objective([guide], STILL, 2, rngs([0]), rngs([1])), pictures(1))
    assert grad.any()
    assert layer.weight.grad is None


def test_only_one_micro_batch_is_alive_at_a_time():
    sizes = []

    def encode(views: Tensor) -> Tensor:
        sizes.append(len(views))
        return mean_colour(views)

    guide = Guide(encode, 8, targets([RED, BLUE], picture=[0, 1]))
    score(Objective([guide], STILL, 7, rngs([0, 1]), rngs([2, 3]), micro_batch=3), pictures(2))
    assert sizes == [6, 6, 2]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"cutouts": 0}, "at least 1"),
        ({"micro_batch": 0}, "at least 1"),
    ],
)
def test_bad_settings_are_refused(changes, words):
    arguments = {"guides": [], "recipe": STILL, "cutouts": 2, "crop_rngs": [], "noise_rngs": []}
    with pytest.raises(UsageError, match=words):
        Objective(**(arguments | changes))
