"""Job files: from lines, rows or YAML to jobs, each one picture with an id that follows from its content."""

import csv
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from vqclip.batch.fields import Base, checked, config_of
from vqclip.common.errors import UsageError, VqclipError
from vqclip.common.hashes import input_sha256
from vqclip.common.paths import at_home, is_file
from vqclip.common.text import parse_json
from vqclip.config.alternatives import alternatives, is_list
from vqclip.config.loader import ConfigReader, to_dict
from vqclip.config.prompts import TEXT, Prompt, files_of, parse_prompts, with_files
from vqclip.config.schema import DRAWN_SEEDS, SEED_LIMIT, Config
from vqclip.config.starts import SECTIONS, VQGAN
from vqclip.config.yaml_text import parse_structure
from vqclip.guidance.likeness import file_of
from vqclip.pipeline.named_files import parse_image_prompt, with_loss_files
from vqclip.pipeline.settle import reads_captions
from vqclip.runs.naming import fill, slug

MOST = 1_000_000
"""Pictures that one job file may ask for."""

YAML_LIMIT = 2_000_000
"""Characters of a YAML job file; PyYAML reads some hundred thousand a second."""

LOOKED_AT = 1_000
"""Jobs whose words are looked at for a hint."""


@dataclass(frozen=True)
class Job:
    """One picture to make: a config with one prompt, one seed and count 1, and where it goes inside the folder.

    `id` is made of all that decides the picture, the contents of configs and pictures given among it, and of nothing
    else, so the same job has the same id tomorrow. `former` is the id that version 0.1.0 gave it, which knew names
    only. A job that cannot be done has an `error`, with the exit code that it means, and no config.
    """

    id: str
    prompt: str
    seed: int | None
    output: str
    former: str = ""
    config: Config | None = None
    error: str | None = None
    code: int = 0


def read_jobs(
    path: str,
    text: str,
    base: Base,
    count: int = 1,
    seed: int | None = None,
    tell: Callable[[str], object] = lambda note: None,
) -> list[Job]:
    """Read the jobs in `text`, whose format the suffix of `path` tells (.jsonl, .csv, .yaml; else one prompt a line).

    `count` and `seed` are for jobs that say nothing else: picture i of a job uses seed + i, and a job without a seed
    gets one that follows from its content. A job that is wrong comes with its error; the others are not touched by it.
    Jobs of the same content count once, and `tell` hears of it.

    Raises:
        UsageError: the file as a whole cannot be read, holds no job, or asks for more than MOST pictures.
    """
    rows = READERS.get(Path(path).suffix.lower(), _read_lines)(path, text)
    jobs: dict[str, Job] = {}
    expand, repeated = _Expansion(base, count, seed), 0
    for row in rows:
        for job in expand(row):
            repeated += job.id in jobs
            jobs.setdefault(job.id, job)
            if len(jobs) > MOST:
                raise UsageError(f"The job file {path!r} asks for more than {MOST:,} pictures; split it.")
    if not jobs:
        raise UsageError(f"The job file {path!r} holds no job.")
    if repeated:
        tell(f"{repeated} of the jobs are there twice and count once; --count N draws several pictures of each")
    return _without_clashes(list(jobs.values()))


def shard(jobs: Sequence[Job], part: str) -> list[Job]:
    """Return the jobs of part `i/N`, i from 1 to N: every Nth job, so that parts take about as long.

    Raises:
        UsageError: not such a part.
    """
    found = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", part)
    index, parts = (int(found[1]), int(found[2])) if found else (0, 0)
    if not 1 <= index <= parts:
        raise UsageError(f"--shard {part!r} is not i/N with i from 1 to N, e.g. 2/8.")
    return list(jobs[index - 1 :: parts])


def captions(jobs: Iterable[Job]) -> list[str]:
    """Return the texts of the first jobs that an embedded model will read, at most LOOKED_AT of them."""
    read = (job for job in jobs if job.config is not None and reads_captions(job.config))
    return [prompt.text for job in islice(read, LOOKED_AT) for prompt in _prompts(job.prompt) if prompt.kind == TEXT]


def _prompts(source: str) -> list[Prompt]:
    try:
        return parse_prompts(source)
    except UsageError:
        return []  # the job itself will say so


# ---- formats


def _read_lines(path: str, text: str) -> Iterator[object]:
    for line in text.splitlines():
        if line.strip() and not line.lstrip().startswith("#"):
            yield {"prompt": line.strip()}


