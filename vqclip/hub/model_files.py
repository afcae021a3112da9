"""From a config to the files of its models, found or fetched once, before anything is loaded."""

from vqclip.config.schema import Config
from vqclip.hub.access import Access
from vqclip.hub.clip_files import find_clip
from vqclip.hub.prior_files import find_prior
from vqclip.hub.upscaler_files import find_upscaler
from vqclip.hub.vqgan_files import find_vqgan
from vqclip.models.files import ModelFiles


def find_models(config: Config, access: Access = Access.HERE) -> ModelFiles:
    """Find the files of every model that a resolved config names.

    Raises:
        ModelError: one is missing, refused or cannot be fetched.
        UsageError: a name that is not known.
    """
    vqgan = find_vqgan(config.vqgan, access)  # first, as its name is often that of a config to pull
    return ModelFiles(
        vqgan=vqgan,
        perceptors=tuple(find_clip(guide.name, access) for guide in config.guides),
        prior=find_prior(config.prior.name) if config.init.kind == "prior" else None,
        upscaler=find_upscaler(config.output.upscale, access),
    )
