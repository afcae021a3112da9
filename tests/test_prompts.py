"""The prompt language: what the contract says of every form, and that writing and reading are inverse."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqclip.common.errors import UsageError
from vqclip.config.prompts import Prompt, parse_prompts


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a red apple", [Prompt("a red apple")]),
        ("a cat:2", [Prompt("a cat", 2)]),
        ("a cat:-0.5:-0.9", [Prompt("a cat", -0.5, -0.9)]),
        ("a cat:+1.5", [Prompt("a cat", 1.5)]),
        ("a cat | fog:-1", [Prompt("a cat"), Prompt("fog", -1)]),
        ("  spaced out :2 ", [Prompt("spaced out", 2)]),
        ("at 10:30", [Prompt("at 10:30")]),
        ("16:9", [Prompt("16:9")]),
        ("the year 1980 :2", [Prompt("the year 1980", 2)]),
        ("10:30:5", [Prompt("10:30:5")]),
        ("a 16:9 photo:3", [Prompt("a 16:9 photo", 3)]),
        ("see http://host:80", [Prompt("see http://host:80")]),
        ("http://host:80 poster:2", [Prompt("http://host:80 poster", 2)]),
        ("a photo: the sea", [Prompt("a photo: the sea")]),
        ("cat:", [Prompt("cat:")]),
        ("cat:.5", [Prompt("cat:.5")]),
        ("cat:1e3", [Prompt("cat:1e3")]),
        (r"cat\:2", [Prompt("cat:2")]),
        (r"a\|b", [Prompt("a|b")]),
        (r"a\\:2", [Prompt("a\\", 2)]),
        (r"C:\dir", [Prompt("C:\\dir")]),
        ("[red] ${oc.env:HOME} ???", [Prompt("[red] ${oc.env:HOME} ???")]),
        ("nantucket:2", [Prompt("nantucket", 2)]),
        ("日本:2", [Prompt("日本", 2)]),
    ],
)
def test_forms(source: str, expected: list[Prompt]) -> None:
    assert parse_prompts(source) == expected


@pytest.mark.parametrize(
    ("source", "column"),
    [
        ("", 1),
        ("   ", 1),
        ("a | ", 4),
        ("a||b", 3),
        ("| a", 1),
        (":2", 1),
        ("cat:1:2:3", 4),
        ("cat:nan", 4),
        ("cat:-inf", 4),
        ("cat:NaN:1", 4),
        ("a\\", 2),
        (r"\|a | b:1:2:3", 8),
        ("x:" + "9" * 400, 2),
    ],
)
def test_errors_give_the_column(source: str, column: int) -> None:
    with pytest.raises(UsageError, match=f"column {column}:"):
        parse_prompts(source)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: text == text.strip() and text
)
numbers = st.decimals(-1000, 1000, places=3).map(float)
prompts = st.builds(Prompt, texts, numbers, st.one_of(st.just(-math.inf), numbers))


@given(st.lists(prompts, min_size=1, max_size=4))
def test_written_prompts_read_back(expected: list[Prompt]) -> None:
    assert parse_prompts("|".join(map(str, expected))) == expected


@given(st.text())
def test_any_text_is_read_or_refused_in_words(source: str) -> None:
    try:
        found = parse_prompts(source)
    except UsageError:
        return
    assert all(prompt.text.strip() and math.isfinite(prompt.weight) for prompt in found)
