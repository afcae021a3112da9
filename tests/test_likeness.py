"""Losses that are told a file: against plain maths, by what they do to a picture, and the same at every size."""

from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from command import Command
from conftest import TinyModels
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from vqclip.common.errors import ModelError, UsageError
from vqclip.guidance.content import like
from vqclip.guidance.likeness import aesthetic, colours, file_of, style
from vqclip.hub.clip_files import find_clip
from vqclip.models.features import EarlyFeatures, width_of
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.outputs.picture import read_metadata
from vqclip.pipeline.properties import read_head

CPU = torch.device("cpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def pictures(n: int = 1, height: int = 8, width: int = 8, seed: int = 0) -> Tensor:
    return torch.rand(n, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def plain(colour: tuple[float, float, float], side: int = 8) -> Tensor:
    return torch.tensor(colour, dtype=torch.float64)[None, :, None, None].expand(1, 3, side, side)


def patches(images: Tensor) -> Tensor:
    """The pixels of 2 x 2 places as features, (N, P, 12)."""
    return F.unfold(images, 2, stride=2).mT


JUDGE = (torch.tensor([1.0, -2.0, 0.5]).double(), torch.tensor(5.0).double())


@pytest.mark.parametrize(
    "loss",
    [
        colours(pictures(seed=5)),
        style(pictures(seed=5), [patches]),
        like(pictures(seed=5), [lambda images: [patches(F.interpolate(images, (8, 8)))]]),
        aesthetic(*JUDGE, lambda images: F.normalize(images.mean((-2, -1)), dim=-1)),
    ],
)
def test_they_pass_gradcheck_and_keep_pictures_apart(loss) -> None:
    images = pictures(3, 6, 4)
    assert torch.autograd.gradcheck(loss, images.clone().requires_grad_())
    assert loss(images).shape == (3,) and loss(images).dtype == images.dtype
    torch.testing.assert_close(loss(images)[1:2], loss(images[1:2]))


def test_colours_do_not_ask_where_they_are() -> None:
    wanted = pictures(1, 16, 16)
    shuffled = wanted.flatten(2)[..., torch.randperm(256, generator=torch.Generator().manual_seed(1))].view_as(wanted)
    assert colours(wanted)(shuffled).item() == pytest.approx(0, abs=1e-12)
    assert colours(wanted)(pictures(1, 16, 16, seed=9) / 2).item() > 0.01


def test_colours_of_plain_pictures_differ_by_a_third_of_their_squared_distance() -> None:
    """The mean of (d · axis)² over directions is |d|² / 3; with 16 of them it is near to that."""
    found = colours(plain((0.2, 0.4, 0.6)))(plain((0.8, 0.4, 0.2))).item()
    assert found == pytest.approx((0.36 + 0.16) / 3, rel=0.35)


def test_descending_on_colours_brings_them_there() -> None:
    wanted = torch.cat([plain((0.9, 0.1, 0.1), 16)[..., :4], plain((0.1, 0.1, 0.9), 16)[..., 4:]], dim=-1)
    images, loss = pictures(1, 16, 16).requires_grad_(), colours(wanted)
    optimiser = torch.optim.Adam([images], 0.05)
    for _ in range(120):
        optimiser.zero_grad()
        loss(images).sum().backward()
        optimiser.step()
    red = (images.detach()[:, 0] > 0.5).double().mean().item()
    assert loss(images).item() < 0.01 and red == pytest.approx(0.25, abs=0.1)


def test_style_asks_what_goes_together_and_not_where(embedded: Perceptor) -> None:
    stripes = (torch.arange(96) // 6 % 2).float().expand(1, 3, 96, 96)
    dots = (torch.arange(96) // 12 % 2).float()
    dots = (dots[:, None] * dots).expand(1, 3, 96, 96)
    loss = style(stripes, [EarlyFeatures(embedded)])
    assert loss(stripes).item() == pytest.approx(0, abs=1e-6)
    moved, other, turned = (loss(each).item() for each in (stripes.roll(4, -1), dots, stripes.mT))
    assert moved < 0.2 * other and moved < 0.5 * turned


@pytest.mark.parametrize("name", ["embedded", "tiny"])
def test_a_weight_of_1_is_sensible_at_128_and_at_512_pixels(name: str, embedded: Perceptor, tiny: TinyModels) -> None:
    """The same picture in another size has the same loss, of the size of a prompt's: squared angles, 0.1 to 1.2."""
    guide = embedded if name == "embedded" else load_perceptor(find_clip(str(tiny.clip)), CPU)
    small = F.interpolate(pictures(1, 8, 8).float(), (128, 128), mode="bicubic").clamp(0, 1)
    large = F.interpolate(small, (512, 512), mode="bicubic").clamp(0, 1)
    wanted = F.interpolate(pictures(1, 16, 16, seed=3).float(), (300, 200), mode="nearest") ** 3
    for loss in (colours(wanted), style(wanted, [EarlyFeatures(guide)])):
        assert loss(large).item() == pytest.approx(loss(small).item(), rel=0.15)
        assert 0.01 < loss(small).item() < 3


def test_early_features_have_a_gradient_and_leave_no_hook(embedded: Perceptor, tiny: TinyModels) -> None:
    for guide, places in ((embedded, (96 // 4) ** 2), (load_perceptor(find_clip(str(tiny.clip)), CPU), 2 * 2)):
        early, images = EarlyFeatures(guide), torch.rand(2, 3, 40, 40, requires_grad=True)
        found = early(images)
        assert found.shape[:2] == (2, places)
        found.square().sum().backward()
        assert (
            images.grad is not None
            and images.grad.abs().sum() > 0
            and not any(layer._forward_pre_hooks for layer in early.stages.behind)
        )


def test_a_head_s_marks_count_by_pixray_s_formula() -> None:
    embed = torch.nn.functional.normalize(torch.rand(2, 3).double(), dim=-1)
    loss = aesthetic(*JUDGE, lambda images: embed)
    torch.testing.assert_close(loss(pictures(2)), 0.02 * (embed @ JUDGE[0] + 5 - 10) ** 2)


def test_heads_are_read_as_published() -> None:
    """One linear layer, and several without anything between them, as LAION's two predictors have them."""
    layers = [torch.nn.Linear(6, 4), torch.nn.Linear(4, 2), torch.nn.Linear(2, 1)]
    torch.save(torch.nn.Linear(6, 1).state_dict(), "one.pth")
    named = {
        f"layers.{n}.{key}": value
        for n, each in zip((0, 2, 10), layers, strict=True)
        for key, value in each.state_dict().items()
    }
    torch.save(named, "several.pth")
    weight, bias = read_head(Path("several.pth"))
    x = torch.rand(5, 6)
    torch.testing.assert_close(x @ weight + bias, torch.nn.Sequential(*layers)(x)[:, 0])
    assert read_head(Path("one.pth"))[0].shape == (6,)
    for wrong in (
        {"a": torch.ones(3)},
        {"weight": torch.ones(2, 3), "bias": torch.ones(2)},
        {"weight": torch.ones(1, 3)},
    ):
        save_file(wrong, "wrong.safetensors")
        with pytest.raises(UsageError, match="no linear head"):
            read_head(Path("wrong.safetensors"))
    Path("page.pth").write_text("<html>")
    with pytest.raises(ModelError):
        read_head(Path("page.pth"))


def test_which_losses_are_told_a_file() -> None:
    assert file_of("style:a:b.png") == "a:b.png" and file_of("tv") is None and file_of("palette:red") is None
    for spec, says in {
        "style": "style:painting.jpg",
        "colours:": "colours:photo.jpg",
        "stile:a.png": "'style'",
    }.items():
        with pytest.raises(UsageError, match=says):
            file_of(spec)


def test_a_run_is_told_files_and_can_be_made_again(run: Command, tiny: TinyModels) -> None:
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (9, 12, 3), dtype=np.uint8)).save("a.png")
    save_file(
        {"weight": torch.ones(1, width_of(load_perceptor(find_clip(str(tiny.clip)), CPU))), "bias": torch.ones(1)},
        "h.safetensors",
    )
    words = ("-c", str(tiny.config), "--seed", "1", "--steps", "2")
    losses = "losses={'colours:a.png': 1, 'style:a.png': 0.5, 'aesthetic:h.safetensors': 1}"
    done = run("generate", "a cat", *words, "--set", losses, "-o", "run/")
    assert done.code == 0
    logged = Path("run/metrics.jsonl").read_text()
    assert all(f"{name}:{Path(file).absolute()}" in logged for name, file in (("colours", "a.png"), ("style", "a.png")))
    assert run("rerun", "run/image.png", "-o", "b.png").code == 0
    assert (np.asarray(Image.open("b.png")) == np.asarray(Image.open("run/image.png"))).all()
    assert str(Path("h.safetensors").absolute()) in read_metadata(Path("b.png")).inputs
    Path("jobs.txt").write_text("a cat\n")
    batch = ("batch", "jobs.txt", "-o", "out", "-c", str(tiny.config), "--set", losses)
    assert run(*batch).code == 0 and "1 done before" in run(*batch).stderr
    Image.new("RGB", (4, 4)).save("a.png")
    assert "1 done, 0 done before" in run(*batch).stderr  # another picture, another job


@pytest.mark.parametrize(
    ("loss", "says"),
    [
        ("style:gone.png", "there is no file 'gone.png'"),
        ("colours", "needs a file"),
        ("colours:jobs.txt", "jobs.txt"),
        ("aesthetic:h.safetensors", "reads vectors of 3 numbers, and the guides make 16"),
    ],
)
def test_what_cannot_be_told_is_one_sentence(run: Command, tiny: TinyModels, loss: str, says: str) -> None:
    Path("jobs.txt").write_text("a cat\n")
    save_file({"weight": torch.ones(1, 3), "bias": torch.ones(1)}, "h.safetensors")
    done = run("generate", "a cat", "-c", str(tiny.config), "--set", f"losses={{'{loss}': 1}}", "-o", "a.png")
    assert done.code == 2 and says in done.stderr and not Path("a.png").exists()


def test_a_run_does_not_go_on_with_another_head(run: Command, tiny: TinyModels) -> None:
    head = {"weight": torch.ones(1, 16), "bias": torch.ones(1)}
    save_file(head, "h.safetensors")
    words = ("-c", str(tiny.config), "--seed", "1", "--set", "losses={'aesthetic:h.safetensors': 1}", "-o", "a.png")
    assert run("generate", "a cat", *words).code == 0
    save_file({**head, "bias": torch.zeros(1)}, "h.safetensors")
    done = run("rerun", "a.png", "-o", "b.png")
    assert done.code == 2 and "h.safetensors' is not the file that the picture was made from" in done.stderr
