"""How a prompt is read: the pictures that it stands for, their parts, and what each guide reads of the texts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from vqclip.config.prompts import TEXT, Prompt
from vqclip.config.vocabulary import known_words, unknown_words
from vqclip.models.files import EMBEDDED, ClipFiles
from vqclip.models.perceptor import quiet_open_clip, tokeniser_of

MARKS = 2
"""Tokens that stand for the start and the end of a text."""


@dataclass(frozen=True)
class Reading:
    """What a guide reads of a text: how many tokens it has, how many are read, what these say, the words behind them,
    which do not count, and those that it never learned (None where that is not known).
    """

    guide: str
    tokens: int
    room: int
    read: str
    ignored: str
    unknown: list[str] | None


def read_by(files: Sequence[ClipFiles], prompts: Sequence[Prompt]) -> list[list[Reading]]:
    """Return for each prompt what each guide reads of it; nothing where it is no text. No weights are loaded.

    A guide whose tokeniser cannot count is left out.
    """
    known = known_words()
    with quiet_open_clip():
        tokenisers = [(each, tokeniser_of(each)) for each in files]
    countable = [(each, tokeniser) for each, tokeniser in tokenisers if hasattr(tokeniser, "encode")]
    return [
        [_read(each, tokeniser, prompt.text, known) for each, tokeniser in countable] if prompt.kind == TEXT else []
        for prompt in prompts
    ]


def _read(files: ClipFiles, tokeniser: Any, text: str, known: frozenset[str]) -> Reading:
    tokens, room = tokeniser.encode(text), tokeniser.context_length - MARKS
    read, ignored = (tokeniser.decode(part).strip() if part else "" for part in (tokens[:room], tokens[room:]))
    unknown = unknown_words(text, known) if files.name.startswith(EMBEDDED) else None
    return Reading(files.name, len(tokens), room, read, ignored, unknown)
