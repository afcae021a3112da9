"""Which files a model is made of: plain records, which the hub finds and the models read."""

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vqclip.common.errors import ModelError
from vqclip.common.paths import is_file
from vqclip.config.starts import EMBEDDED as EMBEDDED

TOKENISER_SETTINGS = frozenset({"clean", "language", "strip_sep_token"})
"""What open_clip's own configs hand to a tokeniser."""

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
    """Refuse the config of a CLIP folder that is none of open_clip's, or that asks for what no model needs.

    open_clip hands `tokenizer_kwargs` to transformers as they are, and `trust_remote_code` among them, or an `auto_map`
    in a file of the tokeniser, would run programs that lie in the folder.

    Raises:
        ModelError: it is none, or asks for such a thing.
    """
    path = folder / "open_clip_config.json"
    try:
        text = dict(json.loads(path.read_text("utf-8"))["model_cfg"]["text_cfg"])
        asked = dict(text.get("tokenizer_kwargs", {}))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ModelError(f"{str(path)!r} is not a config of open_clip: it needs model_cfg with text_cfg.") from error
    if unknown := sorted(map(str, set(asked) - TOKENISER_SETTINGS)):
        raise ModelError(
            f"{str(path)!r} is refused: its tokenizer_kwargs may hold {', '.join(sorted(TOKENISER_SETTINGS))}, "
            f"not {unknown[0][:80]!r}."
        )
    for name in ("tokenizer_config.json", "config.json"):
        if is_file(folder / name):
            check_runs_nothing(folder / name)


def check_runs_nothing(path: Path) -> None:
    """Refuse a config of transformers' that names a program to run (`auto_map`), or is no JSON.

    Raises:
        ModelError: it is one of these.
    """
    try:
        config = dict(json.loads(path.read_text("utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise ModelError(f"{str(path)!r} is not a config: it is no JSON object.") from error
    if "auto_map" in config:
        raise ModelError(f"{str(path)!r} is refused: it asks to run a program of its own (auto_map).")


def clip_text(folder: Path) -> dict[str, Any]:
    """Return the text part of a CLIP folder's config, which `check_clip_config` did not refuse."""
    return dict(json.loads((folder / "open_clip_config.json").read_text("utf-8"))["model_cfg"]["text_cfg"])


def context_length(folder: Path) -> int:
    """Return how many tokens the text tower of a CLIP folder reads."""
    return int(clip_text(folder)["context_length"])
