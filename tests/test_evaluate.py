"""The measure: verdicts against plain counting, a judge that may not guide, and the command as a whole."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from command import Command
from conftest import TinyModels, save_tiny_clip
from PIL import Image

from vqclip.common.errors import OutputError, UsageError
from vqclip.config.loader import load_config
from vqclip.tools.evaluate import diversity, give_verdict, load_judges, own_judges, read_prompts, read_tiles

TEXTS = ["a cat", "a dog", "a cow"]


@pytest.fixture
def vqclip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def judge(tmp_path: Path) -> Path:
    """A CLIP of other weights than the tiny one."""
    folder = tmp_path / "judge"
    save_tiny_clip(folder, seed=1)
    return folder


def test_precision_counts_own_captions_that_come_first() -> None:
    captions = torch.eye(3)
    pictures = torch.tensor([[1.0, 0, 0], [0.8, 0.6, 0], [0, 0, 1]])
    verdict = give_verdict(pictures, captions, TEXTS)
    assert verdict.precision == pytest.approx(2 / 3)
    assert verdict.score == pytest.approx((1 + 0.6 + 1) / 3)
    assert verdict.mistaken == [(1, 0)]


def test_several_seeds_are_judged_by_the_same_captions() -> None:
    captions = torch.eye(3)
    verdict = give_verdict(torch.cat([captions, captions.flip(0)]), captions, TEXTS, seeds=2)
    assert verdict.precision == pytest.approx(4 / 6)
    assert verdict.mistaken == [(0, 2), (2, 0)]


def test_the_first_pictures_alone_are_ranked_among_all_captions() -> None:
    captions = torch.eye(3)
    pictures = torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8], [1.0, 0, 0], [0, 1.0, 0]])
    verdict = give_verdict(pictures, captions, TEXTS, seeds=2)
    assert verdict.precision == pytest.approx(3 / 4)
    assert verdict.mistaken == [(1, 2)]


def test_equal_captions_are_not_mistaken_for_each_other() -> None:
    captions = torch.tensor([[1.0, 0], [1.0, 0], [0, 1.0]])
    assert give_verdict(captions, captions, ["a cat", "a cat", "a dog"]).precision == 1


def test_diversity_is_the_mean_distance_between_seeds() -> None:
    same = torch.eye(3).expand(4, 3, 3)
    assert diversity(same) == pytest.approx(0, abs=1e-6)
    apart = torch.stack([torch.tensor([[1.0, 0], [0.6, 0.8]]), torch.tensor([[0, 1.0], [0.6, 0.8]])])
    assert diversity(apart) == pytest.approx(0.5)


def test_tiles_are_read_row_by_row(tmp_path: Path) -> None:
    sheet = Image.new("RGB", (80, 16))
    for number in range(20):
        sheet.paste((number * 10, 0, 0), (number % 10 * 8, number // 10 * 8, number % 10 * 8 + 8, number // 10 * 8 + 8))
    sheet.save(tmp_path / "tiles.png")
    tiles = read_tiles(tmp_path / "tiles.png", 13)
    assert tiles.shape == (13, 3, 8, 8)
    assert (tiles[:, 0].amax((1, 2)) * 255).round().tolist() == [number * 10 for number in range(13)]
    with pytest.raises(UsageError, match="holds 20 scenes, not 21"):
        read_tiles(tmp_path / "tiles.png", 21)


@pytest.mark.parametrize("name", ["heldout-single", "heldout-composed"])
def test_the_shipped_lists_have_a_drawn_scene_for_every_prompt(name: str) -> None:
    prompts = read_prompts(name)
    assert len(set(prompts.prompts)) == 100
    assert prompts.scenes is not None
    assert read_tiles(prompts.scenes, 100).shape == (100, 3, 128, 128)


def test_bad_lists(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="did you mean 'heldout-single'"):
        read_prompts("heldout-singel")
    (tmp_path / "one.txt").write_text("# a comment\na cat\n\na cat\n")
    with pytest.raises(UsageError, match="fewer than two different"):
        read_prompts(str(tmp_path / "one.txt"))
    (tmp_path / "raw.txt").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="UTF-8"):
        read_prompts(str(tmp_path / "raw.txt"))


def test_a_judge_that_guides_is_refused_by_content(tiny: TinyModels, judge: Path, tmp_path: Path) -> None:
    config = load_config([str(tiny.config)])
    copy = tmp_path / "copy"
    shutil.copytree(tiny.clip, copy)
    for guide in (tiny.clip, copy):
        with pytest.raises(UsageError, match="guides the pictures too"):
            load_judges([str(judge), str(guide)], config)
    with pytest.raises(UsageError, match="given twice"):
        load_judges([str(judge), str(judge)], config)
    assert [each.size for each in load_judges([str(judge)], config)] == [16]


def test_the_command_writes_figures_and_sheets(vqclip: Command, tiny: TinyModels, judge: Path) -> None:
    Path("animals.txt").write_text("\n".join(TEXTS))
    words = ("-c", str(tiny.config), "--judge", str(judge), "--seeds", "2", "--together", "2", "--json", "-o", "report")
    done = vqclip("evaluate", "animals.txt", *words)
    assert done.code == 0, done.stderr
    facts = json.loads(done.stdout)
    assert facts["event"] == "evaluation" and facts["prompts"] == 3 and facts["seeds"] == [0, 1]
    assert facts["r_precision"] == pytest.approx(1 - len(facts["mistaken"]) / 6, abs=1e-4)
    assert facts["ceiling_r_precision"] is None and facts["diversity"] > 0 and facts["seconds_per_picture"] > 0
    assert json.loads(Path("report/animals.json").read_text()) == {k: v for k, v in facts.items() if k != "event"}
    for seed in (0, 1):
        with Image.open(f"report/animals-s{seed}.png") as sheet:
            assert sheet.width >= 3 * 16
    assert facts["others"] == []
    again = json.loads(vqclip("evaluate", "animals.txt", *words).stdout)
    assert {**again, "seconds_per_picture": 0} == {**facts, "seconds_per_picture": 0}


def test_each_judge_speaks_for_itself(vqclip: Command, tiny: TinyModels, judge: Path) -> None:
    Path("animals.txt").write_text("\n".join(TEXTS))
    save_tiny_clip(Path("other"), seed=5)

    def facts(*judges: str) -> dict[str, Any]:
        named = [word for each in judges for word in ("--judge", each)]
        done = vqclip("evaluate", "animals.txt", "-c", str(tiny.config), *named, "--json")
        assert done.code == 0, done.stderr
        return json.loads(done.stdout)

    both, first, second = facts(str(judge), "other"), facts(str(judge)), facts("other")
    said = {key: both[key] for key in ("judge", "r_precision", "clip_score", "mistaken")}
    assert said == {key: first[key] for key in said} and first["others"] == []
    assert [each["judge"] for each in both["others"]] == ["other"]
    assert both["others"][0] == {key: second[key] for key in both["others"][0]}


@pytest.mark.parametrize("name", ["animals.json", "animals-s1.png"])
def test_a_users_file_is_not_replaced_by_a_report(vqclip: Command, tiny: TinyModels, judge: Path, name: str) -> None:
    Path("animals.txt").write_text("\n".join(TEXTS))
    Path("report").mkdir()
    Path("report", name).write_bytes(b"mine")
    words = ("evaluate", "animals.txt", "-c", str(tiny.config), "--judge", str(judge), "-o", "report", "--seeds", "2")
    done = vqclip(*words)
    assert done.code == 6 and Path("report", name).read_bytes() == b"mine" and "--overwrite" in done.stderr
    assert vqclip(*words, "--overwrite").code == 0 and Path("report", name).read_bytes() != b"mine"


def test_a_place_that_cannot_be_written_is_found_before_anything_is_drawn(
    vqclip: Command, tiny: TinyModels, judge: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("animals.txt").write_text("\n".join(TEXTS))
    Path("file").write_text("mine")
    words = ("evaluate", "animals.txt", "-c", str(tiny.config), "--judge", str(judge))
    with monkeypatch.context() as patch:
        patch.setattr("vqclip.tools.evaluate.evaluate", lambda *_: pytest.fail("it measured"))
        done = vqclip(*words, "-o", "file/report")
    assert done.code == 6 and "Cannot write 'file/report'" in done.stderr

    def fail(*_: object) -> None:
        raise OutputError("The disk is full.")

    monkeypatch.setattr("vqclip.cli.evaluate._write", fail)
    done = vqclip(*words, "-o", "report", "--json")
    said = [json.loads(line)["event"] for line in done.stdout.splitlines()]
    assert done.code == 6 and said == ["evaluation", "error"], "hours of measuring are shown whatever comes after"


def test_only_the_first_prompts_on_demand(vqclip: Command, tiny: TinyModels, judge: Path) -> None:
    Path("animals.txt").write_text("\n".join(TEXTS))
    words = ("-c", str(tiny.config), "--judge", str(judge), "--seeds", "2", "--json")
    facts = json.loads(vqclip("evaluate", "animals.txt", *words, "--first", "2").stdout)
    assert (facts["captions"], facts["prompts"]) == (3, 2)
    assert facts["r_precision"] == pytest.approx(1 - len(facts["mistaken"]) / 4, abs=1e-4)
    done = vqclip("evaluate", "animals.txt", *words, "--first", "0")
    assert done.code == 2 and "--first" in done.stderr


def test_grouping_does_not_change_the_pictures(vqclip: Command, tiny: TinyModels, judge: Path) -> None:
    Path("animals.txt").write_text("\n".join(TEXTS))
    scores = []
    for together in ("1", "3"):
        done = vqclip(
            "evaluate", "animals.txt", "-c", str(tiny.config), "--judge", str(judge), "--together", together, "--json"
        )
        scores.append(json.loads(done.stdout)["clip_score"])
    assert scores[0] == pytest.approx(scores[1], abs=2e-3)


def test_bad_usage(vqclip: Command, tiny: TinyModels) -> None:
    for words, said in [
        (("nowhere.txt",), "Unknown prompt list"),
        (("heldout-single", "--judge", "embedded"), "guides the pictures too"),
        (("heldout-single", "--judge", "nobody"), "Unknown perceptor 'nobody'"),
    ]:
        done = vqclip("evaluate", *words)
        assert (done.code, done.stdout) == (2, "") and said in done.stderr
    Path("file").write_text("mine")
    done = vqclip("evaluate", "heldout-single", "-o", "file")
    assert done.code == 2 and "is a file" in done.stderr and Path("file").read_text() == "mine"
    done = vqclip("evaluate", "heldout-single", "-o", "-")
    assert done.code == 2 and "name a folder" in done.stderr and not Path("-").exists()


def test_two_lists_never_share_their_files(vqclip: Command, tiny: TinyModels, judge: Path) -> None:
    for name in ("a/list.txt", "b/list.txt"):
        Path(name).parent.mkdir()
        Path(name).write_text("a cat\na dog\n")
    done = vqclip("evaluate", "a/list.txt", "b/list.txt", "-c", str(tiny.config), "--judge", str(judge), "-o", "rep")
    assert done.code == 2 and "Two lists would be written to 'rep/list.json'" in done.stderr
    assert not Path("rep").exists()


@pytest.mark.parametrize("line", ["a {red|green} cat", "fog:nan", "a cat |"])
def test_a_bad_prompt_is_found_before_anything_is_drawn(vqclip: Command, tmp_path: Path, line: str) -> None:
    Path("list.txt").write_text(f"# a list\na cat\n{line}\n")
    with pytest.raises(UsageError, match=r"^Line 3 of the prompt list 'list\.txt': "):
        read_prompts("list.txt")


def test_the_judges_are_those_that_do_not_guide() -> None:
    def judges(*guides: str) -> list[str]:
        return own_judges(load_config([], [f"perceptors={list(guides)}"]))

    assert judges("embedded") == ["embedded-judge", "embedded-second"]
    assert judges("embedded", "embedded-judge weight=0.5") == ["embedded-second"]
    with pytest.raises(UsageError, match="guide the pictures here"):
        judges("embedded-judge", "embedded-second")
