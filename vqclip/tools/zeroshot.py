"""Comparing pictures with texts by CLIP: how well each fits, and which of several labels fits best.

Zero-shot classification as in Radford et al. 2021 (https://arxiv.org/abs/2103.00020, section 3.1): a label's vector
is the mean of its captions' over several templates.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.paths import at_home
from vqclip.common.text import read_text
from vqclip.models.perceptor import Perceptor

TEMPLATES = ("a {}", "a picture of a {}", "an illustration of a {}", "a photo of a {}")
"""What a label is put into where the user gives no template."""

ONE = ("a {}",)
"""What a text of the background is put into: there are many, and each counts for little."""

HOLE = "{}"

SAME = 0.8
"""Cosine similarity of two texts from which a word of the background means what a label means, and is left out."""


@dataclass(frozen=True)
class Calibration:
    """How sure a model is: the `scale` of its cosines in a softmax, and what is added to each text of the background
    there, in logits: by less than 0, many texts together weigh no more than a few labels."""

    scale: float
    offset: float = 0.0


CALIBRATED: Mapping[str, Calibration] = {"embedded": Calibration(scale=31.9, offset=-5.8)}
"""How a model that comes with vqclip answers beside all words that it knows; fitted to held-out scenes, where half of
the sets of labels hold what is shown, by `python scripts/measure/looking.py --calibrate`."""


def probabilities(perceptor: Perceptor, cosines: Tensor) -> Tensor:
    """Turn cosine similarities (N, P) into the probabilities (N, P) that the model was trained to give.

    A softmax over the texts, each row summing to 1; for the models of the SigLIP kind each pair's own sigmoid
    (Zhai et al. 2023, https://arxiv.org/abs/2303.15343).
    """
    logits = perceptor.scale * cosines
    return logits.softmax(1) if perceptor.bias is None else (logits + perceptor.bias).sigmoid()


def chances(perceptor: Perceptor, labels: Tensor, background: Tensor | None, sure: Calibration) -> Tensor:
    """Turn cosine similarities to labels (L,) into their probabilities (L,), and with those to a `background` (B,) of
    other texts into (L + 1,): the last is that of none of the labels.

    A softmax over labels and background, whose share is the sum over its texts; for the models of the SigLIP kind each
    pair's own sigmoid, and the largest of the background's.
    """
    if perceptor.bias is not None:
        each = probabilities(perceptor, torch.cat([labels, *([background] if background is not None else [])])[None])[0]
        return each if background is None else torch.cat([each[: len(labels)], each[len(labels) :].amax(0, True)])
    if background is None:
        return (sure.scale * labels).softmax(0)
    none = (sure.scale * background + sure.offset).logsumexp(0, True)
    return torch.cat([sure.scale * labels, none]).softmax(0)


def others(background: Tensor, labels: Tensor) -> Tensor:
    """Return which of the texts (B, D) mean something else than every label (L, D), as True (B,)."""
    return (background @ labels.t()).amax(1) < SAME


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
    found = parse_list(given)
    if len(found) < 2:
        raise UsageError(f"Give at least two different labels to choose from, not {len(found)}: -l cat,dog,person")
    return found


def parse_list(given: Sequence[str]) -> list[str]:
    """Turn `cat,dog` and `@texts.txt` (one a line, `#` for comments) into texts, each once.

    Raises:
        UsageError: a file that cannot be read.
    """
    texts: list[str] = []
    for word in given:
        texts += _read_labels(at_home(word[1:])) if word.startswith("@") else word.split(",")
    return list(dict.fromkeys(text.strip() for text in texts if text.strip()))


def _read_labels(path: str) -> list[str]:
    lines = read_text(path, "the labels in").splitlines()
    return [line for line in lines if not line.lstrip().startswith("#")]
