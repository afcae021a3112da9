"""What vqclip writes for itself and reads again carries a SHA-256 of its content, so that a flipped bit is noticed.

A file of bytes ends in it, which the readers of zip files (torch.save, numpy.savez) pass over; a JSON object holds it
under `check`. What older versions wrote has none and is taken as it is.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

MARK = b"\nsha256:"
LENGTH = len(MARK) + 64
KEY = "check"


def sealed(data: bytes) -> bytes:
    """Return the bytes with their checksum behind them."""
    return data + MARK + hashlib.sha256(data).hexdigest().encode()


def is_sealed(data: bytes) -> bool:
    """Whether a checksum stands behind the bytes."""
    return data[-LENGTH:-64] == MARK


def unsealed(data: bytes) -> bytes:
    """Return what `sealed` was given, or the bytes themselves where no checksum stands behind them.

    Raises:
        ValueError: they are not what was written.
    """
    if not is_sealed(data):
        return data
    body = data[:-LENGTH]
    if hashlib.sha256(body).hexdigest().encode() != data[-64:]:
        raise ValueError("its checksum is another")
    return body


def with_check(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object with its checksum."""
    return {**facts, KEY: _digest(facts)}


def without_check(facts: object) -> dict[str, Any]:
    """Return what `with_check` was given, or the object itself where it has no checksum.

    Raises:
        ValueError: it is no object, or not the one that was written.
    """
    if not isinstance(facts, dict):
        raise ValueError("it is no JSON object")
    rest = {key: value for key, value in facts.items() if key != KEY}
    if KEY in facts and facts[KEY] != _digest(rest):
        raise ValueError("its checksum is another")
    return rest


def _digest(facts: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
