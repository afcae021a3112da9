"""Pictures that a CLIP in training draws from nothing, as negatives: what its gradient makes of a caption.

As in CLIP-JEM (arXiv 2408.17046), an energy-based model trained by short runs of gradient ascent and a replay of
earlier ones (Du & Mordatch, arXiv 1903.08689): whatever the model likes as well as the drawn scene of a caption, and is
no such scene, it learns to like less. What is left for its gradient to draw is the scene.
"""

from collections.abc import Callable
from dataclasses import dataclass

import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from torch import Tensor
from torch.nn import functional

from scripts.data import draw_scenes
from scripts.train import training
from scripts.train.aligned import alignment, stride
from scripts.train.contrast import encode_image, encode_text

GRID = 16  # codes of the VQGAN along a side
KEPT = 0.75  # share of dreams that go on from an earlier one
SHARPNESS = 20.0  # what a difference of cosines is multiplied by


@dataclass(frozen=True)
class Ascent:
    """How a dream is drawn: steps of gradient ascent of an L2 length drawn from `lengths`."""

    steps: int = 6
    lengths: tuple[float, float] = (0.5, 2.0)


class Dreams:
    """Pictures under way: `size` dreams (3, side, side) in [0, 1], the tokens of their captions, and real views of what
    they name. A training that is resumed begins them anew."""

    def __init__(self, size: int, side: int, context: int, device: torch.device) -> None:
        self.views = torch.rand(size, 3, side, side, device=device)
        self.real = torch.zeros_like(self.views)
        self.tokens = torch.zeros(size, context, dtype=torch.long, device=device)
        self.begun = torch.zeros(size, dtype=torch.bool, device=device)

    def __len__(self) -> int:
        return len(self.views)

    def draw(self, tokens: Tensor, real: Tensor, numbers: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Places in the store, tokens, real views and starting views of as many dreams as there are captions: earlier
        ones that go on, else new ones of these captions."""
        count = len(tokens)
        places = torch.randperm(len(self), generator=numbers, device=real.device)[:count]
        on = (torch.rand(count, generator=numbers, device=real.device) < KEPT) & self.begun[places]
        picked = on[:, None, None, None]
        starts = torch.where(picked, self.views[places], beginnings(real, numbers))
        return (
            places,
            torch.where(on[:, None], self.tokens[places], tokens),
            torch.where(picked, self.real[places], real),
            starts,
        )

    def keep(self, places: Tensor, tokens: Tensor, real: Tensor, views: Tensor) -> None:
        """Takes in how far these dreams came."""
        self.views[places], self.real[places], self.tokens[places] = views, real, tokens
        self.begun[places] = True

    def go_on(
        self, model: open_clip.CLIP, tokens: Tensor, real: Tensor, numbers: torch.Generator
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Lets as many dreams as there are captions climb; returns their tokens, the real views and the dreams."""
        places, tokens, real, views = self.draw(tokens, real, numbers)
        with training.autocast(real.device), torch.no_grad():
            texts = encode_text(model, tokens)

        def likeness(pictures: Tensor) -> Tensor:
            with training.autocast(real.device):
                return (encode_image(model, pictures) * texts).sum(1)

        views = ascend(likeness, views, Ascent(), numbers)
        self.keep(places, tokens, real, views)
        return tokens, real, views

    def aligned(self, model: open_clip.CLIP, tokens: Tensor, real: Tensor, numbers: torch.Generator) -> Tensor:
        """How badly the model's gradient points from as many dreams as there are captions to their scenes (see
        `alignment`); each goes a step along it."""
        places, tokens, real, views = self.draw(tokens, real, numbers)
        texts = encode_text(model, tokens)
        loss, gradient = alignment(lambda pictures: (encode_image(model, pictures) * texts).sum(1), views, real)
        self.keep(places, tokens, real, stride(views, real, gradient, numbers))
        return loss

    def sheet(self, tokenizer: SimpleTokenizer, count: int = 48) -> Image.Image:
        """The first `count` dreams with their captions."""
        views = (self.views[:count].permute(0, 2, 3, 1) * 255).byte().cpu().numpy()
        ends = (0, tokenizer.vocab_size - 2, tokenizer.vocab_size - 1)
        words = [tokenizer.decode([t for t in row if t not in ends]) for row in self.tokens[:count].tolist()]
        return draw_scenes.contact_sheet([(w, Image.fromarray(v)) for w, v in zip(words, views, strict=True)])


def patch_of(side: int) -> int:
    """The pixels of a code in a view `side` pixels wide."""
    return max(2, side // GRID)


def beginnings(real: Tensor, numbers: torch.Generator) -> Tensor:
    """What dreams begin with, (N, 3, side, side): a third each another scene, patches of all scenes in disorder (which
    is what random codes look like), and soft colours."""
    count, _, side, _ = real.shape
    device, patch = real.device, patch_of(side)
    grid = side // patch
    patches = functional.unfold(real, patch, stride=patch).transpose(1, 2).reshape(count * grid**2, -1)
    mixed = patches[torch.randperm(len(patches), generator=numbers, device=device)].view(count, grid**2, -1)
    disorder = functional.fold(mixed.transpose(1, 2), (side, side), patch, stride=patch)
    coarse = torch.rand(count, 3, 4, 4, generator=numbers, device=device)
    soft = functional.interpolate(coarse, (side, side), mode="bicubic", align_corners=False).clamp(0, 1)
    kind = torch.randint(3, (count, 1, 1, 1), generator=numbers, device=device)
    return torch.where(kind == 0, real.roll(count // 2, 0), torch.where(kind == 1, disorder, soft))


def ascend(likeness: Callable[[Tensor], Tensor], views: Tensor, ascent: Ascent, numbers: torch.Generator) -> Tensor:
    """`views` after some steps towards what `likeness` (N,) of views (N, 3, side, side) likes; half of the steps are
    soft, as those of a VQGAN's codes are."""
    low, high = ascent.lengths
    for step in range(ascent.steps):
        views = views.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(likeness(views).sum(), views)
        if step % 2:
            soft = functional.avg_pool2d(gradient, patch_of(views.shape[3]) // 2)
            gradient = functional.interpolate(soft, views.shape[2:], mode="bilinear", align_corners=False)
        norm = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-12)
        lengths = torch.empty(len(views), 1, 1, 1, device=views.device).uniform_(low, high, generator=numbers)
        views = (views.detach() + lengths * gradient / norm).clamp(0, 1)
    return views.detach()


def dream_loss(real: Tensor, dreamt: Tensor) -> Tensor:
    """How often the dream is liked (N,) better than the real view (N,) of the same caption: logistic, in nats."""
    return functional.softplus(SHARPNESS * (dreamt - real)).mean()
