import re

import pytest
import torch
import yaml
from open_clip import create_model

from vqclip.common.paths import configs_dir
from vqclip.config.loader import load_config
from vqclip.guidance.recipes import RECIPES
from vqclip.hub.clip_catalogue import CLIPS, GUIDES, ROBUST_GUIDES, PublishedCLIP
from vqclip.hub.clip_files import HUB_NAMES, hub_file
from vqclip.hub.sources import HubFile
from vqclip.hub.vqgan_catalogue import VQGANS
from vqclip.models.vqgan import VQGAN
from vqclip.optimisation.optimisers import OPTIMISERS


def test_the_names_are_the_published_setups() -> None:
    assert set(VQGANS) == {
        "imagenet-16384",
        "imagenet-1024",
        "gumbel-f8",
        "wikiart-16384",
        "wikiart-1024",
        "coco",
        "faceshq",
        "sflckr",
        "vq-f4",
        "vq-f8",
        "vq-f8-n256",
        "vq-f16",
        "ibq-16384",
        "ibq-262144",
        "ibq-web-16384",
        "ibq-web-262144",
        "llamagen-f16",
        "llamagen-f8",
        "llamagen-web-f16",
    }
    assert all(name == entry.name for name, entry in VQGANS.items())
    factors = {name: entry.factor for name, entry in VQGANS.items() if entry.factor != 16}
    assert factors == {"gumbel-f8": 8, "vq-f4": 4, "vq-f8": 8, "vq-f8-n256": 8, "llamagen-f8": 8}
    assert {entry.quantiser for entry in VQGANS.values()} == {"vq", "gumbel", "ibq", "l2"}


@pytest.mark.parametrize("name", VQGANS)
def test_an_entry_is_complete(name: str) -> None:
    entry = VQGANS[name]
    for place in entry.places:
        if isinstance(place, HubFile):
            assert re.fullmatch(r"[\w-]+/[\w-]+", place.repository)
            assert re.search(r"\.(ckpt|pt|bin|safetensors)$", place.file)
        else:
            assert place.url.startswith("https://") and (place.url.endswith(".zip") == (place.member is not None))
    assert entry.places and len(set(entry.places)) == len(entry.places)
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.trained_on and entry.terms and entry.good_for
    assert re.fullmatch(r"[\d,]+ MB|size unknown", entry.size_text)


@pytest.mark.parametrize("entry", ROBUST_GUIDES, ids=lambda entry: entry.name)
def test_a_robust_clip_model_is_a_repository_by_its_name(entry: PublishedCLIP) -> None:
    assert CLIPS[entry.name] is entry
    if entry.web is None:
        assert hub_file(entry.name)[0] == entry.repository
    with torch.device("meta"):
        model = create_model(entry.architecture, load_weights=False, device="meta")
    assert entry.side == model.visual.image_size[0] and entry.needs is None
    for network, millions in ((model, entry.parameters), (model.visual, entry.image_parameters)):
        assert sum(weight.numel() for weight in network.parameters()) / 1e6 == pytest.approx(millions, abs=0.6)


@pytest.mark.parametrize("name", [entry.name for entry in GUIDES])
def test_a_clip_model_is_open_clips(name: str) -> None:
    from open_clip import get_model_config
    from open_clip.pretrained import get_pretrained_cfg

    entry, (model, _, tag) = CLIPS[name], name.partition(":")
    assert get_pretrained_cfg(model, tag)["hf_hub"].rstrip("/") == entry.repository
    side = get_model_config(model)["vision_cfg"]["image_size"]
    assert entry.side == side and entry.image_parameters < entry.parameters
    assert (entry.needs is not None) == ("hf_tokenizer_name" in get_model_config(model)["text_cfg"])


def test_the_hubs_names_of_weights_are_open_clips() -> None:
    from open_clip.constants import HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME

    assert (HF_SAFE_WEIGHTS_NAME, HF_WEIGHTS_NAME) == HUB_NAMES


def test_file_sizes_fit_the_architectures() -> None:
    """A file holds at least its model in fp32: weights alone for coco, and twice (with averages) for IBQ."""
    held = {}
    for name, entry in VQGANS.items():
        with torch.device("meta"):
            weights = 4 * sum(tensor.numel() for tensor in VQGAN(entry.architecture).state_dict().values())
        held[name] = (entry.size or weights) / weights
    assert min(held.values()) >= 0.99
    assert held["coco"] == pytest.approx(1, abs=1e-3)
    assert held["ibq-16384"] == pytest.approx(2, abs=1e-2)


@pytest.mark.parametrize("name", VQGANS)
def test_the_config_of_the_same_name_loads_and_opens_with_its_command(name: str) -> None:
    text = (configs_dir() / f"{name}.yaml").read_text("utf-8")
    assert re.fullmatch(rf'# vqclip generate -c {name} "[^"]+"', text.splitlines()[0])
    assert "# Size: " in text and "# Terms: " in text
    assert set(yaml.safe_load(text)) == {"vqgan", "perceptors", "size", "cutouts", "optimise"}
    config = load_config([name])
    assert config.vqgan.name == name
    assert config.cutouts.recipe in RECIPES
    assert config.optimise.name in OPTIMISERS


@pytest.mark.parametrize("name", VQGANS)
def test_the_configs_perceptors_are_published(name: str) -> None:
    from open_clip.pretrained import get_pretrained_cfg

    for perceptor in load_config([name]).perceptors:
        model, _, tag = perceptor.partition(":")
        assert get_pretrained_cfg(model, tag), perceptor


@pytest.mark.parametrize("name", sorted(set(VQGANS) & {path.stem for path in configs_dir().glob("*.yaml")}))
def test_a_config_says_what_is_fetched_for_the_guide_too(name: str) -> None:
    (guide,) = load_config([name]).perceptors
    header = (configs_dir() / f"{name}.yaml").read_text("utf-8").partition("# Terms")[0].replace("\n# ", " ")
    assert f"and {CLIPS[guide].size_text} for the guide" in header
