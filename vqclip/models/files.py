"""Which files a model is made of: plain records, which the hub finds and the models read."""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqclip.common.errors import ModelError
from vqclip.config.starts import EMBEDDED as EMBEDDED

MERGES = 20_000_000
"""Bytes of unpacked merges that are read; those of CLIP have 3 million."""


@dataclass(frozen=True)
class VqganFiles:
    """What `load_vqgan` needs for one model."""

    name: str
    path: Path
    config: Path | None
    quantiser: str | None = None


@dataclass(frozen=True)
class PriorFiles:
    """A prior's weights, and the merges of its tokeniser."""

    name: str
    path: Path
    merges: Path


@dataclass(frozen=True)
class ClipFiles:
    """What open_clip needs to build one model without asking the network.

    `architecture` is a model name of open_clip or `local-dir:FOLDER`; `weights` the tensors; `merges`
    a tokeniser file of its own; `preprocess` the mean, std, interpolation and resize mode of its tag.
    """

    name: str
    architecture: str
    weights: Path
    merges: Path | None = None
    preprocess: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class UpscalerFiles:
    """An upscaler's weights."""

    name: str
    path: Path


@dataclass(frozen=True)
class ModelFiles:
    """The files of everything that one run uses; `vqgan` only where it draws, `prior` only where it makes the start,
    `upscaler` only where one enlarges the pictures.
    """

    vqgan: VqganFiles | None
    perceptors: tuple[ClipFiles, ...]
    prior: PriorFiles | None
    upscaler: UpscalerFiles | None = None


def check_merges(path: Path) -> None:
    """Refuse a tokeniser's file that is no gzip, or unpacks to more than any list of merges: a small one can hold
    gigabytes.

    Raises:
        ModelError: it is one of these.
    """
    try:
        with gzip.open(path) as file:
            whole = len(file.read(MERGES + 1)) <= MERGES
    except (OSError, EOFError, zlib.error) as error:
        raise ModelError(f"The tokeniser's file {str(path)!r} is damaged.") from error
    if not whole:
        raise ModelError(f"The tokeniser's file {str(path)!r} unpacks to more than {MERGES // 10**6} MB; it is none.")


def check_clip_config(folder: Path) -> None:
    """Refuse the config of a CLIP folder that is none of open_clip's.

    Raises:
        ModelError: it is none.
    """
    path = folder / "open_clip_config.json"
    try:
        json.loads(path.read_text("utf-8"))["model_cfg"]["text_cfg"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{str(path)!r} is not a config of open_clip: it needs model_cfg with text_cfg.") from error


def context_length(folder: Path) -> int:
    """Return how many tokens the text tower of a CLIP folder reads."""
    config = json.loads((folder / "open_clip_config.json").read_text("utf-8"))
    return int(config["model_cfg"]["text_cfg"]["context_length"])
