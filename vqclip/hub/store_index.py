"""What is in the store of VQGANs, and what is known of it; nothing here reads weights.

A model is one file `vqgan/NAME.safetensors` (slim: the network alone, its architecture in the header) or
`vqgan/NAME.ckpt` (as published) in the user's cache, beside a record `NAME.json` of what it is. Published models and
the user's own live side by side and are named alike.
"""

import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import get_type_hints

from vqclip.common.checksum import with_check, without_check
from vqclip.common.files import write_json
from vqclip.common.names import is_name, named
from vqclip.common.paths import cache_dir, is_file, listing
from vqclip.common.text import parse_json

log = logging.getLogger(__name__)

SUFFIXES = (".safetensors", ".ckpt")


@dataclass(frozen=True)
class Record:
    """What is known of a model in the store.

    `size` in bytes, `mtime_ns` and `sha256` are those of the file itself; `source` says where it came from and
    `original` is the SHA-256 of the checkpoint that it was made of. `damaged` is set when a check failed.
    """

    name: str
    size: int
    mtime_ns: int
    sha256: str
    source: str
    original: str
    half: bool = False
    damaged: bool = False


def store_dir() -> Path:
    """Return the folder of the store."""
    return cache_dir() / "vqgan"


def model_path(name: str, suffix: str) -> Path:
    """Return where the store keeps a model's file of this suffix, whether it is there or not.

    Raises:
        UsageError: the name is none that a file can have.
    """
    return named(store_dir(), name, suffix, "a model's")


def stored_file(name: str) -> Path | None:
    """Return a model's file, whatever its state, or None.

    Raises:
        UsageError: as `model_path`.
    """
    return next((path for suffix in SUFFIXES if is_file(path := model_path(name, suffix))), None)


def read_record(name: str) -> Record | None:
    """Return what is known of a model; None for a file that was put there by hand, or whose record is damaged.

    Raises:
        UsageError: as `model_path`.
    """
    path = model_path(name, ".json")
    try:
        record = _record(without_check(parse_json(path.read_bytes())))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        log.warning(
            "The record %r is not used, as it is damaged: %s. `vqclip models verify` mends it.", str(path), error
        )
        return None
    if record.name != name:
        log.warning("The record %r is not used: it is of another model, %r.", str(path), record.name)
        return None
    return record


def write_record(record: Record) -> None:
    """Write what is known of a model.

    Raises:
        OutputError: the cache cannot be written.
    """
    write_json(model_path(record.name, ".json"), with_check(asdict(record)))


def _record(facts: dict[str, object]) -> Record:
    for name, kind in get_type_hints(Record).items():
        if type(facts.get(name, Record.__dataclass_fields__[name].default)) is not kind:
            raise ValueError(f"its {name!r} is not what it should be")
    return Record(**facts)  # type: ignore[arg-type]


def stored_names() -> list[str]:
    """Return the names of all models in the store."""
    return sorted({path.stem for path in listing(store_dir()) if path.suffix in SUFFIXES and is_name(path.stem)})
