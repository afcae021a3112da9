"""The rate of matrix products against a clock of our own."""

import pytest
import torch

from vqclip.common import rates

CPU = torch.device("cpu")


def test_the_rate_is_that_of_the_quickest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter([9.0, 4.0, 2.0, 3.0, 4.0, 5.0])
    monkeypatch.setattr(rates, "timed", lambda call, device: next(times))
    assert rates.matmul_rate(torch.float32, CPU, side=8) == 2 * 8**3 / 2.0


def test_a_call_is_timed_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [10.0]
    monkeypatch.setattr(rates.time, "perf_counter", lambda: clock[0])
    assert rates.timed(lambda: clock.__setitem__(0, 13.5), CPU) == 3.5
