"""A page of pictures: static HTML with small copies beside it, no network, usable with thousands.

Everything that a user wrote is escaped, so a prompt is text whatever it holds. Links are relative: the folder can be
moved or served as it is.
"""

import contextlib
import html
import os
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import quote

from PIL import Image

from vqclip.common.errors import OutputError, UsageError
from vqclip.common.files import check_inside, replacing, write_text
from vqclip.common.images import SUFFIXES, open_image, opening
from vqclip.common.names import is_name
from vqclip.common.paths import PAGE, THUMBS, is_file, is_there
from vqclip.common.text import parse_json
from vqclip.config.schema import SEED_LIMIT
from vqclip.folders.inputs import is_page, walk
from vqclip.outputs.picture import read_metadata

SIDE = 256  # pixels of a small copy's longer side
LONGEST = 255  # bytes of a file's name
DESCRIPTION = 0x010E  # ImageDescription, Exif 2.3
COPY = "a small copy by vqclip"
CURVE_SIZE = (120, 28)  # pixels of a loss curve


@dataclass(frozen=True)
class Entry:
    """A picture of the page, or a failure: `path` is relative to the folder, None for a failure."""

    prompt: str
    path: str | None = None
    seed: int | None = None
    scores: dict[str, float] = field(default_factory=dict)
    losses: Sequence[float] = ()
    error: str | None = None


def write_gallery(folder: Path, *, overwrite: bool = False) -> Path:
    """Write `folder`/index.html and the small copies that are missing or of another time than their pictures.

    Returns the page, which shows the results of a batch in the folder, and all other pictures.

    Raises:
        UsageError: the folder holds no picture.
        OutputError: the page cannot be written, another page than ours is there and `overwrite` is off, or pictures
            are where the small copies go.
    """
    place = folder / PAGE
    check_inside(folder, place)
    if not overwrite and is_there(place) and not is_page(place):
        raise OutputError(f"{str(place)!r} is there already, and not a page of vqclip's; move it, or add --overwrite.")
    own = next((file for file in walk(folder / THUMBS) if not _is_copy(file)), None) if not is_page(place) else None
    if own:
        raise OutputError(f"{str(own)!r} is in the place of a page's small copies; move it, or rename its folder.")
    found = list(find_entries(folder))
    if not found:
        raise UsageError(f"{str(folder)!r} holds no picture to show.")
    cards = "\n".join(_card(folder, entry) for entry in found)
    failures = sum(entry.error is not None for entry in found)
    count = f"{len(found) - failures} pictures" + (f", {failures} failures" if failures else "")
    page = TEMPLATE.replace("@TITLE@", html.escape(folder.resolve().name)).replace("@COUNT@", count)
    write_text(place, page.replace("@CARDS@", cards).encode("utf-8", "replace").decode())
    return place


def find_entries(folder: Path) -> Iterator[Entry]:
    """Yield what the page shows: the results of a batch, then every other picture below the folder."""
    results = _batch_results(folder)
    yield from results
    shown = {entry.path for entry in results}
    for file in walk(folder):
        name = file.relative_to(folder).as_posix()
        if file.suffix.lower() in SUFFIXES and name not in shown and not name.startswith(f"{THUMBS}/"):
            yield _picture_entry(file, name)


def _batch_results(folder: Path) -> list[Entry]:
    results: dict[str, dict[str, Any]] = {}
    path = folder / "results.jsonl"
    with contextlib.suppress(OSError):
        for line in path.read_text("utf-8", errors="replace").split("\n") if is_file(path) else ():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                row = parse_json(line)
                results[str(row["id"])] = row
    return [entry for row in results.values() if (entry := _result_entry(folder, row))]


def _result_entry(folder: Path, row: dict[str, Any]) -> Entry | None:
    path, seed, scores, losses = (row.get(key) for key in ("path", "seed", "scores", "losses"))
    inside = isinstance(path, str) and _is_inside(folder, path)
    if row.get("status") == "done" and not inside:
        return None
    return Entry(
        prompt=str(row.get("prompt", "")),
        path=str(path) if inside else None,
        seed=seed if isinstance(seed, int) and abs(seed) < SEED_LIMIT else None,
        scores=scores if isinstance(scores, dict) else {},
        losses=losses if isinstance(losses, list) else (),
        error=str(row.get("error")) if row.get("error") else None,
    )


def _is_inside(folder: Path, path: str) -> bool:
    """Whether a record's path is that of a file below the folder, and no link leads it out."""
    if not all(map(is_name, path.split("/"))) or not is_file(folder / path):
        return False
    try:
        check_inside(folder, folder / path)
    except OutputError:
        return False
    return True


