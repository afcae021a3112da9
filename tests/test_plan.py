"""Plans: every choice that was left open is made, and made again the same from what was written down."""

import dataclasses
import os
import re
from pathlib import Path

import pytest
import torch
from conftest import TinyModels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.runtime import resolve_precision
from vqclip.config.loader import config_from_dict, load_config, to_dict, to_yaml
from vqclip.config.prompts import Prompt
from vqclip.config.schema import Config, GuideConfig, parse_guide
from vqclip.config.starts import PICTURES
from vqclip.hub.prior_files import has_embedded_prior
from vqclip.models.drawers.pixelart import Pixelart
from vqclip.pipeline.checks import check
from vqclip.pipeline.drawing import make_drawer
from vqclip.pipeline.named_files import ImagePrompt, parse_image_prompt
from vqclip.pipeline.plan import Plan, make_plan, seeds
from vqclip.pipeline.settle import settle
from vqclip.pipeline.sizes import round_size


def config(tiny: TinyModels, *words: str, prompts: list[str] | None = None) -> Config:
    return load_config([str(tiny.config)], words, {"prompts": ["a"] if prompts is None else prompts})


def plan(tiny: TinyModels, *words: str, prompts: list[str] | None = None) -> Plan:
    return make_plan(config(tiny, *words, prompts=prompts))


@pytest.mark.parametrize(
    ("asked", "made"),
    [("16x16", (16, 16)), ("17x19", (18, 20)), ("1x3", (2, 4)), ("2x3", (2, 4)), ("15x33", (16, 34))],
)
def test_sizes_are_rounded_to_the_nearest_multiple_half_up(asked: str, made: tuple[int, int], tiny: TinyModels) -> None:
    """The tiny VQGAN has two levels, hence factor 2: odd sides lie half way and go up."""
    found = plan(tiny, f"size={asked}")
    text = f"{made[0]}x{made[1]}"
    assert (found.width, found.height) == made
    assert found.config.size == text
    assert found.notes == ([] if asked == text else [f"size {asked} is rounded to {text}, multiples of 2"])


@pytest.mark.parametrize(
    ("side", "rounded"), [(1, 16), (8, 16), (23, 16), (24, 32), (39, 32), (40, 48), (16384, 16384)]
)
def test_rounding_with_a_larger_factor(side: int, rounded: int) -> None:
    """imagenet-1024 has factor 16, known without its file: 24 is half way between 16 and 32."""
    found = make_plan(load_config(["imagenet-1024"], [f"size={side}x16"], {"prompts": ["a"]}))
    assert (found.width, found.height) == (rounded, 16)


@pytest.mark.parametrize("drawer", ["pixelart", "palette"])
def test_a_size_that_was_rounded_to_cells_stays(drawer: str) -> None:
    """Cells depend on the short side, and those of the rounded one are the same; else a run could not go on."""
    open_config = load_config([], [f"drawer={drawer}"], {"prompts": ["a"]})
    for side in range(16, 1101):
        for asked in (f"{side}x{side}", f"{2 * side + 7}x{side}", f"{side}x{side + 1}"):
            *size, cell, _ = round_size(dataclasses.replace(open_config, size=asked), None, [])
            made = dataclasses.replace(open_config, size=f"{size[0]}x{size[1]}")
            assert round_size(made, None, []) == (*size, cell, []), asked
            assert not (size[0] % cell or size[1] % cell) and abs(min(size) - side) <= cell, asked


def test_a_plan_draws_with_the_cells_that_it_says(tiny: TinyModels) -> None:
    """176 is five and a half cells of 32: 175 is the nearest side that has whole ones."""
    found = plan(tiny, "drawer=pixelart", "size=176x176")
    drawer = make_drawer(found.config, (found.height, found.width), torch.device("cpu"))
    assert isinstance(drawer, Pixelart) and drawer.cell == found.cell == 5 and found.config.size == "175x175"
    assert plan(tiny, "drawer=pixelart", f"size={found.config.size}").config.size == "175x175"


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        (["drawer=pixelart"], "grey"),
        (["drawer=palette", "pixelart.colours=null"], "grey"),
        (["drawer=pixelart", "pixelart.colours=pico8"], "noise"),
        (["drawer=pixelart", "pixelart.colours=8"], "noise"),
        (["drawer=palette"], "noise"),
        (["drawer=pixelart", "pixelart.colours=8", "init.kind=grey"], "grey"),
    ],
)
def test_only_cells_of_any_colour_begin_grey(tiny: TinyModels, words: list[str], kind: str) -> None:
    assert plan(tiny, *words).config.init.kind == kind


