"""The picture's model: a VQGAN, whose decoder draws any grid of codebook entries.

The network is taming-transformers' `Encoder` and `Decoder` (Esser, Rombach, Ommer 2021,
https://arxiv.org/abs/2012.09841); the codebook lookup is ours.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import save_file
from taming.modules.diffusionmodules import model as taming
from taming.modules.diffusionmodules.model import Decoder, Encoder
from torch import Tensor, nn

from vqclip.common.errors import ModelError
from vqclip.common.paths import is_file
from vqclip.common.registry import pick
from vqclip.models import llamagen
from vqclip.models.architecture import Architecture, check_against_yaml, infer_architecture, read_yaml
from vqclip.models.weights.reader import check_finite, read_metadata, read_tensors
from vqclip.models.weights.unfilled import unfilled

taming.print = lambda *_: None  # its Decoder prints sizes; redirecting stdout would swallow other threads' results

FIRST_STAGE = "first_stage_model."
"""Prefix of the VQGAN inside the checkpoints of a transformer (Net2Net) or a diffusion model (LDM)."""

ANCHOR = "encoder.conv_in.weight"
"""A tensor that every VQGAN has."""

SEEING = ("encoder.", "quant_conv.")
"""Prefixes of what no run reads that starts from codes: it is mapped from the file, and left there."""

AVERAGED = "model_ema.encoderconv_inweight"
"""The same one as latent diffusion's average of the weights calls it, where names have lost their dots."""

BAGGAGE = ("loss.", "model_ema.", "discriminator.", "perceptual_loss.")
"""Prefixes of what only training needs."""

SCORES = 2**25
"""Size of the table in which latent vectors are compared with the entries: so many numbers at once."""

ROWS = 2048
"""The most latent vectors in it."""


class NearestCodebook(nn.Module):
    """taming's `VectorQuantizer`: the encoder's output is the latent itself."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.embedding = _fresh_table(sizes)

    @property
    def entries(self) -> Tensor:
        """The codebook (n_embed, embed_dim)."""
        return self.embedding.weight

    def prequantise(self, features: Tensor) -> Tensor:
        """Turn the encoder's output (N, C, h, w) into a latent (N, C, h, w)."""
        return features


class DotProductCodebook(NearestCodebook):
    """Index backpropagation quantisation (IBQ, https://arxiv.org/abs/2412.02692): the largest z·e wins.

    The encoder's output is compared by dot product and replaced by its entry.
    """

    def prequantise(self, features: Tensor) -> Tensor:
        """Turn the encoder's output (N, C, h, w) into a latent of entries (N, C, h, w)."""
        return _pick_entries(torch.einsum("nchw,kc->nkhw", features, self.entries), self.entries)


class GumbelCodebook(nn.Module):
    """taming's `GumbelQuantize` without its sampling: the largest logit of a 1x1 convolution wins."""

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.proj = nn.Conv2d(sizes.embed_dim, sizes.n_embed, 1)
        self.embed = _fresh_table(sizes)

    @property
    def entries(self) -> Tensor:
        """The codebook (n_embed, embed_dim)."""
        return self.embed.weight

    def prequantise(self, features: Tensor) -> Tensor:
        """Turn the encoder's output (N, C, h, w) into a latent of entries (N, C, h, w)."""
        return _pick_entries(self.proj(features), self.entries)


class NormalisedCodebook(NearestCodebook):
    """LlamaGen's `VectorQuantizer` with `l2_norm`: latents and entries have unit length, the nearest entry wins."""

    @property
    def entries(self) -> Tensor:
        """The codebook (n_embed, embed_dim)."""
        return F.normalize(self.embedding.weight, dim=-1)

    def prequantise(self, features: Tensor) -> Tensor:
        """Turn the encoder's output (N, C, h, w) into a latent (N, C, h, w) of unit length."""
        return F.normalize(features, dim=1)


