"""Settings of older tools: real public examples, and what cannot be read."""

from pathlib import Path

import pytest
from command import Command

from vqclip.common.errors import UsageError
from vqclip.config.foreign import rules
from vqclip.config.foreign.reading import import_settings
from vqclip.config.loader import load_config
from vqclip.config.prompts import Prompt, parse_prompts
from vqclip.config.schema import Config
from vqclip.optimisation.optimisers import OPTIMISERS
from vqclip.pipeline.checks import check


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def imported(text: str) -> tuple[Config, str]:
    """The config that is imported, checked as a run would, and the notes."""
    found = import_settings(text, "it")
    config = load_config([], [], found.settings)
    check(config)
    return config, " ".join(found.notes)


# Three commands of nerdyrodent/VQGAN-CLIP's README, three of pixray/pixray's settings files, pytti's demo.yaml.


def test_nerdyrodent_s_weights() -> None:
    words = "A painting of an apple in a fruit bowl | psychedelic | surreal:0.5 | weird:0.25"
    config, notes = imported(f'python generate.py -p "{words}"')
    assert config.prompts == [words] and notes == ""
    assert (config.vqgan.name, config.perceptors) == ("imagenet-16384", ["ViT-B-32-quickgelu:openai"])
    assert (config.size, config.optimise.steps, config.optimise.lr) == ("512x512", 500, 0.1)
    assert (config.cutouts.recipe, config.cutouts.count, config.init.kind) == ("nerdyrodent", 32, "codes")


def test_nerdyrodent_s_story() -> None:
    config, notes = imported(
        'python generate.py -p "A painting of a sunflower|photo:-1 ^ a painting of a rose ^ a painting of a tulip" '
        "-cpe 1500 -zvid -i 6000 -zse 10 -vl 20 -zsc 1.005 -opt Adagrad -lr 0.15 -se 6000"
    )
    assert config.prompts == ["A painting of a sunflower | photo:-1", "a painting of a rose", "a painting of a tulip"]
    assert (config.optimise.name, config.optimise.lr, config.optimise.steps) == ("adagrad", 0.15, 6000)
    assert "vqclip interpolate" in notes and "zooming" in notes and config.output.save_every == 6000


def test_nerdyrodent_s_style_transfer() -> None:
    config, notes = imported(
        'python generate.py -p "A painting in the style of Picasso" -ii samples/VanGogh.jpg -i 80 -se 10 -opt AdamW '
        "-lr 0.25"
    )
    assert (config.init.kind, config.init.image) == ("image", "samples/VanGogh.jpg") and notes == ""
    assert (config.optimise.name, config.optimise.steps, config.output.save_every) == ("adamw", 80, 10)


def test_nerdyrodent_s_image_prompts_size_and_model() -> None:
    config, _ = imported(
        'python generate.py -p "a bedroom" -ip "samples/VanGogh.jpg | samples/Bedroom.png:0.5" -s 304 304 -m ViT-B/16 '
        "-sd 7"
    )
    assert config.image_prompts == ["samples/VanGogh.jpg", "samples/Bedroom.png:0.5"]
    assert (config.size, config.perceptors, config.seed) == ("304x304", ["ViT-B-16-quickgelu:openai"], 7)


def test_nerdyrodent_s_film() -> None:
    config, notes = imported("python generate.py -p 'a cat' -vid -ofps 30")
    assert (config.output.video, config.output.fps) == ("mp4", 30) and notes == ""
    config, notes = imported("python generate.py -p 'a cat' -vid -ofps 60 -vl 10")
    assert config.output.fps == 15 and "at most 50 frames a second" in notes and "output.save_every" in notes


@pytest.mark.parametrize(
    "text",
    [
        "python generate.py -p 'a cat' -ii a.png -in gradient -iw 0.5",
        "prompts: a cat\ninit_image: a.png\ninit_noise: gradient\ninit_weight: 0.5\n",
    ],
)
def test_a_picture_to_start_from_counts_more_than_noise(text: str) -> None:
    config, notes = imported(text)
    assert (config.init.kind, config.init.image, config.init.weight) == ("image", "a.png", 0.5)
    assert notes == "init_noise: the run starts from init_image; left out."


