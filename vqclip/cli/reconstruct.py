"""vqclip reconstruct: show what a VQGAN's codes keep of a picture."""

import math
from typing import Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.options import (
    Device,
    Json,
    Layers,
    Offline,
    OutputFile,
    Overrides,
    Overwrite,
    Pull,
    Quiet,
    Threads,
    Verbose,
    read_settings,
)
from vqclip.cli.targets import choose_targets, end_with
from vqclip.common.errors import UsageError, VqclipError
from vqclip.hub.access import choose_access


def reconstruct(
    context: typer.Context,
    images: Annotated[list[str], typer.Argument(metavar="IMAGE...", help="Pictures to encode and decode.")],
    config: Layers = None,
    overrides: Overrides = None,
    output: OutputFile = None,
    size: Annotated[str | None, typer.Option(metavar="WxH|N", help="Crop and resize to this first.")] = None,
    alone: Annotated[bool, typer.Option("--alone", help="Without the original beside it.")] = False,
    device: Device = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Encode pictures to codes and decode them again: vqclip reconstruct photo.jpg"""
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = read_settings(context)
    access = choose_access(pull, offline)
    with Interrupts("Stopped; the pictures that were finished are kept."):
        from vqclip.common.images import check_side, open_image
        from vqclip.common.runtime import resolve_device, set_threads
        from vqclip.config.schema import IN_PIXELS, parse_size
        from vqclip.hub.vqgan_files import find_vqgan
        from vqclip.models.vqgan import load_vqgan
        from vqclip.outputs.picture import save_picture
        from vqclip.tools.reconstruct import reconstruct as through_codes
        from vqclip.tools.reconstruct import side_by_side

        sides = parse_size(size, IN_PIXELS) if size else None
        targets = choose_targets(images, output, "reconstructed", overwrite)
        set_threads(settings.runtime.threads)
        files = find_vqgan(settings.vqgan, access)
        where = resolve_device(settings.runtime.device)
        vqgan = load_vqgan(files.path, files.config, files.quantiser).to(where)
        failures: list[VqclipError] = []
        for source, target in zip(images, targets, strict=True):
            try:
                found = through_codes(vqgan, open_image(source), sides)
                shown = found.picture if alone else side_by_side(found)
                check_side(target, (shown.shape[-1], shown.shape[-2]))
            except UsageError as error:
                if len(images) == 1:
                    raise
                failures.append(error)
                console.error(str(error), error.code)
                continue
            save_picture(target, shown)
            height, width = found.picture.shape[-2:]
            event = {
                "event": "reconstruction",
                "path": str(target),
                "source": source,
                "size": [width, height],
                "psnr": round(found.psnr, 3) if math.isfinite(found.psnr) else None,
                "codes": found.codes.numel(),
                "different_codes": found.used,
            }
            console.result(str(target), event)
            console.say(
                f"{source}: {width}x{height}, PSNR {found.psnr:.2f} dB, {found.codes.numel()} codes, "
                f"{found.used} different ones of {vqgan.codebook.shape[0]}"
            )
        end_with(failures, len(images))
