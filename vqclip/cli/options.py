"""Options that several commands share, as types for typer; one that sets a key of the config says so by `Sets`."""

import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import reduce
from typing import Annotated, Any, get_args, get_type_hints

import typer

from vqclip.cli import completion
from vqclip.cli.prompts import STDIN, is_piped, piped_prompts, read_prompts
from vqclip.common.errors import UsageError
from vqclip.config.loader import load_config, to_dict
from vqclip.config.schema import DRAWN_SEEDS, MOST_THREADS, Config
from vqclip.config.starts import REDRAW

MOST_SEEDS = 10_000
"""Seeds that a range may hold, as many as `count` may be."""


@dataclass(frozen=True)
class Sets:
    """What an option means in the config: `key` gets its value, and the keys of `also` theirs; or what `read` says.

    `default`: what the help says of its value where it is not given, if that is not default.yaml's; "": nothing.
    """

    key: str | None
    also: Mapping[str, object] = field(default_factory=dict)
    read: Callable[[str], Mapping[str, object]] | None = None
    default: str | None = None

    def settings(self, value: object) -> Mapping[str, object]:
        """The dotted keys that a value sets."""
        if self.read is not None:
            return self.read(str(value))
        return {**self.also, **({self.key: value} if self.key else {})}


def read_seeds(text: str) -> dict[str, object]:
    """Read `7`, `1,2,3`, `1-4` or `random` (also `-1`, as elsewhere).

    Raises:
        UsageError: none of these, or a range of more than MOST_SEEDS.
    """
    if text in ("random", "-1"):
        return {"seed": secrets.randbelow(DRAWN_SEEDS), "seeds": []}
    if text.isdecimal() and text.isascii():
        return {"seed": text, "seeds": []}
    parts = [re.fullmatch(r"\s*([0-9]{1,19})\s*(?:-\s*([0-9]{1,19})\s*)?", part) for part in text.split(",")]
    ends = [(int(part[1]), int(part[2] or part[1])) for part in parts if part]
    if len(ends) < len(parts) or not all(0 <= last - first < MOST_SEEDS for first, last in ends):
        raise UsageError(f"--seed {text!r} is no seed: give a number, 1,2,3, 1-4 or random.")
    return {"seeds": [seed for first, last in ends for seed in range(first, last + 1)]}


