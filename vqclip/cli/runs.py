"""vqclip resume, rerun and info: runs and pictures that exist already."""

import contextlib
import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
import yaml

from vqclip.cli import completion
from vqclip.cli.console import Console
from vqclip.cli.generate import announce, show_pictures
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.options import (
    Json,
    NamedOutput,
    Offline,
    Open,
    Overrides,
    Overwrite,
    Preview,
    Pull,
    Quiet,
    Sets,
    Threads,
    Verbose,
    given_options,
)
from vqclip.common.errors import UsageError
from vqclip.common.paths import RUN, is_file, is_folder, is_there
from vqclip.config.starts import SECTIONS, VQGAN
from vqclip.hub.access import choose_access

if TYPE_CHECKING:
    from vqclip.optimisation.step import Sink
    from vqclip.pipeline.assemble import Parts

AS_IT_SAYS = "as the picture says"
"""What the settings of `rerun` are where they are not given."""


def resume(
    run: Annotated[str, typer.Argument(metavar="RUN", help="A run's folder, or its picture file.")],
    steps: Annotated[int | None, typer.Option(help="Go on to this step instead.")] = None,
    preview: Preview = None,
    opens: Open = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Go on with a run that was stopped: vqclip resume outputs/latest."""
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose, opens=opens)
    choose_access(pull=False)
    with Interrupts() as interrupts:
        from vqclip.cli.progress import progress_sink
        from vqclip.hub.model_files import find_models
        from vqclip.pipeline.plan import make_plan
        from vqclip.runs.folder import asides
        from vqclip.runs.session import finished_pictures, go_on, keeps_latent, unfinished

        done = finished_pictures(run)
        if done and steps is None:
            for path in done:
                console.result(str(path), {"event": "image", "path": str(path)})
            return console.say(f"This run is finished{'; --steps N goes on from it' if keeps_latent(run) else ''}.")
        folder, config = unfinished(run)
        before = config.optimise.steps
        if steps is not None and config.targets.path:
            raise UsageError(
                f"{run!r} is a way of {config.targets.frames} pictures that share its {before} steps; draw it anew for "
                "more of them: vqclip interpolate … --steps N."
            )
        if steps is not None:
            config = dataclasses.replace(config, optimise=dataclasses.replace(config.optimise, steps=steps))
        plan = make_plan(config)
        announce(console, plan)
        finished = go_on(
            plan,
            find_models(plan.config),
            folder,
            lambda parts: [
                progress_sink(console, parts.descent.number, plan.config.optimise.steps, preview is not False)
            ],
            interrupts,
            console.say,
        )
        if finished is None:
            raise interrupts.error(f"Stopped; vqclip resume {shlex.quote(str(folder.home))} goes on from here.")
        show_pictures(console, plan, folder, finished)
        for path in filter(is_file, asides(folder.results(config.output), before) if done else []):
            console.result(str(path), {"event": "kept", "path": str(path), "steps": before})


def rerun(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A picture that vqclip made.")],
    overrides: Overrides = None,
    file: Annotated[
        list[str] | None, typer.Option("--file", metavar="OLD=NEW", help="Where a picture it was made from is now.")
    ] = None,
    output: NamedOutput = None,
    upscale: Annotated[
        str | None,
        typer.Option(metavar="auto|none|embedded|NAME|FILE", help="What enlarges the pictures at the end."),
        Sets("output.upscale", default=AS_IT_SAYS),
    ] = None,
    device: Annotated[
        str | None,
        typer.Option(autocompletion=completion.devices, metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute."),
        Sets("runtime.device", default=AS_IT_SAYS),
    ] = None,
    threads: Threads = None,
    preview: Preview = None,
    opens: Open = False,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a picture again from what it carries: vqclip rerun picture.png --set optimise.steps=20"""
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose, opens=opens)
    access = choose_access(pull, offline)
    with Interrupts() as interrupts:
        from vqclip.cli.progress import progress_sink
        from vqclip.hub.model_files import find_models
        from vqclip.pipeline.plan import make_plan
        from vqclip.runs.rerun import differences, read_rerun
        from vqclip.runs.session import folder_for, start

        again = read_rerun(image, overrides or [], _pairs(file or []), given_options(context))
        plan = make_plan(again.config)
        folder = folder_for(plan)
        announce(console, plan)

        def watch(parts: "Parts") -> "list[Sink]":
            reference = parts.inputs.sha256.get(plan.config.targets.reference)
            for difference in differences(again.metadata, parts.models, reference):
                console.say(f"Note: {difference}.")
            return [progress_sink(console, 0, plan.config.optimise.steps, preview is not False)]

        finished = start(plan, find_models(plan.config, access), folder, watch, interrupts, console.say, image)
        if finished is None:
            raise interrupts.error(f"Stopped; vqclip resume {shlex.quote(str(folder.home))} goes on from here.")
        show_pictures(console, plan, folder, finished)


