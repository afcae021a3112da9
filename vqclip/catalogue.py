"""The published VQGANs that vqclip knows by name: where each is, what it learned, and on which terms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vqclip.architecture import Architecture


@dataclass(frozen=True)
class PublishedVQGAN:
    """One published model.

    `repository`, `file` and `revision` are Hugging Face's; `size` is in bytes, exact where `sha256`
    is given, otherwise about, None where nobody wrote it down. `architecture` is what the file was
    published as; the weights are loaded by what their tensors say, and differ only where `exact` is
    False (the sizes were worked out from the file's length or a sibling's YAML).
    """

    name: str
    repository: str
    file: str
    size: int | None
    sha256: str | None
    trained_on: str
    terms: str
    architecture: Architecture
    revision: str = "main"
    exact: bool = True

    @property
    def factor(self) -> int:
        """Pixels per latent cell, along each side."""
        return self.architecture.factor

    @property
    def quantiser(self) -> str:
        """`vq`, `gumbel` or `ibq`."""
        return self.architecture.quantiser

    @property
    def size_text(self) -> str:
        """The size of the file, for people."""
        return "size unknown" if self.size is None else f"{self.size / 1e6:,.0f} MB"


F16 = Architecture(
    ch=128,
    ch_mult=(1, 1, 2, 2, 4),
    num_res_blocks=2,
    attn_resolutions=(16,),
    z_channels=256,
    embed_dim=256,
    n_embed=1024,
)
"""The ddconfig that taming-transformers published most models with."""

PYTTI = "Somnai/pytti-vqgan-checkpoints"
PYTTI_REVISION = "debc22c8f285c7734980c464ff992d335dde6e9a"
COMPVIS_TERMS = "code MIT; the weights came without a licence of their own"

ENTRIES = (
    PublishedVQGAN(
        name="imagenet-16384",
        repository=PYTTI,
        revision=PYTTI_REVISION,
        file="imagenet/imagenet.ckpt",
        size=980_092_370,
        sha256="845a68805098cb666420d5db93df53f3a3b6dd443e6dd85c05759c5b998cd663",
        trained_on="ImageNet",
        terms=COMPVIS_TERMS,
        architecture=replace(F16, n_embed=16384),
    ),
    PublishedVQGAN(
        name="imagenet-1024",
        repository="markweber/taming_vqgan",
        file="taming_vqgan.ckpt",
        size=958_000_000,
        sha256=None,
        trained_on="ImageNet",
        terms="MIT by its card",
        architecture=F16,
    ),
    PublishedVQGAN(
        name="gumbel-f8",
        repository=PYTTI,
        revision=PYTTI_REVISION,
        file="openimages/openimages.ckpt",
        size=376_581_823,
        sha256="5cd6c74810ab97e00e942c25403f73afc081e8b19987b31ec0d9ff5b68e7ab14",
        trained_on="Open Images",
        terms=COMPVIS_TERMS,
        architecture=replace(F16, ch_mult=(1, 1, 2, 4), attn_resolutions=(32,), n_embed=8192, quantiser="gumbel"),
    ),
    PublishedVQGAN(
        name="wikiart-16384",
        repository=PYTTI,
        revision=PYTTI_REVISION,
        file="wikiart/wikiart.ckpt",
        size=1_005_327_541,
        sha256="bd08bb46301f98be1712bb2be9f8868cea30b53137cd985d4d6e8da8b3e02c36",
        trained_on="WikiArt paintings",
        terms="published without a licence of its own",
        architecture=replace(F16, n_embed=16384),
        exact=False,
    ),
    PublishedVQGAN(
        name="coco",
        repository=PYTTI,
        revision=PYTTI_REVISION,
        file="coco/coco.ckpt",
        size=296_030_214,
        sha256="106cc20fde571df14afc4349d62218d8213cf47177c682ecaa78a8c28b12f9de",
        trained_on="COCO photographs of everyday scenes",
        terms=COMPVIS_TERMS,
        architecture=replace(F16, n_embed=8192),
        exact=False,
    ),
    PublishedVQGAN(
        name="faceshq",
        repository=PYTTI,
        revision=PYTTI_REVISION,
        file="faceshq/faceshq.ckpt",
        size=None,
        sha256="3274bba51bd565c90990bbcf7bb5dad0b9b95a6a77011980afc4c3cfc4d1cad1",
        trained_on="faces of CelebA-HQ and FFHQ",
        terms=COMPVIS_TERMS,
        architecture=F16,
    ),
    PublishedVQGAN(
        name="sflckr",
        repository=PYTTI,
        revision=PYTTI_REVISION,
        file="sflickr/sflickr.ckpt",
        size=4_263_525_412,
        sha256="8a8adea3da8dab412675772831370dd948e0aa97bb11a9488a2f328b58dbc929",
        trained_on="landscapes from Flickr (S-FLCKR)",
        terms=COMPVIS_TERMS,
        architecture=F16,
        exact=False,
    ),
    PublishedVQGAN(
        name="ibq-16384",
        repository="TencentARC/IBQ-Tokenizer-16384",
        file="imagenet256_16384.ckpt",
        size=888_000_000,
        sha256=None,
        trained_on="ImageNet",
        terms="Apache-2.0",
        architecture=replace(F16, num_res_blocks=4, n_embed=16384, quantiser="ibq"),
    ),
)

VQGANS: Mapping[str, PublishedVQGAN] = {entry.name: entry for entry in ENTRIES}
"""Name ─▶ published model; the names are those of the files in `configs/`."""
