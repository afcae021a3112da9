"""What score, classify and search share: the perceptor, the pictures given, and what is said of the bad ones."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqclip.cli import bars, completion
from vqclip.cli.console import Console
from vqclip.common.errors import UsageError
from vqclip.common.text import read_stdin
from vqclip.hub.access import Access

if TYPE_CHECKING:
    from torch import Tensor

    from vqclip.folders.inputs import Given, Skip
    from vqclip.models.files import ClipFiles
    from vqclip.models.perceptor import Perceptor

Images = Annotated[
    list[str], typer.Argument(metavar="IMAGE...", help="Files, folders, patterns, or - for a list on standard input.")
]
Model = Annotated[
    str,
    typer.Option(
        "-m",
        "--model",
        "--perceptor",
        autocompletion=completion.perceptors,
        metavar="SPEC",
        help="The CLIP model, as in a config's perceptors.",
    ),
]

Null = Annotated[
    bool, typer.Option("-0", "--null", help="Names on standard input, and lines written, end by a zero byte.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(metavar="PATTERN", help="Leave out of folders what has such a name or path; repeat it."),
]

SHOWN = 10
"""Bad files of a folder that are named; -v names them all."""


def load_clip(spec: str, device: str | None, threads: int | None, access: Access) -> "tuple[Perceptor, ClipFiles]":
    """Load the CLIP model that an option names."""
    from vqclip.common.runtime import resolve_device, resolve_precision, set_threads
    from vqclip.hub.clip_files import find_clip
    from vqclip.models.perceptor import load_perceptor

    set_threads(threads)
    where = resolve_device(device or "auto")
    files = find_clip(spec, access)
    return load_perceptor(files, where, resolve_precision("auto", where)), files


def vectors_of(console: Console, perceptor: "Perceptor", given: "Sequence[Given]") -> "Iterator[tuple[Path, Tensor]]":
    """Yield each picture with its unit vector, batch by batch; a bad file is said on stderr and passed over.

    Raises:
        UsageError: at the end, if a file was bad that the user named.
    """
    from vqclip.folders.embedding import embed_files

    named = {each.path for each in given if each.named}
    skipped: list[str] = []
    failures = 0
    with counting(console, "looking") as count:
        for done, (path, found) in enumerate(embed_files(perceptor, [each.path for each in given]), 1):
            if not isinstance(found, UsageError):
                yield path, found
            elif path in named:
                failures += 1
                console.error(str(found), found.code)
            else:
                skipped.append(str(found))
            count(done, len(given))
    tell_skipped(console, skipped)
    if failures:
        raise UsageError(f"{failures} of {len(given)} files could not be looked at.")


def tell_skipped(console: Console, reasons: Sequence[str]) -> None:
    """Count the files of a folder that are no pictures, and name the first of them."""
    if not reasons:
        return
    console.say(f"Skipped {len(reasons)} file{'s' if len(reasons) > 1 else ''}:")
    shown = len(reasons) if console.verbose else SHOWN
    for reason in reasons[:shown]:
        console.say(f"  {reason}")
    if len(reasons) > shown:
        console.say(f"  … and {len(reasons) - shown} more; -v names them all.")


@contextmanager
def counting(console: Console, what: str) -> Iterator[Callable[[int, int], None]]:
    """Show a bar on a terminal while the block runs; gives what is told (done, of how many)."""
    with bars.bar(console, len(what), [bars.counted(), bars.time_left()], transient=True) as progress:
        task = progress.add_task(what, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total)


def given_images(console: Console, words: Sequence[str], null: bool, exclude: Sequence[str] | None) -> "list[Given]":
    """The files behind the arguments; what a folder holds besides is told."""
    from vqclip.folders.inputs import STDIN, gather

    with telling_left_out(console) as skip:
        return gather(words, _listed(null) if STDIN in words else (), exclude or (), skip)


def _listed(null: bool) -> list[str]:
    """The paths on standard input, a line each or ended by a zero byte each; a name may hold any other bytes."""
    data = read_stdin("the list on standard input")
    lines = data.split(b"\0") if null else [line.rstrip(b"\r\n") for line in data.split(b"\n")]
    return [os.fsdecode(line) for line in lines if (line if null else line.strip())]


@contextmanager
def telling_left_out(console: Console) -> "Iterator[Skip]":
    """Gives what is told of files left out; at the end the person learns how many there were, why, and some names."""
    left_out: dict[str, list[Path]] = {}
    yield lambda path, why: left_out.setdefault(why, []).append(path)
    for why, paths in left_out.items():
        shown = paths if console.verbose else paths[:3]
        more = ", …" if len(shown) < len(paths) else ""
        console.say(f"Left out {len(paths)} ({why}): {', '.join(map(str, shown))}{more}")
