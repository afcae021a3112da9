"""Imports that are put off: not done where nothing needs them, and done properly where something does."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from vqclip.models.weights.unfilled import unfilled

COSTLY = ("timm", "sympy", "torch._dynamo.convert_frame")


def modules_after(program: str) -> list[str]:
    """Which COSTLY modules a fresh interpreter has imported after a program."""
    told = f"{program}\nimport json, sys\nprint(json.dumps([name for name in {COSTLY} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", told], capture_output=True, text=True, check=True)
    return list(json.loads(done.stdout.splitlines()[-1]))


def test_a_picture_needs_neither_timm_nor_the_compiler_nor_sympy(tmp_path: pytest.TempPathFactory) -> None:
    words = ["vqclip", "generate", "a red apple", "-q", "--steps", "1", "--threads", "1", "-o", f"{tmp_path}/apple.png"]
    program = f"import sys\nsys.argv = {words}\nfrom vqclip.cli.app import main\ntry: main()\nexcept SystemExit: pass"
    assert modules_after(program) == []


def test_the_modules_themselves_come_when_they_are_asked_for() -> None:
    program = """
from vqclip.common.deferred import defer_imports
defer_imports()
import sys, torch, open_clip
from vqclip.common.paths import embedded_dir
assert "timm" not in sys.modules
leaf = torch.ones(2, requires_grad=True)
optimiser = torch.optim.Adam([leaf], lr=0.5)
leaf.sum().backward()
optimiser.step()
assert torch.allclose(leaf, torch.tensor(0.5))
assert torch.compiler.disable(recursive=False)(len) is len is torch.compiler.disable(len)
assert not hasattr(sys.modules["torch._dynamo"], "__file__")
judge = open_clip.create_model(f"local-dir:{embedded_dir() / 'judge'}")
assert type(judge.visual).__module__ == "open_clip.timm_model" and "timm" in sys.modules
assert torch.equal(torch.compile(lambda x: 2 * x, backend="eager")(torch.ones(2)), torch.full((2,), 2.0))
assert sys.modules["torch._dynamo"].__file__
optimiser.step()
import torch._dynamo.config
assert torch._dynamo.config.recompile_limit
"""
    assert "timm" in modules_after(program)


def test_modules_that_are_there_are_left_alone() -> None:
    assert "torch._dynamo.convert_frame" in modules_after(
        "import torch._dynamo\nfrom vqclip.common.deferred import StandIn, defer_imports\ndefer_imports()\n"
        "import sys\nassert not isinstance(sys.modules['torch._dynamo'], StandIn)"
    )


def test_what_a_stand_in_does_not_have_is_missing_as_in_the_module() -> None:
    assert modules_after(
        "import sys\nfrom vqclip.common.deferred import defer_imports\ndefer_imports()\nimport open_clip\n"
        "assert not hasattr(sys.modules['open_clip.timm_model'], 'nothing_of_this_name')"
    ) == ["timm"]


def test_unfilled_modules_have_shapes_and_no_memory() -> None:
    with unfilled():
        layer = nn.Sequential(nn.Embedding(5, 3), nn.Conv2d(3, 4, 1), nn.Linear(4, 2))
    assert all(value.is_meta for value in layer.parameters()) and layer[0].weight.shape == (5, 3)
    with unfilled():
        zeros = torch.zeros(3, device="cpu")
        assert nn.init.normal_(zeros) is zeros and bool((zeros == 0).all())
        assert torch.equal(zeros + 1, torch.ones(3, device="cpu"))
    assert not torch.equal(nn.init.normal_(zeros), torch.zeros(3))
