"""Measures how sharp pictures are: the energy of their gradients over that of scenes drawn from the same captions.

    mapfile -t prompts < <(grep -v '#' configs/prompts/heldout-single.txt)
    python scripts/measure/sharpness.py single $(vqclip generate -q -o pictures/ -- "${prompts[@]}")

A picture is split into bands of a pyramid: what halving its size once takes away (details of 1 to 2 pixels), what
halving it again does (2 to 4), and once more (4 to 8). 1 is as sharp as drawn, less is softer, more is noise.
Pictures of 128 pixels are compared with the font's drawings, larger ones with vector drawings (scene_vectors.py).
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.data import draw_scenes
from vqclip.common.images import open_image, to_tensor

BANDS = ("1-2", "2-4", "4-8")  # pixels


def band_energies(pictures: Tensor) -> Tensor:
    """Mean squared difference of neighbouring pixels in each band, (3,), of pictures (N, 3, h, w) in [0, 1].

    The sides are multiples of 8.
    """
    energies = []
    for _ in BANDS:
        coarse = functional.avg_pool2d(pictures, 2)
        band = pictures - functional.interpolate(coarse, scale_factor=2.0, mode="bilinear")
        down, across = band[:, :, 1:] - band[:, :, :-1], band[..., 1:] - band[..., :-1]
        energies.append(down.square().mean() + across.square().mean())
        pictures = coarse
    return torch.stack(energies)


def drawn_like(pictures: Tensor, kind: str, seed: int, every: int = 1) -> Tensor:
    """The scenes of every such prompt of a held-out list, as many and as large as `pictures`."""
    scale = pictures.shape[-1] // draw_scenes.SIDE
    canvas = draw_scenes.Canvas(scale, "noto" if scale > 1 else "")
    drawn = draw_scenes.heldout_pictures(kind, seed, canvas)[::every][: len(pictures)]
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float() / 255


def main() -> None:
    """Prints the shares."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", choices=("single", "composed"), help="the held-out list that the pictures are of")
    parser.add_argument("pictures", type=Path, nargs="+", help="one a prompt, in the list's order")
    parser.add_argument("--seed", type=int, default=0, help="of the drawn scenes")
    parser.add_argument("--every", type=int, default=1, help="the pictures are of every such prompt of the list")
    options = parser.parse_args()
    pictures = torch.cat([to_tensor(open_image(file)) for file in options.pictures])
    shares = band_energies(pictures) / band_energies(drawn_like(pictures, options.list, options.seed, options.every))
    print(", ".join(f"{band} px: {float(share):.2f}" for band, share in zip(BANDS, shares, strict=True)))


if __name__ == "__main__":
    main()
