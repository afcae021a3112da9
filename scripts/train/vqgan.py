"""Trains the embedded VQGAN: taming-transformers' encoder and decoder, f8, on drawn scenes of 128 pixels.

    python scripts/data/draw_scenes.py --count 60000 --data training/data
    python scripts/train/vqgan.py --data training/data --out training/vqgan --steps 5000
    python scripts/train/vqgan.py --data training/calm --out training/vqgan --crop 64 --things 3  # where the things are
    python scripts/train/vqgan.py --data training/calm --out training/decoder --start checkpoints/embedded --decoder
    python scripts/train/vqgan.py --out training/vqgan --export checkpoints/embedded
    python scripts/train/vqgan.py --evaluate checkpoints/embedded  # on the held-out scenes

With --decoder the encoder and the codes stay as --start has them, so that a prior of these codes stays valid.
Runs on CPU or CUDA, in bf16 where the machine computes in it. Started again with the same --out it goes on where it
stopped.
"""

import argparse
import contextlib
import io
import math
import sys
from pathlib import Path

import numpy as np
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file
from taming.modules.diffusionmodules.model import Decoder, Encoder
from torch import nn
from torch.nn import functional

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes
from scripts.train import training
from scripts.train.crops import cut_out
from scripts.train.perceptual import Perceptual
from scripts.train.quick_norm import QuickGroupNorm

# taming's norms have 32 groups. With 32 channels a group is one channel, so that the norm before the output takes
# away each picture's mean colour (and the decoder paints small hot spots to get round it): 64 is the least.
DDCONFIG = {
    "double_z": False,
    "z_channels": 32,
    "resolution": 128,
    "in_channels": 3,
    "out_ch": 3,
    "ch": 64,
    "ch_mult": [1, 1, 1, 2],
    "num_res_blocks": 0,
    "attn_resolutions": [],
    "dropout": 0.0,
}
EMBED_DIM = 32
WEIGHTS = "vqgan.safetensors"
N_EMBED = 1024
COMMITMENT = 0.25  # weight of the encoder's pull towards its code, van den Oord et al. 2017, equation 3
# The share of quantised pictures grows from 0 to 1 over this part of the training. Quantised from the start, the
# latent took 3,000 steps to find its third colour axis: the codes swallow whatever is still faint.
QUANTISED_FROM = 0.3
CROPS_UNTIL = 0.9  # the part of the training with --crop; norms see whole pictures after it
PERCEPTUAL = 1.0  # weight of the distance by a CLIP's features
CODE_DECAY = 0.97  # codes are moving averages of what they stand for, ibid., appendix A.1


class Quantizer(nn.Module):
    """Nearest code in L2; codes follow the mean of what they stand for; unused codes are drawn anew."""

    def __init__(self, count: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(count, width)
        self.embedding.weight.data.normal_(0, 0.5)
        self.embedding.weight.requires_grad = False
        self.register_buffer("uses", torch.ones(count))
        self.register_buffer("sums", self.embedding.weight.data.clone())

    def forward(self, z: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """z (N, D, h, w) → codes in z's place with a straight-through gradient, commitment loss, indices."""
        flat = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1]).float()
        book = self.embedding.weight.clone()
        with torch.no_grad():
            index = (book.square().sum(1) - 2 * flat @ book.t()).argmin(1)
        codes = functional.embedding(index, book)
        loss = (flat - codes).square().mean()
        if self.training:
            self._learn(flat.detach(), index)
        n, _, h, w = z.shape
        quantised = (flat + (codes - flat).detach()).view(n, h, w, -1).permute(0, 3, 1, 2)
        return quantised, loss, index

    @torch.no_grad()
    def _learn(self, flat: torch.Tensor, index: torch.Tensor) -> None:
        count = len(self.uses)
        uses = torch.bincount(index, minlength=count).float()
        sums = torch.zeros_like(self.sums).index_add_(0, index, flat)
        self.uses.lerp_(uses, 1 - CODE_DECAY)
        self.sums.lerp_(sums, 1 - CODE_DECAY)
        dead = self.uses < 0.02 * len(flat) / count
        chosen = flat[torch.randint(len(flat), (int(dead.sum()),), device=flat.device)]
        self.sums[dead], self.uses[dead] = chosen, 1.0
        self.embedding.weight.copy_(self.sums / self.uses[:, None].clamp_min(1e-3))


