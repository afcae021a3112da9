r"""Plain characters in a prompt: `\|` and the like; and how a mistake in a prompt is told, by its column."""

from vqclip.common.errors import UsageError

ESCAPABLE = "|:\\{}[]@"

HIDDEN = "\0"
"""Stands for an escaped character while the structure is read."""

AROUND = 60
"""Characters before and behind a mistake that its sentence repeats."""


def unescape(source: str) -> tuple[list[str], str]:
    r"""Split into characters, and the same with every escaped one hidden.

    Each entry of the first list keeps its place, so both have one element per *read* character.

    Raises:
        UsageError: a `\` at the end.
    """
    characters: list[str] = []
    structure: list[str] = []
    place = 0
    while place < len(source):
        character = source[place]
        if character == "\\" and place + 1 == len(source):
            raise mistake(source, place, "a backslash ends the prompt; write \\\\ for a plain one")
        escaped = _escapes(source, place)
        characters.append(source[place + 1] if escaped else character)
        structure.append(HIDDEN if escaped else character)
        place += 2 if escaped else 1
    return characters, "".join(structure)


def column(source: str, read_place: int) -> int:
    """Turn a place among the read characters into a place in `source`."""
    place = 0
    for _ in range(read_place):
        place += 2 if _escapes(source, place) else 1
    return place


def mistake(source: str, place: int, reason: str) -> UsageError:
    """Say what is wrong at a place in `source`, counted from 0."""
    start = max(0, place - AROUND) if len(source) > 2 * AROUND else 0
    shown = source[start : start + 2 * AROUND]
    cut = "…" if shown != source else ""
    return UsageError(f"Prompt {shown!r}{cut}, column {place + 1}: {reason}{'' if reason.endswith('?') else '.'}")


def _escapes(source: str, place: int) -> bool:
    follower = source[place + 1 : place + 2]
    return source[place] == "\\" and follower != "" and follower in ESCAPABLE
