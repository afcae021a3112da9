"""Picture files: pixels and metadata come back, equal input gives equal bytes, hostile files do no harm."""

import contextlib
import errno
import json
import logging
import os
import tracemalloc
import zlib
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from safetensors import safe_open
from safetensors.torch import save_file

from vqclip.common.errors import OutputError, UsageError
from vqclip.common.images import to_tensor
from vqclip.models.provenance import ModelHash, ModelHashes
from vqclip.optimisation.step import Finished
from vqclip.outputs.metadata import Metadata
from vqclip.outputs.picture import Pictures, read_latent, read_metadata, save_picture

NAMESPACES = {"dc": "http://purl.org/dc/elements/1.1/", "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#"}
PROMPT = "ein Äpfel 🍎 | ${oc.env:HOME} [red] 日本:2"


def metadata(prompt: str = PROMPT, seed: int = 2**63 - 1) -> Metadata:
    models = ModelHashes(ModelHash("tiny", "00"), (ModelHash("eye", "11"),), ModelHash("prior", "22"))
    config = {"size": "16x8", "count": 1}
    made = {"inputs": {"a.png": "33"}, "together": 2, "step": 3, "scores": {"eye": 0.5}, "libraries": {"torch": "2"}}
    return Metadata("1.2", prompt, seed, config, models, **made)


def pixels() -> torch.Tensor:
    return torch.rand(3, 8, 16, generator=torch.Generator().manual_seed(0))


def chunks(path: Path) -> list[tuple[bytes, bytes]]:
    """Split a PNG into its chunks by hand (RFC 2083)."""
    data, found = path.read_bytes()[8:], []
    while data:
        length = int.from_bytes(data[:4], "big")
        found.append((data[4:8], data[8 : 8 + length]))
        data = data[12 + length :]
    return found


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
@pytest.mark.parametrize("prompt", [PROMPT, "</rdf:li><b>&amp;", "a\x00\x0bb", "", "x" * 20_000])
def test_photo_tools_find_prompt_and_tags(name: str, prompt: str) -> None:
    """Read by an XML parser of its own; what XML cannot hold is left out, and markup is text."""
    tags = ["boats & <ships>", "Sommer 🌞"]
    save_picture(Path(name), pixels(), replace(metadata(prompt), config={"size": "16x8", "output": {"tags": tags}}))
    with Image.open(name) as image:
        packet = image.info.get("xmp") or image.info["XML:com.adobe.xmp"]
    root = ElementTree.fromstring(packet if isinstance(packet, str) else packet.decode())
    (description,) = root.iterfind(".//dc:description//rdf:li", NAMESPACES)
    expected = prompt.replace("\x00\x0b", "")[:8_000]
    assert (description.text or "") == expected
    assert [keyword.text for keyword in root.iterfind(".//dc:subject//rdf:li", NAMESPACES)] == tags


@pytest.mark.parametrize("output", [None, 3, [], {"tags": 5}, {"tags": [1, None, {}]}])
def test_what_a_file_says_of_its_tags_is_not_trusted(output: object) -> None:
    """`vqclip upscale` carries on what it read."""
    save_picture(Path("a.webp"), pixels(), replace(metadata(), config={"size": "16x8", "output": output}))
    with Image.open("a.webp") as image:
        assert b"<rdf:Bag></rdf:Bag>" in image.info["xmp"]


def test_png_holds_the_pixels_and_three_text_chunks() -> None:
    path = Path("new/a.png")
    save_picture(path, pixels(), metadata())
    with Image.open(path) as image:
        assert image.mode == "RGB"
        assert torch.equal(to_tensor(image)[0], (pixels() * 255).round() / 255)
    texts = [data for name, data in chunks(path) if name == b"iTXt"]
    assert [text.partition(b"\0")[0] for text in texts] == [b"vqclip", b"parameters", b"XML:com.adobe.xmp"]
    rest = texts[0].partition(b"\0")[2]
    assert rest[:4] == b"\1\0\0\0"  # compressed by zlib, no language, no translation
    assert json.loads(zlib.decompress(rest[4:])) == metadata().to_json()
    plain = texts[1].partition(b"\0")[2][4:].decode()
    assert plain == f"{PROMPT}\nSteps: 3, Seed: {2**63 - 1}, Size: 16x8, Model: tiny, Version: vqclip 1.2"


