"""Searching a folder's index for what is nearest to a query."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import torch
from torch import Tensor

from vqclip.folders.inputs import is_excluded
from vqclip.folders.search_index import Index


@dataclass(frozen=True)
class Hit:
    """A picture that was found, and its cosine similarity to the query."""

    path: Path
    score: float


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
