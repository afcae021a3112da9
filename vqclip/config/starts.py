"""Kinds of start: who makes it, and the settings that follow from it, which lie right above default.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass

EMBEDDED = "embedded"
"""The models that come with vqclip."""

AUTO = "auto"

REDRAW = "redraw"

PRIORS = frozenset({"prior", REDRAW})
"""The kinds whose start the prior draws."""

PICTURES = frozenset({"image", REDRAW})
"""The kinds that begin with a picture of the user's as a whole."""

FAR = {
    "cutouts": {"recipe": "coherent", "count": 32},
    "optimise": {"steps": 60, "lr": 0.1, "schedule": "cosine"},
}
"""There is a long way to go from a start that shows nothing; measured in docs/measured.md."""

SETTINGS: Mapping[str, Mapping[str, Mapping[str, object]]] = {
    "prior": {},
    REDRAW: {"init": {"strength": 0.6}},
    "image": {
        "cutouts": {"recipe": "coherent", "count": 16},
        "optimise": {"steps": 40, "lr": 0.05, "schedule": "cosine"},
    },
    "codes": FAR,
    "noise": FAR,
    "grey": FAR,
    "gradient": FAR,
}
"""What default.yaml says otherwise where a run starts so; the numbers were chosen by looking at the pictures."""


@dataclass(frozen=True)
class Quality:
    """Factors of what a run would take: steps, cutouts, and sides of the picture."""

    steps: float = 1.0
    cutouts: float = 1.0
    sides: float = 1.0


QUALITIES: Mapping[str, Quality] = {
    "draft": Quality(0.5, 0.5),
    "normal": Quality(),
    "better": Quality(1.5, 1.5),
    "best": Quality(2.5, 2.0),
    "supreme": Quality(4.0, 3.0, 1.5),
}
"""Of what the start and the configs say; what is said on the command line stays. The words are pixray's."""


def start_of(kind: str, *, prior: bool, kept: bool, alike: bool) -> str:
    """Return the kind of start that `kind` comes to: where there is a prior for the VQGAN, where a part of a picture is
    kept, and where the whole shall be like one.
    """
    if kind == AUTO and prior:
        return REDRAW if alike else "prior"
    if kind == AUTO:
        return "image" if kept else "codes"
    return "image" if kind == REDRAW and not prior else kind
