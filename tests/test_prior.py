"""The prior: cached sampling equals the plain forward pass, codes only look back, and the draw is the stated one."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY_PRIOR, TinyModels, tiny_prior
from safetensors.torch import load_file, save_file

from vqclip.common.errors import ModelError, UsageError
from vqclip.hub.prior_files import find_prior
from vqclip.models import rerank
from vqclip.models.files import PriorFiles
from vqclip.models.prior import BLOCK, FREE, Near, Prior, Sampling, load_prior, pick_codes, save_prior
from vqclip.models.rerank import Proposer, best_proposals, load_proposer
from vqclip.models.vqgan import load_vqgan

SIDE, ENTRIES = TINY_PRIOR.side, TINY_PRIOR.entries


def captions(rows: int, seed: int = 0) -> torch.Tensor:
    rng = torch.Generator().manual_seed(seed)
    return torch.randint(1, TINY_PRIOR.vocabulary, (rows, TINY_PRIOR.context), generator=rng)


def codes(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(ENTRIES, (rows, SIDE, SIDE), generator=torch.Generator().manual_seed(seed))


def numbers(rows: int, seed: int = 0) -> torch.Tensor:
    return torch.rand(rows, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))


def order() -> torch.Tensor:
    """When each code is drawn, (SIDE, SIDE): block after block, and row after row inside a block."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    block = rows // BLOCK * (SIDE // BLOCK) + columns // BLOCK
    return block * BLOCK**2 + rows % BLOCK * BLOCK + columns % BLOCK


@pytest.mark.parametrize(("row", "column"), [(0, 0), (0, 7), (3, 2), (5, 0), (6, 7), (7, 6), (7, 7)])
def test_a_code_changes_nothing_before_it_and_most_after_it(row: int, column: int) -> None:
    prior, before = tiny_prior(), codes(2)
    after = before.clone()
    after[:, row, column] = (after[:, row, column] + 1) % ENTRIES
    change = (prior(captions(2), before) - prior(captions(2), after)).abs().amax((0, 3))
    later = order() > order()[row, column]
    assert float(change[~later].max()) == 0
    if later.sum() > 20:
        assert float((change[later] > 0).float().mean()) > 0.6


def test_hidden_codes_are_not_seen() -> None:
    prior, one, other, seen = tiny_prior(), codes(2), codes(2, seed=5), torch.zeros(2, SIDE, SIDE, dtype=torch.bool)
    assert torch.equal(prior(captions(2), one, seen), prior(captions(2), other, seen))
    half = seen.clone()
    half[:, :4] = True
    assert not torch.equal(prior(captions(2), one, half), prior(captions(2), other, half))
    assert torch.equal(prior(captions(2), one, ~seen), prior(captions(2), one))