QUANTISERS: dict[str, type[NearestCodebook] | type[GumbelCodebook]] = {
    "vq": NearestCodebook,
    "l2": NormalisedCodebook,
    "ibq": DotProductCodebook,
    "gumbel": GumbelCodebook,
}


class VQGAN(nn.Module):
    """Pictures (N, 3, H, W) in [0, 1] ◀─▶ latents (N, C, h, w), with h = H / factor, C = embed_dim.

    In evaluation mode, and frozen. Every latent lives in the space of the codebook's entries, and
    an entry is its own nearest entry, so a latent of entries survives `quantise` unchanged,
    whatever the quantiser of the published model.

    Args:
        sizes: what to build; the weights are drawn by torch's default initialisation. Built on the meta
            device it has no numbers yet: `set_weights` brings them.
    """

    norms: Tensor
    low: Tensor
    high: Tensor

    def __init__(self, sizes: Architecture) -> None:
        super().__init__()
        self.architecture = sizes
        self.encoder = Encoder(**sizes.ddconfig())
        self.decoder = Decoder(**sizes.ddconfig())
        self.quantize = pick(QUANTISERS, sizes.quantiser, "quantiser")(sizes)
        self.quant_conv = nn.Conv2d(sizes.z_channels, sizes.embed_dim, 1)
        self.post_quant_conv = nn.Conv2d(sizes.embed_dim, sizes.z_channels, 1)
        self.eval().requires_grad_(False)
        if not self.codebook.is_meta:
            self._measure()

    @property
    def factor(self) -> int:
        """Pixels per latent cell, along each side."""
        return self.architecture.factor

    @property
    def codebook(self) -> Tensor:
        """The entries (n_embed, embed_dim)."""
        return self.quantize.entries

    @property
    def bounds(self) -> tuple[Tensor, Tensor]:
        """Per-channel minimum and maximum of the codebook, each (1, C, 1, 1); an optimiser stays between."""
        return self.low, self.high

    def set_weights(self, tensors: Mapping[str, Tensor]) -> None:
        """Take these tensors as the weights, without a copy; keys and shapes must be exactly ours."""
        self.load_state_dict(tensors, strict=True, assign=True)
        self.requires_grad_(False)
        self._measure()

    def encode(self, images: Tensor) -> Tensor:
        """Return the latent (N, C, h, w) of pictures (N, 3, H, W) in [0, 1], before `quantise`.

        Sides that are not multiples of the factor lose the rest at the right and bottom. For `vq`
        the latent is continuous; for `ibq` and `gumbel` it consists of entries.
        """
        return self.quantize.prequantise(self.quant_conv(self.encoder(2 * images - 1)))

    def codes(self, latent: Tensor) -> Tensor:
        """Return the index (N, h, w) of the entry nearest to each vector of a latent (N, C, h, w)."""
        n, c, h, w = latent.shape
        with torch.no_grad(), torch.autocast(latent.device.type, enabled=False):
            vectors, entries = latent.float().movedim(1, -1).reshape(-1, c), self.codebook.float()
            # |z - e|^2 without |z|^2, which is the same for every entry
            parts = vectors.split(min(ROWS, max(1, SCORES // len(entries))))
            nearest = [torch.addmm(self.norms, rows, entries.T, alpha=-2).argmin(1) for rows in parts]
        return torch.cat(nearest).view(n, h, w)

    def lookup(self, codes: Tensor) -> Tensor:
        """Return the latent (N, C, h, w) of entries that codes (N, h, w) name."""
        return F.embedding(codes, self.codebook).movedim(-1, 1)

    def quantise(self, latent: Tensor) -> Tensor:
        """Return the nearest entries (N, C, h, w), exactly; the gradient passes straight to the latent."""
        return self.lookup(self.codes(latent)) + (latent - latent.detach())

    def decode(self, latent: Tensor) -> Tensor:
        """Return the pictures (N, 3, H, W) of a quantised latent, about in [0, 1] but not clamped."""
        return (self.decoder(self.post_quant_conv(latent)) + 1) / 2

    def render(self, latent: Tensor) -> Tensor:
        """Return the pictures (N, 3, H, W) in [0, 1] of any latent, with gradients for optimising it."""
        return clamp_with_grad(self.decode(self.quantise(latent)))

    @torch.no_grad()
    def _measure(self) -> None:
        """Keep what every step needs of the codebook: squared lengths (n_embed,) and bounds."""
        entries = self.codebook.float()
        shape = (1, -1, 1, 1)
        self.register_buffer("norms", entries.square().sum(1), persistent=False)
        self.register_buffer("low", entries.amin(0).view(shape), persistent=False)
        self.register_buffer("high", entries.amax(0).view(shape), persistent=False)


class _ClampWithGrad(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, values: Tensor, low: float, high: float) -> Tensor:
        clamped = values.clamp(low, high)
        ctx.save_for_backward(values - clamped)
        return clamped

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (grad,), (beyond,) = grads, ctx.saved_tensors
        return grad * (grad * beyond >= 0), None, None


def clamp_with_grad(values: Tensor, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Clamp, but keep the gradient of a value out of range, unless a descent on it would go further out.

    From Katherine Crowson's VQGAN+CLIP notebook (`ClampWithGrad`).
    """
    return _ClampWithGrad.apply(values, low, high)


def read_architecture(path: Path, config: Path | None = None, quantiser: str | None = None) -> Architecture:
    """Return the sizes of the VQGAN in a file, without building it; the arguments are `load_vqgan`'s."""
    tensors, layout = _network(read_tensors(path), path)
    return _architecture(path, _shapes(tensors), config, quantiser or layout)


def load_vqgan(path: Path, config: Path | None = None, quantiser: str | None = None) -> VQGAN:
    """Load a VQGAN on the CPU in fp32, from our safetensors or from a published checkpoint.

    Known layouts: taming's VQModel and GumbelVQ, IBQ, LlamaGen, latent diffusion's first stages, and the
    first stage inside a transformer's or diffusion model's checkpoint. Nothing is downloaded or
    printed, and no code in the file is run.

    Args:
        path: safetensors, or what torch.save wrote.
        config: the model's YAML; None takes the one of the same name beside the file, if there is one.
        quantiser: `vq`, `gumbel`, `ibq` or `l2`; None asks the YAML, then the note `quantiser` in a safetensors
            file's header, then the tensors (where `ibq` looks like `vq`, and so does `l2` under taming's names).

    Raises:
        ModelError: the file is missing, damaged, refused, of another architecture, or contradicts its YAML.
    """
    tensors, layout = _network(read_tensors(path), path)
    shapes = _shapes(tensors)
    sizes = _architecture(path, shapes, config, quantiser or layout)
    with unfilled():
        model = VQGAN(sizes)
    _check_keys(path, shapes, _shapes(model.state_dict()))
    model.set_weights({key: _weight(path, key, tensor) for key, tensor in tensors.items()})
    drawing = {key: value for key, value in model.state_dict().items() if not key.startswith(SEEING)}
    check_finite(path, {**drawing, "its codebook": model.codebook})
    return model


def save_vqgan(
    source: Path,
    target: Path,
    config: Path | None = None,
    quantiser: str | None = None,
    *,
    half: bool = False,
    notes: Mapping[str, str] | None = None,
) -> Architecture:
    """Write the network of a checkpoint alone, as safetensors with its architecture in the header.

    The first three arguments are `load_vqgan`'s. With `half` the weights are stored in half precision; `load_vqgan`
    computes in fp32 whatever is stored. `notes` go into the header too.

    Raises:
        ModelError: as `load_vqgan`.
        OSError: the file cannot be written.
    """
    model = load_vqgan(source, config, quantiser)
    sizes = model.architecture
    header = {"quantiser": sizes.quantiser, "architecture": json.dumps(asdict(sizes)), **(notes or {})}
    kept = {key: (t.half() if half else t).contiguous() for key, t in model.state_dict().items()}
    check_finite(source, kept)
    try:
        save_file(kept, target, header)
    except SafetensorError as error:  # what the system said, such as a full disk, wrapped
        raise OSError(str(error)) from error
    return sizes


def _network(tensors: Mapping[str, Tensor], path: Path) -> tuple[dict[str, Tensor], str | None]:
    """Keep the VQGAN's own tensors, under taming's names; the quantiser is told where the names tell it."""
    prefix = _prefix(tensors)
    if prefix is None and AVERAGED in tensors:
        raise ModelError(
            f"The checkpoint {str(path)!r} holds averaged weights (EMA) only, under `model_ema`, and these cannot be "
            "told apart: give the file that they were averaged from."
        )
    inside = {key.removeprefix(prefix or ""): t for key, t in tensors.items() if key.startswith(prefix or "")}
    layout = llamagen.QUANTISER if llamagen.is_llamagen(inside) else None
    return {key: t for key, t in llamagen.in_our_names(inside).items() if not key.startswith(BAGGAGE)}, layout


def _prefix(names: Iterable[str]) -> str | None:
    """What stands before the names of the network, None if it is not there.

    A transformer's or a diffusion model's first stage has one, and torch.compile (`_orig_mod.`), parallel training
    (`module.`) and other wrappers put theirs before all of it.
    """
    found = [name.removesuffix(ANCHOR) for name in names if name == ANCHOR or name.endswith(f".{ANCHOR}")]
    return min(found, key=lambda prefix: (FIRST_STAGE not in prefix, "ema" in prefix, len(prefix)), default=None)


def _architecture(
    path: Path, shapes: Mapping[str, tuple[int, ...]], config: Path | None, quantiser: str | None
) -> Architecture:
    config = config or next((beside for beside in _beside(path) if is_file(beside)), None)
    stated = read_yaml(config) if config else {}
    said = quantiser or stated.get("quantiser") or read_metadata(path).get("quantiser")
    sizes = infer_architecture(shapes, said, f"The checkpoint {str(path)!r}")
    return check_against_yaml(sizes, stated, config) if config else sizes


def _beside(path: Path) -> Iterable[Path]:
    return (path.with_suffix(suffix) for suffix in (".yaml", ".yml"))


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensor.shape) for key, tensor in tensors.items()}


def _check_keys(path: Path, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    problems = {
        "missing": sorted(wanted.keys() - found.keys()),
        "unexpected": sorted(found.keys() - wanted.keys()),
        "of another shape": sorted(key for key in wanted.keys() & found.keys() if wanted[key] != found[key]),
    }
    listed = [
        f"{len(keys)} {what} ({', '.join(keys[:3])}{', …' if len(keys) > 3 else ''})"
        for what, keys in problems.items()
        if keys
    ]
    if listed:
        raise ModelError(
            f"The checkpoint {str(path)!r} does not hold a complete VQGAN that vqclip knows; "
            f"tensors: {'; '.join(listed)}."
        )


def _weight(path: Path, key: str, tensor: Tensor) -> Tensor:
    if tensor.layout is not torch.strided or not tensor.is_floating_point() or tensor.device.type != "cpu":
        raise ModelError(f"The checkpoint {str(path)!r} is damaged: {key} is not a plain tensor of numbers.")
    return tensor.float()


def _fresh_table(sizes: Architecture) -> nn.Embedding:
    """Return a new codebook, drawn as taming draws it: uniform in ±1 / n_embed.

    (torch's own initialisation, `normal_`, takes seconds of imports on the meta device.)
    """
    table = torch.empty(sizes.n_embed, sizes.embed_dim)
    return nn.Embedding.from_pretrained(table.uniform_(-1 / sizes.n_embed, 1 / sizes.n_embed))


def _pick_entries(scores: Tensor, entries: Tensor) -> Tensor:
    """Return for each cell of scores (N, n_embed, h, w) the entry with the largest one, (N, C, h, w)."""
    return F.embedding(scores.argmax(1), entries).movedim(-1, 1)
