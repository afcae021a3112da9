"""Any picture drawn anew by an upscaler, and what it still says of how it was made."""

import dataclasses
from pathlib import Path

import torch
from PIL import Image

from vqclip.common.errors import UsageError
from vqclip.common.hashes import known_sha256
from vqclip.common.images import PIXEL_LIMIT
from vqclip.hub.upscaler_catalogue import UPSCALERS
from vqclip.models.enlarge import Network, Watch, enlarge_image
from vqclip.models.files import EMBEDDED, UpscalerFiles
from vqclip.models.provenance import ModelHash
from vqclip.outputs.metadata import Metadata
from vqclip.outputs.picture import read_metadata
from vqclip.pipeline.drawing import DRAWERS


def upscale(network: Network, image: Image.Image, device: torch.device, watch: Watch) -> Image.Image:
    """Enlarge an RGB picture by a network on its device; `watch` is told how many tiles are done.

    Raises:
        UsageError: the result would have over 100 megapixels.
        OutOfMemoryError: not even small tiles fit.
    """
    width, height = (network.scale * side for side in image.size)
    if width * height > PIXEL_LIMIT:
        raise UsageError(
            f"A picture of {image.width}x{image.height} would become {width}x{height}; at most 100 megapixels are made."
        )
    return enlarge_image(network, image, device, watch)


def carried_on(source: Path | str, files: UpscalerFiles) -> Metadata | None:
    """Return what a picture says of how it was made, with the upscaler added, so that it can be made again.

    None for a picture that says nothing, that was upscaled before, as a config has one upscaler, or of which only a
    part was drawn: an upscaler of the config works on what is drawn, before it is put into the whole. None for one of a
    drawer that draws at any size itself, and for a filtered one, as filters come after the config's upscaler.
    """
    try:
        metadata = read_metadata(Path(source))
    except UsageError:
        return None
    if metadata.models is None or metadata.models.upscaler is not None:
        return None
    mask, targets, output = (metadata.config.get(section) for section in ("mask", "targets", "output"))
    parts = [(mask, "original"), (targets, "path")]
    if any(isinstance(section, dict) and section.get(key) for section, key in parts):
        return None
    drawer = DRAWERS.get(str(metadata.config.get("drawer")))
    if metadata.config.get("filters") or (drawer is not None and drawer.vector):
        return None
    name = files.name if files.name in (EMBEDDED, *UPSCALERS) else str(files.path.absolute())
    return dataclasses.replace(
        metadata,
        config={**metadata.config, "output": {**(output if isinstance(output, dict) else {}), "upscale": name}},
        models=dataclasses.replace(metadata.models, upscaler=ModelHash(name, known_sha256(files.path))),
    )
