"""The prior: an autoregressive transformer over [caption tokens | image codes] that draws codes for a caption.

One sequence of text and image as in DALL-E 1 (Ramesh et al. 2021, https://arxiv.org/abs/2102.12092), a pre-norm GPT as
in taming-transformers' minGPT, sampled with classifier-free guidance (Ho & Salimans 2022,
https://arxiv.org/abs/2207.12598) and a cache of keys and values. A place of the sequence stands for a block of 2 x 2
codes, whose codes a small head draws one after the other, as in RQ-Transformer (Lee et al. 2022,
https://arxiv.org/abs/2203.01941): a quarter of the length for the same order. Places and head are fed with the codes
around them as the VQGAN's own vectors, so that nearby structure needs no attention (the causal neighbourhood of
PixelCNN, https://arxiv.org/abs/1601.06759), and places with an outline of the picture made from the caption in one
go. Every feed is normalised: what stands around is otherwise soon twenty times louder than the caption.

Shapes: B rows, L caption tokens, side x side codes in blocks of 2 x 2, S = (side / 2)² blocks in reading order, D
width, K entries of the codebook, C their width.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vqclip.common.errors import ModelError
from vqclip.models.weights.reader import check_finite, read_metadata, read_tensors
from vqclip.models.weights.unfilled import unfilled

BLOCK = 2
"""Codes along the side of a block."""

AROUND_BLOCK = tuple((down, across) for down in (-2, -1) for across in range(-2, 4)) + tuple(
    (down, across) for down in (0, 1) for across in (-2, -1)
)
"""Rows and columns, from a block's first code, of the codes that its place is fed with: above it, and left of it."""

AROUND_CODE = ((0, -2), (0, -1), (-2, 0), (-1, -1), (-1, 0), (-1, 1))
"""Rows and columns, from a code, of the codes that the head is fed with, where they come before it."""

OUTLINE = 48
"""Numbers that the outline gives each place before they are widened."""

MARGIN = 3
"""Border of zeros around the codes, as wide as the offsets reach."""

FREE = -1
"""Stands among given codes for one that is to be drawn."""

METADATA = "prior"
"""Key of the sizes, as JSON, in the safetensors header."""


@dataclass(frozen=True)
class PriorSizes:
    """What to build: `context` caption tokens of a `vocabulary`, `side` x `side` codes of a codebook with
    `entries` vectors of `channels` numbers, and a transformer of `width`, `layers` and `heads`.
    """

    context: int
    vocabulary: int
    side: int
    entries: int
    channels: int
    width: int
    layers: int
    heads: int


@dataclass(frozen=True)
class Sampling:
    """How codes are drawn: logits over `temperature`, the `top_k` largest only (0: all), and the pull from what fits
    any caption to what fits this one, `guidance` (1: none).
    """

    temperature: float = 1.0
    top_k: int = 0
    guidance: float = 1.0


@dataclass(frozen=True)
class Near:
    """What the codes shall lie near to: vectors (B, side, side, C) of the same space as the codebook, and how much that
    counts: `pull` 0 is not at all, and a large one takes the nearest entry.
    """

    vectors: Tensor
    pull: float


