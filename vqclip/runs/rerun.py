"""Making a picture again from what it carries: prompt, seed, config and hashes, as data and never as code."""

import dataclasses
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from vqclip.common.errors import UsageError
from vqclip.common.hashes import input_sha256
from vqclip.common.paths import is_file
from vqclip.config.loader import config_from_dict
from vqclip.config.prompts import with_files
from vqclip.config.schema import NO_REFERENCE, Config, parse_size
from vqclip.config.starts import EMBEDDED
from vqclip.hub.upscaler_files import NONE
from vqclip.models.provenance import ModelHash, ModelHashes
from vqclip.outputs.metadata import Metadata
from vqclip.outputs.picture import read_metadata
from vqclip.pipeline.named_files import IMAGE_WEIGHT, with_loss_files

LARGEST = 4096 * 4096
"""Pixels that a picture's metadata may ask for; a config of one's own may ask for more."""


@dataclass(frozen=True)
class Rerun:
    """A config that makes a picture again, and what the picture says of how it was made."""

    config: Config
    metadata: Metadata


def read_rerun(
    path: Path,
    overrides: Sequence[str] = (),
    files: Mapping[str, str] | None = None,
    options: Mapping[str, object] | None = None,
) -> Rerun:
    """Read what `path` carries, with single settings changed by `overrides` (`key=value`) and `options` (by key).

    Where the picture went is not taken over, only how it was upscaled. The pictures that it was made from are found
    where they were, if they are still the same there, else where `files` {old path: new path} says.

    Raises:
        UsageError: the file carries no metadata, or something that is no config, or a picture that it was made from
            is gone or another one.
    """
    metadata = read_metadata(path)
    where = f"the metadata of {str(path)!r}"
    stated = {key: value for key, value in metadata.config.items() if key not in ("output", "count")}
    output = metadata.config.get("output")
    upscale = output.get("upscale", NONE) if isinstance(output, Mapping) else NONE  # earlier versions did not
    config = config_from_dict({**stated, "output": {"upscale": upscale}}, where, overrides, options)
    said = {word.partition("=")[0].strip() for word in overrides}
    if "size" not in said:
        _check_size(config, where)
    if "targets.reference" not in said:
        _check_agreed(config.targets.reference, files or {})
    return Rerun(_with_inputs(config, metadata.inputs, files or {}), metadata)


def differences(metadata: Metadata, models: ModelHashes, reference: str | None = None) -> list[str]:
    """Return a sentence for each thing that is not as it was, so that the picture may differ; `reference` is the hash
    of the folder that the run aims by, if there is one.
    """
    found = []
    if metadata.models is None or _digest(metadata.models.vqgan) != _digest(models.vqgan):
        found.append("the file of the vqgan is another one than made the picture")
    if metadata.models is None or _digest(metadata.models.prior) != _digest(models.prior):
        found.append("the file of the prior is another one than made the picture")
    if metadata.models is None or _digest(metadata.models.upscaler) != _digest(models.upscaler):
        found.append("the file of the upscaler is another one than made the picture")
    if metadata.models is None or [*map(_digest, metadata.models.perceptors)] != [*map(_digest, models.perceptors)]:
        found.append("the files of the perceptors are others than made the picture")
    if reference is not None and reference not in metadata.inputs.values():
        found.append("targets.reference holds other pictures than then")
    for name, was in metadata.libraries.items():
        if (current := _version(name)) != was:
            found.append(f"{name} is {current}, and was {was}")
    if metadata.extended:
        found.append(f"it went on from the latent of {metadata.extended} steps, which one run of all steps does not")
    if metadata.together > 1:
        found.append(f"it was made together with {metadata.together - 1} others, which rounds differently")
    return found


def _check_size(config: Config, where: str) -> None:
    width, height = parse_size(config.size)
    if width * height > LARGEST:
        raise UsageError(f"{where} asks for {config.size} pixels; if you mean it, give the size with --set size=…")


def _check_agreed(folder: str, files: Mapping[str, str]) -> None:
    """A folder of a reference that only the picture names is not looked through before the user says so."""
    if folder not in (NO_REFERENCE, EMBEDDED, *files):
        raise UsageError(
            f"The picture was aimed by the pictures of {folder!r}: say where they are with --file OLD=NEW, or leave "
            "them out with --set targets.reference=none."
        )


def _with_inputs(config: Config, inputs: Mapping[str, str], files: Mapping[str, str]) -> Config:
    """Put the pictures that it was made from into the config, from where they are now."""
    unused = [old for old in files if old not in {*inputs, config.targets.reference} - {NO_REFERENCE}]
    if unused:
        known = ", ".join(map(repr, inputs)) or "none"
        raise UsageError(f"--file {unused[0]!r}: the picture was not made from such a file (made from: {known}).")
    prompts = []
    for entry in config.image_prompts:
        matched = None if entry in inputs else IMAGE_WEIGHT.fullmatch(entry)
        file, weight = (matched[1], f":{matched[2]}") if matched else (entry, "")
        prompts.append(_found(file, inputs, files) + weight)
    init, mask, overlay, found = config.init, config.mask, config.overlay, partial(_found, inputs=inputs, files=files)
    return dataclasses.replace(
        config,
        init=dataclasses.replace(init, image=init.image and _found(init.image, inputs, files)),
        mask=dataclasses.replace(
            mask,
            original=mask.original and _found(mask.original, inputs, files),
            image=mask.image and _found(mask.image, inputs, files),
        ),
        targets=dataclasses.replace(
            config.targets,
            path=[_found(point, inputs, files) for point in config.targets.path],
            reference=files.get(config.targets.reference, config.targets.reference),
        ),
        image_prompts=prompts,
        overlay=dataclasses.replace(overlay, image=overlay.image and _found(overlay.image, inputs, files)),
        losses=with_loss_files(config.losses, found),
        prompts=[with_files(prompt, found) for prompt in config.prompts],
        negatives=[with_files(prompt, found) for prompt in config.negatives],
    )


def _found(file: str, inputs: Mapping[str, str], files: Mapping[str, str]) -> str:
    """Where the picture is that had this path; a path that the metadata does not vouch for is one of --set."""
    if file not in inputs:
        return file
    place = files.get(file, file)
    if not is_file(place):
        raise UsageError(
            f"The picture was made from {file!r}, which is not there: say where it is with --file OLD=NEW."
        )
    if (found := input_sha256(place)) != inputs[file]:
        raise UsageError(
            f"{place!r} is not the file that the picture was made from (sha256 then {inputs[file]}, now {found}): give "
            "that one with --file OLD=NEW."
        )
    return place


def _digest(model: ModelHash | None) -> str | None:
    return model.sha256 if model else None


def _version(name: str) -> str:
    if name == "python":
        return sys.version.split()[0]
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
