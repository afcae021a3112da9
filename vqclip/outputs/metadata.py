"""What a picture carries of how it was made: written once, and read from files that anybody may have made."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vqclip.common.text import parse_json
from vqclip.models.provenance import ModelHashes

LIMIT = 1_000_000
"""Characters of JSON that are read."""

LARGEST = 1e30
"""A score beyond this, or NaN, is left out."""


@dataclass(frozen=True)
class Metadata:
    """How one picture was made.

    `config` is the resolved config of this picture alone, unchecked where it was read from a file; `models` the
    weights by hash; `extended` the steps of a finished run from whose latent this one went on, 0 for a run in one;
    `inputs` the SHA-256 of the pictures it was made from, by the paths they had; `together` how many
    pictures were made at once, which decides the last digits of rounding, and `number` which of them this is, from 0
    on; `scores` the cosine similarity to its
    prompts by perceptor; `libraries` the versions that made it.
    """

    version: str
    prompt: str
    seed: int | None
    config: Mapping[str, Any]
    models: ModelHashes | None
    inputs: Mapping[str, str] = field(default_factory=dict)
    together: int = 1
    number: int = 0
    step: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)
    libraries: Mapping[str, str] = field(default_factory=dict)
    extended: int = 0

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, texts and numbers."""
        facts = {name: dict(value) if isinstance(value, Mapping) else value for name, value in vars(self).items()}
        return {**facts, "models": self.models.to_json() if self.models else {}}

    @classmethod
    def from_json(cls, text: str) -> "Metadata":
        """Read what `json.dumps(to_json())` wrote. What has another type than it should is left out, but a config.

        Raises:
            ValueError: it is no JSON, too long, too deep, or holds no config.
        """
        if len(text) > LIMIT:
            raise ValueError(f"longer than {LIMIT} characters")
        data = parse_json(text)
        if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
            raise ValueError("no config")
        return cls(
            version=_text(data.get("version")),
            prompt=_text(data.get("prompt")),
            seed=_whole(data.get("seed")),
            config=data["config"],
            models=_models(data.get("models")),
            inputs=_texts(data.get("inputs")),
            together=_whole(data.get("together")) or 1,
            number=_whole(data.get("number")) or 0,
            step=_whole(data.get("step")) or 0,
            extended=_whole(data.get("extended")) or 0,
            scores=_numbers(data.get("scores")),
            libraries=_texts(data.get("libraries")),
        )


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _whole(value: object) -> int | None:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None


def _texts(value: object) -> dict[str, str]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {key: text for key, text in pairs if isinstance(text, str)}


def _numbers(value: object) -> dict[str, float]:
    pairs = value.items() if isinstance(value, dict) else ()
    return {
        key: float(number)
        for key, number in pairs
        if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) < LARGEST
    }


def _models(value: object) -> ModelHashes | None:
    try:
        return ModelHashes.from_json(value)
    except ValueError:
        return None
