"""The published VQGANs that vqclip knows by name: where each is, what it learned, and on which terms."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from vqclip.hub.sources import HubFile, Place, WebFile
from vqclip.models.architecture import Architecture


@dataclass(frozen=True)
class PublishedVQGAN:
    """One published VQGAN.

    `places` are mirrors, best first. `size` is in bytes, exact where `sha256` is given, otherwise about, None where
    nobody wrote it down; both are the checkpoint's, not those of an archive around it. `architecture` is what the
    file was published as; the weights are loaded by what their tensors say, and differ only where `exact` is False
    (the sizes were worked out from the file's length or a sibling's YAML).
    """

    name: str
    places: tuple[Place, ...]
    size: int | None
    sha256: str | None
    trained_on: str
    good_for: str
    terms: str
    architecture: Architecture
    exact: bool = True

    @property
    def factor(self) -> int:
        """Pixels per latent cell, along each side."""
        return self.architecture.factor

    @property
    def quantiser(self) -> str:
        """`vq`, `gumbel`, `ibq` or `l2`."""
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

LDM = replace(F16, ch_mult=(1, 2, 2, 4), attn_resolutions=(32,), z_channels=4, embed_dim=4, n_embed=16384)
"""The ddconfig of latent diffusion's first stage vq-f8."""

COMPVIS_TERMS = "code MIT; the weights came without a licence of their own"


def _pytti(folder: str, mirrored: str | None = None) -> tuple[HubFile, ...]:
    """The two repositories that keep the classic files for PyTTI, the second under the name `mirrored`."""
    revision = "debc22c8f285c7734980c464ff992d335dde6e9a"
    first = HubFile("Somnai/pytti-vqgan-checkpoints", f"{folder}/{folder}.ckpt", revision)
    return (first, HubFile("pxlpshr/pytti-models", f"vqgan/{mirrored}.ckpt")) if mirrored else (first,)


def _heibox(share: str, file: str) -> WebFile:
    """A file on CompVis's own server."""
    return WebFile(f"https://heibox.uni-heidelberg.de/d/{share}/files/?p=%2F{file.replace('/', '%2F')}&dl=1")


def _release(project: str, version: str, file: str) -> WebFile:
    """A file of a GitHub release."""
    return WebFile(f"https://github.com/{project}/releases/download/{version}/{file}")


def _ommer(name: str) -> WebFile:
    """A first stage of latent diffusion, in its zip archive."""
    return WebFile(f"https://ommer-lab.com/files/latent-diffusion/{name}.zip", member="model.ckpt")


IBQ = replace(F16, num_res_blocks=4, n_embed=16384, quantiser="ibq")

LLAMAGEN = replace(F16, embed_dim=8, n_embed=16384, quantiser="l2")
LLAMAGEN_REVISION = "81e41139272c038412e4fe8f1c52a51ebbf95b8b"

