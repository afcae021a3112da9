"""Every swapped block gives what taming's or open_clip's plain one gives, and the same gradient."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import open_clip
import pytest
import torch
from open_clip.transformer import AttentionalPooler, QuickGELU, VisionTransformer
from taming.modules.diffusionmodules.model import Decoder, ResnetBlock, Upsample
from tiny_vqgan import NARROW
from torch import Tensor, nn

from vqclip.common.runtime import autocast
from vqclip.models import fused_vqgan
from vqclip.models.fused_vit import FirstTokenBlock, PatchLinear, PlainAttention, fold_quick_gelu, fuse_vit
from vqclip.models.fused_vqgan import (
    FoldedUpsample,
    FusedDecoder,
    FusedResnetBlock,
    _normalise,
    _normalise_on_cpu,
    _NormSilu,
    fuse_vqgan,
)
from vqclip.models.vqgan import VQGAN

CPU = torch.device("cpu")


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(autouse=True)
def seeded() -> Iterator[None]:
    """torch's own initialisation draws the same weights for every test."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def shaken(module: nn.Module) -> nn.Module:
    """Weights of which none is 0 or 1, so that each counts; frozen."""
    with torch.no_grad():
        for seed, value in enumerate(module.parameters()):
            value.add_(0.1 * numbers(*value.shape, seed=seed))
    return module.eval().requires_grad_(False)


def result(call: Callable[[Tensor], Tensor], x: Tensor) -> tuple[Tensor, Tensor]:
    """What a block gives, and the gradient of a sum of it in which every part weighs differently."""
    x = x.clone().requires_grad_()
    y = call(x)
    (gradient,) = torch.autograd.grad((y * numbers(*y.shape, seed=9)).sum(), x)
    return y, gradient


def assert_equal(plain: Callable[[Tensor], Tensor], equal: Callable[[Tensor], Tensor], x: Tensor) -> None:
    for one, other in zip(result(plain, x), result(equal, x), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5 * float(one.detach().abs().max()))


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize(("wide", "by_conv"), [(64, False), (96, False), (96, True)])
def test_resnet_block(wide: int, by_conv: bool, layout: torch.memory_format) -> None:
    block = ResnetBlock(in_channels=64, out_channels=wide, conv_shortcut=by_conv, dropout=0.0, temb_channels=0)
    plain = shaken(block)
    x = (3 * numbers(2, 64, 6, 5) + 1).to(memory_format=layout)
    assert_equal(lambda x: plain(x, None), lambda x: FusedResnetBlock(block)(x, None), x)


def test_norm_and_silu_have_the_gradient_of_finite_differences() -> None:
    block = FusedResnetBlock(ResnetBlock(in_channels=32, dropout=0.0, temb_channels=0)).double()
    shaken(block)
    x = numbers(1, 32, 2, 2).double().requires_grad_()
    assert torch.autograd.gradcheck(lambda x: block(x, None), x)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_normalisation_is_the_same_on_every_device(dtype: torch.dtype) -> None:
    """Passes that run anywhere against torch's kernel for CPUs; means and deviations in fp32 at least."""
    x = (2 * numbers(2, 64, 6, 5) + 1).to(dtype, memory_format=torch.channels_last)
    weight, bias = (numbers(64, seed=seed).to(torch.promote_types(dtype, torch.float32)) for seed in (1, 2))
    for one, other in zip(
        _normalise(x, weight, bias, 32, 1e-6), _normalise_on_cpu(x, weight, bias, 32, 1e-6), strict=True
    ):
        assert one.dtype == other.dtype and one.shape == other.shape
        bound = 4 * torch.finfo(dtype).eps * float(other.abs().max())  # a few roundings of the largest number
        torch.testing.assert_close(one, other, rtol=0, atol=bound)


