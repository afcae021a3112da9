"""The user's pictures that a run is made from: each is read once, and hashed as it was read."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from vqclip.common.errors import UsageError
from vqclip.common.images import open_image, open_regular
from vqclip.pipeline.plan import Plan, input_files

LARGEST = 2**30
"""Bytes of a picture file that are read."""


@dataclass(frozen=True)
class Inputs:
    """Pictures by their paths, as RGB, and the SHA-256 of the very bytes that were read."""

    images: Mapping[str, Image.Image] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)


def read_inputs(plan: Plan) -> Inputs:
    """Read every picture that the plan starts from or resembles.

    Raises:
        UsageError: one is missing, unreadable, or no picture.
    """
    images, hashes = {}, {}
    for file in input_files(plan.config, plan.image_prompts):
        data = _read(file)
        images[file] = open_image(io.BytesIO(data), file)
        hashes[file] = hashlib.sha256(data).hexdigest()
    return Inputs(images, hashes)


def _read(file: str) -> bytes:
    try:
        with open_regular(file) as opened:
            data = opened.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no path"
        raise UsageError(f"Cannot read the image {file!r}: {reason}.") from error
    if len(data) > LARGEST:
        raise UsageError(f"The image {file!r} is over {LARGEST // 2**20} MiB; give a smaller one.")
    return data
