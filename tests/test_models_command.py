"""vqclip models: what the person sees, against a store in a folder of its own and servers on this machine."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from command import Command
from conftest import TINY_SIZES, TinyModels
from faulty_server import Behaviour, serving
from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError
from tiny_vqgan import weights, write_lightning

from vqclip.common.errors import ModelError
from vqclip.config.loader import load_config
from vqclip.hub import clip_files, store, vqgan_catalogue
from vqclip.hub.access import Access
from vqclip.hub.clip_catalogue import CLIPS
from vqclip.hub.clip_store import verify_clip
from vqclip.hub.sources import WebFile
from vqclip.hub.store import convert_vqgan
from vqclip.hub.store_index import store_dir
from vqclip.hub.vqgan_catalogue import VQGANS


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def lightning(tmp_path: Path) -> Path:
    return write_lightning(tmp_path / "last.ckpt", weights(TINY_SIZES))


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def publish(monkeypatch: pytest.MonkeyPatch, content: bytes, **places: str) -> None:
    """Let the catalogue's models of these names (with _ for -) be this file, behind these links."""
    for name, url in places.items():
        name = name.replace("_", "-")
        digest = hashlib.sha256(content).hexdigest()
        entry = replace(VQGANS[name], places=(WebFile(url),), size=len(content), sha256=digest, architecture=TINY_SIZES)
        for module in (store, vqgan_catalogue):
            monkeypatch.setattr(module, "VQGANS", {**module.VQGANS, name: entry})


def test_list_names_every_published_model_and_the_users_own(run: Command, tiny: TinyModels) -> None:
    convert_vqgan(tiny.vqgan, "flowers")
    done = run("models", "list", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["name"] for event in events] == [*VQGANS, "flowers", *CLIPS]
    assert [event["name"] for event in events if event["path"]] == ["flowers"]
    here = run("models", "list", "--here")
    assert here.code == 0 and here.stdout.splitlines()[0].startswith("* vqgan flowers")


def test_list_needs_neither_torch_nor_open_clip() -> None:
    script = (
        "import sys; sys.argv = ['vqclip', 'models', 'list']\n"
        "from vqclip.cli.app import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'open_clip'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", script], check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("name", ["imagenet-16384", "vq-f4", "ViT-B-32:laion2b_s34b_b79k", "ViT-B-32:openai"])
def test_info_tells_where_and_on_which_terms(run: Command, name: str) -> None:
    done = run("models", "info", name)
    assert done.code == 0 and "not on this machine" in done.stdout and "places" in done.stdout
    facts = json.loads(run("models", "info", name, "--json").stdout)
    assert facts["name"] == name and facts["places"]


@pytest.mark.usefixtures("online")
def test_pull_fetches_several_and_a_model_that_is_there_not_again(
    run: Command, monkeypatch: pytest.MonkeyPatch, lightning: Path
) -> None:
    content = lightning.read_bytes()
    with serving({"/a": Behaviour(content, ["cut:999"]), "/b": Behaviour(content)}) as server:
        publish(monkeypatch, content, vq_f4=server.url + "/a", vq_f8=server.url + "/b")
        done = run("models", "pull", "vq-f4", "vq-f8", "vq-f4", "--half", "--no-clip")
        assert done.code == 0, done.stderr
        paths = [str(store_dir() / f"{name}.safetensors") for name in ("vq-f4", "vq-f8")]
        assert sorted(done.stdout.splitlines()) == paths
        assert len(server.asked) == 3
        assert run("models", "pull", "vq-f4", "--no-clip").stdout.splitlines() == paths[:1]
        assert len(server.asked) == 3
    assert run("models", "path", "vq-f4").stdout.splitlines() == paths[:1]
    assert "stored as" in run("models", "info", "vq-f4").stdout
    assert run("models", "pull", "vq-f4", "--offline", "--no-clip").stdout.splitlines() == paths[:1]


@pytest.mark.usefixtures("online")
def test_one_that_fails_does_not_hinder_the_others(
    run: Command, monkeypatch: pytest.MonkeyPatch, lightning: Path
) -> None:
    content = lightning.read_bytes()
    with serving({"/b": Behaviour(content)}) as server:
        publish(monkeypatch, content, vq_f4=server.url + "/gone", vq_f8=server.url + "/b")
        done = run("models", "pull", "vq-f4", "vq-f8", "--no-clip")
        assert done.code == 5 and "answered 404" in done.stderr and "1 of 2 models" in done.stderr
        assert run("models", "pull", "vq-f4", "--no-clip").code == 3
    assert run("models", "path", "vq-f8").code == 0


