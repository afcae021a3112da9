"""Choosing by name: the exact one, or a sentence that helps."""

import re

import pytest

from vqclip.common.errors import UsageError
from vqclip.common.registry import did_you_mean, pick

TABLE = {"adam": 1, "adagrad": 2, "sgd": 3}


def test_a_known_name() -> None:
    assert [pick(TABLE, name, "optimiser") for name in TABLE] == [1, 2, 3]


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("adamm", "Unknown optimiser 'adamm': did you mean 'adam'?"),
        ("lbfgs", "Unknown optimiser 'lbfgs': known: adagrad, adam, sgd."),
        ("", "Unknown optimiser '': known: adagrad, adam, sgd."),
        ("Adam", "Unknown optimiser 'Adam': did you mean 'adam'?"),
    ],
)
def test_an_unknown_name(name: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=f"^{re.escape(sentence)}$"):
        pick(TABLE, name, "optimiser")


def test_suggestions_do_not_depend_on_the_order() -> None:
    assert did_you_mean("ada", ["sgd", "adamax", "adam"]) == did_you_mean("ada", ["adam", "adamax", "sgd"])
