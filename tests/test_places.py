"""Regions: maps against areas, cutouts moved and weighed by what they show, and that pictures stay apart."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.guidance.cutouts import cut, draw
from vqclip.guidance.objective import Guide, Objective, Targets, rank_by_place
from vqclip.guidance.places import WHOLE, box_map, cropped, moved, place_weights, shares, window
from vqclip.guidance.recipes import RECIPES
from vqclip.guidance.warps import Canvas

CPU = torch.device("cpu")
LEFT, RIGHT = box_map(0, 0, 0.5, 1), box_map(0.5, 0, 1, 1)
ONE = torch.zeros(1, dtype=torch.long)


def draws(recipe: str, count: int = 16, pictures: int = 1):
    rngs = [torch.Generator().manual_seed(seed) for seed in range(pictures)]
    return draw(RECIPES[recipe], count, rngs, Canvas(64, 64, 32), CPU)


@pytest.mark.parametrize("box", [(0, 0, 0.5, 1), (0.1, 0.23, 0.71, 0.3), (0.501, 0.5, 0.502, 0.501)])
def test_a_map_has_the_area_of_its_box(box: tuple[float, float, float, float]) -> None:
    left, top, right, bottom = box
    assert box_map(*box).double().mean().item() == pytest.approx((right - left) * (bottom - top), rel=1e-5)


@pytest.mark.parametrize("recipe", RECIPES)
def test_shares_are_those_of_the_map_seen_as_a_picture(recipe: str) -> None:
    """A cutout's share of a region is how white it shows a picture that is white there and black elsewhere."""
    some = draws(recipe)
    plain = F.interpolate(LEFT[None, None], (64, 64)).expand(1, 3, -1, -1).contiguous()
    bare = type(some)(**{**vars(some), "colour": None, "sharpness": None, "erased": None, "pooled": False})
    bare = type(some)(**{**vars(bare), "ground": torch.zeros_like(some.ground)})
    white = cut(plain, bare, 32).mean((2, 3, 4))
    assert (shares(some, LEFT[None], ONE) - white).abs().max() < 0.06


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_region_s_weights_are_of_mean_1_and_prefer_what_lies_in_it(recipe: str) -> None:
    some = draws(recipe)
    weights = place_weights(some, torch.stack([LEFT, torch.ones_like(LEFT)]), torch.zeros(2, dtype=torch.long))
    own = torch.ones_like(some.zoom) if some.weight is None else some.weight
    assert (weights[0] * own[0]).mean().item() == pytest.approx(1, rel=1e-4)
    assert torch.equal(weights[1], torch.ones_like(weights[1]))
    seen = shares(some, LEFT[None], ONE)[0]
    assert weights[0, seen.argmax()] == weights[0].max() and weights[0, seen.argmin()] == weights[0].min()


def test_a_region_that_no_cutout_shows_rests() -> None:
    far = moved(draws("crowson"), torch.tensor([[[-0.75, -0.75, 0.25]]]))
    assert not place_weights(far, box_map(0.9, 0.9, 1, 1)[None], ONE).any()


@pytest.mark.parametrize(
    ("box", "expected"),
    [((0, 0, 1, 1), WHOLE), ((0, 0, 0.5, 0.5), (-0.5, -0.5, 0.5)), ((0, 0, 0.5, 1), (-0.375, 0, 0.625))],
)
def test_the_window_of_a_region_is_a_square_around_it_within_the_picture(box: tuple, expected: tuple) -> None:
    assert window(box_map(*box)).tolist() == pytest.approx(expected)


def test_moved_cutouts_lie_in_their_windows_and_the_others_where_they_were() -> None:
    some = draws("crowson", 9)
    windows = torch.tensor([[WHOLE, (-0.5, -0.5, 0.5), (0.5, 0.5, 0.5)]])
    other = moved(some, windows)
    assert torch.equal(other.frames[:, ::3], some.frames[:, ::3]) and torch.equal(other.zoom[:, 1], some.zoom[:, 1] / 2)
    inside = shares(other, torch.stack([box_map(0, 0, 0.5, 0.5), box_map(0.5, 0.5, 1, 1)]), torch.zeros(2).long())
    assert inside[0, 1::3].min() > 0.8 and inside[1, 2::3].min() > 0.8
    pictures = torch.rand(1, 3, 64, 64)
    corner = F.interpolate(cropped(pictures, windows[0, 1]), (64, 64))  # the same place, made the whole
    assert cropped(pictures, windows[0, 1]).shape[-2:] == (32, 32)
    assert (cut(pictures, other, 8)[:, 1] - cut(corner, some, 8)[:, 1]).abs().median() < 1e-4


@pytest.mark.parametrize(("count", "regions"), [(1, 3), (2, 3), (4, 3), (2, 4), (6, 3)])
def test_every_window_is_looked_at_in_its_turn(count: int, regions: int) -> None:
    """Over as many steps as there are windows each has as many cutouts; where they go into a step, all are alike."""
    some, windows = draws("crowson", count), torch.rand(1, regions, 3) + 0.1
    seen = torch.stack([moved(some, windows, step).zoom / some.zoom for step in range(regions)])
    for side in windows[0, :, 2]:
        assert (seen - side).abs().lt(1e-5).sum() == count
    if count % regions == 0:
        assert torch.equal(seen, seen[:1].expand_as(seen))


