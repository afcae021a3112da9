"""Options that several commands share, as types for typer."""

from typing import Annotated

import typer

Prompts = Annotated[
    list[str] | None,
    typer.Argument(metavar="[PROMPT]...", help="One picture each; text:weight:stop, joined by |."),
]
Layers = Annotated[
    list[str] | None,
    typer.Option("-c", "--config", metavar="NAME|FILE|-", help="A config layer; repeat it, later ones win."),
]
Words = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="One setting, e.g. optimise.lr=0.2; repeat it."),
]
Output = Annotated[
    str | None,
    typer.Option("-o", "--output", metavar="PATH", help="A picture file, or a folder ending in /."),
]
Size = Annotated[str | None, typer.Option(metavar="WxH", help="Size in pixels.")]
Seed = Annotated[int | None, typer.Option(help="Picture i of --count uses seed + i.")]
Count = Annotated[int | None, typer.Option(help="Pictures per prompt.")]
Device = Annotated[str | None, typer.Option(metavar="auto|cpu|cuda|cuda:N|mps", help="Where to compute.")]
Threads = Annotated[int | None, typer.Option(help="CPU threads.")]
Preview = Annotated[bool | None, typer.Option("--preview/--no-preview", help="Show the picture in the terminal.")]
NoMetadata = Annotated[bool, typer.Option("--no-metadata", help="Store nothing in the picture.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace what is there.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Pull = Annotated[bool, typer.Option("--pull", help="Fetch published models that are missing.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Only errors on stderr.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="More on stderr.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, do nothing.")]
