"""The hint about unknown words: never for what training captions say, always for what they never say."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqclip.config.vocabulary import hint, known_words, unknown_words
from vqclip.tools.evaluate import read_prompts


@pytest.mark.parametrize("name", ["heldout-single", "heldout-composed"])
def test_held_out_prompts_hold_no_unknown_word(name: str) -> None:
    assert hint(read_prompts(name).prompts) is None


@pytest.mark.parametrize(
    "text",
    [
        "a watercolour portrait of a woman teacher with a book",
        "an oil painting of a woman technologist with a computer",
        "an oil portrait of an old man teacher in front of a blackboard",
        "two cats",
        "3 Dogs, 10:30!",
        "",
    ],
)
def test_plain_words_plurals_and_numbers_are_known(text: str) -> None:
    assert hint([text]) is None


def test_a_typo_gets_its_neighbour_and_the_open_world_a_way_out() -> None:
    said = hint(["an astronot in a lighthouse"])
    assert said is not None
    assert "'astronot' (nearest: astronaut" in said and "'lighthouse'" in said and "vqclip config list" in said


def test_each_word_is_named_once_and_in_order() -> None:
    assert list(unknown_words("zzz qqq zzz cat-qqq's", {"cat"})) == ["zzz", "qqq", "cat-qqq's"]


@given(st.text())
def test_any_text_is_read_without_failing(text: str) -> None:
    for word, near in unknown_words(text, {"cat", "dog"}).items():
        assert word == word.lower() or (word and set(near) <= {"cat", "dog"})


def test_training_captions_hold_no_unknown_word() -> None:
    scenes = pytest.importorskip("scenes")
    scene_words = pytest.importorskip("scene_words")
    scene_things = pytest.importorskip("scene_things")
    if scene_things.font_path() is None:
        pytest.skip("Noto Color Emoji is not installed")
    known = known_words()
    for index in range(300):
        text, _ = scene_words.caption(scenes.training_scene(99, index), random.Random(index))
        assert not unknown_words(text, known)
