"""Trains the embedded upscaler: what the VQGAN made of a drawn scene of 128 pixels ─▶ the scene drawn at 256.

    python scripts/data/draw_scenes.py --count 2400 --calm --scale 2 --hand noto --data training/large
    python scripts/train/upscaler.py --data training/large --out training/upscaler --steps 2000
    python scripts/train/upscaler.py --out training/upscaler --export checkpoints/embedded
    python scripts/train/upscaler.py --evaluate checkpoints/embedded  # on the held-out scenes

The pictures are crops around the things: ground is learned in the first minutes. One crop in ten is of the scene itself
made smaller, so that pictures which are crisp already stay so. The loss is L1 of pixels and their gradients, L1 of how
steep the gradients are in each neighbourhood (an edge somewhere there is better than a blur everywhere), what goes
beyond the colours that the small picture has around a place (lines that are made up), the distance by a CLIP's features
(the guide's, so that the judge stays apart), and in the last part of the training a patch discriminator's word (Isola
et al. 2016, arXiv 1611.07004), which sees the small picture beside the large one.
Started again with the same --out it goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes
from scripts.data.scenes import Scene
from scripts.measure.sharpness import band_energies
from scripts.train import training
from scripts.train.crops import crop_corner
from scripts.train.perceptual import Perceptual
from scripts.train.vqgan import gradients, side_by_side
from vqclip.models.enlarge import FINISH, Network, load_network
from vqclip.models.upscaler import Upscaler, UpscalerSizes
from vqclip.models.vqgan import VQGAN, load_vqgan

SIZES = UpscalerSizes(features=32, depth=12, scale=2)
WEIGHTS = "upscaler.safetensors"
CROP = 48  # pixels of the small picture; the CLIP that compares sees twice as many
HELD = 64  # of the last scenes, for the figures while training
CRISP = 0.1  # share of crops whose small picture is the scene itself
GRADIENTS, STEEPNESS, OVERSHOOT, PERCEPTUAL, ADVERSARIAL = 1.0, 1.0, 4.0, 0.5, 0.05  # weights beside L1
NEIGHBOURHOOD = 6  # pixels of the large picture's side in which an edge may be moved


class Critic(nn.Module):
    """Which patches of a large picture are drawn: (N, 3, 2h, 2w) and its small picture (N, 3, h, w) ─▶ (N, 1, ., .)."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        sizes = (6, width, 2 * width, 2 * width)
        layers: list[nn.Module] = []
        for before, after, stride in zip(sizes, sizes[1:], (2, 2, 1), strict=False):
            layers += [spectral_norm(nn.Conv2d(before, after, 4, stride, 1)), nn.LeakyReLU(0.2)]
        self.layers = nn.Sequential(*layers, spectral_norm(nn.Conv2d(sizes[-1], 1, 4, 1, 1)))

    def forward(self, large: Tensor, small: Tensor) -> Tensor:
        """Both in [0, 1]; high where a patch looks drawn."""
        return self.layers(torch.cat([large, functional.interpolate(small, scale_factor=2.0)], 1) * 2 - 1)


@torch.no_grad()
def through_codes(vqgan: VQGAN, large: Tensor) -> Tensor:
    """What the VQGAN makes of pictures (N, 3, 2h, 2w) in [0, 1] at half their size: (N, 3, h, w) in [0, 1]."""
    small = functional.avg_pool2d(large, 2)
    return vqgan.decode(vqgan.lookup(vqgan.codes(vqgan.encode(small)))).clamp(0, 1)


