"""Names and prompts of a config that are not right, found before anything is loaded."""

import torch

from vqclip.common.errors import UsageError
from vqclip.common.registry import pick
from vqclip.config.escapes import mistake
from vqclip.config.prompts import Prompt, parse_prompts
from vqclip.config.regions import mask_of, place_region
from vqclip.config.schema import Config
from vqclip.config.starts import AUTO
from vqclip.guidance.filters import EVEN, SQUARE, find_filter
from vqclip.guidance.likeness import file_of
from vqclip.guidance.losses import find_loss
from vqclip.guidance.objective import VISITS
from vqclip.guidance.recipes import RECIPES
from vqclip.guidance.reference import AIMS
from vqclip.optimisation.optimisers import GRADIENTS, OPTIMISERS, SCHEDULES
from vqclip.optimisation.space import SPACES
from vqclip.optimisation.start import INITS
from vqclip.pipeline.drawing import check_drawer


def check(config: Config) -> None:
    """Check every name and prompt of a config; nothing is loaded or looked for.

    Raises:
        UsageError: the first thing that is not right.
    """
    pick(RECIPES, config.cutouts.recipe, "cutouts.recipe")
    pick(OPTIMISERS, config.optimise.name, "optimise.name")
    pick(SCHEDULES, config.optimise.schedule, "optimise.schedule")
    pick(GRADIENTS, config.optimise.gradient, "optimise.gradient")
    pick(SPACES, config.optimise.space, "optimise.space")
    pick(VISITS, config.optimise.guides, "optimise.guides")
    pick(AIMS, config.targets.aim, "targets.aim")
    pick({AUTO: None, **INITS}, config.init.kind, "init.kind")
    check_drawer(config)
    for name in config.losses:
        if file_of(name) is None:
            find_loss(name, torch.device("cpu"))
    for name in config.filters:
        find_filter(name, torch.device("cpu"))
    for prompt in config.prompts:
        parse_prompts(prompt)
    read_negatives(config)


def check_way(config: Config) -> None:
    """Refuse a path with fewer updates than pictures, each of which needs one.

    Raises:
        UsageError: so.
    """
    if config.targets.path and config.optimise.steps < config.targets.frames:
        raise UsageError(
            f"optimise.steps is {config.optimise.steps}; each of the {config.targets.frames} pictures of targets.path "
            "needs one: raise it, or lower targets.frames."
        )


def check_form(config: Config, width: int, height: int) -> None:
    """Refuse a filter of square pictures, or of those with even sides, where they are not.

    Raises:
        UsageError: it is there.
    """
    square = next((name for name in config.filters if name in SQUARE), None)
    if square is not None and width != height:
        raise UsageError(f"The filter {square!r} needs a square picture, and this one is {width}x{height}.")
    even = next((name for name in config.filters if name in EVEN), None)
    if even is not None and (width % 2 or height % 2):
        raise UsageError(
            f"The filter {even!r} needs sides of an even number of pixels, and the picture is {width}x{height}: choose "
            "another --size."
        )


def check_regions(config: Config, width: int, height: int) -> None:
    """Refuse a region outside of the picture, and any where a part of a picture is painted anew, as that is the region.

    Raises:
        UsageError: there is one.
    """
    for source in config.prompts:
        for region in filter(None, (prompt.region for prompt in parse_prompts(source))):
            place = max(0, source.find("["))
            if config.mask.original:
                raise mistake(source, place, "the mask says where to paint, so no prompt can have a region")
            if not mask_of(region):
                try:
                    place_region(region, width, height)
                except UsageError as error:
                    raise mistake(source, place, str(error).rstrip(".")) from error


def read_negatives(config: Config) -> list[Prompt]:
    """Read the texts to push away from.

    Raises:
        UsageError: one is no prompt, or its weight would pull.
    """
    found = [prompt for entry in config.negatives for prompt in parse_prompts(entry)]
    for prompt in found:
        if prompt.weight >= 0:
            raise UsageError(f"negatives: {prompt.text!r} has the weight {prompt.weight:g}; write {prompt.text}:-0.3.")
    return found
