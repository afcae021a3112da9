"""Draws captioned scenes from Noto Color Emoji: the pictures that the embedded models learn from.

A scene is one or two things from `things.txt` on a plain, graded or patterned ground, or in a landscape, in one
of several drawing styles, with a caption. Everything about scene `index` follows from `(seed, index)` alone, so
worker processes and resumed trainings draw the same pictures.

    python scripts/data/draw_scenes.py --count 64 --sheet sheet.png        # look at some
    python scripts/data/draw_scenes.py --count 60000 --data FOLDER         # store a data set for the trainings
    python scripts/data/draw_scenes.py --count 60000 --calm --data FOLDER  # one place and size a thing
    python scripts/data/draw_scenes.py --count 60000 --loose --data FOLDER  # near those places and sizes
    python scripts/data/draw_scenes.py --count 2000 --calm --scale 2 --hand noto --data FOLDER  # at 256 pixels
    python scripts/data/draw_scenes.py --heldout single --sheet sheet.png  # the held-out scenes
    python scripts/data/draw_scenes.py --heldout single --tiles FILE.webp  # the tiles for vqclip evaluate

Needs the font and Pillow with raqm, see scene_things.py.
"""

import argparse
import json
import multiprocessing
import os
import random
import re
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import scene_styles
from scripts.data.scene_book import open_book
from scripts.data.scene_grounds import SIDE, draw_ground
from scripts.data.scene_styles import CELL
from scripts.data.scene_things import COLOURS, first_glyph, glyphs, things
from scripts.data.scene_vectors import HANDS, vector_glyphs
from scripts.data.scene_words import caption
from scripts.data.scenes import (
    BLACKBOARD,
    BOOK,
    HOLDING,
    KINDS,
    OF_RELATION,
    Scene,
    heldout_prompts,
    heldout_scene,
    is_held_out,
    training_scene,
)

CALM_SIDES = {"small": 40, "": 96, "big": 112}  # pixels of a single thing of a calm scene
CALM_SPOTS = {"left": (32, 64), "right": (96, 64), "top": (64, 32), "bottom": (64, 96)}
HALF = 60  # pixels of a thing that has half of a calm scene; all CALM_SPOTS lie alike on the grid of the codes
PAIR_SPOTS = {"left": (36, 52), "right": (92, 76), "top": (52, 36), "bottom": (76, 92)}  # and so do these
PAIR_SIDE = 70  # pixels of each of two things; one stands a little higher than the other, so that they hardly overlap
LOOSE_SIZES = (0.85, 0.92, 1.0, 1.06)  # of a loose scene's things, in sizes of a calm one's
DIRECTED = re.compile(r"left|right|arrow|clock|flag")  # names of things that are others, or wrong, in a mirror
CALM_GROUNDS = 3  # kinds of the shades and patterns of a calm scene's ground


@dataclass(frozen=True)
class Canvas:
    """What scenes are drawn on: `scale` times SIDE pixels wide, the things by one `hand` (of scene_vectors.HANDS), or
    by the font where that is empty."""

    scale: int = 1
    hand: str = ""

    def glyph(self, row: int) -> np.ndarray:
        """A glyph of `glyphs()` by its row, (scale GLYPH, scale GLYPH, 4) uint8."""
        return np.array((vector_glyphs(self.hand, self.scale) if self.hand else glyphs())[row])


FONT = Canvas()


@dataclass(frozen=True)
class Freedom:
    """How much a picture leaves to chance: all, or with `calm` little.

    Of a calm scene things stand upright, large, in one place and size each, grounds come in CALM_GROUNDS kinds, and a
    style's strokes and grain are always the same. A thing is then nearly the same codes each time, which is what a
    small prior learns quickly. `loose` moves all its things by up to one code, makes them larger or smaller, and may
    mirror them.
    """

    calm: bool = False
    loose: bool = False


FREE, CALM, LOOSE = Freedom(), Freedom(calm=True), Freedom(calm=True, loose=True)


def draw(scene: Scene, seed: int, index: int, freedom: Freedom = FREE, canvas: Canvas = FONT) -> Image.Image:
    """The picture of `scene`, RGB of SIDE times the canvas's scale. `(seed, index)` decides what the scene and its
    `freedom` leave open."""
    numbers, scale = np.random.default_rng([seed, index]), canvas.scale
    picture = draw_ground(scene, np.random.default_rng(index % CALM_GROUNDS) if freedom.calm else numbers, scale)
    cover = Image.new("L", picture.size)
    spots = calm_arrangement(scene) if freedom.calm else arrangement(scene, numbers)
    if freedom.loose:
        spots = loosened(spots, np.random.default_rng([seed, index, 1]))
    for (name, colour, (x, y, side)), shade in zip(spots, scene_styles.SHADES, strict=False):
        wide = round(side * scale)
        held = name == BOOK and scene.place == HOLDING and not colour
        stamp = open_book(wide) if held else draw_thing(name, colour, wide, numbers, freedom, canvas)
        corner = (round(x * scale - stamp.width / 2), round(y * scale - stamp.height / 2))
        picture.paste(stamp, corner, stamp)
        cover.paste(shade, corner, stamp)
    grain = np.random.default_rng(0) if freedom.calm else numbers
    return scene_styles.apply(scene.style, picture, cover, grain, scale) if scene.style else picture


