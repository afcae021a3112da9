"""The CLIP models in Hugging Face's cache: fetching, checking and removing them.

The cache names a large file by its SHA-256, as the hub published it, which is what it is checked against.
"""

from pathlib import Path

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.hashes import sha256
from vqclip.hub.access import Access
from vqclip.hub.clip_files import find_clip, hub_file
from vqclip.hub.download import Watch


def pull_clip(spec: str, *, force: bool = False, watch: Watch = lambda done, total: None) -> Path:
    """Fetch a `name:tag`, unless it is here; return its weights. With `force` it is fetched anew.

    Raises:
        UsageError: open_clip does not list it.
        ModelError: it cannot be fetched, or arrived damaged.
    """
    fresh = hub_file(spec)[1] is None or force
    weights = find_clip(spec, Access.FETCH, force=force, watch=watch).weights
    if fresh:
        verify_clip(spec)
    return weights


def verify_clip(spec: str) -> str:
    """Read the weights whole and compare them with the hash in their name in the cache; return it.

    Raises:
        UsageError: open_clip does not list it.
        ModelError: it is not here, or damaged.
    """
    weights = find_clip(spec).weights
    digest, published = sha256(weights), weights.resolve().name
    if len(published) == 64 and digest != published:
        raise ModelError(f"The file {str(weights)!r} is damaged; mend it with: vqclip models pull {spec} --force.")
    return digest


def remove_clip(spec: str) -> int:
    """Take the model out of the hub's cache; return how many bytes that freed.

    Raises:
        UsageError: open_clip does not list it, or it is not here.
    """
    from huggingface_hub import scan_cache_dir

    repository, weights = hub_file(spec)
    found = [repo for repo in scan_cache_dir().repos if repo.repo_id == repository] if weights else []
    if not found:
        raise UsageError(f"The CLIP model {spec!r} is not on this machine.")
    revisions = [revision.commit_hash for revision in found[0].revisions]
    plan = scan_cache_dir().delete_revisions(*revisions)
    plan.execute()
    return plan.expected_freed_size
