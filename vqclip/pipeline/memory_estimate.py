"""How much memory a plan needs, found by running its shapes through the networks without any numbers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from vqclip.common.runtime import PRECISIONS
from vqclip.config.starts import PRIORS
from vqclip.config.starts import VQGAN as VQGAN_DRAWER
from vqclip.hub.clip_files import clip_architecture
from vqclip.hub.vqgan_files import vqgan_sizes
from vqclip.models.architecture import Architecture
from vqclip.models.fused_vit import fuse_vit
from vqclip.models.fused_vqgan import fuse_vqgan
from vqclip.models.gradient_checkpointing import blocks, checkpointed
from vqclip.models.perceptor import Perceptor, quiet_open_clip
from vqclip.models.vqgan import VQGAN
from vqclip.optimisation.optimisers import make_optimiser
from vqclip.pipeline.drawing import make_drawer, working_size
from vqclip.pipeline.plan import Plan

LIBRARIES = 900 * 2**20
"""Resident size of the command with torch, open_clip and what they compile, measured on x86-64 Linux."""

BACK = 7 / 4
"""What a backward pass needs at its peak over what was kept for it: gradients, and gaps in the heap;
measured from 128 to 512 pixels, in fp32 and bf16, with the embedded models and with published sizes."""

PRIOR = 100 * 2**20
"""What the prior takes to draw and rank its pictures."""

WIDTHS: Mapping[str, Callable[[Architecture], int]] = {
    "latent": lambda sizes: sizes.embed_dim,
    "logits": lambda sizes: sizes.n_embed,
}
"""Numbers that are optimised for a cell, by space."""

PASSING, AVERAGED, DISTURBED, HELD = 5, 3, 3, 2
"""Copies of what is optimised that a step has at its peak beside it and the optimiser's state: the gradient, for logits
the softmax with its gradient, and what the update is made of; and those of an average, noise and a pull to the start.
Measured with 32,768 entries."""

FINAL = 40 * 4
"""Bytes for each pixel of what is optimised small and drawn once more at the end; measured with strokes."""

META = torch.device("meta")


def estimate_memory(plan: Plan) -> int:
    """Estimate the peak of one step in bytes: libraries, weights, what the decoder keeps, the largest backward pass and
    what is optimised.

    The decoder's tensors stay while one micro-batch of cutouts after the other is scored, then comes its own
    backward pass.

    Raises:
        UsageError, ModelError: a model that is not known, or a local file that is damaged.
    """
    drawn = _decoder(plan) if plan.config.drawer == VQGAN_DRAWER else _drawer(plan)
    weights, passes = drawn.weights, [drawn.backward]
    towers = [_tower(guide.name, plan) for guide in plan.config.guides]
    weights += sum(weight for weight, _ in towers)
    passes += [BACK * views for _, views in towers]
    prior = PRIOR if plan.config.init.kind in PRIORS else 0
    return LIBRARIES + weights + drawn.kept + int(max(passes)) + _descending(plan, drawn.numbers) + prior


@dataclass(frozen=True)
class Drawn:
    """What a drawer needs in bytes: its weights, what it keeps of a step, and its backward pass at the peak beside
    that; and how many numbers of a picture are optimised.
    """

    weights: int
    kept: int
    backward: float
    numbers: int


def _decoder(plan: Plan) -> Drawn:
    """What a VQGAN needs."""
    sizes, dtype = vqgan_sizes(plan.config.vqgan), PRECISIONS[plan.config.runtime.precision]
    cells = plan.width * plan.height // sizes.factor**2
    with META:
        vqgan = VQGAN(sizes)
        weights = _bytes(vqgan)
        if plan.config.runtime.accelerate:
            fuse_vqgan(vqgan)
        vqgan.to(dtype)
        shape = (len(plan.pictures), sizes.embed_dim, plan.height // sizes.factor, plan.width // sizes.factor)
        latent = torch.empty(shape, dtype=dtype, requires_grad=True)
    numbers = WIDTHS[plan.config.optimise.space](sizes) * cells
    if plan.config.runtime.low_memory:
        kept, block = _kept_lightly(vqgan, latent)
        return Drawn(weights, kept, BACK * block, numbers)
    kept = _kept(lambda: vqgan.decode(latent))
    return Drawn(weights, kept, (BACK - 1) * kept, numbers)


def _drawer(plan: Plan) -> Drawn:
    """What a drawer without a network needs, found by drawing noise without numbers."""
    size = working_size(plan.config, (plan.height, plan.width))
    drawer = make_drawer(plan.config, size, META)
    latent = drawer.noise([torch.Generator() for _ in plan.pictures]).requires_grad_()
    kept = _kept(lambda: drawer.render(latent))
    final = FINAL * len(latent) * plan.height * plan.width if size != (plan.height, plan.width) else 0
    return Drawn(0, kept, max((BACK - 1) * kept, final), latent[0].numel())


def _descending(plan: Plan, each: int) -> int:
    """Bytes of what is optimised, in fp32, `each` numbers of a picture, and of all that has its size."""
    settings = plan.config.optimise
    leaf = torch.empty(len(plan.pictures), each, device=META).requires_grad_()
    leaf.grad = torch.empty_like(leaf)
    optimiser = make_optimiser(settings.name, leaf, settings.lr)
    optimiser.step()
    state = sum(_size(value) for value in optimiser.state[leaf].values() if isinstance(value, Tensor))
    also = AVERAGED * (settings.ema > 0) + DISTURBED * (settings.noise > 0) + HELD * (plan.config.init.weight > 0)
    return (1 + PASSING + also) * _size(leaf) + state


def _tower(spec: str, plan: Plan) -> tuple[int, int]:
    """Return the bytes of a perceptor's weights, and of what one micro-batch of cutouts keeps."""
    import open_clip

    dtype = PRECISIONS[plan.config.runtime.precision]
    with META, quiet_open_clip():
        perceptor = Perceptor(
            spec, open_clip.create_model(clip_architecture(spec), load_weights=False, device=META), None
        )
        if plan.config.runtime.accelerate:
            fuse_vit(perceptor.model.visual)
        weights = _bytes(perceptor.model)
        perceptor.model.to(dtype)
        count = len(plan.pictures) * (plan.config.cutouts.micro_batch or plan.config.cutouts.count)
        cutouts = torch.empty(count, 3, perceptor.size, perceptor.size)
        seen = cutouts.to(dtype).requires_grad_()
    return weights, _kept(lambda: cast(Tensor, perceptor.model.encode_image(seen))) + 3 * _size(cutouts)


def _kept_lightly(vqgan: VQGAN, latent: Tensor) -> tuple[int, int]:
    """What a checkpointed decoder keeps, and what its largest block does when it is computed again."""
    inputs: list[tuple[nn.Module, tuple[Any, ...]]] = []
    hooks = [
        block.register_forward_pre_hook(lambda block, given: inputs.append((block, given))) for block in blocks(vqgan)
    ]
    vqgan.decode(latent)
    for hook in hooks:
        hook.remove()
    return _kept(lambda: checkpointed(vqgan).decode(latent)), max(
        _kept(partial(block, *given)) for block, given in inputs
    )


def _kept(forward: Callable[[], Tensor]) -> int:
    """Run a forward pass and add up the distinct storages that autograd keeps, except parameters and their views."""
    storages: dict[int, Any] = {}

    def keep(tensor: Tensor) -> Tensor:
        if not isinstance(tensor, nn.Parameter) and not isinstance(tensor._base, nn.Parameter):
            storage = tensor.untyped_storage()
            storages[storage._cdata] = storage
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        output = forward()
    return sum(storage.nbytes() for storage in storages.values()) + _size(output)


def _bytes(module: nn.Module) -> int:
    return sum(_size(parameter) for parameter in module.parameters())


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
