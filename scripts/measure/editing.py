"""Measures what vary, edit, interpolate and a text difference do to pictures that are known, by the embedded judge.

    python scripts/measure/editing.py                                  # all four, as the commands do them by default
    python scripts/measure/editing.py --only vary --first 12 --sheets sheets -- optimise.steps=12
    python scripts/measure/editing.py --kept rows.jsonl                # goes on where it was stopped

The pictures are the scenes of the held-out captions "THING on a COLOUR background" as really drawn, in the list's
order; the one that follows gives the other caption. The judge, which never guides, names a picture by the thing (of the
list's) and the colour whose captions are nearest to it.

edit         the middle of the picture becomes the other caption: how often the judge's score for it, of the middle
             alone, is higher than before
vary         how often thing and colour are called what the original's are called, and the mean distance of pixels
interpolate  from caption to caption in so many frames: rank correlation (Spearman) of the frame's number with the
             judge's score for the first, and for the last; the largest mean distance of pixels between two frames
difference   --from THING --to the other: how often the judge names another thing, and the new one, and the same colour

Distances are means of |a - b| over pixels and colours in [0, 1].
That 0 pixels differ outside of a mask, whatever the picture's format, is tests/test_patch.py's. The last line is JSON;
where a goal of GOALS is missed, the line of its measure says so and the exit code is 1.
"""

import argparse
import json
import re
import statistics
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from vqclip.common.images import open_image, to_image, to_tensor
from vqclip.config.loader import load_config
from vqclip.hub.model_files import find_models
from vqclip.models.perceptor import Perceptor
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.sheet import make_sheet, save_sheet
from vqclip.pipeline.assemble import Parts, assemble
from vqclip.pipeline.load import Models, load_models
from vqclip.pipeline.plan import make_plan
from vqclip.pipeline.run import run
from vqclip.tools.evaluate import embed, load_judges, read_prompts, read_tiles

LIST = "heldout-single"
CAPTION = re.compile(r"(.+) on (an? \w+) background")
MIDDLE = 20, 80  # per cent of both sides, for edit
FRAMES, UPDATES = 8, 4  # as vqclip interpolate has them

Row = dict[str, float]
Drawn = tuple[Row, list[Image.Image]]


@dataclass
class Bench:
    """The scenes, with what is known of them, the judge, and what draws; `words` are settings on top of the command's.

    `folder` holds the scenes as files.
    """

    captions: Sequence[str]
    scenes: Tensor
    folder: Path
    judge: Perceptor
    words: Sequence[str]
    models: Models | None = None
    pairs: Sequence[tuple[str, str]] = field(init=False)
    names: Mapping[str, Sequence[str]] = field(init=False)

    def __post_init__(self) -> None:
        self.pairs = [(found[1], found[2]) for found in map(CAPTION.fullmatch, self.captions) if found]
        things, colours = zip(*self.pairs, strict=True)
        self.names = {"thing": things, "colour": sorted(set(colours))}
        for number, scene in enumerate(self.scenes):
            to_image(scene).save(self.file(number))

    def file(self, number: int) -> str:
        """A scene's file."""
        return str(self.folder / f"{number}.png")

    def other(self, number: int) -> int:
        """The scene that follows."""
        return (number + 1) % len(self.captions)

    def draw(self, layer: str, options: Mapping[str, object], sinks: Sequence["Frames"] = ()) -> Parts:
        """Run a command's layer with these settings; the last sink keeps the result."""
        plan = make_plan(load_config([layer], self.words, {"count": 1, **options}))
        self.models = self.models or load_models(plan, find_models(plan.config))
        parts = assemble(plan, self.models)
        assert run(parts, sinks) is not None, "nothing interrupts this run"
        return parts

    @cached_property
    def labels(self) -> Mapping[str, Tensor]:
        """What the judge compares a picture with, {kind: (names, D)}: the mean over the captions that say the name."""
        things, colours = self.names["thing"], self.names["colour"]
        texts = [f"{thing} on {colour} background" for thing in things for colour in colours]
        grid = self.judge.encode_text(texts).unflatten(0, (len(things), len(colours)))
        return {"thing": F.normalize(grid.mean(1), dim=-1), "colour": F.normalize(grid.mean(0), dim=-1)}

    def name(self, picture: Tensor, kind: str) -> str:
        """What the judge calls a picture (1, 3, H, W)."""
        seen = embed(self.judge, picture)[0]
        return self.names[kind][int((self.labels[kind] @ seen).argmax())]

    def score(self, pictures: Tensor, text: str) -> list[float]:
        """The judge's cosines of pictures (M, 3, H, W) with a text."""
        return (embed(self.judge, pictures) @ self.judge.encode_text([text])[0]).tolist()


