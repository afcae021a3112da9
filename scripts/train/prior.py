"""Trains the embedded prior: a transformer that draws the VQGAN's codes for a caption, on drawn scenes.

    python scripts/data/draw_scenes.py --count 120000 --calm --data training/calm
    python scripts/train/prior.py --data training/calm --models checkpoints/embedded --out training/prior --steps 8000
    python scripts/train/prior.py --out training/prior --export checkpoints/embedded/prior
    python scripts/train/prior.py --models checkpoints/embedded --out training/prior --sheet sheet.png --prompts FILE

The scenes are turned into codes once, by the VQGAN in --models, and kept beside the scenes. One caption in ten is left
out, for classifier-free guidance. Matrices are trained by Muon (Jordan et al. 2024), the rest by AdamW.
Runs on CPU or CUDA, in bf16 where the machine computes in it. Started again with the same --out it goes on where it
stopped.
"""

import argparse
import random
import shutil
import sys
from pathlib import Path

import numpy as np
import open_clip
import torch
from open_clip.tokenizer import SimpleTokenizer
from PIL import Image
from safetensors.torch import save_file
from torch.nn import functional

from vqclip.common.hashes import sha256
from vqclip.models.prior import BLOCK, Prior, PriorSizes, Sampling, save_prior
from vqclip.models.vqgan import VQGAN, load_vqgan

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes
from scripts.data.scene_words import caption
from scripts.train import training

WEIGHTS = "prior.safetensors"
CONTEXT = 32
WIDTH, LAYERS, HEADS = 256, 8, 4
DROPPED = 0.1  # share of captions left out, Ho & Salimans 2022, section 4
WHOLE, HIDDEN = 0.4, 0.3  # shares of the pictures in which all codes are seen, and none
SCORED = 1536  # codebooks larger than this have only a share of their blocks scored in a step, which saves the time
MIDDLE = 3.0  # how many times oftener the blocks that do not touch the border are scored: things stand there
OWN = 0.5  # what a target gives the true code at first; the rest goes to its neighbours in the codebook
ADOPTED = 4000  # scenes by which the codes of two VQGANs are compared
HELD = 512  # last scenes of the first data set, not trained on


def read_tokenizer(models: Path) -> SimpleTokenizer:
    """The tokeniser of the embedded CLIP, which the prior shares."""
    return SimpleTokenizer(bpe_path=str(models / "clip" / "merges.txt.gz"), context_length=CONTEXT)


def load_codes(folder: Path, models: Path, vqgan: VQGAN) -> np.ndarray:
    """Codes (n, side, side) uint16 of the scenes in `folder`; computed once for these weights of the VQGAN."""
    file = folder / f"codes-{sha256(models / 'vqgan.safetensors')[:12]}.npy"
    if not file.is_file():
        pictures, _ = training.load_scenes(folder)
        codes = encode(pictures, vqgan)
        training.write_beside(file, lambda beside: _save_array(beside, codes))
    return np.load(file)


def encode(pictures: np.ndarray, vqgan: VQGAN) -> np.ndarray:
    """Codes (n, side, side) uint16 of pictures (n, h, w, 3) uint8."""
    device = vqgan.codebook.device
    parts = []
    for start in range(0, len(pictures), 32):
        images = training.to_images(pictures[start : start + 32], device)
        with torch.no_grad(), training.autocast(device):
            latent = vqgan.encode(images.contiguous(memory_format=torch.channels_last))
        parts.append(vqgan.codes(latent.float()).cpu().numpy().astype(np.uint16))
        if start % 3200 == 0:
            print(f"{start} of {len(pictures)} scenes encoded", flush=True)
    return np.concatenate(parts)


def _save_array(file: Path, array: np.ndarray) -> None:
    with file.open("wb") as stream:
        np.save(stream, array)


def build(vqgan: VQGAN, vocabulary: int) -> Prior:
    """The untrained prior: small random weights, and blocks that begin as the identity (GPT-2's scaling)."""
    entries, channels = vqgan.codebook.shape
    side = draw_scenes.SIDE // vqgan.factor
    prior = Prior(PriorSizes(CONTEXT, vocabulary, side, entries, channels, WIDTH, LAYERS, HEADS))
    prior.codebook.copy_(vqgan.codebook)
    for name, value in prior.named_parameters():
        if value.ndim >= 2:
            final = name.startswith("blocks") and name.endswith(("attention.out.weight", "mlp.2.weight"))
            torch.nn.init.normal_(value, 0.0, 0.02 / (2 * LAYERS) ** 0.5 if final else 0.02)
    return prior


