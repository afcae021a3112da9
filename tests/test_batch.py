"""Batches: jobs from files, pictures that are those of single runs, and nothing lost whatever dies."""

import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command import Command
from conftest import TinyModels
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vqclip.batch import work
from vqclip.batch.driver import Summary, run_batch
from vqclip.batch.fields import FIELDS, Base
from vqclip.batch.jobs import LATER, Job, read_jobs, shard
from vqclip.batch.local import InProcess, Processes, _work
from vqclip.batch.results import DONE, FAILED, ResultRow, ResultsFile, read_results
from vqclip.batch.work import CURVE, Curve, JobResult, Worker, groups
from vqclip.common.errors import OutputError, UsageError
from vqclip.common.files import writing
from vqclip.common.images import open_image, to_tensor
from vqclip.outputs.picture import read_metadata
from vqclip.tools.gallery import write_gallery


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def base(tiny: TinyModels) -> Base:
    return Base([str(tiny.config)])


# Reading


def test_every_format_says_the_same(base: Base) -> None:
    texts = {
        "a.txt": "# pets\na cat\n\n  a dog, brown  \n",
        "a.jsonl": '{"prompt": "a cat"}\n\n{"prompt": "a dog, brown"}\n',
        "a.csv": 'prompt,seed\na cat,\n"a dog, brown",\n',
        "a.yaml": "- a cat\n- prompt: a dog, brown\n",
    }
    found = {name: read_jobs(name, text, base) for name, text in texts.items()}
    assert [job.prompt for job in found["a.txt"]] == ["a cat", "a dog, brown"]
    assert all(jobs == found["a.txt"] for jobs in found.values())
    assert read_jobs("-", texts["a.txt"], base) == found["a.txt"]


def test_an_id_follows_from_the_content(base: Base) -> None:
    (job,) = read_jobs("a.jsonl", '{"prompt": "a cat", "seed": 1}', base)
    assert read_jobs("b.csv", "seed,prompt\n1,a cat\n", base) == [job]
    others = [
        '{"prompt": "a cat", "seed": 2}',
        '{"prompt": "a cat", "seed": 1, "steps": 3}',
        '{"prompt": "cat", "seed": 1}',
    ]
    ids = {read_jobs("a.jsonl", text, base)[0].id for text in others} | {job.id}
    ids |= {read_jobs("a.jsonl", '{"prompt": "a cat", "seed": 1}', Base(base.layers, ["optimise.lr=0.3"]))[0].id}
    assert len(ids) == 5
    assert len(read_jobs("a.txt", "a cat\na cat\n", base)) == 1


def test_count_and_seed_expand(base: Base) -> None:
    jobs = read_jobs("a.jsonl", '{"prompt": "a cat", "seed": 5, "count": 3, "output": "x/cat.png"}', base)
    assert [(job.seed, job.output) for job in jobs] == [(5, "x/cat-0.png"), (6, "x/cat-1.png"), (7, "x/cat-2.png")]
    assert [job.config.seed for job in jobs if job.config] == [5, 6, 7]
    assert [job.seed for job in read_jobs("a.txt", "a cat", base, count=2, seed=9)] == [9, 10]
    one, two = read_jobs("a.txt", "a cat\na dog", base)
    assert one.seed == read_jobs("b.txt", "a cat", base)[0].seed != two.seed


def test_settings_of_a_job(base: Base) -> None:
    text = json.dumps({"prompt": "a", "size": "32x16", "steps": "4", "config": "codes"})
    (job,) = read_jobs("a.jsonl", text, base)
    assert job.config and (job.config.size, job.config.optimise.steps) == ("32x16", 4)
    pairs = {"optimise.lr": 0.5, "optimise.name": "sgd", "losses": {"tv": 1}, "output.upscale": "none"}
    (job,) = read_jobs("a.jsonl", json.dumps({"prompt": "a", "set": pairs}), base)
    assert job.config and (job.config.optimise.lr, job.config.optimise.name) == (0.5, "sgd")
    assert job.config.losses == {"tv": 1} and job.config.output.upscale == "none"
    text = json.dumps({"prompt": "A dog!", "seed": 3, "count": 2, "output": "pets/{prompt}-{seed}.png"})
    assert [job.output for job in read_jobs("a.jsonl", text, base)] == ["pets/a-dog-3.png", "pets/a-dog-4.png"]
    (job,) = read_jobs("a.csv", "prompt,set,init_image\na,optimise.lr=0.25,x.png\n", base)
    assert job.config and job.config.optimise.lr == 0.25
    assert (job.config.init.kind, job.config.init.image) == ("redraw", "x.png")


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"prompt": "a", "foo": 1}, "Unknown field 'foo'"),
        ({"prompt": ""}, "needs a prompt"),
        ({"seed": 1}, "needs a prompt"),
        (["a"], "not list"),
        (7, "not int"),
        ({"prompt": 3}, "must be text"),
        ({"prompt": "a", "seed": "x"}, "whole number"),
        ({"prompt": "a", "seed": True}, "whole number"),
        ({"prompt": "a", "seed": -1}, "between 0"),
        ({"prompt": "a", "seed": 2**63 - 1, "count": 2}, "too large"),
        ({"prompt": "a", "count": 0}, "between 1"),
        ({"prompt": "a", "count": 10**6}, "between 1"),
        ({"prompt": "a", "size": "big"}, "size"),
        ({"prompt": "a", "config": "nothing"}, "Unknown config"),
        ({"prompt": "a", "set": "optimise.step=3"}, "did you mean 'steps'"),
        ({"prompt": "a", "set": [1]}, "must be `key=value`"),
        ({"prompt": "a", "output": "../a.png"}, "leaves the folder"),
        ({"prompt": "a", "output": "/tmp/a.png"}, "leaves the folder"),
        ({"prompt": "a", "output": "x\\..\\..\\a.png"}, "leaves the folder"),
        ({"prompt": "a", "output": "C:a.png"}, "leaves the folder"),
        ({"prompt": "a", "output": "a.txt"}, "is no picture"),
        ({"prompt": "a", "output": ".a.png"}, "hidden"),
        ({"prompt": "a", "output": ".thumbs/a.png"}, "hidden"),
        ({"prompt": "a", "output": "a" * 300 + ".png"}, "too long"),
        ({"prompt": "a", "output": "a\ud800.png"}, "half a character"),
        ({"prompt": "a\ud800"}, "half a character"),
        ({"prompt": "a", "config": "-"}, "cannot be `-`"),
        ({"prompt": "a", "set": "seed=7"}, "cannot hold 'seed=7'"),
        ({"prompt": "a", "set": {"count": 2}}, "cannot hold 'count=2'"),
    ],
)
def test_a_wrong_job_says_so_and_the_others_stand(base: Base, row: Any, says: str) -> None:
    jobs = read_jobs("a.jsonl", json.dumps(row) + '\n{"prompt": "good"}\n', base)
    assert jobs[0].error and says in jobs[0].error and jobs[0].code == 2 and jobs[0].config is None
    assert jobs[1].error is None and jobs[1].prompt == "good"


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that is there and that nobody can read")
@pytest.mark.parametrize(
    "fields",
    [
        {"prompt": "a", "init_image": "/proc/self/mem"},
        {"prompt": "a", "image_prompts": ["/proc/self/mem"]},
        {"prompt": "a | @image:/proc/self/mem"},
        {"prompt": "a", "set": {"losses": {"colours:/proc/self/mem": 1}}},
        {"edit": "/proc/self/mem", "prompt": "a", "box": "1,1,5,5"},
        {"interpolate": ["a", "/proc/self/mem"]},
        {"prompt": "a", "config": "/proc/self/mem"},
    ],
)
def test_a_file_that_cannot_be_read_is_one_jobs_error(base: Base, fields: dict[str, Any]) -> None:
    bad, good = read_jobs("a.jsonl", json.dumps(fields) + '\n{"prompt": "good"}\n', base)
    assert bad.error and "Cannot read" in bad.error and "/proc/self/mem" in bad.error and bad.code == 2
    assert good.error is None


