"""The perceptor against unmodified open_clip, and every way of naming a model."""

import gzip
import hashlib
import json
import logging
import shutil
import time
import warnings
from pathlib import Path

import open_clip
import pytest
import torch
import torch.nn.functional as F
from conftest import TINY_CLIP, TINY_PREPROCESS, TinyModels
from safetensors.torch import load_file, save_file

from vqclip.common.errors import ModelError, UsageError
from vqclip.common.images import to_image, to_tensor
from vqclip.hub import clip_files
from vqclip.hub.clip_files import clip_architecture, find_clip, openai_archives
from vqclip.hub.prior_files import find_prior
from vqclip.models.files import ClipFiles
from vqclip.models.perceptor import Perceptor, load_perceptor

CPU = torch.device("cpu")


@pytest.fixture
def perceptor(tiny: TinyModels) -> Perceptor:
    return load_perceptor(find_clip(str(tiny.clip)), CPU)


def plain_model(tiny: TinyModels) -> torch.nn.Module:
    model = open_clip.CLIP(TINY_CLIP["embed_dim"], TINY_CLIP["vision_cfg"], TINY_CLIP["text_cfg"])
    model.load_state_dict(load_file(tiny.clip / "open_clip_model.safetensors"))
    return model.eval()


def cutouts(count: int = 3) -> torch.Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(1))


def test_pictures_embed_as_in_open_clip(perceptor: Perceptor, tiny: TinyModels) -> None:
    images = cutouts()
    mean, std = TINY_PREPROCESS["mean"][0], TINY_PREPROCESS["std"][0]
    expected = plain_model(tiny).encode_image((images - mean) / std, normalize=True)
    torch.testing.assert_close(perceptor.encode_image(images), expected)


def test_texts_embed_as_in_open_clip_with_the_folder_s_own_merges(perceptor: Perceptor, tiny: TinyModels) -> None:
    tokenizer = open_clip.SimpleTokenizer(bpe_path=str(tiny.clip / "merges.txt.gz"), context_length=12)
    texts = ["a cat", "the sun"]
    expected = plain_model(tiny).encode_text(tokenizer(texts), normalize=True)
    torch.testing.assert_close(perceptor.encode_text(texts), expected)


def test_vectors_have_unit_length_and_a_gradient_reaches_the_picture(perceptor: Perceptor) -> None:
    images = cutouts().requires_grad_()
    features = perceptor.encode_image(images)
    torch.testing.assert_close(features.norm(dim=-1), torch.ones(3))
    features[:, 0].sum().backward()
    assert images.grad is not None and images.grad.abs().sum() > 0


def test_weights_are_frozen_and_the_model_is_in_evaluation_mode(perceptor: Perceptor) -> None:
    assert not perceptor.model.training
    assert not any(weight.requires_grad for weight in perceptor.model.parameters())


def test_bf16_stays_near_fp32(perceptor: Perceptor, tiny: TinyModels) -> None:
    low = load_perceptor(find_clip(str(tiny.clip)), CPU, "bf16")
    features = low.encode_image(cutouts())
    assert features.dtype == torch.float32
    assert F.cosine_similarity(features, perceptor.encode_image(cutouts())).min() > 0.99


def test_whole_pictures_are_seen_as_open_clip_s_own_transform_sees_them(perceptor: Perceptor) -> None:
    pixels = torch.rand(3, 40, 60, generator=torch.Generator().manual_seed(2))
    image = to_image(F.avg_pool2d(pixels[None], 5, 1, 2)[0])
    transform = open_clip.image_transform(16, is_train=False, mean=(0, 0, 0), std=(1, 1, 1), interpolation="bicubic")
    expected = transform(image)
    levels = to_tensor(image)
    torch.testing.assert_close(perceptor.view(levels)[0], expected, atol=1.5 / 255, rtol=0)


