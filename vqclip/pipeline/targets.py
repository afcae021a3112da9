"""What each perceptor shall see: prompts and pictures of a plan as unit vectors with weights."""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.images import to_tensor
from vqclip.config.directions import DIRECTIONS
from vqclip.config.prompts import IMAGE, NOISE, TEXT, VECTOR, Prompt
from vqclip.config.regions import mask_of, place_region
from vqclip.config.schema import TargetsConfig
from vqclip.guidance.objective import Targets
from vqclip.guidance.places import GRID, box_map
from vqclip.guidance.vectors import mean_vector, slerp, text_difference
from vqclip.models.features import width_of
from vqclip.models.perceptor import Perceptor
from vqclip.models.provenance import ModelHash
from vqclip.pipeline.inputs import Inputs
from vqclip.pipeline.patch import WHITE
from vqclip.pipeline.plan import Plan

LARGE = 0.75
"""Side of a large view over the picture's short side."""


ANYTHING = "a photo"
"""What a picture is turned from where nobody says it, which is true of all its places."""


class Meanings:
    """What prompts of every kind mean to one perceptor, whose weights these are: unit vectors (D,), each made once."""

    def __init__(self, perceptor: Perceptor, inputs: Inputs, weights: ModelHash, prompts: Sequence[Prompt]) -> None:
        self.perceptor, self.inputs, self.weights = perceptor, inputs, weights
        self.texts = _texts(perceptor, [prompt.text for prompt in prompts if prompt.kind == TEXT])
        self.known: dict[tuple[str, str], Tensor] = {}

    def __call__(self, prompt: Prompt) -> Tensor:
        """Return the vector of a prompt.

        Raises:
            UsageError: a file of vectors of another perceptor.
        """
        key = prompt.kind, prompt.text
        if key not in self.known:
            self.known[key] = self._of_kind[prompt.kind](prompt.text)
        return self.known[key]

    @property
    def _of_kind(self) -> Mapping[str, Callable[[str], Tensor]]:
        return {TEXT: self.texts.__getitem__, IMAGE: self._image, VECTOR: self._vector, NOISE: self._noise}

    @cached_property
    def _width(self) -> int:
        return width_of(self.perceptor)

    def _image(self, file: str) -> Tensor:
        return picture_vector(self.perceptor, to_tensor(self.inputs.images[file]))

    def _vector(self, name: str) -> Tensor:
        if name in DIRECTIONS:
            direction = DIRECTIONS[name]
            away, towards = (
                mean_vector(self.perceptor.encode_text(each)) for each in (direction.away, direction.towards)
            )
            return text_difference(away, towards)
        return self.inputs.vectors[name].of_guide(self.weights, self._width, name).to(self.perceptor.device)

    def _noise(self, seed: str) -> Tensor:
        """A random direction of a seed (nerdyrodent's noise prompts: normal numbers of a generator of their own)."""
        numbers = torch.randn(self._width, generator=torch.Generator().manual_seed(int(seed)))
        return F.normalize(numbers, dim=0).to(self.perceptor.device)


def make_targets(perceptor: Perceptor, plan: Plan, inputs: Inputs, weights: ModelHash) -> Targets:
    """Embed every prompt of every picture, and the image prompts that all pictures share; `weights` are the
    perceptor's.

    Raises:
        UsageError: a file of vectors of another perceptor, or a region's mask without white.
    """
    prompts = [prompt for picture in plan.pictures for prompt in picture.prompts]
    meaning = Meanings(perceptor, inputs, weights, prompts)
    turned = [
        _turned(perceptor, picture_vector(perceptor, to_tensor(inputs.images[prompt.file])), plan.config.targets)
        for prompt in plan.image_prompts
    ]
    rows = (
        [
            (number, meaning(prompt), prompt.weight, prompt.stop)
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
    pictures, vectors, scales, stops = zip(*rows, strict=True)
    device = perceptor.device
    return Targets(
        embeddings=torch.stack(vectors),
        weights=torch.tensor(scales, device=device),
        stops=torch.tensor(stops, device=device),
        picture=torch.tensor(pictures, device=device),
        maps=_maps([prompt.region for prompt in prompts], len(rows), plan, inputs, device),
    )


def _maps(regions: Sequence[str], rows: int, plan: Plan, inputs: Inputs, device: torch.device) -> Tensor | None:
    """Where each target holds, (T, G, G), of which the prompts come first; None where all hold everywhere."""
    if not any(regions):
        return None
    maps = torch.ones(rows, GRID, GRID)
    for row, region in enumerate(regions):
        mask = mask_of(region)
        if mask is not None:
            maps[row] = _mask_map(inputs.images[mask], mask)
        elif region:
            maps[row] = box_map(*place_region(region, plan.width, plan.height))
    return maps.to(device)


def _mask_map(mask: Image.Image, file: str) -> Tensor:
    white = mask.convert("L").point(lambda level: level if level > WHITE else 0)
    small = white.resize((GRID, GRID), Image.Resampling.BOX)
    shares = torch.from_numpy(np.asarray(small, dtype=np.float32) / 255)
    if not shares.any():
        raise UsageError(f"The mask {file!r} of a region holds nothing white, which is what is meant.")
    return shares


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
