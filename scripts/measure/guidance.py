"""What the loop itself can do: settings in a table, from random codes, at equal time, by two judges.

    python scripts/measure/guidance.py                          # every setting of SETTINGS
    python scripts/measure/guidance.py --only vqclip "two stages" --seconds 20 --first 12 --sheets sheets
    python scripts/measure/guidance.py --only "as it is" --add "slow: optimise.lr=0.05" --list heldout-composed
    python scripts/measure/guidance.py --only "two stages" "hold" --seconds 5 --first 8  # a quick look
    python scripts/measure/guidance.py --only "two stages" --scenes 1500     # and aimed by as many captioned scenes

Each setting draws one picture for the list's first captions by `vqclip generate -c codes` with its words. It gets as
many steps as fit into so many seconds of the processor's time (the command's own, whatever else the machine does), by
a run of a few steps before, and is not enlarged. Of two CLIPs from other families only one could judge: the other
embedded one is the guide. So there are one judge of that kind, one that is none, and the guide beside them, which is no
judge: where it rises alone, it was fooled. Each ranks the captions of the whole list for each picture:

judge   the embedded judge, a RegNet trained as CLIP: R-precision at 1, and the mean cosine to the own caption
prior   the embedded prior, a transformer over codes: which caption makes the picture's codes likeliest, and by how
        much, in nats per code, the own caption does more than none
guide   the embedded guide, a ResNet trained as CLIP: R-precision at 1

The last line is JSON.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from vqclip.common.images import to_image
from vqclip.config.loader import load_config
from vqclip.config.schema import Config
from vqclip.hub.model_files import find_models
from vqclip.models.perceptor import Perceptor
from vqclip.models.rerank import Proposer
from vqclip.outputs.sheet import make_sheet, save_sheet
from vqclip.pipeline.assemble import assemble
from vqclip.pipeline.load import Models, load_models
from vqclip.pipeline.plan import make_plan
from vqclip.pipeline.run import run
from vqclip.tools.evaluate import embed, give_verdict, load_judges, read_prompts
from vqclip.tools.search_cache import forget_folder

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes

SEED = 77
TRIAL = 8  # steps of the run that tells the time of a step

TWO, THREE = "optimise.pyramid=[[0.5,0.5],[1,0.5]]", "optimise.pyramid=[[0.25,0.25],[0.5,0.25],[1,0.5]]"

SETTINGS: dict[str, list[str]] = {
    "as it is": [],
    "vqclip": ["cutouts.recipe=vqclip"],
    "8 cutouts": ["cutouts.count=8"],
    "two stages": [TWO],
    "three stages": [THREE],
    "two stages, 8 cutouts": [TWO, "cutouts.count=8"],
    "noise": ["optimise.noise=0.3"],
    "unit gradient": ["optimise.gradient=unit"],
    "commitment": ["optimise.commitment=0.25"],
    "average": ["optimise.ema=0.9"],
    "hold": [TWO, "optimise.hold=10"],
    "few views at first": ["optimise.pyramid=[[0.5,0.75,0.3],[1,0.25]]"],
    "logits": ["optimise.space=logits", "optimise.lr=2"],
    "after examples": [TWO, "cutouts.count=16", "targets.reference=embedded", "targets.lean=0", "targets.content=2"],
}
"""What each setting changes of `-c codes`; one change at a time, then together."""

AIMED: dict[str, list[str]] = {
    "aimed, rotate": ["targets.aim=rotate"],
    "aimed, rotate half": ["targets.aim=rotate", "targets.lean=0.5"],
    "aimed, blend half": ["targets.aim=blend", "targets.lean=0.5"],
}
"""The same for --scenes, which also gives two stages and the folder."""


def draw_scenes_into(folder: Path, count: int) -> None:
    """Write training scenes and their captions; of a seed that no training draws."""
    scenes = draw_scenes.chosen(None, count, SEED, draw_scenes.FREE, "", draw_scenes.FONT)
    for number, (caption, picture) in enumerate(scenes):
        picture.save(folder / f"{number}.png")
        (folder / f"{number}.txt").write_text(caption, "utf-8")


def settings(words: Sequence[str], prompts: Sequence[str], seed: int, steps: int) -> Config:
    """The config of a setting for these captions."""
    words = ["output.upscale=none", *words, f"optimise.steps={steps}"]  # the judges look at what the loop drew
    return load_config(["codes"], words, {"prompts": list(prompts), "seed": seed})


def draw(config: Config, models: Models) -> tuple[Tensor, float]:
    """The pictures (N, 3, H, W), and the seconds of the processor's time."""
    began = time.process_time()
    finished = run(assemble(make_plan(config), models))
    assert finished is not None, "nothing interrupts this run"
    return finished.images, time.process_time() - began


