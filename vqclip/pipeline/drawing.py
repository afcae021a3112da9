"""What draws a config's pictures: the drawers by name, and what a plan must know of them before anything is loaded."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch

from vqclip.common.errors import UsageError
from vqclip.common.registry import pick
from vqclip.config.schema import Config
from vqclip.config.starts import AUTO, CODED, PICTURES, VQGAN
from vqclip.guidance.colours import MOST, parse_colour, parse_colours
from vqclip.hub.upscaler_files import NONE
from vqclip.hub.vqgan_files import vqgan_sizes
from vqclip.models import vqgan as networks
from vqclip.models.drawers.drawer import Drawer
from vqclip.models.drawers.fourier import Fourier
from vqclip.models.drawers.lattice import SHAPES
from vqclip.models.drawers.paints import AnyColour, FewColours, Paint, Palette
from vqclip.models.drawers.pixelart import Pixelart
from vqclip.models.drawers.pixels import Pixels
from vqclip.models.drawers.strokes import Strokes
from vqclip.models.drawers.vqgan import VqganDrawer
from vqclip.models.renderer import Renderer
from vqclip.optimisation.space import SPACES

SIDE = 256
"""Short side of a picture whose size is left open, where no network has a size of its own."""

Size = tuple[int, int]
"""Height and width in pixels."""


@dataclass(frozen=True)
class Medium:
    """A way to draw: `make` takes the config, the size and the device of the pictures, and the VQGAN where that draws.

    `cells` gives, by a picture's short side, the length in pixels that both sides must be multiples of. What is made of
    shapes is `vector`: it has an SVG, and needs no upscaler. With a `raster` it is optimised at that short side, as
    its latent has no size, and drawn once more at the end.
    """

    make: Callable[[Config, Size, torch.device, networks.VQGAN | None], Drawer]
    cells: Callable[[Config], Callable[[int], int]] = lambda config: lambda short: 1
    vector: bool = False
    raster: int | None = None


def _vqgan(config: Config, size: Size, device: torch.device, vqgan: networks.VQGAN | None) -> Drawer:
    assert vqgan is not None, "the VQGAN is loaded where it draws"
    space, quantise = SPACES[config.optimise.space](vqgan)
    renderer = Renderer(vqgan, device, config.runtime.precision, config.runtime.low_memory, quantise)
    return VqganDrawer(vqgan, renderer, space, size)


def _factor(config: Config) -> Callable[[int], int]:
    factor = vqgan_sizes(config.vqgan).factor
    return lambda short: factor


def _pixels(config: Config, size: Size, device: torch.device, vqgan: networks.VQGAN | None) -> Drawer:
    return Pixels(size, device)


def _fourier(config: Config, size: Size, device: torch.device, vqgan: networks.VQGAN | None) -> Drawer:
    return Fourier(size, device, config.fourier.decay)


def _pixelart(cells: int) -> Medium:
    """Cells of about this number along the short side, where the config leaves that open."""

    def cells_of(config: Config) -> Callable[[int], int]:
        return partial(_cell, config.pixelart.cells, cells)

    def make(config: Config, size: Size, device: torch.device, vqgan: networks.VQGAN | None) -> Drawer:
        shape = pick(SHAPES, config.pixelart.shape, "pixelart.shape")
        return Pixelart(size, device, cells_of(config)(min(size)), shape, _paint(config.pixelart.colours))

    return Medium(make, cells_of, vector=True)


def _cell(asked: int | None, about: int, short: int) -> int:
    """The width of a cell in pixels.

    Raises:
        UsageError: so many cells do not divide the short side.
    """
    if asked is None:
        return max(1, round(short / about))
    if short % asked:
        raise UsageError(
            f"pixelart.cells is {asked}, which does not divide the {short} pixels of the short side: a --size of "
            f"{max(1, round(short / asked)) * asked} there would do, or null for cells of whole pixels."
        )
    return short // asked


def _paint(colours: str | None) -> Paint:
    """What `pixelart.colours` stands for.

    Raises:
        UsageError: an unknown colour, or a number of them that is too small or too large.
    """
    if colours is None:
        return AnyColour()
    if not colours.strip().isdecimal():
        return Palette(parse_colours(colours))
    if not 2 <= int(colours) <= MOST:
        raise UsageError(f"pixelart.colours is {colours}; so many colours must be between 2 and {MOST}.")
    return FewColours(int(colours))


def _strokes(config: Config, size: Size, device: torch.device, vqgan: networks.VQGAN | None) -> Drawer:
    settings = config.strokes
    ink = None if settings.ink is None else parse_colour(settings.ink)
    return Strokes(size, device, settings.count, settings.width, parse_colour(settings.paper), ink)


DRAWERS: Mapping[str, Medium] = {
    VQGAN: Medium(_vqgan, _factor),
    "pixels": Medium(_pixels),
    "fourier": Medium(_fourier),
    "pixelart": _pixelart(cells=32),
    "palette": _pixelart(cells=64),
    "strokes": Medium(_strokes, vector=True, raster=128),
}


def make_drawer(config: Config, size: Size, device: torch.device, vqgan: networks.VQGAN | None = None) -> Drawer:
    """Make the drawer of a resolved config for pictures of this size."""
    return DRAWERS[config.drawer].make(config, size, device, vqgan)


def working_size(config: Config, size: Size) -> Size:
    """The size at which pictures of this size are optimised."""
    raster = DRAWERS[config.drawer].raster
    share = 1.0 if raster is None else min(1.0, raster / min(size))
    return max(1, round(share * size[0])), max(1, round(share * size[1]))


def natural_side(config: Config) -> int:
    """The short side of a picture whose size is left open, in pixels.

    Raises:
        UsageError, ModelError: as `vqgan_sizes`.
    """
    return vqgan_sizes(config.vqgan).resolution if config.drawer == VQGAN else SIDE


def check_drawer(config: Config) -> None:
    """Check the drawer's name and settings, and refuse what the drawer has not.

    Raises:
        UsageError: it is asked for.
    """
    medium, output = pick(DRAWERS, config.drawer, "drawer"), config.output
    pick(SHAPES, config.pixelart.shape, "pixelart.shape")
    _paint(config.pixelart.colours)
    parse_colour(config.strokes.paper)
    parse_colour(config.strokes.ink or config.strokes.paper)
    optimise = config.optimise
    asked = {
        f"init.kind={config.init.kind}": config.init.kind in CODED,
        "optimise.space=logits": optimise.space != "latent",
        "optimise.commitment": optimise.commitment > 0,
        "optimise.pyramid": bool(optimise.pyramid),
        "mask": config.mask.original is not None,
        "a start that keeps a part of a picture": config.init.image is not None and config.init.kind not in PICTURES,
        "targets.path": bool(config.targets.path),
    }
    found = next((what for what, here in asked.items() if here), None)
    if config.drawer != VQGAN and found is not None:
        raise UsageError(f"{found} belongs to the drawer {VQGAN!r}; leave it out for {config.drawer!r}.")
    if medium.vector and output.upscale not in (AUTO, NONE):
        raise UsageError(f"The drawer {config.drawer!r} draws at any size itself: give a --size, and no --upscale.")
    if output.svg and not medium.vector:
        vectors = " or ".join(name for name, each in DRAWERS.items() if each.vector)
        raise UsageError(f"The drawer {config.drawer!r} has no SVG, as it makes pixels; --drawer {vectors} has one.")
    if output.svg and (config.filters or config.mask.original):
        raise UsageError("An SVG holds what the drawer draws, without filters: leave filters out, or take a PNG.")