def test_seeds_count_up_and_start_again_for_every_prompt(tiny: TinyModels) -> None:
    found = plan(tiny, "seed=5", "count=3", prompts=["a", "b:2 | c"])
    assert seeds(found.pictures) == [5, 6, 7, 5, 6, 7]
    assert [picture.prompt for picture in found.pictures] == ["a"] * 3 + ["b:2 | c"] * 3
    assert found.pictures[-1].prompts == [Prompt("b", 2), Prompt("c")]


def test_a_seed_is_drawn_and_stored(tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    found = plan(tiny)
    assert found.config.seed == found.pictures[0].seed
    assert 0 <= found.config.seed < 2**32
    monkeypatch.setattr("secrets.randbelow", lambda limit: limit - 1)
    assert plan(tiny).config.seed == 2**32 - 1
    assert plan(tiny, "seed=0").config.seed == 0  # 0 is a seed, not "none"


def test_the_largest_seed(tiny: TinyModels) -> None:
    assert seeds(plan(tiny, f"seed={2**63 - 2}", "count=2").pictures) == [2**63 - 2, 2**63 - 1]


def test_what_is_automatic_is_written_down(tiny: TinyModels) -> None:
    runtime = plan(tiny, "runtime.precision=auto", "runtime.threads=1").config.runtime
    assert (runtime.device, runtime.threads) == ("cpu", 1)
    assert runtime.precision == resolve_precision("auto", torch.device("cpu"))
    assert plan(tiny, "runtime.threads=null").config.runtime.threads >= 1


@pytest.mark.parametrize(
    ("layers", "words", "kind"),
    [
        ([], [], "prior" if has_embedded_prior() else "codes"),
        ([], ["init.kind=codes"], "codes"),
        ([], ["init.kind=noise"], "noise"),
        (["imagenet-1024"], [], "codes"),
    ],
)
def test_an_automatic_start_is_the_prior_where_there_is_one(layers: list[str], words: list[str], kind: str) -> None:
    assert make_plan(load_config(layers, words, {"prompts": ["a cat"]})).config.init.kind == kind


@pytest.mark.parametrize(
    ("layers", "options", "expected"),
    [
        ([], {}, ("prior", 1.0, 6, 0.01, 8, "vqclip", "constant")),
        ([], {"init.kind": "codes"}, ("codes", 1.0, 60, 0.1, 32, "coherent", "cosine")),
        ([], {"init.kind": "noise", "optimise.steps": 5}, ("noise", 1.0, 5, 0.1, 32, "coherent", "cosine")),
        ([], {"init.kind": "redraw", "init.image": "a.png"}, ("redraw", 0.6, 6, 0.01, 8, "vqclip", "constant")),
        ([], {"init.kind": "image", "init.image": "a.png"}, ("image", 1.0, 40, 0.05, 16, "coherent", "cosine")),
        (
            [],
            {"init.kind": "image", "init.image": "a.png", "init.strength": 0.5},
            ("image", 1.0, 40, 0.025, 16, "coherent", "cosine"),
        ),
        ([], {"init.kind": "vary", "init.image": "a.png"}, ("vary", 0.3, 6, 0.01, 8, "vqclip", "constant")),
        ([], {"image_prompts": ["a.png"]}, ("redraw", 0.6, 6, 0.01, 8, "vqclip", "constant")),
        ([], {"image_prompts": ["a.png:-1"]}, ("prior", 0.6, 6, 0.01, 8, "vqclip", "constant")),
        (
            [],
            {"image_prompts": ["a.png"], "init.image": "a.png", "init.strength": 0.4},
            ("prior", 0.4, 8, 0.01, 8, "vqclip", "constant"),
        ),
        (
            ["imagenet-1024"],
            {"init.kind": "redraw", "init.image": "a.png"},
            ("image", 1.0, 300, 0.03, 64, "crowson", "constant"),
        ),
        (
            ["imagenet-1024"],
            {"init.kind": "vary", "init.image": "a.png"},
            ("bent", 0.3, 300, 0.015, 64, "crowson", "constant"),
        ),
    ],
)
def test_steps_and_views_follow_from_the_kind_of_start(
    layers: list[str], options: dict[str, object], expected: tuple[object, ...]
) -> None:
    """What the user or a config says wins; where no prior draws a picture anew, the steps are `strength` as long."""
    Image.new("RGB", (8, 8)).save("a.png")
    config = make_plan(load_config(layers, [], {"prompts": ["a cat"], **options})).config
    found = (config.init.kind, config.init.strength, config.optimise.steps, config.optimise.lr)
    assert (*found, config.cutouts.count, config.cutouts.recipe, config.optimise.schedule) == expected
    begins_with_it = config.init.kind in PICTURES or "init.image" in options
    assert config.init.image == (str(Path("a.png").absolute()) if begins_with_it else None)
    assert make_plan(config).config == config  # a resolved config stays as it is
    assert make_plan(config_from_dict(to_dict(config), "a run")).config == config


def test_a_likeness_in_alternatives_and_lists_is_drawn_anew() -> None:
    """They stand for prompts, of which each has the picture."""
    Path("list.txt").write_text("a cat | @image:a.png\na dog | @image:a.png\n")
    Image.new("RGB", (8, 8)).save("a.png")
    Image.new("RGB", (8, 8)).save("b.png")
    for written in (["{a cat|a dog} | @image:a.png"], ["@list.txt"], ["{a cat|a {red|blue} dog} | @image:a.png"]):
        init = make_plan(load_config([], [], {"prompts": written})).config.init
        assert (init.kind, init.strength) == ("redraw", 0.6)
    assert make_plan(load_config([], [], {"prompts": ["a cat | @image:{a|b}.png"]})).config.init.strength == 1


def test_a_prior_of_ones_own_draws_the_start(tiny: TinyModels) -> None:
    own = ["prior.name=my-prior", "init.kind=auto"]
    found = load_config([str(tiny.config)], own, {"prompts": ["a cat"]})
    assert (settle(found).init.kind, found.optimise.steps) == ("prior", load_config().optimise.steps)
    assert settle(load_config([str(tiny.config)], [*own, "drawer=pixels"])).init.kind == "noise"


def test_a_picture_at_home_is_found(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "home" / "a.png")
    for said in ({"prompts": ["@image:~/a.png"]}, {"image_prompts": ["~/a.png"]}):
        assert make_plan(load_config([], [], said)).config.init.image == str(tmp_path / "home" / "a.png")


@pytest.mark.parametrize("layers", [["vary"], ["imagenet-1024", "vary"]])
def test_a_picture_that_is_varied_is_given_or_the_first_image_prompt(layers: list[str]) -> None:
    Image.new("RGB", (8, 8)).save("a.png")
    with pytest.raises(UsageError, match="vary starts from a picture"):
        make_plan(load_config(layers, [], {"prompts": ["a cat"]}))
    assert make_plan(load_config(layers, [], {"image_prompts": ["a.png"]})).config.init.image == str(
        Path("a.png").absolute()
    )


def test_a_vqgan_of_the_users_own_starts_from_codes(tiny: TinyModels) -> None:
    assert plan(tiny).config.init.kind == "codes"


def test_the_caption_for_the_prior_is_what_is_wanted(tiny: TinyModels) -> None:
    found = plan(tiny, prompts=["a cat:2 | a dog:-1 | in the snow", "a cat:-1"])
    assert [picture.caption for picture in found.pictures] == ["a cat, in the snow", ""]


def test_unknown_words_are_noted_where_the_embedded_models_read_them(tiny: TinyModels) -> None:
    assert plan(tiny, prompts=["a lighthouse"]).notes == []
    notes = make_plan(load_config([], [], {"prompts": ["a lighthouse", "a cat"]})).notes
    noted = [note for note in notes if "never read" in note]
    assert len(noted) == 1 and "'lighthouse'" in noted[0] and "'cat'" not in noted[0]


def test_paths_are_made_absolute(tiny: TinyModels) -> None:
    """run.yaml repeats the run from any folder."""
    for link, target in {"v.safetensors": tiny.vqgan, "clip": tiny.clip}.items():
        Path(link).symlink_to(target)
    for name in ("weights.bin", "init.png", "like.png"):
        Path(name).touch()
    Path("sizes.yaml").write_text("model: {params: {embed_dim: 4, n_embed: 16, ddconfig: {}}}")
    here = Path.cwd()
    words = [
        "vqgan.file=v.safetensors",
        "vqgan.config=sizes.yaml",
        "init.kind=image",
        "init.image=init.png",
        "image_prompts=[like.png:2]",
    ]
    found = plan(tiny, *words, "perceptors=[clip, RN50:weights.bin, embedded, ViT-B-32:openai]").config
    assert (found.vqgan.file, found.vqgan.config) == (str(here / "v.safetensors"), str(here / "sizes.yaml"))
    assert found.init.image == str(here / "init.png")
    assert found.image_prompts == [f"{here / 'like.png'}:2.0"]
    assert found.perceptors == [str(here / "clip"), f"RN50:{here / 'weights.bin'}", "embedded", "ViT-B-32:openai"]


def test_a_folder_called_embedded_does_not_hide_the_models(tiny: TinyModels) -> None:
    Path("embedded").mkdir()
    assert plan(tiny, "perceptors=[embedded]").config.perceptors == ["embedded"]


def test_a_plan_written_down_is_made_again(tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("odd:2").touch()
    first = plan(tiny, "image_prompts=['odd:2', 'b.png:-0.1234567']", "size=17x17", prompts=["${x} [red]:2"])
    Path("run.yaml").write_text(to_yaml(first.config))
    elsewhere = Path("elsewhere")
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    again = make_plan(load_config(["../run.yaml"]))
    assert again == dataclasses.replace(first, notes=[])


@pytest.mark.parametrize(
    ("entry", "file", "weight"),
    [
        ("a.png", "a.png", 1),
        ("a.png:2", "a.png", 2),
        ("a.png:-0.5", "a.png", -0.5),
        ("a.png:+3.25", "a.png", 3.25),
        ("a:b.png:2", "a:b.png", 2),
        ("really:2", "really:2", 1),  # a file of that name is there
        ("really:2:3", "really:2", 3),
        ("a.png:x", "a.png:x", 1),
        ("a.png:1e3", "a.png", 1000),
        ("a.png: -.5", "a.png", -0.5),
        ("a.png:", "a.png:", 1),
        ("a.png:٣", "a.png:٣", 1),
        (":2", ":2", 1),
        ("${x}[red].png:2", "${x}[red].png", 2),
    ],
)
def test_image_prompts(entry: str, file: str, weight: float) -> None:
    Path("really:2").touch()
    assert parse_image_prompt(entry) == ImagePrompt(str(Path.cwd() / file), weight)


def test_an_infinite_weight_is_refused() -> None:
    with pytest.raises(UsageError, match=r"image prompt 'a\.png' must be a finite number"):
        parse_image_prompt("a.png:" + "9" * 400)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_weight_survives_being_written_down(tiny: TinyModels, weight: float) -> None:
    written = plan(tiny, f"image_prompts=['a.png:{weight:.400f}']").config.image_prompts[0]
    assert parse_image_prompt(written).weight == float(f"{weight:.400f}")
    assert "e" not in written.rpartition(":")[2]


def test_nothing_to_draw(tiny: TinyModels) -> None:
    with pytest.raises(UsageError, match=re.escape('vqclip generate "a red apple"')):
        plan(tiny, prompts=[])
    only_images = plan(tiny, "image_prompts=[a.png]", "count=2", "seed=1", prompts=[])
    assert [(picture.prompt, picture.prompts) for picture in only_images.pictures] == [("", [])] * 2


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("cutouts.recipe=crowsen", "Unknown cutouts.recipe 'crowsen': did you mean 'crowson'?"),
        ("optimise.name=adm", "Unknown optimise.name 'adm': did you mean"),
        ("optimise.schedule=cosin", "Unknown optimise.schedule 'cosin': did you mean 'cosine'?"),
        ("init.kind=code", "Unknown init.kind 'code': did you mean 'codes'?"),
        ("losses.tvv=1", "Unknown loss 'tvv': did you mean 'tv'?"),
    ],
)
def test_unknown_names_are_found_without_loading_anything(word: str, message: str, tiny: TinyModels) -> None:
    with pytest.raises(UsageError, match=re.escape(message)):
        check(config(tiny, word))


