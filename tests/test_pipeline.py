"""The whole run on tiny models: golden losses, independence of pictures, micro-batches, and what is told about it."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TinyModels
from PIL import Image

from vqclip.common.errors import ModelError, NumericsError, OutOfMemoryError, UsageError
from vqclip.common.hashes import sha256
from vqclip.common.runtime import Generators
from vqclip.config.loader import config_from_dict, load_config
from vqclip.hub.model_files import find_models
from vqclip.models.fused_vqgan import FusedDecoder
from vqclip.models.prior import Sampling
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.state import State
from vqclip.pipeline.assemble import Parts, assemble
from vqclip.pipeline.build import build as build_from
from vqclip.pipeline.load import Models
from vqclip.pipeline.load import load_models as load_from
from vqclip.pipeline.plan import Plan, make_plan
from vqclip.pipeline.provenance import describe, fingerprint, restore
from vqclip.pipeline.run import run

# Sum over terms at each step for seed 1 and the prompt "a cat" with the tiny models of conftest.py.
GOLDEN = [1.335972, 1.353171, 1.380171, 1.344187, 1.316275, 1.352134]


class Losses:
    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.ended = ""

    def step(self, step: Step) -> None:
        self.steps.append(step)

    def finish(self, finished: Finished) -> None:
        self.ended = "finished"

    def stop(self, last: Step | None) -> None:
        self.ended = "stopped"

    @property
    def sums(self) -> list[float]:
        return [float(sum(values.sum() for values in step.losses.values())) for step in self.steps]


def plan_of(tiny: TinyModels, *words: str, prompts: tuple[str, ...] = ("a cat",), seed: int = 1) -> Plan:
    return make_plan(load_config([str(tiny.config)], words, {"prompts": list(prompts), "seed": seed}))


def build(plan: Plan) -> Parts:
    return build_from(plan, find_models(plan.config))


def load_models(plan: Plan) -> Models:
    return load_from(plan, find_models(plan.config))


def outcome(plan: Plan) -> tuple[Finished, Losses]:
    losses = Losses()
    finished = run(build(plan), [losses])
    assert finished is not None
    return finished, losses


def test_golden_losses(tiny: TinyModels) -> None:
    assert outcome(plan_of(tiny))[1].sums == pytest.approx(GOLDEN, rel=1e-4)


def test_low_memory_gives_the_same_picture(tiny: TinyModels) -> None:
    """Cutouts four at a time, as all four are anyway, and a decoder that computes twice: the same bits."""
    light = plan_of(tiny, "runtime.low_memory=true")
    assert light.config.cutouts.micro_batch == 4
    assert plan_of(tiny, "runtime.low_memory=true", "cutouts.micro_batch=2").config.cutouts.micro_batch == 2
    assert torch.equal(outcome(light)[0].images, outcome(plan_of(tiny))[0].images)


def test_quicker_blocks_give_the_same_picture(tiny: TinyModels) -> None:
    """Up to what six steps make of rounding; the swap itself is in the networks."""
    quick, plain = (plan_of(tiny, f"runtime.accelerate={state}") for state in ("on", "off"))
    assert isinstance(load_models(quick).vqgan.decoder, FusedDecoder)
    assert not isinstance(load_models(plain).vqgan.decoder, FusedDecoder)
    torch.testing.assert_close(outcome(quick)[0].images, outcome(plain)[0].images, rtol=0, atol=1e-3)


def test_a_state_brings_its_micro_batch_but_no_larger_one(tiny: TinyModels) -> None:
    small, large = (build(plan_of(tiny, f"cutouts.micro_batch={size}")).descent for size in (2, 4))
    few, many = small.state_dict(), large.state_dict()
    small.load_state_dict(many)
    large.load_state_dict(few)
    assert small.objective.micro_batch == large.objective.micro_batch == 2  # type: ignore[attr-defined]


def test_a_run_goes_on_in_the_parts_it_began_with(tiny: TinyModels) -> None:
    """A state made with two cutouts at once, put back where all four would fit: the same bits as without the stop."""
    few = plan_of(tiny, "cutouts.micro_batch=2")
    stopped = Losses()
    run(build(few), [stopped], interrupted=lambda: len(stopped.steps) == 3)
    parts = build(plan_of(tiny))
    parts.descent.load_state_dict(stopped.steps[-1].state())
    finished = run(parts)
    assert finished is not None
    assert torch.equal(finished.images, outcome(few)[0].images)


def test_the_same_plan_gives_the_same_bits(tiny: TinyModels) -> None:
    (first, one), (second, two) = outcome(plan_of(tiny)), outcome(plan_of(tiny))
    assert torch.equal(first.images, second.images) and one.sums == two.sums


def test_another_seed_gives_another_picture(tiny: TinyModels) -> None:
    assert not torch.equal(outcome(plan_of(tiny))[0].images, outcome(plan_of(tiny, seed=2))[0].images)


def test_the_loss_falls(tiny: TinyModels) -> None:
    sums = outcome(plan_of(tiny, "optimise.steps=40", "cutouts.count=16"))[1].sums
    assert sum(sums[-5:]) < 0.95 * sum(sums[:5])


def test_a_picture_is_the_same_alone_and_among_others(tiny: TinyModels) -> None:
    prompts = ("a cat", "the sun:2 | fog:-1")
    together = outcome(plan_of(tiny, prompts=prompts))[0]
    for number, prompt in enumerate(prompts):
        alone = outcome(plan_of(tiny, prompts=(prompt,)))[0]
        torch.testing.assert_close(together.images[number], alone.images[0], atol=1e-3, rtol=0)
        assert together.scores[number] == pytest.approx(alone.scores[0], abs=1e-4)


def test_picture_i_of_count_uses_seed_plus_i(tiny: TinyModels) -> None:
    pair = outcome(plan_of(tiny, "count=2"))[0]
    torch.testing.assert_close(pair.images[1], outcome(plan_of(tiny, seed=2))[0].images[0], atol=1e-3, rtol=0)


@pytest.mark.parametrize("micro_batch", [1, 3])
def test_micro_batches_do_not_change_the_picture(tiny: TinyModels, micro_batch: int) -> None:
    whole, parts = outcome(plan_of(tiny))[0], outcome(plan_of(tiny, f"cutouts.micro_batch={micro_batch}"))[0]
    torch.testing.assert_close(parts.images, whole.images, atol=1e-3, rtol=0)


def test_adding_a_prompt_does_not_move_the_start_or_the_cutouts(tiny: TinyModels) -> None:
    one = outcome(plan_of(tiny, "optimise.steps=1"))[1]
    two = outcome(plan_of(tiny, "optimise.steps=1", prompts=("a cat | a cat:0",)))[1]
    assert two.sums == pytest.approx(one.sums, rel=1e-6)


def test_an_ensemble_adds_the_losses_of_its_members(tiny: TinyModels) -> None:
    once = outcome(plan_of(tiny, "optimise.steps=1", "cutouts.recipe=nerdyrodent"))[1]
    twice_plan = plan_of(
        tiny, f"perceptors=[{tiny.clip}, {tiny.clip}]", "optimise.steps=1", "cutouts.recipe=nerdyrodent"
    )
    assert outcome(twice_plan)[1].sums[0] == pytest.approx(2 * once.sums[0], rel=0.1)


def test_a_member_counts_by_its_weight(tiny: TinyModels) -> None:
    once, twice = (
        outcome(plan_of(tiny, f"perceptors=['{tiny.clip}{words}']", "optimise.steps=1"))[1]
        for words in ("", " weight=2")
    )
    assert twice.sums[0] == pytest.approx(2 * once.sums[0], rel=1e-6)


def test_image_prompts_alone_pull_the_picture(tiny: TinyModels) -> None:
    from vqclip.common.images import to_image

    to_image(torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(3))).save("wanted.png")
    plan = plan_of(tiny, "image_prompts=[wanted.png:2]", "optimise.steps=30", "cutouts.count=16", prompts=())
    losses = outcome(plan)[1].sums
    assert sum(losses[-5:]) < 0.9 * sum(losses[:5])


def test_no_steps_decode_the_start(tiny: TinyModels) -> None:
    finished, losses = outcome(plan_of(tiny, "optimise.steps=0"))
    assert losses.steps == [] and losses.ended == "finished"
    assert finished.images.shape == (1, 3, 16, 16)


def test_the_prior_makes_the_start_and_the_perceptors_choose_it(tiny: TinyModels) -> None:
    """With one candidate each, seed and caption decide; with more, the start is the one CLIP scores best."""
    words = (f"prior.name={tiny.prior}", "optimise.steps=0")
    plan = plan_of(tiny, *words, "prior.candidates=6")
    best = outcome(plan)[0]
    models = load_models(plan)
    assert models.proposer is not None
    prior = plan.config.prior
    sampling = Sampling(prior.temperature, prior.top_k, prior.guidance)
    streams = Generators.from_seeds([1], torch.device("cpu"))
    pictures = models.proposer.pictures(models.proposer.draw(["a cat"], 6, streams.start, sampling)[0])
    (perceptor,) = models.perceptors
    scores = perceptor.encode_image(perceptor.view(pictures)) @ perceptor.encode_text(["a cat"])[0]
    assert float(scores.max() - scores.min()) > 1e-3
    torch.testing.assert_close(best.images[0], pictures[scores.argmax()], atol=1e-5, rtol=0)
    assert outcome(plan_of(tiny, *words, "prior.candidates=1"))[0].images.shape == (1, 3, 16, 16)


def test_a_start_of_the_prior_is_the_same_alone_and_among_others(tiny: TinyModels) -> None:
    words = (f"prior.name={tiny.prior}", "optimise.steps=0")
    both = outcome(plan_of(tiny, *words, prompts=("a cat", "a dog")))[0].images
    torch.testing.assert_close(both[1:], outcome(plan_of(tiny, *words, prompts=("a dog",)))[0].images)


def test_models_can_be_shared_by_plans(tiny: TinyModels) -> None:
    plans = [plan_of(tiny, f"prior.name={tiny.prior}", prompts=(text,)) for text in ("a cat", "a dog")]
    models = load_models(plans[0])
    for plan in plans:
        shared = run(assemble(plan, models))
        assert shared is not None
        assert torch.equal(shared.images, outcome(plan)[0].images)


def test_a_pull_to_the_priors_start_holds_the_latent_near_it(tiny: TinyModels) -> None:
    words = (f"prior.name={tiny.prior}", "optimise.steps=8")
    start = build(plan_of(tiny, *words)).descent.latent.detach()
    free, held = (outcome(plan_of(tiny, *words, f"init.weight={weight}"))[0].latent for weight in (0, 100))
    assert float((held - start).square().mean()) < 0.5 * float((free - start).square().mean())


def test_the_prior_is_named_with_its_hash(tiny: TinyModels) -> None:
    parts = build(plan_of(tiny, f"prior.name={tiny.prior}"))
    assert parts.models.prior.sha256 == sha256(tiny.prior / "prior.safetensors")
    assert build(plan_of(tiny)).models.prior is None


def test_an_interruption_stops_after_the_step_at_hand(tiny: TinyModels) -> None:
    losses = Losses()
    assert run(build(plan_of(tiny)), [losses], interrupted=lambda: len(losses.steps) == 2) is None
    assert len(losses.steps) == 2 and losses.ended == "stopped"


def test_metadata_repeats_the_picture_and_has_no_clock(tiny: TinyModels) -> None:
    plan = plan_of(tiny, prompts=("a cat", "the sun"))
    parts = build(plan)
    finished = run(parts)
    assert finished is not None
    described = describe(parts, finished, 1)
    again = outcome(make_plan(config_from_dict(described.config, "metadata")))[0]
    torch.testing.assert_close(again.images[0], finished.images[1], atol=1e-3, rtol=0)
    assert described == describe(parts, dataclasses.replace(finished, seconds=99.0), 1)
    assert described.models is not None and described.models.vqgan.sha256 and len(described.models.perceptors) == 1


def test_the_fingerprint_ignores_length_and_place_but_nothing_that_decides_the_picture(tiny: TinyModels) -> None:
    base = fingerprint(build(plan_of(tiny)))
    assert fingerprint(build(plan_of(tiny, "optimise.steps=9", "output.path=x.png"))) == base
    assert fingerprint(build(plan_of(tiny, "runtime.state_every=9", "runtime.state_seconds=1"))) == base
    assert fingerprint(build(plan_of(tiny, "runtime.low_memory=true", "cutouts.micro_batch=1"))) == base
    assert fingerprint(build(plan_of(tiny, "optimise.lr=0.2"))) != base
    assert fingerprint(build(plan_of(tiny, seed=2))) != base


def test_infinite_losses_end_the_run_in_words(tiny: TinyModels) -> None:
    losses = Losses()
    with pytest.raises(NumericsError, match="step 1"):
        run(build(plan_of(tiny, "losses.tv=1e39")), [losses])
    assert losses.ended == "stopped"


def test_exhausted_memory_ends_the_run_in_words(tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = build(plan_of(tiny))

    def exhausted(*_: object) -> None:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(type(parts.descent.objective), "__call__", exhausted)
    with pytest.raises(OutOfMemoryError, match="low_memory"):
        run(parts)


def test_nothing_to_draw_is_refused(tiny: TinyModels) -> None:
    with pytest.raises(UsageError, match="give a prompt"):
        plan_of(tiny, prompts=())


def saved(tiny: TinyModels, tmp_path: Path, change: Callable[[dict[str, Any]], object] = lambda found: None) -> Path:
    """A folder with the state after two steps, its fingerprint changed."""
    parts = build(plan_of(tiny))
    belongs = fingerprint(parts)
    change(belongs)
    run(parts, [State(tmp_path, 2, 0, belongs)], interrupted=lambda: parts.descent.number == 2)
    return tmp_path


def test_a_state_goes_on_with_the_same_config(tiny: TinyModels, tmp_path: Path) -> None:
    parts = build(plan_of(tiny, "optimise.steps=9", "runtime.state_every=7"))
    restore(parts, saved(tiny, tmp_path))
    assert parts.descent.number == 2


def test_a_state_of_an_earlier_version_goes_on(tiny: TinyModels, tmp_path: Path) -> None:
    """It knows neither inputs nor every setting of today; what it does not know was at its default."""

    def older(found: dict[str, Any]) -> None:
        del found["inputs"], found["config"]["optimise"]["ema"], found["config"]["losses"]

    folder = saved(tiny, tmp_path, older)
    parts = build(plan_of(tiny))
    restore(parts, folder)
    assert parts.descent.number == 2
    with pytest.raises(UsageError, match=r"optimise\.ema differs"):
        restore(build(plan_of(tiny, "optimise.ema=0.5")), folder)
    with pytest.raises(UsageError, match="losses differs"):
        restore(build(plan_of(tiny, "losses.tv=0.1")), folder)


def test_a_state_of_another_run_is_refused(tiny: TinyModels, tmp_path: Path) -> None:
    folder = saved(tiny, tmp_path)
    with pytest.raises(UsageError, match=r"another config \(optimise\.lr differs\)"):
        restore(build(plan_of(tiny, "optimise.lr=0.2")), folder)
    parts = build(plan_of(tiny))
    other = dataclasses.replace(parts, models=dataclasses.replace(parts.models, perceptors=()))
    with pytest.raises(ModelError, match="other model files"):
        restore(other, folder)


def test_a_changed_input_is_refused_with_both_hashes(tiny: TinyModels, tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), "red").save("start.png")
    first = sha256("start.png")
    words = ["init.kind=image", "init.image=start.png"]
    parts = build(plan_of(tiny, *words))
    run(parts, [State(tmp_path, 2, 0, fingerprint(parts))], interrupted=lambda: parts.descent.number == 2)
    Image.new("RGB", (16, 16), "blue").save("start.png")
    with pytest.raises(UsageError, match=f"sha256 then {first}, now {sha256('start.png')}"):
        restore(build(plan_of(tiny, *words)), tmp_path)
