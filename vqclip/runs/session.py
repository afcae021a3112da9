"""One run and its files: start it, or go on with it, and leave its folder whole whatever happens."""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from torch import Tensor

from vqclip.common.errors import OutputError, UsageError, VqclipError
from vqclip.common.files import write_bytes, write_text, writing
from vqclip.common.images import check_side
from vqclip.common.paths import is_file, is_there
from vqclip.config.loader import load_config, to_yaml
from vqclip.config.schema import Config, OutputConfig
from vqclip.config.starts import AUTO
from vqclip.hub.upscaler_files import NONE
from vqclip.models.files import ModelFiles
from vqclip.optimisation.journey import last_updates
from vqclip.optimisation.step import Finished, Interruption, Sink, Step
from vqclip.outputs.frames import Frames, Videos, frame_name
from vqclip.outputs.metrics import Metrics
from vqclip.outputs.picture import Compose, Drawings, Pictures, read_latent, read_metadata
from vqclip.outputs.sheet import make_strip
from vqclip.outputs.state import Partial, State, saved_states
from vqclip.outputs.video import check_video
from vqclip.pipeline.assemble import Parts
from vqclip.pipeline.build import build
from vqclip.pipeline.memory_fit import Budget
from vqclip.pipeline.plan import Plan
from vqclip.pipeline.provenance import describe, fingerprint, restore
from vqclip.pipeline.run import run
from vqclip.runs.folder import (
    RunFolder,
    asides,
    check_free,
    check_untaken,
    clear,
    close,
    earlier_pictures,
    existing_run,
    forget_latent,
    holding,
    keep_names,
    kept_names,
    locate_run,
    point_latest,
    set_aside,
)
from vqclip.runs.naming import check_one_folder, fill, fill_each, slug

VIDEO_FRAMES = 150  # frames, at most, of a video whose interval nobody chose


def folder_for(plan: Plan) -> RunFolder:
    """Choose where the plan's files go and check that the place is free.

    Raises:
        UsageError: an output name that cannot be used, a picture that its format cannot hold, or a video that cannot
            be made.
        OutputError: something is there already.
    """
    output, first = plan.config.output, plan.pictures[0]
    place = output.path and fill(output.path, first.prompt, first.seed)
    folder = locate_run(place, len(plan.pictures), slug(first.prompt, first.seed))
    if output.path and place != output.path and folder.count > 1:
        pictures = [(picture.prompt, picture.seed) for picture in plan.pictures]
        check_one_folder(output.path, pictures, is_file=folder.is_file)
        if folder.is_file:
            folder = dataclasses.replace(folder, named=tuple(fill_each(Path(output.path).name, pictures)))
    if output.video:
        check_video(output.video)
        if set(folder.videos(output.video)) & set(folder.images):
            raise UsageError(f"{str(folder.target)!r} would be the video's name too: choose another format for one.")
    check_side(folder.images[0], plan.result_size)
    check_free(folder, _beside(folder, output), output.overwrite)
    return folder


def _beside(folder: RunFolder, output: OutputConfig) -> list[Path]:
    """The files that the run makes beside its pictures."""
    return [*(folder.videos(output.video) if output.video else []), *(folder.drawings if output.svg else [])]


def files_of(folder: RunFolder, output: OutputConfig) -> list[Path]:
    """Every picture and film that the run may write, finished or not, and the folder of its frames."""
    return [*folder.images, *folder.partials, *_beside(folder, output), folder.frames]


