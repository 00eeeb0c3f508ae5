"""What several test files of the core share."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from minispike.errors import MinispikeError
from minispike.tensor import Tensor
from minispike.train.loop import Task

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


def computed(task: Task, step: int) -> Iterator[Mapping[str, Tensor]]:
    """The terms of the parts of a step, one after the other in this thread."""
    return map(task.losses, task.parts(step))
