"""Where the things of calm scenes are: crops around them, and weights that count them more than the ground.

Most of a scene is plain ground, which is learned in the first minutes and paid for in every step. Of a calm scene
(`draw_scenes.py --calm`) the places of the things follow from the scene alone.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from scripts.data import draw_scenes
from scripts.data.scenes import Scene


def spots(scene: Scene, side: int) -> list[draw_scenes.Spot]:
    """Centre x, centre y and side of each thing of a calm scene, in pixels of a picture of `side` pixels."""
    found = (spot for *_, spot in draw_scenes.calm_arrangement(scene))
    scale = side / draw_scenes.SIDE
    return [(x * scale, y * scale, size * scale) for x, y, size in found]


def crop_corner(scene: Scene, side: int, crop: int, numbers: np.random.Generator) -> tuple[int, int]:
    """Top and left of a crop of a calm scene of `side` pixels: around a place of one of its things."""
    things = spots(scene, side)
    x, y, size = things[int(numbers.integers(len(things)))]
    centres = numbers.uniform(-0.5, 0.5, 2) * size + (y, x)
    top, left = np.clip(np.round(centres - crop / 2), 0, side - crop).astype(int)
    return int(top), int(left)


def thing_weights(scenes: Sequence[Scene], side: int, times: float) -> Tensor:
    """Weights of the pixels, (N, 1, side, side) with a mean of 1 in each picture: those in the boxes of things count
    `times` as much as ground."""
    rows, columns = np.mgrid[0:side, 0:side] + 0.5
    weights = np.ones((len(scenes), side, side), dtype=np.float32)
    for scene, plane in zip(scenes, weights, strict=True):
        for x, y, size in spots(scene, side):
            plane[(np.abs(columns - x) < size / 2) & (np.abs(rows - y) < size / 2)] = times
    weights /= weights.mean((1, 2), keepdims=True)
    return torch.from_numpy(weights)[:, None]


def cut_out(
    pictures: np.ndarray, scenes: Sequence[Scene], crop: int | None, times: float, numbers: np.random.Generator
) -> tuple[np.ndarray, Tensor]:
    """Pictures (N, side, side, 3) of calm scenes, whole or a `crop` of each around a thing, and how much each pixel
    counts, (N, 1, h, w)."""
    side = pictures.shape[1]
    weights = thing_weights(scenes, side, times)
    if crop is None:
        return pictures, weights
    corners = [crop_corner(scene, side, crop, numbers) for scene in scenes]
    windows = [(slice(top, top + crop), slice(left, left + crop)) for top, left in corners]
    cut = np.stack([picture[window] for picture, window in zip(pictures, windows, strict=True)])
    return cut, torch.stack([plane[0][window][None] for plane, window in zip(weights, windows, strict=True)])
