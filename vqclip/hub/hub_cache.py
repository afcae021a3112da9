"""Files of the model hub in the cache that Hugging Face's tools share, brought there by our own verified download.

The layout is theirs: `models--OWNER--NAME/` holds `blobs/`, each file named by the hub's hash of it (SHA-256 for
weights), `snapshots/COMMIT/` with links to them under their real names, and `refs/main`, which names the commit. Their
own download begins anew after every break (huggingface_hub 1 and 2 write each try to another file), so ours is used.
"""

import contextlib
import os
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urljoin

from vqclip.common.errors import ModelError, UnreachableError
from vqclip.common.files import write_text, writing
from vqclip.common.locks import waiting_for
from vqclip.hub.download import Wanted, fetch
from vqclip.hub.sources import HubFile
from vqclip.hub.transfer import MirrorError, MissingError, NotReachedError, Watch, ask, persist, refuse_status
from vqclip.models.weights.file_type import FORMATS

COMMIT = re.compile(r"[0-9a-f]{40}")
SHA256 = re.compile(r"[0-9a-f]{64}")
ETAG = re.compile(r"[0-9a-f]{32,64}")


@dataclass(frozen=True)
class HubFacts:
    """What the hub says of a file: its commit, its hash (SHA-256 for large files) and its bytes, if it says them."""

    commit: str
    etag: str
    size: int | None


def cached_file(repository: str, file: str) -> Path | None:
    """Return a file of a repository's main branch in the cache, or None; the network is not asked."""
    from huggingface_hub import try_to_load_from_cache

    with contextlib.suppress(OSError, ValueError):
        found = try_to_load_from_cache(repository, file, cache_dir=_cache())
        if isinstance(found, str) and Path(found).is_file():
            return Path(found)
    return None


def pull_file(
    repository: str,
    files: list[str],
    name: str,
    watch: Watch = lambda done, total: None,
    *,
    force: bool = False,
    kinds: Sequence[str] = FORMATS,
) -> Path:
    """Fetch the first of `files` that the repository has, and return where it is; `name` is what it is for, and `kinds`
    are what `sniff` may call it.

    With `force` it is fetched even where the cache has it. A process that wants the same file waits for the other.

    Raises:
        ModelError: the hub does not give it, or gives something else than it says.
        OutputError: the cache cannot be written.
    """
    try:
        file, facts = _first(repository, files)
    except MirrorError as error:
        place = HubFile(repository, files[0]).host
        kind = UnreachableError if isinstance(error, NotReachedError) else ModelError
        raise kind(f"Cannot fetch {name!r}; {place}: {error}. Check the network, or try again later.") from error
    home = repository_folder(repository)
    blob, link = home / "blobs" / facts.etag, home / "snapshots" / facts.commit / file
    with writing(home):
        blob.parent.mkdir(parents=True, exist_ok=True)
        lock = _cache() / ".locks" / home.name / f"{facts.etag}.lock"  # the one that their tools take
        lock.parent.mkdir(parents=True, exist_ok=True)
        with waiting_for(lock, f"fetches {name!r}", lambda: watch(0, None)):
            if force or not blob.is_file():
                digest = facts.etag if SHA256.fullmatch(facts.etag) else None
                fetch(Wanted(name, [HubFile(repository, file, facts.commit)], facts.size, digest, kinds), blob, watch)
            _link(link, blob)
            write_text(home / "refs" / "main", facts.commit)
    return link


def offers(repository: str, file: str) -> bool:
    """Return whether the hub has a file, as far as it can be asked."""
    with contextlib.suppress(MirrorError):
        return bool(_first(repository, [file]))
    return False


def forget_repository(repository: str) -> int:
    """Delete all of a repository in the cache, broken downloads too; return how many bytes that freed.

    Raises:
        OutputError: it cannot be deleted.
    """
    home = repository_folder(repository)
    with writing(home):
        freed = sum(path.stat().st_size for path in home.rglob("*") if path.is_file() and not path.is_symlink())
        if home.is_dir():
            shutil.rmtree(home)
    return freed


def repository_folder(repository: str) -> Path:
    """Return where the cache keeps a repository."""
    return _cache() / f"models--{repository.replace('/', '--')}"


def _cache() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def _first(repository: str, files: list[str]) -> tuple[str, HubFacts]:
    """The first of the files that is there, and what the hub says of it."""
    for file in files:
        with contextlib.suppress(MissingError):
            place = HubFile(repository, file)
            return file, persist(lambda place=place: _facts(place), place)  # type: ignore[misc]
    raise MissingError(f"has none of {', '.join(files)}")


def _facts(place: HubFile, url: str = "") -> HubFacts:
    """Ask for a file's head; the hub tells its own facts before it sends us to where the file lies.

    Raises:
        MirrorError: it does not answer as a hub does.
    """
    with ask("HEAD", place, url=url, redirects=False) as answer:
        refuse_status(answer, (200, 301, 302, 303, 307, 308))
        heads = answer.headers
    if not url and heads.get("Location", "").startswith("/") and "X-Repo-Commit" not in heads:
        return _facts(place, urljoin(place.url, heads["Location"]))  # the repository has a new name
    commit = heads.get("X-Repo-Commit", "")
    etag = (heads.get("X-Linked-Etag") or heads.get("ETag") or "").removeprefix("W/").strip('"')
    if not COMMIT.fullmatch(commit) or not ETAG.fullmatch(etag):
        elsewhere = f" (it sends us to {heads['Location'].split('?')[0]!r})" if "Location" in heads else ""
        raise MirrorError(f"does not answer as a model hub does{elsewhere}; a login page may stand in between")
    size = heads.get("X-Linked-Size") or (heads.get("Content-Length") if answer.status_code == 200 else "")
    return HubFacts(commit, etag, int(size) if size and size.isdecimal() else None)


def _link(link: Path, blob: Path) -> None:
    """Let the file's real name lead to its bytes; where links are not allowed, the bytes move there."""
    link.parent.mkdir(parents=True, exist_ok=True)
    if link.is_file() and link.resolve() == blob.resolve():
        return
    link.unlink(missing_ok=True)
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except OSError:
        blob.replace(link)
