"""Stand-ins that let a training file be read without the classes it mentions, and without running them.

A pickle names classes and functions and asks the reader to call them. torch's restricted reader
(`weights_only=True`) refuses every name it does not know. Training files of the VQGAN years hold a
few harmless ones beside the weights: callbacks' classes as dictionary keys, hyper-parameters. Each
name below is answered by a class that takes whatever the pickle sends it and keeps nothing, so the
real one is neither imported nor called. Every other name stays refused.
"""

from collections import OrderedDict
from collections.abc import Callable
from typing import Any


class Nothing(list):
    """Stands for a class, a function, or what either makes: it takes any arguments, state and items.

    It is a list because torch's reader appends to lists only.
    """

    __hash__ = object.__hash__  # type: ignore[assignment]

    def __new__(cls, *arguments: Any) -> "Nothing":
        """Make an empty one, whatever the arguments."""
        return super().__new__(cls)

    def __init__(self, *arguments: Any) -> None:
        super().__init__()

    def __setstate__(self, state: Any) -> None:
        """Ignore the state."""

    def append(self, item: Any) -> None:
        """Ignore the item."""

    def extend(self, items: Any) -> None:
        """Ignore the items."""


class Table:
    """Stands for a kind of dictionary: making one gives an OrderedDict, which torch's reader may fill."""

    def __new__(cls, *arguments: Any) -> Any:
        """Return an empty OrderedDict, whatever the arguments."""
        return OrderedDict[Any, Any]()


NOTHINGS = {
    "__main__": ("SetupCallback", "ImageLogger", "CUDACallback"),
    "main": ("SetupCallback", "ImageLogger", "CUDACallback"),
    "taming.main": ("SetupCallback", "ImageLogger"),
    "argparse": ("Namespace",),
    "builtins": ("bool", "bytes", "float", "int", "list", "object", "str", "tuple"),
    "numpy": ("dtype", "ndarray"),
    "numpy._core.multiarray": ("_reconstruct", "scalar"),
    "numpy.core.multiarray": ("_reconstruct", "scalar"),
    "omegaconf.base": ("ContainerMetadata", "Metadata", "UnionNode"),
    "omegaconf.dictconfig": ("DictConfig",),
    "omegaconf.listconfig": ("ListConfig",),
    "omegaconf.nodes": (
        "AnyNode",
        "BooleanNode",
        "BytesNode",
        "EnumNode",
        "FloatNode",
        "IntegerNode",
        "PathNode",
        "StringNode",
    ),
    "pathlib": ("Path", "PosixPath", "WindowsPath"),
    "pytorch_lightning.callbacks.early_stopping": ("EarlyStopping",),
    "pytorch_lightning.callbacks.finetuning": ("BackboneFinetuning",),
    "pytorch_lightning.callbacks.gpu_stats_monitor": ("GPUStatsMonitor",),
    "pytorch_lightning.callbacks.lr_logger": ("LearningRateLogger",),
    "pytorch_lightning.callbacks.lr_monitor": ("LearningRateMonitor",),
    "pytorch_lightning.callbacks.model_checkpoint": ("ModelCheckpoint",),
    "pytorch_lightning.callbacks.progress": ("ProgressBar",),
    "pytorch_lightning.callbacks.stochastic_weight_avg": ("StochasticWeightAveraging",),
    "pytorch_lightning.callbacks.timer": ("Timer",),
    "typing": ("Any",),
}
"""Module ─▶ names in it: Lightning's and taming's callbacks, OmegaConf's and numpy's objects, plain types."""

TABLES = {
    "builtins": ("dict",),
    "collections": ("defaultdict",),
    "lightning_fabric.utilities.data": ("AttributeDict",),
    "pytorch_lightning.utilities.parsing": ("AttributeDict",),
}
"""Module ─▶ kinds of dictionary in it."""


def stand_ins() -> list[Callable | tuple[Callable, str]]:
    """Return what `torch.serialization.safe_globals` takes: (stand-in, full name) for every name above."""
    nothings = [(Nothing, f"{module}.{name}") for module, names in NOTHINGS.items() for name in names]
    tables = [(Table, f"{module}.{name}") for module, names in TABLES.items() for name in names]
    return [*nothings, *tables]
