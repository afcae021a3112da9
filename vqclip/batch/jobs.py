"""Job files: from lines, rows or YAML to jobs, each one picture with an id that follows from its content."""

import csv
import dataclasses
import hashlib
import io
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path, PurePosixPath
from typing import Any

from vqclip.common.errors import UsageError, VqclipError
from vqclip.common.hashes import known_sha256
from vqclip.common.images import SUFFIXES, check_side
from vqclip.common.names import is_name
from vqclip.common.paths import THUMBS, is_file
from vqclip.common.registry import shown
from vqclip.common.text import parse_json
from vqclip.config.loader import ConfigReader, to_dict
from vqclip.config.prompts import Prompt, parse_prompts
from vqclip.config.schema import AUTO_SIZE, DRAWN_SEEDS, SEED_LIMIT, Config, parse_size
from vqclip.config.yaml_text import parse_structure
from vqclip.pipeline.plan import parse_image_prompt, reads_captions
from vqclip.runs.folder import slug

FIELDS = ("prompt", "seed", "size", "steps", "config", "count", "init_image", "image_prompts", "output", "set")
"""What a job may say; everything else in it is an error of that job."""

MOST = 1_000_000
"""Pictures that one job file may ask for."""

DEEPEST = 16
"""Folders that a picture's name may hold."""

YAML_LIMIT = 2_000_000
"""Characters of a YAML job file; PyYAML reads some hundred thousand a second."""

LOOKED_AT = 1_000
"""Jobs whose words are looked at for a hint."""

NUMBER = re.compile(r"[+-]?\d{1,30}")