def _pairs(given: list[str]) -> dict[str, str]:
    """Read `OLD=NEW`."""
    for pair in given:
        if not all(pair.partition("=")):
            raise UsageError(f"--file {pair!r} is not OLD=NEW.")
    return {old: new for old, _, new in (pair.partition("=") for pair in given)}


def info(
    path: Annotated[str, typer.Argument(metavar="IMAGE|RUN", help="A picture that vqclip made, or a run.")],
    as_json: Json = False,
    verbose: Annotated[bool, typer.Option("-v", "--verbose", help="All that is stored.")] = False,
) -> None:
    """Show how a picture was made, or how a run stands: vqclip info picture.png

    Of a picture the prompt, seed, size, steps, scores, models and the command that makes it again; -v shows all.
    """
    console = Console(as_json=as_json, verbose=verbose)
    from vqclip.runs.folder import existing_run

    home = existing_run(path, 1).home
    is_run = is_file(home / RUN) and not is_file(path)
    facts = _run_facts(home) if is_run else _picture_facts(Path(path))
    if as_json:
        return console.result("", {"event": "info", "path": path, **facts})
    if verbose or "state" in facts:
        return console.text(yaml.safe_dump(facts, sort_keys=False, allow_unicode=True))
    for name, value in _main_facts(facts, path).items():
        console.result(f"{name:<7} {value}", {})


def _main_facts(facts: dict[str, Any], path: str) -> dict[str, str]:
    """What a person wants to know of a picture first; what it does not say is left out."""
    config, models = facts["config"], facts["models"]
    named = [models.get("vqgan"), *(models.get("perceptors") or []), models.get("prior"), models.get("upscaler")]
    found = {
        "prompt": facts["prompt"],
        "seed": facts["seed"],
        "size": config.get("size"),
        "steps": facts["step"],
        "drawer": _drawer(config),
        "score": ", ".join(f"{score:.3f} ({name})" for name, score in facts["scores"].items()),
        "models": ", ".join(dict.fromkeys(str(model["name"]) for model in named if model)),
        "again": f"vqclip rerun {shlex.quote(path)}",
    }
    return {name: str(value) for name, value in found.items() if value not in (None, "")}


def _drawer(config: dict[str, Any]) -> str | None:
    """What drew and with which settings, where that was no VQGAN."""
    name = str(config.get("drawer", VQGAN))
    section = config.get(SECTIONS.get(name, ""))
    said = section.items() if isinstance(section, dict) else ()
    return None if name == VQGAN else " ".join([name, *(f"{key}={value}" for key, value in said if value is not None)])


def _picture_facts(path: Path) -> dict[str, Any]:
    from vqclip.outputs.picture import read_metadata

    if is_folder(path):
        raise UsageError(f"{str(path)!r} is a folder without a run.yaml; give a picture or a run.")
    return read_metadata(path).to_json()


def _run_facts(home: Path) -> dict[str, Any]:
    from vqclip.config.loader import load_config, to_dict
    from vqclip.runs.folder import existing_run

    config = load_config([str(home / RUN)])
    folder = existing_run(str(home), max(1, len(config.prompts)) * config.count)
    return {
        "state": "unfinished" if is_there(folder.state) else "finished",
        "step": _last_step(folder.metrics),
        "pictures": [str(image) for image in folder.images if is_file(image)],
        "config": to_dict(config),
    }


def _last_step(metrics: Path) -> int:
    """Return the step of the last whole line, 0 when there is none."""
    from vqclip.outputs.metrics import step_of

    lines = metrics.read_text("utf-8", errors="replace").splitlines() if is_file(metrics) else []
    for line in reversed(lines):
        with contextlib.suppress(ValueError):
            return step_of(line)
    return 0
