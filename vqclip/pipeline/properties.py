"""A plan's further losses, by name: properties of a picture, and what they are told of files."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.images import to_tensor
from vqclip.guidance.content import like
from vqclip.guidance.likeness import OF_PICTURES, aesthetic, colours, file_of, style
from vqclip.guidance.losses import Loss, find_loss
from vqclip.models.features import EarlyFeatures, StageFeatures, width_of
from vqclip.models.perceptor import Perceptor
from vqclip.models.weights.reader import check_finite, read_tensors
from vqclip.pipeline.inputs import Inputs


def find_losses(
    losses: Mapping[str, float], perceptors: Sequence[Perceptor], inputs: Inputs, device: torch.device
) -> dict[str, tuple[Loss, float]]:
    """Return each loss with its weight, for pictures on `device`.

    Raises:
        UsageError: a head that fits none of the perceptors, or a tower that a style cannot be seen with.
        ModelError: a head that cannot be read.
    """
    return {name: (_find(name, perceptors, inputs, device), weight) for name, weight in losses.items()}


def _find(name: str, perceptors: Sequence[Perceptor], inputs: Inputs, device: torch.device) -> Loss:
    file = file_of(name)
    if file is None:
        return find_loss(name, device)
    kind = name.partition(":")[0]
    if kind not in OF_PICTURES:
        return _judged(Path(file), perceptors)
    return LIKENESSES[kind](to_tensor(inputs.images[file]).to(device), perceptors)


def _colours(picture: Tensor, perceptors: Sequence[Perceptor]) -> Loss:
    return colours(picture)


def _style(picture: Tensor, perceptors: Sequence[Perceptor]) -> Loss:
    return style(picture, [EarlyFeatures(each) for each in perceptors])


def _content(picture: Tensor, perceptors: Sequence[Perceptor]) -> Loss:
    return like(picture, [StageFeatures(each) for each in perceptors])


LIKENESSES: Mapping[str, Callable[[Tensor, Sequence[Perceptor]], Loss]] = {
    "colours": _colours,
    "style": _style,
    "content": _content,
}
"""Losses that are told a picture (1, 3, H, W), as the guides see it."""


def _judged(file: Path, perceptors: Sequence[Perceptor]) -> Loss:
    """What a head says of a picture, with the first perceptor whose vectors it reads."""
    weight, bias = read_head(file)
    widths = {perceptor.name: width_of(perceptor) for perceptor in perceptors}
    fitting = next((each for each in perceptors if widths[each.name] == len(weight)), None)
    if fitting is None:
        known = ", ".join(f"{width} of {name}" for name, width in widths.items())
        raise UsageError(
            f"The head {str(file)!r} reads vectors of {len(weight)} numbers, and the guides make {known}; add the CLIP "
            "model that it was fitted to."
        )
    return aesthetic(weight, bias, partial(_seen, fitting))


def _seen(perceptor: Perceptor, images: Tensor) -> Tensor:
    return perceptor.encode_image(perceptor.view(images))


def read_head(file: Path) -> tuple[Tensor, Tensor]:
    """Read a linear head: its weight (D,) and its bias (); several linear layers, one behind the other, are one.

    LAION's aesthetic predictors are of both kinds (LAION-AI/aesthetic-predictor, and the `linearMSE` files of
    christophschuhmann/improved-aesthetic-predictor).

    Raises:
        ModelError: it cannot be read.
        UsageError: it holds something else.
    """
    tensors = read_tensors(file)
    check_finite(file, tensors)
    layers = sorted({name.rpartition(".")[0] for name in tensors}, key=_number)
    try:
        parts = [(tensors[_part(layer, "weight")].float(), tensors[_part(layer, "bias")].float()) for layer in layers]
        weight, bias = parts[0]
        for further, more in parts[1:]:
            weight, bias = further @ weight, further @ bias + more
        (row,), (number,) = weight, bias
        return row, number
    except (KeyError, IndexError, RuntimeError, ValueError) as error:
        raise UsageError(f"{str(file)!r} is no linear head: it needs a weight (1, D) and a bias (1).") from error


def _number(layer: str) -> list[int]:
    return [int(part) for part in layer.split(".") if part.isdigit()]


def _part(layer: str, kind: str) -> str:
    return f"{layer}.{kind}" if layer else kind
