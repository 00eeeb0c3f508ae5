"""Exercises of lesson 00."""

from collections.abc import Callable
from typing import Any

from checks.verdict import Verdict, tell
from minispike import Tensor, check_grads
from minispike.nn.optim import AdamW
from minispike.ops import exp
from minispike.snn.neurons import lif


def derivative(answer: Callable[[float], Any]) -> Verdict:
    """Exercise 1."""
    return tell(answer, [((x,), 3 * x**2 - 2) for x in (0.0, 1.0, -2.5)], tolerance=1e-5)


def where(answer: Callable[[object], Any]) -> Verdict:
    """Exercise 2."""
    homes = {
        lif: "snn/neurons.py",
        AdamW: "nn/optim.py",
        Tensor: "tensor.py",
        check_grads: "gradcheck.py",
        exp: "ops/functions.py",
    }
    return tell(answer, [((thing,), home) for thing, home in homes.items()])
