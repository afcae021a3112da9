"""What a config leaves open, decided from the models that are here and the pictures that it names."""

import dataclasses

from vqclip.common.errors import UsageError
from vqclip.common.paths import at_home
from vqclip.config.prompts import likeness
from vqclip.config.schema import Config
from vqclip.config.starts import AUTO, BENT, PRIORS, UNDRAWN, VARY, VQGAN, start_of
from vqclip.hub.prior_files import has_embedded_prior
from vqclip.hub.upscaler_files import NONE, has_embedded_upscaler
from vqclip.models.files import EMBEDDED
from vqclip.pipeline.named_files import parse_image_prompt

STILL = 1e-6  # factor of the steps' size at strength 0, whose picture stays


def settle(config: Config) -> Config:
    """Choose what `auto` leaves open: with the embedded VQGAN the embedded prior's start and the embedded upscaler,
    where they are there, and the start of a prior that is named, else the picture whose part is painted anew or random
    codes (noise or grey with another drawer), and no upscaler.

    What shall be like a picture starts from that, drawn anew. Where no prior can draw a picture anew, or none shall,
    the start is the picture, and `init.strength` a factor of the steps' size.

    Raises:
        UsageError: a picture shall be varied, and there is none.
    """
    embedded = config.drawer == VQGAN and config.vqgan.name == EMBEDDED and config.vqgan.file is None
    init, output, optimise = config.init, config.output, config.optimise
    like, kept = _likeness(config), config.mask.original is not None
    prior = (embedded and has_embedded_prior()) or config.prior.name != EMBEDDED
    colours = config.pixelart.colours
    kind = start_of(init.kind, config.drawer, colours, prior=prior, kept=kept, alike=like is not None)
    if init.image is None and UNDRAWN.keys() & {kind, init.kind}:
        init = dataclasses.replace(init, image=like)
    if init.kind == VARY and not (init.image or kept):
        raise UsageError("init.kind vary starts from a picture: give init.image or an image prompt.")
    if UNDRAWN.get(init.kind) == kind or (init.kind == "image" and not kept):
        optimise = dataclasses.replace(optimise, lr=max(init.strength, STILL) * optimise.lr)
        init = dataclasses.replace(init, strength=init.strength if kind in BENT else 1.0)
    if output.upscale == AUTO:
        output = dataclasses.replace(output, upscale=EMBEDDED if embedded and has_embedded_upscaler() else NONE)
    return dataclasses.replace(config, init=dataclasses.replace(init, kind=kind), output=output, optimise=optimise)


def uses_strength(config: Config) -> bool:
    """Whether `init.strength` says anything about a run: of a picture that is drawn anew, moved or mixed with what is
    drawn, or whose steps it makes smaller.
    """
    init, kept = settle(config).init, config.mask.original is not None
    mixed = kept or init.image is not None
    return config.init.kind in UNDRAWN or (mixed and not (kept and init.kind == "image"))


def _likeness(config: Config) -> str | None:
    """The picture that the whole new one shall be like, if there is one and no other to start from."""
    if config.init.image or config.mask.original or config.targets.path:
        return None
    files = (each.file for each in map(parse_image_prompt, config.image_prompts) if each.weight > 0)
    said = likeness(config.prompts)
    return next(files, None) or (at_home(said) if said else None)


def reads_captions(config: Config) -> bool:
    """Whether one of the embedded models reads the prompts of a config."""
    named = EMBEDDED in (guide.name for guide in config.guides)
    return named or (settle(config).init.kind in PRIORS and config.prior.name == EMBEDDED)
