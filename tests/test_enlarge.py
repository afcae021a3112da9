"""Enlarging: tiles that are the whole picture, memory that ends, and upscalers of other makers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from spandrel import ModelLoader
from tiny_upscaler import TWICE, random_upscaler, save, save_published
from torch import Tensor

from vqclip.common.errors import ModelError, OutOfMemoryError
from vqclip.common.images import to_image, to_tensor
from vqclip.models import enlarge as module
from vqclip.models.enlarge import Network, enlarge, enlarge_image, load_network, read_scale
from vqclip.models.upscaler import Upscaler, UpscalerSizes

CPU = torch.device("cpu")


class InTilesOf:
    """A network that says that only tiles of this side fit."""

    def __init__(self, network: Network, side: int) -> None:
        self.network, self.scale, self.reach = network, network.scale, network.reach
        self.pixel_bytes = module.ROOM // (side + 2 * network.reach) ** 2
        self.seen: list[tuple[int, ...]] = []

    def __call__(self, images: Tensor) -> Tensor:
        self.seen.append(tuple(images.shape[2:]))
        return self.network(images)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.builds(UpscalerSizes, st.just(4), st.integers(0, 3), st.integers(1, 4)),
    width=st.integers(1, 70),
    height=st.integers(1, 70),
    side=st.sampled_from([16, 32, 48]),
)
def test_tiles_are_the_whole_picture(sizes: UpscalerSizes, width: int, height: int, side: int) -> None:
    """They overlap by as much as the network reaches, so that only rounding differs."""
    network, image = random_upscaler(sizes), torch.rand(1, 3, height, width)
    tiled = InTilesOf(network, side)
    torch.testing.assert_close(enlarge(tiled, image), network(image).clamp(0, 1), atol=1e-6, rtol=0)
    assert len(tiled.seen) == -(-width // side) * -(-height // side)
    assert max(max(shape) for shape in tiled.seen) <= side + 2 * network.reach


def test_an_overlap_of_one_pixel_less_would_show() -> None:
    network, image = random_upscaler(UpscalerSizes(4, 2, 2)), torch.rand(1, 3, 40, 40)
    tiled = InTilesOf(network, 16)
    tiled.reach -= 1
    assert not torch.allclose(enlarge(tiled, image), network(image).clamp(0, 1), atol=1e-6)


def test_a_picture_is_the_same_alone_and_among_others() -> None:
    network, images = random_upscaler(), torch.rand(3, 3, 9, 7)
    assert torch.equal(enlarge(network, images)[1:2], enlarge(network, images[1:2]))


def test_an_image_is_what_its_pixels_become_and_the_tiles_are_counted() -> None:
    network = random_upscaler()
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 35, 3), dtype=np.uint8))
    told: list[tuple[int, int]] = []
    large = enlarge_image(InTilesOf(network, 16), image, CPU, lambda done, total: told.append((done, total)))
    assert large.size == (70, 100)
    difference = np.abs(np.int16(large) - np.int16(to_image(enlarge(network, to_tensor(image))[0])))
    assert difference.max() <= 1 and difference.mean() < 1e-3
    assert told == [(done, 12) for done in range(13)]


class Short:
    """A network for which the memory ends above so many pixels."""

    def __init__(self, pixels: int, error: Exception) -> None:
        self.network, self.pixels, self.error = random_upscaler(), pixels, error
        self.scale, self.reach, self.pixel_bytes = 2, self.network.reach, 0

    def __call__(self, images: Tensor) -> Tensor:
        if images.shape[2] * images.shape[3] > self.pixels:
            raise self.error
        return self.network(images)


ENDS = [
    torch.OutOfMemoryError("CUDA out of memory"),
    MemoryError(),
    RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
]


@pytest.mark.parametrize("error", ENDS)
def test_where_memory_ends_the_tiles_get_smaller(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    image = torch.rand(1, 3, 70, 90)
    short = Short(2000, error)
    torch.testing.assert_close(enlarge(short, image), short.network(image).clamp(0, 1), atol=1e-6, rtol=0)
    assert "tiles of 32 pixels" in caplog.text


def test_the_end_comes_only_after_the_smallest_tiles(caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(OutOfMemoryError, match="not even in small tiles"):
        enlarge(Short(100, MemoryError()), torch.rand(1, 3, 70, 90))
    assert f"tiles of {module.SMALLEST} pixels" in caplog.text


def test_other_failures_are_not_taken_for_memory() -> None:
    with pytest.raises(RuntimeError, match="odd"):
        enlarge(Short(0, RuntimeError("odd")), torch.rand(1, 3, 4, 4))


def test_the_picture_stays_within_its_range() -> None:
    network = random_upscaler()
    network.body[-1].bias.fill_(3.0)
    assert enlarge(network, torch.rand(1, 3, 4, 4)).unique().tolist() == [1.0]


# Files


def test_our_own_form_needs_no_other_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqclip.models.published_upscaler.find_spec", lambda name: None)
    model, image = random_upscaler(), torch.rand(1, 3, 8, 8)
    network = load_network(save(model, tmp_path / "up.safetensors"), CPU)
    torch.testing.assert_close(network(image), model(image))
    torch.save({"params": model.state_dict()}, tmp_path / "realesr.pth")
    assert torch.equal(load_network(tmp_path / "realesr.pth", CPU)(image), network(image))
    assert read_scale(tmp_path / "realesr.pth") == 2
    with pytest.raises(ModelError, match=r"needs another package: pip install 'vqclip\[upscale\]'"):
        load_network(save_published(tmp_path / "esrgan.pth"), CPU)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_published_network_computes_what_it_computes_elsewhere(tmp_path: Path, scale: int) -> None:
    path = save_published(tmp_path / "esrgan.pth", scale)
    network, image = load_network(path, CPU), torch.rand(1, 3, 12, 11)
    assert (network.scale, read_scale(path)) == (scale, scale)
    expected = ModelLoader("cpu").load_from_file(path)(image)
    assert torch.equal(enlarge(network, image), expected) and expected.shape == (1, 3, 12 * scale, 11 * scale)


@pytest.mark.parametrize("scale", [2, 4])
def test_a_small_published_network_in_tiles_is_the_whole_picture(tmp_path: Path, scale: int) -> None:
    """Its one block reaches 3 · 5 cells, and a few before and after: hardly further than it is shown. The one of scale
    2 first folds blocks of 2 x 2 pixels into a cell, which must be the same blocks.
    """
    network, image = load_network(save_published(tmp_path / "esrgan.pth", scale), CPU), torch.rand(1, 3, 76, 100)
    torch.testing.assert_close(enlarge(InTilesOf(network, 48), image), enlarge(network, image), atol=1e-5, rtol=0)


def test_a_network_that_must_see_the_whole_picture_gets_it(tmp_path: Path) -> None:
    from spandrel.architectures.SCUNet import SCUNet

    torch.save(SCUNet(config=[1] * 7).state_dict(), tmp_path / "scunet.pth")
    network = load_network(tmp_path / "scunet.pth", CPU)
    assert (network.pixel_bytes, network.scale) == (0, 1)
    assert enlarge(network, torch.rand(1, 3, 30, 26)).shape == (1, 3, 30, 26)


class Evil:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return (exec, ("raise SystemExit('ran')",))


def of_another_maker(path: Path) -> None:
    save_file({"a.weight": torch.rand(4, 4)}, path)


def with_code(path: Path) -> None:
    torch.save({"params": random_upscaler().state_dict(), "evil": Evil()}, path)


def torn(path: Path) -> None:
    save_published(path)
    path.write_bytes(path.read_bytes()[:2000])


def with_a_layer_missing(path: Path) -> None:
    save_published(path)
    content = torch.load(path, weights_only=True)["params_ema"]
    torch.save({name: value for name, value in content.items() if "RDB2.conv3" not in name}, path)


def with_nan(path: Path) -> None:
    model = random_upscaler()
    model.body[0].weight[0, 0, 0, 0] = torch.nan
    save(model, path)


def for_grey_pictures(path: Path) -> None:
    from spandrel.architectures.ESRGAN import ESRGAN

    torch.save(ESRGAN(in_nc=1, out_nc=1, num_filters=4, num_blocks=1).state_dict(), path)


def a_web_page(path: Path) -> None:
    path.write_text("<html>gone</html>")


def nothing(path: Path) -> None:
    path.write_bytes(b"")


def of_huge_claims(path: Path) -> None:
    """A last layer whose scale would be enormous."""
    weights = random_upscaler().state_dict()
    save_file({**weights, "body.4.weight": torch.zeros(3 * 64**2, 6, 3, 3)}, path)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (of_another_maker, "is not an upscaler, or one of an architecture"),
        (with_code, "wants to call"),
        (torn, "truncated or damaged"),
        (with_a_layer_missing, "do not fit together"),
        (with_nan, "NaN or infinity"),
        (for_grey_pictures, "does not make an RGB picture"),
        (a_web_page, "a web page"),
        (nothing, "an empty file"),
        (of_huge_claims, "do not fit together"),
    ],
)
def test_other_files_are_refused_in_one_sentence(make: Callable[[Path], None], says: str, tmp_path: Path) -> None:
    path = tmp_path / "up.pth"
    make(path)
    with pytest.raises(ModelError, match=says) as caught:
        load_network(path, CPU)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="There is no file"):
        load_network(tmp_path / "gone.pth", CPU)


def test_weights_are_read_in_fp32_and_frozen(tmp_path: Path) -> None:
    network = load_network(save(random_upscaler(TWICE), tmp_path / "half.safetensors", half=True), CPU)
    assert isinstance(network, Upscaler) and not any(value.requires_grad for value in network.parameters())
    assert {value.dtype for value in network.parameters()} == {torch.float32}
