"""Where a command writes what it makes of pictures: to one file, or to a folder with a file for each."""

from collections import Counter
from pathlib import Path

from vqclip.common.errors import OutputError, PartialError, UsageError, VqclipError
from vqclip.common.paths import check_local, is_folder, is_there


def choose_targets(images: list[str], output: str | None, ending: str, overwrite: bool) -> list[Path]:
    """Choose a file for every picture, and check that it may be written.

    In a folder (`outputs/`, where `output` is None) it is called as the picture is, with `-ending.png`.

    Raises:
        UsageError: an output that fits no picture, or several pictures that would get the same file.
        OutputError: a file is there already.
    """
    from vqclip.common.images import SUFFIXES

    for image in images:
        check_local(image)
    place = Path(output or "outputs")
    is_file = output is not None and not output.endswith(("/", "\\")) and not is_folder(place)
    if is_file and place.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--output {output!r} is neither a picture ({', '.join(SUFFIXES)}) nor a folder ending in /.")
    if is_file and len(images) > 1:
        raise UsageError(f"--output {output!r} is one file for {len(images)} pictures; give a folder ending in /.")
    targets = [place] if is_file else [place / f"{Path(image).stem}-{ending}.png" for image in images]
    double = next((target for target, times in Counter(targets).items() if times > 1), None)
    if double:
        raise UsageError(f"Two pictures would be written to {str(double)!r}; give them one at a time.")
    taken = next((target for target in targets if is_there(target) and not overwrite), None)
    if taken:
        raise OutputError(f"{str(taken)!r} is there already: choose another --output, or add --overwrite.")
    return targets


def check_not_stdout(folder: str | Path) -> None:
    """Refuse `-`, which is standard output elsewhere, where a command writes a folder of files.

    Raises:
        UsageError: so.
    """
    if str(folder) == "-":
        raise UsageError("--output - is standard output, and this command writes several files: name a folder.")


def end_with(failures: list[VqclipError], total: int) -> None:
    """End a command of several pictures, each failure of which was told before.

    Raises:
        PartialError: there was one.
    """
    if failures:
        raise PartialError(f"{len(failures)} of {total} pictures could not be made.")
