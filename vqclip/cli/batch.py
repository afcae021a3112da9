"""vqclip batch: thousands of pictures from a job file, and again what is left of them."""

import os
import re
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.hints import note_unknown_words
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.looking import counting
from vqclip.cli.options import (
    MOST_SEEDS,
    Count,
    Device,
    Json,
    Layers,
    Offline,
    Overrides,
    Pull,
    Quiet,
    Sets,
    Size,
    Steps,
    Threads,
    Upscale,
    Verbose,
    given_options,
    read_seeds,
)
from vqclip.cli.targets import check_not_stdout
from vqclip.common.errors import PartialError, UsageError, VqclipError
from vqclip.common.quantities import counted
from vqclip.common.text import decode, read_stdin, read_text
from vqclip.config.loader import load_config
from vqclip.config.schema import Config
from vqclip.hub.access import Access, choose_access

if TYPE_CHECKING:
    from vqclip.batch.driver import Summary
    from vqclip.batch.fields import Base
    from vqclip.batch.local import Engine
    from vqclip.batch.results import ResultRow

ANY = ("random", "-1")
"""Words for a seed that nobody chooses."""

UNITS = {"s": 1, "m": 60, "h": 3600, "": 1}
SECONDS_BETWEEN_LINES = 10.0


def batch(
    context: typer.Context,
    jobs: Annotated[str, typer.Argument(metavar="JOBS", help=".txt, .jsonl, .csv or .yaml; - reads prompts.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar="DIR", help="Pictures and results go here.")],
    config: Layers = None,
    overrides: Overrides = None,
    size: Size = None,
    upscale: Upscale = None,
    steps: Steps = None,
    seed: Annotated[
        str | None,
        typer.Option(metavar="N|N-N|random", help="Of jobs without one; a job's pictures use seed, seed + 1 …"),
        Sets(None, default="by the job's content"),
    ] = None,
    count: Count = None,
    batch_size: Annotated[str, typer.Option(metavar="auto|N", help="Pictures optimised at once.")] = "auto",
    engine: Annotated[str, typer.Option(metavar="local|ray", help="Where the work is done.")] = "local",
    workers: Annotated[str, typer.Option(metavar="auto|N", help="Processes; auto is one per GPU, else one.")] = "auto",
    address: Annotated[str | None, typer.Option(metavar="auto|HOST:PORT", help="The Ray cluster.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Only what failed before.")] = False,
    limit: Annotated[int | None, typer.Option(min=1, metavar="N", help="At most N jobs now.")] = None,
    shard: Annotated[str | None, typer.Option(metavar="i/N", help="Only every Nth job, from the ith.")] = None,
    time_limit: Annotated[str | None, typer.Option(metavar="6h", help="Stop cleanly after this time.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Wait while another process works in DIR.")] = False,
    device: Device = None,
    threads: Threads = None,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw a picture for every job of a file: vqclip batch prompts.txt -o pictures/

    The same command again does what is left: it skips what is finished and tries again what failed.
    """
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    access = choose_access(pull, offline)
    deadline = _deadline(time_limit)
    with Interrupts("Stopped; what is finished is kept, and the same command goes on.") as interrupts:
        from vqclip.batch.driver import STATES, holding_batch, run_batch
        from vqclip.batch.fields import Base, check_overrides
        from vqclip.batch.jobs import captions, read_jobs
        from vqclip.batch.jobs import shard as part_of
        from vqclip.batch.results import ResultsFile
        from vqclip.batch.work import group_size

        check_not_stdout(output)
        if "-" in (config or []):
            raise UsageError("batch reads no config from standard input (-c -); write it to a file.")
        options = {key: value for key, value in given_options(context).items() if key != "count"}
        base = Base(config or [], overrides or [], options)
        check_overrides(base.overrides)
        shared, wrong = _shared(base)
        first, pictures = _first_and_count(seed, count, shared)
        together = _number(batch_size, "--batch-size")
        doing = _engine(engine, workers, address, device, threads, access, output / STATES)
        wanted = read_jobs(jobs, _read(jobs), base, pictures, first, lambda note: console.say(f"Note: {note}."))
        if wrong and all(job.error for job in wanted):
            raise wrong
        if shard:
            wanted = part_of(wanted, shard)
        note_unknown_words(console, captions(wanted))
        with holding_batch(output, wait), interrupts.deferred():
            began, record = time.monotonic(), ResultsFile(output)
            with counting(console, "drawing") as moved:
                moved(0, len(record.left(wanted, retry_failed)))
                summary = run_batch(
                    wanted,
                    record,
                    doing,
                    group_size(wanted, together),
                    only_failed=retry_failed,
                    limit=limit,
                    stop=lambda: interrupts.received() or time.monotonic() > deadline,
                    tell=_teller(console, output, moved),
                    gallery=lambda: _show_gallery(console, output),
                )
        seconds = time.monotonic() - began
        event = {"event": "summary", **asdict(summary), "seconds": round(seconds, 1)}
        line = (
            f"{summary.done} done, {summary.skipped} done before, {summary.failed} failed, {summary.left} left, "
            f"{seconds:.0f} s"
        )
        console.say(line)
        error: VqclipError | None = None
        if interrupts.received():
            error = interrupts.error("Stopped; the same command goes on from here.")
        elif summary.failed:
            error = PartialError(
                f"{counted(summary.failed, 'job')} failed; {str(output / 'results.jsonl')!r} says why."
            )
        if error and not as_json:
            raise error
        if as_json:
            if error:
                console.error(str(error), error.code)
            console.result("", event)  # the last line, whatever came of it
        if error:
            raise typer.Exit(error.code)


def _show_gallery(console: Console, output: Path) -> None:
    """Write the page of the batch; a page of somebody else's in its place stays."""
    from vqclip.tools.gallery import write_gallery

    try:
        write_gallery(output)
    except VqclipError as error:
        console.say(f"Warning: no gallery: {error}")


def _shared(base: "Base") -> tuple[Config, UsageError | None]:
    """The config that all jobs share, and what is wrong with it, which a job's own settings may mend."""
    try:
        return load_config(base.layers, base.overrides, base.options), None
    except UsageError as error:
        return load_config(), error


def _first_and_count(seed: str | None, count: int | None, shared: Config) -> tuple[int | None, int]:
    """Read --seed and --count, or what the configs say: a job's pictures have seeds that follow each other.

    `random` and none leave the seed to the job's content, so that the same command finds what is done.
    """
    if count is not None and not 1 <= count <= MOST_SEEDS:
        raise UsageError(f"--count is {count}; it must be between 1 and {MOST_SEEDS}.")
    found = {"seed": shared.seed, "seeds": shared.seeds} if seed is None else {} if seed in ANY else read_seeds(seed)
    seeds = found.get("seeds") or []
    if not isinstance(seeds, list) or not seeds:
        first = found.get("seed")
        return (None if first is None else int(str(first))), count or shared.count
    if seeds != list(range(seeds[0], seeds[0] + len(seeds))) or count not in (None, len(seeds)):
        said = f"--seed {seed!r}" if seed else f"seeds {seeds}"
        raise UsageError(f"{said}: a batch takes one seed or a range such as 1-4; jobs may say their own.")
    return seeds[0], len(seeds)


def _read(path: str) -> str:
    if path != "-":
        return read_text(path, "the job file")
    name = "the jobs from standard input"
    return decode(read_stdin(name), name)


def _deadline(limit: str | None) -> float:
    if limit is None:
        return float("inf")
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([smh]?)", limit.strip())
    if not found:
        raise UsageError(f"--time-limit {limit!r} is not a time; write e.g. 90s, 30m or 6h.")
    return time.monotonic() + float(found[1]) * UNITS[found[2]]


def _number(text: str, option: str) -> int | None:
    if text == "auto":
        return None
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise UsageError(f"{option} {text!r} is neither auto nor a number from 1 to 9999.")
    return int(text)


def _engine(
    name: str,
    workers: str,
    address: str | None,
    device: str | None,
    threads: int | None,
    access: Access,
    states: Path,
) -> "Engine":
    count = _number(workers, "--workers")
    if address is not None and name != "ray":
        raise UsageError("--address is a Ray cluster's: add --engine ray.")
    if name == "ray":
        from vqclip.batch.ray import RayCluster

        return RayCluster(address, count, threads, access)
    if name != "local":
        raise UsageError(f"Unknown engine {name!r}; choose local or ray.")
    import torch

    from vqclip.batch.local import InProcess, Processes

    gpus = _gpus(torch.cuda.device_count()) if device in (None, "auto", "cuda") else []
    count = count or max(1, len(gpus))
    if count == 1:
        return InProcess(access, states)
    share = threads or (None if gpus else max(1, torch.get_num_threads() // count))
    return Processes(count, gpus, share, access, states)


def _gpus(count: int) -> list[str]:
    """The GPUs that this process may use, by the names that CUDA_VISIBLE_DEVICES gives them."""
    named = [name.strip() for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name.strip()]
    return named[:count] if named else [str(number) for number in range(count)]


def _teller(
    console: Console, output: Path, moved: "Callable[[int, int], None]"
) -> "Callable[[ResultRow, Summary], None]":
    """Write a result per picture, and for the person a line per failure and a bar, or elsewhere a line now and then."""
    shown = [time.monotonic()]

    from vqclip.batch.results import DONE

    def tell(result: "ResultRow", summary: "Summary") -> None:
        done = summary.done + summary.failed
        moved(done, done + summary.left)
        if result.status == DONE and result.path:
            path = str(output / result.path)
            facts = {"id": result.id, "prompt": result.prompt, "seed": result.seed, "seconds": result.seconds}
            console.result(path, {"event": "image", "path": path, **facts, "scores": result.scores})
        else:
            message = f"{result.prompt!r}: {result.error}"
            if console.as_json:
                facts = {"event": "error", "id": result.id, "code": result.code}
                console.result("", {**facts, "message": result.error, "prompt": result.prompt})
            console.say(f"Failed: {message}")
        if time.monotonic() - shown[0] >= SECONDS_BETWEEN_LINES and not console.interactive:
            shown[0] = time.monotonic()
            console.say(f"{summary.done} done, {summary.left} left")

    return tell