def _read_jsonl(path: str, text: str) -> Iterator[object]:
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            yield parse_json(line)
        except ValueError as error:
            reason = error.msg if isinstance(error, json.JSONDecodeError) else "it is not usable"
            yield UsageError(f"Line {number} of {path!r} is not JSON: {reason}.")


def _read_csv(path: str, text: str) -> Iterator[object]:
    try:
        rows = list(csv.DictReader(io.StringIO(text), strict=True))
    except csv.Error as error:
        raise UsageError(f"The job file {path!r} is not usable CSV: {error}.") from error
    for number, row in enumerate(rows, 2):
        if None in row:
            yield UsageError(f"Line {number} of {path!r} has more fields than the header.")
        else:
            yield {key.strip(): value for key, value in row.items() if value not in (None, "")}


def _read_yaml(path: str, text: str) -> Iterator[object]:
    if len(text) > YAML_LIMIT:
        raise UsageError(f"The job file {path!r} is longer than {YAML_LIMIT / 1e6:g} MB; YAML is slow, write .jsonl.")
    content = parse_structure(text, f"The job file {path!r}")
    if not isinstance(content, list):
        raise UsageError(f"The job file {path!r} must hold a list of jobs (`- prompt: …`).")
    yield from ({"prompt": entry} if isinstance(entry, str) else entry for entry in content)


READERS = {".jsonl": _read_jsonl, ".csv": _read_csv, ".yaml": _read_yaml, ".yml": _read_yaml}


# ---- from a row to jobs


class _Expansion:
    """Makes the jobs of a row, or one that says what is wrong with it."""

    def __init__(self, base: Base, count: int, seed: int | None) -> None:
        self.base, self.count, self.seed = base, count, seed
        self.reader = ConfigReader()
        self.hashes: dict[str, str] = {}

    def __call__(self, row: object) -> Iterator[Job]:
        try:
            rows = _alternatives(row)
        except UsageError as error:
            yield _failed(row, str(error), int(error.code))
            return
        for each in rows:
            yield from self._jobs(each)

    def _jobs(self, row: object) -> Iterator[Job]:
        try:
            if isinstance(row, UsageError):
                raise row
            facts = checked(row)
            first = facts.pop("seed", self.seed)
            pictures = facts.pop("count", self.count)
            output = facts.pop("output", None)
            if first is None:
                first = int(_digest(facts)[:8], 16) % DRAWN_SEEDS
            if first + pictures > SEED_LIMIT:
                raise UsageError(f"seed {first} is too large for {pictures} pictures.")
            config = config_of(facts, self.base, self.reader)
            inputs = self._contents(config) + self._several(config)
        except VqclipError as error:
            yield _failed(row, str(error), int(error.code))
            return
        shared = [list(self.base.layers), list(self.base.overrides), str(self.base.options)]
        prompt = str(facts["prompt"])
        for number in range(pictures):
            one = dataclasses.replace(config, seed=first + number)
            name = _digest([_decisive(one), inputs, output and [output, number]])[:12]
            place = (
                _place(
                    fill(output, prompt, first + number), number if pictures > 1 and "{seed}" not in output else None
                )
                if output
                else f"{slug(prompt, first + number)}_{name[:6]}.png"
            )
            former = _digest([facts, first + number, output, *shared])[:12]
            yield Job(name, prompt, first + number, place, former, one)

    def _contents(self, config: Config) -> list[object]:
        """The SHA-256 of the pictures that are given, and their weights."""
        likenesses = [parse_image_prompt(entry) for entry in config.image_prompts]
        start = config.init.image and self._hash(config.init.image)
        masks = [self._hash(file) for file in (config.mask.original, config.mask.image) if file]
        points = [self._hash(point) for point in config.targets.path if is_file(point)]
        named = [self._hash(at_home(file)) for file in files_named(config)]
        return [start, *((self._hash(like.file), like.weight) for like in likenesses), *masks, *points, *named]

    def _several(self, config: Config) -> list[object]:
        """Where each file stands, for what names one twice or tells several losses: there the contents alone leave open
        which is which."""
        named: list[str] = []
        texts = [*config.prompts, *config.negatives]
        for text in texts if files_named(config) else ():
            with_files(text, lambda file: named.append(file) or file)  # type: ignore[func-returns-value]
        told = {name: file for name in config.losses if (file := file_of(name))}
        if len(named) == len(set(named)) and len(told) < 2:
            return []
        placed = [with_files(text, lambda file: self._hash(at_home(file))) for text in texts]
        losses = [[name.partition(":")[0], self._hash(file), config.losses[name]] for name, file in told.items()]
        return [placed, losses]

    def _hash(self, file: str) -> str:
        """A file's SHA-256, read once; a missing one is an error when its job's turn comes.

        Raises:
            UsageError: it is there and cannot be read.
        """
        if file not in self.hashes:
            self.hashes[file] = input_sha256(file) if is_file(file) else "missing"
        return self.hashes[file]


