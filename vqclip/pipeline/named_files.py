"""The files that a config names: with whole paths, so that a run can be repeated from anywhere, and as lists."""

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from vqclip.common.errors import UsageError
from vqclip.common.images import READ_SUFFIXES
from vqclip.common.paths import at_home, is_file, is_folder, is_there
from vqclip.config.escapes import mistake
from vqclip.config.prompts import NUMBER, VECTOR_FILE, files_of
from vqclip.config.schema import NO_REFERENCE, Config, OutputConfig, PriorConfig, TargetsConfig
from vqclip.guidance.likeness import OF_PICTURES, file_of
from vqclip.hub.clip_files import HUB
from vqclip.hub.upscaler_catalogue import UPSCALERS
from vqclip.hub.upscaler_files import NONE
from vqclip.models.files import EMBEDDED

T = TypeVar("T")

IMAGE_WEIGHT = re.compile(rf"(.+?)\s*:\s*({NUMBER})", re.ASCII | re.DOTALL)


@dataclass(frozen=True)
class ImagePrompt:
    """A picture to resemble, with the weight of its loss."""

    file: str
    weight: float


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


def is_picture(point: str) -> bool:
    """Whether a point of a path is a picture's file, and not text."""
    return is_file(point)


def whole_targets(targets: TargetsConfig) -> TargetsConfig:
    """Make the paths in it absolute.

    Raises:
        UsageError: one is not there.
    """
    targets = dataclasses.replace(targets, path=[_whole_point(point) for point in targets.path])
    if targets.reference in (NO_REFERENCE, EMBEDDED):
        return targets
    if not is_folder(targets.reference):
        raise UsageError(
            f"targets.reference {targets.reference!r} is not a folder; give one of captioned pictures, or embedded."
        )
    return whole(targets, "reference")


def _whole_point(point: str) -> str:
    """Make the path of a point that is a picture absolute; what else there is is text.

    Raises:
        UsageError: it has the name of a picture, and is not there, or it is empty.
    """
    if not point.strip():
        raise UsageError("A point of the way is empty: give each a text or a picture's file.")
    if is_picture(point):
        return str(Path(point).absolute())
    if Path(point).suffix.lower() in READ_SUFFIXES:
        raise UsageError(f"Cannot read the image {point!r}: No such file.")
    return point


def whole_prompt_file(prompt: str, file: str) -> str:
    """Make the path of what a prompt names absolute.

    Raises:
        UsageError: it is not there.
    """
    path = Path(at_home(file)).absolute()
    if not is_file(path):
        raise mistake(prompt, max(0, prompt.find(file)), f"there is no file {file!r}")
    return str(path)


def whole_loss_file(file: str) -> str:
    """Make the path of what a loss is told absolute.

    Raises:
        UsageError: it is not there.
    """
    path = Path(at_home(file)).absolute()
    if not is_file(path):
        raise UsageError(f"losses: there is no file {file!r}.")
    return str(path)


def whole_perceptor(spec: str) -> str:
    """Make the path in a perceptor's spec absolute, so that the run can be repeated from anywhere."""
    name, colon, tag = spec.partition(":")
    if spec.startswith(HUB):
        return spec
    if spec != EMBEDDED and is_there(spec):
        return str(Path(spec).absolute())
    return f"{name}:{Path(tag).absolute()}" if colon and is_file(tag) else spec


def whole_upscaler(output: OutputConfig) -> OutputConfig:
    """Make the path of an upscaler that is a file absolute."""
    published = output.upscale in (NONE, EMBEDDED, *UPSCALERS)
    return output if published or not is_there(output.upscale) else whole(output, "upscale")


def whole_prior(prior: PriorConfig) -> PriorConfig:
    """Make the path of a prior that is a folder absolute."""
    return prior if prior.name == EMBEDDED else whole(prior, "name")


def whole(section: T, *keys: str) -> T:
    """Return the config section with the paths under `keys` made absolute."""
    paths = {key: getattr(section, key) for key in keys}
    return dataclasses.replace(section, **{key: path and str(Path(path).absolute()) for key, path in paths.items()})  # type: ignore[type-var]


def with_loss_files(losses: Mapping[str, float], change: Callable[[str], str]) -> dict[str, float]:
    """Return losses with the files that they are told changed."""
    told = {name: file_of(name) for name in losses}
    names = {name: f"{name.partition(':')[0]}:{change(file)}" if file else name for name, file in told.items()}
    return {names[name]: weight for name, weight in losses.items()}


def loss_files(config: Config) -> list[str]:
    """Return the pictures that losses are told."""
    told = [(name.partition(":")[0], file_of(name)) for name in config.losses]
    return [file for name, file in told if file and name in OF_PICTURES]


def head_files(config: Config) -> list[str]:
    """Return the files that losses are told and that are no pictures, each once."""
    return [file for name in config.losses if (file := file_of(name)) and file not in loss_files(config)]


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
