"""Times a step of the optimisation, against the way the older tools did it.

    python scripts/measure/benchmark.py                                  # 256 x 256, 32 cutouts: reference, fp32, bf16
    python scripts/measure/benchmark.py --size 512 --modes reference bf16 bf16-light
    python scripts/measure/benchmark.py --cutouts 8 --pictures 4 --modes bf16
    python scripts/measure/benchmark.py --networks embedded --size 128 --cutouts 8
    python scripts/measure/benchmark.py --profile
    python scripts/measure/benchmark.py --pyramid "[[0.5, 0.75, 0.3], [1, 0.25]]" --modes fp32 --repeats 1

The networks have the published sizes and random weights, as speed does not depend on them: the decoder of the f16 VQGAN
with 16,384 codes, and the image tower of ViT-B/32; or they are the embedded ones. The modes take turns, one process
each, so that a busy machine slows all of them. They are:

reference   the older tools' mathematics as they ran it: fp32, taming's and open_clip's modules as they are, a one-hot
            matrix product for the codes, every cutout pooled for itself, then a chain of augmentations in full passes
plain       vqclip with runtime.accelerate=false
fp32, bf16  vqclip; fp32-light, bf16-light with runtime.low_memory=true

With --pyramid it tells instead what share of the same steps at full size a run in these stages (`optimise.pyramid`)
takes: by the arithmetic counted, which is exact, and by the processor's time, whatever else the machine does.

The last line is JSON.
"""

import argparse
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vqclip.common.allocator import keep_freed_memory, worth_keeping
from vqclip.common.rates import matmul_rate, timed
from vqclip.common.runtime import PRECISIONS, Generators
from vqclip.config.loader import load_config
from vqclip.guidance.losses import spherical_distance
from vqclip.guidance.objective import Guide, Objective, Targets
from vqclip.guidance.recipes import RECIPES
from vqclip.hub.clip_files import find_clip
from vqclip.hub.vqgan_catalogue import VQGANS
from vqclip.hub.vqgan_files import find_vqgan
from vqclip.models.fused_vit import fuse_vit
from vqclip.models.fused_vqgan import fuse_vqgan
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.models.renderer import Renderer
from vqclip.models.vqgan import VQGAN, clamp_with_grad, load_vqgan
from vqclip.optimisation.descent import Descent
from vqclip.optimisation.loop import optimise
from vqclip.optimisation.optimisers import SCHEDULES, Ema, make_optimiser
from vqclip.optimisation.space import latent_space

F16 = VQGANS["imagenet-16384"].architecture
TOWER = "ViT-B-32-quickgelu"
RATE = 0.1
LIGHT = "-light"


@dataclass(frozen=True)
class Workload:
    """Pictures of `size` x `size` pixels, `pictures` at once, scored through `cutouts` views each."""

    size: int
    cutouts: int
    pictures: int


def published_sizes(device: torch.device, precision: str) -> tuple[VQGAN, Perceptor]:
    """Networks of the published sizes, with random weights."""
    model = open_clip.create_model(TOWER, pretrained=None, device=device)
    return VQGAN(F16).to(device), Perceptor(TOWER, model, None, precision)


def embedded(device: torch.device, precision: str) -> tuple[VQGAN, Perceptor]:
    """The networks that come with vqclip."""
    config = load_config([], [], {})
    vqgan = load_vqgan(find_vqgan(config.vqgan).path).to(device)
    return vqgan, load_perceptor(find_clip(config.guides[0].name), device, precision)


NETWORKS = {"published": published_sizes, "embedded": embedded}