def test_no_metadata_means_no_chunk_at_all() -> None:
    save_picture(Path("a.png"), pixels())
    assert {name for name, _ in chunks(Path("a.png"))} == {b"IHDR", b"IDAT", b"IEND"}


@pytest.mark.parametrize("suffix", ["png", "jpg", "jpeg", "webp", "PNG", "Jpg"])
def test_metadata_comes_back_and_bytes_repeat(suffix: str) -> None:
    first, second = Path(f"a.{suffix}"), Path(f"b.{suffix}")
    save_picture(first, pixels(), metadata())
    reversed_config = dict(reversed(metadata().config.items()))
    save_picture(second, pixels(), replace(metadata(), config=reversed_config))  # the order of keys says nothing
    assert read_metadata(first) == metadata()
    assert first.read_bytes() == second.read_bytes()
    with Image.open(first) as image:
        assert image.size == (16, 8)
        assert image.format == {"j": "JPEG", "p": "PNG", "w": "WEBP"}[suffix[0].lower()]
    save_picture(second, pixels(), metadata("another"))
    assert first.read_bytes() != second.read_bytes()


@pytest.mark.parametrize("suffix", ["jpg", "webp"])
def test_lossy_pictures_are_near(suffix: str) -> None:
    """A smooth ramp at quality 95 is off by a few levels of 255 at most."""
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    save_picture(Path(f"a.{suffix}"), ramp)
    with Image.open(f"a.{suffix}") as image:
        assert (to_tensor(image.convert("RGB"))[0] - ramp).abs().max() < 8 / 255


def test_a_jpeg_cannot_hold_long_metadata_and_is_saved_without(caplog: pytest.LogCaptureFixture) -> None:
    """One segment holds 65,533 bytes; the picture is worth more than its description."""
    long = metadata("x" * 70_000)
    for suffix in ("png", "webp"):
        save_picture(Path(f"a.{suffix}"), pixels(), long)
    assert read_metadata(Path("a.png")) == long
    with caplog.at_level(logging.WARNING):
        save_picture(Path("a.jpg"), pixels(), long)
    assert "a.jpg" in caplog.text
    with Image.open("a.jpg") as image:
        assert image.size == (16, 8)
    with pytest.raises(UsageError, match="carries no vqclip metadata"):
        read_metadata(Path("a.jpg"))


def test_a_full_disk_leaves_the_old_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("a.png").write_bytes(b"old")

    def full(image: Image.Image, part: Path, *_: object, **__: object) -> None:
        part.write_bytes(b"half")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Image.Image, "save", full)
    with pytest.raises(OutputError, match=r"^Cannot write 'a\.png': No space left"):
        save_picture(Path("a.png"), pixels())
    assert [path.name for path in Path().iterdir()] == ["a.png"]
    assert Path("a.png").read_bytes() == b"old"


def with_chunk(text: str) -> Path:
    info = PngInfo()
    info.add_itxt("vqclip", text, zip=True)
    Image.new("RGB", (2, 2)).save("a.png", pnginfo=info)
    return Path("a.png")


@pytest.mark.parametrize(
    "text",
    ["", "{", "null", "3", "[1]", "{}", '{"seed": 1}', "[" * 500_000, '{"config":' + "9" * 5000 + "}", "\0\x1b[31m"],
)
def test_text_that_is_no_metadata(text: str) -> None:
    with pytest.raises(UsageError, match=r"'a\.png' carries no vqclip metadata"):
        read_metadata(with_chunk(text))


def test_a_text_bomb_is_not_unpacked() -> None:
    """200 MB of text in a file of 200 kB; refused with a few MB in use."""
    path = with_chunk("x" * 200_000_000)
    assert path.stat().st_size < 1_000_000
    tracemalloc.start()
    try:
        with pytest.raises(UsageError, match=r"a\.png"):
            read_metadata(path)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("data", [b"vqclip\0\1\0\0\0no zlib", b"vqclip\0\0\0\0\0\xff\xff", b"vqclip", b""])
