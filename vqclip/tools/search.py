"""Searching a folder of pictures by a text or by another picture."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.paths import is_there
from vqclip.models.perceptor import Perceptor
from vqclip.tools.embedding import embed_files
from vqclip.tools.search_index import Index

PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".ppm", ".pgm")
)


@dataclass(frozen=True)
class Hit:
    """A picture that was found, and its cosine similarity to the query."""

    path: Path
    score: float


def query_vector(perceptor: Perceptor, query: str) -> Tensor:
    """Return the unit vector (D,) of a query: an existing file is a picture, anything else a text.

    Raises:
        UsageError: a missing file with a picture's suffix, a file that is no picture, or an empty text.
    """
    if is_there(query) and Path(query).is_file():
        ((_, found),) = embed_files(perceptor, [Path(query)])
        if isinstance(found, UsageError):
            raise found
        return found
    if Path(query).suffix.lower() in PICTURE_SUFFIXES:
        raise UsageError(f"There is no file {query!r} to search with; a query is a picture or a text.")
    if not query.strip():
        raise UsageError("The query is empty; say what to look for, or name a picture.")
    return perceptor.encode_text([query])[0].cpu()


def find(index: Index, folder: Path, query: Tensor, top: int) -> list[Hit]:
    """Return the `top` pictures of an index of `folder` nearest to a unit vector (D,), best first.

    Exact: every picture is compared. Equal scores keep the order of their names.
    """
    if not index.names:
        return []
    scores = torch.from_numpy(index.vectors) @ query.float()
    best = scores.topk(min(top, len(scores))).indices.tolist()
    order = sorted(best, key=lambda number: (-float(scores[number]), index.names[number]))
    return [Hit(folder / index.names[number], float(scores[number])) for number in order]
