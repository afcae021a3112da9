"""What a run's files are called: by prompt and seed, as a template such as `pets/{prompt}-{seed}.png` says."""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import PurePath

from vqclip.common.errors import UsageError
from vqclip.common.names import is_name

WORDS = 40
"""Characters of a prompt that a name takes."""


PATH = re.compile(r"(@[a-z]+:|\[in )\S*/")


def words(prompt: str) -> str:
    """The letters and digits of a prompt, joined by dashes, which any file may be called; of a file's path its name."""
    return re.sub(r"[\W_]+", "-", PATH.sub(r"\1", prompt.lower())).strip("-")[:WORDS].strip("-") or "image"


def slug(prompt: str, seed: int) -> str:
    """Make a short file name of a prompt and a seed."""
    return f"{words(prompt)}_s{seed}"


FIELDS: Mapping[str, Callable[[str, int], str]] = {
    "{prompt}": lambda prompt, seed: words(prompt),
    "{seed}": lambda prompt, seed: str(seed),
}
"""What a template may hold, and what becomes of it; other braces are plain."""

FIELD = re.compile("|".join(map(re.escape, FIELDS)))


def fill(template: str, prompt: str, seed: int) -> str:
    """Put a picture's own words and seed into a template; without a field in it, it is returned as it is."""
    return FIELD.sub(lambda found: FIELDS[found.group()](prompt, seed), template)


def check_one_folder(template: str, pictures: Sequence[tuple[str, int]], *, is_file: bool) -> None:
    """Check that the pictures (prompt, seed) of one run come into one folder: the template itself, whose seed is the
    first picture's, or the one that its file is in.

    Raises:
        UsageError: they do not.
    """
    first = pictures[0][1]
    folder = str(PurePath(template).parent) if is_file else template
    if len({fill(folder, prompt, seed if is_file else first) for prompt, seed in pictures}) > 1:
        raise UsageError(
            f"--output {template!r} names several folders, and a run has one: write {{prompt}} and {{seed}} into the "
            "file's name only, or give the prompts to vqclip batch."
        )


def fill_each(template: str, pictures: Sequence[tuple[str, int]]) -> list[str]:
    """Fill a template of a file's name for every picture (prompt, seed); where two would be called the same, all get
    their number as well.

    Raises:
        UsageError: a name that no file can have.
    """
    names = [PurePath(fill(template, prompt, seed)) for prompt, seed in pictures]
    if len({name.name.lower() for name in names}) < len(names):
        names = [name.with_name(f"{name.stem}-{number}{name.suffix}") for number, name in enumerate(names)]
    for name in names:
        if not is_name(name.name):
            raise UsageError(f"--output {template!r} would call a picture {name.name!r}, which no file can be called.")
    return [name.name for name in names]
