"""How different two pictures look to the image tower of a CLIP: LPIPS (Zhang et al. 2018, arXiv 1801.03924) with the
features of a model of our own, all layers counted alike."""

from pathlib import Path

import open_clip
import torch
from torch import Tensor, nn
from torch.nn import functional


class Perceptual(nn.Module):
    """Distance of two batches of pictures by the features inside the image tower of the CLIP in a folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.visual = open_clip.create_model(f"local-dir:{folder}").visual.eval().requires_grad_(False)
        self.side = self.visual.image_size[0] if isinstance(self.visual.image_size, tuple) else self.visual.image_size
        self.found: list[Tensor] = []
        for layer in _layers(self.visual):
            layer.register_forward_hook(lambda module, inputs, output: self.found.append(output))
        for name, values in (("mean", self.visual.image_mean), ("deviation", self.visual.image_std)):
            self.register_buffer(name, torch.tensor(values).view(1, 3, 1, 1))

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit feature vectors (N, places, channels) of every layer for images (N, 3, side, side) in [0, 1]."""
        self.found.clear()
        self.visual((images - self.mean) / self.deviation)
        tokens = [each.flatten(2).transpose(1, 2) if each.ndim == 4 else each for each in self.found]
        return [functional.normalize(each.float(), dim=-1) for each in tokens]

    def forward(self, images: Tensor, others: Tensor) -> Tensor:
        """Squared distance of the unit vectors, mean over places, layers and the batch: 0 for equal, at most 4.

        Pictures (N, 3, h, w) in [0, 1] of another size than the tower's are reduced to it by areas.
        """
        fitting = [functional.interpolate(each, (self.side, self.side), mode="area") for each in (images, others)]
        with torch.no_grad():
            wanted = self.features(fitting[0])
        pairs = zip(wanted, self.features(fitting[1]), strict=True)
        return torch.stack([(one - other).square().sum(-1).mean() for one, other in pairs]).mean()


def _layers(visual: nn.Module) -> list[nn.Module]:
    """The stages of a RegNet of timm's, or of CLIP's own ResNet."""
    if hasattr(visual, "trunk"):
        return [visual.trunk.s1, visual.trunk.s2, visual.trunk.s3, visual.trunk.s4]
    return [visual.layer1, visual.layer2, visual.layer3, visual.layer4]
