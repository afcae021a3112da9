"""Cutouts: random, disturbed views of N pictures, K of each, made by one `grid_sample`.

`draw` turns a step's random numbers into geometry and colours (small tensors, made on the CPU);
`cut` applies them to the pictures (differentiable, static shapes, no loop over pictures or cutouts).
A cutout is computed backwards: the places of its pixels go from frame to frame through homographies,
each frame's padding is applied to the places, and only then is the picture read, once.

Shapes: N pictures, K cutouts, F frames, S side of a cutout, L levels. Cutouts are (N, K, 3, S, S).
"""

import dataclasses
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.guidance.recipes import Erase, Jitter, Look, Recipe, Sharpen
from vqclip.guidance.warps import Canvas, Padding

REFLECTS: dict[Padding, float] = {"reflection": 1.0, "alternating": 0.5}  # how often a padding mirrors
FILLS: tuple[Padding, ...] = ("zeros", "grey")
CPU_PARTS = 8  # grid_sample's parallel work on the CPU is its batch: split a few pictures' cutouts


@dataclass(frozen=True)
class Draws:
    """What was drawn for one step of N pictures with K cutouts each; None where the recipe has no such thing.

    `frames` (N, K, F, 3, 3) map places in [-1, 1]^2 from the cutout (first) to the picture (last), and
    `zoom` (N, K) is the fraction of the picture's side that a view spans at its centre. Outside a frame
    lies its border, its mirror image where `mirror` (N, K, F), or level `ground` (N, K) where `fill`.
    `colour` (N, K, 3, 4) is a matrix for RGB and an offset. `sharpness` (N, K) is the f of
    `recipes.Sharpen`. `erased` (N, K, 4) is a box: left, top, right, bottom in [0, 1]. `noise` (N, K)
    is a standard deviation. `weight` (N, K), of mean 1 over a picture's cutouts, is how much each counts. `pooled` is
    the recipe's.
    """

    frames: Tensor
    zoom: Tensor
    mirror: Tensor | None
    fill: Tensor | None
    ground: Tensor
    colour: Tensor | None
    sharpness: Tensor | None
    erased: Tensor | None
    noise: Tensor | None
    weight: Tensor | None
    pooled: bool

    def __getitem__(self, part: slice) -> "Draws":
        """Return the draws of some of the K cutouts."""
        return self._map(lambda tensor: tensor[:, part])

    def pick(self, numbers: list[int]) -> "Draws":
        """Return the draws of these of the K cutouts, whose weights have a mean of 1 again."""
        picked = self._map(lambda tensor: tensor[:, numbers])
        if picked.weight is None:
            return picked
        return dataclasses.replace(picked, weight=picked.weight / picked.weight.mean(1, keepdim=True))

    def to(self, device: torch.device, dtype: torch.dtype) -> "Draws":
        """Move to a device; numbers take the dtype, flags keep theirs."""
        return self._map(lambda t: t.to(device, dtype if t.is_floating_point() else t.dtype))

    def _map(self, change: Callable[[Tensor], Tensor]) -> "Draws":
        changed: dict[str, Any] = {k: change(v) if isinstance(v, Tensor) else v for k, v in vars(self).items()}
        return Draws(**changed)


