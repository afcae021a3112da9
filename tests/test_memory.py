"""The estimate of memory: sums worked out by hand, and the direction in which every setting moves it."""

import pytest
import torch
from conftest import TinyModels
from safetensors.torch import load_file
from torch import nn

from vqclip.config.loader import load_config
from vqclip.optimisation.optimisers import OPTIMISERS
from vqclip.pipeline.memory_estimate import BACK, LIBRARIES, META, _kept, estimate_memory
from vqclip.pipeline.plan import make_plan


def estimate(tiny: TinyModels, *words: str) -> int:
    return estimate_memory(make_plan(load_config([str(tiny.config)], ["prompts=[a]", *words])))


def test_what_a_backward_pass_keeps() -> None:
    """Float32, so 4 bytes a value; parameters are not counted, and neither is a tensor twice."""
    x = torch.empty(2, 3, 8, 8, device=META, requires_grad=True)  # 1536 bytes
    conv = nn.Conv2d(3, 5, 3, padding=1, device=META).requires_grad_(False)
    assert _kept(lambda: x * x) == 1536 + 1536  # the input, once, and the output
    assert _kept(lambda: x + 1) == 1536  # the output alone
    assert _kept(lambda: conv(x)) == 1536 + 2 * 5 * 8 * 8 * 4
    assert _kept(lambda: conv(x).sigmoid().sum()) == 1536 + 2560 + 4  # sigmoid keeps its result


def test_nothing_is_kept_without_a_gradient() -> None:
    linear = nn.Linear(8, 3, device=META).requires_grad_(False)
    assert _kept(lambda: linear(torch.empty(4, 8, device=META))) == 4 * 3 * 4


def test_it_covers_libraries_weights_and_activations(tiny: TinyModels) -> None:
    weights = sum(
        t.nbytes for file in (tiny.vqgan, tiny.clip / "open_clip_model.safetensors") for t in load_file(file).values()
    )
    activations = 4 * 3 * 16 * 16 * 4  # the cutouts themselves, at the very least
    assert estimate(tiny) > LIBRARIES + weights + activations
    assert estimate(tiny) < LIBRARIES + weights + 100e6  # tiny models stay tiny


def test_it_grows_with_what_is_asked(tiny: TinyModels) -> None:
    least = estimate(tiny)
    for words in (
        ["size=32x16"],
        ["count=2"],
        ["prompts=[a, b]"],
        ["cutouts.count=256"],
        [f"perceptors=[{tiny.clip}, {tiny.clip}]"],
    ):
        assert estimate(tiny, *words) > least, words


def test_activations_are_proportional(tiny: TinyModels) -> None:
    """Without the fixed part, four times the pictures keep four times as much, like four times the cutouts."""
    one, two, four = (estimate(tiny, f"count={count}") for count in (1, 2, 4))
    assert four - two == 2 * (two - one)
    one, two, four = (estimate(tiny, f"cutouts.count={count}") for count in (256, 512, 1024))
    assert four - two == 2 * (two - one)


def test_micro_batches_save_memory(tiny: TinyModels) -> None:
    many = "cutouts.count=512"
    whole, half, quarter = (estimate(tiny, many, f"cutouts.micro_batch={size}") for size in ("null", 256, 128))
    assert whole > half > quarter
    assert estimate(tiny, "cutouts.count=1024", "cutouts.micro_batch=256") == half  # only one batch at a time
    assert estimate(tiny, many, "cutouts.micro_batch=512") == whole


def test_the_decoder_needs_its_way_back_however_few_cutouts_there_are(tiny: TinyModels) -> None:
    one, few = (estimate(tiny, "size=128x128", f"cutouts.count={count}") for count in (1, 4))
    assert one == few


def test_low_memory_saves_memory() -> None:
    """What the decoder's blocks compute on the way is most of a 256 x 256 picture's memory, a gigabyte and more."""
    plans = [
        make_plan(
            load_config(
                ["imagenet-1024"],
                [
                    "cutouts.micro_batch=1",
                    "runtime.accelerate=off",
                    "runtime.precision=fp32",
                    f"runtime.low_memory={word}",
                ],
                {"prompts": ["a"]},
            )
        )
        for word in ("false", "true")
    ]
    plain, light = (estimate_memory(plan) for plan in plans)
    assert plain - light > 0.5e9


@pytest.mark.parametrize("name", OPTIMISERS)
def test_logits_count_with_all_that_has_their_size(tiny: TinyModels, name: str) -> None:
    """16 entries instead of 4 channels in 8 x 8 cells: the numbers, five that pass, and the optimiser's one or two."""
    words = [f"optimise.name={name}"]
    more = estimate(tiny, *words, "optimise.space=logits") - estimate(tiny, *words)
    kept = {"sgd": 1, "adagrad": 1, "rmsprop": 1}.get(name, 2)
    assert more == pytest.approx((6 + kept) * (16 - 4) * 8 * 8 * 4, abs=1)
    averaged = estimate(tiny, *words, "optimise.space=logits", "optimise.ema=0.9", "optimise.noise=0.1")
    assert averaged - estimate(tiny, *words, "optimise.space=logits") == 6 * 16 * 8 * 8 * 4


def test_a_large_codebook_s_logits_are_what_a_run_needs_most() -> None:
    """262,144 entries in 16 x 16 cells: 268 MB for every copy."""
    plain, logits = (
        estimate_memory(make_plan(load_config(["ibq-262144"], [f"optimise.space={space}"], {"prompts": ["a"]})))
        for space in ("latent", "logits")
    )
    assert 8 * 268e6 < logits - plain < 8.1 * 269e6


def test_bf16_keeps_half() -> None:
    """What the networks keep of a picture has two bytes a value instead of four; the cutouts themselves have four."""
    kept = {}
    for precision in ("fp32", "bf16"):
        one, two = (
            estimate_memory(
                make_plan(
                    load_config(
                        ["imagenet-1024"], [f"runtime.precision={precision}", f"count={count}"], {"prompts": ["a"]}
                    )
                )
            )
            for count in (1, 2)
        )
        kept[precision] = two - one
    cutouts = BACK * 32 * 3 * 3 * 224 * 224 * 4
    assert kept["bf16"] - cutouts == pytest.approx((kept["fp32"] - cutouts) / 2, rel=0.05)


def test_several_pictures_of_a_prompt_or_of_several_prompts_need_the_same(tiny: TinyModels) -> None:
    assert estimate(tiny, "count=2") == estimate(tiny, "prompts=[a, b]")


@pytest.mark.parametrize("name", ["imagenet-16384", "gumbel-f8"])
def test_published_models_need_no_file(name: str) -> None:
    """The VQGAN has about 72 million parameters and CLIP ViT-B/32 151 million, 4 bytes each."""
    found = estimate_memory(make_plan(load_config([name], [], {"prompts": ["a"]})))
    assert LIBRARIES + 4 * (60e6 + 151e6) < found < 16e9


def test_nothing_is_allocated_for_it() -> None:
    """A plan that would need hundreds of gigabytes is answered."""
    huge = make_plan(load_config(["imagenet-1024"], ["size=4096x4096", "count=4"], {"prompts": ["a"]}))
    assert estimate_memory(huge) > 100e9