def test_two_jobs_cannot_have_one_name(base: Base) -> None:
    text = '{"prompt": "a", "output": "x.png"}\n{"prompt": "b", "output": "X.png"}\n'
    first, second = read_jobs("a.jsonl", text, base)
    assert first.error is None and second.error and "taken by another job ('a')" in second.error


def test_an_output_cannot_be_a_folder_of_another(base: Base) -> None:
    text = '{"prompt": "a", "output": "x.png"}\n{"prompt": "b", "output": "x.png/y.png"}\n'
    first, second = read_jobs("a.jsonl", text, base)
    assert first.error and "a folder of another job's output" in first.error and second.error is None


def test_yaml_of_any_kind_is_one_jobs_error(base: Base) -> None:
    jobs = read_jobs("a.yaml", "- {prompt: a, 1: b}\n- {prompt: a, set: {size: 2024-01-01}}\n- good\n", base)
    assert [job.error is None for job in jobs] == [False, False, True]


def test_line_separators_are_text(base: Base, tmp_path: Path) -> None:
    text = '{"prompt": "a\u2028cat\x85"}\n'
    (job,) = read_jobs("a.jsonl", text, base)
    assert job.error is None
    record = ResultsFile(tmp_path)
    record.add(ResultRow(job.id, job.prompt, 1, DONE, path="a.png"))
    assert read_results(record.path)[job.id].prompt == "a\u2028cat\x85"


