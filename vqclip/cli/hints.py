"""A note about words that the embedded models never read, for every command that lets one of them read."""

from collections.abc import Iterable

from vqclip.cli.console import Console
from vqclip.config.vocabulary import hint
from vqclip.models.files import EMBEDDED


def note_unknown_words(console: Console, texts: Iterable[str], model: str = EMBEDDED) -> None:
    """Say which words of the texts are unknown, if the model that reads them is one of those that come with vqclip."""
    if model.startswith(EMBEDDED) and (said := hint(texts)):
        console.say(f"Note: {said}.")
