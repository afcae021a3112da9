"""Warps: random changes of place, each turning uniform random numbers into homographies.

All coordinates are normalised: a frame (the picture, or what a warp made of it) is the square
[-1, 1] x [-1, 1], x to the right, y down. A homography maps a place in the warp's output to the place
in its input where it is read. What "translate 0.1" or "strength 0.7" means is as in kornia.augmentation.

Shapes: N pictures, K cutouts. Random numbers are (N, K, randoms) in [0, 1), homographies (N, K, 3, 3).
"""

import math
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
from torch import Tensor

Padding = Literal["open", "border", "reflection", "alternating", "zeros", "grey"]
"""What lies outside a warp's input frame: `open` shows what the warp before it has there (the edge
pixels where that is the picture), `alternating` is reflection or border by a coin per step, `zeros` is
black, `grey` one random level per step."""


@dataclass(frozen=True)
class Canvas:
    """The sizes that geometry may depend on, in pixels: the picture's, and the side of a cutout."""

    height: int
    width: int
    cut: int


class Warp(Protocol):
    """One random change of place; draws `randoms` numbers for each cutout."""

    randoms: ClassVar[int]

    @property
    def padding(self) -> Padding:
        """What lies outside this warp's input frame."""

    def homography(self, u: Tensor, canvas: Canvas) -> Tensor:
        """Turn (N, K, randoms) uniform numbers into (N, K, 3, 3) maps from output to input."""


@dataclass(frozen=True)
class Square:
    """A random square of the picture; its side is rand**power * (most - least) + least.

    `most` and `least` are fractions of the picture's short side; `least=None` is the cut size (or the
    short side where that is smaller). From Katherine Crowson's notebooks, where least is None. `stratified` lays the
    K squares of a step over the picture evenly, one in each of K cells of the same area, as `one_per_cell` has it.
    """

    least: float | None = None
    most: float = 1.0
    power: float = 1.0
    padding: Padding = "open"
    stratified: bool = False
    randoms: ClassVar[int] = 3

    def homography(self, u: Tensor, canvas: Canvas) -> Tensor:
        """Return scalings to a window and shifts that keep it inside the picture."""
        short = min(canvas.height, canvas.width)
        least = min(short, canvas.cut) if self.least is None else self.least * short
        side = u[..., 0] ** self.power * (self.most * short - least) + least
        places = one_per_cell(u[..., 1:], canvas.width / canvas.height) if self.stratified else u[..., 1:]
        return _window(side / canvas.width, side / canvas.height, places)


@dataclass(frozen=True)
class ResizedCrop:
    """A random window with a share `area` of the picture's area and width/height of `ratio` in pixels.

    The ratio is log-uniform (kornia's and torchvision's RandomResizedCrop, but a window that does not
    fit is narrowed instead of drawn again).
    """

    area: tuple[float, float]
    ratio: tuple[float, float]
    padding: Padding = "open"
    randoms: ClassVar[int] = 4

    def homography(self, u: Tensor, canvas: Canvas) -> Tensor:
        """Return scalings to a window and shifts that keep it inside the picture."""
        pixels = _between(u[..., 0], self.area) * (canvas.width * canvas.height)
        ratio = _between(u[..., 1], (math.log(self.ratio[0]), math.log(self.ratio[1]))).exp()
        width = ((pixels * ratio).sqrt() / canvas.width).clamp(max=1)
        height = ((pixels / ratio).sqrt() / canvas.height).clamp(max=1)
        return _window(width, height, u[..., 2:])


@dataclass(frozen=True)
class Letterbox:
    """The whole picture, aspect kept, inside a square of its short side; bars are padding.

    A square picture is shrunk by `square`; another is fitted and shrunk by a random factor down to
    `slack`. It is moved at random within the room that is left (pixray's wide view).
    """

    square: float
    slack: float
    padding: Padding = "open"
    randoms: ClassVar[int] = 3

    def homography(self, u: Tensor, canvas: Canvas) -> Tensor:
        """Return scalings beyond the picture, with shifts along the axes that have room."""
        aspect = canvas.width / canvas.height
        fit = min(aspect, 1 / aspect)
        scale = _between(u[..., 0], (self.square, self.square) if fit == 1 else (self.slack * fit, fit))
        room = 1 - (self.square if fit == 1 else fit)
        shift_x = (2 * u[..., 1] - 1) * (room if aspect <= 1 else 0)
        shift_y = (2 * u[..., 2] - 1) * (room if aspect >= 1 else 0)
        across, down = min(1, 1 / aspect), min(1, aspect)
        return _matrix([[across, 0, -shift_x], [0, down, -shift_y], [0, 0, scale]], like=u)


@dataclass(frozen=True)
class Flip:
    """Mirror left and right with probability `p`."""

    p: float
    padding: Padding = "open"
    randoms: ClassVar[int] = 1

    def homography(self, u: Tensor, canvas: Canvas) -> Tensor:
        """Return the identity or the mirror."""
        sign = torch.where(u[..., 0] < self.p, -1.0, 1.0)
        return _matrix([[sign, 0, 0], [0, 1, 0], [0, 0, 1]], like=u)


