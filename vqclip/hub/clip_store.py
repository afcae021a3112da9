"""The published CLIP models on this machine, most in Hugging Face's cache: fetching, checking and removing them.

The cache names a large file by its SHA-256, as the hub published it, which is what it is checked against.
"""

from pathlib import Path

from vqclip.common.errors import UsageError
from vqclip.common.hashes import known_sha256, read_sha256
from vqclip.common.paths import is_folder
from vqclip.hub.access import Access
from vqclip.hub.clip_catalogue import CLIPS
from vqclip.hub.clip_files import clip_place, find_clip, hub_file, refuse_damaged
from vqclip.hub.clip_web import remove_web
from vqclip.hub.hub_cache import forget_repository, repository_folder
from vqclip.hub.transfer import Watch


def pull_clip(spec: str, *, force: bool = False, watch: Watch = lambda done, total: None) -> Path:
    """Fetch a `name:tag`, unless it is here; return its weights. With `force` it is fetched anew.

    Raises:
        UsageError: open_clip does not list it.
        ModelError: it cannot be fetched, or arrived damaged.
    """
    weights = find_clip(spec, Access.FETCH, force=force, watch=watch).weights
    refuse_damaged(weights, spec, known_sha256(weights))  # what another tool put there is checked once
    return weights


def verify_clip(spec: str) -> str:
    """Read the weights whole and compare them with the hash in their name in the cache; return it.

    Raises:
        UsageError: open_clip does not list it.
        ModelError: it is not here, or damaged.
    """
    weights = clip_place(spec)[1] or find_clip(spec).weights
    digest = read_sha256(weights)
    refuse_damaged(weights, spec, digest)
    return digest


def remove_clip(spec: str) -> int:
    """Take the model out of the hub's cache; return how many bytes that freed.

    Raises:
        UsageError: open_clip does not list it, or it is not here.
    """
    web = spec in CLIPS and CLIPS[spec].web is not None
    if not (clip_place(spec)[1] if web else is_folder(repository_folder(hub_file(spec)[0]))):
        raise UsageError(f"The CLIP model {spec!r} is not on this machine.")
    return remove_web(CLIPS[spec]) if web else forget_repository(hub_file(spec)[0])
