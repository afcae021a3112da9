"""With low memory a renderer gives the same bits, keeps less, and leaves the VQGAN as it was."""

import pytest
import torch
from tiny_vqgan import NARROW
from torch import Tensor, nn

from vqclip.models.gradient_checkpointing import blocks, checkpointed
from vqclip.models.renderer import Renderer
from vqclip.models.vqgan import VQGAN
from vqclip.pipeline.memory_estimate import _kept

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def vqgan() -> VQGAN:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return VQGAN(NARROW)


def drawn(renderer: Renderer) -> tuple[Tensor, Tensor]:
    """The pictures of two latents, and the gradient of the sum of their squares."""
    latent = renderer.vqgan.codebook[:24].T.reshape(1, 32, 4, 6).repeat(2, 1, 1, 1).contiguous().requires_grad_()
    images = renderer(latent)
    images.square().sum().backward()
    assert latent.grad is not None
    return images.detach(), latent.grad


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_picture_and_gradient_are_the_same_bits(vqgan: VQGAN, precision: str) -> None:
    plain, light = (drawn(Renderer(vqgan, CPU, precision, light)) for light in (False, True))
    assert torch.equal(plain[0], light[0]) and torch.equal(plain[1], light[1])
    assert plain[1].abs().sum() > 0


def test_its_memory_can_be_reduced_once(vqgan: VQGAN) -> None:
    renderer = Renderer(vqgan, CPU, "fp32")
    assert renderer.reduce_memory() and renderer.low_memory
    assert not renderer.reduce_memory()


def test_it_keeps_less(vqgan: VQGAN) -> None:
    latent = torch.zeros(1, 32, 4, 4, requires_grad=True)
    plain = _kept(lambda: vqgan.decode(latent))
    assert _kept(lambda: checkpointed(vqgan).decode(latent)) < plain / 2


def test_every_block_is_computed_twice_with_the_same_weights_and_the_vqgan_stays_as_it_was(vqgan: VQGAN) -> None:
    """Two blocks and an attention in the middle, then 2 blocks a level, 2 doublings, and attention at 16 pixels."""
    renderer = Renderer(vqgan, CPU, "fp32", low_memory=True)
    parts = blocks(renderer.vqgan)
    assert len(parts) == 3 + 3 * 2 + 2 + 2
    counts: dict[nn.Module, int] = {}
    first = [next(part.children()) for part in parts]
    hooks = [p.register_forward_pre_hook(lambda p, _: counts.update({p: counts.get(p, 0) + 1})) for p in first]
    drawn(renderer)
    for hook in hooks:
        hook.remove()
    assert counts == dict.fromkeys(first, 2)
    assert not any("forward" in vars(part) for part in blocks(vqgan))
    own, theirs = (dict(network.state_dict(keep_vars=True)) for network in (vqgan, renderer.vqgan))
    assert own.keys() == theirs.keys() and all(own[key] is theirs[key] for key in own)