@dataclass(frozen=True)
class Affine:
    """Shear, then scale and rotate about the centre, then move, all with probability `p`.

    `degrees` and `shear` (along x, in degrees) are drawn from [-value, value], `translate` (a fraction
    of the side) likewise for both axes, the factor from `scale`.
    """

    degrees: float
    translate: float
    p: float
    padding: Padding = "open"
    scale: tuple[float, float] = (1.0, 1.0)
    shear: float = 0.0
    randoms: ClassVar[int] = 6

    def homography(self, u: Tensor, canvas: Canvas) -> Tensor:
        """Return the inverse of the movement."""
        even = 2 * u - 1
        angle = even[..., 0] * math.radians(self.degrees)
        slant = (even[..., 1] * math.radians(self.shear)).tan()
        factor = _between(u[..., 2], self.scale)
        shift = even[..., 3:5] * (2 * self.translate)
        cos, sin = angle.cos() * factor, angle.sin() * factor
        rotate = _matrix([[cos, sin, shift[..., 0]], [-sin, cos, shift[..., 1]], [0, 0, 1]], like=u)
        shear = _matrix([[1, slant, 0], [0, 1, 0], [0, 0, 1]], like=u)
        return _sometimes(u[..., 5] < self.p, torch.linalg.inv(rotate @ shear))


@dataclass(frozen=True)
class Perspective:
    """Push every corner inwards by up to `strength` of half the side, with probability `p`.

    kornia's RandomPerspective(distortion_scale=strength); x and y of each corner are independent.
    """

    strength: float
    p: float
    padding: Padding = "open"
    randoms: ClassVar[int] = 9

    def homography(self, u: Tensor, canvas: Canvas) -> Tensor:
        """Return the maps that take the pushed corners back to the frame's corners."""
        corners = u.new_tensor([[-1, -1], [1, -1], [1, 1], [-1, 1]])
        pushed = corners * (1 - self.strength * u[..., :8].unflatten(-1, (4, 2)))
        back = _basis(corners) @ torch.linalg.inv(_basis(pushed))
        return _sometimes(u[..., 8] < self.p, back / back[..., 2:, 2:])


def one_per_cell(u: Tensor, aspect: float) -> Tensor:
    """Move K points (N, K, 2) of the unit square, across and down, each into a cell of its own of the same area.

    The K cells lie in rows as high as they have cells, so that they are about square where width is `aspect` times
    height (stratified sampling: the mean over places stays what it was, its variance shrinks).
    """
    count = u.shape[1]
    rows = min(count, max(1, round(math.sqrt(count / aspect))))
    sizes = [count // rows + (row < count % rows) for row in range(rows)]
    cells = [(column, size, row) for row, size in enumerate(sizes) for column in range(size)]
    left, above = [column / size for column, size, _ in cells], [sum(sizes[:row]) / count for *_, row in cells]
    wide, high = [1 / size for _, size, _ in cells], [size / count for _, size, _ in cells]
    return u.new_tensor([left, above]).T + u * u.new_tensor([wide, high]).T


def _between(u: Tensor, bounds: tuple[float, float]) -> Tensor:
    """Map [0, 1) to [low, high)."""
    low, high = bounds
    return low + (high - low) * u


def _matrix(rows: list[list[Tensor | float]], like: Tensor) -> Tensor:
    """Build (N, K, 3, 3) from rows of numbers and (N, K) tensors."""
    shape = like.shape[:-1]
    entries = [torch.as_tensor(entry, dtype=like.dtype).expand(shape) for row in rows for entry in row]
    return torch.stack(entries, dim=-1).unflatten(-1, (3, 3))


def _sometimes(on: Tensor, homography: Tensor) -> Tensor:
    """Keep the (N, K, 3, 3) maps where `on` (N, K), else the identity."""
    return torch.where(on[..., None, None], homography, torch.eye(3, dtype=homography.dtype))


def _window(width: Tensor, height: Tensor, u: Tensor) -> Tensor:
    """Maps to windows of these fractions of the picture's sides, at places u (N, K, 2) inside it."""
    centre_x, centre_y = (2 * u[..., 0] - 1) * (1 - width), (2 * u[..., 1] - 1) * (1 - height)
    return _matrix([[width, 0, centre_x], [0, height, centre_y], [0, 0, 1]], like=u)


def _basis(points: Tensor) -> Tensor:
    """Map the projective basis e1, e2, e3, e1 + e2 + e3 to four points (..., 4, 2).

    Two such maps give the homography between two quadrangles (Hartley and Zisserman, Multiple View
    Geometry, 2nd edition, section 2.3).
    """
    homogeneous = torch.cat([points, torch.ones_like(points[..., :1])], dim=-1)
    three = homogeneous[..., :3, :].mT
    return three * torch.linalg.solve(three, homogeneous[..., 3, :])[..., None, :]
