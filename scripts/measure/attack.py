"""Attacks the command line: hostile words and files in every command, and what came of the user's files.

    python scripts/measure/attack.py                         # 1,000 command lines
    python scripts/measure/attack.py --count 3000 --seed 7
    python scripts/measure/attack.py --seed 7 --only 1234    # one of them again, with what it printed

Each command line is drawn from a template of its command, with hostile values in a third of its places (attack.json).
They run in this process, with models of random weights that draw in no time, in a folder of their own beside which lie
files that nobody may touch. Counted are tracebacks, "vqclip has a bug", exit codes that the contract does not know,
files of the user's that are lost or changed, files that appear where no word pointed, and commands over 10 seconds.
Any of them ends it with exit code 1. The last line is JSON.
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image

if not __package__:  # run as a file: `scripts` and `tests` are found from the repository's root
    sys.path[0] = str(Path(__file__).resolve().parents[2])

from tests.conftest import save_tiny_clip, save_tiny_prior, save_tiny_vqgan
from vqclip.cli.app import main as vqclip
from vqclip.common.errors import ExitCode

SLOW = 10.0
"""Seconds after which a command is too slow."""

STOPPED = 60
"""Seconds after which a command is stopped."""

KNOWN = {int(code) for code in ExitCode} | {0, 1, 2}

WORDS = json.loads(Path(__file__).with_suffix(".json").read_text("utf-8"))
"""`templates` of command lines, with `sane` and `hostile` values for their places, and `flags` for all of them."""

LONG = {
    "text": ["a" * 5000, "é" * 300, ":1" * 4000, "\\|" * 2000],
    "number": ["9" * 5000, str(10**40)],
    "size": [f"{10**30}x16"],
    "setting": ["x=" + "[" * 2000, "x=" + "a" * 9000],
    "model": ["a" * 300],
    "path": ["a" * 300, "a/" * 600],
    "out": ["a" * 300 + ".png"],
}
"""Further hostile values, of length."""

PIPE, TEXTS = "pipe.png", ("yaml", "list", "jobs", "config")

HOSTILE = 0.35
"""How many of the places get a hostile value."""


@dataclass(frozen=True)
class Sandbox:
    """A folder `work` to be in, with `mine` in it and `beside` outside of it, which hold what nobody may touch."""

    root: Path

    @property
    def work(self) -> Path:
        """Where the commands work."""
        return self.root / "work"

    def places(self) -> dict[str, list[str]]:
        """The hostile values for each place of a template; all that lies here is a path."""
        places = {place: [*values, *LONG.get(place, [])] for place, values in WORDS["hostile"].items()}
        here = sorted(str(path.relative_to(self.work)) for path in self.work.rglob("*") if "models" not in path.parts)
        paths = [*here, *places["path"]]
        texts = [path for path in paths if path != PIPE]  # a pipe of text is waited for, as by any other program
        kinds = {place: texts if place in TEXTS else paths for place in WORDS["sane"]}
        return {**kinds, **places, "path": paths}


def build(root: Path) -> Sandbox:
    """Makes the folder: whole pictures, damaged ones, links in circles, a pipe, finished and broken runs, hostile
    configs, jobs and model files."""
    sandbox = Sandbox(root)
    work, beside = root / "work", root / "beside"
    for folder in (
        work / "mine",
        beside,
        root / "cache",
        root / "hub",
        work / "models",
        work / "run/state",
        work / "b",
    ):
        folder.mkdir(parents=True)
    grey = Image.fromarray((np.arange(32 * 24 * 3) % 256).astype(np.uint8).reshape(24, 32, 3))
    for place in (work / "mine/a.png", work / "a.png", work / "b.jpg", work / "c.webp", beside / "mine.png"):
        grey.save(place)
    whole = (work / "a.png").read_bytes()
    pictures = {
        "cut.png": whole[:60],
        "flip.png": whole[:70] + bytes([whole[70] ^ 255]) + whole[71:],
        "empty.png": b"",
        "text.png": b"hello",
        "eps.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(x) run\n",
        "bomb.png": whole[:16] + (2**30).to_bytes(4, "big") * 2 + whole[24:],
        "svg.png": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
        "mask.png": whole,
    }
    for name, content in pictures.items():
        (work / name).write_bytes(content)
    Image.new("L", (32, 24), 255).save(work / "white.png")
    Image.new("1", (32, 24), 0).save(work / "black.png")
    Image.new("RGB", (2000, 1)).save(work / "strip.png")
    texts = {
        "bomb.yaml": "a: &a [x,x,x,x,x,x,x,x,x]\n"
        + "".join(f"{b}: &{b} [{','.join(['*' + a] * 9)}]\n" for a, b in zip("abcdefgh", "bcdefghi", strict=True)),
        "deep.yaml": "[" * 5000,
        "int.yaml": "seed: !!int ''\n",
        "time.yaml": "seed: 2001-12-14t21:59:43.10-05:00\n",
        "python.yaml": "prompts: !!python/object/apply:os.system ['id']\n",
        "keys.yaml": "? [1, 2]\n: 3\nprompts: [a]\n",
        "tabs.yaml": "prompts:\n\t- a\n",
        "own.yaml": "prompts: ['a cat']\noutput: {path: ../beside/mine.png, overwrite: true}\n",
        "bytes.yaml": "prompts: [!!binary aGk=]\n",
        "jobs.txt": "a cat\n\n# no\na dog : 2\n\x1b[2J\n",
        "jobs.jsonl": '{"prompt":"a","output":"../../beside/mine.png"}\n'
        '{"prompt":3}\n[]\nnull\n{"prompt":"a","set":5}\n'
        '{"prompt":"a","output":"/etc/x.png"}\n{"prompt":"a","init_image":"../beside/mine.png"}\n{"seed":1e400,"prompt":"a"}\n',
        "jobs.csv": 'prompt,seed\na,x\n,,,,\n"\n',
        "jobs.yaml": "- prompt: a\n  output: ../beside/mine.png\n- {}\n- 5\n",
        "prompts.txt": "a cat\na dog\n",
        "good.jsonl": '{"prompt": "a cat", "seed": 1}\n',
        "good.yaml": "cutouts: {count: 1}\n",
        "labels.txt": "\ufeffcat\ndog\n\ncat\n",
        "nul.txt": "a\0b\0c",
        "deep.json": '{"a":' * 3000 + "1" + "}" * 3000,
        "b/results.jsonl": '{"id":"x","path":"/etc/passwd","status":"done"}\n{"id":5}\nnot json\n'
        '{"id":"y","path":"../../beside/mine.png","status":"done"}\n',
        "run/run.yaml": "prompts: ['a']\nsize: 16x16\noutput: {path: ../../beside/mine.png}\n",
        "run/metrics.jsonl": "{}\nnan\n",
        "notes.md": "mine\n",
    }
    for name, text in texts.items():
        (work / name).write_text(text)
    (work / "run/state/000001.pt").write_bytes(b"PK\x03\x04" + bytes(200))
    os.mkfifo(work / PIPE)
    (work / "circle").symlink_to(".", target_is_directory=True)
    (work / "link.png").symlink_to("../beside/mine.png")
    (work / "linked").symlink_to("../beside", target_is_directory=True)
    (work / "gone.png").symlink_to("nowhere.png")
    _models(work / "models", random.Random(0))
    os.chdir(work)
    for words in ("-o done/", "-o half/ --set runtime.state_every=1", "-o made.webp"):
        run(["generate", "a cat", "-c", "models/tiny.yaml", "--steps", "2", "--seed", "1", *words.split()])
    (work / "half/image.png").rename(work / "half/partial.png")
    (work / "half/latent.safetensors").unlink()
    return sandbox


def _models(home: Path, numbers: random.Random) -> None:
    """Whole models of random weights with a config that uses them, and mutated files of each."""
    save_tiny_vqgan(home / "vqgan.safetensors")
    save_tiny_clip(home / "clip")
    save_tiny_prior(home / "prior", home / "vqgan.safetensors", home / "clip")
    (home / "tiny.yaml").write_text(
        f"size: 16x16\nvqgan: {{file: {home}/vqgan.safetensors}}\nperceptors: ['{home}/clip']\n"
        f"prior: {{name: {home}/prior, candidates: 2}}\ninit: {{kind: codes}}\noutput: {{upscale: none}}\n"
        "cutouts: {count: 2}\noptimise: {steps: 1}\nruntime: {device: cpu, precision: fp32, threads: 1}\n"
    )
    for source in (
        home / "vqgan.safetensors",
        home / "clip/open_clip_model.safetensors",
        home / "prior/prior.safetensors",
    ):
        whole = source.read_bytes()
        for number in range(4):
            damaged = bytearray(whole)
            for _ in range(numbers.choice((1, 3, 50))):
                damaged[numbers.randrange(min(len(damaged), numbers.choice((64, 4096, len(damaged)))))] ^= (
                    1 << numbers.randrange(8)
                )
            (home / f"{source.stem}-{number}.safetensors").write_bytes(
                damaged[: numbers.choice((len(damaged), 900, 8))]
            )
    (home / "pickle.ckpt").write_bytes(b"cos\nsystem\n(S'touch ../beside/owned'\ntR.")
    (home / "page.ckpt").write_text("<!doctype html><html></html>")


@dataclass
class Found:
    """What went wrong, each with its command line."""

    counts: Counter[str] = field(default_factory=Counter)
    codes: Counter[int] = field(default_factory=Counter)
    lines: list[str] = field(default_factory=list)

    def add(self, fault: str, number: int, words: list[str], said: str = "") -> None:
        """Count and show one."""
        self.counts[fault] += 1
        self.lines.append(f"{number}: {fault}: {words!r}: {said[-300:]!r}")
        print(self.lines[-1].encode("ascii", "backslashreplace").decode(), flush=True)


def draw(sandbox: Sandbox, numbers: random.Random) -> list[str]:
    """One command line: a template, of whose places about a third get a hostile value, and some flags."""
    places = sandbox.places()

    def fill(found: re.Match[str]) -> str:
        hostile = numbers.random() < HOSTILE
        return numbers.choice(places[found[1]] if hostile else WORDS["sane"][found[1]])

    words = [re.sub(r"{(\w+)}", fill, word) for word in numbers.choice(WORDS["templates"]).split(" ")]
    return words + numbers.sample(WORDS["flags"], numbers.choice((0, 0, 0, 1)))


@contextlib.contextmanager
def stopped_after(seconds: int) -> Iterator[None]:
    """Ends what does not end by itself."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"stopped after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def run(words: list[str]) -> tuple[int, str, float]:
    """Exit code, what was written, and seconds."""
    written, began = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", errors="backslashreplace"), time.monotonic()
    sys.argv, sys.stdin = ["vqclip", *words], io.TextIOWrapper(io.BytesIO(b"a\0b\n\xff"))
    code = 0
    with contextlib.redirect_stdout(written), contextlib.redirect_stderr(written), stopped_after(STOPPED):
        try:
            vqclip()
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException as error:
            code, _ = -1, written.write(f"Traceback {error!r}")
    written.flush()
    return code, written.buffer.getvalue().decode("utf-8", "replace"), time.monotonic() - began