class Reference:
    """One step as nerdyrodent/VQGAN-CLIP and its relatives make it, from a latent (N, C, h, w) towards (1, D)."""

    def __init__(self, latent: Tensor, vqgan: VQGAN, tower: Perceptor, target: Tensor, cutouts: int) -> None:
        self.vqgan, self.tower, self.target, self.cutouts = vqgan, tower, target, cutouts
        self.latent = latent.clone().requires_grad_()
        self.optimiser = torch.optim.Adam([self.latent], RATE)

    def step(self) -> None:
        """Decode, cut, score, update."""
        self.optimiser.zero_grad(set_to_none=True)
        for image in self.render().split(1):
            distance = spherical_distance(self.tower.encode_image(self._cutouts(image)), self.target)
            distance.mean().backward(retain_graph=True)
        self.optimiser.step()
        with torch.no_grad():
            self.latent.clamp_(*self.vqgan.bounds)

    def render(self) -> Tensor:
        """The pictures (N, 3, H, W) as they stand."""
        return clamp_with_grad(self.vqgan.decode(self._quantise(self.latent)))

    def _quantise(self, latent: Tensor) -> Tensor:
        x, book = latent.movedim(1, 3), self.vqgan.codebook
        distances = x.pow(2).sum(-1, keepdim=True) + book.pow(2).sum(1) - 2 * x @ book.T
        one_hot = F.one_hot(distances.argmin(-1), len(book)).to(book.dtype)
        return (one_hot @ book + (x - x.detach())).movedim(3, 1)

    def _cutouts(self, image: Tensor) -> Tensor:
        size, device = self.tower.size, image.device
        pooled = [
            (F.adaptive_avg_pool2d(image, size) + F.adaptive_max_pool2d(image, size)) / 2 for _ in range(self.cutouts)
        ]
        views = torch.cat(pooled)
        for turned in (0.3, 0.7):  # an affine and a perspective warp, each with an interpolation of its own
            places = torch.eye(2, 3, device=device) + turned * 0.1 * torch.randn(len(views), 2, 3, device=device)
            views = F.grid_sample(views, F.affine_grid(places, list(views.shape), False), align_corners=False)
        for _ in range(2):  # colour jitter, as matrices: no dearer than the older tools' colour spaces
            mixed = torch.eye(3, device=device) + 0.1 * torch.randn(3, 3, device=device)
            views = torch.einsum("oc,nchw->nohw", mixed, views).clamp(0, 1)
        views = views * (torch.rand(len(views), 1, size, size, device=device) > 0.1)
        return views + torch.rand(len(views), 1, 1, 1, device=device) * 0.1 * torch.randn_like(views)


def random_latent(work: Workload, vqgan: VQGAN) -> Tensor:
    """The latent (N, C, h, w) of random codes."""
    side = work.size // vqgan.factor
    codes = torch.randint(len(vqgan.codebook), (work.pictures, side, side), device=vqgan.codebook.device)
    return vqgan.lookup(codes)


def make_ours(work: Workload, vqgan: VQGAN, tower: Perceptor, target: Tensor, light: bool) -> Descent:
    """What `pipeline.assemble` makes, from random codes."""
    device = vqgan.codebook.device
    streams = Generators.from_seeds(range(work.pictures), device)
    latent = random_latent(work, vqgan).clone()
    targets = Targets(
        target.expand(work.pictures, -1),
        torch.ones(work.pictures, device=device),
        torch.full((work.pictures,), -torch.inf, device=device),
        torch.arange(work.pictures, device=device),
    )
    objective = Objective(
        guides=[Guide(tower.encode_image, tower.size, targets)],
        recipe=RECIPES["nerdyrodent"],
        cutouts=work.cutouts,
        micro_batch=4 if light else None,
        crop_rngs=streams.cutouts,
        noise_rngs=streams.noise,
        losses={},
        init=None,
    )
    latent.requires_grad_()
    return Descent(
        latent=latent,
        render=Renderer(vqgan, device, tower.precision, light),
        objective=objective,
        make_optimiser=lambda leaf: make_optimiser("adam", leaf, RATE),
        lr=RATE,
        schedule=SCHEDULES["constant"],
        average=Ema(0.0),
        space=latent_space(vqgan)[0],
        streams=streams,
    )


