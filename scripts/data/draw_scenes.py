"""Draws captioned scenes from Noto Color Emoji: the pictures that the embedded models learn from.

A scene is one or two things from `things.txt` on a plain, graded or patterned ground, or in a landscape, in one
of several drawing styles, with a caption. Everything about scene `index` follows from `(seed, index)` alone, so
worker processes and resumed trainings draw the same pictures.

    python scripts/data/draw_scenes.py --count 64 --sheet sheet.png        # look at some
    python scripts/data/draw_scenes.py --count 60000 --data FOLDER         # store a data set for the trainings
    python scripts/data/draw_scenes.py --count 60000 --calm --data FOLDER  # things upright, on the grid of the codes
    python scripts/data/draw_scenes.py --heldout single --sheet sheet.png  # the held-out scenes
    python scripts/data/draw_scenes.py --heldout single --tiles FILE.webp  # the tiles for vqclip evaluate

Needs the font and Pillow with raqm, see scene_things.py.
"""

import argparse
import json
import multiprocessing
import os
import random
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import scene_styles
from scripts.data.scene_things import COLOURS, first_glyph, glyphs, things
from scripts.data.scene_words import caption
from scripts.data.scenes import (
    BLACKBOARD,
    HOLDING,
    LANDSCAPES,
    Scene,
    heldout_prompts,
    heldout_scene,
    is_held_out,
    training_scene,
)

SIDE = 128  # pixels of a scene's side


CODE = 8  # pixels of the side of the square that one code of the VQGAN stands for
CALM_SIDES = (40, 56, 80, 112)


def draw(scene: Scene, seed: int, index: int, calm: bool = False) -> Image.Image:
    """The picture of `scene`, SIDE x SIDE RGB. `(seed, index)` decides what the scene leaves open.

    `calm`: things stand upright, in the middle of where they may be, in four sizes and on the grid of the VQGAN's
    codes. A thing is then nearly the same codes each time, which is what a small prior learns quickly.
    """
    numbers = np.random.default_rng([seed, index])
    picture = draw_ground(scene, numbers)
    for name, colour, spot in arrangement(scene, Middle() if calm else numbers):
        x, y, side = on_grid(spot) if calm else spot
        stamp = draw_thing(name, colour, round(side), numbers, calm)
        corner = (round(x - stamp.width / 2), round(y - stamp.height / 2))
        picture.paste(stamp, corner, stamp)
    return scene_styles.apply(scene.style, picture, numbers) if scene.style else picture


Spot = tuple[float, float, float]  # centre x, centre y, side, in pixels


class Middle:
    """Stands in for a generator of random numbers and always gives the middle of the range."""

    def uniform(self, low: float, high: float, size: int | None = None) -> Any:
        """(low + high) / 2, or an array of it."""
        return (low + high) / 2 if size is None else np.full(size, (low + high) / 2)


def arrangement(scene: Scene, numbers: np.random.Generator | Middle) -> list[tuple[str, str, Spot]]:
    """Where each thing stands: (name, colour, (centre x, centre y, side))."""
    jitter = numbers.uniform(-1, 1, 4)
    if scene.place == HOLDING:
        x = 104 if jitter[0] > 0 else 24
        side = numbers.uniform(90, 106)
        spots = (64, 124 - side / 2, side), (x, 104 + 2 * jitter[2], numbers.uniform(40, 50))
        return [(scene.first, "", spots[0]), (scene.second, scene.second_colour, spots[1])]
    if scene.second:
        side = numbers.uniform(46, 60)
        near, far = 33 + 3 * jitter[0], 95 + 3 * jitter[1]
        a, b = 64 + 14 * jitter[2], 64 + 14 * jitter[3]
        spots = {
            "left of": ((near, a), (far, b)),
            "right of": ((far, a), (near, b)),
            "above": ((a, near), (b, far)),
            "below": ((a, far), (b, near)),
        }[scene.place]
        first, second = ((*spot, side * numbers.uniform(0.9, 1.1)) for spot in spots)
        return [(scene.first, scene.first_colour, first), (scene.second, scene.second_colour, second)]
    low, high = {"small": (26, 40), "big": (96, 116), "": (58, 92)}[scene.size]
    side = numbers.uniform(low, high) * (0.72 if scene.place and not scene.size else 1)
    free = max(0.0, (SIDE - side) / 2 - 2)
    across, along = free * 0.5 * jitter[0], free * numbers.uniform(0.75, 1)
    dx, dy = {
        "": (free * 0.6 * jitter[0], free * 0.6 * jitter[1]),
        "left": (-along, across),
        "right": (along, across),
        "top": (across, -along),
        "bottom": (across, along),
    }[scene.place]
    return [(scene.first, scene.first_colour, (64 + dx, 64 + dy, side))]


