"""Drawing after examples: what several have in common against plain maths, the shipped reference, and runs with it."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from command import Command
from conftest import TinyModels
from PIL import Image
from safetensors.torch import save_file
from test_pipeline import build, plan_of
from torch import Tensor

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.hashes import known_sha256
from vqclip.common.paths import embedded_dir
from vqclip.config.regions import caption, parted
from vqclip.guidance.content import Example, common, content, like, seen_in
from vqclip.hub.clip_files import find_clip
from vqclip.models.features import StageFeatures
from vqclip.models.perceptor import Perceptor, load_perceptor
from vqclip.outputs.picture import read_metadata
from vqclip.pipeline.embedded_reference import CAPTIONS, EmbeddedReference, read_reference

CPU = torch.device("cpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def numbers(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def patches(images: Tensor) -> list[Tensor]:
    """The pixels of 2 x 2 and of 4 x 4 places as the features of two stages."""
    return [F.unfold(images, side, stride=side).mT for side in (2, 4)]


def scene(*middles: float, ground: float = 0.0, colour: float = 0.9) -> Tensor:
    """A square of one colour in the middle of a plain ground, whose three channels differ."""
    image = torch.full((1, 3, 16, 16), ground, dtype=torch.float64) * torch.tensor([1.0, 0.6, 0.2])[:, None, None]
    image[..., 4:12, 4:12] = colour * torch.tensor([0.2, 1.0, 0.5], dtype=torch.float64)[:, None, None]
    return image


def test_examples_agree_by_their_mean_cosine() -> None:
    """Against every pair, place by place."""
    features = numbers(4, 5, 3) + numbers(1, 5, 3, seed=1)
    found = common(features)
    seen = F.normalize(features - features.mean((0, 1)), dim=-1)
    pairs = [(one, other) for one in range(4) for other in range(one)]
    cosine = torch.stack([(seen[one] * seen[other]).sum(-1) for one, other in pairs]).mean(0).clamp(min=0)
    assert cosine.min() > 0 or (cosine == 0).any()
    torch.testing.assert_close(found.same, cosine / cosine.sum())
    torch.testing.assert_close(found.other, (1 - cosine) / (1 - cosine).sum())
    means = [(each * found.other[:, None]).sum(0) for each in seen]
    torch.testing.assert_close(found.even, torch.stack([mean @ mean for mean in means]).mean())
    other = numbers(2, 5, 3, seed=2)
    looked = F.normalize(other - found.centre, dim=-1)
    for image, value in zip(looked, found.distance(other), strict=True):
        apart = sum(
            float(share * (1 - place @ mean)) for share, place, mean in zip(found.same, image, found.mean, strict=True)
        )
        mean = (image * found.other[:, None]).sum(0)
        assert value.item() == pytest.approx(apart + max(0.0, float(found.even - mean @ mean)))


def test_one_example_is_all_that_counts() -> None:
    features = numbers(1, 6, 4)
    found = common(features)
    torch.testing.assert_close(found.same, torch.full((6,), 1 / 6, dtype=torch.float64))
    assert found.even == 0 and found.distance(features).item() == pytest.approx(0)
    opposite = 2 * found.centre - features
    assert found.distance(opposite).item() == pytest.approx(2)


def test_examples_that_agree_nowhere_pull_to_nothing_but_evenness() -> None:
    found = common(torch.stack([numbers(6, 4), -numbers(6, 4)]))
    assert found.same.abs().sum() == 0 and found.distance(numbers(3, 6, 4, seed=1)).isfinite().all()


def test_the_thing_is_wanted_and_the_ground_is_free() -> None:
    """A ground of a third colour costs less than another thing, and one of specks more than a plain one."""
    examples = [scene(ground=ground) for ground in (0.1, 0.4, 0.9)]
    loss = content([Example(0, 1.0, None, seen_in(examples, [patches]))], [patches])
    own, other_ground, other_thing = scene(ground=0.4), scene(ground=0.65), scene(ground=0.4, colour=0.1)
    specks = torch.where((torch.arange(16) % 4 < 2) & (own == scene(ground=0.4, colour=0.0)), 1 - own, own)
    assert loss(own) < loss(other_ground) < loss(other_thing) and loss(own) < loss(specks)


def test_pictures_stay_apart_and_examples_add_up() -> None:
    first, second = (seen_in([numbers(1, 3, 8, 8, seed=seed).sigmoid()], [patches]) for seed in (1, 2))
    examples = [Example(0, 1.0, None, first), Example(1, 1.0, None, first), Example(1, 0.5, None, second)]
    images = numbers(3, 3, 8, 8, seed=3).sigmoid()
    found = content(examples, [patches])(images)
    alone = [content([Example(0, 1.0, None, each)], [patches])(images[1:2]).item() for each in (first, second)]
    assert found[1].item() == pytest.approx(alone[0] + alone[1] / 2) and found[2] == 0
    assert found[0].item() == pytest.approx(content(examples[:1], [patches])(images[:1]).item())
    assert torch.autograd.gradcheck(content(examples, [patches]), images.requires_grad_())


def test_a_window_is_all_that_is_looked_at() -> None:
    images = numbers(1, 3, 16, 16).sigmoid().requires_grad_()
    stages = seen_in([numbers(1, 3, 8, 8, seed=1).sigmoid()], [patches])
    content([Example(0, 1.0, torch.tensor([-0.5, 0.5, 0.5]), stages)], [patches])(images).sum().backward()
    assert images.grad is not None and images.grad[..., 8:, :8].abs().min() > 0
    outside = images.grad.clone()
    outside[..., 8:, :8] = 0
    assert outside.abs().sum() == 0


def test_descending_brings_the_content_of_a_picture_there(embedded: Perceptor) -> None:
    """From noise, by the robust guide's stages alone: a disc on a ground appears where it is."""
    rows = torch.arange(96) - 47.5
    disc = (rows[:, None].square() + rows.square() < 30**2).float()
    wanted = torch.stack([0.9 * disc, 0.2 + 0.3 * disc, 0.8 - 0.6 * disc])[None]
    loss, images = like(wanted, [StageFeatures(embedded)]), torch.rand(1, 3, 96, 96).requires_grad_()
    before, optimiser = loss(images).item(), torch.optim.Adam([images], 0.05)
    for _ in range(40):
        optimiser.zero_grad()
        loss(images.clamp(0, 1)).sum().backward()
        optimiser.step()
    red = images.detach().clamp(0, 1)[0, 0]
    assert loss(wanted).item() == pytest.approx(0, abs=1e-5) and loss(images).item() < before / 2
    assert red[disc > 0].mean() > red[disc == 0].mean() + 0.3


