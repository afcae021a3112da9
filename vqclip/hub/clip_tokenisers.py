"""Tokenisers that a CLIP model takes from Hugging Face's transformers, as SigLIP's do: found, and fetched with it.

They lie in the cache that Hugging Face's tools share, where transformers finds them without the network. Models with
open_clip's own tokeniser need none of this.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from vqclip.common.errors import ModelError
from vqclip.hub.access import Access, not_here
from vqclip.hub.hub_cache import cached_file, offers, pull_file
from vqclip.models.files import check_runs_nothing
from vqclip.models.weights.file_type import OTHER

SETTINGS = ("tokenizer_config.json",)
VOCABULARY = ("tokenizer.json", "spiece.model", "sentencepiece.bpe.model", "tokenizer.model")
"""What transformers calls a whole tokeniser, and the vocabularies of those not published as one, best first."""

MODEL = ("config.json",)
"""What open_clip builds a text tower of transformers' from; transformers looks for one beside a tokeniser too."""


@dataclass(frozen=True)
class _Wanted:
    """One of these names, of a repository; `needed` if nothing works without."""

    repository: str
    names: tuple[str, ...]
    needed: bool = True


def architecture_text(architecture: str) -> Mapping[str, Any]:
    """Return the text part of an architecture of open_clip's, by its name."""
    from open_clip import get_model_config

    return dict((get_model_config(architecture) or {}).get("text_cfg", {}))


def check_package(text: Mapping[str, Any], spec: str) -> None:
    """Refuse the model `spec` whose tokeniser comes with a package that is not installed.

    Raises:
        ModelError: it is not.
    """
    if ("hf_tokenizer_name" in text or "hf_model_name" in text) and find_spec("transformers") is None:
        raise ModelError(f"The CLIP model {spec!r} needs another package: pip install 'vqclip[siglip]'.")


def bring_tokeniser(
    text: Mapping[str, Any], spec: str, access: Access, *, repository: str = "", force: bool = False
) -> None:
    """See that the tokeniser of the model `spec` is here, and fetch it where `access` says so.

    `text` is the text part of its config. The files are in the repositories that it names; with `repository`, in that.

    Raises:
        ModelError: it needs a package that is not installed, or files that are not here, cannot be fetched or ask to
            run a program of their own.
    """
    check_package(text, spec)
    for wanted in _wanted(text, repository):
        found = next((path for name in wanted.names if (path := cached_file(wanted.repository, name))), None)
        asks = access is Access.FETCH and (wanted.needed or offers(wanted.repository, wanted.names[0]))
        if asks and (found is None or force):
            found = pull_file(wanted.repository, list(wanted.names), spec, force=force, kinds=(OTHER,))
        if found is None and wanted.needed:
            words = f"{wanted.names[0]!r} of {wanted.repository}, for the words of {spec!r},"
            raise not_here(words, spec, access, "other models need none.")
        if found is not None and wanted.names is not VOCABULARY:
            check_runs_nothing(found)


def _wanted(text: Mapping[str, Any], repository: str) -> list[_Wanted]:
    tower = str(text.get("hf_model_name") or "")
    tokeniser = str(text.get("hf_tokenizer_name") or tower)
    if repository and tokeniser != tower:
        tokeniser = repository
    wanted = []
    if tokeniser:
        wanted += [_Wanted(tokeniser, SETTINGS), _Wanted(tokeniser, VOCABULARY)]
        wanted += [_Wanted(tokeniser, MODEL, needed=False)] if tokeniser != tower else []
    return wanted + ([_Wanted(tower, MODEL)] if tower else [])
