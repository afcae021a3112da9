"""metrics.jsonl: one line a step, and after a resume exactly the steps that count."""

import errno
import json
import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vqclip.common.errors import OutputError
from vqclip.optimisation.step import Finished, Step
from vqclip.outputs.metrics import Metrics

PATH = Path("run/metrics.jsonl")


def step(number: int) -> Step:
    losses = {"prompt": torch.tensor([0.5, number / 8]), "tv": torch.tensor([0.0, 1.0])}
    return Step(number, 9, torch.empty(0), losses, render=lambda: torch.empty(0), state=dict)


def write(start: int, *numbers: int) -> None:
    metrics = Metrics(PATH, start)
    for number in numbers:
        metrics.step(step(number))
    metrics.finish(Finished(9, torch.empty(0), torch.empty(0), [], 0.0))


def steps() -> list[int]:
    return [json.loads(line)["step"] for line in PATH.read_text().splitlines()]


def test_a_line_holds_every_loss_of_every_picture() -> None:
    write(0, 1)
    assert PATH.read_text() == '{"step": 1, "losses": {"prompt": [0.5, 0.125], "tv": [0.0, 1.0]}}\n'


def test_lines_are_there_as_soon_as_the_step_is_done() -> None:
    """A killed process loses nothing that was reported."""
    metrics = Metrics(PATH, 0)
    for number in (1, 2):
        metrics.step(step(number))
        assert steps()[-1] == number
    metrics.stop(None)
    assert steps() == [1, 2]


@pytest.mark.parametrize("start", [0, 1, 2, 3])
def test_a_resumed_run_reads_like_one_that_never_stopped(start: int) -> None:
    write(0, 1, 2, 3, 4)
    whole = PATH.read_text()
    write(0, 1, 2, 3)
    write(start, *range(start + 1, 5))
    assert PATH.read_text() == whole


@pytest.mark.parametrize(
    "damage", [b'{"step": 3, "los', b'{"step": 3, "losses": {}}', b"\xff\xfe\n", b"\0\0\0", b"[]\n", b'{"step": "3"}\n']
)
def test_a_damaged_end_is_cut_off(damage: bytes) -> None:
    """The third line was half written when the machine died; the state may still be of step 3 or later."""
    write(0, 1, 2)
    whole = PATH.read_bytes()
    PATH.write_bytes(whole + damage)
    Metrics(PATH, 5).stop(None)
    assert PATH.read_bytes() == whole


def test_a_new_run_starts_an_empty_file() -> None:
    PATH.parent.mkdir()
    PATH.write_text("anything\n")
    write(0)
    assert PATH.read_text() == ""


def test_a_full_disk_is_one_sentence() -> None:
    metrics = Metrics(PATH, 0)
    real = metrics.file

    class Full:
        def write(self, _: str) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    metrics.file = Full()
    with pytest.raises(OutputError, match=r"metrics\.jsonl': No space left"):
        metrics.step(step(1))
    real.close()


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["step", "x"]), inner, max_size=2),
)


@settings(max_examples=100, deadline=None)
@given(st.lists(VALUES | st.builds(lambda step: {"step": step}, VALUES), max_size=4), st.integers(0, 9))
def test_lines_of_any_kind_are_kept_or_cut_off(rows: list[object], start: int) -> None:
    PATH.parent.mkdir(exist_ok=True)
    seeds = ['{"step": 1e400}', '{"step": ' + "9" * 5000 + "}", "[" * 5000, '{"step": NaN}']
    for tail in ("", *seeds):
        PATH.write_text("".join(json.dumps(row) + "\n" for row in rows) + tail + "\n")
        Metrics(PATH, start).stop(None)
        assert all(json.loads(line)["step"] <= start for line in PATH.read_text().splitlines())
