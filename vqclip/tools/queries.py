"""What pictures are compared with: texts and pictures, joined by | with weights, in one grammar for all commands."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.images import READ_SUFFIXES
from vqclip.common.paths import check_local, is_file
from vqclip.config.prompts import IMAGE, TEXT, Prompt, parse_prompts
from vqclip.folders.embedding import embed_files
from vqclip.models.perceptor import Perceptor
from vqclip.tools.zeroshot import HOLE, label_vectors

LEFT = 1e-4
"""Length of a sum of unit vectors below which its direction is chance."""


def read_query(query: str) -> list[Prompt]:
    """Read a query: a file of that name is a picture, anything else is prompts: `horse | stripes:0.5 | saddle.png:-1`.

    Raises:
        UsageError: no prompts, one with a stop, or a missing file with a picture's suffix.
    """
    if is_file(query):
        return [Prompt(query)]
    if not query.strip():
        raise UsageError("The query is empty; say what to look for, or name a picture.")
    parts = parse_prompts(query)
    for part in parts:
        if part.kind not in (TEXT, IMAGE) or part.region:
            raise UsageError(f"A query is of texts and pictures; {str(part)!r} is something else.")
        check_local(part.text)
        meant = part.kind == IMAGE or Path(part.text).suffix.lower() in READ_SUFFIXES
        if meant and not is_file(part.text):
            raise UsageError(f"There is no file {part.text!r} to search with; a query is a picture or a text.")
        if part.stop != -math.inf:
            raise UsageError(f"A query has weights, but nothing stops it: write {part.text}:{part.weight:g}.")
    return parts


def texts_of(queries: Iterable[Sequence[Prompt]]) -> list[str]:
    """The parts of queries that are texts, each once."""
    return list(dict.fromkeys(part.text for parts in queries for part in parts if not is_file(part.text)))


def pictures_of(queries: Iterable[Sequence[Prompt]]) -> list[Path]:
    """The parts of queries that are pictures, each once."""
    return list(dict.fromkeys(Path(part.text) for parts in queries for part in parts if is_file(part.text)))


def query_vectors(
    perceptor: Perceptor, queries: Sequence[Sequence[Prompt]], templates: Sequence[str] = (HOLE,)
) -> Tensor:
    """Return the unit vectors (Q, D) of queries: each one the sum of its parts' unit vectors by their weights.

    A text's is the mean over the templates, as `label_vectors` says.

    Raises:
        UsageError: a file that is no picture, nothing is left of a sum, or a template without its hole.
    """
    texts, pictures = texts_of(queries), pictures_of(queries)
    known = dict(zip(texts, label_vectors(perceptor, texts, templates).cpu(), strict=True)) if texts else {}
    for path, found in embed_files(perceptor, pictures):
        if isinstance(found, UsageError):
            raise found
        known[str(path)] = found
    sums = [torch.stack([part.weight * known[_name(part)] for part in parts]).sum(0) for parts in queries]
    return torch.stack([_direction(total) for total in sums])


def _name(part: Prompt) -> str:
    return str(Path(part.text)) if is_file(part.text) else part.text


def _direction(total: Tensor) -> Tensor:
    if total.norm() < LEFT:
        raise UsageError("The parts of the query cancel each other out; change a weight.")
    return F.normalize(total, dim=0)
