"""The drawn scenes: repeatable, true to their captions, and without what is held out.

Most tests draw, so they need the emoji font (Debian: fonts-noto-color-emoji) and Pillow with raqm.
"""

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, features

from scripts.data import draw_scenes, scene_styles, scene_things, scene_vectors, scene_words, scenes
from scripts.data.scene_book import open_book
from scripts.data.scenes import Scene

drawn = pytest.mark.skipif(
    scene_things.font_path() is None or not features.check("raqm"),
    reason="needs the font Noto Color Emoji (Debian: fonts-noto-color-emoji) and Pillow with raqm",
)
LISTS = ("single", "composed")


@pytest.mark.parametrize("kind", LISTS)
def test_the_lists_hold_100_prompts_of_known_things(kind: str) -> None:
    prompts = scenes.heldout_prompts(kind)
    assert len(set(prompts)) == len(prompts) == 100
    for prompt in prompts:
        scene = scenes.parse_prompt(prompt)
        assert scene.first in scene_things.things()
        assert scenes.is_held_out(scene)


@pytest.mark.parametrize(
    ("prompt", "scene"),
    [
        ("a cat on a blue background", Scene("cat", ground_colour="blue")),
        ("an eagle on an orange background", Scene("eagle", ground_colour="orange")),
        ("grapes below a snail", Scene("grapes", "snail", place="below")),
        ("a man teacher to the left of an owl", Scene("man teacher", "owl", place="left of")),
        ("an oil painting of cherries at the top", Scene("cherries", place="top", style="oil")),
    ],
)
def test_prompts_of_the_three_forms_are_understood(prompt: str, scene: Scene) -> None:
    assert scenes.parse_prompt(prompt) == scene


@pytest.mark.parametrize("prompt", ["a cat", "a flurble on a blue background", "a cat beside a dog"])
def test_other_prompts_are_refused(prompt: str) -> None:
    with pytest.raises(ValueError, match=r"no thing named|known form"):
        scenes.parse_prompt(prompt)


def test_a_held_out_pair_is_held_out_in_every_disguise() -> None:
    thing, colour = "anchor", "brown"
    assert f"an {thing} on a {colour} background" in scenes.heldout_prompts("single")
    assert scenes.is_held_out(Scene(thing, ground="striped", ground_colour=colour, size="big"))
    assert scenes.is_held_out(Scene("cat", thing, place="above", ground_colour=colour))
    assert not scenes.is_held_out(Scene(thing, ground_colour="grey"))
    first, second = "unicorn", "motorcycle"
    assert f"a {first} to the right of a {second}" in scenes.heldout_prompts("composed")
    assert scenes.is_held_out(Scene(second, first, place="below", ground_colour="white"))


@drawn
def test_training_never_meets_what_is_held_out() -> None:
    # With 200 combinations of 1,300 things about one scene in 400 would hit one without the refusal.
    assert not any(scenes.is_held_out(scenes.training_scene(3, index)) for index in range(4000))


@drawn
def test_two_of_three_portraits_show_a_man_or_woman_and_many_stand_at_a_blackboard() -> None:
    portraits = [scenes.training_scene(3, index, kind="portraits") for index in range(0, 2000, 2)]
    assert all(scene.size == "big" or scene.place == scenes.HOLDING for scene in portraits)
    assert not any(scenes.is_held_out(scene) for scene in portraits)
    plain = [scene for scene in portraits if scene.first in scenes.TEACHERS]
    assert len(plain) == pytest.approx(600, abs=60)
    assert sum(scene.ground == scenes.BLACKBOARD for scene in plain) > 100
    assert sum(scene.second == scenes.BOOK for scene in plain) > 80
    said = {word for name in scenes.TEACHERS for word in scenes.TEACHERS[name]}
    for scene in plain[:100]:
        words = scene_words.caption(scene, random.Random(1), complete=True)[0]
        assert scene_words.teaches(scene) or not any(word in words for word in said)


@drawn
def test_a_held_out_scene_is_refused_for_training(monkeypatch: pytest.MonkeyPatch) -> None:
    held_out = scenes.parse_prompt(scenes.heldout_prompts("single")[0])
    monkeypatch.setattr(draw_scenes, "training_scene", lambda seed, index, kind: held_out)
    with pytest.raises(ValueError, match="held out"):
        draw_scenes.training_example(0, 0)


