"""Finding the files of a VQGAN: embedded, published and in the cache, or the user's own."""

from pathlib import Path

from vqclip.common.errors import UsageError
from vqclip.common.paths import embedded_dir, is_file
from vqclip.common.registry import did_you_mean
from vqclip.config.schema import VqganConfig
from vqclip.hub.access import Access
from vqclip.hub.store import locate
from vqclip.hub.store_index import stored_file, stored_names
from vqclip.hub.vqgan_catalogue import VQGANS
from vqclip.models.architecture import Architecture
from vqclip.models.files import EMBEDDED, VqganFiles
from vqclip.models.vqgan import read_architecture


def find_vqgan(choice: VqganConfig, access: Access = Access.HERE) -> VqganFiles:
    """Find the model that a config names; its `file` comes before its `name`.

    A published model that is not in the cache is fetched where `access` says so.

    Raises:
        UsageError: an unknown name, or a YAML that is not there.
        ModelError: the file is missing, damaged or refused.
    """
    local = _local(choice)
    if local is not None:
        return local
    name = _known(choice)
    quantiser = VQGANS[name].quantiser if name in VQGANS else None
    return VqganFiles(name, locate(name, access), None, quantiser)


def vqgan_sizes(choice: VqganConfig) -> Architecture:
    """Return the sizes of the model that a config names, without loading or fetching it.

    Raises:
        UsageError, ModelError: as `find_vqgan`, for a local file.
    """
    local = _local(choice)
    if local:
        return read_architecture(local.path, local.config)
    name = _known(choice)
    return VQGANS[name].architecture if name in VQGANS else read_architecture(locate(name))


def _local(choice: VqganConfig) -> VqganFiles | None:
    if choice.file is not None:
        config = Path(choice.config) if choice.config else None
        if config is not None and not is_file(config):
            raise UsageError(f"vqgan.config {str(config)!r} is not a file; leave it null to infer the architecture.")
        return VqganFiles(choice.file, Path(choice.file), config)
    if choice.name == EMBEDDED:
        return VqganFiles(EMBEDDED, embedded_dir() / "vqgan.safetensors", embedded_dir() / "vqgan.yaml")
    return None


def _known(choice: VqganConfig) -> str:
    """The name that a config gives, which is the catalogue's or that of a model in the store."""
    name = str(choice.name)
    if name not in VQGANS and stored_file(name) is None:
        raise UsageError(f"Unknown vqgan.name {name!r}: {did_you_mean(name, [EMBEDDED, *VQGANS, *stored_names()])}")
    return name
