"""From a plan and its models to a run that is ready: start, objective, optimiser."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqclip.common.images import fit, to_image
from vqclip.common.runtime import Generators
from vqclip.config.schema import InitConfig
from vqclip.config.starts import BENT, PICTURES
from vqclip.guidance.filters import Filter, Filtered, find_filter, find_finish
from vqclip.guidance.losses import Losses
from vqclip.guidance.objective import VISITS, Guide, Objective, Targets, rank_by_place
from vqclip.guidance.paste import Pasted
from vqclip.guidance.places import Box
from vqclip.guidance.recipes import RECIPES
from vqclip.models.drawers.drawer import Drawer, Vector
from vqclip.models.enlarge import enlarge
from vqclip.models.perceptor import Perceptor
from vqclip.models.prior import Near, Sampling
from vqclip.models.provenance import ModelHashes
from vqclip.models.rerank import Proposer, best_proposals, fill_free, seam
from vqclip.optimisation.cuda_graphs import ReplayedGradient
from vqclip.optimisation.descent import Descent, differentiate, repeated
from vqclip.optimisation.journey import Journey
from vqclip.optimisation.latent_noise import LatentNoise
from vqclip.optimisation.optimisers import GRADIENTS, SCHEDULES, Ema, make_optimiser
from vqclip.optimisation.overlay import Overlay
from vqclip.optimisation.pyramid import grids, growths, in_size, resized, view_shares
from vqclip.optimisation.start import Propose, Start, bent, first_latent, grains, lowest
from vqclip.pipeline.drawing import make_drawer, working_size
from vqclip.pipeline.inputs import Inputs, read_inputs
from vqclip.pipeline.load import Models
from vqclip.pipeline.machine import computing
from vqclip.pipeline.mask import find_patch, places_of
from vqclip.pipeline.patch import Patch
from vqclip.pipeline.plan import Plan, seeds
from vqclip.pipeline.properties import find_losses
from vqclip.pipeline.reference import Reference, aimed, drawn_after, read_references
from vqclip.pipeline.sizes import work_size
from vqclip.pipeline.targets import make_targets, point_vectors, turned_from
from vqclip.pipeline.travel import make_journey

SEAM = 0.5
"""How much a proposal loses in similarity where its colours differ by 1 from those it continues."""


@dataclass(frozen=True)
class Parts:
    """A run that is ready: the descent, and what is needed to judge and describe its pictures.

    `present` turns the pictures that the descent renders, (N, 3, H, W) in [0, 1], into those that the user gets.
    `compose` turns what is worked on, (3, h, w), into the finished picture. `patch` is what is painted anew, if
    not all. `svg` writes one picture's latent as an SVG document, where that is asked for.
    """

    plan: Plan
    descent: Descent
    present: Callable[[Tensor], Tensor]
    perceptors: list[Perceptor]
    targets: list[Targets]
    models: ModelHashes
    inputs: Inputs
    compose: Callable[[Tensor], Image.Image]
    patch: Patch | None
    svg: Callable[[Tensor], str] | None


def assemble(plan: Plan, models: Models) -> Parts:
    """Make the first latent and what descends on it. The models stay as they are.

    Raises:
        UsageError: an image cannot be read, or a mask has nothing in it.
        OutOfMemoryError: the prior or the start does not fit.
    """
    with computing(plan):
        device = torch.device(plan.config.runtime.device)
        filters = [find_filter(name, device) for name in plan.config.filters]
        inputs = read_inputs(plan)
        patch = find_patch(plan.config.mask, inputs, models.perceptors[0])
        plan = _sized(plan, patch)
        size = working_size(plan.config, _first_size(plan))
        drawer = whole = make_drawer(plan.config, size, device, models.vqgan)
        if size != _first_size(plan):
            whole = make_drawer(plan.config, (plan.height, plan.width), device)
        targets = [
            make_targets(perceptor, plan, inputs, weights)
            for perceptor, weights in zip(models.perceptors, models.hashes.perceptors, strict=True)
        ]
        references = read_references(plan, models.perceptors, models.clips)
        inputs, aims, after = _aims(plan, models, inputs, targets, references)
        streams = Generators.from_seeds(seeds(plan.pictures), torch.device(plan.config.runtime.device))
        journey = _journey(plan, models, drawer, inputs, targets, streams)
        if journey is not None and journey.latents is not None:
            start = journey.latents[0]
        else:
            start = _start(plan, models, drawer, inputs, patch, targets, streams)
        return Parts(
            plan=plan,
            descent=_descent(plan, models, drawer, whole, inputs, start, patch, journey, aims, after, streams, filters),
            present=_presenting(plan, models, patch),
            perceptors=models.perceptors,
            targets=targets,
            models=models.hashes,
            inputs=inputs,
            compose=patch.compose if patch else to_image,
            patch=patch,
            svg=whole.svg if plan.config.output.svg and isinstance(whole, Vector) else None,
        )


def _aims(
    plan: Plan,
    models: Models,
    inputs: Inputs,
    targets: Sequence[Targets],
    references: Sequence[Reference] | None,
) -> tuple[Inputs, Sequence[Targets], Losses]:
    """What the run was made from, the reference too, what the guides aim at, and what is drawn after examples."""
    if references is None:
        return inputs, targets, {}
    hashes = {**inputs.sha256, plan.config.targets.reference: references[0].digest}
    aims = [aimed(target, plan, reference) for target, reference in zip(targets, references, strict=True)]
    after = drawn_after(targets[0], plan, references, models.perceptors)
    return dataclasses.replace(inputs, sha256=hashes), aims, after


def _sized(plan: Plan, patch: Patch | None) -> Plan:
    """The plan in the form of the patch's window, once that is known."""
    if patch is None:
        return plan
    left, top, right, bottom = patch.window
    width, height = work_size((right - left, bottom - top), min(plan.width, plan.height), plan.cell)
    return dataclasses.replace(plan, width=width, height=height)


