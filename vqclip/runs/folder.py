"""The folder of a run: where each file goes, that it is free, and that one process holds it."""

import contextlib
import datetime
import json
import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import Timeout

from vqclip.common.errors import BusyError, OutputError, UsageError
from vqclip.common.files import check_inside, write_text, writing
from vqclip.common.images import SUFFIXES
from vqclip.common.locks import lock_at
from vqclip.common.names import is_name
from vqclip.common.paths import RUN, is_file, is_folder, is_there
from vqclip.config.schema import OutputConfig
from vqclip.outputs.frames import frame_files
from vqclip.outputs.picture import read_metadata
from vqclip.outputs.state import saved_states

OUTPUTS = Path("outputs")
PART = re.compile(r"\.\d{6,}(?:-\d+)?\.(?:pt|png)\.\d+(?:-\d+)?\.part", re.ASCII)
"""The name of a state's or a frame's temporary file."""


@dataclass(frozen=True)
class RunFolder:
    """Every path of one run of `count` pictures.

    `home` is what `vqclip resume` takes: the run folder, or `F.png.run/` beside a picture file `F.png`,
    which is removed when the picture is finished. `target` is that folder or file. `named` are the pictures' names
    beside the target, where each has one of its own.
    """

    home: Path
    target: Path
    count: int
    named: tuple[str, ...] = ()

    @property
    def is_file(self) -> bool:
        """Whether the user asked for a picture file rather than a run folder."""
        return self.home != self.target

    @property
    def config(self) -> Path:
        """The resolved config, written before the models load."""
        return self.home / RUN

    @property
    def metrics(self) -> Path:
        """One JSON object per step."""
        return self.home / "metrics.jsonl"

    @property
    def state(self) -> Path:
        """Resume state, the lock and scratch files; only there while the run is unfinished."""
        return self.home / "state"

    @property
    def latent(self) -> Path | None:
        """The finished latent; a picture file keeps none."""
        return None if self.is_file else self.home / "latent.safetensors"

    @property
    def frames(self) -> Path:
        """The folder of the frames."""
        return self.target.with_name(self.target.name + ".frames") if self.is_file else self.home / "frames"

    @property
    def scratch(self) -> Path:
        """The folder of frames that are only made for a video."""
        return self.state / "frames"

    @property
    def names(self) -> Path:
        """Where an unfinished run keeps `named`."""
        return self.home / "names.json"

    @property
    def images(self) -> list[Path]:
        """The finished pictures."""
        if self.named:
            return [self.target.with_name(name) for name in self.named]
        return self._numbered(self.target if self.is_file else self.home / "image.png")

    @property
    def partials(self) -> list[Path]:
        """The pictures of an interrupted run."""
        return self._numbered(self.home / "partial.png")

    @property
    def drawings(self) -> list[Path]:
        """The SVG documents, one per picture, where the run makes any."""
        return [image.with_suffix(".svg") for image in self.images]

    def videos(self, suffix: str) -> list[Path]:
        """The videos, one per picture."""
        if self.named:
            return [image.with_suffix(f".{suffix}") for image in self.images]
        first = self.target.with_suffix(f".{suffix}") if self.is_file else self.home / f"video.{suffix}"
        return self._numbered(first)

    def results(self, output: OutputConfig) -> list[Path]:
        """What a finished run leaves for the user: its pictures, and their SVG documents and videos if it makes any."""
        videos = self.videos(output.video) if output.video else []
        return [*self.images, *(self.drawings if output.svg else []), *videos]

    def _numbered(self, path: Path) -> list[Path]:
        if self.count == 1:
            return [path]
        return [path.with_name(f"{path.stem}-{number}{path.suffix}") for number in range(self.count)]


def locate_run(path: str | None, count: int, slug: str) -> RunFolder:
    """Turn `--output` into a run folder; None makes a name under `outputs/` from the clock and `slug`.

    Raises:
        UsageError: a file name whose suffix is not a picture's.
        OutputError: a place that cannot be looked at.
    """
    if path is None:
        home = _unused(OUTPUTS / f"{datetime.datetime.now():%Y%m%d-%H%M%S}_{slug}")
        return RunFolder(home, home, count)
    target = Path(path)
    with writing(target):
        is_folder = path.endswith(("/", "\\")) or (path != "" and target.is_dir())
    if is_folder:
        return RunFolder(target, target, count)
    if target.suffix.lower() not in SUFFIXES:
        raise UsageError(
            f"--output {path!r} is neither a picture ({', '.join(SUFFIXES)}) nor a folder; end a folder's name in /."
        )
    return RunFolder(target.with_name(target.name + ".run"), target, count)


def existing_run(path: str, count: int) -> RunFolder:
    """Find the run that the user names by its folder, its `F.png.run` or its `F.png`."""
    home = Path(path)
    if home.suffix.lower() in SUFFIXES and not is_folder(home):
        home = home.with_name(home.name + ".run")
    if home.suffix == ".run" and Path(home.stem).suffix.lower() in SUFFIXES:
        return RunFolder(home, home.with_suffix(""), count)
    return RunFolder(home, home, count)


def keep_names(run: RunFolder) -> None:
    """Write down what the pictures are called, so that the run can go on under these names; what another run wrote
    goes."""
    if run.named:
        write_text(run.names, json.dumps(run.named))
    else:
        with writing(run.names):
            run.names.unlink(missing_ok=True)


def kept_names(run: RunFolder) -> tuple[str, ...]:
    """Read what `keep_names` wrote; empty where nothing, or something else, is there."""
    with contextlib.suppress(OSError, ValueError):
        names = json.loads(run.names.read_text("utf-8"))
        if isinstance(names, list) and all(isinstance(name, str) and is_name(name) for name in names):
            return tuple(names)
    return ()


