"""The prompt language: `text:weight:stop`, joined by `|`, with backslash escapes."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass

from vqclip.common.errors import UsageError

ESCAPABLE = "|:\\"
NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
TAIL = re.compile(rf"\s*({NUMBER})\s*", re.ASCII)
ALMOST = re.compile(r"\s*(?:[+\-−.]*[\d½¼¾][\d.,_/%eE+\-−]*x?|[+\-−]?(?:nan|inf|infinity))\s*", re.IGNORECASE)
"""What nobody writes behind a colon but as a number."""

FOREIGN = re.compile(rf"(?<![\d:]):{{1,2}}{NUMBER}(?=[\s,)\]])", re.ASCII)
"""Weights as other tools write them: `(red cube:0.15), …` and `mountain:1 man:1`."""

WHITESPACE = " \t\n\r\f\v"
LONGEST = 20_000
"""Characters of a prompt that are read; CLIP reads some 300 of a text."""

AROUND = 60
"""Characters before and behind a mistake that its sentence repeats."""

HIDDEN = "\0"  # stands for an escaped character while the structure is read


@dataclass(frozen=True)
class Prompt:
    """One text that guides a picture.

    `weight` scales its loss and pushes away when negative. `stop` is the signed distance below
    which the text no longer pulls (published VQGAN+CLIP notebooks by Katherine Crowson).
    """

    text: str
    weight: float = 1.0
    stop: float = -math.inf

    def __str__(self) -> str:
        """Write the prompt so that `parse_prompts` reads the same one back."""
        text = re.sub(r"[|:\\]", lambda found: "\\" + found.group(), self.text)
        tails = [self.weight, self.stop] if self.stop != -math.inf else [self.weight]
        if tails == [1]:
            return text
        # The space keeps a tail after `1980` or `http://host` from being read as text.
        return f"{text} " + "".join(f":{_decimal(number)}" for number in tails)


def parse_prompts(source: str) -> list[Prompt]:
    r"""Read a combination such as `a red apple:2 | blurry:-0.5:-0.9`.

    `|` joins prompts, `:weight` and `:weight:stop` are numeric tails (`2`, `-.5`, `1e-1`, with blanks around them),
    and `\|`, `\:`, `\\` are plain characters. A tail is text when the character before the first one is a digit
    (`10:30`) or when its word holds `://`; a space before the tail makes it a tail again. Takes time in proportion to
    the length.

    Raises:
        UsageError: longer than LONGEST, no UTF-8, nothing between two `|`, a third tail, a tail that is almost a
            number (`:nan`, `:1,5`, `:50%`), or a `\` at the end; the message gives the column, counted from 1.
    """
    if len(source) > LONGEST:
        raise UsageError(f"A prompt has {len(source):,} characters; at most {LONGEST:,} are read.")
    if not is_text(source):
        raise UsageError(f"Prompt {source[:AROUND]!r} holds bytes that are no UTF-8 text; write it in UTF-8.")
    text, structure = _unescape(source)
    prompts, start = [], 0
    for end in [*(i for i, mark in enumerate(structure) if mark == "|"), len(structure)]:
        prompts.append(_parse_part(source, text[start:end], structure[start:end], start))
        start = end + 1
    return prompts


def is_text(source: str) -> bool:
    """Whether UTF-8 can write it: bytes of another encoding come from the shell as halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in source)


def _unescape(source: str) -> tuple[list[str], str]:
    """Split into characters, and the same with every escaped one hidden.

    Each entry of the first list keeps its place, so both have one element per *read* character.
    """
    characters: list[str] = []
    structure: list[str] = []
    place = 0
    while place < len(source):
        character = source[place]
        follower = source[place + 1 : place + 2]
        if character == "\\" and not follower:
            raise _error(source, place, "a backslash ends the prompt; write \\\\ for a plain one")
        escaped = character == "\\" and follower in ESCAPABLE
        characters.append(follower if escaped else character)
        structure.append(HIDDEN if escaped else character)
        place += 2 if escaped else 1
    return characters, "".join(structure)


def _parse_part(source: str, characters: list[str], structure: str, offset: int) -> Prompt:
    """Read one prompt between two `|`; `offset` is where it starts among the read characters."""
    structure = structure.rstrip()
    body, numbers = _part_tails(structure)
    text = "".join(characters[: len(body)]).strip()

    def wrong(place: int, reason: str) -> UsageError:
        return _error(source, _column(source, offset + place), reason)

    if not text:
        raise wrong(0, "the prompt is empty; write some text here")
    last = body.rfind(":")
    if last >= 0 and not _is_text(body[:last]) and ALMOST.fullmatch(body, last + 1):
        raise wrong(last, "a weight is a number such as 2, -0.5 or 1e-1; write \\: for a plain colon")
    if len(numbers) > 2:
        reason = "at most two numbers may follow a prompt, weight and stop; write \\: for a plain colon"
        raise wrong(len(body), reason)
    if not all(map(math.isfinite, numbers)):
        raise wrong(len(body), "a weight must be a finite number")
    return Prompt(text, *numbers)


def _part_tails(structure: str) -> tuple[str, list[float]]:
    """Part the numeric tails from the body before them."""
    segments = structure.split(":")
    first = len(segments)
    while first > 1 and TAIL.fullmatch(segments[first - 1]):
        first -= 1
    body = ":".join(segments[:first])
    return (structure, []) if _is_text(body) else (body, [float(number) for number in segments[first:]])


def _is_text(body: str) -> bool:
    """Whether a colon behind this belongs to the text (`16:9`, `http://host:80`)."""
    return body[-1:].isdigit() or "://" in body[max(map(body.rfind, WHITESPACE)) + 1 :]


def foreign_weights(prompts: Iterable[Prompt]) -> list[str]:
    """Return a note for each text that holds weights as other tools write them, which are words here."""
    return [
        f"numbers inside {prompt.text!r} are read as words; a weight stands behind a prompt and | joins prompts, "
        "e.g. red cube:0.15 | green sphere:1.3"
        for prompt in prompts
        if FOREIGN.search(prompt.text)
    ]


def _column(source: str, read_place: int) -> int:
    """Turn a place among the read characters into a place in `source`."""
    place = 0
    for _ in range(read_place):
        escaped = source[place] == "\\" and source[place + 1 : place + 2] in ESCAPABLE
        place += 2 if escaped else 1
    return place


def _error(source: str, place: int, reason: str) -> UsageError:
    start = max(0, place - AROUND) if len(source) > 2 * AROUND else 0
    shown = source[start : start + 2 * AROUND]
    cut = "…" if shown != source else ""
    return UsageError(f"Prompt {shown!r}{cut}, column {place + 1}: {reason}.")


def _decimal(number: float) -> str:
    """Write a number in the tail's grammar, which has no exponent."""
    return format(number, "f").rstrip("0").rstrip(".") if abs(number) < 1e15 else format(number, ".0f")
