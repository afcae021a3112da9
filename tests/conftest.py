"""Tiny seeded models, and a home of its own for every test: no network, no user's cache."""

import gzip
import importlib.resources
import json
import os
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # a core each: threads of several workers on the same cores wait for each other
    os.environ["OMP_NUM_THREADS"] = "1"

import torch
from safetensors.torch import save_file

from vqclip.hub.clip_files import find_clip
from vqclip.models.architecture import Architecture
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.models.prior import Prior, PriorSizes, save_prior
from vqclip.models.vqgan import VQGAN, load_vqgan

sys.path.append(str(Path(__file__).resolve().parent.parent))  # for `scripts`; vqclip is the installed one

TINY_SIZES = Architecture(
    ch=32,
    ch_mult=(1, 1),
    num_res_blocks=1,
    attn_resolutions=(),
    z_channels=8,
    embed_dim=4,
    n_embed=16,
    resolution=16,
)
TINY_CLIP = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 16, "patch_size": 8, "width": 32, "layers": 1, "head_width": 16},
    "text_cfg": {"context_length": 12, "vocab_size": 512 + 64 + 2, "width": 32, "heads": 2, "layers": 1},
}
TINY_PRIOR = PriorSizes(
    context=12, vocabulary=512 + 64 + 2, side=8, entries=16, channels=4, width=32, layers=2, heads=2
)
TINY_PREPROCESS = {"size": 16, "mean": [0.5] * 3, "std": [0.25] * 3, "interpolation": "bicubic"}


@dataclass(frozen=True)
class TinyModels:
    """Files of a VQGAN of factor 2, of a CLIP that looks at 16 pixels and of a prior, and a config that uses them.

    The config starts from random codes; with `prior.name` as `prior` it starts from that.
    """

    vqgan: Path
    clip: Path
    prior: Path
    config: Path


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> TinyModels:
    home = tmp_path_factory.mktemp("tiny")
    vqgan, clip, prior, config = home / "vqgan.safetensors", home / "clip", home / "prior", home / "tiny.yaml"
    save_tiny_vqgan(vqgan)
    save_tiny_clip(clip)
    save_tiny_prior(prior, vqgan, clip)
    config.write_text(
        f"size: 16x16\nvqgan: {{file: {vqgan}}}\nperceptors: [{clip}]\n"
        "prior: {candidates: 3}\n"
        "cutouts: {recipe: vqclip, count: 4}\noptimise: {steps: 6, lr: 0.1, schedule: constant}\n"
        "runtime: {device: cpu, precision: fp32, threads: 1, state_every: 2}\n"
    )
    return TinyModels(vqgan, clip, prior, config)


def save_tiny_vqgan(path: Path) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = VQGAN(TINY_SIZES)
        model.quantize.entries.data.normal_()
    save_file({name: tensor.contiguous() for name, tensor in model.state_dict().items()}, path)


def save_tiny_clip(folder: Path, seed: int = 0) -> None:
    import open_clip

    folder.mkdir()
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = open_clip.CLIP(TINY_CLIP["embed_dim"], TINY_CLIP["vision_cfg"], TINY_CLIP["text_cfg"])
    save_file(model.state_dict(), folder / "open_clip_model.safetensors")
    settings = {"model_cfg": TINY_CLIP, "preprocess_cfg": TINY_PREPROCESS}
    (folder / "open_clip_config.json").write_text(json.dumps(settings))
    packed = (importlib.resources.files("open_clip") / "bpe_simple_vocab_16e6.txt.gz").read_bytes()
    merges = gzip.decompress(packed).decode().split("\n")[: 1 + 64]
    (folder / "merges.txt.gz").write_bytes(gzip.compress("\n".join(merges).encode(), mtime=0))


def tiny_prior(seed: int = 0) -> Prior:
    """A prior of random weights for 8 x 8 codes of 16 entries."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        prior = Prior(TINY_PRIOR)
        for value in prior.parameters():
            torch.nn.init.normal_(value, 0, 0.3)
        prior.codebook.normal_()
    return prior.eval().requires_grad_(False)


def save_tiny_prior(folder: Path, vqgan: Path, clip: Path) -> None:
    folder.mkdir()
    prior = tiny_prior()
    prior.codebook.copy_(load_vqgan(vqgan).codebook)
    tensors, header = save_prior(prior)
    save_file(tensors, folder / "prior.safetensors", header)
    (folder / "merges.txt.gz").write_bytes((clip / "merges.txt.gz").read_bytes())


@pytest.fixture(scope="module")
def embedded() -> Perceptor:
    """The guide that comes with vqclip, on the CPU."""
    return load_perceptor(find_clip("embedded"), torch.device("cpu"))


@pytest.fixture(autouse=True)
def own_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the test an empty working folder and caches, and no network."""
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    monkeypatch.setenv("VQCLIP_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
