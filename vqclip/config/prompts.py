"""The prompt language: `text:weight:stop`, joined by `|`, with backslash escapes."""

import math
import re
from dataclasses import dataclass

from vqclip.common.errors import UsageError

ESCAPABLE = "|:\\"
TAIL = r":([+-]?\d+(?:\.\d+)?)"
TAILS = re.compile(rf"(?:{TAIL})+$", re.ASCII)
NOT_A_NUMBER = re.compile(r":[+-]?(?:nan|inf|infinity)(?::|$)", re.IGNORECASE)
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

    `|` joins prompts, `:weight` and `:weight:stop` are numeric tails, and `\|`, `\:`, `\\` are
    plain characters. A tail is text when the character before the first one is a digit (`10:30`)
    or when its word holds `://`; a space before the tail makes it a tail again.

    Raises:
        UsageError: nothing between two `|`, a third tail, `:nan`, or a `\` at the end; the
            message gives the column, counted from 1.
    """
    text, structure = _unescape(source)
    prompts, start = [], 0
    for end in [*(i for i, mark in enumerate(structure) if mark == "|"), len(structure)]:
        prompts.append(_parse_part(source, text[start:end], structure[start:end], start))
        start = end + 1
    return prompts


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
    wrong = NOT_A_NUMBER.search(structure)
    if wrong:
        raise _error(source, _column(source, offset + wrong.start()), "a weight must be a finite number")
    tails = _tails(structure)
    body = structure[: tails.start()] if tails else structure
    text = "".join(characters[: len(body)]).strip()
    if not text:
        raise _error(source, _column(source, offset), "the prompt is empty; write some text here")
    if tails is None:
        return Prompt(text)
    numbers = [float(number) for number in re.findall(TAIL, tails.group(), re.ASCII)]
    if len(numbers) > 2:
        raise _error(
            source,
            _column(source, offset + tails.start()),
            "at most two numbers may follow a prompt, weight and stop; write \\: for a plain colon",
        )
    if not all(map(math.isfinite, numbers)):
        raise _error(source, _column(source, offset + tails.start()), "a weight must be a finite number")
    return Prompt(text, *numbers)


def _tails(structure: str) -> re.Match[str] | None:
    """Find the numeric tails, unless they belong to the text (`16:9`, `http://host:80`)."""
    tails = TAILS.search(structure)
    if tails is None:
        return None
    body = structure[: tails.start()]
    in_number = body[-1:].isdigit()
    in_address = "://" in (re.split(r"\s", body)[-1])
    return None if in_number or in_address else tails


def _column(source: str, read_place: int) -> int:
    """Turn a place among the read characters into a place in `source`."""
    place = 0
    for _ in range(read_place):
        escaped = source[place] == "\\" and source[place + 1 : place + 2] in ESCAPABLE
        place += 2 if escaped else 1
    return place


def _error(source: str, place: int, reason: str) -> UsageError:
    return UsageError(f"Prompt {source!r}, column {place + 1}: {reason}.")


def _decimal(number: float) -> str:
    """Write a number in the tail's grammar, which has no exponent."""
    return format(number, "f").rstrip("0").rstrip(".") if abs(number) < 1e15 else format(number, ".0f")
