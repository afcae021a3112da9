"""What a picture is judged by: distance to prompts, properties of the picture, nearness to its start.

Shapes: N pictures, T prompts (targets), K cutouts, D embedding width. Lower is better everywhere.
"""

from collections.abc import Callable, Mapping
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.registry import pick_told
from vqclip.guidance.colours import parse_colour, parse_colours

Loss = Callable[[Tensor], Tensor]
"""From pictures (N, 3, H, W) in [0, 1] to (N,), each picture on its own."""

Losses = Mapping[str, tuple[Loss, float]]
"""Losses by name, each with its weight."""

RIM = 1 / 8
"""Width of the rim that `edge` looks at, as a share of the short side."""


def spherical_distance(a: Tensor, b: Tensor) -> Tensor:
    """Half the squared angle between unit vectors (..., D) and (..., D), in rad^2, in [0, pi^2 / 2].

    Equal to Katherine Crowson's 2 * arcsin(|a - b| / 2)^2, but the half angle is taken as
    arctan2(|a - b|, |a + b|) (W. Kahan, "How Futile are Mindless Assessments of Roundoff", 2006,
    section 12), which keeps a finite gradient at angles 0 and pi and forgives lengths that are not quite 1.
    """
    half_angle = torch.atan2((a - b).norm(dim=-1), (a + b).norm(dim=-1))
    return 2 * half_angle.square()


def replace_grad(value: Tensor, source: Tensor) -> Tensor:
    """Return exactly `value` with the gradient of `source` (finite, same shape)."""
    return value.detach() + (source - source.detach())


def prompt_loss(distance: Tensor, weight: Tensor, stop: Tensor) -> Tensor:
    """Weigh distances (T, K) to T prompts as published; the mean over K is a prompt's loss.

    A negative `weight` (T,) pushes away. The gradient is zero where distance * sign(weight) is below
    `stop` (T,), while the value still shows the distance (`Prompt` in Katherine Crowson's notebooks).
    """
    signed = distance * weight.sign()[:, None]
    return weight.abs()[:, None] * replace_grad(signed, torch.maximum(signed, stop[:, None]))


def init_loss(latent: Tensor, start: Tensor) -> Tensor:
    """Half the mean squared difference of latents (N, C, h, w) to where they started, (N,).

    Katherine Crowson's `init_weight`; later tools pull towards zero instead, which greys the picture.
    """
    return (latent - start).square().flatten(1).mean(1) / 2


def hold_loss(images: Tensor, held: Tensor) -> Tensor:
    """Half the mean squared difference of (N, 3, H, W), shrunk to the size of `held` (N, 3, h, w), to these, (N,).

    Finer details than those of `held` are free. After the hold on the previous picture in somnai-dreams/pytti-core
    (2026), there at full size.
    """
    return (F.adaptive_avg_pool2d(images, (held.shape[-2], held.shape[-1])) - held).square().flatten(1).mean(1) / 2


def commitment_loss(latent: Tensor, entries: Tensor) -> Tensor:
    """Mean squared distance of latents (N, C, h, w) to their nearest entries, (N,).

    The commitment term of van den Oord, Vinyals and Kavukcuoglu, "Neural Discrete Representation Learning" (2017),
    equation 3, whose weight is 0.25.
    """
    return (latent - entries).square().flatten(1).mean(1)


def tv(images: Tensor) -> Tensor:
    """Total variation of (N, 3, H, W): mean squared step to the right and lower neighbour, (N,).

    Mahendran and Vedaldi, "Understanding Deep Image Representations by Inverting Them" (2015), beta = 2;
    the last row and column step to themselves, as in Katherine Crowson's notebooks.
    """
    across, down = images.diff(dim=-1), images.diff(dim=-2)
    area = images.shape[-1] * images.shape[-2] * images.shape[1]
    return (across.square().flatten(1).sum(1) + down.square().flatten(1).sum(1)) / area


def smoothness(images: Tensor) -> Tensor:
    """Mean length of the colour gradient of (N, 3, H, W) per pixel, (N,): pixray's default smoothness.

    Central differences over all channels, none along a side of 1; pixray takes it of the cutouts, here it is the
    picture's.
    """
    down, across = (torch.gradient(images, dim=dim)[0] if images.shape[dim] > 1 else 0 * images for dim in (-2, -1))
    return _length(torch.cat([down, across], dim=1), dim=1).flatten(1).mean(1)