@pytest.mark.parametrize(
    ("path", "text", "says"),
    [
        ("a.txt", "# nothing\n", "holds no job"),
        ("a.yaml", "a: 1", "must hold a list"),
        ("a.yaml", "[a", "not usable YAML"),
        ("a.csv", "", "holds no job"),
    ],
)
def test_a_file_that_is_none_is_said(base: Base, path: str, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        read_jobs(path, text, base)


def test_lines_that_are_not_json_or_too_long_are_jobs_of_their_own(base: Base) -> None:
    jobs = read_jobs("a.jsonl", '{"prompt": "a"\n{"prompt": "b"}\n', base)
    assert jobs[0].error and "Line 1 of 'a.jsonl' is not JSON" in jobs[0].error and jobs[1].error is None
    jobs = read_jobs("a.csv", "prompt\na,b\nc\n", base)
    assert jobs[0].error and "more fields" in jobs[0].error and jobs[1].prompt == "c"


@settings(max_examples=40, deadline=None)
@given(st.binary(max_size=80), st.sampled_from(["a.txt", "a.jsonl", "a.csv", "a.yaml"]))
def test_any_file_is_jobs_or_a_sentence(data: bytes, path: str) -> None:
    try:
        jobs = read_jobs(path, data.decode("utf-8", "replace"), Base())
    except UsageError as error:
        assert "\n" not in str(error)
    else:
        assert all((job.config is None) == (job.error is not None) for job in jobs)


def test_shards_part_the_jobs() -> None:
    jobs = [Job(str(number), "", 0, "") for number in range(10)]
    parts = [shard(jobs, f"{index}/3") for index in (1, 2, 3)]
    assert sorted(job.id for part in parts for job in part) == sorted(job.id for job in jobs)
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    for bad in ("0/3", "4/3", "1", "a/b", "1/0"):
        with pytest.raises(UsageError, match="--shard"):
            shard(jobs, bad)


# The record


def result(name: str, status: str = DONE, **more: Any) -> ResultRow:
    return ResultRow(name, "a cat", 1, status, path=f"{name}.png", losses=(1.0, 0.5), **more)


def test_the_last_line_of_a_job_counts(tmp_path: Path) -> None:
    record = ResultsFile(tmp_path)
    for each in (result("a", FAILED), result("b"), result("a")):
        record.add(each)
    assert read_results(record.path) == {"a": result("a"), "b": result("b")} == record.results


def test_a_torn_line_costs_only_itself(tmp_path: Path) -> None:
    record = ResultsFile(tmp_path)
    record.add(result("a"))
    record.add(result("b"))
    whole = record.path.read_bytes()
    for cut in range(len(whole) // 2, len(whole)):
        record.path.write_bytes(whole[:cut])
        again = ResultsFile(tmp_path)
        again.add(result("c"))
        found = read_results(record.path)
        assert {"a", "c"} <= found.keys() and found["a"] == result("a") and found["c"] == result("c")


def test_a_picture_that_is_gone_is_to_do_again(tmp_path: Path) -> None:
    jobs = [Job(name, "a cat", 1, f"{name}.png") for name in "abc"]
    record = ResultsFile(tmp_path)
    record.add(result("a"))
    record.add(result("b"))
    record.add(result("c", FAILED))
    (tmp_path / "a.png").touch()
    assert [job.id for job in record.left(jobs)] == ["b", "c"]
    assert [job.id for job in record.left([*jobs, Job("d", "", 1, "d.png")], only_failed=True)] == ["b", "c"]


# The work


def test_jobs_that_fit_together_are_grouped(base: Base) -> None:
    text = (
        '{"prompt": "a"}\n{"prompt": "b", "size": "8x8"}\n{"prompt": "c"}\n{"prompt": "d"}\n{"prompt": "e", "x": 1}\n'
    )
    jobs = read_jobs("a.jsonl", text, base)
    found = [[job.prompt for job in group] for group in groups(jobs, 2)]
    assert found == [["a", "c"], ["d"], ["b"]]


def test_a_picture_is_that_of_a_single_run_up_to_rounding(run: Command, base: Base, tiny: TinyModels) -> None:
    jobs = read_jobs("a.jsonl", '{"prompt": "a cat", "seed": 3}\n{"prompt": "a dog", "seed": 4}\n', base)
    made = Worker().make(jobs)
    assert made is not None and [each.together for each in made] == [2, 2]
    assert run("generate", "-c", str(tiny.config), "a dog", "--seed", "4", "-o", "dog.png", "-q").code == 0
    Path("batch.png").write_bytes(made[1].picture)
    alone, grouped = (to_tensor(open_image(name)) for name in ("dog.png", "batch.png"))
    assert float((alone - grouped).abs().max()) <= 2 / 255
    assert read_metadata(Path("batch.png")).together == 2
    (single,) = Worker().make(jobs[1:]) or []
    assert single.picture == Path("dog.png").read_bytes()
    assert [each.picture for each in Worker().make(jobs) or []] == [each.picture for each in made]


def test_a_group_that_was_stopped_goes_on_to_the_same_pictures(base: Base, tmp_path: Path) -> None:
    jobs = read_jobs("a.txt", "a\nb\n", base)
    expected = [made.picture for made in Worker().make(jobs) or []]
    states = tmp_path / "states"
    asked = iter(range(100))
    assert Worker(states=states).make(jobs, lambda: next(asked) == 2) is None
    (state,) = states.iterdir()
    assert [file.name for file in sorted(state.iterdir())] == ["00000002.pt", "00000003.pt"]
    made = Worker(states=states).make(jobs) or []
    assert [each.picture for each in made] == expected and [len(each.losses) for each in made] == [3, 3]
    assert list(states.iterdir()) == []


def test_models_are_loaded_once(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    loads: list[Any] = []
    load = work.load_models
    monkeypatch.setattr(work, "load_models", lambda plan, files: loads.append(plan) or load(plan, files))
    jobs = read_jobs("a.jsonl", '{"prompt": "a"}\n{"prompt": "b", "size": "8x8"}\n{"prompt": "c"}\n', base)
    worker = Worker()
    for group in groups(jobs, 1):
        assert worker.make(group)
    assert len(loads) == 1


def test_one_that_fails_does_not_spoil_its_group(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = read_jobs("a.jsonl", '{"prompt": "a"}\n{"prompt": "b"}\n{"prompt": "c"}\n', base)
    go = work.run

    def fails(parts: Any, *rest: Any) -> Any:
        if any(picture.prompt == "b" for picture in parts.plan.pictures):
            raise RuntimeError("a bug\nwith lines")
        return go(parts, *rest)

    monkeypatch.setattr(work, "run", fails)
    made = Worker().make(jobs)
    assert made and [bool(each.picture) for each in made] == [True, False, True]
    assert made[1].code == 1 and made[1].error == "vqclip has a bug: RuntimeError: a bug"


def falling_apart(wait: Callable[[], object]) -> None:
    """Let every group fail, and the picture of `c`, once it is its turn, `wait`."""
    go = work.run

    def run(parts: Any, *rest: Any) -> Any:
        prompts = [picture.prompt for picture in parts.plan.pictures]
        if len(prompts) > 1:
            raise RuntimeError
        if prompts == ["c"]:
            wait()
        return go(parts, *rest)

    work.run = run


def test_what_was_finished_alone_is_kept_when_a_group_is_stopped(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs, waiting = read_jobs("a.txt", "\n".join("abcdef"), base), Path("waiting")
    monkeypatch.setattr(work, "run", work.run)  # put back afterwards
    falling_apart(waiting.touch)
    made = list(InProcess().results(groups(jobs, 4), waiting.exists))
    assert [each.id for each in made] == [job.id for job in jobs[:2]] and all(each.picture for each in made)
    assert Worker().make(jobs[2:4], waiting.exists) is None


def test_a_curve_keeps_the_ends(base: Base) -> None:
    curve = Curve()
    curve.totals = [[float(number), -float(number)] for number in range(1000)]
    kept = curve.of(1)
    assert len(kept) == CURVE and kept[0] == 0 and kept[-1] == -999
    curve.totals = [[1.0, 2.0]]
    assert curve.of(0) == (1.0,)
    curve.totals = []
    assert curve.of(0) == ()


class Given:
    """An engine that makes a grey picture of every job, and may be stopped."""

    def results(self, groups: Iterator[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[JobResult]:
        for group in groups:
            if stop():
                return
            yield from (JobResult(job.id, b"picture", losses=(1.0,)) for job in group)


def test_a_batch_does_what_is_left(base: Base, tmp_path: Path) -> None:
    jobs = read_jobs("a.txt", "\n".join("abcdef"), base)
    calls = iter([False, True])
    first = run_batch(jobs, ResultsFile(tmp_path), Given(), 2, stop=lambda: next(calls))
    assert first == Summary(done=2, skipped=0, failed=0, left=4)
    second = run_batch(jobs, ResultsFile(tmp_path), Given(), 2, limit=1)
    assert second == Summary(done=1, skipped=2, failed=0, left=3)
    assert run_batch(jobs, ResultsFile(tmp_path), Given(), 2) == Summary(done=3, skipped=3)
    assert run_batch(jobs, ResultsFile(tmp_path), Given(), 2) == Summary(skipped=6)


def test_a_file_of_the_users_is_not_replaced(base: Base, tmp_path: Path) -> None:
    jobs = read_jobs("a.jsonl", '{"prompt": "a", "output": "cat.png"}\n{"prompt": "b"}\n', base)
    (tmp_path / "cat.png").write_bytes(b"mine")
    record = ResultsFile(tmp_path)
    assert run_batch(jobs, record, Given(), 2) == Summary(done=1, failed=1)
    assert (tmp_path / "cat.png").read_bytes() == b"mine"
    assert record.results[jobs[0].id].code == 6 and "is there already" in str(record.results[jobs[0].id].error)


def test_a_batch_killed_between_a_picture_and_its_line_goes_on(base: Base, tmp_path: Path) -> None:
    jobs = read_jobs("a.jsonl", '{"prompt": "a", "output": "cat.png"}\n{"prompt": "b"}\n', base)
    for job in jobs:
        (tmp_path / job.output).write_bytes(b"picture")
    assert run_batch(jobs, ResultsFile(tmp_path), Given(), 2) == Summary(done=2)


def test_the_contents_of_configs_and_pictures_decide_and_not_their_names(tiny: TinyModels) -> None:
    def read(threads: int | None = None, **row: Any) -> Job:
        base = Base([str(tiny.config), "my.yaml"], options={"runtime.threads": threads} if threads else {})
        (job,) = read_jobs("a.jsonl", json.dumps({"prompt": "a", "seed": 1, **row}), base)
        return job

    Path("my.yaml").write_text("optimise: {lr: 0.2}")
    Image.new("RGB", (16, 16), "red").save("a.png")
    Image.new("RGB", (16, 16), "red").save("b.png")
    first, start, like = read(), read(init_image="a.png"), read(image_prompts="a.png:2")
    assert read(threads=3).id == first.id == read(steps=6).id  # 6 steps are what the config says
    assert read(init_image="b.png").id == start.id and read(image_prompts=["b.png:2"]).id == like.id
    assert len({first.id, start.id, like.id, read(image_prompts="a.png:3").id, read(size="32x32").id}) == 5
    Image.new("RGB", (16, 16), "blue").save("a.png")
    assert read(init_image="a.png").id != start.id and read(image_prompts="a.png:2").id != like.id
    Path("my.yaml").write_text("optimise: {lr: 0.3}")
    assert read().id != first.id


def test_settings_that_came_later_change_an_id_only_where_they_do_something(tiny: TinyModels) -> None:
    def name(*words: str) -> str:
        (job,) = read_jobs("a.jsonl", '{"prompt": "a", "seed": 1}', Base([str(tiny.config)], list(words)))
        return job.id

    said = [f"{section}.{key}={value}" for section, keys in LATER.items() for key, value in keys.items()]
    assert name() == name(*said) != name("targets.lean=0.5")
    assert name("targets.lean=0.5") != name("targets.neighbours=5")
    assert name() == name("filters=[]") != name("filters=[tile]")


def test_jobs_that_are_there_twice_are_said(base: Base) -> None:
    said: list[str] = []
    assert len(read_jobs("a.txt", "a cat\na dog\na cat\na cat\n", base, tell=said.append)) == 2
    assert len(said) == 1 and said[0].startswith("2 of the jobs") and "--count" in said[0]


def test_results_of_an_earlier_version_count(base: Base, tmp_path: Path) -> None:
    """Rows with the ids of 0.1.0, and without sizes; these ids are what it computed."""
    text = '{"prompt": "a cat", "seed": 1}\n{"prompt": "b", "seed": 2, "output": "b.png"}\n'
    jobs = read_jobs("a.jsonl", text, Base(["codes"], ["optimise.lr=0.3"], {"size": "16x16"}))
    assert [job.former for job in jobs] == ["a18b5858463e", "c59cccda3705"]
    (tmp_path / "results.jsonl").write_text(
        "".join(
            json.dumps({"id": job.former, "prompt": "", "seed": 1, "status": DONE, "path": path}) + "\n"
            for job, path in zip(jobs, [f"{jobs[0].former}.png", "b.png"], strict=True)
        )
    )
    record = ResultsFile(tmp_path)
    assert [record.is_done(job) for job in jobs] == [False, False]
    for name in (f"{jobs[0].former}.png", "b.png"):
        (tmp_path / name).write_bytes(b"picture")
    assert [record.is_done(job) for job in jobs] == [True, True]


@pytest.mark.parametrize("path", ["/etc/passwd", "../j.txt", "j.txt", "link.png", 7, None, "sub/../../j.txt"])
def test_a_path_in_a_result_is_only_a_record_of_the_jobs_own(base: Base, tmp_path: Path, path: object) -> None:
    (job,) = read_jobs("a.txt", "a cat", base)
    folder = tmp_path / "out"
    folder.mkdir()
    (tmp_path / "j.txt").write_text("x")
    (folder / "link.png").symlink_to(tmp_path / "j.txt")
    row = {"id": job.id, "prompt": "a cat", "seed": 1, "status": DONE, "path": path}
    (folder / "results.jsonl").write_text(json.dumps(row) + "\n")
    assert not ResultsFile(folder).is_done(job)


def test_a_picture_that_lost_bytes_is_to_do_again(base: Base, tmp_path: Path) -> None:
    jobs = read_jobs("a.jsonl", '{"prompt": "a", "output": "cat.png"}\n{"prompt": "b"}\n', base)
    assert run_batch(jobs, ResultsFile(tmp_path), Given(), 2) == Summary(done=2)
    for job in jobs:
        (tmp_path / job.output).write_bytes(b"")
    assert run_batch(jobs, ResultsFile(tmp_path), Given(), 2) == Summary(done=2)
    assert all((tmp_path / job.output).read_bytes() == b"picture" for job in jobs)


@pytest.mark.parametrize("name", ["sub", "results.jsonl", ".lock", ".states", "x.png"])
def test_a_link_leads_nothing_out_of_the_folder(
    base: Base, tmp_path: Path, name: str, run: Command, tiny: TinyModels
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("mine")
    Path("out").mkdir()
    Path("out", name).symlink_to(outside if name in ("sub", ".states") else outside / "file")
    rows = [{"prompt": "a", "output": "sub/x.png"}, {"prompt": "b", "output": "x.png"}]
    Path("jobs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = run("batch", "jobs.jsonl", "-o", "out", "-c", str(tiny.config), "--steps", "1")
    assert done.code in (5, 6) and "a link that leads elsewhere" in done.stderr
    assert [file.name for file in outside.iterdir()] == ["file"] and (outside / "file").read_text() == "mine"
    assert Path("out", name).is_symlink()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("-c", "nosuch"), "nosuch"),
        (("--size", "foo"), "foo"),
        (("--threads", "0"), "--threads"),
        (("--set", "optimise.lr=x"), "optimise.lr"),
        (("--engine", "foo"), "Unknown engine"),
        (("--workers", "x"), "--workers"),
        (("--batch-size", "0"), "--batch-size"),
        (("--address", "auto"), "--engine ray"),
        (("--count", "0"), "--count is 0"),
        (("--count", "-3"), "--count is -3"),
        (("--set", "seeds=[3,9]"), "`set` cannot hold"),
        (("--set", "count=3"), "`set` cannot hold"),
        (("-c", "own.yaml"), "one seed or a range"),
    ],
)
def test_what_all_jobs_share_is_right_or_none_begins(run: Command, words: tuple[str, ...], says: str) -> None:
    Path("p.txt").write_text("a cat\na dog\n")
    Path("own.yaml").write_text("seeds: [3, 9]\n")
    done = run("batch", "p.txt", "-o", "out", *words)
    assert done.code == 2 and says in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
    assert not Path("out").exists()


def test_seed_and_count_may_stand_in_a_config(run: Command, tiny: TinyModels) -> None:
    Path("p.txt").write_text("a cat\n")
    Path("own.yaml").write_text("seed: 7\ncount: 2\n")
    words = ("batch", "p.txt", "-c", str(tiny.config), "--steps", "1", "-q", "--json", "-o")
    assert run(*words, "out", "-c", "own.yaml").code == 0
    assert sorted(row.seed for row in read_results(Path("out/results.jsonl")).values()) == [7, 8]
    assert run(*words, "free", "--seed", "random").code == 0
    again = json.loads(run(*words, "free", "--seed", "random").stdout.splitlines()[-1])
    assert (again["done"], again["skipped"]) == (0, 1)  # chosen by the content, so that a batch finds what is done


class DiskIsFull:
    """An engine whose states cannot be written after the first group."""

    def results(self, groups: Iterator[Sequence[Job]], stop: Callable[[], bool]) -> Iterator[JobResult]:
        yield from (JobResult(job.id, b"picture") for job in next(iter(groups)))
        raise OutputError("Cannot write '.states': No space left on device.")


def test_a_full_disk_stops_the_batch_and_says_what_is_left(base: Base, tmp_path: Path) -> None:
    jobs = read_jobs("a.txt", "\n".join("abcde"), base)
    with pytest.raises(OutputError, match=r"No space left on device\. 3 jobs left; the same command goes on"):
        run_batch(jobs, ResultsFile(tmp_path), DiskIsFull(), 2)
    assert len(read_results(tmp_path / "results.jsonl")) == 2


def _full(self: Any, step: Any) -> None:
    with writing(self.folder):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_state_that_cannot_be_written_is_not_the_jobs_fault(
    base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqclip.outputs.state.State._save", _full)
    jobs = read_jobs("a.txt", "a\nb\n", base)
    with pytest.raises(OutputError, match="No space left on device"):
        Worker(states=tmp_path / "states").make(jobs)


def _full_work(pipe: Any, *rest: Any) -> None:
    pipe.recv()
    pipe.send(OutputError("Cannot write '.states': No space left on device."))
    pipe.recv()


@pytest.mark.slow
def test_a_full_disk_in_a_worker_stops_all(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqclip.batch.local._work", _full_work)
    with pytest.raises(OutputError, match="No space left"):
        list(Processes(2, [], 1).results(groups(read_jobs("a.txt", "a\nb\n", base), 1), lambda: False))


def test_workers_share_the_free_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vqclip.batch.work.available_memory", lambda: 8 * 2**30)
    assert (Worker().budget.free(), Worker(sharing=4).budget.free()) == (8 * 2**30, 2 * 2**30)
    monkeypatch.setattr("vqclip.batch.work.available_memory", lambda: None)
    assert Worker(sharing=4).budget.free() is None


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
VALUES = ANYTHING | st.sampled_from(["../x.png", "a.png", "1e400", "!!int ''", "9" * 5000, "a/" * 5000 + "x.png", -1])


@settings(max_examples=80, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([*FIELDS, "foo"]), VALUES, max_size=5) | VALUES, max_size=4))
def test_jobs_of_any_kind_are_jobs_or_sentences(rows: list[Any]) -> None:
    for name, text in {
        "a.jsonl": "\n".join(json.dumps(row) for row in rows),
        "a.yaml": yaml.dump(rows, allow_unicode=True),
    }.items():
        try:
            jobs = read_jobs(name, text, Base(["codes"]))
        except UsageError as error:
            assert "\n" not in str(error)
            continue
        for job in jobs:
            assert (job.config is None) == (job.error is not None)
            assert job.error or (Path("out") / job.output).resolve().is_relative_to(Path("out").resolve())


@settings(max_examples=80, deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from([*ResultRow.__dataclass_fields__, "x"]), VALUES, max_size=9) | VALUES))
def test_results_of_any_kind_are_read(tmp_path_factory: pytest.TempPathFactory, rows: list[Any]) -> None:
    folder = tmp_path_factory.mktemp("results")
    lines = ["[" * 5000, '{"id": NaN}', '{"id": "a", "status": "done"', "\xff"]
    content = "\n".join([*lines, *(json.dumps(row) for row in rows), json.dumps(asdict(result("last")))])
    (folder / "results.jsonl").write_bytes(content.encode("latin-1", "replace"))
    found = read_results(folder / "results.jsonl")
    assert found["last"] == result("last") and all(isinstance(each, ResultRow) for each in found.values())
    assert all(isinstance(each.seconds, float) and each.status in (DONE, FAILED) for each in found.values())
    Image.new("RGB", (2, 2)).save(folder / "p.png")
    assert write_gallery(folder, overwrite=True).is_file()


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.yaml", "a: &a [x, x]\nb: &b [*a, *a]\n", "aliases"),
        ("a.yaml", "- {prompt: !!int ''}", "constructor"),
        ("a.yaml", "- !!timestamp x", "constructor"),
        ("a.yaml", "[" * 100_000, "nested too deeply"),
        ("a.yaml", "- x\n" * 600_000, "longer than 2 MB"),
        ("a.jsonl", '{"prompt": "a", "output": "' + "a/" * 500_000 + 'x.png"}', "more than 16 folders"),
        ("a.jsonl", '{"prompt": "' + "a" * 500_000 + '", "steps": "' + "9" * 500_000 + '"}', "whole number"),
        ("a.jsonl", '{"prompt": "a", "steps": ' + "9" * 5000 + "}", "not JSON"),
        ("a.jsonl", '{"prompt": "a", "set": "optimise.lr=1e400"}', "optimise.lr is inf"),
        ("a.jsonl", '{"prompt": "a", "output": "thumbs/a.png"}', "one of thumbs/"),
        ("a.jsonl", '{"prompt": "a", "init_image": "\\udcff"}', "half a character"),
        ("a.jsonl", "[" * 100_000, "not JSON"),
        ("a.csv", "prompt\n" + '"' + "a" * 200_000 + '"', "field larger"),
    ],
)
def test_a_hostile_job_file_is_refused_at_once(base: Base, name: str, content: str, says: str) -> None:
    began = time.process_time()
    try:
        (job,) = read_jobs(name, content, base)
        said = job.error or ""
    except UsageError as error:
        said = str(error)
    assert says in said and len(said) < 600 and time.process_time() - began < 10


# The command


def poisoned(folder: Path) -> str:
    """Twenty jobs, of which ten fail in ten ways."""
    (folder / "cut.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    bad = [
        '{"prompt": "a", "foo": 1}',
        "not json",
        '{"prompt": "a", "init_image": "gone.png"}',
        f'{{"prompt": "a", "init_image": "{folder}/cut.png"}}',
        '{"prompt": "a", "size": "0x0"}',
        '{"prompt": "a::nan"}',
        '{"prompt": "a", "output": "../x.png"}',
        '{"prompt": "nan", "set": "losses.tv=1e39"}',
        '{"prompt": "a", "set": "vqgan.file=gone.ckpt"}',
        '{"prompt": "a", "set": "optimise.name=adom"}',
    ]
    good = [json.dumps({"prompt": f"a cat {number}"}) for number in range(10)]
    return "\n".join(line for pair in zip(good, bad, strict=True) for line in pair)


def test_poisoned_jobs_are_recorded_and_the_rest_goes_on(run: Command, tiny: TinyModels, tmp_path: Path) -> None:
    Path("jobs.jsonl").write_text(poisoned(tmp_path))
    words = ("batch", "jobs.jsonl", "-o", "out", "-c", str(tiny.config), "--steps", "2", "--json")
    done = run(*words)
    assert done.code == 5, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [sum(e["event"] == kind for e in events) for kind in ("image", "error", "summary")] == [10, 11, 1]
    summary = next(event for event in events if event["event"] == "summary")
    assert (summary["done"], summary["failed"], summary["left"], summary["skipped"]) == (10, 10, 0, 0)
    results = read_results(Path("out/results.jsonl"))
    failed = {each.error: each.code for each in results.values() if each.status == FAILED}
    assert len(results) == 20 and len(failed) == 10
    assert set(failed.values()) == {2, 3, 7}
    assert all("\n" not in error for error in failed if error)
    assert len(list(Path("out").glob("*.png"))) == 10
    page = Path("out/index.html").read_text()
    assert page.count("<article") == 20 and page.count('class="failed"') == 10
    again = [json.loads(line) for line in run(*words).stdout.splitlines()]
    assert again[-1]["event"] == "summary" and again[-2]["event"] == "error"
    assert (again[-1]["done"], again[-1]["skipped"], again[-1]["failed"]) == (0, 10, 10)


def test_a_second_batch_in_the_same_folder_is_told(run: Command, tiny: TinyModels) -> None:
    from filelock import FileLock

    Path("jobs.txt").write_text("a cat\n")
    Path("out").mkdir()
    with FileLock("out/.lock"):
        words = ("batch", "jobs.txt", "-o", "out", "-c", str(tiny.config))
        done = run(*words)
        assert done.code == 75 and "--wait" in done.stderr
    assert run(*words, "--steps", "1").code == 0


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["gone.txt", "-o", "out"], 2, "Cannot read the job file"),
        (["jobs.txt"], 2, "--output"),
        (["jobs.txt", "-o", "out", "--shard", "3/2"], 2, "--shard"),
        (["jobs.txt", "-o", "out", "--time-limit", "soon"], 2, "--time-limit"),
        (["jobs.txt", "-o", "out", "--batch-size", "0"], 2, "--batch-size"),
        (["jobs.txt", "-o", "out", "--workers", "many"], 2, "--workers"),
        (["jobs.txt", "-o", "out", "--engine", "cloud"], 2, "Unknown engine"),
        (["jobs.txt", "-o", "jobs.txt"], 6, "Cannot write"),
        (["jobs.txt", "-o", "-"], 2, "name a folder"),
        (["bytes.txt", "-o", "out"], 2, "not UTF-8"),
    ],
)
def test_bad_usage_is_a_sentence(run: Command, words: list[str], code: int, says: str) -> None:
    Path("jobs.txt").write_text("a cat\n")
    Path("bytes.txt").write_bytes(b"\xff\xfe")
    done = run("batch", *words)
    assert done.code == code and says in done.stderr and "Traceback" not in done.stderr


