"""Downloads against a real server that fails: what arrives is whole and right, or a sentence says what happened."""

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections import namedtuple
from pathlib import Path

import pytest
from faulty_server import Behaviour, Server, serving

from vqclip.common.errors import ModelError, OutputError
from vqclip.hub import download, transfer
from vqclip.hub.download import Wanted, fetch
from vqclip.hub.sources import HubFile, Place, WebFile

CONTENT = b"\x80" + os.urandom(3_000_000)
DIGEST = hashlib.sha256(CONTENT).hexdigest()


def want(*places: Place, size: int | None = len(CONTENT), digest: str | None = DIGEST) -> Wanted:
    return Wanted("model", places, size, digest)


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "store"
    folder.mkdir()
    return folder / "model.ckpt"


def get(server: Server, target: Path, *paths: str, wanted: Wanted | None = None) -> None:
    places = [WebFile(server.url + path) for path in paths]
    fetch(wanted or want(*places), target, pause=0.01)


def only(target: Path) -> bool:
    return target.read_bytes() == CONTENT and [path.name for path in target.parent.iterdir()] == [target.name]


def test_a_file_arrives_whole_and_leaves_nothing_beside_it(target: Path) -> None:
    told = []
    with serving({"/a": Behaviour(CONTENT)}) as server:
        fetch(want(WebFile(server.url + "/a")), target, lambda done, total: told.append((done, total)))
    assert only(target)
    assert told[0] == (0, len(CONTENT)) and told[-1] == (len(CONTENT), len(CONTENT))


@pytest.mark.parametrize(
    ("faults", "ranges"),
    [
        (["cut:1000000"], ["", "bytes=1000000-"]),
        (["cut:1000000", "cut:500000", "cut:7"], ["", "bytes=1000000-", "bytes=1500000-", "bytes=1500007-"]),
        (["cut:1000000", "503", "429"], ["", *["bytes=1000000-"] * 3]),
        (["cut:1000000", "deaf"], ["", "bytes=1000000-"]),
        (["cut:1000000", "416"], ["", "bytes=1000000-", ""]),
        (["500", "502"], ["", "", ""]),
    ],
)
def test_a_broken_transfer_goes_on_where_it_stopped(target: Path, faults: list[str], ranges: list[str]) -> None:
    with serving({"/a": Behaviour(CONTENT, faults)}) as server:
        get(server, target, "/a")
        assert [asked for _, asked in server.asked] == ranges
    assert only(target)


def test_a_file_that_changed_on_the_server_starts_over(target: Path) -> None:
    with serving({"/a": Behaviour(CONTENT[:500_000] + b"old", ["cut:400000", *["404"]])}) as server:
        with pytest.raises(ModelError):
            get(server, target, "/a", wanted=want(WebFile(server.url + "/a"), size=None, digest=None))
        server.paths["/a"] = Behaviour(CONTENT, tag='"2"')
        get(server, target, "/a")
    assert only(target)


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("404", "answered 404"),
        ("403", "answered 403"),
        ("html", "web page instead of the file"),
        ("short:1000", "has 1,000 bytes instead of 3,000,001"),
    ],
)
def test_the_next_mirror_is_asked(target: Path, fault: str, says: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "vqclip")
    with serving({"/a": Behaviour(CONTENT, [fault] * 9), "/b": Behaviour(CONTENT)}) as server:
        get(server, target, "/a", "/b")
        assert [path for path, _ in server.asked] == ["/a", "/b"]
    assert only(target) and says in caplog.text


def test_a_wrong_content_of_the_right_size_is_thrown_away(target: Path) -> None:
    wrong = b"\x80" + bytes(len(CONTENT) - 1)
    with serving({"/a": Behaviour(wrong), "/b": Behaviour(CONTENT)}) as server:
        get(server, target, "/a", "/b")
        assert only(target)
        target.unlink()
        with pytest.raises(ModelError, match=r"another file than was published \(sha256 [0-9a-f]{64}\)"):
            get(server, target, "/a")
    assert list(target.parent.iterdir()) == []


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n <html>gone", "a web page"),
        (b"", "an empty file"),
        (b"version https://git-lfs.github.com/spec/v1", "a Git LFS pointer"),
        (b"hello", "no checkpoint"),
    ],
)
def test_first_bytes_are_looked_at_where_no_hash_is_known(target: Path, content: bytes, says: str) -> None:
    with serving({"/a": Behaviour(content)}) as server, pytest.raises(ModelError, match=f"answered with {says}"):
        get(server, target, "/a", wanted=want(WebFile(server.url + "/a"), size=None, digest=None))
    assert not target.exists()


def test_a_transfer_at_the_wrong_place_is_not_mixed_in(target: Path) -> None:
    with (
        serving({"/a": Behaviour(CONTENT, ["cut:1000", "shifted"])}) as server,
        pytest.raises(ModelError, match="went on at the wrong place"),
    ):
        get(server, target, "/a")


