"""The hint about unknown words: never for what training captions say, always for what they never say."""

import random
import re
from pathlib import Path

import pytest
import torch
from command import Command
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from scripts.data import scene_styles, scene_things, scene_words, scenes
from scripts.documents import ROOT
from vqclip.common.paths import embedded_dir
from vqclip.config.loader import load_config
from vqclip.config.vocabulary import Vocabulary, as_caption, hint, known_words, read_vocabulary, unknown_words
from vqclip.hub.clip_files import find_clip
from vqclip.hub.prior_files import find_prior
from vqclip.hub.vqgan_files import find_vqgan
from vqclip.models.perceptor import load_perceptor
from vqclip.models.rerank import load_proposer
from vqclip.models.vqgan import load_vqgan
from vqclip.outputs.metadata import Metadata
from vqclip.outputs.picture import save_picture
from vqclip.tools.evaluate import read_prompts


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


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


def test_the_document_of_words_is_complete_and_right() -> None:
    page = (ROOT / "docs" / "prompts.md").read_text("utf-8")
    table = page.split("## Words that the embedded models know")[1].split("`scripts/data/things.txt`")[0]
    worded = (scenes.RELATIONS, scenes.SIDES, scene_styles.STYLES)
    phrases = [words[0] for kinds in worded for words in kinds.values()]
    for phrase in (*phrases, *scenes.PLACES, *scenes.PATTERNS, *scenes.SIZES, *scene_things.COLOURS):
        assert re.search(rf"\b{phrase.removeprefix('a ')}", table), phrase
    quoted = re.findall(r'"([^"]+)"', table)
    assert len(quoted) > 25 and hint(quoted) is None


def test_a_typo_gets_its_neighbour_and_the_open_world_a_way_out() -> None:
    said = hint(["an astronot in a lighthouse"])
    assert said is not None
    assert "'astronot' (nearest: astronaut" in said and "'lighthouse'" in said and "vqclip models list" in said


def test_each_word_is_named_once_and_in_order() -> None:
    assert unknown_words("zzz qqq zzz cat-qqq's", {"cat"}) == ["zzz", "qqq", "cat-qqq's"]


@given(st.text())
def test_any_text_is_read_without_failing(text: str) -> None:
    caption = as_caption(text)
    assert as_caption(caption) == caption and caption == caption.strip() and "  " not in caption
    assert all(word == word.lower() for word in unknown_words(text, {"cat", "dog"}))


@pytest.mark.parametrize(
    ("text", "caption"),
    [
        ("a red apple.", "a red apple"),
        ("  A  Red\tApple!  ", "a red apple"),
        ('"a red apple"', "a red apple"),
        ("“a ‘red’ apple”…", "a red apple"),
        ("a cat’s face", "a cat's face"),
        ("a cat. A dog? yes", "a cat, a dog, yes"),
        ("a cat , a dog,", "a cat, a dog"),
        ("a (red) apple", "a red apple"),
        ("🍎", "red apple"),
        ("a 🐶️ on a 🚀.", "a dog face on a rocket"),
        ("👩🏽‍🚒", "woman fire engine"),
        ("up-to-date", "up-to-date"),
        ("…!", ""),
        ("３ cats", "3 cats"),
    ],
)
def test_a_text_is_written_as_the_training_wrote(text: str, caption: str) -> None:
    assert as_caption(text) == caption


@pytest.mark.parametrize("text", ["🍎", "a red apple.", "'A RED APPLE!'"])
def test_what_becomes_a_caption_needs_no_hint(text: str) -> None:
    assert hint([text]) is None


def test_a_text_without_a_word_is_named_and_a_hint_stays_short() -> None:
    assert "'!!!', which holds no word" in (hint(["!!!"]) or "")
    said = hint(f"zz{chr(97 + number % 26)}{chr(97 + number // 26)}" for number in range(400)) or ""
    assert "and 392 more" in said and len(said) < 600


def test_the_prior_and_the_embedded_clip_read_captions() -> None:
    files = find_clip("embedded")
    perceptor = load_perceptor(files, torch.device("cpu"))
    assert torch.equal(*(perceptor.encode_text([text])[0] for text in ("A red apple.", "a red apple")))
    proposer = load_proposer(find_prior("embedded"), load_vqgan(find_vqgan(load_config().vqgan).path))
    assert torch.equal(*(proposer.tokenise([text]) for text in ("“A red apple”.", "a red apple")))


