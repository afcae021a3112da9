"""Picture files that carry how they were made, and reading that back."""

import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path

import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.files import replacing, write_bytes, write_text
from vqclip.common.images import PROFILE, SUFFIXES, opening, rgb_profile, to_image
from vqclip.common.text import utf8
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.metadata import Metadata
from vqclip.outputs.xmp import packet

log = logging.getLogger(__name__)

CHUNK = "vqclip"
XMP_CHUNK = "XML:com.adobe.xmp"  # XMP specification part 3, 1.1.5
EXIF_DESCRIPTION = 0x010E  # ImageDescription, Exif 2.3, for the formats without text chunks
EXIF_LIMIT = 65_533  # bytes in one JPEG segment (ITU-T T.81, B.1.1.4)


Compose = Callable[[Tensor], Image.Image]
"""Turns what is worked on, (3, h, w) in [0, 1], into the finished picture."""


def save_picture(path: Path, pixels: Tensor, metadata: Metadata | None = None, compose: Compose = to_image) -> None:
    """Write (3, H, W) in [0, 1] as `save_image` does.

    `compose` may put the pixels into a larger picture, whose colour profile is kept; that is written without loss but
    as JPEG.

    Raises:
        OutputError: as `save_image`.
    """
    save_image(path, compose(pixels), metadata, lossless=compose is not to_image)


def save_image(path: Path, image: Image.Image, metadata: Metadata | None = None, *, lossless: bool = False) -> None:
    """Write a picture as PNG, JPEG or WebP by the suffix, whole or not at all; `lossless` is for WebP.

    `metadata` goes into an iTXt chunk `vqclip` as JSON and, readable by other tools, into
    `parameters`; JPEG and WebP carry the JSON as their EXIF description, which is left out, with a
    warning, when it is too long for that. Prompt and tags stand in an XMP packet as well, where photo tools look.

    Raises:
        OutputError: the place cannot be written, or the disk is full.
    """
    kind = SUFFIXES[path.suffix.lower()]
    with replacing(path) as part:
        if kind == "PNG":
            image.save(part, kind, pnginfo=_chunks(metadata))
        else:
            described = {"xmp": _xmp(metadata).encode()} if metadata else {}
            profile = rgb_profile(image)
            coloured = {PROFILE: profile} if profile else {}
            image.save(part, kind, quality=95, exif=_exif(path, metadata), lossless=lossless, **described, **coloured)


def _chunks(metadata: Metadata | None) -> PngInfo:
    chunks = PngInfo()
    if metadata is not None:
        text = json.dumps(metadata.to_json(), ensure_ascii=False, sort_keys=True)
        chunks.add_itxt(CHUNK, utf8(text), zip=True)
        chunks.add_itxt("parameters", utf8(_parameters(metadata)))
        chunks.add_itxt(XMP_CHUNK, _xmp(metadata))
    return chunks


def _xmp(metadata: Metadata) -> str:
    output = metadata.config.get("output")
    tags = output.get("tags") if isinstance(output, dict) else None
    listed = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []  # a file may say anything
    return packet(f"vqclip {metadata.version}", metadata.prompt, listed)


def _exif(path: Path, metadata: Metadata | None) -> Image.Exif:
    exif = Image.Exif()
    if metadata is not None:
        exif[EXIF_DESCRIPTION] = json.dumps(metadata.to_json(), sort_keys=True)
    if len(exif.tobytes()) <= EXIF_LIMIT:
        return exif
    log.warning("The metadata is too long for %r and is left out; a PNG would hold it.", str(path))
    return Image.Exif()


def _parameters(metadata: Metadata) -> str:
    """Write the line that gallery tools show (the layout of AUTOMATIC1111's stable-diffusion-webui)."""
    drawer = str(metadata.config.get("drawer", ""))
    facts = {
        "Steps": metadata.step,
        "Seed": metadata.seed,
        "Size": metadata.config.get("size", ""),
        "Model": metadata.models.vqgan.name if metadata.models and metadata.models.vqgan else drawer,
        **({"Hires upscaler": metadata.models.upscaler.name} if metadata.models and metadata.models.upscaler else {}),
        "Version": f"vqclip {metadata.version}",
    }
    return f"{metadata.prompt}\n" + ", ".join(f"{name}: {value}" for name, value in facts.items())


def read_metadata(path: Path) -> Metadata:
    """Return the metadata that `save_picture` stored.

    Raises:
        UsageError: the file cannot be read, is not a picture, or carries none.
    """
    with opening(path) as image:
        text = image.info.get(CHUNK) or image.getexif().get(EXIF_DESCRIPTION)
    try:
        return Metadata.from_json(str(text))
    except ValueError as error:
        raise UsageError(
            f"{str(path)!r} carries no vqclip metadata; pictures made with --no-metadata do not."
        ) from error


def read_latent(path: Path) -> tuple[Tensor, int]:
    """Return the latent (N, C, h, w) of a finished run, and after how many steps it was.

    Raises:
        UsageError: the file is damaged or something else.
    """
    try:
        with safe_open(path, "pt") as file:
            latent, notes = file.get_tensor("latent"), file.metadata() or {}
        step = int(notes["step"])
        if notes.get("sha256", digest := _digest(latent, step)) != digest:  # older versions wrote none
            raise ValueError("its checksum is another")
        return latent, step
    except (SafetensorError, OSError, KeyError, ValueError, TypeError, RuntimeError) as error:
        raise UsageError(f"The latent {str(path)!r} is damaged; the run cannot go on from it.") from error


def _digest(latent: Tensor, step: int) -> str:
    """The checksum of a latent and of what stands beside it in its file's header."""
    digest = hashlib.sha256(f"{step} {tuple(latent.shape)} {latent.dtype}".encode())
    digest.update(latent.contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


class Drawings:
    """Writes the finished pictures as SVG documents, which `svg` makes of a picture's latent."""

    def __init__(self, paths: list[Path], svg: Callable[[Tensor], str]) -> None:
        self.paths, self.svg = paths, svg

    def step(self, step: Step) -> None:
        """Wait for the end."""

    def finish(self, finished: Finished) -> None:
        """Write them."""
        for path, latent in zip(self.paths, finished.latent, strict=True):
            write_text(path, self.svg(latent))

    def stop(self, last: Step | None) -> None:
        """Write nothing: the run is not finished."""


class Pictures:
    """Writes the finished pictures, and their latent where `latent` is a path.

    `describe(finished, i)` returns the metadata of picture i, or None for a picture without.
    """

    def __init__(
        self,
        paths: list[Path],
        latent: Path | None,
        describe: Callable[[Finished, int], Metadata | None],
        compose: Compose = to_image,
    ) -> None:
        self.paths = paths
        self.latent = latent
        self.describe = describe
        self.compose = compose

    def step(self, step: Step) -> None:
        """Wait for the end."""

    def finish(self, finished: Finished) -> None:
        """Write the latent, then the pictures, which are the sign that the run is finished."""
        if self.latent is not None:
            latent = finished.latent.detach().contiguous().cpu()
            notes = {"step": str(finished.step), "sha256": _digest(latent, finished.step)}
            write_bytes(self.latent, save({"latent": latent}, notes))
        for picture, path in enumerate(self.paths):
            save_picture(path, finished.images[picture], self.describe(finished, picture), self.compose)

    def stop(self, last: Step | None) -> None:
        """Write nothing: the run is not finished."""
