"""The measures of the pictures: naming by people, and sharpness against drawn scenes."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image

from scripts.data.scenes import heldout_prompts
from scripts.measure import editing, naming
from scripts.measure.likeness import kernel_distance
from scripts.measure.sharpness import BANDS, band_energies

LISTS = ("naming-single", "naming-pairs", "naming-styles")
SCRIPT = Path(naming.__file__)


def stripes(period: int, side: int = 128) -> torch.Tensor:
    """A sine wave across the picture, `period` pixels long, (1, 3, side, side) in [0, 1]."""
    across = torch.arange(side) * (2 * math.pi / period) + 0.7
    return (across.sin() / 2 + 0.5).expand(1, 3, side, side).contiguous()


@pytest.mark.parametrize(("period", "band"), [(2, 0), (4, 1), (8, 2)])
def test_a_wave_has_its_energy_in_its_own_band(period: int, band: int) -> None:
    """Two pixels are a period's length in the finest band, four in the next, eight in the last."""
    assert int(band_energies(stripes(period)).argmax()) == band


def test_energy_grows_with_the_square_of_the_contrast() -> None:
    picture = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(band_energies(0.5 * picture + 0.2), 0.25 * band_energies(picture))


def test_a_blurred_picture_loses_the_fine_bands_first() -> None:
    picture = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    blurred = torch.nn.functional.avg_pool2d(picture, 3, 1, 1, count_include_pad=False)
    shares = band_energies(blurred) / band_energies(picture)
    assert len(shares) == len(BANDS)
    assert bool((shares[1:] > shares[:-1]).all()) and float(shares[0]) < 0.1


@pytest.mark.parametrize("name", LISTS)
def test_a_list_has_24_prompts_that_nothing_else_measures(name: str) -> None:
    prompts = [entry.prompt for entry in naming.read_list(name)]
    others = {prompt for other in LISTS if other != name for prompt in (e.prompt for e in naming.read_list(other))}
    assert len(set(prompts)) == 24
    assert not set(prompts) & (others | set(heldout_prompts("single")) | set(heldout_prompts("composed")))


@pytest.mark.parametrize("name", LISTS)
def test_every_prompt_would_count_as_its_own_answer_and_no_other_prompt_would(name: str) -> None:
    entries = naming.read_list(name)
    assert all(entry.is_named(entry.prompt) for entry in entries)
    assert not [(a.prompt, b.prompt) for a in entries for b in entries if a is not b and a.is_named(b.prompt)]


def test_the_missions_portraits_are_among_the_styles() -> None:
    prompts = {entry.prompt for entry in naming.read_list("naming-styles")}
    assert "an oil portrait of an old man teacher in front of a blackboard" in prompts
    assert "a pencil drawing of a young female teacher holding a book" in prompts
    assert "a closeup watercolor portrait of a young male teacher with a book" in prompts


@pytest.mark.parametrize(
    ("answer", "counts"),
    [
        ("a dog and a bike", True),
        ("Dogs on bicycles", True),
        ("two boxes beside a puppy and a bicycle?", True),
        ("a dog", False),
        ("a hotdog and a bicycle", False),
        ("", False),
    ],
)
def test_an_answer_counts_when_it_holds_a_word_of_every_group(answer: str, counts: bool) -> None:
    entry = naming.Entry("a dog to the left of a bicycle", (("dog", "puppy"), ("bicycle", "bike")))
    assert entry.is_named(answer) == counts


