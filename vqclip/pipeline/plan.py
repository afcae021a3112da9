"""From what the user asked for to what will be done: every choice that was left open is made here.

Nothing is loaded: a plan can be shown (`--dry-run`), written down before the models load, and repeated.
"""

import dataclasses
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import TypeVar

import torch

from vqclip.common.errors import UsageError
from vqclip.common.images import PIXEL_LIMIT, SUFFIXES, picture_size
from vqclip.common.paths import at_home, is_file, is_folder, is_there
from vqclip.common.registry import pick
from vqclip.common.runtime import resolve_device, resolve_precision, resolve_threads
from vqclip.config.escapes import mistake
from vqclip.config.prompts import (
    NUMBER,
    TEXT,
    VECTOR_FILE,
    Prompt,
    files_of,
    foreign_weights,
    likeness,
    parse_prompts,
    with_files,
)
from vqclip.config.regions import caption, mask_of, place_region
from vqclip.config.schema import (
    AUTO_SIZE,
    DRAWN_SEEDS,
    LONGEST,
    NO_REFERENCE,
    Config,
    CutoutsConfig,
    OutputConfig,
    PriorConfig,
    TargetsConfig,
    parse_size,
)
from vqclip.config.starts import AUTO, BENT, PRIORS, UNDRAWN, VARY, VQGAN, start_of
from vqclip.config.vocabulary import hint
from vqclip.guidance.filters import SQUARE, find_filter
from vqclip.guidance.likeness import OF_PICTURES, file_of
from vqclip.guidance.losses import find_loss
from vqclip.guidance.objective import VISITS
from vqclip.guidance.recipes import RECIPES
from vqclip.guidance.reference import AIMS
from vqclip.hub.clip_files import HUB
from vqclip.hub.prior_files import has_embedded_prior
from vqclip.hub.upscaler_catalogue import UPSCALERS
from vqclip.hub.upscaler_files import NONE, has_embedded_upscaler, upscaler_scale
from vqclip.hub.vqgan_files import vqgan_sizes
from vqclip.models.files import EMBEDDED
from vqclip.optimisation.optimisers import GRADIENTS, OPTIMISERS, SCHEDULES
from vqclip.optimisation.space import SPACES
from vqclip.optimisation.start import INITS
from vqclip.pipeline.drawing import DRAWERS, check_drawer, natural_side
from vqclip.pipeline.patch import extended_size

T = TypeVar("T")

NORM_GROUPS = 32  # of every normalisation in taming-transformers' networks
STILL = 1e-6  # factor of the steps' size at strength 0, whose picture stays
LOW_MEMORY_VIEWS = 4  # cutouts scored at once where runtime.low_memory asks for it
SVG = ".svg"
IMAGE_WEIGHT = re.compile(rf"(.+?)\s*:\s*({NUMBER})", re.ASCII | re.DOTALL)


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
class ImagePrompt:
    """A picture to resemble, with the weight of its loss."""

    file: str
    weight: float


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
        """Width and height of the finished pictures."""
        return self.canvas or (self.scale * self.width, self.scale * self.height)


