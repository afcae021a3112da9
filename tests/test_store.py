"""The store: published files and the user's own become slim models under a name, or a sentence says why not."""

import argparse
import errno
import functools
import hashlib
import json
import logging
import os
import pickle
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Command
from conftest import TINY_SIZES, TinyModels
from faulty_server import Behaviour, serving
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from tiny_vqgan import loss_tensors, weights, write_lightning, write_yaml

from vqclip.common.errors import ModelError, OutputError, UsageError
from vqclip.common.hashes import sha256
from vqclip.hub import conversion, store
from vqclip.hub.access import Access, choose_access
from vqclip.hub.conversion import convert_file
from vqclip.hub.sources import WebFile
from vqclip.hub.store import convert_vqgan, locate, pull_vqgan, remove, verify
from vqclip.hub.store_index import read_record, store_dir, stored_file, stored_names, write_record
from vqclip.hub.vqgan_catalogue import VQGANS, PublishedVQGAN
from vqclip.models.vqgan import load_vqgan


@pytest.fixture(autouse=True)
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


@pytest.fixture
def lightning(tmp_path: Path) -> Path:
    """A training file as they were published: callbacks and hyper-parameters around the weights."""
    return write_lightning(tmp_path / "last.ckpt", {**weights(TINY_SIZES), **loss_tensors()})


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes, *places: str, **changed: Any) -> PublishedVQGAN:
    """Put these links into the catalogue as `imagenet-1024`."""
    entry = PublishedVQGAN(
        name="imagenet-1024",
        places=tuple(WebFile(place) for place in places),
        size=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
        trained_on="nothing",
        good_for="tests",
        terms="none",
        architecture=TINY_SIZES,
    )
    entry = replace(entry, **changed)
    monkeypatch.setattr(store, "VQGANS", {**VQGANS, entry.name: entry})
    return entry


def same_picture(first: Path, second: Path, within: float) -> bool:
    codes = torch.arange(16).view(1, 4, 4)
    pictures = [model.decode(model.lookup(codes)) for model in map(load_vqgan, (first, second))]
    return torch.allclose(*pictures, atol=within)


def test_a_pulled_model_is_slim_and_draws_the_same(monkeypatch: pytest.MonkeyPatch, lightning: Path) -> None:
    content = lightning.read_bytes()
    with serving({"/a": Behaviour(content, ["cut:1000"])}) as server:
        path = pull_vqgan(publish(monkeypatch, content, server.url + "/a"))
        assert locate("imagenet-1024", Access.FETCH) == path
        assert len(server.asked) == 2
    assert path == store_dir() / "imagenet-1024.safetensors"
    assert same_picture(path, lightning, 0)
    with safe_open(path, "pt") as file:
        header = file.metadata()
        assert not any(key.startswith("loss.") for key in file.keys())  # noqa: SIM118
    assert json.loads(header["architecture"])["n_embed"] == TINY_SIZES.n_embed
    assert header["original"] == hashlib.sha256(content).hexdigest()
    assert sorted(p.name for p in store_dir().rglob("*") if p.is_file() and p.suffix != ".lock") == [
        "imagenet-1024.json",
        "imagenet-1024.safetensors",
    ]


def test_half_precision_halves_the_file(monkeypatch: pytest.MonkeyPatch, lightning: Path) -> None:
    content = lightning.read_bytes()
    with serving({"/a": Behaviour(content)}) as server:
        entry = publish(monkeypatch, content, server.url + "/a")
        whole = pull_vqgan(entry).stat().st_size
        path = pull_vqgan(entry, half=True, keep_original=True, force=True)
    assert path.stat().st_size < 0.6 * whole
    assert same_picture(path, lightning, 2e-2)
    assert (store_dir() / "originals" / "imagenet-1024.ckpt").read_bytes() == content
    record = read_record("imagenet-1024")
    assert record and record.half


