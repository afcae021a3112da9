"""Raw data brought to declared types, at the edge: after `fit` nothing else can be reached by what a file holds."""

import dataclasses
import functools
import re
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

from vqclip.common.errors import UsageError
from vqclip.common.paths import at_home
from vqclip.common.registry import LONGEST, did_you_mean, shown

FilePath = Annotated[str, "path"]
"""A file on this machine; `~/` opens."""

Interval = Annotated[int, "interval"]
"""A number of steps; as text also a share of the run's, `50%`, of which the loader makes a number."""

PERCENT = re.compile(r"\s*([0-9]{1,3}(?:\.[0-9]{1,3})?)\s*%\s*", re.ASCII)

SWITCHES = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


@functools.cache
def hints(kind: Any) -> dict[str, Any]:
    """Return the declared types of a dataclass's fields."""
    return get_type_hints(kind, include_extras=True)


def fit(kind: Any, value: Any, key: str = "") -> Any:
    """Bring `value` to the type `kind`: a scalar, `X | None`, `list[X]`, `tuple[X, ...]`, `dict[str, X]`, or a
    dataclass of these.

    For a dataclass it takes a mapping that may hold some of the fields only, and returns such a mapping. Scalars come
    as they are or as text, as YAML, CSV and the command line have them. `key` is the dotted name in the sentences.

    Raises:
        UsageError: what does not fit, by its key, and what belongs there; or a key that is not known.
    """
    if get_origin(kind) in (types.UnionType, Union):
        return None if value is None else fit(get_args(kind)[0], value, key)
    if dataclasses.is_dataclass(kind):
        return {name: fit(_declared(kind, name, key), each, _below(key, name)) for name, each in _pairs(value, key)}
    if get_origin(kind) is dict:
        return {name: fit(get_args(kind)[1], each, _below(key, name)) for name, each in _pairs(value, key)}
    if (listed := get_origin(kind)) in (list, tuple):
        if not isinstance(value, list | tuple):
            raise _misfit(key, value, "a list, e.g. [a, b]")
        return listed(fit(get_args(kind)[0], each, f"{key}[{number}]") for number, each in enumerate(value))
    convert, rule = SCALARS[kind]
    try:
        return convert(value)
    except (ValueError, OverflowError) as error:
        raise _misfit(key, value, rule) from error


def make(kind: Any, data: Mapping[str, Any]) -> Any:
    """Make the dataclass of a whole mapping that `fit` returned."""
    declared = hints(kind)
    sections = {name for name in data if dataclasses.is_dataclass(declared[name])}
    return kind(**{name: make(declared[name], each) if name in sections else each for name, each in data.items()})


def _whole(value: object) -> int:
    if isinstance(value, str) and len(value) <= LONGEST and value.isascii():
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise ValueError


def _interval(value: object) -> object:
    """A whole number, or a share as it is written; see `in_steps`."""
    return value if isinstance(value, str) and PERCENT.fullmatch(value) else _whole(value)


def in_steps(interval: object, steps: int) -> object:
    """Turn a share such as `50%` into a number of steps, at least 1 where it is no share of nothing; a number stays."""
    found = PERCENT.fullmatch(interval) if isinstance(interval, str) else None
    if found is None:
        return interval
    return max(1, round(float(found[1]) / 100 * steps)) if float(found[1]) else 0


def _number(value: object) -> float:
    if isinstance(value, str) and value.isascii():
        return float(value.replace(".inf", "inf").replace(".nan", "nan"))  # YAML's own names of these two
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise ValueError


def _switch(value: object) -> bool:
    if isinstance(value, str) and value.lower() in SWITCHES:
        return SWITCHES[value.lower()]
    if isinstance(value, bool):
        return value
    raise ValueError


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError
    return value


def _path(value: object) -> str:
    text = _text(value)
    if "://" in text:
        raise ValueError
    return at_home(text)


SCALARS: Mapping[object, tuple[Callable[[object], object], str]] = {
    int: (_whole, "a whole number"),
    float: (_number, "a number"),
    bool: (_switch, "true or false"),
    str: (_text, "text; quote one that holds `: `"),
    Interval: (_interval, "a whole number of steps, or a share of them such as 50%"),
    FilePath: (_path, "a file on this machine; fetch what has a URL first, e.g. with curl -LO"),
}


def _pairs(value: object, key: str) -> list[tuple[str, Any]]:
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise _misfit(key, value, "`name: value` pairs")
    return list(value.items())


def _declared(kind: Any, name: str, key: str) -> Any:
    if name not in hints(kind):
        raise UsageError(f"unknown key {_below(key, name)!r}; {did_you_mean(name, hints(kind))}")
    return hints(kind)[name]


def _below(key: str, name: str) -> str:
    return f"{key}.{name}" if key else name


def _misfit(key: str, value: object, rule: str) -> UsageError:
    return UsageError(f"{key or 'it'} is {shown(value)}; it must be {rule}.")