def start(
    plan: Plan,
    files: ModelFiles,
    folder: RunFolder,
    watchers: Callable[[Parts], Sequence[Sink]],
    interruption: Interruption,
    tell: Callable[[str], object] = lambda what: None,
    source: Path | None = None,
) -> Finished | None:
    """Make the plan's pictures in `folder` with the models in `files`; return None when interrupted.

    `watchers` makes further sinks, such as a progress bar, once the models are loaded; `tell` hears what takes a while.
    What the pictures are made of is not removed with an earlier run of the folder, nor the `source` of the config.

    Raises:
        BusyError: another process holds the folder.
        OutputError: another process left something there since `folder_for`.
        VqclipError: everything that `build`, `run` and writing raise; nothing half-written stays.
    """
    plan, output = Budget().fit(plan), plan.config.output
    with holding(folder), _unless_started(folder):
        if not output.overwrite:
            check_untaken(folder, _beside(folder, output))
        earlier = _earlier(folder, output.overwrite)
        forget_latent(folder)  # or a run that is killed now would go on from it
        keep_names(folder)
        write_text(folder.config, to_yaml(_repeatable(plan.config)))
        parts = build(plan, files, tell)
        files_given = [*map(Path, parts.inputs.sha256), *([source] if source else [])]
        given = {file.resolve() for file in files_given}
        clear(folder, given)
        replaced = Replaced({path for path in earlier if path not in folder.images and path.resolve() not in given})
        return _go(parts, folder, lambda parts: [replaced, *watchers(parts)], interruption)


def unfinished(path: str) -> tuple[RunFolder, Config]:
    """Find a run by the path that the user gives `vqclip resume`, with the config it was started with.

    A run.yaml says what `auto` became; where it does not, an earlier version wrote it, which did not upscale.

    Raises:
        UsageError: there is no run.
    """
    folder = existing_run(path, 1)
    if not is_file(folder.config) and folder.is_file and is_file(folder.target):
        raise UsageError(
            f"{path!r} is a picture, finished or not of vqclip, and nothing to go on from is beside it; "
            "a run folder (-o DIR/) keeps that."
        )
    if not is_file(folder.config):
        raise UsageError(f"{path!r} is not a run: it has no run.yaml; give a run's folder or its picture file.")
    config = load_config([str(folder.config)])
    if config.output.upscale == AUTO:
        config = dataclasses.replace(config, output=dataclasses.replace(config.output, upscale=NONE))
    count = max(1, len(config.prompts)) * config.count
    names = kept_names(folder) if folder.is_file else ()  # in a run folder pictures have names of ours
    return dataclasses.replace(folder, count=count, named=names if len(names) == count else ()), config


def _earlier(folder: RunFolder, overwrite: bool) -> list[Path]:
    """The pictures of the run that left its run.yaml here, if one did, and those of a finished one under the name of
    the picture file, where that may be overwritten."""
    pictures = earlier_pictures(folder) if folder.is_file and overwrite else []
    with contextlib.suppress(VqclipError):
        recorded = unfinished(str(folder.home))[0]
        pictures += [*recorded.images, *recorded.partials]
    return pictures


def finished_pictures(path: str) -> list[Path]:
    """Return the pictures of the run that the user names if it is finished, else an empty list.

    A picture file is one of a run where it says so itself.
    """
    folder = existing_run(path, 1)
    if folder.is_file and not is_there(folder.home):
        return [folder.target] if _is_ours(folder.target) else earlier_pictures(folder)
    if is_there(folder.state) or not is_file(folder.config):
        return []
    folder, _ = unfinished(path)
    return folder.images if all(is_file(image) for image in folder.images) else []


def keeps_latent(path: str) -> bool:
    """Whether the run that the user names finished, and kept what `go_on` can take further steps from."""
    folder = existing_run(path, 1)
    return folder.latent is not None and is_file(folder.latent) and not unfinished(path)[1].targets.path


def _is_ours(picture: Path) -> bool:
    """Whether a file is a picture that says how vqclip made it."""
    with contextlib.suppress(UsageError):
        return is_file(picture) and bool(read_metadata(picture))
    return False