class Attention(nn.Module):
    """Causal self-attention (B, S, D) whose keys and values can be kept for the next call."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, memory: Tensor | None = None, start: int = 0) -> Tensor:
        """Attend to x and, given `memory` (2, B, heads, length, D / heads), to its first `start` places.

        The keys and values of x are written into `memory` behind them. With memory, x is one place, or `start` is 0.
        """
        rows, places, width = x.shape
        q, k, v = self.qkv(x).view(rows, places, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if memory is not None:
            memory[0, :, :, start : start + places], memory[1, :, :, start : start + places] = k, v
            k, v = memory[:, :, :, : start + places]
        seen = F.scaled_dot_product_attention(q, k, v, is_causal=places > 1)
        return self.out(seen.transpose(1, 2).reshape(rows, places, width))


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention, self.norm_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU("tanh"), nn.Linear(4 * width, width))

    def forward(self, x: Tensor, memory: Tensor | None = None, start: int = 0) -> Tensor:
        """x (B, S, D); `memory` and `start` as in `Attention.forward`."""
        x = x + self.attention(self.norm_attention(x), memory, start)
        return x + self.mlp(self.norm_mlp(x))


class Outline(nn.Module):
    """Caption tokens (B, L, D) ─▶ what they mean for each of the S places (B, S, D).

    The tokens are pooled into one vector, each head weighing them for itself; every place has a linear map of its own
    of that vector.
    """

    def __init__(self, width: int, heads: int, places: int) -> None:
        super().__init__()
        self.weigh, self.values = nn.Linear(width, heads), nn.Linear(width, width)
        self.pooled = nn.Sequential(nn.Linear(width, width), nn.LayerNorm(width))
        self.spread = nn.Linear(width, places * OUTLINE)
        self.out = nn.Sequential(nn.LayerNorm(OUTLINE), nn.Linear(OUTLINE, width), nn.LayerNorm(width))

    def forward(self, x: Tensor, there: Tensor) -> Tensor:
        """Tokens that are not `there` (B, L) weigh nothing; at least one of each row must be there."""
        weights = self.weigh(x).masked_fill(~there[..., None], -torch.inf).softmax(1)
        values = self.values(x).unflatten(-1, (weights.shape[-1], -1))
        pooled = self.pooled(torch.einsum("blh,blhd->bhd", weights, values).flatten(1))
        return self.out(self.spread(pooled).unflatten(-1, (-1, OUTLINE)))


class Head(nn.Module):
    """Place of a block (B, S, D) and what stands around one of its codes ─▶ logits (B, S, K) of that code."""

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__()
        self.around = nn.ModuleList(_feed(AROUND_CODE, sizes) for _ in range(BLOCK**2))
        self.norm_places, self.norm_mlp, self.norm = (nn.LayerNorm(sizes.width) for _ in range(3))
        self.mlp = nn.Sequential(
            nn.Linear(sizes.width, 2 * sizes.width), nn.GELU("tanh"), nn.Linear(2 * sizes.width, sizes.width)
        )
        self.logits = nn.Linear(sizes.width, sizes.entries)

    def forward(self, places: Tensor, around: Tensor, number: int) -> Tensor:
        """`around` (B, S, len(AROUND_CODE) (C + 1)) belongs to code `number` of each block."""
        x = self.norm_places(places) + self.around[number](around)
        x = x + self.mlp(self.norm_mlp(x))
        return self.logits(self.norm(x))


class Prior(nn.Module):
    """Caption tokens (B, L) and codes so far ─▶ logits of the next code.

    `codebook` (K, C) holds the entries of the VQGAN whose codes these are. Captions are padded with token 0 to
    `context`; a caption of nothing but 0 stands for "any picture".
    """

    codebook: Tensor

    def __init__(self, sizes: PriorSizes) -> None:
        super().__init__()
        self.sizes = sizes
        self.register_buffer("codebook", torch.zeros(sizes.entries, sizes.channels))
        self.tokens = nn.Embedding(sizes.vocabulary, sizes.width)
        self.token_places = nn.Parameter(torch.zeros(sizes.context, sizes.width))
        self.outline = Outline(sizes.width, 2 * sizes.heads, (sizes.side // BLOCK) ** 2)
        self.places = nn.Parameter(torch.zeros((sizes.side // BLOCK) ** 2, sizes.width))
        self.around = _feed(AROUND_BLOCK, sizes)
        self.blocks = nn.ModuleList(Block(sizes.width, sizes.heads) for _ in range(sizes.layers))
        self.head = Head(sizes)

    def forward(self, tokens: Tensor, codes: Tensor, seen: Tensor | None = None) -> Tensor:
        """tokens (B, L), codes (B, side, side) ─▶ logits (B, side, side, K), each of its code given those before.

        Codes that are not `seen` (B, side, side) are hidden from those after them, which trains the use of the caption.
        """
        side = self.sizes.side // BLOCK
        logits = self.block_logits(tokens, codes, seen, torch.arange(side**2, device=codes.device))
        grid = logits.unflatten(1, (side, side)).unflatten(3, (BLOCK, BLOCK))
        return grid.permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2)

    def block_logits(self, tokens: Tensor, codes: Tensor, seen: Tensor | None, blocks: Tensor) -> Tensor:
        """As `forward`, for the codes of some `blocks` (N,) only: (B, N, BLOCK², K)."""
        vectors = self._vectors(codes, seen)
        x = torch.cat([self._captions(tokens), self._fed(vectors, tokens)], 1)
        for block in self.blocks:
            x = block(x)
        places = x[:, tokens.shape[1] + blocks]
        around = [self._around_code(vectors, number)[:, blocks] for number in range(BLOCK**2)]
        return torch.stack([self.head(places, near, number) for number, near in enumerate(around)], 2)

    @torch.no_grad()
    def sample(
        self,
        tokens: Tensor,
        numbers: Tensor,
        sampling: Sampling,
        given: Tensor | None = None,
        near: Near | None = None,
    ) -> Tensor:
        """Draw codes (B, side, side) for captions (B, L).

        `numbers` (B, side, side) in [0, 1) decide: the same numbers, the same codes. `given` (B, side, side) holds
        codes that stay as they are, and FREE where one is to be drawn; what is drawn follows from those before it.
        What is drawn `near` vectors follows Bayes' rule, where each is an entry of the codebook and normal noise.
        """
        sizes, guided = self.sizes, sampling.guidance != 1
        captions = torch.cat([tokens, torch.zeros_like(tokens)]) if guided else tokens
        memory, outline = self._remember(captions), self._outline(captions)
        codes = torch.zeros(len(tokens), sizes.side, sizes.side, dtype=torch.long, device=tokens.device)
        vectors = self._vectors(codes, torch.zeros_like(codes, dtype=torch.bool))
        for place in range((sizes.side // BLOCK) ** 2):
            top, left = (BLOCK * at for at in divmod(place, sizes.side // BLOCK))
            x = self.around(_gather(vectors, AROUND_BLOCK, top, left)).repeat(2 if guided else 1, 1)
            x = (x + outline[:, place] + self.places[place])[:, None]
            for block, kept in zip(self.blocks, memory, strict=True):
                x = block(x, kept, sizes.context + place)
            for number in range(BLOCK**2):
                row, column = top + number // BLOCK, left + number % BLOCK
                around = _gather(vectors, AROUND_CODE, row, column).repeat(2 if guided else 1, 1)
                logits = self.head(x, around[:, None], number)[:, 0].float()
                if guided:
                    fitting, any_picture = logits.chunk(2)
                    logits = any_picture + sampling.guidance * (fitting - any_picture)
                if near is not None:
                    logits = logits - self._distances(near, row, column)
                drawn = pick_codes(logits, numbers[:, row, column], sampling)
                codes[:, row, column] = drawn if given is None else _unless_free(given[:, row, column], drawn)
                vectors[:, row + MARGIN, column + MARGIN] = self._entries(codes[:, row, column])
        return codes

    def _distances(self, near: Near, row: int, column: int) -> Tensor:
        """What a code of each entry loses there, (B, K): the squared distance, over the codebook's variance."""
        spread = (self.codebook - self.codebook.mean(0)).square().sum(1).mean()
        return near.pull / spread * torch.cdist(near.vectors[:, row, column], self.codebook).square()

    def _captions(self, tokens: Tensor) -> Tensor:
        return self.tokens(tokens) + self.token_places

    def _outline(self, tokens: Tensor) -> Tensor:
        """What each caption means for each place, (B, S, D)."""
        there = tokens != 0
        there[:, 0] = True
        return self.outline(self._captions(tokens), there)

    def _remember(self, captions: Tensor) -> list[Tensor]:
        """Run the captions through the blocks; return each block's keys and values, with room for the places."""
        sizes = self.sizes
        length = sizes.context + len(self.places)
        shape = (2, len(captions), sizes.heads, length, sizes.width // sizes.heads)
        x, memory = self._captions(captions), [self.codebook.new_zeros(shape) for _ in self.blocks]
        for block, kept in zip(self.blocks, memory, strict=True):
            x = block(x, kept)
        return memory

    def _fed(self, vectors: Tensor, tokens: Tensor) -> Tensor:
        """What every place of the sequence is fed with, (B, S, D)."""
        around = torch.cat([_of_blocks(vectors, *offset) for offset in AROUND_BLOCK], -1)
        return self.around(around) + self._outline(tokens) + self.places

    def _around_code(self, vectors: Tensor, number: int) -> Tensor:
        """What stands around code `number` of every block, (B, S, len(AROUND_CODE) (C + 1)); zeros for later codes."""
        row, column = divmod(number, BLOCK)
        places = [(row + down, column + across) for down, across in AROUND_CODE]
        found = [_of_blocks(vectors, *place) * _comes_before(*place, number) for place in places]
        return torch.cat(found, -1)

    def _vectors(self, codes: Tensor, seen: Tensor | None) -> Tensor:
        """The entries and a 1, (B, side + 2 MARGIN, side + 2 MARGIN, C + 1); zeros for the unseen and the border."""
        entries = self._entries(codes)
        shown = entries if seen is None else entries * seen[..., None]
        return F.pad(shown, (0, 0, MARGIN, MARGIN, MARGIN, MARGIN))

    def _entries(self, codes: Tensor) -> Tensor:
        return F.pad(F.embedding(codes, self.codebook), (0, 1), value=1.0)


def _feed(offsets: Sequence[tuple[int, int]], sizes: PriorSizes) -> nn.Module:
    """The layer that turns the vectors at these offsets (…, len(offsets) (C + 1)) into a feed (…, D)."""
    return nn.Sequential(nn.Linear(len(offsets) * (sizes.channels + 1), sizes.width), nn.LayerNorm(sizes.width))


def _of_blocks(vectors: Tensor, down: int, across: int) -> Tensor:
    """The padded vectors at one offset from the first code of every block, (B, S, C + 1)."""
    side = vectors.shape[1] - 2 * MARGIN
    rows, columns = (slice(MARGIN + start, MARGIN + start + side, BLOCK) for start in (down, across))
    return vectors[:, rows, columns].flatten(1, 2)


def _comes_before(row: int, column: int, number: int) -> bool:
    """Whether the code at this offset from a block's first code is drawn before code `number` of the block."""
    if row < 0 or column < 0:
        return True
    return column < BLOCK and BLOCK * row + column < number


def _gather(vectors: Tensor, offsets: Sequence[tuple[int, int]], row: int, column: int) -> Tensor:
    """The padded vectors at the offsets from one code, (B, len(offsets) (C + 1))."""
    picked = [vectors[:, row + MARGIN + down, column + MARGIN + across] for down, across in offsets]
    return torch.cat(picked, -1)


def _unless_free(given: Tensor, drawn: Tensor) -> Tensor:
    return torch.where(given == FREE, drawn, given)


def pick_codes(logits: Tensor, numbers: Tensor, sampling: Sampling) -> Tensor:
    """Draw from each row of logits (B, K) the entry at which the summed probability passes numbers (B,), (B,) long."""
    if sampling.temperature == 0:
        return logits.argmax(1)
    if 0 < sampling.top_k < logits.shape[1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    passed = (logits / sampling.temperature).softmax(1).cumsum(1)
    return (passed <= numbers[:, None] * passed[:, -1:]).sum(1).clamp(max=logits.shape[1] - 1)


def save_prior(prior: Prior) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the safetensors header of a prior, as `load_prior` reads them."""
    return prior.state_dict(), {METADATA: json.dumps(asdict(prior.sizes))}


def load_prior(path: Path) -> Prior:
    """Load a prior on the CPU in fp32, in evaluation mode and frozen.

    Raises:
        ModelError: the file is missing, damaged or not a prior of ours.
    """
    tensors, stated = read_tensors(path), read_metadata(path).get(METADATA)
    try:
        sizes = PriorSizes(**json.loads(stated or ""))
        if f"blocks.{sizes.layers - 1}.mlp.2.weight" not in tensors:  # a header alone may ask for any number of layers
            raise ValueError(f"there are no {sizes.layers} layers")
        with unfilled():
            prior = Prior(sizes)
        prior.load_state_dict({key: tensor.float() for key, tensor in tensors.items()}, strict=True, assign=True)
    except (TypeError, ValueError, RuntimeError, LookupError, ArithmeticError) as error:
        raise ModelError(f"{str(path)!r} is damaged, or is not a prior that vqclip trained.") from error
    check_finite(path, prior.state_dict())
    return prior.eval().requires_grad_(False)