def test_a_file_that_is_no_model_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    content = b"\x80" + bytes(1000)
    with serving({"/a": Behaviour(content)}) as server:
        entry = publish(monkeypatch, content, server.url + "/a")
        with pytest.raises(ModelError, match="so it was not read"):
            pull_vqgan(entry)
    assert stored_file("imagenet-1024") is None and list((store_dir() / "originals").iterdir()) == []


def test_another_network_than_published_is_refused(monkeypatch: pytest.MonkeyPatch, lightning: Path) -> None:
    content = lightning.read_bytes()
    with serving({"/a": Behaviour(content)}) as server:
        sizes = replace(TINY_SIZES, n_embed=32)
        entry = publish(monkeypatch, content, server.url + "/a", architecture=sizes)
        with pytest.raises(ModelError, match=r"holds another network: 16 codes of 4 .* instead of 32 of 4"):
            pull_vqgan(entry)
        assert pull_vqgan(replace(entry, exact=False)).is_file()


PULL = """
import sys
from dataclasses import replace
from conftest import TINY_SIZES
from vqclip.hub.vqgan_catalogue import VQGANS
from vqclip.hub.sources import WebFile
from vqclip.hub.store import pull_vqgan
entry = replace(VQGANS["imagenet-1024"], places=(WebFile(sys.argv[1]),), sha256=None, architecture=TINY_SIZES)
print(pull_vqgan(entry))
"""


