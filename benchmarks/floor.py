"""The floor under a step: its products of matrices alone, by the library that the framework multiplies with."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks import clock
from benchmarks.setups import Setup


def products(setup: Setup, *, training: bool) -> list[tuple[int, int, int, int]]:
    """The products of a step as (how often, rows, inner, columns).

    Forward each linear map is one product, backward two; attention's two products are small, and there are many:
    one for each time step, sentence and head.
    """
    tokens, steps, dim = setup.batch * setup.length, setup.time_steps, setup.dim
    width, small = dim // setup.heads, steps * setup.batch * setup.heads
    found = []
    for i in range(setup.depth):
        first = tokens if i == 0 else steps * tokens  # the first block's input is the same at every time step
        found += [(3, first, dim, dim), (1, steps * tokens, dim, dim)]
        found += [(1, steps * tokens, dim, 4 * dim), (1, steps * tokens, 4 * dim, dim)]
        if training:
            found += [(1, tokens, dim, dim)]  # the projection that is compared to the teacher
    linear = [(n * (3 if training else 1), *shape) for n, *shape in found]
    length = setup.length
    attention = [(setup.depth * small, length, width, length), (setup.depth * small, length, length, width)]
    return linear + [(n * (3 if training else 1), *shape) for n, *shape in attention]


def multiply_adds(setup: Setup, *, training: bool) -> int:
    """The multiplications of a step that are followed by an addition."""
    return sum(n * rows * inner * columns for n, rows, inner, columns in products(setup, training=training))


class NumPyFloor:
    """The products in NumPy: two workers, half of the rows each, one thread a product."""

    def __init__(self, setup: Setup, *, training: bool) -> None:
        self.shapes = products(setup, training=training)
        rng = np.random.default_rng(0)

        def operands(worker: int) -> list[tuple[int, Any, Any]]:
            found = []
            for count, rows, inner, columns in self.shapes:
                many = count > 64  # of attention: a stack of small ones
                half = (max(count // 2, 1), rows) if many else (max(rows // 2, 1),)
                a = rng.standard_normal((*half, inner), dtype=np.float32)
                b = rng.standard_normal((*half[:-1], inner, columns), dtype=np.float32)
                found.append((1 if many else count, a, b))
            return found

        self.work = [operands(worker) for worker in range(2)]

    def seconds(self, steps: int) -> list[float]:
        """How long the products of a step took."""
        from threadpoolctl import threadpool_limits

        def once(work: list[tuple[int, Any, Any]]) -> None:
            for count, a, b in work:
                for _ in range(count):
                    np.matmul(a, b)

        with threadpool_limits(1), ThreadPoolExecutor(2) as pool:
            return clock.seconds(lambda: list(pool.map(once, self.work)), steps)


class TorchFloor:
    """The products in PyTorch, each over both cores."""

    def __init__(self, setup: Setup, *, training: bool) -> None:
        import torch

        self.matmul: Callable[..., Any] = torch.matmul
        self.work = []
        for count, rows, inner, columns in products(setup, training=training):
            many = count > 64
            shape = (count,) if many else ()
            a, b = torch.randn(*shape, rows, inner), torch.randn(*shape, inner, columns)
            self.work.append((1 if many else count, a, b))

    def seconds(self, steps: int) -> list[float]:
        """How long the products of a step took."""

        def once() -> None:
            for count, a, b in self.work:
                for _ in range(count):
                    self.matmul(a, b)

        return clock.seconds(once, steps)