def test_negatives_push_every_picture_and_are_no_part_of_its_caption(tiny: TinyModels) -> None:
    both = plan(tiny, "negatives=['a dog:-0.5', 'text:-.3:-1']", prompts=["a cat", "the sun:2"])
    pushed = [Prompt("a dog", -0.5), Prompt("text", -0.3, -1)]
    assert [picture.prompts for picture in both.pictures] == [
        [Prompt("a cat"), *pushed],
        [Prompt("the sun", 2), *pushed],
    ]
    assert [picture.caption for picture in both.pictures] == ["a cat", "the sun"]
    assert [picture.prompt for picture in both.pictures] == ["a cat", "the sun:2"]


@pytest.mark.parametrize("entry", ["a dog", "a dog:0.3", "a |", "a:1:2:3"])
def test_a_negative_that_would_pull_is_refused(tiny: TinyModels, entry: str) -> None:
    with pytest.raises(UsageError):
        plan(tiny, f"negatives=['{entry}']")


@pytest.mark.parametrize("prompt", ["", "a | ", "a:1:2:3", "a:nan"])
def test_a_bad_prompt_is_found_without_loading_anything(prompt: str, tiny: TinyModels) -> None:
    with pytest.raises(UsageError, match="column"):
        check(config(tiny, prompts=["fine", prompt]))