class Frames:
    """A sink that keeps the picture of every so many updates, or without `every` the last."""

    def __init__(self, every: int = 0) -> None:
        self.every, self.images = every, list[Tensor]()

    def step(self, step: Step) -> None:
        """Keep it."""
        if self.every and step.number % self.every == 0:
            self.images.append(step.render())

    def finish(self, finished: Finished) -> None:
        """Keep it."""
        if not self.every:
            self.images.append(finished.images)

    def stop(self, last: Step | None) -> None:
        """Nothing."""


def edit(bench: Bench, number: int) -> Drawn:
    """The middle anew."""
    thing, (_, colour) = bench.names["thing"][bench.other(number)], bench.pairs[number]
    wanted, kept = f"{thing} on {colour} background", Frames()
    low, high = MIDDLE
    box = f"{low}%,{low}%,{high - low}%,{high - low}%"
    options = {"mask.original": bench.file(number), "mask.boxes": [box], "prompts": [wanted], "seed": number}
    parts = bench.draw("edit", options, [kept])
    new = parts.compose(kept.images[0][0])
    first, last = (round(side * new.width / 100) for side in (low, high))
    middle = (first, first, last, last)
    views = [to_tensor(picture.crop(middle)) for picture in (open_image(bench.file(number)), new)]
    before, after = bench.score(torch.cat(views), wanted)
    return {"before": before, "after": after}, [new]


def vary(bench: Bench, number: int) -> Drawn:
    """The same content."""
    kept, original = Frames(), bench.scenes[number][None]
    options = {"init.image": bench.file(number), "image_prompts": [bench.file(number)], "seed": number}
    bench.draw("vary", options, [kept])
    new = F.adaptive_avg_pool2d(kept.images[0], original.shape[-1])
    same = {kind: float(bench.name(new, kind) == bench.name(original, kind)) for kind in bench.names}
    return {**same, "distance": float((new - original).abs().mean())}, [to_image(kept.images[0][0])]


def interpolate(bench: Bench, number: int) -> Drawn:
    """The way from one caption to the next."""
    kept, ends = Frames(UPDATES), [bench.captions[number], bench.captions[bench.other(number)]]
    options = {"targets.path": ends, "targets.frames": FRAMES, "optimise.steps": FRAMES * UPDATES, "prompts": []}
    bench.draw("interpolate", {**options, "seed": number}, [kept])
    film = torch.cat(kept.images)
    falls, rises = (rank_correlation(bench.score(film, end)) for end in ends)
    jump = float((film[1:] - film[:-1]).abs().mean((1, 2, 3)).max())
    return {"first": falls, "last": rises, "jump": jump}, [to_image(frame) for frame in film]


def difference(bench: Bench, number: int) -> Drawn:
    """One thing turned into another."""
    kept, original = Frames(), bench.scenes[number][None]
    before, after = (bench.names["thing"][place] for place in (number, bench.other(number)))
    words = {"targets.away": before, "targets.towards": after, "prompts": []}
    pictures = {"init.image": bench.file(number), "image_prompts": [bench.file(number)]}
    bench.draw("change", {**pictures, **words, "seed": number}, [kept])
    named = bench.name(kept.images[0], "thing")
    colour = bench.name(kept.images[0], "colour") == bench.name(original, "colour")
    row = {"changed": float(named != bench.name(original, "thing")), "new": float(named == after)}
    return {**row, "colour": float(colour)}, [to_image(kept.images[0][0])]