def test_time_runs_out_between_groups(run: Command, tiny: TinyModels) -> None:
    Path("jobs.txt").write_text("\n".join(f"a cat {number}" for number in range(6)))
    words = ("batch", "jobs.txt", "-o", "out", "-c", str(tiny.config), "--batch-size", "1", "--json")
    done = run(*words, "--time-limit", "0s")
    summary = json.loads(done.stdout.splitlines()[-1])
    assert done.code == 0 and (summary["done"], summary["left"]) == (0, 6)


def start(tiny: TinyModels, jobs: str, *words: str) -> subprocess.Popen[str]:
    """A batch in a process of its own. Its output is read once, at the end: what a first read leaves in a buffer would
    be lost to `communicate`."""
    command = [sys.executable, "-m", "vqclip", "batch", jobs, "-o", "out", "-c", str(tiny.config), *words]
    with Path("stderr.txt").open("w") as told:
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=told, text=True)


def wait_for_results(count: int, process: subprocess.Popen[str]) -> None:
    """Wait until a batch has recorded so many results, however long that takes."""
    record = Path("out/results.jsonl")
    while not record.is_file() or len(record.read_bytes().splitlines()) < count:
        assert process.poll() is None, Path("stderr.txt").read_text()
        time.sleep(0.02)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_a_batch_that_is_killed_goes_on(tiny: TinyModels, run: Command, number: signal.Signals) -> None:
    """The last of its jobs takes for ever, so that it cannot end before it is killed."""
    jobs = [json.dumps({"prompt": f"a cat {number}", "steps": 20}) for number in range(6)]
    Path("jobs.jsonl").write_text("\n".join([*jobs, json.dumps({"prompt": "a dog", "steps": 1_000_000})]))
    with start(tiny, "jobs.jsonl", "--batch-size", "1") as process:
        wait_for_results(3, process)
        process.send_signal(number)
        process.communicate()
    assert process.returncode == (143 if number == signal.SIGTERM else -9)
    before = {path: path.stat().st_mtime_ns for path in Path("out").glob("*.png")}
    assert 3 <= len(before) <= 6 and all(Image.open(path).load() for path in before)
    Path("jobs.jsonl").write_text("\n".join(jobs))
    done = run("batch", "jobs.jsonl", "-o", "out", "-c", str(tiny.config), "--batch-size", "1", "--json")
    assert done.code == 0, done.stdout + done.stderr
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["done"] + summary["skipped"] == 6 and summary["left"] == 0
    assert all(path.stat().st_mtime_ns == time_ for path, time_ in before.items())


