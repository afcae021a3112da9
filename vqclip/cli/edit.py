"""vqclip edit, outpaint, vary and interpolate: pictures made of pictures, each by a layer of settings and options."""

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqclip.cli import completion
from vqclip.cli.console import Console
from vqclip.cli.generate import STDOUT, check_strength, draw_or_show
from vqclip.cli.options import (
    Count,
    Device,
    DryRun,
    Json,
    Layers,
    NoMetadata,
    Offline,
    Open,
    Output,
    Overrides,
    Overwrite,
    Preview,
    Pull,
    Quiet,
    SaveEvery,
    Seed,
    Sets,
    Threads,
    Verbose,
    Video,
    given_options,
    one_seed,
    read_settings,
)
from vqclip.common.errors import OutputError, UsageError
from vqclip.common.files import writing
from vqclip.common.paths import is_there
from vqclip.config.schema import Config
from vqclip.hub.access import choose_access

if TYPE_CHECKING:
    from vqclip.pipeline.assemble import Parts

Picture = Annotated[str, typer.Argument(metavar="IMAGE", help="The picture; it is never changed itself.")]
Prompt = Annotated[
    str | None,
    typer.Argument(metavar="[PROMPT]", help="What shall be there; text:weight:stop, joined by |."),
    Sets(None, read=lambda text: {"prompts": [text]}),
]
Strength = Annotated[
    float | None,
    typer.Option(metavar="0..1", help="Share of the picture, or of what is masked, that is drawn anew."),
    Sets("init.strength", default=""),
]
FormSize = Annotated[
    str | None,
    typer.Option(
        "--size",
        autocompletion=completion.sizes,
        metavar="WxH|N|W:H|NAME",
        help="Size in pixels; a shape such as 16:9 or widescreen keeps the area.",
    ),
    Sets("size", default="the picture's form"),
]
NeededSteps = Annotated[
    int | None, typer.Option("--steps", help="Updates of the latent."), Sets("optimise.steps", default="as needed")
]
Mask = Annotated[
    str | None, typer.Option(metavar="FILE", help="Repaint where this picture is white."), Sets("mask.image")
]
Boxes = Annotated[
    list[str] | None,
    typer.Option("--box", metavar="X,Y,W,H", help="Repaint this box, in pixels or per cent; repeat it."),
    Sets("mask.boxes"),
]
Where = Annotated[
    str | None,
    typer.Option(metavar="WORDS", help="Repaint where CLIP finds this, e.g. 'the head'."),
    Sets("mask.where"),
]
Invert = Annotated[bool, typer.Option("--invert", help="Repaint all but that."), Sets("mask.invert")]
Feather = Annotated[
    int | None,
    typer.Option(metavar="PX", help="Pixels over which old turns into new, inside the mask."),
    Sets("mask.feather"),
]
From = Annotated[
    str | None, typer.Option("--from", metavar="WORDS", help="What the picture shows."), Sets("targets.away")
]
To = Annotated[
    str | None, typer.Option("--to", metavar="WORDS", help="What it shall show instead."), Sets("targets.towards")
]
Amount = Annotated[
    float | None,
    typer.Option(metavar="0..1", help="How far from there to here."),
    Sets("targets.amount", default="0.5"),
]

ANEW = "the share that is drawn anew, and here the start is the picture itself: add --set init.kind=codes"
"""What a strength means where a part is painted, and nothing draws it."""


