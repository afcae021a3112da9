"""Kinds of start: who makes it, and the settings that follow from it, which lie right above default.yaml."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

EMBEDDED = "embedded"
"""The models that come with vqclip."""

VQGAN = "vqgan"
"""The drawer that is a network."""

CELLS = "pixelart"
"""The section of the drawers whose pictures are made of cells."""

SECTIONS: Mapping[str, str] = {
    "fourier": "fourier",
    "pixelart": CELLS,
    "palette": CELLS,
    "strokes": "strokes",
}
"""The sections of settings that drawers have for themselves."""

AUTO = "auto"

REDRAW = "redraw"

VARY = "vary"

PRIORS = frozenset({"prior", REDRAW, VARY})
"""The kinds whose start the prior draws."""

CODED = frozenset({"prior", "codes"})
"""The kinds that only a VQGAN has."""

PICTURES = frozenset({"image", "bent", REDRAW, VARY})
"""The kinds that begin with a picture of the user's as a whole."""

BENT = frozenset({"bent", VARY})
"""Those of them that move, turn and bend it by chance before."""

CONTINUED = "continued"
"""Settings of what the prior draws as a part of a picture of the user's."""

BETWEEN = "between"
"""Settings of a way whose points are all pictures of the user's."""

UNDRAWN = {REDRAW: "image", VARY: "bent"}
"""What such a kind comes to where no prior draws the picture anew."""

FAR = {
    "cutouts": {"recipe": "coherent", "count": 32},
    "optimise": {"steps": 60, "lr": 0.1, "schedule": "cosine"},
}
"""There is a long way to go from a start that shows nothing; measured in docs/measured.md."""

NEAR = {
    "cutouts": {"recipe": "coherent", "count": 16},
    "optimise": {"steps": 40, "lr": 0.05, "schedule": "cosine"},
}
"""A picture is a part of the way."""

DRAWN: Mapping[str, Any] = {"size": "256x256", "losses": {"smoothness": 1.0}}
"""What the drawers but the VQGAN begin with; without a network that knows pictures they draw the guide's noise, too."""

SETTINGS: Mapping[str, Mapping[str, Any]] = {
    "prior": {},
    REDRAW: {"init": {"strength": 0.6}},
    VARY: {"init": {"strength": 0.3}},
    CONTINUED: {"optimise": {"steps": 8}},
    BETWEEN: {"optimise": {"lr": 0.01}},
    "image": NEAR,
    "bent": NEAR,
    "codes": FAR,
    "noise": FAR,
    "grey": FAR,
    "gradient": FAR,
    "pixels": {**DRAWN, "optimise": {**FAR["optimise"], "lr": 0.03}},
    "fourier": {**DRAWN, "optimise": {**FAR["optimise"], "lr": 0.05}},
    "pixelart": {**DRAWN, "optimise": {**FAR["optimise"], "lr": 0.05}},
    "palette": {**DRAWN, "pixelart": {"colours": "pico8"}, "losses": {"smoothness": 2.0}},
    "strokes": {**DRAWN, "losses": {}, "optimise": {**FAR["optimise"], "lr": 0.03}},
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


def beginning(drawer: str, colours: str | None) -> str:
    """Return what a drawer begins with where nothing else is said.

    Cells of any colour (`colours` is None) would never lose noise, so they are grey. Cells of few colours vote for
    them, and those that all vote for the one nearest to grey would never vote for another.
    """
    if drawer == VQGAN:
        return "codes"
    return "grey" if SECTIONS.get(drawer) == CELLS and colours is None else "noise"


def start_of(kind: str, drawer: str, colours: str | None, *, prior: bool, kept: bool, alike: bool) -> str:
    """Return the kind of start that `kind` comes to: with this drawer and the `colours` of its cells, where there is a
    prior for its VQGAN, where a part of a picture is kept, and where the whole shall be like one.
    """
    prior = prior and drawer == VQGAN
    if kind == AUTO and prior:
        return REDRAW if alike else "prior"
    if kind == AUTO:
        return "image" if kept else beginning(drawer, colours)
    return kind if prior else UNDRAWN.get(kind, kind)


def begun_with(start: str, *, kept: bool, image: bool, between: bool) -> tuple[str, ...]:
    """Return whose SETTINGS lie over those of `start` where the user's picture is a part of what it begins with: a
    part is `kept`, or codes of an `image` are, or a way leads `between` pictures.
    """
    if between:
        return (BETWEEN,)
    if start in PRIORS:
        return (CONTINUED,) if kept or (image and start == "prior") else ()
    return ("image",) if image and start not in PICTURES else ()
