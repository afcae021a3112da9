"""Faster equals of the plain blocks.

taming's and open_clip's modules stay the definition. `accelerate` swaps those that are slow for blocks of the same
weights and the same result up to rounding, by one table, LEVERS. The networks must be frozen: gradients reach the
inputs of a swapped block, not its weights.

Shapes: N pictures, C channels, B cutouts, T tokens, D width.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from taming.modules.diffusionmodules.model import Decoder, ResnetBlock, Upsample
from torch import Tensor, nn

QUICK = 1.702
"""The slope in CLIP's `x sigmoid(1.702 x)`, an approximation of GELU (Hendrycks & Gimpel, arXiv 1606.08415)."""

MATRICES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)
"""Layers whose weights autocast would cast to its own number format in every step."""


class _NormSilu(torch.autograd.Function):
    """silu(group_norm(x)) in few passes over channels-last memory; only x is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        normalise = _normalise_on_cpu if x.is_cpu else _normalise
        y, mean, rstd = normalise(x, weight, bias, groups, eps)
        ctx.save_for_backward(x, mean, rstd, weight, bias)
        return F.silu(y, inplace=True)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        x, mean, rstd, weight, bias = ctx.saved_tensors
        (n, groups), c = mean.shape, x.shape[1]
        mean, rstd = (each.repeat_interleave(c // groups, 1) for each in (mean, rstd))

        def over_groups(value: Tensor) -> Tensor:
            return (value.view(n, groups, -1).sum(2) / (x[0].numel() // groups)).repeat_interleave(c // groups, 1)

        z = _affine(x, mean, rstd, weight, bias)
        grad = torch.ops.aten.silu_backward(grads[0], z)
        plain = grad.sum((2, 3), dtype=mean.dtype)
        along = z.mul_(grad).sum((2, 3), dtype=mean.dtype) - plain * bias  # of grad and weight (x - mean) rstd
        level, slope = over_groups(plain * weight), over_groups(along)
        by_grad, by_x, constant = (
            value[:, :, None, None].to(x.dtype)
            for value in (rstd * weight, -rstd * rstd * slope, rstd * (rstd * slope * mean - level))
        )
        return grad.mul_(by_grad).addcmul_(x, by_x).add_(constant), None, None, None, None


def _normalise_on_cpu(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, ...]:
    """group_norm(x), and the means and reciprocal deviations (N, groups), by torch's kernel.

    On a GPU it would leave channels-last.
    """
    n, c, h, w = x.shape
    return torch.native_group_norm(x, weight, bias, n, c, h * w, groups, eps)


def _normalise(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, ...]:
    """The same for any device."""
    n, c, h, w = x.shape
    size, wide = h * w * c // groups, torch.promote_types(x.dtype, torch.float32)
    mean = x.sum((2, 3), dtype=wide).view(n, groups, -1).sum(2) / size
    square = (x * x).sum((2, 3), dtype=wide).view(n, groups, -1).sum(2) / size
    rstd = (square - mean * mean).clamp_min(0).add(eps).rsqrt()
    of_channels = [each.repeat_interleave(c // groups, 1) for each in (mean, rstd)]
    return _affine(x, of_channels[0], of_channels[1], weight, bias), mean, rstd


def _affine(x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    scale = (rstd * weight)[:, :, None, None]
    shift = (bias - mean * rstd * weight)[:, :, None, None]
    return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))


def norm_silu(x: Tensor, norm: nn.GroupNorm) -> Tensor:
    """Return silu(norm(x)) for x (N, C, h, w)."""
    return cast(Tensor, _NormSilu.apply(x, norm.weight, norm.bias, norm.num_groups, norm.eps))


class FusedResnetBlock(nn.Module):
    """taming's `ResnetBlock` with normalisation and activation in one."""

    def __init__(self, plain: ResnetBlock) -> None:
        super().__init__()
        self.norm1, self.conv1, self.norm2, self.conv2 = plain.norm1, plain.conv1, plain.norm2, plain.conv2
        shortcut = "conv_shortcut" if plain.use_conv_shortcut else "nin_shortcut"
        self.shortcut = getattr(plain, shortcut) if plain.in_channels != plain.out_channels else nn.Identity()

    def forward(self, x: Tensor, _temb: None) -> Tensor:
        """(N, C, h, w) ─▶ (N, C', h, w); a VQGAN has no time embedding."""
        h = self.conv1(norm_silu(x, self.norm1))
        return cast(Tensor, self.conv2(norm_silu(h, self.norm2)).add_(self.shortcut(x)))


