"""Better aims than a text's own vector: CLIP's texts and pictures lie apart, and pairs of both tell how far.

Both ways after the note "CLIP inversion" of arXiv 2505.23161 (2025), which takes them from pairs near to the text.

Shapes: K pairs, D embedding width; all vectors of unit length.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

STIFFNESS = 0.1
"""How much a rotation is held near none, in mean products of the pairs: it decides where these say nothing."""

SHARPNESS = 10.0
"""What cosines are multiplied by for the softmax that weighs the pairs."""


@dataclass(frozen=True)
class Pairs:
    """Texts (K, D), and pictures (K, D) that show what they say; `rows` (K,) are the pictures' places in where they are
    from."""

    texts: Tensor
    pictures: Tensor
    rows: Tensor

    def near(self, text: Tensor, count: int) -> "Pairs":
        """Return the pairs whose texts are nearest to a text (D,), at most `count`, the nearest first."""
        places = (self.texts @ text).topk(min(count, len(self.texts))).indices
        return Pairs(self.texts[places], self.pictures[places], self.rows[places.cpu()])


def rotated(text: Tensor, pairs: Pairs) -> Tensor:
    """Turn a text (D,) as the pairs' texts are to be turned to lie on their pictures, (D,).

    The rotation R with the least mean |R t - p|^2 + STIFFNESS |R - 1|^2: of the singular vectors of the mean p t^T +
    STIFFNESS 1 (P. Schönemann, "A generalized solution of the orthogonal Procrustes problem", 1966).
    """
    product = pairs.pictures.mT @ pairs.texts / len(pairs.texts)
    left, _, right = torch.linalg.svd(product + STIFFNESS * torch.eye(len(text), device=text.device))
    return F.normalize(left @ (right @ text), dim=-1)


def blended(text: Tensor, pairs: Pairs) -> Tensor:
    """Return the softmax-weighted mean picture of the pairs, by how near their texts are, (D,)."""
    weights = (SHARPNESS * (pairs.texts @ text)).softmax(0)
    return F.normalize(weights @ pairs.pictures, dim=-1)


AIMS: Mapping[str, Callable[[Tensor, Pairs], Tensor]] = {"rotate": rotated, "blend": blended}
"""What to aim at instead of a text (D,), given pairs around it."""
