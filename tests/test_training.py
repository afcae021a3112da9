"""What the training scripts share: the classes of scenes, the disturbances, the start from earlier weights."""

import argparse
import json
import math
import random
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional

from scripts.data import scene_words
from scripts.data.scene_attributes import (
    NUMBERS,
    QUESTIONS,
    SCALE,
    SLOTS,
    UNSAID,
    Attributes,
    answers,
    said_answers,
    targets,
)
from scripts.data.scenes import HOLDING, Scene, training_scene
from scripts.train import crops, dreams, training
from scripts.train import prior as train_prior
from scripts.train import upscaler as train_upscaler
from scripts.train import vqgan as train_vqgan
from scripts.train.disturbances import Disturbance, distort
from vqclip.models.prior import Prior, PriorSizes
from vqclip.models.upscaler import load_upscaler

EMBEDDED = Path(__file__).resolve().parent.parent / "checkpoints" / "embedded"
PAIR = Scene("cat", "dog", second_colour="blue", place="right of", ground="striped", ground_colour="red")
STILL = Disturbance(zoom=(1.0, 1.0), turn=0.0, gain=0.0, lift=0.0, noise=0.0, erase=0.0, pools=(1,))


def test_two_things_are_two_right_answers_and_stand_where_they_are_said_to() -> None:
    found = answers(PAIR)
    assert found["thing"] == ("cat", "dog")
    assert {slot: found[slot][0] for slot in SLOTS} == {"left": "dog", "right": "cat", "top": "", "bottom": ""}
    assert found["paint"] == ("", "blue")
    assert found["ground_colour"] == ("red", "red")


@pytest.mark.parametrize("place", ["left", "right", "top", "bottom"])
def test_a_single_thing_stands_at_its_side(place: str) -> None:
    found = answers(Scene("cat", place=place))
    assert {slot for slot in SLOTS if found[slot] == ("cat", "cat")} == {place}


def test_what_is_held_has_no_side() -> None:
    found = answers(Scene("woman", "book", place=HOLDING))
    assert all(found[slot] == ("", "") for slot in SLOTS)


def test_a_caption_answers_only_what_it_speaks_of() -> None:
    assert set(said_answers(PAIR, {"first", "first_colour", "second"})) == {"thing", "paint"}
    assert set(said_answers(PAIR, {"first", "first_colour", "place"})) == {"thing", "paint", *SLOTS}


def test_every_scene_and_caption_has_targets_in_range() -> None:
    scenes = [training_scene(5, index) for index in range(400)]
    said = [scene_words.caption(scene, random.Random(number))[1] for number, scene in enumerate(scenes)]
    seen = targets([answers(scene) for scene in scenes])
    sizes = torch.tensor([len(found) for found in QUESTIONS.values()])[None, :, None]
    assert bool(((seen >= 0) & (seen < sizes)).all())
    told = targets([said_answers(scene, what) for scene, what in zip(scenes, said, strict=True)])
    assert bool(((told == seen) | (told == UNSAID)).all())
    assert 0 < float((told == UNSAID).float().mean()) < 1


def test_the_classification_loss_is_the_mean_cross_entropy_of_the_answers() -> None:
    torch.manual_seed(0)
    head = Attributes(8)
    embeddings = functional.normalize(torch.randn(3, 8), dim=-1)
    right = targets([answers(PAIR), answers(Scene("cat", size="big")), {"style": ("oil", "")}])
    parts = head.map(SCALE * embeddings).split(head.sizes, 1)
    wanted = []
    for question, logits in enumerate(parts):
        for side in (0, 1):
            rows = [row for row in range(3) if int(right[row, question, side]) != UNSAID]
            chances = logits.detach().log_softmax(1)
            wanted.append(sum(-float(chances[row, right[row, question, side]]) for row in rows) / max(1, len(rows)))
    assert float(head(embeddings, right).detach()) == pytest.approx(sum(wanted) / len(wanted), rel=1e-5)
    assert NUMBERS["style"]["oil"] != NUMBERS["style"][""]


