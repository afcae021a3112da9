"""From parts to pictures: every step goes to every sink on the way, and what it renders is what the user gets."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from vqclip.guidance.objective import similarity
from vqclip.optimisation.loop import optimise
from vqclip.optimisation.step import Finished, Sink, Step
from vqclip.pipeline.assemble import Parts
from vqclip.pipeline.machine import computing


def run(parts: Parts, sinks: Sequence[Sink] = (), interrupted: Callable[[], bool] = lambda: False) -> Finished | None:
    """Optimise to the last step and return the pictures, or None when interrupted on the way.

    `interrupted` is asked after every step. Every sink hears of the end, whichever it is.

    Raises:
        NumericsError: a loss or the latent is NaN or infinite, also with smaller steps.
        OutOfMemoryError: the machine has not enough memory for the config.
    """
    began = time.monotonic()
    with _closing(sinks), computing(parts.plan):
        for drawn in optimise(parts.descent, parts.plan.config.optimise.steps):
            step = _presented(drawn, parts.present)
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


def _presented(step: Step, present: Callable[[Tensor], Tensor]) -> Step:
    return dataclasses.replace(step, render=lambda: present(step.render()))


@torch.no_grad()
def _finish(parts: Parts, seconds: float) -> Finished:
    latent = parts.descent.result()
    images = parts.present(parts.descent.pictures())
    scores: list[dict[str, float]] = [{} for _ in parts.plan.pictures]
    for perceptor, targets in zip(parts.perceptors, parts.targets, strict=True):
        features = perceptor.encode_image(perceptor.view(images))
        for number, score in enumerate(similarity(features[:, None], targets)[:, 0].tolist()):
            scores[number][perceptor.name] = round(score, 6)
    return Finished(parts.descent.number, images, latent, scores, seconds)


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
