"""Measures what goes wrong well: kills, bad jobs, memory over a long batch, and what saving the state costs.

    python scripts/measure/faults.py kills              # kill -9 at 20 random moments, then resume: the same pictures?
    python scripts/measure/faults.py poison             # 200 jobs of which 20 are wrong in twelve ways
    python scripts/measure/faults.py memory --jobs 300  # does a batch's process grow?
    python scripts/measure/faults.py overhead           # the share of a run's time that goes into saving

Each uses the embedded models with one thread, prints a small table and one line of JSON last, and works in a temporary
folder. Wrong outcomes end it with exit code 1.
"""

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from vqclip.batch.driver import Summary, run_batch
from vqclip.batch.fields import Base
from vqclip.batch.jobs import read_jobs
from vqclip.batch.local import InProcess
from vqclip.batch.results import ResultRow, ResultsFile
from vqclip.common.process_memory import resident_memory
from vqclip.config.loader import load_config
from vqclip.hub.model_files import find_models
from vqclip.optimisation.step import Step
from vqclip.outputs.state import State
from vqclip.pipeline.build import build
from vqclip.pipeline.plan import make_plan
from vqclip.pipeline.provenance import fingerprint
from vqclip.pipeline.run import run

CHEAP = ("prior.candidates=1", "cutouts.count=4", "runtime.threads=1", "runtime.device=cpu")
"""Settings of a run that is quick and still uses every part."""


def vqclip(*words: str) -> list[str]:
    """The command line of a cheap run."""
    settings = [word for setting in CHEAP for word in ("--set", setting)]
    return [sys.executable, "-m", "vqclip", *words, *settings]


# ---- kills


def measure_kills(folder: Path, kills: int, steps: int, seed: int) -> tuple[dict[str, Any], bool]:
    """Kill a run at random moments between its first file and its end, resume it, and compare the pictures' bytes."""
    words = ("generate", "a red apple", "--seed", "1", "--steps", str(steps), "--set", "runtime.state_every=5", "-q")
    process, began = begin(folder / "whole", words), time.monotonic()
    process.wait()
    seconds, expected = time.monotonic() - began, (folder / "whole/image.png").read_bytes()
    print(f"whole run: {seconds:.2f} s after its first file")
    rng = random.Random(seed)
    killed, from_state, equal = 0, 0, 0
    for number in range(kills):
        home, moment = folder / str(number), rng.uniform(0, 0.95 * seconds)
        process = begin(home, words)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        killed += process.returncode == -9
        states = len(list(home.glob("state/*.pt")))
        from_state += states > 0
        subprocess.run([sys.executable, "-m", "vqclip", "resume", str(home), "-q"], stdout=subprocess.DEVNULL)
        picture = home / "image.png"
        same = picture.is_file() and picture.read_bytes() == expected
        equal += same
        print(f"{number + 1:3}: after {moment:5.2f} s, exit {process.returncode}, {states} states; same bytes: {same}")
    return {"runs": kills, "killed": killed, "resumed_from_a_state": from_state, "equal": equal}, equal == kills


def begin(home: Path, words: Sequence[str]) -> "subprocess.Popen[bytes]":
    """Start a run and return when it has written its first file."""
    process = subprocess.Popen(vqclip(*words, "-o", f"{home}/"), stdout=subprocess.DEVNULL)
    while not (home / "run.yaml").exists() and process.poll() is None:
        time.sleep(0.01)
    return process


# ---- poison


def wrong_jobs(folder: Path) -> list[str]:
    """Twelve lines of a job file, each wrong in another way."""
    cut = folder / "cut.png"
    cut.write_bytes(b"\x89PNG\r\n\x1a\n")
    return [
        '{"prompt": "a", "colour": "red"}',
        "{prompt: not JSON",
        '{"prompt": "a", "init_image": "gone.png"}',
        json.dumps({"prompt": "a", "init_image": str(cut)}),
        '{"prompt": "a", "size": "0x0"}',
        '{"prompt": "a::nan"}',
        '{"prompt": "a", "output": "../outside.png"}',
        '{"prompt": "a", "set": "losses.tv=1e39"}',
        '{"prompt": "a", "set": "vqgan.name=no-such-model"}',
        '{"prompt": "a", "set": ["losses.no_such_loss=1"]}',
        '{"prompt": "a", "steps": -3}',
        '{"prompt": "a", "set": "perceptors=[ViT-B-32:no-such-tag]"}',
    ]


