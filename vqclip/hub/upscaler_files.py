"""Finding the file of an upscaler: embedded, published and in the cache, or the user's own."""

from collections.abc import Sequence
from pathlib import Path

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.paths import embedded_dir, is_file
from vqclip.common.registry import did_you_mean
from vqclip.hub.access import Access
from vqclip.hub.upscaler_catalogue import UPSCALERS
from vqclip.hub.upscaler_store import locate_upscaler
from vqclip.models.enlarge import read_scale
from vqclip.models.files import EMBEDDED, UpscalerFiles

NONE = "none"
"""The word for no upscaler."""

FORMS = f"give {NONE!r}, {EMBEDDED!r}, a published name (vqclip models list) or a file"


def has_embedded_upscaler() -> bool:
    """Whether an upscaler comes with vqclip."""
    return is_file(_embedded())


def find_upscaler(choice: str, access: Access = Access.HERE) -> UpscalerFiles | None:
    """Find the upscaler that `output.upscale` names; None for `none`.

    A published one that is not in the cache is fetched where `access` says so.

    Raises:
        UsageError: an unknown name, or a file that is not there.
        ModelError: it is missing, damaged, or needs another package.
    """
    return None if choice == NONE else find_enlarger(choice, access, [NONE])


def find_enlarger(choice: str, access: Access = Access.HERE, also: Sequence[str] = ()) -> UpscalerFiles:
    """Find the file of an upscaler, as `find_upscaler`; `also` are further words that an unknown name may stand for.

    Raises:
        UsageError, ModelError: as `find_upscaler`.
    """
    if choice in UPSCALERS:
        return UpscalerFiles(choice, locate_upscaler(choice, access))
    if choice == EMBEDDED:
        if not has_embedded_upscaler():
            raise ModelError(f"This vqclip comes without an upscaler of its own; {FORMS}.")
        return UpscalerFiles(choice, _embedded())
    if not is_file(choice):
        raise UsageError(f"Unknown upscaler {choice!r}, {did_you_mean(choice, [*also, EMBEDDED, *UPSCALERS])}")
    return UpscalerFiles(choice, Path(choice))


def upscaler_scale(choice: str) -> int:
    """Return how many times the sides grow by what `output.upscale` names, without fetching it; 1 for `none`.

    Raises:
        UsageError, ModelError: as `find_upscaler`, and for a file as `read_scale`.
    """
    if choice in UPSCALERS:
        return UPSCALERS[choice].scale
    files = find_upscaler(choice)
    return read_scale(files.path) if files else 1


def _embedded() -> Path:
    return embedded_dir() / "upscaler.safetensors"