def test_stages_of_towers(embedded: Perceptor, tiny: TinyModels) -> None:
    assert [each.shape[1] for each in StageFeatures(embedded)(torch.rand(1, 3, 50, 50))] == [24**2, 12**2, 6**2, 3**2]
    stages = StageFeatures(load_perceptor(find_clip(str(tiny.clip)), CPU))
    assert [each.shape[1] for each in stages(torch.rand(1, 3, 50, 50))] == [4]
    assert not any(layer._forward_pre_hooks for layer in stages.behind)
    quick = StageFeatures(Perceptor("quick", open_clip.create_model("MobileCLIP2-S0"), None))
    assert [each.shape[1] for each in quick(torch.rand(1, 3, 256, 256))] == [64**2, 32**2, 16**2, 8**2]
    with pytest.raises(UsageError, match=r"targets\.content, cannot look into 'embedded-judge'"):
        StageFeatures(load_perceptor(find_clip("embedded-judge"), CPU))


PLACED = [
    "a cat",
    "a cat to the left of a dog",
    "a red pot to the right of a dog",
    "a cat above a dog",
    "a cat below it",
    "a cat on the left",
    "a drawing of a cat at the bottom",
]


@pytest.mark.parametrize("text", PLACED)
def test_captions_say_where_their_things_lie(text: str) -> None:
    """What the prior is told of placed texts is read back as these."""
    assert caption(parted(text)) == text


def test_a_text_of_three_things_is_left_whole() -> None:
    assert parted("a cat above a dog above a cow") == [("a cat above a dog above a cow", "")]
    assert parted("a sky above a sea") == [("a sky", "top"), ("a sea", "bottom")]


# ---- the shipped reference


