"""The published CLIP models that vqclip knows by name: where each is, how good it is, and on which terms."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PublishedCLIP:
    """One CLIP model of open_clip's worth guiding with, named `model:tag` as open_clip lists it, or
    `hf-hub:OWNER/NAME`.

    `repository` is on Hugging Face. `parameters` and `image_parameters` (of the image tower, which is all that a run
    keeps) are in millions, `gflop` is an image's cost, `zero_shot` its accuracy on ImageNet without training on it,
    in percent, where it is known. `needs` names a package that is not installed with vqclip, `architecture` open_clip's
    name for what a repository holds. One that is not on the hub has the address of its file in `web` instead.
    """

    name: str
    repository: str
    side: int
    parameters: int
    image_parameters: int
    gflop: float | None
    zero_shot: float | None
    good_for: str
    terms: str
    needs: str | None = None
    architecture: str | None = None
    web: str | None = None

    @property
    def size_text(self) -> str:
        """About the size of its file, for people: four bytes a parameter."""
        return f"about {4 * self.parameters:,} MB"


MIT = "MIT"
APPLE = "Apple's licence, research only"

ROBUST = "hf-hub:chs20/FARE4-ViT-B-32-laion2B-s34B-b79K"
"""The quickest of the robust ones."""

GUIDES = (
    PublishedCLIP(
        "ViT-B-32-quickgelu:openai",
        "timm/vit_base_patch32_clip_224.openai",
        224,
        151,
        88,
        8.8,
        63.3,
        "the classic look of 2021",
        MIT,
    ),
    PublishedCLIP(
        "ViT-B-32:laion2b_s34b_b79k",
        "laion/CLIP-ViT-B-32-laion2B-s34B-b79K",
        224,
        151,
        88,
        8.8,
        66.6,
        "quick, wide knowledge",
        MIT,
    ),
    PublishedCLIP(
        "ViT-B-32:datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-32-DataComp.XL-s13B-b90K",
        224,
        151,
        88,
        8.8,
        69.2,
        "quick, wide knowledge",
        MIT,
    ),
    PublishedCLIP(
        "ViT-B-32-256:datacomp_s34b_b86k",
        "laion/CLIP-ViT-B-32-256x256-DataComp-s34B-b86K",
        256,
        151,
        88,
        11.5,
        72.8,
        "the best quick one",
        MIT,
    ),
    PublishedCLIP(
        "ViT-B-16-quickgelu:openai",
        "timm/vit_base_patch16_clip_224.openai",
        224,
        150,
        86,
        35,
        68.3,
        "finer detail than B-32, classic",
        MIT,
    ),
    PublishedCLIP(
        "ViT-B-16:datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-B-16-DataComp.XL-s13B-b90K",
        224,
        150,
        86,
        35,
        73.5,
        "finer detail than B-32",
        MIT,
    ),
    PublishedCLIP(
        "ViT-B-16:laion2b_s34b_b88k",
        "laion/CLIP-ViT-B-16-laion2B-s34B-b88K",
        224,
        150,
        86,
        35,
        70.2,
        "finer detail than B-32",
        MIT,
    ),
    PublishedCLIP(
        "EVA02-B-16:merged2b_s8b_b131k",
        "timm/eva02_base_patch16_clip_224.merged2b_s8b_b131k",
        224,
        150,
        86,
        35,
        74.7,
        "finer detail than B-32",
        MIT,
    ),
    PublishedCLIP(
        "RN50-quickgelu:openai",
        "timm/resnet50_clip.openai",
        224,
        102,
        38,
        12,
        59.8,
        "a partner beside a ViT: other textures",
        MIT,
    ),
    PublishedCLIP(
        "RN50x4-quickgelu:openai",
        "timm/resnet50x4_clip.openai",
        288,
        178,
        87,
        43,
        66.3,
        "a partner beside a ViT: other textures",
        MIT,
    ),
    PublishedCLIP(
        "convnext_base_w:laion2b_s13b_b82k_augreg",
        "laion/CLIP-convnext_base_w-laion2B-s13B-b82K-augreg",
        256,
        179,
        88,
        40,
        71.5,
        "a partner beside a ViT: less patchy",
        MIT,
    ),
    PublishedCLIP(
        "ViT-L-14:datacomp_xl_s13b_b90k",
        "laion/CLIP-ViT-L-14-DataComp.XL-s13B-b90K",
        224,
        428,
        304,
        162,
        79.2,
        "knows most; wants a GPU",
        MIT,
    ),
    PublishedCLIP(
        "ViT-L-14-quickgelu:openai",
        "timm/vit_large_patch14_clip_224.openai",
        224,
        428,
        304,
        162,
        75.5,
        "the classic large one; wants a GPU",
        MIT,
    ),
    PublishedCLIP(
        "ViT-H-14:laion2b_s32b_b79k",
        "laion/CLIP-ViT-H-14-laion2B-s32B-b79K",
        224,
        986,
        632,
        None,
        78.0,
        "GPUs with 16 GB or more",
        MIT,
    ),
    PublishedCLIP(
        "ViT-B-32-SigLIP2-256:webli",
        "timm/ViT-B-32-SigLIP2-256",
        256,
        377,
        95,
        None,
        74.0,
        "many languages",
        "Apache-2.0",
        needs="transformers",
    ),
    PublishedCLIP(
        "ViT-B-16-SigLIP2-256:webli",
        "timm/ViT-B-16-SigLIP2-256",
        256,
        375,
        93,
        47,
        79.1,
        "many languages",
        "Apache-2.0",
        needs="transformers",
    ),
    PublishedCLIP(
        "PE-Core-B-16:meta", "timm/PE-Core-B-16", 224, 448, 94, None, 78.4, "knows much for its size", "Apache-2.0"
    ),
    PublishedCLIP(
        "MobileCLIP2-S0:dfndr2b",
        "timm/MobileCLIP2-S0-OpenCLIP",
        256,
        75,
        11,
        None,
        71.5,
        "the quickest image tower",
        APPLE,
    ),
    PublishedCLIP(
        "MobileCLIP2-S2:dfndr2b", "timm/MobileCLIP2-S2-OpenCLIP", 256, 99, 36, None, 77.2, "quick, knows much", APPLE
    ),
)

ROBUST_GUIDES = (
    PublishedCLIP(
        ROBUST,
        "chs20/FARE4-ViT-B-32-laion2B-s34B-b79K",
        224,
        151,
        88,
        8.8,
        None,
        "shapes instead of speckles: robust to changes of 4/255; beside an ordinary one, which knows more words",
        MIT,
        architecture="ViT-B-32",
    ),
    PublishedCLIP(
        "hf-hub:chs20/TeCoA4-ViT-B-32-laion2B-s34B-b79K",
        "chs20/TeCoA4-ViT-B-32-laion2B-s34B-b79K",
        224,
        151,
        88,
        8.8,
        None,
        "robust to 4/255 by labels of ImageNet; knows less than FARE4",
        MIT,
        architecture="ViT-B-32",
    ),
    PublishedCLIP(
        "hf-hub:chs20/FARE4-ViT-B-16-laion2B-s34B-b88K",
        "chs20/FARE4-ViT-B-16-laion2B-s34B-b88K",
        224,
        150,
        86,
        35,
        None,
        "robust to 4/255, finer detail than B-32",
        MIT,
        architecture="ViT-B-16",
    ),
    PublishedCLIP(
        "hf-hub:chs20/FARE4-convnext_base_w-laion2B-s13B-b82K-augreg",
        "chs20/FARE4-convnext_base_w-laion2B-s13B-b82K-augreg",
        256,
        179,
        88,
        None,
        None,
        "robust to 4/255, knows most of the small robust ones",
        MIT,
        architecture="convnext_base_w",
    ),
    PublishedCLIP(
        "hf-hub:chs20/TeCoA4-convnext_base_w-laion2B-s13B-b82K-augreg",
        "chs20/TeCoA4-convnext_base_w-laion2B-s13B-b82K-augreg",
        256,
        179,
        88,
        None,
        None,
        "robust to 4/255; of these the nearest to how people compare pictures",
        MIT,
        architecture="convnext_base_w",
    ),
    PublishedCLIP(
        "hf-hub:chs20/fare2-clip",
        "chs20/fare2-clip",
        224,
        428,
        304,
        None,
        None,
        "a large one, robust to 2/255; wants a GPU",
        MIT,
        architecture="ViT-L-14",
    ),
    PublishedCLIP(
        "hf-hub:chs20/fare4-clip",
        "chs20/fare4-clip",
        224,
        428,
        304,
        None,
        None,
        "a large one, robust to 4/255; wants a GPU",
        MIT,
        architecture="ViT-L-14",
    ),
    PublishedCLIP(
        "ViT-B-32:clipag",
        "",
        224,
        151,
        88,
        8.8,
        None,
        "of all, the best pictures by the gradient of its likings alone (by others' figures); its hash is not known",
        "not stated",
        architecture="ViT-B-32",
        web="https://zenodo.org/records/10446026/files/CLIPAG_ViTB32.pt?download=1",
    ),
)
"""Trained so that small changes of a picture change little: C. Schlarmann et al., "Robust CLIP" (2024,
https://arxiv.org/abs/2402.12336); the last, R. Ganz and M. Elad, "CLIPAG" (2023, https://arxiv.org/abs/2306.16805). By
hearsay, none of them ran here; their gradients are said to draw shapes."""

CLIPS: Mapping[str, PublishedCLIP] = {entry.name: entry for entry in (*GUIDES, *ROBUST_GUIDES)}
"""Name ─▶ CLIP model worth guiding with; every other one that open_clip lists, or the hub has for it, works too."""
