"""A picture made again from its own metadata, which may be anybody's."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import Command
from conftest import TinyModels
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vqclip.common.errors import UsageError
from vqclip.models.provenance import ModelHash, ModelHashes
from vqclip.outputs.picture import read_metadata
from vqclip.runs.rerun import differences, read_rerun


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def made(run: Command, tiny: TinyModels) -> Path:
    done = run("generate", "-c", str(tiny.config), "a cat", "--seed", "5", "-o", "cat.png", "-q")
    assert done.code == 0, done.stderr
    return Path("cat.png")


def carrying(path: Path, metadata: Any) -> Path:
    chunks = PngInfo()
    chunks.add_itxt("vqclip", json.dumps(metadata))
    Image.new("RGB", (4, 4)).save(path, pnginfo=chunks)
    return path


def test_the_same_file_again(run: Command, made: Path) -> None:
    done = run("rerun", str(made), "-o", "again.png", "--json")
    assert done.code == 0, done.stderr
    assert Path("again.png").read_bytes() == made.read_bytes()
    event = json.loads(done.stdout)
    assert (event["path"], event["prompt"], event["seed"]) == ("again.png", "a cat", 5)
    assert "Note" not in done.stderr


def test_settings_can_be_changed(run: Command, made: Path) -> None:
    done = run("rerun", str(made), "-o", "other.png", "--set", "optimise.steps=2", "--set", "seed=6")
    assert done.code == 0
    metadata = read_metadata(Path("other.png")).to_json()
    assert metadata["step"] == 2 and metadata["seed"] == 6
    assert metadata["config"]["cutouts"] == read_metadata(made).config["cutouts"]


def test_where_it_goes_is_not_taken_from_the_picture(run: Command, made: Path) -> None:
    metadata = read_metadata(made).to_json()
    metadata["config"]["output"] = {"path": "/etc/stolen.png", "overwrite": True, "video": "mp4"}
    config = read_rerun(carrying(Path("b.png"), metadata)).config
    assert (config.output.path, config.output.overwrite, config.output.video) == (None, False, None)
    assert run("rerun", str(made), "-o", str(made)).code == 6


def test_a_picture_it_was_made_from_must_be_the_same(run: Command, tiny: TinyModels, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (16, 16, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("sketch:2.png")
    Image.fromarray(pixels[::-1]).save("look.png")
    words = ["-c", str(tiny.config), "--seed", "1", "-q", "-o", "a.png", "--init-image", "sketch:2.png"]
    assert run("generate", "a cat", *words, "--image-prompt", "look.png:0.5").code == 0
    again = ["rerun", "a.png", "-o", "b.png", "-q"]
    assert run(*again).code == 0 and Path("b.png").read_bytes() == Path("a.png").read_bytes()
    old, new = str(Path("sketch:2.png").absolute()), str(tmp_path / "moved.png")
    Path("sketch:2.png").rename(new)
    gone = run(*again, "--overwrite")
    assert gone.code == 2 and "--file OLD=NEW" in gone.stderr and old in gone.stderr
    done = run(*again, "--overwrite", "--file", f"{old}={new}")
    assert done.code == 0, done.stderr
    Image.fromarray(pixels[:, ::-1]).save(new)
    other = run(*again, "--overwrite", "--file", f"{old}={new}")
    assert other.code == 2 and "is not the file that the picture was made from" in other.stderr
    assert run(*again, "--overwrite", "--file", f"x.png={new}").code == 2
    assert run(*again, "--overwrite", "--file", "x").code == 2


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file that is there and that nobody can read")
def test_a_picture_it_was_made_from_that_cannot_be_read_is_said(run: Command, made: Path) -> None:
    metadata = read_metadata(made).to_json()
    metadata["config"]["overlay"]["image"], metadata["inputs"] = "/proc/self/mem", {"/proc/self/mem": "0" * 64}
    failed = run("rerun", str(carrying(Path("b.png"), metadata)), "-o", "c.png")
    assert failed.code == 2 and "Cannot read '/proc/self/mem'" in failed.stderr


@pytest.mark.parametrize("vouched", [{"/pictures": "0" * 64}, {}], ids=["named twice", "named once"])
def test_a_folder_that_only_the_picture_names_is_not_looked_through(made: Path, vouched: dict[str, str]) -> None:
    """Also where its metadata leave it out of what the picture was made from."""
    metadata = read_metadata(made).to_json()
    metadata["config"]["targets"]["reference"] = "/pictures"
    forged = carrying(Path("b.png"), {**metadata, "inputs": vouched})
    with pytest.raises(UsageError, match="aimed by the pictures of '/pictures'"):
        read_rerun(forged, ["optimise.steps=2"])
    for folder in ("/pictures", "/mine", "none"):
        assert read_rerun(forged, [f"targets.reference={folder}"]).config.targets.reference == folder
        assert read_rerun(forged, [], {"/pictures": folder}).config.targets.reference == folder
    with pytest.raises(UsageError, match="not made from such a file"):
        read_rerun(made, [], {"none": "/pictures"})


def test_what_is_not_as_it_was_is_said(made: Path) -> None:
    recorded = read_metadata(made)
    assert recorded.models is not None and differences(recorded, recorded.models) == []
    metadata = read_metadata(made).to_json()
    metadata["models"]["vqgan"]["sha256"] = "0" * 64
    metadata["models"]["perceptors"] = []
    metadata["libraries"] |= {"torch": "1.7.1", "gone": "1"}
    metadata["together"] = 4
    said = differences(read_metadata(carrying(Path("b.png"), metadata)), recorded.models)
    assert len(said) == 5 and "vqgan" in said[0] and "perceptors" in said[1] and "was 1.7.1" in said[2]
    assert "gone is not installed" in said[3] and "3 others" in said[4]


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"size": "16384x16384"}, "asks for 16384x16384 pixels"),
        ({"size": "16384×16384"}, "asks for 16384×16384 pixels"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**70}, "seed"),
        ({"optimise": {"steps": 10**30}}, "steps"),
        ({"optimise": {"steps": "${oc.env:HOME}"}}, "steps"),
        ({"prompts": {"a": 1}}, "prompts is `name: value` pairs"),
        ({"vqgan": {"name": ["x"]}}, "vqgan"),
        ({"run": "rm -rf"}, "unknown key"),
        ({"perceptors": []}, "perceptors"),
    ],
)
def test_hostile_values_are_refused(made: Path, changes: dict[str, Any], says: str) -> None:
    metadata = read_metadata(made).to_json()
    metadata["config"] |= changes
    with pytest.raises(UsageError, match=says):
        read_rerun(carrying(Path("b.png"), metadata))


def test_a_large_size_of_ones_own_is_taken(made: Path) -> None:
    metadata = read_metadata(made).to_json()
    metadata["config"] |= {"size": "16384X16384", "count": 9999}
    recorded = read_rerun(carrying(Path("b.png"), metadata), ["size=5000x5000"])
    assert recorded.config.size == "5000x5000" and recorded.config.count == 1


MODELS = ModelHashes(ModelHash("vqgan", "0"), ())
ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.fixed_dictionaries(
        {"config": ANYTHING},
        optional={"models": ANYTHING, "inputs": ANYTHING, "libraries": ANYTHING, "together": ANYTHING},
    )
)
def test_metadata_of_any_kind_is_a_config_or_a_sentence(tmp_path: Path, metadata: dict[str, Any]) -> None:
    try:
        differences(read_rerun(carrying(tmp_path / "any.png", metadata)).metadata, MODELS)
    except UsageError as error:
        assert "\n" not in str(error)


def test_a_picture_without_metadata_is_said(run: Command) -> None:
    Image.new("RGB", (4, 4)).save("plain.png")
    done = run("rerun", "plain.png")
    assert done.code == 2 and "carries no vqclip metadata" in done.stderr
    assert run("rerun", "gone.png").code == 2


def test_a_picture_made_from_a_file_whose_name_is_no_text_can_be_made_again(run: Command, tiny: TinyModels) -> None:
    name = os.fsdecode(b"n\xff.png")
    Image.new("RGB", (16, 16), "red").save("plain.png")
    Path(name).write_bytes(Path("plain.png").read_bytes())
    done = run("generate", "a", "-c", str(tiny.config), "--steps", "1", "--init-image", name, "-o", "a.png")
    assert done.code == 0, done.stderr
    assert run("rerun", "a.png", "-o", "b.png").code == 0
    assert Path("a.png").read_bytes() == Path("b.png").read_bytes()
