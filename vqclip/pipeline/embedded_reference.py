"""The reference that comes with vqclip: some pictures of every thing that the embedded models know, as codes."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from vqclip.common.errors import ModelError
from vqclip.common.hashes import known_sha256
from vqclip.guidance.reference import Pairs
from vqclip.models.perceptor import Perceptor
from vqclip.models.vqgan import VQGAN, load_vqgan
from vqclip.models.weights.reader import read_metadata, read_tensors

FILE = "reference.safetensors"
CAPTIONS = "captions"
"""The file's header holds them under this name: a JSON list, one for each row of its `codes`."""

TOGETHER = 64
"""Captions embedded at once."""


@dataclass(frozen=True)
class EmbeddedReference:
    """Captioned codes (R, h, w) in a folder of models, as a perceptor sees what the folder's VQGAN makes of them."""

    folder: Path
    perceptor: Perceptor

    @cached_property
    def digest(self) -> str:
        """The SHA-256 of the file."""
        return known_sha256(self.folder / FILE)

    def near(self, text: Tensor, count: int) -> Pairs:
        """Return the pictures whose captions are nearest to a text (D,), at most `count`."""
        rows = self._nearest(text, count)
        seen = [self.perceptor.encode_image(self.perceptor.view(image)) for image in self._images(rows)]
        return Pairs(self._texts[rows], torch.cat(seen), rows.cpu())

    def examples(self, text: Tensor, count: int) -> list[Tensor]:
        """Return these pictures themselves, (1, 3, h, w) in [0, 1] each."""
        return self._images(self._nearest(text, count))

    def _nearest(self, text: Tensor, count: int) -> Tensor:
        return (self._texts @ text).topk(min(count, len(self._texts))).indices

    @torch.no_grad()
    def _images(self, rows: Tensor) -> list[Tensor]:
        codes = self._content[0][rows.cpu()].to(self.perceptor.device)
        return [self._vqgan.render(self._vqgan.lookup(each)) for each in codes.split(1)]

    @cached_property
    def _content(self) -> tuple[Tensor, Sequence[str]]:
        codes, captions = read_reference(self.folder / FILE)
        return codes, captions

    @cached_property
    def _vqgan(self) -> VQGAN:
        return load_vqgan(self.folder / "vqgan.safetensors").to(self.perceptor.device).eval().requires_grad_(False)

    @cached_property
    def _texts(self) -> Tensor:
        """The captions' vectors (R, D); each caption is embedded once."""
        captions = self._content[1]
        different = list(dict.fromkeys(captions))
        parts = [different[start : start + TOGETHER] for start in range(0, len(different), TOGETHER)]
        vectors = torch.cat([self.perceptor.encode_text(part, warn=False) for part in parts])
        known: Mapping[str, int] = {caption: place for place, caption in enumerate(different)}
        return vectors[[known[caption] for caption in captions]]


def read_reference(path: Path) -> tuple[Tensor, list[str]]:
    """Read codes (R, h, w) int64 and their captions.

    Raises:
        ModelError: the file is missing or damaged, or holds something else.
    """
    codes = read_tensors(path).get("codes")
    try:
        captions = json.loads(read_metadata(path)[CAPTIONS])
    except (KeyError, ValueError):
        captions = None
    if codes is None or codes.dim() != 3 or not isinstance(captions, list) or len(captions) != len(codes):
        raise ModelError(f"{str(path)!r} is no reference: it needs codes (R, h, w) and as many captions.")
    return codes.long(), [str(caption) for caption in captions]