def test_without_its_text_tower_it_still_sees_the_same(perceptor: Perceptor) -> None:
    before, size = perceptor.encode_image(cutouts()), sum(p.numel() for p in perceptor.model.parameters())
    perceptor.drop_text_tower()
    assert sum(p.numel() for p in perceptor.model.parameters()) < 0.7 * size
    assert torch.equal(perceptor.encode_image(cutouts()), before)


def test_a_text_over_the_limit_is_never_cut_in_silence(
    perceptor: Perceptor, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging.getLogger("vqclip"), "propagate", True)
    perceptor.encode_text(["a cat"])
    assert not caplog.records
    perceptor.encode_text(["cats and dogs and cats and dogs"])
    assert "does not count" in caplog.text and "reads 10 tokens" in caplog.text


def test_a_model_that_squashes_sees_both_sides(tiny: TinyModels) -> None:
    files = ClipFiles(
        "x", f"local-dir:{tiny.clip}", tiny.clip / "open_clip_model.safetensors", None, {"resize_mode": "squash"}
    )
    perceptor = load_perceptor(files, CPU)
    picture = torch.cat([torch.zeros(1, 3, 8, 40), torch.ones(1, 3, 8, 40)], dim=3)
    seen = perceptor.view(picture)
    assert seen[..., 0].max() < 0.1 and seen[..., -1].min() > 0.9


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("ViT-B-32:openai", "ViT-B-32-quickgelu"),
        ("ViT-B-32-quickgelu:openai", "ViT-B-32-quickgelu"),
        ("ViT-B-32:laion2b_s34b_b79k", "ViT-B-32"),
        ("ViT-B-16:dfn2b", "ViT-B-16-quickgelu"),
    ],
)
def test_the_activation_follows_the_weights(spec: str, expected: str) -> None:
    assert clip_architecture(spec) == expected