def load(mode: str, networks: str, device: torch.device) -> tuple[VQGAN, Perceptor]:
    """The networks as this mode has them."""
    torch.manual_seed(0)
    name = mode.removesuffix(LIGHT)
    precision = name if name in PRECISIONS else "fp32"
    if name in PRECISIONS and worth_keeping(precision, mode.endswith(LIGHT)):
        keep_freed_memory()
    vqgan, tower = NETWORKS[networks](device, precision)
    vqgan.encoder = nn.Identity()  # no step needs it
    tower.drop_text_tower()
    if name in PRECISIONS:
        fuse_vqgan(vqgan)
        fuse_vit(tower.model.visual, PRECISIONS[precision])
    return vqgan, tower


def build(
    mode: str, vqgan: VQGAN, tower: Perceptor, work: Workload, device: torch.device
) -> tuple[Callable[[], object], dict[str, Callable[[], object]]]:
    """Return what makes one step in this mode, and its stages for --profile."""
    views = torch.rand(work.cutouts * work.pictures, 3, tower.size, tower.size, device=device)
    target = F.normalize(torch.randn_like(tower.encode_image(views[:1]).detach()), dim=-1)
    if mode == "reference":
        return Reference(random_latent(work, vqgan), vqgan, tower, target, work.cutouts).step, {}
    descent = make_ours(work, vqgan, tower, target, mode.endswith(LIGHT))
    images = torch.rand(work.pictures, 3, work.size, work.size, device=device)

    def backward(call: Callable[[Tensor], Tensor], at: Tensor) -> None:
        leaf = at.detach().requires_grad_()
        call(leaf).sum().backward()

    stages: dict[str, Callable[[], object]] = {
        "quantise": lambda: vqgan.codes(descent.latent),
        "decoder, both ways": lambda: backward(descent.render, descent.latent),
        "cutouts and perceptor, both ways": lambda: descent.objective(images.detach().requires_grad_(), descent.latent),
        "perceptor, both ways": lambda: backward(tower.encode_image, views),
    }
    return lambda: next(optimise(descent, 10**6)), stages


def serve(mode: str, networks: str, work: Workload, device: torch.device, profile: bool) -> None:
    """A process of one mode: it answers each line on its input with the seconds of a step."""
    step, stages = build(mode, *load(mode, networks, device), work, device)
    for _ in range(2):
        step()
    facts: dict[str, object] = {"memory": peak_memory(device)}
    with FlopCounterMode(display=False) as counter:  # a step that is counted keeps more than others
        step()
    facts["flops"] = counter.get_total_flops()
    facts["rate"] = matmul_rate(torch.bfloat16 if mode.startswith("bf16") else torch.float32, device)
    if profile:
        facts["stages"] = {name: min(timed(stage, device) for _ in range(3)) for name, stage in stages.items()}
    print(json.dumps(facts), flush=True)
    for _ in sys.stdin:
        print(timed(step, device), flush=True)


def share_of_full_size(options: argparse.Namespace, device: torch.device) -> None:
    """Print what the stages of a pyramid take of the same number of steps at full size."""
    mode, pyramid = options.modes[0], json.loads(options.pyramid)
    networks = load(mode, options.networks, device)

    def cost(side: float, views: float) -> tuple[float, float]:
        """The floating-point operations and the processor's seconds of a step."""
        cutouts = max(1, round(views * options.cutouts))
        step, _ = build(mode, *networks, Workload(round(side * options.size), cutouts, options.pictures), device)
        with FlopCounterMode(display=False) as counter:
            step()
        seconds = []
        for _ in range(options.repeats):
            began = time.process_time()
            timed(step, device)
            seconds.append(time.process_time() - began)
        return counter.get_total_flops(), min(seconds)

    whole, rows = cost(1, 1), []
    for side, steps, *views in pyramid:
        flops, seconds = cost(side, views[0] if views else 1)
        row = {"side": side, "steps": steps, "flops": flops / whole[0], "seconds": seconds / whole[1]}
        rows.append(row)
        print(f"{side:g} of the side, {steps:.0%} of the steps: {row['flops']:.0%} and {row['seconds']:.0%} of a step")
    shares = {kind: sum(row["steps"] * row[kind] for row in rows) for kind in ("flops", "seconds")}
    print(f"the whole run: {shares['flops']:.0%} of the arithmetic, {shares['seconds']:.0%} of the processor's time")
    print(json.dumps({"pyramid": pyramid, "mode": mode, "step": whole[1], "stages": rows, **shares}))


