"""Resume state: two are kept, the newest whole one counts, and it must be of the same run."""

import errno
import logging
import math
import os
import random
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vqclip.common.checksum import unsealed
from vqclip.common.errors import OutputError
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.state import Partial, State, load_state, saved_states

HOME = Path("run/state")
RUN = {"config": {"size": "16x16", "prompts": ["日本 ${x}"], "ema": 0.5, "file": None}, "models": {"vqgan": "abc"}}


def state(number: int) -> dict[str, Any]:
    rng = torch.Generator().manual_seed(number)
    return {
        "number": number,
        "latent": torch.randn(1, 4, 2, 2, generator=rng),
        "optimiser": {
            "state": {0: {"exp_avg": torch.full((3,), 1e-30)}},
            "param_groups": [{"lr": 0.1, "betas": (0, 1)}],
        },
        "streams": {"start": [rng.get_state()]},
    }


def step(number: int, count: int = 1) -> Step:
    images = torch.full((count, 3, 8, 8), 0.2)
    return Step(number, 99, images, {}, render=lambda: images + 0.4, state=lambda: state(number))


def still() -> float:
    """A clock on which saving takes no time."""
    return 0.0


def save(*numbers: int, every: int = 1) -> None:
    sink = State(HOME, every, 0, RUN, still)
    for number in numbers:
        sink.step(step(number))


def names() -> list[str]:
    return [path.name for path in saved_states(HOME)]


def number_saved() -> int | None:
    saved = load_state(HOME)
    return None if saved is None else saved.state["number"]


def test_it_comes_back_bit_for_bit() -> None:
    save(3)
    saved, expected = load_state(HOME), state(3)
    assert saved is not None and saved.fingerprint == RUN
    found = saved.state
    assert torch.equal(found["latent"], expected["latent"])
    assert torch.equal(found["streams"]["start"][0], expected["streams"]["start"][0])
    assert torch.equal(found["optimiser"]["state"][0]["exp_avg"], expected["optimiser"]["state"][0]["exp_avg"])
    assert found["optimiser"]["param_groups"] == expected["optimiser"]["param_groups"]


def test_the_last_two_are_kept() -> None:
    save(*range(1, 12), every=2)
    assert names() == ["00000010.pt", "00000008.pt"]
    assert {path.name for path in HOME.iterdir()} == {"00000010.pt", "00000008.pt"}


def test_the_newest_is_the_one_with_the_largest_number() -> None:
    save(999_999, 1_000_000)
    assert number_saved() == 1_000_000


def test_0_saves_only_when_the_run_is_stopped() -> None:
    save(1, 2, 3, every=0)
    assert names() == []
    State(HOME, 0, 0, RUN).stop(step(3))
    assert names() == ["00000003.pt"]


def saved_at(steps: int, pause: float, cost: float, every: int = 0, seconds: float = 0.0) -> list[int]:
    """The numbers of the states that are saved when a step takes `pause` seconds and a state `cost`."""
    now, numbers = 0.0, []

    class Slow(State):
        def _save(self, step: Step) -> None:
            nonlocal now
            now += cost
            numbers.append(step.number)

    sink = Slow(HOME, every, seconds, RUN, lambda: now)
    for number in range(1, steps + 1):
        now += pause
        sink.step(step(number))
    return numbers


def test_seconds_count_too_and_0_is_off() -> None:
    assert saved_at(20, 7.0, 0.0, seconds=21.0) == [3, 6, 9, 12, 15, 18]
    assert saved_at(20, 7.0, 0.0, seconds=20.0) == [3, 6, 9, 12, 15, 18]
    assert saved_at(20, 7.0, 0.0, every=5, seconds=20.0) == [3, 5, 8, 10, 13, 15, 18, 20]
    assert saved_at(20, 1e9, 0.0) == []


@pytest.mark.parametrize("cost", [0.01, 0.5, 3.0])
def test_saving_takes_a_fiftieth_of_the_time_at_most(cost: float) -> None:
    """What is due waits, and is saved as soon as it may be; only the first state comes at once."""
    steps = 2000
    numbers = saved_at(steps, 1.0, cost, every=1, seconds=1.0)
    assert cost * (len(numbers) - 1) <= 0.02 * steps
    gaps = {b - a for a, b in pairwise(numbers)}
    assert gaps <= {max(1, math.ceil(cost / 0.02)), max(1, math.ceil(cost / 0.02)) + 1}


