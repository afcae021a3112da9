"""What the embedded models read: captions of a small vocabulary; how others are brought near, and what is said then."""

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

from vqclip.common.paths import embedded_dir, is_file

WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
SENTENCE_END = re.compile(r"\s*[.!?;:…]+(?=\s|$)")
UNREAD = re.compile(r"(?<![^\W_])['’]|['’](?![^\W_])|[^\w\s,'’-]|_")
"""Everything that no caption of the training holds: quotes, brackets, symbols."""

WORDS, SYNONYMS = "words.txt", "synonyms.txt"
"""Beside models that know some words only: these, one a line, and `other words: some of these`."""

LITTLE = frozenset(
    {"a", "an", "and", "as", "at", "by", "for", "from", "in", "is", "of", "on", "or", "the", "to", "with"}
)
"""Words that say nothing by themselves."""

NAMED = 8
"""Unknown words that a hint names, with those that look like them."""


def as_caption(text: str) -> str:
    """Write a text as the training wrote its captions, and leave it alone if it is one.

    Lower case, plain spaces, commas where sentences end and nothing at the end, no quotes; emoji by their names in
    Unicode. Full stops and quotes are tokens that these models never read, and `a red apple.` drew no apple.
    """
    spelled = "".join(map(_spelled, unicodedata.normalize("NFKC", text).lower()))
    plain = UNREAD.sub(" ", SENTENCE_END.sub(",", spelled)).replace("’", "'")
    return re.sub(r"\s*,[\s,]*", ", ", " ".join(plain.split())).strip(" ,-")


@dataclass(frozen=True)
class Vocabulary:
    """The words that models know, and what is read for words or phrases of others, all in lower case."""

    words: frozenset[str]
    synonyms: Mapping[str, str]

    @cached_property
    def _written(self) -> re.Pattern[str]:
        longest_first = sorted(self.synonyms, key=len, reverse=True)
        return re.compile(rf"(?<![\w'-])(?:{'|'.join(map(re.escape, longest_first)) or '(?!)'})(?![\w'-])")

    def familiar(self, text: str) -> str:
        """Write a text as a caption without words that the models do not know, which are noise to them.

        `a kitten in the style of Klimt, highly detailed` is `a cat`. Parts between commas that say nothing any more go
        too; if all do, the caption is left as it was.
        """
        caption = as_caption(text)
        said = self._written.sub(lambda found: self.synonyms[found[0]], caption)
        unknown = frozenset(unknown_words(said, self.words))
        if not unknown:
            return said
        parts = [[word for word in part.split() if unknown.isdisjoint(WORD.findall(word))] for part in said.split(", ")]
        telling = [" ".join(_without_end(part)) for part in parts if not LITTLE.issuperset(part)]
        return ", ".join(telling) or caption


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Read the words that the models in a folder know; None where it does not say."""
    if not is_file(folder / WORDS):
        return None
    lines = (folder / SYNONYMS).read_text("utf-8").splitlines() if is_file(folder / SYNONYMS) else []
    pairs = (line.split(":") for line in lines if line.strip() and not line.startswith("#"))
    words = frozenset((folder / WORDS).read_text("utf-8").split())
    return Vocabulary(words, {word.strip(): meaning.strip() for word, meaning in pairs})


def known_words() -> frozenset[str]:
    """Return the words that the embedded models know or know another word for, in lower case."""
    known = read_vocabulary(embedded_dir())
    return known.words.union(*map(str.split, known.synonyms)) if known else frozenset()


def unknown_words(text: str, known: Iterable[str]) -> list[str]:
    """Return the words of `text` that are not known, in order.

    A plural counts as known where its singular is, and a joined word where its parts are.
    """
    words = frozenset(known)
    return list(dict.fromkeys(word for word in WORD.findall(as_caption(text)) if not _is_known(word, words)))


def hint(texts: Iterable[str]) -> str | None:
    """Say in one sentence what in the texts the embedded models do not know; None if they know all."""
    known, texts = known_words(), list(dict.fromkeys(texts))
    found = list(dict.fromkeys(word for text in texts for word in unknown_words(text, known)))
    empty = [text for text in texts if text.strip() and not as_caption(text)]
    listed = [f"{text!r}, which holds no word" for text in empty[:NAMED]]
    listed += [repr(word) + _nearest(word, known) for word in found[:NAMED]]
    if not listed:
        return None
    more = len(found) + len(empty) - len(listed)
    return (
        f"the embedded models never read {', '.join(listed)}{f' and {more} more' if more else ''}, and pass over "
        "it; they know a small world of everyday things, for anything else see the published models: vqclip models list"
    )


def _spelled(character: str) -> str:
    """An emoji's name; nothing for the marks that only change how one looks."""
    kind = unicodedata.category(character)
    if kind == "So":
        return f" {unicodedata.name(character, '').lower()} "
    return "" if kind in ("Mn", "Cf", "Sk") and ord(character) > 0x2000 else character


def _without_end(part: list[str]) -> list[str]:
    """A part without the little words at its end: `a cat in the`."""
    while part and part[-1] in LITTLE:
        part = part[:-1]
    return part


def _nearest(word: str, known: frozenset[str]) -> str:
    near = get_close_matches(word, known, n=3, cutoff=0.75)
    return f" (nearest: {', '.join(near)})" if near else ""


def _is_known(word: str, known: frozenset[str]) -> bool:
    parts = re.split("[-'’]", word)
    return (
        word in known
        or word.removesuffix("s") in known
        or word.removesuffix("es") in known
        or (len(parts) > 1 and all(part in known or part == "s" for part in parts))
    )
