"""A fused op beside its composition, and what it takes for the two to be the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from minispike import check_grads, grad
from minispike.graph import _topological_order
from minispike.ops.op import Op
from minispike.tensor import Tensor


@dataclass
class Pair:
    """A fused op and its composition, as functions of the same tensors."""

    fused: Callable[..., Any]
    composed: Callable[..., Any]
    inputs: list[Tensor]


def outputs(result: Any) -> list[Tensor]:
    """What an op returned, one tensor or several, as a list."""
    return list(result) if isinstance(result, tuple) else [result]


def ops_behind(result: Any) -> set[type[Op]]:
    """The kinds of the ops in the graph of what an op returned."""
    return {type(t.node.op) for root in outputs(result) for t in _topological_order(root) if t.node and t.node.op}


def assert_same(pair: Pair, tolerance: float = 1e-12) -> None:
    """Equal values, and equal gradients for the same random covectors; also when only one input wants one."""
    ours, theirs = outputs(pair.fused(*pair.inputs)), outputs(pair.composed(*pair.inputs))
    rng = np.random.default_rng(1)
    seeds = [rng.normal(size=t.shape) for t in ours]

    def gradients(results: list[Tensor]) -> list[Tensor | None]:
        total = sum(((t * s).sum() for t, s in zip(results, seeds, strict=True)), start=Tensor(0.0))
        return grad(total, pair.inputs)

    for a, b in zip(ours, theirs, strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)
    for a, b, x in zip(gradients(ours), gradients(theirs), pair.inputs, strict=True):
        assert a is not None
        assert b is not None
        assert a.shape == x.shape
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance * max(1.0, b.size**0.5))


def assert_right(pair: Pair) -> None:
    """The two are the same, and finite differences agree with the gradients of the fused one."""
    assert_same(pair)
    check_grads(pair.fused, *pair.inputs, rtol=1e-7)
    for alone in pair.inputs:  # an op may skip the gradients that nobody reads
        constants = [x if x is alone else x.detach() for x in pair.inputs]
        check_grads(pair.fused, *constants, rtol=1e-7)
