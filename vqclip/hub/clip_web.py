"""Published CLIP models that are a file behind a plain link: kept in our cache as they were published."""

from pathlib import Path

from vqclip.common.files import writing
from vqclip.common.locks import waiting_for
from vqclip.common.paths import cache_dir, is_file
from vqclip.hub.clip_catalogue import PublishedCLIP
from vqclip.hub.download import Wanted, fetch
from vqclip.hub.sources import WebFile
from vqclip.hub.transfer import Watch


def web_path(entry: PublishedCLIP) -> Path:
    """Return where such a model is kept, whether it is there or not."""
    return cache_dir() / "clip" / f"{entry.name.replace(':', '-')}.pt"


def web_weights(entry: PublishedCLIP) -> Path | None:
    """Return its file, or None."""
    return path if is_file(path := web_path(entry)) else None


def pull_web(entry: PublishedCLIP, *, force: bool = False, watch: Watch = lambda done, total: None) -> Path:
    """Fetch such a model unless it is here, and with `force` anew; return its file. Nobody published a hash of it.

    Raises:
        ModelError: it cannot be fetched.
        OutputError: there is no room, or the cache cannot be written.
    """
    assert entry.web is not None
    path = web_path(entry)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with waiting_for(path.with_suffix(".lock"), f"fetches {entry.name!r}", lambda: watch(0, None)):
            if force or not is_file(path):
                fetch(Wanted(entry.name, (WebFile(entry.web),), None, None), path, watch)
    return path


def remove_web(entry: PublishedCLIP) -> int:
    """Take such a model out of the cache, with what a download left of it; return how many bytes that freed.

    Raises:
        OutputError: a file cannot be removed.
    """
    path = web_path(entry)
    with writing(path), waiting_for(path.with_suffix(".lock"), f"works on {entry.name!r}"):
        found = [each for each in path.parent.glob(f"{path.name}*") if is_file(each)]
        freed = sum(each.stat().st_size for each in found)
        for each in found:
            each.unlink(missing_ok=True)
    return freed
