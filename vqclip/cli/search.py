"""vqclip search: find pictures in a folder by a text or by another picture."""

import sys
import time
from pathlib import Path, PurePath
from shlex import quote
from typing import TYPE_CHECKING, Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.hints import note_foreign_pictures, note_unknown_words
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.looking import Exclude, Model, counting, load_clip, tell_skipped, telling_left_out
from vqclip.cli.options import Device, Json, Offline, Overwrite, Preview, Pull, Quiet, Threads, Verbose
from vqclip.common.errors import OutputError, UsageError
from vqclip.common.paths import check_local, is_folder, is_there
from vqclip.hub.access import choose_access

if TYPE_CHECKING:
    from vqclip.tools.search import Hit

KEPT = "Stopped; what was indexed is kept."
THUMBNAIL = 160  # pixels of a picture's side on the sheet
COLUMNS = 32  # character cells of a picture in the terminal


def _list_indexes(wanted: bool) -> None:
    """Show what the cache knows of folders."""
    if not wanted:
        return
    from vqclip.tools.search_cache import stored_indexes

    console = Console(as_json="--json" in sys.argv[1:])
    for index in stored_indexes():
        facts = {"folder": index.folder, "model": index.model, "pictures": index.pictures, "bytes": index.bytes}
        about = f"{index.model}  {index.pictures} pictures, {index.bytes / 1e6:.1f} MB"
        event = {"event": "index", "path": str(index.path), **facts}
        console.result(f"{index.folder or 'unknown folder'}  {about}", event)
    raise typer.Exit


ListIndexes = Annotated[
    bool,
    typer.Option("--list-indexes", callback=_list_indexes, is_eager=True, help="Show which folders the cache knows."),
]


def search(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Where to look, subfolders too.")],
    query: Annotated[
        str | None, typer.Argument(metavar="QUERY", help="Texts and pictures, maybe with weights, joined by |.")
    ] = None,
    top: Annotated[int, typer.Option("-k", "--top", min=1, help="How many to show.")] = 10,
    min_score: Annotated[float, typer.Option(metavar="-1..1", help="Show nothing that is less alike.")] = -1.0,
    bare: Annotated[bool, typer.Option("-f", "--files", help="Only the paths, a line each.")] = False,
    null: Annotated[bool, typer.Option("-0", "--null", help="Only the paths, each ended by a zero byte.")] = False,
    grid: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a sheet of what was found.")] = None,
    preview: Preview = None,
    exclude: Exclude = None,
    forget: Annotated[bool, typer.Option("--forget", help="Only delete what the cache knows of FOLDER.")] = False,
    list_indexes: ListIndexes = False,
    perceptor: Model = "embedded",
    device: Device = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Find pictures by texts or pictures: vqclip search photos/ "a dog on a beach | a ball:0.5"

    A weight below 0 leads away from a text or picture; pictures of the query itself are not shown.
    The folder's embeddings are kept in the cache; only new and changed files are looked at.
    """
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    if forget:
        _forget(console, folder)
        return
    access = choose_access(pull, offline)
    if query is None:
        raise UsageError("Say what to look for: vqclip search FOLDER QUERY, where QUERY is a text or a picture.")
    if null and as_json:
        raise UsageError("--null writes paths alone, and --json whole objects; leave one out.")
    if not -1 <= min_score <= 1:  # typer's own range lets nan through
        raise UsageError(f"--min-score is {min_score:g}; it must be between -1 and 1.")
    _check(folder, query, grid, overwrite)
    with Interrupts(KEPT) as interrupts:
        from vqclip.folders.inputs import is_excluded
        from vqclip.folders.search_index import update_index
        from vqclip.tools.queries import pictures_of, query_vectors, read_query, texts_of
        from vqclip.tools.search import find

        asked = [read_query(query)]
        model, files = load_clip(perceptor, device, threads, access)
        vector = query_vectors(model, asked)[0]
        note_unknown_words(console, texts_of(asked), perceptor)
        with telling_left_out(console) as skip, counting(console, "indexing") as count, interrupts.deferred():

            def watch(done: int, total: int) -> None:
                count(done, total)
                if interrupts.received():
                    raise interrupts.error(KEPT)

            index = update_index(folder, model, files, watch, exclude or (), skip)
        looked_at = [name for name in index.names if not is_excluded(PurePath(name), exclude or ())]
        refused = {name: why for name, (_, why) in index.refused.items()}
        tell_skipped(console, [refused[name] for name in refused if not is_excluded(PurePath(name), exclude or ())])
        began = time.monotonic()
        hits = find(index, folder, vector, top, exclude or (), pictures_of(asked), min_score)
        spent = time.monotonic() - began
        for hit in hits:
            event = {"event": "hit", "path": str(hit.path), "score": round(hit.score, 4)}
            line = str(hit.path) if bare or null else f"{hit.score:7.4f}  {hit.path}"
            console.result(line, event, null=null)
        note_foreign_pictures(console, (hit.path for hit in hits), perceptor)
        console.say(f"{len(hits)} of {len(looked_at)} pictures, searched in {1000 * spent:.1f} ms")
        if grid and hits:
            _write_grid(grid, hits)
        if console.draws and preview is not False:
            _show(console, hits)


def _forget(console: Console, folder: Path) -> None:
    from vqclip.tools.search_cache import forget_folder

    gone = forget_folder(folder)
    if not gone:
        raise UsageError(f"The cache knows nothing of {str(folder)!r}; see vqclip search --list-indexes.")
    for index in gone:
        line = f"{index.folder}  {index.model}: forgotten, {index.bytes / 1e6:.1f} MB freed"
        console.result(line, {"event": "forgotten", "path": str(index.path), "bytes": index.bytes})


def _check(folder: Path, query: str, grid: Path | None, overwrite: bool) -> None:
    """Find out what is wrong before anything is loaded."""
    from vqclip.common.images import SUFFIXES

    check_local(str(folder))
    if not is_folder(folder) and is_folder(query):
        raise UsageError(f"The folder stands before the query: vqclip search {quote(query)} {quote(str(folder))}.")
    if not is_folder(folder):
        raise UsageError(f"{str(folder)!r} is not a folder to search in.")
    if grid and grid.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--grid {str(grid)!r} is no picture; it ends in {', '.join(SUFFIXES)}.")
    if grid and is_there(grid) and not overwrite:
        raise OutputError(f"{str(grid)!r} is there already: choose another --grid, or add --overwrite.")


def _write_grid(path: Path, hits: "list[Hit]") -> None:
    from PIL import ImageOps

    from vqclip.common.images import open_image
    from vqclip.outputs.sheet import make_sheet, save_sheet

    size = (THUMBNAIL, THUMBNAIL)
    pictures = [ImageOps.pad(open_image(hit.path), size, color="white") for hit in hits]
    captions = [f"{hit.score:.4f} {hit.path.name}" for hit in hits]
    save_sheet(path, make_sheet(pictures, captions, columns=5))


def _show(console: Console, hits: "list[Hit]") -> None:
    """Draw the best pictures in the terminal."""
    from vqclip.cli.graphics import show_picture
    from vqclip.common.images import open_image

    for hit in hits[:3]:
        show_picture(console, open_image(hit.path), COLUMNS)
        console.say(f"{hit.score:.4f} {hit.path}")
