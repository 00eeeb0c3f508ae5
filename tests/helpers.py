"""What several test files of the core share."""

import re
from typing import Any

import numpy as np

from minispike.errors import MinispikeError
from minispike.tensor import Tensor

SENTENCE = re.compile(r"(?s)\S.*: expected \S.*, got \S.*; try \S.*")
"""The one form of every error: ``name: expected ..., got ...; try ...``."""


def assert_sentence(error: BaseException) -> None:
    """The error is one a user can mend, and says so in the one form."""
    assert isinstance(error, MinispikeError)
    assert SENTENCE.fullmatch(str(error)), str(error)


def leaf(value: Any, dtype: Any = np.float64) -> Tensor:
    """A float64 tensor that wants a gradient."""
    return Tensor(value, requires_grad=True, dtype=dtype)


def random_leaf(shape: tuple[int, ...], seed: int = 0, dtype: Any = np.float64) -> Tensor:
    """A leaf of standard normal numbers."""
    return leaf(np.random.default_rng(seed).normal(size=shape), dtype)


def gradient(tensor: Tensor) -> "np.ndarray[Any, Any]":
    """The gradient of a leaf as an array."""
    assert tensor.grad is not None
    return tensor.grad.numpy()