@drawn
@pytest.mark.parametrize("kind", LISTS)
def test_the_held_out_scenes_are_exactly_those(kind: str) -> None:
    for number, prompt in enumerate(scenes.heldout_prompts(kind)):
        asked, scene = scenes.parse_prompt(prompt), scenes.heldout_scene(prompt, seed=1)
        assert (scene.first, scene.second) == (asked.first, asked.second)
        assert (scene.place, scene.style) == (asked.place, asked.style)
        if kind == "single":
            assert scene.ground_colour == asked.ground_colour
        assert draw_scenes.draw(scene, 1, number).size == (draw_scenes.SIDE, draw_scenes.SIDE)


@drawn
def test_a_scene_depends_on_seed_and_index_alone() -> None:
    forwards = [draw_scenes.training_example(7, index) for index in range(24)]
    backwards = [draw_scenes.training_example(7, index) for index in reversed(range(24))][::-1]
    for (scene, picture), (again, repeat) in zip(forwards, backwards, strict=True):
        assert scene == again
        assert np.array_equal(picture, repeat)
    other = draw_scenes.training_example(8, 0)
    assert not np.array_equal(forwards[0][1], other[1])


@drawn
def test_pairs_are_two_things_or_one_in_a_landscape() -> None:
    pairs = [scenes.training_scene(3, index, kind="pairs") for index in range(0, 1000, 2)]
    assert all(scene.place in scenes.RELATIONS if scene.second else not scene.place for scene in pairs)
    assert not any(scenes.is_held_out(scene) for scene in pairs)
    assert sum(bool(scene.second) for scene in pairs) == pytest.approx(325, abs=40)
    # a landscape is lost only where a grey style has no room for one
    alone = [scene for scene in pairs if not scene.second and scene.style not in scenes.GREY_STYLES]
    assert all(scene.ground in scenes.LANDSCAPES for scene in alone)


def test_a_held_book_is_two_white_pages_in_a_red_cover_with_dark_lines() -> None:
    book = np.asarray(open_book(96)).astype(int)
    assert book.shape == (96, 96, 4)
    assert np.abs(book - book[:, ::-1]).mean() < 3  # both pages are alike
    corners, fold, page = book[[0, 0, -1, -1], [0, -1, 0, -1]], book[60, 47], book[39, 30]
    assert (corners[:, 3] == 0).all()
    assert fold[:3].max() < 120 and page[:3].min() > 230
    for row in (32, 46, 60):  # the lines of text, as broad as the VQGAN needs
        dark = (book[row - 4 : row + 5, 70, :3].max(1) < 120).sum()
        assert dark >= 3
    left = book[48][book[48, :, 3] == 255][0]
    assert left[0] > 180 and left[1:3].max() < 60  # the cover's edge


@drawn
def test_only_a_book_without_a_colour_is_drawn_as_a_held_one(monkeypatch: pytest.MonkeyPatch) -> None:
    held = []
    monkeypatch.setattr(draw_scenes, "open_book", lambda side: held.append(side) or open_book(side))
    person = Scene("woman", scenes.BOOK, place=scenes.HOLDING, ground_colour="blue")
    for scene in (person, replace(person, second_colour="red"), Scene(scenes.BOOK), replace(person, second="cat")):
        draw_scenes.draw(scene, 1, 1, draw_scenes.CALM)
    assert held == [84]


def test_two_calm_things_are_large_and_hardly_overlap() -> None:
    for relation, (first, second) in scenes.OF_RELATION.items():
        spots = [spot for *_, spot in draw_scenes.calm_arrangement(Scene("cat", "dog", place=relation))]
        assert spots == [(*draw_scenes.PAIR_SPOTS[slot], draw_scenes.PAIR_SIDE) for slot in (first, second)]
    assert len({x % 8 for spot in draw_scenes.PAIR_SPOTS.values() for x in spot}) == 1  # alike on the grid of the codes
    side = draw_scenes.PAIR_SIDE
    assert all(side / 2 < x < draw_scenes.SIDE - side / 2 for spot in draw_scenes.PAIR_SPOTS.values() for x in spot)
    for one, other in (("left", "right"), ("top", "bottom")):
        across, down = np.abs(np.subtract(draw_scenes.PAIR_SPOTS[one], draw_scenes.PAIR_SPOTS[other]))
        assert (side - across) * (side - down) < 0.15 * side**2


