"""From what the user asked for to what will be done: every choice that was left open is made here.

Nothing is loaded: a plan can be shown (`--dry-run`), written down before the models load, and repeated.
"""

import dataclasses
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path

from vqclip.common.errors import UsageError
from vqclip.common.images import PIXEL_LIMIT
from vqclip.common.runtime import resolve_device, resolve_precision, resolve_threads
from vqclip.config.prompts import TEXT, Prompt, foreign_weights, idle_stops, parse_prompts, with_files
from vqclip.config.regions import caption
from vqclip.config.schema import DRAWN_SEEDS, Config, CutoutsConfig
from vqclip.config.starts import PICTURES, PRIORS
from vqclip.config.vocabulary import hint
from vqclip.hub.upscaler_files import upscaler_scale
from vqclip.outputs.sheet import strip_size
from vqclip.pipeline.checks import check, check_form, check_regions, check_way, read_negatives
from vqclip.pipeline.named_files import (
    ImagePrompt,
    is_picture,
    parse_image_prompt,
    whole,
    whole_loss_file,
    whole_perceptor,
    whole_prior,
    whole_prompt_file,
    whole_targets,
    whole_upscaler,
    with_loss_files,
)
from vqclip.pipeline.settle import reads_captions, settle
from vqclip.pipeline.sizes import canvas_of, round_size

LOW_MEMORY_VIEWS = 4  # cutouts scored at once where runtime.low_memory asks for it
DRAWING = 30  # updates of one size that draw a picture from random codes as 60 falling ones do
SVG = ".svg"


@dataclass(frozen=True)
class Picture:
    """One picture to make: the prompt as written, but with whole paths, what it stands for, and its seed."""

    prompt: str
    prompts: list[Prompt]
    seed: int

    @property
    def caption(self) -> str:
        """The wanted texts in one line, with where they are wanted, as a caption for the prior."""
        wanted = [prompt for prompt in self.prompts if prompt.weight > 0 and prompt.kind == TEXT]
        return caption([(prompt.text, prompt.region) for prompt in wanted])


@dataclass(frozen=True)
class Plan:
    """A config in which nothing is left open, and what follows from it.

    `width` and `height` are what is worked on, multiples of the drawer's `cell`, the VQGAN's factor; where a part of a
    picture is painted anew, the most that it may be. The pictures are then `scale` times as wide and
    high, and `result_size` is what the user gets. `notes` are sentences for the
    user about what was changed on the way.
    """

    config: Config
    pictures: list[Picture]
    image_prompts: list[ImagePrompt]
    width: int
    height: int
    cell: int
    scale: int
    notes: list[str]
    canvas: tuple[int, int] | None = None

    @property
    def result_size(self) -> tuple[int, int]:
        """Width and height of the finished pictures; of a path it is the strip's."""
        size = self.canvas or (self.scale * self.width, self.scale * self.height)
        return strip_size(size, self.config.targets.frames) if self.config.targets.path else size


def make_plan(config: Config) -> Plan:
    """Check every name and fill in seed, size, device, precision and threads.

    Raises:
        UsageError: a name, file, prompt or device that is not right.
        ModelError: a VQGAN file of the user's is missing or damaged.
    """
    config = _with_svg(config)
    check(config)
    written, negatives = (
        [with_files(prompt, partial(whole_prompt_file, prompt)) for prompt in each]
        for each in (config.prompts, config.negatives)
    )
    prompts = [(prompt, parse_prompts(prompt)) for prompt in written]
    image_prompts = [parse_image_prompt(entry) for entry in config.image_prompts]
    targets = whole_targets(config.targets)
    if not prompts and not image_prompts and not targets.path:
        raise UsageError('There is nothing to draw: give a prompt, e.g. vqclip generate "a red apple".')
    first = secrets.randbelow(DRAWN_SEEDS) if config.seed is None else config.seed
    numbers = config.seeds or range(first, first + config.count)
    device = resolve_device(config.runtime.device)
    canvas = canvas_of(config)
    width, height, cell, notes = round_size(config, canvas, image_prompts)
    check_form(config, width, height)
    check_regions(config, width, height)
    settled = settle(config)
    check_way(settled)
    output = whole_upscaler(settled.output)
    scale = upscaler_scale(output.upscale)
    resolved = dataclasses.replace(
        settled,
        prompts=written,
        losses=with_loss_files(config.losses, whole_loss_file),
        negatives=negatives,
        seed=numbers[0],
        count=len(numbers),
        size=f"{width}x{height}",
        vqgan=whole(config.vqgan, "file", "config"),
        perceptors=[str(dataclasses.replace(guide, name=whole_perceptor(guide.name))) for guide in config.guides],
        init=whole(settled.init, "image"),
        mask=whole(config.mask, "original", "image"),
        overlay=whole(config.overlay, "image"),
        targets=targets,
        cutouts=_few_at_once(config) if config.runtime.low_memory else config.cutouts,
        prior=whole_prior(config.prior),
        output=output,
        image_prompts=[f"{entry.file}:{Decimal(repr(entry.weight)):f}" for entry in image_prompts],
        runtime=dataclasses.replace(
            config.runtime,
            device=str(device),
            precision=resolve_precision(config.runtime.precision, device),
            threads=resolve_threads(config.runtime.threads),
        ),
    )
    pushed = read_negatives(resolved)
    pictures = [Picture(text, [*parsed, *pushed], seed) for text, parsed in prompts or [("", [])] for seed in numbers]
    said = [prompt for picture in pictures[:: len(numbers)] for prompt in picture.prompts]
    notes += [*foreign_weights(said), *idle_stops(said)]
    if canvas is None:
        notes += _check_enlarged(output.upscale, width, height, scale)
    notes += [*_unknown_words(settled, pictures), *_undrawn_way(resolved)]
    plan = Plan(resolved, pictures, image_prompts, width, height, cell, scale, notes, canvas)
    _check_strip(plan)
    return plan


