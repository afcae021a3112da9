"""vqclip models: what the person sees, against a store in a folder of its own and servers on this machine."""

import errno
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import huggingface_hub
import pytest
from command import Command
from conftest import TINY_SIZES, TinyModels
from faulty_server import Behaviour, serving
from published import SPEC, WEIGHTS, publish, published_on_hub, serving_hub
from tiny_vqgan import weights, write_lightning

from vqclip.common.errors import ModelError
from vqclip.config.loader import load_config
from vqclip.hub import clip_files, kinds, store
from vqclip.hub.clip_catalogue import CLIPS
from vqclip.hub.clip_store import verify_clip
from vqclip.hub.store import convert_vqgan
from vqclip.hub.store_index import store_dir
from vqclip.hub.upscaler_catalogue import UPSCALERS
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


def test_list_names_every_published_model_and_the_users_own(run: Command, tiny: TinyModels) -> None:
    convert_vqgan(tiny.vqgan, "flowers")
    done = run("models", "list", "--json")
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["name"] for event in events] == [*VQGANS, "flowers", *CLIPS, *UPSCALERS]
    assert [event["name"] for event in events if event["path"]] == ["flowers"]
    here = run("models", "list", "--here")
    assert here.code == 0 and here.stdout.split()[:3] == ["*", "vqgan", "flowers"]


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

    monkeypatch.setattr("vqclip.hub.kinds.pull_vqgan", vqgan)
    monkeypatch.setattr("vqclip.hub.kinds.pull_clip", clip)
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
        (["convert", "gone.ckpt"], 2, "There is no file"),
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
def hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """The hub's library reads its variable when it is imported; point it at this test's folder."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", os.environ["HF_HUB_CACHE"])


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


@pytest.mark.usefixtures("hub")
def test_a_clip_download_that_breaks_off_goes_on_and_others_find_it(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server that cuts, through the real code: what came is kept between tries and between commands."""
    paths = published_on_hub(WEIGHTS, "cut:100000", "cut:50000", "403")
    with serving_hub(monkeypatch, paths) as server:
        done = run("models", "pull", SPEC)
        host = server.url.removeprefix("http://")
        assert done.code == 3 and f"{host}/{CLIPS[SPEC].repository}: answered 403" in done.stderr
        server.asked.clear()
        done = run("models", "pull", SPEC)
        assert done.code == 0, done.stderr
        assert [asked for path, asked in server.asked if path == "/cdn"] == ["bytes=150000-"]
    path = Path(done.stdout.strip())
    assert path.read_bytes() == WEIGHTS
    cache = os.environ["HF_HUB_CACHE"]
    found = huggingface_hub.try_to_load_from_cache(CLIPS[SPEC].repository, path.name, cache_dir=cache)
    assert found == str(path)
    (repository,) = huggingface_hub.scan_cache_dir(cache).repos
    assert (repository.repo_id, repository.size_on_disk) == (CLIPS[SPEC].repository, len(WEIGHTS))
    assert [blob.name for blob in (path.parents[2] / "blobs").iterdir()] == [hashlib.sha256(WEIGHTS).hexdigest()]


