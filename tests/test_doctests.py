"""The examples in docstrings run, and give what they say."""

import doctest
from importlib import import_module

import numpy as np
import pytest
from test_layers_downward import MODULES

WITH_EXAMPLES = sorted(name for name, path in MODULES.items() if ">>> " in path.read_text(encoding="utf-8"))


def test_there_are_examples() -> None:
    assert "minispike" in WITH_EXAMPLES


@pytest.mark.parametrize("name", WITH_EXAMPLES)
def test_examples_of(name: str) -> None:
    with np.printoptions():  # an example may set them
        result = doctest.testmod(import_module(name))
    assert result.attempted > 0, "examples that doctest does not find: move them into a docstring"
    assert result.failed == 0, "see the captured output"
