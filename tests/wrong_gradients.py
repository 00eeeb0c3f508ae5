"""A mistake in a gradient, made on purpose in the framework's own code.

The mistakes are in `wrong_ops`, `wrong_fused`, `wrong_neurons` and `wrong_networks`; `test_gradcheck_wrong` makes
them, one at a time, and the gradient checker must catch each.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from custom_op import custom
from helpers import random_leaf

from minispike.tensor import Tensor

Input = tuple[int, ...] | Callable[[np.random.Generator], Any]
"""The shape of an array of random numbers, or a function that makes a module from a generator."""


@dataclass(frozen=True)
class Mistake:
    """A function with a right gradient, and a change to the code behind it that leaves its values and spoils this.

    Attributes:
        function: of tensors and modules.
        inputs: what it is given.
        owner, name: the class or module, and its attribute, that is replaced while the mistake is made.
        wrong: what takes its place: called with what stood there, and then as that is called.
    """

    function: Callable[..., Any]
    inputs: Sequence[Input]
    owner: Any
    name: str
    wrong: Callable[..., Any]

    def arguments(self, seed: int) -> list[Any]:
        """Random inputs."""
        seeds = [100 * seed + i for i in range(len(self.inputs))]
        return [
            kind(np.random.default_rng(s)) if callable(kind) else random_leaf(kind, s)
            for kind, s in zip(self.inputs, seeds, strict=True)
        ]

    @contextmanager
    def made(self) -> Iterator[None]:
        """Within the block the code is wrong."""
        right = getattr(self.owner, self.name)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.owner, self.name, lambda *args, **settings: self.wrong(right, *args, **settings))
            yield


def disguised(right: Tensor, wrong: Tensor) -> Tensor:
    """The values of one tensor with the gradient of another."""
    return custom(lambda right, wrong: right, lambda g, out, right, wrong: (None, g))(right, wrong)


def blind(tensor: Tensor) -> Tensor:
    """The same values without a gradient.

    Unlike `Tensor.detach`, after which the checker takes the values for constants, since they are meant to be.
    """
    return custom(lambda a: a, lambda g, out, a: (None,))(tensor)