@torch.no_grad()
def token_meanings(models: Path, tokenizer: SimpleTokenizer) -> torch.Tensor:
    """What the embedded CLIP makes of each token as a caption of its own, unit vectors (vocabulary, WIDTH): words for
    things that look alike begin alike."""
    clip = open_clip.create_model(f"local-dir:{models / 'clip'}")
    count = tokenizer.vocab_size
    captions = torch.zeros(count, CONTEXT, dtype=torch.long)
    captions[:, 0], captions[:, 1], captions[:, 2] = count - 2, torch.arange(count), count - 1
    return torch.cat([clip.encode_text(part, normalize=True) for part in captions.split(256)])


def adopt(
    weights: dict[str, torch.Tensor], earlier: np.ndarray, codes: np.ndarray, codebook: torch.Tensor
) -> dict[str, torch.Tensor]:
    """A prior's weights for another VQGAN than they were trained with: each code takes the logits of the one that the
    `earlier` VQGAN mostly saw in the same places, less by how many share them. Both arrays (n, side, side) are the
    codes of the same scenes."""
    entries = len(weights["head.logits.weight"])
    counts = np.zeros((len(codebook), entries))
    np.add.at(counts, (codes.reshape(-1), earlier.reshape(-1)), 1)
    parent = counts.argmax(1)
    uses = counts.sum(1) + 1
    share = torch.from_numpy(np.log(uses / np.bincount(parent, uses, entries)[parent])).float()
    rows = torch.from_numpy(parent)
    return {
        **weights,
        "codebook": codebook,
        "head.logits.weight": weights["head.logits.weight"][rows],
        "head.logits.bias": weights["head.logits.bias"][rows] + share,
    }


def starting_weights(options: argparse.Namespace, codes: np.ndarray, codebook: torch.Tensor) -> dict[str, torch.Tensor]:
    """The weights in --start, changed to this VQGAN's codes if --start-models names the VQGAN they belong to."""
    weights = training.load_start(options.start, WEIGHTS, codebook.device)
    if not options.start_models:
        return weights
    vqgan = load_vqgan(options.start_models / "vqgan.safetensors").to(codebook.device)
    pictures, _ = training.load_scenes(options.data[0])
    earlier = encode(pictures[:ADOPTED], vqgan)
    return adopt(weights, earlier, codes[: len(earlier)], codebook)


def deepened(prior: Prior, weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """A prior's weights for one of more layers: the new ones are as `prior` has them, but change nothing at first."""
    fresh = {name: value for name, value in prior.state_dict().items() if name not in weights}
    ends = ("attention.out.weight", "attention.out.bias", "mlp.2.weight", "mlp.2.bias")
    silent = {name: torch.zeros_like(value) if name.endswith(ends) else value for name, value in fresh.items()}
    return {**weights, **silent}


def make_optimisers(prior: Prior, lr: float) -> list[torch.optim.Optimizer]:
    """Muon for the matrices between the embeddings and the logits, AdamW for everything else."""
    ends = ("tokens", "token_places", "places", "head.logits")
    inner = {name for name, value in prior.named_parameters() if value.ndim == 2 and not name.startswith(ends)}
    matrices = [value for name, value in prior.named_parameters() if name in inner]
    others = [value for name, value in prior.named_parameters() if name not in inner]
    muon = torch.optim.Muon(matrices, lr=lr, weight_decay=0.05, adjust_lr_fn="match_rms_adamw")
    return [muon, torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.95), weight_decay=0.0)]


def soft_targets(codebook: torch.Tensor) -> torch.Tensor:
    """For each code a distribution over the codebook (K, K) that falls off with the squared distance, and on average
    gives OWN to the code itself: that codes look alike need not be learned from their use."""
    distances = torch.cdist(codebook, codebook).square()
    low, high = 1e-4, float(distances.max())
    for _ in range(40):
        middle = (low * high) ** 0.5
        own = (-distances / middle).softmax(1).diagonal().mean()
        low, high = (middle, high) if own > OWN else (low, middle)
    return (-distances / low).softmax(1)


def training_loss(logits: torch.Tensor, codes: torch.Tensor, soft: torch.Tensor, share: float) -> torch.Tensor:
    """Cross-entropy of logits (…, K) towards codes (…), and for a `share` of it towards their `soft_targets`."""
    flat, answers = logits.float().flatten(0, -2), codes.flatten()
    hard = functional.cross_entropy(flat, answers)
    return hard if share <= 0 else (1 - share) * hard + share * functional.cross_entropy(flat, soft[answers])


