"""The prompt language: `[region] text:weight:stop` or `[region] @kind:what:weight:stop`, joined by `|`, with backslash
escapes. See alternatives.py for what stands for several pictures.
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from vqclip.common.errors import UsageError
from vqclip.common.quantities import decimal
from vqclip.common.registry import did_you_mean
from vqclip.config.alternatives import alternatives
from vqclip.config.directions import DIRECTIONS
from vqclip.config.escapes import AROUND, column, mistake, unescape
from vqclip.config.regions import MASK, mask_of, read_region

T = TypeVar("T")

NUMBER = r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?"
TAIL = re.compile(rf"\s*({NUMBER})\s*", re.ASCII)
ALMOST = re.compile(r"\s*(?:[+\-−.]*[\d½¼¾][\d.,_/%eE+\-−]*x?|[+\-−]?(?:nan|inf|infinity))\s*", re.IGNORECASE)
"""What nobody writes behind a colon but as a number."""

FOREIGN = re.compile(rf"(?<![\d:]):{{1,2}}{NUMBER}(?=[\s,)\]])", re.ASCII)
"""Weights as other tools write them: `(red cube:0.15), …` and `mountain:1 man:1`."""

WHITESPACE = " \t\n\r\f\v"
LONGEST = 20_000
"""Characters of a prompt that are read; CLIP reads some 300 of a text."""

KIND = re.compile(r"\s*@([A-Za-z]+):")
REGION = re.compile(r"\s*\[([^\[\]|]*)\]")

TEXT, IMAGE, VECTOR, NOISE = "text", "image", "vector", "noise"

FARTHEST = math.pi**2 / 2
"""The largest spherical distance, that of opposite vectors."""

VECTOR_FILE = ".safetensors"


def _check_image(name: str) -> None:
    if "://" in name:
        raise UsageError("a picture is a file on this machine; fetch what has a URL first, e.g. with curl -LO")


def _check_vector(name: str) -> None:
    if name not in DIRECTIONS and not name.lower().endswith(VECTOR_FILE):
        known = did_you_mean(name, DIRECTIONS).rstrip(".")
        raise UsageError(f"unknown vector {name!r}, which is no FILE{VECTOR_FILE} either; {known}")


def _check_noise(seed: str) -> None:
    if not re.fullmatch(r"[0-9]{1,18}", seed):
        raise UsageError("noise has a seed, a whole number: @noise:7")


KINDS: Mapping[str, Callable[[str], None]] = {IMAGE: _check_image, VECTOR: _check_vector, NOISE: _check_noise}
"""What a prompt may be beside text, as `@KIND:WHAT`, with what refuses a wrong WHAT."""


@dataclass(frozen=True)
class Prompt:
    """One text, or what is one of KINDS, that guides a picture.

    `weight` scales its loss and pushes away when negative. `stop` is the signed distance below
    which the text no longer pulls (published VQGAN+CLIP notebooks by Katherine Crowson). `text` is a text, a picture's
    file, a direction's name or file, or a seed, as `kind` says. `region` is the part of the picture that it is about,
    as `regions.read_region` returns it; empty for the whole.
    """

    text: str
    weight: float = 1.0
    stop: float = -math.inf
    kind: str = TEXT
    region: str = ""

    @property
    def files(self) -> list[str]:
        """The files that it names: a picture or a vector, and the mask of its region."""
        named = self.kind == IMAGE or (self.kind == VECTOR and self.text not in DIRECTIONS)
        return [*([self.text] if named else []), *filter(None, [mask_of(self.region)])]

    def with_files(self, change: Callable[[str], str]) -> "Prompt":
        """Return it with the names of its files changed."""
        named = self.text in self.files and self.kind != TEXT
        mask = mask_of(self.region)
        region = MASK + change(mask) if mask else self.region
        return replace(self, text=change(self.text) if named else self.text, region=region)

    def __str__(self) -> str:
        """Write the prompt so that `parse_prompts` reads the same one back."""
        before = f"[{_escaped(self.region, '[')}] " if self.region else ""
        text = _escaped(self.text)
        if self.kind != TEXT:
            text = f"@{self.kind}:{text}"
        elif text.startswith(("[", "@")):
            text = f"\\{text}"
        tails = [self.weight, self.stop] if self.stop != -math.inf else [self.weight]
        if tails == [1]:
            return before + text
        # The space keeps a tail after `1980` or `http://host` from being read as text.
        return f"{before}{text} " + "".join(f":{decimal(number)}" for number in tails)


def parse_prompts(source: str) -> list[Prompt]:
    r"""Read a combination such as `a red apple:2 | [left] @image:boat.jpg:0.5 | blurry:-0.5:-0.9`.

    `|` joins prompts, `:weight` and `:weight:stop` are numeric tails (`2`, `-.5`, `1e-1`, with blanks around them),
    and `\|`, `\:`, `\\` are plain characters, as are brackets, braces and `@` behind a backslash. A tail is text when
    the character before the first one is a digit (`10:30`) or when its word holds `://`, unless it stands behind a
    kind; a space before the tail makes it a tail again. Takes time in proportion to the length.

    Raises:
        UsageError: longer than LONGEST, no UTF-8, nothing between two `|`, a third tail, a tail that is almost a
            number (`:nan`, `:1,5`, `:50%`), a `\` at the end, alternatives, a kind or a region that is not known; the
            message gives the column, counted from 1.
    """
    if len(source) > LONGEST:
        raise UsageError(f"A prompt has {len(source):,} characters; at most {LONGEST:,} are read.")
    if not is_text(source):
        raise UsageError(f"Prompt {source[:AROUND]!r} holds bytes that are no UTF-8 text; write it in UTF-8.")
    text, structure = unescape(source)
    if "{" in structure and len(alternatives(source)) > 1:
        reason = "alternatives stand for several pictures, and here is one; write \\{ for a plain brace"
        raise mistake(source, column(source, structure.index("{")), reason)
    prompts, start = [], 0
    for end in [*(i for i, mark in enumerate(structure) if mark == "|"), len(structure)]:
        prompts.append(_parse_part(source, text[start:end], structure[start:end], start))
        start = end + 1
    return prompts


def texts_of(source: str) -> list[str]:
    """The texts among a combination's prompts, without what is of another kind."""
    return [prompt.text for prompt in parse_prompts(source) if prompt.kind == TEXT]


def files_of(sources: Iterable[str]) -> list[str]:
    """Return the files that combinations name, each once."""
    found = (file for source in sources for prompt in parse_prompts(source) for file in prompt.files)
    return list(dict.fromkeys(found))


def with_files(source: str, change: Callable[[str], str]) -> str:
    """Return a combination with the names of its files changed; one without any as it is written."""
    prompts = parse_prompts(source)
    if not any(prompt.files for prompt in prompts):
        return source
    return " | ".join(str(prompt.with_files(change)) for prompt in prompts)


def likeness(sources: Sequence[str]) -> str | None:
    """Return the first picture to resemble, where all combinations have the same one; what is wrong is another's to
    say."""
    try:
        firsts = {_first_image(source) for source in sources}
    except UsageError:
        return None
    return firsts.pop() if len(firsts) == 1 else None


def _first_image(source: str) -> str | None:
    images = (prompt for prompt in parse_prompts(source) if prompt.kind == IMAGE and not prompt.region)
    return next((prompt.text for prompt in images if prompt.weight > 0), None)


def is_text(source: str) -> bool:
    """Whether UTF-8 can write it: bytes of another encoding come from the shell as halves of characters."""
    return not any("\ud800" <= character <= "\udfff" for character in source)


def _parse_part(source: str, characters: list[str], structure: str, offset: int) -> Prompt:
    """Read one prompt between two `|`; `offset` is where it starts among the read characters."""
    structure = structure.rstrip()

    def wrong(place: int, reason: str) -> UsageError:
        return mistake(source, column(source, offset + place), reason)

    region, begin = _region(characters, structure, wrong)
    kind, begin = _kind(structure, begin, wrong)
    body, numbers = _part_tails(structure[begin:], plain=kind == TEXT)
    end = begin + len(body)
    text = "".join(characters[begin:end]).strip()
    if not text:
        raise wrong(0, "the prompt is empty; write some text here")
    last = body.rfind(":")
    if last >= 0 and not (kind == TEXT and _is_text(body[:last])) and ALMOST.fullmatch(body, last + 1):
        raise wrong(begin + last, "a weight is a number such as 2, -0.5 or 1e-1; write \\: for a plain colon")
    if len(numbers) > 2:
        reason = "at most two numbers may follow a prompt, weight and stop; write \\: for a plain colon"
        raise wrong(end, reason)
    if not all(map(math.isfinite, numbers)):
        raise wrong(end, "a weight must be a finite number")
    if kind != TEXT:
        _at(wrong, begin, KINDS[kind], text)
    weight, stop = [*numbers, *(1.0, -math.inf)[len(numbers) :]]
    return Prompt(text, weight, stop, kind, region)


def _region(characters: list[str], structure: str, wrong: Callable[[int, str], UsageError]) -> tuple[str, int]:
    """Read the brackets before a prompt: the region, and where what follows begins; empty where they are text."""
    found = REGION.match(structure)
    if found is None:
        return "", 0
    region = _at(wrong, found.start(1), read_region, "".join(characters[found.start(1) : found.end(1)]))
    return (region, found.end()) if region else ("", 0)


def _kind(structure: str, begin: int, wrong: Callable[[int, str], UsageError]) -> tuple[str, int]:
    """Read `@KIND:`: the kind, and where what follows begins."""
    found = KIND.match(structure, begin)
    if found is None:
        return TEXT, begin
    if found[1] not in KINDS:
        known = did_you_mean(found[1], KINDS).rstrip(".")
        raise wrong(found.start(1), f"there is no kind @{found[1]}: of prompts; {known}; write \\@ for a plain one")
    return found[1], found.end()


def _at(wrong: Callable[[int, str], UsageError], place: int, read: Callable[[str], T], text: str) -> T:
    """Read a text, and say the column where it is not right."""
    try:
        return read(text)
    except UsageError as error:
        raise wrong(place, str(error).rstrip(".")) from error


def _part_tails(structure: str, *, plain: bool) -> tuple[str, list[float]]:
    """Part the numeric tails from the body before them; in `plain` text some are no tails."""
    segments = structure.split(":")
    first = len(segments)
    while first > 1 and TAIL.fullmatch(segments[first - 1]):
        first -= 1
    body = ":".join(segments[:first])
    return (structure, []) if plain and _is_text(body) else (body, [float(number) for number in segments[first:]])


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


def idle_stops(prompts: Iterable[Prompt]) -> list[str]:
    """Return a note for each prompt that its stop switches off: its signed distance never is beyond."""
    return [
        f"the stop {prompt.stop:g} of {prompt.text!r} switches it off: with a weight above 0 a stop lies between 0 and "
        f"{FARTHEST:.2f}, and below 0 between -{FARTHEST:.2f} and 0, e.g. fog:-0.5:-0.8"
        for prompt in prompts
        if (prompt.weight < 0 and prompt.stop >= 0) or (prompt.weight > 0 and prompt.stop >= FARTHEST)
    ]


def _escaped(text: str, further: str = "") -> str:
    return "".join(f"\\{character}" if character in f"|:\\{{}}]{further}" else character for character in text)
