"""What each perceptor shall see: prompts and pictures of a plan as unit vectors with weights."""

from collections.abc import Sequence

import torch
from torch import Tensor

from vqclip.common.images import to_tensor
from vqclip.config.schema import TargetsConfig
from vqclip.guidance.objective import Targets
from vqclip.guidance.vectors import mean_vector, slerp, text_difference
from vqclip.models.perceptor import Perceptor
from vqclip.pipeline.inputs import Inputs
from vqclip.pipeline.plan import Plan

LARGE = 0.75
"""Side of a large view over the picture's short side."""


ANYTHING = "a photo"
"""What a picture is turned from where nobody says it, which is true of all its places."""


def make_targets(perceptor: Perceptor, plan: Plan, inputs: Inputs) -> Targets:
    """Embed every prompt of every picture, and the image prompts that all pictures share."""
    texts = _texts(perceptor, [prompt.text for picture in plan.pictures for prompt in picture.prompts])
    turned = [
        _turned(perceptor, picture_vector(perceptor, to_tensor(inputs.images[prompt.file])), plan.config.targets)
        for prompt in plan.image_prompts
    ]
    rows = (
        [
            (number, texts[prompt.text], prompt.weight, prompt.stop)
            for number, picture in enumerate(plan.pictures)
            for prompt in picture.prompts
        ]
        + [
            (number, vector, prompt.weight, -torch.inf)
            for number in range(len(plan.pictures))
            for prompt, vector in zip(plan.image_prompts, turned, strict=True)
        ]
        + [
            (number, vector, 1.0, -torch.inf)
            for number in range(len(plan.pictures))
            for vector in point_vectors(perceptor, plan, inputs)[:1]
        ]
    )
    pictures, vectors, weights, stops = zip(*rows, strict=True)
    device = perceptor.device
    return Targets(
        embeddings=torch.stack(vectors),
        weights=torch.tensor(weights, device=device),
        stops=torch.tensor(stops, device=device),
        picture=torch.tensor(pictures, device=device),
    )


def point_vectors(perceptor: Perceptor, plan: Plan, inputs: Inputs) -> list[Tensor]:
    """Embed the points of the plan's path, (D,) each. They follow the other targets of a picture."""
    path = plan.config.targets.path
    texts = _texts(perceptor, [point for point in path if point not in inputs.images])
    return [
        picture_vector(perceptor, to_tensor(inputs.images[point])) if point in inputs.images else texts[point]
        for point in path
    ]


@torch.no_grad()
def picture_vector(perceptor: Perceptor, image: Tensor) -> Tensor:
    """Embed a picture (1, 3, H, W) in [0, 1] as the mean over the whole and large views of it, (D,)."""
    height, width = image.shape[-2:]
    side = max(1, round(LARGE * min(height, width)))
    corners = [(top, left) for top in (0, height - side) for left in (0, width - side)]
    views = [image, *(image[..., top : top + side, left : left + side] for top, left in corners)]
    return mean_vector(perceptor.encode_image(torch.cat([perceptor.view(view.to(perceptor.device)) for view in views])))


def _texts(perceptor: Perceptor, texts: Sequence[str]) -> dict[str, Tensor]:
    """Embed texts, each once: {text: (D,)}."""
    known = list(dict.fromkeys(texts))
    return dict(zip(known, perceptor.encode_text(known), strict=True)) if known else {}


def _turned(perceptor: Perceptor, vector: Tensor, words: TargetsConfig) -> Tensor:
    """Turn a picture's vector by the text difference, if there is one."""
    if words.towards is None:
        return vector
    away, towards = perceptor.encode_text([words.away, words.towards])
    return slerp(vector, text_difference(away, towards), words.amount)


def turned_from(perceptor: Perceptor, words: TargetsConfig, image: Tensor) -> Tensor:
    """Embed what a picture (1, 3, H, W) is turned from, (D,): the words that say it, or all that it shows."""
    return picture_vector(perceptor, image) if words.away == ANYTHING else perceptor.encode_text([words.away])[0]