def test_the_things_of_a_loose_scene_move_and_grow_together_on_the_grid_of_the_codes() -> None:
    spots = draw_scenes.calm_arrangement(Scene("cat", "dog", place="left of"))
    places = set()
    for seed in range(40):
        moved = draw_scenes.loosened(spots, np.random.default_rng(seed))
        steps = {
            (after[0] - before[0], after[1] - before[1]) for (*_, before), (*_, after) in zip(spots, moved, strict=True)
        }
        factors = {after[2] / before[2] for (*_, before), (*_, after) in zip(spots, moved, strict=True)}
        assert len(steps) == len(factors) == 1 and factors.pop() in draw_scenes.LOOSE_SIZES
        places |= steps
    assert len(places) == 9 and all(step % 8 == 0 for pair in places for step in pair)


@drawn
def test_only_a_loose_scene_leaves_the_place_to_chance() -> None:
    scene = Scene("cat", ground_colour="blue")

    def pictures(freedom: draw_scenes.Freedom) -> int:
        return len({draw_scenes.draw(scene, 3, index * 3, freedom).tobytes() for index in range(12)})

    assert pictures(draw_scenes.CALM) < 6 < pictures(draw_scenes.LOOSE)


def test_a_pillow_that_draws_joined_signs_apart_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scene_things.features, "check", lambda name: False)
    with pytest.raises(RuntimeError, match="no raqm"):
        scene_things.render_glyphs(Path("font.ttf"))


@drawn
def test_a_scene_is_the_same_at_twice_the_size(monkeypatch: pytest.MonkeyPatch) -> None:
    """Halved, a scene of 256 pixels is the one of 128 but for the fineness of edges, strokes and grain."""
    monkeypatch.setattr(
        draw_scenes,
        "vector_glyphs",
        lambda hand, scale: [glyph.repeat(scale, 0).repeat(scale, 1) for glyph in scene_things.glyphs()[:40]],
    )
    monkeypatch.setattr(draw_scenes, "first_glyph", lambda: dict.fromkeys(scene_things.names(), 3))
    large = draw_scenes.Canvas(2, "noto")
    for style in ("", *scene_styles.STYLES):
        for ground in ("plain", "striped", "in the snow", "at night", scenes.BLACKBOARD):
            colour = "" if ground in scenes.PLACES else "blue"
            scene = Scene("cat", place="left", ground=ground, ground_colour=colour, style=style)
            small = np.asarray(draw_scenes.draw(scene, 3, 1), dtype=float)
            twice = np.asarray(draw_scenes.draw(scene, 3, 1, canvas=large), dtype=float)
            assert twice.shape == (256, 256, 3)
            halved = twice.reshape(128, 2, 128, 2, 3).mean((1, 3))
            alike = 0.7 if (style, ground) == ("comic", "at night") else 0.85  # stars of a pixel become blots of ink
            assert np.corrcoef(halved.ravel(), small.ravel())[0, 1] > alike, (style, ground)


def test_a_drawing_is_found_by_its_code_points(monkeypatch: pytest.MonkeyPatch) -> None:
    box = {"body": '<path fill="currentColor" d="M0 0h4v8H0z"/>'}
    icons = {
        "icons": {"cat": box, "man-teacher": box},
        "aliases": {"kitty": {"parent": "cat"}},
        "width": 8,
        "height": 8,
    }
    names = {"1f408": "kitty", "1f468-200d-1f3eb": "man-teacher", "2764": "cat"}
    monkeypatch.setattr(scene_vectors, "drawings", lambda hand: (icons, names))
    for glyph in ("🐈", "👨\u200d🏫", "❤\ufe0f"):
        svg = scene_vectors.as_svg("noto", glyph)
        assert svg is not None and 'viewBox="0 0 8 8"' in svg and f'fill="{scene_vectors.INK}"' in svg
    assert scene_vectors.as_svg("noto", "🐕") is None


def test_missing_drawings_are_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VECTOR_DRAWINGS", str(tmp_path))
    with pytest.raises(FileNotFoundError, match=r"scene_vectors\.py"):
        scene_vectors.folder("noto")


@drawn
def test_neighbours_differ_in_what_they_show() -> None:
    for index in range(0, 200, 2):
        assert scenes.training_scene(0, index) != scenes.training_scene(0, index + 1)


