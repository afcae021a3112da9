"""Parting a run's work so that it fits the memory, before it starts: on a CPU the kernel kills instead of saying no."""

import dataclasses
import logging
from collections.abc import Callable, Iterator

from vqclip.common.errors import OutOfMemoryError
from vqclip.common.process_memory import available_memory, resident_memory
from vqclip.common.quantities import memory
from vqclip.config.starts import VQGAN
from vqclip.hub.clip_files import EMBEDDED_FOLDERS
from vqclip.pipeline.memory_estimate import LIBRARIES, estimate_memory
from vqclip.pipeline.plan import Plan

log = logging.getLogger(__name__)

MARGIN = 1.1
"""What weights and tensors are taken for, over their estimate; enough with UNCOUNTED from 128 to 512 pixels."""

UNCOUNTED = 400 * 2**20
"""Bytes for what no estimate counts: libraries that are imported later, and the prior's drawing (measured: 320 MB)."""

EMBEDDED_PIXEL, EMBEDDED_VIEW = 6 * 2**10, 8 * 2**20
"""Bytes that the embedded models need less than, in fp32, per pixel and per cutout of a picture."""


class Budget:
    """What the process may take beyond what it has taken when this is made; what it takes later, it can use again.

    `free` and `resident` tell the bytes that are left and those that the process has.
    """

    def __init__(
        self,
        free: Callable[[], int | None] = available_memory,
        resident: Callable[[], int] = resident_memory,
    ) -> None:
        self.free, self.resident = free, resident
        self.libraries = resident()

    def fit(self, plan: Plan) -> Plan:
        """Return the plan, on a CPU with as many cutouts at once as fit (halved step by step), then a light decoder.

        Only the rounding changes. The estimate takes 0.1 s per trial, so it is left out where the embedded models have
        plenty.

        Raises:
            OutOfMemoryError: it does not fit even so.
            UsageError, ModelError: as `estimate_memory`.
        """
        free = self.free() if plan.config.runtime.device == "cpu" else None
        if free is None:
            return plan
        room = free + max(0, self.resident() - self.libraries)
        if _has_plenty(plan, room):
            return plan
        for trial in _lighter(plan):
            needed = _needed(trial)
            if needed <= room:
                if trial is not plan:
                    views = trial.config.cutouts.micro_batch
                    log.warning("Memory is short (%d MiB are free); cutouts scored at once: %d.", room // 2**20, views)
                return trial
        raise OutOfMemoryError(
            f"This needs about {memory(needed)} of memory even with cutouts.micro_batch=1 and "
            f"runtime.low_memory=true, and {room // 2**20} MiB are free: make --size smaller, or draw fewer pictures "
            "at once (--count, for a batch --batch-size)."
        )


def _needed(plan: Plan) -> int:
    return int(MARGIN * (estimate_memory(plan) - LIBRARIES)) + UNCOUNTED


def _has_plenty(plan: Plan, room: int) -> bool:
    config = plan.config
    if config.drawer != VQGAN or config.optimise.space != "latent":
        return False
    names = {config.vqgan.name, *(guide.name for guide in config.guides)}
    if config.vqgan.file is not None or not names <= EMBEDDED_FOLDERS.keys():
        return False
    picture = plan.width * plan.height * EMBEDDED_PIXEL + config.cutouts.count * EMBEDDED_VIEW
    return room > UNCOUNTED + 2**28 + len(plan.pictures) * picture


def _lighter(plan: Plan) -> Iterator[Plan]:
    """The plan, and the same in smaller and smaller parts."""
    yield plan
    views = plan.config.cutouts.micro_batch or plan.config.cutouts.count
    while views > 1:
        views = (views + 1) // 2
        plan = _parted(plan, views, plan.config.runtime.low_memory)
        yield plan
    if not plan.config.runtime.low_memory:
        yield _parted(plan, views, True)


def _parted(plan: Plan, views: int, low_memory: bool) -> Plan:
    config = dataclasses.replace(
        plan.config,
        cutouts=dataclasses.replace(plan.config.cutouts, micro_batch=views),
        runtime=dataclasses.replace(plan.config.runtime, low_memory=low_memory),
    )
    return dataclasses.replace(plan, config=config)
