"""Text, YAML and JSON that others wrote: read as data and within bounds, or refused in one sentence."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vqclip.common.errors import UsageError
from vqclip.common.text import parse_json, parse_yaml, read_text

HOSTILE = (
    "a: !!int ''",
    "a: !!float ''",
    "a: !!bool maybe",
    "a: !!timestamp x",
    "a: !!binary x",
    "a: !!set {b}",
    "a: 1" + "0" * 5000,
    "a: \x07",
    "a: &x [1]\nb: *x",
    "? [a]\n: b",
    "<<: 1",
    "!!python/object/apply:os.system [x]",
    "[" * 100_000,
    "{a: " * 100_000,
    "- " * 100_000,
    "? " * 100_000,
)


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:24]))
def test_hostile_yaml_is_one_sentence_and_quick(text: str) -> None:
    began = time.process_time()
    with pytest.raises(UsageError, match=r"^jobs\.yaml.* is not usable YAML: .*\.$"):
        parse_yaml(text, "jobs.yaml")
    assert time.process_time() - began < 5


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("a:-[]{}!&*?|>'\"#%@<,. \n\t0x1_e+~"), max_size=40) | st.sampled_from(HOSTILE[:12]))
def test_any_yaml_is_plain_data_or_a_sentence(text: str) -> None:
    with contextlib.suppress(UsageError):
        assert _is_plain(parse_yaml(text, "x"))


def _is_plain(value: Any) -> bool:
    if isinstance(value, dict):
        return all(_is_plain(key) and _is_plain(inner) for key, inner in value.items())
    if isinstance(value, list):
        return all(_is_plain(inner) for inner in value)
    return value is None or type(value) in (str, int, float, bool)


def test_dates_stay_text() -> None:
    assert parse_yaml("a: 2026-11-25\nb: 1\nc: 1.5\nd: yes\ne: null", "x") == {
        "a": "2026-11-25",
        "b": 1,
        "c": 1.5,
        "d": True,
        "e": None,
    }


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"a":' * 100_000, "NaN", "[Infinity]", "-Infinity", "", "\ud800", b"\xff"]
)
def test_hostile_json_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError):
        parse_json(text)


def test_a_byte_order_mark_is_no_part_of_a_text() -> None:
    Path("labels.txt").write_bytes(b"\xef\xbb\xbfcat\ndog\n")
    assert read_text("labels.txt", "the labels in") == "cat\ndog\n"


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: path.write_bytes(b"cat\n\xe9\n"), "line 2 is not UTF-8 text; save it as UTF-8"),
        (lambda path: path.write_bytes("cat".encode("utf-16")), "line 1 is not UTF-8"),
        (lambda path: path.write_bytes(b"x" * 101), "longer than 0.0001 MB"),
        (lambda path: path.symlink_to("/dev/zero"), "longer than"),
    ],
)
def test_a_text_that_cannot_be_read_says_why(make: Any, says: str) -> None:
    make(Path("labels.txt"))
    with pytest.raises(UsageError, match=rf"^Cannot read the labels in 'labels.txt': .*{says}"):
        read_text("labels.txt", "the labels in", limit=100)


@pytest.mark.parametrize("name", ["n" * 300, "a\0b", os.fsdecode(b"\xff")])
def test_a_name_that_can_be_no_file_says_so(name: str) -> None:
    with pytest.raises(UsageError, match=r"^Cannot read the config "):
        read_text(name, "the config")


@pytest.mark.parametrize("words", ["score - -p a", "config show -", "batch - -o out"])
def test_a_standard_input_that_is_closed_is_a_sentence(words: str) -> None:
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "vqclip", *words.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "it is closed" in done.stderr and "Traceback" not in done.stderr, done


@pytest.mark.parametrize("text", ["[" * 500_000, '{"a":' * 5000, "[" * 51 + "]" * 51, '[{"a": ' * 30])
def test_json_that_is_too_deep_is_refused_without_recursion(text: str) -> None:
    with pytest.raises(ValueError, match="too deeply"):
        parse_json(text)


@pytest.mark.parametrize("text", ["[" * 50 + "]" * 50, '["' + "[{" * 500 + '"]', '{"a": "\\"' + "[" * 99 + '"}'])
def test_brackets_in_strings_are_not_depth(text: str) -> None:
    assert parse_json(text) == json.loads(text) == parse_json(text.encode())