def on_grid(spot: Spot) -> Spot:
    """The place nearest to `spot` with one of CALM_SIDES and corners at multiples of CODE."""
    x, y, side = spot
    side = float(min(CALM_SIDES, key=lambda choice: abs(choice - side)))
    left, top = (round((centre - side / 2) / CODE) * CODE for centre in (x, y))
    return left + side / 2, top + side / 2, side


def draw_thing(name: str, colour: str, side: int, numbers: np.random.Generator, calm: bool = False) -> Image.Image:
    """A thing's glyph `side` pixels wide, RGBA, slightly turned unless `calm`, perhaps painted over in `colour`."""
    variants = len(things()[name].glyphs)
    variant = int(numbers.integers(variants)) if numbers.random() < (0.15 if calm else 0.4) else 0
    glyph = np.array(glyphs()[first_glyph()[name] + variant])
    if colour:
        glyph[..., :3] = paint_over(glyph[..., :3], colour)
    stamp = Image.fromarray(glyph)
    if numbers.random() < 0.3 and not calm:
        stamp = stamp.rotate(float(numbers.uniform(-15, 15)), Image.Resampling.BILINEAR)
    return stamp.resize((side, side), Image.Resampling.BOX if side < 60 else Image.Resampling.BILINEAR)


def paint_over(pixels: np.ndarray, colour: str) -> np.ndarray:
    """`pixels` (h, w, 3) uint8 in shades of one colour: black over the colour to white, by luminance."""
    light = (pixels @ np.array([0.299, 0.587, 0.114]) / 255)[..., None]
    middle = np.array(COLOURS[colour], dtype=np.float32)
    dark = middle * (0.25 + 0.75 * np.clip(light / 0.55, 0, 1))
    bright = (255 - middle) * np.clip((light - 0.55) / 0.45, 0, 1) * 0.55
    return (dark + bright).astype(np.uint8)


def draw_ground(scene: Scene, numbers: np.random.Generator) -> Image.Image:
    """The picture behind the things."""
    rows, columns = np.mgrid[0:SIDE, 0:SIDE].astype(np.float32) / SIDE
    if scene.ground == BLACKBOARD:
        return _blackboard(numbers)
    if scene.ground in LANDSCAPES:
        return Image.fromarray(_landscape(scene.ground, rows, numbers))
    base = np.array(COLOURS[scene.ground_colour], dtype=np.float32) + numbers.uniform(-12, 12, 3)
    other = _companion(base, numbers)
    if scene.ground == "graded":
        angle = numbers.uniform(0, 2 * np.pi)
        mix = (rows - 0.5) * np.sin(angle) + (columns - 0.5) * np.cos(angle) + 0.5
    else:
        mix = _pattern(scene.ground, rows, columns, numbers)
    picture = base + (other - base) * np.clip(mix, 0, 1)[..., None]
    return Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))


def _companion(base: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    """A lighter or darker shade of `base`, so that the ground's colour keeps its name."""
    target = 255.0 if base.mean() < 150 else 0.0
    return base + (target - base) * numbers.uniform(0.25, 0.42)


def _pattern(ground: str, rows: np.ndarray, columns: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    """How much of the companion colour each pixel has, 0..1."""
    if ground == "plain":
        return np.zeros_like(rows)
    count = numbers.uniform(4, 9)
    shift = numbers.uniform(0, 1, 2)
    x, y = columns * count + shift[0], rows * count + shift[1]
    if ground == "striped":
        along = (x, y, x + y)[int(numbers.integers(3))]
        return (along % 1 > 0.5).astype(np.float32)
    if ground == "checked":
        return ((np.floor(x) + np.floor(y)) % 2).astype(np.float32)
    return ((x % 1 - 0.5) ** 2 + (y % 1 - 0.5) ** 2 < 0.09).astype(np.float32)


def _blackboard(numbers: np.random.Generator) -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), (222, 206, 176))
    pen = ImageDraw.Draw(picture)
    pen.rectangle((8, 8, 119, 87), fill=(36, 74, 58), outline=(122, 82, 44), width=4)
    for row in range(3):
        y, start, end = 20 + 16 * row, 18 + int(numbers.integers(8)), 70 + int(numbers.integers(40))
        for x in range(start, end, 8):
            pen.line((x, y + int(numbers.integers(-3, 4)), x + 6, y + int(numbers.integers(-3, 4))), (214, 222, 214))
    return picture