def test_training_captions_hold_no_unknown_word_and_stay_as_they_are() -> None:
    known = known_words()
    for index in range(300):
        text, _ = scene_words.caption(scenes.training_scene(99, index), random.Random(index))
        assert not unknown_words(text, known) and as_caption(text) == text.lower()


@pytest.mark.parametrize(
    "words",
    [
        ["generate", "a lighthouse", "--dry-run"],
        ["sample", "a lighthouse", "--dry-run"],
        ["score", "a.png", "-p", "a lighthouse"],
        ["classify", "a.png", "-l", "cat,lighthouse"],
        ["search", ".", "a lighthouse"],
        ["batch", "jobs.txt", "-o", "out", "--limit", "1", "--steps", "0", "--set", "prior.candidates=1"],
        ["evaluate", "jobs.txt", "--first", "1", "--set", "optimise.steps=0", "--set", "prior.candidates=1"],
    ],
    ids=lambda words: str(words[0]),
)
def test_every_command_that_reads_words_has_the_hint(run: Command, words: list[str]) -> None:
    Image.new("RGB", (32, 32), "red").save("a.png")
    Path("jobs.txt").write_text("a cat\na lighthouse\n")
    done = run(*words)
    assert done.code == 0 and done.stderr.count("'lighthouse'") == 1, done.stderr
    assert "'lighthouse'" not in run(*words, "-q").stderr


def test_the_embedded_clip_says_that_it_knows_no_photographs(run: Command) -> None:
    """Once, and only of a picture that vqclip did not make."""
    Image.new("RGB", (32, 32), "red").save("holiday.jpg")
    save_picture(Path("ours.png"), torch.zeros(3, 32, 32), Metadata("0.1.0", "a cat", 1, {}, None))
    said = run("score", "ours.png", "holiday.jpg", "holiday.jpg", "-p", "a cat").stderr
    assert said.count("was not made by vqclip") == 1 and "'holiday.jpg'" in said and "vqclip models pull" in said
    assert "was not made" not in run("classify", "ours.png", "-l", "cat,dog").stderr
    assert "was not made" not in run("classify", "ours.png", "holiday.jpg", "-l", "cat,dog", "-q").stderr


SMALL = Vocabulary(
    frozenset({"a", "the", "in", "on", "of", "by", "sea", "cat", "cats", "red", "picture"}),
    {"kitten": "cat", "kittens": "cats", "on the beach": "by the sea", "photograph": "picture"},
)


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("a red cat", "a red cat"),
        ("A kitten on the beach.", "a cat by the sea"),
        ("kittens", "cats"),
        ("a cute kitten in the style of Klimt, highly detailed, 4k", "a cat"),
        ("a photograph of a red zzz cat", "a picture of a red cat"),
        ("a kitten-shaped cat", "a cat"),
        ("a griffin", "a griffin"),
        ("a griffin in the zzz, on a", "a griffin in the zzz, on a"),
        ("cat, the, cat", "cat, the, cat"),
        ("", ""),
    ],
)
def test_what_the_models_never_learned_is_passed_over(text: str, read: str) -> None:
    assert SMALL.familiar(text) == read


@given(st.lists(st.sampled_from(["a", "kitten", "zzz", "on the beach", ",", "cat", "4k", "."])).map(" ".join))
def test_what_is_read_is_read_the_same_again(text: str) -> None:
    assert SMALL.familiar(SMALL.familiar(text)) == SMALL.familiar(text)


def test_training_captions_are_read_as_they_are() -> None:
    known = read_vocabulary(embedded_dir())
    assert known is not None
    for index in range(300):
        text, _ = scene_words.caption(scenes.training_scene(98, index), random.Random(index))
        assert known.familiar(text) == text.lower()


def test_synonyms_are_new_words_for_known_ones() -> None:
    known = read_vocabulary(embedded_dir())
    assert known is not None and len(known.synonyms) > 100
    for word, meaning in known.synonyms.items():
        assert " " in word or unknown_words(word, known.words), f"{word} is known already"
        assert not unknown_words(meaning, known.words), meaning
        assert known.familiar(word) == known.familiar(meaning) == meaning


def test_guide_and_prior_read_a_synonym_as_what_it_stands_for() -> None:
    perceptor = load_perceptor(find_clip("embedded"), torch.device("cpu"))
    proposer = load_proposer(find_prior("embedded"), load_vqgan(find_vqgan(load_config().vqgan).path))
    texts = "A cute kitten on the beach, trending on artstation", "a cat by the sea"
    assert torch.equal(*(perceptor.encode_text([text])[0] for text in texts))
    assert torch.equal(*(proposer.tokenise([text]) for text in texts))
