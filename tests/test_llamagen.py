"""LlamaGen's tokenizers: the published layout, and what it computes, in plain maths from the file's own tensors."""

from itertools import pairwise
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from tiny_vqgan import L2
from torch import Tensor

from vqclip.hub.vqgan_catalogue import VQGANS
from vqclip.models.llamagen import in_our_names
from vqclip.models.vqgan import VQGAN, load_vqgan, read_architecture, save_vqgan

WIDTHS, BLOCKS, CELLS = [32, 64, 64], 1, 8


def published() -> dict[str, Tensor]:
    """A narrow tokenizer in the layout of tokenizer/tokenizer_image/vq_model.py of FoundationVision/LlamaGen."""
    shapes: dict[str, tuple[int, ...]] = {}

    def norm(name: str, width: int) -> None:
        shapes[f"{name}.weight"] = shapes[f"{name}.bias"] = (width,)

    def conv(name: str, into: int, out: int, side: int = 3) -> None:
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = (out, into, side, side), (out,)

    def block(name: str, into: int, out: int) -> None:
        norm(f"{name}.norm1", into), conv(f"{name}.conv1", into, out)
        norm(f"{name}.norm2", out), conv(f"{name}.conv2", out, out)
        if into != out:
            conv(f"{name}.nin_shortcut", into, out, 1)

    def attention(name: str, width: int) -> None:
        norm(f"{name}.norm", width)
        for part in ("q", "k", "v", "proj_out"):
            conv(f"{name}.{part}", width, width, 1)

    def middle(side: str, width: int) -> None:
        block(f"{side}.mid.0", width, width), attention(f"{side}.mid.1", width), block(f"{side}.mid.2", width, width)

    def levels(side: str, widths: list[int], count: int, deepest: int, resample: str) -> None:
        for level, (into, out) in enumerate(pairwise(widths)):
            name = f"{side}.conv_blocks.{level}"
            for number in range(count):
                block(f"{name}.res.{number}", out if number else into, out)
                if level == deepest:
                    attention(f"{name}.attn.{number}", out)
            if level < len(widths) - 2:
                conv(f"{name}.{resample}.conv", out, out)

    conv("encoder.conv_in", 3, WIDTHS[0])
    levels("encoder", [WIDTHS[0], *WIDTHS], BLOCKS, len(WIDTHS) - 1, "downsample")
    middle("encoder", WIDTHS[-1])
    norm("encoder.norm_out", WIDTHS[-1]), conv("encoder.conv_out", WIDTHS[-1], 32)
    conv("decoder.conv_in", 32, WIDTHS[-1])
    levels("decoder", [WIDTHS[-1], *reversed(WIDTHS)], BLOCKS + 1, 0, "upsample")
    middle("decoder", WIDTHS[-1])
    norm("decoder.norm_out", WIDTHS[0]), conv("decoder.conv_out", WIDTHS[0], 3)
    conv("quant_conv", 32, CELLS, 1), conv("post_quant_conv", CELLS, 32, 1)
    shapes["quantize.embedding.weight"] = (64, CELLS)
    rng = torch.Generator().manual_seed(0)
    tensors = {
        name: torch.randn(shape, generator=rng) / max(1, sum(shape[1:])) ** 0.5 + (name.split(".")[-2][:4] == "norm")
        for name, shape in shapes.items()
    }
    return {**tensors, "quantize.codebook_used": torch.zeros(65536)}