def test_a_picture_of_one_region_has_its_cutouts_beside_one_of_three() -> None:
    corners = torch.stack([box_map(left, top, left + 0.4, top + 0.4) for left in (0, 0.6) for top in (0, 0.6)])
    picture, ones = torch.tensor([0, 1, 1, 1]), torch.ones(4)
    both = Targets(torch.eye(4), ones, -torch.inf * ones, picture, corners)
    alone = Targets(torch.eye(4)[:1], ones[:1], -torch.inf * ones[:1], picture[:1], corners[:1])
    beside, weights = both.placed(draws("crowson", 7, 2))
    single, own = alone.placed(draws("crowson", 7))
    assert torch.equal(beside.frames[:1], single.frames) and torch.equal(beside.zoom[:1], single.zoom)
    assert weights is not None and own is not None and torch.equal(weights[:1], own)


@pytest.mark.parametrize("in_turn", [False, True])
def test_every_guide_sees_every_region_however_few_cutouts_there_are(in_turn: bool) -> None:
    """One cutout, for the whole picture and a corner in turn: two guides in turn must not each have its own of both."""
    found = objective(targets(torch.stack([box_map(0, 0, 0.1, 0.1), torch.ones_like(LEFT)])))
    found.guides, found.cutouts, found.in_turn = 2 * list(found.guides), 1, in_turn
    looks: dict[int, list[Tensor]] = {0: [], 1: []}
    for number in range(7, 11):
        found.begin(number, 0)
        for guide, seen in zip([found.turn] if in_turn else [0, 1], found.draw(torch.rand(1, 3, 32, 32)), strict=True):
            assert seen.places is not None
            looks[guide].append(seen.places[:, 0] > 0)
    for each in looks.values():
        assert torch.stack(each).any(0).all()


def mean_colour(views: Tensor) -> Tensor:
    return F.normalize(views.mean((-2, -1)) + 1e-3, dim=-1)


def targets(maps: Tensor | None, pictures: int = 1) -> Targets:
    """Red in the first place and blue in the second, for each picture."""
    return Targets(
        embeddings=torch.eye(3)[[0, 2]].repeat(pictures, 1),
        weights=torch.ones(2 * pictures),
        stops=torch.full((2 * pictures,), -torch.inf),
        picture=torch.arange(pictures).repeat_interleave(2),
        maps=None if maps is None else maps.repeat(pictures, 1, 1),
    )


def objective(found: Targets, pictures: int = 1, micro_batch: int | None = None) -> Objective:
    rngs = [torch.Generator().manual_seed(seed) for seed in range(pictures)]
    guides = [Guide(mean_colour, 8, found)]
    return Objective(guides, RECIPES["crowson"], 12, rngs, rngs, micro_batch=micro_batch)


def gradient(found: Objective, pictures: Tensor) -> Tensor:
    images = pictures.clone().requires_grad_()
    found(images, torch.zeros(len(pictures), 1, 1, 1, requires_grad=True))
    assert images.grad is not None
    return images.grad


def test_each_half_is_pulled_to_its_own_colour() -> None:
    grey = torch.full((1, 3, 32, 32), 0.5)
    pull = -gradient(objective(targets(torch.stack([LEFT, RIGHT]))), grey)[0]
    redder = (pull[0] - pull[2]).mean(0)  # by column
    assert redder[:16].mean() > 1e-3 and redder[16:].mean() < -1e-3
    alike = -gradient(objective(targets(None)), grey)[0]
    assert (alike[0] - alike[2]).mean(0).abs().max() < redder.abs().max() / 20


def test_parts_of_the_views_have_the_same_gradient() -> None:
    pictures, found = torch.rand(1, 3, 32, 32), targets(torch.stack([LEFT, RIGHT]))
    whole, parts = (gradient(objective(found, micro_batch=size), pictures) for size in (None, 5))
    torch.testing.assert_close(whole, parts)


def test_a_picture_s_pull_is_the_same_alone_and_beside_one_with_regions() -> None:
    pictures = torch.rand(2, 3, 32, 32)
    both = targets(torch.stack([LEFT, RIGHT]), 2)
    assert both.maps is not None
    both.maps[:2] = 1
    alone = targets(None)
    beside = gradient(objective(both, 2), pictures)
    torch.testing.assert_close(beside[:1], gradient(objective(alone), pictures[:1]))


def test_candidates_are_ranked_by_what_stands_where() -> None:
    right = torch.zeros(3, 32, 32)
    right[0, :, :16], right[2, :, 16:] = 1, 1
    candidates = torch.stack([right.flip(-1), right, right.mT])[None]
    liked = rank_by_place(candidates, targets(torch.stack([LEFT, RIGHT])), mean_colour)
    assert liked.argmax().item() == 1
    assert rank_by_place(candidates, targets(None), mean_colour).std() < 1e-6


def test_a_part_of_the_picture_is_ranked_by_what_shall_stand_there() -> None:
    """In the right half all is meant to be blue, in the middle the left is red, and a sliver of the left is nothing."""
    found = targets(torch.stack([LEFT, RIGHT]))
    whole = found.within((0, 0, 1, 1))
    assert whole.maps is not None and torch.equal(whole.maps, torch.stack([LEFT, RIGHT]))
    middle = found.within((0.25, 0, 0.75, 1))
    assert middle.maps is not None and torch.equal(middle.maps, torch.stack([LEFT, RIGHT]))
    for right in (found.within((0.5, 0, 1, 1)), found.within((0.49, 0, 1, 1))):
        assert right.maps is not None and right.maps.shape[0] == 1 and right.maps.mean() > 0.98
        candidates = torch.zeros(1, 2, 3, 16, 16)
        candidates[:, 0, 0], candidates[:, 1, 2] = 1, 1
        assert rank_by_place(candidates, right, mean_colour).argmax().item() == 1
    corner = targets(torch.stack([box_map(0, 0, 0.1, 0.1), torch.ones_like(LEFT)]))
    assert len(corner.within((0, 0, 0.5, 0.5)).weights) == 2 and len(corner.within((0.5, 0, 1, 1)).weights) == 1
    assert targets(None).within((0.5, 0, 1, 1)).maps is None
