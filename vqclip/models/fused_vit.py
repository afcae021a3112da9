"""Blocks of CLIP's image towers that compute less, of the same weights and the same result up to rounding.

open_clip's modules stay the definition. The tower must be frozen: gradients reach the inputs of a swapped block, not
its weights.

Shapes: B cutouts, T tokens, D width.
"""

from typing import Any, cast

import torch
import torch.nn.functional as F
from open_clip.transformer import QuickGELU, ResidualAttentionBlock, VisionTransformer
from torch import Tensor, nn

QUICK = 1.702
"""The slope in CLIP's `x sigmoid(1.702 x)`, an approximation of GELU (Hendrycks & Gimpel, arXiv 1606.08415)."""

MATRICES = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, nn.MultiheadAttention)
"""Layers whose weights autocast would cast to its own number format in every step."""


def fold_quick_gelu(mlp: nn.Sequential) -> None:
    """open_clip's linear, `QuickGELU`, linear with the slope q in the weights: x sigmoid(q x) = silu(q x) / q."""
    into, _, out = cast(tuple[nn.Linear, QuickGELU, nn.Linear], tuple(mlp))
    mlp[0], mlp[1], mlp[2] = _scaled(into, QUICK, QUICK), nn.SiLU(), _scaled(out, 1 / QUICK, 1.0)


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


def fuse_vit(tower: nn.Module, matrices: torch.dtype | None = None) -> None:
    """Swap the blocks inside a frozen image tower, also in other towers than a ViT where they have the like.

    Given a number format, the weights of its matrices are kept in it; the tower then only runs under autocast. The
    convolutions are laid out channels-last.
    """
    part: Any
    for parent in list(tower.modules()):
        for name, part in parent.named_children():
            if type(part) is nn.Conv2d and _takes_patches(part):
                setattr(parent, name, PatchLinear(part))
            elif type(part) is nn.Sequential and [type(layer) for layer in part] == [nn.Linear, QuickGELU, nn.Linear]:
                fold_quick_gelu(part)
            elif type(part) is ResidualAttentionBlock and _attends_to_itself(part):
                part.attn = PlainAttention(part.attn)
    if type(tower) is VisionTransformer and _is_read_at_the_first_token(tower):
        part = tower.transformer
        part.resblocks[-1] = FirstTokenBlock(part.resblocks[-1])
    for module in tower.modules() if matrices else ():
        if isinstance(module, MATRICES):
            module.to(matrices)
    tower.to(memory_format=torch.channels_last)


def _takes_patches(conv: nn.Conv2d) -> bool:
    high, wide = conv.kernel_size
    whole = conv.groups == 1 and conv.padding in ((0, 0), "valid")
    return whole and conv.kernel_size == conv.stride and high == wide > 1


def _attends_to_itself(block: ResidualAttentionBlock) -> bool:
    """CoCa's poolers attend to something else."""
    return type(block.attn) is nn.MultiheadAttention and block.attn.batch_first and not hasattr(block, "ln_1_kv")


def _is_read_at_the_first_token(tower: VisionTransformer) -> bool:
    last = tower.transformer.resblocks[-1]
    plainly = type(last) is ResidualAttentionBlock and type(last.attn) is PlainAttention
    return plainly and tower.pool_type == "tok" and tower.attn_pool is None and not tower.output_tokens
