"""Finding the files of a prior: embedded, or the user's own folder."""

from pathlib import Path

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.paths import embedded_dir, is_file, is_there
from vqclip.models.files import EMBEDDED, PriorFiles, check_merges


def has_embedded_prior() -> bool:
    """Whether a prior comes with vqclip."""
    return is_there(embedded_dir() / "prior")


def find_prior(name: str) -> PriorFiles:
    """Find the prior that `prior.name` names: `embedded`, or a folder that scripts/train/prior.py exported.

    Raises:
        UsageError: there is no such folder.
        ModelError: a file is missing.
    """
    folder = embedded_dir() / "prior" if name == EMBEDDED else Path(name)
    if not is_there(folder):
        raise UsageError(f"Unknown prior.name {name!r}: give {EMBEDDED!r}, or a folder with prior.safetensors.")
    files = PriorFiles(name, folder / "prior.safetensors", folder / "merges.txt.gz")
    for needed in (files.path, files.merges):
        if not is_file(needed):
            raise ModelError(f"The prior's folder {str(folder)!r} has no {needed.name}; a complete one holds it.")
    check_merges(files.merges)
    return files
