"""vqclip gallery: a page of the pictures in a folder."""

from pathlib import Path
from typing import Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.options import Json, Open, Overwrite, Quiet
from vqclip.cli.viewer import open_file
from vqclip.common.errors import UsageError
from vqclip.common.paths import is_folder


def gallery(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A batch's folder, or any folder of pictures.")],
    opens: Open = False,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Write a page that shows a folder's pictures: vqclip gallery outputs/"""
    from vqclip.tools.gallery import write_gallery

    console = Console(as_json=as_json, quiet=quiet, opens=opens)
    if not is_folder(folder):
        raise UsageError(f"{str(folder)!r} is not a folder.")
    with Interrupts("Stopped; the page is as it was."):
        page = write_gallery(folder, overwrite=overwrite)
    console.result(str(page), {"event": "gallery", "path": str(page)})
    if console.opens:
        open_file(console, page)
