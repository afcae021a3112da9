"""The machine: device, number format and threads; and the one owner of random generators."""

import contextlib
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import torch

from vqclip.common.errors import UsageError

PRECISIONS = {"fp32": torch.float32, "bf16": torch.bfloat16}


def resolve_device(name: str) -> torch.device:
    """Turn `auto`, `cpu`, `cuda`, `cuda:N` or `mps` into a device that is there.

    Raises:
        UsageError: the name is not one of these, or this machine has no such device.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    kind, colon, index = name.partition(":")
    if kind not in ("cpu", "cuda", "mps") or (colon and not (kind == "cuda" and index.isdecimal())):
        raise UsageError(f"Unknown device {name!r}; choose auto, cpu, cuda, cuda:N or mps.")
    if kind == "cuda" and not torch.cuda.is_available():
        raise UsageError(f"Device {name!r} is not there: torch finds no CUDA GPU; use --device cpu.")
    if kind == "cuda" and colon and int(index) >= torch.cuda.device_count():
        raise UsageError(f"Device {name!r} is not there: this machine has {torch.cuda.device_count()} CUDA device(s).")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise UsageError("Device 'mps' is not there: torch finds no Apple GPU; use --device cpu.")
    return torch.device(name)


def resolve_precision(name: str, device: torch.device) -> str:
    """Turn `auto` into fp32 or bf16 by what the device is: bf16 on a GPU or CPU that is faster in it, else fp32.

    Raises:
        UsageError: an unknown name.
    """
    if name == "auto":
        return "bf16" if _multiplies_bf16(device) else "fp32"
    if name not in PRECISIONS:
        raise UsageError(f"runtime.precision is {name!r}; choose auto, {' or '.join(PRECISIONS)}.")
    return name


def _multiplies_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and _quick_in_bf16(getattr(torch.cpu, "get_capabilities", dict[str, object])())


def _quick_in_bf16(cpu: Mapping[str, object]) -> bool:
    """Whether a CPU of these capabilities, as torch tells them, multiplies matrices of bf16 faster than those of fp32.

    Measured: by AVX512-BF16 2.2 times as fast on an AMD EPYC (Zen 4), but half as fast on an Intel Xeon whose virtual
    machine had no AMX. AMX itself, made for it, was not measured. An old torch tells nothing.
    """
    by_avx512 = cpu.get("avx512_bf16") and not str(cpu.get("cpu_name")).startswith("Intel")
    return bool(cpu.get("amx_bf16") or by_avx512)


def autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    """Compute matrix products and convolutions inside in `precision`; fp32 changes nothing."""
    return nullcontext() if precision == "fp32" else torch.autocast(device.type, PRECISIONS[precision])


def resolve_threads(threads: int | None) -> int:
    """Return how many CPU threads a run shall have: what was asked for, or what the process has."""
    return torch.get_num_threads() if threads is None else threads


def set_threads(threads: int | None) -> None:
    """Give the process this many CPU threads, or leave torch's choice for None."""
    if threads is not None:
        torch.set_num_threads(threads)


@contextlib.contextmanager
def using_threads(threads: int | None) -> Iterator[None]:
    """Compute with this many CPU threads inside, and with as many as before afterwards."""
    before = torch.get_num_threads()
    set_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch or Python means that memory ended; on a CPU torch says so in words only."""
    said = isinstance(error, RuntimeError) and "allocate memory" in str(error)
    return said or isinstance(error, torch.OutOfMemoryError | MemoryError)


def _generator(seed: int, purpose: str, device: torch.device) -> torch.Generator:
    """A generator whose stream depends on the seed and on what it is for, and on nothing else."""
    digest = hashlib.sha256(f"{seed}:{purpose}".encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)


@dataclass(frozen=True)
class Generators:
    """Every random stream of a run, one per purpose and picture, made before anything is drawn.

    `start` and `cutouts` live on the CPU, so that a seed means the same start and the same places on
    every device; `noise` lives on the device, because it is bulk.
    """

    start: list[torch.Generator]
    cutouts: list[torch.Generator]
    noise: list[torch.Generator]

    @classmethod
    def from_seeds(cls, seeds: Sequence[int], device: torch.device) -> "Generators":
        """Make the streams of pictures with these seeds (each 0 to 2^63 - 1)."""
        cpu = torch.device("cpu")
        return cls(
            start=[_generator(seed, "start", cpu) for seed in seeds],
            cutouts=[_generator(seed, "cutouts", cpu) for seed in seeds],
            noise=[_generator(seed, "noise", device) for seed in seeds],
        )

    def state_dict(self) -> dict[str, list[torch.Tensor]]:
        """Copy the state of every stream."""
        return {purpose: [rng.get_state() for rng in rngs] for purpose, rngs in vars(self).items()}

    def load_state_dict(self, state: dict[str, list[torch.Tensor]]) -> None:
        """Put every stream back to a state that `state_dict` returned."""
        for purpose, rngs in vars(self).items():
            for rng, saved in zip(rngs, state[purpose], strict=True):
                rng.set_state(saved)
