"""Choosing by name from a table, with a helpful failure."""

from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from typing import TypeVar

from vqclip.common.errors import UsageError

T = TypeVar("T")

LONGEST = 60
"""Characters of a wrong value that a sentence repeats."""

SHOWN = 40
"""Known words that a sentence lists."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A sentence fragment that names the nearest known word, else all of them, or the first SHOWN."""
    names = sorted(known)
    near = get_close_matches(name, names, n=1)
    if near:
        return f"did you mean {near[0]!r}?"
    more = f", … ({len(names)} in all)" if len(names) > SHOWN else ""
    return f"known: {', '.join(names[:SHOWN])}{more}." if names else "there is none yet."


def pick(table: Mapping[str, T], name: str, what: str) -> T:
    """Return `table[name]`; `what` is how the choice is called in the error, e.g. "optimiser".

    Raises:
        UsageError: the name is not in the table; the nearest known name is suggested.
    """
    if name not in table:
        raise UsageError(f"Unknown {what} {shown(name)}: {did_you_mean(name, table)}")
    return table[name]


def pick_told(plain: Mapping[str, T], told: Mapping[str, tuple[str, Callable[[str], T]]], spec: str, what: str) -> T:
    """Return what `NAME` or `NAME:ARGUMENT` stands for: an entry of `plain`, or what an entry of `told` makes of its
    argument, of which it holds an example too.

    Raises:
        UsageError: an unknown name, an argument that is missing or too much, or what making it raises.
    """
    name, colon, argument = spec.partition(":")
    pick({**dict.fromkeys(plain), **dict.fromkeys(told)}, name, what)
    if name in plain:
        if colon:
            raise UsageError(f"The {what} {name!r} takes no argument, so there is nothing to say with {argument!r}.")
        return plain[name]
    example, make = told[name]
    if not colon:
        raise UsageError(f"The {what} {name!r} needs an argument, as in {name}:{example}.")
    return make(argument)


def shown(value: object) -> str:
    """Write a wrong value for a sentence: short, and only its kind where it holds others."""
    if isinstance(value, dict | list | tuple):
        return "`name: value` pairs" if isinstance(value, dict) else "a list"
    text = "null" if value is None else repr(value)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}…"
