"""Searching a folder of pictures by a text or by another picture."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import torch
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.paths import is_file
from vqclip.folders.embedding import embed_files
from vqclip.folders.inputs import is_excluded
from vqclip.folders.search_index import Index
from vqclip.models.perceptor import Perceptor

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
    if is_file(query):
        ((_, found),) = embed_files(perceptor, [Path(query)])
        if isinstance(found, UsageError):
            raise found
        return found
    if Path(query).suffix.lower() in PICTURE_SUFFIXES:
        raise UsageError(f"There is no file {query!r} to search with; a query is a picture or a text.")
    if not query.strip():
        raise UsageError("The query is empty; say what to look for, or name a picture.")
    return perceptor.encode_text([query])[0].cpu()


def find(index: Index, folder: Path, query: Tensor, top: int, exclude: Sequence[str] = ()) -> list[Hit]:
    """Return the `top` pictures of an index of `folder` nearest to a unit vector (D,), best first.

    Exact: every picture is compared, but those excluded, as `inputs.walk` says. Equal scores keep the order of their
    names.
    """
    scores = torch.from_numpy(index.vectors) @ query.float() if index.names else torch.zeros(0)
    names = enumerate(index.names) if exclude else ()
    left_out = [number for number, name in names if is_excluded(PurePath(name), exclude)]
    scores[left_out] = -torch.inf
    top = min(top, len(scores) - len(left_out))
    if top == 0:
        return []
    last = scores.topk(top).values[-1]  # of equal scores at the end, `topk` takes any
    best = (scores >= last).nonzero().flatten().tolist()
    order = sorted(best, key=lambda number: (-float(scores[number]), index.names[number]))
    return [Hit(folder / index.names[number], float(scores[number])) for number in order[:top]]
