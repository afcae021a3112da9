"""From the files of a plan's models to the networks, on its device."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from vqclip.common.allocator import keep_freed_memory, worth_keeping
from vqclip.common.hashes import known_sha256
from vqclip.common.runtime import PRECISIONS
from vqclip.models.enlarge import Network, load_network
from vqclip.models.files import ClipFiles, ModelFiles, VqganFiles
from vqclip.models.fused_vit import fuse_vit
from vqclip.models.fused_vqgan import fuse_vqgan
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.models.provenance import ModelHash, ModelHashes
from vqclip.models.rerank import Proposer, load_proposer
from vqclip.models.vqgan import VQGAN, load_vqgan
from vqclip.pipeline.machine import computing
from vqclip.pipeline.plan import Plan


@dataclass(frozen=True)
class Models:
    """The networks that a config names, on its device, their hashes, and the files of the perceptors; `vqgan` only
    where it draws, `proposer` only where the prior makes the start, `upscaler` only where one enlarges the pictures.
    """

    vqgan: VQGAN | None
    perceptors: list[Perceptor]
    proposer: Proposer | None
    upscaler: Network | None
    hashes: ModelHashes
    clips: Sequence[ClipFiles]


def load_models(plan: Plan, files: ModelFiles) -> Models:
    """Load the models of a plan from their files.

    Raises:
        ModelError: a file is damaged or refused.
        UsageError: a prior of another VQGAN.
        OutOfMemoryError: they do not fit.
    """
    runtime = plan.config.runtime
    with computing(plan):
        device, precision = torch.device(runtime.device), runtime.precision
        vqgan = _vqgan(files.vqgan, device) if files.vqgan else None
        perceptors = [load_perceptor(each, device, precision) for each in files.perceptors]
        if runtime.accelerate:
            if worth_keeping(precision, runtime.low_memory):
                keep_freed_memory()
            if vqgan:
                fuse_vqgan(vqgan)
            for perceptor in perceptors:
                fuse_vit(perceptor.model.visual, PRECISIONS[precision])
        proposer = load_proposer(files.prior, vqgan, precision) if files.prior and vqgan else None
        upscaler = load_network(files.upscaler.path, device) if files.upscaler else None
        return Models(vqgan, perceptors, proposer, upscaler, hashes_of(files), files.perceptors)


def _vqgan(files: VqganFiles, device: torch.device) -> VQGAN:
    return load_vqgan(files.path, files.config, files.quantiser).to(device)


def hashes_of(files: ModelFiles) -> ModelHashes:
    """Hash every model's weights; those of large files are remembered."""
    return ModelHashes(
        vqgan=ModelHash(files.vqgan.name, known_sha256(files.vqgan.path)) if files.vqgan else None,
        perceptors=tuple(ModelHash(each.name, known_sha256(each.weights)) for each in files.perceptors),
        prior=ModelHash(files.prior.name, known_sha256(files.prior.path)) if files.prior else None,
        upscaler=ModelHash(files.upscaler.name, known_sha256(files.upscaler.path)) if files.upscaler else None,
    )
