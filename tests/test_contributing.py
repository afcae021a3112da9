"""CONTRIBUTING.md's recipes, followed to the letter in a copy of the program."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from vqclip.common.paths import PACKAGE, data_root

GUIDE = (Path(__file__).resolve().parent.parent / "CONTRIBUTING.md").read_text("utf-8")
RECIPES: dict[str, str] = dict(re.findall(r"^### (.+?)\n(.*?)(?=^### |\Z)", GUIDE, re.MULTILINE | re.DOTALL))


def blocks(recipe: str, kind: str) -> list[str]:
    return re.findall(rf"^```{kind}\n(.*?)^```", RECIPES[recipe], re.MULTILINE | re.DOTALL)


def change(root: Path, diff: str) -> None:
    """Replace the lines with `-` by those with `+`; what is to be replaced must be there once."""
    for part in re.split(r"^--- ", diff, flags=re.MULTILINE)[1:]:
        name, *lines = part.splitlines()
        old, new = ("".join(line[1:] + "\n" for line in lines if line[:1] in (sign, " ")) for sign in "-+")
        file = root / name
        text = file.read_text("utf-8") if file.is_file() else ""
        assert not old or text.count(old) == 1, f"{name} does not hold once:\n{old}"
        file.write_text(text.replace(old, new) if old else new, "utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of package and configs, as in a clone; all recipes are tried in the same one."""
    root = tmp_path_factory.mktemp("clone")
    shutil.copytree(PACKAGE, root / "vqclip", ignore=shutil.ignore_patterns("_data", "__pycache__"))
    shutil.copytree(data_root() / "configs", root / "configs")
    shutil.copytree(data_root() / "checkpoints", root / "checkpoints")
    return root


@pytest.mark.slow
@pytest.mark.parametrize("recipe", RECIPES)
def test_a_recipe_works_as_it_is_written(copy: Path, recipe: str) -> None:
    for diff in blocks(recipe, "diff"):
        change(copy, diff)
    (work := copy / "work").mkdir(exist_ok=True)
    commands = [line for block in blocks(recipe, "sh") for line in block.splitlines()]
    assert commands, "a recipe ends with a command that shows it at work"
    for command in commands:
        program, *words = shlex.split(command)
        assert program == "vqclip"
        done = subprocess.run(
            [sys.executable, "-m", "vqclip", *words],
            cwd=work,
            env={**os.environ, "PYTHONPATH": str(copy)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        assert done.stdout.strip()
