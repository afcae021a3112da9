"""One run and its files: start it, or go on with it, and leave its folder whole whatever happens."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from vqclip.common.errors import UsageError, VqclipError
from vqclip.common.files import write_text, writing
from vqclip.common.images import check_side
from vqclip.common.paths import is_file, is_there
from vqclip.config.loader import load_config, to_yaml
from vqclip.config.schema import Config
from vqclip.hub.upscaler_files import NONE
from vqclip.models.files import ModelFiles
from vqclip.optimisation.step import Finished, Interruption, Sink
from vqclip.outputs.frames import Frames, Videos
from vqclip.outputs.metrics import Metrics
from vqclip.outputs.picture import Pictures, read_latent
from vqclip.outputs.state import Partial, State
from vqclip.outputs.video import check_video
from vqclip.pipeline.assemble import Parts
from vqclip.pipeline.build import build
from vqclip.pipeline.memory_fit import Budget
from vqclip.pipeline.plan import AUTO, Plan
from vqclip.pipeline.provenance import describe, fingerprint, restore
from vqclip.pipeline.run import run
from vqclip.runs.folder import (
    RunFolder,
    check_free,
    clear,
    close,
    existing_run,
    holding,
    locate_run,
    point_latest,
    set_aside,
    slug,
)

VIDEO_FRAMES = 150  # frames of a video whose interval nobody chose


def folder_for(plan: Plan) -> RunFolder:
    """Choose where the plan's files go and check that the place is free.

    Raises:
        UsageError: an output name that cannot be used, or a video that cannot be made.
        OutputError: something is there already.
    """
    output, first = plan.config.output, plan.pictures[0]
    folder = locate_run(output.path, len(plan.pictures), slug(first.prompt, first.seed))
    if output.video:
        check_video(output.video)
    for image in folder.images[:1]:
        check_side(image, (plan.scale * plan.width, plan.scale * plan.height))
    check_free(folder, folder.videos(output.video) if output.video else [], output.overwrite)
    return folder


def start(
    plan: Plan,
    files: ModelFiles,
    folder: RunFolder,
    watchers: Callable[[Parts], Sequence[Sink]],
    interruption: Interruption,
) -> Finished | None:
    """Make the plan's pictures in `folder` with the models in `files`; return None when interrupted.

    `watchers` makes further sinks, such as a progress bar, once the models are loaded.

    Raises:
        BusyError: another process holds the folder.
        VqclipError: everything that `build`, `run` and writing raise; nothing half-written stays.
    """
    plan = Budget().fit(plan)
    with holding(folder):
        with _unless_started(folder):
            write_text(folder.config, to_yaml(_repeatable(plan.config)))
            parts = build(plan, files)
            clear(folder)
        point_latest(folder)
        return _go(parts, folder, watchers, interruption)


def unfinished(path: str) -> tuple[RunFolder, Config]:
    """Find a run by the path that the user gives `vqclip resume`, with the config it was started with.

    A run.yaml says what `auto` became; where it does not, an earlier version wrote it, which did not upscale.

    Raises:
        UsageError: there is no run.
    """
    folder = existing_run(path, 1)
    if not is_file(folder.config):
        raise UsageError(f"{path!r} is not a run: it has no run.yaml; give a run's folder or its picture file.")
    config = load_config([str(folder.config)])
    if config.output.upscale == AUTO:
        config = dataclasses.replace(config, output=dataclasses.replace(config.output, upscale=NONE))
    return dataclasses.replace(folder, count=max(1, len(config.prompts)) * config.count), config


def finished_pictures(path: str) -> list[Path]:
    """Return the pictures of the run that the user names if it is finished, else an empty list."""
    folder = existing_run(path, 1)
    if folder.is_file and not is_there(folder.home):
        return [folder.target] if is_file(folder.target) else []
    if is_there(folder.state) or not is_file(folder.config):
        return []
    folder, _ = unfinished(path)
    return folder.images if all(is_file(image) for image in folder.images) else []


def go_on(
    plan: Plan,
    files: ModelFiles,
    folder: RunFolder,
    watchers: Callable[[Parts], Sequence[Sink]],
    interruption: Interruption,
) -> Finished | None:
    """Continue a stopped run from its newest whole state, or from the start when it has none.

    Raises:
        UsageError, ModelError: the state belongs to another config, other pictures or other weights.
        VqclipError: as `start`.
    """
    plan = Budget().fit(plan)
    with holding(folder):
        parts = build(plan, files)
        restore(parts, folder.state)
        return _go(parts, folder, watchers, interruption)


def extend(
    plan: Plan,
    files: ModelFiles,
    folder: RunFolder,
    watchers: Callable[[Parts], Sequence[Sink]],
    interruption: Interruption,
) -> Finished | None:
    """Go on from the latent of a finished run to the plan's more steps; its pictures are kept beside the new ones.

    The optimiser starts afresh, as its state is not kept, so this is not the picture of one longer run.

    Raises:
        UsageError: the run kept no latent, or had as many steps already.
        ModelError: the models are others than the run's.
        VqclipError: as `start`.
    """
    if folder.latent is None or not is_file(folder.latent):
        raise UsageError(f"{str(folder.target)!r} kept no latent to go on from; only a run folder keeps one.")
    latent, done = read_latent(folder.latent)
    if plan.config.optimise.steps <= done:
        raise UsageError(f"This run is finished with {done} steps; give more than that with --steps.")
    plan = Budget().fit(plan)
    with holding(folder):
        parts = build(plan, files)
        try:
            parts.descent.start_from(latent, done)
        except ValueError as error:
            raise UsageError(
                f"The latent in {str(folder.latent)!r} does not fit this config ({error}); start the run anew."
            ) from error
        set_aside(folder, done)
        write_text(folder.config, to_yaml(_repeatable(plan.config)))
        return _go(parts, folder, watchers, interruption)


def _go(
    parts: Parts,
    folder: RunFolder,
    watchers: Callable[[Parts], Sequence[Sink]],
    interruption: Interruption,
) -> Finished | None:
    sinks = [*_sinks(parts, folder), *watchers(parts)]
    with interruption.deferred():
        finished = run(parts, sinks, interruption.received)
    if finished is not None:
        close(folder)
    return finished


def _sinks(parts: Parts, folder: RunFolder) -> list[Sink]:
    """Make the sinks that the config asks for; the pictures come before the video, which may fail."""
    config = parts.plan.config
    output, total = config.output, config.optimise.steps
    sinks: list[Sink] = [
        Metrics(folder.metrics, parts.descent.number),
        State(folder.state, config.runtime.state_every, config.runtime.state_seconds, fingerprint(parts)),
        Partial(folder.partials),
        Pictures(
            folder.images,
            folder.latent,
            lambda finished, picture: describe(parts, finished, picture) if output.metadata else None,
        ),
    ]
    if output.save_every:
        sinks.append(Frames(folder.frames, output.save_every))
    if output.video:
        scratch = folder.frames if output.save_every else folder.state / "frames"
        if not output.save_every:
            sinks.append(Frames(scratch, max(1, total // VIDEO_FRAMES)))
        sinks.append(Videos(scratch, folder.videos(output.video), keep_frames=bool(output.save_every)))
    return sinks


def _repeatable(config: Config) -> Config:
    """Leave out where the pictures go, so that run.yaml can be run again without overwriting them."""
    return dataclasses.replace(config, output=dataclasses.replace(config.output, path=None, overwrite=False))


@contextlib.contextmanager
def _unless_started(folder: RunFolder) -> Iterator[None]:
    """Put the folder back as it was when the run fails before its first step."""
    before = folder.config.read_text("utf-8") if is_file(folder.config) else None
    try:
        yield
    except BaseException:
        with contextlib.suppress(VqclipError), writing(folder.config):
            folder.config.unlink(missing_ok=True) if before is None else write_text(folder.config, before)
        raise
