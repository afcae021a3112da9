"""How fast a device multiplies matrices: the limit of what a step can reach, and which number format is the quicker."""

import time
from collections.abc import Callable

import torch


def timed(call: Callable[[], object], device: torch.device) -> float:
    """Seconds of a call, until the device is done with it."""
    began = time.perf_counter()
    call()
    if device.type != "cpu":
        torch.accelerator.synchronize(device)
    return time.perf_counter() - began


def matmul_rate(number_format: torch.dtype, device: torch.device, side: int = 2048) -> float:
    """Floating-point operations a second of a `side` x `side` matrix product, the best of six."""
    a = torch.randn(side, side, device=device).to(number_format)
    return 2 * side**3 / min(timed(lambda: a @ a, device) for _ in range(6))