def test_broken_chunks(data: bytes) -> None:
    info = PngInfo()
    info.add(b"iTXt", data)
    Image.new("RGB", (2, 2)).save("a.png", pnginfo=info)
    with pytest.raises(UsageError, match=r"'a\.png' carries no vqclip metadata"):
        read_metadata(Path("a.png"))


def test_broken_exif_is_refused_without_a_remark() -> None:
    """Every byte of the EXIF block wrong in turn; Pillow's warnings would fail this test."""
    exif = Image.Exif()
    exif[0x010E] = json.dumps(metadata().to_json())
    good = exif.tobytes()
    for place in range(6, 40):
        broken = good[:place] + bytes([good[place] ^ 0x55]) + good[place + 1 :]
        Image.new("RGB", (2, 2)).save("a.jpg", exif=broken)
        try:
            assert isinstance(read_metadata(Path("a.jpg")).config, dict)
        except UsageError as error:
            assert "a.jpg" in str(error)


@pytest.mark.parametrize("value", [5, b"\xff\xfe", "{}", json.dumps({"config": 1})[:-1]])
def test_an_exif_description_of_others(value: object) -> None:
    exif = Image.Exif()
    exif[0x010E] = value
    Image.new("RGB", (2, 2)).save("a.jpg", exif=exif)
    with pytest.raises(UsageError, match="carries no vqclip metadata"):
        read_metadata(Path("a.jpg"))


def test_what_is_no_picture() -> None:
    Path("text.png").write_text("{}")
    Path("folder.png").mkdir()
    for name, message in [("text.png", "not an image"), ("folder.png", "Is a directory"), ("no.png", "No such file")]:
        with pytest.raises(UsageError, match=message):
            read_metadata(Path(name))


def test_a_huge_picture_is_refused_without_a_warning() -> None:
    save_picture(Path("a.png"), pixels(), metadata())
    data = bytearray(Path("a.png").read_bytes())
    for side in (9500, 20_000, 2**31 - 1):  # Pillow warns at the first and raises at the others
        data[16:24] = side.to_bytes(4, "big") * 2
        data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
        Path("huge.png").write_bytes(data)
        if side == 9500:
            assert read_metadata(Path("huge.png")) == metadata()  # only the header is large: nothing is decoded
            continue
        with pytest.raises(UsageError, match="100 megapixels"):
            read_metadata(Path("huge.png"))


def finished() -> Finished:
    latent = torch.arange(16.0).view(2, 2, 2, 2).transpose(0, 1)  # not contiguous, as a view may be
    return Finished(7, torch.stack([pixels(), 1 - pixels()]), latent, [{}, {}], 0.0)


def test_pictures_writes_each_with_its_own_metadata_at_the_end() -> None:
    paths = [Path("run/image-0.png"), Path("run/image-1.png")]
    sink = Pictures(paths, Path("run/latent.safetensors"), lambda end, number: metadata(seed=number))
    sink.stop(None)
    assert not Path("run").exists()
    sink.finish(finished())
    assert [read_metadata(path).seed for path in paths] == [0, 1]
    for path, image in zip(paths, finished().images, strict=True):
        with Image.open(path) as read:
            assert torch.equal(to_tensor(read)[0], (image * 255).round() / 255)
    with safe_open("run/latent.safetensors", "pt") as file:
        assert torch.equal(file.get_tensor("latent"), finished().latent)
        assert file.metadata()["step"] == "7"


def test_pictures_without_metadata_and_latent() -> None:
    Pictures([Path("a.png"), Path("b.png")], None, lambda end, number: None).finish(finished())
    assert sorted(path.name for path in Path().iterdir()) == ["a.png", "b.png"]
    with pytest.raises(UsageError, match="carries no vqclip metadata"):
        read_metadata(Path("a.png"))


