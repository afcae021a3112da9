"""Measures classify and search on freshly drawn scenes, and how quickly pictures are looked at.

    python scripts/measure/looking.py                       # with the embedded CLIP, on 1,000 scenes
    python scripts/measure/looking.py --perceptor embedded-judge --count 200

classify: the thing (among the things of the held-out list), the ground's colour and the style of held-out scenes.
search: whether a scene is found by its own caption among all scenes (recall@1 and @10). Needs the font, see
scene_things.py.
"""

import argparse
import random
import sys
import tempfile
import time
from pathlib import Path

import torch
from PIL import Image

from vqclip.folders.embedding import embed_files
from vqclip.folders.search_index import update_index
from vqclip.hub.clip_files import find_clip
from vqclip.models.files import ClipFiles
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.tools.search import find
from vqclip.tools.zeroshot import label_vectors

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes
from scripts.data.scene_styles import STYLES
from scripts.data.scene_things import COLOURS
from scripts.data.scene_words import caption
from scripts.data.scenes import heldout_prompts, heldout_scene

SEED = 900  # of scenes that no training draws


def draw_heldout(folder: Path, kind: str) -> tuple[list[Path], list[draw_scenes.Scene]]:
    """Writes a picture of every prompt of a held-out list; returns the files and their scenes."""
    scenes = [heldout_scene(prompt, SEED) for prompt in heldout_prompts(kind)]
    pictures = draw_scenes.heldout_pictures(kind, SEED)
    files = [folder / f"{kind}-{number}.png" for number in range(len(scenes))]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file)
    return files, scenes


def accuracy(
    perceptor: Perceptor, files: list[Path], labels: list[str], right: list[str], templates: tuple[str, ...]
) -> float:
    """Share of the pictures whose likeliest label is the right one, 0..1."""
    classes = label_vectors(perceptor, labels, templates)
    vectors = torch.stack([vector for _, vector in embed_files(perceptor, files) if isinstance(vector, torch.Tensor)])
    chosen = (vectors @ classes.t()).argmax(1).tolist()
    return sum(labels[number] == name for number, name in zip(chosen, right, strict=True)) / len(right)


def measure_classes(perceptor: Perceptor, folder: Path) -> None:
    """Prints the accuracy for things, ground colours and styles."""
    files, scenes = draw_heldout(folder, "single")
    things = sorted({scene.first for scene in scenes})
    article = ("a {}", "a picture of a {}", "an illustration of a {}")
    print(f"things: {accuracy(perceptor, files, things, [s.first for s in scenes], article):.1%} of {len(things)}")
    grounds = [scene.ground_colour for scene in scenes]
    on = ("a picture on a {} background", "a thing on a {} background")
    print(f"ground colours: {accuracy(perceptor, files, list(COLOURS), grounds, on):.1%} of {len(COLOURS)}")
    files, scenes = draw_heldout(folder, "composed")
    styled = [(file, STYLES[scene.style][0]) for file, scene in zip(files, scenes, strict=True) if scene.style]
    names = [phrases[0] for phrases in STYLES.values()]
    files, right = [file for file, _ in styled], [style for _, style in styled]
    share = accuracy(perceptor, files, names, right, ("{}", "{} of a thing"))
    print(f"styles: {share:.1%} of {len(names)} ({len(files)} scenes)")


def measure_search(perceptor: Perceptor, files: ClipFiles, folder: Path, count: int) -> None:
    """Prints recall@1 and @10 of captions, and how long indexing and a search take."""
    captions = []
    for number in range(count):
        scene, picture = draw_scenes.training_example(SEED, number)
        Image.fromarray(picture).save(folder / f"{number:05}.png")
        captions.append(caption(scene, random.Random(f"{SEED} {number}"), complete=True)[0])
    began = time.monotonic()
    index = update_index(folder, perceptor, files)
    seconds = time.monotonic() - began
    vectors = perceptor.encode_text(captions)
    ranks = []
    for number, vector in enumerate(vectors):
        found = [hit.path.stem for hit in find(index, folder, vector, 10)]
        ranks.append(found.index(f"{number:05}") if f"{number:05}" in found else 10)
    first, ten = sum(rank == 0 for rank in ranks) / count, sum(rank < 10 for rank in ranks) / count
    print(f"search among {count} scenes by their captions: recall@1 {first:.1%}, @10 {ten:.1%}")
    print(f"indexing: {count / seconds:.0f} pictures of 128 pixels a second")


def main() -> None:
    """Draws, looks and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perceptor", default="embedded")
    parser.add_argument("--count", type=int, default=1000, help="scenes to search among")
    options = parser.parse_args()
    files = find_clip(options.perceptor)
    perceptor = load_perceptor(files, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as place:
        for name in ("classes", "search"):
            (Path(place) / name).mkdir()
        measure_classes(perceptor, Path(place) / "classes")
        measure_search(perceptor, files, Path(place) / "search", options.count)


if __name__ == "__main__":
    main()