def test_a_state_that_had_to_wait_is_not_forgotten() -> None:
    """Due at step 10, 20, 30…; each takes 0.29 s, so after the one at 10 the next may come 14.5 s later."""
    assert saved_at(40, 1.0, 0.29, every=10) == [10, 25, 40]


def test_a_run_stopped_before_its_first_step_has_no_state() -> None:
    State(HOME, 1, 0, RUN).stop(None)
    assert number_saved() is None


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04", b"hello", "half", "flipped"])
def test_a_damaged_newest_falls_back(damage: bytes | str) -> None:
    save(1, 2)
    newest = HOME / "00000002.pt"
    data = newest.read_bytes()
    changed = {"half": data[: len(data) // 2], "flipped": data[:100] + bytes(200) + data[300:]}
    newest.write_bytes(changed[damage] if isinstance(damage, str) else damage)
    assert number_saved() == 1
    (HOME / "00000001.pt").write_bytes(b"")
    assert number_saved() is None


def test_a_state_with_code_in_it_is_not_run() -> None:
    save(1)

    class Evil:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.mkdir, ("stolen",)

    torch.save({"fingerprint": RUN, "state": Evil()}, HOME / "00000002.pt")
    assert number_saved() == 1
    assert not Path("stolen").exists()


def test_a_full_disk_keeps_the_state_before(monkeypatch: pytest.MonkeyPatch) -> None:
    """torch.save to a file raises RuntimeError then; the user gets the contract's sentence all the same."""
    save(1)

    def full(part: Path, data: bytes) -> None:
        with part.open("wb") as file:
            file.write(data[:10])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        with pytest.raises(OutputError, match=r"00000002\.pt': No space left"):
            save(2)
    assert [path.name for path in HOME.iterdir()] == ["00000001.pt"]
    assert number_saved() == 1


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files the POSIX way")
def test_the_real_system_call_fails_in_one_sentence() -> None:
    import resource

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(OutputError, match="File too large"):
            save(1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert names() == []


def test_partial_pictures_are_written_when_a_run_is_stopped() -> None:
    paths = [Path("run/partial-0.png"), Path("run/partial-1.png")]
    sink = Partial(paths)
    sink.step(step(1, 2))
    sink.stop(None)
    sink.finish(Finished(1, torch.empty(0), torch.empty(0), [], 0.0))
    assert not Path("run").exists()
    sink.stop(step(2, 2))
    for path in paths:
        with Image.open(path) as image:
            assert image.getpixel((0, 0)) == (153,) * 3  # 0.6 of 255: the picture after the step


def flip(data: bytes, *bits: int) -> bytes:
    changed = bytearray(data)
    for bit in bits:
        changed[bit // 8 % len(data)] ^= 1 << bit % 8
    return bytes(changed)


def as_older(data: bytes) -> bytes:
    """The state as versions without a checksum wrote it."""
    return unsealed(data)


@pytest.mark.parametrize("older", [False, True])
def test_any_flipped_bit_falls_back_to_the_state_before(older: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Of 400 flipped bits 383 were believed, and the resumed picture was another one."""
    save(1, 2)
    newest, whole = HOME / "00000002.pt", state(2)
    data = newest.read_bytes()
    data = as_older(data) if older else data
    newest.write_bytes(data)
    assert number_saved() == 2
    for bit in random.Random(0).sample(range(8 * len(data)), 120):
        newest.write_bytes(flip(data, bit))
        saved = load_state(HOME)
        assert saved is not None
        if saved.state["number"] == 2:  # a bit that no reader looks at
            assert saved.fingerprint == RUN and torch.equal(saved.state["latent"], whole["latent"])
            assert torch.equal(saved.state["streams"]["start"][0], whole["streams"]["start"][0])


def test_a_damaged_state_is_named(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logging.getLogger("vqclip"), "propagate", True)
    save(1, 2)
    newest = HOME / "00000002.pt"
    newest.write_bytes(flip(newest.read_bytes(), 4000))
    assert number_saved() == 1
    assert "00000002.pt' is damaged and not used" in caplog.text


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60) | st.lists(st.integers(0, 50_000), min_size=1, max_size=5))
def test_whatever_lies_there_is_a_state_or_none(content: bytes | list[int]) -> None:
    if not HOME.exists():
        save(1)
        (HOME / "seed").write_bytes((HOME / "00000001.pt").read_bytes())
    seed = (HOME / "seed").read_bytes()
    (HOME / "00000001.pt").write_bytes(content if isinstance(content, bytes) else flip(seed, *content))
    assert number_saved() in (None, 1)