def _landscape(ground: str, rows: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    sky, horizon, near, far = (np.array(c, dtype=np.float32) for c in LANDSCAPES[ground])
    line = numbers.uniform(0.5, 0.75) + 0.02 * np.sin(
        np.arange(SIDE) / SIDE * numbers.uniform(2, 9) + numbers.uniform(0, 6)
    )
    above = np.clip(rows / line, 0, 1)[..., None]
    below = np.clip((rows - line) / (1 - line), 0, 1)[..., None]
    picture = np.where((rows < line)[..., None], sky + (horizon - sky) * above, far + (near - far) * below)
    if ground == "at night":
        stars = numbers.integers(0, SIDE, (2, 30))
        picture[stars[0] // 2, stars[1]] = (255, 255, 220)
    return picture.astype(np.uint8)


def heldout_pictures(kind: str, seed: int) -> np.ndarray:
    """One picture of each prompt of a held-out list, (100, SIDE, SIDE, 3) uint8."""
    prompts = heldout_prompts(kind)
    return np.stack([np.asarray(draw(heldout_scene(p, seed), seed, number)) for number, p in enumerate(prompts)])


def training_example(seed: int, index: int, calm: bool = False, portraits: bool = False) -> tuple[Scene, np.ndarray]:
    """Training scene `index` and its picture (SIDE, SIDE, 3) uint8. Raises ValueError on a held-out scene."""
    scene = training_scene(seed, index, portraits)
    if is_held_out(scene):
        raise ValueError(f"held out, never drawn for training: {scene}")
    return scene, np.asarray(draw(scene, seed, index, calm))


def _one_example(job: tuple[int, int, bool, bool]) -> tuple[Scene, np.ndarray]:
    return training_example(*job)


def store(folder: Path, count: int, seed: int, workers: int, calm: bool = False, portraits: bool = False) -> None:
    """Writes `folder`/scenes.npy (count, SIDE, SIDE, 3) uint8 and scenes.jsonl, one Scene a line."""
    folder.mkdir(parents=True, exist_ok=True)
    glyphs()
    shape = (count, SIDE, SIDE, 3)
    pictures = np.lib.format.open_memmap(folder / "scenes.npy.part", mode="w+", dtype=np.uint8, shape=shape)
    with (folder / "scenes.jsonl").open("w") as lines, multiprocessing.Pool(workers) as pool:
        jobs = ((seed, index, calm, portraits) for index in range(count))
        for index, (scene, picture) in enumerate(pool.imap(_one_example, jobs, chunksize=64)):
            pictures[index] = picture
            lines.write(json.dumps(asdict(scene)) + "\n")
            if index % 5000 == 0:
                print(f"{index} of {count} scenes", flush=True)
    pictures.flush()
    (folder / "scenes.npy.part").rename(folder / "scenes.npy")


def contact_sheet(captioned: list[tuple[str, Image.Image]], columns: int = 8) -> Image.Image:
    """All pictures in a grid, each with its caption below it."""
    font = ImageFont.load_default(10)
    rows = -(-len(captioned) // columns)
    sheet = Image.new("RGB", (columns * 136, rows * 172), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (text, picture) in enumerate(captioned):
        x, y = number % columns * 136 + 4, number // columns * 172 + 4
        sheet.paste(picture, (x, y))
        for line in range(3):
            pen.text((x, y + 129 + 11 * line), text[line * 25 : line * 25 + 25], fill="black", font=font)
    return sheet


def tiles(pictures: np.ndarray, columns: int = 10) -> Image.Image:
    """Pictures (n, SIDE, SIDE, 3) in a grid without captions or gaps, as `vqclip evaluate` reads them."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for number, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (number % columns * SIDE, number // columns * SIDE))
    return sheet


def chosen(
    heldout: str | None, count: int, seed: int, calm: bool, portraits: bool
) -> Iterator[tuple[str, Image.Image]]:
    """Captioned pictures: of a held-out list, or of the training scenes."""
    if heldout:
        for number, prompt in enumerate(heldout_prompts(heldout)[:count]):
            yield prompt, draw(heldout_scene(prompt, seed), seed, number)
        return
    for index in range(count):
        scene, picture = training_example(seed, index, calm, portraits)
        yield caption(scene, random.Random(f"{seed} {index}"))[0], Image.fromarray(picture)


def main() -> None:
    """Draws a contact sheet or a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="how many scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="write a captioned contact sheet here")
    parser.add_argument("--data", type=Path, help="write a data set into this folder")
    parser.add_argument("--calm", action="store_true", help="things upright, on the grid of the VQGAN's codes")
    parser.add_argument("--portraits", action="store_true", help="people who fill the picture, most in a style")
    parser.add_argument("--heldout", choices=("single", "composed"), help="draw a held-out list for the sheet")
    parser.add_argument("--tiles", type=Path, help="write a held-out list's pictures here, in a grid without captions")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    if options.data:
        store(options.data, options.count, options.seed, options.workers, options.calm, options.portraits)
    if options.tiles and options.heldout:
        tiles(heldout_pictures(options.heldout, options.seed)).save(options.tiles, quality=90)
    if options.sheet:
        scenes = chosen(options.heldout, options.count, options.seed, options.calm, options.portraits)
        contact_sheet(list(scenes)).save(options.sheet)


if __name__ == "__main__":
    main()
