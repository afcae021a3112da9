"""A folder of the user's as a reference: its pictures as a perceptor sees them, and what each says that it shows.

A picture's caption is the prompt that its metadata holds, or the text file of its name beside it (`cat.txt` beside
`cat.jpg`); a picture without one counts as what the nearest caption says.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.images import open_image, to_tensor
from vqclip.common.paths import is_file
from vqclip.common.text import read_text
from vqclip.config.prompts import TEXT, parse_prompts
from vqclip.folders.search_index import Index
from vqclip.guidance.reference import Pairs
from vqclip.models.perceptor import Perceptor
from vqclip.outputs.picture import read_metadata

CANDIDATES = 256
"""Pictures nearest to a text whose captions are read."""

TOGETHER = 32
"""Captions embedded at once."""


@dataclass
class FolderReference:
    """The pictures of a folder as a perceptor sees them; captions are read and embedded when they are needed.

    `digest` stands for which pictures there are.
    """

    folder: Path
    perceptor: Perceptor
    index: Index
    known: dict[str, Tensor | None] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """The SHA-256 of the pictures' names and sizes."""
        facts = sorted(zip(self.index.names, (stamp.size for stamp in self.index.stamps), strict=True))
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def around(self, text: Tensor) -> Pairs:
        """Return the pictures nearest to a text (D,) with their captions' vectors, at most CANDIDATES.

        Raises:
            UsageError: none of them has a caption.
        """
        vectors = torch.from_numpy(self.index.vectors).to(text)
        places = (vectors @ text).topk(min(CANDIDATES, len(vectors))).indices.tolist()
        captions = self._captions([self.index.names[place] for place in places])
        if all(caption is None for caption in captions):
            raise UsageError(
                f"No picture of targets.reference {str(self.folder)!r} that is near to the prompt says what it shows: "
                "vqclip's own pictures do, and for others write the caption into a text file beside (cat.txt for "
                "cat.jpg)."
            )
        said = torch.stack([caption for caption in captions if caption is not None])
        pictures = vectors[places]
        nearest = said[(pictures @ said.T).argmax(1)]
        texts = [near if caption is None else caption for caption, near in zip(captions, nearest, strict=True)]
        return Pairs(torch.stack(texts), F.normalize(pictures, dim=-1), torch.tensor(places))

    def near(self, text: Tensor, count: int) -> Pairs:
        """Return those of them whose captions are nearest to the text, at most `count`.

        Raises:
            UsageError: none of the pictures near to the text has a caption.
        """
        return self.around(text).near(text, count)

    def examples(self, text: Tensor, count: int) -> list[Tensor]:
        """Return these pictures themselves, (1, 3, h, w) in [0, 1] each.

        Raises:
            UsageError: as `near`, or a picture cannot be read any more.
        """
        files = [self.folder / self.index.names[row] for row in self.near(text, count).rows]
        return [to_tensor(open_image(file)).to(self.perceptor.device) for file in files]

    def _captions(self, names: Sequence[str]) -> list[Tensor | None]:
        """Each picture's caption as a vector (D,), if it has one."""
        texts = {name: caption_of(self.folder / name) for name in names if name not in self.known}
        found = {name: text for name, text in texts.items() if text}
        parts = [list(found.values())[start : start + TOGETHER] for start in range(0, len(found), TOGETHER)]
        vectors = [vector for part in parts for vector in self.perceptor.encode_text(part, warn=False)]
        self.known |= dict.fromkeys(texts) | dict(zip(found, vectors, strict=True))
        return [self.known[name] for name in names]


def caption_of(picture: Path) -> str | None:
    """Return what a picture says that it shows, or None."""
    try:
        said = read_metadata(picture).prompt
    except UsageError:
        beside = picture.with_suffix(".txt")
        return _first_line(beside) if is_file(beside) else None
    try:
        return (
            ", ".join(prompt.text for prompt in parse_prompts(said) if prompt.weight > 0 and prompt.kind == TEXT)
            or None
        )
    except UsageError:  # of a version with another prompt language
        return said or None


def _first_line(path: Path) -> str | None:
    try:
        return next((line.strip() for line in read_text(path, "the caption").splitlines() if line.strip()), None)
    except UsageError:
        return None