def test_some_blocks_are_scored_as_all_of_them_are() -> None:
    """A block is 2 x 2 codes, blocks in reading order; scoring two of them gives what the whole picture gives there."""
    prior, drawn = tiny_prior(), codes(3)
    blocks = torch.tensor([1, (SIDE // 2) ** 2 - 1])
    some, every = prior.block_logits(captions(3), drawn, None, blocks), prior(captions(3), drawn)
    first = every[:, 0:2, 2:4].flatten(1, 2)
    last = every[:, SIDE - 2 :, SIDE - 2 :].flatten(1, 2)
    torch.testing.assert_close(some, torch.stack([first, last], 1))


def test_every_caption_token_is_read() -> None:
    prior, before = tiny_prior(), captions(1)
    for token in range(TINY_PRIOR.context):
        after = before.clone()
        after[0, token] += 1 if after[0, token] < TINY_PRIOR.vocabulary - 1 else -1
        assert not torch.equal(prior(before, codes(1)), prior(after, codes(1)))


@pytest.mark.parametrize("guidance", [1.0, 3.0, 0.0])
def test_sampling_with_a_cache_draws_what_the_plain_forward_pass_says(guidance: float) -> None:
    prior, sampling = tiny_prior(), Sampling(0.8, 9, guidance)
    drawn = prior.sample(captions(3), numbers(3), sampling)
    logits = prior(captions(3), drawn)
    if guidance != 1:
        plain = prior(torch.zeros_like(captions(3)), drawn)
        logits = plain + guidance * (logits - plain)
    again = pick_codes(logits.flatten(0, 2), numbers(3).flatten(), sampling)
    assert torch.equal(again.view_as(drawn), drawn)


@pytest.mark.parametrize("pull", [0.0, 0.7, 1e6])
def test_codes_near_to_vectors_follow_bayes_rule(pull: float) -> None:
    """log p(code | caption, vector) is log p(code | caption) and minus |entry - vector|^2 / (2 variance), up to a
    constant, where the vector is the entry and normal noise; with little noise it is the nearest entry."""
    prior, sampling = tiny_prior(), Sampling(temperature=1.0)
    vectors = torch.randn(3, SIDE, SIDE, TINY_PRIOR.channels, generator=torch.Generator().manual_seed(5))
    drawn = prior.sample(captions(3), numbers(3), sampling, near=Near(vectors, pull))
    squared = (vectors[..., None, :] - prior.codebook).square().sum(-1)
    logits = prior(captions(3), drawn) - pull * squared / prior.codebook.var(0, correction=0).sum()
    again = pick_codes(logits.flatten(0, 2), numbers(3).flatten(), sampling)
    assert torch.equal(again.view_as(drawn), drawn)
    assert torch.equal(drawn, squared.argmin(-1)) == (pull > 1)
    assert torch.equal(drawn, prior.sample(captions(3), numbers(3), sampling)) == (pull == 0)


def test_a_row_does_not_depend_on_its_neighbours() -> None:
    prior, sampling = tiny_prior(), Sampling(guidance=2.0)
    together = prior.sample(captions(4), numbers(4), sampling)
    alone = torch.cat([prior.sample(captions(4)[i : i + 1], numbers(4)[i : i + 1], sampling) for i in range(4)])
    assert torch.equal(together, alone)


def test_the_loss_teaches_a_pattern_that_needs_the_caption() -> None:
    """Two captions, two pictures: after a few steps each caption draws its own."""
    torch.manual_seed(0)
    prior, words, pictures = tiny_prior().requires_grad_(True), captions(2), codes(2)
    optimiser = torch.optim.Adam(prior.parameters(), lr=3e-3)
    for _ in range(150):
        loss = torch.nn.functional.cross_entropy(prior(words, pictures).flatten(0, 2), pictures.flatten())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert torch.equal(prior.sample(words, numbers(2), Sampling(temperature=0)), pictures)
    assert torch.equal(prior.sample(words.flip(0), numbers(2), Sampling(temperature=0)), pictures.flip(0))


def test_codes_are_picked_with_their_probabilities() -> None:
    probabilities = torch.tensor([0.5, 0.2, 0.2, 0.1])
    even = (torch.arange(1000) + 0.5) / 1000
    picked = pick_codes(probabilities.log().expand(1000, 4), even, Sampling())
    assert torch.bincount(picked, minlength=4).tolist() == [500, 200, 200, 100]


def test_temperature_sharpens_and_top_k_cuts() -> None:
    logits = torch.tensor([0.5, 0.2, 0.2, 0.1]).log().expand(1000, 4)
    even = (torch.arange(1000) + 0.5) / 1000
    halved = torch.bincount(pick_codes(logits, even, Sampling(temperature=0.5)), minlength=4) / 1000
    assert halved.tolist() == pytest.approx([25 / 34, 4 / 34, 4 / 34, 1 / 34], abs=1e-3)
    assert pick_codes(logits, even, Sampling(top_k=1)).unique().tolist() == [0]
    assert pick_codes(logits, even, Sampling(temperature=0)).unique().tolist() == [0]
    assert set(pick_codes(logits, even, Sampling(top_k=3)).tolist()) == {0, 1, 2}


@pytest.mark.parametrize("number", [0.0, 0.25, 0.9999999])
def test_no_number_falls_out_of_the_codebook(number: float) -> None:
    logits = torch.randn(64, 7, generator=torch.Generator().manual_seed(1))
    picked = pick_codes(logits, torch.full((64,), number), Sampling())
    assert int(picked.min()) >= 0 and int(picked.max()) < 7


def test_saved_and_loaded_it_is_the_same(tmp_path: Path) -> None:
    prior = tiny_prior()
    tensors, header = save_prior(prior)
    save_file(tensors, tmp_path / "p.safetensors", header)
    loaded = load_prior(tmp_path / "p.safetensors")
    assert loaded.sizes == TINY_PRIOR and not loaded.training
    assert torch.equal(loaded(captions(2), codes(2)), prior(captions(2), codes(2)))


def test_half_precision_files_are_computed_in_single(tmp_path: Path) -> None:
    tensors, header = save_prior(tiny_prior())
    save_file({name: tensor.half() for name, tensor in tensors.items()}, tmp_path / "p.safetensors", header)
    assert {value.dtype for value in load_prior(tmp_path / "p.safetensors").state_dict().values()} == {torch.float32}


@pytest.mark.parametrize(
    "damage", ["no sizes", "other sizes", "a tensor less", "sizes of another kind", "not json", "more layers", "NaN"]
)
def test_a_file_that_is_no_prior_is_refused(tmp_path: Path, damage: str) -> None:
    tensors, header = save_prior(tiny_prior())
    wider = json.dumps({**json.loads(header["prior"]), "width": 64})
    changed = {
        "no sizes": (tensors, {}),
        "other sizes": (tensors, {"prior": wider}),
        "a tensor less": ({name: tensor for name, tensor in tensors.items() if name != "places"}, header),
        "sizes of another kind": (tensors, {"prior": '{"width": "x"}'}),
        "not json": (tensors, {"prior": "{"}),
        "more layers": (tensors, {"prior": json.dumps({**json.loads(header["prior"]), "layers": 10**9})}),
        "NaN": ({**tensors, "places": tensors["places"] * float("nan")}, header),
    }[damage]
    save_file(changed[0], tmp_path / "p.safetensors", changed[1])
    with pytest.raises(ModelError, match="prior"):
        load_prior(tmp_path / "p.safetensors")


def proposer(tiny: TinyModels) -> Proposer:
    return load_proposer(find_prior(str(tiny.prior)), load_vqgan(tiny.vqgan))


def rngs(*seeds: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def test_proposals_follow_caption_and_seed_alone(tiny: TinyModels) -> None:
    draws = proposer(tiny)
    both = draws.draw(["a cat", "a dog"], 3, rngs(1, 2), Sampling(guidance=2.0))
    assert both.shape == (2, 3, SIDE, SIDE)
    assert torch.equal(both[1], draws.draw(["a dog"], 3, rngs(2), Sampling(guidance=2.0))[0])
    assert not torch.equal(both[1], draws.draw(["a dog"], 3, rngs(1), Sampling(guidance=2.0))[0])
    assert not torch.equal(both[1], draws.draw(["a cat"], 3, rngs(2), Sampling(guidance=2.0))[0])


def test_fewer_candidates_are_the_first_of_more(tiny: TinyModels) -> None:
    many, few = (proposer(tiny).draw(["a cat"], count, rngs(5), Sampling()) for count in (4, 2))
    assert torch.equal(many[:, :2], few)


def test_many_candidates_are_drawn_in_parts(tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    near = Near(torch.randn(2, SIDE, SIDE, TINY_PRIOR.channels, generator=rngs(9)[0]), 0.5)
    words = (["a cat", "a dog"], 3, rngs(1, 2), Sampling())
    given = torch.full((2, SIDE, SIDE), FREE)
    given[:, 0] = 3
    whole = proposer(tiny).draw(*words, given, near)
    monkeypatch.setattr(rerank, "DRAWN", 4)
    parts = proposer(tiny).draw(["a cat", "a dog"], 3, rngs(1, 2), Sampling(), given, near)
    assert torch.equal(whole, parts) and (parts[:, :, 0] == 3).all()


def test_the_best_candidate_of_each_caption_is_taken(tiny: TinyModels) -> None:
    draws, best = proposer(tiny), torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.1, 0.3]])
    every = draws.draw(["a cat", "a dog"], 3, rngs(1, 2), Sampling())
    shapes = []

    def rank(pictures: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(pictures.shape))
        assert float(pictures.min()) >= 0 and float(pictures.max()) <= 1
        return best

    chosen = best_proposals(draws, ["a cat", "a dog"], 3, rngs(1, 2), Sampling(), rank)
    assert shapes == [(2, 3, 3, 16, 16)]
    assert torch.equal(chosen, torch.stack([every[0, 1], every[1, 0]]))


def test_an_empty_caption_is_any_picture(tiny: TinyModels) -> None:
    draws = proposer(tiny)
    nothing = torch.zeros(1, TINY_PRIOR.context, dtype=torch.long)
    drawn = draws.prior.sample(nothing, torch.rand(1, SIDE, SIDE, generator=rngs(1)[0]), Sampling())
    assert torch.equal(draws.draw([""], 1, rngs(1), Sampling())[0], drawn)


def test_a_prior_of_another_vqgan_is_refused(tiny: TinyModels, tmp_path: Path) -> None:
    files = find_prior(str(tiny.prior))
    tensors = load_file(files.path)
    tensors["codebook"] += 0.5
    save_file(tensors, tmp_path / "p.safetensors", save_prior(Prior(TINY_PRIOR))[1])
    with pytest.raises(UsageError, match="another VQGAN"):
        load_proposer(PriorFiles("other", tmp_path / "p.safetensors", files.merges), load_vqgan(tiny.vqgan))


def test_a_folder_that_is_no_prior(tiny: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"Unknown prior\.name"):
        find_prior("nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=r"no prior\.safetensors"):
        find_prior(str(tmp_path / "empty"))


def test_sizes_are_in_the_file_not_in_the_code(tmp_path: Path) -> None:
    wide = Prior(replace(TINY_PRIOR, width=64, heads=4, layers=1, side=4))
    tensors, header = save_prior(wide)
    save_file(tensors, tmp_path / "p.safetensors", header)
    assert load_prior(tmp_path / "p.safetensors").sizes == wide.sizes
