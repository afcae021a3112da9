"""How good the pictures are: a judge that did not guide them ranks the captions of a list for each.

R-precision at 1 (Xu et al. 2018, AttnGAN, https://arxiv.org/abs/1711.10485, section 4; with CLIP as the judge: Park
et al. 2021, https://arxiv.org/abs/2110.01705): the share of pictures for which the judge puts their own caption before
all others of the list.
"""

import dataclasses
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from vqclip.common.errors import UsageError
from vqclip.common.hashes import known_sha256
from vqclip.common.images import open_image, to_tensor
from vqclip.common.paths import is_file, is_there
from vqclip.common.registry import did_you_mean
from vqclip.common.runtime import resolve_device
from vqclip.common.text import read_text
from vqclip.config.loader import available_prompts
from vqclip.config.prompts import parse_prompts
from vqclip.config.schema import Config
from vqclip.hub.clip_files import JUDGES, find_clip
from vqclip.hub.model_files import find_models
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.pipeline.assemble import assemble
from vqclip.pipeline.load import Models, load_models
from vqclip.pipeline.plan import Plan, make_plan
from vqclip.pipeline.run import run

TILES = 10
"""Columns of the picture of really drawn scenes beside a prompt list."""


@dataclass(frozen=True)
class PromptList:
    """Prompts to evaluate, and the picture of their scenes as really drawn (a grid, TILES a row), if there is one."""

    name: str
    prompts: list[str]
    scenes: Path | None


@dataclass(frozen=True)
class Verdict:
    """What a judge says of the pictures of one list.

    `precision` is R-precision at 1 and `score` the mean cosine similarity of a picture and its own caption;
    `mistaken` holds (number of the prompt, number of the caption that came first) of the others.
    """

    precision: float
    score: float
    mistaken: list[tuple[int, int]]


@dataclass(frozen=True)
class Judgement:
    """The figures of one list by one judge.

    `ceiling` is its verdict on really drawn scenes of the same captions. `diversity` is the mean distance, 1 - cosine
    of its vectors, between pictures of the same prompt and different seeds; None for one seed.
    """

    verdict: Verdict
    ceiling: Verdict | None
    diversity: float | None


@dataclass(frozen=True)
class Evaluation:
    """The pictures of one list (seeds, prompts, 3, H, W) in [0, 1], the seconds that one took, and what each judge
    says of them."""

    seeds: list[int]
    judgements: list[Judgement]
    seconds: float
    images: Tensor


def read_prompts(name: str) -> PromptList:
    """Read a shipped list by name, or a file with one prompt a line and `#` comments.

    Raises:
        UsageError: there is no such list, nothing in it, or a line that is no prompt.
    """
    known = available_prompts()
    path = known.get(name, Path(name))
    if not is_there(path):
        raise UsageError(f"Unknown prompt list {name!r}: {did_you_mean(name, known)}")
    lines = [line.strip() for line in read_text(path, "the prompt list").splitlines()]
    prompts = [line for line in lines if line and not line.startswith("#")]
    if len(set(prompts)) < 2:
        raise UsageError(f"The prompt list {str(path)!r} has fewer than two different prompts; ranking needs more.")
    for number, line in enumerate(lines, 1):
        if line in prompts:
            _check_prompt(line, f"Line {number} of the prompt list {str(path)!r}")
    scenes = path.with_suffix(".webp")
    return PromptList(name, prompts, scenes if name in known and is_file(scenes) else None)


def _check_prompt(prompt: str, where: str) -> None:
    try:
        parse_prompts(prompt)
    except UsageError as error:
        raise UsageError(f"{where}: {error}") from error


def own_judges(config: Config) -> list[str]:
    """The judges that come with vqclip and do not guide the config's pictures.

    Raises:
        UsageError: all of them do.
    """
    guides = {guide.name for guide in config.guides}
    left = [name for name in JUDGES if name not in guides]
    if not left:
        raise UsageError("All judges that come with vqclip guide the pictures here; name another one with --judge.")
    return left


def load_judges(specs: Sequence[str], config: Config) -> list[Perceptor]:
    """Load the judges, none of which may be one of the config's perceptors, by name or by content.

    Raises:
        UsageError: one guides, so that its word would count for nothing, or is there twice.
        ModelError: one is missing or damaged.
    """
    guides = {known_sha256(find_clip(guide.name).weights) for guide in config.guides}
    found = [find_clip(spec) for spec in specs]
    judges: set[str] = set()
    for spec, files in zip(specs, found, strict=True):
        content = known_sha256(files.weights)
        if content in guides:
            raise UsageError(f"The judge {spec!r} guides the pictures too; choose another one with --judge.")
        if content in judges:
            raise UsageError(f"The judge {spec!r} is given twice; name each --judge once.")
        judges.add(content)
    return [load_perceptor(files, resolve_device(config.runtime.device)) for files in found]


