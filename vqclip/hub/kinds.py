"""The kinds of models, and what can be done with a model of each by its name."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vqclip.hub.access import Access
from vqclip.hub.clip_catalogue import CLIPS
from vqclip.hub.clip_files import clip_place, find_clip, weights_here
from vqclip.hub.clip_store import pull_clip, remove_clip, verify_clip
from vqclip.hub.store import locate, published, pull_vqgan
from vqclip.hub.store import remove as remove_vqgan
from vqclip.hub.store import verify as verify_vqgan
from vqclip.hub.store_index import stored_names
from vqclip.hub.transfer import Watch
from vqclip.hub.upscaler_catalogue import UPSCALERS
from vqclip.hub.upscaler_store import (
    locate_upscaler,
    pull_upscaler,
    remove_upscaler,
    stored_upscaler,
    verify_upscaler,
)


@dataclass(frozen=True)
class Pulling:
    """How to fetch: `half` and `keep_original` are for VQGANs, `force` replaces what is there."""

    half: bool = False
    keep_original: bool = False
    force: bool = False


@dataclass(frozen=True)
class Kind:
    """What can be done with the models of a kind.

    `check` refuses a name that is not known; `pull` fetches, `locate` finds, `verify` reads a file whole and returns
    its SHA-256, `remove` returns the bytes it freed, and `here` names those that are on this machine.
    """

    check: Callable[[str], object]
    pull: Callable[[str, Pulling, Watch], Path]
    locate: Callable[[str, Access], Path]
    verify: Callable[[str], str]
    remove: Callable[[str], int]
    here: Callable[[], list[str]]


def _pull_vqgan(name: str, how: Pulling, watch: Watch) -> Path:
    return pull_vqgan(published(name), half=how.half, keep_original=how.keep_original, force=how.force, watch=watch)


KINDS = {
    "vqgan": Kind(
        check=published,
        pull=_pull_vqgan,
        locate=locate,
        verify=lambda name: verify_vqgan(name).sha256,
        remove=remove_vqgan,
        here=stored_names,
    ),
    "clip": Kind(
        check=clip_place,
        pull=lambda name, how, watch: pull_clip(name, force=how.force, watch=watch),
        locate=lambda name, access: find_clip(name, access).weights,
        verify=verify_clip,
        remove=remove_clip,
        here=lambda: [name for name, clip in CLIPS.items() if weights_here(clip)],
    ),
    "upscaler": Kind(
        check=UPSCALERS.__getitem__,
        pull=lambda name, how, watch: pull_upscaler(name, force=how.force, watch=watch),
        locate=locate_upscaler,
        verify=verify_upscaler,
        remove=remove_upscaler,
        here=lambda: [name for name in UPSCALERS if stored_upscaler(name)],
    ),
}


def kind_of(name: str) -> str:
    """Tell a model's kind by its name: `model:tag` is a CLIP model's, and what is no upscaler's is a VQGAN's."""
    return "clip" if ":" in name else "upscaler" if name in UPSCALERS else "vqgan"
