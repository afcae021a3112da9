"""What every stage of a run does to the machine: its CPU threads while it computes, and a word where memory ends."""

import contextlib
from collections.abc import Iterator

from vqclip.common.errors import OutOfMemoryError
from vqclip.common.runtime import is_out_of_memory, using_threads
from vqclip.pipeline.plan import Plan

MEMORY_ADVICE = "make --size smaller, or set runtime.low_memory=true, or draw fewer pictures at once."


@contextlib.contextmanager
def computing(plan: Plan) -> Iterator[None]:
    """Compute with the plan's threads inside; the process has its own number again afterwards.

    Raises:
        OutOfMemoryError: the machine has not enough memory for what is done inside.
    """
    with using_threads(plan.config.runtime.threads):
        try:
            yield
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            raise OutOfMemoryError(f"Not enough memory: {MEMORY_ADVICE}") from error
