"""The work itself: groups of jobs that fit together become pictures, with the models loaded once."""

import contextlib
import dataclasses
import errno
import hashlib
import json
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from tempfile import TemporaryDirectory
from typing import Any

from vqclip.batch.jobs import Job, files_named
from vqclip.common.errors import ExitCode, OutOfMemoryError, OutputError, UsageError, VqclipError
from vqclip.common.images import check_side
from vqclip.common.process_memory import available_memory
from vqclip.config.loader import to_dict
from vqclip.config.prompts import likeness
from vqclip.config.schema import Config, OutputConfig
from vqclip.hub.access import Access
from vqclip.hub.model_files import find_models
from vqclip.optimisation.step import Finished, Sink, Step
from vqclip.outputs.frames import frame_files
from vqclip.outputs.picture import save_picture
from vqclip.outputs.state import State
from vqclip.outputs.video import check_video, write_video
from vqclip.pipeline.assemble import Parts, assemble
from vqclip.pipeline.load import Models, load_models
from vqclip.pipeline.memory_fit import Budget
from vqclip.pipeline.plan import Plan, make_plan
from vqclip.pipeline.provenance import describe, fingerprint, restore
from vqclip.pipeline.run import run
from vqclip.runs.session import composing, frame_sinks

CURVE = 40
"""Points of a loss curve that are kept."""

DISK_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Failures of the place rather than of one name in it."""

TOGETHER = {"cpu": 4, "cuda": 16, "mps": 4}
"""Pictures optimised at once where the user leaves it open, by the kind of device."""


@dataclass(frozen=True)
class JobResult:
    """What came of one job: the picture file's bytes, or an error with its exit code.

    `beside` are further files by their names in the batch's folder: an SVG, a video, frames.
    """

    id: str
    picture: bytes = b""
    error: str | None = None
    code: int = 0
    seconds: float = 0.0
    scores: dict[str, float] | None = None
    losses: tuple[float, ...] = ()
    together: int = 1
    beside: tuple[tuple[str, bytes], ...] = ()


def groups(jobs: Sequence[Job], size: int) -> Iterator[list[Job]]:
    """Put jobs together whose settings are the same but for prompt and seed, and whose prompts name the same files, as
    the start may be one of them; at most `size` of them, in their order. Each that travels stays alone.

    Groups that need the same models follow one another, so that these are loaded once.
    """
    alike: dict[str, dict[str, list[Job]]] = {}
    for job in jobs:
        if job.config is not None:
            key = _alike(job.config)
            alike.setdefault(_models_key(job.config), {}).setdefault(key, []).append(job)
    for shapes in alike.values():
        for members in shapes.values():
            most = 1 if any(job.config and job.config.targets.path for job in members) else size
            for start in range(0, len(members), most):
                yield members[start : start + most]


def _alike(config: Config) -> str:
    content = to_dict(config)
    del content["seed"]
    content["prompts"] = [likeness(config.prompts), files_named(config)]
    return json.dumps(content, sort_keys=True)


def _models_key(config: Config) -> str:
    content = to_dict(config)
    kept = {key: content[key] for key in ("drawer", "vqgan", "perceptors")}
    prior = [content["prior"]["name"], content["init"]["kind"]]
    runtime = [content["runtime"][key] for key in ("device", "precision", "accelerate")]
    return json.dumps([kept, prior, content["output"]["upscale"], runtime], sort_keys=True)


class Worker:
    """Makes pictures, group by group, and keeps the models of the last group.

    Models that are missing are fetched where `access` says so. A group that is stopped or killed leaves its state below
    the folder `states`, if there is one, and goes on from it when the same jobs come together again.
    """

    def __init__(self, access: Access = Access.HERE, states: Path | None = None, sharing: int = 1) -> None:
        self.access, self.states = access, states
        self.loaded: tuple[str, Models] | None = None
        self.budget = Budget(lambda: _share(sharing))

    def make(self, jobs: Sequence[Job], stop: Callable[[], bool] = lambda: False) -> list[JobResult] | None:
        """Make the pictures of a group; None when `stop` said so on the way.

        Where the group fails, each of its jobs is done alone, so that one does not spoil the others, and `stop` leaves
        those that are done.

        Raises:
            OutputError: the disk is full or may not be written, which every other job would meet too.
        """
        try:
            return self._together(jobs, stop)
        except VqclipError as error:
            if is_of_the_disk(error):
                raise
            if len(jobs) == 1:
                return [JobResult(jobs[0].id, error=str(error), code=int(error.code))]
        except Exception as error:  # a bug of ours, or of a library: one job's, not the batch's
            if len(jobs) == 1:
                return [JobResult(jobs[0].id, error=_words(error), code=int(_code(error)))]
        made: list[JobResult] = []
        for job in jobs:
            alone = self.make([job], stop)
            if alone is None:
                return made or None
            made += alone
        return made

    def _together(self, jobs: Sequence[Job], stop: Callable[[], bool]) -> list[JobResult] | None:
        began = time.monotonic()
        plans = [make_plan(job.config) for job in jobs if job.config is not None]
        for job, each in zip(jobs, plans, strict=True):
            _check_files(job, each)
        plan = self.budget.fit(_joined(plans))
        curve = Curve()
        parts = assemble(plan, self._models(plan))
        state = self._state_of(jobs)
        made = []
        with TemporaryDirectory(prefix="vqclip-") as folder:
            frames = (state or Path(folder)) / "frames"
            way = frames.with_name("way") if plan.config.output.save_every else frames
            finished = run(parts, [curve, *frame_sinks(parts, frames, way), *_saving(parts, state)], stop)
            if finished is None:
                return None
            seconds = (time.monotonic() - began) / len(jobs)
            for number, job in enumerate(jobs):
                file = Path(folder) / f"picture{Path(job.output).suffix}"
                facts = describe(parts, finished, number) if plan.config.output.metadata else None
                save_picture(file, finished.images[number], facts, composing(parts, way))
                drawing = parts.svg(finished.latent[number]) if parts.svg else None
                beside = _beside(job, plan.config.output, frame_files(frames, number), Path(folder), drawing)
                made.append(
                    JobResult(
                        id=job.id,
                        picture=file.read_bytes(),
                        seconds=round(seconds, 3),
                        scores=finished.scores[number],
                        losses=curve.of(number),
                        together=len(jobs),
                        beside=tuple(beside),
                    )
                )
        if state is not None:
            shutil.rmtree(state, ignore_errors=True)
        return made

    def _state_of(self, jobs: Sequence[Job]) -> Path | None:
        """Where the state of this group is kept while it is unfinished."""
        if self.states is None:
            return None
        return self.states / hashlib.sha256(" ".join(job.id for job in jobs).encode()).hexdigest()[:16]

    def _models(self, plan: Plan) -> Models:
        key = _models_key(plan.config)
        if self.loaded is None or self.loaded[0] != key:
            self.loaded = None  # the old ones go before the new ones come
            self.loaded = key, load_models(plan, find_models(plan.config, self.access))
        return self.loaded[1]


def _saving(parts: Parts, state: Path | None) -> list[Sink]:
    """Put a saved state back into the descent, and return the sink that saves further ones."""
    if state is None:
        return []
    with contextlib.suppress(VqclipError):  # a state of other settings or weights: start over
        restore(parts, state)
    runtime = parts.plan.config.runtime
    return [State(state, runtime.state_every, runtime.state_seconds, fingerprint(parts))]


def _check_files(job: Job, plan: Plan) -> None:
    """Find out before the run whether a job's picture and video can be written.

    Raises:
        UsageError: they cannot, or they would have one name.
    """
    check_side(Path(job.output), plan.result_size)
    video = plan.config.output.video
    if video:
        check_video(video)
        if PurePosixPath(job.output).suffix.lower() == f".{video}":
            raise UsageError(f"output {job.output!r} is the name of its video too; choose another video, or .png.")


def _beside(
    job: Job, output: OutputConfig, frames: Sequence[Path], folder: Path, drawing: str | None
) -> Iterator[tuple[str, bytes]]:
    """What a job's settings ask for beside its picture: an SVG document, the frames, and a video of them, which is made
    in `folder`."""
    if drawing is not None:
        yield str(PurePosixPath(job.output).with_suffix(".svg")), drawing.encode()
    if output.save_every:
        yield from ((f"{job.output}.frames/{_step_name(frame)}", frame.read_bytes()) for frame in frames)
    if output.video:
        video = folder / f"video.{output.video}"
        write_video(video, frames, output.fps)
        yield str(PurePosixPath(job.output).with_suffix(video.suffix)), video.read_bytes()


def _step_name(frame: Path) -> str:
    """A frame's name without the number of its picture."""
    return f"{frame.stem.partition('-')[0]}{frame.suffix}"


