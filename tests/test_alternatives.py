"""Alternatives and lists: one prompt that stands for several pictures."""

from itertools import product
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqclip.common.errors import UsageError
from vqclip.config.alternatives import LONGEST_LIST, MOST, alternatives, expand
from vqclip.config.loader import load_config
from vqclip.config.prompts import Prompt, parse_prompts


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("a cat", ["a cat"]),
        ("a {red|green} cat", ["a red cat", "a green cat"]),
        ("{a|b} {c|d}", ["a c", "a d", "b c", "b d"]),
        ("{a|{b|c} d}", ["a", "b d", "c d"]),
        ("a {|very} big cat", ["a  big cat", "a very big cat"]),
        ("{a cat:2|a dog} | fog:-1", ["a cat:2 | fog:-1", "a dog | fog:-1"]),
        ("{prompt} ${oc.env:HOME} {a{b|c}}", ["{prompt} ${oc.env:HOME} {ab}", "{prompt} ${oc.env:HOME} {ac}"]),
        (r"\{a|b\}", [r"\{a|b\}"]),
        (r"{a\|b|c\:1}", [r"a\|b", r"c\:1"]),
        ("a } b {", ["a } b {"]),
    ],
)
def test_alternatives(source: str, expected: list[str]) -> None:
    assert alternatives(source) == expected


words = st.text("abc", min_size=1, max_size=3)


@given(st.lists(st.lists(words, min_size=2, max_size=3), min_size=1, max_size=3))
def test_several_alternatives_are_all_combinations(choices: list[list[str]]) -> None:
    source = " ".join("{" + "|".join(each) + "}" for each in choices)
    assert alternatives(source) == [" ".join(each) for each in product(*choices)]


@given(st.text("ab{}|\\[]@: "))
def test_what_alternatives_stand_for_has_none_itself(source: str) -> None:
    try:
        found = alternatives(source)
    except UsageError:
        return
    assert all(alternatives(each) == [each] for each in found)


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("a {b|c", "column 3: these braces are not closed"),
        (r"\{ {b|", "column 4: these braces are not closed"),
        ("{a|b}" * 10, f"more than {MOST} pictures"),
        ("{" * 21 + "|", "column 21: more than 20 braces"),
        ("a\\", "column 2: a backslash ends"),
    ],
)
def test_wrong_braces_are_one_sentence(source: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        alternatives(source)


def test_braces_by_the_thousand_take_no_time() -> None:
    with pytest.raises(UsageError, match="more than"):
        alternatives("{a|b}" * 4000)
    assert alternatives("{a}" * 6000) == ["{a}" * 6000]


def test_a_single_picture_has_no_alternatives() -> None:
    with pytest.raises(UsageError, match="column 3: alternatives stand for several"):
        parse_prompts("a {b|c}")
    assert parse_prompts(r"a \{b\|c\}") == [Prompt("a {b|c}")]


def test_a_list_is_a_picture_a_line() -> None:
    Path("l.txt").write_text("# pets\na cat\n\na {red|blue} dog:2\n")
    assert expand(["@l.txt", "a boat"]) == ["a cat", "a red dog:2", "a blue dog:2", "a boat"]
    assert load_config([], [], {"prompts": ["@l.txt"]}).prompts == ["a cat", "a red dog:2", "a blue dog:2"]


def test_a_list_may_lie_at_home(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("l.txt").write_text("a cat\na dog\n")
    assert expand(["@~/l.txt"]) == ["a cat", "a dog"]


def test_a_list_that_cannot_be_read_is_one_sentence() -> None:
    Path("outer.txt").write_text("a cat\n@inner.txt\n")
    Path("empty.txt").write_text("# nothing\n")
    Path("long.txt").write_text("a\n" * (LONGEST_LIST + 1))
    for name, says in {
        "outer": "holds a list, '@inner.txt'",
        "empty": "holds no prompt",
        "gone": "Cannot read the prompts in 'gone.txt'",
        "long": "vqclip batch long.txt",
    }.items():
        with pytest.raises(UsageError, match=says):
            expand([f"@{name}.txt"])