def test_a_question_nobody_answers_costs_nothing() -> None:
    head = Attributes(8)
    assert float(head(torch.ones(2, 8) / math.sqrt(8), targets([{}, {}])).detach()) == 0


def test_disturbed_pictures_stay_pictures_and_repeat() -> None:
    pictures = torch.rand(6, 3, 32, 32)
    ways = Disturbance(zoom=(0.6, 1.1), turn=0.3, gain=0.3, lift=0.2, noise=0.2, erase=0.5, pools=(1, 2, 4))
    still = torch.zeros(6, dtype=torch.bool)
    one, other = (distort(pictures, still, ways, 24, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.shape == (6, 3, 24, 24)
    assert float(one.min()) >= 0 and float(one.max()) <= 1
    assert torch.equal(one, other)


def test_directed_scenes_are_never_mirrored() -> None:
    pictures = torch.zeros(40, 3, 32, 32)
    pictures[..., :16] = 1
    held = distort(pictures, torch.ones(40, dtype=torch.bool), STILL, 32, torch.Generator().manual_seed(0))
    free = distort(pictures, torch.zeros(40, dtype=torch.bool), STILL, 32, torch.Generator().manual_seed(0))
    assert bool((held[..., 2].mean((1, 2)) > held[..., 29].mean((1, 2))).all())
    assert 5 < int((free[..., 2].mean((1, 2)) < free[..., 29].mean((1, 2))).sum()) < 35


def test_a_training_goes_on_from_a_checkpoint_or_from_exported_weights(tmp_path: Path) -> None:
    save_file({"a": torch.ones(2).half()}, tmp_path / "w.safetensors")
    exported = training.load_start(tmp_path, "w.safetensors", torch.device("cpu"))
    assert exported["a"].dtype == torch.float32 and exported["a"].tolist() == [1, 1]
    training.save_checkpoint(tmp_path / "last.pt", average={"a": torch.zeros(2)})
    assert training.load_start(tmp_path, "w.safetensors", torch.device("cpu"))["a"].tolist() == [0, 0]
    with pytest.raises(SystemExit, match=r"neither last\.pt nor x"):
        training.load_start(tmp_path / "nothing", "x", torch.device("cpu"))


@pytest.mark.parametrize("workers", [0, 1])
def test_batches_follow_from_their_steps_whoever_makes_them(workers: int) -> None:
    made = training.batches(lambda step: (torch.full((2,), step), step % 2 == 0), 5, workers)
    assert [(values.tolist(), even) for values, even in (next(made) for _ in range(4))] == [
        ([step, step], step % 2 == 0) for step in (5, 6, 7, 8)
    ]


def test_a_quick_training_saves_no_oftener_than_its_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 0.0
    monkeypatch.setattr(training.time, "monotonic", lambda: now)
    saves = training.Saves(every=10, seconds=30)
    found = []
    for step in range(1, 101):
        now += 1.0
        found += [step] if saves.due(step) else []
    assert found == [30, 60, 90]


def test_new_layers_of_a_prior_change_nothing_at_first() -> None:
    torch.manual_seed(0)
    shallow, deep = (Prior(PriorSizes(4, 20, 4, 16, 3, 16, layers, 2)) for layers in (1, 3))
    for value in shallow.parameters():
        torch.nn.init.normal_(value, std=0.3)
    deep.load_state_dict(train_prior.deepened(deep, shallow.state_dict()))
    tokens, codes = torch.randint(1, 20, (3, 4)), torch.randint(16, (3, 4, 4))
    assert torch.allclose(deep(tokens, codes), shallow(tokens, codes), atol=1e-5)


def test_dreams_begin_as_pictures_and_are_kept_with_their_captions() -> None:
    real, tokens = torch.rand(6, 3, 24, 24), torch.arange(1, 13).view(6, 2)
    numbers = torch.Generator().manual_seed(0)
    store = dreams.Dreams(8, 24, 2, torch.device("cpu"))
    places, said, views_of, started = store.draw(tokens, real, numbers)
    assert torch.equal(said, tokens) and torch.equal(views_of, real)  # none has been begun
    assert started.shape == real.shape and float(started.min()) >= 0 and float(started.max()) <= 1
    store.keep(places, said, views_of, started)
    assert int(store.begun.sum()) == 6
    again, words, shown, _ = store.draw(tokens + 100, real * 0, numbers)
    went_on = words[:, 0] < 100
    assert 0 < int(went_on.sum()) < 6
    for place, word, view in zip(again[went_on], words[went_on], shown[went_on], strict=True):
        at = int((places == place).nonzero())
        assert torch.equal(word, tokens[at]) and torch.equal(view, real[at])


def test_a_dream_climbs_towards_what_is_liked() -> None:
    wanted = torch.zeros(3, 24, 24)
    wanted[:, :, 12:] = 1

    def likeness(views: torch.Tensor) -> torch.Tensor:
        return -(views - wanted).square().flatten(1).mean(1)

    start = torch.full((4, 3, 24, 24), 0.5)
    end = dreams.ascend(likeness, start, dreams.Ascent(8, (1.0, 2.0)), torch.Generator().manual_seed(1))
    assert bool((likeness(end) > likeness(start) + 0.02).all())
    assert float(end.min()) >= 0 and float(end.max()) <= 1


def test_the_dreams_loss_is_the_logistic_one_of_the_difference() -> None:
    real, dreamt = torch.tensor([0.5, 0.2]), torch.tensor([0.1, 0.3])
    expected = sum(math.log1p(math.exp(20 * d)) for d in (-0.4, 0.1)) / 2
    assert float(dreams.dream_loss(real, dreamt)) == pytest.approx(expected, rel=1e-5)


def test_low_precision_is_left_alone_where_a_cpu_is_slower_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for able, expected in ((True, torch.bfloat16), (False, torch.float32)):
        monkeypatch.setattr(torch.cpu, "get_capabilities", lambda able=able: {"amx_bf16": able}, raising=False)
        with training.autocast(torch.device("cpu")):
            assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == expected


def test_codes_that_are_split_stand_for_what_their_parents_stood_for() -> None:
    torch.manual_seed(0)
    codes = torch.randn(64, 8)
    grown = train_vqgan.with_codes({"quantize.embedding.weight": codes, "conv": torch.ones(2)}, 256)
    children = grown["quantize.embedding.weight"]
    assert children.shape == (256, 8) and torch.equal(grown["conv"], torch.ones(2))
    nearest = torch.cdist(children, codes).argmin(1)
    assert torch.equal(nearest, torch.arange(64).repeat_interleave(4))
    averages = grown["quantize.sums"] / grown["quantize.uses"][:, None]
    torch.testing.assert_close(averages, children)


def test_a_decoder_that_learns_alone_leaves_each_picture_its_codes() -> None:
    torch.manual_seed(0)
    model = train_vqgan.Model(codes=32)
    model.keep_codes()
    images = torch.rand(2, 3, 32, 32) * 2 - 1
    before, _, codes = model(images)
    learning = [value for value in model.parameters() if value.requires_grad]
    train_vqgan.reconstruction_loss(images, before).backward()
    torch.optim.SGD(learning, lr=0.1).step()
    after, _, again = model(images)
    assert torch.equal(codes, again) and not torch.equal(before, after)


def test_a_prior_takes_over_another_vqgans_codes() -> None:
    """Where two new codes share what was one, their probabilities share its probability as they share its places."""
    rng = np.random.default_rng(0)
    earlier = rng.integers(0, 5, (20, 8, 8))
    codes = np.where(earlier == 3, 5 + (rng.random(earlier.shape) < 0.25), earlier)
    weights = {
        "head.logits.weight": torch.randn(5, 4),
        "head.logits.bias": torch.randn(5),
        "codebook": torch.zeros(5, 2),
    }
    grown = train_prior.adopt(weights, earlier, codes, torch.ones(7, 2))
    assert torch.equal(grown["codebook"], torch.ones(7, 2))
    x = torch.randn(4)
    before = (weights["head.logits.weight"] @ x + weights["head.logits.bias"]).softmax(0)
    logits = grown["head.logits.weight"] @ x + grown["head.logits.bias"]
    after = logits[[0, 1, 2, 4, 5, 6]].softmax(0)
    torch.testing.assert_close(after[:4], before[[0, 1, 2, 4]], atol=0.01, rtol=0.05)
    assert float(after[5] / after[4:].sum()) == pytest.approx(0.25, abs=0.05)


def scenes_at_256(count: int) -> np.ndarray:
    """Pictures (count, 256, 256, 3) whose halves are whole numbers: every 2 x 2 pixels are alike."""
    return np.random.default_rng(0).integers(0, 256, (count, 128, 128, 3), dtype=np.uint8).repeat(2, 1).repeat(2, 2)


def test_the_upscalers_crops_show_the_same_place_at_both_sizes() -> None:
    pictures = scenes_at_256(train_upscaler.HELD + 6)
    scenes = [training_scene(5, index) for index in range(len(pictures))]
    pairs = train_upscaler.Pairs(training.Joined([pictures]), scenes, pictures[:, ::2, ::2])
    small, large = pairs.batch(24, np.random.default_rng(1))
    assert small.shape == (24, 3, 48, 48) and large.shape == (24, 3, 96, 96)
    torch.testing.assert_close(functional.avg_pool2d(large, 2), small)


@pytest.mark.parametrize("scene", [Scene("cat"), PAIR, Scene("woman", "book", place=HOLDING)])
@pytest.mark.parametrize("side", [128, 256])
def test_a_crop_lies_in_the_picture_and_holds_a_part_of_a_thing(scene: Scene, side: int) -> None:
    boxes = [(x - size / 2, y - size / 2, x + size / 2, y + size / 2) for x, y, size in crops.spots(scene, side)]
    for seed in range(40):
        top, left = crops.crop_corner(scene, side, 48, np.random.default_rng(seed))
        assert 0 <= top <= side - 48 and 0 <= left <= side - 48
        assert any(top < y1 and top + 48 > y0 and left < x1 and left + 48 > x0 for x0, y0, x1, y1 in boxes)


def test_things_weigh_more_than_ground_and_a_picture_as_much_as_another() -> None:
    weights = crops.thing_weights([Scene("cat"), PAIR], 128, 3.0)
    assert weights.shape == (2, 1, 128, 128)
    torch.testing.assert_close(weights.mean((1, 2, 3)), torch.ones(2))
    assert float(weights[0, 0, 64, 64]) == pytest.approx(3 * float(weights[0, 0, 2, 2]), rel=1e-5)
    torch.testing.assert_close(crops.thing_weights([PAIR], 64, 1.0), torch.ones(1, 1, 64, 64))


def test_crops_and_weights_of_a_step_show_the_same_place() -> None:
    """The picture is the weights of its own scene, so that any shift between the two would show."""
    scenes = [Scene("cat"), PAIR]
    weights = crops.thing_weights(scenes, 128, 3.0)
    pictures = (weights * 50).round().byte().permute(0, 2, 3, 1).repeat(1, 1, 1, 3).numpy()
    cut, seen = crops.cut_out(pictures, scenes, 64, 3.0, np.random.default_rng(2))
    assert cut.shape == (2, 64, 64, 3) and seen.shape == (2, 1, 64, 64)
    assert np.array_equal(cut[..., 0], (seen[:, 0] * 50).round().byte().numpy())
    whole, everywhere = crops.cut_out(pictures, scenes, None, 3.0, np.random.default_rng(2))
    assert np.array_equal(whole, pictures) and torch.equal(everywhere, weights)


def test_weights_change_what_counts_in_the_reconstruction_loss() -> None:
    images, output = torch.zeros(1, 3, 16, 16), torch.zeros(1, 3, 16, 16)
    output[..., :8, :] = 0.5
    plain = train_vqgan.reconstruction_loss(images, output)
    torch.testing.assert_close(train_vqgan.reconstruction_loss(images, output, torch.ones(1, 1, 16, 16)), plain)
    weights = torch.ones(1, 1, 16, 16)
    weights[..., :8, :] = 0
    assert float(train_vqgan.reconstruction_loss(images, output, weights)) == 0


def test_gradients_alone_prefer_a_blur_to_a_moved_edge_and_steepness_does_not() -> None:
    edge = torch.zeros(1, 3, 48, 48)
    edge[..., 24:] = 1
    moved, blurred = edge.roll(1, 3), functional.avg_pool2d(edge, 9, 1, 4, count_include_pad=False)
    moved[..., 0] = 0

    def by_gradients(other: torch.Tensor) -> float:
        return float(sum(part.abs().mean() for part in train_vqgan.gradients(other - edge)))

    def by_steepness(other: torch.Tensor) -> float:
        return float((train_upscaler.steepness(other) - train_upscaler.steepness(edge)).abs().mean())

    assert by_gradients(moved) > by_gradients(blurred)
    assert by_steepness(edge) == 0 < by_steepness(moved) < by_steepness(blurred)


def test_colours_that_are_around_cost_nothing_and_made_up_lines_do() -> None:
    small = torch.full((1, 3, 16, 16), 0.4)
    small[..., 8:] = 0.6
    sharp = functional.interpolate(small, scale_factor=2.0)
    assert float(train_upscaler.overshoot(sharp, small)) == 0
    assert float(train_upscaler.overshoot(sharp.roll(2, 3)[..., 2:], small[..., 1:])) == 0  # an edge a pixel aside
    lined = sharp.clone()
    lined[..., 3, :] = 0.1
    # Columns 0 to 19 of 32 have 0.4 within two pixels of the small picture, the others only 0.6.
    wanted = (0.4 - 0.1 - 0.04) * 20 + (0.6 - 0.1 - 0.04) * 12
    assert float(train_upscaler.overshoot(lined, small)) * 32 * 32 == pytest.approx(wanted, rel=1e-5)


def test_an_untrained_upscaler_repeats_pixels() -> None:
    image = torch.rand(1, 3, 16, 16)
    made = train_upscaler.fresh()(image).detach()
    torch.testing.assert_close(made, functional.interpolate(image, scale_factor=2.0), atol=0.05, rtol=0)


def test_the_upscaler_trains_and_is_exported_with_what_it_is(tmp_path: Path) -> None:
    data, out = tmp_path / "data", tmp_path / "out"
    data.mkdir()
    out.mkdir()
    count = train_upscaler.HELD + 4
    np.save(data / "scenes.npy", scenes_at_256(count)[:, :128, :128])
    scenes = (json.dumps(asdict(training_scene(5, index))) for index in range(count))
    (data / "scenes.jsonl").write_text("\n".join(scenes))
    options = argparse.Namespace(
        data=[data],
        models=EMBEDDED,
        out=out,
        start=None,
        steps=3,
        minutes=None,
        batch=2,
        lr=1e-3,
        seed=0,
        critic_from=0.5,
    )
    train_upscaler.train(options, torch.device("cpu"))
    train_upscaler.export(out, tmp_path)
    with safe_open(tmp_path / "upscaler.safetensors", "pt") as file:
        notes = {"architecture": "SRVGGNetCompact", "scale": "2", "step": "3", "outlines": "shock filter"}
        assert file.metadata() == notes
    assert load_upscaler(tmp_path / "upscaler.safetensors").sizes == train_upscaler.SIZES