@pytest.mark.parametrize(
    "text",
    [
        "python generate.py -p 'a cat' -iw 0.5 -in gradient",
        "prompts: a cat\ninit_weight: 0.5\ninit_noise: gradient\ninit_image: ''\n",
    ],
)
def test_without_a_picture_to_start_from_there_is_nothing_to_be_held_near(text: str) -> None:
    config, notes = imported(text)
    assert (config.init.kind, config.init.image, config.init.weight) == ("gradient", None, 0)
    assert notes == "init_weight: it pulls to init_image, and there is none; left out."


def test_pixray_s_plain_settings() -> None:
    config, notes = imported(
        "drawer: vqgan\ndisplay_every: 10\noutput: outputs/pixray_vqgan.png\nvector_prompts: textoff\n"
    )
    assert (config.size, config.optimise.steps, config.cutouts.count) == ("384x216", 250, 30)
    assert config.perceptors == ["ViT-B-32-quickgelu:openai", "ViT-B-16-quickgelu:openai"]
    assert config.cutouts.recipe == "pixray" and config.prompts == ["@vector:textoff:0.1"] and notes == ""


def test_pixray_s_tiles() -> None:
    config, notes = imported(
        "drawer: vqgan\noutput: outputs/tiler_fft.png\nquality: better\nfilters: wallpaper\nwallpaper_edge_match: 4\n"
        "custom_loss: smoothness:0.5\nsmoothness_type: clipped\nsize: [416, 416]\n"
    )
    assert (config.filters, config.losses) == (["tile"], {"smoothness": 0.5})
    assert (config.size, config.optimise.steps, len(config.perceptors)) == ("416x416", 300, 3) and notes == ""


def test_pixray_s_pixels() -> None:
    config, notes = imported(
        'quality: "better"\nuse_pixeldraw: True\ninit_noise: "pixels"\npixel_size: [64, 64]\nsize: [320,320]\n'
        "num_cuts: 96\niterations: 120\nlearning_rate_drops: [80]\nsave_every: 10"
    )
    assert (config.size, config.optimise.steps, config.cutouts.count) == ("320x320", 120, 96)
    assert (config.optimise.schedule, config.init.kind) == ("drop", "noise")
    assert notes == "pixel_size: say pixelart.cells, which are counted along the short side."
    assert (config.drawer, config.pixelart.shape) == ("pixelart", "square")


def test_pixray_s_drawers() -> None:
    config, notes = imported("prompts: a cat\ndrawer: line_sketch\npixel_type: hex\n")
    assert (config.drawer, config.strokes.ink, config.pixelart.shape, notes) == ("strokes", "black", "hexagon", "")
    config, notes = imported("prompts: a cat\ndrawer: super_resolution\n")
    assert config.drawer == "vqgan" and "'super_resolution' is not there" in notes


def test_pixray_s_batches_are_views_in_parts() -> None:
    config, _ = imported("prompts: a|b:0.5\nquality: best\naspect: square\npalette: 'red;white'\ncustom_loss: edge")
    assert (config.cutouts.count, config.cutouts.micro_batch, config.size) == (24, 12, "576x576")
    assert config.losses == {"palette:red,white": 1.0, "edge:white": 1.0} and config.prompts == ["a | b:0.5"]


def test_nerdyrodent_s_noise_prompts() -> None:
    config, notes = imported('python generate.py -p "a cat ^ a dog" -nps 7 8 -npw -1 0.5')
    assert (
        config.prompts == ["a cat | @noise:7:-1 | @noise:8:0.5", "a dog | @noise:7:-1 | @noise:8:0.5"] and notes == ""
    )
    assert imported("python generate.py -nps 3")[0].prompts == ["@noise:3:1"]