def test_the_shipped_pictures_show_what_they_say(embedded: Perceptor) -> None:
    reference = EmbeddedReference(embedded_dir(), embedded)
    codes, captions = read_reference(embedded_dir() / "reference.safetensors")
    assert codes.shape == (len(captions), 16, 16) and len(set(captions)) == len(captions) / 3 > 1300
    assert codes.min() >= 0 and codes.max() < 4096
    for thing in ("a panda", "an anchor"):
        text = embedded.encode_text([f"{thing} on a white background"])[0]
        pairs, examples = reference.near(text, 3), reference.examples(text, 3)
        assert {captions[row] for row in pairs.rows} == {thing}
        seen = torch.cat([embedded.encode_image(embedded.view(image)) for image in examples])
        assert torch.equal(seen, pairs.pictures) and examples[0].shape == (1, 3, 128, 128)
        own, other = embedded.encode_text([thing, "a banana"])
        assert (pairs.pictures @ own > pairs.pictures @ other).all()


@pytest.mark.parametrize(
    ("codes", "header"),
    [
        (torch.zeros(2, 4, 4, dtype=torch.int16), {}),
        (torch.zeros(2, 4, 4, dtype=torch.int16), {CAPTIONS: "[1"}),
        (torch.zeros(2, 4, 4, dtype=torch.int16), {CAPTIONS: '["a cat"]'}),
        (torch.zeros(2, 4, dtype=torch.int16), {CAPTIONS: '["a cat", "a dog"]'}),
    ],
)
def test_a_reference_that_is_none_is_refused(tmp_path: Path, codes: Tensor, header: dict[str, str]) -> None:
    save_file({"codes": codes}, tmp_path / "r.safetensors", header)
    with pytest.raises(ModelError, match="is no reference"):
        read_reference(tmp_path / "r.safetensors")


# ---- runs


WORDS = ("--seed", "1", "--steps", "2", "--set", "targets.content=1", "--set", "targets.lean=0")


def test_a_run_after_the_shipped_examples_repeats(run: Command, tiny: TinyModels) -> None:
    words = ["-c", str(tiny.config), *WORDS, "--set", "targets.reference=embedded"]
    done = run("generate", "a cat", *words, "-o", "r/")
    assert done.code == 0, done.stderr
    made = read_metadata(Path("r/image.png"))
    assert made.inputs == {"embedded": known_sha256(embedded_dir() / "reference.safetensors")}
    rows = [json.loads(line) for line in Path("r/metrics.jsonl").read_text().splitlines()]
    assert all("content" in json.dumps(row) for row in rows)
    again = run("rerun", "r/image.png", "-o", "again.png")
    assert again.code == 0 and "targets.reference" not in again.stderr
    assert Path("again.png").read_bytes() == Path("r/image.png").read_bytes()


def test_examples_of_a_folder_and_the_region_of_a_prompt(run: Command, tiny: TinyModels) -> None:
    Path("pictures").mkdir()
    for number, words in enumerate(("a cat", "a dog", "a cat asleep")):
        image = Image.fromarray((255 * torch.rand(20, 30, 3)).byte().numpy())
        image.save(f"pictures/{number}.png")
        Path(f"pictures/{number}.txt").write_text(words)
    plan = plan_of(tiny, f"targets.reference={Path('pictures').absolute()}", "targets.content=1", "targets.examples=2")
    losses = build(plan).descent.objective.losses  # type: ignore[attr-defined]
    assert list(losses) == ["content"] and losses["content"][1] == 1
    options = ["-c", str(tiny.config), *WORDS, "--set", "targets.reference=pictures"]
    done = run("generate", "[left] a cat | [right] a dog | a cat above a dog | fog:-1", *options)
    assert done.code == 0, done.stderr
    done = run("vary", "pictures/0.png", *options)  # without a text
    assert done.code == 0, done.stderr


@pytest.mark.parametrize(
    ("word", "says"),
    [
        ("targets.content=-1", "targets.content"),
        ("targets.content=.inf", "targets.content"),
        ("targets.examples=0", "targets.examples"),
        ("targets.reference=embeded", "or embedded"),
    ],
)
def test_settings_are_checked(run: Command, tiny: TinyModels, word: str, says: str) -> None:
    done = run("generate", "a cat", "-c", str(tiny.config), "--set", word)
    assert done.code == 2 and says in done.stderr


def test_a_guide_that_cannot_be_looked_into_is_refused(run: Command) -> None:
    done = run("generate", "a cat", "-c", "examples", "--set", "perceptors=[embedded,embedded-judge]", "-o", "x.png")
    assert done.code == 2 and "'embedded-judge'" in done.stderr and not Path("x.png").exists()