def _alternatives(row: object) -> list[object]:
    """A row for each picture that the alternatives in its prompt stand for."""
    prompt = row.get("prompt") if isinstance(row, dict) else None
    if not isinstance(prompt, str) or not prompt.strip():
        return [row]
    if is_list(prompt):
        raise UsageError(f"A job file holds prompts, and {prompt!r} is a list; put its lines there.")
    return [{**row, "prompt": each} for each in alternatives(prompt)]  # type: ignore[dict-item]


def files_named(config: Config) -> list[str]:
    """The files that prompts, losses and the overlay name; what is wrong with one is said when its job's turn comes."""
    try:
        told = [config.overlay.image, *map(file_of, config.losses)]
        return [*files_of([*config.prompts, *config.negatives]), *filter(None, told)]
    except UsageError:
        return []


LATER = {
    "targets": {"reference": "none", "aim": "rotate", "neighbours": 64, "lean": 1.0, "content": 0.0, "examples": 3},
    "optimise": {"hold": 0.0, "guides": "all"},
}
"""Settings that came after jobs had got their ids, with the values that change nothing: so they stay out of the id, and
results from before count."""


def _decisive(config: Config) -> dict[str, Any]:
    """What of a config decides the picture: not where it goes, nor the machine, nor the names of the files given."""
    content, output = to_dict(config), config.output
    for section, settings in LATER.items():
        content[section] = {k: v for k, v in content[section].items() if k not in settings or v != settings[k]}
    if not config.filters:  # they came later too
        del content["filters"]
    del content["quality"]  # made of the settings
    for section in {*SECTIONS.values()} - {SECTIONS.get(config.drawer)}:
        del content[section]
    if config.drawer == VQGAN:
        del content["drawer"]
    del content["seeds"], content["runtime"], content["output"], content["image_prompts"], content["init"]["image"]
    if config.overlay.image:
        content["overlay"]["image"] = ""
    else:
        del content["overlay"]
    if files_named(config):
        for key in ("prompts", "negatives"):
            content[key] = [with_files(prompt, lambda file: "") for prompt in content[key]]
        content["losses"] = with_loss_files(config.losses, lambda file: "")
    content["mask"] |= {"original": None, "image": None}
    content["targets"]["path"] = ["" if is_file(point) else point for point in config.targets.path]
    moving = {"video": output.video, "save_every": output.save_every, "fps": output.fps}
    filmed = moving if output.video or output.save_every else {}
    tagged = {**({"tags": output.tags} if output.tags else {}), **({"svg": True} if output.svg else {})}
    return {**content, "metadata": output.metadata, "upscale": output.upscale, **filmed, **tagged}


def _place(output: str, number: int | None) -> str:
    path = PurePosixPath(output.replace("\\", "/"))
    return str(path if number is None else path.with_name(f"{path.stem}-{number}{path.suffix}"))


def _failed(row: object, message: str, code: int) -> Job:
    prompt = row.get("prompt", "") if isinstance(row, dict) else ""
    name = _digest(["bad", repr(row)])[:12]
    return Job(name, str(prompt).encode("utf-8", "replace").decode(), None, "", error=message, code=code)


def _without_clashes(jobs: list[Job]) -> list[Job]:
    """Let only the first of several jobs keep a name for its picture."""
    taken: dict[str, Job] = {}
    folders = {str(folder) for job in jobs for folder in PurePosixPath(job.output.lower()).parents}
    checked = []
    for job in jobs:
        owner = taken.setdefault(job.output.lower(), job) if job.output else job
        if job.output and job.output.lower() in folders:
            message = f"output {job.output!r} is a folder of another job's output; give it another name."
            job = dataclasses.replace(job, config=None, error=message, code=2)
        elif owner is not job:
            message = f"output {job.output!r} is taken by another job ({owner.prompt!r}); give each its own."
            job = dataclasses.replace(job, config=None, error=message, code=2)
        checked.append(job)
    return checked


def _digest(content: object) -> str:
    text = json.dumps(content, sort_keys=True, ensure_ascii=False, default=str)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
