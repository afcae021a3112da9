"""Comparing pictures with texts by CLIP: how well each fits, and which of several labels fits best.

Zero-shot classification as in Radford et al. 2021 (https://arxiv.org/abs/2103.00020, section 3.1): a label's vector
is the mean of its captions' over several templates.
"""

import re
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.text import read_text
from vqclip.models.perceptor import Perceptor

TEMPLATES = ("a {}", "a picture of a {}", "an illustration of a {}", "a photo of a {}")
"""What a label is put into where the user gives no template."""

HOLE = "{}"


def probabilities(perceptor: Perceptor, cosines: Tensor) -> Tensor:
    """Turn cosine similarities (N, P) into the probabilities (N, P) that the model was trained to give.

    A softmax over the texts, each row summing to 1; for the models of the SigLIP kind each pair's own sigmoid
    (Zhai et al. 2023, https://arxiv.org/abs/2303.15343).
    """
    logits = perceptor.scale * cosines
    return logits.softmax(1) if perceptor.bias is None else (logits + perceptor.bias).sigmoid()


def label_vectors(perceptor: Perceptor, labels: Sequence[str], templates: Sequence[str] = TEMPLATES) -> Tensor:
    """Return a unit vector for each label, (L, D): the mean over its captions, one per template.

    Raises:
        UsageError: a template without its hole `{}`.
    """
    for template in templates:
        if HOLE not in template:
            raise UsageError(f"The template {template!r} has no {HOLE} where the label goes.")
    captions = [fill(template, label) for label in labels for template in templates]
    vectors = torch.cat(
        [perceptor.encode_text(captions[start : start + 256]) for start in range(0, len(captions), 256)]
    )
    return F.normalize(vectors.unflatten(0, (len(labels), len(templates))).mean(1), dim=-1)


def fill(template: str, label: str) -> str:
    """Put the label into every hole, and `an` for `a` before a vowel."""
    if label[:1].lower() in "aeiou":
        template = re.sub(r"(?<!\S)a\s+\{\}", "an {}", template)
    return template.replace(HOLE, label)


def parse_labels(given: Sequence[str]) -> list[str]:
    """Turn `cat,dog` and `@labels.txt` (one a line, `#` for comments) into labels, each once.

    Raises:
        UsageError: fewer than two different labels, or a file that cannot be read.
    """
    labels: list[str] = []
    for word in given:
        labels += _read_labels(Path(word[1:])) if word.startswith("@") else word.split(",")
    found = list(dict.fromkeys(label.strip() for label in labels if label.strip()))
    if len(found) < 2:
        raise UsageError(f"Give at least two different labels to choose from, not {len(found)}: -l cat,dog,person")
    return found


def _read_labels(path: Path) -> list[str]:
    lines = read_text(path, "the labels in").splitlines()
    return [line for line in lines if not line.lstrip().startswith("#")]