def test_a_configs_name_stands_for_all_that_it_needs(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    config = load_config(["imagenet-16384"])
    asked = []
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)

    def vqgan(entry: Any, **options: Any) -> Path:
        asked.append(entry.name)
        return Path(__file__)

    def clip(spec: str, **options: Any) -> Path:
        asked.append(spec)
        return Path(__file__)

    monkeypatch.setattr(store, "pull_vqgan", vqgan)
    monkeypatch.setattr("vqclip.hub.clip_store.pull_clip", clip)
    assert run("models", "pull", "imagenet-16384").code == 0
    assert sorted(asked) == sorted(["imagenet-16384", *config.perceptors])
    asked.clear()
    assert run("models", "pull", "imagenet-16384", "--no-clip").code == 0
    assert asked == ["imagenet-16384"]
    assert run("models", "pull", "draft").code == 2


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["pull", "imagenet-1638"], 2, "did you mean 'imagenet-16384'"),
        (["pull", "imagenet-16384", "--offline"], 3, "offline forbids"),
        (["pull", "ViT-B-32:openai", "--offline"], 3, "offline forbids"),
        (["pull", "ViT-B-32:opena"], 2, "did you mean 'openai'"),
        (["pull", "ViT-B-32-SigLIP2-256:webli"], 3, "pip install 'vqclip[siglip]'"),
        (["path", "gumbel-f8"], 3, "vqclip models pull gumbel-f8"),
        (["info", "gumble-f8"], 2, "did you mean 'gumbel-f8'"),
        (["verify", "gumbel-f8"], 3, "not on this machine"),
        (["remove", "gumbel-f8"], 2, "has no model"),
        (["remove", "ViT-B-32:openai"], 2, "not on this machine"),
        (["convert", "gone.ckpt"], 3, "There is no file"),
    ],
)
def test_bad_usage_is_a_sentence(run: Command, words: list[str], code: int, says: str) -> None:
    done = run("models", *words)
    assert done.code == code and says in done.stderr and "Traceback" not in done.stderr and done.stdout == ""


def test_generate_without_the_model_says_what_fetches_it(run: Command) -> None:
    done = run("generate", "-c", "gumbel-f8", "a cat")
    assert done.code == 3
    assert "(377 MB) with: vqclip models pull gumbel-f8" in done.stderr


def test_a_registered_file_is_used_by_its_name(run: Command, tiny: TinyModels, lightning: Path) -> None:
    done = run("models", "convert", str(lightning), "--name", "flowers")
    assert done.code == 0 and "vqgan.name=flowers" in done.stderr
    words = ("generate", "-c", str(tiny.config), "--set", "vqgan.name=flowers", "--set", "vqgan.file=null")
    done = run(*words, "a cat", "-o", "cat.png", "--seed", "1")
    assert done.code == 0, done.stderr
    info = run("info", "cat.png", "--json").stdout
    assert hashlib.sha256((store_dir() / "flowers.safetensors").read_bytes()).hexdigest() in info
    assert run("generate", "--set", "vqgan.name=flower", "a cat").code == 2


def test_verify_finds_damage_and_generate_refuses_it(run: Command, tiny: TinyModels) -> None:
    path = convert_vqgan(tiny.vqgan, "flowers")
    assert run("models", "verify").stdout == "flowers: ok\n"
    path.write_bytes(path.read_bytes()[:-1] + b"\x00\x01"[:1])
    done = run("models", "verify", "flowers")
    assert done.code == 3 and "vqclip models convert FILE --name flowers --force" in done.stderr
    words = ("generate", "-c", str(tiny.config), "--set", "vqgan.name=flowers", "--set", "vqgan.file=null", "a cat")
    assert run(*words).code == 3
    assert run("models", "remove", "flowers").code == 0
    assert run("models", "list", "--here").stdout == ""


# CLIP models in the hub's cache


