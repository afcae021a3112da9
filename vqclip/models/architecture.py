"""What a VQGAN is made of: its sizes, inferred from its tensors' shapes and checked against its YAML."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.text import YAML_LIMIT, parse_yaml, read_text

Shapes = Mapping[str, Sequence[int]]
"""Names of tensors and their shapes."""

RESOLUTION = 256
"""Training side assumed where no YAML says it, in pixels; it only names the levels that hold attention."""

SIZES = ("ch", "ch_mult", "num_res_blocks", "z_channels", "in_channels", "out_ch", "embed_dim", "n_embed")
"""Fields that the tensors' shapes decide, so a YAML may only repeat them."""

TARGETS = {"IBQ": "ibq", "Gumbel": "gumbel", "VQ": "vq"}
"""Part of the class name in a YAML's `target` ─▶ quantiser, first match wins."""

VQ_CODEBOOK = "quantize.embedding.weight"
GUMBEL_CODEBOOK = "quantize.embed.weight"


@dataclass(frozen=True)
class Architecture:
    """The sizes of one VQGAN, in the words of taming-transformers' YAML files.

    `quantiser` is `vq` (nearest entry), `l2` (the same among unit vectors), `ibq` (largest dot product) or `gumbel`
    (largest logit).
    """

    ch: int
    ch_mult: tuple[int, ...]
    num_res_blocks: int
    attn_resolutions: tuple[int, ...]
    z_channels: int
    embed_dim: int
    n_embed: int
    quantiser: str = "vq"
    resolution: int = RESOLUTION
    in_channels: int = 3
    out_ch: int = 3

    @property
    def factor(self) -> int:
        """Pixels per latent cell, along each side."""
        return 2 ** (len(self.ch_mult) - 1)

    @property
    def attention_levels(self) -> tuple[int, ...]:
        """Levels with attention, 0 being the one at full resolution."""
        return _levels(self.resolution, self.attn_resolutions, len(self.ch_mult))

    def ddconfig(self) -> dict[str, Any]:
        """Return the keyword arguments of taming's `Encoder` and `Decoder`."""
        names = ("ch", "ch_mult", "num_res_blocks", "attn_resolutions", "z_channels", "resolution")
        sizes = {name: getattr(self, name) for name in (*names, "in_channels", "out_ch")}
        return {**sizes, "double_z": False, "dropout": 0.0}