def peak_memory(device: torch.device) -> int:
    """The most bytes that this process has had on the device at a time."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


class Server:
    """A process of its own that takes the steps of one mode."""

    def __init__(self, mode: str, options: argparse.Namespace) -> None:
        command = [sys.executable, __file__, "--serve", mode, "--networks", options.networks]
        command += ["--size", str(options.size)]
        command += ["--cutouts", str(options.cutouts), "--pictures", str(options.pictures), "--device", options.device]
        command += ["--profile"] * options.profile
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin and self.process.stdout
        self.stdin, self.stdout = self.process.stdin, self.process.stdout

    def line(self) -> str:
        """Waits for what it prints next."""
        return self.stdout.readline()

    def step(self) -> float:
        """Lets it take a step; returns the seconds of that."""
        self.stdin.write("\n")
        self.stdin.flush()
        return float(self.line())

    def end(self) -> None:
        """Waits until it has ended."""
        self.stdin.close()
        self.process.wait()


def compare(options: argparse.Namespace) -> None:
    """Let the modes take turns, and print the table and the JSON."""
    servers: dict[str, Server] = {}
    facts: dict[str, Any] = {}
    answers: dict[str, list[float]] = {mode: [] for mode in options.modes}
    for mode in options.modes:
        servers[mode] = Server(mode, options)
        facts[mode] = json.loads(servers[mode].line())
    load = os.getloadavg()[0]
    for _ in range(options.repeats):
        for mode, server in servers.items():
            answers[mode].append(server.step())
    rows = {}
    for mode, server in servers.items():
        server.end()
        seconds = answers[mode]
        median = statistics.median(seconds)
        rows[mode] = {
            "median": median,
            "least": min(seconds),
            "most": max(seconds),
            "times": statistics.median(a / s for a, s in zip(answers[options.modes[0]], seconds, strict=True)),
            "pictures_an_hour": 3600 * options.pictures / (500 * median),
            "share_of_matmul": facts[mode]["flops"] / median / facts[mode]["rate"],
            **facts[mode],
        }
    work = (
        f"{options.networks} networks, {options.pictures} x {options.size} x {options.size}, {options.cutouts} cutouts"
    )
    print(f"{work}; load before: {load:.1f}; torch {torch.__version__}, {torch.get_num_threads()} threads")
    print(f"{'mode':12} {'s a step':>9} {'spread':>13} {'x':>6} {'an hour':>8} {'GB':>5} {'TFLOP':>6} {'of matmul':>9}")
    for mode, row in rows.items():
        spread = f"{row['least']:.3g}-{row['most']:.3g}"
        print(
            f"{mode:12} {row['median']:9.3g} {spread:>13} {row['times']:6.2f} {row['pictures_an_hour']:8.1f} "
            f"{row['memory'] / 1e9:5.1f} {row['flops'] / 1e12:6.3g} {row['share_of_matmul']:9.0%}"
        )
        for stage, seconds in row.get("stages", {}).items():
            print(f"    {stage:40} {1000 * seconds:8.0f} ms")
    machine = {"processor": platform.machine(), "threads": torch.get_num_threads(), "load": load}
    print(json.dumps({"workload": work, "torch": torch.__version__, "machine": machine, "modes": rows}))


def main() -> None:
    """Compares, or serves one mode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", choices=NETWORKS, default="published")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--cutouts", type=int, default=32)
    parser.add_argument("--pictures", type=int, default=1)
    parser.add_argument("--modes", nargs="+", default=["reference", "plain", "fp32", "bf16"])
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--profile", action="store_true", help="show the stages of a step")
    parser.add_argument("--pyramid", metavar="STAGES", help="compare a run in stages with one at full size")
    parser.add_argument("--serve", metavar="MODE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        work = Workload(options.size, options.cutouts, options.pictures)
        serve(options.serve, options.networks, work, torch.device(options.device), options.profile)
    elif options.pyramid:
        share_of_full_size(options, torch.device(options.device))
    else:
        compare(options)


if __name__ == "__main__":
    main()