def make_plan(config: Config) -> Plan:
    """Check every name and fill in seed, size, device, precision and threads.

    Raises:
        UsageError: a name, file, prompt or device that is not right.
        ModelError: a VQGAN file of the user's is missing or damaged.
    """
    config = _with_svg(config)
    check(config)
    written, negatives = (
        [with_files(prompt, partial(_absolute_file, prompt)) for prompt in each]
        for each in (config.prompts, config.negatives)
    )
    prompts = [(prompt, parse_prompts(prompt)) for prompt in written]
    image_prompts = [parse_image_prompt(entry) for entry in config.image_prompts]
    targets = _absolute_targets(config.targets)
    if not prompts and not image_prompts and not targets.path:
        raise UsageError('There is nothing to draw: give a prompt, e.g. vqclip generate "a red apple".')
    first = secrets.randbelow(DRAWN_SEEDS) if config.seed is None else config.seed
    numbers = config.seeds or range(first, first + config.count)
    device = resolve_device(config.runtime.device)
    canvas = _canvas(config)
    width, height, cell, notes = _round_size(config, canvas, image_prompts)
    _check_form(config, width, height)
    _check_regions(config, width, height)
    settled = settle(config)
    output = _absolute_upscaler(settled.output)
    scale = upscaler_scale(output.upscale)
    resolved = dataclasses.replace(
        settled,
        prompts=written,
        losses=with_loss_files(config.losses, _absolute_told),
        negatives=negatives,
        seed=numbers[0],
        count=len(numbers),
        size=f"{width}x{height}",
        vqgan=_absolute(config.vqgan, "file", "config"),
        perceptors=[str(dataclasses.replace(guide, name=_absolute_perceptor(guide.name))) for guide in config.guides],
        init=_absolute(settled.init, "image"),
        mask=_absolute(config.mask, "original", "image"),
        overlay=_absolute(config.overlay, "image"),
        targets=targets,
        cutouts=_few_at_once(config) if config.runtime.low_memory else config.cutouts,
        prior=_absolute_prior(config.prior),
        output=output,
        image_prompts=[f"{entry.file}:{Decimal(repr(entry.weight)):f}" for entry in image_prompts],
        runtime=dataclasses.replace(
            config.runtime,
            device=str(device),
            precision=resolve_precision(config.runtime.precision, device),
            threads=resolve_threads(config.runtime.threads),
        ),
    )
    pushed = _negatives(resolved)
    pictures = [Picture(text, [*parsed, *pushed], seed) for text, parsed in prompts or [("", [])] for seed in numbers]
    notes += foreign_weights(prompt for picture in pictures[:: len(numbers)] for prompt in picture.prompts)
    if canvas is None:
        notes += _check_enlarged(output.upscale, width, height, scale)
    notes += _unknown_words(settled, pictures)
    return Plan(resolved, pictures, image_prompts, width, height, cell, scale, notes, canvas)


def _with_svg(config: Config) -> Config:
    """Read an output `F.svg` as the picture F.png with an SVG beside it, as the picture says how both were made."""
    path = config.output.path
    if path is None or Path(path).suffix.lower() != SVG:
        return config
    return dataclasses.replace(
        config, output=dataclasses.replace(config.output, path=f"{path.removesuffix(Path(path).suffix)}.png", svg=True)
    )


def settle(config: Config) -> Config:
    """Choose what `auto` leaves open: with the embedded VQGAN the embedded prior's start and the embedded upscaler,
    where they are there, else the picture whose part is painted anew or random codes (noise with another drawer), and
    no upscaler.

    What shall be like a picture starts from that, drawn anew. Where no prior can draw a picture anew, the start is the
    picture, and `init.strength` a factor of the steps' size.

    Raises:
        UsageError: a picture shall be varied, and there is none.
    """
    embedded = config.drawer == VQGAN and config.vqgan.name == EMBEDDED and config.vqgan.file is None
    init, output, optimise = config.init, config.output, config.optimise
    like, kept = _likeness(config), config.mask.original is not None
    prior = embedded and has_embedded_prior()
    kind = start_of(init.kind, config.drawer, prior=prior, kept=kept, alike=like is not None)
    if init.image is None and UNDRAWN.keys() & {kind, init.kind}:
        init = dataclasses.replace(init, image=like)
    if init.kind == VARY and not (init.image or kept):
        raise UsageError("init.kind vary starts from a picture: give init.image or an image prompt.")
    if UNDRAWN.get(init.kind) == kind:
        optimise = dataclasses.replace(optimise, lr=max(init.strength, STILL) * optimise.lr)
        init = dataclasses.replace(init, strength=init.strength if kind in BENT else 1.0)
    if output.upscale == AUTO:
        output = dataclasses.replace(output, upscale=EMBEDDED if embedded and has_embedded_upscaler() else NONE)
    return dataclasses.replace(config, init=dataclasses.replace(init, kind=kind), output=output, optimise=optimise)


def _likeness(config: Config) -> str | None:
    """The picture that the whole new one shall be like, if there is one and no other to start from."""
    if config.init.image or config.mask.original or config.targets.path:
        return None
    files = (each.file for each in map(parse_image_prompt, config.image_prompts) if each.weight > 0)
    return next(files, None) or likeness(config.prompts)


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
    _negatives(config)


