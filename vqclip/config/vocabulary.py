"""Words that the embedded models have never read, and known ones that look like them."""

import re
from collections.abc import Iterable
from difflib import get_close_matches

from vqclip.common.paths import embedded_dir

WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")


def known_words() -> frozenset[str]:
    """Return the words of the captions that the embedded models were trained on, in lower case."""
    return frozenset((embedded_dir() / "words.txt").read_text("utf-8").split())


def unknown_words(text: str, known: Iterable[str]) -> dict[str, list[str]]:
    """Return {word of `text` that is not known: up to three known ones spelled like it}, in order.

    A plural counts as known where its singular is, and a joined word where its parts are.
    """
    words = frozenset(known)
    found = dict.fromkeys(word for word in WORD.findall(text.lower()) if not _is_known(word, words))
    return {word: get_close_matches(word, words, n=3, cutoff=0.75) for word in found}


def hint(texts: Iterable[str]) -> str | None:
    """Say in one sentence which words of the texts the embedded models do not know; None if they know all."""
    found = {word: near for text in texts for word, near in unknown_words(text, known_words()).items()}
    if not found:
        return None
    listed = [f"{word!r}" + (f" (nearest: {', '.join(near)})" if near else "") for word, near in found.items()]
    return (
        f"the embedded models never read {', '.join(listed)}; they know a small world of everyday things, "
        "for anything else see the published models: vqclip config list"
    )


def _is_known(word: str, known: frozenset[str]) -> bool:
    parts = re.split("[-'’]", word)
    return (
        word in known
        or word.removesuffix("s") in known
        or word.removesuffix("es") in known
        or (len(parts) > 1 and all(part in known or part == "s" for part in parts))
    )
