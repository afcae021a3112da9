"""vqclip generate and vqclip sample: prompts in, pictures out."""

import dataclasses
import sys
import time
from collections.abc import Callable
from shlex import quote
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import typer

from vqclip.cli.console import Console
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.options import (
    Candidates,
    Count,
    Device,
    Drawer,
    DryRun,
    Fps,
    ImagePrompts,
    InitImage,
    Json,
    Layers,
    NoMetadata,
    Offline,
    Open,
    Output,
    Overrides,
    Overwrite,
    Pixels,
    Preview,
    Prompts,
    Pull,
    Quality,
    Quiet,
    SaveEvery,
    Seed,
    Size,
    Steps,
    Strength,
    Tags,
    Threads,
    Upscale,
    Verbose,
    Video,
    read_settings,
)
from vqclip.cli.viewer import open_file
from vqclip.common.errors import Interrupted, UsageError
from vqclip.common.quantities import counted, memory
from vqclip.config.loader import to_dict, to_yaml
from vqclip.config.schema import Config
from vqclip.config.starts import PRIORS
from vqclip.hub.access import Access, choose_access

if TYPE_CHECKING:
    from collections.abc import Callable

    from vqclip.optimisation.step import Finished, Sink
    from vqclip.pipeline.assemble import Parts
    from vqclip.pipeline.plan import Plan
    from vqclip.runs.folder import RunFolder

    Show = Callable[[Console, Plan, RunFolder, Finished], None]

STDOUT = "-"


def generate(
    context: typer.Context,
    prompts: Prompts = None,
    config: Layers = None,
    overrides: Overrides = None,
    output: Output = None,
    size: Size = None,
    pixels: Pixels = None,
    quality: Quality = None,
    drawer: Drawer = None,
    upscale: Upscale = None,
    steps: Steps = None,
    seed: Seed = None,
    count: Count = None,
    init_image: InitImage = None,
    strength: Strength = None,
    image_prompt: ImagePrompts = None,
    save_every: SaveEvery = None,
    video: Video = None,
    fps: Fps = None,
    device: Device = None,
    threads: Threads = None,
    preview: Preview = None,
    opens: Open = False,
    no_metadata: NoMetadata = False,
    tag: Tags = None,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    dry_run: DryRun = False,
) -> None:
    """Draw one picture per PROMPT: vqclip generate "a red apple"."""
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose, opens=opens)
    settings = read_settings(context)
    check_strength(
        settings, strength, "how far the new picture may go from one that it starts from: add --init-image FILE"
    )
    draw_or_show(console, settings, preview=preview is not False, access=choose_access(pull, offline), dry_run=dry_run)


def sample(
    context: typer.Context,
    prompts: Prompts = None,
    candidates: Candidates = None,
    config: Layers = None,
    overrides: Overrides = None,
    output: Output = None,
    size: Size = None,
    upscale: Upscale = None,
    seed: Seed = None,
    count: Count = None,
    device: Device = None,
    threads: Threads = None,
    opens: Open = False,
    no_metadata: NoMetadata = False,
    tag: Tags = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    dry_run: DryRun = False,
) -> None:
    """Draw with the prior alone, without optimising: vqclip sample "a red apple"."""
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose, opens=opens)
    settings = read_settings(context, {"init.kind": "prior", "optimise.steps": 0})
    draw_or_show(console, settings, preview=False, access=choose_access(pull=False), dry_run=dry_run)


def check_strength(settings: Config, strength: float | None, meaning: str) -> None:
    """Refuse a `--strength` that would do nothing.

    Raises:
        UsageError: it would.
    """
    if strength is not None:
        from vqclip.pipeline.settle import uses_strength

        if not uses_strength(settings):
            raise UsageError(f"--strength is {meaning}.")


def draw_or_show(
    console: Console,
    settings: Config,
    *,
    preview: bool,
    access: Access,
    dry_run: bool,
    ready: "Callable[[Parts], None]" = lambda parts: None,
) -> None:
    """Make the pictures, or only say what would be made; `ready` is called before the first step."""
    if dry_run:
        _show_plan(console, settings)
    elif settings.output.path == STDOUT:
        _draw_to_stdout(console, settings, preview=preview, access=access, ready=ready)
    else:
        _draw(console, settings, preview=preview, access=access, ready=ready)


