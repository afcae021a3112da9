"""Writes the words that captions of scenes use, for the hint about words that the embedded models do not know.

python scripts/list_words.py > checkpoints/embedded/words.txt
"""

import random

from scene_styles import STYLES
from scene_things import things
from scene_words import caption
from scenes import training_scene

from vqclip.words import WORD

CAPTIONS = 20_000  # enough for every wording


def main() -> None:
    """Prints the words, sorted, one a line."""
    texts = [words for thing in things().values() for words in (thing.name, *thing.synonyms)]
    texts += [phrase for phrases in STYLES.values() for phrase in phrases]
    texts += [caption(training_scene(0, index), random.Random(index))[0] for index in range(CAPTIONS)]
    print("\n".join(sorted({word for text in texts for word in WORD.findall(text.lower())})))


if __name__ == "__main__":
    main()
