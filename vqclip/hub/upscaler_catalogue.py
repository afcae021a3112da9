"""The published upscalers that vqclip knows by name: Real-ESRGAN's (Wang et al. 2021, https://arxiv.org/abs/2107.10833),
where each is, what it is for, and on which terms.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec

from vqclip.hub.sources import WebFile


@dataclass(frozen=True)
class PublishedUpscaler:
    """One published upscaler: where it is, its exact `size` in bytes and SHA-256, how many times the sides grow.

    `own_form` says that vqclip's own network reads it; the others need the extra `upscale`.
    """

    name: str
    place: WebFile
    size: int
    sha256: str
    scale: int
    good_for: str
    terms: str
    own_form: bool

    @property
    def size_text(self) -> str:
        """The size of the file, for people."""
        return f"{self.size / 1e6:,.0f} MB"

    @property
    def needs(self) -> str | None:
        """What has to be installed before vqclip reads it, or None where that is so already."""
        return None if self.own_form or find_spec("spandrel") else "pip install 'vqclip[upscale]'"


PLAIN = "realesr-general-x4v3"
"""The one for any picture, photographs too, that needs no other package."""

TERMS = "BSD-3-Clause"


def _release(version: str, file: str) -> WebFile:
    """A file of Real-ESRGAN's releases."""
    return WebFile(f"https://github.com/xinntao/Real-ESRGAN/releases/download/{version}/{file}")


ENTRIES = (
    PublishedUpscaler(
        name="realesrgan-x4plus",
        place=_release("v0.1.0", "RealESRGAN_x4plus.pth"),
        size=67_040_989,
        sha256="4fa0d38905f75ac06eb49a7951b426670021be3018265fd191d2125df9d682f1",
        scale=4,
        good_for="photographs and paintings; the best known, slow on a CPU",
        terms=TERMS,
        own_form=False,
    ),
    PublishedUpscaler(
        name="realesrgan-x2plus",
        place=_release("v0.2.1", "RealESRGAN_x2plus.pth"),
        size=67_061_725,
        sha256="49fafd45f8fd7aa8d31ab2a22d14d91b536c34494a5cfe31eb5d89c2fa266abb",
        scale=2,
        good_for="photographs and paintings, half as large as x4plus and four times as fast",
        terms=TERMS,
        own_form=False,
    ),
    PublishedUpscaler(
        name="realesrgan-x4plus-anime",
        place=_release("v0.2.2.4", "RealESRGAN_x4plus_anime_6B.pth"),
        size=17_938_799,
        sha256="f872d837d3c90ed2e05227bed711af5671a6fd1c9f7d7e91c911a61f155e99da",
        scale=4,
        good_for="drawings: flat colours and lines",
        terms=TERMS,
        own_form=False,
    ),
    PublishedUpscaler(
        name="realesr-general-x4v3",
        place=_release("v0.2.5.0", "realesr-general-x4v3.pth"),
        size=4_885_111,
        sha256="8dc7edb9ac80ccdc30c3a5dca6616509367f05fbc184ad95b731f05bece96292",
        scale=4,
        good_for="any picture, in seconds on a CPU",
        terms=TERMS,
        own_form=True,
    ),
    PublishedUpscaler(
        name="realesr-animevideov3",
        place=_release("v0.2.5.0", "realesr-animevideov3.pth"),
        size=2_504_012,
        sha256="b8a8376811077954d82ca3fcf476f1ac3da3e8a68a4f4d71363008000a18b75d",
        scale=4,
        good_for="drawings and frames of videos, the quickest",
        terms=TERMS,
        own_form=True,
    ),
)

UPSCALERS: Mapping[str, PublishedUpscaler] = {entry.name: entry for entry in ENTRIES}
"""Name ─▶ published upscaler."""
