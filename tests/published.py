"""Models as they are published, small, on a server of this machine in place of their own."""

import contextlib
import hashlib
import os
from collections.abc import Iterator
from dataclasses import replace

import pytest
from conftest import TINY_SIZES
from faulty_server import Behaviour, Server, serving

from vqclip.hub import clip_files, store, vqgan_catalogue
from vqclip.hub.clip_catalogue import CLIPS
from vqclip.hub.sources import WebFile
from vqclip.hub.vqgan_catalogue import VQGANS

SPEC = "ViT-B-32:laion2b_s34b_b79k"
COMMIT = "c" * 40
WEIGHTS = b"PK\x03\x04" + os.urandom(300_000)


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes, **places: str) -> None:
    """Let the catalogue's models of these names (with _ for -) be this file, behind these links."""
    for name, url in places.items():
        name = name.replace("_", "-")
        digest = hashlib.sha256(content).hexdigest()
        entry = replace(VQGANS[name], places=(WebFile(url),), size=len(content), sha256=digest, architecture=TINY_SIZES)
        for module in (store, vqgan_catalogue):
            monkeypatch.setattr(module, "VQGANS", {**module.VQGANS, name: entry})


def published_on_hub(
    content: bytes, *faults: str, file: str = clip_files.HUB_NAMES[0], spec: str = SPEC, cdn: str = "/cdn"
) -> dict[str, Behaviour]:
    """The paths of a hub that has a CLIP model's weights: facts at the file's address, the bytes at `cdn`."""
    facts = {
        "X-Repo-Commit": COMMIT,
        "X-Linked-Etag": f'"{hashlib.sha256(content).hexdigest()}"',
        "X-Linked-Size": str(len(content)),
    }
    place = f"/{CLIPS[spec].repository}/resolve"
    paths = [f"{place}/{revision}/{file}" for revision in ("main", COMMIT)]
    return {path: Behaviour(b"", redirect=cdn, heads=facts) for path in paths} | {cdn: Behaviour(content, list(faults))}


@contextlib.contextmanager
def serving_hub(monkeypatch: pytest.MonkeyPatch, paths: dict[str, Behaviour]) -> Iterator[Server]:
    with serving(paths) as server, monkeypatch.context() as patch:
        patch.setenv("HF_ENDPOINT", server.url)
        patch.delenv("HF_HUB_OFFLINE", raising=False)
        yield server
