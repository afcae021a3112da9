"""From a plan and its models to a run that is ready: start, objective, optimiser."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from vqclip.common.images import fit, to_tensor
from vqclip.common.runtime import Generators
from vqclip.guidance.objective import Guide, Objective, Targets, similarity
from vqclip.guidance.recipes import RECIPES
from vqclip.models.enlarge import enlarge
from vqclip.models.perceptor import Perceptor
from vqclip.models.prior import Sampling
from vqclip.models.provenance import ModelHashes
from vqclip.models.renderer import Renderer
from vqclip.models.rerank import Proposer, best_proposals
from vqclip.models.vqgan import VQGAN
from vqclip.optimisation.cuda_graphs import ReplayedGradient
from vqclip.optimisation.descent import Descent, differentiate
from vqclip.optimisation.latent_noise import LatentNoise
from vqclip.optimisation.optimisers import GRADIENTS, SCHEDULES, Ema, make_optimiser
from vqclip.optimisation.pyramid import grids, growths, in_size, resized
from vqclip.optimisation.space import SPACES
from vqclip.optimisation.start import Start, first_latent
from vqclip.pipeline.inputs import Inputs, read_inputs
from vqclip.pipeline.load import Models
from vqclip.pipeline.machine import computing
from vqclip.pipeline.plan import Plan, seeds


@dataclass(frozen=True)
class Parts:
    """A run that is ready: the descent, and what is needed to judge and describe its pictures.

    `present` turns the pictures that the descent renders, (N, 3, H, W) in [0, 1], into those that the user gets.
    """

    plan: Plan
    descent: Descent
    present: Callable[[Tensor], Tensor]
    perceptors: list[Perceptor]
    targets: list[Targets]
    models: ModelHashes
    inputs: Inputs


def assemble(plan: Plan, models: Models) -> Parts:
    """Make the first latent and what descends on it. The models stay as they are.

    Raises:
        UsageError: an image cannot be read.
        OutOfMemoryError: the prior or the start does not fit.
    """
    with computing(plan):
        inputs = read_inputs(plan)
        views = [to_tensor(inputs.images[prompt.file]) for prompt in plan.image_prompts]
        targets = [_targets(perceptor, plan, views) for perceptor in models.perceptors]
        streams = Generators.from_seeds(seeds(plan.pictures), torch.device(plan.config.runtime.device))
        start = _start(plan, models, inputs, targets, streams)
        return Parts(
            plan=plan,
            descent=_descent(plan, models, start, targets, streams),
            present=partial(enlarge, models.upscaler) if models.upscaler else lambda images: images,
            perceptors=models.perceptors,
            targets=targets,
            models=models.hashes,
            inputs=inputs,
        )


def _start(plan: Plan, models: Models, inputs: Inputs, targets: Sequence[Targets], streams: Generators) -> Tensor:
    """The first latent, of the size of the first stage."""
    init, vqgan = plan.config.init, models.vqgan
    height, width = (cells * vqgan.factor for cells in grids(plan.config.optimise.pyramid, _grid(plan, vqgan))[0])
    image = fit(inputs.images[init.image], (width, height)) if init.image else None
    propose = _propose(models.proposer, plan, models.perceptors, targets) if models.proposer else None
    return first_latent(init.kind, Start(vqgan, width, height, streams.start, image, propose))


def _grid(plan: Plan, vqgan: VQGAN) -> tuple[int, int]:
    return plan.height // vqgan.factor, plan.width // vqgan.factor


def _descent(plan: Plan, models: Models, start: Tensor, targets: Sequence[Targets], streams: Generators) -> Descent:
    config, settings, vqgan = plan.config, plan.config.optimise, models.vqgan
    device = torch.device(config.runtime.device)
    space, quantise = SPACES[settings.space](vqgan)
    numbers = space.enter(start)
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
        losses=config.losses,
        init=(numbers.clone(), config.init.weight) if config.init.weight else None,
        commitment=(vqgan.quantise, settings.commitment) if settings.commitment else None,
    )
    renderer = Renderer(vqgan, device, config.runtime.precision, config.runtime.low_memory, quantise)
    return Descent(
        latent=numbers.clone().requires_grad_(),
        render=renderer,
        objective=objective,
        make_optimiser=lambda numbers: make_optimiser(settings.name, numbers, settings.lr),
        lr=settings.lr,
        schedule=SCHEDULES[settings.schedule],
        average=Ema(settings.ema),
        space=space,
        streams=streams,
        show=partial(in_size, size=(plan.height, plan.width)),
        growth=growths(settings.pyramid, _grid(plan, vqgan)),
        enlarge=partial(resized, vqgan),
        disturb=LatentNoise(settings.noise * space.spread, streams.noise) if settings.noise else None,
        shape_gradient=GRADIENTS[settings.gradient],
        reduce_render_memory=renderer.reduce_memory,
        differentiate=ReplayedGradient() if device.type == "cuda" and config.runtime.accelerate else differentiate,
    )


def _targets(perceptor: Perceptor, plan: Plan, views: Sequence[Tensor]) -> Targets:
    """Embed every prompt of every picture, and the image prompts that all pictures share."""
    rows = [(number, prompt) for number, picture in enumerate(plan.pictures) for prompt in picture.prompts]
    texts = list(dict.fromkeys(prompt.text for _, prompt in rows))
    embedded = dict(zip(texts, perceptor.encode_text(texts), strict=True)) if texts else {}
    seen = [_embed_view(perceptor, view) for view in views]
    shared = [
        (number, image, embedding)
        for number in range(len(plan.pictures))
        for image, embedding in zip(plan.image_prompts, seen, strict=True)
    ]
    device = perceptor.device
    return Targets(
        embeddings=torch.stack([embedded[prompt.text] for _, prompt in rows] + [row for _, _, row in shared]),
        weights=torch.tensor([prompt.weight for _, prompt in rows] + [image.weight for _, image, _ in shared]).to(
            device
        ),
        stops=torch.tensor([prompt.stop for _, prompt in rows] + [-torch.inf] * len(shared)).to(device),
        picture=torch.tensor([number for number, _ in rows] + [number for number, _, _ in shared]).to(device),
    )


@torch.no_grad()
def _embed_view(perceptor: Perceptor, image: Tensor) -> Tensor:
    return perceptor.encode_image(perceptor.view(image.to(perceptor.device)))[0]


def _propose(
    proposer: Proposer, plan: Plan, perceptors: Sequence[Perceptor], targets: Sequence[Targets]
) -> Callable[[Sequence[torch.Generator]], Tensor]:
    """Return what draws the codes of the start, (N, side, side): the proposals that the perceptors like best."""
    prior = plan.config.prior
    sampling = Sampling(prior.temperature, prior.top_k, prior.guidance)
    captions = [picture.caption for picture in plan.pictures]

    @torch.no_grad()
    def rank(pictures: Tensor) -> Tensor:
        views, shape = pictures.flatten(0, 1), pictures.shape[:2]
        seen = [perceptor.encode_image(perceptor.view(views)).unflatten(0, shape) for perceptor in perceptors]
        return torch.stack([similarity(each, target) for each, target in zip(seen, targets, strict=True)]).sum(0)

    def propose(rngs: Sequence[torch.Generator]) -> Tensor:
        return best_proposals(proposer, captions, prior.candidates, rngs, sampling, rank)

    return propose
