"""Makes the embedded reference: some pictures of every thing as codes, for `targets.reference=embedded`.

    python scripts/train/reference.py --models checkpoints/embedded

Each thing stands alone on plain grounds of different colours, so that what its pictures have in common is the thing.
Needs the font, as scripts/data/draw_scenes.py does.
"""

import argparse
import json
import random
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
import torch

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes
from scripts.data.scene_things import COLOURS, article, names
from scripts.data.scenes import Scene, is_held_out, is_visible
from scripts.train import training
from vqclip.models.vqgan import load_vqgan
from vqclip.pipeline.embedded_reference import CAPTIONS, FILE

TOGETHER = 32  # pictures encoded at once


def scenes_of(name: str, seed: int) -> Iterator[Scene]:
    """A thing on plain grounds of every colour that it stands out from, in a random order."""
    colours = random.Random(f"vqclip reference {seed} {name}").sample(list(COLOURS), len(COLOURS))
    scenes = (Scene(name, ground_colour=colour) for colour in colours)
    return (scene for scene in scenes if is_visible(scene) and not is_held_out(scene))


@torch.no_grad()
def encoded(scenes: list[Scene], seed: int, models: Path) -> torch.Tensor:
    """The codes (R, h, w) of calm pictures of scenes."""
    vqgan, parts = load_vqgan(models / "vqgan.safetensors"), []
    for start in range(0, len(scenes), TOGETHER):
        drawn = [
            np.asarray(draw_scenes.draw(scene, seed, number, draw_scenes.CALM))
            for number, scene in enumerate(scenes[start : start + TOGETHER], start)
        ]
        images = training.to_images(torch.from_numpy(np.stack(drawn)), torch.device("cpu"))
        parts.append(vqgan.codes(vqgan.encode(images)))
    return torch.cat(parts)


def main() -> None:
    """Draws, encodes and writes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--models", type=Path, required=True, help="a folder with vqgan.safetensors; the file goes there"
    )
    parser.add_argument("--each", type=int, default=3, help="pictures of each thing")
    parser.add_argument("--seed", type=int, default=7)
    options = parser.parse_args()
    scenes = [scene for name in names() for scene in islice(scenes_of(name, options.seed), options.each)]
    codes = encoded(scenes, options.seed, options.models).to(torch.int16)
    captions = json.dumps([article(scene.first) for scene in scenes], ensure_ascii=False)
    training.export_weights(options.models / FILE, {"codes": codes}, {CAPTIONS: captions})
    print(f"{len(scenes)} pictures of {len({scene.first for scene in scenes})} things in {options.models / FILE}")


if __name__ == "__main__":
    main()
