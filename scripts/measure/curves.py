"""Score against seconds: how soon pictures of held-out prompts fit, by a judge that did not guide, for each way to go.

    python scripts/measure/curves.py                 # the older tools' loop for 300 steps, and ours
    python scripts/measure/curves.py --ways codes --set cutouts.count=8 --set optimise.lr=0.15

All ways use the embedded models:

reference   the older tools' loop (scripts/measure/benchmark.py): random codes, 32 cutouts, Adam with 0.1, fp32
codes       vqclip generate -c codes: from random codes, without the prior
prior       vqclip generate

The clock starts with the models loaded and stands still while the judge looks. For each way: the mean score (cosine of
picture and caption by the judge) after so many seconds, then when the score that the first way ends with is reached.
The last line is JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from vqclip.config.loader import load_config
from vqclip.hub.model_files import find_models
from vqclip.models.perceptor import Perceptor
from vqclip.optimisation.loop import optimise
from vqclip.pipeline.assemble import assemble
from vqclip.pipeline.load import load_models
from vqclip.pipeline.plan import make_plan
from vqclip.tools.evaluate import load_judges, read_prompts

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.measure.benchmark import Reference, embedded

REFERENCE = "reference"
LAYERS = {"codes": ["codes"], "prior": []}
CUTOUTS = 32
SECONDS = (1, 2, 5, 10, 20, 40, 80)

Look = Callable[[], Tensor]
"""Returns the picture (1, 3, H, W) as it stands."""


def older_loop(steps: int) -> Callable[[str, int], Iterator[Look]]:
    """The older tools' way: a picture after each of `steps`."""
    vqgan, tower = embedded(torch.device("cpu"), "fp32")

    def loop(caption: str, seed: int) -> Iterator[Look]:
        torch.manual_seed(seed)
        codes = torch.randint(len(vqgan.codebook), (1, 128 // vqgan.factor, 128 // vqgan.factor))
        reference = Reference(vqgan.lookup(codes), vqgan, tower, tower.encode_text([caption]), CUTOUTS)
        for _ in range(steps):
            reference.step()
            yield reference.render

    return loop


def our_loop(layers: list[str], words: list[str]) -> Callable[[str, int], Iterator[Look]]:
    """vqclip's way: the start, and a picture after each step."""
    settings = load_config(layers, words, {"prompts": ["a red apple"], "seed": 0})
    first = make_plan(settings)
    models = load_models(first, find_models(first.config))

    def loop(caption: str, seed: int) -> Iterator[Look]:
        plan = make_plan(load_config(layers, words, {"prompts": [caption], "seed": seed}))
        descent = assemble(plan, models).descent
        yield lambda: descent.render(descent.result())
        for step in optimise(descent, plan.config.optimise.steps):
            yield step.render

    return loop


@torch.no_grad()
def follow(looks: Iterator[Look], judge: Perceptor, caption: str) -> list[tuple[float, float]]:
    """Pairs of seconds and score, after more and more steps: every one at first, then each tenth more."""
    wanted, curve, spent, due = judge.encode_text([caption])[0], [], 0.0, 0
    began = time.perf_counter()
    with torch.enable_grad():
        for number, look in enumerate(looks):
            spent += time.perf_counter() - began
            if number >= due:
                with torch.no_grad():
                    score = float(judge.encode_image(judge.view(look()))[0] @ wanted)
                curve.append((spent, score))
                due = max(number + 1, int(number * 1.1))
            began = time.perf_counter()
    return curve


def score_at(curve: list[tuple[float, float]], seconds: float) -> float:
    """The last score that was reached by then; 0 before the first."""
    return next((score for spent, score in reversed(curve) if spent <= seconds), 0.0)


def mean_curve(curves: list[list[tuple[float, float]]]) -> list[tuple[float, float]]:
    """Seconds and mean score over prompts, wherever one of them has a new score and all have one."""
    times = sorted({spent for curve in curves for spent, _ in curve})
    first = max(curve[0][0] for curve in curves)
    return [(at, sum(score_at(curve, at) for curve in curves) / len(curves)) for at in times if at >= first]


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ways", nargs="+", choices=(REFERENCE, *LAYERS), default=[REFERENCE, *LAYERS])
    parser.add_argument("--steps", type=int, default=300, help="of the reference")
    parser.add_argument("--list", default="heldout-single")
    parser.add_argument("--first", type=int, default=8, help="how many of its prompts")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="settings for our ways")
    options = parser.parse_args()
    judge = load_judges(["embedded-judge"], load_config([], [], {}))[0]
    prompts = read_prompts(options.list).prompts[: options.first]
    means = {}
    for way in options.ways:
        loop = older_loop(options.steps) if way == REFERENCE else our_loop(LAYERS[way], options.set)
        means[way] = mean_curve([follow(loop(caption, 0), judge, caption) for caption in prompts])
    goal = means[options.ways[0]][-1]
    print(f"{'seconds':10}" + "".join(f"{seconds:>7}" for seconds in SECONDS) + f"{'end':>16}  reaches {goal[1]:.3f}")
    for way, curve in means.items():
        soon = next((spent for spent, score in curve if score >= goal[1]), None)
        reached = f"after {soon:.1f} s, {goal[0] / soon:.0f}x sooner" if soon else "never"
        scores = "".join(f"{score_at(curve, seconds):7.3f}" for seconds in SECONDS)
        print(f"{way:10}{scores}{curve[-1][1]:7.3f} at {curve[-1][0]:4.1f} s  {reached}")
    print(json.dumps(means))


if __name__ == "__main__":
    main()