def test_published_weights_in_the_cache_bring_their_own_mean_and_std(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = tmp_path / "open_clip_model.safetensors"
    weights.touch()
    monkeypatch.setattr(
        "huggingface_hub.try_to_load_from_cache",
        lambda repository, name, **_: str(weights) if name == weights.name else None,
    )
    monkeypatch.setattr("vqclip.hub.clip_files.bring_tokeniser", lambda *_, **__: None)  # as if they were here
    monkeypatch.setattr("vqclip.hub.clip_files.check_package", lambda *_: None)
    files = find_clip("ViT-B-16-SigLIP-256:webli")
    assert files.weights == weights
    assert files.preprocess["mean"] == (0.5, 0.5, 0.5) and files.preprocess["resize_mode"] == "squash"


def test_a_missing_model_is_found_out_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE")
    find_clip_name = "ViT-B-32:openai"
    clip_architecture(find_clip_name)  # imports open_clip, which is not what is timed
    began = time.process_time()
    with pytest.raises(ModelError, match="vqclip models pull ViT-B-32:openai"):
        find_clip(find_clip_name)
    assert time.process_time() - began < 2


@pytest.mark.parametrize(
    ("spec", "hint"),
    [
        ("ViT-B-32:opnai", "did you mean 'openai'"),
        ("ViT-B-23:openai", "did you mean 'ViT-B-32'"),
        ("nonsense", "name:tag"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(spec: str, hint: str) -> None:
    with pytest.raises(UsageError, match=hint):
        find_clip(spec)


def test_a_local_file_needs_and_gets_an_architecture(tiny: TinyModels, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="which architecture"):
        find_clip(str(tiny.vqgan))
    files = find_clip(f"ViT-B-32:{tiny.vqgan}")
    assert (files.architecture, files.weights) == ("ViT-B-32", tiny.vqgan)


@pytest.mark.slow
def test_a_file_of_another_architecture_is_refused_in_one_sentence(tiny: TinyModels) -> None:
    with pytest.raises(ModelError, match="Cannot load the CLIP model") as caught:
        load_perceptor(find_clip(f"ViT-S-32-alt:{tiny.vqgan}"), CPU)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("damage", ["truncated", "not json", "no config", "no weights", "NaN"])
def test_a_damaged_folder_is_refused(tiny: TinyModels, tmp_path: Path, damage: str) -> None:
    folder = tmp_path / "clip"
    shutil.copytree(tiny.clip, folder)
    weights, config = folder / "open_clip_model.safetensors", folder / "open_clip_config.json"
    {
        "truncated": lambda: weights.write_bytes(weights.read_bytes()[:1000]),
        "not json": lambda: config.write_text("{"),
        "no config": config.unlink,
        "no weights": weights.unlink,
        "NaN": lambda: save_file({name: t * float("nan") for name, t in load_file(weights).items()}, weights),
    }[damage]()
    with pytest.raises(ModelError):
        load_perceptor(find_clip(str(folder)), CPU)


@pytest.fixture
def archive(tiny: TinyModels, tmp_path: Path) -> Path:
    """A TorchScript archive with the tensors of the tiny CLIP and OpenAI's extra numbers, in half precision."""

    class Holder(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("input_resolution", torch.tensor(16))
            self.register_buffer("context_length", torch.tensor(12))
            self.register_buffer("vocab_size", torch.tensor(TINY_CLIP["text_cfg"]["vocab_size"]))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    holder = Holder()
    for name, tensor in load_file(tiny.clip / "open_clip_model.safetensors").items():
        *parents, leaf = name.split(".")
        module: torch.nn.Module = holder
        for parent in parents:
            if not hasattr(module, parent):
                module.add_module(parent, torch.nn.Module())
            module = getattr(module, parent)
        module.register_parameter(leaf, torch.nn.Parameter(tensor.half()))
    path = tmp_path / "archive.pt"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(holder).save(str(path))
    return path


@pytest.mark.slow
def test_an_openai_archive_is_known_by_its_hash_and_converted_once(
    archive: Path, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    monkeypatch.setattr(clip_files, "openai_archives", lambda: {digest: "ViT-B-32-quickgelu"})
    files = find_clip(str(archive))
    expected = load_file(tiny.clip / "open_clip_model.safetensors")
    converted = load_file(files.weights)
    assert files.architecture == "ViT-B-32-quickgelu"
    assert converted.keys() == expected.keys()
    assert all(torch.equal(converted[name], expected[name].half()) for name in expected)
    monkeypatch.setattr("subprocess.run", None)  # a second conversion would fail
    assert find_clip(f"ViT-B-32:{archive}").weights == files.weights


def test_another_torchscript_program_is_not_run(archive: Path) -> None:
    with pytest.raises(ModelError, match="not one of OpenAI's"):
        find_clip(str(archive))


def test_openai_s_hashes_are_those_published() -> None:
    table = openai_archives()
    assert table["40d365715913c9da98579312b702a82c18be219cc2a73407c4526f58eba950af"] == "ViT-B-32-quickgelu"
    assert all(len(digest) == 64 for digest in table)


def test_the_preprocessing_is_the_folder_s(perceptor: Perceptor, tiny: TinyModels) -> None:
    settings = json.loads((tiny.clip / "open_clip_config.json").read_text())["preprocess_cfg"]
    assert perceptor.size == settings["size"]
    assert perceptor.std.flatten().tolist() == settings["std"]


@pytest.mark.parametrize(
    "spec",
    [
        "",
        "hf-hub:",
        "hf-hub:ViT-B-16-SigLIP",
        "hf-hub:../a",
        "hf-hub:a/b/c",
        "hf-hub:" + "n" * 300 + "/a",
        "local-dir:/no/such",
        "local-dir:",
        "ViT-B-32:/no/such.safetensors",
        "ViT-B-32:gone.pt",
        "gone.pt",
        "/no/such:openai",
        "n" * 300,
        "ViT-B-32:" + "n" * 300,
        "n" * 300 + ":openai",
        "a\0b",
        "ViT-B-32:a\0b",
        "nothing-like-it:openai",
        ":",
    ],
    ids=lambda spec: ascii(spec[:30]),
)
def test_a_spec_that_names_nothing_is_one_short_sentence(spec: str) -> None:
    """A path was looked up as a name, and the answer was a list of 3,000 characters."""
    for find in (find_clip, clip_architecture):
        with pytest.raises(UsageError) as caught:
            find(spec)
        assert len(str(caught.value)) < 900


def in_the_cache(tiny: TinyModels, cache: Path, repository: str) -> Path:
    """The tiny model as Hugging Face's cache holds a repository: links with names to files named by their hashes."""
    home = cache / f"models--{repository.replace('/', '--')}"
    snapshot = home / "snapshots" / ("0" * 40)
    (home / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    (home / "refs").mkdir()
    (home / "refs" / "main").write_text("0" * 40)
    for path in tiny.clip.iterdir():
        blob = home / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(blob)
    return snapshot


def test_a_repository_in_the_hub_s_cache_is_a_model_by_its_name_and_as_a_folder(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    snapshot = in_the_cache(tiny, tmp_path, "somebody/tiny.clip")
    expected = load_perceptor(find_clip(str(tiny.clip)), CPU).encode_image(cutouts())
    for spec in ("hf-hub:somebody/tiny.clip", str(snapshot)):
        files = find_clip(spec)
        assert files.name == spec and files.architecture == clip_architecture(spec)
        assert torch.equal(load_perceptor(files, CPU).encode_image(cutouts()), expected)


@pytest.mark.parametrize("missing", ["open_clip_config.json", "open_clip_model.safetensors", "everything"])
def test_a_repository_that_is_not_whole_is_said_to_be_missing(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, missing: str
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    if missing != "everything":
        (in_the_cache(tiny, tmp_path, "somebody/tiny") / missing).unlink()
    with pytest.raises(ModelError, match="vqclip models pull hf-hub:somebody/tiny"):
        find_clip("hf-hub:somebody/tiny")


def test_a_path_that_is_not_there_is_called_one() -> None:
    for spec in ("local-dir:/no/such", "ViT-B-32:/no/such.safetensors"):
        with pytest.raises(UsageError, match="is not there: no file or folder has this name"):
            find_clip(spec)


@pytest.mark.parametrize("name", clip_files.FOLDER_NAMES)
def test_a_folder_may_call_its_weights_what_open_clip_calls_them(tiny: TinyModels, tmp_path: Path, name: str) -> None:
    shutil.copytree(tiny.clip, tmp_path / "clip")
    state = load_file(tmp_path / "clip" / "open_clip_model.safetensors")
    (tmp_path / "clip" / "open_clip_model.safetensors").unlink()
    path = tmp_path / "clip" / name
    save_file(state, path) if name.endswith(".safetensors") else torch.save(state, path)
    files = find_clip(f"local-dir:{tmp_path / 'clip'}")
    assert files.weights == path
    expected = load_perceptor(find_clip(str(tiny.clip)), CPU).encode_image(cutouts())
    assert torch.equal(load_perceptor(files, CPU).encode_image(cutouts()), expected)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"PK\x05\x06" + bytes(18), b"hello", b"\x80\x04."])
def test_weights_that_are_none_are_refused(tmp_path: Path, content: bytes) -> None:
    bad = tmp_path / "bad.zip"
    bad.write_bytes(content)
    with pytest.raises((ModelError, UsageError)):
        load_perceptor(find_clip(f"ViT-B-32:{bad}"), CPU)
    with pytest.raises((ModelError, UsageError)):
        find_clip(str(bad))


@pytest.mark.parametrize(
    "content", [b"no gzip", gzip.compress(b"x" * 30_000_000, mtime=0), gzip.compress(b"x" * 999, mtime=0)[:20]]
)
def test_a_tokenisers_file_that_is_none_is_refused(tiny: TinyModels, tmp_path: Path, content: bytes) -> None:
    """A gzip of 30 kB may hold gigabytes."""
    for source, use in ((tiny.clip, find_clip), (tiny.prior, find_prior)):
        folder = tmp_path / source.name
        shutil.copytree(source, folder)
        (folder / "merges.txt.gz").write_bytes(content)
        with pytest.raises(ModelError, match="The tokeniser's file"):
            use(str(folder))