def steps_in(seconds: float, words: Sequence[str], caption: str, models: Models) -> int:
    """How many steps take so many seconds."""
    draw(settings(words, [caption], 0, 1), models)  # what is done once
    (_, none), (_, some) = (draw(settings(words, [caption], 0, steps), models) for steps in (0, TRIAL))
    return max(1, round((seconds - none) / (some - none) * TRIAL))


@torch.no_grad()
def likelihoods(images: Tensor, captions: Sequence[str], proposer: Proposer) -> tuple[Tensor, Tensor]:
    """Mean log-likelihood of each picture's codes given each caption (N, Q), and given none (N,), in nats per code."""
    tokens = torch.cat(
        [proposer.tokenise(list(captions)), torch.zeros(1, proposer.prior.sizes.context, dtype=torch.long)]
    )
    vqgan, rows = proposer.vqgan, []
    for codes in vqgan.codes(vqgan.encode(images)):
        logits = torch.cat([proposer.prior(part, codes.expand(len(part), -1, -1)) for part in tokens.split(10)])
        rows.append(logits.log_softmax(-1).gather(-1, codes.expand(len(tokens), -1, -1)[..., None]).mean((1, 2, 3)))
    return torch.stack(rows)[:, :-1], torch.stack(rows)[:, -1]


def judged(
    images: Tensor, captions: Sequence[str], judge: Perceptor, guide: Perceptor, proposer: Proposer
) -> dict[str, float]:
    """The figures of both judges and the guide for pictures of the first captions."""
    verdict, own = (give_verdict(embed(each, images), each.encode_text(captions), captions) for each in (judge, guide))
    given, none = likelihoods(images, captions, proposer)
    first = torch.arange(len(images))
    right = [captions[place] == captions[number] for number, place in enumerate(given.argmax(1).tolist())]
    gain = float((given[first, first] - none).mean())
    by_prior = sum(right) / len(right)
    return {
        "judge": verdict.precision,
        "score": verdict.score,
        "prior": by_prior,
        "nats": gain,
        "guide": own.precision,
    }


def main() -> None:
    """Draws, judges and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="SETTING")
    parser.add_argument("--add", action="append", default=[], metavar="NAME: KEY=VALUE …", help="a further setting")
    parser.add_argument("--list", default="heldout-single")
    parser.add_argument("--first", type=int, default=24, help="how many of its captions get a picture")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=10.0, help="of the processor's time for each picture")
    parser.add_argument("--sheets", type=Path, help="a folder for a sheet of pictures per setting")
    parser.add_argument("--scenes", type=int, default=0, help="aim by the pictures of so many drawn scenes, too")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder))
        forget_folder(Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Draw, judge and print each setting; scenes to aim by go into the folder."""
    table = {name: SETTINGS[name] for name in options.only}
    table |= {name: words.split() for name, _, words in (each.partition(":") for each in options.add)}
    if options.scenes:
        draw_scenes_into(folder, options.scenes)
        table |= {name: [TWO, f"targets.reference={folder}", *words] for name, words in AIMED.items()}
    captions = read_prompts(options.list).prompts
    judge = load_judges(["embedded-judge"], load_config([], [], {}))[0]
    prior = make_plan(load_config([], [], {"prompts": captions[:1], "seed": 0}))
    files = find_models(prior.config)
    models = load_models(prior, files)
    proposer, guide = models.proposer, models.perceptors[0]
    assert proposer is not None, "the embedded models have a prior"
    rows = {}
    print(f"{'setting':32}{'steps':>6}{'seconds':>9}{'judge':>7}{'score':>7}{'prior':>7}{'nats':>7}{'guide':>7}")
    for name, words in table.items():
        plan = make_plan(settings(words, captions[:1], 0, 1))
        if find_models(plan.config) != files:
            files = find_models(plan.config)
            models = load_models(plan, files)
        steps = steps_in(options.seconds, words, captions[0], models)
        drawn = [draw(settings(words, [caption], options.seed, steps), models) for caption in captions[: options.first]]
        images, seconds = torch.cat([image for image, _ in drawn]), sum(took for _, took in drawn) / len(drawn)
        row = {"steps": steps, "seconds": seconds, **judged(images, captions, judge, guide, proposer)}
        print(
            f"{name:32}{steps:6}{seconds:9.1f}{row['judge']:7.0%}{row['score']:7.3f}{row['prior']:7.0%}{row['nats']:7.3f}"
            f"{row['guide']:7.0%}",
            flush=True,
        )
        rows[name] = row
        if options.sheets:
            options.sheets.mkdir(parents=True, exist_ok=True)
            save_sheet(
                options.sheets / f"{name}.png",
                make_sheet([to_image(each) for each in images], captions[: len(images)], 8),
            )
    print(json.dumps(rows))


if __name__ == "__main__":
    main()