def evaluate(
    config: Config,
    prompts: PromptList,
    seeds: Sequence[int],
    judges: Sequence[Perceptor],
    together: int,
    first: int | None = None,
    watch: Callable[[int], None] = lambda done: None,
) -> Evaluation:
    """Make a picture for every prompt and seed, `together` at a time with the models loaded once, and let
    each of `judges` judge them.

    With `first`, only that many prompts get a picture; it is still ranked among the captions of all. `watch` is told
    how many pictures are done.

    Raises:
        VqclipError: as making the pictures does.
    """
    models: Models | None = None
    wanted = prompts.prompts[:first]
    images, seconds = [], []
    for seed in seeds:
        for start in range(0, len(wanted), together):
            part = wanted[start : start + together]
            plan = make_plan(dataclasses.replace(config, prompts=part, seed=seed, seeds=[], count=1))
            models = models or load_models(plan, find_models(plan.config))
            pictures, took = _draw(plan, models)
            images.append(pictures.cpu())
            seconds.append(took)
            watch(sum(map(len, images)))
    stacked = torch.cat(images).unflatten(0, (len(seeds), len(wanted)))
    scenes = read_tiles(prompts.scenes, len(wanted)) if prompts.scenes else None
    return Evaluation(
        seeds=list(seeds),
        judgements=[give_judgement(judge, stacked, prompts.prompts, scenes) for judge in judges],
        seconds=sum(seconds) / (len(seeds) * len(wanted)),
        images=stacked,
    )


def give_judgement(judge: Perceptor, images: Tensor, texts: Sequence[str], scenes: Tensor | None) -> Judgement:
    """Judge pictures (S, P, 3, H, W) in [0, 1] of the first P of the texts, S seeds each, and really drawn `scenes`
    (P, 3, side, side) of the same."""
    captions = judge.encode_text(texts)
    seen = torch.stack([embed(judge, each) for each in images])
    return Judgement(
        verdict=give_verdict(seen.flatten(0, 1), captions, texts, len(images)),
        ceiling=give_verdict(embed(judge, scenes), captions, texts) if scenes is not None else None,
        diversity=diversity(seen) if len(images) > 1 else None,
    )


def _draw(plan: Plan, models: Models) -> tuple[Tensor, float]:
    """Make the plan's pictures; return them, and the seconds it took from prompt to picture."""
    began = time.monotonic()
    finished = run(assemble(plan, models))
    assert finished is not None, "nothing interrupts this run"
    return finished.images, time.monotonic() - began


def give_verdict(features: Tensor, captions: Tensor, texts: Sequence[str], seeds: int = 1) -> Verdict:
    """Judge unit vectors (S·P, D) of pictures of the first P prompts, `seeds` times after another, by those of all
    captions (Q, D), Q at least P.

    Captions of the same text count as one.
    """
    similar = features @ captions.T
    own = torch.arange(len(features) // seeds).repeat(seeds)
    first = similar.argmax(1).cpu()
    wrong = [(int(mine), int(taken)) for mine, taken in zip(own, first, strict=True) if texts[mine] != texts[taken]]
    score = float(similar[torch.arange(len(own)), own].mean())
    return Verdict(1 - len(wrong) / len(features), score, wrong)


def diversity(features: Tensor) -> float:
    """Mean of 1 - cosine over all pairs of seeds of each prompt; unit vectors (S, P, D), S at least 2."""
    seeds = len(features)
    cosine = torch.einsum("spd,tpd->st", features, features) / features.shape[1]
    return float(1 - (cosine.sum() - cosine.trace()) / (seeds * (seeds - 1)))


def read_tiles(path: Path, count: int) -> Tensor:
    """Cut the first `count` square tiles out of a picture with TILES of them a row, (count, 3, side, side) in [0, 1].

    Raises:
        UsageError: the picture cannot be read, or holds fewer.
    """
    sheet = to_tensor(open_image(path))
    side = sheet.shape[-1] // TILES
    tiles = sheet[0].unfold(1, side, side).unfold(2, side, side).permute(1, 2, 0, 3, 4).flatten(0, 1)
    if len(tiles) < count:
        raise UsageError(f"{str(path)!r} holds {len(tiles)} scenes, not {count}; draw it again for this list.")
    return tiles[:count]


@torch.no_grad()
def embed(judge: Perceptor, images: Tensor) -> Tensor:
    """Return the judge's unit vectors (M, D) of pictures (M, 3, H, W) in [0, 1]."""
    return torch.cat([judge.encode_image(judge.view(part.to(judge.device))) for part in images.split(50)])