def test_two_processes_fetch_once(lightning: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    with serving({"/a": Behaviour(lightning.read_bytes(), ["slow"])}) as server:
        words = [sys.executable, "-c", PULL, server.url + "/a"]
        both = [subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        told = [process.communicate()[0].strip() for process in both]
        assert [process.returncode for process in both] == [0, 0]
        assert told == [str(store_dir() / "imagenet-1024.safetensors")] * 2
        assert len(server.asked) == 1


def test_an_absent_model_says_how_to_get_it() -> None:
    with pytest.raises(ModelError) as caught:
        locate("imagenet-16384")
    assert "vqclip models pull imagenet-16384" in str(caught.value) and "980 MB" in str(caught.value)
    assert not store_dir().exists()


def test_offline_never_asks_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr(store, "pull_vqgan", lambda entry: pytest.fail("it was asked"))
    assert choose_access(pull=True) is choose_access(pull=True, offline=True) is Access.FORBIDDEN
    with pytest.raises(ModelError, match="offline forbids"):
        locate("imagenet-16384", choose_access(pull=True))


def test_both_ways_to_the_network_trust_the_same_certificates(monkeypatch: pytest.MonkeyPatch) -> None:
    """huggingface_hub, which fetches tokenisers, reads SSL_CERT_FILE only."""
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "mine.pem")
    assert choose_access(pull=True) is Access.FETCH
    assert os.environ["SSL_CERT_FILE"] == "mine.pem"


def test_an_unknown_name_suggests_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean 'imagenet-16384'"):
        locate("imagenet-1638")


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_a_file_put_there_by_hand_is_used(suffix: str) -> None:
    store_dir().mkdir(parents=True)
    path = store_dir() / f"imagenet-1024{suffix}"
    path.write_bytes(b"weights")
    assert locate("imagenet-1024") == path
    assert verify("imagenet-1024").sha256 == hashlib.sha256(b"weights").hexdigest()


def test_a_published_file_put_there_by_hand_must_be_the_published_one() -> None:
    store_dir().mkdir(parents=True)
    (store_dir() / "gumbel-f8.ckpt").write_bytes(b"weights")
    with pytest.raises(ModelError, match="not the published 'gumbel-f8'; mend it with: vqclip models pull gumbel-f8"):
        verify("gumbel-f8")


@pytest.mark.parametrize("keep_time", [True, False])
def test_a_file_that_changed_is_refused_with_what_mends_it(tiny: TinyModels, keep_time: bool) -> None:
    path = convert_vqgan(tiny.vqgan, "flowers")
    before = path.stat()
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    if keep_time:  # only reading it whole finds that out, and it is remembered
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert locate("flowers") == path
        with pytest.raises(ModelError, match="not what was stored as 'flowers'"):
            verify("flowers")
    with pytest.raises(ModelError, match="convert it again: vqclip models convert FILE --name flowers --force"):
        locate("flowers")
    convert_vqgan(tiny.vqgan, "flowers", force=True)
    assert locate("flowers") == path


def test_a_file_that_was_only_touched_is_accepted(tiny: TinyModels) -> None:
    path = convert_vqgan(tiny.vqgan, "flowers")
    os.utime(path, ns=(1, 1))
    assert locate("flowers") == path
    assert read_record("flowers").mtime_ns == 1  # type: ignore[union-attr]


def test_a_shortened_file_is_refused_without_reading_it(tiny: TinyModels) -> None:
    path = convert_vqgan(tiny.vqgan, "flowers")
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(ModelError, match="not what was stored"):
        locate("flowers")


@pytest.mark.parametrize("name", ["../evil", "a/b", "", ".hidden", "embedded", "x" * 201, "a:b", "a "])
def test_names_stay_in_the_store(tiny: TinyModels, name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        convert_vqgan(tiny.vqgan, name)


def test_a_taken_name_is_not_overwritten(tiny: TinyModels) -> None:
    convert_vqgan(tiny.vqgan, "flowers")
    with pytest.raises(UsageError, match="has a model 'flowers' already"):
        convert_vqgan(tiny.vqgan, "flowers")
    assert stored_names() == ["flowers"]


def test_removing_frees_everything(tiny: TinyModels) -> None:
    path = convert_vqgan(tiny.vqgan, "flowers")
    size = path.stat().st_size
    assert remove("flowers") > size
    assert stored_names() == [] and read_record("flowers") is None
    with pytest.raises(UsageError, match="has no model 'flowers'"):
        remove("flowers")


def test_removing_takes_a_broken_download_and_leaves_the_neighbours(tiny: TinyModels) -> None:
    convert_vqgan(tiny.vqgan, "flowers")
    convert_vqgan(tiny.vqgan, "flowers.ckpt")
    folder = store_dir() / "originals" / "flowers.ckpt.hub"
    folder.mkdir(parents=True)
    (folder / "part").write_bytes(bytes(10**6))
    assert remove("flowers") > 10**6
    assert stored_names() == ["flowers.ckpt"] and not folder.exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_a_sentence(tiny: TinyModels, monkeypatch: pytest.MonkeyPatch) -> None:
    write = store.save_vqgan
    monkeypatch.setattr(
        store, "save_vqgan", lambda source, part, *rest, **more: write(source, Path("/dev/full"), *rest)
    )
    with pytest.raises(OutputError, match=r"Cannot write .*flowers"):
        convert_vqgan(tiny.vqgan, "flowers")
    assert stored_names() == []


def test_a_cache_that_cannot_be_made_is_named(tiny: TinyModels) -> None:
    store_dir().parent.write_text("a file where the folder should be")
    with pytest.raises(OutputError, match="Cannot write the VQGAN 'flowers'"):
        convert_vqgan(tiny.vqgan, "flowers")


# Converting files


def test_the_yaml_beside_a_file_is_heeded(lightning: Path) -> None:
    write_yaml(lightning.with_suffix(".yaml"), replace(TINY_SIZES, n_embed=32))
    with pytest.raises(ModelError, match="says n_embed is 32, but the weights have 16"):
        convert_file(lightning, "flowers", None)


def test_a_converted_file_can_be_written_anywhere(lightning: Path, tmp_path: Path) -> None:
    path = convert_file(lightning, None, tmp_path / "new" / "a.safetensors", half=True)
    assert same_picture(path, lightning, 2e-2)
    with pytest.raises(OutputError, match="is there already"):
        convert_file(lightning, None, path)
    with pytest.raises(UsageError, match=r"must end in \.safetensors"):
        convert_file(lightning, None, tmp_path / "a.ckpt")
    assert [p.name for p in path.parent.iterdir()] == ["a.safetensors"]


class Runs:
    """Asks its reader to call something, as a malicious file does."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = (function, arguments)

    def __reduce__(self) -> Any:
        return self.call


def evil(tmp_path: Path, where: str) -> tuple[Path, Path]:
    """A checkpoint with good weights that wants to make a file, from one of several places; and that file."""
    trace = tmp_path / "trace"
    command = Runs(os.system, f"touch {trace}")
    content: dict[str, Any] = {"state_dict": weights(TINY_SIZES)}
    places: dict[str, Any] = {
        "beside": {**content, "epoch": command},
        "hyper-parameters": {**content, "hyper_parameters": {"config": argparse.Namespace(inner=[{"deep": command}])}},
        "eval": {**content, "x": Runs(eval, f"open({str(trace)!r}, 'w').close()")},
        "chain": {**content, "x": Runs(functools.partial, Runs(getattr, Runs(__import__, "os"), "system"))},
        "key": {**content, Runs(os.system, f"touch {trace}"): 1},
    }
    torch.save(places[where], tmp_path / "evil.ckpt")
    return tmp_path / "evil.ckpt", trace


@pytest.mark.parametrize("where", ["beside", "hyper-parameters", "eval", "chain", "key"])
def test_code_in_a_file_is_refused_and_never_run(tmp_path: Path, where: str) -> None:
    file, trace = evil(tmp_path, where)
    with pytest.raises(ModelError, match=r"wants to call .*--trust-pickle"):
        convert_file(file, "flowers", None)
    with pytest.raises(ModelError, match=r"none of the published files.*--trust-pickle [0-9a-f]{64}"):
        convert_file(file, "flowers", None, trust="catalogue")
    with pytest.raises(UsageError, match="is not the SHA-256"):
        convert_file(file, "flowers", None, trust="yes")
    assert not trace.exists() and stored_names() == []


def test_the_users_word_lets_it_run_in_another_process(tmp_path: Path) -> None:
    file, trace = evil(tmp_path, "hyper-parameters")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    path = convert_file(file, "flowers", None, trust=digest)
    assert trace.exists()  # that is what was asked for
    plain = tmp_path / "plain.ckpt"
    torch.save(weights(TINY_SIZES), plain)
    assert same_picture(path, plain, 0)


def test_the_catalogues_hash_is_word_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, _ = evil(tmp_path, "beside")
    publish(monkeypatch, file.read_bytes(), "http://127.0.0.1:9/a")
    assert convert_file(file, "flowers", None, trust="catalogue").is_file()


def test_classes_that_are_not_installed_do_not_hinder(tmp_path: Path) -> None:
    module = tmp_path / "gone.py"
    module.write_text("class Callback:\n    def __init__(self): self.a = 1\n")
    script = (
        "import sys, torch; sys.path.insert(0, sys.argv[1]); import gone; from conftest import TINY_SIZES\n"
        "from tiny_vqgan import weights\n"
        "torch.save({'state_dict': weights(TINY_SIZES), 'x': gone.Callback()}, sys.argv[2])"
    )
    file = tmp_path / "old.ckpt"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}
    subprocess.run([sys.executable, "-c", script, str(tmp_path), str(file)], check=True, env=environment)
    with pytest.raises(ModelError, match=r"gone\.Callback"):
        convert_file(file, "flowers", None)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert convert_file(file, "flowers", None, trust=digest[:20]).is_file()


def test_what_cannot_be_read_even_so_is_named(tmp_path: Path) -> None:
    file = tmp_path / "junk.ckpt"
    file.write_bytes(pickle.dumps([1, 2]))
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    with pytest.raises(ModelError, match="even with its code"):
        convert_file(file, "flowers", None, trust=digest)


# Names, records and files that somebody else wrote

OUTSIDE = ("../../out/t", "/etc/hostname", "..", "", ".", "a/b", "a\\b", "n" * 300, "a\0b")


@pytest.mark.parametrize("name", OUTSIDE, ids=ascii)
@pytest.mark.parametrize("use", [locate, verify, remove, stored_file, read_record])
def test_a_name_is_never_a_path(tmp_path: Path, use: Any, name: str) -> None:
    """`models remove /some/where/last` deleted files outside the store."""
    store_dir().mkdir(parents=True)
    outside = [tmp_path / "out" / f"t{suffix}" for suffix in (".ckpt", ".safetensors", ".json")]
    outside[0].parent.mkdir()
    for path in outside:
        path.write_text("{}")
    with pytest.raises(UsageError, match="cannot be a model's name"):
        use(name)
    assert [path.read_text() for path in outside] == ["{}"] * 3


def test_the_command_line_keeps_names_in_the_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Command(monkeypatch, capsys)
    (tmp_path / "last.ckpt").write_bytes(b"mine")
    for words in (
        ("remove", str(tmp_path / "last")),
        ("verify", "../../last"),
        ("path", "../../last"),
        ("info", "../../last"),
        ("pull", "../../last"),
        ("convert", str(tmp_path / "last.ckpt"), "--name", "../last"),
    ):
        done = run("models", *words)
        assert done.code == 2 and "Traceback" not in done.stderr, (words, done)
    assert (tmp_path / "last.ckpt").read_bytes() == b"mine"


def test_removing_one_model_leaves_another_whose_name_begins_alike(tiny: TinyModels) -> None:
    convert_vqgan(tiny.vqgan, "a")
    originals = store_dir() / "originals"
    originals.mkdir()
    for name in ("a.ckpt", "a.ckpt.0123abcd.part", "a.ckpt.b.ckpt", "a.ckptish.ckpt", "ab.ckpt"):
        (originals / name).touch()
    remove("a")
    assert sorted(path.name for path in originals.iterdir()) == ["a.ckpt.b.ckpt", "a.ckptish.ckpt", "ab.ckpt"]


def test_a_record_of_another_name_is_not_followed(tiny: TinyModels, tmp_path: Path) -> None:
    """A record whose `name` is a path made `models path` write there."""
    path = convert_vqgan(tiny.vqgan, "flowers")
    record = path.with_suffix(".json")
    facts = {**json.loads(record.read_text()), "name": "../../out/t"}
    (tmp_path / "out").mkdir()
    record.write_text(json.dumps({key: value for key, value in facts.items() if key != "check"}))
    os.utime(path, ns=(1, 1))
    assert locate("flowers") == path and verify("flowers").name == "flowers"
    assert list((tmp_path / "out").iterdir()) == []


def test_any_flipped_bit_of_a_record_is_noticed(tiny: TinyModels, caplog: pytest.LogCaptureFixture) -> None:
    path = convert_vqgan(tiny.vqgan, "flowers").with_suffix(".json")
    whole, good = path.read_bytes(), read_record("flowers")
    for bit in random.Random(0).sample(range(8 * len(whole)), 200):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        assert read_record("flowers") in (None, good)  # a blank may become another one


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(["name", "size", "mtime_ns", "sha256", "source", "original", "half", "damaged", "more"]),
        st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.none(), max_size=1),
    )
    | st.binary(max_size=20)
    | st.sampled_from([b"[" * 5000, b'{"name": NaN}', b"1e999", b'{"size": ' + b"9" * 5000 + b"}"])
)
def test_any_record_is_read_as_data(content: Any) -> None:
    store_dir().mkdir(parents=True, exist_ok=True)
    (store_dir() / "x.json").write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())
    record = read_record("x")
    assert record is None or (record.name == "x" and type(record.size) is int and type(record.damaged) is bool)


def test_a_kept_original_is_checked_before_it_is_used(monkeypatch: pytest.MonkeyPatch, lightning: Path) -> None:
    content = lightning.read_bytes()
    with serving({"/a": Behaviour(content)}) as server:
        entry = publish(monkeypatch, content, server.url + "/a")
        path = pull_vqgan(entry, keep_original=True)
        original = store_dir() / "originals" / "imagenet-1024.ckpt"
        pull_vqgan(entry, keep_original=True, force=True)
        assert len(server.asked) == 1
        original.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        pull_vqgan(entry, keep_original=True, force=True)
        assert len(server.asked) == 2 and original.read_bytes() == content
        pull_vqgan(replace(entry, sha256=None), keep_original=True, force=True)  # nobody can tell what is kept
        assert len(server.asked) == 3
    assert same_picture(path, lightning, 0)


def test_a_model_that_a_check_found_damaged_is_not_said_to_be_there(
    monkeypatch: pytest.MonkeyPatch, lightning: Path
) -> None:
    content = lightning.read_bytes()
    with serving({"/a": Behaviour(content)}) as server:
        entry = publish(monkeypatch, content, server.url + "/a")
        path = pull_vqgan(entry)
        before = path.stat()
        path.write_bytes(path.read_bytes()[:-1] + b"\xff")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        with pytest.raises(ModelError):
            verify(entry.name)
        with pytest.raises(ModelError, match="mend it with: vqclip models pull imagenet-1024 --force"):
            pull_vqgan(entry)


def test_verify_answers_where_the_store_cannot_be_written(
    tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(logging.getLogger("vqclip"), "propagate", True)
    path = convert_vqgan(tiny.vqgan, "flowers")

    def forbidden(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "write_text", forbidden)
    assert verify("flowers").sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    path.write_bytes(path.read_bytes() + b"x")
    with pytest.raises(ModelError, match="not what was stored"):
        verify("flowers")
    assert "Read-only file system" in caplog.text and "not remembered" in caplog.text


def test_what_is_hashed_is_what_is_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that is swapped between the check and the opening never runs."""
    file, trace = evil(tmp_path, "beside")
    evil_content = file.read_bytes()
    torch.save(weights(TINY_SIZES), file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    inner = conversion.unpickle

    def swapped_meanwhile(source: Path, target: Path) -> None:
        file.write_bytes(evil_content)
        inner(source, target)

    monkeypatch.setattr(conversion, "unpickle", swapped_meanwhile)
    assert convert_file(file, "flowers", None, trust=digest).is_file()
    assert not trace.exists() and file.read_bytes() == evil_content


def test_a_file_that_changes_while_it_is_converted_is_not_stored(
    tiny: TinyModels, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = tmp_path / "mine.safetensors"
    source.write_bytes(tiny.vqgan.read_bytes())
    inner = store.save_vqgan

    def changed_meanwhile(*arguments: Any, **options: Any) -> Any:
        os.utime(source, ns=(1, 1))
        return inner(*arguments, **options)

    monkeypatch.setattr(store, "save_vqgan", changed_meanwhile)
    with pytest.raises(ModelError, match="was changed while it was read"):
        convert_vqgan(source, "flowers")
    assert stored_names() == []


def test_a_part_file_of_the_users_survives_a_conversion(lightning: Path, tmp_path: Path) -> None:
    mine = tmp_path / "m.safetensors.part"
    mine.write_text("mine")
    with pytest.raises(UsageError):
        convert_file(lightning, None, tmp_path / "m.ckpt")
    convert_file(lightning, None, tmp_path / "m.safetensors")
    assert mine.read_text() == "mine"


def test_a_file_that_is_stored_anew_while_it_is_read_is_not_taken_for_damaged(
    tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = convert_vqgan(tiny.vqgan, "flowers")
    record = read_record("flowers")
    assert record is not None
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)

    def meanwhile(file: Path) -> str:
        monkeypatch.setattr(store, "sha256", sha256)
        write_record(replace(record, mtime_ns=path.stat().st_mtime_ns, sha256=sha256(path)))
        return sha256(file)

    monkeypatch.setattr(store, "sha256", meanwhile)
    assert locate("flowers") == path
    assert not read_record("flowers").damaged  # type: ignore[union-attr]
