"""Narrow VQGANs with random weights, and files of them in every layout that training programs left behind."""

import argparse
import contextlib
import io
import sys
import types
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path, PurePosixPath

import numpy as np
import torch
import yaml
from omegaconf import OmegaConf
from torch import nn

from vqclip.models.architecture import Architecture

NARROW = Architecture(
    ch=32,
    ch_mult=(1, 1, 2),
    num_res_blocks=1,
    attn_resolutions=(16,),
    z_channels=32,
    embed_dim=32,
    n_embed=64,
    resolution=64,
)
IBQ = replace(NARROW, quantiser="ibq", num_res_blocks=2)
GUMBEL = replace(NARROW, quantiser="gumbel")
LDM = replace(NARROW, z_channels=4, embed_dim=4, attn_resolutions=())

L2 = replace(NARROW, ch_mult=(1, 2, 2), attn_resolutions=(16,), embed_dim=8, quantiser="l2")

LIGHTNING_CLASSES = {
    "pytorch_lightning.callbacks.model_checkpoint": "ModelCheckpoint",
    "pytorch_lightning.callbacks.early_stopping": "EarlyStopping",
    "pytorch_lightning.utilities.parsing": "AttributeDict",
    "main": "ImageLogger",
}


class Reference(nn.Module):
    """taming's own modules, put together as its `VQModel` does (which would download a loss network)."""

    def __init__(self, sizes: Architecture, seed: int = 0) -> None:
        from taming.modules.diffusionmodules.model import Decoder, Encoder
        from taming.modules.vqvae.quantize import VectorQuantizer

        super().__init__()
        with torch.random.fork_rng(), contextlib.redirect_stdout(io.StringIO()):
            torch.manual_seed(seed)
            self.encoder = Encoder(**sizes.ddconfig())
            self.decoder = Decoder(**sizes.ddconfig())
            self.quantize = VectorQuantizer(sizes.n_embed, sizes.embed_dim, beta=0.25)
            self.quant_conv = nn.Conv2d(sizes.z_channels, sizes.embed_dim, 1)
            self.post_quant_conv = nn.Conv2d(sizes.embed_dim, sizes.z_channels, 1)
            nn.init.normal_(self.quantize.embedding.weight)
            nn.init.normal_(self.quant_conv.weight)  # spreads the encoder's output over the codebook
        self.eval().requires_grad_(False)


def weights(sizes: Architecture, seed: int = 0) -> dict[str, torch.Tensor]:
    """Return a complete set of tensors in taming's layout."""
    tensors = dict(Reference(sizes, seed).state_dict())
    if sizes.quantiser == "gumbel":
        rng = torch.Generator().manual_seed(seed)
        tensors["quantize.embed.weight"] = tensors.pop("quantize.embedding.weight")
        tensors["quantize.proj.weight"] = torch.randn(sizes.n_embed, sizes.embed_dim, 1, 1, generator=rng)
        tensors["quantize.proj.bias"] = torch.randn(sizes.n_embed, generator=rng)
    return tensors


def write_yaml(path: Path, sizes: Architecture, target: str = "taming.models.vqgan.VQModel", **changed: object) -> Path:
    """Write the model's YAML as taming-transformers has it; `changed` replaces fields of its ddconfig."""
    lists = {name: list(v) if isinstance(v, tuple) else v for name, v in sizes.ddconfig().items()}
    params = {"embed_dim": sizes.embed_dim, "n_embed": sizes.n_embed, "ddconfig": lists | changed}
    path.write_text(yaml.safe_dump({"model": {"base_learning_rate": 4.5e-6, "target": target, "params": params}}))
    return path


@contextlib.contextmanager
def lightning_classes() -> Iterator[dict[str, type]]:
    """Lend fake classes under Lightning's names, so that pickles can mention them without Lightning."""
    fakes: dict[str, types.ModuleType] = {}
    for module, name in LIGHTNING_CLASSES.items():
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            full = ".".join(parts[:depth])
            fakes.setdefault(full, types.ModuleType(full))
        kind = type(name, (dict,) if name == "AttributeDict" else (), {"__module__": module})
        setattr(fakes[module], name, kind)
    before = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        yield {name: getattr(fakes[module], name) for module, name in LIGHTNING_CLASSES.items()}
    finally:
        for name, module in before.items():
            if module is None:
                del sys.modules[name]
            else:
                sys.modules[name] = module


def lightning_content(state: dict[str, torch.Tensor], lent: dict[str, type]) -> dict[str, object]:
    """Return what a Lightning checkpoint of 2020-2022 holds around its `state_dict`."""
    logger = lent["ImageLogger"]()
    logger.batch_frequency = 750
    hyper_parameters = lent["AttributeDict"](
        config=OmegaConf.create({"lossconfig": {"params": {"disc_start": 0}}, "ch_mult": [1, 1, 2], "key": "${x}"}),
        options=argparse.Namespace(seed=23, logdir=PurePosixPath("logs").name),
        logger=logger,
        best=np.float64(0.25),
    )
    return {
        "epoch": 3,
        "global_step": 1234,
        "pytorch-lightning_version": "1.0.8",
        "callbacks": {
            lent["ModelCheckpoint"]: {"best_model_score": torch.tensor(0.5), "best_model_path": "last.ckpt"},
            lent["EarlyStopping"]: {"wait_count": 0, "patience": 3},
        },
        "optimizer_states": [
            {
                "state": {0: {"step": 1, "exp_avg": torch.zeros(3)}},
                "param_groups": [{"lr": 4.5e-6, "betas": (0.5, 0.9), "params": [0]}],
            }
        ],
        "lr_schedulers": [],
        "hparams_name": "config",
        "hyper_parameters": hyper_parameters,
        "state_dict": state,
    }


def write_lightning(path: Path, state: dict[str, torch.Tensor], *, new_zip: bool = True) -> Path:
    """Write a Lightning checkpoint; without `new_zip` in torch's format before 1.6."""
    with lightning_classes() as lent:
        content = lightning_content(state, lent)
        torch.save(content, path, _use_new_zipfile_serialization=new_zip)
    return path


def loss_tensors() -> dict[str, torch.Tensor]:
    """Return a few of the tensors that taming's loss leaves in a checkpoint."""
    return {
        "loss.perceptual_loss.net.slice1.0.weight": torch.randn(8, 3, 3, 3),
        "loss.discriminator.main.3.num_batches_tracked": torch.tensor(7),
    }
