"""How large a picture is worked on: a size in cells of the drawer, of the form that is asked for."""

import math
from collections.abc import Callable, Sequence
from itertools import count

from vqclip.common.errors import UsageError
from vqclip.common.images import picture_size
from vqclip.config.schema import AUTO_SIZE, LONGEST, Config, parse_size
from vqclip.config.starts import VQGAN
from vqclip.hub.vqgan_files import vqgan_sizes
from vqclip.pipeline.drawing import DRAWERS, natural_side
from vqclip.pipeline.named_files import ImagePrompt, is_picture
from vqclip.pipeline.patch import extended_size

NORM_GROUPS = 32  # of every normalisation in taming-transformers' networks


def canvas_of(config: Config) -> tuple[int, int] | None:
    """The size of the picture whose part is painted anew, with its new rim."""
    if config.mask.original is None:
        return None
    return extended_size(*picture_size(config.mask.original), config.mask.extend)


def round_size(
    config: Config, canvas: tuple[int, int] | None, image_prompts: Sequence[ImagePrompt]
) -> tuple[int, int, int, list[str]]:
    """Round the size to multiples of the drawer's cell, half up, at least one; take a picture's form where that is
    asked. Return the cell as well: the one that the drawer makes of the rounded size.
    """
    cell_of = DRAWERS[config.drawer].cells(config)
    asked = None if config.size == AUTO_SIZE else parse_size(config.size)
    if canvas is not None or asked is None:
        points = [point for point in config.targets.path if is_picture(point)]
        pictures = [config.init.image, *(prompt.file for prompt in image_prompts), *points]
        form = canvas or next((picture_size(file) for file in pictures if file), (1, 1))
        short = settled_side(min(asked) if asked else natural_side(config), cell_of)
        cell = cell_of(short)
        width, height = work_size(form, short, cell)
        if max(width, height) > LONGEST:
            raise UsageError(
                f"A picture of {form[0]}x{form[1]} pixels would be drawn as {width}x{height}, and a side has at most "
                f"{LONGEST}: cut it, choose a smaller rim, or a smaller --size."
            )
        return width, height, cell, []
    short = settled_side(min(asked), cell_of)
    cell = cell_of(short)
    width, height = (max(short, _multiple(side, cell)) if side > min(asked) else short for side in asked)
    if width * height == cell**2:
        _check_normal(config)
    if (width, height) == asked:
        return width, height, cell, []
    return width, height, cell, [f"size {config.size} is rounded to {width}x{height}, multiples of {cell}"]


def _check_normal(config: Config) -> None:
    """Refuse a single cell where a VQGAN's first block has nothing to normalise over then."""
    sizes = vqgan_sizes(config.vqgan) if config.drawer == VQGAN else None
    if sizes and sizes.ch * sizes.ch_mult[-1] == NORM_GROUPS:
        raise UsageError(
            f"size {config.size} is a single cell, and a VQGAN of {NORM_GROUPS} channels has nothing to normalise over "
            f"there; make it at least {2 * sizes.factor}x{sizes.factor}."
        )


def settled_side(short: int, cell_of: Callable[[int], int]) -> int:
    """Return the side nearest to `short`, of two the longer, that is a multiple of the cell that `cell_of` gives it."""
    near = (side for distance in count() for side in (short + distance, short - distance))
    return next(side for side in near if side > 0 and side % cell_of(side) == 0)


def work_size(form: tuple[int, int], short: int, factor: int) -> tuple[int, int]:
    """Return the size, in multiples of `factor`, in which a picture of this form (width, height) is worked on, given
    its short side."""
    side = _multiple(short, factor)
    width, height = (_multiple(side * length / min(form), factor) for length in form)
    return width, height


def _multiple(length: float, factor: int) -> int:
    return max(1, math.floor(length / factor + 0.5)) * factor
