"""Writes the words that captions of scenes use, for the hint about words that the embedded models do not know.

python scripts/data/list_words.py > checkpoints/embedded/words.txt
"""

import random
import sys
from pathlib import Path

from vqclip.config.vocabulary import WORD

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data.scene_styles import STYLES
from scripts.data.scene_things import things
from scripts.data.scene_words import caption
from scripts.data.scenes import training_scene

CAPTIONS = 20_000  # enough for every wording


def main() -> None:
    """Prints the words, sorted, one a line."""
    texts = [words for thing in things().values() for words in (thing.name, *thing.synonyms)]
    texts += [phrase for phrases in STYLES.values() for phrase in phrases]
    texts += [caption(training_scene(0, index), random.Random(index))[0] for index in range(CAPTIONS)]
    print("\n".join(sorted({word for text in texts for word in WORD.findall(text.lower())})))


if __name__ == "__main__":
    main()
