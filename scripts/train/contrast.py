"""What a CLIP in training is taught by: embeddings of pictures and captions, their contrast, and attacks on it."""

import open_clip
import torch
from torch.nn import functional

from scripts.train import training


def encode_text(model: open_clip.CLIP, tokens: torch.Tensor, groups: int = 4) -> torch.Tensor:
    """Unit text embeddings (N, 256). Captions of like length go together, without the padding that none of them
    needs. That changes nothing: attention is causal and the embedding is read at the end token (the largest id)."""
    order = (tokens != 0).sum(1).argsort()
    parts = [_encode_trimmed(model, tokens[part]) for part in order.chunk(groups)]
    return functional.normalize(torch.cat(parts)[order.argsort()].float(), dim=-1)


def _encode_trimmed(model: open_clip.CLIP, tokens: torch.Tensor) -> torch.Tensor:
    length = int((tokens != 0).sum(1).max())
    tokens = tokens[:, :length]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x), device=x.device), tokens.argmax(1)] @ model.text_projection


def encode_image(model: open_clip.CLIP, images: torch.Tensor) -> torch.Tensor:
    """Unit image embeddings (N, 256) of images (N, 3, side, side) in [0, 1]."""
    return functional.normalize(model.visual((images - 0.5) / 0.5).float(), dim=-1)


def fitted(weights: dict[str, torch.Tensor], model: open_clip.CLIP) -> dict[str, torch.Tensor]:
    """A ModifiedResNet's weights for a `model` with another size of input: the places of its last grid, which stand
    after one for the mean, are interpolated."""
    name = "visual.attnpool.positional_embedding"
    wanted = model.state_dict().get(name)
    if wanted is None or wanted.shape == weights[name].shape:
        return weights
    before, after = (int((len(places) - 1) ** 0.5) for places in (weights[name], wanted))
    grid = weights[name][1:].t().reshape(1, -1, before, before)
    grid = functional.interpolate(grid, (after, after), mode="bilinear", align_corners=True)
    return {**weights, name: torch.cat([weights[name][:1], grid.reshape(-1, after**2).t()])}


def contrastive_loss(
    images: torch.Tensor, texts: torch.Tensor, scale: torch.Tensor, fits: torch.Tensor
) -> torch.Tensor:
    """CLIP's symmetric cross-entropy over unit embeddings (N, D), without the pairs that fit by chance."""
    same = torch.eye(len(images), dtype=torch.bool, device=images.device)
    logits = (scale * texts @ images.t()).masked_fill(fits & ~same, -1e4)
    target = torch.arange(len(images), device=images.device)
    return (functional.cross_entropy(logits, target) + functional.cross_entropy(logits.t(), target)) / 2


def attack(
    model: open_clip.CLIP, images: torch.Tensor, texts: torch.Tensor, fits: torch.Tensor, radius: float, steps: int
) -> torch.Tensor:
    """Images within L2 distance `radius` that the model matches worst with their captions: projected gradient
    descent with normalised steps (Madry et al., arXiv 1706.06083). All in [0, 1]."""
    scale = model.logit_scale.exp().detach()

    def project(delta: torch.Tensor) -> torch.Tensor:
        norm = delta.flatten(1).norm(dim=1).view(-1, 1, 1, 1)
        return delta * (radius / norm.clamp_min(radius))

    delta = torch.zeros_like(images)
    for _ in range(steps):
        delta.requires_grad_(True)
        with training.autocast(images.device):
            embedded = encode_image(model, images + delta)
        loss = contrastive_loss(embedded, texts, scale, fits)
        (gradient,) = torch.autograd.grad(loss, delta)
        length = gradient.flatten(1).norm(dim=1).view(-1, 1, 1, 1).clamp_min(1e-12)
        delta = project(delta.detach() + 1.5 * radius / steps * gradient / length)
    return (images + delta).clamp(0, 1)
