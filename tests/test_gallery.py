"""The page of a folder: everything on it is text, links are relative, small copies are made once."""

import json
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from command import Command
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from vqclip.common.errors import OutputError, UsageError
from vqclip.tools.gallery import write_gallery

EVIL = '"><script>document.title = "taken"</script>&amp; <img src=x onerror="document.title=\'taken\'">'


def picture(path: Path, prompt: str | None = None) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    chunks = PngInfo()
    if prompt is not None:
        chunks.add_itxt("vqclip", json.dumps({"config": {}, "prompt": prompt, "seed": 7, "scores": {"clip": 0.25}}))
    Image.new("RGB", (600, 300), "red").save(path, pnginfo=chunks)
    return path


def result(folder: Path, **row: object) -> None:
    with (folder / "results.jsonl").open("a") as file:
        file.write(json.dumps(row) + "\n")


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    folder = tmp_path / "odd # name"
    picture(folder / "a b#.png")
    result(
        folder, id="1", prompt=EVIL, seed=3, status="done", path="a b#.png", losses=[2.0, 1.0, 1.5], scores={"c": 0.5}
    )
    result(folder, id="2", prompt="a dog", status="failed", error="out of <memory>")
    result(folder, id="3", prompt="gone", status="done", path="gone.png")
    with (folder / "results.jsonl").open("a") as file:
        file.write('{"id": "4", torn')
    picture(folder / "more" / "cat.png", "a cat")
    return folder