def decoded(pictures: training.Joined, vqgan: VQGAN, file: Path, device: torch.device) -> np.ndarray:
    """The small pictures of all scenes, (n, h, w, 3) uint8, kept in `file`."""
    if not file.is_file():
        side = pictures.parts[0].shape[1] // 2
        beside = file.with_name(file.name + ".part")
        small = np.lib.format.open_memmap(beside, mode="w+", dtype=np.uint8, shape=(len(pictures), side, side, 3))
        for part in np.array_split(np.arange(len(pictures)), max(1, len(pictures) // 8)):
            found = through_codes(vqgan, training.to_images(pictures[part], device))
            small[part] = (found * 255).round().byte().permute(0, 2, 3, 1).cpu().numpy()
        small.flush()
        beside.replace(file)
    return np.load(file, mmap_mode="r")


class Pairs:
    """Crops of scenes: what the VQGAN made of them, and how they were drawn at twice the size."""

    def __init__(self, pictures: training.Joined, scenes: list[Scene], small: np.ndarray) -> None:
        self.pictures, self.scenes, self.small = pictures, scenes, small

    def batch(self, count: int, numbers: np.random.Generator) -> tuple[Tensor, Tensor]:
        """(N, 3, CROP, CROP) and (N, 3, 2 CROP, 2 CROP), both in [0, 1]."""
        pairs = [self._pair(int(n), numbers) for n in numbers.integers(0, len(self.scenes) - HELD, count)]
        crops = (np.stack(part) for part in zip(*pairs, strict=True))
        small, large = (torch.from_numpy(part).permute(0, 3, 1, 2).float() / 255 for part in crops)
        crisp = torch.from_numpy(numbers.random(count) < CRISP)[:, None, None, None]
        return torch.where(crisp, functional.avg_pool2d(large, 2), small), large

    def _pair(self, index: int, numbers: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        top, left = crop_corner(self.scenes[index], self.small.shape[1], CROP, numbers)
        small = self.small[index, top : top + CROP, left : left + CROP]
        large = self.pictures[np.array([index])][0][2 * top : 2 * (top + CROP), 2 * left : 2 * (left + CROP)]
        step = 1 if numbers.random() < 0.5 else -1
        return small[:, ::step], large[:, ::step]

    def held(self) -> tuple[Tensor, Tensor]:
        """The last scenes whole, which training never shows."""
        last = np.arange(len(self.scenes) - HELD, len(self.scenes))
        small, large = (training.to_images(part[last], torch.device("cpu")) for part in (self.small, self.pictures))
        return small, large


def steepness(images: Tensor) -> Tensor:
    """Root mean square of the gradients around each place, (N, 3, h - NEIGHBOURHOOD, w - NEIGHBOURHOOD)."""
    down, across = gradients(images)
    squares = down[..., :-1].square() + across[:, :, :-1].square()
    return (functional.avg_pool2d(squares, NEIGHBOURHOOD, 1) + 1e-6).sqrt()


def fitting_loss(output: Tensor, large: Tensor) -> Tensor:
    """L1 of pixels, of their differences down and across, and of the gradients' steepness."""
    loss = (output - large).abs().mean()
    loss = loss + GRADIENTS * sum(part.abs().mean() for part in gradients(output - large))
    return loss + STEEPNESS * (steepness(output) - steepness(large)).abs().mean()


def overshoot(output: Tensor, small: Tensor, slack: float = 0.04) -> Tensor:
    """How far colours leave what the small picture has within two pixels, by more than `slack`: lines made up."""
    highest = functional.max_pool2d(small, 5, 1, 2)
    lowest = -functional.max_pool2d(-small, 5, 1, 2)
    above, below = (functional.interpolate(part, scale_factor=2.0) for part in (highest, lowest))
    return (functional.relu(output - above - slack) + functional.relu(below - output - slack)).mean()


def fresh(sizes: UpscalerSizes = SIZES) -> Upscaler:
    """An untrained network that repeats pixels: what it adds begins at nearly nothing."""
    model = Upscaler(sizes)
    for layer in model.body[:-1]:
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, a=0.25)
            nn.init.zeros_(layer.bias)
    nn.init.normal_(model.body[-1].weight, std=1e-3)
    nn.init.zeros_(model.body[-1].bias)
    return model


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Trains until --steps or --minutes are done."""
    pictures, scenes = training.load_several(options.data)
    vqgan = load_vqgan(options.models / "vqgan.safetensors").to(device)
    pairs = Pairs(pictures, scenes, decoded(pictures, vqgan, options.out / "decoded.npy", device))
    held = tuple(part.to(device) for part in pairs.held())
    model, critic = (net.to(device, memory_format=torch.channels_last) for net in (fresh(), Critic()))
    perceptual = Perceptual(options.models / "clip").to(device)
    optimiser = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.99), weight_decay=0.0)
    judging = torch.optim.AdamW(critic.parameters(), lr=0.0, betas=(0.5, 0.9), weight_decay=0.0)
    state = training.load_checkpoint(options.out / "last.pt", device)
    if state is None and options.start:
        model.load_state_dict(training.load_start(options.start, WEIGHTS, device))
    average = training.Average(model, 0.995)
    step, spent = 0, 0.0
    if state:
        step, spent, average.values = state["step"], state["seconds"], state["average"]
        for part, name in ((model, "model"), (critic, "critic"), (optimiser, "optimiser"), (judging, "judging")):
            part.load_state_dict(state[name])
    clock = training.Clock(options.steps, options.minutes, spent)

    def save() -> None:
        training.save_checkpoint(
            options.out / "last.pt",
            step=step,
            seconds=clock.seconds(),
            model=model.state_dict(),
            average=average.values,
            critic=critic.state_dict(),
            optimiser=optimiser.state_dict(),
            judging=judging.state_dict(),
        )
        report(average.values, held, options.out)

    while clock.progress(step) < 1:
        numbers = np.random.default_rng([options.seed, step])
        small, large = (
            part.to(device, memory_format=torch.channels_last) for part in pairs.batch(options.batch, numbers)
        )
        for group in (*optimiser.param_groups, *judging.param_groups):
            group["lr"] = training.learning_rate(options.lr, clock.progress(step))
        with training.autocast(device):
            output = model(small).float()
            seen = perceptual(large, output.clamp(0, 1))
        loss = fitting_loss(output, large) + OVERSHOOT * overshoot(output, small) + PERCEPTUAL * seen
        hinge = torch.zeros(())
        if clock.progress(step) > options.critic_from:
            hinge = learn_to_tell(critic, judging, small, large, output.detach())
            loss = loss - ADVERSARIAL * critic(output, small).mean()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        average.update(model, step)
        step += 1
        if step % 20 == 0:
            print(
                f"step {step} {clock.seconds():.0f} s loss {loss:.4f} seen {seen:.4f} hinge {hinge:.3f}",
                flush=True,
            )
        if step % 200 == 0:
            save()
    save()


def learn_to_tell(
    critic: Critic, optimiser: torch.optim.Optimizer, small: Tensor, large: Tensor, output: Tensor
) -> Tensor:
    """One step of the discriminator; returns its hinge loss, 1 where it cannot tell."""
    real, made = critic(large, small), critic(output, small)
    loss = (functional.relu(1 - real).mean() + functional.relu(1 + made).mean()) / 2
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    optimiser.step()
    return loss.detach()


def figures(model: Network, small: Tensor, large: Tensor) -> tuple[str, Tensor]:
    """PSNR and sharpness by bands beside bicubic enlargement's, and the pictures."""
    with torch.no_grad():
        made = torch.cat([model(part).clamp(0, 1) for part in small.split(8)])
    plain = functional.interpolate(small, scale_factor=2, mode="bicubic").clamp(0, 1)
    lines, drawn = [], band_energies(large)
    for name, pictures in (("bicubic", plain), ("upscaler", made)):
        psnr = float(-10 * (pictures - large).square().mean((1, 2, 3)).log10().mean())
        bands = " ".join(f"{float(share):.2f}" for share in band_energies(pictures) / drawn)
        lines.append(f"{name} {psnr:.2f} dB, sharpness {bands}")
    return "; ".join(lines), made


def report(values: dict[str, Tensor], held: tuple[Tensor, Tensor], out: Path) -> None:
    """Prints figures on scenes that were not trained on, and writes enlarged.png: small, made, drawn."""
    model = Upscaler(SIZES).to(held[0].device)
    model.load_state_dict(values)
    text, made = figures(model.eval(), *held)
    side_by_side(made, held[1], 32).save(out / "enlarged.png")
    print(f"{len(made)} unseen scenes: {text}", flush=True)


def export(out: Path, folder: Path) -> None:
    """Writes upscaler.safetensors, in half precision, with a header that says what it is."""
    state = training.load_checkpoint(out / "last.pt", torch.device("cpu"))
    if state is None:
        raise SystemExit(f"nothing trained in {out}")
    notes = {"architecture": "SRVGGNetCompact", "scale": str(SIZES.scale), "step": str(state["step"])}
    notes[FINISH] = "shock filter"
    folder.mkdir(parents=True, exist_ok=True)
    training.export_weights(folder / WEIGHTS, state["average"], notes)
    print(f"exported step {state['step']} to {folder}")


def evaluate_exported(folder: Path, hand: str) -> None:
    """Prints figures of exported weights on scenes drawn from the held-out lists."""
    model = load_network(folder / WEIGHTS, torch.device("cpu"))
    vqgan = load_vqgan(folder / "vqgan.safetensors")
    for kind in ("single", "composed"):
        drawn = draw_scenes.heldout_pictures(kind, 0, draw_scenes.Canvas(SIZES.scale, hand))
        large = training.to_images(drawn, torch.device("cpu"))
        small = torch.cat([through_codes(vqgan, part) for part in large.split(8)])
        print(f"held-out {kind}: {len(large)} scenes, {figures(model, small, large)[0]}")


def main() -> None:
    """Trains, exports what was trained, or measures it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", help="folders of calm scenes, draw_scenes.py --scale 2 --data")
    parser.add_argument("--models", type=Path, default=Path("checkpoints/embedded"), help="the VQGAN and the CLIP")
    parser.add_argument("--out", type=Path, default=Path("training/upscaler"), help="checkpoints and pictures go here")
    parser.add_argument("--start", type=Path, help="go on from this training's --out, or exported weights")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, help="train for this long instead of --steps")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument(
        "--critic-from", type=float, default=0.5, help="the part of the training after which the discriminator counts"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the weights into DIR and stop")
    parser.add_argument("--evaluate", type=Path, metavar="DIR", help="measure the weights in DIR and stop")
    parser.add_argument("--hand", default="noto", help="who draws what --evaluate measures on")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if options.evaluate:
        evaluate_exported(options.evaluate, options.hand)
        return
    if options.export:
        export(options.out, options.export)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    train(options, torch.device(options.device))


if __name__ == "__main__":
    main()