def draw(
    recipe: Recipe,
    count: int,
    rngs: Sequence[torch.Generator],
    canvas: Canvas,
    device: torch.device,
    dtype: torch.dtype = torch.float32,
) -> Draws:
    """Draw `count` cutouts for each picture from that picture's own CPU generator.

    All the numbers of a picture come in one call, so its draws depend on nothing but its generator.
    `canvas.cut` only limits how small a window of the published `Square` gets: for several perceptors
    give the largest size and use the same draws for all.
    """
    shared = (1, 1, Erase.randoms)  # by a picture's cutouts: mirroring, grey and the erased box
    own = (Jitter.randoms, Sharpen.randoms, 1, max(sum(warp.randoms for warp in look.warps) for look in recipe.looks))
    size = (count + 1, max(sum(shared), sum(own)))
    u = torch.stack([torch.rand(size, generator=rng, dtype=torch.float64) for rng in rngs])
    coin, grey, erased = u[:, :1, : sum(shared)].split(shared, dim=-1)
    colour, sharpness, noise, places = u[:, 1:, : sum(own)].split(own, dim=-1)
    depth = max(_depth(look) for look in recipe.looks)
    looks = [_geometry(look, places[:, part], coin, grey, canvas, depth) for look, part in _shares(recipe.looks, count)]
    frames, mirror, fill, ground = (torch.cat(parts, dim=1) for parts in zip(*looks, strict=True))
    paddings = {warp.padding for look in recipe.looks for warp in look.warps}
    zoom = _zoom(frames)
    return Draws(
        frames=frames,
        zoom=zoom,
        mirror=mirror if paddings & REFLECTS.keys() else None,
        fill=fill if paddings & set(FILLS) else None,
        ground=ground,
        colour=recipe.jitter.colour(colour) if recipe.jitter else None,
        sharpness=recipe.sharpen.factor(sharpness) if recipe.sharpen else None,
        erased=recipe.erase.box(erased).expand(-1, count, -1) if recipe.erase else None,
        noise=noise[..., 0] * recipe.noise if recipe.noise else None,
        weight=_weight(recipe, zoom),
        pooled=recipe.pooled,
    ).to(device, dtype)


def draw_noise(draws: Draws, size: int, rngs: Sequence[torch.Generator]) -> Tensor | None:
    """Draw the noise to add to all cutouts, (N, K, 3, size, size), or None if the recipe has none.

    Each picture's comes from its own generator, which lives on the device of the draws.
    """
    if draws.noise is None:
        return None
    noise = draws.noise.new_empty(*draws.noise.shape, 3, size, size)
    for picture, rng in zip(noise, rngs, strict=True):
        picture.normal_(generator=rng)
    return noise.mul_(draws.noise[..., None, None, None])


def cut(images: Tensor, draws: Draws, size: int) -> Tensor:
    """Cut (N, 3, H, W) pictures in [0, 1] into (N, K, 3, size, size), without the noise.

    The order is geometry, softening, padding's fill, colour, erased box. Colours are not clamped, so
    that they keep their gradient: jitter can leave [0, 1] by a few hundredths. A view that shrinks the
    picture reads it from a level of a pyramid where it does so by less than sqrt(2), so that fine
    patterns average out instead of aliasing.
    """
    x, y, outside = places(draws, size)
    images = images.to(draws.zoom.dtype)
    source = _pool(images, size) if draws.pooled else images
    views = _sample(source, x, y, draws.zoom)
    if draws.sharpness is not None:
        views = _soften(views, draws.sharpness)
    if outside is not None:
        views = torch.where(outside[:, :, None], draws.ground[..., None, None, None], views)
    if draws.colour is not None:
        views = torch.einsum("nkoc,nkcxy->nkoxy", draws.colour[..., :3], views)
        views = views + draws.colour[..., 3, None, None]
    if draws.erased is not None:
        views = views * ~_inside(draws.erased, size)[:, :, None]
    return views


# ---- from random numbers to geometry and colour, in double precision on the CPU


def _shares(looks: Sequence[Look], count: int) -> list[tuple[Look, slice]]:
    """Give each look its part of the cutouts; shares are rounded down, the last look takes the rest."""
    ends = [int(sum(look.share for look in looks[: i + 1]) * count) for i in range(len(looks) - 1)] + [count]
    ends = [min(count, max(end, sum(look.least for look in looks[: i + 1]))) for i, end in enumerate(ends)]
    return [(look, slice(start, end)) for look, start, end in zip(looks, [0, *ends], ends, strict=False)]