def test_a_sheet_is_shuffled_has_no_captions_and_is_scored_by_its_key(tmp_path: Path) -> None:
    entries = naming.read_list("naming-single")
    files = []
    for number in range(len(entries)):
        files.append(tmp_path / f"{number:02}.png")
        Image.new("RGB", (128, 128), (10 * number, 0, 0)).save(files[-1])
    sheet, key = tmp_path / "sheet.png", tmp_path / "key.json"
    command = [sys.executable, str(SCRIPT), "draw", "naming-single", "--sheet", str(sheet), "--key", str(key)]
    subprocess.run([*command, "--pictures", *map(str, files)], check=True)
    shown, prompts = json.loads(key.read_text()), [entry.prompt for entry in entries]
    assert sorted(shown.values()) == sorted(prompts) and list(shown.values()) != prompts
    red = [Image.open(sheet).getpixel((n % 6 * 264 + 100, n // 6 * 292 + 150))[0] for n in range(24)]
    assert [prompts[value // 10] for value in red] == list(shown.values())

    answers = tmp_path / "answers.txt"
    lines = [f"{number}: {prompt}" for number, prompt in shown.items()]
    lines[0], lines[1] = "1: a cupboard", lines[1].replace(": ", "\t") + "\tmaybe"
    answers.write_text("\n".join(lines))
    command = [sys.executable, str(SCRIPT), "score", "naming-single", "--key", str(key), "--answers", str(answers)]
    told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "naming-single: 23 of 24 named, 22 of them surely" in told
    assert "'a cupboard'" in told


def test_the_order_is_another_for_another_list_or_seed() -> None:
    assert naming.shuffled(24, "a", 1) == naming.shuffled(24, "a", 1)
    assert naming.shuffled(24, "a", 1) != naming.shuffled(24, "a", 2) != naming.shuffled(24, "b", 2)


def test_what_follows_the_dashes_goes_to_generate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    given: list[list[str]] = []

    def generate(prompts: list[str], folder: Path, seed: int, settings: list[str]) -> list[Path]:
        given.append(settings)
        Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
        return [tmp_path / "a.png"] * len(prompts)

    monkeypatch.setattr(naming, "generate", generate)
    words = [
        "naming.py",
        "draw",
        "naming-single",
        "--sheet",
        str(tmp_path / "s.png"),
        "--key",
        str(tmp_path / "k.json"),
    ]
    monkeypatch.setattr(sys, "argv", [*words, "--", "-c", "codes", "--seed", "7"])
    naming.main()
    assert given == [["-c", "codes", "--seed", "7"]]


def test_the_kernel_distance_of_two_points_is_the_kernels_own() -> None:
    """Where all vectors of a set are one vector, the expectations are single values of the kernel."""
    cosine, width = 0.25, 16
    one = torch.zeros(width)
    one[0] = width**0.5
    other = one * cosine
    other[1] = (width * (1 - cosine**2)) ** 0.5
    distance = kernel_distance(one.repeat(5, 1), other.repeat(5, 1))
    assert distance == pytest.approx(2**3 + 2**3 - 2 * (cosine + 1) ** 3, rel=1e-5)


def test_the_kernel_distance_of_samples_of_one_cloud_is_nothing() -> None:
    """It is unbiased: small sets are not further apart than large ones, on average over many draws."""
    rng = torch.Generator().manual_seed(0)
    draws = torch.nn.functional.normalize(torch.randn(400, 2, 6, 8, generator=rng), dim=-1) * 8**0.5
    distances = [kernel_distance(some, others) for some, others in draws]
    assert abs(sum(distances) / 400) < 0.05 * max(distances)


def test_the_kernel_distance_forgets_that_captions_are_the_same() -> None:
    """Otherwise equal sets would seem closer than sets of one cloud."""
    rng = torch.Generator().manual_seed(1)
    draws = torch.nn.functional.normalize(torch.randn(400, 6, 8, generator=rng), dim=-1) * 8**0.5
    assert abs(sum(kernel_distance(each, each) for each in draws)) < 1e-3


def test_a_missed_goal_is_named() -> None:
    rows = [{"thing": 1.0, "colour": 1.0, "distance": 0.06}, {"thing": 0.0, "colour": 1.0, "distance": 0.05}]
    assert editing.missed("vary", editing.summary(rows)) == ["thing"]
    assert editing.missed("vary", editing.summary(rows[:1])) == []
    ways = [{"first": -1.0, "last": 1.0, "jump": 0.1}, {"first": -0.9, "last": 0.95, "jump": 0.2}]
    assert editing.missed("interpolate", editing.summary(ways)) == ["worst jump"]
