"""vqclip doctor: what this machine has, for the person and for bug reports."""

import os
import platform
import shutil
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from vqclip import __version__
from vqclip.cli.console import Console
from vqclip.common.paths import is_file, is_there
from vqclip.common.process_memory import available_memory

PROBE = 512
"""Side of the matrices whose product is timed: small, as some CPUs only emulate bf16."""

PACKAGES = (
    "torch",
    "taming-transformers",
    "open_clip_torch",
    "typer",
    "rich",
    "pillow",
    "safetensors",
)
EXTRAS = {
    "av": "video: mp4",
    "ray": "ray: many machines",
    "pillow_heif": "heic: photographs of phones",
    "spandrel": "upscale: further upscalers",
    "textual_image": "show: sharp pictures in the terminal",
    "transformers": "siglip: SigLIP models",
}
"""A module of each extra of pyproject.toml ─▶ the extra, and what it is for."""


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line on stdout.")] = False,
) -> None:
    """Show versions, devices, memory, cache, models, and what a run would use: vqclip doctor"""
    console = Console(as_json=as_json)
    for topic, facts in _report().items():
        for name, value in facts.items():
            console.result(f"{topic:<9} {name:<20} {value}", {"event": topic, "name": name, "value": value})


def _report() -> dict[str, dict[str, str]]:
    return {
        "vqclip": {"version": __version__, "configs": str(_paths()[0]), "embedded": str(_paths()[1])},
        "system": {"python": platform.python_version(), "platform": platform.platform(), **_memory()},
        "package": {name: _version(name) for name in PACKAGES},
        "extra": {name: f"{_present(name)} ({purpose})" for name, purpose in EXTRAS.items()},
        "device": _devices(),
        "model": _models(),
        "run": _choices(),
    }


def _paths() -> tuple[Path, Path]:
    from vqclip.common.paths import configs_dir, embedded_dir

    return configs_dir(), embedded_dir()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _present(module: str) -> str:
    return "installed" if find_spec(module) else "not installed"


def _memory() -> dict[str, str]:
    from vqclip.common.paths import cache_dir

    cache = cache_dir()
    existing = next(folder for folder in (cache, *cache.parents) if is_there(folder))
    return {
        "cores": str(os.cpu_count()),
        "free memory": _free_memory(),
        "model cache": f"{cache} ({shutil.disk_usage(existing).free / 2**30:.1f} GiB free)",
    }


def _free_memory() -> str:
    free = available_memory()
    return "unknown on this system" if free is None else f"{free / 2**30:.1f} GiB"


def _devices() -> dict[str, str]:
    import torch

    found = {"cpu": f"{torch.get_num_threads()} threads, {_rates('cpu', PROBE)}"}
    for index in range(torch.cuda.device_count()):
        properties, rates = torch.cuda.get_device_properties(index), _rates(f"cuda:{index}", 8 * PROBE)
        found[f"cuda:{index}"] = f"{properties.name}, {properties.total_memory / 2**30:.1f} GiB, {rates}"
    if torch.backends.mps.is_available():
        found["mps"] = "Apple GPU"
    return found


def _rates(device: str, side: int) -> str:
    """What a product of matrices of this side reaches in each number format."""
    import torch

    from vqclip.common.rates import matmul_rate
    from vqclip.common.runtime import PRECISIONS

    found = {name: matmul_rate(dtype, torch.device(device), side) / 1e9 for name, dtype in PRECISIONS.items()}
    return "matrix products: " + ", ".join(f"{name} {rate:,.0f} GFLOP/s" for name, rate in found.items())


def _models() -> dict[str, str]:
    from vqclip.common.paths import embedded_dir
    from vqclip.hub.store_index import stored_file
    from vqclip.hub.vqgan_catalogue import VQGANS

    embedded = [embedded_dir() / name for name in ("vqgan.safetensors", "clip/open_clip_model.safetensors")]
    found = {"embedded": "ready" if all(is_file(path) for path in embedded) else "damaged: install vqclip again"}
    for name, published in VQGANS.items():
        path = stored_file(name)
        found[name] = str(path) if path else f"not on this machine ({published.size_text})"
    return found


def _choices() -> dict[str, str]:
    from vqclip.common.runtime import resolve_device, resolve_precision
    from vqclip.config.loader import load_config

    config = load_config()
    device = resolve_device(config.runtime.device)
    return {"device": str(device), "precision": resolve_precision(config.runtime.precision, device)}