def measure_poison(folder: Path, jobs: int) -> tuple[dict[str, Any], bool]:
    """Run a job file of which every tenth job is wrong, twice, and count what came of it."""
    wrong = wrong_jobs(folder)
    bad = {number * 10 + 3: wrong[number % len(wrong)] for number in range(jobs // 10)}
    # a wrong job counts once, so each gets its own prompt; a line that is no JSON gets its own text
    lines = [
        bad[number].replace('"a', f'"a {number} ').replace("not JSON", f"not JSON {number}")
        if number in bad
        else json.dumps({"prompt": "a red apple", "seed": number})
        for number in range(jobs)
    ]
    file = folder / "jobs.jsonl"
    file.write_text("\n".join(lines))
    rounds = []
    for name in ("first", "again"):
        command = vqclip("batch", str(file), "-o", str(folder / "out"), "--steps", "1", "--json", "-q")
        command += ["--set", "init.kind=codes"]
        began = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True)
        events = [json.loads(line) for line in done.stdout.splitlines()]
        summary = next(event for event in reversed(events) if event["event"] == "summary")
        codes: dict[int, int] = {}
        for event in events:
            if event["event"] == "error" and "id" in event:
                codes[event["code"]] = codes.get(event["code"], 0) + 1
        rounds.append(
            {"exit": done.returncode, **summary, "codes": codes, "seconds": round(time.monotonic() - began, 1)}
        )
        counts = ", ".join(f"{summary[key]} {key}" for key in ("done", "skipped", "failed", "left"))
        print(f"{name}: exit {done.returncode}; {counts}; failures by exit code {codes}; {rounds[-1]['seconds']:.0f} s")
    pictures = len(list((folder / "out").glob("*.png")))
    first, again = ([each[key] for key in ("exit", "done", "skipped", "failed", "left")] for each in rounds)
    good, few = jobs - len(bad), len(bad)
    right = pictures == good and first == [5, good, 0, few, 0] and again == [5, 0, good, few, 0]
    return {"pictures": pictures, "first": rounds[0], "again": rounds[1]}, right


# ---- memory


def measure_memory(folder: Path, jobs: int) -> tuple[dict[str, Any], bool]:
    """Do a batch in this process and read its resident memory after every picture."""
    base = Base((), CHEAP, {"optimise.steps": 1})
    wanted = read_jobs("jobs.txt", "\n".join(f"a red apple and {number} stars" for number in range(jobs)), base)
    sizes: list[float] = []

    def tell(result: ResultRow, summary: Summary) -> None:
        sizes.append(resident_memory() / 2**20)

    began = time.monotonic()
    summary = run_batch(wanted, ResultsFile(folder), InProcess(states=folder / ".states"), 4, tell=tell)
    seconds = time.monotonic() - began
    for number in sorted({min(each, jobs) for each in (4, 50, 100, jobs // 2, jobs)}):
        print(f"after {number:5} pictures: {sizes[number - 1]:7.1f} MB")
    early, late = sizes[min(50, jobs) - 1], sizes[-1]
    facts = {"pictures": summary.done, "mb_after_50": round(early, 1), "mb_at_the_end": round(late, 1)}
    return {**facts, "seconds": round(seconds, 1)}, summary.failed == 0 and late < early + 20


# ---- overhead


class Timed:
    """A sink that measures how long another one takes."""

    def __init__(self, inner: State) -> None:
        self.inner, self.seconds, self.saves = inner, 0.0, 0

    def step(self, step: Step) -> None:
        """Pass on, and measure."""
        before, began = self.inner.saved, time.monotonic()
        self.inner.step(step)
        self.seconds += time.monotonic() - began
        self.saves += self.inner.saved != before

    def finish(self, finished: object) -> None:
        """Nothing is saved at the end."""

    def stop(self, last: object) -> None:
        """The run is not stopped."""


def measure_overhead(folder: Path, steps: int) -> tuple[dict[str, Any], bool]:
    """Run with the state due at every step, and as it is by default."""
    facts, right = {}, True
    plan = make_plan(load_config([], [*CHEAP, f"optimise.steps={steps}"], {"prompts": ["a red apple"]}))
    for every in (1, 50):
        parts = build(plan, find_models(plan.config))
        sink = Timed(State(folder / str(every), every, plan.config.runtime.state_seconds, fingerprint(parts)))
        began = time.monotonic()
        run(parts, [sink])
        seconds = time.monotonic() - began
        share = sink.seconds / seconds
        print(f"state_every={every:3}: {sink.saves:3} states in {seconds:6.1f} s take {share:.2%} of the time")
        facts[f"every_{every}"] = {"share": round(share, 5), "saves": sink.saves, "seconds": round(seconds, 1)}
        right = right and share <= 0.021
    return facts, right


MEASURES: dict[str, Callable[..., tuple[dict[str, Any], bool]]] = {
    "kills": measure_kills,
    "poison": measure_poison,
    "memory": measure_memory,
    "overhead": measure_overhead,
}
"""What can be measured: (a folder, the options) ─▶ facts, and whether all is as it should be."""


def main() -> None:
    """Reads the arguments, measures one thing, prints it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    what = parser.add_subparsers(dest="what", required=True)
    kills = what.add_parser("kills")
    kills.add_argument("--kills", type=int, default=20)
    kills.add_argument("--steps", type=int, default=40)
    kills.add_argument("--seed", type=int, default=0, help="of the moments")
    what.add_parser("poison").add_argument("--jobs", type=int, default=200)
    what.add_parser("memory").add_argument("--jobs", type=int, default=300)
    what.add_parser("overhead").add_argument("--steps", type=int, default=200)
    given = vars(parser.parse_args())
    measure = MEASURES[given.pop("what")]
    with tempfile.TemporaryDirectory() as folder:
        facts, right = measure(Path(folder), **given)
    print(json.dumps({**facts, "as_expected": right}))
    sys.exit(not right)


if __name__ == "__main__":
    main()