# Several workers


def workers_of(process: int) -> list[int]:
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [int(child) for child in children if b"spawn_main" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self").exists(), reason="finds the workers in /proc")
def test_a_worker_that_is_killed_is_replaced_and_nothing_is_lost(tiny: TinyModels) -> None:
    """Nobody reads the results before a worker is killed, and four of them fill the pipe: it cannot end before."""
    Path("jobs.txt").write_text("\n".join(f"a cat {number} {'x' * 19_000}" for number in range(8)))
    with start(tiny, "jobs.txt", "--workers", "2", "--batch-size", "1", "--steps", "2", "--json") as process:
        wait_for_results(1, process)
        os.kill(workers_of(process.pid)[0], signal.SIGKILL)
        told, _ = process.communicate()
    assert process.returncode == 0, Path("stderr.txt").read_text()
    events = [json.loads(line) for line in told.splitlines()]
    assert len({event["id"] for event in events if event["event"] == "image"}) == 8
    assert events[-1]["event"] == "summary" and events[-1]["done"] == 8


@pytest.mark.slow
def test_a_job_that_kills_its_worker_is_given_up(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = read_jobs("a.txt", "a\nb\n", base)
    engine = Processes(1, [], 1)
    monkeypatch.setattr("vqclip.batch.local._work", _dying_work)
    made = list(engine.results(groups(jobs, 2), lambda: False))
    assert sorted(each.id for each in made) == sorted(job.id for job in jobs)
    assert all(each.error and "was lost 3 times" in each.error and "signal 9" in each.error for each in made)


def _dying_work(pipe: Any, *rest: Any) -> None:
    pipe.recv()
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.slow
def test_a_worker_that_is_stopped_keeps_what_it_finished_alone(base: Base, monkeypatch: pytest.MonkeyPatch) -> None:
    jobs = read_jobs("a.txt", "\n".join("abcdef"), base)
    monkeypatch.setattr("vqclip.batch.local._work", _falling_work)
    made = list(Processes(1, [], 1).results(groups(jobs, 4), Path("waiting").exists))
    assert [each.id for each in made] == [job.id for job in jobs[:2]] and all(each.picture for each in made)


def _falling_work(pipe: Any, stopping: Any, *rest: Any) -> None:
    def wait() -> None:
        Path("waiting").touch()
        stopping.wait()

    falling_apart(wait)
    _work(pipe, stopping, *rest)


@pytest.mark.slow
def test_workers_make_the_pictures_that_one_process_makes(base: Base) -> None:
    jobs = read_jobs("a.txt", "\n".join("abcd"), base)
    alone = {made.id: made.picture for made in InProcess().results(groups(jobs, 2), lambda: False)}
    together = {made.id: made.picture for made in Processes(2, [], 1).results(groups(jobs, 2), lambda: False)}
    assert alone == together and len(alone) == 4


@pytest.mark.slow
def test_ray_makes_them_too_and_survives_a_killed_actor(base: Base) -> None:
    ray = pytest.importorskip("ray")
    from vqclip.batch.ray import RayCluster

    jobs = read_jobs("a.txt", "\n".join("abcdefgh"), base)
    alone = {made.id: made.picture for made in InProcess().results(groups(jobs, 1), lambda: False)}
    engine = RayCluster(None, 2, 1)
    try:
        found, killed = {}, False
        for made in engine.results(groups(jobs, 1), lambda: False):
            found[made.id] = made.picture
            if not killed:
                killed = True
                os.kill(_an_actor(), signal.SIGKILL)
        assert found == alone
    finally:
        ray.shutdown()


def _an_actor() -> int:
    """The process of a living actor of ours."""
    while True:
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                if b"ray::Actor" in (entry / "cmdline").read_bytes():
                    return int(entry.name)
            except OSError:
                continue
        time.sleep(0.05)


def test_threads_are_divided_among_workers(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    from vqclip.cli.batch import _engine

    monkeypatch.setattr(torch, "get_num_threads", lambda: 8)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    engine = _engine("local", "4", None, None, None, False, Path("s"))
    assert isinstance(engine, Processes) and (engine.count, engine.threads, list(engine.devices)) == (4, 2, [])
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    engine = _engine("local", "auto", None, None, None, False, Path("s"))
    assert isinstance(engine, Processes) and (engine.count, list(engine.devices)) == (3, ["0", "1", "2"])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,GPU-ab,7")
    engine = _engine("local", "auto", None, None, None, False, Path("s"))
    assert isinstance(engine, Processes) and list(engine.devices) == ["2", "GPU-ab", "7"]
    for device in ("cpu", "cuda:1"):
        assert isinstance(_engine("local", "auto", None, device, None, False, Path("s")), InProcess)


def test_any_flipped_bit_of_a_result_is_noticed(tmp_path: Path) -> None:
    """A row that says something else than was written does not count; its job is done again."""
    record = ResultsFile(tmp_path)
    record.add(result("a", error="café \udce9", seconds=0.1, scores={"clip": 1 / 3}))
    whole = record.path.read_bytes()
    assert read_results(record.path) == record.results
    for bit in range(0, 8 * len(whole), 5):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        record.path.write_bytes(flipped)
        assert read_results(record.path) in ({}, record.results)


def test_results_of_an_earlier_version_have_no_checksum(tmp_path: Path) -> None:
    (tmp_path / "results.jsonl").write_text(json.dumps(asdict(result("a"))) + "\n")
    assert read_results(tmp_path / "results.jsonl") == {"a": result("a")}


def test_jobs_of_the_same_mask_have_the_same_id_and_of_another_one_another(tiny: TinyModels) -> None:
    """Masks count by their contents; the settings of `vqclip edit` come with its config."""
    for name, level in (("a.png", 0), ("b.png", 9)):
        Image.new("L", (8, 8), level).save(name)
    Image.new("RGB", (8, 8)).save("photo.png")

    def read() -> Job:
        masked = {"mask.original": "photo.png", "mask.image": "mask.png"}
        row = json.dumps({"prompt": "a", "config": "edit", "set": masked, "output": "x.png"})
        (job,) = read_jobs("a.jsonl", row, Base())
        assert job.config is not None and job.config.mask.image == "mask.png" and job.config.size == "auto", job.error
        return job

    Path("mask.png").write_bytes(Path("a.png").read_bytes())
    first = read()
    Path("mask.png").write_bytes(Path("b.png").read_bytes())
    assert read().id != first.id
    Path("mask.png").write_bytes(Path("a.png").read_bytes())
    assert read().id == first.id


@pytest.mark.parametrize(
    ("row", "steps"),
    [
        ({"prompt": "a cat"}, 3),
        ({"prompt": "a cat", "steps": 5}, 5),
        ({"interpolate": ["a", "b"], "frames": 4}, 12),
        ({"interpolate": ["a", "b"], "frames": 4, "steps": 2}, 8),
    ],
)
def test_the_steps_of_the_command_are_those_of_jobs_that_say_none(tiny: TinyModels, row: Any, steps: int) -> None:
    base = Base([str(tiny.config)], options={"optimise.steps": 3})
    (job,) = read_jobs("a.jsonl", json.dumps(row), base)
    assert job.config is not None and job.config.optimise.steps == steps


def test_which_file_stands_where_decides_too(base: Base) -> None:
    for name, colour in (("a.png", "red"), ("b.png", "blue")):
        Image.new("L" if name == "m.png" else "RGB", (8, 8), colour).save(name)
    rows: list[dict[str, Any]] = [
        {"prompt": f"[in a.png] a cat | [in b.png] a dog | [in {name}] a hat", "seed": 1} for name in ("a.png", "b.png")
    ]
    rows += [
        {"prompt": "a cat", "seed": 1, "set": {"losses": {"colours:a.png": weight, "colours:b.png": 2}}}
        for weight in (1, 5)
    ]
    jobs = read_jobs("a.jsonl", "\n".join(map(json.dumps, rows)), base)
    assert len(jobs) == 4
    Path("a.png").rename("c.png")
    text = json.dumps(rows[0]).replace("a.png", "c.png")
    assert read_jobs("a.jsonl", text, base)[0].id == jobs[0].id  # names are no part of it


def test_a_job_whose_files_were_begun_is_done_again_in_their_place(base: Base, tmp_path: Path) -> None:
    (job,) = read_jobs("a.jsonl", '{"prompt": "a cat", "seed": 1, "output": "cat.png"}', base)
    record = ResultsFile(tmp_path)
    record.begin(job)  # and then the process was killed, which had written other bytes
    (tmp_path / "cat.png").write_bytes(b"half")
    summary = run_batch([job], ResultsFile(tmp_path), InProcess(), 4)
    assert (summary.done, summary.failed) == (1, 0) and open_image(tmp_path / "cat.png").size == (16, 16)
    assert not (tmp_path / ".writing").exists()


def test_a_failed_retry_does_not_lose_the_place_of_a_picture(base: Base, tmp_path: Path) -> None:
    (job,) = read_jobs("a.jsonl", '{"prompt": "a cat", "seed": 1, "output": "cat.png"}', base)

    class Failing:
        def results(self, groups: Any, stop: Any) -> Iterator[JobResult]:
            yield from (JobResult(each.id, error="no") for group in groups for each in group)

    run_batch([job], ResultsFile(tmp_path), InProcess(), 4)
    (tmp_path / "cat.png").write_bytes(b"short")
    assert run_batch([job], ResultsFile(tmp_path), Failing(), 4).failed == 1
    assert run_batch([job], ResultsFile(tmp_path), InProcess(), 4).done == 1
    assert open_image(tmp_path / "cat.png").size == (16, 16)


def test_a_job_that_failed_before_is_apart_and_the_others_groups_stay(base: Base, tmp_path: Path) -> None:
    jobs = read_jobs("a.txt", "a cat:nan\na dog\na cow\na hen\n", base)
    seen: list[list[str]] = []

    class Watching:
        def results(self, groups: Any, stop: Any) -> Iterator[JobResult]:
            for group in groups:
                seen.append([each.prompt for each in group])
                bad = group[0].prompt == "a cat:nan"
                yield from (JobResult(each.id, error="no") for each in group[:1] if bad)
                yield from (JobResult(each.id, picture=b"x") for each in group[1:] if bad)

    run_batch(jobs, ResultsFile(tmp_path), Watching(), 2)
    run_batch(jobs, ResultsFile(tmp_path), Watching(), 2)
    assert seen == [["a cat:nan", "a dog"], ["a cow", "a hen"], ["a cow", "a hen"], ["a cat:nan"]]