def test_what_one_mirror_gave_is_kept_while_another_fails(target: Path) -> None:
    with serving({"/b": Behaviour(CONTENT, ["cut:1000000", *["404"] * 9])}) as server:
        with pytest.raises(ModelError):
            get(server, target, "/a", "/b")
        server.paths["/b"].faults.clear()
        server.asked.clear()
        get(server, target, "/a", "/b")
        assert server.asked == [("/a", ""), ("/b", "bytes=1000000-")]
    assert only(target)


def test_a_download_that_was_killed_before_its_check_is_not_fetched_again(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*arguments: object) -> None:
        raise KeyboardInterrupt

    with serving({"/a": Behaviour(CONTENT)}) as server:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(download, "is_published", killed)
            get(server, target, "/a")
        get(server, target, "/a")
        assert [asked for _, asked in server.asked] == ["", f"bytes={len(CONTENT)}-"]
    assert only(target)


def test_redirects_are_followed(target: Path) -> None:
    with serving({"/a": Behaviour(b"", redirect="/b"), "/b": Behaviour(CONTENT, ["cut:5"])}) as server:
        get(server, target, "/a")
    assert only(target)


def test_a_silent_server_is_left(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer, "TIMEOUT", (0.2, 0.2))
    with serving({"/a": Behaviour(CONTENT, ["slow"] * 9), "/b": Behaviour(CONTENT)}) as server:
        get(server, target, "/a", "/b")
        assert [path for path, _ in server.asked] == ["/a"] * transfer.ATTEMPTS + ["/b"]
    assert only(target)


def test_a_host_that_is_not_there_is_named(target: Path) -> None:
    with pytest.raises(ModelError, match=r"'model'; 127.0.0.1: cannot be reached \(.*\). Check the network"):
        fetch(want(WebFile("http://127.0.0.1:9/a")), target, pause=0.001)


def test_all_mirrors_answers_are_told(target: Path) -> None:
    with (
        serving({"/a": Behaviour(CONTENT, ["html"])}) as server,
        pytest.raises(ModelError, match=r"web page.*; 127.0.0.1: answered 404"),
    ):
        get(server, target, "/a", "/b")


def packed(**members: bytes) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name.replace("__", "/") + ".ckpt", content)
    return file.getvalue()


def scratched(archive: bytes) -> bytes:
    """The archive with wrong bits in what is packed."""
    start = archive.index(b"model.ckpt") + len("model.ckpt")
    return archive[:start] + bytes(255 - byte for byte in archive[start : start + 20]) + archive[start + 20 :]


def test_one_member_of_an_archive_is_taken(target: Path) -> None:
    archive = packed(model=CONTENT, other=b"<script>", **{".." + "__" + "evil": b"x"})
    with serving({"/a.zip": Behaviour(archive, ["cut:1000"])}) as server:
        fetch(want(WebFile(server.url + "/a.zip", member="model.ckpt")), target, pause=0.01)
    assert only(target)


@pytest.mark.parametrize(
    ("archive", "says"),
    [
        (packed(other=b"x"), "without model.ckpt"),
        (b"PK\x03\x04junk", "a damaged archive"),
        (scratched(packed(model=bytes(range(256)) * 40)), "a damaged archive"),
        (b"<html>", "gave a web page"),
    ],
)
def test_an_archive_without_the_member_is_named(target: Path, archive: bytes, says: str) -> None:
    with serving({"/a.zip": Behaviour(archive)}) as server, pytest.raises(ModelError, match=says):
        fetch(want(WebFile(server.url + "/a.zip", member="model.ckpt")), target, pause=0.01)


def test_the_disk_is_looked_at_first(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10, 9, 1_000_000))
    with pytest.raises(OutputError, match=r"'model' needs 3 MB and .* has 1 MB left; make room, or set VQCLIP_CACHE"):
        fetch(want(WebFile("http://127.0.0.1:9/a")), target)