Spot = tuple[float, float, float]  # centre x, centre y, side, in pixels


def arrangement(scene: Scene, numbers: np.random.Generator) -> list[tuple[str, str, Spot]]:
    """Where each thing stands: (name, colour, (centre x, centre y, side))."""
    jitter = numbers.uniform(-1, 1, 4)
    if scene.place == HOLDING:
        x = 104 if jitter[0] > 0 else 24
        side = numbers.uniform(90, 106)
        held = (x, 104 + 2 * jitter[2], numbers.uniform(40, 50))
        return [(scene.first, "", (64, 124 - side / 2, side)), (scene.second, scene.second_colour, held)]
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
        first, second = ((x, y, side * numbers.uniform(0.9, 1.1)) for x, y in spots)
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


def calm_arrangement(scene: Scene) -> list[tuple[str, str, Spot]]:
    """Where each thing of a calm scene stands, as `arrangement` has it: what a person holds is below the face, a book
    broader than it, and who stands at a blackboard leaves its letters free."""
    if scene.place == HOLDING and scene.second == BOOK:
        return [(scene.first, "", (64, 38, 76)), (BOOK, scene.second_colour, (64, 98, 84))]
    if scene.place == HOLDING:
        return [(scene.first, "", (64, 42, 84)), (scene.second, scene.second_colour, (64, 96, 68))]
    if scene.second:
        first, second = ((*PAIR_SPOTS[slot], PAIR_SIDE) for slot in OF_RELATION[scene.place])
        return [(scene.first, scene.first_colour, first), (scene.second, scene.second_colour, second)]
    if scene.ground == BLACKBOARD and scene.size == "big":
        return [(scene.first, scene.first_colour, (64, 84, 84))]
    spot = (*CALM_SPOTS[scene.place], HALF) if scene.place else (64, 64, CALM_SIDES[scene.size])
    return [(scene.first, scene.first_colour, spot)]


def loosened(spots: list[tuple[str, str, Spot]], numbers: np.random.Generator) -> list[tuple[str, str, Spot]]:
    """The things of a calm scene, all moved alike along the grid of the codes, and all a little larger or smaller."""
    across, down = CELL * numbers.integers(-1, 2, 2)
    factor = numbers.choice(LOOSE_SIZES)
    return [(name, colour, (x + across, y + down, side * factor)) for name, colour, (x, y, side) in spots]


def draw_thing(
    name: str, colour: str, side: int, numbers: np.random.Generator, freedom: Freedom, canvas: Canvas
) -> Image.Image:
    """A thing's glyph `side` pixels wide, RGBA, perhaps painted over in `colour`; in a free picture slightly turned, in
    a loose one perhaps mirrored."""
    variants, calm = len(things()[name].glyphs), freedom.calm
    variant = int(numbers.integers(variants)) if numbers.random() < (0.15 if calm else 0.4) else 0
    glyph = canvas.glyph(first_glyph()[name] + variant)
    if colour:
        glyph[..., :3] = paint_over(glyph[..., :3], colour)
    stamp = Image.fromarray(glyph)
    if numbers.random() < 0.3 and not calm:
        stamp = stamp.rotate(float(numbers.uniform(-15, 15)), Image.Resampling.BILINEAR)
    if freedom.loose and numbers.random() < 0.3 and not DIRECTED.search(name):
        stamp = stamp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return stamp.resize((side, side), Image.Resampling.BOX if side < 60 * canvas.scale else Image.Resampling.BILINEAR)


def paint_over(pixels: np.ndarray, colour: str) -> np.ndarray:
    """`pixels` (h, w, 3) uint8 in shades of one colour: black over the colour to white, by luminance."""
    light = (pixels @ np.array([0.299, 0.587, 0.114]) / 255)[..., None]
    middle = np.array(COLOURS[colour], dtype=np.float32)
    dark = middle * (0.25 + 0.75 * np.clip(light / 0.55, 0, 1))
    bright = (255 - middle) * np.clip((light - 0.55) / 0.45, 0, 1) * 0.55
    return (dark + bright).astype(np.uint8)


@cache
def heldout_pictures(kind: str, seed: int, canvas: Canvas = FONT) -> np.ndarray:
    """One picture of each prompt of a held-out list, (100, side, side, 3) uint8."""
    scenes = [heldout_scene(prompt, seed) for prompt in heldout_prompts(kind)]
    return np.stack([np.asarray(draw(scene, seed, n, canvas=canvas)) for n, scene in enumerate(scenes)])


def training_example(
    seed: int, index: int, freedom: Freedom = FREE, kind: str = "", canvas: Canvas = FONT
) -> tuple[Scene, np.ndarray]:
    """Training scene `index` of one kind (of KINDS) and its picture (side, side, 3) uint8. Raises ValueError on a
    held-out scene."""
    scene = training_scene(seed, index, kind)
    if is_held_out(scene):
        raise ValueError(f"held out, never drawn for training: {scene}")
    return scene, np.asarray(draw(scene, seed, index, freedom, canvas))