def content(root: Path) -> dict[Path, str]:
    """What every file holds, by its path; links and pipes are what they are."""
    found = {}
    for folder, folders, files in os.walk(root):
        for name in (*files, *folders):
            path = Path(folder, name)
            if path.is_symlink():
                found[path] = f"link to {path.readlink()}"
            elif path.is_file():
                found[path] = hashlib.sha256(path.read_bytes()).hexdigest()
            elif not path.is_dir():
                found[path] = "a pipe"
    return found


def harm(sandbox: Sandbox, before: dict[Path, str], words: list[str]) -> Iterator[tuple[str, str]]:
    """What happened to files that the words did not allow."""
    named = _named(sandbox, words)
    free = words[0] == "resume" or {"--overwrite", "remove"} & {*words}
    after = content(sandbox.root)
    for path, was in before.items():
        allowed = free and any(path.is_relative_to(name) for name in named)
        kept = "cache" in path.parts or (words[0] == "batch" and path.name == "results.jsonl")  # both are added to
        if after.get(path) != was and not allowed and not kept:
            yield "lost" if path not in after else "changed", str(path)
    for path in after.keys() - before.keys():
        home = path.relative_to(sandbox.root).parts[0]
        pointed = any(str(path).startswith(str(name)) for name in named if name != sandbox.work)
        ours = home in ("cache", "hub") or "outputs" in path.parts or path.is_relative_to(sandbox.work / "b")
        if not (ours or pointed or (home == "work" and ("." in words or "" in words))):
            yield "stray", str(path)


