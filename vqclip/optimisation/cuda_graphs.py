"""A step's gradient as a CUDA graph: recorded once, then replayed without launching thousands of kernels one by one.

At W1 (256 x 256, 32 cutouts) a GPU needs a few milliseconds for the arithmetic and longer for the launches. The numbers
that differ from step to step, cutouts and noise, are drawn outside and copied to where the recording reads them.
(`torch.cuda.make_graphed_callables` records one forward and one backward pass of a module; a step here is a forward
pass with a backward pass for every micro-batch and one through the decoder.)
"""

import logging
from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from vqclip.optimisation.descent import Objective, differentiate

log = logging.getLogger(__name__)

TOLERANCE = 0.05
"""Largest difference between the recording's gradient and the plain one, relative to its length: rounding in bf16, and
the order in which a GPU adds up, make about a hundredth of it."""

Render = Callable[[Tensor], Tensor]
Outcome = tuple[dict[str, Tensor], Tensor]


class GradientGraph:
    """One latent's gradient, recorded for the shapes of the `views` given; they are where the recording reads from."""

    def __init__(self, latent: Tensor, render: Render, objective: Objective, views: list[Any]) -> None:
        self.views = views

        def plain() -> Outcome:
            latent.grad = None
            return differentiate(latent, render, lambda images, leaf: objective.score(images, leaf, views))

        self.expected = _aside(plain, latent)
        self.graph = torch.cuda.CUDAGraph()
        latent.grad = None
        with torch.cuda.graph(self.graph):
            self.losses, self.images = plain()
        assert latent.grad is not None, "a step without any loss has nothing to record"
        self.grad: Tensor = latent.grad

    def replay(self, views: list[Any]) -> None:
        """Compute losses, pictures and gradient anew for these views."""
        for mine, drawn in zip(self.views, views, strict=True):
            for place, value in zip(mine.tensors(), drawn.tensors(), strict=True):
                place.copy_(value, non_blocking=True)
        self.graph.replay()


def _aside(plain: Callable[[], Outcome], latent: Tensor) -> Tensor:
    """Run once on another stream, as recording wants everything warm; return the gradient."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        plain()
        assert latent.grad is not None
        expected = latent.grad.clone()
    torch.cuda.current_stream().wait_stream(stream)
    return expected


class ReplayedGradient:
    """`loop.differentiate` by a graph for each form that the objective takes, recorded at its first step; all anew when
    the latent is another.

    The first replay is compared with the plain gradient. Where recording fails or differs, the steps stay plain, and a
    warning says so.
    """

    def __init__(self, record: Callable[[Tensor, Render, Objective, list[Any]], GradientGraph] = GradientGraph) -> None:
        self._record = record
        self._graphs: dict[Hashable, GradientGraph] = {}
        self._latent: Tensor | None = None
        self._plain = False

    def __call__(self, latent: Tensor, render: Render, objective: Objective) -> Outcome:
        """Leave the gradient on the latent; return losses and pictures."""
        if self._plain:
            return differentiate(latent, render, objective)
        if self._latent is not latent:
            self._graphs.clear()
            self._latent = latent
        graph = self._graphs.get(objective.form())
        if graph is None:
            with torch.no_grad():
                views = objective.draw(render(latent))
            graph = self._try(latent, render, objective, views)
            if graph is None:
                latent.grad = None
                return differentiate(latent, render, lambda images, leaf: objective.score(images, leaf, views))
        else:
            graph.replay(objective.draw(graph.images))
        latent.grad = graph.grad
        return {term: loss.clone() for term, loss in graph.losses.items()}, graph.images.clone()

    def _try(self, latent: Tensor, render: Render, objective: Objective, views: list[Any]) -> GradientGraph | None:
        """Record and replay once; return None, and give up for good, where that fails or is not the plain gradient."""
        try:
            graph = self._record(latent, render, objective, views)
            graph.replay(views)
            difference = float((graph.grad - graph.expected).norm() / graph.expected.norm())
            reason = "" if difference <= TOLERANCE else f"its gradient differs by {difference:.0%}"
        except torch.OutOfMemoryError:
            self._graphs.clear()  # their memory is free for smaller parts
            raise
        except RuntimeError as error:
            reason = str(error).splitlines()[0]
        if reason:
            self._plain = True
            self._graphs.clear()
            log.warning("The step cannot be recorded as a CUDA graph (%s); it runs as it is, slower.", reason)
            return None
        self._graphs[objective.form()] = graph
        return graph