def _depth(look: Look) -> int:
    """Count the frames: one for the picture, and one for every later warp with a padding of its own."""
    return 1 + sum(warp.padding != "open" for warp in look.warps[1:])


def _geometry(
    look: Look, u: Tensor, coin: Tensor, grey: Tensor, canvas: Canvas, depth: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return frames (N, K, depth, 3, 3), mirror and fill (N, K, depth), ground (N, K) of a look's cutouts."""
    sizes = [warp.randoms for warp in look.warps]
    numbers = u[..., : sum(sizes)].split(sizes, dim=-1)
    identity = torch.eye(3, dtype=u.dtype).expand(*u.shape[:-1], 3, 3)
    frames, paddings = [], []
    current = identity
    for place in reversed(range(len(look.warps))):
        warp = look.warps[place]
        current = warp.homography(numbers[place], canvas) @ current
        if warp.padding != "open" or place == 0:
            frames.append(current)
            paddings.append(warp.padding)
            current = identity
    frames = [identity] * (depth - len(frames)) + frames
    chances = [0.0] * (depth - len(paddings)) + [REFLECTS.get(padding, 0.0) for padding in paddings]
    fills = [False] * (depth - len(paddings)) + [padding in FILLS for padding in paddings]
    flags = (*u.shape[:2], depth)
    mirror = (coin < torch.tensor(chances)).expand(flags)
    ground = grey[..., 0] * ("grey" in paddings)
    return torch.stack(frames, dim=2), mirror, torch.tensor(fills).expand(flags), ground.expand(flags[:2])


def _zoom(frames: Tensor) -> Tensor:
    """Return the side, relative to the last frame, of what is seen per side of the first, at the centre.

    The area's factor under a homography M at the origin is det M / M[2, 2]^3.
    """
    whole = frames[:, :, 0]
    for i in range(1, frames.shape[2]):
        whole = frames[:, :, i] @ whole
    return (torch.linalg.det(whole) / whole[..., 2, 2] ** 3).abs().sqrt()


def _weight(recipe: Recipe, zoom: Tensor) -> Tensor | None:
    """Return how much each cutout (N, K) counts, of mean 1 over K; None where all count the same."""
    if not recipe.by_size and len({look.weight for look in recipe.looks}) == 1:
        return None
    by_look = [
        zoom.new_full((), look.weight).expand(end.stop - end.start)
        for look, end in _shares(recipe.looks, zoom.shape[1])
    ]
    weight = torch.cat(by_look) * (zoom.clamp(max=1) if recipe.by_size else torch.ones_like(zoom))
    return weight / weight.mean(1, keepdim=True)


# ---- from pictures to cutouts, on the device


def places(draws: Draws, size: int) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return x and y (N, K, S, S) in the picture's frame, and which pixels are filled (N, K, S, S)."""
    line = (torch.arange(size, device=draws.zoom.device, dtype=draws.zoom.dtype) + 0.5) * (2 / size) - 1
    x, y = line[None, :], line[:, None]
    outside = None
    for i in range(draws.frames.shape[2]):
        x, y = _project(draws.frames[:, :, i, :, :, None, None], x, y)
        if draws.fill is not None:
            beyond = draws.fill[:, :, i, None, None] & ((x.abs() > 1) | (y.abs() > 1))
            outside = beyond if outside is None else outside | beyond
        if draws.mirror is not None:
            mirror = draws.mirror[:, :, i, None, None]
            x, y = torch.where(mirror, _reflect(x), x), torch.where(mirror, _reflect(y), y)
        x, y = x.clamp(-1, 1), y.clamp(-1, 1)
    return x, y, outside


def _project(frame: Tensor, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Apply homographies (N, K, 3, 3, 1, 1); what lies beyond the horizon goes far outside."""
    across, down, depth = (frame[:, :, i, 0] * x + frame[:, :, i, 1] * y + frame[:, :, i, 2] for i in range(3))
    depth = depth.clamp(min=1e-6)
    return across / depth, down / depth


def _reflect(x: Tensor) -> Tensor:
    """Fold the line into [-1, 1] by mirrors at both ends."""
    return 1 - (torch.remainder(x + 1, 4) - 2).abs()


def _pool(images: Tensor, size: int) -> Tensor:
    """Squash pictures to squares by (average + maximum) / 2 (nerdyrodent, pixray)."""
    return (F.adaptive_avg_pool2d(images, size) + F.adaptive_max_pool2d(images, size)) / 2


def _sample(source: Tensor, x: Tensor, y: Tensor, zoom: Tensor) -> Tensor:
    """Read (N, 3, H, W) at places (N, K, S, S) in [-1, 1]: bilinear, from the level that suits each view."""
    count, views, size = x.shape[0], x.shape[1], x.shape[-1]
    height, width = source.shape[-2:]
    atlas, boxes = _pyramid(source, levels=1 + max(0, round(math.log2(max(height, width) / size))))
    level = (zoom * (math.sqrt(height * width) / size)).log2().round().long().clamp(0, len(boxes) - 1)
    left, wide, high = boxes[level][..., None, None].unbind(2)
    half = torch.full_like(wide, 0.5)
    x = left + torch.clamp((x + 1) / 2 * wide, half, wide - half)  # no bleeding between levels
    y = torch.clamp((y + 1) / 2 * high, half, high - half)
    grid = torch.stack([x * (2 / atlas.shape[-1]) - 1, y * (2 / atlas.shape[-2]) - 1], dim=-1)
    parts = math.gcd(views, max(1, CPU_PARTS // count)) if source.device.type == "cpu" else 1
    atlas = atlas[:, None].expand(-1, parts, -1, -1, -1).flatten(0, 1)
    read = F.grid_sample(atlas, grid.view(count * parts, -1, size, 2), padding_mode="border", align_corners=False)
    return read.view(count, parts, 3, views // parts, size, size).transpose(2, 3).flatten(1, 2)


def _pyramid(source: Tensor, levels: int) -> tuple[Tensor, Tensor]:
    """Lay the picture, its half, its quarter, … side by side.

    Returns the atlas (N, 3, H, W + W/2 + …) and the levels' boxes (L, 3): left, width, height in pixels.
    """
    pictures = [source]
    for _ in range(levels - 1):
        height, width = pictures[-1].shape[-2:]
        pictures.append(F.adaptive_avg_pool2d(pictures[-1], (-(-height // 2), -(-width // 2))))
    tall = [F.pad(picture, (0, 0, 0, source.shape[-2] - picture.shape[-2])) for picture in pictures]
    widths = [picture.shape[-1] for picture in pictures]
    boxes = [(sum(widths[:i]), widths[i], picture.shape[-2]) for i, picture in enumerate(pictures)]
    numbers = [source.new_full((), value) for box in boxes for value in box]  # an upload would wait for the GPU
    return torch.cat(tall, dim=-1), torch.stack(numbers).view(-1, 3)


def _soften(views: Tensor, sharpness: Tensor) -> Tensor:
    """Blend with a blur (kernel of ones with a 5 in the middle, over 13): PIL's and kornia's sharpness."""
    mean = F.avg_pool2d(views.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False).view_as(views)
    blur = (9 * mean + 4 * views) / 13
    return torch.lerp(blur, views, sharpness[..., None, None, None])


def _inside(box: Tensor, size: int) -> Tensor:
    """Tell which pixel centres of a cutout lie in the boxes (N, K, 4): (N, K, S, S)."""
    line = (torch.arange(size, device=box.device, dtype=box.dtype) + 0.5) / size
    left, top, right, bottom = box[..., None].unbind(2)
    across, down = (line >= left) & (line < right), (line >= top) & (line < bottom)
    return down[..., :, None] & across[..., None, :]
