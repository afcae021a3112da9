"""The prompt language: what the contract says of every form, and that writing and reading are inverse."""

import contextlib
import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqclip.common.errors import UsageError
from vqclip.config.prompts import Prompt, files_of, foreign_weights, likeness, parse_prompts, with_files
from vqclip.config.regions import caption


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
        ("cat:.5", [Prompt("cat", 0.5)]),
        ("cat:1e3", [Prompt("cat", 1000)]),
        ("cat:1.", [Prompt("cat", 1)]),
        ("cat:-.5", [Prompt("cat", -0.5)]),
        ("cat:1E-1:-2e0", [Prompt("cat", 0.1, -2)]),
        ("a red apple | a boat: 0", [Prompt("a red apple"), Prompt("a boat", 0)]),
        ("a boat : -0.5 : -0.9 | fog", [Prompt("a boat", -0.5, -0.9), Prompt("fog")]),
        ("at 10: 30", [Prompt("at 10: 30")]),
        ("a photo: 2 cats", [Prompt("a photo: 2 cats")]),
        ("my photo: 2nd try", [Prompt("my photo: 2nd try")]),
        ("http://a/b:80%", [Prompt("http://a/b:80%")]),
        ("at 10:30%", [Prompt("at 10:30%")]),
        (r"cat\:1,5", [Prompt("cat:1,5")]),
        ("cat: :2", [Prompt("cat:", 2)]),
        ("(red cube:0.15), (green sphere:1.3)", [Prompt("(red cube:0.15), (green sphere:1.3)")]),
        (r"cat\:2", [Prompt("cat:2")]),
        (r"a\|b", [Prompt("a|b")]),
        (r"a\\:2", [Prompt("a\\", 2)]),
        (r"C:\dir", [Prompt("C:\\dir")]),
        ("[red] ${oc.env:HOME} ???", [Prompt("[red] ${oc.env:HOME} ???")]),
        ("@image:a.png", [Prompt("a.png", kind="image")]),
        ("@image:photo1:2:0.3", [Prompt("photo1", 2, 0.3, "image")]),
        ("@noise:7", [Prompt("7", kind="noise")]),
        (
            "@noise:7:0.5 | @vector:textoff:-.1",
            [Prompt("7", 0.5, kind="noise"), Prompt("textoff", -0.1, kind="vector")],
        ),
        ("@vector:my dir/v.safetensors", [Prompt("my dir/v.safetensors", kind="vector")]),
        (r"\@image:a.png", [Prompt("@image:a.png")]),
        ("mail @home", [Prompt("mail @home")]),
        ("@home", [Prompt("@home")]),
        ("[left] a cat:2", [Prompt("a cat", 2, region="left")]),
        (" [Top  LEFT] a cat", [Prompt("a cat", region="top left")]),
        ("[centre] a cat", [Prompt("a cat", region="middle")]),
        ("[25%,0,50%,64] a cat", [Prompt("a cat", region="25%,0,50%,64")]),
        ("[in m.png] @image:a.png:2", [Prompt("a.png", 2, kind="image", region="in m.png")]),
        (r"[in a\]b.png] a", [Prompt("a", region="in a]b.png")]),
        (r"[in a\[1\].png] a sun", [Prompt("a sun", region="in a[1].png")]),
        ("[in  my  mask.png ] a sun", [Prompt("a sun", region="in my  mask.png")]),
        ("a cat:0.0000001", [Prompt("a cat", 1e-7)]),
        (r"\[left] a cat", [Prompt("[left] a cat")]),
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
        ("x:1e999", 2),
        ("a boat:1,5", 7),
        ("a boat: 0.5.1", 7),
        ("a boat:--1", 7),
        ("a boat:1/2", 7),
        ("a boat:½", 7),
        ("a boat:50%", 7),
        ("a boat:2x", 7),
        ("a boat:1_000", 7),
        ("a boat:٣", 7),
        ("a boat:２", 7),
        ("a boat:−1", 7),
        ("fog | a boat:1,5", 13),
        ("a boat: infinity", 7),
        ("a | @imag:b.png", 6),
        ("a | @image:", 4),
        ("@image:http://host/a.png", 8),
        ("@noise:x", 8),
        ("@noise:1:2:3:4", 9),
        ("@vector:texof", 9),
        ("@image:a.png:1,5", 13),
        ("a | [lefft] b", 6),
        ("[1,2,3] a", 2),
        ("[0,0,0,5] a", 2),
        ("[-1,0,5,5] a", 2),
        ("[in ] a", 2),
        ("[left]", 1),
    ],
)
def test_errors_give_the_column(source: str, column: int) -> None:
    with pytest.raises(UsageError, match=f"column {column}:"):
        parse_prompts(source)


