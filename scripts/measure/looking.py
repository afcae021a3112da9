"""Measures classify and search on freshly drawn scenes, and how quickly pictures are looked at.

    python scripts/measure/looking.py                       # with the embedded CLIP, on 1,000 scenes
    python scripts/measure/looking.py --perceptor embedded-judge --count 200
    python scripts/measure/looking.py --calibrate           # only: how sure classify is, and the fit of what it stores

classify: the thing (among the things of the held-out list), the ground's colour and the style of held-out scenes.
--calibrate: held-out scenes of both lists, each with sets of 2 to 20 labels of which half hold what is shown. One half
of the prompts fits scale and offset by maximum likelihood; of the other it prints, with what zeroshot.CALIBRATED
stores, the share of right answers, and how far from it the probabilities are (expected calibration error, ten bins).
search: whether a scene is found by its own caption among all scenes (recall@1 and @10). Needs the font, see
scene_things.py.
"""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor

from vqclip.config.vocabulary import known_words
from vqclip.folders.embedding import embed_files
from vqclip.folders.search_index import update_index
from vqclip.hub.clip_files import find_clip
from vqclip.models.files import ClipFiles
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.tools.search import find
from vqclip.tools.zeroshot import CALIBRATED, ONE, Calibration, chances, label_vectors, others

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes
from scripts.data.scene_styles import STYLES
from scripts.data.scene_things import COLOURS, names
from scripts.data.scene_words import caption
from scripts.data.scenes import heldout_prompts, heldout_scene

SEED = 900  # of scenes that no training draws
SETS = (2, 3, 5, 10, 20)  # how many labels there are to choose from


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


@dataclass(frozen=True)
class Question:
    """A picture's cosines to labels (L,) and to the background (B,), and the right label's place, L for none."""

    labels: Tensor
    background: Tensor
    right: int


def questions(perceptor: Perceptor, folder: Path, kind: str) -> list[list[Question]]:
    """What classify is asked of each held-out scene of a list."""
    files, scenes = draw_heldout(folder, kind)
    things, random_ = list(names()), random.Random(SEED)
    vectors = torch.stack([vector for _, vector in embed_files(perceptor, files) if isinstance(vector, Tensor)])
    labels, words = label_vectors(perceptor, things), label_vectors(perceptor, sorted(known_words()), ONE)
    asked: list[list[Question]] = []
    for vector, scene in zip(vectors, scenes, strict=True):
        foreign = [number for number, name in enumerate(things) if name not in (scene.first, scene.second)]
        asked.append([])
        for size in SETS:
            inside = random_.random() < 0.5
            chosen = [things.index(scene.first)] * inside + random_.sample(foreign, size - inside)
            background = words[others(words, labels[chosen])]
            asked[-1].append(Question(labels[chosen] @ vector, background @ vector, 0 if inside else size))
    return asked


def fit(asked: Sequence[Question]) -> Calibration:
    """The scale and offset of largest likelihood."""
    values = torch.tensor([3.0, -3.0], requires_grad=True)
    search = torch.optim.LBFGS([values], max_iter=40, line_search_fn="strong_wolfe")

    def surprise() -> Tensor:
        search.zero_grad()
        scale, offset = values[0].exp(), values[1]
        none = [(scale * each.background + offset).logsumexp(0, keepdim=True) for each in asked]
        logits = [torch.cat([scale * each.labels, rest]) for each, rest in zip(asked, none, strict=True)]
        loss = torch.stack([-row.log_softmax(0)[each.right] for row, each in zip(logits, asked, strict=True)]).mean()
        loss.backward()
        return loss

    search.step(surprise)
    return Calibration(values[0].exp().item(), values[1].item())


def tell(perceptor: Perceptor, asked: Sequence[Question], sure: Calibration, closed: bool) -> str:
    """Shares of right answers, where a label was right and where none was, and the calibration error."""
    asked = [each for each in asked if each.right < len(each.labels)] if closed else asked
    found = [chances(perceptor, each.labels, None if closed else each.background, sure).max(0) for each in asked]
    right = torch.tensor([int(best.indices) == each.right for best, each in zip(found, asked, strict=True)]).float()
    certain = torch.stack([best.values for best in found])
    bins = (certain * 10).long().clamp(0, 9)
    error = sum((certain - right)[bins == each].sum().abs() for each in range(10)) / len(asked)
    none = torch.tensor([each.right == len(each.labels) for each in asked])
    shares = f"{right[~none].mean():.1%}" + ("" if closed else f", none {right[none].mean():.1%}")
    return f"right {shares}; calibration error {float(error):.3f}"


def measure_certainty(perceptor: Perceptor, name: str, folder: Path) -> None:
    """Prints how sure classify may be of its answers, with the model's own scale and with the one stored."""
    asked = {kind: questions(perceptor, folder, kind) for kind in ("single", "composed")}
    fitted = fit([each for kind in asked.values() for scene in kind[::2] for each in scene])
    print(f"fitted: scale {fitted.scale:.1f}, offset {fitted.offset:.2f}")
    for kind, scenes in asked.items():
        left = [each for scene in scenes[1::2] for each in scene]
        own, stored = Calibration(perceptor.scale), CALIBRATED.get(name, fitted)
        print(f"{kind}, a label is right, own scale {own.scale:.1f}: {tell(perceptor, left, own, closed=True)}")
        print(f"{kind}, in half of them none: {tell(perceptor, left, stored, closed=False)}")


def main() -> None:
    """Draws, looks and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--perceptor", default="embedded")
    parser.add_argument("--count", type=int, default=1000, help="scenes to search among")
    parser.add_argument("--calibrate", action="store_true", help="only measure and fit how sure classify is")
    options = parser.parse_args()
    files = find_clip(options.perceptor)
    perceptor = load_perceptor(files, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as place:
        if options.calibrate:
            return measure_certainty(perceptor, options.perceptor, Path(place))
        for name in ("classes", "search"):
            (Path(place) / name).mkdir()
        measure_classes(perceptor, Path(place) / "classes")
        measure_search(perceptor, files, Path(place) / "search", options.count)


if __name__ == "__main__":
    main()