ENTRIES = (
    PublishedVQGAN(
        name="imagenet-16384",
        places=(
            *_pytti("imagenet", "imagenet"),
            _release("mehdidc/feed_forward_vqgan_clip", "0.1", "vqgan_imagenet_f16_16384.ckpt"),
            _heibox("a7530b09fed84f80a887", "ckpts/last.ckpt"),
        ),
        size=980_092_370,
        sha256="845a68805098cb666420d5db93df53f3a3b6dd443e6dd85c05759c5b998cd663",
        trained_on="ImageNet",
        good_for="nearly everything; the classic look",
        terms=COMPVIS_TERMS,
        architecture=replace(F16, n_embed=16384),
    ),
    PublishedVQGAN(
        name="imagenet-1024",
        places=(
            HubFile("markweber/taming_vqgan", "taming_vqgan.ckpt"),
            HubFile("thomwolf/vqgan_imagenet_f16_1024", "pytorch_model.bin"),
        ),
        size=958_000_000,
        sha256=None,
        trained_on="ImageNet",
        good_for="looser, more abstract pictures than imagenet-16384",
        terms="MIT by its card",
        architecture=F16,
    ),
    PublishedVQGAN(
        name="gumbel-f8",
        places=(
            *_pytti("openimages", "openimages"),
            HubFile("neggles/vaedump", "taming/vq-gumbel-f8-8192/model.ckpt"),
            _heibox("2e5662443a6b4307b470", "ckpts/last.ckpt"),
        ),
        size=376_581_823,
        sha256="5cd6c74810ab97e00e942c25403f73afc081e8b19987b31ec0d9ff5b68e7ab14",
        trained_on="Open Images",
        good_for="small things and sharp edges; four times the cells of f16",
        terms=COMPVIS_TERMS,
        architecture=replace(F16, ch_mult=(1, 1, 2, 4), attn_resolutions=(32,), n_embed=8192, quantiser="gumbel"),
    ),
    PublishedVQGAN(
        name="wikiart-16384",
        places=(
            *_pytti("wikiart", "wikiart"),
            _release("pixray/pixray", "v1.7.1", "vqgan_wikiart_16384.ckpt"),
        ),
        size=1_005_327_541,
        sha256="bd08bb46301f98be1712bb2be9f8868cea30b53137cd985d4d6e8da8b3e02c36",
        trained_on="WikiArt paintings",
        good_for="paintings",
        terms="published without a licence of its own",
        architecture=replace(F16, n_embed=16384),
        exact=False,
    ),
    PublishedVQGAN(
        name="wikiart-1024",
        places=(
            _release("pixray/pixray", "v1.7.1", "vqgan_wikiart_1024.ckpt"),
            _release("Eleiber/VQGAN-Mirrors", "0.0.1", "wikiart_1024.ckpt"),
        ),
        size=958_000_000,
        sha256=None,
        trained_on="WikiArt paintings",
        good_for="looser paintings than wikiart-16384",
        terms="published without a licence of its own",
        architecture=F16,
        exact=False,
    ),
    PublishedVQGAN(
        name="coco",
        places=_pytti("coco", "coco_first_stage"),
        size=296_030_214,
        sha256="106cc20fde571df14afc4349d62218d8213cf47177c682ecaa78a8c28b12f9de",
        trained_on="COCO photographs of everyday scenes",
        good_for="everyday scenes",
        terms=COMPVIS_TERMS,
        architecture=replace(F16, n_embed=8192),
        exact=False,
    ),
    PublishedVQGAN(
        name="faceshq",
        places=_pytti("faceshq"),
        size=None,
        sha256="3274bba51bd565c90990bbcf7bb5dad0b9b95a6a77011980afc4c3cfc4d1cad1",
        trained_on="faces of CelebA-HQ and FFHQ",
        good_for="faces and portraits",
        terms=COMPVIS_TERMS,
        architecture=F16,
    ),
    PublishedVQGAN(
        name="sflckr",
        places=(*_pytti("sflickr", "sflckr"), _heibox("73487ab6e5314cb5adba", "checkpoints/last.ckpt")),
        size=4_263_525_412,
        sha256="8a8adea3da8dab412675772831370dd948e0aa97bb11a9488a2f328b58dbc929",
        trained_on="landscapes from Flickr (S-FLCKR)",
        good_for="landscapes",
        terms=COMPVIS_TERMS,
        architecture=F16,
        exact=False,
    ),
    PublishedVQGAN(
        name="vq-f4",
        places=(_ommer("vq-f4"),),
        size=None,
        sha256="aacf13951f4b18f5af9b47febdc696cf9559305d6de0821084abeaf342439251",
        trained_on="Open Images",
        good_for="the finest detail of all; sixteen times the cells of f16",
        terms=COMPVIS_TERMS,
        architecture=replace(LDM, ch_mult=(1, 2, 4), attn_resolutions=(), z_channels=3, embed_dim=3, n_embed=8192),
    ),
    PublishedVQGAN(
        name="vq-f8",
        places=(HubFile("neggles/vaedump", "taming/vq-f8/model.ckpt"), _ommer("vq-f8")),
        size=None,
        sha256=None,
        trained_on="Open Images",
        good_for="fine detail; four times the cells of f16",
        terms=COMPVIS_TERMS,
        architecture=LDM,
    ),
    PublishedVQGAN(
        name="vq-f8-n256",
        places=(HubFile("neggles/vaedump", "taming/vq-f8-n256/model.ckpt"), _ommer("vq-f8-n256")),
        size=904_000_000,
        sha256=None,
        trained_on="Open Images",
        good_for="fine detail from only 256 codes",
        terms=COMPVIS_TERMS,
        architecture=replace(LDM, n_embed=256),
    ),
    PublishedVQGAN(
        name="vq-f16",
        places=(
            HubFile("ktrk115/ldm-vq-f16", "model.safetensors"),
            HubFile("neggles/vaedump", "taming/vq-f16/model.ckpt"),
            _ommer("vq-f16"),
        ),
        size=278_000_000,
        sha256=None,
        trained_on="Open Images",
        good_for="broad shapes from a codebook of 8 channels",
        terms=COMPVIS_TERMS,
        architecture=replace(F16, z_channels=8, embed_dim=8, n_embed=16384),
    ),
    PublishedVQGAN(
        name="ibq-16384",
        places=(HubFile("TencentARC/IBQ-Tokenizer-16384", "imagenet256_16384.ckpt"),),
        size=888_000_000,
        sha256=None,
        trained_on="ImageNet",
        good_for="the cleanest reconstructions at 16 pixels a cell",
        terms="Apache-2.0",
        architecture=IBQ,
    ),
    PublishedVQGAN(
        name="ibq-262144",
        places=(HubFile("TencentARC/IBQ-Tokenizer-262144", "imagenet256_262144.ckpt"),),
        size=None,
        sha256=None,
        trained_on="ImageNet",
        good_for="the finest reconstructions at 16 pixels a cell, for sixteen times the search",
        terms="Apache-2.0",
        architecture=replace(IBQ, n_embed=262144),
    ),
    PublishedVQGAN(
        name="ibq-web-16384",
        places=(HubFile("TencentARC/IBQ-Tokenizer-16384-Pretrain", "IBQ_pretrain_16384.ckpt"),),
        size=None,
        sha256=None,
        trained_on="200 million pictures of the web",
        good_for="what ImageNet lacks: people, drawings, posters, text-like things",
        terms="Apache-2.0",
        architecture=IBQ,
    ),
    PublishedVQGAN(
        name="ibq-web-262144",
        places=(HubFile("TencentARC/IBQ-Tokenizer-262144-Pretrain", "IBQ_pretrain_262144.ckpt"),),
        size=None,
        sha256=None,
        trained_on="200 million pictures of the web",
        good_for="the same, finer, for sixteen times the search",
        terms="Apache-2.0",
        architecture=replace(IBQ, n_embed=262144),
    ),
    PublishedVQGAN(
        name="llamagen-f16",
        places=(HubFile("FoundationVision/LlamaGen", "vq_ds16_c2i.pt", LLAMAGEN_REVISION),),
        size=None,
        sha256=None,
        trained_on="ImageNet",
        good_for="a codebook of 8 channels on a sphere; best at 512 pixels",
        terms="MIT",
        architecture=LLAMAGEN,
    ),
    PublishedVQGAN(
        name="llamagen-f8",
        places=(HubFile("FoundationVision/LlamaGen", "vq_ds8_c2i.pt", LLAMAGEN_REVISION),),
        size=None,
        sha256="c70d2966ec012f378793214ff0755087e7c5fe6f035b469995143325dca4a4e3",
        trained_on="ImageNet",
        good_for="shapes and fine detail; four times the cells of f16",
        terms="MIT",
        architecture=replace(LLAMAGEN, ch_mult=(1, 2, 2, 4), attn_resolutions=(32,)),
    ),
    PublishedVQGAN(
        name="llamagen-web-f16",
        places=(HubFile("peizesun/llamagen_t2i", "vq_ds16_t2i.pt"),),
        size=None,
        sha256=None,
        trained_on="pictures of the web with texts",
        good_for="what ImageNet lacks, as ibq-web-16384, with a smaller network",
        terms="MIT",
        architecture=LLAMAGEN,
    ),
)

VQGANS: Mapping[str, PublishedVQGAN] = {entry.name: entry for entry in ENTRIES}
"""Name ─▶ published VQGAN; the names are those of the files in `configs/`."""
