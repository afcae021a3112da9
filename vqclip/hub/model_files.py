"""From a config to the files of its models, found or fetched once, before anything is loaded."""

import contextlib
from collections.abc import Callable
from functools import partial

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.paths import is_file
from vqclip.config.schema import Config
from vqclip.config.starts import PRIORS, VQGAN
from vqclip.hub.access import Access
from vqclip.hub.clip_files import find_clip
from vqclip.hub.prior_files import find_prior
from vqclip.hub.upscaler_files import find_upscaler
from vqclip.hub.vqgan_files import find_vqgan
from vqclip.models.files import ModelFiles


def check_models(config: Config) -> None:
    """Check that every model a config names exists: as a file, or in a catalogue though it may not be here yet.

    Raises:
        UsageError: an unknown name, or a file that is not there.
    """
    draws = config.drawer == VQGAN
    if draws and config.vqgan.file and not is_file(config.vqgan.file):
        raise UsageError(f"vqgan.file {config.vqgan.file!r} is not a file.")
    finders: list[Callable[[], object]] = [
        *([partial(find_vqgan, config.vqgan)] if draws else []),
        *(partial(find_clip, guide.name) for guide in config.guides),
        partial(find_prior, config.prior.name),
    ]
    for find in finders:
        with contextlib.suppress(ModelError):
            find()


def find_models(config: Config, access: Access = Access.HERE) -> ModelFiles:
    """Find the files of every model that a resolved config names.

    Raises:
        ModelError: one is missing, refused or cannot be fetched.
        UsageError: a name that is not known.
    """
    vqgan = (
        find_vqgan(config.vqgan, access) if config.drawer == VQGAN else None
    )  # first, as its name is often that of a config to pull
    return ModelFiles(
        vqgan=vqgan,
        perceptors=tuple(find_clip(guide.name, access) for guide in config.guides),
        prior=find_prior(config.prior.name) if config.init.kind in PRIORS else None,
        upscaler=find_upscaler(config.output.upscale, access),
    )
