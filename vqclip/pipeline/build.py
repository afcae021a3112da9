"""From a plan to pictures: build the parts, run them, show every step to the sinks. Read this first.

plan.make_plan(config)  ─▶ Plan      nothing left open
load_models(plan)       ─▶ Models    VQGAN, perceptors and prior, which several plans may share
assemble(plan, models)  ─▶ Parts     start, objective, optimiser: ready to descend
run(parts, sinks)       ─▶ Finished  each Step goes to every sink on the way
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch
from torch import Tensor

from vqclip import __version__
from vqclip.common.allocator import keep_freed_memory, worth_keeping
from vqclip.common.errors import OutOfMemoryError
from vqclip.common.hashes import known_sha256
from vqclip.common.images import fit, open_image, to_tensor
from vqclip.common.runtime import PRECISIONS, Generators
from vqclip.config.loader import to_dict
from vqclip.guidance.objective import Guide, Objective, Targets, similarity
from vqclip.guidance.recipes import RECIPES
from vqclip.hub.clip_files import find_clip
from vqclip.hub.prior_files import find_prior
from vqclip.hub.vqgan_files import find_vqgan
from vqclip.models.files import ClipFiles, PriorFiles, VqganFiles
from vqclip.models.fused_blocks import accelerate
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.models.prior import Sampling
from vqclip.models.renderer import Renderer
from vqclip.models.rerank import Proposer, best_proposals, load_proposer
from vqclip.models.vqgan import VQGAN, load_vqgan
from vqclip.optimisation.cuda_graphs import Recorded
from vqclip.optimisation.loop import Descent, differentiate
from vqclip.optimisation.optimisers import SCHEDULES, Ema, make_optimiser
from vqclip.optimisation.recovery import finite_steps
from vqclip.optimisation.start import Start, first_latent
from vqclip.optimisation.step import Finished, Sink
from vqclip.pipeline.plan import Plan, seeds

MEMORY_ADVICE = "make --size smaller, or set runtime.low_memory=true, or draw fewer pictures at once."


@dataclass(frozen=True)
class Models:
    """The networks that a config names, on its device; `proposer` only where the prior makes the start.

    `described` names every model with its file's sha256.
    """

    vqgan: VQGAN
    perceptors: list[Perceptor]
    proposer: Proposer | None
    described: dict[str, Any]


@dataclass(frozen=True)
class Parts:
    """A run that is ready: the descent, and what is needed to judge and describe its pictures.

    `models` names every model with its file's sha256.
    """

    plan: Plan
    descent: Descent
    perceptors: list[Perceptor]
    targets: list[Targets]
    models: dict[str, Any]


def load_models(plan: Plan, *, pull: bool = False) -> Models:
    """Load the models that the plan's config names.

    Raises:
        ModelError: a model is missing, damaged or refused.
        UsageError: a name that is not known, or a prior of another VQGAN.
    """
    config = plan.config
    with _memory_errors():
        device, precision = torch.device(config.runtime.device), config.runtime.precision
        vqgan_files = find_vqgan(config.vqgan, pull=pull)  # first, as its name is often that of a config to pull
        clip_files = [find_clip(spec, pull=pull) for spec in config.perceptors]
        prior_files = find_prior(config.prior.name) if config.init.kind == "prior" else None
        vqgan = load_vqgan(vqgan_files.path, vqgan_files.config, vqgan_files.quantiser).to(device)
        perceptors = [load_perceptor(files, device, precision) for files in clip_files]
        if config.runtime.accelerate:
            if worth_keeping(precision, config.runtime.low_memory):
                keep_freed_memory()
            accelerate(vqgan)
            for perceptor in perceptors:
                accelerate(perceptor.model.visual, PRECISIONS[precision])
        return Models(
            vqgan,
            perceptors,
            load_proposer(prior_files, vqgan, precision) if prior_files else None,
            _describe_models(vqgan_files, clip_files, prior_files),
        )


def assemble(plan: Plan, models: Models) -> Parts:
    """Make the first latent and what descends on it. The models stay as they are.

    Raises:
        UsageError: an image cannot be read.
    """
    config, vqgan = plan.config, models.vqgan
    with _memory_errors():
        device, precision = torch.device(config.runtime.device), config.runtime.precision
        streams = Generators.from_seeds(seeds(plan.pictures), device)
        image = fit(open_image(config.init.image), (plan.width, plan.height)) if config.init.image else None
        views = [to_tensor(open_image(prompt.file)) for prompt in plan.image_prompts]
        targets = [_targets(perceptor, plan, views) for perceptor in models.perceptors]
        propose = _propose(models.proposer, plan, models.perceptors, targets) if models.proposer else None
        start = first_latent(config.init.kind, Start(vqgan, plan.width, plan.height, streams.start, image, propose))
        objective = Objective(
            guides=[
                Guide(perceptor.encode_image, perceptor.size, target)
                for perceptor, target in zip(models.perceptors, targets, strict=True)
            ],
            recipe=RECIPES[config.cutouts.recipe],
            cutouts=config.cutouts.count,
            micro_batch=config.cutouts.micro_batch,
            crop_rngs=streams.cutouts,
            noise_rngs=streams.noise,
            losses=config.losses,
            init=(start.clone(), config.init.weight) if config.init.weight else None,
        )
        latent = start.clone().requires_grad_()
        renderer = Renderer(vqgan, device, precision, config.runtime.low_memory)
        descent = Descent(
            latent=latent,
            render=renderer,
            objective=objective,
            optimiser=make_optimiser(config.optimise.name, latent, config.optimise.lr),
            lr=config.optimise.lr,
            schedule=SCHEDULES[config.optimise.schedule],
            average=Ema(config.optimise.ema),
            bounds=vqgan.bounds,
            streams=streams,
            lighten_render=renderer.lighten,
            differentiate=Recorded() if device.type == "cuda" and config.runtime.accelerate else differentiate,
        )
    return Parts(plan, descent, models.perceptors, targets, models.described)


def build(plan: Plan, *, pull: bool = False) -> Parts:
    """Load the models for this plan alone, and assemble it; the text towers are freed.

    Raises:
        ModelError, UsageError: as `load_models` and `assemble`.
    """
    models = load_models(plan, pull=pull)
    parts = assemble(plan, models)
    for perceptor in models.perceptors:
        perceptor.drop_text_tower()
    return parts


def run(parts: Parts, sinks: Sequence[Sink] = (), interrupted: Callable[[], bool] = lambda: False) -> Finished | None:
    """Optimise to the last step and return the pictures, or None when interrupted on the way.

    `interrupted` is asked after every step. Every sink hears of the end, whichever it is.

    Raises:
        NumericsError: a loss or the latent is NaN or infinite, also with smaller steps.
        OutOfMemoryError: the machine has not enough memory for the config.
    """
    began = time.monotonic()
    with _closing(sinks), _memory_errors():
        for step in finite_steps(parts.descent, parts.plan.config.optimise.steps):
            for sink in sinks:
                sink.step(step)
            if interrupted() and step.number < step.total:
                for sink in sinks:
                    sink.stop(step)
                return None
        finished = _finish(parts, time.monotonic() - began)
        for sink in sinks:
            sink.finish(finished)
    return finished


def metadata(parts: Parts, finished: Finished, picture: int) -> dict[str, Any]:
    """Describe one picture so that it can be made again: the config of this picture alone, and no clock."""
    config, this = parts.plan.config, parts.plan.pictures[picture]
    alone = dataclasses.replace(
        config,
        prompts=[this.prompt] if this.prompt else [],
        seed=this.seed,
        count=1,
        output=dataclasses.replace(config.output, path=None),
    )
    files = [config.init.image, *(prompt.file for prompt in parts.plan.image_prompts)]
    return {
        "version": __version__,
        "prompt": this.prompt,
        "seed": this.seed,
        "config": to_dict(alone),
        "models": parts.models,
        "inputs": {file: known_sha256(file) for file in files if file},
        "together": len(parts.plan.pictures),
        "step": finished.step,
        "scores": finished.scores[picture],
        "libraries": {
            "python": sys.version.split()[0],
            **{name: version(name) for name in ("torch", "open_clip_torch", "taming-transformers", "pillow")},
        },
    }


def fingerprint(parts: Parts) -> dict[str, Any]:
    """Say what a saved state belongs to: everything that decides the pictures, except how long it runs.

    How the work is parted to fit the memory decides rounding only, and may be another when the run goes on.
    """
    config = to_dict(parts.plan.config)
    del config["output"]
    del config["optimise"]["steps"]
    del config["cutouts"]["micro_batch"]
    for key in ("state_every", "state_seconds", "low_memory"):
        del config["runtime"][key]
    return {"config": config, "models": parts.models}


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


@torch.no_grad()
def _finish(parts: Parts, seconds: float) -> Finished:
    latent = parts.descent.result()
    images = parts.descent.render(latent)
    scores: list[dict[str, float]] = [{} for _ in parts.plan.pictures]
    for perceptor, targets in zip(parts.perceptors, parts.targets, strict=True):
        features = perceptor.encode_image(perceptor.view(images))
        for number, score in enumerate(similarity(features[:, None], targets)[:, 0].tolist()):
            scores[number][perceptor.name] = round(score, 6)
    return Finished(parts.descent.number, images, latent, scores, seconds)


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


def _describe_models(vqgan: VqganFiles, perceptors: Sequence[ClipFiles], prior: PriorFiles | None) -> dict[str, Any]:
    return {
        **({"prior": {"name": prior.name, "sha256": known_sha256(prior.path)}} if prior else {}),
        "vqgan": {"name": vqgan.name, "sha256": known_sha256(vqgan.path)},
        "perceptors": [{"name": files.name, "sha256": known_sha256(files.weights)} for files in perceptors],
    }


@contextlib.contextmanager
def _closing(sinks: Sequence[Sink]) -> Iterator[None]:
    """Let every sink close what it holds when the run fails; the failure itself goes on."""
    try:
        yield
    except BaseException:
        for sink in sinks:
            with contextlib.suppress(Exception):
                sink.stop(None)
        raise


@contextlib.contextmanager
def _memory_errors() -> Iterator[None]:
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemoryError(f"Not enough memory: {MEMORY_ADVICE}") from error
    except RuntimeError as error:
        if "allocate memory" not in str(error):
            raise
        raise OutOfMemoryError(f"Not enough memory: {MEMORY_ADVICE}") from error