def _start(
    plan: Plan,
    models: Models,
    drawer: Drawer,
    inputs: Inputs,
    patch: Patch | None,
    targets: Sequence[Targets],
    streams: Generators,
) -> Tensor:
    """The first latent, of the size of the first stage."""
    init, proposer = plan.config.init, models.proposer
    height, width = drawer.size
    size = (width, height)
    image = _first_picture(init, inputs, patch, size)
    kept = None
    if image is not None and init.kind in BENT:
        image = bent(image, init.strength, streams.start)
    elif image is not None and init.kind not in PICTURES:
        image, kept = _disturbed(image, plan, models.perceptors[0], inputs, patch, streams.start)
    captions = [picture.caption or plan.config.targets.towards or "" for picture in plan.pictures]
    return first_latent(
        init.kind,
        Start(
            drawer=drawer,
            rngs=streams.start,
            image=image,
            strength=init.strength,
            kept=kept,
            propose=_propose(proposer, plan, models.perceptors, targets, captions) if proposer else None,
            side=proposer.prior.sizes.side if proposer else 0,
        ),
    )


def _grid(plan: Plan) -> tuple[int, int]:
    return plan.height // plan.cell, plan.width // plan.cell


def _first_size(plan: Plan) -> tuple[int, int]:
    """Height and width of the first stage in pixels."""
    rows, columns = grids(plan.config.optimise.pyramid, _grid(plan))[0]
    return rows * plan.cell, columns * plan.cell


def _first_picture(init: InitConfig, inputs: Inputs, patch: Patch | None, size: tuple[int, int]) -> Tensor | None:
    """The picture that the start is, or keeps some of, in the size that is worked on."""
    if patch is not None:
        return patch.seen(inputs.images[init.image], size) if init.image else patch.under(size)
    return fit(inputs.images[init.image], size) if init.image else None


