"""Alternatives: `a {red|green} {cat|dog}` stands for four pictures, and `@FILE.txt` for one of each of its lines."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import product
from math import prod
from shlex import quote

from vqclip.common.errors import UsageError
from vqclip.common.paths import at_home
from vqclip.common.text import read_text
from vqclip.config.escapes import column, mistake, unescape

MOST = 1_000
"""Pictures that the alternatives of one prompt may stand for."""

LONGEST_LIST = 10_000
"""Prompts of a list that are drawn at once."""

DEEPEST = 20
"""Braces within braces."""

LIST = ".txt"


@dataclass
class _Braces:
    """What stands between braces that are not closed yet: alternatives, each of texts and closed braces."""

    place: int
    choices: list[list["str | _Braces"]] = field(default_factory=lambda: [[]])

    def write(self, text: str) -> None:
        self.choices[-1].append(text)

    def count(self) -> int:
        """How many texts it stands for."""
        return sum(prod(part.count() for part in choice if isinstance(part, _Braces)) for choice in self.choices)

    def texts(self) -> list[str]:
        """The texts that it stands for, in their order."""
        return [text for choice in self.choices for text in _combined(choice)]


def _combined(parts: Sequence["str | _Braces"]) -> list[str]:
    known = [[part] if isinstance(part, str) else part.texts() for part in parts]
    return ["".join(chosen) for chosen in product(*known)]


def alternatives(source: str) -> list[str]:
    r"""Return the prompts that one stands for, the first alternatives first; without any it is the only one.

    An alternative may be empty, and hold braces of its own. Braces without a `|` between them are plain, and so are
    `\{` and `\}`.

    Raises:
        UsageError: braces with a `|` that are not closed, more than DEEPEST of them around a place, more than MOST
            pictures, or a `\` at the end.
    """
    characters, structure = unescape(source)
    open_ = [_Braces(0)]

    def wrong(place: int, reason: str) -> UsageError:
        return mistake(source, column(source, place), reason)

    for place, (character, mark) in enumerate(zip(characters, structure, strict=True)):
        if mark == "{":
            open_.append(_Braces(place))
            if len(open_) > DEEPEST + 1:
                raise wrong(place, f"more than {DEEPEST} braces are open; write \\{{ for a plain one")
        elif mark == "}" and len(open_) > 1:
            _close(open_)
            if open_[-1].count() > MOST:
                raise wrong(place, f"the alternatives stand for more than {MOST} pictures")
        elif mark == "|" and len(open_) > 1:
            open_[-1].choices.append([])
        else:
            open_[-1].write(character if mark == character else f"\\{character}")
    unclosed = next((braces for braces in open_ if len(braces.choices) > 1), None)
    if unclosed is not None:
        raise wrong(unclosed.place, "these braces are not closed; write \\{ for a plain one")
    while len(open_) > 1:
        plain = open_.pop()
        open_[-1].choices[-1] += ["{", *plain.choices[0]]
    if open_[0].count() > MOST:
        raise wrong(0, f"the alternatives stand for more than {MOST} pictures")
    return open_[0].texts()


def _close(open_: list[_Braces]) -> None:
    """Take closed braces for alternatives; those with a single one are plain."""
    closed = open_.pop()
    plain: list[str | _Braces] = ["{", *closed.choices[0], "}"]
    open_[-1].choices[-1] += [closed] if len(closed.choices) > 1 else plain


def is_list(source: str) -> bool:
    """Whether a prompt is the name of a list: `@FILE.txt`, and nothing else."""
    name = source.strip()
    return name.startswith("@") and name.lower().endswith(LIST) and ":" not in name.split("/")[0]


def expand(sources: Iterable[str]) -> list[str]:
    """Return one prompt for each picture: lists by their lines, alternatives one by one.

    Raises:
        UsageError: as `alternatives` and `read_list`, or more than LONGEST_LIST prompts.
    """
    lines = [line for source in sources for line in (read_list(source) if is_list(source) else [source])]
    return [each for line in lines for each in alternatives(line)]


def read_list(source: str) -> list[str]:
    """Read the prompts of a list `@FILE.txt`, one a line, without blank lines and comments (`# …`).

    Raises:
        UsageError: it cannot be read, holds no prompt or another list, or more than LONGEST_LIST.
    """
    name = source.strip().removeprefix("@")
    lines = [line.strip() for line in read_text(at_home(name), "the prompts in").splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    inner = next((line for line in prompts if is_list(line)), None)
    if inner is not None:
        raise UsageError(f"The list {name!r} holds a list, {inner!r}; put its lines there, or name it too.")
    if not prompts:
        raise UsageError(f"The list {name!r} holds no prompt; give one a line.")
    if len(prompts) > LONGEST_LIST:
        raise UsageError(
            f"The list {name!r} holds more than {LONGEST_LIST:,} prompts: vqclip batch {quote(name)} -o DIR/"
        )
    return prompts
