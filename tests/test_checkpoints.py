import argparse
import collections
import functools
import os
import pickle
import pickletools
import random
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from omegaconf._utils import get_omega_conf_dumper
from safetensors.torch import save_file
from tiny_vqgan import write_lightning

from vqclip.common.errors import ModelError
from vqclip.models.weights.pickle_stubs import Nothing, stand_ins
from vqclip.models.weights.reader import read_metadata, read_tensors

STATE = {"a.weight": torch.arange(6.0).view(2, 3), "a.bias": torch.ones(3), "b": torch.zeros(1000)}


class Runs:
    """Asks its reader to call something, as a malicious file does."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def same(found: dict[str, torch.Tensor]) -> bool:
    return found.keys() == STATE.keys() and all(torch.equal(found[key], STATE[key]) for key in STATE)


# Reading


@pytest.mark.parametrize("new_zip", [True, False], ids=["zip", "legacy"])
def test_every_wrapper_is_opened(tmp_path: Path, new_zip: bool) -> None:
    parameters = {key: torch.nn.Parameter(tensor) for key, tensor in STATE.items()}
    for content in (STATE, {"state_dict": STATE}, {"model": STATE, "epoch": 1}, parameters):
        torch.save(content, tmp_path / "file", _use_new_zipfile_serialization=new_zip)
        found = read_tensors(tmp_path / "file")
        assert same(found)
        assert not any(tensor.requires_grad for tensor in found.values())


def test_tensors_saved_on_a_gpu_are_read_on_the_cpu(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "file")
    with zipfile.ZipFile(tmp_path / "file") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(tmp_path / "file", "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content.replace(b"X\x03\0\0\0cpu", b"X\x06\0\0\0cuda:0"))
    assert b"cuda:0" in (tmp_path / "file").read_bytes()
    assert same(read_tensors(tmp_path / "file"))


def test_safetensors_and_their_notes_are_read_whatever_the_name(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "model.ckpt", {"quantiser": "ibq"})
    assert same(read_tensors(tmp_path / "model.ckpt"))
    assert read_metadata(tmp_path / "model.ckpt") == {"quantiser": "ibq"}
    torch.save(STATE, tmp_path / "other.ckpt")
    assert read_metadata(tmp_path / "other.ckpt") == {}


@pytest.mark.parametrize("new_zip", [True, False], ids=["zip", "legacy"])
def test_lightning_files_load_without_lightning_or_omegaconf(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_zip: bool
) -> None:
    """The file mentions both, and importing either would fail: so nothing of them is used."""
    path = write_lightning(tmp_path / "last.ckpt", STATE, new_zip=new_zip)
    names = _globals_in(path)
    assert {
        "pytorch_lightning.callbacks.model_checkpoint.ModelCheckpoint",
        "pytorch_lightning.utilities.parsing.AttributeDict",
        "omegaconf.dictconfig.DictConfig",
        "omegaconf.base.ContainerMetadata",
        "main.ImageLogger",
    } <= names
    for module in [name for name in sys.modules if name.partition(".")[0] in ("omegaconf", "pytorch_lightning")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "omegaconf", None)
    monkeypatch.setitem(sys.modules, "pytorch_lightning", None)
    before = set(torch.serialization.get_safe_globals())
    assert same(read_tensors(path))
    assert set(torch.serialization.get_safe_globals()) == before


def _globals_in(path: Path) -> set[str]:
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            data = archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))
        pickles = [data]
    else:
        with path.open("rb") as file:
            for _ in range(3):  # magic number, protocol, system
                pickle.load(file)
            pickles = [file.read()]
    found = (argument for data in pickles for code, argument, _ in pickletools.genops(data) if code.name == "GLOBAL")
    return {str(name).replace(" ", ".") for name in found}


def test_stand_ins_keep_nothing_whatever_they_are_sent() -> None:
    for kind, _ in stand_ins():
        made = kind.__new__(kind, "call", {"any": "thing"})
        called = kind(1, [2], None)
        assert len(made) == len(called) == 0
    nothing = Nothing("state")
    nothing.__setstate__({"x": 1})
    nothing.append(1)
    nothing.extend([1, 2])
    assert list(nothing) == [] and not vars(nothing)
    assert {nothing: 1}[nothing] == 1


def test_objects_around_the_tensors_do_not_hinder(tmp_path: Path) -> None:
    counts: dict[str, dict[str, int]] = collections.defaultdict(dict, {"a": {"b": 1}})
    config = OmegaConf.create({"list": [1, 2.5, None, "x"], "table": {"text": "${oc.env:HOME}"}, "flag": True})
    content = {
        "state_dict": STATE,
        "hyper_parameters": {
            "config": config,
            "options": argparse.Namespace(lr=0.1, path=Path("logs"), nested=config.table),
            "counts": counts,
            "numbers": [np.float64(0.5), np.arange(3), np.dtype("int32")],
            "kinds": [int, str, dict],
        },
    }
    for new_zip in (True, False):
        torch.save(content, tmp_path / "file", _use_new_zipfile_serialization=new_zip)
        assert same(read_tensors(tmp_path / "file"))


# Code in a file


def dangers(marker: Path) -> dict[str, Any]:
    touch = f"touch {marker}"
    source = f"open({str(marker)!r}, 'w')"
    return {
        "posix.system": Runs(os.system, touch),
        "eval": Runs(eval, source),
        "exec": Runs(exec, source),
        "getattr": Runs(getattr, Runs(__import__, "os"), "system"),
        "Popen": Runs(subprocess.Popen, ["touch", str(marker)]),
        "torch.serialization.load": Runs(torch.load, str(marker)),
        "functools.partial": Runs(functools.partial, print, str(marker)),
        "omegaconf._utils.get_omega_conf_dumper": Runs(get_omega_conf_dumper),
    }


@pytest.mark.parametrize("name", dangers(Path("marker")))
@pytest.mark.parametrize("new_zip", [True, False], ids=["zip", "legacy"])
def test_code_in_a_file_is_named_and_never_run(tmp_path: Path, name: str, new_zip: bool) -> None:
    marker = tmp_path / "marker"
    danger = dangers(marker)[name]
    chains = [
        danger,
        {"state_dict": STATE, "hyper_parameters": OmegaConf.create({"a": 1}), "callbacks": {"x": [danger]}},
        {"state_dict": STATE, "hyper_parameters": argparse.Namespace(deep=collections.OrderedDict(a=(danger,)))},
        {"state_dict": STATE | {"weight": danger}},
    ]
    for content in chains:
        torch.save(content, tmp_path / "file", _use_new_zipfile_serialization=new_zip)
        with pytest.raises(ModelError, match=rf"wants to call [\w.]*{name}, so it was not read; load it once with"):
            read_tensors(tmp_path / "file")
        assert not marker.exists()


def test_calling_what_a_stand_in_made_does_nothing(tmp_path: Path) -> None:
    """A hand-made pickle: Namespace(…) called, and its result called again."""
    crafted = b"\x80\x02cargparse\nNamespace\n(X\x01\x00\x00\x00atR(X\x01\x00\x00\x00btR."
    _write_zip(tmp_path / "file", crafted)
    with pytest.raises(ModelError, match="was not read"):
        read_tensors(tmp_path / "file")


@pytest.mark.parametrize("crafted", [b"}(X\x01\x00\x00\x00au", b"h\x07", b"(", b"R", b"b", b"\x85", b"\x8a\xff"])
def test_nonsense_instructions_are_one_sentence(tmp_path: Path, crafted: bytes) -> None:
    _write_zip(tmp_path / "file", b"\x80\x02" + crafted + b".")
    with pytest.raises(ModelError):
        read_tensors(tmp_path / "file")


def _write_zip(path: Path, data: bytes) -> None:
    """Write a torch zip around a pickle of ours."""
    torch.save({}, path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, data if name.endswith("data.pkl") else content)


def test_other_pickle_protocols_do_not_warn(tmp_path: Path) -> None:
    torch.save(STATE, tmp_path / "file", pickle_protocol=4)
    with pytest.raises(ModelError, match="holds instructions that weights do not need"):
        read_tensors(tmp_path / "file")


# Files that are something else


def test_what_is_not_a_checkpoint_is_named(tmp_path: Path) -> None:
    cases = {
        b"": "is an empty file",
        b"<!DOCTYPE html><title>Link does not exist</title>": "is a web page, not weights",
        b"\xef\xbb\xbf \n<html>": "is a web page, not weights",
        b"version https://git-lfs.github.com/spec/v1\noid sha256:ab": "Git LFS pointer",
        b"Entry not found": "is no checkpoint",
        b"\x89PNG\r\n\x1a\n" + bytes(100): "is no checkpoint",
        pickle.dumps({"a": 1}, protocol=2): "is truncated or damaged",
        pickle.dumps(Runs(os.system, "true"), protocol=2): "wants to call",
    }
    path = tmp_path / "model.ckpt"
    for content, message in cases.items():
        path.write_bytes(content)
        with pytest.raises(ModelError, match=message) as caught:
            read_tensors(path)
        assert "model.ckpt" in str(caught.value) and "\n" not in str(caught.value)
    torch.save([1, 2, 3], path)
    with pytest.raises(ModelError, match="holds no named tensors"):
        read_tensors(path)


def test_a_missing_file_and_a_folder_are_named(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"There is no file '.*absent\.ckpt'"):
        read_tensors(tmp_path / "absent.ckpt")
    with pytest.raises(ModelError, match="Is a directory"):
        read_tensors(tmp_path)


def test_other_zip_archives_are_named(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "vq-f4.zip", "w") as archive:
        archive.writestr("model.ckpt", b"weights")
    with pytest.raises(ModelError, match="plain zip archive; unpack it"):
        read_tensors(tmp_path / "vq-f4.zip")
    with zipfile.ZipFile(tmp_path / "ViT-B-32.pt", "w") as archive:
        archive.writestr("archive/constants.pkl", b"")
        archive.writestr("archive/data.pkl", b"")
    with pytest.raises(ModelError, match="TorchScript program"):
        read_tensors(tmp_path / "ViT-B-32.pt")


def test_truncated_files_are_named_wherever_they_end(tmp_path: Path) -> None:
    save_file(STATE, tmp_path / "safetensors")
    torch.save(STATE, tmp_path / "zip")
    torch.save(STATE, tmp_path / "legacy", _use_new_zipfile_serialization=False)
    for name in ("safetensors", "zip", "legacy"):
        whole = (tmp_path / name).read_bytes()
        for length in (12, len(whole) // 10, len(whole) // 2, len(whole) - 1):
            (tmp_path / "part").write_bytes(whole[:length])
            with pytest.raises(ModelError, match="truncated or damaged"):
                read_tensors(tmp_path / "part")


@pytest.mark.parametrize("new_zip", [True, False], ids=["zip", "legacy"])
def test_damaged_files_never_raise_anything_else(tmp_path: Path, new_zip: bool) -> None:
    write_lightning(tmp_path / "whole", STATE, new_zip=new_zip)
    whole, rng, refused = (tmp_path / "whole").read_bytes(), random.Random(0), 0
    for _ in range(150):
        damaged = bytearray(whole)
        for _ in range(rng.choice((1, 3, 20))):
            damaged[rng.randrange(2500)] = rng.randrange(256)  # where the pickle is
        (tmp_path / "file").write_bytes(damaged)
        try:
            read_tensors(tmp_path / "file")
        except ModelError:
            refused += 1
    assert refused > 50


@pytest.mark.parametrize(
    "crafted",
    [b"cbuiltins\nbytearray\n(\x8a\x06\x00\x00\x00\x00\x00\x10tR.", b"cbuiltins\nbytearray\n(I1000000000000000\ntR."],
)
def test_a_pickle_that_asks_for_all_memory_is_a_damaged_model(tmp_path: Path, crafted: bytes) -> None:
    """`bytearray(10**15)` was taken for a machine that is too small."""
    path = tmp_path / "a.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02" + crafted)
        archive.writestr("archive/version", b"3")
    with pytest.raises(ModelError):
        read_tensors(path)


def test_several_threads_read_at_once(tmp_path: Path) -> None:
    """What torch's reader allows is the whole process's: one thread's end refused what another was reading."""
    path = write_lightning(tmp_path / "a.ckpt", {"weight": torch.ones(3)})
    with ThreadPoolExecutor(8) as pool:
        for tensors in pool.map(lambda _: read_tensors(path), range(80)):
            assert torch.equal(tensors["weight"], torch.ones(3))


@pytest.mark.parametrize("large", [torch.zeros(1).expand(2**28, 4), torch.zeros(4, 4).to_sparse()])
def test_a_tensor_of_more_numbers_than_the_file_holds_is_damage(tmp_path: Path, large: torch.Tensor) -> None:
    path = tmp_path / "a.ckpt"
    torch.save({"state_dict": {"small": torch.zeros(3), "large": large}}, path)
    assert path.stat().st_size < 10_000
    with pytest.raises(ModelError, match="damaged"):
        read_tensors(path)


def test_tensors_that_share_their_numbers_are_read(tmp_path: Path) -> None:
    whole = torch.arange(12.0).view(3, 4)
    torch.save({"a": whole, "b": whole.T, "c": whole[1]}, tmp_path / "a.ckpt")
    read = read_tensors(tmp_path / "a.ckpt")
    assert torch.equal(read["b"], whole.T) and torch.equal(read["c"], whole[1])
