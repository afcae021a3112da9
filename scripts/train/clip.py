"""Trains the embedded CLIP: an open_clip model with a small vocabulary, on drawn scenes and their captions.

    python scripts/data/draw_scenes.py --count 140000 --data training/data
    python scripts/train/clip.py --data training/data --out training/clip --steps 1500
    python scripts/train/clip.py --data training/data --out training/robust --start training/clip --attack 1.5
    python scripts/train/clip.py --out training/robust --export checkpoints/embedded/clip
    python scripts/train/clip.py --evaluate checkpoints/embedded/clip  # on the held-out scenes

The third command goes on with adversarial training (L2 projected gradient descent on the pictures), which makes the
gradients of the image tower draw shapes instead of textures (Ganz & Elad, CLIPAG, arXiv 2306.16805).
Runs on CPU or CUDA, in bf16 where the machine computes in it. Started again with the same --out it goes on where it
stopped.
"""

import argparse
import contextlib
import gzip
import json
import math
import random
import sys
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer, default_bpe
from torch import nn
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes
from scripts.data.scene_attributes import Attributes, answers, said_answers, targets
from scripts.data.scene_words import caption
from scripts.data.scenes import Scene, heldout_prompts
from scripts.train import training
from scripts.train.contrast import attack, contrastive_loss, encode_image, encode_text, fitted
from scripts.train.disturbances import Disturbance, distort
from scripts.train.dreams import Dreams, dream_loss

MERGES = 4096
CONTEXT = 32
VOCABULARY = 514 + MERGES


@dataclass(frozen=True)
class Recipe:
    """One of the models: open_clip's sizes, and how its pictures are disturbed."""

    model: dict[str, Any]
    disturbance: Disturbance

    @property
    def side(self) -> int:
        """The side of the input in pixels."""
        return int(self.model["vision_cfg"]["image_size"])


def text_config(width: int, heads: int, layers: int) -> dict[str, int]:
    """The text tower in open_clip's terms."""
    return {
        "context_length": CONTEXT,
        "vocab_size": VOCABULARY,
        "width": width,
        "heads": heads,
        "layers": layers,
    }


RECIPES = {
    # a second guide, half as wide again, that learns from its own dreams too
    "guide": Recipe(
        {
            "embed_dim": 256,
            "vision_cfg": {"image_size": 96, "width": 24, "layers": [2, 3, 3, 2]},
            "text_cfg": text_config(128, 2, 2),
        },
        Disturbance(zoom=(0.65, 1.1), turn=0.15, gain=0.15, lift=0.08, noise=0.14, erase=0.0, pools=(1, 1, 2, 4)),
    ),
    # one whose gradients shall point to the scene (--align): whole pictures, upright, not mirrored
    "aligned": Recipe(
        {
            "embed_dim": 256,
            "vision_cfg": {"image_size": 64, "width": 24, "layers": [2, 3, 3, 2]},
            "text_cfg": text_config(128, 2, 2),
        },
        Disturbance(zoom=(0.8, 1.05), turn=0.0, gain=0.0, lift=0.0, noise=0.0, erase=0.0, pools=(1,)),
    ),
    # the guide: CLIP's own ResNet, seen through crops like the generator's cutouts
    "clip": Recipe(
        {
            "embed_dim": 256,
            "vision_cfg": {"image_size": 96, "width": 16, "layers": [2, 3, 3, 2]},
            "text_cfg": text_config(96, 2, 2),
        },
        Disturbance(zoom=(0.65, 1.1), turn=0.15, gain=0.15, lift=0.08, noise=0.14, erase=0.0, pools=(1, 1, 2, 4)),
    ),
    # the judge, which never guides: a RegNet (Radosavovic et al., arXiv 2003.13678) that sees whole pictures
    "judge": Recipe(
        {
            "embed_dim": 256,
            "vision_cfg": {
                "image_size": 96,
                "timm_model_name": "regnetx_004",
                "timm_model_pretrained": False,
                "timm_pool": "rot_attn",
                "timm_proj": "",
            },
            "text_cfg": text_config(96, 2, 2),
        },
        Disturbance(zoom=(0.9, 1.1), turn=0.1, gain=0.25, lift=0.12, noise=0.06, erase=0.3, pools=(1, 1, 2, 4)),
    ),
    # the second judge, of another family: a MobileNet (Qin et al., arXiv 2404.10518), for drawings by several hands
    "second": Recipe(
        {
            "embed_dim": 256,
            "vision_cfg": {
                "image_size": 96,
                "timm_model_name": "mobilenetv4_conv_small",
                "timm_model_pretrained": False,
                "timm_pool": "avg",
                "timm_proj": "",
            },
            "text_cfg": text_config(96, 2, 2),
        },
        Disturbance(zoom=(0.85, 1.15), turn=0.1, gain=0.25, lift=0.12, noise=0.06, erase=0.2, pools=(1, 1, 2, 4)),
    ),
}
WEIGHTS = "open_clip_model.safetensors"
FIELDS = tuple(field.name for field in fields(Scene))
MAX_LOGIT_SCALE = math.log(100)  # Radford et al. 2021, section 2.5
DREAMS = 1.0  # weight of the dreams' loss beside the contrast
ATTRIBUTES = 4.0  # weight of the classification of pictures, and of captions, beside the contrast