def _picture_entry(file: Path, name: str) -> Entry:
    try:
        metadata = read_metadata(file)
    except UsageError:
        return Entry(prompt=file.stem, path=name)
    return Entry(prompt=metadata.prompt, path=name, seed=metadata.seed, scores=dict(metadata.scores))


def _card(folder: Path, entry: Entry) -> str:
    prompt = html.escape(entry.prompt)
    if entry.path is None:
        return f'<article class="failed"><p>{prompt}</p><small>{html.escape(entry.error or "")}</small></article>'
    thumb = _thumbnail(folder, entry.path)
    link = quote(os.fsencode(entry.path))
    facts = [] if entry.seed is None else [f"seed {entry.seed}"]
    facts += [f"{html.escape(str(name))} {value:.3f}" for name, value in entry.scores.items() if _is_number(value)]
    command = html.escape(f"vqclip rerun {shlex.quote(entry.path)}")
    return (
        f'<article><a href="{link}"><img src="{quote(os.fsencode(thumb))}" alt="" loading="lazy"></a><p>{prompt}</p>'
        f"<small>{' · '.join(facts)}</small>{_curve(entry.losses)}<code>{command}</code></article>"
    )


def _thumbnail(folder: Path, path: str) -> str:
    """Make the small copy of a picture, unless it is there; return the path to show.

    It is the picture's own where no copy can be made, or a file that is none of ours is in its place.
    """
    source = folder / path
    small = folder / THUMBS / f"{path}.webp"
    try:
        time = source.stat().st_mtime_ns
        if is_file(small) and small.stat().st_mtime_ns == time:
            return small.relative_to(folder).as_posix()
        if len(os.fsencode(small.name)) > LONGEST or (is_there(small) and not _is_copy(small)):
            return path
        check_inside(folder, small)
        image = open_image(source)
    except (UsageError, OutputError, OSError):
        return path
    image.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    exif = Image.Exif()
    exif[DESCRIPTION] = COPY
    with replacing(small) as part:
        image.save(part, format="WEBP", quality=80, exif=exif)
        os.utime(part, ns=(time, time))
    return small.relative_to(folder).as_posix()


def _is_copy(path: Path) -> bool:
    """Whether a picture says that it is one of our small copies, which may be made anew."""
    try:
        with opening(path) as image:
            return bool(image.getexif().get(DESCRIPTION) == COPY)
    except UsageError:
        return False


def _curve(losses: Sequence[float]) -> str:
    """A loss curve as inline SVG."""
    values = [float(value) for value in losses if _is_number(value)]
    if len(values) < 2:
        return ""
    width, height = CURVE_SIZE
    low, high = min(values), max(values)
    across = width / (len(values) - 1)
    points = " ".join(
        f"{number * across:.1f},{height - 1 - (value - low) / ((high - low) or 1) * (height - 2):.1f}"
        for number, value in enumerate(values)
    )
    title = f"loss {values[0]:.3f} to {values[-1]:.3f}"
    return (
        f'<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}"><title>{title}</title>'
        f'<polyline points="{points}"/></svg>'
    )


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and value == value and abs(value) < 1e30


TEMPLATE = """<!DOCTYPE html>
<html lang="en">
<meta charset="utf-8">
<meta name="generator" content="vqclip">
<meta name="viewport" content="width=device-width">
<title>@TITLE@</title>
<style>
body { font: 14px system-ui, sans-serif; margin: 1rem; background: #fafafa; color: #222; }
header { position: sticky; top: 0; background: #fafafa; padding: .5rem 0; }
input { font: inherit; width: min(30rem, 100%); padding: .3rem; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(200px, 1fr)); gap: 1rem; }
article { background: #fff; border: 1px solid #ddd; border-radius: 4px; padding: .5rem; overflow-wrap: anywhere;
  content-visibility: auto; contain-intrinsic-size: 320px; }
article.failed { background: #fff0f0; }
article[hidden] { display: none; }
img { width: 100%; aspect-ratio: 1; object-fit: contain; background: #eee; }
p { margin: .4rem 0; }
small, code { display: block; color: #555; }
code { font-size: 11px; margin-top: .3rem; user-select: all; }
polyline { fill: none; stroke: #36c; }
</style>
<header><h1>@TITLE@</h1><label>Filter <input id="filter" type="search" placeholder="words of the prompt"></label>
<span id="count">@COUNT@</span></header>
<main>
@CARDS@
</main>
<script>
const cards = [...document.querySelectorAll("article")];
document.getElementById("filter").addEventListener("input", (event) => {
  const words = event.target.value.toLowerCase().split(/\\s+/).filter(Boolean);
  for (const card of cards) {
    const text = card.textContent.toLowerCase();
    card.hidden = !words.every((word) => text.includes(word));
  }
  document.getElementById("count").textContent = cards.filter((card) => !card.hidden).length + " shown";
});
</script>
</html>
"""
