"""The upscaler: SRVGGNetCompact as its authors wrote it down, and sizes that follow from the file alone."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from tiny_upscaler import random_upscaler, save
from torch import Tensor
from torch.nn import functional

from vqclip.common.errors import ModelError
from vqclip.models.upscaler import Upscaler, UpscalerSizes, infer_sizes, load_upscaler

SIZES = [UpscalerSizes(8, 0, 2), UpscalerSizes(12, 3, 2), UpscalerSizes(6, 2, 4), UpscalerSizes(4, 1, 1)]


def by_loops(weights: dict[str, Tensor], image: Tensor, sizes: UpscalerSizes) -> Tensor:
    """The network in plain loops: convolutions and PReLUs, then scale² channels a colour become scale² pixels."""
    x = image
    last = 2 * sizes.depth + 2
    for number in range(0, last + 1, 2):
        x = functional.conv2d(x, weights[f"body.{number}.weight"], weights[f"body.{number}.bias"], padding=1)
        if number < last:
            slopes = weights[f"body.{number + 1}.weight"].view(1, -1, 1, 1)
            x = torch.where(x > 0, x, slopes * x)
    _, _, height, width = image.shape
    large = torch.empty(len(image), 3, height * sizes.scale, width * sizes.scale)
    for row in range(large.shape[2]):
        for column in range(large.shape[3]):
            (y, down), (left, across) = divmod(row, sizes.scale), divmod(column, sizes.scale)
            for colour in range(3):
                channel = (colour * sizes.scale + down) * sizes.scale + across
                large[:, colour, row, column] = x[:, channel, y, left] + image[:, colour, y, left]
    return large


@pytest.mark.parametrize("sizes", SIZES)
def test_it_computes_what_a_plain_loop_computes(sizes: UpscalerSizes) -> None:
    model = random_upscaler(sizes)
    image = torch.rand(2, 3, 5, 7)
    large = model(image)
    assert large.shape == (2, 3, 5 * sizes.scale, 7 * sizes.scale)
    torch.testing.assert_close(large, by_loops(model.state_dict(), image, sizes))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("half", [False, True])
def test_the_sizes_follow_from_the_file(sizes: UpscalerSizes, half: bool, tmp_path: Path) -> None:
    model = random_upscaler(sizes)
    loaded = load_upscaler(save(model, tmp_path / "up.safetensors", half))
    assert loaded.sizes == sizes
    image = torch.rand(1, 3, 4, 4)
    assert loaded(image).dtype == torch.float32
    torch.testing.assert_close(loaded(image), model(image), atol=2e-3 if half else 0, rtol=0)
    assert not loaded.training and not any(p.requires_grad for p in loaded.parameters())


def test_the_keys_are_the_published_ones() -> None:
    """As in realesr-general-x4v3.pth: body.0, its PReLU body.1, …, a last convolution to 3 · scale² channels."""
    names = list(Upscaler(UpscalerSizes(64, 32, 4)).state_dict())
    assert names[:3] == ["body.0.weight", "body.0.bias", "body.1.weight"]
    assert names[-2:] == ["body.66.weight", "body.66.bias"]
    shapes = {name: tuple(value.shape) for name, value in Upscaler(UpscalerSizes(64, 32, 4)).state_dict().items()}
    assert infer_sizes(shapes) == UpscalerSizes(features=64, depth=32, scale=4)


@pytest.mark.parametrize("number", ["400000", "999999999", "9" * 5000, "5"])
def test_a_name_does_not_ask_for_layers_that_are_not_there(number: str) -> None:
    shapes = {"body.0.weight": (8, 3, 3, 3), "body.1.weight": (8,), f"body.{number}.weight": (12, 8, 3, 3)}
    assert infer_sizes(shapes) is None


def test_a_pixel_reaches_no_further_than_it_says() -> None:
    model = random_upscaler(UpscalerSizes(6, 2, 2))
    image = torch.rand(1, 3, 21, 21)
    changed = image.clone()
    changed[..., 10, 10] += 0.5
    rows = (model(image) != model(changed)).any(1)[0].any(1).nonzero().flatten() // 2
    assert (int(rows.min()), int(rows.max())) == (10 - model.reach, 10 + model.reach)


@pytest.mark.parametrize("wrong", ["other names", "other shapes", "one tensor less", "no picture", "garbage"])
def test_other_files_are_refused_in_one_sentence(wrong: str, tmp_path: Path) -> None:
    weights = random_upscaler(UpscalerSizes(8, 1, 2)).state_dict()
    torn = {
        "other names": {f"net.{name}": value for name, value in weights.items()},
        "other shapes": {**weights, "body.2.weight": torch.zeros(8, 9, 3, 3)},
        "one tensor less": {name: value for name, value in weights.items() if name != "body.3.weight"},
        "no picture": {**weights, "body.4.weight": torch.zeros(2, 8, 3, 3), "body.4.bias": torch.zeros(2)},
        "garbage": {},
    }[wrong]
    path = tmp_path / "up.safetensors"
    save_file(torn, path)
    if wrong == "garbage":
        path.write_bytes(path.read_bytes()[:5])
    with pytest.raises(ModelError) as caught:
        load_upscaler(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)