class Tags(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def test_the_page_shows_results_failures_and_other_pictures(batch: Path) -> None:
    page = Tags(write_gallery(batch).read_text("utf-8"))
    assert sum(tag == "article" for tag, _ in page.found) == 3
    assert EVIL in page.texts and "a dog" in page.texts and "out of <memory>" in page.texts and "a cat" in page.texts
    assert sum(tag == "script" for tag, _ in page.found) == 1
    assert [attributes["href"] for tag, attributes in page.found if tag == "a"] == ["a%20b%23.png", "more/cat.png"]
    assert [attributes["src"] for tag, attributes in page.found if tag == "img"] == [
        "thumbs/a%20b%23.png.webp",
        "thumbs/more/cat.png.webp",
    ]
    assert any("loss 2.000 to 1.500" in text for text in page.texts)
    assert "vqclip rerun 'a b#.png'" in page.texts
    assert not re.search(r"https?://", (batch / "index.html").read_text())


def test_small_copies_are_made_once_and_follow_their_pictures(batch: Path) -> None:
    write_gallery(batch)
    small = batch / "thumbs" / "more" / "cat.png.webp"
    with Image.open(small) as image:
        assert image.size == (256, 128)
    first = small.stat().st_mtime_ns
    write_gallery(batch)
    assert small.stat().st_mtime_ns == first
    later = first + 10**9
    os.utime(batch / "more" / "cat.png", ns=(later, later))
    write_gallery(batch)
    assert small.stat().st_mtime_ns != first
    assert (batch / "index.html").read_text().count("<article") == 3  # the copies are no pictures of the page


def test_a_picture_that_cannot_be_read_stays_a_link(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    page = Tags(write_gallery(tmp_path).read_text())
    assert ("img", {"src": "bad.png", "alt": "", "loading": "lazy"}) in page.found


def test_a_page_of_somebody_else_stays(tmp_path: Path) -> None:
    picture(tmp_path / "a.png")
    (tmp_path / "index.html").write_text("<p>mine")
    with pytest.raises(OutputError, match="not a page of vqclip's"):
        write_gallery(tmp_path)
    assert (tmp_path / "index.html").read_text() == "<p>mine"
    write_gallery(tmp_path, overwrite=True)
    write_gallery(tmp_path)


def test_results_of_any_kind_stay_text_and_in_the_folder(tmp_path: Path) -> None:
    folder = tmp_path / "thumbs" / "f"
    picture(folder / "a.png")
    picture(tmp_path / "thumbs" / "secret.png")
    result(folder, id="1", prompt=["x"], seed="<script>", status="done", path="a.png", scores=[1], losses=3)
    result(folder, id="2", prompt="b", status="done", path="../secret.png")
    result(folder, id="3", prompt="c", status="done", path=str(tmp_path / "thumbs" / "secret.png"))
    page = write_gallery(folder).read_text()
    assert page.count("<article") == 1 and page.count("<script>") == 1 and "secret" not in page
    assert not list((tmp_path / "thumbs").glob("*.webp"))


def test_an_empty_folder_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no picture"):
        write_gallery(tmp_path)


def test_the_command(batch: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    run = Command(monkeypatch, capsys)
    assert run("gallery", str(batch)).stdout == f"{batch}/index.html\n"
    assert run("gallery", f"{batch}/none").code == 2


@pytest.mark.slow
def test_in_a_browser_a_prompt_does_nothing_and_pictures_load(batch: Path) -> None:
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    if not browser:
        pytest.skip("needs Chromium")
    page = write_gallery(batch)
    probe = page.with_name("probe.html")
    script = (
        "<script>addEventListener('load', () => { const box = document.getElementById('filter');"
        "box.value = 'A CAT'; box.dispatchEvent(new Event('input'));"
        "document.body.dataset.shown = cards.filter((card) => !card.hidden).length;"
        "document.body.dataset.loaded = [...document.images].filter((image) => image.naturalWidth).length; })</script>"
    )
    probe.write_text(page.read_text().replace('loading="lazy"', "") + script)
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    home = f"--user-data-dir={batch}/.browser"
    done = subprocess.run(
        [browser, *flags, home, "--virtual-time-budget=3000", probe.as_uri()],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "<title>odd # name</title>" in done.stdout
    assert 'data-shown="1"' in done.stdout and 'data-loaded="2"' in done.stdout


def test_a_users_file_in_the_place_of_a_small_copy_stays(tmp_path: Path) -> None:
    Image.new("RGB", (600, 400), "red").save(tmp_path / "cat.png")
    small = tmp_path / "thumbs" / "cat.png.webp"
    small.parent.mkdir()
    small.write_bytes(b"mine")
    with pytest.raises(OutputError, match=r"cat\.png\.webp' is in the place of a page's small copies"):
        write_gallery(tmp_path)
    assert not (tmp_path / "index.html").exists()
    small.unlink()
    write_gallery(tmp_path)  # the folder is ours now
    for mine in (b"mine", (tmp_path / "cat.png").read_bytes()):
        small.write_bytes(mine)
        os.utime(small, (1, 1))
        page = write_gallery(tmp_path).read_text()
        assert small.read_bytes() == mine and 'img src="cat.png"' in page
    small.unlink()
    write_gallery(tmp_path)
    made = small.read_bytes()
    Image.new("RGB", (600, 400), "blue").save(tmp_path / "cat.png")
    os.utime(small, (1, 1))
    write_gallery(tmp_path)
    assert small.read_bytes() != made  # ours is made anew


@pytest.mark.parametrize("name", ["thumbs", "index.html"])
def test_links_lead_no_copy_and_no_page_elsewhere(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "in", tmp_path / "out"
    folder.mkdir(), outside.mkdir()
    Image.new("RGB", (20, 20), "red").save(folder / "cat.png")
    (folder / name).symlink_to(outside if name == "thumbs" else outside / "page")
    if name == "thumbs":
        assert 'img src="cat.png"' in write_gallery(folder).read_text()
    else:
        with pytest.raises(OutputError, match="a link that leads elsewhere"):
            write_gallery(folder)
    assert list(outside.iterdir()) == [] and (folder / name).is_symlink()


@pytest.mark.parametrize("path", ["../x.png", "/etc/passwd", "link.png", "\ud800.png", "a/../../x.png", "n" * 300])
def test_a_result_shows_nothing_from_elsewhere(tmp_path: Path, path: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for place in (folder / "cat.png", tmp_path / "x.png"):
        Image.new("RGB", (20, 20), "red").save(place)
    (folder / "link.png").symlink_to(tmp_path / "x.png")
    rows = [{"id": status, "status": status, "prompt": "secret", "path": path} for status in ("done", "failed")]
    (folder / "results.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    page = write_gallery(folder).read_text()
    assert 'href="../' not in page and "etc/passwd" not in page and page.count("secret") == 1  # the failure


def test_a_name_that_leaves_no_room_for_a_copy_is_shown_itself(tmp_path: Path) -> None:
    name = "n" * 251 + ".png"
    Image.new("RGB", (20, 20), "red").save(tmp_path / name)
    assert f'img src="{name}"' in write_gallery(tmp_path).read_text()


def test_a_picture_that_is_replaced_by_an_older_one_gets_a_new_copy(tmp_path: Path) -> None:
    for name, colour, time in (("cat.png", "red", 2), ("old.png", "blue", 1)):
        Image.new("RGB", (9, 9), colour).save(tmp_path / name)
        os.utime(tmp_path / name, (time, time))
    write_gallery(tmp_path)
    (tmp_path / "old.png").rename(tmp_path / "cat.png")
    write_gallery(tmp_path)
    with Image.open(tmp_path / "thumbs" / "cat.png.webp") as copy:
        assert copy.convert("RGB").getpixel((4, 4))[2] > 200
