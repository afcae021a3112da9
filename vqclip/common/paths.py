"""Where things are: the shipped `configs/` and `checkpoints/embedded/`, and the user's cache."""

import os
from pathlib import Path

import platformdirs

PACKAGE = Path(__file__).resolve().parents[1]


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


def cache_dir() -> Path:
    """Return the folder for what vqclip downloads and remembers: `VQCLIP_CACHE`, or the user's cache folder."""
    chosen = os.environ.get("VQCLIP_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("vqclip")


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network, read now, as huggingface_hub reads it when it is imported."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
