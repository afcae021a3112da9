"""Make what the documents take from the program: python scripts/documents.py [--pictures]

Writes docs/commands.md from the help texts; tests/test_documents.py compares the two. With --pictures it also runs the
commands of README's first table, one after the other in a folder of its own, and keeps each picture small beside it;
and those above the sheet in docs/settings.md, of which it makes the sheet; with --drawers it makes the sheet of
docs/drawers.md, a row for each of DRAWERS; with --editing it runs docs/editing/jobs.jsonl, and makes the sheets of
docs/editing.md, one for each of EDITS.
"""

import argparse
import json
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from typer import Context
from typer.main import get_command

from vqclip.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "commands.md"
PICTURES = ROOT / "docs" / "pictures"
SETTINGS = ROOT / "docs" / "settings.md"
EDITING = ROOT / "docs" / "editing"
EDITS = {"edit": (2, 256), "change": (2, 256), "outpaint": (2, 256), "vary": (1, 200), "interpolate": (1, 150)}
"""Sheets of the jobs whose outputs begin so: jobs in a row, and the height of a picture in pixels."""
COLUMNS = 100
HEIGHT = 160
DRAWERS = (
    "--drawer pixels",
    "--drawer fourier",
    "--drawer pixelart",
    "--drawer palette --set pixelart.shape=hexagon",
    "--drawer strokes",
    "--drawer strokes --set strokes.ink=black --set strokes.width=0.03",
)
SHOWN = ("a red apple on a white background", "a sailboat by the sea", "a cat in a green field")
ACROSS = 4
"""Pictures in a row of a sheet."""
GAP = 4
"""Pixels between the jobs of a sheet of editing."""

SHEET = re.compile(r"```sh\n((?:vqclip [^\n]+\n)+)```\n\n!\[[^\]]*\]\(pictures/kinds\.webp\)")
ROW = re.compile(r"^\|.*\(docs/pictures/([a-z]+)\.webp\)[^|]*\| `(vqclip [^`]+)` \|$", re.MULTILINE)


def commands() -> Iterator[tuple[str, str]]:
    """Every command with its help, as a terminal of COLUMNS shows it."""
    root = get_command(app)
    above = Context(root, info_name="vqclip")
    for name, command in root.commands.items():  # type: ignore[attr-defined]
        for inner, below in getattr(command, "commands", {"": command}).items():
            words = f"{name} {inner}".strip()
            context = Context(below, info_name=words, parent=above, terminal_width=COLUMNS)
            context.help_option_names = ["-h", "--help"]
            yield words, below.get_help(context)


def reference() -> str:
    """The text of docs/commands.md."""
    chapters = (f"## vqclip {words}\n\n```text\n{help_.strip()}\n```\n" for words, help_ in commands())
    return "\n".join(("# Every command\n\nWritten by `python scripts/documents.py` from the help texts.\n", *chapters))


def draw_pictures(readme: str) -> None:
    """Run the commands of README's first table, and keep what they draw."""
    with tempfile.TemporaryDirectory() as folder:
        for name, command in ROW.findall(readme):
            draw(command, Path(folder) / f"{name}.png")
            keep(Path(folder) / f"{name}.png", PICTURES / f"{name}.webp")


def draw_drawers(rows: Sequence[str]) -> None:
    """Draw what SHOWN says with each of the rows' options, and keep a sheet of it."""
    sheet = Image.new("RGB", (HEIGHT * len(SHOWN), HEIGHT * len(rows)))
    with tempfile.TemporaryDirectory() as folder:
        for row, options in enumerate(rows):
            words = ["generate", *SHOWN, *options.split(), "--seed", "1", "-o", f"{row}.png"]
            subprocess.run([sys.executable, "-m", "vqclip", *words], cwd=folder, check=True)
            for column in range(len(SHOWN)):
                with Image.open(Path(folder) / f"{row}-{column}.png") as image:
                    sheet.paste(image.resize((HEIGHT, HEIGHT)), (HEIGHT * column, HEIGHT * row))
    sheet.save(PICTURES / "drawers.webp", quality=80)


