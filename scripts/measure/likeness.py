"""Measures how like drawn scenes pictures are, as a set: the kernel distance of a judge's features.

    mapfile -t prompts < <(grep -v '#' configs/prompts/heldout-single.txt)
    python scripts/measure/likeness.py single $(vqclip generate -q -o pictures/ -- "${prompts[@]}")

KID (Binkowski et al. 2018, arXiv 1801.01401, section 4) with the embeddings of the embedded judge instead of
Inception's features: 0 for pictures that are drawn scenes for all the judge can tell, whatever their captions. Beside
it stands what other drawn scenes of the same captions get: a difference smaller than that is chance.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

if not __package__:  # run as a file: `scripts` is found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from scripts.measure.sharpness import drawn_like
from vqclip.common.images import open_image, to_tensor
from vqclip.hub.clip_files import find_clip
from vqclip.models.perceptor import Perceptor, load_perceptor


def kernel_distance(some: Tensor, others: Tensor) -> float:
    """Unbiased squared maximum mean discrepancy of two sets of vectors (N, D) under the kernel (x · y / D + 1)³, with
    the vectors as long as their numbers are many (a mean square of 1).

    Vectors in the same row are of the same caption, and not compared: two drawings of it are no chance meeting.
    """
    count, width = some.shape

    def mean(left: Tensor, right: Tensor) -> Tensor:
        products = (left @ right.t() / width + 1) ** 3
        return (products.sum() - products.diagonal().sum()) / (count * (count - 1))

    return float(mean(some, some) + mean(others, others) - 2 * mean(some, others))


def embedded(judge: Perceptor, images: Tensor) -> Tensor:
    """The judge's vectors (N, D) of pictures (N, 3, h, w) in [0, 1], of length √D."""
    vectors = torch.cat([judge.encode_image(judge.view(part)) for part in images.split(32)])
    return vectors * vectors.shape[1] ** 0.5


@torch.no_grad()
def main() -> None:
    """Prints the distances."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("list", choices=("single", "composed"), help="the held-out list that the pictures are of")
    parser.add_argument("pictures", type=Path, nargs="+", help="one a prompt, in the list's order")
    parser.add_argument("--every", type=int, default=1, help="the pictures are of every such prompt of the list")
    parser.add_argument("--judge", default="embedded-judge", help="the CLIP that sees")
    options = parser.parse_args()
    judge = load_perceptor(find_clip(options.judge), torch.device("cpu"))
    pictures = torch.cat([to_tensor(open_image(file)) for file in options.pictures])
    drawn = [embedded(judge, drawn_like(pictures, options.list, seed, options.every)) for seed in range(4)]
    made = embedded(judge, pictures)
    distance = sum(kernel_distance(made, each) for each in drawn) / len(drawn)
    pairs = [kernel_distance(drawn[i], drawn[j]) for i in range(len(drawn)) for j in range(i)]
    print(f"kernel distance {distance:.4f} of {len(made)} pictures; drawn scenes {min(pairs):.4f} to {max(pairs):.4f}")


if __name__ == "__main__":
    main()
