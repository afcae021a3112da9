"""The user's pictures and vectors that a run is made from: each is read once, and hashed as it was read."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, field

from PIL import Image

from vqclip.common.errors import UsageError
from vqclip.common.images import open_image, open_regular
from vqclip.pipeline.named_files import head_files, input_files, vector_files
from vqclip.pipeline.plan import Plan
from vqclip.pipeline.vectors import Vectors, read_vectors

LARGEST = 2**30
"""Bytes of a picture file that are read."""


@dataclass(frozen=True)
class Inputs:
    """Pictures by their paths, as RGB, vectors by theirs, and the SHA-256 of the bytes of these and of heads."""

    images: Mapping[str, Image.Image] = field(default_factory=dict)
    sha256: Mapping[str, str] = field(default_factory=dict)
    vectors: Mapping[str, Vectors] = field(default_factory=dict)


def read_inputs(plan: Plan) -> Inputs:
    """Read every picture that the plan starts from or resembles, and its vectors.

    Raises:
        UsageError: one is missing, unreadable, or no picture, or no vectors.
    """
    images, vectors, hashes = {}, {}, {}
    for file in input_files(plan.config, plan.image_prompts):
        data = _read(file, "image")
        images[file] = open_image(io.BytesIO(data), file)
        hashes[file] = hashlib.sha256(data).hexdigest()
    for file in vector_files(plan.config):
        data = _read(file, "vectors")
        vectors[file] = read_vectors(data, file)
        hashes[file] = hashlib.sha256(data).hexdigest()
    for file in head_files(plan.config):
        hashes[file] = hashlib.sha256(_read(file, "head")).hexdigest()
    return Inputs(images, hashes, vectors)


def _read(file: str, what: str) -> bytes:
    try:
        with open_regular(file) as opened:
            data = opened.read(LARGEST + 1)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "that is no path"
        raise UsageError(f"Cannot read the {what} {file!r}: {reason}.") from error
    if len(data) > LARGEST:
        raise UsageError(f"The file {file!r} is over {LARGEST // 2**20} MiB; give a smaller one.")
    return data
