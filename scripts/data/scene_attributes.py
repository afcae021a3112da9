"""What a scene shows and what a caption says of it, as classes: plain supervision beside CLIP's contrast.

One linear map from embeddings to the classes serves pictures and captions alike. It gives both towers a direct answer
for every thing, place, colour and style, and pulls them into one space; a contrast over a small batch teaches the
same things, but takes many times the pictures on a CPU. The map is thrown away after the training.
"""

from collections.abc import Collection, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from scripts.data.scene_styles import STYLES
from scripts.data.scene_things import COLOURS, names
from scripts.data.scenes import OF_RELATION, PATTERNS, PLACES, RELATIONS, SIDES, SIZES, Scene

SLOTS = ("left", "right", "top", "bottom")
# Each question's possible answers; "" is "none" or "as usual".
QUESTIONS: dict[str, tuple[str, ...]] = {
    "thing": names(),
    **{slot: ("", *names()) for slot in SLOTS},
    "paint": ("", *COLOURS),
    "size": ("", *SIZES),
    "ground": ("plain", "graded", *PATTERNS, *PLACES),
    "ground_colour": ("", *COLOURS),
    "style": ("", *STYLES),
}
NUMBERS = {question: {name: number for number, name in enumerate(found)} for question, found in QUESTIONS.items()}
UNSAID = -100  # what torch's cross-entropy passes over
SCALE = 16.0  # of the unit embeddings, so that logits can grow


def where(scene: Scene) -> dict[str, str]:
    """The thing at each of SLOTS that has one by the scene's own words."""
    if scene.place in SIDES:
        return {scene.place: scene.first}
    if scene.place in RELATIONS:
        return dict(zip(OF_RELATION[scene.place], (scene.first, scene.second), strict=True))
    return {}


def answers(scene: Scene) -> dict[str, tuple[str, str]]:
    """Two right answers to each question, often the same."""
    second = scene.second or scene.first
    colours = (scene.first_colour, scene.second_colour) if scene.second else (scene.first_colour,) * 2
    located = where(scene)
    return {
        "thing": (scene.first, second),
        **{slot: (located.get(slot, ""),) * 2 for slot in SLOTS},
        "paint": colours,
        **{name: (getattr(scene, name),) * 2 for name in ("size", "ground", "ground_colour", "style")},
    }


def said_answers(scene: Scene, said: Collection[str]) -> dict[str, tuple[str, str]]:
    """The answers that a caption gives that speaks of these fields of Scene."""
    needed = {"thing": "first", "paint": "first_colour", **dict.fromkeys(SLOTS, "place")}
    return {question: found for question, found in answers(scene).items() if needed.get(question, question) in said}


def targets(found: Sequence[dict[str, tuple[str, str]]]) -> Tensor:
    """Answers as class numbers, (n, questions, 2) long; UNSAID where there is none."""
    unsaid = (UNSAID, UNSAID)
    rows = [
        [
            tuple(NUMBERS[question][name] for name in each[question]) if question in each else unsaid
            for question in QUESTIONS
        ]
        for each in found
    ]
    return torch.tensor(rows)


class Attributes(nn.Module):
    """Unit embeddings (n, width) ─▶ logits of every answer to every question."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.sizes = [len(found) for found in QUESTIONS.values()]
        self.map = nn.Linear(width, sum(self.sizes))

    def forward(self, embeddings: Tensor, right: Tensor) -> Tensor:
        """Mean over the questions of the cross-entropy towards the answers `right` (n, questions, 2)."""
        parts = self.map(SCALE * embeddings).split(self.sizes, 1)
        losses = [
            functional.cross_entropy(logits, right[:, question, side], ignore_index=UNSAID, reduction="sum")
            / (right[:, question, side] != UNSAID).sum().clamp_min(1)
            for question, logits in enumerate(parts)
            for side in (0, 1)
        ]
        return torch.stack(losses).mean()
