import re

import pytest
import torch
import yaml

from vqclip.catalogue import VQGANS
from vqclip.config import load_config
from vqclip.optimisers import OPTIMISERS
from vqclip.paths import configs_dir
from vqclip.recipes import RECIPES
from vqclip.vqgan import VQGAN


def test_the_names_are_the_eight_published_setups() -> None:
    assert set(VQGANS) == {
        "imagenet-16384",
        "imagenet-1024",
        "gumbel-f8",
        "wikiart-16384",
        "coco",
        "faceshq",
        "sflckr",
        "ibq-16384",
    }
    assert all(name == entry.name for name, entry in VQGANS.items())
    assert {name: entry.factor for name, entry in VQGANS.items() if entry.factor != 16} == {"gumbel-f8": 8}
    assert {entry.quantiser for entry in VQGANS.values()} == {"vq", "gumbel", "ibq"}


@pytest.mark.parametrize("name", VQGANS)
def test_an_entry_is_complete(name: str) -> None:
    entry = VQGANS[name]
    assert re.fullmatch(r"[\w-]+/[\w-]+", entry.repository)
    assert entry.file.endswith(".ckpt")
    assert entry.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.trained_on and entry.terms
    assert re.fullmatch(r"[\d,]+ MB|size unknown", entry.size_text)


def test_file_sizes_fit_the_architectures() -> None:
    """A file holds at least its model in fp32: weights alone for coco, and twice (with averages) for IBQ."""
    held = {}
    for name, entry in VQGANS.items():
        with torch.device("meta"):
            weights = 4 * sum(tensor.numel() for tensor in VQGAN(entry.architecture).state_dict().values())
        held[name] = (entry.size or weights) / weights
    assert min(held.values()) >= 1
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
