"""The commands that make pictures of pictures, as settings: a layer of configs/, and what lies on top of it.

`given` are the settings that the user gives with the command, by dotted key.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vqclip.common.errors import UsageError
from vqclip.common.images import picture_size
from vqclip.config.loader import overridden
from vqclip.config.regions import margins_for
from vqclip.config.schema import AUTO_SIZE, Config, in_pixels

SIDES = ("left", "top", "right", "bottom")

FRAMES = 8
"""Pictures of a way, both ends among them."""

UPDATES = 4
"""Updates of the latent for each of them."""


WHOLE = ("change", "vary")
"""Layers of the commands that draw all of a picture anew."""


@dataclass(frozen=True)
class Edit:
    """A command as settings: the `layer` lies below those of the user, `fixed` (by dotted key) above."""

    layer: str
    fixed: Mapping[str, object]


def edit(image: str, given: Mapping[str, object]) -> Edit:
    """Repaint what is masked, or change all of a picture.

    Raises:
        UsageError: nothing says what shall be there, or what belongs to a mask is given without one.
    """
    masked = any(given.get(key) is not None for key in ("mask.image", "mask.boxes", "mask.where"))
    turned = given.get("targets.towards") is not None
    if not turned and (given.get("targets.away") is not None or given.get("targets.amount") is not None):
        raise UsageError("--from and --amount go with --to: say what the picture shall show instead.")
    if not given.get("prompts") and not turned:
        raise UsageError(
            'There is nothing to draw: say what, e.g. vqclip edit photo.jpg "a red hat" --where "the head".'
        )
    if not masked and (given.get("mask.invert") or given.get("mask.feather") is not None):
        raise UsageError("--invert and --feather need a mask: give --mask, --box or --where.")
    like = {"image_prompts": [image]} if turned else {}
    return Edit("edit", {"mask.original": image, **like}) if masked else Edit("change", {"init.image": image, **like})


def outpaint(image: str, given: Mapping[str, object], rims: Mapping[str, str], ratio: str | None = None) -> Edit:
    """Paint a rim: `rims` are lengths by the names of SIDES; a `ratio` W:H chooses them itself.

    Raises:
        UsageError: neither is given, or both, or the picture cannot be read.
    """
    if ratio is None and not rims:
        raise UsageError("There is no rim to paint: give --left, --top, --right, --bottom or --ratio.")
    if ratio is not None and rims:
        raise UsageError("--ratio chooses the rims itself: leave --left, --top, --right and --bottom out.")
    extend = margins_for(ratio, *picture_size(image)) if ratio else ",".join(rims.get(side, "0") for side in SIDES)
    like = {} if given.get("prompts") else {"image_prompts": [image]}
    return Edit("outpaint", {"mask.original": image, "mask.extend": extend, **like})


def vary(image: str) -> Edit:
    """Draw the same content."""
    return Edit("vary", {"init.image": image, "image_prompts": [image]})


def interpolate(points: Sequence[str], frames: int = FRAMES, updates: int = UPDATES) -> Edit:
    """Draw the way over texts and pictures, `updates` of the latent for each of the frames.

    Raises:
        UsageError: fewer than two points.
    """
    if len(points) < 2:
        raise UsageError(
            'There is no way to draw: give two texts or pictures, e.g. vqclip interpolate "a cat" "a dog".'
        )
    travel = {"targets.path": list(points), "targets.frames": frames, "optimise.steps": frames * updates}
    return Edit("interpolate", {**travel, "prompts": []})


def check_unsaid(fixed: Mapping[str, object], overrides: Sequence[str]) -> None:
    """Refuse `key=value` overrides of what a command decides itself, which would say nothing.

    Raises:
        UsageError: one of them is about such a key, or no `key=value`.
    """
    for word in overrides:
        key = next((key for key in overridden(word) if key in fixed), None)
        if key is not None:
            raise UsageError(f"{word!r}: the command decides {key} itself, by its arguments and options.")


def paced(settings: Config, overrides: Sequence[str]) -> Config:
    """Give all pictures of a way steps of one size, where no override, `key=value`, says otherwise: a schedule that
    falls, as configs have it for one picture, would leave the last ones as they were begun.
    """
    if _says("optimise.schedule", overrides):
        return settings
    return dataclasses.replace(settings, optimise=dataclasses.replace(settings.optimise, schedule="constant"))


def shaped(settings: Config, given: Mapping[str, object], overrides: Sequence[str]) -> Config:
    """Give a picture that is drawn anew as a whole its own form, in the area that a config says, where nobody says a
    size: neither `given` nor `overrides`, which are `key=value`.

    Raises:
        UsageError: the picture cannot be read.
    """
    said = given.get("size") is not None or _says("size", overrides)
    image = None if said or settings.mask.original or settings.size == AUTO_SIZE else settings.init.image
    if image is None:
        return settings
    width, height = picture_size(image)
    return dataclasses.replace(settings, size=in_pixels(f"{width}:{height}", settings.size))


def _says(key: str, overrides: Sequence[str]) -> bool:
    return any(each.partition("=")[0].strip() == key for each in overrides)