@drawn
def test_captions_say_what_is_there() -> None:
    for index in range(300):
        scene = scenes.training_scene(1, index)
        text, said = scene_words.caption(scene, random.Random(index))
        words = (scene.first, *scene_things.things()[scene.first].synonyms)
        cores = {word.partition(" ")[2] if word.split(" ")[0] in scene_things.COLOURS else word for word in words}
        assert any(core in text for core in cores), (scene, text)
        if "ground_colour" in said and scene.ground_colour:
            assert scene.ground_colour in text
        if "style" in said:
            assert scene.style in text or any(phrase in text for phrase in scene_styles.STYLES[scene.style])
        if scene.style in scene_styles.GREY_STYLES:
            assert "background" not in text


def test_bare_captions_occur() -> None:
    texts = {scene_words.caption(Scene("cat"), random.Random(seed))[0] for seed in range(200)}
    assert {"a cat", "a cat on a white background"} <= texts


@pytest.mark.parametrize("ground", ["striped", scenes.BLACKBOARD])
def test_a_complete_caption_leaves_out_no_ground_but_a_plain_one(ground: str) -> None:
    busy = Scene("cat", ground=ground, ground_colour="" if ground in scenes.PLACES else "blue")
    for scene, always in ((busy, True), (Scene("cat", ground_colour="blue"), False)):
        said = [scene_words.caption(scene, random.Random(seed), complete=True)[0] for seed in range(50)]
        assert all(any(word in text for word in ("blue", "blackboard")) for text in said) == always


@pytest.mark.parametrize("complete", [True, False])
def test_two_things_without_a_place_stand_as_they_are_named(complete: bool) -> None:
    for relation in scenes.RELATIONS:
        pair = Scene("cat", "dog", place=relation)
        captions = [scene_words.caption(pair, random.Random(seed), complete) for seed in range(60)]
        assert any("place" not in said for _, said in captions) == (relation == scene_words.UNSAID)
        assert all(("place" in said) == (" and " not in text and " next to " not in text) for text, said in captions)


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("red apple", "a red apple"),
        ("apple", "an apple"),
        ("unicorn", "a unicorn"),
        ("grapes", "grapes"),
        ("strips of bacon", "strips of bacon"),
        ("bus", "a bus"),
        ("glass of milk", "a glass of milk"),
        ("face with rolling eyes", "a face with rolling eyes"),
    ],
)
def test_articles(words: str, expected: str) -> None:
    assert scene_things.article(words) == expected


def test_painting_over_keeps_light_and_dark() -> None:
    ramp = np.repeat(np.linspace(0, 255, 9).astype(np.uint8)[:, None, None], 3, axis=2)
    painted = draw_scenes.paint_over(ramp, "red").astype(int)
    assert (np.diff(painted.sum((1, 2))) > 0).all()
    assert (painted[1:, 0, 0] > painted[1:, 0, 1] + 20).all()  # red leads green from dark to light


@pytest.mark.parametrize("style", scene_styles.STYLES)
def test_a_style_changes_the_picture_and_repeats(style: str) -> None:
    numbers = np.random.default_rng(0)
    blobs = Image.fromarray(numbers.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    picture = blobs.resize((128, 128), Image.Resampling.BICUBIC)
    cover = Image.new("L", (128, 128))
    cover.paste(255, (32, 32, 96, 96))
    once, again = (scene_styles.apply(style, picture, cover, np.random.default_rng(5)) for _ in range(2))
    assert once.size == (128, 128) and once.mode == "RGB"
    assert once.tobytes() == again.tobytes() != picture.tobytes()
    pixels = np.asarray(once)
    if style == "pencil":
        assert (pixels == pixels[..., :1]).all()
    twice = scene_styles.apply(style, picture.resize((256, 256)), cover.resize((256, 256)), np.random.default_rng(5), 2)
    assert twice.size == (256, 256) and twice.mode == "RGB"
    if style in ("pencil", "chalk", "comic"):  # a line follows the things' contour, and their inside is not like it
        line, inside = pixels[64, 32].astype(int), pixels[40:88, 40:88].mean((0, 1))
        assert np.abs(line - inside).max() > 30
    if style == "pencil":  # paper, whatever the ground was
        assert pixels[:28].min() > 230
    if style == "chalk":
        assert pixels[:28].max() < 70
    if style == "pixel":  # 16 x 16 squares of 8 x 8 equal pixels, the places of the VQGAN's codes
        assert (pixels == pixels[::8, ::8].repeat(8, 0).repeat(8, 1)).all()
