"""taming's blocks in fewer passes over memory, of the same weights and the same result up to rounding.

taming's modules stay the definition. The network must be frozen: gradients reach the inputs of a fused block, not its
weights.

Shapes: N pictures, C channels.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from taming.modules.diffusionmodules.model import Decoder, ResnetBlock, Upsample
from torch import Tensor, nn

from vqclip.models.vqgan import VQGAN


class _NormSilu(torch.autograd.Function):
    """silu(group_norm(x)) in few passes over channels-last memory; one tensor like x is kept for the backward pass."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> Tensor:
        x = _near_zero(x, groups)
        y, mean, rstd = (_normalise_on_cpu if x.is_cpu else _normalise)(x, weight, bias, groups, eps)
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


def _near_zero(x: Tensor, groups: int) -> Tensor:
    """Return x less each group's mean in the first row, which changes nothing of group_norm(x).

    E[x²] - E[x]², by which `_normalise` and torch's kernel for channels-last find the variance, has no digit left where
    the mean is large beside the deviation. The first of h rows is at most √h deviations off, whatever the numbers.
    """
    n, c, _, w = x.shape
    row = x[:, :, 0].sum(2, dtype=torch.promote_types(x.dtype, torch.float32)).view(n, groups, -1).sum(2)
    return x - (row / (w * c // groups)).to(x.dtype).repeat_interleave(c // groups, 1)[:, :, None, None]


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
    square = torch.linalg.vector_norm(x, dim=(2, 3), dtype=wide).square().view(n, groups, -1).sum(2) / size
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


class FusedDecoder(nn.Module):
    """taming's `Decoder`, normalisation and activation at its end in one."""

    def __init__(self, plain: Decoder) -> None:
        super().__init__()
        self.conv_in, self.mid, self.up = plain.conv_in, plain.mid, plain.up
        self.norm_out, self.conv_out = plain.norm_out, plain.conv_out

    def forward(self, z: Tensor) -> Tensor:
        """(N, z_channels, h, w) ─▶ (N, 3, H, W)."""
        h = self.mid.block_1(self.conv_in(z), None)
        h = self.mid.block_2(self.mid.attn_1(h), None)
        for number, level in reversed(list(enumerate(cast(Any, self.up)))):
            for place, block in enumerate(level.block):
                h = block(h, None)
                h = level.attn[place](h) if len(level.attn) else h
            h = level.upsample(h) if number else h
        return cast(Tensor, self.conv_out(norm_silu(h, self.norm_out)))


def fuse_vqgan(vqgan: VQGAN) -> None:
    """Swap the blocks of a frozen VQGAN for fused ones, and lay its convolutions out channels-last."""
    for parent in list(vqgan.modules()):
        for name, block in parent.named_children():
            if type(block) is ResnetBlock:
                setattr(parent, name, FusedResnetBlock(block))
            elif type(block) is Upsample and block.with_conv:
                setattr(parent, name, FoldedUpsample(block))
    vqgan.decoder = FusedDecoder(vqgan.decoder)
    vqgan.to(memory_format=torch.channels_last)