def test_the_latent_is_written_before_the_pictures() -> None:
    """A picture is the sign that the run is finished, so nothing may be missing once it is there."""
    seen: list[bool] = []

    def describe(end: Finished, number: int) -> None:
        seen.append(Path("latent.safetensors").is_file())

    Pictures([Path("a.png"), Path("b.png")], Path("latent.safetensors"), describe).finish(finished())
    assert seen == [True, True]


HOSTILE = [None, True, -1, 3.5, "x", [], [1], {}, {"a": []}, {"sha256": 1}, 10**400]


@pytest.mark.parametrize("value", HOSTILE)
@pytest.mark.parametrize("key", [name for name in vars(metadata()) if name != "config"])
def test_a_value_of_another_type_is_left_out(key: str, value: object) -> None:
    """Whatever stands there, each field has its own type, and nothing is raised."""
    found = Metadata.from_json(json.dumps({**metadata().to_json(), key: value}))
    assert isinstance(found.version, str) and isinstance(found.prompt, str)
    assert found.seed is None or found.seed >= 0
    assert found.step >= 0 and found.together >= 1
    assert all(isinstance(text, str) for texts in (found.inputs, found.libraries) for text in texts.values())
    assert all(isinstance(score, float) and abs(score) < 1e30 for score in found.scores.values())
    assert found.models is None or found.models == metadata().models
    assert Metadata.from_json(json.dumps(found.to_json())) == found


def test_any_flipped_bit_of_a_latent_is_noticed() -> None:
    path = Path("latent.safetensors")
    Pictures([], path, lambda end, number: None).finish(finished())
    whole = path.read_bytes()
    assert torch.equal(read_latent(path)[0], finished().latent) and read_latent(path)[1] == 7
    for bit in range(0, 8 * len(whole), 3):
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << bit % 8
        path.write_bytes(flipped)
        try:
            latent, step = read_latent(path)
        except UsageError:
            continue
        assert step == 7 and torch.equal(latent, finished().latent)  # a bit that means nothing


def test_a_latent_of_an_older_version_has_no_checksum() -> None:
    save_file({"latent": torch.ones(1, 2, 2, 2)}, "latent.safetensors", {"step": "3"})
    assert read_latent(Path("latent.safetensors"))[1] == 3


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_any_damage_to_a_picture_is_its_metadata_or_a_sentence(suffix: str) -> None:
    seed = Path(f"seed{suffix}")
    save_picture(seed, pixels(), metadata())

    @settings(max_examples=60, deadline=None)
    @given(st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), min_size=1, max_size=4))
    def damaged(changes: list[tuple[float, int]]) -> None:
        data = bytearray(seed.read_bytes())
        for place, value in changes:
            data[int(place * len(data))] = value
        Path(f"x{suffix}").write_bytes(data)
        with contextlib.suppress(UsageError):
            assert isinstance(read_metadata(Path(f"x{suffix}")), Metadata)

    damaged()


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=8,
)
FIELDS = ("version", "prompt", "seed", "models", "inputs", "together", "step", "scores", "libraries", "other")


@settings(max_examples=80, deadline=None)
@given(
    st.dictionaries(st.sampled_from(FIELDS), JSON).map(lambda facts: json.dumps({"config": {}, **facts}))
    | st.text(max_size=20)
    | st.sampled_from(["[" * 100_000, '{"config": {"a": NaN}}', '{"config": {}, "seed": 1e999}', "9" * 5000])
)
def test_any_metadata_is_read_into_its_types(text: str) -> None:
    with contextlib.suppress(ValueError):
        read = Metadata.from_json(text)
        assert isinstance(read.version, str) and isinstance(read.prompt, str)
        assert (read.seed is None or type(read.seed) is int) and type(read.step) is int and type(read.together) is int
        assert all(isinstance(value, float) for value in read.scores.values())
        assert json.dumps(read.to_json())


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
def test_a_model_whose_file_has_a_name_that_is_no_text_loses_no_picture(name: str) -> None:
    strange = os.fsdecode(b"caf\xe9.ckpt")
    told = metadata()
    told = replace(told, models=replace(told.models, vqgan=ModelHash(strange, "00")), inputs={strange: "33"})
    save_picture(Path(name), pixels(), told)
    assert read_metadata(Path(name)) == told
