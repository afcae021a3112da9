"""vqclip classify: which of several labels fits a picture best."""

from typing import Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.hints import note_foreign_pictures, note_unknown_words
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.looking import Exclude, Images, Model, Null, given_images, load_clip, vectors_of
from vqclip.cli.options import Device, Json, Offline, Pull, Quiet, Threads, Verbose
from vqclip.hub.access import choose_access


def classify(
    images: Images,
    label: Annotated[
        list[str], typer.Option("-l", "--label", metavar="LABEL,LABEL|@FILE", help="What to choose from; repeat it.")
    ],
    template: Annotated[
        list[str] | None, typer.Option(metavar="TEXT", help='E.g. "a photo of a {}"; repeat it to average several.')
    ] = None,
    top: Annotated[int, typer.Option("-k", "--top", min=1, help="Labels shown for each picture.")] = 1,
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

    Shows the likeliest labels and their probabilities.
    """
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    access = choose_access(pull, offline)
    with Interrupts("Stopped."):
        from vqclip.tools.zeroshot import TEMPLATES, label_vectors, parse_labels, probabilities

        labels, given = parse_labels(label), given_images(console, images, null, exclude)
        model, _ = load_clip(perceptor, device, threads, access)
        note_unknown_words(console, labels, perceptor)
        note_foreign_pictures(console, (each.path for each in given), perceptor)
        classes = label_vectors(model, labels, template or TEMPLATES).cpu()
        for path, vector in vectors_of(console, model, given):
            chances, order = probabilities(model, (classes @ vector)[None])[0].sort(descending=True, stable=True)
            best = [(labels[number], chance) for number, chance in zip(order.tolist(), chances.tolist(), strict=True)]
            ranked = [{"label": name, "probability": round(chance, 4)} for name, chance in best[:top]]
            line = ", ".join(f"{name} {chance:.1%}" for name, chance in best[:top])
            console.result(f"{path}  {line}", {"event": "class", "path": str(path), "labels": ranked})