def test_pixray_s_overlay_and_spot() -> None:
    config, notes = imported(
        "prompts: a city\noverlay_image: a.png\noverlay_every: 20\noverlay_offset: 5\noverlay_until: 200\n"
        "overlay_alpha: 51\nspot_prompts: a red hat\nspot_file: m.png\ntarget_images: b.png:0.5\n"
    )
    overlay = config.overlay
    assert (overlay.image, overlay.every, overlay.begin, overlay.end, overlay.alpha) == ("a.png", 20, 5, 200, 0.2)
    assert config.prompts == ["a city | [in m.png] a red hat"] and config.image_prompts == ["b.png:0.5"] and notes == ""


def test_pytti_s_regions_and_pictures() -> None:
    config, _ = imported("scenes: 'a cat:2_l | [dog.png]:0.5 | a sun:1_[m_1.png] | snake_case:1'\n")
    assert config.prompts == ["[left] a cat:2 | @image:dog.png:0.5 | [in m_1.png] a sun:1 | snake_case:1"]


def test_what_means_more_here_than_there_is_made_plain() -> None:
    config, _ = imported("prompts: '{a|b} | [left] c | @image:d'\n")
    assert parse_prompts(config.prompts[0]) == [Prompt(text) for text in ("{a", "b}", "[left] c", "@image:d")]


def test_pytti_s_scenes() -> None:
    config, notes = imported(
        "scenes: a ring made of glass | galactic nebula || a forest\nscene_prefix: 'astrophotography | '\n"
        "scene_suffix: '| text:-1:-.95'\nsteps_per_scene: 30\nimage_model: Limited Palette\nViTB32: true\n"
        "ViTB16: true\nanimation_mode: 3D\ntranslate_x: '-1700*sin(radians(1.5))'\nseed: -4854551145582748953\n"
    )
    first = "astrophotography | a ring made of glass | galactic nebula | text:-1:-.95"
    assert config.prompts == [first, "astrophotography | a forest | text:-1:-.95"]
    assert (config.optimise.steps, config.seed, len(config.perceptors)) == (30, None, 2)
    assert "Limited Palette" in notes and "animation" in notes and "translate_x" in notes


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "no settings file"),
        ("- a", "no settings file"),
        ("iterations: many", "iterations is 'many'"),
        ("size: [1]", "size is a list"),
        ("quality: superb", "Unknown quality 'superb'"),
        ("prompts: {a: b}", "prompts is `name: value` pairs"),
        ("a: &b [*b]", "aliases"),
        ('python generate.py -p "a', "no whole command line"),
        ("python generate.py -i x", "iterations is 'x'"),
        ("scenes: a\nwidth: wide", "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_one_sentence(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        import_settings(text, "it")


def test_what_is_imported_runs(run: Command, tmp_path: Path) -> None:
    Path("old.yaml").write_text("prompts: a cat\nquality: draft\nseed: 3\nspot_prompts_off: a hat\n")
    done = run("import-settings", "old.yaml", "-o", "mine.yaml")
    assert done.code == 0 and done.stdout == "mine.yaml\n" and "the other way round" in done.stderr
    text = Path("mine.yaml").read_text()
    assert text.startswith("# vqclip generate -c mine.yaml") and "pixray" in text
    dry = run(
        "generate", "-c", "mine.yaml", "--set", "vqgan.name=embedded", "--set", "perceptors=[embedded]", "--dry-run"
    )
    assert dry.code == 0 and "recipe: pixray" in dry.stdout and "seed: 3" in dry.stdout
    assert run("import-settings", "old.yaml", "-o", "mine.yaml").code == 6
    assert run("import-settings", "gone.yaml").code == 2
    shown = run("import-settings", "old.yaml").stdout
    assert shown.splitlines()[2] == "# Imported from pixray."
    assert run("import-settings", "old.yaml", "-o", "-").stdout == shown and not Path("-").exists()


def test_unknown_losses_and_filters_take_nothing_from_a_drawer() -> None:
    found = import_settings("drawer: pixel\ncustom_loss: resmem\nfilters: lookup\n", "old.yaml")
    assert "losses" not in found.settings and "filters" not in found.settings and len(found.notes) == 2


def test_openai_s_large_model_of_336_pixels_is_known() -> None:
    config, _ = imported("python generate.py -p a -m ViT-L/14@336px")
    assert config.perceptors == ["ViT-L-14-336-quickgelu:openai"]


@pytest.mark.parametrize("lines", [("learning_rate: 0.3", "drawer: pixel"), ("drawer: pixel", "learning_rate: 0.3")])
def test_what_is_said_counts_more_than_what_follows_from_the_drawer(lines: tuple[str, str]) -> None:
    config, notes = imported("\n".join(["prompts: a", "output: cat.png", *lines]))
    assert (config.drawer, config.optimise.lr, config.output.path, notes) == ("pixelart", 0.3, "cat.png", "")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("python generate.py -p a -cutm nrupdated", "cut_method: there is nothing like 'nrupdated'; left out."),
        (
            "python generate.py -p a -cutm updatedpooling",
            "cut_method: there is nothing like 'updatedpooling'; left out.",
        ),
        ("python generate.py -p a -opt DiffGrad", "optimiser: there is nothing like 'diffgrad'; left out."),
        ("python generate.py -p a -opt AdamP", "optimiser: there is nothing like 'adamp'; left out."),
        ("python generate.py -p a -in fractal", "init_noise: there is nothing like 'fractal'; left out."),
        ("python generate.py -p a -cutp 2", "cut_power: the recipe of cutouts holds what is done to each; left out."),
        ("prompts: a\noptimiser: DiffGrad", "optimiser: there is nothing like 'diffgrad'; left out."),
        ("prompts: a\nanimation_dir: films", "animation_dir: films of stories are not made; left out."),
        ("prompts: a\nfilters: lookup", "filters: there is nothing like 'lookup'; left out."),
        ("prompts: a\nclip_models: SLIP_VITB16", "clip_models: there is nothing like 'SLIP_VITB16'; left out."),
        ("scenes: a\npalettes: 9\npixel_size: 4", ""),
        ("scenes: 'a:2_l | b:1:.5'", ""),
        ("scenes: 'a:sin(t) | b:1_far'", "scenes: the weight and the place of 'a:sin(t)', 'b:1_far' are not read."),
        (
            "scenes: a\nimage_model: Unlimited Palette\npalettes: 9\npixel_size: 4",
            "image_model: the drawer 'Unlimited Palette' is not there; drawn with a VQGAN. "
            "palettes: say which colours: filters: ['palette:red,white']. "
            "pixel_size: a picture has the pixels of its size here; left out.",
        ),
    ],
)
def test_what_has_no_equal_is_named_and_left_out(text: str, says: str) -> None:
    config, notes = imported(text)
    assert notes == says
    assert config.prompts in (["a"], ["[left] a:2 | b:1:.5"], ["a | b"])
    assert config.optimise.name == "adam" and config.cutouts.recipe in ("nerdyrodent", "pixray", "crowson")