def one_seed(text: str) -> dict[str, object]:
    """Read the seed of what is one run: `7` or `random`.

    Raises:
        UsageError: several, or none.
    """
    found = read_seeds(text)
    if found["seeds"]:
        raise UsageError(f"--seed {text!r}: there is one run; give one number or random.")
    return found


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT", help="One picture each: text:weight:stop, joined by |; @LIST.txt and - hold one a line."
    ),
    Sets("prompts"),
]
Layers = Annotated[
    list[str] | None,
    typer.Option(
        "-c",
        "--config",
        autocompletion=completion.configs,
        metavar="NAME|FILE|-",
        help="A config layer; repeat it, later ones win.",
    ),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        autocompletion=completion.settings,
        metavar="KEY=VALUE",
        help="One setting, e.g. optimise.lr=0.2; repeat it.",
    ),
]
Output = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="A picture file, maybe with {prompt} and {seed} in it, a folder ending in /, or - for stdout.",
    ),
    Sets("output.path"),
]
OutputFile = Annotated[
    str | None,
    typer.Option(
        "-o", "--output", metavar="PATH", help="A picture file, or a folder ending in /; outputs/ if left out."
    ),
]
NamedOutput = Annotated[
    str | None,
    typer.Option(
        "-o",
        "--output",
        metavar="PATH",
        help="A picture file, maybe with {prompt} and {seed} in it, or a folder ending in /.",
    ),
    Sets("output.path"),
]
Size = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.sizes,
        metavar="WxH|N|W:H|NAME",
        help="Size in pixels; a shape such as 16:9 or widescreen keeps the area.",
    ),
    Sets("size"),
]
Quality = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.qualities,
        metavar="draft|normal|better|best|supreme",
        help="More or less steps, cutouts and size than the configs say.",
    ),
    Sets("quality"),
]
Pixels = Annotated[
    str | None,
    typer.Option(metavar="N|64k|1M", help="How many pixels; --size says the shape."),
    Sets("pixels", default=""),
]
Steps = Annotated[int | None, typer.Option(help="Updates of the latent."), Sets("optimise.steps")]
Seed = Annotated[
    str | None,
    typer.Option(metavar="N|N,N|N-N|random", help="Picture i of --count uses seed + i; of several, a picture of each."),
    Sets("seed", read=read_seeds),
]
Count = Annotated[int | None, typer.Option(help="Pictures per prompt."), Sets("count")]
Candidates = Annotated[
    int | None,
    typer.Option("-n", "--candidates", help="Pictures drawn for each; CLIP chooses the best."),
    Sets("prior.candidates"),
]
InitImage = Annotated[
    str | None,
    typer.Option(metavar="FILE", help="Draw this picture anew, as the prompt says."),
    Sets("init.image", {"init.kind": REDRAW}),
]
Strength = Annotated[
    float | None,
    typer.Option(metavar="0..1", help="How far from the given picture the new one may go."),
    Sets("init.strength", default="0.6"),
]
ImagePrompts = Annotated[
    list[str] | None,
    typer.Option("--image-prompt", metavar="FILE[:weight]", help="A picture to resemble; repeat it."),
    Sets("image_prompts"),
]
Drawer = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.drawers,
        metavar="vqgan|pixels|fourier|pixelart|palette|strokes",
        help="What draws; all but the first need no VQGAN.",
    ),
    Sets("drawer"),
]
Upscale = Annotated[
    str | None,
    typer.Option(metavar="auto|none|embedded|NAME|FILE", help="What enlarges the pictures at the end."),
    Sets("output.upscale"),
]
SaveEvery = Annotated[
    str | None,
    typer.Option(metavar="N|N%", help="Write a frame every N steps, or every N % of them."),
    Sets("output.save_every"),
]
Video = Annotated[
    str | None,
    typer.Option(
        autocompletion=completion.videos, metavar="mp4|gif|webp", help="Make a video of the run; alone it is a gif."
    ),
    Sets("output.video"),
]
Fps = Annotated[int | None, typer.Option(help="Frames a second of the video."), Sets("output.fps")]
Device = Annotated[
    str | None,
    typer.Option(autocompletion=completion.devices, metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute."),
    Sets("runtime.device"),
]
Threads = Annotated[
    int | None, typer.Option(min=1, max=MOST_THREADS, metavar="N", help="CPU threads."), Sets("runtime.threads")
]
Preview = Annotated[bool | None, typer.Option("--preview/--no-preview", help="Show the picture in the terminal.")]
Open = Annotated[
    bool, typer.Option("--open", help="Show what is made in the desktop's viewer; of several pictures the first.")
]
NoMetadata = Annotated[
    bool, typer.Option("--no-metadata", help="Store nothing in the picture."), Sets(None, {"output.metadata": False})
]
Tags = Annotated[
    list[str] | None,
    typer.Option("--tag", metavar="TEXT", help="A keyword in the picture, for photo tools; repeat it."),
    Sets("output.tags"),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there."), Sets("output.overwrite")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Pull = Annotated[bool, typer.Option("--pull", help="Fetch published models that are missing.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors on stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More on stderr.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, do nothing.")]


def given_options(context: typer.Context) -> dict[str, object]:
    """Return what the command's options set in the config, as dotted keys; an option not given sets nothing."""
    found: dict[str, object] = {}
    for name, hint in get_type_hints(context.command.callback, include_extras=True).items():
        value = context.params.get(name)
        for sets in (each for each in get_args(hint) if isinstance(each, Sets)):
            if value is not None and value is not False and value not in ([], ()):
                found |= sets.settings(value)
    if found.get("seeds") and "count" not in found and not _overridden(context, "count"):
        found["count"] = 1  # as many as there are seeds, whatever a layer says
    pixels = found.pop("pixels", None)
    return found if pixels is None else {**found, "size": f"{found.get('size', '')}@{pixels}"}


def _overridden(context: typer.Context, key: str) -> bool:
    return any(word.partition("=")[0].strip() == key for word in context.params.get("overrides") or [])


def defaults(command: Any) -> dict[str, str]:
    """What the options of a command are where they are not given: what they say themselves, else by default.yaml."""
    settings, found = to_dict(load_config()), {}
    for name, hint in get_type_hints(command.callback, include_extras=True).items():
        for sets in (each for each in get_args(hint) if isinstance(each, Sets)):
            if sets.default is not None:
                found[name] = sets.default
            elif sets.key:
                value: Any = reduce(lambda section, part: section[part], sets.key.split("."), settings)
                found[name] = "random" if value is None and sets.key == "seed" else str(value or "")
    return {name: said for name, said in found.items() if said}


def as_typed(context: typer.Context, error: UsageError) -> UsageError:
    """Name the option that was typed where a sentence names the key that it sets: `--steps`, not `optimise.steps`."""
    said = str(error).removeprefix("command line: ")
    hints = get_type_hints(context.command.callback, include_extras=True)
    for param in context.command.params:
        if context.params.get(param.name or "") is None:
            continue
        for sets in (each for each in get_args(hints.get(param.name or "")) if isinstance(each, Sets)):
            if sets.key and param.opts[-1].startswith("-") and said.startswith(f"{sets.key} is "):
                return UsageError(f"{param.opts[-1]}{said.removeprefix(sets.key)}")
    return error


def read_settings(
    context: typer.Context, fixed: Mapping[str, object] | None = None, layer: str | None = None
) -> Config:
    """Read the config that a command with `Layers`, `Overrides` and other options of this file asks for.

    `fixed` holds what the command itself decides, `layer` names its settings below those that the user gives.

    Raises:
        UsageError: as `load_config`, or a setting of what the command decides.
    """
    from vqclip.pipeline.edits import check_unsaid

    given, overrides = context.params.get("config") or [], context.params.get("overrides") or []
    check_unsaid(fixed or {}, overrides)
    layers = [*([layer] if layer else []), *given]
    options = {**given_options(context), **(fixed or {})}
    if words := context.params.get("prompts"):
        options["prompts"] = read_prompts(words, layers)
    try:
        settings = load_config(layers, overrides, options)
    except UsageError as error:
        raise as_typed(context, error) from error
    nothing = not (settings.prompts or settings.image_prompts or settings.targets.path)
    if nothing and "prompts" in context.params and STDIN not in layers and is_piped():
        return load_config(layers, overrides, {**options, "prompts": piped_prompts()})
    return settings