def with_codes(start: dict[str, torch.Tensor], count: int) -> dict[str, torch.Tensor]:
    """Weights to go on from, with `count` codes: each code becomes several that differ by a little noise.

    Where the weights were exported, the moving averages behind the codes are made up anew.
    """
    codes = start["quantize.embedding.weight"]
    if len(codes) < count:
        nearest = torch.cdist(codes, codes).fill_diagonal_(torch.inf).min(1).values
        spread = 0.3 * nearest.repeat_interleave(count // len(codes))[:, None] / codes.shape[1] ** 0.5
        codes = codes.repeat_interleave(count // len(codes), 0)
        codes = codes + spread * torch.randn_like(codes)
    elif "quantize.sums" in start:
        return start
    uses = torch.full((count,), 4.0, device=codes.device)
    return {**start, "quantize.embedding.weight": codes, "quantize.uses": uses, "quantize.sums": codes * 4.0}


class Model(nn.Module):
    """taming's VQModel without its trainer: the same parameter names, images in [-1, 1]."""

    def __init__(self, codes: int = N_EMBED) -> None:
        super().__init__()
        with contextlib.redirect_stdout(io.StringIO()):  # taming's Decoder prints
            self.encoder, self.decoder = Encoder(**DDCONFIG), Decoder(**DDCONFIG)
        self.quantize = Quantizer(codes, EMBED_DIM)
        self.quant_conv = nn.Conv2d(DDCONFIG["z_channels"], EMBED_DIM, 1)
        self.post_quant_conv = nn.Conv2d(EMBED_DIM, DDCONFIG["z_channels"], 1)
        for module in self.modules():
            if type(module) is nn.GroupNorm:
                module.__class__ = QuickGroupNorm

    def keep_codes(self) -> None:
        """Only the decoder learns from here on: the same picture keeps the same codes."""
        for part in (self.encoder, self.quant_conv, self.quantize):
            part.requires_grad_(False)
        self.quantize.eval()

    def forward(self, images: torch.Tensor, share: float = 1.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """images (N, 3, h, w) in [-1, 1] → reconstruction, commitment loss, code indices.

        Only a `share` of the pictures is quantised, the others are decoded from what the encoder says.
        """
        z = self.quant_conv(self.encoder(images))
        quantised, commitment, index = self.quantize(z)
        chosen = torch.rand(len(z), 1, 1, 1, device=z.device) < share
        latent = torch.where(chosen, quantised.to(z.dtype), z)
        return self.decoder(self.post_quant_conv(latent)), commitment * share, index


def gradients(images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Differences between neighbouring pixels, down and across."""
    return images[:, :, 1:] - images[:, :, :-1], images[:, :, :, 1:] - images[:, :, :, :-1]


def reconstruction_loss(
    images: torch.Tensor, output: torch.Tensor, weights: torch.Tensor | float = 1.0
) -> torch.Tensor:
    """L1 + L2 + L1 of the image gradients at two scales + L1 of 8-pixel means, all for images in [-1, 1].

    The means weigh double: they are the colours of large areas, which the network finds hard (see DDCONFIG). `weights`
    (N, 1, h, w) say how much each pixel counts.
    """
    difference = (output - images) * weights
    loss = difference.abs().mean() + (difference * (output - images)).mean()
    loss = loss + 2 * functional.avg_pool2d(difference, 8).abs().mean()
    for scale in (1, 2):
        down, across = gradients(functional.avg_pool2d(difference, scale) if scale > 1 else difference)
        loss = loss + down.abs().mean() + across.abs().mean()
    return loss


@torch.no_grad()
def evaluate(model: Model, images: torch.Tensor) -> tuple[float, int, torch.Tensor]:
    """PSNR in dB (of pictures in [0, 1]), number of codes used, and the reconstructions in [0, 1]."""
    outputs, indices = [], []
    for part in (images * 2 - 1).split(32):
        with training.autocast(part.device):
            output, _, index = model(part)
        outputs.append(output.float().clamp(-1, 1) / 2 + 0.5)
        indices.append(index)
    result = torch.cat(outputs)
    psnr = -10 * (result - images).square().mean((1, 2, 3)).log10().mean()
    return float(psnr), len(torch.cat(indices).unique()), result


def side_by_side(images: torch.Tensor, outputs: torch.Tensor, count: int = 32) -> Image.Image:
    """Pictures and their reconstructions below them, 8 a row."""
    rows = []
    for start in range(0, min(count, len(images)), 8):
        for part in (images, outputs):
            rows.append(torch.cat(list(part[start : start + 8]), dim=2))
    return Image.fromarray((torch.cat(rows, 1).permute(1, 2, 0).cpu().numpy() * 255).astype(np.uint8))


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Trains until --steps or --minutes are done."""
    pictures, scenes = training.load_several(options.data)
    held = training.to_images(pictures[np.arange(len(pictures) - 256, len(pictures))], device)
    model = Model(options.codes).to(device, memory_format=torch.channels_last)
    start = training.load_start(options.start, WEIGHTS, device) if options.start else None
    if start:
        model.load_state_dict(with_codes(start, options.codes))
    if options.decoder:
        model.keep_codes()
    perceptual = Perceptual(options.perceptual).to(device) if options.perceptual else None
    average = training.Average(model, 0.995, present="quantize.")
    optimiser = torch.optim.AdamW(
        [p for p in model.parameters() if p.requires_grad], lr=0.0, betas=(0.9, 0.98), weight_decay=1e-4
    )
    step, spent = 0, 0.0
    state = training.load_checkpoint(options.out / "last.pt", device)
    if state:
        step, spent = state["step"], state["seconds"]
        model.load_state_dict(state["model"])
        average.values = state["average"]
        optimiser.load_state_dict(state["optimiser"])
    clock = training.Clock(options.steps, options.minutes, spent)

    def save() -> None:
        training.save_checkpoint(
            options.out / "last.pt",
            step=step,
            seconds=clock.seconds(),
            model=model.state_dict(),
            average=average.values,
            optimiser=optimiser.state_dict(),
        )
        report(average.values, held, options.out)

    def batch(step: int) -> tuple[torch.Tensor, torch.Tensor, bool]:
        """Pictures uint8, how much their pixels count, and whether they are mirrored."""
        numbers = np.random.default_rng([options.seed, step])
        chosen = np.sort(numbers.integers(0, len(pictures) - 256, options.batch))
        crop = options.crop if clock.progress(step) < CROPS_UNTIL else None
        shown = [scenes[index] for index in chosen]
        cut, weights = cut_out(pictures[chosen], shown, crop, options.things, numbers)
        return torch.from_numpy(cut), weights, bool(numbers.random() < 0.5)

    saves = training.Saves(200)
    made = training.batches(batch, step, options.workers)
    while clock.progress(step) < 1:
        cut, weights, mirrored = next(made)
        images = (training.to_images(cut, device) * 2 - 1).contiguous(memory_format=torch.channels_last)
        weights = weights.to(device)
        if mirrored:
            images, weights = images.flip(3), weights.flip(3)
        for group in optimiser.param_groups:
            group["lr"] = training.learning_rate(options.lr, clock.progress(step))
        share = 1.0 if start else min(1.0, clock.progress(step) / QUANTISED_FROM)
        with training.autocast(device):
            output, commitment, _ = model(images, share)
            likeness = perceptual(images / 2 + 0.5, output / 2 + 0.5) if perceptual else 0.0
        loss = reconstruction_loss(images, output.float(), weights) + PERCEPTUAL * likeness
        optimiser.zero_grad(set_to_none=True)
        (loss + COMMITMENT * commitment).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model, step)
        step += 1
        if step % 50 == 0:
            print(
                f"step {step} {clock.seconds():.0f} s loss {loss:.4f} likeness {likeness:.4f} "
                f"commitment {commitment:.4f}",
                flush=True,
            )
        if saves.due(step):
            save()
    save()


def report(values: dict[str, torch.Tensor], held: torch.Tensor, out: Path) -> None:
    """Prints figures on scenes that were not trained on, and writes reconstructions.png."""
    codes = len(values["quantize.embedding.weight"])
    model = Model(codes).to(held.device)
    model.load_state_dict(values)
    psnr, used, outputs = evaluate(model.eval(), held)
    side_by_side(held, outputs).save(out / "reconstructions.png")
    print(f"{len(held)} unseen scenes: PSNR {psnr:.2f} dB, {used} of {codes} codes used", flush=True)


def rescale(weights: dict[str, torch.Tensor], deviation: float = 0.5) -> dict[str, torch.Tensor]:
    """The same network with codes of about this standard deviation, which is what learning rates of guided
    optimisation expect. The factor is a power of two, so that nothing is rounded; nearest codes stay nearest."""
    codes = weights["quantize.embedding.weight"]
    factor = 2.0 ** round(math.log2(float(codes.std(0).mean()) / deviation))
    changed = {name: weights[name] / factor for name in ("quant_conv.weight", "quant_conv.bias")}
    changed["quantize.embedding.weight"] = codes / factor
    changed["post_quant_conv.weight"] = weights["post_quant_conv.weight"] * factor
    return {**weights, **changed}


def export(out: Path, folder: Path) -> None:
    """Writes vqgan.safetensors (taming's VQModel keys, half precision) and vqgan.yaml (CompVis form)."""
    state = training.load_checkpoint(out / "last.pt", torch.device("cpu"))
    if state is None:
        raise SystemExit(f"nothing trained in {out}")
    folder.mkdir(parents=True, exist_ok=True)
    kept = {k: v for k, v in state["average"].items() if k not in ("quantize.uses", "quantize.sums")}
    training.export_weights(folder / WEIGHTS, rescale(kept))
    params = {"embed_dim": EMBED_DIM, "n_embed": len(kept["quantize.embedding.weight"]), "ddconfig": DDCONFIG}
    config = {"model": {"target": "taming.models.vqgan.VQModel", "params": params}}
    text = yaml.safe_dump(config, sort_keys=False)
    training.write_beside(folder / "vqgan.yaml", lambda beside: beside.write_text(text))
    print(f"exported step {state['step']} to {folder}")


@torch.no_grad()
def evaluate_exported(folder: Path, device: torch.device) -> None:
    """Prints figures of exported weights on scenes drawn from the held-out lists, with the judge beside them."""
    weights = load_file(folder / WEIGHTS)
    codes = len(weights["quantize.embedding.weight"])
    model = Model(codes).to(device).eval()
    perceptual = Perceptual(folder / "judge").to(device)
    model.load_state_dict({**model.state_dict(), **weights})
    for kind in ("single", "composed"):
        images = training.to_images(draw_scenes.heldout_pictures(kind, seed=0), device)
        psnr, used, outputs = evaluate(model, images)
        distance, others = (float(perceptual(images, each)) for each in (outputs, images.roll(1, 0)))
        print(
            f"held-out {kind}: {len(images)} scenes, PSNR {psnr:.2f} dB, {used} of {codes} codes used, "
            f"perceptual distance {distance:.4f} (to another scene {others:.4f})"
        )


def main() -> None:
    """Trains, or exports what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", help="folders written by draw_scenes.py --data")
    parser.add_argument("--perceptual", type=Path, help="compare by the features of the CLIP in this folder too")
    parser.add_argument("--out", type=Path, default=Path("training/vqgan"), help="checkpoints and pictures go here")
    parser.add_argument("--start", type=Path, help="go on from this training's --out, or exported weights")
    parser.add_argument(
        "--codes", type=int, default=N_EMBED, help="codes of the book; more than --start has are made of it"
    )
    parser.add_argument("--steps", type=int, default=5000)
    parser.add_argument("--minutes", type=float, help="train for this long instead of --steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--crop", type=int, help="pixels of the parts around things, of calm scenes, that are shown")
    parser.add_argument("--things", type=float, default=1.0, help="how many times a calm scene's things count more")
    parser.add_argument("--decoder", action="store_true", help="train the decoder alone; the codes stay --start's")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches ahead, for a GPU")
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
    options.out.mkdir(parents=True, exist_ok=True)
    train(options, torch.device(options.device))


if __name__ == "__main__":
    main()