def _named(sandbox: Sandbox, words: list[str]) -> list[Path]:
    """The places that the words name, where they can be names at all."""
    named = []
    for word in words:
        with contextlib.suppress(ValueError, OSError, RuntimeError):
            path = (sandbox.work / Path(word).expanduser()).resolve()
            named += [path, path.with_suffix("")] if path.name else [path]
    return named


def main() -> None:
    """Attacks, counts, and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", type=int, help="run only the command line of this number, and show what it prints")
    options = parser.parse_args()
    found, seconds = Found(), []
    with tempfile.TemporaryDirectory() as place:
        kept = build(Path(place) / "kept")
        root = Path(place) / "root"
        os.environ.update(
            VQCLIP_CACHE=f"{root}/cache", HF_HUB_CACHE=f"{root}/hub", HF_HUB_OFFLINE="1", HOME=f"{root}/home"
        )
        sandbox: Sandbox | None = None
        before: dict[Path, str] = {}
        for number in range(options.count) if options.only is None else [options.only]:
            if sandbox is None:
                os.chdir(place)
                shutil.rmtree(root, ignore_errors=True)
                root.mkdir()
                sandbox, before = _copied(kept, root)
            os.chdir(sandbox.work)
            words = draw(sandbox, random.Random(f"{options.seed} {number}"))
            code, said, took = run(words)
            seconds.append(took)
            found.codes[code] += 1
            if options.only is not None:
                print(words, code, said, f"{took:.1f} s", sep="\n")
            if "Traceback" in said:
                found.add("traceback", number, words, said)
            if "has a bug" in said:
                found.add("has a bug", number, words, said)
            if code not in KNOWN:
                found.add(f"exit code {code}", number, words, said)
            if took > SLOW:
                found.add("slow", number, words, f"{took:.0f} s {said}")
            for fault, path in harm(sandbox, before, words):
                found.add(fault, number, words, path)
            if content(root) != before:
                sandbox = None
        os.chdir("/")
    codes = {str(code): count for code, count in sorted(found.codes.items())}
    facts = {"commands": len(seconds), "slowest": round(max(seconds), 1), "codes": codes, "faults": dict(found.counts)}
    print(json.dumps(facts))
    sys.exit(bool(found.counts))


def _copied(kept: Sandbox, root: Path) -> tuple[Sandbox, dict[Path, str]]:
    """A fresh sandbox at `root`, and what it holds."""
    shutil.rmtree(root)
    shutil.copytree(kept.root, root, symlinks=True, ignore=shutil.ignore_patterns(PIPE))
    os.mkfifo(root / f"work/{PIPE}")
    config = root / "work/models/tiny.yaml"
    config.write_text(config.read_text().replace(str(kept.root), str(root)))
    return Sandbox(root), content(root)


if __name__ == "__main__":
    main()
