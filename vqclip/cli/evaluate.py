"""vqclip evaluate: measure the pictures of a prompt list with judges that did not guide them."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vqclip.cli.console import Console
from vqclip.cli.hints import note_unknown_words
from vqclip.cli.interrupts import Interrupts
from vqclip.cli.looking import counting
from vqclip.cli.options import Device, Json, Layers, Overrides, Overwrite, Quiet, Threads, Verbose, read_settings
from vqclip.cli.targets import check_not_stdout
from vqclip.common.errors import OutputError, UsageError
from vqclip.common.files import check_inside, ready_folder
from vqclip.common.paths import is_folder, is_there
from vqclip.common.text import parse_json, read_text
from vqclip.hub.access import choose_access

if TYPE_CHECKING:
    from vqclip.tools.evaluate import Evaluation, Judgement, PromptList, Verdict


def evaluate(
    context: typer.Context,
    lists: Annotated[
        list[str] | None,
        typer.Argument(metavar="[LIST]...", help="heldout-single, heldout-composed, or files with a prompt a line."),
    ] = None,
    config: Layers = None,
    overrides: Overrides = None,
    output: Annotated[
        str | None, typer.Option("-o", "--output", metavar="DIR", help="Write sheets and figures into this folder.")
    ] = None,
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Pictures per prompt, of seeds 0, 1, 2…")] = 1,
    judge: Annotated[
        list[str] | None,
        typer.Option(
            help="A CLIP model that judges, as in perceptors; repeat it. Those that come with vqclip if left out."
        ),
    ] = None,
    first: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Pictures of the first N prompts only, ranked among all.")
    ] = None,
    together: Annotated[int, typer.Option(min=1, max=1000, help="Pictures made at once.")] = 10,
    device: Device = None,
    threads: Threads = None,
    overwrite: Overwrite = False,
    as_json: Json = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> None:
    """Measure pictures of prompt lists: vqclip evaluate heldout-single -o report/"""
    console = Console(as_json=as_json, quiet=quiet, verbose=verbose)
    settings = read_settings(context)
    choose_access(pull=False)
    with Interrupts("Stopped; what was finished is kept."):
        from vqclip.tools.evaluate import evaluate as measure
        from vqclip.tools.evaluate import load_judges, own_judges, read_prompts

        chosen = [read_prompts(name) for name in lists or ["heldout-single", "heldout-composed"]]
        folder = _new_folder(output, chosen, seeds, overwrite) if output else None
        names = judge or own_judges(settings)
        judges = load_judges(names, settings)
        note_unknown_words(console, (text for prompts in chosen for text in prompts.prompts), names[0])
        if folder:
            ready_folder(folder)
        for prompts in chosen:
            total = seeds * len(prompts.prompts[:first])
            with counting(console, prompts.name) as count:
                found = measure(
                    settings,
                    prompts,
                    range(seeds),
                    judges,
                    together,
                    first,
                    partial(_tell, console, prompts.name, count, total),
                )
            facts = _facts(prompts, found, names)
            console.result(_line(facts), {"event": "evaluation", **facts})
            if folder:
                _write(folder, prompts, found, facts)


def _tell(console: Console, name: str, count: "Callable[[int, int], None]", total: int, done: int) -> None:
    """Move the bar on a terminal; write a line elsewhere."""
    count(done, total)
    if not console.interactive:
        console.say(f"{name}: {done} of {total} pictures")


def _new_folder(output: str, lists: "list[PromptList]", seeds: int, overwrite: bool) -> Path:
    """The folder for figures and sheets, in which their places are free."""
    check_not_stdout(output)
    folder = Path(output)
    if is_there(folder) and not is_folder(folder):
        raise UsageError(f"--output {output!r} is a file; give a folder for the sheets.")
    figures = [_figures(folder, prompts) for prompts in lists]
    double = next((place for place in figures if figures.count(place) > 1), None)
    if double:
        raise UsageError(f"Two lists would be written to {str(double)!r}; give them one at a time.")
    for prompts in lists:
        places = [_figures(folder, prompts), *_sheets(folder, prompts, range(seeds))]
        for place in places:
            check_inside(folder, place)
        ours = _recorded(folder, prompts)
        taken = next((place for place in places if is_there(place) and place not in ours), None)
        if taken and not overwrite:
            raise OutputError(f"{str(taken)!r} is there already: choose another --output, or add --overwrite.")
    return folder


def _recorded(folder: Path, prompts: "PromptList") -> list[Path]:
    """The files of an earlier evaluation, by its figures; they may be written anew."""
    figures = _figures(folder, prompts)
    try:
        found = parse_json(read_text(figures, "the figures"))
        return [figures, *_sheets(folder, prompts, found["seeds"])] if "r_precision" in found else []
    except (UsageError, ValueError, KeyError, TypeError):
        return []


def _figures(folder: Path, prompts: "PromptList") -> Path:
    return folder / f"{Path(prompts.name).stem}.json"


def _sheets(folder: Path, prompts: "PromptList", seeds: Iterable[int]) -> list[Path]:
    return [folder / f"{Path(prompts.name).stem}-s{seed}.png" for seed in seeds]


def _facts(prompts: "PromptList", found: "Evaluation", judges: Sequence[str]) -> dict[str, Any]:
    """The figures for scripts: what the first judge says stands by itself, what others say in a list."""
    from vqclip import __version__

    first, *others = (_said(prompts, *each) for each in zip(judges, found.judgements, strict=True))
    return {
        "list": prompts.name,
        "captions": len(prompts.prompts),
        "prompts": found.images.shape[1],
        "seeds": found.seeds,
        "size": [found.images.shape[4], found.images.shape[3]],
        **first,
        "others": others,
        "seconds_per_picture": round(found.seconds, 3),
        "version": __version__,
    }


def _said(prompts: "PromptList", judge: str, found: "Judgement") -> dict[str, Any]:
    """What one judge says."""
    return {
        "judge": judge,
        "r_precision": round(found.verdict.precision, 4),
        "clip_score": round(found.verdict.score, 4),
        "ceiling_r_precision": round(found.ceiling.precision, 4) if found.ceiling else None,
        "ceiling_clip_score": round(found.ceiling.score, 4) if found.ceiling else None,
        "diversity": None if found.diversity is None else round(found.diversity, 4),
        "mistaken": _mistaken(prompts, found.verdict),
        "mistaken_when_drawn": _mistaken(prompts, found.ceiling) if found.ceiling else [],
    }


def _mistaken(prompts: "PromptList", verdict: "Verdict") -> list[dict[str, str]]:
    return [{"prompt": prompts.prompts[own], "taken_for": prompts.prompts[first]} for own, first in verdict.mistaken]


def _line(facts: dict[str, Any]) -> str:
    said = [_words(facts), *(f"by {each['judge']} {_words(each)}" for each in facts["others"])]
    return f"{facts['list']}: {'; '.join(said)}; {facts['seconds_per_picture']:.2f} s a picture"


def _words(said: dict[str, Any]) -> str:
    """What one judge says, in words."""
    ceiling = said["ceiling_r_precision"]
    parts = [
        f"R-precision@1 {said['r_precision']:.1%}"
        + ("" if ceiling is None else f" (really drawn scenes: {ceiling:.1%})"),
        f"CLIP score {said['clip_score']:.3f}",
        *([] if said["diversity"] is None else [f"diversity {said['diversity']:.3f}"]),
    ]
    return ", ".join(parts)


def _write(folder: Path, prompts: "PromptList", found: "Evaluation", facts: dict[str, Any]) -> None:
    """Write NAME.json, and one sheet of pictures per seed."""
    from vqclip.common.files import write_json
    from vqclip.common.images import to_image
    from vqclip.outputs.sheet import make_sheet, save_sheet

    write_json(_figures(folder, prompts), facts)
    for place, images in zip(_sheets(folder, prompts, found.seeds), found.images, strict=True):
        sheet = make_sheet([to_image(image) for image in images], prompts.prompts[: len(images)])
        save_sheet(place, sheet)