def saturation(images: Tensor) -> Tensor:
    """Minus a tenth of the colourfulness sigma + 0.3 mu of (N, 3, H, W), (N,): pixray's saturation.

    Hasler and Suesstrunk, "Measuring Colourfulness in Natural Images" (2003), on RGB in [0, 1].
    """
    red, green, blue = images.flatten(2).unbind(1)
    opponents = torch.stack([red - green, (red + green) / 2 - blue], dim=1)
    centre = opponents.mean(-1, keepdim=True)
    spread = _length(opponents - centre, dim=(1, 2)) / max(1, opponents.shape[-1] - 1) ** 0.5
    return -(spread + 0.3 * _length(centre, dim=(1, 2))) / 10


def symmetry(images: Tensor) -> Tensor:
    """Mean squared difference of (N, 3, H, W) to its left-right mirror image, (N,): pixray's symmetry."""
    return (images - images.flip(-1)).square().flatten(1).mean(1)


def upside(images: Tensor) -> Tensor:
    """Mean squared difference of (N, 3, H, W) to its top-bottom mirror image, (N,)."""
    return (images - images.flip(-2)).square().flatten(1).mean(1)


def detail(images: Tensor) -> Tensor:
    """Mean squared difference of (N, 3, H, W) to itself blurred over 3 x 3 pixels, (N,): a negative weight sharpens.

    Weights 1, 2, 1 in both directions; the edges go on. After pixray's gaussian loss.
    """
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    across = (padded[..., :-2] + 2 * padded[..., 1:-1] + padded[..., 2:]) / 4
    blurred = (across[..., :-2, :] + 2 * across[..., 1:-1, :] + across[..., 2:, :]) / 4
    return (images - blurred).square().flatten(1).mean(1)


def contrast(images: Tensor) -> Tensor:
    """Minus the standard deviation of the luma of (N, 3, H, W), (N,): a positive weight spreads it."""
    grey = luma(images).flatten(1)
    return -_length(grey - grey.mean(1, keepdim=True), dim=1) / grey.shape[1] ** 0.5


def luma(images: Tensor) -> Tensor:
    """The brightness (N, 1, H, W) of pictures (N, 3, H, W): ITU-R BT.601's weights."""
    red, green, blue = images.split(1, dim=1)
    return 0.299 * red + 0.587 * green + 0.114 * blue


def palette(device: torch.device, argument: str) -> Loss:
    """Mean squared distance of the pixels to the nearest of some colours (pixray's palette loss)."""
    colours = parse_colours(argument).to(device)

    def nearest(images: Tensor) -> Tensor:
        distances = (images[:, None] - colours.to(images.dtype)[:, :, None, None]).square().mean(2)
        return distances.amin(1).flatten(1).mean(1)

    return nearest


def edge(device: torch.device, argument: str) -> Loss:
    """Mean squared difference of a picture's rim to a colour: what is drawn stands free (pixray's edge loss)."""
    colour = parse_colour(argument).to(device)

    def rim(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        wide = max(1, round(RIM * min(height, width)))
        differences = (images - colour.to(images.dtype)[:, None, None]).square()
        whole = differences.flatten(1).sum(1)
        inside = differences[..., wide : height - wide, wide : width - wide].flatten(1)
        return (whole - inside.sum(1)) / max(1, differences[0].numel() - inside.shape[1])

    return rim


LOSSES: Mapping[str, Loss] = {
    "tv": tv,
    "smoothness": smoothness,
    "saturation": saturation,
    "symmetry": symmetry,
    "upside": upside,
    "detail": detail,
    "contrast": contrast,
}
"""Properties of pictures by name."""

TOLD: Mapping[str, tuple[str, Callable[[torch.device, str], Loss]]] = {
    "palette": ("red,white,#000080", palette),
    "edge": ("white", edge),
}
"""Those that are told something behind a colon, each with an example of it."""


def find_loss(spec: str, device: torch.device) -> Loss:
    """Return the loss `NAME` or `NAME:ARGUMENT`, for pictures on `device`.

    Raises:
        UsageError: an unknown name, or an argument that is missing, too much or wrong.
    """
    told = {name: (example, partial(make, device)) for name, (example, make) in TOLD.items()}
    return pick_told(LOSSES, told, spec, "loss")


def _length(x: Tensor, dim: int | tuple[int, ...]) -> Tensor:
    """Euclidean length; its gradient at zero is zero, where that of sqrt(sum of squares) is not finite."""
    return torch.linalg.vector_norm(x, dim=dim)
