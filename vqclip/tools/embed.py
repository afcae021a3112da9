"""Vectors of what texts and pictures mean, and of what others mean less: for `@vector:FILE` in a prompt."""

from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.images import READ_SUFFIXES, open_image, to_tensor
from vqclip.common.paths import is_file, is_folder
from vqclip.common.text import utf8
from vqclip.guidance.vectors import mean_vector
from vqclip.models.perceptor import Perceptor
from vqclip.pipeline.targets import picture_vector

LEFT = 1e-3
"""Length of a difference below which both sides mean the same."""


def check_said(words: Sequence[str]) -> None:
    """Refuse what is neither a text nor a picture that is there.

    Raises:
        UsageError: an empty text, one that is no UTF-8, a folder, or a missing file with a picture's suffix.
    """
    for word in words:
        if not word.strip():
            raise UsageError("A text is empty; say what the vector shall mean.")
        if is_folder(word):
            raise UsageError(f"{word!r} is a folder; name its pictures.")
        if not is_file(word) and utf8(word) != word:
            raise UsageError(f"{utf8(word)!r} is neither a picture's file nor UTF-8 text.")
        if Path(word).suffix.lower() in READ_SUFFIXES and not is_file(word):
            raise UsageError(f"Cannot read the image {word!r}: No such file.")


def embed(perceptor: Perceptor, words: Sequence[str], minus: Sequence[str] = ()) -> Tensor:
    """Return the unit vector (D,) in the middle of texts and pictures; with `minus`, that from the middle of these to
    it, as `text_difference`.

    Raises:
        UsageError: a picture that cannot be read, or both mean the same.
    """
    meant = mean_vector(_each(perceptor, words))
    if not minus:
        return meant
    difference = meant - mean_vector(_each(perceptor, minus))
    if float(difference.norm()) < LEFT:
        raise UsageError("What is given and what is taken away mean the same, so nothing is left; change one of them.")
    return F.normalize(difference, dim=0)


def _each(perceptor: Perceptor, words: Sequence[str]) -> Tensor:
    return torch.stack([_one(perceptor, word) for word in words])


def _one(perceptor: Perceptor, word: str) -> Tensor:
    if is_file(word):
        return picture_vector(perceptor, to_tensor(open_image(word)))
    return perceptor.encode_text([word])[0]