def _check_form(config: Config, width: int, height: int) -> None:
    """Refuse a filter of square pictures where they are not.

    Raises:
        UsageError: it is there.
    """
    square = next((name for name in config.filters if name in SQUARE), None)
    if square is not None and width != height:
        raise UsageError(f"The filter {square!r} needs a square picture, and this one is {width}x{height}.")


def _check_regions(config: Config, width: int, height: int) -> None:
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


def _negatives(config: Config) -> list[Prompt]:
    """Read the texts to push away from.

    Raises:
        UsageError: one is no prompt, or its weight would pull.
    """
    found = [prompt for entry in config.negatives for prompt in parse_prompts(entry)]
    for prompt in found:
        if prompt.weight >= 0:
            raise UsageError(f"negatives: {prompt.text!r} has the weight {prompt.weight:g}; write {prompt.text}:-0.3.")
    return found


def _few_at_once(config: Config) -> CutoutsConfig:
    asked = config.cutouts.micro_batch or config.cutouts.count
    return dataclasses.replace(config.cutouts, micro_batch=min(asked, LOW_MEMORY_VIEWS))


def _canvas(config: Config) -> tuple[int, int] | None:
    """The size of the picture whose part is painted anew, with its new rim."""
    if config.mask.original is None:
        return None
    return extended_size(*picture_size(config.mask.original), config.mask.extend)


def _round_size(
    config: Config, canvas: tuple[int, int] | None, image_prompts: Sequence[ImagePrompt]
) -> tuple[int, int, int, list[str]]:
    """Round the size to multiples of the drawer's cell, half up, at least one; take a picture's form where that is
    asked. Return the cell as well.
    """
    asked = None if config.size == AUTO_SIZE else parse_size(config.size)
    if canvas is not None or asked is None:
        points = [point for point in config.targets.path if is_picture(point)]
        pictures = [config.init.image, *(prompt.file for prompt in image_prompts), *points]
        form = canvas or next((picture_size(file) for file in pictures if file), (1, 1))
        short = min(asked) if asked else natural_side(config)
        cell = DRAWERS[config.drawer].cell(config, short)
        width, height = work_size(form, short, cell)
        if max(width, height) > LONGEST:
            raise UsageError(
                f"A picture of {form[0]}x{form[1]} pixels would be drawn as {width}x{height}, and a side has at most "
                f"{LONGEST}: cut it, choose a smaller rim, or a smaller --size."
            )
        return width, height, cell, []
    cell = DRAWERS[config.drawer].cell(config, min(asked))
    width, height = (_multiple(side, cell) for side in asked)
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


def work_size(form: tuple[int, int], short: int, factor: int) -> tuple[int, int]:
    """Return the size, in multiples of `factor`, in which a picture of this form (width, height) is worked on, given
    its short side."""
    side = _multiple(short, factor)
    width, height = (_multiple(side * length / min(form), factor) for length in form)
    return width, height


def _multiple(length: float, factor: int) -> int:
    return max(1, math.floor(length / factor + 0.5)) * factor


def reads_captions(config: Config) -> bool:
    """Whether one of the embedded models reads the prompts of a config."""
    named = EMBEDDED in (guide.name for guide in config.guides)
    return named or (settle(config).init.kind in PRIORS and config.prior.name == EMBEDDED)


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


def _unknown_words(config: Config, pictures: Sequence[Picture]) -> list[str]:
    """A note about words that the embedded models do not know, where one of them reads the prompts."""
    texts = (prompt.text for picture in pictures for prompt in picture.prompts if prompt.kind == TEXT)
    said = hint(texts) if reads_captions(config) else None
    return [said] if said else []


def parse_image_prompt(entry: str) -> ImagePrompt:
    """Read `file` or `file:weight`; a file of exactly that name comes first.

    Raises:
        UsageError: a weight that is not finite.
    """
    found = None if is_there(entry) else IMAGE_WEIGHT.fullmatch(entry)
    file, weight = (found[1], float(found[2])) if found else (entry, 1.0)
    if not math.isfinite(weight):
        raise UsageError(f"The weight of the image prompt {file!r} must be a finite number.")
    return ImagePrompt(str(Path(file).absolute()), weight)