def _draw_to_stdout(
    console: Console, settings: Config, *, preview: bool, access: Access, ready: "Callable[[Parts], None]"
) -> None:
    """Make one picture in a folder of its own that is gone afterwards, and write it to standard output."""
    output, pictures = settings.output, max(1, len(settings.prompts)) * (len(settings.seeds) or settings.count)
    beside = output.video or output.save_every or output.svg
    if pictures > 1 or beside or console.as_json or console.opens:
        raise UsageError(
            "-o - writes one picture and nothing else: no second one, SVG, frames, video, --json or --open."
        )
    if sys.stdout.isatty():
        raise UsageError("-o - writes a PNG, which no terminal shows; send it on, e.g. -o - > picture.png")
    with TemporaryDirectory() as folder:
        place = dataclasses.replace(output, path=f"{folder}/picture.png")
        settings = dataclasses.replace(settings, output=place)
        try:
            _draw(console, settings, preview=preview, access=access, ready=ready, show=_write_picture)
        except Interrupted as error:
            raise Interrupted("Stopped; nothing was written.", error.code - 128) from error


def _write_picture(console: Console, plan: "Plan", folder: "RunFolder", finished: "Finished") -> None:
    console.data(folder.images[0].read_bytes())


def _draw(
    console: Console,
    settings: Config,
    *,
    preview: bool,
    access: Access,
    ready: "Callable[[Parts], None]",
    show: "Show | None" = None,
) -> None:
    began = time.monotonic()
    with Interrupts() as interrupts:
        from vqclip.cli.progress import progress_sink
        from vqclip.hub.model_files import find_models
        from vqclip.pipeline.plan import make_plan
        from vqclip.runs.session import folder_for, start

        plan = make_plan(settings)
        folder = folder_for(plan)
        announce(console, plan)

        def watch(parts: "Parts") -> "list[Sink]":
            ready(parts)
            return [progress_sink(console, parts.descent.number, plan.config.optimise.steps, preview)]

        finished = start(plan, find_models(plan.config, access), folder, watch, interrupts, console.say)
        if finished is None:
            raise interrupts.error(f"Stopped; vqclip resume {quote(str(folder.home))} goes on from here.")
        (show or show_pictures)(console, plan, folder, finished)
        if plan.config.optimise.steps == 0 and plan.config.init.kind in PRIORS:
            _tell_chosen(console, plan, finished, time.monotonic() - began)


def announce(console: Console, plan: "Plan") -> None:
    """Say what will be drawn, and what was changed or drawn by lot on the way."""
    for note in plan.notes:
        console.say(f"Note: {note}.")
    config = plan.config
    console.say(f"seed {config.seed}, {config.size}, {config.optimise.steps} steps on {config.runtime.device}")


def show_pictures(console: Console, plan: "Plan", folder: "RunFolder", finished: "Finished") -> None:
    """Write one result per picture."""
    for number, (path, picture) in enumerate(zip(folder.images, plan.pictures, strict=True)):
        event = {
            "event": "image",
            "path": str(path),
            "prompt": picture.prompt,
            "seed": picture.seed,
            "size": list(plan.result_size),
            "steps": finished.step,
            "seconds": round(finished.seconds, 3),
            "scores": finished.scores[number],
            "notes": plan.notes,
        }
        console.result(str(path), event)
    output = plan.config.output
    made = [("svg", path) for path in folder.drawings] if output.svg else []
    made += [("video", path) for path in folder.videos(output.video)] if output.video else []
    for kind, path in [*made, *([("frames", folder.frames)] if output.save_every else [])]:
        console.result(str(path), {"event": kind, "path": str(path)})
    if console.opens:
        open_file(console, folder.images[0])


def _tell_chosen(console: Console, plan: "Plan", finished: "Finished", seconds: float) -> None:
    """Say out of how many the pictures were chosen, and how well the best of them fits."""
    best = max(score for scores in finished.scores for score in scores.values())
    many = "each " if len(plan.pictures) > 1 else ""
    console.say(f"{many}the best of {plan.config.prior.candidates}; best score {best:.3f}, {seconds:.1f} s")


def _show_plan(console: Console, settings: Config) -> None:
    from vqclip.pipeline.memory_estimate import estimate_memory
    from vqclip.pipeline.plan import make_plan

    plan = make_plan(settings)
    needed = estimate_memory(plan)
    if console.as_json:
        facts = {"size": list(plan.result_size), "memory_mb": needed // 2**20, "notes": plan.notes}
        console.result("", {"event": "plan", "config": to_dict(plan.config), **facts})
        return
    console.text(to_yaml(plan.config))
    for note in plan.notes:
        console.say(f"Note: {note}.")
    pictures = f"{counted(len(plan.pictures), 'picture')} of {plan.result_size[0]}x{plan.result_size[1]}"
    console.say(f"{pictures}, about {memory(needed)} of memory; nothing was done.")