def in_hub_cache(content: bytes, repository: str, digest: str | None = None) -> Path:
    """Lay a file into the hub's cache as the hub's library does."""
    home = Path(os.environ["HF_HUB_CACHE"]) / f"models--{repository.replace('/', '--')}"
    blob = home / "blobs" / (digest or hashlib.sha256(content).hexdigest())
    link = home / "snapshots" / ("0" * 40) / "open_clip_model.safetensors"
    for path in (blob, link, home / "refs" / "main"):
        path.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    link.symlink_to(blob)
    (home / "refs" / "main").write_text("0" * 40)
    return link


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The hub's library reads its variable when it is imported; point it at this test's folder."""
    cache = os.environ["HF_HUB_CACHE"]
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", cache)
    for place in ("huggingface_hub.file_download", "huggingface_hub.utils._cache_manager"):
        monkeypatch.setattr(f"{place}.HF_HUB_CACHE", cache, raising=False)
    inner = huggingface_hub.try_to_load_from_cache
    monkeypatch.setattr(
        huggingface_hub, "try_to_load_from_cache", lambda repo, file: inner(repo, file, cache_dir=cache)
    )
    scan = huggingface_hub.scan_cache_dir
    monkeypatch.setattr(huggingface_hub, "scan_cache_dir", lambda: scan(cache))


SPEC = "ViT-B-32:laion2b_s34b_b79k"


@pytest.mark.usefixtures("hub")
def test_a_clip_model_in_the_cache_is_found_verified_and_removed(run: Command) -> None:
    link = in_hub_cache(b"weights", CLIPS[SPEC].repository)
    assert run("models", "path", SPEC).stdout == f"{link}\n"
    assert run("models", "verify").stdout == f"{SPEC}: ok\n"
    link.resolve().write_bytes(b"WEIGHTS")
    done = run("models", "verify", SPEC)
    assert done.code == 3 and f"vqclip models pull {SPEC} --force" in done.stderr
    assert run("models", "remove", SPEC).code == 0
    assert not link.exists() and run("models", "path", SPEC).code == 3


@pytest.mark.usefixtures("hub", "online")
def test_a_damaged_arrival_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    from vqclip.hub.clip_store import pull_clip

    def download(repository: str, file: str, **options: Any) -> str:
        return str(in_hub_cache(b"weights", repository, digest="a" * 64))

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ModelError, match="is damaged"):
        pull_clip(SPEC)
    with pytest.raises(ModelError, match="is damaged"):
        verify_clip(SPEC)


@pytest.mark.usefixtures("online")
@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (LocalEntryNotFoundError("no"), "does not answer"),
        (RuntimeError("401 unauthorised\nmore"), "401 unauthorised"),
    ],
)
def test_a_hub_that_fails_is_a_sentence(monkeypatch: pytest.MonkeyPatch, problem: Exception, says: str) -> None:
    def download(*arguments: Any, **options: Any) -> str:
        raise problem

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    with pytest.raises(ModelError, match=says):
        clip_files.find_clip(SPEC, Access.FETCH)


@pytest.mark.usefixtures("online")
def test_the_second_name_of_the_weights_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []

    def download(repository: str, file: str, **options: Any) -> str:
        asked.append(file)
        if file.endswith(".safetensors"):
            raise EntryNotFoundError("no such file")
        return __file__

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert clip_files.find_clip(SPEC, Access.FETCH).weights == Path(__file__)
    assert asked == list(clip_files.HUB_NAMES)


PULL = """
import sys
from dataclasses import replace
from vqclip.hub import vqgan_catalogue
from vqclip.hub.sources import WebFile
entry = replace(vqgan_catalogue.VQGANS["vq-f4"], places=(WebFile(sys.argv[1]),), sha256=None)
vqgan_catalogue.VQGANS["vq-f4"] = entry
sys.argv = ["vqclip", "models", "pull", "vq-f4", "--no-clip"]
from vqclip.cli.app import main
main()
"""


def test_ctrl_c_ends_a_download_and_keeps_what_came(lightning: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    content, originals = lightning.read_bytes(), store_dir() / "originals"
    with serving({"/a": Behaviour(content, [f"cut:{len(content) // 2}", *["503"] * 50])}) as server:
        words = [sys.executable, "-c", PULL, server.url + "/a"]
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
            while [part.stat().st_size for part in originals.glob("*.part")] != [len(content) // 2]:
                assert process.poll() is None, process.stderr and process.stderr.read()
                time.sleep(0.02)
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=60)
    assert process.returncode == 130 and "Traceback" not in told, told
    assert [part.stat().st_size for part in originals.glob("*.part")] == [len(content) // 2]


def test_ctrl_c_ends_the_wait_for_another_process(lightning: Path) -> None:
    from filelock import FileLock

    environment = {name: value for name, value in os.environ.items() if name != "HF_HUB_OFFLINE"}
    store_dir().mkdir(parents=True)
    with FileLock(store_dir() / "vq-f4.lock"):
        words = [sys.executable, "-c", PULL, "http://127.0.0.1:9/a"]
        with subprocess.Popen(words, env=environment, stderr=subprocess.PIPE, text=True) as process:
            assert process.stderr and "waiting for it" in process.stderr.readline()
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
    assert process.returncode == 130
