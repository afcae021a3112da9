"""Reading what a user wrote, as data: text, YAML and JSON of bounded size, with one kind of failure each."""

import json
import os
import re
import sys
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from vqclip.common.errors import UsageError

LIST_LIMIT = 64_000_000
"""Bytes of a list of jobs, prompts, labels or files that are read."""

YAML_LIMIT = 200_000
"""Bytes of a config that are read; PyYAML takes up to ten seconds for as many."""

DEEPEST = 50
"""Brackets within brackets that YAML and JSON may hold."""

BRACKETS = re.compile(r'"(?:[^"\\]|\\.)*+"?|([\[{])|([\]}])', re.DOTALL)
"""A string of JSON, whole or torn, or an opening or a closing bracket."""


def utf8(text: str) -> str:
    """Write what stands in a text for bytes of a file's name that are no text as JSON does: `\\udcfc`."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def read_text(path: Path | str, what: str, limit: int = LIST_LIMIT) -> str:
    """Read a UTF-8 text file of at most `limit` bytes, without its byte order mark.

    `what` is how the sentence calls it: "the config", "the labels in".

    Raises:
        UsageError: missing, not readable, not UTF-8, or longer.
    """
    name = f"{what} {os.fspath(path)!r}"
    try:
        with Path(path).open("rb") as file:
            return decode(read_limited(file, name, limit), name)
    except (OSError, ValueError) as error:  # ValueError: no path of a file (a NUL in it)
        reason = error.strerror if isinstance(error, OSError) else None
        raise UsageError(f"Cannot read {name}: {reason or 'this can be no path of a file'}.") from error


def read_limited(file: BinaryIO, name: str, limit: int = LIST_LIMIT) -> bytes:
    """Read an open file to its end, or refuse it after `limit` bytes; `name` says in the sentence what it is.

    Raises:
        UsageError: it is longer.
    """
    data = file.read(limit + 1)
    if len(data) > limit:
        raise UsageError(f"Cannot read {name}: it is longer than {limit / 1e6:g} MB.")
    return data


def read_stdin(name: str, limit: int = LIST_LIMIT) -> bytes:
    """Read standard input to its end, as `read_limited`.

    Raises:
        UsageError: it is longer, closed, or cannot be read.
    """
    try:
        return read_limited(sys.stdin.buffer, name, limit)
    except (OSError, AttributeError, ValueError) as error:  # AttributeError: Python has no stdin where it is closed
        raise UsageError(f"Cannot read {name}: {getattr(error, 'strerror', None) or 'it is closed'}.") from error


def decode(data: bytes, name: str) -> str:
    """Turn bytes into text, without a byte order mark; `name` says in the sentence what they are.

    Raises:
        UsageError: they are no UTF-8; the sentence names the line.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise UsageError(f"Cannot read {name}: line {line} is not UTF-8 text; save it as UTF-8.") from error


def parse_json(text: str | bytes) -> Any:
    """Parse JSON; what JSON has no word for (NaN, Infinity) is refused, and so is what is nested deeper than DEEPEST.

    Raises:
        ValueError: whatever is wrong with it.
    """
    if isinstance(text, bytes):
        text = text.decode(json.detect_encoding(text))
    if text.count("[") + text.count("{") > DEEPEST and _depth(text) > DEEPEST:
        raise ValueError("nested too deeply")
    return json.loads(text, parse_constant=_refuse)


def _depth(text: str) -> int:
    """How deep the brackets of a JSON text go; those inside strings do not count."""
    depth = deepest = 0
    for found in BRACKETS.finditer(text):
        depth += 1 if found[1] else -1 if found[2] else 0
        deepest = max(deepest, depth)
    return deepest


def _refuse(word: str) -> None:
    raise ValueError(f"{word} is no number of JSON")


def parse_yaml(text: str, source: str, loader: "type[PlainLoader] | None" = None) -> Any:
    """Parse YAML that holds nothing but texts, numbers, truth values, lists and tables of these.

    Dates stay text; a `loader` of your own may know fewer types. Other tags (`!!timestamp`, `!!python/…`) and aliases
    (`*name`, a few lines of which stand for billions of values) are refused.

    Raises:
        UsageError: whatever is wrong with it; the sentence names `source` and the line.
    """
    try:
        return yaml.load(text, loader or PlainLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{source}{where} is not usable YAML: {reason}.") from error
    except RecursionError as error:
        raise UsageError(f"{source} is not usable YAML: it is nested too deeply.") from error
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError) as error:  # PyYAML's constructors
        raise UsageError(f"{source} is not usable YAML: a value does not fit its tag ({error}).") from error


class PlainLoader(yaml.SafeLoader):
    """Knows the types of JSON only, no aliases, and brackets within brackets to a depth of DEEPEST."""

    def fetch_flow_collection_start(self, kind: type[yaml.Token]) -> None:
        """Refuse brackets that are too deep."""
        if self.flow_level >= DEEPEST:  # the scanner's time grows with the square of it
            raise yaml.MarkedYAMLError(problem="nested too deeply", problem_mark=self.get_mark())
        super().fetch_flow_collection_start(kind)

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Refuse aliases."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark
            raise yaml.MarkedYAMLError(problem="aliases (`*name`) are not read", problem_mark=mark)
        return super().compose_node(parent, index)


PLAIN = {f"tag:yaml.org,2002:{kind}" for kind in ("null", "bool", "int", "float", "str", "seq", "map", "merge")}
PlainLoader.yaml_constructors = {
    tag: construct for tag, construct in yaml.SafeLoader.yaml_constructors.items() if tag in PLAIN or tag is None
}
PlainLoader.yaml_implicit_resolvers = {
    letter: [(tag, pattern) for tag, pattern in resolvers if tag in PLAIN]
    for letter, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