def infer_architecture(shapes: Shapes, quantiser: str | None, where: str) -> Architecture:
    """Read the sizes off the tensors of a VQGAN in taming's layout, its `VQModel`'s or `GumbelVQ`'s.

    The keys of `vq`, `l2` and `ibq` are the same: `quantiser` chooses, None means `vq` there.

    Raises:
        ModelError: the tensors are not those of a VQGAN, or not of this quantiser; `where` names the file.
    """
    _refuse_strangers(shapes, where)
    gumbel = GUMBEL_CODEBOOK in shapes
    n_embed, embed_dim = _shape(shapes, GUMBEL_CODEBOOK if gumbel else VQ_CODEBOOK, 2, where)
    ch, in_channels, *_ = _shape(shapes, "encoder.conv_in.weight", 4, where)
    widths = [_shape(shapes, key, 4, where)[0] for key in _numbered(shapes, "decoder.up.{}.block.0.conv2.weight")]
    if not widths or any(width < ch or width % ch for width in widths) or ch % 32:
        raise ModelError(f"{where} is not a VQGAN that vqclip knows: its layers are {ch} and {widths} channels wide.")
    out_ch = _shape(shapes, "decoder.conv_out.weight", 4, where)[0]
    if (in_channels, out_ch) != (3, 3):
        raise ModelError(
            f"{where} takes pictures of {in_channels} channels and draws {out_ch}: vqclip works in RGB, 3 and 3, so it "
            "cannot use a model of grey pictures or of label maps."
        )
    attention = [n for n in range(len(widths)) if f"encoder.down.{n}.attn.0.q.weight" in shapes]
    return Architecture(
        ch=ch,
        ch_mult=tuple(width // ch for width in widths),
        num_res_blocks=len(_numbered(shapes, "encoder.down.0.block.{}.conv1.weight")),
        attn_resolutions=tuple(RESOLUTION >> level for level in attention),
        z_channels=_shape(shapes, "encoder.conv_out.weight", 4, where)[0],
        embed_dim=embed_dim,
        n_embed=n_embed,
        quantiser=_quantiser(gumbel, quantiser, where),
        in_channels=in_channels,
        out_ch=out_ch,
    )


def read_yaml(path: Path) -> dict[str, Any]:
    """Read what a model's YAML says of its VQGAN: `embed_dim`, `n_embed`, the ddconfig's fields, `quantiser`.

    The file is data only: no class is imported and `${…}` stays text. The YAML of a transformer
    or diffusion model is read at its `first_stage_config`.

    Raises:
        ModelError: the file cannot be read, or describes a network that vqclip cannot build.
    """
    try:
        content = parse_yaml(read_text(path, "the model's YAML", YAML_LIMIT), f"The model's YAML {str(path)!r}")
        model = content["model"]
        model = model["params"].get("first_stage_config", model)
        params = model["params"]
        stated = {**params["ddconfig"], "embed_dim": params["embed_dim"], "n_embed": params["n_embed"]}
        target = str(model.get("target", "")).rpartition(".")[2]
    except UsageError as error:
        raise ModelError(str(error)) from error
    except (KeyError, TypeError, AttributeError) as error:
        raise ModelError(
            f"The YAML {str(path)!r} does not describe a VQGAN: it needs embed_dim, n_embed and ddconfig "
            "under model.params."
        ) from error
    _refuse_variants(stated, path)
    stated["quantiser"] = next((kind for part, kind in TARGETS.items() if part in target), None)
    return stated


def check_against_yaml(architecture: Architecture, stated: Mapping[str, Any], path: Path) -> Architecture:
    """Return the architecture with the YAML's training resolution, once both agree.

    Raises:
        ModelError: the YAML at `path` contradicts the tensors.
    """
    for name in (*SIZES, "quantiser"):
        said, found = _plain(stated.get(name)), getattr(architecture, name)
        if said is not None and said != found:
            raise ModelError(
                f"The YAML {str(path)!r} says {name} is {str(said)[:80]}, but the weights have {found}: "
                "give the YAML that belongs to this file, or none."
            )
    resolution, places = stated.get("resolution"), _plain(stated.get("attn_resolutions"))
    if not isinstance(resolution, int) or not isinstance(places, tuple):
        return architecture
    if _levels(resolution, places, len(architecture.ch_mult)) != architecture.attention_levels:
        raise ModelError(
            f"The YAML {str(path)!r} places attention at {str(list(places))[:80]} of {resolution} px, but the weights "
            f"have it at the levels {list(architecture.attention_levels)}: give the YAML that belongs to this "
            "file, or none."
        )
    return replace(architecture, resolution=resolution, attn_resolutions=places)


def _refuse_strangers(shapes: Shapes, where: str) -> None:
    if not {VQ_CODEBOOK, GUMBEL_CODEBOOK} & shapes.keys() or "encoder.conv_in.weight" not in shapes:
        some = ", ".join(sorted(shapes)[:3]) or "none"
        raise ModelError(
            f"{where} is not a VQGAN: it lacks a codebook ({VQ_CODEBOOK}) or an encoder; of its "
            f"{len(shapes)} tensors the first are {some}."
        )
    if "decoder.mid.attn_1.q.weight" not in shapes:
        raise ModelError(
            f"{where} is a VQGAN without attention in its middle (latent diffusion's `attn_type: none`), "
            "which vqclip cannot build: use the variant with attention, such as vq-f4."
        )


def _refuse_variants(stated: Mapping[str, Any], path: Path) -> None:
    if stated.get("double_z"):
        raise ModelError(f"The YAML {str(path)!r} describes a KL autoencoder (double_z), which has no codebook.")
    if str(stated.get("attn_type", "vanilla")) != "vanilla":
        raise ModelError(
            f"The YAML {str(path)!r} asks for `attn_type: {str(stated['attn_type'])[:80]}`, and vqclip can build "
            "`vanilla` only: use the variant with attention, such as vq-f4."
        )


def _quantiser(gumbel: bool, asked: str | None, where: str) -> str:
    possible = ("gumbel",) if gumbel else ("vq", "l2", "ibq")
    if asked is not None and asked not in possible:
        raise ModelError(f"{where} should have the quantiser {asked!r}, but its tensors are {possible[0]}'s.")
    return asked or possible[0]


def _shape(shapes: Shapes, key: str, dims: int, where: str) -> tuple[int, ...]:
    shape = tuple(shapes.get(key, ()))
    if len(shape) != dims or 0 in shape:
        raise ModelError(f"{where} is not a VQGAN: {key} is missing or has the shape {list(shape)}.")
    return shape


def _numbered(keys: Iterable[str], pattern: str) -> list[str]:
    """Return pattern.format(0), pattern.format(1), … as far as they are in `keys`."""
    present, found = set(keys), list[str]()
    while (key := pattern.format(len(found))) in present:
        found.append(key)
    return found


def _levels(resolution: int, places: Sequence[int], count: int) -> tuple[int, ...]:
    return tuple(level for level in range(count) if resolution >> level in places)


def _plain(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
