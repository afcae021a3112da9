"""The command line, whole: files, streams, exit codes, interruption and resume."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from command import Command
from conftest import TinyModels
from PIL import Image

from vqclip.cli import interrupts
from vqclip.common.errors import OutputError
from vqclip.outputs.picture import read_metadata, save_picture
from vqclip.outputs.state import saved_states


@pytest.fixture
def vqclip(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def files(folder: str = ".") -> set[str]:
    return {str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file()}


def size_of(path: str) -> tuple[int, int]:
    with Image.open(path) as image:
        return image.size


def test_a_picture_file_is_all_that_stays(vqclip: Command, tiny: TinyModels) -> None:
    done = vqclip("generate", "-c", str(tiny.config), "a cat", "-o", "out/a.png", "--seed", "1")
    assert (done.code, done.stdout) == (0, "out/a.png\n")
    assert files() == {"out/a.png"}
    assert size_of("out/a.png") == (16, 16)


def test_a_run_folder_of_its_own_and_latest(vqclip: Command, tiny: TinyModels) -> None:
    done = vqclip("generate", "-c", str(tiny.config), "A cat!", "--seed", "5")
    home = Path(done.stdout.strip()).parent
    assert home.name.endswith("_a-cat_s5") and Path("outputs/latest").resolve() == home.resolve()
    assert files(str(home)) == {"image.png", "run.yaml", "metrics.jsonl", "latent.safetensors"}
    steps = [json.loads(line)["step"] for line in (home / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_the_same_command_writes_the_same_bytes_and_run_yaml_repeats_it(vqclip: Command, tiny: TinyModels) -> None:
    for folder in ("one/", "two/"):
        vqclip("generate", "-c", str(tiny.config), "a cat", "--seed", "1", "-o", folder)
    vqclip("generate", "-c", "one/run.yaml", "-o", "three/")
    assert Path("one/image.png").read_bytes() == Path("two/image.png").read_bytes()
    assert Path("one/image.png").read_bytes() == Path("three/image.png").read_bytes()


def test_sample_draws_with_the_prior_and_says_so_in_the_picture(vqclip: Command, tiny: TinyModels) -> None:
    words = (
        "-c",
        str(tiny.config),
        "--set",
        f"prior.name={tiny.prior}",
        "a cat",
        "--seed",
        "1",
        "-n",
        "4",
        "-o",
        "a.png",
    )
    done = vqclip("sample", *words)
    assert (done.code, done.stdout) == (0, "a.png\n"), done.stderr
    assert files() == {"a.png"} and size_of("a.png") == (16, 16)
    said = json.loads(vqclip("info", "a.png", "--json").stdout)
    assert (
        said["step"] == 0 and said["config"]["init"]["kind"] == "prior" and said["config"]["prior"]["candidates"] == 4
    )
    assert set(said["models"]) == {"vqgan", "perceptors", "prior"}
    first = Image.open("a.png").tobytes()
    assert vqclip("sample", *words).code == 6
    assert vqclip("sample", *words, "--overwrite").code == 0 and Image.open("a.png").tobytes() == first


def test_sample_several_prompts_and_seeds(vqclip: Command, tiny: TinyModels) -> None:
    words = ("-c", str(tiny.config), "--set", f"prior.name={tiny.prior}", "--count", "2", "--seed", "3", "--json")
    done = vqclip("sample", "a cat", "a dog", *words)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(event["prompt"], event["seed"]) for event in events] == [
        ("a cat", 3),
        ("a cat", 4),
        ("a dog", 3),
        ("a dog", 4),
    ]
    assert len({Path(event["path"]).read_bytes() for event in events}) == 4


def test_a_run_from_the_prior_repeats_from_its_run_yaml(vqclip: Command, tiny: TinyModels) -> None:
    vqclip(
        "generate", "-c", str(tiny.config), "--set", f"prior.name={tiny.prior}", "a cat", "--seed", "1", "-o", "one/"
    )
    vqclip("generate", "-c", "one/run.yaml", "-o", "two/")
    assert Path("one/image.png").read_bytes() == Path("two/image.png").read_bytes()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--set", "prior.name=nowhere"), 2, "Unknown prior.name"),
        (("-n", "0"), 2, "--candidates is 0"),
        (("--set", "prior.temperature=-1"), 2, "prior.temperature"),
        (("--set", "prior.guidance=.nan"), 2, "prior.guidance"),
        (("--set", "init.image=a.png"), 2, "init.image"),
        ((), 2, "nothing to draw"),
    ],
)
def test_sample_bad_usage(vqclip: Command, tiny: TinyModels, words: tuple[str, ...], code: int, said: str) -> None:
    prompt = ("a cat",) if words else ()
    done = vqclip("sample", "-c", str(tiny.config), *prompt, *words)
    assert (done.code, done.stdout) == (code, "") and said in done.stderr and files() == set()


def test_json_events_and_several_pictures(vqclip: Command, tiny: TinyModels) -> None:
    words = ("a cat", "a dog", "--count", "2", "--seed", "3", "-o", "p.png", "--size", "17x16", "--json")
    done = vqclip("generate", "-c", str(tiny.config), *words)
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert [event["path"] for event in events] == [f"p-{number}.png" for number in range(4)]
    assert [event["seed"] for event in events] == [3, 4, 3, 4]
    assert {"event", "path", "prompt", "seed", "size", "steps", "seconds", "scores"} <= events[0].keys()
    assert events[0]["size"] == [18, 16] and "rounded" in done.stderr


@pytest.mark.parametrize("video", ["mp4", "gif", "webp"])
def test_frames_and_videos(vqclip: Command, tiny: TinyModels, video: str) -> None:
    done = vqclip("generate", "-c", str(tiny.config), "a cat", "-o", "v.png", "--save-every", "2", "--video", video)
    assert done.code == 0
    assert files() == {"v.png", f"v.{video}", *(f"v.png.frames/00000{step}.png" for step in (2, 4, 6))}


def test_starts_and_image_prompts(vqclip: Command, tiny: TinyModels) -> None:
    Image.new("LA", (40, 20), (200, 100)).save("odd.png")
    for words in (["--init-image", "odd.png"], ["--image-prompt", "odd.png:0.5"]):
        assert vqclip("generate", "-c", str(tiny.config), "a cat", *words).code == 0
    assert vqclip("generate", "-c", str(tiny.config), "--image-prompt", "odd.png").code == 0


def test_a_dry_run_writes_nothing(vqclip: Command, tiny: TinyModels) -> None:
    done = vqclip("generate", "-c", str(tiny.config), "a cat", "--dry-run")
    assert done.code == 0 and re.search("[MG]iB of memory", done.stderr) and "optimise:" in done.stdout
    assert files() == set()


def test_nothing_is_overwritten_unless_told(vqclip: Command, tiny: TinyModels) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "-o", "a.png")
    Path("a.png").write_text("mine")
    assert vqclip(*words).code == 6 and Path("a.png").read_text() == "mine"
    assert vqclip(*words, "--overwrite").code == 0 and size_of("a.png") == (16, 16)


BAD = {
    "empty prompt": ([""], 2),
    "no prompt": ([], 2),
    "bad weight": (["a:nan"], 2),
    "third tail": (["a:1:2:3"], 2),
    "unknown key": (["a", "--set", "optimise.stepz=3"], 2),
    "unknown name": (["a", "--set", "cutouts.recipe=foo"], 2),
    "unknown config": (["a", "-c", "imagenett"], 2),
    "size 0": (["a", "--size", "0x16"], 2),
    "size not a number": (["a", "--size", "big"], 2),
    "seed out of range": (["a", "--seed", "-2"], 2),
    "seed too large": (["a", "--seed", str(2**63)], 2),
    "missing init image": (["a", "--init-image", "nope.png"], 2),
    "truncated init image": (["a", "--init-image", "torn.png"], 2),
    "text as init image": (["a", "--init-image", "page.html"], 2),
    "no CUDA": (["a", "--device", "cuda:99"], 2),
    "unknown option": (["a", "--foo"], 2),
    "HTML checkpoint": (["a", "--set", "vqgan.file=page.html"], 3),
    "truncated checkpoint": (["a", "--set", "vqgan.file=torn.safetensors"], 3),
    "published model absent": (["a", "-c", "imagenet-16384"], 3),
    "perceptor absent": (["a", "--set", "perceptors=[ViT-B-32:openai]"], 3),
    "too wide for a WebP": (["a", "--size", "16384x16", "-o", "wide.webp"], 2),
    "output under a file": (["a", "-o", "page.html/x.png"], 6),
    "NaN": (["a", "--set", "losses.tv=1e39"], 7),
}


@pytest.mark.parametrize(("words", "code"), BAD.values(), ids=BAD.keys())
def test_bad_input_gets_one_sentence_and_leaves_nothing(
    vqclip: Command, tiny: TinyModels, words: list[str], code: int
) -> None:
    Path("page.html").write_text("<html>Link does not exist</html>")
    Image.effect_noise((64, 64), 50).save("torn.png")
    os.truncate("torn.png", 1000)
    Path("torn.safetensors").write_bytes(tiny.vqgan.read_bytes()[:5000])
    before = files()
    done = vqclip("generate", "-c", str(tiny.config), *words, "--json")
    errors = [line for line in done.stderr.splitlines() if line.startswith("Error: ")]
    assert done.code == code
    assert len(errors) == 1 and "Traceback" not in done.stderr
    assert json.loads(done.stdout) == {"event": "error", "code": code, "message": errors[0].removeprefix("Error: ")}
    assert code == 7 or files() == before


def test_a_prompt_is_data(vqclip: Command, tiny: TinyModels) -> None:
    prompt = "${oc.env:HOME} [red] ???"
    assert vqclip("generate", "-c", str(tiny.config), prompt, "-o", "d.png").code == 0
    assert json.loads(vqclip("info", "d.png", "--json").stdout)["prompt"] == prompt


def test_an_unforeseen_failure_is_called_a_bug(
    vqclip: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vqclip.runs.session.build", lambda *_, **__: 1 / 0)
    done = vqclip("generate", "-c", str(tiny.config), "a", "-o", "b.png")
    assert done.code == 1 and "vqclip has a bug: ZeroDivisionError" in done.stderr and files() == set()


@pytest.mark.parametrize(("stop", "ema"), [(1, 0.0), (3, 0.9), (5, 0.0)])
def test_an_interrupted_run_resumes_to_the_same_bytes(
    vqclip: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, stop: int, ema: float
) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "--seed", "1", "--set", f"optimise.ema={ema}")
    assert vqclip(*words, "-o", "whole/").code == 0
    asked = iter(range(1, 100))
    with monkeypatch.context() as patch:
        patch.setattr(interrupts.Interrupts, "received", lambda self: next(asked) == stop)
        done = vqclip(*words, "-o", "part/")
    assert done.code == 130 and "vqclip resume part" in done.stderr
    assert {"partial.png", "run.yaml", "metrics.jsonl"} <= files("part") and not Path("part/image.png").exists()
    assert int(saved_states(Path("part/state"))[0].stem) == stop
    assert vqclip("resume", "part").code == 0
    assert Path("part/image.png").read_bytes() == Path("whole/image.png").read_bytes()
    assert Path("part/metrics.jsonl").read_bytes() == Path("whole/metrics.jsonl").read_bytes()
    assert vqclip("resume", "part").stdout == "part/image.png\n"


@pytest.mark.parametrize("kept", ["state", "latent"])
@pytest.mark.parametrize("written", [0, 1])
def test_a_run_that_stops_while_it_writes_its_pictures_resumes_to_the_same_bytes(
    vqclip: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch, written: int, kept: str
) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "--seed", "1", "--count", "2", "--steps", "4")
    words = (*words, "--set", f"runtime.state_every={2 if kept == 'state' else 50}")
    assert vqclip(*words, "-o", "whole/").code == 0

    def fails(path: Path, *rest: Any) -> None:
        if path.name != f"image-{written}.png":
            return save_picture(path, *rest)
        raise OutputError("Cannot write: No space left on device.")

    with monkeypatch.context() as patch:
        patch.setattr("vqclip.outputs.picture.save_picture", fails)
        assert vqclip(*words, "-o", "part/").code == 6
    assert Path("part/latent.safetensors").is_file() and not Path(f"part/image-{written}.png").exists()
    if kept == "latent":
        shutil.rmtree("part/state", ignore_errors=True)
    assert vqclip("resume", "part").code == 0
    for name in ("image-0.png", "image-1.png"):
        assert Path("part", name).read_bytes() == Path("whole", name).read_bytes()
    assert vqclip("resume", "part").stdout.splitlines() == ["part/image-0.png", "part/image-1.png"]


def test_a_template_names_each_picture_by_its_prompt_and_seed(vqclip: Command, tiny: TinyModels) -> None:
    words = ("generate", "-c", str(tiny.config), "A cat!", "a/dog: 2", "--seed", "3", "--steps", "1", "--json")
    done = vqclip(*words, "--count", "2", "-o", "pets/{prompt}-{seed}.png")
    paths = [json.loads(line)["path"] for line in done.stdout.splitlines()]
    assert paths == [f"pets/{name}.png" for name in ("a-cat-3", "a-cat-4", "a-dog-2-3", "a-dog-2-4")]
    assert files() == set(paths)
    assert [read_metadata(Path(path)).seed for path in paths] == [3, 4, 3, 4]
    done = vqclip(*words, "--count", "2", "-o", "{prompt}.png")
    assert [json.loads(line)["path"] for line in done.stdout.splitlines()] == [
        "a-cat-0.png",
        "a-cat-1.png",
        "a-dog-2-2.png",
        "a-dog-2-3.png",
    ]
    for place in ("{prompt}/a.png", "{seed}/{prompt}.png", "{prompt}/"):
        refused = vqclip(*words, "--count", "2", "-o", place)
        assert refused.code == 2 and "names several folders, and a run has one" in refused.stderr
    assert vqclip(*words, "-o", "runs/{seed}/{prompt}{x}.webp", "-q").code == 0
    assert {Path("runs/3/a-cat{x}.webp"), Path("runs/3/a-dog-2{x}.webp")} <= {*Path("runs/3").iterdir()}
    assert vqclip(*words, "-o", "runs/{seed}/{prompt}{x}.webp").code == 6  # nothing is replaced


def test_a_run_goes_on_under_the_names_of_its_template(
    vqclip: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat", "a dog", "--seed", "3")
    place = ("-o", "{prompt}-{seed}.png")
    with monkeypatch.context() as patch:
        patch.setattr(interrupts.Interrupts, "received", lambda self: True)
        stopped = vqclip(*words, *place)
    assert stopped.code == 130 and "a-cat-3.png.run" in stopped.stderr
    with monkeypatch.context() as patch:
        patch.setattr(interrupts.Interrupts, "received", lambda self: True)
        stopped = vqclip(*words[:3], "a cat", "-o", "my cat.png")
    assert "vqclip resume 'my cat.png.run' goes on" in stopped.stderr
    assert vqclip("resume", "my cat.png.run").code == 0
    Path("my cat.png").unlink()
    done = vqclip("resume", "a-cat-3.png.run")
    assert done.stdout.split() == ["a-cat-3.png", "a-dog-3.png"], done.stderr
    assert files() == {"a-cat-3.png", "a-dog-3.png"}


def test_every_file_made_is_told(vqclip: Command, tiny: TinyModels) -> None:
    """On stdout and in JSON: the video, the frames, and the finished picture and video that a longer run set aside."""
    words = (
        "generate",
        "-c",
        str(tiny.config),
        "a cat",
        "--seed",
        "1",
        "--save-every",
        "3",
        "--video",
        "gif",
        "--json",
    )
    events = [json.loads(line) for line in vqclip(*words, "-o", "run/").stdout.splitlines()]
    told = {event["path"] for event in events}
    assert [event["event"] for event in events] == ["image", "video", "frames"]
    assert told == {"run/image.png", "run/video.gif", "run/frames"} and all(Path(path).exists() for path in told)
    lines = vqclip("resume", "run", "--steps", "8").stdout.splitlines()
    assert lines[0] == "run/image.png" and lines[-2:] == ["run/image.step6.png", "run/video.step6.gif"]
    assert all(Path(line).exists() for line in lines)


def test_what_takes_a_while_is_said_while_it_does(vqclip: Command, tiny: TinyModels) -> None:
    words = (
        "sample",
        "-c",
        str(tiny.config),
        "--set",
        f"prior.name={tiny.prior}",
        "a cat",
        "--seed",
        "1",
        "-n",
        "3",
        "--json",
    )
    done = vqclip(*words, "-o", "a.png")
    said = done.stderr.splitlines()
    assert said.index("loading models") < said.index("drawing 3 starts for each picture")
    score = max(json.loads(done.stdout)["scores"].values())
    assert re.fullmatch(rf"the best of 3; best score {score:.3f}, \d+\.\d s", said[-1])
    assert vqclip(*words, "-q", "-o", "b.png").stderr == ""


def test_info_finds_a_stopped_run_by_its_picture(
    vqclip: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(interrupts.Interrupts, "received", lambda self: True)
        assert vqclip("generate", "-c", str(tiny.config), "a cat", "-o", "cat.png").code == 130
    facts = json.loads(vqclip("info", "cat.png", "--json").stdout)
    assert facts["state"] == "unfinished"
    assert {**facts, "path": "cat.png.run"} == json.loads(vqclip("info", "cat.png.run", "--json").stdout)
    assert vqclip("resume", "cat.png").code == 0
    assert "state" not in json.loads(vqclip("info", "cat.png", "--json").stdout)


def test_only_a_run_that_can_go_on_is_said_to(vqclip: Command, tiny: TinyModels) -> None:
    words = ("generate", "-c", str(tiny.config), "a cat")
    for place in ("cat.png", "folder/"):
        assert vqclip(*words, "-o", place).code == 0
    assert vqclip("resume", "cat.png").stderr == "This run is finished.\n"
    assert vqclip("resume", "folder").stderr == "This run is finished; --steps N goes on from it.\n"


def test_resume_of_nothing_is_refused(vqclip: Command) -> None:
    assert vqclip("resume", "nope").code == 2


def test_config_commands(vqclip: Command) -> None:
    names = [json.loads(line)["name"] for line in vqclip("config", "list", "--json").stdout.splitlines()]
    assert {"default", "draft", "best", "imagenet-16384"} <= set(names)
    assert vqclip("config", "validate", *names).code == 0
    Path("shown.yaml").write_text(vqclip("config", "show", "draft").stdout)
    assert vqclip("config", "show", "shown.yaml").stdout == Path("shown.yaml").read_text()


def test_doctor_reports_as_json(vqclip: Command) -> None:
    events = [json.loads(line) for line in vqclip("doctor", "--json").stdout.splitlines()]
    assert {"vqclip", "system", "package", "device", "model", "run"} <= {event["event"] for event in events}
    extras = {event["name"] for event in events if event["event"] == "extra"}
    assert {"pillow_heif", "spandrel", "textual_image"} < extras
    (cpu,) = (event["value"] for event in events if event["event"] == "device" and event["name"] == "cpu")
    assert re.fullmatch(r"\d+ threads, matrix products: fp32 [\d,]+ GFLOP/s, bf16 [\d,]+ GFLOP/s", cpu)


# The installed command, in processes of its own.


def installed() -> str:
    return str(Path(sys.executable).with_name("vqclip"))


def test_the_installed_command_starts_quickly_without_torch() -> None:
    found = subprocess.run([installed(), "--version"], capture_output=True, text=True, check=True)
    assert found.stdout.startswith("vqclip ")
    check = "import sys, vqclip.cli.app; assert 'torch' not in sys.modules and 'open_clip' not in sys.modules"
    subprocess.run([sys.executable, "-c", check], check=True)


def test_every_command_has_help() -> None:
    shown = subprocess.run([installed(), "-h"], capture_output=True, text=True, check=True).stdout
    for command in ("generate", "resume", "info", "config", "doctor"):
        assert command in shown
        subprocess.run([installed(), command, "-h"], capture_output=True, check=True)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGKILL"])
def test_signals_in_the_middle_of_a_run(vqclip: Command, tiny: TinyModels, name: str) -> None:
    command = [installed(), "generate", "-c", str(tiny.config), "a cat", "--seed", "1", "--steps"]
    running = subprocess.Popen([*command, "1000000", "-o", "run/"], stderr=subprocess.PIPE, text=True)
    while not list(Path("run/state").glob("*.pt")):  # it cannot end by itself
        assert running.poll() is None
        time.sleep(0.01)
    running.send_signal(getattr(signal, name))
    _, said = running.communicate()
    codes = {"SIGINT": 130, "SIGTERM": 143, "SIGKILL": -9}
    assert running.returncode == codes[name]
    if name != "SIGKILL":
        assert "vqclip resume run" in said and size_of("run/partial.png") == (16, 16)
    newest = max(int(path.stem) for path in Path("run/state").glob("*.pt"))
    assert vqclip("resume", "run", "--steps", str(newest + 5)).code == 0
    vqclip(*command[1:], str(newest + 5), "-o", "whole/")
    assert Path("run/image.png").read_bytes() == Path("whole/image.png").read_bytes()
