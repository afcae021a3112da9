"""What a plan's reference tells about texts: aims for the guides, and examples of what to draw where."""

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.paths import embedded_dir
from vqclip.config.prompts import TEXT, Prompt
from vqclip.config.regions import parted, place_region
from vqclip.config.schema import NO_REFERENCE, TargetsConfig
from vqclip.config.starts import EMBEDDED
from vqclip.folders.search_index import update_index
from vqclip.guidance.content import Common, Example, content, seen_in
from vqclip.guidance.losses import Losses
from vqclip.guidance.objective import Targets
from vqclip.guidance.places import GRID, box_map, window
from vqclip.guidance.reference import AIMS, Pairs
from vqclip.guidance.vectors import slerp
from vqclip.models.features import StageFeatures
from vqclip.models.files import ClipFiles
from vqclip.models.perceptor import Perceptor
from vqclip.pipeline.embedded_reference import EmbeddedReference
from vqclip.pipeline.folder_reference import FolderReference
from vqclip.pipeline.plan import Plan


class Reference(Protocol):
    """Captioned pictures as a perceptor sees them."""

    @property
    def digest(self) -> str:
        """The SHA-256 that stands for which pictures they are."""

    def near(self, text: Tensor, count: int) -> Pairs:
        """Return the pictures whose captions are nearest to a text (D,), at most `count`, with their captions."""

    def examples(self, text: Tensor, count: int) -> list[Tensor]:
        """Return the same pictures themselves, (1, 3, h, w) in [0, 1] each."""


def read_references(
    plan: Plan, perceptors: Sequence[Perceptor], files: Sequence[ClipFiles]
) -> Sequence[Reference] | None:
    """Look at the plan's reference with each perceptor, whose files these are; None where there is none.

    Raises:
        UsageError: there are no pictures.
    """
    named = plan.config.targets.reference
    if named == NO_REFERENCE:
        return None
    if named == EMBEDDED:
        return [EmbeddedReference(embedded_dir(), perceptor) for perceptor in perceptors]
    folder = Path(named)
    references = [
        FolderReference(folder, perceptor, update_index(folder, perceptor, each))
        for perceptor, each in zip(perceptors, files, strict=True)
    ]
    if not references[0].index.names:
        raise UsageError(f"targets.reference {named!r} holds no picture.")
    return references


def wanted_texts(plan: Plan) -> Iterator[tuple[int, int, Prompt]]:
    """The texts that pictures of a plan shall show: the row of each in the targets, its picture, and the prompt."""
    prompts = ((number, prompt) for number, picture in enumerate(plan.pictures) for prompt in picture.prompts)
    return (
        (row, number, prompt)
        for row, (number, prompt) in enumerate(prompts)
        if prompt.weight > 0 and prompt.kind == TEXT
    )


def aimed(targets: Targets, plan: Plan, reference: Reference) -> Targets:
    """Return the targets with the vectors of the wanted texts moved to where their pictures are."""
    if plan.config.targets.lean == 0:
        return targets
    moved = targets.embeddings.clone()
    known: dict[str, Tensor] = {}
    for row, _, prompt in wanted_texts(plan):
        if prompt.text not in known:
            known[prompt.text] = _aim(targets.embeddings[row], plan.config.targets, reference)
        moved[row] = known[prompt.text]
    return dataclasses.replace(targets, embeddings=moved)


def _aim(text: Tensor, how: TargetsConfig, reference: Reference) -> Tensor:
    return slerp(text, AIMS[how.aim](text, reference.near(text, how.neighbours)), how.lean)


def drawn_after(
    targets: Targets, plan: Plan, references: Sequence[Reference], perceptors: Sequence[Perceptor]
) -> Losses:
    """Return the loss that draws pictures after the reference's examples of their texts, with its weight, if it has
    one and there are texts. The first perceptor, whose targets these are, chooses the examples; all look at them.

    Of a text with a region they lie there. Of one that places things ("a cat to the left of a dog") each thing has
    examples of its own in its half.

    Raises:
        UsageError: a perceptor's tower cannot be looked into.
    """
    how = plan.config.targets
    if how.content == 0:
        return {}
    sights = [StageFeatures(perceptor) for perceptor in perceptors]
    known: dict[str, Sequence[Sequence[Common]]] = {}
    examples = []
    for row, number, prompt in wanted_texts(plan):
        placed = [(prompt.text, targets.regions[row].cpu())] if row in targets.regions else _placed(prompt.text)
        for words, square in placed:
            if words not in known:
                text = perceptors[0].encode_text([words], warn=False)[0]
                known[words] = seen_in(references[0].examples(text, how.examples), sights)
            examples.append(Example(number, prompt.weight, square, known[words]))
    return {"content": (content(examples, sights), how.content)} if examples else {}


def _placed(text: str) -> list[tuple[str, Tensor | None]]:
    """The things of a text, each with the window that it lies in; the whole has none."""
    return [
        (words, window(box_map(*place_region(region, GRID, GRID))) if region else None)
        for words, region in parted(text)
    ]
