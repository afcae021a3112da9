"""From a plan to a run that is ready. Read this first; it names every other part.

plan.make_plan(config)          ─▶ Plan        nothing left open
hub.model_files.find_models     ─▶ ModelFiles  every file found, or fetched, once
load.load_models(plan, files)   ─▶ Models      VQGAN, perceptors and prior, which several plans may share
assemble.assemble(plan, models) ─▶ Parts       start, objective, optimiser: ready to descend
run.run(parts, sinks)           ─▶ Finished    each Step goes to every sink on the way
provenance.describe             ─▶ Metadata    what each picture carries of all that
"""

from collections.abc import Callable

from vqclip.common.quantities import counted
from vqclip.models.files import ModelFiles
from vqclip.pipeline.assemble import Parts, assemble
from vqclip.pipeline.load import load_models
from vqclip.pipeline.plan import Plan


def build(plan: Plan, files: ModelFiles, tell: Callable[[str], object] = lambda what: None) -> Parts:
    """Load the models for this plan alone, and assemble it; the text towers are freed. `tell` hears what takes a while.

    Raises:
        ModelError, UsageError, OutOfMemoryError: as `load_models` and `assemble`.
    """
    tell("loading models")
    models = load_models(plan, files)
    if models.proposer:
        tell(f"drawing {counted(plan.config.prior.candidates, 'start')} for each picture")
    parts = assemble(plan, models)
    for perceptor in models.perceptors:
        perceptor.drop_text_tower()
    return parts