def edit(
    context: typer.Context,
    image: Picture,
    prompt: Prompt = None,
    mask: Mask = None,
    box: Boxes = None,
    where: Where = None,
    invert: Invert = False,
    feather: Feather = None,
    strength: Strength = None,
    away: From = None,
    towards: To = None,
    amount: Amount = None,
    show_mask: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write what is repainted, in white on black.")
    ] = None,
    config: Layers = None,
    overrides: Overrides = None,
    output: Output = None,
    size: FormSize = None,
    steps: NeededSteps = None,
    seed: Seed = None,
    count: Count = None,
    save_every: SaveEvery = None,
    video: Video = None,
    device: Device = None,
    threads: Threads = None,
    preview: Preview = None,
    opens: Open = False,
    no_metadata: NoMetadata = False,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    dry_run: DryRun = False,
) -> None:
    """Repaint a part of a picture, or change what it shows: vqclip edit photo.jpg "a red hat" --where "the head"."""
    from vqclip.common.images import SUFFIXES
    from vqclip.pipeline import edits

    console = Console(as_json=as_json, quiet=quiet, verbose=verbose, opens=opens)
    made = edits.edit(image, given_options(context))
    if show_mask and "mask.original" not in made.fixed:
        raise UsageError("--show-mask needs a mask: give --mask, --box or --where.")
    named = [Path(given).resolve() for given in (image, mask, output) if given]
    if show_mask and Path(show_mask).resolve() in named:
        raise UsageError(f"--show-mask {show_mask!r} is a picture that is read or made; give it a name of its own.")
    if show_mask and Path(show_mask).suffix.lower() not in SUFFIXES:
        raise UsageError(f"--show-mask {show_mask!r} is no picture; it ends in {', '.join(SUFFIXES)}.")
    settings = read_settings(context, made.fixed, made.layer)
    settings = edits.shaped(settings, given_options(context), overrides or [])
    check_strength(settings, strength, ANEW)
    if show_mask and not dry_run:
        _check_mask_place(settings, Path(show_mask), overwrite)
    draw_or_show(
        console,
        settings,
        preview=preview is not False,
        access=choose_access(pull, offline),
        dry_run=dry_run,
        ready=lambda parts: _write_mask(parts, Path(show_mask), overwrite) if show_mask else None,
    )


def outpaint(
    context: typer.Context,
    image: Picture,
    prompt: Prompt = None,
    left: Annotated[str | None, typer.Option(metavar="PX|%", help="New rim on the left.")] = None,
    right: Annotated[str | None, typer.Option(metavar="PX|%", help="New rim on the right.")] = None,
    top: Annotated[str | None, typer.Option(metavar="PX|%", help="New rim at the top.")] = None,
    bottom: Annotated[str | None, typer.Option(metavar="PX|%", help="New rim at the bottom.")] = None,
    ratio: Annotated[str | None, typer.Option(metavar="W:H", help="New rims that give this form, e.g. 16:9.")] = None,
    feather: Feather = None,
    strength: Strength = None,
    config: Layers = None,
    overrides: Overrides = None,
    output: Output = None,
    size: FormSize = None,
    steps: NeededSteps = None,
    seed: Seed = None,
    count: Count = None,
    save_every: SaveEvery = None,
    video: Video = None,
    device: Device = None,
    threads: Threads = None,
    preview: Preview = None,
    opens: Open = False,
    no_metadata: NoMetadata = False,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    dry_run: DryRun = False,
) -> None:
    """Paint a rim around a picture: vqclip outpaint photo.jpg "a green field" --ratio 16:9."""
    from vqclip.pipeline import edits

    console = Console(as_json=as_json, quiet=quiet, verbose=verbose, opens=opens)
    sides = zip(edits.SIDES, (left, top, right, bottom), strict=True)
    rims = {name: side for name, side in sides if side is not None}
    made = edits.outpaint(image, given_options(context), rims, ratio)
    settings = read_settings(context, made.fixed, made.layer)
    check_strength(settings, strength, ANEW)
    draw_or_show(
        console,
        settings,
        preview=preview is not False,
        access=choose_access(pull, offline),
        dry_run=dry_run,
    )


