"""vqclip score: how well pictures match texts."""

from pathlib import Path
from typing import Annotated

import typer

from vqclip.cli.console import Console
from vqclip.cli.hints import note_foreign_pictures, note_unknown_words
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.looking import Exclude, Images, Model, Null, given_images, load_clip, vectors_of
from vqclip.cli.options import Device, Json, Offline, Pull, Quiet, Threads, Verbose
from vqclip.hub.access import choose_access


def score(
    images: Images,
    prompt: Annotated[
        list[str], typer.Option("-p", "--prompt", help="A text, or a query as for search; repeat it to compare.")
    ],
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
    """Say how well pictures match texts: vqclip score *.png -p "a red apple" -p "a green apple"

    For each picture and text the cosine similarity and, among several texts, the probability.
    """
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    access = choose_access(pull, offline)
    with Interrupts("Stopped."):
        from vqclip.tools.queries import query_vectors, read_query, texts_of
        from vqclip.tools.zeroshot import probabilities

        asked = [read_query(text) for text in prompt]
        given = given_images(console, images, null, exclude)
        model, _ = load_clip(perceptor, device, threads, access)
        note_unknown_words(console, texts_of(asked), perceptor)
        texts = query_vectors(model, asked)
        alone = len(prompt) == 1 and model.bias is None  # a softmax over one text says nothing
        seen: list[Path] = []
        for path, vector in vectors_of(console, model, given):
            seen.append(path)
            cosines = (texts @ vector)[None]
            chances = probabilities(model, cosines)[0].tolist()
            for text, cosine, chance in zip(prompt, cosines[0].tolist(), chances, strict=True):
                shown = None if alone else round(chance, 4)
                event = {"event": "score", "path": str(path), "prompt": text, "cosine": round(cosine, 4)}
                percent = "" if alone else f"{chance:7.1%}  "
                console.result(f"{cosine:7.4f}  {percent}{path}  {text}", {**event, "probability": shown}, null=null)
        note_foreign_pictures(console, seen, perceptor)
