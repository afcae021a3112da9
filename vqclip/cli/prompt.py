"""vqclip prompt: how a prompt is read."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vqclip.cli.command import App, Group
from vqclip.cli.console import Console
from vqclip.cli.options import Json, Layers, Overrides
from vqclip.cli.prompts import read_prompts
from vqclip.common.errors import ModelError
from vqclip.common.registry import shown
from vqclip.config.alternatives import expand
from vqclip.config.loader import load_config
from vqclip.config.prompts import TEXT, Prompt, foreign_weights, parse_prompts

if TYPE_CHECKING:
    from vqclip.models.files import ClipFiles
    from vqclip.tools.explain import Reading

app = App(cls=Group, help="Explain prompts.")


@app.callback()
def _prompt() -> None:
    """Explain prompts."""


@app.command()
def explain(
    prompts: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="As generate reads it.")],
    config: Layers = None,
    overrides: Overrides = None,
    as_json: Json = False,
) -> None:
    """Say how prompts are read: vqclip prompt explain "[left] a {red|green} apple:2 | fog:-0.5"

    For each picture its parts with weight, stop and region; and of each text how many tokens the config's perceptors
    count, which of them are ignored, and the words that the embedded models never read.
    """
    console = Console(as_json=as_json)
    pictures = [(source, parse_prompts(source)) for source in expand(read_prompts(prompts, config or []))]
    files = _tokenisers(console, [guide.name for guide in load_config(config or [], overrides or []).guides])
    from vqclip.tools.explain import read_by

    for source, parts in pictures:
        readings = read_by(files, parts)
        event = {"event": "prompt", "prompt": source, "parts": [*map(_facts, parts, readings)]}
        lines = [
            source.strip(),
            *(line for part, reads in zip(parts, readings, strict=True) for line in _lines(part, reads)),
        ]
        if as_json:
            console.result("", event)
        else:
            console.text("".join(f"{line}\n" for line in lines))
        for note in foreign_weights(parts):
            console.say(f"Note: {note}.")


def _tokenisers(console: Console, names: list[str]) -> "list[ClipFiles]":
    """The files of the perceptors that are here; of the others it is said that they are not."""
    from vqclip.hub.clip_files import find_clip

    found = []
    for name in names:
        try:
            found.append(find_clip(name))
        except ModelError as error:
            console.say(f"Note: what {name} reads is not known: {error}")
    return found


def _facts(part: Prompt, readings: "list[Reading]") -> dict[str, object]:
    stop = None if part.stop == -float("inf") else part.stop
    said = {"kind": part.kind, "text": part.text, "weight": part.weight, "stop": stop, "region": part.region or None}
    return {**said, "readings": [asdict(reading) for reading in readings]}


def _lines(part: Prompt, readings: "list[Reading]") -> list[str]:
    stop = "" if part.stop == -float("inf") else f", rests below {part.stop:g}"
    where = f" in [{part.region}]" if part.region else ""
    pulls = "pulls" if part.weight > 0 else "pushes away" if part.weight < 0 else "does nothing"
    head = f"  {part.kind} {shown(part.text)}{where}: weight {part.weight:g} ({pulls}){stop}"
    return [head, *(f"    {_said(reading, part.text)}" for reading in readings if part.kind == TEXT)]


def _said(reading: "Reading", text: str) -> str:
    written, read = ("".join(each.lower().split()) for each in (text, reading.read + reading.ignored))
    ignored = f"; ignored: {shown(reading.ignored)}" if reading.ignored else ""
    unknown = f"; never read: {', '.join(reading.unknown)}" if reading.unknown else ""
    as_read = f"; read as {shown(reading.read)}" if read != written else ""
    return f"{reading.guide}: {reading.tokens} of {reading.room} tokens{as_read}{ignored}{unknown}"