def visible(count: int, side: int, numbers: np.random.Generator) -> torch.Tensor:
    """Which codes are seen by those after them, (count, side, side): all in some pictures, few or none in others.

    What is hidden must be guessed from the caption. Shown everything always, the small network continues what it sees
    and does not begin to read within 30,000 scenes.
    """
    kind = numbers.random(count)
    share = np.where(kind < WHOLE, 1.0, np.where(kind < WHOLE + HIDDEN, 0.0, numbers.random(count)))
    return torch.from_numpy(numbers.random((count, side, side)) < share[:, None, None])


def by_blocks(codes: torch.Tensor) -> torch.Tensor:
    """Codes (B, side, side) ─▶ (B, blocks, BLOCK²), in the order of `Prior.block_logits`."""
    side = codes.shape[1] // BLOCK
    return codes.view(-1, side, BLOCK, side, BLOCK).transpose(2, 3).reshape(len(codes), side**2, BLOCK**2)


def scored_blocks(side: int, entries: int, numbers: np.random.Generator) -> torch.Tensor:
    """Blocks whose codes count in this step, of side x side codes: all for SCORED entries or less, else as many as keep
    the cost."""
    side = side // BLOCK
    weights = np.ones((side, side))
    weights[1:-1, 1:-1] = MIDDLE
    count = max(1, side**2 * SCORED // max(entries, SCORED))
    chosen = numbers.choice(side**2, count, replace=False, p=weights.flatten() / weights.sum())
    return torch.from_numpy(np.sort(chosen))


@torch.no_grad()
def heldout_loss(prior: Prior, tokens: torch.Tensor, codes: torch.Tensor) -> float:
    """Mean cross-entropy of the codes, in nats, on scenes that were not trained on."""
    losses = []
    for part, answers in zip(tokens.split(32), codes.split(32), strict=True):
        with training.autocast(codes.device):
            logits = prior(part, answers)
        losses.append(functional.cross_entropy(logits.float().flatten(0, 2), answers.flatten()))
    return float(torch.stack(losses).mean())


def train(options: argparse.Namespace, device: torch.device) -> None:
    """Trains until --steps or --minutes are done."""
    vqgan = load_vqgan(options.models / "vqgan.safetensors").to(device)
    tokenizer = read_tokenizer(options.models)
    codes = np.concatenate([load_codes(folder, options.models, vqgan) for folder in options.data])
    scenes = [scene for folder in options.data for scene in training.load_scenes(folder)[1]]
    side, entries = codes.shape[1], len(vqgan.codebook)
    first = len(training.load_scenes(options.data[0])[1])
    held = slice(first - HELD, first)
    pool = np.r_[0 : held.start, held.stop : len(scenes)]

    def worded(chosen: np.ndarray, random_: random.Random) -> tuple[torch.Tensor, torch.Tensor]:
        words = [caption(scenes[index], random_, complete=True)[0] for index in chosen]
        return tokenizer(words), torch.from_numpy(codes[chosen].astype(np.int64))

    def batch(step: int) -> tuple[torch.Tensor, ...]:
        """Tokens, codes, which of them are seen, and the blocks that are scored."""
        numbers = np.random.default_rng([options.seed, step])
        tokens, targets = worded(numbers.choice(pool, options.batch), random.Random(f"{options.seed} {step}"))
        tokens[torch.from_numpy(numbers.random(options.batch) < DROPPED)] = 0
        return tokens, targets, visible(options.batch, side, numbers), scored_blocks(side, entries, numbers)

    unseen = [part.to(device) for part in worded(np.r_[held], random.Random("held"))]
    prior = build(vqgan, tokenizer.vocab_size).to(device)
    if options.start:
        prior.load_state_dict(deepened(prior, starting_weights(options, codes, vqgan.codebook)))
    else:
        prior.tokens.weight.data.copy_(token_meanings(options.models, tokenizer))
    soft = soft_targets(vqgan.codebook)
    optimisers = make_optimisers(prior, options.lr)
    average = training.Average(prior, 0.998)
    step, spent, state = 0, 0.0, training.load_checkpoint(options.out / "last.pt", device)
    if state:
        step, spent = state["step"], state["seconds"]
        prior.load_state_dict(state["model"])
        average.values = state["average"]
        for optimiser, saved in zip(optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
    clock = training.Clock(options.steps, options.minutes, spent)

    def save() -> None:
        training.save_checkpoint(
            options.out / "last.pt",
            step=step,
            seconds=clock.seconds(),
            model=prior.state_dict(),
            average=average.values,
            optimisers=[optimiser.state_dict() for optimiser in optimisers],
            sizes=vars(prior.sizes),
        )
        averaged = build(vqgan, tokenizer.vocab_size).to(device)
        averaged.load_state_dict(average.values)
        print(f"step {step}: {heldout_loss(averaged, *unseen):.4f} nats a code on {HELD} unseen scenes", flush=True)

    saves = training.Saves(250)
    made = training.batches(batch, step, options.workers)
    while clock.progress(step) < 1:
        tokens, targets, seen, blocks = (part.to(device, non_blocking=True) for part in next(made))
        with training.autocast(device):
            logits = prior.block_logits(tokens, targets, seen, blocks)
        share = 0.0 if options.start else 1 - 1.25 * clock.progress(step)  # soft targets teach what --start knows
        loss = training_loss(logits, by_blocks(targets)[:, blocks], soft, share)
        for optimiser in optimisers:
            for group in optimiser.param_groups:
                group["lr"] = training.learning_rate(options.lr, clock.progress(step))
            optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(prior.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
        average.update(prior, step)
        step += 1
        if step % 50 == 0:
            print(f"step {step} {clock.seconds():.0f} s loss {loss:.4f}", flush=True)
        if saves.due(step):
            save()
    save()


def load_trained(out: Path) -> tuple[Prior, int]:
    """The averaged weights of a training, and its step."""
    state = training.load_checkpoint(out / "last.pt", torch.device("cpu"))
    if state is None:
        raise SystemExit(f"nothing trained in {out}")
    prior = Prior(PriorSizes(**state["sizes"]))
    prior.load_state_dict(state["average"])
    return prior.eval(), state["step"]


def export(out: Path, models: Path, folder: Path) -> None:
    """Writes prior.safetensors (half precision) and merges.txt.gz."""
    prior, step = load_trained(out)
    folder.mkdir(parents=True, exist_ok=True)
    tensors, header = save_prior(prior)
    halves = {name: value.half().contiguous() for name, value in tensors.items()}
    training.write_beside(folder / WEIGHTS, lambda beside: save_file(halves, beside, header))
    merges = models / "clip" / "merges.txt.gz"
    training.write_beside(folder / "merges.txt.gz", lambda beside: shutil.copyfile(merges, beside))
    print(f"exported step {step} to {folder}")


def draw_sheet(options: argparse.Namespace) -> None:
    """Writes a contact sheet of samples for the lines of --prompts."""
    vqgan = load_vqgan(options.models / "vqgan.safetensors")
    prior, _ = load_trained(options.out)
    prompts = [line for line in options.prompts.read_text("utf8").splitlines() if line and not line.startswith("#")]
    generator = torch.Generator().manual_seed(options.seed)
    numbers = torch.rand(len(prompts), prior.sizes.side, prior.sizes.side, generator=generator)
    sampling = Sampling(options.temperature, options.top_k, options.guidance)
    codes = prior.sample(read_tokenizer(options.models)(prompts), numbers, sampling)
    with torch.no_grad():
        images = vqgan.decode(vqgan.lookup(codes)).clamp(0, 1)
    pictures = [Image.fromarray((image.permute(1, 2, 0).numpy() * 255).astype(np.uint8)) for image in images]
    draw_scenes.contact_sheet(list(zip(prompts, pictures, strict=True)), columns=10).save(options.sheet)


def main() -> None:
    """Trains, exports or shows what was trained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, nargs="+", help="folders written by draw_scenes.py --data")
    parser.add_argument("--models", type=Path, default=Path("checkpoints/embedded"), help="where VQGAN and CLIP are")
    parser.add_argument("--out", type=Path, default=Path("training/prior"), help="checkpoints go here")
    parser.add_argument("--start", type=Path, help="go on from this training's --out, or exported folder")
    parser.add_argument("--start-models", type=Path, help="the models of --start, if the VQGAN has changed since")
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, help="train for this long instead of --steps")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--lr", type=float, default=6e-3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--workers", type=int, default=0, help="processes that make batches ahead, for a GPU")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--export", type=Path, metavar="DIR", help="write the weights into DIR and stop")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write a sheet of samples and stop")
    parser.add_argument("--prompts", type=Path, metavar="FILE", help="captions for --sheet, one a line")
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--top-k", type=int, default=0)
    parser.add_argument("--guidance", type=float, default=2.0)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    if options.sheet:
        draw_sheet(options)
    elif options.export:
        export(options.out, options.models, options.export)
    else:
        options.out.mkdir(parents=True, exist_ok=True)
        train(options, torch.device(options.device))


if __name__ == "__main__":
    main()