def test_machines_and_models_that_are_not_there(tiny: TinyModels) -> None:
    with pytest.raises(UsageError, match="Unknown device 'gpu'"):
        plan(tiny, "runtime.device=gpu")
    with pytest.raises(UsageError, match=r"runtime\.precision is 'fp8'"):
        plan(tiny, "runtime.precision=fp8")
    with pytest.raises(UsageError, match=r"Unknown vqgan\.name 'imagenet-1025': did you mean 'imagenet-1024'"):
        plan(tiny, "vqgan.file=null", "vqgan.name=imagenet-1025")
    with pytest.raises(ModelError, match=r"none\.ckpt"):
        plan(tiny, "vqgan.file=none.ckpt")


@pytest.mark.skipif(os.name != "posix", reason="colons are not allowed in file names elsewhere")
def test_a_path_too_long_to_exist_is_only_a_missing_file() -> None:
    name = "n" * 300
    assert parse_image_prompt(f"{name}:2") == ImagePrompt(str(Path.cwd() / name), 2)


def test_a_single_cell_of_a_narrow_network_is_refused(tiny: TinyModels) -> None:
    """32 channels in 32 groups: a group would be one number."""
    with pytest.raises(UsageError, match=r"single cell.*at least 4x2"):
        plan(tiny, "size=1x1")
    assert plan(tiny, "size=4x2").width == 4


