"""Measures what people recognise: a numbered sheet of pictures without captions, and the score of what they call them.

    python scripts/measure/naming.py draw naming-single --sheet sheet.png --key key.json      # the default command
    python scripts/measure/naming.py draw naming-single --sheet sheet.png --key key.json -- --seed 7 --steps 0
    python scripts/measure/naming.py score naming-single --key key.json --answers answers.txt

The sheet shows one picture a prompt in an order of its own. It goes to somebody who has seen neither list nor key, and
who writes a line for each number: `7: a cat on a sofa`, with a question mark, "maybe" or "guess" at its end where
unsure. An answer counts when it holds one word of every group that the list names for the prompt (the line
`#= cat|kitten, sofa` above it).
"""

import argparse
import json
import random
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

from vqclip.common.images import open_image

PROMPTS = Path(__file__).resolve().parents[2] / "configs" / "prompts"
WANTED = "#="  # begins the line that says what answers must hold
UNSURE = re.compile(r"(\?|\bmaybe|\bguess)$")
CELL, MARGIN = 256, 28  # pixels of a picture on the sheet, and of the strip for its number above it
COLUMNS = 6


@dataclass(frozen=True)
class Entry:
    """A prompt, and what an answer must hold: one word of every group."""

    prompt: str
    groups: tuple[tuple[str, ...], ...]

    def is_named(self, answer: str) -> bool:
        """Whether an answer holds a word of every group, in the singular or the plural."""
        return all(any(re.search(rf"\b{re.escape(w)}(e?s)?\b", answer, re.I) for w in group) for group in self.groups)


def read_list(name: str) -> list[Entry]:
    """The entries of a list of configs/prompts. Raises ValueError where a prompt has no line of WANTED above it."""
    entries: list[Entry] = []
    groups: tuple[tuple[str, ...], ...] = ()
    for line in (PROMPTS / f"{name}.txt").read_text("utf8").splitlines():
        if line.startswith(WANTED):
            parts = line.removeprefix(WANTED).split(",")
            groups = tuple(tuple(word.strip() for word in part.split("|")) for part in parts)
        elif line and not line.startswith("#"):
            if not groups:
                raise ValueError(f"{name}: no line {WANTED!r} above {line!r}")
            entries.append(Entry(line, groups))
            groups = ()
    return entries


def shuffled(count: int, name: str, seed: int) -> list[int]:
    """Which prompt each number of the sheet shows; number 1 is the first."""
    return random.Random(f"naming {name} {seed}").sample(range(count), count)


def numbered_sheet(pictures: list[Image.Image]) -> Image.Image:
    """The pictures in a grid, each under its number."""
    rows = -(-len(pictures) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (CELL + 8), rows * (CELL + MARGIN + 8)), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(22)
    for number, picture in enumerate(pictures):
        x, y = number % COLUMNS * (CELL + 8) + 4, number // COLUMNS * (CELL + MARGIN + 8)
        pen.text((x, y), str(number + 1), fill="black", font=font)
        sheet.paste(picture.convert("RGB").resize((CELL, CELL), Image.Resampling.BICUBIC), (x, y + MARGIN))
    return sheet


def generate(prompts: list[str], folder: Path, seed: int, settings: list[str]) -> list[Path]:
    """One picture a prompt, in their order, by `vqclip generate` with further `settings` of the command line."""
    command = [sys.executable, "-m", "vqclip", "generate", "--seed", str(seed), "-o", f"{folder}/", "--json", "-q"]
    done = subprocess.run([*command, *settings, "--", *prompts], stdout=subprocess.PIPE, text=True, check=True)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    return [Path(event["path"]) for event in events if event["event"] == "image"]


def draw(options: argparse.Namespace) -> None:
    """Writes the sheet and its key."""
    entries = read_list(options.list)
    with tempfile.TemporaryDirectory() as place:
        files = options.pictures or generate(
            [entry.prompt for entry in entries], Path(place) / "run", options.seed, options.settings
        )
        if len(files) != len(entries):
            raise SystemExit(f"{len(files)} pictures for {len(entries)} prompts")
        order = shuffled(len(entries), options.list, options.seed)
        numbered_sheet([open_image(files[index]) for index in order]).save(options.sheet)
    options.key.write_text(json.dumps({str(n + 1): entries[i].prompt for n, i in enumerate(order)}, indent=1) + "\n")


def read_answers(text: str) -> dict[str, str]:
    """Answers by number, of lines such as `7: a cat`."""
    found = (re.match(r"\s*(\d+)\s*[:.)\t]\s*(.+)", line) for line in text.splitlines())
    return {match[1]: match[2].strip() for match in found if match}


def score(options: argparse.Namespace) -> None:
    """Prints how many pictures were named, and each answer that did not count."""
    entries = {entry.prompt: entry for entry in read_list(options.list)}
    key, answers = json.loads(options.key.read_text()), read_answers(options.answers.read_text("utf8"))
    named = [number for number, prompt in key.items() if entries[prompt].is_named(answers.get(number, ""))]
    sure = [number for number in named if not UNSURE.search(answers[number])]
    for number in sorted(key.keys() - set(named), key=int):
        print(f"{number}: {key[number]!r} was called {answers.get(number, 'nothing')!r}")
    print(f"{options.list}: {len(named)} of {len(key)} named, {len(sure)} of them surely")


def main() -> None:
    """Draws a sheet, or scores answers."""
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="After -- follows what goes to vqclip generate.",
    )
    parts = parser.add_subparsers(required=True)
    drawing, scoring = parts.add_parser("draw"), parts.add_parser("score")
    for part, action in ((drawing, draw), (scoring, score)):
        part.add_argument("list", help="naming-single, naming-pairs or naming-styles")
        part.add_argument("--key", type=Path, required=True, help="which number shows which prompt")
        part.set_defaults(action=action)
    drawing.add_argument("--sheet", type=Path, required=True)
    drawing.add_argument("--seed", type=int, default=1, help="of the pictures and of their order")
    drawing.add_argument("--pictures", type=Path, nargs="+", help="these instead of new ones, in the list's order")
    scoring.add_argument("--answers", type=Path, required=True)
    words = sys.argv[1:]  # argparse would take what follows -- for its own options
    end = words.index("--") if "--" in words else len(words)
    options = parser.parse_args(words[:end])
    options.settings = words[end + 1 :]
    options.action(options)


if __name__ == "__main__":
    main()
