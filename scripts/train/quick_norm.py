"""Group normalisation that is quicker to train on a CPU than torch's own."""

import torch
from torch import nn


class _Normalise(torch.autograd.Function):
    """Group normalisation, forward and backward in few passes over channels-last memory.

    torch's own backward for channels-last tensors takes two thirds of a training step on CPU.
    """

    @staticmethod
    def forward(ctx, x, weight, bias, groups, eps):
        n, c, h, w = x.shape
        size = h * w * c // groups
        mean = x.sum((2, 3), dtype=torch.float32).view(n, groups, -1).sum(2) / size
        square = (x * x).sum((2, 3), dtype=torch.float32).view(n, groups, -1).sum(2) / size
        rstd = (square - mean * mean + eps).clamp_min(eps).rsqrt().repeat_interleave(c // groups, 1)
        mean = mean.repeat_interleave(c // groups, 1)
        scale = (rstd * weight)[:, :, None, None]
        shift = (bias - mean * rstd * weight)[:, :, None, None]
        ctx.save_for_backward(x, weight, rstd, mean)
        ctx.groups, ctx.size = groups, size
        return torch.addcmul(shift.to(x.dtype), x, scale.to(x.dtype))

    @staticmethod
    def backward(ctx, grad):
        x, weight, rstd, mean = ctx.saved_tensors
        n, c = mean.shape

        def over_groups(value: torch.Tensor) -> torch.Tensor:
            return (value.view(n, ctx.groups, -1).sum(2) / ctx.size).repeat_interleave(c // ctx.groups, 1)

        plain = grad.sum((2, 3), dtype=torch.float32)
        along = ((grad * x).sum((2, 3), dtype=torch.float32) - plain * mean) * rstd
        level, slope = over_groups(plain * weight), over_groups(along * weight)
        by_grad = (rstd * weight)[:, :, None, None].to(x.dtype)
        by_x = (-rstd * rstd * slope)[:, :, None, None].to(x.dtype)
        constant = (rstd * (rstd * slope * mean - level))[:, :, None, None].to(x.dtype)
        grad_x = torch.addcmul(torch.addcmul(constant, x, by_x), grad, by_grad)
        return grad_x, along.sum(0), plain.sum(0), None, None


class QuickGroupNorm(nn.GroupNorm):
    """nn.GroupNorm with the same parameters and results, quicker to train on CPU."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """x (N, C, h, w), any range."""
        if x.is_cuda:
            return super().forward(x)
        return _Normalise.apply(x, self.weight, self.bias, self.num_groups, self.eps)
