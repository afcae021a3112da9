"""How pictures are disturbed before a CLIP in training sees them."""

from dataclasses import dataclass

import torch
from torch.nn import functional


@dataclass(frozen=True)
class Disturbance:
    """How pictures are disturbed in training; ranges are drawn from uniformly, for each picture anew.

    `zoom` is the part of the side that is seen, `turn` the largest angle in radians, `gain` and `lift` change contrast
    and brightness, `noise` is the largest standard deviation of white noise, `erase` the share of pictures of which a
    square is painted over. A whole batch is reduced by one of `pools`, so that pictures as soft as a small VQGAN's are
    understood too.
    """

    zoom: tuple[float, float]
    turn: float
    gain: float
    lift: float
    noise: float
    erase: float
    pools: tuple[int, ...]


def distort(
    pictures: torch.Tensor, still: torch.Tensor, ways: Disturbance, side: int, numbers: torch.Generator
) -> torch.Tensor:
    """Crops, shifts, turns, recolours slightly, blurs, adds noise, paints a square over.

    pictures (N, 3, h, w) in [0, 1] → (N, 3, side, side); `still` (N,) marks those not to be mirrored.
    """
    count, device = len(pictures), pictures.device

    def uniform(low: float, high: float) -> torch.Tensor:
        return torch.empty(count, device=device).uniform_(low, high, generator=numbers)

    pool = ways.pools[int(torch.randint(len(ways.pools), (), generator=numbers, device=device))]
    pictures = functional.avg_pool2d(pictures, pool)
    zoom, angle = uniform(*ways.zoom), uniform(-ways.turn, ways.turn)
    mirror = torch.where((uniform(0, 1) < 0.5) & ~still, -1.0, 1.0)
    shift_x, shift_y = ((1.05 - zoom).clamp_min(0.05) * uniform(-0.7, 0.7) for _ in range(2))
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    theta = torch.stack(
        [torch.stack([cos * mirror, -sin, shift_x], 1), torch.stack([sin * mirror, cos, shift_y], 1)], 1
    )
    grid = functional.affine_grid(theta, [count, 3, side, side], align_corners=False)
    views = functional.grid_sample(pictures, grid, padding_mode="reflection", align_corners=False)
    gain, lift = uniform(1 - ways.gain, 1 + ways.gain).view(-1, 1, 1, 1), uniform(-ways.lift, ways.lift)
    views = (views - 0.5) * gain + 0.5 + lift.view(-1, 1, 1, 1)
    strength = uniform(-0.85 * ways.noise, ways.noise).clamp_min(0).view(-1, 1, 1, 1)
    views = views + strength * torch.empty_like(views).normal_(generator=numbers)
    places = torch.arange(side, device=device) / side
    left, top, size = uniform(0, 0.8), uniform(0, 0.8), uniform(0.1, 0.3)
    across = (places > left[:, None]) & (places < (left + size)[:, None])
    down = (places > top[:, None]) & (places < (top + size)[:, None])
    erased = (uniform(0, 1) < ways.erase)[:, None, None] & down[:, :, None] & across[:, None, :]
    return views.masked_fill(erased[:, None], 0.5).clamp(0, 1)