def go_on(
    plan: Plan,
    files: ModelFiles,
    folder: RunFolder,
    watchers: Callable[[Parts], Sequence[Sink]],
    interruption: Interruption,
    tell: Callable[[str], object] = lambda what: None,
) -> Finished | None:
    """Continue a run: from its newest whole state, else from the latent that it finished with, else from the start.

    One that was stopped after its last step, while it wrote its pictures or their video, writes them. From a latent
    the optimiser starts afresh, as its state is not kept, so that is not the picture of one longer run; the finished
    pictures and videos are kept beside the new ones.

    Raises:
        UsageError, ModelError: the state belongs to another config, other pictures or other weights; a finished run
            kept no latent, or had as many steps already, or an unfinished one has more.
        OutputError: a file is where what is finished would be kept.
        VqclipError: as `start`.
    """
    latent, done = _finished_latent(folder)
    whole, left = all(map(is_file, folder.images)), plan.config.optimise.steps - done
    if done and (left < 0 or (left == 0 and whole and not is_there(folder.state))):
        raise UsageError(f"This run is finished with {done} steps; give more than that with --steps.")
    aside = asides(folder.results(plan.config.output), done) if done else []
    if whole and (taken := next(filter(is_there, aside), None)) is not None:
        raise OutputError(f"{str(taken)!r} is there already, where what is finished would go; move it away.")
    plan = Budget().fit(plan)
    with holding(folder), _unless_started(folder):
        parts = build(plan, files, tell)
        if not restore(parts, folder.state) and latent is not None:
            try:
                parts.descent.start_from(latent, done)
            except ValueError as error:
                raise UsageError(
                    f"The latent in {str(folder.latent)!r} does not fit this config ({error}); start the run anew."
                ) from error
        reached, steps = parts.descent.number, plan.config.optimise.steps
        if reached > steps:
            raise UsageError(f"This run is at step {reached} already; give at least that with --steps, not {steps}.")
        if left and done and plan.config.output.video and not plan.config.output.save_every:
            tell(
                f"The video will begin after step {done}, as the frames before were not kept (--save-every keeps them)."
            )
        write_text(folder.config, to_yaml(_repeatable(plan.config)))
        return _go(parts, folder, watchers, interruption, done if left else 0)


def _finished_latent(folder: RunFolder) -> tuple[Tensor | None, int]:
    """The latent that a run finished with, and after how many steps; None and 0 for one that never finished."""
    if folder.latent is not None and is_file(folder.latent):
        return read_latent(folder.latent)
    if is_file(folder.images[0]) and not is_there(folder.state):
        raise UsageError(f"{str(folder.target)!r} kept no latent to go on from; only a run folder keeps one.")
    return None, 0


def _go(
    parts: Parts,
    folder: RunFolder,
    watchers: Callable[[Parts], Sequence[Sink]],
    interruption: Interruption,
    extended: int = 0,
) -> Finished | None:
    sinks = [*_sinks(parts, folder, extended), *watchers(parts)]
    with interruption.deferred():
        finished = run(parts, sinks, interruption.received)
    if finished is not None:
        close(folder)
    return finished


def _sinks(parts: Parts, folder: RunFolder, extended: int) -> list[Sink]:
    """Make the sinks that the config asks for; the pictures come before the video, which may fail.

    `extended` is after how many steps the run had finished before.
    """
    config = parts.plan.config
    output = config.output
    frames = folder.frames if output.save_every else folder.scratch
    sinks: list[Sink] = [
        *frame_sinks(parts, frames, folder.scratch),
        Metrics(folder.metrics, parts.descent.number),
        State(folder.state, config.runtime.state_every, config.runtime.state_seconds, fingerprint(parts)),
        Partial(folder.partials, parts.compose),
    ]
    if parts.svg:
        sinks.append(Drawings(folder.drawings, parts.svg))
    sinks.append(
        Pictures(
            folder.images,
            folder.latent,
            lambda finished, picture: describe(parts, finished, picture, extended) if output.metadata else None,
            composing(parts, folder.scratch),
        )
    )
    sinks.append(Latest(folder))
    if extended:
        sinks.insert(0, SetAside(folder, folder.results(output), extended))
    if output.video:
        sinks.append(Videos(frames, folder.videos(output.video), keep_frames=bool(output.save_every), rate=output.fps))
    return sinks