def write_merges(file: Path) -> None:
    """The first MERGES merges of CLIP's own list, as SimpleTokenizer(bpe_path=...) reads them."""
    lines = gzip.decompress(Path(default_bpe()).read_bytes()).decode().split("\n")[: MERGES + 1]
    file.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


def build(recipe: Recipe) -> open_clip.CLIP:
    """The untrained model."""
    return open_clip.CLIP(recipe.model["embed_dim"], recipe.model["vision_cfg"], recipe.model["text_cfg"])


def preprocessing(recipe: Recipe) -> dict[str, Any]:
    """How a picture becomes the model's input, in open_clip's terms."""
    return {
        "size": [recipe.side, recipe.side],
        "mode": "RGB",
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "interpolation": "bicubic",
        "resize_mode": "squash",
        "fill_color": 0,
    }


class Captions:
    """Captions of stored scenes, worded anew each time, and which captions fit which scenes."""

    def __init__(self, scenes: list[Scene], tokenizer: SimpleTokenizer) -> None:
        self.scenes, self.tokenizer = scenes, tokenizer
        numbers: dict[str, int] = {}
        table = [[numbers.setdefault(value, len(numbers)) for value in astuple(scene)] for scene in scenes]
        self.table = torch.tensor(table)  # (n, fields): equal numbers, equal values
        directed = {"left", "right", "left of", "right of"}
        self.still = torch.tensor([scene.place in directed for scene in scenes])

    def shown(self, chosen: np.ndarray) -> torch.Tensor:
        """What the chosen pictures show, as `scene_attributes.targets`."""
        return targets([answers(self.scenes[index]) for index in chosen])

    def batch(self, chosen: np.ndarray, random_: random.Random) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Tokens (N, CONTEXT) of captions of the chosen scenes, what they say as `scene_attributes.targets`, and
        (N, N) which caption i also fits scene j: all that it speaks of is so there. Such pairs are no negatives."""
        worded = [caption(self.scenes[index], random_) for index in chosen]
        stated = targets([said_answers(self.scenes[i], what) for i, (_, what) in zip(chosen, worded, strict=True)])
        tokens = self.tokenizer([text for text, _ in worded])
        said = torch.tensor([[field in what for field in FIELDS] for _, what in worded])
        rows = self.table[torch.from_numpy(chosen)]
        fits = ((rows[:, None] == rows[None]) | ~said[:, None]).all(2)
        return tokens, stated, fits


@torch.no_grad()
def heldout_accuracy(model: open_clip.CLIP, tokenizer: SimpleTokenizer, kind: str, seeds: int = 3) -> float:
    """R@1: how often the right caption of the held-out list comes first for a scene drawn from it, 0..1."""
    prompts = heldout_prompts(kind)
    device = model.logit_scale.device
    texts = encode_text(model, tokenizer(prompts).to(device))
    right = 0
    for seed in range(seeds):
        images = training.to_images(draw_scenes.heldout_pictures(kind, seed), device)
        views = functional.interpolate(images, size=model.visual.image_size, mode="area")
        first = (encode_image(model, views) @ texts.t()).argmax(1).cpu()
        right += int((first == torch.arange(len(prompts))).sum())
    return right / (seeds * len(prompts))


def report(model: open_clip.CLIP, tokenizer: SimpleTokenizer) -> None:
    """Prints R@1 of a model on both held-out lists."""
    single, composed = (heldout_accuracy(model.eval(), tokenizer, kind) for kind in ("single", "composed"))
    print(f"held-out R@1 of 100 captions: single {single:.3f}, composed {composed:.3f}", flush=True)


def evaluate_exported(folder: Path, device: torch.device) -> None:
    """Prints R@1 of exported weights."""
    tokenizer = SimpleTokenizer(bpe_path=str(folder / "merges.txt.gz"), context_length=CONTEXT)
    report(open_clip.create_model(f"local-dir:{folder}").to(device), tokenizer)


def parameter_groups(model: open_clip.CLIP) -> list[dict[str, object]]:
    """Matrices decay; gains, biases and the logit scale do not."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    others = [p for p in model.parameters() if p.ndim < 2]
    return [{"params": matrices, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Trains until --steps or --minutes are done."""
    write_merges(options.out / "merges.txt.gz")
    tokenizer = SimpleTokenizer(bpe_path=str(options.out / "merges.txt.gz"), context_length=CONTEXT)
    pictures, scenes = training.load_several(options.data)
    captions = Captions(scenes, tokenizer)
    recipe = RECIPES[options.model]
    model = build(recipe).to(device, memory_format=torch.channels_last)
    attributes = Attributes(recipe.model["embed_dim"]).to(device)
    optimiser = torch.optim.AdamW(parameter_groups(nn.ModuleList([model, attributes])), lr=0.0, betas=(0.9, 0.98))
    step, spent, state = 0, 0.0, training.load_checkpoint(options.out / "last.pt", device)
    if state:
        step, spent = state["step"], state["seconds"]
        model.load_state_dict(state["model"])
        attributes.load_state_dict(state["attributes"])
        optimiser.load_state_dict(state["optimiser"])
    elif options.start:
        model.load_state_dict(fitted(training.load_start(options.start, WEIGHTS, device), model))
        earlier = training.load_checkpoint(options.start / "last.pt", device)
        attributes.load_state_dict(earlier["attributes"] if earlier else attributes.state_dict())
    average = training.Average(model, 0.99)
    average.values = state["average"] if state else average.values
    clock = training.Clock(options.steps, options.minutes, spent)

    def save() -> None:
        training.save_checkpoint(
            options.out / "last.pt",
            recipe=options.model,
            step=step,
            seconds=clock.seconds(),
            model=model.state_dict(),
            average=average.values,
            attributes=attributes.state_dict(),
            optimiser=optimiser.state_dict(),
        )
        averaged = build(recipe).to(device)
        averaged.load_state_dict(average.values)
        report(averaged, tokenizer)

    def batch(step: int) -> tuple[torch.Tensor, ...]:
        """Pictures uint8, which must not be mirrored, what they show; tokens, what they say, which pairs fit."""
        numbers = np.random.default_rng([options.seed, step])
        families = np.sort(numbers.choice(len(pictures) // 2, options.batch // 2, replace=False))
        chosen = np.stack([families * 2, families * 2 + 1], 1).reshape(-1)
        worded = captions.batch(chosen, random.Random(f"{options.seed} {step}"))
        return torch.from_numpy(pictures[chosen]), captions.still[chosen], captions.shown(chosen), *worded

    saves = training.Saves(200)
    made = training.batches(batch, step, options.workers)
    dreams = Dreams(16 * options.dreams, recipe.side, CONTEXT, device) if options.dreams else None
    model.train()
    while clock.progress(step) < 1:
        generator = torch.Generator(device).manual_seed(options.seed * 1_000_003 + step)
        seen, still, shown, tokens, stated, fits = (part.to(device, non_blocking=True) for part in next(made))
        still = still | bool(options.align)  # a scene upright and in its place is one direction, not two
        images = distort(training.to_images(seen, device), still, recipe.disturbance, recipe.side, generator)
        ramp = min(1.0, 0.01 + clock.progress(step) / options.ramp)  # the attack and the dreams grow to full strength
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate(options.lr, clock.progress(step))
        model.eval()  # batch norms as they are in use, while pictures are looked for
        dreamt, astray = (tokens[:0], images[:0], images[:0]), 0.0
        some = torch.randperm(len(tokens), generator=generator, device=device)[: options.dreams]
        if dreams and options.align:
            astray = dreams.aligned(model, tokens[some], images[some], generator)
        elif dreams:
            dreamt = dreams.go_on(model, tokens[some], images[some], generator)
        if options.attack:
            with training.autocast(device), torch.no_grad():
                texts = encode_text(model, tokens)
            images = attack(model, images, texts, fits, ramp * options.attack, options.attack_steps)
        model.train()
        with training.autocast(device):
            texts, of_dreams = encode_text(model, torch.cat([tokens, dreamt[0]])).split([len(tokens), len(dreamt[0])])
            seen_all = encode_image(model, torch.cat([images, *dreamt[1:]]))
        embedded, real, dreams_seen = seen_all.split([len(images), len(of_dreams), len(of_dreams)])
        liked = dream_loss((real * of_dreams).sum(1), (dreams_seen * of_dreams).sum(1)) if len(of_dreams) else 0.0
        contrast = contrastive_loss(embedded, texts, model.logit_scale.exp(), fits)
        seen_classes, said_classes = attributes(embedded, shown), attributes(texts, stated)
        loss = contrast + ATTRIBUTES * (seen_classes + said_classes) + DREAMS * ramp * liked + options.align * astray
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        model.logit_scale.data.clamp_(0, MAX_LOGIT_SCALE)
        average.update(model, step)
        step += 1
        if step % 20 == 0:
            scale = model.logit_scale.detach().exp().item()
            print(
                f"step {step} {clock.seconds():.0f} s contrast {contrast:.4f} classes of pictures {seen_classes:.4f} "
                f"and captions {said_classes:.4f} scale {scale:.1f} dreams {liked:.3f} astray {astray:.3f}",
                flush=True,
            )
        if saves.due(step):
            save()
    save()
    if dreams:
        dreams.sheet(tokenizer).save(options.out / "dreams.png")


def export(out: Path, folder: Path) -> None:
    """Writes an open_clip folder: open_clip_config.json, open_clip_model.safetensors, merges.txt.gz."""
    state = training.load_checkpoint(out / "last.pt", torch.device("cpu"))
    if state is None:
        raise SystemExit(f"nothing trained in {out}")
    folder.mkdir(parents=True, exist_ok=True)
    recipe = RECIPES[state["recipe"]]
    text = json.dumps({"model_cfg": recipe.model, "preprocess_cfg": preprocessing(recipe)}, indent=2) + "\n"
    training.write_beside(folder / "merges.txt.gz", write_merges)
    training.write_beside(folder / "open_clip_config.json", lambda beside: beside.write_text(text) and None)
    training.export_weights(folder / WEIGHTS, state["average"])
    print(f"exported step {state['step']} to {folder}")


def main() -> None:
    """Trains, or exports what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", help="folders written by draw_scenes.py --data")
    parser.add_argument("--model", choices=RECIPES, default="clip")
    parser.add_argument("--out", type=Path, default=Path("training/clip"), help="checkpoints go here")
    parser.add_argument("--start", type=Path, help="go on from this training's --out, or exported folder")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--minutes", type=float, help="train for this long instead of --steps")
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--attack", type=float, default=0.0, metavar="RADIUS", help="L2 radius, 0: plain training")
    parser.add_argument("--attack-steps", type=int, default=2)
    parser.add_argument("--dreams", type=int, default=0, metavar="N", help="own pictures as negatives in each step")
    parser.add_argument(
        "--align", type=float, default=0.0, metavar="WEIGHT", help="of gradients that point to the scene, at --dreams"
    )
    parser.add_argument("--ramp", type=float, default=1e-9, help="share of the training in which attack, dreams grow")
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches ahead, for a GPU")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the weights into DIR and stop")
    parser.add_argument("--evaluate", type=Path, metavar="DIR", help="measure the weights in DIR and stop")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if options.evaluate:
        evaluate_exported(options.evaluate, torch.device(options.device))
        return
    if options.export:
        export(options.out, options.export)
        return
    if options.align and not options.dreams:
        parser.error("--align needs --dreams N")
    options.out.mkdir(parents=True, exist_ok=True)
    # On CPU plain matrix products are quicker than the fused kernel for such short sequences, which has no second
    # derivative either.
    with sdpa_kernel(SDPBackend.MATH) if options.device == "cpu" or options.align else contextlib.nullcontext():
        train(options, torch.device(options.device))


if __name__ == "__main__":
    main()