def _disturbed(
    image: Tensor,
    plan: Plan,
    perceptor: Perceptor,
    inputs: Inputs,
    patch: Patch | None,
    rngs: Sequence[torch.Generator],
) -> tuple[Tensor, Tensor]:
    """The picture (1, 3, H, W) as it is a part of the start, and how much of it stays at each place, (N, 1, H, W).

    Of what a mask covers, places all over it go. A picture whose meaning is turned loses those that say what it is
    turned from; any other one is bent too.
    """
    init, shape = plan.config.init, (image.shape[-2], image.shape[-1])
    if patch is not None:
        anew = (patch.cover(shape[::-1]) > 0).expand(len(rngs), -1, -1, -1)
        if init.strength < 1:
            anew = anew & lowest(grains(shape, rngs), init.strength)
    elif plan.config.targets.towards is not None:
        said = places_of(turned_from(perceptor, plan.config.targets, image), to_image(image[0]), perceptor)
        field = F.interpolate(-said.cpu()[None, None], shape, mode="bilinear")
        anew = lowest(field, init.strength).expand(len(rngs), -1, -1, -1)
    else:
        anew = lowest(grains(shape, rngs), init.strength)
        image = bent(image, init.strength, rngs)
    return image, 1 - anew.float()


def _descent(
    plan: Plan,
    models: Models,
    drawer: Drawer,
    whole: Drawer,
    inputs: Inputs,
    start: Tensor,
    patch: Patch | None,
    journey: Journey | None,
    targets: Sequence[Targets],
    after: Losses,
    streams: Generators,
    filters: Sequence[Filter],
) -> Descent:
    config, settings, vqgan = plan.config, plan.config.optimise, models.vqgan
    device = torch.device(config.runtime.device)
    space, numbers = drawer.space, drawer.space.enter(start)
    objective = Objective(
        guides=[
            Guide(perceptor.encode_image, perceptor.size, target, guide.weight, guide.share)
            for perceptor, target, guide in zip(models.perceptors, targets, config.guides, strict=True)
        ],
        recipe=RECIPES[config.cutouts.recipe],
        cutouts=config.cutouts.count,
        micro_batch=config.cutouts.micro_batch,
        crop_rngs=streams.cutouts,
        noise_rngs=streams.noise,
        losses={**find_losses(config.losses, models.perceptors, inputs, device), **after},
        init=(numbers.clone(), config.init.weight) if config.init.weight else None,
        commitment=(vqgan.quantise, settings.commitment) if vqgan and settings.commitment else None,
        hold=settings.hold,
        shares=view_shares(settings.pyramid),
        in_turn=VISITS[settings.guides],
    )
    drawn = _filtered(drawer, filters)
    return Descent(
        latent=numbers.clone().requires_grad_(),
        render=_pasted(drawn, plan, patch, device) if patch else drawn,
        objective=objective,
        make_optimiser=lambda numbers: make_optimiser(settings.name, numbers, settings.lr),
        lr=settings.lr,
        schedule=SCHEDULES[settings.schedule],
        average=Ema(settings.ema),
        space=space,
        streams=streams,
        draw=_filtered(whole, filters) if whole.size != drawer.size else None,
        show=partial(in_size, size=(plan.height, plan.width)),
        growth=growths(settings.pyramid, _grid(plan)),
        enlarge=partial(resized, vqgan) if vqgan else repeated,
        disturb=LatentNoise(settings.noise * space.spread, streams.noise) if settings.noise else None,
        travel=_travel(plan, drawer, inputs, journey, device),
        shape_gradient=GRADIENTS[settings.gradient],
        reduce_render_memory=drawer.reduce_memory,
        differentiate=ReplayedGradient() if device.type == "cuda" and config.runtime.accelerate else differentiate,
    )


def _presenting(plan: Plan, models: Models, patch: Patch | None) -> Callable[[Tensor], Tensor]:
    """What enlarges pictures and filters them once more, but a patch: it holds the original too by now."""
    if models.upscaler is None:
        return lambda images: images
    names, device = [] if patch else plan.config.filters, torch.device(plan.config.runtime.device)
    return Filtered(partial(enlarge, models.upscaler), [find_finish(name, device) for name in names])


def _filtered(drawer: Drawer, filters: Sequence[Filter]) -> Callable[[Tensor], Tensor]:
    return Filtered(drawer.render, filters) if filters else drawer.render


def _pasted(render: Callable[[Tensor], Tensor], plan: Plan, patch: Patch, device: torch.device) -> Pasted:
    size = (plan.width, plan.height)
    return Pasted(render, patch.under(size).to(device), patch.cover(size).to(device))