@pytest.mark.parametrize("unit", [":1", "a:1 ", "a:", "|a", ":::", "a ://", "\\:", " ", "1", "1.", "a:1,", ": 1", "-"])
def test_reading_takes_time_in_proportion_to_the_length(unit: str) -> None:
    def seconds(length: int) -> float:
        source = "a:1" + unit * (length // len(unit))
        began = time.process_time()
        with contextlib.suppress(UsageError):
            foreign_weights(parse_prompts(source))
        return time.process_time() - began

    assert min(seconds(16_000) for _ in range(3)) < 2  # the pattern of old took 22 s for `:1`


def test_a_prompt_is_not_longer_than_is_read_and_its_error_not_than_a_line() -> None:
    with pytest.raises(UsageError, match="at most 20,000"):
        parse_prompts("a" * 20_001)
    with pytest.raises(UsageError, match="column 19997") as caught:
        parse_prompts("a" * 19_996 + ":1,5")
    assert len(str(caught.value)) < 300 and ":1,5" in str(caught.value)


@pytest.mark.parametrize(
    ("source", "noted"),
    [
        ("(red cube:0.15), (green sphere:1.3)", True),
        ("mountain:1 man:1", True),
        ("cat::2 dog::1", True),
        ("[fog:.5]", True),
        ("a 16:9 photo at 10:30", False),
        ("a red apple:2 | fog:-1", False),
        ("a photo: 2 cats", False),
        ("C3:PO", False),
    ],
)
def test_weights_as_others_write_them_get_a_note(source: str, noted: bool) -> None:
    notes = foreign_weights(parse_prompts(source))
    assert bool(notes) == noted and all("red cube:0.15 | green sphere:1.3" in note for note in notes)


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(
    lambda text: text == text.strip() and text
)
numbers = st.floats(allow_nan=False, allow_infinity=False)
stops = st.one_of(st.just(-math.inf), numbers)
regions = st.one_of(st.sampled_from(["", "left", "top half", "1,2,3,4"]), texts.map("in {}".format))
prompts = st.one_of(
    st.builds(Prompt, texts, numbers, stops, region=regions),
    st.builds(Prompt, texts, numbers, stops, st.just("image"), regions).filter(lambda prompt: "://" not in prompt.text),
    st.builds(Prompt, st.sampled_from(["textoff", "a b:1.safetensors"]), numbers, stops, st.just("vector"), regions),
    st.builds(Prompt, st.sampled_from(["0", "12"]), numbers, stops, st.just("noise"), regions),
)


@given(st.lists(prompts, min_size=1, max_size=4))
def test_written_prompts_read_back(expected: list[Prompt]) -> None:
    assert parse_prompts("|".join(map(str, expected))) == expected


@given(texts)
def test_a_mask_of_any_name_gets_another_place(name: str) -> None:
    """As a plan does, whose paths are whole: the folder's name may hold anything, too."""
    source = str(Prompt("a sun", region=f"in {name}"))
    assert files_of([with_files(source, lambda file: f"/[1]  a|b/{file}")]) == [f"/[1]  a|b/{name}"]


@given(st.text())
def test_any_text_is_read_or_refused_in_words(source: str) -> None:
    try:
        found = parse_prompts(source)
    except UsageError:
        return
    assert all(prompt.text.strip() and math.isfinite(prompt.weight) for prompt in found)


def test_bytes_that_are_no_text_are_refused() -> None:
    """As the shell hands over a prompt in another encoding."""
    for source in ("a \udcff cat", "\ud800"):
        with pytest.raises(UsageError, match="no UTF-8 text"):
            parse_prompts(source)


def test_files_of_prompts_are_found_and_changed() -> None:
    source = "[in m.png] a cat:2 | @image:a.png:0.5 | @vector:textoff | @vector:v.safetensors"
    assert files_of([source, "@image:a.png"]) == ["m.png", "a.png", "v.safetensors"]
    changed = parse_prompts(with_files(source, lambda file: f"/x:1/{file}"))
    assert files_of([with_files(source, lambda file: f"/x:1/{file}")]) == [
        "/x:1/m.png",
        "/x:1/a.png",
        "/x:1/v.safetensors",
    ]
    assert [each.weight for each in changed] == [2, 0.5, 1, 1] and changed[0].text == "a cat"
    assert with_files(" a cat :2|fog", str.upper) == " a cat :2|fog"


@pytest.mark.parametrize(
    ("sources", "file"),
    [
        (["a cat"], None),
        ([], None),
        (["a cat | @image:a.png"], "a.png"),
        (["@image:a.png | x", "@image:a.png | y"], "a.png"),
        (["@image:a.png", "@image:b.png"], None),
        (["@image:a.png:-1"], None),
        (["[left] @image:a.png"], None),
        (["@foo:a.png"], None),
    ],
)
def test_a_likeness_is_one_picture_that_all_are_to_resemble(sources: list[str], file: str | None) -> None:
    assert likeness(sources) == file


@pytest.mark.parametrize(
    ("placed", "expected"),
    [
        ([("a cat", "left")], "a cat on the left"),
        ([("a cat", "left"), ("a dog", "right third")], "a cat to the left of a dog"),
        ([("a sun", "10%,0,20%,20%"), ("a boat", "bottom half")], "a sun above a boat"),
        ([("a cat", ""), ("a dog", "bottom")], "a cat, a dog at the bottom"),
        ([("a cat", "middle"), ("a dog", "20,0,4,4"), ("a sun", "in m.png")], "a cat, a dog, a sun"),
    ],
)
def test_regions_are_said_in_the_prior_s_captions(placed: list[tuple[str, str]], expected: str) -> None:
    assert caption(placed) == expected
