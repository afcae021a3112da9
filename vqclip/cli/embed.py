"""vqclip embed: what texts and pictures mean, as a file of vectors for a prompt's @vector:FILE."""

from pathlib import Path
from typing import Annotated

import typer

from vqclip.cli import completion
from vqclip.cli.console import Console
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.looking import load_clip
from vqclip.cli.options import Device, Json, Layers, Offline, Overwrite, Pull, Quiet, Threads, Verbose
from vqclip.common.errors import OutputError, UsageError
from vqclip.common.paths import is_there
from vqclip.config.loader import load_config
from vqclip.config.prompts import VECTOR_FILE
from vqclip.hub.access import choose_access


def embed(
    words: Annotated[list[str], typer.Argument(metavar="TEXT|IMAGE...", help="What it means: their middle.")],
    output: Annotated[Path, typer.Option("-o", "--output", metavar=f"FILE{VECTOR_FILE}", help="Write it there.")],
    minus: Annotated[
        list[str] | None, typer.Option(metavar="TEXT|IMAGE", help="What it means less; repeat it.")
    ] = None,
    perceptor: Annotated[
        list[str] | None,
        typer.Option(
            "-m",
            "--model",
            "--perceptor",
            autocompletion=completion.perceptors,
            metavar="SPEC",
            help="The CLIP models, as in a config's perceptors, which are taken if none is given; repeat it.",
        ),
    ] = None,
    config: Layers = None,
    overwrite: Overwrite = False,
    device: Device = None,
    threads: Threads = None,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Make a vector for prompts: vqclip embed "a winter day" --minus "a summer day" -o winter.safetensors

    A prompt follows it with @vector:winter.safetensors, weighed as a text is.
    """
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    access, less = choose_access(pull, offline), minus or []
    if output.suffix.lower() != VECTOR_FILE:
        raise UsageError(
            f"--output {str(output)!r} is no file of vectors; call it {output.stem or 'vector'}{VECTOR_FILE}."
        )
    if is_there(output) and not overwrite:
        raise OutputError(f"{str(output)!r} is there already: choose another --output, or add --overwrite.")
    names = perceptor or [guide.name for guide in load_config(config or []).guides]
    with Interrupts("Stopped; nothing was written."):
        from vqclip.common.hashes import known_sha256
        from vqclip.models.provenance import ModelHash
        from vqclip.pipeline.vectors import write_vectors
        from vqclip.tools.embed import check_said
        from vqclip.tools.embed import embed as embedded

        check_said([*words, *less])
        guides, vectors = [], []
        for name in names:
            model, files = load_clip(name, device, threads, access)
            guides.append(ModelHash(name, known_sha256(files.weights)))
            vectors.append(embedded(model, words, less))
        says = " + ".join(words) + "".join(f" - {word}" for word in less)
        write_vectors(output, guides, vectors, says)
    event = {"event": "vectors", "path": str(output), "models": names, "says": says}
    console.result(str(output), event)
