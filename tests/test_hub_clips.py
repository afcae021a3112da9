"""CLIP models of a repository by its name, and of a plain link: pulled from a server on this machine, used, refused."""

import dataclasses
import hashlib
import io
import os
from pathlib import Path

import pytest
import torch
from command import Command
from conftest import TinyModels
from faulty_server import Behaviour, serving
from published import COMMIT, WEIGHTS, serving_hub
from safetensors.torch import load_file

from vqclip.hub import clip_files
from vqclip.hub.clip_catalogue import CLIPS
from vqclip.models.perceptor import load_perceptor

CPU = torch.device("cpu")


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.environ["HF_HUB_CACHE"])
    return Command(monkeypatch, capsys)


REPOSITORY = "hf-hub:somebody/tiny"


def repository(tiny: TinyModels, weights: str, content: bytes) -> dict[str, Behaviour]:
    """A hub with one repository of open_clip's form, its weights under this name."""
    files = {"open_clip_config.json": (tiny.clip / "open_clip_config.json").read_bytes(), weights: content}
    paths = {}
    for name, data in files.items():
        facts = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"'}
        facts["X-Linked-Size"] = str(len(data))
        for revision in ("main", COMMIT):
            place = f"/somebody/tiny/resolve/{revision}/{name}"
            paths[place] = Behaviour(b"", redirect=f"/cdn/{name}", heads=facts)
        paths[f"/cdn/{name}"] = Behaviour(data)
    return paths


def pickled(content: object) -> bytes:
    data = io.BytesIO()
    torch.save(content, data)
    return data.getvalue()


class Danger:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("echo ran > ran",)


@pytest.mark.parametrize("name", ["open_clip_model.safetensors", "open_clip_pytorch_model.bin"])
def test_a_repository_is_pulled_by_its_name_and_is_a_perceptor_from_then_on(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    source = tiny.clip / "open_clip_model.safetensors"
    content = source.read_bytes() if name.endswith(".safetensors") else pickled(load_file(source))
    with serving_hub(monkeypatch, repository(tiny, name, content)):
        done = run("models", "pull", REPOSITORY)
        assert done.code == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.name == name and path.read_bytes() == content
    assert run("models", "path", REPOSITORY).stdout.strip() == str(path)
    assert run("models", "verify", REPOSITORY).code == 0
    views = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    expected = load_perceptor(clip_files.find_clip(str(tiny.clip)), CPU).encode_image(views)
    assert torch.equal(load_perceptor(clip_files.find_clip(REPOSITORY), CPU).encode_image(views), expected)
    assert run("models", "remove", REPOSITORY).code == 0
    assert run("models", "path", REPOSITORY).code == 3


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (pickled({"state_dict": Danger()}), "wants to call"),
        (pickled({"visual.proj": torch.zeros(2, 2)}), "Missing key(s)"),
        (b"<!DOCTYPE html><title>log in</title>", "a web page"),
        (b"", "an empty file"),
    ],
    ids=["code", "other tensors", "page", "empty"],
)
def test_a_repository_with_weights_that_are_none_is_refused_in_a_sentence(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, content: bytes, says: str
) -> None:
    with serving_hub(monkeypatch, repository(tiny, "open_clip_pytorch_model.bin", content)):
        pulled = run("models", "pull", REPOSITORY)
    config = tiny.config.read_text("utf-8").replace(str(tiny.clip), REPOSITORY)
    Path("hub.yaml").write_text(config, "utf-8")
    done = run("generate", "a cat", "-c", "hub.yaml", "--steps", "1", "-o", "cat.png")
    assert done.code == 3 and "Traceback" not in pulled.stderr + done.stderr
    assert says in pulled.stderr + done.stderr
    assert not Path("ran").exists()


@pytest.mark.parametrize("config", [b"{", b"{}", b"[[[[", b"<html>"])
def test_a_repository_with_a_config_that_is_none_is_refused_in_a_sentence(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, config: bytes
) -> None:
    content = (tiny.clip / "open_clip_model.safetensors").read_bytes()
    paths = repository(tiny, "open_clip_model.safetensors", content)
    paths["/cdn/open_clip_config.json"].content = config
    for place in paths:
        if place.endswith("open_clip_config.json"):
            paths[place].heads |= {"X-Linked-Etag": f'"{hashlib.sha256(config).hexdigest()}"', "X-Linked-Size": "1"}
    with serving_hub(monkeypatch, paths):
        run("models", "pull", REPOSITORY)
    Path("hub.yaml").write_text(tiny.config.read_text("utf-8").replace(str(tiny.clip), REPOSITORY), "utf-8")
    done = run("generate", "a cat", "-c", "hub.yaml", "--steps", "1", "-o", "cat.png")
    assert done.code == 3 and "Traceback" not in done.stderr and done.stderr.count("Error:") == 1


def test_a_repository_that_is_no_model_of_open_clip_s_is_refused(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = repository(tiny, "model.gguf", b"GGUF")
    with serving_hub(monkeypatch, paths):
        done = run("models", "pull", REPOSITORY)
        assert done.code == 3 and "has none of" in done.stderr
    with serving_hub(monkeypatch, {}):
        done = run("models", "pull", "hf-hub:nobody/nothing")
        assert done.code == 3 and "open_clip_config.json" in done.stderr


def test_a_clip_model_behind_a_plain_link_is_pulled_found_and_removed(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = "ViT-B-32:clipag"
    assert run("models", "path", name).code == 3
    monkeypatch.delenv("HF_HUB_OFFLINE")
    with serving({"/CLIPAG_ViTB32.pt": Behaviour(WEIGHTS)}) as server:
        entry = dataclasses.replace(CLIPS[name], web=f"{server.url}/CLIPAG_ViTB32.pt")
        monkeypatch.setitem(CLIPS, name, entry)  # type: ignore[arg-type]
        done = run("models", "pull", name)
        assert done.code == 0, done.stderr
    path = Path(done.stdout.strip())
    assert path.read_bytes() == WEIGHTS
    files = clip_files.find_clip(name)
    assert (files.architecture, files.weights) == ("ViT-B-32", path)
    assert name in run("models", "list", "--here").stdout
    assert run("models", "verify", name).code == 0
    assert run("models", "remove", name).code == 0 and not path.exists()
    assert run("models", "remove", name).code == 2


def test_damaged_weights_are_found_where_nothing_can_be_remembered(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    content = (tiny.clip / "open_clip_model.safetensors").read_bytes()
    with serving_hub(monkeypatch, repository(tiny, "open_clip_model.safetensors", content)):
        path = Path(run("models", "pull", REPOSITORY).stdout.strip())
    path.resolve().write_bytes(content[:-1] + b"x")
    (tmp_path / "file").touch()
    monkeypatch.setenv("VQCLIP_CACHE", str(tmp_path / "file"))
    for command in ("verify", "pull"):
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)  # which the command before has set
        done = run("models", command, REPOSITORY)
        assert done.code == 3 and "is damaged" in done.stderr, done.stderr