class FoldedUpsample(nn.Module):
    """taming's `Upsample`, nearest 2x and a 3x3 convolution, as one transposed convolution of stride 2.

    Doubled pixels meet the kernel's rows in pairs, so its four rows are (w₊, w₀ + w₊, w₋ + w₀, w₋), and so its columns.
    """

    FOLD = ((0.0, 0.0, 1.0), (0.0, 1.0, 1.0), (1.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __init__(self, plain: Upsample) -> None:
        super().__init__()
        weight = plain.conv.weight.detach()
        fold = torch.tensor(self.FOLD, dtype=weight.dtype, device=weight.device)
        folded = torch.einsum("oiyx,ay,bx->ioab", weight, fold, fold)
        self.conv = nn.ConvTranspose2d(len(folded), len(folded), 4, stride=2, padding=1, device="meta")
        self.conv.weight = nn.Parameter(folded.contiguous(), requires_grad=False)
        self.conv.bias = plain.conv.bias

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, h, w) ─▶ (N, C, 2h, 2w)."""
        return cast(Tensor, self.conv(x))


class FusedEnding(nn.Module):
    """taming's `Decoder`, the normalisation and activation at its end in one."""

    def __init__(self, plain: Decoder) -> None:
        super().__init__()
        self.decoder = plain
        plain.give_pre_end = True

    @property
    def mid(self) -> nn.Module:
        """The decoder's blocks of the smallest size."""
        return self.decoder.mid

    @property
    def up(self) -> nn.ModuleList:
        """The decoder's levels of growing size."""
        return self.decoder.up

    def forward(self, z: Tensor) -> Tensor:
        """(N, z_channels, h, w) ─▶ (N, 3, H, W)."""
        return cast(Tensor, self.decoder.conv_out(norm_silu(self.decoder(z), self.decoder.norm_out)))


def fold_quick_gelu(mlp: nn.Sequential) -> nn.Sequential:
    """open_clip's linear, `QuickGELU`, linear with the slope q in the weights: x sigmoid(q x) = silu(q x) / q."""
    into, _, out = cast(tuple[nn.Linear, QuickGELU, nn.Linear], tuple(mlp))
    mlp[0], mlp[1], mlp[2] = _scaled(into, QUICK, QUICK), nn.SiLU(), _scaled(out, 1 / QUICK, 1.0)
    return mlp


def _scaled(plain: nn.Linear, by: float, bias_by: float) -> nn.Linear:
    """A linear layer with weights and bias times these."""
    scaled = nn.Linear(plain.in_features, plain.out_features, device="meta")
    scaled.weight = nn.Parameter(plain.weight.detach() * by, requires_grad=False)
    scaled.bias = nn.Parameter(plain.bias.detach() * bias_by, requires_grad=False)
    return scaled


class PlainAttention(nn.Module):
    """`nn.MultiheadAttention` over one sequence: one projection, and on a CPU plain matrix products.

    With frozen weights torch expands the projection for every token of an input that is not contiguous, and its fused
    kernel for CPUs is slow at CLIP's short sequences.
    """

    def __init__(self, plain: nn.MultiheadAttention) -> None:
        super().__init__()
        self.heads = plain.num_heads
        width = plain.embed_dim
        self.project = nn.Linear(width, 3 * width, device="meta")
        self.project.weight, self.project.bias = plain.in_proj_weight, plain.in_proj_bias
        self.out = plain.out_proj

    def forward(
        self, x: Tensor, _keys: Tensor, _values: Tensor, need_weights: bool = False, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        """(B, T, D) ─▶ (B, T, D), attending to itself; `attn_mask` (T, T) is added to the logits."""
        q, k, v = self._split(self.project(x), 3)
        return self._look(q, k, v, attn_mask), None

    def first(self, x: Tensor) -> Tensor:
        """(B, T, D) ─▶ (B, 1, D): what the first token sees."""
        width = x.shape[2]
        weight, bias = self.project.weight, self.project.bias
        (q,) = self._split(F.linear(x[:, :1], weight[:width], bias[:width]), 1)
        k, v = self._split(F.linear(x, weight[width:], bias[width:]), 2)
        return self._look(q, k, v, None)

    def _split(self, x: Tensor, parts: int) -> Tensor:
        """(B, T, parts D) ─▶ (parts, B, heads, T, D / heads)."""
        rows, tokens, _ = x.shape
        return x.view(rows, tokens, parts, self.heads, -1).permute(2, 0, 3, 1, 4)

    def _look(self, q: Tensor, k: Tensor, v: Tensor, attn_mask: Tensor | None) -> Tensor:
        """Every query's mixture of the values, its heads side by side again, projected: (B, Q, D)."""
        if q.device.type in ("cpu", "meta"):  # memory.py estimates what a CPU keeps
            logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
            seen = (logits if attn_mask is None else logits + attn_mask).softmax(-1).to(v.dtype) @ v
        else:
            seen = F.scaled_dot_product_attention(q, k, v, attn_mask)
        return cast(Tensor, self.out(seen.transpose(1, 2).flatten(2)))


def attend_plainly(block: ResidualAttentionBlock) -> ResidualAttentionBlock:
    """Give open_clip's block a `PlainAttention`; not its poolers, which attend to something else."""
    block.attn = PlainAttention(block.attn)
    return block


class FirstTokenBlock(nn.Module):
    """The last block of a `VisionTransformer` that is read at its first token alone: only that token is computed."""

    def __init__(self, plain: ResidualAttentionBlock) -> None:
        super().__init__()
        self.plain = plain

    def forward(self, x: Tensor, attn_mask: None = None) -> Tensor:
        """(B, T, D) ─▶ (B, 1, D)."""
        block = self.plain
        first = x[:, :1] + block.ls_1(block.attn.first(block.ln_1(x)))
        return cast(Tensor, first + block.ls_2(block.mlp(block.ln_2(first))))


def end_early(tower: VisionTransformer) -> VisionTransformer:
    """Let the tower's last block compute no more than the token that is read."""
    tower.transformer.resblocks[-1] = FirstTokenBlock(tower.transformer.resblocks[-1])
    return tower


class PatchLinear(nn.Module):
    """A convolution whose patches do not overlap, as one matrix product."""

    def __init__(self, plain: nn.Conv2d) -> None:
        super().__init__()
        self.side = plain.kernel_size[0]
        self.linear = nn.Linear(plain.weight[0].numel(), plain.out_channels, device="meta")
        self.linear.weight = nn.Parameter(plain.weight.detach().flatten(1).contiguous(), requires_grad=False)
        self.linear.register_parameter("bias", cast(nn.Parameter | None, plain.bias))

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, side h, side w) ─▶ (B, D, h, w)."""
        high, wide = (length - length % self.side for length in x.shape[2:])  # a convolution drops what is left over
        x = x[:, :, :high, :wide]
        patches = x.unflatten(2, (-1, self.side)).unflatten(4, (-1, self.side)).permute(0, 2, 4, 1, 3, 5)
        return cast(Tensor, self.linear(patches.flatten(3)).permute(0, 3, 1, 2))


@dataclass(frozen=True)
class Lever:
    """Which blocks are swapped, for what, and where a block of that kind qualifies."""

    plain: type[nn.Module]
    equal: Callable[[Any], nn.Module]
    qualifies: Callable[[Any], bool] = lambda _: True


LEVERS = (
    Lever(ResnetBlock, FusedResnetBlock),
    Lever(Upsample, FoldedUpsample, lambda block: bool(block.with_conv)),
    Lever(Decoder, FusedEnding, lambda block: not block.give_pre_end),
    Lever(
        nn.Sequential, fold_quick_gelu, lambda mlp: [type(part) for part in mlp] == [nn.Linear, QuickGELU, nn.Linear]
    ),
    Lever(
        ResidualAttentionBlock,
        attend_plainly,
        lambda block: type(block.attn) is nn.MultiheadAttention
        and block.attn.batch_first
        and not hasattr(block, "ln_1_kv"),
    ),
    Lever(
        VisionTransformer,
        end_early,
        lambda tower: tower.pool_type == "tok"
        and tower.attn_pool is None
        and not tower.output_tokens
        and tower.transformer.batch_first
        and type(tower.transformer.resblocks[-1]) is ResidualAttentionBlock
        and type(tower.transformer.resblocks[-1].attn) is PlainAttention,
    ),
    Lever(
        nn.Conv2d,
        PatchLinear,
        lambda conv: conv.kernel_size == conv.stride and conv.kernel_size[0] == conv.kernel_size[1] > 1
        and conv.groups == 1 and conv.padding in ((0, 0), "valid"),
    ),
)  # fmt: skip
"""What is swapped for what, the inner blocks first; `scripts/measure/benchmark.py` measures it."""


def accelerate(network: nn.Module, matrices: torch.dtype | None = None) -> None:
    """Swap the blocks inside a frozen network by LEVERS, and lay its convolutions out channels-last.

    Given a number format, the weights of its matrices are kept in it; the network then only runs under autocast.
    """
    _swap(nn.ModuleList([network]))
    for module in network.modules() if matrices else ():
        if isinstance(module, MATRICES):
            module.to(matrices)
    network.to(memory_format=torch.channels_last)


def _swap(module: nn.Module) -> None:
    for name, child in module.named_children():
        _swap(child)
        lever = next((each for each in LEVERS if type(child) is each.plain and each.qualifies(child)), None)
        if lever is not None:
            setattr(module, name, lever.equal(child))
