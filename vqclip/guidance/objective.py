"""The objective: pictures to losses, with the gradient left on the pictures and on the latent.

Cutouts are encoded in micro-batches, each with its own small graph that is freed at once, so memory is
bounded by a micro-batch and the decoder still runs backward only once, from the pictures' gradient.

Shapes: N pictures, K cutouts, T targets, D embedding width, S side of a cutout.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.guidance.cutouts import Draws, cut, draw, draw_noise
from vqclip.guidance.losses import Losses, commitment_loss, hold_loss, init_loss, prompt_loss, spherical_distance
from vqclip.guidance.places import WHOLE, Box, cropped, moved, part_of_map, place_weights, window
from vqclip.guidance.recipes import Recipe
from vqclip.guidance.warps import Canvas


@dataclass(frozen=True)
class Targets:
    """What one perceptor shall see: T encoded prompts, each of one picture.

    `embeddings` (T, D) have unit length, `weights` (T,) scale (negative pushes away), `stops` (T,) are
    signed distances below which a prompt rests (-inf: never), `picture` (T,) are indices in [0, N). `maps` (T, G, G) in
    [0, 1] say where in the picture each holds; None: all hold everywhere.
    """

    embeddings: Tensor
    weights: Tensor
    stops: Tensor
    picture: Tensor
    maps: Tensor | None = None

    def placed(self, draws: Draws, looks: int = 0) -> tuple[Draws, Tensor | None]:
        """Move some cutouts to where targets hold, others after each of the `looks`; return how much each then counts
        for each target, (T, K), too, or None where all count alike.
        """
        if self.maps is None:
            return draws, None
        draws = moved(draws, self.squares, looks)
        return draws, place_weights(draws, self.maps, self.picture)

    def within(self, box: Box) -> "Targets":
        """Return the targets of a part of the picture, without those of whose regions it shows next to nothing."""
        if self.maps is None:
            return self
        maps = torch.stack([part_of_map(each, box) for each in self.maps])
        filled, area = maps.mean((1, 2)), (box[2] - box[0]) * (box[3] - box[1])
        there = (filled >= FILLED) | (filled * area >= self.maps.mean((1, 2)) / 2)
        rows = (each[there] for each in (self.embeddings, self.weights, self.stops, self.picture, maps))
        return Targets(*rows)

    @cached_property
    def regions(self) -> Mapping[int, Tensor]:
        """The targets that hold in a region, each with what to look at there, as `places.window` has it."""
        maps = () if self.maps is None else self.maps
        return {row: window(each) for row, each in enumerate(maps) if each.min() < 1}

    @cached_property
    def squares(self) -> list[Tensor]:
        """What to look at in each picture, (1 + R, 3): the whole, and each of its own regions."""
        rows = [[row for row in self.regions if self.picture[row] == n] for n in range(int(self.picture.max()) + 1)]
        whole = self.embeddings.new_tensor(WHOLE)
        return [torch.stack([whole, *(self.regions[row] for row in own)]) for own in rows]


@dataclass(frozen=True)
class Guide:
    """One perceptor of the ensemble: `encode` turns (B, 3, size, size) into (B, D) of unit length.

    Its input is in [0, 1] but for noise and colour jitter; its output must be differentiable in it. Its loss counts
    `weight` times, and it sees a `share` of the cutouts in (0, 1], at least one, of every kind alike.
    """

    encode: Callable[[Tensor], Tensor]
    size: int
    targets: Targets
    weight: float = 1.0
    share: float = 1.0

    def look(self, draws: Draws) -> Draws:
        """Return the draws of its share of the cutouts."""
        count = draws.zoom.shape[1]
        seen = max(1, round(self.share * count))
        return draws if seen == count else draws.pick([(2 * each + 1) * count // (2 * seen) for each in range(seen)])


VISITS: Mapping[str, bool] = {"all": False, "turns": True}
"""Whether a step looks through one guide of several, and the next through the next."""


@dataclass(frozen=True)
class Views:
    """What was drawn for one guide and one step: its cutouts, the noise (N, K, 3, S, S) to add, if any, and how much
    each cutout counts for each target (T, K), where that differs.
    """

    draws: Draws
    noise: Tensor | None
    places: Tensor | None = None

    def __getitem__(self, part: slice) -> "Views":
        """Return some of the K cutouts."""
        noise, places = (None if each is None else each[:, part] for each in (self.noise, self.places))
        return Views(self.draws[part], noise, places)

    def tensors(self) -> list[Tensor]:
        """Return every tensor of it, always in the same order."""
        found = (*vars(self.draws).values(), self.noise, self.places)
        return [value for value in found if isinstance(value, Tensor)]


RANKED = 64
"""Pictures that are looked at together for a ranking."""

FILLED = 0.1
"""Share of a part of a picture that a region must fill there to hold in it, if it does not lie there by half."""

NO_LOSSES: Losses = {}


class Objective:
    """Loss of N pictures: prompts seen through cutouts, properties of the picture, pull to the start.

    A picture's loss is the sum over its prompts and the guides, by weight, of the weighted mean over cutouts, plus each
    named loss and the pull times its weight. Pictures do not mix: a picture's losses, gradient and
    random numbers are the same alone and in a batch, up to rounding.

    `cutouts` are scored per picture and step, `micro_batch` of them at a time (None: all); the draws
    are the same either way. `crop_rngs` are CPU generators and `noise_rngs` generators on the pictures'
    device, one per picture. `losses` are properties of the picture by name, each with its weight. `init` is the latent
    to stay near, (N, C, h, w), and a weight; `commitment` what returns the entries (N, C, h, w) nearest to a latent,
    and the weight of the pull to them; `hold` the weight of the pull to the pictures of the stage before, where there
    is one.

    A stage sees `shares`' share of the cutouts, at least one (all where that is empty). `in_turn`: each step looks
    through one guide, the next step through the next, whose loss then counts for all of them: over a round a guide
    counts as much as if all looked at every step.

    Raises:
        UsageError: fewer than one cutout.
    """

    def __init__(
        self,
        guides: Sequence[Guide],
        recipe: Recipe,
        cutouts: int,
        crop_rngs: Sequence[torch.Generator],
        noise_rngs: Sequence[torch.Generator],
        micro_batch: int | None = None,
        losses: Losses = NO_LOSSES,
        init: tuple[Tensor, float] | None = None,
        commitment: tuple[Callable[[Tensor], Tensor], float] | None = None,
        hold: float = 0.0,
        shares: Sequence[float] = (),
        in_turn: bool = False,
    ) -> None:
        if cutouts < 1 or (micro_batch is not None and micro_batch < 1):
            raise UsageError(f"cutouts.count is {cutouts}, micro_batch {micro_batch}; both must be at least 1.")
        self.guides = guides
        self.recipe = recipe
        self.cutouts = cutouts
        self.micro_batch = micro_batch or cutouts
        self.crop_rngs = crop_rngs
        self.noise_rngs = noise_rngs
        self.losses = losses
        self.init = init
        self.commitment = commitment
        self.hold = hold
        self.shares = shares
        self.in_turn = in_turn
        self.begin(0, 0)

    def begin(self, number: int, stage: int, reached: Tensor | None = None) -> None:
        """Get ready for the update after `number` others, in this stage; `reached` (N, 3, h, w) are the pictures at the
        end of the one before."""
        self.held = reached if self.hold else None
        self.looks, self.turn = divmod(number, max(1, len(self.guides)) if self.in_turn else 1)
        self.seen = max(1, round(self.shares[stage] * self.cutouts)) if self.shares else self.cutouts

    @property
    def looking(self) -> Sequence[Guide]:
        """The guides that the step at hand looks through."""
        return self.guides[self.turn : self.turn + 1] if self.in_turn else self.guides

    def __call__(self, images: Tensor, latent: Tensor) -> dict[str, Tensor]:
        """Score pictures (N, 3, H, W) in [0, 1] made of latents (N, C, h, w), both leaves.

        The gradient of the summed losses is added to `images.grad` and `latent.grad`; that of the
        pictures through the decoder is the caller's. Returns (N,) per term, weighted and detached:
        "prompt" if there are guides, each named loss, and "init", "hold" and "commitment" if there are these pulls.
        """
        return self.score(images, latent, self.draw(images))

    def draw(self, images: Tensor) -> list[Views]:
        """Draw a step's views of pictures of this shape, for each guide that looks; all look at the same places."""
        if not self.guides:
            return []
        canvas = Canvas(images.shape[-2], images.shape[-1], max(guide.size for guide in self.guides))
        dtype = torch.promote_types(images.dtype, torch.float32)
        draws = draw(self.recipe, self.seen, self.crop_rngs, canvas, images.device, dtype)
        seen = [guide.targets.placed(guide.look(draws), self.looks) for guide in self.looking]
        return [
            Views(each, draw_noise(each, guide.size, self.noise_rngs), places)
            for guide, (each, places) in zip(self.looking, seen, strict=True)
        ]

    def score(self, images: Tensor, latent: Tensor, views: Sequence[Views]) -> dict[str, Tensor]:
        """Score as `__call__` does, through views that were drawn before; nothing here waits for the device."""
        terms = {}
        if self.guides:
            terms["prompt"] = self._prompts(images, views)
        for name, (loss, weight) in self.losses.items():
            terms[name] = _pull_back(weight * loss(images), images)
        if self.init is not None:
            start, weight = self.init
            terms["init"] = _pull_back(weight * init_loss(latent, start), latent)
        if self.held is not None:
            terms["hold"] = _pull_back(self.hold * hold_loss(images, self.held), images)
        if self.commitment is not None:
            nearest, weight = self.commitment
            terms["commitment"] = _pull_back(weight * commitment_loss(latent, nearest(latent).detach()), latent)
        return terms

    def grow(self, change: Callable[[Tensor], Tensor]) -> None:
        """Stay near what `change` makes of the latent to stay near: one of another size."""
        self.init = self.init and (change(self.init[0]), self.init[1])

    def form(self) -> tuple[int, int, int]:
        """Return what decides the shapes of a step, and who looks."""
        return self.micro_batch, self.seen, self.turn

    def reduce_memory(self) -> bool:
        """Score half as many cutouts at once from now on; return False where it is one already."""
        if self.micro_batch == 1:
            return False
        self.micro_batch = (self.micro_batch + 1) // 2
        return True

    def state_dict(self) -> dict[str, Any]:
        """Return how many cutouts are scored at once, which decides the last digits."""
        return {"micro_batch": self.micro_batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Score as many cutouts at once as when the state was made, but never more than now."""
        self.micro_batch = min(self.micro_batch, state["micro_batch"])

    def _prompts(self, images: Tensor, views: Sequence[Views]) -> Tensor:
        """Sum the prompts' losses over the guides: (N,)."""
        total = torch.zeros(len(images), device=images.device, dtype=torch.promote_types(images.dtype, torch.float32))
        for guide, seen in zip(self.looking, views, strict=True):
            weight = guide.weight * len(self.guides) / len(self.looking)
            count = seen.draws.zoom.shape[1]
            for start in range(0, count, self.micro_batch):
                loss = _sum_over_cutouts(guide, images, seen[start : start + self.micro_batch])
                total += _pull_back(weight * loss / count, images)
        return total


def similarity(features: Tensor, targets: Targets) -> Tensor:
    """Average cosine similarity of vectors (N, M, D), M views of each picture, to the picture's own prompts of
    positive weight, (N, M).
    """
    return similarity_of(features[targets.picture], targets, len(features))


def similarity_of(features: Tensor, targets: Targets, pictures: int) -> Tensor:
    """Average as `similarity` does over vectors (T, M, D), those of each prompt's own views, (N, M)."""
    cosine = (features * targets.embeddings[:, None]).sum(-1)
    wanted = (targets.weights > 0).to(cosine.dtype)
    total, count = (
        torch.zeros(pictures, features.shape[1], device=cosine.device).index_add_(0, targets.picture, values)
        for values in (cosine * wanted[:, None], wanted[:, None].expand_as(cosine).contiguous())
    )
    return total / count.clamp(min=1)


def rank_by_place(pictures: Tensor, targets: Targets, see: Callable[[Tensor], Tensor]) -> Tensor:
    """Average as `similarity` does over candidates (N, M, 3, H, W), each prompt looking at its own region, (N, M).

    `see` embeds pictures (B, 3, h, w) as (B, D).
    """
    count, many = pictures.shape[:2]
    seen = torch.cat([see(part) for part in pictures.flatten(0, 1).split(RANKED)])
    features = seen.unflatten(0, (count, many))[targets.picture]
    for row, square in targets.regions.items():
        features[row] = see(cropped(pictures[targets.picture[row]], square))
    return similarity_of(features, targets, count)


def _sum_over_cutouts(guide: Guide, images: Tensor, seen: Views) -> Tensor:
    """Score some cutouts of each picture with its prompts; returns the weighted sum over both, (N,)."""
    draws = seen.draws
    views = cut(images, draws, guide.size)
    if seen.noise is not None:
        views = views + seen.noise
    targets = guide.targets
    embeddings = guide.encode(views.flatten(0, 1)).to(targets.embeddings.dtype).unflatten(0, views.shape[:2])
    distance = spherical_distance(embeddings[targets.picture], targets.embeddings[:, None])
    loss = prompt_loss(distance, targets.weights, targets.stops)
    loss = loss if draws.weight is None else loss * draws.weight[targets.picture]
    loss = (loss if seen.places is None else loss * seen.places).sum(1)
    return loss.new_zeros(len(images)).index_add(0, targets.picture, loss)


def _pull_back(loss: Tensor, leaf: Tensor) -> Tensor:
    """Add the gradient of the summed loss (N,) to `leaf.grad`; return the loss without its graph."""
    torch.autograd.backward(loss.sum(), inputs=[leaf])
    return loss.detach()