def _joined(plans: Sequence[Plan]) -> Plan:
    """One plan for the pictures of several that differ in prompt and seed only."""
    pictures = [picture for plan in plans for picture in plan.pictures]
    notes = list(dict.fromkeys(note for plan in plans for note in plan.notes))
    return dataclasses.replace(plans[0], pictures=pictures, notes=notes)


def is_of_the_disk(error: VqclipError) -> bool:
    """Whether the place failed, and not the job."""
    return isinstance(error, OutputError) and getattr(error.__cause__, "errno", None) in DISK_ERRORS


def _share(sharing: int) -> int | None:
    """The free memory that is left to one of several workers on this machine."""
    free = available_memory()
    return None if free is None else free // sharing


class Curve:
    """A sink that keeps each picture's total loss at every step."""

    def __init__(self) -> None:
        self.totals: list[list[float]] = []

    def step(self, step: Step) -> None:
        """Keep the step's losses."""
        values: Any = sum(step.losses.values())
        self.totals.append(values.tolist())

    def finish(self, finished: Finished) -> None:
        """Nothing: the curve is complete."""

    def stop(self, last: Step | None) -> None:
        """Nothing: the curve goes with the run."""

    def of(self, picture: int) -> tuple[float, ...]:
        """Return at most CURVE of a picture's losses, evenly spaced, the last one among them."""
        count = len(self.totals)
        chosen = sorted({round(at * (count - 1) / max(1, min(CURVE, count) - 1)) for at in range(min(CURVE, count))})
        return tuple(round(self.totals[number][picture], 5) for number in chosen)


def _words(error: Exception) -> str:
    return f"vqclip has a bug: {type(error).__name__}: {error}".splitlines()[0]


def _code(error: Exception) -> ExitCode:
    return OutOfMemoryError.code if isinstance(error, MemoryError) else ExitCode.BUG


def group_size(jobs: Iterable[Job], asked: int | None) -> int:
    """Return how many pictures to optimise at once: what the user asked, or what the kind of device suggests."""
    if asked is not None:
        return asked
    from vqclip.common.runtime import resolve_device

    first = next((job.config for job in jobs if job.config is not None), None)
    try:
        kind = resolve_device(first.runtime.device).type if first else "cpu"
    except VqclipError:
        return 1  # each job will say so for itself
    return TOGETHER[kind]
