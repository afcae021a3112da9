"""Which weights a picture was made with: every model's name and its file's SHA-256."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ModelHash:
    """One model: the `name` that the config gave it, and the SHA-256 of its weights in hexadecimal."""

    name: str
    sha256: str

    @classmethod
    def from_json(cls, data: object) -> "ModelHash":
        """Read what `dataclasses.asdict` wrote.

        Raises:
            ValueError: it is something else.
        """
        if not (
            isinstance(data, Mapping) and isinstance(data.get("name"), str) and isinstance(data.get("sha256"), str)
        ):
            raise ValueError("a model must have a name and a sha256")
        return cls(data["name"], data["sha256"])


@dataclass(frozen=True)
class ModelHashes:
    """All models of a run; `vqgan` only where it drew, `prior` only where it made the start, `upscaler` only where one
    enlarged the pictures.
    """

    vqgan: ModelHash | None
    perceptors: tuple[ModelHash, ...]
    prior: ModelHash | None = None
    upscaler: ModelHash | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain dictionaries, without the models that there are none of."""
        return {
            **({"prior": vars(self.prior)} if self.prior else {}),
            **({"upscaler": vars(self.upscaler)} if self.upscaler else {}),
            **({"vqgan": vars(self.vqgan)} if self.vqgan else {}),
            "perceptors": [vars(perceptor) for perceptor in self.perceptors],
        }

    @classmethod
    def from_json(cls, data: object) -> "ModelHashes":
        """Read what `to_json` wrote.

        Raises:
            ValueError: it is something else.
        """
        if not isinstance(data, Mapping) or not isinstance(data.get("perceptors"), list):
            raise ValueError("the models must hold perceptors")
        vqgan, prior, upscaler = (data.get(kind) for kind in ("vqgan", "prior", "upscaler"))
        return cls(
            vqgan=None if vqgan is None else ModelHash.from_json(vqgan),
            perceptors=tuple(ModelHash.from_json(each) for each in data["perceptors"]),
            prior=None if prior is None else ModelHash.from_json(prior),
            upscaler=None if upscaler is None else ModelHash.from_json(upscaler),
        )
