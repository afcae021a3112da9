"""Tokenisers of Hugging Face's that a CLIP model needs: fetched with it, asked for where they are missing, refused
where they would run a program.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from command import Command
from conftest import TinyModels
from faulty_server import Behaviour
from published import COMMIT, serving_hub

from vqclip.common.errors import ModelError
from vqclip.hub import clip_tokenisers
from vqclip.hub.access import Access
from vqclip.hub.clip_files import find_clip
from vqclip.hub.clip_tokenisers import bring_tokeniser
from vqclip.hub.hub_cache import cached_file

SPEC = "ViT-B-32-SigLIP2-256:webli"
REPOSITORY = "timm/ViT-B-32-SigLIP2-256"
TOKENISER = {
    "tokenizer_config.json": b'{"tokenizer_class": "GemmaTokenizer"}',
    "tokenizer.json": b'{\n  "version": "1.0"}',
}


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's cache is this test's own, and transformers seems to be installed."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.environ["HF_HUB_CACHE"])
    monkeypatch.setattr(clip_tokenisers, "find_spec", lambda name: True)


def hub(repository: str, files: dict[str, bytes]) -> dict[str, Behaviour]:
    """A hub with one repository."""
    paths = {}
    for name, data in files.items():
        facts = {"X-Repo-Commit": COMMIT, "X-Linked-Etag": f'"{hashlib.sha256(data).hexdigest()}"'}
        facts["X-Linked-Size"] = str(len(data))
        for revision in ("main", COMMIT):
            paths[f"/{repository}/resolve/{revision}/{name}"] = Behaviour(b"", redirect=f"/cdn/{name}", heads=facts)
        paths[f"/cdn/{name}"] = Behaviour(data)
    return paths


def refused(text: dict[str, Any], tiny: TinyModels, folder: Path, files: dict[str, object] | None = None) -> str:
    """What is said of a CLIP folder with this text config and these further files."""
    copied(tiny.clip, folder)
    whole = json.loads((folder / "open_clip_config.json").read_text("utf-8"))
    whole["model_cfg"]["text_cfg"] |= text
    (folder / "open_clip_config.json").write_text(json.dumps(whole), "utf-8")
    for name, content in (files or {}).items():
        (folder / name).write_text(json.dumps(content), "utf-8")
    with pytest.raises(ModelError) as told:
        find_clip(str(folder))
    return str(told.value)


def copied(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def test_a_tokeniser_is_pulled_with_its_model_and_both_are_found_from_then_on(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: TinyModels
) -> None:
    run = Command(monkeypatch, capsys)
    weights = (tiny.clip / "open_clip_model.safetensors").read_bytes()
    paths = hub(REPOSITORY, {"open_clip_model.safetensors": weights, **TOKENISER})
    with serving_hub(monkeypatch, paths):
        done = run("models", "pull", SPEC)
    assert done.code == 0, done.stderr
    assert find_clip(SPEC).weights == Path(done.stdout.strip())
    for name, content in TOKENISER.items():
        path = cached_file(REPOSITORY, name)
        assert path is not None and path.read_bytes() == content


def test_weights_without_their_tokeniser_are_told_apart_from_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tiny: TinyModels
) -> None:
    weights = (tiny.clip / "open_clip_model.safetensors").read_bytes()
    with serving_hub(monkeypatch, hub(REPOSITORY, {"open_clip_model.safetensors": weights})):
        done = Command(monkeypatch, capsys)("models", "pull", SPEC)
        assert done.code == 3 and "tokenizer_config.json" in done.stderr and "Traceback" not in done.stderr
    with pytest.raises(ModelError, match=r"'tokenizer_config.json' of timm/.* vqclip models pull ViT-B-32-SigLIP2"):
        find_clip(SPEC)
    with pytest.raises(ModelError, match="offline forbids"):
        find_clip(SPEC, Access.FORBIDDEN)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ({}, []),
        ({"context_length": 77}, []),
        ({"hf_tokenizer_name": "a/b"}, ["a/b tokenizer_config.json", "a/b tokenizer.json", "a/b config.json"]),
        ({"hf_model_name": "c"}, ["c tokenizer_config.json", "c tokenizer.json", "c config.json"]),
        (
            {"hf_tokenizer_name": "a/b", "hf_model_name": "c/d"},
            ["a/b tokenizer_config.json", "a/b tokenizer.json", "a/b config.json", "c/d config.json"],
        ),
    ],
)
def test_what_each_config_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, text: dict[str, str], names: list[str]
) -> None:
    asked = []

    def pull(repository: str, files: list[str], *_: object, **__: object) -> Path:
        asked.append(f"{repository} {files[0]}")
        path = tmp_path / files[0]
        path.write_text("{}", "utf-8")
        return path

    monkeypatch.setattr(clip_tokenisers, "pull_file", pull)
    monkeypatch.setattr(clip_tokenisers, "offers", lambda repository, file: True)
    bring_tokeniser(text, "a model", Access.FETCH)
    assert asked == names


def test_a_repository_of_somebody_s_keeps_its_tokeniser_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_hub(monkeypatch, hub("somebody/words", TOKENISER)):
        text = {"hf_tokenizer_name": "../../elsewhere"}
        bring_tokeniser(text, "hf-hub:somebody/words", Access.FETCH, repository="somebody/words")
    assert cached_file("somebody/words", "tokenizer.json")


@pytest.mark.parametrize(
    "kwargs",
    [
        {"trust_remote_code": True},
        {"clean": "canonicalize", "cache_dir": "/"},
        ["trust_remote_code"],
        [[1, 2], ["a", 3]],
        "x",
        3,
    ],
)
def test_a_config_tells_a_tokeniser_how_to_read_and_no_more(tiny: TinyModels, tmp_path: Path, kwargs: object) -> None:
    said = refused({"hf_tokenizer_name": "x", "tokenizer_kwargs": kwargs}, tiny, tmp_path / "clip")
    assert "open_clip_config.json" in said and ("tokenizer_kwargs may hold" in said or "is not a config" in said)


@pytest.mark.parametrize("name", ["tokenizer_config.json", "config.json"])
def test_a_folder_that_asks_to_run_a_program_is_refused(tiny: TinyModels, tmp_path: Path, name: str) -> None:
    asks = {"auto_map": {"AutoTokenizer": ["evil.Evil", None]}}
    assert "auto_map" in refused({"hf_tokenizer_name": "x"}, tiny, tmp_path / "clip", {name: asks})
    assert "no JSON object" in refused({}, tiny, tmp_path / "clip2", {name: [1, 2]})


def test_a_tokeniser_of_the_hub_that_asks_to_run_a_program_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    files = {**TOKENISER, "tokenizer_config.json": b'{"auto_map": {"AutoTokenizer": ["x--evil.Evil", null]}}'}
    with serving_hub(monkeypatch, hub(REPOSITORY, files)), pytest.raises(ModelError, match="auto_map"):
        bring_tokeniser({"hf_tokenizer_name": REPOSITORY}, SPEC, Access.FETCH)
