"""Sharpens the decoder of the embedded VQGAN; encoder and codebook, and so the codes of every picture, stay.

    python scripts/train/sharpen_vqgan.py --data training/data --start training/vqgan --out training/sharp --steps 2000
    python scripts/train/vqgan.py --out training/sharp --export checkpoints/embedded

To the reconstruction loss come a perceptual one, over the tokens of the embedded CLIP's image tower, and the hinge loss
of taming-transformers' patch discriminator with its adaptive weight (Esser et al. 2021, arXiv 2012.09841, equation 7).
A prior that was trained on the codes stays good. Started again with the same --out it goes on where it stopped.
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from taming.modules.discriminator.model import NLayerDiscriminator, weights_init
from torch import nn
from torch.nn import functional

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.train import training
from scripts.train.perceptual import Perceptual
from scripts.train.vqgan import WEIGHTS, Model, reconstruction_loss, report

PERCEPTUAL = 1.0  # weight of the perceptual loss
ADVERSARIAL = 0.3  # of the adversarial one, on top of the adaptive weight
WARMUP = 300  # steps before the adversarial loss counts


def random_crops(parts: list[torch.Tensor], crop: int, numbers: np.random.Generator) -> list[torch.Tensor]:
    """The same `crop` x `crop` window of every tensor (N, 3, h, w), from [-1, 1] to [0, 1]."""
    top, left = (int(numbers.integers(0, side - crop + 1)) for side in parts[0].shape[-2:])
    return [part[..., top : top + crop, left : left + crop] / 2 + 0.5 for part in parts]


def adaptive_weight(reconstruction: torch.Tensor, adversarial: torch.Tensor, last: nn.Parameter) -> torch.Tensor:
    """Ratio of the two losses' gradients at the decoder's last layer (ibid., equation 7), at most 1."""
    by_picture, by_critic = (
        torch.autograd.grad(loss, last, retain_graph=True)[0] for loss in (reconstruction, adversarial)
    )
    return (by_picture.norm() / (by_critic.norm() + 1e-4)).clamp(0, 1).detach()


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Trains decoder and discriminator until --steps or --minutes are done."""
    pictures, _ = training.load_several(options.data)
    held = training.to_images(pictures[np.arange(len(pictures) - 256, len(pictures))], device)
    model = Model().to(device, memory_format=torch.channels_last)
    critic = NLayerDiscriminator(ndf=32).apply(weights_init).to(device, memory_format=torch.channels_last)
    perceptual = Perceptual(options.clip).to(device)
    trained = [*model.decoder.parameters(), *model.post_quant_conv.parameters()]
    optimiser = torch.optim.AdamW(trained, lr=0.0, betas=(0.5, 0.9), weight_decay=1e-4)
    judging = torch.optim.AdamW(critic.parameters(), lr=0.0, betas=(0.5, 0.9))
    state = training.load_checkpoint(options.out / "last.pt", device)
    start = {} if state else training.load_start(options.start, WEIGHTS, device)
    model.load_state_dict(state["model"] if state else {**model.state_dict(), **start})
    average = training.Average(model, 0.995, present="quantize.")
    step, spent = 0, 0.0
    if state:
        step, spent, average.values = state["step"], state["seconds"], state["average"]
        critic.load_state_dict(state["critic"])
        optimiser.load_state_dict(state["optimiser"])
        judging.load_state_dict(state["judging"])
    model.quantize.eval()
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
        images = training.to_images(pictures[numbers.integers(0, len(pictures) - 256, options.batch)], device) * 2 - 1
        images = images.contiguous(memory_format=torch.channels_last)
        for group in (*optimiser.param_groups, *judging.param_groups):
            group["lr"] = training.learning_rate(options.lr, clock.progress(step))
        with training.autocast(device):
            with torch.no_grad():
                codes = model.quantize(model.quant_conv(model.encoder(images)))[0]
            output = model.decoder(model.post_quant_conv(codes.to(images.dtype))).float()
            seen = perceptual(*random_crops([images, output], perceptual.side, numbers))
            verdict = critic(output).float()
        fitting = reconstruction_loss(images, output) + PERCEPTUAL * seen
        fooling = -verdict.mean()
        weight = adaptive_weight(fitting, fooling, model.decoder.conv_out.weight) if step >= WARMUP else 0.0
        optimiser.zero_grad(set_to_none=True)
        (fitting + ADVERSARIAL * weight * fooling).backward()
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimiser.step()
        average.update(model, step)
        with training.autocast(device):
            real, made = critic(images).float(), critic(output.detach()).float()
        hinge = (functional.relu(1 - real).mean() + functional.relu(1 + made).mean()) / 2
        judging.zero_grad(set_to_none=True)
        hinge.backward()
        judging.step()
        step += 1
        if step % 50 == 0:
            print(
                f"step {step} {clock.seconds():.0f} s fit {fitting:.4f} seen {seen:.4f} hinge {hinge:.3f}", flush=True
            )
        if step % 200 == 0:
            save()
    save()


def main() -> None:
    """Trains."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders written by draw_scenes.py --data")
    parser.add_argument(
        "--start",
        type=Path,
        default=Path("checkpoints/embedded"),
        help="the --out of train_vqgan.py, or exported weights",
    )
    parser.add_argument("--clip", type=Path, default=Path("checkpoints/embedded/clip"), help="the CLIP that compares")
    parser.add_argument("--out", type=Path, default=Path("training/sharp"), help="checkpoints and pictures go here")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--minutes", type=float, help="train for this long instead of --steps")
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--lr", type=float, default=3e-4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    options.out.mkdir(parents=True, exist_ok=True)
    train(options, torch.device(options.device))


if __name__ == "__main__":
    main()