@dataclass(frozen=True)
class Base:
    """What all jobs share: config layers, `key=value` overrides and named options (dotted key ─▶ value)."""

    layers: Sequence[str] = ()
    overrides: Sequence[str] = ()
    options: Mapping[str, object] = field(default_factory=dict)


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
    return [prompt.text for job in islice(read, LOOKED_AT) for prompt in _prompts(job.prompt)]


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
            if isinstance(row, UsageError):
                raise row
            facts = _checked(row)
            first = facts.pop("seed", self.seed)
            pictures = facts.pop("count", self.count)
            output = facts.pop("output", None)
            if first is None:
                first = int(_digest(facts)[:8], 16) % DRAWN_SEEDS
            if first + pictures > SEED_LIMIT:
                raise UsageError(f"seed {first} is too large for {pictures} pictures.")
            config = _config(facts, self.base, self.reader)
            if output and config.size != AUTO_SIZE:
                check_side(Path(output), parse_size(config.size))
            inputs = self._contents(config)
        except VqclipError as error:
            yield _failed(row, str(error), int(error.code))
            return
        shared = [list(self.base.layers), list(self.base.overrides), str(self.base.options)]
        prompt = str(facts["prompt"])
        for number in range(pictures):
            one = dataclasses.replace(config, seed=first + number)
            name = _digest([_decisive(one), inputs, output and [output, number]])[:12]
            place = (
                _place(output, number if pictures > 1 else None)
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
        return [start, *((self._hash(like.file), like.weight) for like in likenesses), *masks, *points]

    def _hash(self, file: str) -> str:
        """A file's SHA-256, read once; a missing one is an error when its job's turn comes."""
        if file not in self.hashes:
            self.hashes[file] = known_sha256(file) if is_file(file) else "missing"
        return self.hashes[file]


def _decisive(config: Config) -> dict[str, Any]:
    """What of a config decides the picture: not where it goes, nor the machine, nor the names of the files given."""
    content = to_dict(config)
    del content["seeds"], content["runtime"], content["output"], content["image_prompts"], content["init"]["image"]
    return {**content, "metadata": config.output.metadata, "upscale": config.output.upscale}


def _checked(row: object) -> dict[str, Any]:
    """Check the fields of a row and bring them to their types; text numbers, as CSV has them, are accepted."""
    if not isinstance(row, dict):
        raise UsageError(f"A job is a prompt or `field: value` pairs, not {type(row).__name__}.")
    unknown = [key for key in row if not isinstance(key, str) or key not in FIELDS]
    if unknown:
        raise UsageError(f"Unknown field {shown(unknown[0])} in a job; known: {', '.join(FIELDS)}.")
    facts = {key: value for key, value in row.items() if value is not None}
    for key in facts:
        if not _encodes(facts[key]):
            raise UsageError(f"The field {key!r} of a job holds half a character, which is no text.")
    for key in ("seed", "steps", "count"):
        if key in facts:
            facts[key] = _whole(key, facts[key])
    for key in ("prompt", "size", "config", "init_image", "output"):
        if key in facts and not isinstance(facts[key], str):
            raise UsageError(f"The field {key!r} of a job must be text, not {shown(facts[key])}.")
    if not facts.get("prompt", "").strip() and not facts.get("image_prompts"):
        raise UsageError("A job needs a prompt, or image_prompts.")
    facts.setdefault("prompt", "")
    if not 1 <= facts.get("count", 1) <= 10_000:
        raise UsageError(f"count is {facts['count']}; it must be between 1 and 10000.")
    if not 0 <= facts.get("seed", 0) < SEED_LIMIT:
        raise UsageError(f"seed is {facts['seed']}; it must be between 0 and {SEED_LIMIT - 1}.")
    if "output" in facts:
        _check_inside(facts["output"])
    return facts


def _encodes(value: object) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _whole(key: str, value: object) -> int:
    if isinstance(value, str) and NUMBER.fullmatch(value.strip()):
        return int(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise UsageError(f"The field {key!r} of a job must be a whole number, not {shown(value)}.")


def _check_inside(output: str) -> None:
    """Refuse a name that leaves the folder, is no picture's, or stands in a folder that holds something else."""
    parts = output.replace("\\", "/").split("/", DEEPEST + 1)
    if len(parts) > DEEPEST:
        raise UsageError(f"output {shown(output)} holds more than {DEEPEST} folders.")
    if not parts[0] or ".." in parts or ":" in output or "\0" in output:
        raise UsageError(f"output {shown(output)} leaves the folder of the batch; give a plain name inside it.")
    place = PurePosixPath(*parts)
    if place.suffix.lower() not in SUFFIXES:
        raise UsageError(f"output {shown(output)} is no picture; it ends in {', '.join(SUFFIXES)}.")
    if any(part.startswith(".") for part in place.parts) or place.parts[0].lower() == THUMBS:
        raise UsageError(f"output {shown(output)} is a hidden file, or one of {THUMBS}/; give a plain name.")
    if not all(map(is_name, place.parts)):
        raise UsageError(f"output {shown(output)} is too long for a file's name, or holds what a name cannot.")


def _config(facts: Mapping[str, Any], base: Base, reader: ConfigReader) -> Config:
    if facts.get("config") == "-":
        raise UsageError("The config of a job cannot be `-`: name one, or a file.")
    layers = [*base.layers, *([facts["config"]] if "config" in facts else [])]
    overrides = [*base.overrides, *_overrides(facts.get("set"))]
    own = next(
        (each for each in overrides if each.partition("=")[0].strip() in ("seed", "seeds", "count", "prompts")), None
    )
    if own is not None:
        raise UsageError(f"`set` cannot hold {own!r} in a batch: give a job's own field, or --seed and --count.")
    prompts = facts.get("image_prompts")
    options = {
        **base.options,
        "prompts": [facts["prompt"]] if facts["prompt"] else [],
        "count": 1,
        "seeds": [],
        "size": facts.get("size"),
        "optimise.steps": facts.get("steps"),
        "init.kind": "image" if "init_image" in facts else None,
        "init.image": facts.get("init_image"),
        "image_prompts": [prompts] if isinstance(prompts, str) else prompts,
    }
    return reader.load(layers, overrides, options)


def _overrides(given: object) -> list[str]:
    """Read `set`: a list of `key=value`, one such text, or pairs."""
    if given is None:
        return []
    if isinstance(given, str):
        return [given]
    if isinstance(given, dict):
        try:
            return [f"{key}={value if isinstance(value, str) else json.dumps(value)}" for key, value in given.items()]
        except (TypeError, ValueError) as error:
            raise UsageError("The field 'set' of a job holds a value that is neither text nor a number.") from error
    if isinstance(given, list) and all(isinstance(word, str) for word in given):
        return given
    raise UsageError("The field 'set' of a job must be `key=value` texts or pairs.")


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
