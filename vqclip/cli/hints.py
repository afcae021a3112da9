"""A note about words that the embedded models never read, for every command that lets one of them read."""

from collections.abc import Iterable
from pathlib import Path

from vqclip.cli.console import Console
from vqclip.common.errors import UsageError
from vqclip.config.vocabulary import hint
from vqclip.models.files import EMBEDDED

PUBLISHED = "ViT-B-32-256:datacomp_s34b_b86k"
"""The published CLIP model that we recommend for photographs."""


def note_unknown_words(console: Console, texts: Iterable[str], model: str = EMBEDDED) -> None:
    """Say which words of the texts are unknown, if the model that reads them is one of those that come with vqclip."""
    if model.startswith(EMBEDDED) and (said := hint(texts)):
        console.say(f"Note: {said}.")


def note_foreign_pictures(console: Console, pictures: Iterable[Path], model: str) -> None:
    """Say once that a model that comes with vqclip knows drawn scenes only, where one of the pictures is no such."""
    if model.startswith(EMBEDDED) and (picture := _foreign(pictures)):
        console.say(
            f"Note: {str(picture)!r} was not made by vqclip, and the embedded CLIP takes all for drawn scenes. "
            f"For photographs: vqclip models pull {PUBLISHED}, then -m {PUBLISHED}."
        )


def note_painted_photographs(console: Console, pictures: Iterable[Path], model: str) -> None:
    """Say once that the embedded upscaler draws outlines, where one of the pictures may be a photograph."""
    from vqclip.hub.upscaler_catalogue import PLAIN

    if model == EMBEDDED and (picture := _foreign(pictures)):
        console.say(
            f"Note: {str(picture)!r} was not made by vqclip, and the embedded upscaler draws outlines into it. "
            f"For photographs: vqclip models pull {PLAIN}, then -m {PLAIN}."
        )


def _foreign(pictures: Iterable[Path]) -> Path | None:
    """The first of the pictures that vqclip did not make."""
    from vqclip.outputs.picture import read_metadata

    for picture in pictures:
        try:
            read_metadata(picture)
        except UsageError:
            return picture
    return None
