"""Converting a checkpoint that the user has: into the store or into a file, and the one way round the safe reader."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from vqclip.common.errors import ModelError, OutputError, UsageError
from vqclip.common.files import replacing
from vqclip.common.hashes import private_copy
from vqclip.common.paths import is_file, is_there
from vqclip.hub.store import catalogue_hashes, convert_vqgan, unpickle
from vqclip.models.vqgan import save_vqgan

CATALOGUE = "catalogue"


def convert_file(
    file: Path,
    name: str | None,
    output: Path | None,
    *,
    config: Path | None = None,
    quantiser: str | None = None,
    half: bool = False,
    trust: str | None = None,
    force: bool = False,
) -> Path:
    """Write the VQGAN in `file` slim: into the store under `name` (the file's own, if None), or to `output`.

    `trust` lets a pickle's code run, in a process of its own: `catalogue` if the file is a published one by its
    hash, or the file's own SHA-256 (at least 16 digits of it), which is the user's word that its origin is known.

    Raises:
        UsageError: a name or an option that cannot be.
        ModelError: the file is missing, damaged, refused or no VQGAN.
        OutputError: the result cannot be written, or something is there.
    """
    if not is_file(file):
        raise UsageError(f"There is no file {str(file)!r}; check the path.")
    beside = next((path for path in (file.with_suffix(".yaml"), file.with_suffix(".yml")) if is_file(path)), None)
    with _safe(file, trust) as source:
        if output is None:
            return convert_vqgan(
                source,
                name or file.stem,
                config=config or beside,
                quantiser=quantiser,
                half=half,
                force=force,
                origin=file,
            )
        return _write(source, output, config or beside, quantiser, half, force)


def _write(source: Path, output: Path, config: Path | None, quantiser: str | None, half: bool, force: bool) -> Path:
    if output.suffix != ".safetensors":
        raise UsageError(f"--output {str(output)!r} must end in .safetensors.")
    if is_there(output) and not force:
        raise OutputError(f"{str(output)!r} is there already: choose another --output, or add --force.")
    with replacing(output) as part:
        save_vqgan(source, part, config, quantiser, half=half)
    return output


@contextlib.contextmanager
def _safe(file: Path, trust: str | None) -> Iterator[Path]:
    """Give a file that the safe reader takes: the file itself, or what a trusted pickle's code made of it."""
    if trust is None:
        yield file
        return
    with private_copy(file) as (copy, digest):
        _check_trust(file, digest, trust)
        tensors = copy.with_name("tensors.safetensors")
        unpickle(copy, tensors)
        yield tensors


def _check_trust(file: Path, digest: str, trust: str) -> None:
    if trust == CATALOGUE and digest in catalogue_hashes():
        return
    if len(trust) >= 16 and digest.startswith(trust.lower()):
        return
    if trust == CATALOGUE:
        raise ModelError(
            f"{str(file)!r} is none of the published files, so its code is not run; if you know where it is from, "
            f"say so with: --trust-pickle {digest}"
        )
    raise UsageError(
        f"--trust-pickle {trust!r} is not the SHA-256 of {str(file)!r}; it is `catalogue`, or the hash of a file "
        "whose origin you know."
    )
