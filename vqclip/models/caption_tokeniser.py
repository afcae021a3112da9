"""The tokeniser of the models that were trained on our captions: open_clip's, with shortened merges."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from vqclip.config.vocabulary import as_caption, read_vocabulary


def caption_tokeniser(merges: Path, context_length: int) -> Any:
    """Build open_clip's SimpleTokenizer from the first `merges` of its vocabulary; it reads texts as captions.

    The shortened merges keep the text tower small (`bpe_path`: 4,096 merges give a vocabulary of 4,610). Where the
    folder above the model's says which words its models know, others are passed over.
    """
    from open_clip import SimpleTokenizer

    tokeniser = SimpleTokenizer(bpe_path=str(merges), context_length=context_length)
    clean: Callable[[str], str] = tokeniser.clean_fn
    vocabulary = read_vocabulary(merges.parent.parent)
    read = vocabulary.familiar if vocabulary else as_caption
    tokeniser.clean_fn = lambda text: read(clean(text))
    return tokeniser
