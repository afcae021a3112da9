"""YAML as structure only: mappings, lists, text and null. What a text means, the declared types say (`typed.fit`).

So `10:30`, `yes`, `1.10` and `2020-01-01` stay what was written, where PyYAML's own types make 630, True, 1.1 and a
date of them, and no tag can ask for a conversion that fails inside the library.
"""

import re
from typing import Any, TypeAlias

import yaml

from vqclip.common.errors import UsageError

NULLS = frozenset({"", "~", "null", "Null", "NULL"})

Structure: TypeAlias = "str | list[Structure] | dict[str, Structure] | None"


def parse_yaml(text: str, source: str) -> Structure:
    """Read one document; a plain `null`, `~` or nothing is None, every other scalar is its text.

    Raises:
        UsageError: not YAML, nested too deeply, or with aliases (a few lines of `*name` stand for billions of values)
            or tags (`!!python/…`); the sentence names `source` and the line.
    """
    try:
        content: Structure = yaml.load(text, _Loader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(f"{source}{where} is not usable YAML: {reason}.") from error
    except RecursionError as error:
        raise UsageError(f"{source} is not usable YAML: it is nested too deeply.") from error
    return content


def dump_yaml(content: object) -> str:
    """Write plain data as YAML that `parse_yaml` reads back."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _Loader(yaml.BaseLoader):
    """PyYAML's loader without types, which refuses aliases and tags, and tells a plain `null` from a quoted one."""

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _refused("aliases (`*name`) are not read", event)
        if getattr(event, "tag", None) is not None:
            raise _refused("tags (`!name`) are not read", event)
        return super().compose_node(parent, index)

    def construct_scalar(self, node: yaml.ScalarNode) -> str | None:  # type: ignore[override]
        return None if node.style is None and node.value in NULLS else str(node.value)


def _refused(why: str, event: Any) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=why, problem_mark=event.start_mark)


class _Dumper(yaml.SafeDumper):
    """Quotes text with Unicode's own line ends, which PyYAML would write as a plain one."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)