def _travel(
    plan: Plan, drawer: Drawer, inputs: Inputs, journey: Journey | None, device: torch.device
) -> Callable[[Tensor, int, int], bool]:
    """What moves the latent between the updates, and says if it did: a journey, then an overlay, or nothing."""
    config = plan.config.overlay
    movers: list[Callable[[Tensor, int, int], bool]] = [journey] if journey else []
    if config.image is not None:
        picture = fit(inputs.images[config.image], (plan.width, plan.height)).to(device)
        end = plan.config.optimise.steps if config.end is None else config.end
        take = partial(_taken, drawer)
        movers.append(Overlay(picture, config.alpha, config.every, config.begin, end, drawer.render, take))

    def travel(latent: Tensor, number: int, total: int) -> bool:
        moved = [move(latent, number, total) for move in movers]
        return any(moved)

    return travel


def _taken(drawer: Drawer, pictures: Tensor) -> Tensor:
    return drawer.space.enter(drawer.encode(pictures))


def _journey(
    plan: Plan, models: Models, drawer: Drawer, inputs: Inputs, targets: Sequence[Targets], streams: Generators
) -> Journey | None:
    if not plan.config.targets.path:
        return None
    points = [torch.stack(point_vectors(perceptor, plan, inputs)) for perceptor in models.perceptors]

    def draw(caption: str, wanted: Sequence[Targets]) -> Tensor:
        assert models.proposer is not None
        propose = _propose(models.proposer, plan, models.perceptors, wanted, [caption])
        side = models.proposer.prior.sizes.side
        return first_latent("prior", Start(drawer, streams.start, propose=propose, side=side))

    return make_journey(plan, inputs, drawer, targets, points, draw if models.proposer else None)


def _seen_by(perceptor: Perceptor, pictures: Tensor) -> Tensor:
    return perceptor.encode_image(perceptor.view(pictures))


def _propose(
    proposer: Proposer,
    plan: Plan,
    perceptors: Sequence[Perceptor],
    targets: Sequence[Targets],
    captions: Sequence[str],
) -> Propose:
    """Return what draws the codes of the start: the proposals that the perceptors like best."""
    prior = plan.config.prior
    sampling = Sampling(prior.temperature, prior.top_k, prior.guidance)

    @torch.no_grad()
    def rank(pictures: Tensor, part: Box) -> Tensor:
        liked = [
            rank_by_place(pictures, target.within(part), partial(_seen_by, perceptor))
            for perceptor, target in zip(perceptors, targets, strict=True)
        ]
        return torch.stack(liked).sum(0)

    def draw(rngs: Sequence[torch.Generator], given: Tensor | None, near: Near | None, part: Box) -> Tensor:
        def judge(pictures: Tensor) -> Tensor:
            liked = rank(pictures, part)
            return liked if given is None else liked - SEAM * seam(pictures, given)

        return best_proposals(proposer, captions, prior.candidates, rngs, sampling, judge, given, near)

    def propose(rngs: Sequence[torch.Generator], given: Tensor | None, near: Near | None) -> Tensor:
        if given is None:
            return draw(rngs, None, near, _middle(plan))

        def fill(window: Tensor, place: tuple[slice, slice]) -> Tensor:
            around = near and Near(near.vectors[:, place[0], place[1]], near.pull)
            return draw(rngs, window, around, _share(place, given.shape[-2:]))

        return fill_free(given, proposer.prior.sizes.side, fill)

    return propose


def _middle(plan: Plan) -> Box:
    """Where in a picture the prior's square proposal comes to lie."""
    short = min(plan.width, plan.height)
    across, down = ((length - short) / (2 * length) for length in (plan.width, plan.height))
    return across, down, 1 - across, 1 - down


def _share(place: tuple[slice, slice], grid: Sequence[int]) -> Box:
    """Rows and columns of a grid (h, w) as a part of the picture."""
    (top, bottom), (left, right) = (
        (span.start / length, span.stop / length) for span, length in zip(place, grid, strict=True)
    )
    return left, top, right, bottom