@pytest.mark.usefixtures("hub")
def test_a_damaged_clip_download_never_gets_its_name(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = published_on_hub(WEIGHTS)
    paths["/cdn"] = Behaviour(WEIGHTS[:-1] + bytes([WEIGHTS[-1] ^ 1]))
    with serving_hub(monkeypatch, paths):
        for _ in range(2):
            done = run("models", "pull", SPEC)
            assert done.code == 3 and "another file than was published" in done.stderr and done.stdout == ""
    left = [path for path in Path(os.environ["HF_HUB_CACHE"]).rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []


@pytest.mark.usefixtures("hub")
def test_a_damaged_clip_model_is_refused_until_it_is_mended(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another tool left damaged is found by `pull` and by `verify`, and remembered."""
    in_hub_cache(b"weights", CLIPS[SPEC].repository, digest="a" * 64)
    with pytest.raises(ModelError, match="is damaged"):
        verify_clip(SPEC)
    for command in ("path", "verify", "pull"):
        done = run("models", command, SPEC)
        assert done.code == 3 and f"is damaged; mend it with: vqclip models pull {SPEC} --force" in done.stderr
    with serving_hub(monkeypatch, published_on_hub(WEIGHTS)):
        assert run("models", "pull", SPEC, "--force").code == 0
    assert run("models", "path", SPEC).code == 0 and run("models", "verify", SPEC).code == 0
    assert run("models", "remove", SPEC).code == 0
    assert not list(Path(os.environ["HF_HUB_CACHE"]).glob("models--*"))


@pytest.mark.usefixtures("hub")
@pytest.mark.parametrize(
    ("facts", "says"),
    [
        ({}, "does not answer as a model hub does (it sends us to '/login'); a login page may stand in between"),
        ({"X-Repo-Commit": "../../evil", "X-Linked-Etag": '"' + "a" * 64 + '"'}, "does not answer as a model hub"),
        ({"X-Repo-Commit": "c" * 40, "X-Linked-Etag": '"../../evil"'}, "does not answer as a model hub"),
    ],
)
def test_a_hub_that_is_none_is_said(
    run: Command, monkeypatch: pytest.MonkeyPatch, facts: dict[str, str], says: str
) -> None:
    paths = published_on_hub(WEIGHTS)
    place = f"/{CLIPS[SPEC].repository}/resolve/main/{clip_files.HUB_NAMES[0]}"
    paths[place] = Behaviour(b"", redirect="http://x/cdn" if facts else "/login", heads=facts)
    paths["/login"] = Behaviour(b"<html>", redirect="/login")
    with serving_hub(monkeypatch, paths):
        done = run("models", "pull", SPEC)
    assert done.code == 3 and says in done.stderr


@pytest.mark.usefixtures("hub")
def test_a_repository_that_has_a_new_name_is_found(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = published_on_hub(WEIGHTS)
    place = f"/{CLIPS[SPEC].repository}/resolve/main/{clip_files.HUB_NAMES[0]}"
    paths |= {place: Behaviour(b"", redirect="/new/name"), "/new/name": paths[place]}
    with serving_hub(monkeypatch, paths):
        assert run("models", "pull", SPEC).code == 0


@pytest.mark.usefixtures("hub")
def test_the_second_name_of_the_weights_is_tried(run: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving_hub(monkeypatch, published_on_hub(WEIGHTS, file=clip_files.HUB_NAMES[1])) as server:
        done = run("models", "pull", SPEC)
        assert done.code == 0, done.stderr
        heads = [path.rpartition("/")[2] for path, _ in server.asked if path.startswith("HEAD")]
        assert heads == list(clip_files.HUB_NAMES)
    with serving_hub(monkeypatch, {}):
        done = run("models", "pull", "ViT-B-16:openai")
    assert done.code == 3 and "has none of" in done.stderr


@pytest.mark.usefixtures("hub", "online")
def test_without_a_network_pull_ends_soon_and_says_which_host_was_asked(
    run: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    began = time.process_time()
    done = run("models", "pull", SPEC, "ViT-B-32:openai")
    assert done.code == 3 and "None of 2 models could be fetched" in done.stderr
    assert "127.0.0.1:9/" in done.stderr and "cannot be reached" in done.stderr and "huggingface" not in done.stderr
    assert time.process_time() - began < 15


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


def test_a_file_that_may_not_be_read_is_a_model_s_error(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert_vqgan(tiny.vqgan, "flowers")

    def forbidden(*words: object) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(store, "sha256", forbidden)
    monkeypatch.setattr(kinds, "verify_vqgan", forbidden)
    done = run("models", "convert", str(tiny.vqgan), "--name", "roses")
    assert done.code == 3 and "Cannot read" in done.stderr and "Permission denied" in done.stderr
    done = run("models", "verify")
    assert done.code == 3 and "The model 'flowers' cannot be read: Permission denied." in done.stderr


def test_a_config_names_an_upscaler_that_there_is(run: Command) -> None:
    done = run("config", "validate", "default", "--set", "output.upscale=nosuch")
    assert done.code == 2 and "nosuch" in done.stderr
    assert run("config", "validate", "default", "--set", "output.upscale=realesrgan-x2plus").code == 0


def test_pulling_an_upscaler_says_what_else_it_needs(
    run: Command, online: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqclip.hub.upscaler_catalogue.find_spec", lambda name: None)
    monkeypatch.setattr("vqclip.cli.models._fetch_all", lambda *words: None)
    done = run("models", "pull", "realesrgan-x2plus", "realesr-general-x4v3")
    said = "Note: to use realesrgan-x2plus, you need another package: pip install 'vqclip[upscale]'.\n"
    assert done.stderr == said