def frame_sinks(parts: Parts, frames: Path, way: Path) -> list[Sink]:
    """Make what keeps pictures in the folder `frames`, where the config asks for them or a video, and the pictures of a
    journey in `way`: the same folder where nobody asks for others.
    """
    output, steps = parts.plan.config.output, parts.plan.config.optimise.steps
    every, ends = output.save_every or max(1, -(-steps // VIDEO_FRAMES)), _ends(parts)
    sinks: list[Sink] = [Frames(way, ends, parts.compose)] if ends else []
    if output.save_every or (output.video and not ends):
        sinks.append(Frames(frames, range(every, steps + 1, every), parts.compose))
    return sinks


def composing(parts: Parts, way: Path) -> Compose:
    """Return what makes the finished picture: of a journey it is a strip of its pictures in the folder `way`, each as
    its last update left it."""
    files = [way / frame_name(end) for end in _ends(parts)]
    return (lambda pixels: make_strip(list(filter(is_file, files)))) if files else parts.compose


def _ends(parts: Parts) -> list[int]:
    """After which updates the pictures of a journey are finished; none without one."""
    config = parts.plan.config
    return last_updates(config.targets.frames, config.optimise.steps) if config.targets.path else []


def _repeatable(config: Config) -> Config:
    """Leave out where the pictures go, so that run.yaml can be run again without overwriting them."""
    return dataclasses.replace(config, output=dataclasses.replace(config.output, path=None, overwrite=False))


class SetAside:
    """Keeps what a finished run of so many `steps` has `made`, its pictures and more, once the new ones are there."""

    def __init__(self, folder: RunFolder, made: Sequence[Path], steps: int) -> None:
        self.folder, self.made, self.steps = folder, made, steps

    def step(self, step: Step) -> None:
        """Wait for the end."""

    def finish(self, finished: Finished) -> None:
        """Give them other names, just before the new ones take theirs."""
        set_aside(self.folder, self.made, self.steps)

    def stop(self, last: Step | None) -> None:
        """Leave them: the run that goes on may come again."""


class Replaced:
    """Removes the pictures of an earlier run that the new one does not replace, once that has something to show."""

    def __init__(self, pictures: set[Path]) -> None:
        self.pictures = pictures

    def step(self, step: Step) -> None:
        """Remove them."""
        self._remove()

    def finish(self, finished: Finished) -> None:
        """Remove them."""
        self._remove()

    def stop(self, last: Step | None) -> None:
        """Leave those that are there."""

    def _remove(self) -> None:
        while self.pictures:
            path = self.pictures.pop()
            with writing(path):
                path.unlink(missing_ok=True)


class Latest:
    """Points `outputs/latest` to a run as soon as it has something to show."""

    def __init__(self, folder: RunFolder) -> None:
        self.folder, self.pointed = folder, False

    def step(self, step: Step) -> None:
        """Point to it, once."""
        if not self.pointed:
            point_latest(self.folder)
            self.pointed = True

    def finish(self, finished: Finished) -> None:
        """Point to it."""
        point_latest(self.folder)

    def stop(self, last: Step | None) -> None:
        """Leave it."""


@contextlib.contextmanager
def _unless_started(folder: RunFolder) -> Iterator[None]:
    """Put run.yaml, metrics and latent back as they were when a run fails before its first step is done; the state,
    frames and partial pictures of an unfinished run that it was to replace are gone."""
    files = [folder.config, folder.names, folder.metrics, *([folder.latent] if folder.latent else [])]
    before = {path: path.read_bytes() if is_file(path) else None for path in files}
    try:
        yield
    except BaseException:
        steps, kept = folder.metrics.read_bytes() if is_file(folder.metrics) else b"", before[folder.metrics] or b""
        if kept.startswith(steps) and not saved_states(folder.state):
            with contextlib.suppress(VqclipError), writing(folder.config):
                for path, content in before.items():
                    path.unlink(missing_ok=True) if content is None else write_bytes(path, content)
        raise
