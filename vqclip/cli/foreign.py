"""vqclip import-settings: another tool's settings as a config of ours."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.options import Json, Overwrite, Quiet
from vqclip.common.errors import OutputError
from vqclip.common.files import write_text
from vqclip.common.paths import is_there
from vqclip.common.text import YAML_LIMIT, decode, read_stdin, read_text
from vqclip.config.foreign.reading import import_settings
from vqclip.config.loader import load_config, nested
from vqclip.config.yaml_text import dump_yaml

log = logging.getLogger(__name__)

STDOUT = Path("-")


def import_foreign(
    source: Annotated[str, typer.Argument(metavar="FILE|-", help="YAML of pixray or pytti, or a generate.py line.")],
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE.yaml", help="Write it there; - is stdout.")
    ] = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Turn pixray's, nerdyrodent's or pytti's settings into a config: vqclip import-settings old.yaml -o mine.yaml"""
    console = Console(as_json=as_json, quiet=quiet)
    name = "the settings from standard input" if source == "-" else f"{source!r}"
    text = decode(read_stdin(name), name) if source == "-" else read_text(source, "the settings", YAML_LIMIT)
    found = import_settings(text, name)
    load_config([], [], found.settings)  # says which value does not fit
    for note in found.notes:
        log.warning(note)
    settings = nested(found.settings)
    file = None if output == STDOUT else output
    written = f"# vqclip generate -c {file or 'FILE.yaml'}\n#\n# Imported from {found.tool}.\n\n{dump_yaml(settings)}"
    event = {"event": "imported", "tool": found.tool, "config": settings, "notes": found.notes}
    if file is not None:
        if is_there(file) and not overwrite:
            raise OutputError(f"{str(file)!r} is there already: choose another --output, or add --overwrite.")
        write_text(file, written)
        console.result(str(file), {**event, "path": str(file)})
    elif as_json:
        console.result("", event)
    else:
        console.text(written)
