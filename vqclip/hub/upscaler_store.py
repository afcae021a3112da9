"""The published upscalers in the user's cache: kept as they were published, and used only while their hash is the
published one. They are small, so the hash is looked at every time, and there is nothing to record.
"""

from pathlib import Path

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.files import writing
from vqclip.common.hashes import known_sha256, read_sha256
from vqclip.common.locks import waiting_for
from vqclip.common.paths import cache_dir, is_file
from vqclip.hub.access import Access, not_here
from vqclip.hub.download import Wanted, fetch
from vqclip.hub.transfer import Watch
from vqclip.hub.upscaler_catalogue import PLAIN, UPSCALERS, PublishedUpscaler


def upscaler_path(name: str) -> Path:
    """Return where a published upscaler is kept, whether it is there or not."""
    return cache_dir() / "upscalers" / f"{name}.pth"


def stored_upscaler(name: str) -> Path | None:
    """Return the file of a published upscaler, whatever its state, or None."""
    return path if is_file(path := upscaler_path(name)) else None


def locate_upscaler(name: str, access: Access = Access.HERE) -> Path:
    """Return the file of a published upscaler, fetched where `access` says so.

    Raises:
        ModelError: it is not here, cannot be fetched, is not what was published, or needs a package that is missing.
        OutputError: the cache cannot be written.
    """
    entry, path = UPSCALERS[name], upscaler_path(name)
    if entry.needs:
        raise ModelError(f"The upscaler {name!r} needs another package: {entry.needs}. {PLAIN!r} needs nothing more.")
    if is_file(path):
        _refuse_other(entry, path, known_sha256(path))
        return path
    if access is Access.FETCH:
        return pull_upscaler(name)
    raise _not_here(entry, access)


def pull_upscaler(name: str, *, force: bool = False, watch: Watch = lambda done, total: None) -> Path:
    """Fetch a published upscaler unless it is here, and with `force` anew; return its file.

    Raises:
        ModelError: it cannot be fetched, or what is here is not what was published.
        OutputError: there is no room, or the cache cannot be written.
    """
    entry, path = UPSCALERS[name], upscaler_path(name)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with waiting_for(path.with_suffix(".lock"), f"fetches {name!r}", lambda: watch(0, None)):
            if force or not is_file(path):
                fetch(Wanted(name, (entry.place,), entry.size, entry.sha256), path, watch)
    verify_upscaler(name)
    return path


def verify_upscaler(name: str) -> str:
    """Read a published upscaler's file whole and compare it with what was published; return its SHA-256.

    Raises:
        ModelError: it is not here, or damaged.
    """
    path = stored_upscaler(name)
    if path is None:
        raise _not_here(UPSCALERS[name], Access.HERE)
    digest = read_sha256(path)
    _refuse_other(UPSCALERS[name], path, digest)
    return digest


def remove_upscaler(name: str) -> int:
    """Take a published upscaler out of the cache, with what a download left of it; return how many bytes that freed.

    Raises:
        UsageError: it is not here.
        OutputError: a file cannot be removed.
    """
    path = upscaler_path(name)
    found = [each for each in path.parent.glob(f"{name}.pth*") if is_file(each)]
    if not found:
        raise UsageError(f"The upscaler {name!r} is not on this machine.")
    with writing(path), waiting_for(path.with_suffix(".lock"), f"works on {name!r}"):
        freed = sum(each.stat().st_size for each in found)
        for each in found:
            each.unlink(missing_ok=True)
    return freed


def _refuse_other(entry: PublishedUpscaler, path: Path, digest: str) -> None:
    if digest != entry.sha256:
        raise ModelError(
            f"The file {str(path)!r} is not the published {entry.name!r}; mend it with: "
            f"vqclip models pull {entry.name} --force"
        )


def _not_here(entry: PublishedUpscaler, access: Access) -> ModelError:
    otherwise = "a file you already have is given by its path."
    return not_here(f"The upscaler {entry.name!r}", entry.name, access, otherwise, entry.size_text)