def draw_editing(jobs: Path) -> None:
    """Run the jobs of docs/editing, and keep the sheets of EDITS: what a job began with, and what it made of it."""
    lines = [json.loads(line) for line in jobs.read_text("utf-8").splitlines()]
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "vqclip", "batch", jobs.name, "-o", folder], cwd=jobs.parent, check=True)
        for name, (across, height) in EDITS.items():
            mine = [job for job in lines if job["output"].startswith(name)]
            strips = [strip([*originals(job), *results(job, Path(folder))], height) for job in mine]
            stacked(strips, across).save(EDITING / f"{name}.webp", quality=80)


def originals(job: dict[str, Any]) -> list[Path]:
    """The picture that a job edits or varies, if it does."""
    return [EDITING / job[field] for field in ("edit", "vary") if field in job]


def results(job: dict[str, Any], folder: Path) -> list[Path]:
    """What a job wrote: one picture, or as many as it was to count."""
    return sorted(folder.glob(f"{Path(job['output']).stem}*.png"))


def strip(files: Sequence[Path], height: int) -> Image.Image:
    """Pictures beside one another, all of one height."""
    images = [Image.open(file).convert("RGB") for file in files]
    images = [image.resize((image.width * height // image.height, height)) for image in images]
    whole = Image.new("RGB", (sum(image.width for image in images), height))
    for number, image in enumerate(images):
        whole.paste(image, (sum(each.width for each in images[:number]), 0))
    return whole


def stacked(strips: Sequence[Image.Image], across: int) -> Image.Image:
    """Strips of one height in rows of so many, GAP white pixels apart."""
    rows = [strips[start : start + across] for start in range(0, len(strips), across)]
    widths = [sum(each.width + GAP for each in row) - GAP for row in rows]
    height = strips[0].height + GAP
    sheet = Image.new("RGB", (max(widths), height * len(rows) - GAP), "white")
    for down, row in enumerate(rows):
        for number, each in enumerate(row):
            sheet.paste(each, (sum(one.width + GAP for one in row[:number]), height * down))
    return sheet


def draw_sheet(settings: str) -> None:
    """Run the commands above the sheet, and put what they draw side by side."""
    found = SHEET.search(settings)
    assert found is not None, "docs/settings.md has no sheet"
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{number}.png" for number, _ in enumerate(found[1].splitlines())]
        for file, command in zip(files, found[1].splitlines(), strict=True):
            draw(command, file)
        keep_sheet(files, PICTURES / "kinds.webp")


def draw(command: str, picture: Path) -> None:
    """Run a command of a document; its last -o, ours, is the one that counts."""
    words = [word.replace("docs/pictures", str(PICTURES)) for word in shlex.split(command)[1:]]
    subprocess.run([sys.executable, "-m", "vqclip", *words, "-o", picture.name], cwd=picture.parent, check=True)


def keep_sheet(files: Sequence[Path], place: Path) -> None:
    """Write square pictures as a sheet, ACROSS in a row."""
    sheet = Image.new("RGB", (ACROSS * HEIGHT, -(-len(files) // ACROSS) * HEIGHT))
    for number, file in enumerate(files):
        with Image.open(file) as image:
            small = image.convert("RGB").resize((HEIGHT, HEIGHT))
        sheet.paste(small, (number % ACROSS * HEIGHT, number // ACROSS * HEIGHT))
    sheet.save(place, quality=80)


def keep(picture: Path, place: Path) -> None:
    """Write a picture in the height of a line of README."""
    with Image.open(picture) as image:
        image.convert("RGB").resize((image.width * HEIGHT // image.height, HEIGHT)).save(place, quality=80)


def main() -> None:
    """Write what is asked for."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--pictures", action="store_true", help="draw README's pictures anew as well")
    parser.add_argument("--drawers", action="store_true", help="draw the sheet of docs/drawers.md anew as well")
    parser.add_argument("--editing", action="store_true", help="draw the sheets of docs/editing.md anew as well")
    asked = parser.parse_args()
    if asked.drawers:
        draw_drawers(DRAWERS)
    if asked.editing:
        draw_editing(EDITING / "jobs.jsonl")
    if asked.pictures:
        draw_pictures((ROOT / "README.md").read_text("utf-8"))
        draw_sheet(SETTINGS.read_text("utf-8"))
    REFERENCE.write_text(reference(), "utf-8")


if __name__ == "__main__":
    main()
