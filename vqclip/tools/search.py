"""Searching a folder of pictures by texts and by other pictures."""

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.paths import check_local, is_file
from vqclip.config.prompts import IMAGE, TEXT, Prompt, parse_prompts
from vqclip.folders.embedding import embed_files
from vqclip.folders.inputs import is_excluded
from vqclip.folders.search_index import Index
from vqclip.models.perceptor import Perceptor

PICTURE_SUFFIXES = frozenset(
    (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".avif", ".heic", ".ppm", ".pgm")
)

LEFT = 1e-4
"""Length of a sum of unit vectors below which its direction is chance."""


@dataclass(frozen=True)
class Hit:
    """A picture that was found, and its cosine similarity to the query."""

    path: Path
    score: float


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
        if Path(part.text).suffix.lower() in PICTURE_SUFFIXES and not is_file(part.text):
            raise UsageError(f"There is no file {part.text!r} to search with; a query is a picture or a text.")
        if part.stop != -math.inf:
            raise UsageError(f"A query has weights, but nothing stops it: write {part.text}:{part.weight:g}.")
    return parts


def query_vector(perceptor: Perceptor, parts: Sequence[Prompt]) -> Tensor:
    """Return the unit vector (D,) of a query: the sum of its texts' and pictures' unit vectors by their weights.

    Raises:
        UsageError: a file that is no picture, or nothing is left of the sum.
    """
    total = torch.stack([part.weight * _part(perceptor, part.text) for part in parts]).sum(0)
    if total.norm() < LEFT:
        raise UsageError("The parts of the query cancel each other out; change a weight.")
    return F.normalize(total, dim=0)


def _part(perceptor: Perceptor, text: str) -> Tensor:
    if not is_file(text):
        return perceptor.encode_text([text])[0].cpu()
    ((_, found),) = embed_files(perceptor, [Path(text)])
    if isinstance(found, UsageError):
        raise found
    return found


def find(
    index: Index,
    folder: Path,
    query: Tensor,
    top: int,
    exclude: Sequence[str] = (),
    given: Sequence[Path] = (),
    least: float = -1.0,
) -> list[Hit]:
    """Return the `top` pictures of an index of `folder` nearest to a unit vector (D,), best first, none below `least`.

    Exact: every picture is compared, but those excluded, as `inputs.walk` says, and those `given` in the query. Equal
    scores keep the order of their names.
    """
    scores = torch.from_numpy(index.vectors) @ query.float() if index.names else torch.zeros(0)
    names = enumerate(index.names) if exclude else ()
    left_out = [number for number, name in names if is_excluded(PurePath(name), exclude)]
    asked = {os.path.relpath(picture.resolve(), folder.resolve()) for picture in given}
    left_out += [number for number, name in enumerate(index.names) if name in asked] if asked else []
    scores[left_out] = -torch.inf
    top = min(top, int((scores >= least).sum()))
    if top == 0:
        return []
    last = scores.topk(top).values[-1]  # of equal scores at the end, `topk` takes any
    best = (scores >= last).nonzero().flatten().tolist()
    order = sorted(best, key=lambda number: (-float(scores[number]), index.names[number]))
    return [Hit(folder / index.names[number], float(scores[number])) for number in order[:top]]