class Plain:
    """What the published program computes, from its tensors alone."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self.entries = tensors["quantize.embedding.weight"]
        self.entries = self.entries / self.entries.square().sum(1, keepdim=True).sqrt()

    def conv(self, name: str, x: Tensor, **how: int) -> Tensor:
        return F.conv2d(x, self.tensors[f"{name}.weight"], self.tensors[f"{name}.bias"], **how)

    def norm(self, name: str, x: Tensor) -> Tensor:
        groups = x.unflatten(1, (32, -1))
        over = (2, 3, 4)
        mean, var = groups.mean(over, keepdim=True), groups.var(over, correction=0, keepdim=True)
        weight, bias = (self.tensors[f"{name}.{part}"][:, None, None] for part in ("weight", "bias"))
        return ((groups - mean) / (var + 1e-6).sqrt()).flatten(1, 2) * weight + bias

    def swished(self, name: str, x: Tensor) -> Tensor:
        x = self.norm(name, x)
        return x * x.sigmoid()

    def block(self, name: str, x: Tensor) -> Tensor:
        h = self.conv(f"{name}.conv1", self.swished(f"{name}.norm1", x), padding=1)
        h = self.conv(f"{name}.conv2", self.swished(f"{name}.norm2", h), padding=1)
        return h + (self.conv(f"{name}.nin_shortcut", x) if f"{name}.nin_shortcut.weight" in self.tensors else x)

    def attention(self, name: str, x: Tensor) -> Tensor:
        q, k, v = (self.conv(f"{name}.{part}", self.norm(f"{name}.norm", x)).flatten(2) for part in "qkv")
        share = (q.transpose(1, 2) @ k * x.shape[1] ** -0.5).softmax(-1)  # of each place's look at the others
        return x + self.conv(f"{name}.proj_out", (v @ share.transpose(1, 2)).view_as(x))

    def level(self, name: str, x: Tensor, count: int) -> Tensor:
        for number in range(count):
            x = self.block(f"{name}.res.{number}", x)
            if f"{name}.attn.{number}.q.weight" in self.tensors:
                x = self.attention(f"{name}.attn.{number}", x)
        return x

    def middle(self, side: str, x: Tensor) -> Tensor:
        return self.block(f"{side}.mid.2", self.attention(f"{side}.mid.1", self.block(f"{side}.mid.0", x)))

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The latent of unit length, and the codes."""
        x = self.conv("encoder.conv_in", 2 * images - 1, padding=1)
        for level in range(len(WIDTHS)):
            x = self.level(f"encoder.conv_blocks.{level}", x, BLOCKS)
            if level < len(WIDTHS) - 1:
                x = self.conv(f"encoder.conv_blocks.{level}.downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2)
        x = self.swished("encoder.norm_out", self.middle("encoder", x))
        z = self.conv("quant_conv", self.conv("encoder.conv_out", x, padding=1))
        z = z / z.square().sum(1, keepdim=True).sqrt()
        return z, (z[:, None] - self.entries[None, :, :, None, None]).square().sum(2).argmin(1)

    def decode(self, codes: Tensor) -> Tensor:
        x = self.conv("post_quant_conv", self.entries[codes].permute(0, 3, 1, 2))
        x = self.middle("decoder", self.conv("decoder.conv_in", x, padding=1))
        for level in range(len(WIDTHS)):
            x = self.level(f"decoder.conv_blocks.{level}", x, BLOCKS + 1)
            if level < len(WIDTHS) - 1:
                x = x.repeat_interleave(2, -1).repeat_interleave(2, -2)
                x = self.conv(f"decoder.conv_blocks.{level}.upsample.conv", x, padding=1)
        return (self.conv("decoder.conv_out", self.swished("decoder.norm_out", x), padding=1) + 1) / 2


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "vq_ds4.pt"
    torch.save({"model": published(), "steps": 7}, path)
    return path


def test_a_published_file_computes_what_its_program_does(file: Path) -> None:
    model, plain = load_vqgan(file), Plain(published())
    images = torch.rand(2, 3, 32, 48, generator=torch.Generator().manual_seed(1))
    assert model.architecture == read_architecture(file) and model.architecture.quantiser == "l2"
    latent, codes = plain.encode(images)
    assert len(codes.unique()) > 10
    torch.testing.assert_close(model.encode(images), latent, rtol=0, atol=1e-5)
    assert torch.equal(model.codes(model.encode(images)), codes)
    torch.testing.assert_close(model.decode(model.lookup(codes)), plain.decode(codes), rtol=0, atol=1e-4)


def test_entries_are_on_a_sphere_and_a_latent_beside_it_has_the_nearest_by_angle(file: Path) -> None:
    model = load_vqgan(file)
    torch.testing.assert_close(model.codebook.norm(dim=1), torch.ones(64))
    latent = torch.randn(2, CELLS, 3, 4, generator=torch.Generator().manual_seed(2))
    assert torch.equal(model.codes(latent), model.codes(0.01 * latent))
    entries = model.lookup(model.codes(latent))
    assert torch.equal(model.quantise(entries), entries)


def test_it_is_stored_under_our_names_and_stays_the_same(file: Path, tmp_path: Path) -> None:
    stored = tmp_path / "ours.safetensors"
    assert save_vqgan(file, stored).quantiser == "l2"
    one, other = load_vqgan(file), load_vqgan(stored)
    assert other.architecture == one.architecture
    images = torch.rand(1, 3, 16, 16, generator=torch.Generator().manual_seed(1))
    assert torch.equal(one.render(one.encode(images)), other.render(other.encode(images)))


def test_the_names_are_all_ours() -> None:
    with torch.device("meta"):
        ours = VQGAN(L2).state_dict()
    renamed = in_our_names(published())
    assert {name: tensor.shape for name, tensor in renamed.items()} == {
        name: tensor.shape for name, tensor in ours.items()
    }


@pytest.mark.parametrize(("name", "millions"), [("llamagen-f16", 72), ("llamagen-f8", 70)])
def test_the_published_sizes_have_as_many_numbers_as_their_page_says(name: str, millions: int) -> None:
    with torch.device("meta"):
        ours = VQGAN(VQGANS[name].architecture).state_dict()
    assert round(sum(tensor.numel() for tensor in ours.values()) / 1e6) == millions