def vary(
    context: typer.Context,
    image: Picture,
    prompt: Annotated[
        str | None,
        typer.Option("-p", "--prompt", metavar="TEXT", help="What they shall show too."),
        Sets(None, read=lambda text: {"prompts": [text]}),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option("-n", "--count", help="Pictures; picture i uses seed + i."),
        Sets("count", default="4"),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="How far from the picture: 0 is itself, 1 a new drawing."),
        Sets("init.strength", default="0.3"),
    ] = None,
    config: Layers = None,
    overrides: Overrides = None,
    output: Output = None,
    size: FormSize = None,
    steps: NeededSteps = None,
    seed: Seed = None,
    save_every: SaveEvery = None,
    video: Video = None,
    device: Device = None,
    threads: Threads = None,
    preview: Preview = None,
    opens: Open = False,
    no_metadata: NoMetadata = False,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    dry_run: DryRun = False,
) -> None:
    """Draw pictures of the same content: vqclip vary photo.jpg -n 4."""
    from vqclip.pipeline import edits

    console = Console(as_json=as_json, quiet=quiet, verbose=verbose, opens=opens)
    made = edits.vary(image)
    settings = read_settings(context, made.fixed, made.layer)
    draw_or_show(
        console,
        edits.shaped(settings, given_options(context), overrides or []),
        preview=preview is not False,
        access=choose_access(pull, offline),
        dry_run=dry_run,
    )


def interpolate(
    context: typer.Context,
    points: Annotated[
        list[str], typer.Argument(metavar="POINT POINT...", help="Texts or picture files."), Sets("targets.path")
    ],
    frames: Annotated[
        int, typer.Option("-n", "--frames", min=2, max=10_000, help="Pictures on the way, both ends among them.")
    ] = 8,
    steps: Annotated[int, typer.Option(min=1, help="Updates of the latent for each picture.")] = 4,
    config: Layers = None,
    overrides: Overrides = None,
    output: Output = None,
    size: FormSize = None,
    seed: Annotated[
        str | None, typer.Option(metavar="N|random", help="One for the whole way."), Sets("seed", read=one_seed)
    ] = None,
    save_every: SaveEvery = None,
    video: Video = None,
    device: Device = None,
    threads: Threads = None,
    preview: Preview = None,
    opens: Open = False,
    no_metadata: NoMetadata = False,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
    dry_run: DryRun = False,
) -> None:
    """Draw the way from one text or picture to another, as a strip: vqclip interpolate "a cat" dog.png --video mp4."""
    from vqclip.pipeline import edits

    console = Console(as_json=as_json, quiet=quiet, verbose=verbose, opens=opens)
    made = edits.interpolate(points, frames, steps)
    settings = read_settings(context, made.fixed, made.layer)
    draw_or_show(
        console,
        edits.paced(settings, overrides or []),
        preview=preview is not False,
        access=choose_access(pull, offline),
        dry_run=dry_run,
    )


def _check_mask_place(settings: Config, path: Path, overwrite: bool) -> None:
    """Find out whether the mask may be written before anything is loaded.

    Raises:
        UsageError: the run makes a picture of that name.
        OutputError: something is there, or where the run's files go, or nothing can be.
    """
    from vqclip.pipeline.plan import make_plan
    from vqclip.runs.session import files_of, folder_for

    _check_free(path, overwrite)
    with writing(path), contextlib.suppress(FileNotFoundError):
        path.stat()
    if settings.output.path != STDOUT:
        plan = make_plan(settings)
        folder = folder_for(plan)
        place = path.resolve()
        if {place, *place.parents} & {made.resolve() for made in files_of(folder, plan.config.output)}:
            raise UsageError(f"--show-mask {str(path)!r} is a picture that is made; give it a name of its own.")


def _check_free(path: Path, overwrite: bool) -> None:
    if is_there(path) and not overwrite:
        raise OutputError(f"{str(path)!r} is there already: choose another --show-mask, or add --overwrite.")


def _write_mask(parts: "Parts", path: Path, overwrite: bool) -> None:
    """Write the mask, unless something is there.

    Raises:
        OutputError: it is, or the place cannot be written.
    """
    from PIL import Image

    from vqclip.outputs.sheet import save_sheet

    _check_free(path, overwrite)
    if parts.patch is not None:
        save_sheet(path, Image.fromarray(parts.patch.mask))