def test_of_a_list_what_is_known_is_kept() -> None:
    config, notes = imported(
        "prompts: a\ncustom_loss: smoothness:0.5,style\nfilters: wallpaper,lookup\nclip_models: ViT-B/32,SLIP\n"
        "vector_prompts: textoff,sunset\n"
    )
    assert (config.losses, config.filters) == ({"smoothness": 0.5}, ["tile"])
    assert config.perceptors == ["ViT-B-32-quickgelu:openai"] and config.prompts == ["a | @vector:textoff:0.1"]
    assert all(f"like {name!r}; left out" in notes for name in ("style", "lookup", "SLIP")) and "textoff" in notes


def test_our_optimisers_are_known() -> None:
    assert set(rules.OPTIMISERS) == set(OPTIMISERS)


def test_devices_and_direct_pictures_are_taken_over() -> None:
    assert imported("python generate.py -p a -cd cuda:1")[0].runtime.device == "cuda:1"
    config, notes = imported("scenes: a\ndirect_image_prompts: '[a.png]:0.5 | b.png | c.png:1_[m.png]'\n")
    assert config.image_prompts == ["a.png:0.5", "b.png"]
    assert notes == "direct_image_prompts: there is nothing like 'c.png:1_[m.png]'; left out."


def test_pytti_without_a_guide_has_the_usual_one() -> None:
    assert imported("scenes: a\nViTB32: false\n")[0].perceptors == ["embedded"]
