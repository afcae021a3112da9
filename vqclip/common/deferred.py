"""Imports of other libraries that are put off until something of them is needed, which most commands never do.

torch and open_clip import modules that cost more time than they do themselves: torch's compiler, which optimisers ask
not to compile them and torchvision asks whether it can, and timm, for image towers that are not open_clip's own. A
`StandIn` answers such questions, and becomes the module itself as soon as it is asked anything else.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any


def _from(module: str, name: str) -> Callable[..., Any]:
    """The function or class `name` of a module that is imported at the first call."""

    def call(*args: Any, **kwargs: Any) -> Any:
        return getattr(_real(module), name)(*args, **kwargs)

    return call


def _as_it_is(function: Callable[..., Any] | None = None, *_: Any, **__: Any) -> Callable[..., Any]:
    """`torch._dynamo.disable` where nothing is compiled, called with a function or as a decorator's arguments."""
    return _as_it_is if function is None else function


def _nothing() -> None:
    """`torch._dynamo.graph_break` where nothing is compiled."""


ANSWERS: Mapping[str, Mapping[str, Callable[..., Any]]] = {
    "torch._dynamo": {"disable": _as_it_is, "graph_break": _nothing},
    "torch._dynamo.utils": {"is_compile_supported": _from("torch._dynamo.utils", "is_compile_supported")},
    "open_clip.timm_model": {"TimmModel": _from("open_clip.timm_model", "TimmModel")},
}
"""What a stand-in knows: torch's optimisers use the first, torchvision's roi_align the second, open_clip the third."""


class StandIn(ModuleType):
    """Stands for a module until more is asked of it than ANSWERS has."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        vars(self).update(ANSWERS[name])

    def __getattr__(self, name: str) -> Any:
        """What the module itself has, which is imported now.

        Raises:
            AttributeError: it has no such name, or one of those that Python's own tools ask every module for.
            ImportError: the module is not there.
        """
        package = any(each.startswith(f"{self.__name__}.") for each in ANSWERS)
        if name.startswith("__") and not (package and name == "__path__"):
            raise AttributeError(name)
        return getattr(_real(self.__name__), name)


def _real(name: str) -> ModuleType:
    """Import a module in the place of its stand-in, with the package that it may be a part of."""
    package = name.split(".")[0]
    for each, module in list(sys.modules.items()):
        if isinstance(module, StandIn) and each.split(".")[0] == package:
            del sys.modules[each]
    return importlib.import_module(name)


def defer_imports() -> None:
    """Let stand-ins take the places of modules that are not imported yet, for this whole process."""
    for name in ANSWERS:
        sys.modules.setdefault(name, StandIn(name))
