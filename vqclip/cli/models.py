"""vqclip models: the published models, which of them are here, and the user's own."""

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqclip.cli import completion
from vqclip.cli.command import App, Group
from vqclip.cli.console import Console
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.model_facts import FACTS
from vqclip.cli.options import Json, Offline, Quiet, Verbose
from vqclip.cli.transfers import Transfers
from vqclip.common.errors import ExitCode, ModelError, PartialError, UnreachableError, UsageError, VqclipError
from vqclip.hub.access import Access, choose_access

if TYPE_CHECKING:
    from vqclip.hub.transfer import Watch

app = App(cls=Group, help="List, fetch, check and convert models.")

TOGETHER = 4
"""Downloads under way at once."""

Name = Annotated[
    str,
    typer.Argument(
        autocompletion=completion.models,
        metavar="NAME",
        help="A VQGAN's or an upscaler's name, or a CLIP model's model:tag.",
    ),
]
Half = Annotated[bool, typer.Option("--half", help="Store weights in half precision: half the size.")]
Force = Annotated[bool, typer.Option("--force", help="Replace what is there.")]


@app.command("list")
def list_models(
    here: Annotated[bool, typer.Option("--here", help="Only those on this machine.")] = False, as_json: Json = False
) -> None:
    """List the published models, and your own in the store: vqclip models list --here"""
    from vqclip.hub.clip_catalogue import CLIPS
    from vqclip.hub.clip_files import weights_here
    from vqclip.hub.store_index import stored_file, stored_names
    from vqclip.hub.upscaler_catalogue import UPSCALERS
    from vqclip.hub.upscaler_store import stored_upscaler
    from vqclip.hub.vqgan_catalogue import VQGANS

    choose_access(pull=False)
    console = Console(as_json=as_json)
    own = [name for name in stored_names() if name not in VQGANS]
    for name in [*VQGANS, *own]:
        path = stored_file(name)
        if path or not here:
            entry = VQGANS.get(name)
            about = f"{entry.good_for} ({entry.trained_on})" if entry else "your own"
            _show_entry(console, "vqgan", name, path, entry.size_text if entry else "", about)
    for name, clip in CLIPS.items():
        path = weights_here(clip)
        if path or not here:
            _show_entry(console, "clip", name, path, clip.size_text, clip.good_for)
    for name, upscaler in UPSCALERS.items():
        path = stored_upscaler(name)
        if path or not here:
            about = f"{upscaler.scale} x; {upscaler.good_for}"
            _show_entry(console, "upscaler", name, path, upscaler.size_text, about)


def _show_entry(console: Console, kind: str, name: str, path: Path | None, size: str, about: str) -> None:
    size = f"{path.stat().st_size / 1e6:,.0f} MB" if path else size
    event = {"event": "model", "kind": kind, "name": name, "path": str(path) if path else None}
    line = f"{'*' if path else ' '} {kind:<8} {name:<42} {size:>14}  {about}"
    console.result(line, {**event, "size": size, "about": about})


@app.command()
def info(name: Name, as_json: Json = False) -> None:
    """Show where a model is published, what it learned and its terms: vqclip models info imagenet-16384

    And the memory it needs, and what is stored of it here.
    """
    from vqclip.hub.kinds import kind_of

    choose_access(pull=False)
    console = Console(as_json=as_json)
    found = FACTS[kind_of(name)](name)
    if as_json:
        console.result("", {"event": "model", **found})
        return
    for key, value in found.items():
        for line in value if isinstance(value, list) else [value]:
            if line is not None:
                console.result(f"{key.replace('_', ' '):<14} {line}", {})


