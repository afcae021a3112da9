"""Where things are: the shipped `configs/` and `checkpoints/embedded/`, and the user's cache."""

import os
import re
import stat
from pathlib import Path

import platformdirs

from vqclip.common.errors import UsageError

PAGE, THUMBS = "index.html", "thumbs"
"""What a gallery adds to a folder of pictures."""

RUN, PARTIAL = "run.yaml", "partial*.png"
"""What tells the folder of a run, and the pictures in it that are not finished."""

PACKAGE = Path(__file__).resolve().parents[1]


def is_there(path: Path | str) -> bool:
    """Whether something is at `path`; what may not be looked at, or can be no path, counts as absent."""
    return _kind(path) is not None


def is_file(path: Path | str) -> bool:
    """Whether a regular file is at `path`, or a link to one; never fails, as `is_there`."""
    return (kind := _kind(path)) is not None and stat.S_ISREG(kind)


def is_folder(path: Path | str) -> bool:
    """Whether a folder is at `path`, or a link to one; never fails, as `is_there`."""
    return (kind := _kind(path)) is not None and stat.S_ISDIR(kind)


def listing(folder: Path, pattern: str = "*") -> list[Path]:
    """Return what lies in a folder and fits a pattern, sorted; nothing where there is no folder to look into."""
    try:
        return sorted(folder.glob(pattern))
    except (OSError, ValueError):
        return []


def check_local(word: str) -> None:
    """Say what to do with an address where a file of this machine is meant.

    Raises:
        UsageError: it is an address.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]*://", word) and not is_there(word):
        raise UsageError(f"{word!r} is no file on this machine: fetch it first, e.g. with curl -LO {word}")


def at_home(path: str) -> str:
    """Put the user's home for a leading `~/`; a `/` at the end stays, which tells a folder."""
    return f"{Path.home()}{path[1:]}" if path.startswith("~/") else path


def _kind(path: Path | str) -> int | None:
    """The mode of what is at `path`; None for a path that is too long, forbidden, circular or holds a NUL."""
    try:
        return Path(path).stat().st_mode
    except (OSError, ValueError):
        return None


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
    """Return the folder for what vqclip downloads and remembers: `VQCLIP_CACHE`, or the user's cache folder.

    Raises:
        UsageError: VQCLIP_CACHE names the home of a user who is not there.
    """
    chosen = os.environ.get("VQCLIP_CACHE")
    try:
        return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("vqclip")
    except RuntimeError as error:
        raise UsageError(
            f"VQCLIP_CACHE is {chosen!r}, and this machine has no such user; give a whole path."
        ) from error


def is_offline() -> bool:
    """Whether HF_HUB_OFFLINE forbids the network, read now, as huggingface_hub reads it when it is imported."""
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}
