"""The machine's choices, and that each random stream depends on its seed and purpose alone."""

import re

import pytest
import torch

from vqclip.common.errors import UsageError
from vqclip.common.runtime import (
    Generators,
    autocast,
    resolve_device,
    resolve_precision,
    resolve_threads,
    set_threads,
    using_threads,
)

CPU = torch.device("cpu")
PURPOSES = ("start", "cutouts", "noise")


def draws(generators: Generators, purpose: str) -> list[list[float]]:
    return [torch.randn(8, generator=rng).tolist() for rng in getattr(generators, purpose)]


@pytest.fixture
def no_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)


@pytest.mark.parametrize("name", ["gpu", "", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "mps:0", "meta", "CUDA", "xpu"])
def test_unknown_devices(name: str, no_accelerator: None) -> None:
    with pytest.raises(UsageError, match=re.escape(f"Unknown device {name!r}")):
        resolve_device(name)


@pytest.mark.parametrize("name", ["cuda", "cuda:0", "mps"])
def test_absent_devices(name: str, no_accelerator: None) -> None:
    with pytest.raises(UsageError, match=f"Device {name!r} is not there"):
        resolve_device(name)


def test_auto_takes_the_best_device(no_accelerator: None, monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_device("auto") == resolve_device("cpu") == CPU
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("mps")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert resolve_device("auto") == torch.device("cuda")


def test_a_cuda_device_beyond_the_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert resolve_device("cuda:1") == torch.device("cuda", 1)
    with pytest.raises(UsageError, match=r"has 2 CUDA device"):
        resolve_device("cuda:2")


def test_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    assert resolve_precision("bf16", CPU) == "bf16"
    for has_it, expected in ((True, "bf16"), (False, "fp32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation, has_it=has_it: has_it)
        assert resolve_precision("auto", torch.device("cuda")) == expected
    assert resolve_precision("auto", torch.device("mps")) == "fp32"
    with pytest.raises(UsageError, match="'fp16'; choose auto, fp32 or bf16"):
        resolve_precision("fp16", CPU)


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        ({"avx512_bf16": True, "cpu_name": "AMD EPYC 9R14"}, "bf16"),
        ({"avx512_bf16": True, "cpu_name": "Intel Xeon"}, "fp32"),
        ({"avx512_bf16": True, "amx_bf16": True, "cpu_name": "Intel Xeon"}, "bf16"),
        ({"avx2": True, "avx512_bf16": False, "cpu_name": "AMD Ryzen"}, "fp32"),
    ],
)
def test_a_cpu_computes_in_bf16_where_that_is_faster(
    monkeypatch: pytest.MonkeyPatch, found: dict[str, object], expected: str
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: found, raising=False)
    assert resolve_precision("auto", CPU) == expected


def test_a_torch_that_does_not_tell_its_cpu_computes_in_fp32(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert resolve_precision("auto", CPU) == "fp32"


@pytest.mark.parametrize(("precision", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_autocast_changes_matrix_products(precision: str, dtype: torch.dtype) -> None:
    with autocast(CPU, precision):
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == dtype


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        set_threads(2)
        assert resolve_threads(None) == 2 and resolve_threads(5) == 5
        with using_threads(1):
            assert torch.get_num_threads() == 1
        with pytest.raises(ValueError, match="no"), using_threads(1):
            raise ValueError("no")
        set_threads(None)
        assert torch.get_num_threads() == 2  # a run's threads end with it
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("purpose", PURPOSES)
def test_a_stream_does_not_know_its_neighbours(purpose: str) -> None:
    """Picture 7 draws the same alone, in a batch, and wherever it stands in it."""
    alone = draws(Generators.from_seeds([7], CPU), purpose)[0]
    assert draws(Generators.from_seeds([7, 8, 9], CPU), purpose)[0] == alone
    assert draws(Generators.from_seeds([5, 7], CPU), purpose)[1] == alone


def test_streams_differ_by_purpose_and_seed() -> None:
    generators = Generators.from_seeds([0, 1, 2, 2**63 - 1], CPU)
    streams = [tuple(values) for purpose in PURPOSES for values in draws(generators, purpose)]
    assert len(set(streams)) == len(PURPOSES) * 4


def test_drawing_from_one_stream_moves_no_other() -> None:
    busy, idle = Generators.from_seeds([1, 2], CPU), Generators.from_seeds([1, 2], CPU)
    torch.randn(1000, generator=busy.noise[0])
    torch.randn(1000, generator=busy.cutouts[0])
    assert draws(busy, "start") == draws(idle, "start")
    assert draws(busy, "cutouts")[1] == draws(idle, "cutouts")[1]


def test_streams_do_not_touch_the_global_generator() -> None:
    before = torch.get_rng_state()
    draws(Generators.from_seeds([3], CPU), "noise")
    assert torch.equal(torch.get_rng_state(), before)


def test_the_start_of_a_seed_never_changes() -> None:
    """A seed that somebody wrote down must give the same start in every version.

    The number is the first 63 bits of `printf 42:start | sha256sum`.
    """
    assert Generators.from_seeds([42], CPU).start[0].initial_seed() == 0x533B1FCEA28B2504 >> 1


def test_start_and_cutouts_live_on_the_cpu() -> None:
    """On any device: a seed means the same start and places everywhere."""
    made: list[str] = []
    real = torch.Generator

    def record(device: torch.device) -> torch.Generator:
        made.append(torch.device(device).type)
        return real("cpu")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch, "Generator", record)
        Generators.from_seeds([1], torch.device("cuda"))
    assert made == ["cpu", "cpu", "cuda"]


def test_a_state_put_back_goes_on_bit_for_bit() -> None:
    first = Generators.from_seeds([1, 2], CPU)
    draws(first, "noise")
    state = first.state_dict()
    expected = {purpose: draws(first, purpose) for purpose in PURPOSES}
    second = Generators.from_seeds([8, 9], CPU)
    second.load_state_dict(state)
    assert {purpose: draws(second, purpose) for purpose in PURPOSES} == expected


def test_a_state_of_another_number_of_pictures_is_refused() -> None:
    with pytest.raises(ValueError, match=r"shorter|longer"):
        Generators.from_seeds([1], CPU).load_state_dict(Generators.from_seeds([1, 2], CPU).state_dict())