def _with_svg(config: Config) -> Config:
    """Read an output `F.svg` as the picture F.png with an SVG beside it, as the picture says how both were made."""
    path = config.output.path
    if path is None or Path(path).suffix.lower() != SVG:
        return config
    return dataclasses.replace(
        config, output=dataclasses.replace(config.output, path=f"{path.removesuffix(Path(path).suffix)}.png", svg=True)
    )


def _few_at_once(config: Config) -> CutoutsConfig:
    asked = config.cutouts.micro_batch or config.cutouts.count
    return dataclasses.replace(config.cutouts, micro_batch=min(asked, LOW_MEMORY_VIEWS))


def _check_enlarged(upscale: str, width: int, height: int, scale: int) -> list[str]:
    """A note about how large the files are, where they are larger than what is drawn.

    Raises:
        UsageError: they would have over 100 megapixels.
    """
    if scale == 1:
        return []
    enlarged = f"{scale * width}x{scale * height}"
    if scale**2 * width * height > PIXEL_LIMIT:
        raise UsageError(
            f"output.upscale={upscale} makes {enlarged} pixels of {width}x{height}, and at most 100 megapixels are "
            "made; choose a smaller --size, or --upscale none."
        )
    return [f"the pictures are {enlarged}: drawn as {width}x{height}, then upscaled ({upscale})"]


def _undrawn_way(config: Config) -> list[str]:
    """A note about a way over texts that begins from what shows nothing, where its updates are too few to draw it."""
    path, frames, steps, kind = config.targets.path, config.targets.frames, config.optimise.steps, config.init.kind
    drawn = kind in PRIORS or kind in PICTURES or all(map(is_picture, path))
    if not path or drawn or steps >= frames * DRAWING:
        return []
    return [
        f"no prior draws the texts of the way, so it begins from init.kind={kind}, which shows nothing, and {steps} "
        f"updates for {frames} pictures draw little: --steps {DRAWING} or more, for each picture, would do"
    ]


def _check_strip(plan: Plan) -> None:
    """Refuse a strip that is larger than pictures may be.

    Raises:
        UsageError: it has over 100 megapixels.
    """
    (width, height), frames = plan.result_size, plan.config.targets.frames
    if plan.config.targets.path and width * height > PIXEL_LIMIT:
        raise UsageError(
            f"The strip of {frames} pictures would have {width}x{height} pixels, and at most 100 megapixels are made; "
            "choose fewer targets.frames (-n), a smaller --size, or output.upscale=none."
        )


def _unknown_words(config: Config, pictures: Sequence[Picture]) -> list[str]:
    """A note about words that the embedded models do not know, where one of them reads the prompts."""
    texts = (prompt.text for picture in pictures for prompt in picture.prompts if prompt.kind == TEXT)
    said = hint(texts) if reads_captions(config) else None
    return [said] if said else []


def seeds(pictures: Sequence[Picture]) -> list[int]:
    """Return each picture's seed."""
    return [picture.seed for picture in pictures]
