"""Modules whose weights are about to be read from a file: they need neither memory nor first values."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _Unfilled(TorchFunctionMode):
    """Skips torch.nn.init. On the meta device it draws nothing, but torch imports sympy (0.5 s) to find that out."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Iterable[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Return the tensor that was to be filled as it is; call everything else."""
        given = dict(kwargs or {})
        if getattr(func, "__module__", "") == "torch.nn.init":
            return given.get("tensor", args[0] if args else None)
        return func(*args, **given)


@contextlib.contextmanager
def unfilled() -> Iterator[None]:
    """Build modules on the meta device, without first values; load weights with `assign=True`."""
    with torch.device("meta"), _Unfilled():
        yield