def rank_correlation(values: Sequence[float]) -> float:
    """Spearman's, of values with their places; no two values are the same."""
    ranks = torch.tensor(values).argsort().argsort()
    return float(torch.corrcoef(torch.stack([ranks, torch.arange(len(values))]).double())[0, 1])


MEASURES: dict[str, tuple[Callable[[Bench, int], Drawn], int]] = {
    "edit": (edit, 50),
    "vary": (vary, 100),
    "interpolate": (interpolate, 50),
    "difference": (difference, 50),
}
"""What is measured, and on how many scenes."""


GOALS: dict[str, dict[str, tuple[float, float]]] = {
    "edit": {"rises": (0.9, 1)},
    "vary": {"thing": (0.9, 1), "distance": (0.05, 1)},
    "interpolate": {"first": (-1, -0.9), "last": (0.9, 1), "worst jump": (0, 0.14)},
    "difference": {"changed": (0.8, 1), "colour": (0.9, 1)},
}
"""The least and the most that a summary may come to. A scene that only passes through the VQGAN is 0.024 from itself:
variations are at least twice as far. Two scenes are 0.33 apart, eight frames from one to the other 0.047 if they are
even: no two neighbours are three times as far."""


def missed(measure: str, found: Row) -> list[str]:
    """Which goals of a measure its summary misses."""
    return [key for key, (least, most) in GOALS[measure].items() if not least <= found[key] <= most]


def summary(rows: Sequence[Row]) -> Row:
    """Means over the scenes, the worst jump, and how often a score rose."""
    found = {key: statistics.mean(row[key] for row in rows) for key in rows[0]}
    if "jump" in found:
        found["worst jump"] = max(row["jump"] for row in rows)
    if "before" in found:
        found["rises"] = statistics.mean(row["after"] > row["before"] for row in rows)
    return found


def read_rows(path: Path | None) -> dict[tuple[str, int], Row]:
    """What an earlier run has kept."""
    lines = path.read_text("utf-8").splitlines() if path and path.exists() else []
    return {(row.pop("measure"), row.pop("number")): row for row in map(json.loads, lines)}


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=MEASURES, default=list(MEASURES), metavar="MEASURE")
    parser.add_argument("--first", type=int, default=100, help="at most so many scenes each")
    parser.add_argument("--kept", type=Path, help="a file of finished rows, to go on from")
    parser.add_argument("--sheets", type=Path, help="a folder for a sheet per measure, each picture by its original")
    parser.add_argument("settings", nargs="*", help="after --: KEY=VALUE, on top of the command's")
    options = parser.parse_args()
    listed, done = read_prompts(LIST), read_rows(options.kept)
    assert listed.scenes is not None, "the shipped list has scenes"
    judge = load_judges(["embedded-judge"], load_config([], [], {}))[0]
    scenes = read_tiles(listed.scenes, len(listed.prompts))
    found = {}
    with TemporaryDirectory() as place:
        bench = Bench(listed.prompts, scenes, Path(place), judge, options.settings)
        for name in options.only:
            measure, count = MEASURES[name]
            numbers, tiles = range(min(count, options.first)), list[Image.Image]()
            for number in numbers:
                if (name, number) in done:
                    continue
                done[name, number], pictures = measure(bench, number)
                tiles += [open_image(bench.file(number)).resize(pictures[0].size), *pictures]
                if options.kept:
                    with options.kept.open("a", encoding="utf-8") as rows:
                        print(json.dumps({"measure": name, "number": number, **done[name, number]}), file=rows)
            found[name] = summary([done[name, number] for number in numbers])
            said = ", ".join(f"{key} {value:.3f}" for key, value in found[name].items())
            wrong = missed(name, found[name])
            print(f"{name:12} {said}{'; MISSED: ' if wrong else ''}{', '.join(wrong)}", flush=True)
            if options.sheets and tiles:
                options.sheets.mkdir(parents=True, exist_ok=True)
                columns = FRAMES + 1 if name == "interpolate" else 8
                save_sheet(options.sheets / f"{name}.png", make_sheet(tiles, [""] * len(tiles), columns))
    print(json.dumps(found))
    sys.exit(any(missed(name, row) for name, row in found.items()))


if __name__ == "__main__":
    main()