@pytest.mark.parametrize(
    ("prompt", "idle"),
    [("fog:-0.5:0.8", True), ("fog:-0.5:-0.8", False), ("a cat:1:0.3", False), ("a cat:1:5", True), ("fog:-1", False)],
)
def test_a_stop_that_switches_its_prompt_off_is_noted(tiny: TinyModels, prompt: str, idle: bool) -> None:
    notes = plan(tiny, prompts=[f"a house | {prompt}"]).notes
    assert any("switches it off" in note for note in notes) == idle


@pytest.mark.parametrize("weight", [1e-05, 1234567.5, 0.1 + 0.2, 2.0, 1e-300])
def test_any_weight_of_a_guide_survives_being_written_down(tiny: TinyModels, weight: float) -> None:
    assert parse_guide(str(GuideConfig("embedded", weight))) == GuideConfig("embedded", weight)


@pytest.mark.parametrize("key", ["count", "micro_batch"])
def test_more_cutouts_than_anybody_needs_are_refused(tiny: TinyModels, key: str) -> None:
    with pytest.raises(UsageError, match=rf"cutouts\.{key} is 1000000000000000000"):
        plan(tiny, f"cutouts.{key}=1000000000000000000")


def test_losses_can_be_taken_away() -> None:
    assert load_config([], ["drawer=pixels"], {"prompts": ["a"]}).losses == {"smoothness": 1.0}
    assert load_config([], ["drawer=pixels", "losses={}"], {"prompts": ["a"]}).losses == {}
    assert load_config([], ["losses={saturation: 1}", "losses.symmetry=2"]).losses == {"saturation": 1, "symmetry": 2}
