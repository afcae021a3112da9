"""Where the shipped `configs/` and `checkpoints/embedded/` are, installed or in a checkout."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parent


def is_there(path: Path | str) -> bool:
    """Whether something is at `path`; what may not be looked at, or can be no path, counts as absent."""
    try:
        return Path(path).exists()
    except (OSError, ValueError):
        return False


def data_root() -> Path:
    """Return the folder that holds `configs/` and `checkpoints/`.

    In an installed wheel that is `vqclip/_data`; in an editable install, the repository's root.
    """
    installed = PACKAGE / "_data"
    return installed if installed.is_dir() else PACKAGE.parent


def configs_dir() -> Path:
    """Return the folder of the shipped YAML configs."""
    return data_root() / "configs"


def embedded_dir() -> Path:
    """Return the folder of the models that come with vqclip."""
    return data_root() / "checkpoints" / "embedded"