def check_free(run: RunFolder, videos: list[Path], overwrite: bool) -> None:
    """Refuse to replace a finished or an unfinished run, unless told.

    Raises:
        OutputError: something is there; the sentence names it and the way on.
    """
    for path in (run.state, run.frames, *([run.home] if run.is_file else [])):
        check_inside(path.parent, path)
    if overwrite:
        return
    if is_there(run.state):
        raise OutputError(f"{str(run.home)!r} holds an unfinished run: go on with vqclip resume, or add --overwrite.")
    check_untaken(run, videos)


def check_untaken(run: RunFolder, videos: list[Path]) -> None:
    """Refuse to replace what a run made; the state does not count, as who holds the run has one himself.

    Raises:
        OutputError: as `check_free`.
    """
    kept = [run.config, run.metrics, *run.partials, *([run.latent] if run.latent else [])]
    taken = next((path for path in [*run.images, *videos, run.frames, *kept] if is_there(path)), None)
    if taken is not None:
        raise OutputError(f"{str(taken)!r} is there already: choose another --output, or add --overwrite.")


@contextlib.contextmanager
def holding(run: RunFolder) -> Iterator[None]:
    """Make the run's folder and keep every other process out of it.

    Raises:
        BusyError: another process holds it.
        OutputError: it cannot be made.
    """
    with writing(run.home):
        run.state.mkdir(parents=True, exist_ok=True)
    with writing(run.state / "lock"):
        lock = lock_at(run.state / "lock")
        try:
            lock.acquire(timeout=0)
        except Timeout as error:  # an OSError too
            raise BusyError(
                f"Another vqclip works on {str(run.home)!r}; wait for it or choose another --output."
            ) from error
    try:
        yield
    finally:
        lock.release()
        _remove_empty(run)


def earlier_pictures(run: RunFolder) -> list[Path]:
    """The pictures that a run of another number of pictures left under the name of this one's picture file.

    Each must say itself that it is the picture of that number, of so many.
    """
    own, name = run.target, re.compile(rf"{re.escape(run.target.stem)}(?:-(\d+))?{re.escape(run.target.suffix)}")
    found = []
    with writing(own.parent):
        named = [(path, name.fullmatch(path.name)) for path in own.parent.iterdir()] if own.parent.is_dir() else []
    for path, match in named:
        with contextlib.suppress(UsageError):
            if match and path not in run.images and is_file(path):
                facts = read_metadata(path)
                said = str(facts.number) if facts.together > 1 else None
                found += [path] if said == match[1] else []
    return sorted(found)


def clear(run: RunFolder, given: Collection[Path] = ()) -> None:
    """Remove what a run before left here that a new one would mix with: state, frames, metrics and partial pictures;
    those that were `given` (resolved) to the new one stay."""
    with writing(run.home):
        for path in [*_state_files(run), *_frame_files(run.frames), run.metrics, *run.partials]:
            if not given or path.resolve() not in given:
                path.unlink(missing_ok=True)


def forget_latent(run: RunFolder) -> None:
    """Remove the latent of an earlier run, from which a new one must not go on."""
    if run.latent is not None:
        with writing(run.latent):
            run.latent.unlink(missing_ok=True)


def set_aside(run: RunFolder, made: Sequence[Path], step: int) -> None:
    """Give what a finished run that goes on has `made` a name with its step, such as `image.step10.png`."""
    with writing(run.home):
        for path, aside in zip(made, asides(made, step), strict=True):
            if is_file(path):
                path.replace(aside)


def asides(made: Sequence[Path], step: int) -> list[Path]:
    """Where what a finished run of `step` steps has `made` goes when it goes on."""
    return [path.with_name(f"{path.stem}.step{step}{path.suffix}") for path in made]


def close(run: RunFolder) -> None:
    """Remove what only an unfinished run needs."""
    with writing(run.home):
        leftovers = [*run.partials, run.config, run.metrics, run.names] if run.is_file else run.partials
        for path in [*_state_files(run), *leftovers]:
            path.unlink(missing_ok=True)
    _remove_empty(run)


def _state_files(run: RunFolder) -> list[Path]:
    """Return the states, the frames made for a video, and what a killed process had half written."""
    return [*saved_states(run.state), *_frame_files(run.scratch), *_parts(run.state)]


def _frame_files(folder: Path) -> list[Path]:
    return [*frame_files(folder), *_parts(folder)]


def _parts(folder: Path) -> list[Path]:
    """What a killed process had half written of a state or a frame."""
    return [path for path in folder.glob(".*.part") if PART.fullmatch(path.name)]


def _remove_empty(run: RunFolder) -> None:
    """Leave no folder behind in which nothing was kept; one with a file of the user's stays."""
    with contextlib.suppress(OSError):
        if not _state_files(run):
            (run.state / "lock").unlink(missing_ok=True)
    for folder in (run.scratch, run.state, run.home):
        with contextlib.suppress(OSError):
            folder.rmdir()


def point_latest(run: RunFolder) -> None:
    """Let `outputs/latest` point to a run folder under `outputs/`; skipped where links are not allowed."""
    link, fresh = OUTPUTS / "latest", OUTPUTS / f".latest-{run.home.name}"
    if run.home.parent != OUTPUTS or (is_there(link) and not link.is_symlink()):
        return
    with contextlib.suppress(OSError):
        fresh.symlink_to(run.home.name, target_is_directory=True)
        fresh.replace(link)
    with contextlib.suppress(OSError):
        fresh.unlink(missing_ok=True)


def _unused(path: Path) -> Path:
    """Return the path, or `path-2`, `path-3`… when it is there."""
    number, candidate = 1, path
    while is_there(candidate):
        number += 1
        candidate = path.with_name(f"{path.name}-{number}")
    return candidate
