"""CLIP: pictures and texts become unit vectors that can be compared."""

import contextlib
import logging
from collections.abc import Iterator, Sequence
from pickle import UnpicklingError
from typing import Any, cast

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqclip.common.errors import ModelError
from vqclip.common.runtime import autocast
from vqclip.models.caption_tokeniser import caption_tokeniser
from vqclip.models.files import ClipFiles, context_length
from vqclip.models.weights.reader import check_finite, refused

log = logging.getLogger(__name__)

TEXT_TOWER = ("transformer", "token_embedding", "positional_embedding", "ln_final", "text_projection", "text")

LONGEST = 300
"""Characters of another library's sentence that are shown."""


class Perceptor:
    """One CLIP model, frozen and in evaluation mode.

    `size` is the side of its square input in pixels, `width` the length D of its vectors. `model` is
    open_clip's module; `tokenize` turns texts into (P, L) token ids.
    """

    def __init__(self, name: str, model: Any, tokenizer: Any, precision: str = "fp32") -> None:
        from open_clip import get_model_preprocess_cfg, image_transform

        preprocess = get_model_preprocess_cfg(model)
        self.name = name
        self.model = model.eval().requires_grad_(False)
        self.tokenizer = tokenizer
        self.precision = precision
        self.device = next(model.parameters()).device
        self.size = _side(preprocess["size"])
        self.squash = preprocess.get("resize_mode") == "squash"
        self.interpolation = preprocess.get("interpolation", "bicubic")
        self._transform = image_transform(  # its last part, from [0, 1] to mean and std, is `encode_image`'s
            self.size, False, (0.0,) * 3, (1.0,) * 3, preprocess.get("resize_mode"), self.interpolation
        )
        self.mean = torch.tensor(preprocess["mean"], device=self.device).view(1, 3, 1, 1)
        self.std = torch.tensor(preprocess["std"], device=self.device).view(1, 3, 1, 1)

    @property
    def scale(self) -> float:
        """What cosine similarities are multiplied by to become the logits that the model was trained with."""
        return float(self.model.logit_scale.exp())

    @property
    def bias(self) -> float | None:
        """What is added to these logits in the models of the SigLIP kind; None elsewhere."""
        bias = getattr(self.model, "logit_bias", None)
        return None if bias is None else float(bias)

    def encode_image(self, images: Tensor) -> Tensor:
        """Embed (B, 3, size, size) in [0, 1] as (B, D) of unit length, with a gradient."""
        with autocast(self.device, self.precision):
            features = self.model.encode_image((images - self.mean) / self.std)
        return F.normalize(features.float(), dim=-1)

    def view(self, images: Tensor) -> Tensor:
        """Resize whole pictures (N, 3, H, W) to (N, 3, size, size) the way the model was trained.

        Shortest side to `size` and a crop of the centre, or both sides to `size` for the models
        that squash; antialiased, as open_clip's own transform.
        """
        height, width = images.shape[-2:]
        scale = self.size / min(height, width)
        target = [self.size] * 2 if self.squash else [round(height * scale), round(width * scale)]
        resized = F.interpolate(images, target, mode=self.interpolation, antialias=True, align_corners=False)
        top, left = ((side - self.size) // 2 for side in target)
        return resized[..., top : top + self.size, left : left + self.size].clamp(0, 1)

    def view_picture(self, image: Image.Image) -> Tensor:
        """Resize a picture of any size to (3, size, size) in [0, 1] by open_clip's own transform."""
        return cast(Tensor, self._transform(image))

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str], *, warn: bool = True) -> Tensor:
        """Embed texts as (P, D) of unit length; texts over the model's limit are cut, with a warning if `warn`."""
        for text in texts if warn else ():
            self._warn_if_cut(text)
        tokens = self.tokenizer(list(texts)).to(self.device)
        return F.normalize(self.model.encode_text(tokens).float(), dim=-1)

    def token_count(self, text: str) -> int | None:
        """Count the tokens of a text without its start and end marks; None if the tokeniser cannot tell."""
        encode = getattr(self.tokenizer, "encode", None) or getattr(
            getattr(self.tokenizer, "tokenizer", None), "tokenize", None
        )
        return None if encode is None else len(encode(text))

    def drop_text_tower(self) -> None:
        """Free the text tower once every text is embedded; `encode_text` cannot be used after."""
        for part in TEXT_TOWER:
            if hasattr(self.model, part):
                delattr(self.model, part)

    def _warn_if_cut(self, text: str) -> None:
        count, room = self.token_count(text), self.tokenizer.context_length - 2
        if count is not None and count > room:
            log.warning(
                "%s reads %d tokens and the prompt has %d: the end of %r does not count.",
                self.name,
                room,
                count,
                text,
            )


def load_perceptor(files: ClipFiles, device: torch.device, precision: str = "fp32") -> Perceptor:
    """Build the model that `clip_files.find_clip` found; nothing is downloaded.

    Raises:
        ModelError: the file is damaged, or does not fit the architecture.
    """
    import open_clip

    folder = files.architecture.startswith("local-dir:")
    with quiet_open_clip():
        try:
            model = open_clip.create_model(
                files.architecture,
                pretrained=None if folder else str(files.weights),
                precision="fp32",
                force_preprocess_cfg=dict(files.preprocess),
                require_pretrained=True,
            )
            tokenizer = tokeniser_of(files)
        except ImportError as error:
            raise ModelError(f"{files.name!r} needs another package: {error}; pip install transformers.") from error
        except UnpicklingError as error:
            raise refused(files.weights, str(error)) from error
        except Exception as error:  # open_clip passes on whatever torch, pickle or zipfile raised
            raise ModelError(
                f"Cannot load the CLIP model {files.name!r} from {files.weights}: {_line(error)}"
            ) from error
    check_finite(files.weights, model.state_dict())
    return Perceptor(files.name, model.to(device), tokenizer, precision)


def tokeniser_of(files: ClipFiles) -> Any:
    """Return what makes tokens of texts for a model, without its weights."""
    import open_clip

    if files.merges is None:
        return open_clip.get_tokenizer(files.architecture)
    return caption_tokeniser(files.merges, context_length(files.merges.parent))


@contextlib.contextmanager
def quiet_open_clip() -> Iterator[None]:
    """Keep open_clip's remarks on the root logger off the user's terminal while it builds a model."""
    before = logging.root.manager.disable
    logging.disable(logging.ERROR)
    try:
        yield
    finally:
        logging.disable(before)


def _side(size: int | Sequence[int]) -> int:
    return size if isinstance(size, int) else max(size)


def _line(error: Exception) -> str:
    """What an error says: its first line, with the second where that only announces it; a list of names is cut."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [type(error).__name__]
    said = " ".join(lines[:2]) if lines[0].endswith(":") else lines[0]
    return said if len(said) <= LONGEST else f"{said[:LONGEST]}…"
