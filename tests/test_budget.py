"""Plans that fit: halved until they do, refused before anything is loaded, and really kept under a real limit."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command import Command
from conftest import TinyModels
from PIL import Image

from vqclip.common.errors import OutOfMemoryError
from vqclip.config.loader import load_config
from vqclip.outputs.picture import read_metadata
from vqclip.pipeline.memory_estimate import LIBRARIES, estimate_memory
from vqclip.pipeline.memory_fit import EMBEDDED_PIXEL, EMBEDDED_VIEW, MARGIN, UNCOUNTED, Budget, _needed
from vqclip.pipeline.plan import Plan, make_plan

MB = 2**20


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


def plan_of(tiny: TinyModels, *words: str) -> Plan:
    words = ("size=16x16", "cutouts.count=40", *words)
    return make_plan(load_config([str(tiny.config)], words, {"prompts": ["a cat"], "seed": 1}))


def budget(free: int | None) -> Budget:
    return Budget(lambda: free, lambda: 0)


def views(plan: Plan) -> tuple[int | None, bool]:
    return plan.config.cutouts.micro_batch, plan.config.runtime.low_memory


def test_a_plan_that_fits_stays_as_it_is(tiny: TinyModels) -> None:
    plan = plan_of(tiny)
    assert budget(_needed(plan)).fit(plan) is plan
    assert budget(None).fit(plan) is plan


def test_cutouts_are_halved_until_it_fits(tiny: TinyModels) -> None:
    plan = plan_of(tiny, "cutouts.count=300")
    for size in (150, 75, 38, 19):
        room = _needed(plan_of(tiny, "cutouts.count=300", f"cutouts.micro_batch={size}"))
        assert views(budget(room).fit(plan)) == (size, False)
        assert views(budget(room - 1).fit(plan)) != (size, False)


def test_then_the_decoder_is_made_light_and_then_it_is_refused(tiny: TinyModels) -> None:
    plan = plan_of(tiny)
    room = _needed(plan_of(tiny, "cutouts.micro_batch=1", "runtime.low_memory=true"))
    assert views(budget(room).fit(plan)) == (1, True)
    with pytest.raises(OutOfMemoryError, match=r"needs about \d{3} MiB .* 0 MiB are free: make --size smaller"):
        budget(0).fit(plan)


def test_what_was_taken_since_can_be_used_again(tiny: TinyModels) -> None:
    """A worker that keeps its models and the memory of its last group has as much room for the next."""
    plan, resident = plan_of(tiny), [100]
    room = _needed(plan)
    one = Budget(lambda: room - resident[0] + 100, lambda: resident[0])
    resident[0] = room // 2
    assert one.fit(plan) is plan


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", ["128x128", "256x128", "512x512"])
def test_the_embedded_models_need_less_than_what_is_plenty(size: str, precision: str) -> None:
    for count in (1, 4):
        for cutouts in (1, 8, 64):
            words = [f"cutouts.count={cutouts}", f"runtime.precision={precision}"]
            config = load_config([], words, {"prompts": ["a"], "size": size, "count": count})
            plan = make_plan(config)
            bound = count * (plan.width * plan.height * EMBEDDED_PIXEL + cutouts * EMBEDDED_VIEW)
            assert MARGIN * (estimate_memory(plan) - LIBRARIES) < bound + 2**28


def test_a_run_says_what_was_chosen_and_a_refused_one_leaves_nothing(
    run: Command, tiny: TinyModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    room = _needed(plan_of(tiny, "cutouts.micro_batch=10"))
    words = ("generate", "a cat", "-c", str(tiny.config), "--set", "cutouts.count=40", "--size", "16x16", "--seed", "1")
    assert run(*words, "-o", "free.png").code == 0
    monkeypatch.setattr("vqclip.runs.session.Budget", lambda: budget(room))
    short = run(*words, "-o", "short.png")
    assert short.code == 0 and "cutouts scored at once: 10" in short.stderr
    assert read_metadata(Path("short.png")).config["cutouts"]["micro_batch"] == 10
    one, other = (np.asarray(Image.open(name), dtype=int) for name in ("free.png", "short.png"))
    assert abs(one - other).max() <= 1
    monkeypatch.setattr("vqclip.runs.session.Budget", lambda: budget(UNCOUNTED))
    refused = run(*words, "-o", "none.png")
    assert refused.code == 4 and "make --size smaller" in refused.stderr and len(refused.stderr.splitlines()) <= 3
    assert not list(Path().glob("none*"))


LIMITED = """
import resource, sys
import open_clip
import vqclip.runs.session
from vqclip.cli.app import main
if (extra := int(sys.argv.pop(1))):
    used = next(line for line in open("/proc/self/status") if line.startswith("VmSize"))
    resource.setrlimit(resource.RLIMIT_AS, (int(used.split()[1]) * 1024 + extra * 2**20,) * 2)
main()
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space and reads /proc")
def test_a_run_stays_below_a_real_limit() -> None:
    """192 cutouts at once need about 1.3 GB; with 900 MB the run parts them by itself, and with 300 MB it says no."""
    words = ["generate", "a red apple", "--seed", "1", "--steps", "1", "--threads", "1", "--device", "cpu", "--json"]
    words += ["--set", "cutouts.count=192", "--set", "prior.candidates=1"]

    def limited(extra: int, name: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", LIMITED, str(extra), *words, "-o", name]
        return subprocess.run(command, capture_output=True, text=True, timeout=300)

    free, short, refused = (limited(extra, f"{extra}.png") for extra in (0, 900, 300))
    assert free.returncode == 0 and "cutouts scored" not in free.stderr
    assert short.returncode == 0 and "cutouts scored at once" in short.stderr, short.stderr
    assert refused.returncode == 4 and "MiB are free" in refused.stderr
    scores = [json.loads(out.stdout.splitlines()[-1])["scores"]["embedded"] for out in (free, short)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-4)
