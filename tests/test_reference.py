"""A folder of captioned pictures as a reference: aims in closed form, captions, and runs that use one."""

import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from command import Command
from conftest import TinyModels
from PIL import Image
from test_pipeline import build, plan_of
from torch import Tensor

from vqclip.guidance.reference import AIMS, SHARPNESS, STIFFNESS, Pairs, blended, rotated
from vqclip.hub.clip_files import find_clip
from vqclip.models.perceptor import load_perceptor
from vqclip.models.provenance import ModelHash, ModelHashes
from vqclip.outputs.metadata import Metadata
from vqclip.outputs.picture import read_metadata, save_image
from vqclip.pipeline.folder_reference import FolderReference, caption_of
from vqclip.pipeline.provenance import fingerprint
from vqclip.pipeline.reference import read_references


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(*shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


def turn(angle: float) -> Tensor:
    return torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


@pytest.mark.parametrize("angle", [-2.0, 0.3, 1.2])
def test_in_the_plane_the_rotation_is_known(angle: float) -> None:
    """Two pairs that turn by an angle: their mean product is half of that turn, and stiffness adds to its cosine."""
    pairs = Pairs(torch.eye(2), turn(angle).T.contiguous(), torch.arange(2))
    found = math.atan2(math.sin(angle) / 2, math.cos(angle) / 2 + STIFFNESS)
    text = unit(2)
    torch.testing.assert_close(rotated(text, pairs), turn(found) @ text)


def test_what_the_pairs_say_nothing_of_stays() -> None:
    pairs = Pairs(F.pad(torch.eye(2), (0, 2)), F.pad(turn(0.7), (0, 2)), torch.arange(2))
    for text in torch.eye(4)[2:]:
        torch.testing.assert_close(rotated(text, pairs), text)


def test_no_other_rotation_fits_better() -> None:
    """Against small and large turns away from it, by what it is the least of."""
    pairs = Pairs(unit(20, 6), unit(20, 6, seed=1), torch.arange(20))
    best = torch.stack([rotated(axis, pairs) for axis in torch.eye(6)]).T
    torch.testing.assert_close(best @ best.T, torch.eye(6), atol=1e-5, rtol=0)

    def misfit(turned: Tensor) -> float:
        over = (pairs.texts @ turned.T - pairs.pictures).square().sum(1).mean()
        return float(over + STIFFNESS * (turned - torch.eye(6)).square().sum())

    for seed in range(20):
        skew = torch.randn(6, 6, generator=torch.Generator().manual_seed(seed)) * 10.0 ** -(seed % 4)
        assert misfit(torch.matrix_exp(skew - skew.T) @ best) >= misfit(best) - 1e-5


def test_a_blend_is_the_weighted_mean_picture() -> None:
    pairs, text = Pairs(unit(5, 4), unit(5, 4, seed=1), torch.arange(5)), unit(4, seed=2)
    weights = [math.exp(SHARPNESS * float(each @ text)) for each in pairs.texts]
    mean = sum(weight * picture for weight, picture in zip(weights, pairs.pictures, strict=True))
    torch.testing.assert_close(blended(text, pairs), mean / mean.norm())


def test_the_nearest_pairs_are_asked() -> None:
    pairs, text = Pairs(unit(30, 4), unit(30, 4, seed=1), torch.arange(30)), unit(4, seed=2)
    order = sorted(range(30), key=lambda place: -float(pairs.texts[place] @ text))
    near = pairs.near(text, 3)
    assert (
        near.rows.tolist() == order[:3]
        and torch.equal(near.texts, pairs.texts[order[:3]])
        and torch.equal(near.pictures, pairs.pictures[order[:3]])
    )
    assert len(pairs.near(text, 99).texts) == 30


# ---- with a folder


def picture(path: Path, seed: int, prompt: str = "", caption: str = "") -> None:
    """A picture of coloured noise that says what it shows by its metadata, or by a file beside it, or not."""
    numbers = torch.rand(3, 3, 3, generator=torch.Generator().manual_seed(seed))
    image = Image.fromarray((255 * numbers).byte().numpy()).resize((24, 24))
    models = ModelHashes(ModelHash("tiny", "0"), (ModelHash("tiny", "0"),), None)
    save_image(path, image, Metadata("0", prompt, 0, {"size": "24x24"}, models) if prompt else None)
    if caption:
        path.with_suffix(".txt").write_text(caption, "utf-8")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    home = tmp_path / "pictures"
    home.mkdir()
    for number, words in enumerate(("a cat", "a dog", "the sun | rain:-1", "a cat asleep")):
        picture(home / f"{number}.png", number, prompt=words)
    picture(home / "said.png", 7, caption="\na moon\nmore\n")
    picture(home / "dumb.png", 8)
    return home


def test_a_caption_is_the_metadata_s_prompt_or_the_file_s_beside(folder: Path) -> None:
    names = ("0", "2", "said", "dumb")
    assert [caption_of(folder / f"{name}.png") for name in names] == ["a cat", "the sun", "a moon", None]
    (folder / "said.txt").write_bytes(b"\xff\xfe\xff")
    assert caption_of(folder / "said.png") is None


@pytest.mark.parametrize("aim", AIMS)
def test_wanted_texts_are_aimed_where_the_folder_s_pictures_lie(tiny: TinyModels, folder: Path, aim: str) -> None:
    """The guides get moved vectors for what is wanted alone; the scores are still those of the prompts."""
    prompts = ("a cat | fog:-0.5", "a cat")
    before = build(plan_of(tiny, prompts=prompts)).targets[0]

    def aims(*words: str) -> Tensor:
        parts = build(plan_of(tiny, f"targets.reference={folder}", f"targets.aim={aim}", *words, prompts=prompts))
        assert torch.equal(parts.targets[0].embeddings, before.embeddings)
        assert list(parts.inputs.sha256) == [str(folder)]
        return parts.descent.objective.guides[0].targets.embeddings  # type: ignore[attr-defined]

    after = aims()
    assert torch.equal(after[1], before.embeddings[1]) and torch.equal(after[0], after[2])
    assert not torch.allclose(after[0], before.embeddings[0], atol=1e-3)
    torch.testing.assert_close(after.norm(dim=1), torch.ones(3))
    torch.testing.assert_close(aims("targets.lean=0"), before.embeddings)


def test_a_picture_without_a_caption_says_what_the_nearest_caption_says(tiny: TinyModels, folder: Path) -> None:
    files = find_clip(str(tiny.clip))
    perceptor = load_perceptor(files, torch.device("cpu"))
    (reference,) = read_references(plan_of(tiny, f"targets.reference={folder}"), [perceptor], [files]) or ()
    assert isinstance(reference, FolderReference)
    pairs = reference.around(perceptor.encode_text(["a cat"])[0])
    captions = perceptor.encode_text(["a cat", "a dog", "the sun", "a cat asleep", "a moon"])
    dumb = torch.from_numpy(reference.index.vectors[reference.index.names.index("dumb.png")])
    row = (pairs.pictures @ dumb).argmax()
    torch.testing.assert_close(pairs.pictures[row], dumb)
    torch.testing.assert_close(pairs.texts[row], captions[(captions @ dumb).argmax()])
    assert len(pairs.texts) == 6


def test_long_captions_are_cut_without_a_word(tiny: TinyModels, folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    picture(folder / "long.png", 11, caption="a cat " * 100)
    build(plan_of(tiny, f"targets.reference={folder}"))
    assert not caplog.messages


def test_a_run_with_a_folder_goes_on_unless_the_folder_was_changed(
    run: Command, tiny: TinyModels, folder: Path
) -> None:
    words = ["a cat", "-c", str(tiny.config), "--seed", "1", "--set", f"targets.reference={folder}"]
    done = run("generate", *words, "--steps", "2", "-o", "r/")
    assert done.code == 0, done.stderr
    made = read_metadata(Path("r/image.png"))
    assert made.inputs.keys() == {str(folder)} and made.config["targets"]["reference"] == str(folder)
    again = run("rerun", "r/image.png", "-o", "again.png")
    assert again.code == 2 and "--file OLD=NEW" in again.stderr
    again = run("rerun", "r/image.png", "-o", "again.png", "--file", f"{folder}={folder}")
    assert again.code == 0 and "targets.reference" not in again.stderr
    assert Path("again.png").read_bytes() == Path("r/image.png").read_bytes()
    plan = plan_of(tiny, f"targets.reference={folder}")
    before = fingerprint(build(plan))["inputs"]
    assert before == fingerprint(build(plan))["inputs"] == made.inputs
    picture(folder / "new.png", 9, prompt="a bird")
    assert fingerprint(build(plan))["inputs"] != before
    again = run("rerun", "r/image.png", "-o", "other.png", "--file", f"{folder}={folder}")
    assert again.code == 0 and "holds other pictures than then" in again.stderr


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda home: None, "is not a folder"),
        (lambda home: home.mkdir(), "holds no picture"),
        (lambda home: (home.mkdir(), picture(home / "a.png", 1)), "says what it shows"),
    ],
    ids=["gone", "empty", "silent"],
)
def test_a_folder_that_tells_nothing_is_refused(
    run: Command, tiny: TinyModels, tmp_path: Path, make: Callable[[Path], object], says: str
) -> None:
    make(tmp_path / "pictures")
    done = run("generate", "a cat", "-c", str(tiny.config), "--set", f"targets.reference={tmp_path / 'pictures'}")
    assert done.code == 2 and says in done.stderr


@pytest.mark.parametrize("word", ["targets.aim=rotat", "targets.neighbours=0", "targets.lean=2", "targets.reference="])
def test_settings_are_checked(run: Command, tiny: TinyModels, word: str) -> None:
    done = run("generate", "a cat", "-c", str(tiny.config), "--set", word)
    assert done.code == 2 and word.partition("=")[0] in done.stderr
