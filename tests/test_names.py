"""Names of models, configs, jobs and runs stay names."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vqclip.common.errors import UsageError
from vqclip.common.names import named

HOSTILE = (
    "",
    ".",
    "..",
    "../x",
    "a/b",
    "/etc/passwd",
    "a\\b",
    "C:x",
    ".hidden",
    "a\0",
    "a\nb",
    "n" * 300,
    "\ud800",
    " ",
)


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_what_is_a_path_is_no_name(name: str) -> None:
    with pytest.raises(UsageError, match="cannot be a model's name"):
        named(Path("store"), name, ".json", "a model's")


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("", "it is empty"),
        ("a ", "ends with a blank"),
        ("n" * 300, "longer than 200 bytes"),
        ("a/b", "a name holds no `/`"),
    ],
)
def test_what_is_wrong_with_a_name_is_said(name: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        named(Path("store"), name, ".json", "a model's")


@given(st.text(max_size=30) | st.text("./\\a", max_size=6))
def test_a_name_never_leaves_its_folder(name: str) -> None:
    try:
        path = named(Path("/store"), name, ".json", "a model's")
    except UsageError:
        return
    assert path.parent == Path("/store") and Path(*path.parts).parts[-1] == f"{name}.json"


def test_usual_names_are_names() -> None:
    for name in ("imagenet-16384", "my model", "blüten_2", "v1.5", "n" * 200):
        assert named(Path("store"), name, "", "a model's") == Path("store") / name