def _one_example(job: tuple[int, int, Freedom, str, Canvas]) -> tuple[Scene, np.ndarray]:
    return training_example(*job)


def store(
    folder: Path,
    count: int,
    seed: int,
    workers: int,
    freedom: Freedom = FREE,
    kind: str = "",
    canvas: Canvas = FONT,
) -> None:
    """Writes `folder`/scenes.npy (count, side, side, 3) uint8 and scenes.jsonl, one Scene a line."""
    folder.mkdir(parents=True, exist_ok=True)
    canvas.glyph(0)  # once, and not in every worker
    shape = (count, SIDE * canvas.scale, SIDE * canvas.scale, 3)
    pictures = np.lib.format.open_memmap(folder / "scenes.npy.part", mode="w+", dtype=np.uint8, shape=shape)
    with (folder / "scenes.jsonl").open("w") as lines, multiprocessing.Pool(workers) as pool:
        jobs = ((seed, index, freedom, kind, canvas) for index in range(count))
        for index, (scene, picture) in enumerate(pool.imap(_one_example, jobs, chunksize=64)):
            pictures[index] = picture
            lines.write(json.dumps(asdict(scene)) + "\n")
            if index % 5000 == 0:
                print(f"{index} of {count} scenes", flush=True)
    pictures.flush()
    (folder / "scenes.npy.part").rename(folder / "scenes.npy")


def contact_sheet(captioned: list[tuple[str, Image.Image]], columns: int = 8) -> Image.Image:
    """All pictures in a grid, each with its caption below it."""
    font, side = ImageFont.load_default(10), captioned[0][1].width
    rows = -(-len(captioned) // columns)
    sheet = Image.new("RGB", (columns * (side + 8), rows * (side + 44)), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (text, picture) in enumerate(captioned):
        x, y = number % columns * (side + 8) + 4, number // columns * (side + 44) + 4
        sheet.paste(picture, (x, y))
        for line in range(3):
            pen.text((x, y + side + 1 + 11 * line), text[line * 25 : line * 25 + 25], fill="black", font=font)
    return sheet


def tiles(pictures: np.ndarray, columns: int = 10) -> Image.Image:
    """Pictures (n, SIDE, SIDE, 3) in a grid without captions or gaps, as `vqclip evaluate` reads them."""
    rows = -(-len(pictures) // columns)
    sheet = Image.new("RGB", (columns * SIDE, rows * SIDE))
    for number, picture in enumerate(pictures):
        sheet.paste(Image.fromarray(picture), (number % columns * SIDE, number // columns * SIDE))
    return sheet


def chosen(
    heldout: str | None, count: int, seed: int, freedom: Freedom, kind: str, canvas: Canvas
) -> Iterator[tuple[str, Image.Image]]:
    """Captioned pictures: of a held-out list, or of the training scenes."""
    if heldout:
        for number, prompt in enumerate(heldout_prompts(heldout)[:count]):
            yield prompt, draw(heldout_scene(prompt, seed), seed, number, canvas=canvas)
        return
    for index in range(count):
        scene, picture = training_example(seed, index, freedom, kind, canvas)
        yield caption(scene, random.Random(f"{seed} {index}"))[0], Image.fromarray(picture)


def main() -> None:
    """Draws a contact sheet or a data set."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=64, help="how many scenes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--sheet", type=Path, help="write a captioned contact sheet here")
    parser.add_argument("--data", type=Path, help="write a data set into this folder")
    parser.add_argument("--calm", action="store_true", help="things upright, large, in one place and size each")
    parser.add_argument("--loose", action="store_true", help="as --calm, but near that place and size, some mirrored")
    parser.add_argument("--only", dest="kind", choices=KINDS, default="", help="scenes of one kind")
    parser.add_argument("--portraits", dest="kind", action="store_const", const="portraits", help="--only portraits")
    parser.add_argument("--scale", type=int, default=1, help="times 128 pixels; more than 1 needs a --hand")
    parser.add_argument("--hand", choices=HANDS, default="", help="vector drawings instead of the font")
    parser.add_argument("--heldout", choices=("single", "composed"), help="draw a held-out list for the sheet")
    parser.add_argument("--tiles", type=Path, help="write a held-out list's pictures here, in a grid without captions")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    canvas = Canvas(options.scale, options.hand)
    freedom = LOOSE if options.loose else CALM if options.calm else FREE
    if options.scale > 1 and not options.hand:
        parser.error("the font has one size; give a --hand for another --scale")
    if options.data:
        store(options.data, options.count, options.seed, options.workers, freedom, options.kind, canvas)
    if options.tiles and options.heldout:
        tiles(heldout_pictures(options.heldout, options.seed)).save(options.tiles, quality=90)
    if options.sheet:
        scenes = chosen(options.heldout, options.count, options.seed, freedom, options.kind, canvas)
        contact_sheet(list(scenes)).save(options.sheet)


if __name__ == "__main__":
    main()
