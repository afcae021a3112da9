"""Freed memory stays with the process: asked for again, it comes without fresh pages of the system."""

import ctypes
import subprocess
import sys

import pytest

from vqclip.common.allocator import keep_freed_memory, worth_keeping

FAULTS = """
import resource, sys
from vqclip.common.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
import torch
torch.set_num_threads(1)
def use():
    torch.ones(40 * 2**18)
for _ in range(20):
    use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="another C library than glibc")
def test_memory_that_is_used_again_is_not_asked_of_the_system_again() -> None:
    fresh, kept = (
        int(subprocess.run([sys.executable, "-c", FAULTS, how], check=True, capture_output=True, text=True).stdout)
        for how in ("fresh", "kept")
    )
    # Ten times 40 MB in pages of 4 KB are 102,400 faults; kept, the heap is large enough after a while.
    assert fresh > 100_000
    assert kept < 15_000


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ctypes, "CDLL", lambda _: object())
    assert not keep_freed_memory()


def test_where_memory_is_short_it_is_given_back_in_fp32() -> None:
    assert [worth_keeping(precision, low) for low in (False, True) for precision in ("fp32", "bf16")] == [
        True, True, False, True
    ]  # fmt: skip