def _absolute_targets(targets: TargetsConfig) -> TargetsConfig:
    """Make the paths in it absolute.

    Raises:
        UsageError: one is not there.
    """
    targets = dataclasses.replace(targets, path=[_absolute_point(point) for point in targets.path])
    if targets.reference == NO_REFERENCE:
        return targets
    if not is_folder(targets.reference):
        raise UsageError(f"targets.reference {targets.reference!r} is not a folder; give one of captioned pictures.")
    return _absolute(targets, "reference")


def _absolute_point(point: str) -> str:
    """Make the path of a point that is a picture absolute; what else there is is text.

    Raises:
        UsageError: it has the name of a picture, and is not there, or it is empty.
    """
    if not point.strip():
        raise UsageError("A point of the way is empty: give each a text or a picture's file.")
    if is_picture(point):
        return str(Path(point).absolute())
    if Path(point).suffix.lower() in SUFFIXES:
        raise UsageError(f"Cannot read the image {point!r}: No such file.")
    return point


def is_picture(point: str) -> bool:
    """Whether a point of a path is a picture's file, and not text."""
    return is_file(point)


def _absolute_file(prompt: str, file: str) -> str:
    """Make the path of what a prompt names absolute.

    Raises:
        UsageError: it is not there.
    """
    path = Path(at_home(file)).absolute()
    if not is_file(path):
        raise mistake(prompt, max(0, prompt.find(file)), f"there is no file {file!r}")
    return str(path)


def _absolute_told(file: str) -> str:
    """Make the path of what a loss is told absolute.

    Raises:
        UsageError: it is not there.
    """
    path = Path(at_home(file)).absolute()
    if not is_file(path):
        raise UsageError(f"losses: there is no file {file!r}.")
    return str(path)


def with_loss_files(losses: Mapping[str, float], change: Callable[[str], str]) -> dict[str, float]:
    """Return losses with the files that they are told changed."""
    told = {name: file_of(name) for name in losses}
    names = {name: f"{name.partition(':')[0]}:{change(file)}" if file else name for name, file in told.items()}
    return {names[name]: weight for name, weight in losses.items()}


def loss_files(config: Config) -> list[str]:
    """Return the pictures that losses are told."""
    told = [(name.partition(":")[0], file_of(name)) for name in config.losses]
    return [file for name, file in told if file and name in OF_PICTURES]


def _absolute_perceptor(spec: str) -> str:
    """Make the path in a perceptor's spec absolute, so that the run can be repeated from anywhere."""
    name, colon, tag = spec.partition(":")
    if spec.startswith(HUB):
        return spec
    if spec != EMBEDDED and is_there(spec):
        return str(Path(spec).absolute())
    return f"{name}:{Path(tag).absolute()}" if colon and is_file(tag) else spec


def _absolute_upscaler(output: OutputConfig) -> OutputConfig:
    published = output.upscale in (NONE, EMBEDDED, *UPSCALERS)
    return output if published or not is_there(output.upscale) else _absolute(output, "upscale")


def _absolute_prior(prior: PriorConfig) -> PriorConfig:
    return prior if prior.name == EMBEDDED else _absolute(prior, "name")


def _absolute(section: T, *keys: str) -> T:
    """Return the config section with the paths under `keys` made absolute."""
    paths = {key: getattr(section, key) for key in keys}
    return dataclasses.replace(section, **{key: path and str(Path(path).absolute()) for key, path in paths.items()})  # type: ignore[type-var]


def seeds(pictures: Sequence[Picture]) -> list[int]:
    """Return each picture's seed."""
    return [picture.seed for picture in pictures]


def _prompt_files(config: Config) -> list[str]:
    return files_of([*config.prompts, *config.negatives])


def vector_files(config: Config) -> list[str]:
    """Return the files of vectors that a config names, each once."""
    return [file for file in _prompt_files(config) if file.lower().endswith(VECTOR_FILE)]


def input_files(config: Config, image_prompts: Sequence[ImagePrompt]) -> list[str]:
    """Return the user's pictures that a config names, each once."""
    pictured = [file for file in _prompt_files(config) if file not in vector_files(config)]
    points = [point for point in config.targets.path if is_picture(point)]
    prompted = [prompt.file for prompt in image_prompts]
    named = [
        config.mask.original,
        config.mask.image,
        config.init.image,
        config.overlay.image,
        *prompted,
        *pictured,
        *points,
        *loss_files(config),
    ]
    return list(dict.fromkeys(name for name in named if name))
