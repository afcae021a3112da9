"""What a picture carries of how it was made, and what a saved state belongs to."""

import dataclasses
import sys
from importlib.metadata import version
from typing import Any

from vqclip import __version__
from vqclip.config.loader import to_dict
from vqclip.optimisation.step import Finished
from vqclip.outputs.metadata import Metadata
from vqclip.pipeline.assemble import Parts

LIBRARIES = ("torch", "open_clip_torch", "taming-transformers", "pillow")


def describe(parts: Parts, finished: Finished, picture: int) -> Metadata:
    """Describe one picture so that it can be made again: the config of this picture alone, and no clock."""
    config, this = parts.plan.config, parts.plan.pictures[picture]
    alone = dataclasses.replace(
        config,
        prompts=[this.prompt] if this.prompt else [],
        seed=this.seed,
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
        step=finished.step,
        scores=finished.scores[picture],
        libraries={"python": sys.version.split()[0], **{name: version(name) for name in LIBRARIES}},
    )


def fingerprint(parts: Parts) -> dict[str, Any]:
    """Say what a saved state belongs to: everything that decides the pictures, except how long it runs.

    How the work is parted to fit the memory decides rounding only, and may be another when the run goes on.
    """
    config = to_dict(parts.plan.config)
    del config["output"]
    del config["optimise"]["steps"]
    del config["cutouts"]["micro_batch"]
    for key in ("state_every", "state_seconds", "low_memory"):
        del config["runtime"][key]
    return {"config": config, "models": parts.models.to_json(), "inputs": dict(parts.inputs.sha256)}
