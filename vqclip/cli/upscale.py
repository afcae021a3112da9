"""vqclip upscale: any picture with twice or more the sides."""

import time
from pathlib import Path
from typing import Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.hints import note_painted_photographs
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.looking import counting
from vqclip.cli.options import Device, Json, Offline, OutputFile, Overwrite, Pull, Quiet, Threads, Verbose
from vqclip.cli.targets import choose_targets, end_with
from vqclip.common.errors import OutOfMemoryError, UsageError, VqclipError
from vqclip.hub.access import choose_access


def upscale(
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures to enlarge.")],
    model: Annotated[
        str, typer.Option("-m", "--model", metavar="embedded|NAME|FILE", help="The upscaler, as in output.upscale.")
    ] = "embedded",
    output: OutputFile = None,
    device: Device = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Draw pictures anew at twice the size or more: vqclip upscale photo.jpg"""
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    access = choose_access(pull, offline)
    with Interrupts("Stopped; the pictures that were finished are kept."):
        from vqclip.common.images import check_side, open_image
        from vqclip.common.runtime import resolve_device, set_threads
        from vqclip.hub.upscaler_files import NONE, find_enlarger
        from vqclip.models.enlarge import load_network
        from vqclip.outputs.picture import save_image
        from vqclip.tools.upscale import carried_on
        from vqclip.tools.upscale import upscale as enlarged

        targets = choose_targets(images, output, "upscaled", overwrite)
        if model == NONE:
            raise UsageError(f"--model {model} enlarges nothing; give embedded, a published name or a file.")
        files = find_enlarger(model, access)
        set_threads(threads)
        where = resolve_device(device or "auto")
        network = load_network(files.path, where)
        finished: list[Path] = []
        failures: list[VqclipError] = []
        for source, target in zip(images, targets, strict=True):
            began = time.monotonic()
            try:
                image = open_image(source)
                check_side(target, (network.scale * image.width, network.scale * image.height))
                with counting(console, "upscaling") as count:
                    large = enlarged(network, image, where, count)
            except (UsageError, OutOfMemoryError) as error:
                if len(images) == 1:
                    raise
                failures.append(error)
                console.error(str(error), error.code)
                continue
            save_image(target, large, carried_on(source, files))
            event = {
                "event": "upscaled",
                "path": str(target),
                "source": source,
                "size": list(large.size),
                "scale": network.scale,
                "seconds": round(time.monotonic() - began, 3),
            }
            console.result(str(target), event)
            console.say(f"{source}: {image.width}x{image.height} to {large.width}x{large.height}")
            finished.append(Path(source))
        note_painted_photographs(console, finished, model)
        end_with(failures, len(images))
