"""What a picture carries of how it was made, and what a saved state belongs to."""

import dataclasses
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

from vqclip import __version__
from vqclip.common.errors import ModelError, UsageError
from vqclip.config.loader import config_from_dict, to_dict
from vqclip.config.schema import Config
from vqclip.optimisation.step import Finished
from vqclip.outputs.metadata import Metadata
from vqclip.outputs.state import load_state
from vqclip.pipeline.assemble import Parts

LIBRARIES = ("torch", "open_clip_torch", "taming-transformers", "pillow")


def describe(parts: Parts, finished: Finished, picture: int, extended: int = 0) -> Metadata:
    """Describe one picture so that it can be made again: the config of this picture alone, and no clock."""
    config, this = parts.plan.config, parts.plan.pictures[picture]
    alone = dataclasses.replace(
        config,
        prompts=[this.prompt] if this.prompt else [],
        seed=this.seed,
        seeds=[],
        count=1,
        output=dataclasses.replace(config.output, path=None),
    )
    return Metadata(
        version=__version__,
        prompt=this.prompt,
        seed=this.seed,
        config=to_dict(alone),
        models=parts.models,
        inputs=parts.inputs.sha256,
        together=len(parts.plan.pictures),
        number=picture,
        step=finished.step,
        extended=extended,
        scores=finished.scores[picture],
        libraries={"python": sys.version.split()[0], **{name: version(name) for name in LIBRARIES}},
    )


def fingerprint(parts: Parts) -> dict[str, Any]:
    """Say what a saved state belongs to: everything that decides the pictures, except how long it runs."""
    return {
        "config": _deciding(parts.plan.config),
        "models": parts.models.to_json(),
        "inputs": dict(parts.inputs.sha256),
    }


def restore(parts: Parts, folder: Path) -> bool:
    """Put the newest whole state in `folder` back into the run, and say whether there is one.

    Raises:
        ModelError: it was made with other weights.
        UsageError: it belongs to another config, or a picture that the run is made from was changed since.
    """
    saved = load_state(folder)
    if saved is None:
        return False
    found, now = saved.fingerprint, fingerprint(parts)
    if found.get("models") != now["models"]:
        raise ModelError(f"The state in {str(folder)!r} was made with other model files; start the run anew.")
    for file, digest in now["inputs"].items():
        before = found.get("inputs", {}).get(file, digest)  # a state of an earlier version does not say
        if before != digest:
            raise UsageError(
                f"{file!r} was changed since the run began (sha256 then {before}, now {digest}): put the file back, or "
                "start the run anew."
            )
    key = _first_difference(_deciding(config_from_dict(found.get("config"), "the state")), now["config"])
    if key is not None:
        raise UsageError(f"The state in {str(folder)!r} belongs to another config ({key} differs); start the run anew.")
    parts.descent.load_state_dict(saved.state)
    return True


def _deciding(config: Config) -> dict[str, Any]:
    """The settings that decide the pictures. How the work is parted to fit the memory decides rounding only, and may
    be another when the run goes on; settings that an earlier version did not know are at their defaults.
    """
    settings = to_dict(config)
    del settings["output"]
    del settings["optimise"]["steps"]
    del settings["cutouts"]["micro_batch"]
    for key in ("state_every", "state_seconds", "low_memory"):
        del settings["runtime"][key]
    return settings


def _first_difference(then: Mapping[str, Any], now: Mapping[str, Any]) -> str | None:
    """The dotted key of the first setting that is not the same."""
    for key, value in now.items():
        if isinstance(value, dict) and isinstance(then.get(key), dict) and key != "losses":
            inner = _first_difference(then[key], value)
            if inner is not None:
                return f"{key}.{inner}"
        elif then.get(key) != value:
            return key
    return None