def test_the_hub_is_one_of_the_mirrors(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = "/a/b/resolve/main/c%20d.ckpt"
    with serving({path: Behaviour(b"", redirect="/cdn"), "/cdn": Behaviour(CONTENT, ["cut:1000000"])}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        fetch(want(HubFile("a/b", "c d.ckpt")), target, pause=0.01)
        assert server.asked == [(path, ""), ("/cdn", ""), (path, "bytes=1000000-"), ("/cdn", "bytes=1000000-")]
    assert only(target)


def test_a_hub_that_fails_leaves_the_word_to_the_next_mirror(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving({"/a": Behaviour(CONTENT), "/a/b/resolve/main/c": Behaviour(b"", ["401"] * 9)}) as server:
        monkeypatch.setenv("HF_ENDPOINT", server.url)
        fetch(want(HubFile("a/b", "c"), WebFile(server.url + "/a")), target, pause=0.01)
        assert only(target)
        host = server.url.removeprefix("http://")
        with pytest.raises(ModelError, match=rf"; {host}/a/b: answered 401 Unauthorized; it may want a login"):
            fetch(want(HubFile("a/b", "c")), target)


def test_what_one_mirror_gave_is_kept_when_another_gave_something_wrong(target: Path) -> None:
    """One bad file must not cost what the others brought."""
    wrong = b"\x80" + bytes(len(CONTENT) - 1)
    with serving({"/a": Behaviour(CONTENT, ["cut:1000000", *["404"] * 9]), "/b": Behaviour(wrong)}) as server:
        with pytest.raises(ModelError, match="another file than was published"):
            get(server, target, "/a", "/b")
        server.paths["/a"].faults.clear()
        server.asked.clear()
        get(server, target, "/a", "/b")
        assert server.asked == [("/a", "bytes=1000000-")]
    assert only(target)


def test_a_weak_tag_does_not_keep_a_download_from_going_on(target: Path) -> None:
    with serving({"/a": Behaviour(CONTENT, ["cut:1000000"], tag='W/"1"')}) as server:
        get(server, target, "/a")
        assert [asked for _, asked in server.asked] == ["", "bytes=1000000-"]
    assert only(target)


def test_without_a_network_the_mirrors_are_given_up_soon(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(download, "PATIENCE", 0.0)
    places = [WebFile(f"http://127.0.0.1:{port}/a") for port in (9, 19, 29)]
    with pytest.raises(ModelError) as caught:
        fetch(want(*places), target, pause=0.001)
    assert str(caught.value).count("cannot be reached (") == 1


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("http://nowhere.invalid/a", "nowhere.invalid: its name cannot be looked up"),
        ("http://127.0.0.1:9/a", r"127.0.0.1: cannot be reached \(.*refused"),
        ("http:///a", "Invalid URL"),
        ("gopher://127.0.0.1/a", "No connection adapters"),
    ],
)
def test_the_cause_is_said_as_it_is(target: Path, url: str, says: str) -> None:
    with pytest.raises(ModelError, match=says):
        fetch(want(WebFile(url)), target, pause=0.001)


def test_a_certificate_that_cannot_be_trusted_is_said_and_not_tried_again(
    target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in transfer.CERTIFICATES:
        monkeypatch.delenv(name, raising=False)
    certificate = self_signed(tmp_path)
    with serving({"/a": Behaviour(CONTENT, ["cut:1000000"])}, certificate) as server:
        with pytest.raises(ModelError, match=r"localhost: its certificate cannot be trusted \(self.signed certificate"):
            fetch(want(WebFile(server.url + "/a")), target)
        assert server.asked == []
        for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE"):  # whichever the user knows from another tool
            with monkeypatch.context() as patch:
                patch.setenv(name, str(certificate))
                fetch(want(WebFile(server.url + "/a")), target, pause=0.01)
                assert only(target)
        monkeypatch.setenv("SSL_CERT_FILE", "gone.pem")
        with pytest.raises(ModelError, match=r"invalid path: gone\.pem"):
            fetch(want(WebFile(server.url + "/a")), target)


def self_signed(folder: Path) -> Path:
    """A certificate of localhost that nobody vouches for, with its key."""
    path = folder / "certificate.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    words = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *subject]
    try:
        made = subprocess.run(
            ["openssl", *words, "-keyout", folder / "key.pem", "-out", path], capture_output=True, check=False
        )
    except FileNotFoundError:
        pytest.skip("needs openssl")
    assert made.returncode == 0, made.stderr
    path.write_bytes(path.read_bytes() + (folder / "key.pem").read_bytes())
    return path


SCRIPT = """
import sys
from pathlib import Path
from vqclip.hub.sources import WebFile
from vqclip.hub.download import Wanted, fetch
url, digest, target = sys.argv[1:]
def watch(done, total):
    print(done, flush=True)
fetch(Wanted("model", [WebFile(url)], None, digest), Path(target), watch)
"""


def test_killed_in_the_middle_it_goes_on(target: Path) -> None:
    with serving({"/a": Behaviour(CONTENT, ["cut:2500000", *["503"] * 40])}) as server:
        words = [sys.executable, "-c", SCRIPT, server.url + "/a", DIGEST, str(target)]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout
            while int(process.stdout.readline()) < 2_500_000:
                pass
            process.send_signal(signal.SIGKILL)
        (part,) = target.parent.glob("model.ckpt.*.part")
        assert not target.exists() and part.stat().st_size == 2_500_000
        assert json.loads(part.with_name(part.name + ".json").read_text())["url"] == server.url + "/a"
        time.sleep(0.1)
        server.paths["/a"].faults.clear()
        server.asked.clear()
        get(server, target, "/a")
        assert server.asked == [("/a", "bytes=2500000-")]
    assert only(target)
