"""vqclip classify: which of several labels fits a picture best."""

import dataclasses
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.hints import note_foreign_pictures, note_unknown_words
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.looking import Exclude, Images, Model, Null, given_images, load_clip, vectors_of
from vqclip.cli.options import Device, Json, Offline, Pull, Quiet, Threads, Verbose
from vqclip.common.errors import UsageError
from vqclip.config.vocabulary import known_words
from vqclip.hub.access import choose_access

if TYPE_CHECKING:
    from torch import Tensor

    from vqclip.models.perceptor import Perceptor
    from vqclip.tools.zeroshot import Calibration

NONE = "none of these"


def classify(
    images: Images,
    label: Annotated[
        list[str], typer.Option("-l", "--label", metavar="LABEL,LABEL|@FILE", help="What to choose from; repeat it.")
    ],
    template: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help='E.g. "a photo of a {}"; repeat it to average several.')
    ] = None,
    top: Annotated[int, typer.Option("-k", "--top", min=1, help="Labels shown for each picture.")] = 1,
    background: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT,TEXT|@FILE", help="What else they may show: 'none of these' is an answer then."),
    ] = None,
    closed: Annotated[
        bool, typer.Option("--closed", help="One of the labels is right: never 'none of these'.")
    ] = False,
    exclude: Exclude = None,
    null: Null = False,
    perceptor: Model = "embedded",
    device: Device = None,
    threads: Threads = None,
    offline: Offline = False,
    pull: Pull = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Choose a label for each picture, without training: vqclip classify *.png -l cat,dog,person

    Shows the likeliest labels and their probabilities, and "none of these" where that is likelier: to the embedded CLIP
    all other words that it knows are none, to published ones what --background says.
    """
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    access = choose_access(pull, offline)
    with Interrupts("Stopped."):
        from vqclip.tools.queries import query_vectors, read_query, texts_of
        from vqclip.tools.zeroshot import CALIBRATED, TEMPLATES, Calibration, chances, parse_labels, parse_list

        labels, beside = parse_labels(label), parse_list(background or [])
        if closed and beside:
            raise UsageError("--closed says that a label is right, --background what else may be; leave one out.")
        asked, given = [read_query(name) for name in labels], given_images(console, images, null, exclude)
        model, _ = load_clip(perceptor, device, threads, access)
        note_unknown_words(console, texts_of(asked), perceptor)
        classes = query_vectors(model, asked, template or TEMPLATES)
        own = Calibration(model.scale)
        rest, sure = (None, own) if closed else _background(model, classes, beside, CALIBRATED.get(perceptor, own))
        seen: list[Path] = []
        for path, vector in vectors_of(console, model, given):
            seen.append(path)
            found = chances(model, classes @ vector, None if rest is None else rest @ vector, sure).tolist()
            best = sorted(zip([*labels, None], found, strict=False), key=lambda each: -each[1])
            last = [place for place, (name, _) in enumerate(best, 1) if name][:top][-1]
            ranked = [{"label": name, "probability": round(chance, 4)} for name, chance in best[:last]]
            line = ", ".join(f"{name or NONE} {chance:.1%}" for name, chance in best[:last])
            event = {"event": "class", "path": str(path), "labels": ranked}
            console.result(f"{path}  {line}", event, null=null)
        note_foreign_pictures(console, seen, perceptor)


def _background(
    model: "Perceptor", classes: "Tensor", texts: list[str], sure: "Calibration"
) -> "tuple[Tensor | None, Calibration]":
    """The unit vectors (B, D) of what is none of the labels, and how they count: texts that are given as labels do, and
    where a model has an `offset` for them all words that it knows."""
    from vqclip.tools.zeroshot import ONE, label_vectors, others

    if texts:
        sure = dataclasses.replace(sure, offset=0.0)
    words = texts or (sorted(known_words()) if sure.offset else [])
    if not words:
        return None, sure
    vectors = label_vectors(model, words, ONE).cpu()
    vectors = vectors[others(vectors, classes)]
    return (vectors if len(vectors) else None), sure