@pytest.mark.parametrize("normalise", [_normalise, _normalise_on_cpu])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_small_deviation_beside_a_large_mean_is_not_lost(
    dtype: torch.dtype, normalise: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mean 100, deviation 0.1, against plain mathematics in double precision on the same (rounded) numbers."""
    monkeypatch.setattr(fused_vqgan, "_normalise_on_cpu", normalise)
    x = (0.1 * numbers(2, 64, 24, 24) + 100).to(dtype, memory_format=torch.channels_last)
    weight, bias = (numbers(64, seed=seed) for seed in (1, 2))
    exact = torch.nn.GroupNorm(32, 64, 1e-6, dtype=torch.float64)
    exact.weight, exact.bias = nn.Parameter(weight.double()), nn.Parameter(bias.double())
    ours = result(lambda x: _NormSilu.apply(x, weight, bias, 32, 1e-6), x)
    expected = result(lambda x: torch.nn.functional.silu(exact(x)), x.double())
    for one, other in zip(ours, expected, strict=True):
        error = (one.detach().double() - other.detach()).norm() / other.detach().norm()
        assert float(error) < (1e-4 if dtype == torch.float32 else 0.02)


@pytest.mark.parametrize("size", [(1, 1), (3, 5)])
def test_upsample(size: tuple[int, int]) -> None:
    plain = shaken(Upsample(6, with_conv=True))
    assert_equal(plain, FoldedUpsample(plain), numbers(2, 6, *size))


def test_end_of_the_decoder() -> None:
    plain = shaken(Decoder(**NARROW.ddconfig()))
    equal = FusedDecoder(copy.deepcopy(plain))
    assert_equal(plain, equal, numbers(2, NARROW.z_channels, 3, 4))


def test_quick_gelu() -> None:
    plain = shaken(nn.Sequential(nn.Linear(6, 20), QuickGELU(), nn.Linear(20, 6)))
    equal = copy.deepcopy(plain)
    fold_quick_gelu(equal)
    assert_equal(plain, equal, 3 * numbers(50, 6))


@pytest.mark.parametrize("masked", [False, True])
def test_attention(masked: bool) -> None:
    plain = shaken(nn.MultiheadAttention(24, 3, batch_first=True))
    mask = torch.full((7, 7), -torch.inf).triu(1) if masked else None
    equal = PlainAttention(plain)
    assert_equal(
        lambda x: plain(x, x, x, need_weights=False, attn_mask=mask)[0],
        lambda x: equal(x, x, x, need_weights=False, attn_mask=mask)[0],
        numbers(2, 7, 24),
    )


@pytest.mark.parametrize("size", [(8, 12), (11, 5)])
@pytest.mark.parametrize("bias", [False, True])
def test_patches(bias: bool, size: tuple[int, int]) -> None:
    """Also where a part of the picture does not fill a patch, and is dropped."""
    plain = shaken(nn.Conv2d(3, 10, 4, stride=4, bias=bias))
    assert_equal(plain, PatchLinear(plain), numbers(2, 3, *size))


def towers() -> list[str]:
    """A transformer, and CLIP's own ResNet."""
    return ["ViT-B-32-quickgelu", "RN50"]


def tower(name: str) -> nn.Module:
    config = copy.deepcopy(open_clip.get_model_config(name))
    config["vision_cfg"] |= {"image_size": 64, "width": 64 if name[0] == "V" else 16}
    config["vision_cfg"] |= {"layers": 2} if name[0] == "V" else {"layers": [1, 1, 1, 1]}
    config["text_cfg"] |= {"layers": 1}
    return open_clip.CLIP(**config).visual.eval().requires_grad_(False)


@pytest.mark.parametrize("name", towers())
def test_image_tower(name: str) -> None:
    plain = tower(name)
    equal = copy.deepcopy(plain)
    fuse_vit(equal)
    swapped = {type(module) for module in equal.modules()}
    assert name == "RN50" or ({PatchLinear, PlainAttention, nn.SiLU} <= swapped and QuickGELU not in swapped)
    assert_equal(plain, equal, numbers(2, 3, 64, 64))


def test_vqgan() -> None:
    plain = shaken(VQGAN(NARROW))
    equal = copy.deepcopy(plain)
    fuse_vqgan(equal)
    assert {FusedResnetBlock, FoldedUpsample, FusedDecoder} <= {type(module) for module in equal.modules()}
    assert_equal(plain.decode, equal.decode, numbers(2, NARROW.embed_dim, 4, 4))
    picture = numbers(1, 3, 32, 32).sigmoid()
    torch.testing.assert_close(plain.encode(picture), equal.encode(picture), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "early"),
    [
        ({}, True),
        ({"final_ln_after_pool": True}, True),
        ({"no_ln_pre": True}, True),
        ({"pool_type": "avg"}, False),
        ({"output_tokens": True}, False),
        ({"attentional_pool": True}, False),
    ],
)
def test_the_last_block_ends_early_only_where_one_token_is_read(changes: dict[str, Any], early: bool) -> None:
    plain = shaken(VisionTransformer(32, 8, 24, 2, 3, 4.0, output_dim=16, **changes))
    equal = copy.deepcopy(plain)
    fuse_vit(equal)
    assert (FirstTokenBlock in {type(module) for module in equal.modules()}) is early

    def first(network: nn.Module) -> Callable[[Tensor], Tensor]:
        return lambda x: network(x)[0] if changes.get("output_tokens") else network(x)

    assert_equal(first(plain), first(equal), numbers(2, 3, 32, 32))


def test_a_pooler_that_attends_to_something_else_stays_as_it_is() -> None:
    """CoCa's: learned queries look at the tokens, through the same class of torch."""
    pooler = AttentionalPooler(24, 24, n_head=3, n_queries=2).eval().requires_grad_(False)
    holder = nn.Sequential(pooler)
    x = numbers(2, 7, 24)
    before = holder(x)
    fuse_vit(holder)
    torch.testing.assert_close(holder(x), before)


@pytest.mark.parametrize("name", towers())
def test_bf16_stays_as_near_as_autocast_of_the_plain_tower(name: str) -> None:
    """The angle between a vector in bf16 and in fp32, by both ways: ours is not more than half as large again."""
    plain = tower(name)
    equal = copy.deepcopy(plain)
    fuse_vit(equal, torch.bfloat16)
    x = numbers(4, 3, 64, 64)
    exact = plain(x)
    with autocast(CPU, "bf16"):
        theirs, ours = plain(x).float(), equal(x).float()
    apart = [1 - torch.cosine_similarity(exact, each).mean() for each in (theirs, ours)]
    assert apart[1] <= 1.5 * apart[0] + 1e-6