@app.command()
def pull(
    names: Annotated[
        list[str],
        typer.Argument(
            autocompletion=completion.models, metavar="NAME...", help="Models, or configs with all they need."
        ),
    ],
    half: Half = False,
    keep_original: Annotated[bool, typer.Option("--keep-original", help="Keep the published file too.")] = False,
    no_clip: Annotated[bool, typer.Option("--no-clip", help="Of a config, only the VQGAN.")] = False,
    force: Force = False,
    offline: Offline = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Fetch models, check them, and store VQGANs slim: vqclip models pull imagenet-16384"""
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    access = choose_access(True, offline)
    with Interrupts("Stopped; what came so far is kept, and the same command goes on from there."):
        from vqclip.hub.kinds import KINDS, Pulling, kind_of
        from vqclip.hub.upscaler_catalogue import UPSCALERS

        wanted = _needed(names, no_clip)
        if access is Access.FORBIDDEN:
            for name in wanted:
                _tell(console, name, _located(name, access))
            return

        how = Pulling(half=half, keep_original=keep_original, force=force)
        for name in wanted:
            if name in UPSCALERS and (needs := UPSCALERS[name].needs):
                console.say(f"Note: to use {name}, you need another package: {needs}.")
        _fetch_all(console, wanted, lambda name, watch: KINDS[kind_of(name)].pull(name, how, watch))


def _needed(names: list[str], no_clip: bool) -> list[str]:
    """The models behind the names, each once: a config's are its VQGAN, its CLIP models and its upscaler."""
    from vqclip.config.loader import available_configs, load_config
    from vqclip.hub.kinds import KINDS, kind_of
    from vqclip.hub.upscaler_catalogue import UPSCALERS

    configs = available_configs()
    wanted: list[str] = []
    for name in names:
        if name in configs:
            config = load_config([name])
            clips = [] if no_clip else [guide.name for guide in config.guides if ":" in guide.name]
            vqgans = [] if config.vqgan.name == "embedded" or config.drawer != "vqgan" else [str(config.vqgan.name)]
            upscalers = [config.output.upscale] if config.output.upscale in UPSCALERS else []
            wanted += [*vqgans, *clips, *upscalers]
        else:
            KINDS[kind_of(name)].check(name)  # an unknown name fails before anything is fetched
            wanted.append(name)
    if not wanted:
        raise UsageError("Nothing to fetch: the models of this config come with vqclip.")
    return list(dict.fromkeys(wanted))


def _fetch_all(console: Console, wanted: list[str], fetch: "Callable[[str, Watch], Path]") -> None:
    """Fetch several at once; one that fails does not hinder the others, unless it is the network that is missing."""
    failures: list[VqclipError] = []
    no_network = threading.Event()
    with Transfers(console) as transfers, ThreadPoolExecutor(TOGETHER) as pool:

        def attempt(name: str) -> Path:
            if no_network.is_set():
                raise UnreachableError(f"{name!r} was not asked for, as no host could be reached; check the network.")
            return fetch(name, transfers.watch(name))

        running = {pool.submit(attempt, name): name for name in wanted}
        try:
            for number, done in enumerate(as_completed(running), 1):
                try:
                    _tell(console, running[done], done.result())
                except VqclipError as error:
                    failures.append(error)
                    if len(wanted) > 1:
                        console.error(str(error), error.code)
                    if number == sum(isinstance(each, UnreachableError) for each in failures):
                        no_network.set()
        except BaseException:
            transfers.stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    if len(failures) == len(wanted) == 1:
        raise failures[0]
    if len(failures) == len(wanted):
        alike = {each.code for each in failures} == {failures[0].code}
        raise (type(failures[0]) if alike else ModelError)(f"None of {len(wanted)} models could be fetched.")
    if failures:
        raise PartialError(f"{len(failures)} of {len(wanted)} models could not be fetched.")


def _tell(console: Console, name: str, path: Path) -> None:
    console.result(str(path), {"event": "model", "name": name, "path": str(path), "bytes": path.stat().st_size})


def _located(name: str, access: Access = Access.HERE) -> Path:
    """Where a model is on this machine."""
    from vqclip.hub.kinds import KINDS, kind_of

    return KINDS[kind_of(name)].locate(name, access)


@app.command()
def path(name: Name, as_json: Json = False) -> None:
    """Print where a model is on this machine: vqclip models path imagenet-16384"""
    choose_access(pull=False)
    _tell(Console(as_json=as_json), name, _located(name))


@app.command()
def verify(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", help="All that are here, if none.")] = None,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Read models whole and compare them with what was stored: vqclip models verify

    A damaged one is refused from then on.
    """
    from vqclip.hub.kinds import KINDS, kind_of

    choose_access(pull=False)
    console = Console(as_json=as_json, quiet=quiet)
    wanted = names or [name for kind in KINDS.values() for name in kind.here()]
    failures = []
    for name in wanted:
        try:
            digest = KINDS[kind_of(name)].verify(name)
            console.result(f"{name}: ok", {"event": "verified", "name": name, "sha256": digest})
        except (ModelError, OSError) as error:
            reason = (
                f"The model {name!r} cannot be read: {error.strerror}." if isinstance(error, OSError) else str(error)
            )
            failures.append(reason)
            console.error(reason, ExitCode.MODEL)
    if failures:
        raise typer.Exit(ExitCode.MODEL)


@app.command()
def convert(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="A VQGAN's checkpoint of any layout.")],
    name: Annotated[str | None, typer.Option(help="Its name in the store; the file's own, if none.")] = None,
    output: Annotated[Path | None, typer.Option("-o", "--output", help="Write here, not into the store.")] = None,
    config: Annotated[Path | None, typer.Option(help="Its YAML; beside the file, if none.")] = None,
    quantiser: Annotated[str | None, typer.Option(metavar="vq|gumbel|ibq|l2", help="If the file does not say.")] = None,
    half: Half = False,
    trust_pickle: Annotated[
        str | None,
        typer.Option(metavar="catalogue|SHA256", help="Let a pickle's code run, if it is the published file or this."),
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Make a checkpoint slim and safe, and give it a name: vqclip models convert last.ckpt --name flowers"""
    console = Console(as_json=as_json)
    with Interrupts("Stopped; nothing was stored."):
        from vqclip.hub.conversion import convert_file

        path = convert_file(
            file, name, output, config=config, quantiser=quantiser, half=half, trust=trust_pickle, force=force
        )
        _tell(console, name or path.stem, path)
        if output is None:
            console.say(f"use it with: vqclip generate --set vqgan.name={path.stem} …")


@app.command()
def remove(
    names: Annotated[
        list[str],
        typer.Argument(autocompletion=completion.models, metavar="NAME...", help="Models to delete from this machine."),
    ],
    as_json: Json = False,
) -> None:
    """Delete models from this machine: vqclip models remove imagenet-16384"""
    from vqclip.hub.kinds import KINDS, kind_of

    choose_access(pull=False)
    console = Console(as_json=as_json)
    for name in names:
        freed = KINDS[kind_of(name)].remove(name)
        console.result(f"{name}: {freed / 1e6:,.0f} MB freed", {"event": "removed", "name": name, "bytes": freed})
