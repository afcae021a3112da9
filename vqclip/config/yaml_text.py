"""YAML as structure only: mappings, lists, text and null. What a text means, the declared types say (`typed.fit`).

So `10:30`, `yes`, `1.10` and `2020-01-01` stay what was written, where PyYAML's own types make 630, True, 1.1 and a
date of them, and no tag can ask for a conversion that fails inside the library.
"""

import re
from typing import TypeAlias

import yaml

from vqclip.common.text import PlainLoader, parse_yaml

NULLS = frozenset({"", "~", "null", "Null", "NULL"})
STR, SEQ, MAP = (f"tag:yaml.org,2002:{kind}" for kind in ("str", "seq", "map"))

Structure: TypeAlias = "str | list[Structure] | dict[str, Structure] | None"


def parse_structure(text: str, source: str) -> Structure:
    """Read one document; a plain `null`, `~` or nothing is None, every other scalar is its text.

    Raises:
        UsageError: as `parse_yaml`.
    """
    content: Structure = parse_yaml(text, source, _TextLoader)
    return content


def dump_yaml(content: object) -> str:
    """Write plain data as YAML that `parse_structure` reads back."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


class _TextLoader(PlainLoader):
    """Knows text, lists and mappings, and tells a plain `null` from a quoted one."""

    def construct_text(self, node: yaml.ScalarNode) -> str | None:
        return None if node.style is None and node.value in NULLS else str(node.value)


_TextLoader.yaml_implicit_resolvers = {}
_TextLoader.yaml_constructors = {
    **{tag: PlainLoader.yaml_constructors[tag] for tag in (SEQ, MAP, None)},
    STR: _TextLoader.construct_text,
}


class _Dumper(yaml.SafeDumper):
    """Quotes text with Unicode's own line ends, which PyYAML would write as a plain one."""

    def represent_text(self, text: str) -> yaml.ScalarNode:
        style = '"' if re.search("[\x85\u2028\u2029]", text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style)


_Dumper.add_representer(str, _Dumper.represent_text)
