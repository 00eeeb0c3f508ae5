"""The machines that the CUDA kernels are tried on, and a layer's arrays to try them with.

Forward there is no tolerance: without fused multiply-add every backend rounds the same operations in the same order.
Backward the surrogate's constants are multiplied in another order, and exp and tanh are another library's: a few
units in the last place of the largest number, which is where the terms of a sum cancel. `TOLERANCE` says how many.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest
from every_backend import no_gpu

from minispike import backend
from minispike.backend import array_module, to_numpy
from minispike.errors import BackendError
from minispike.snn import kernels, kernels_cuda
from minispike.snn.neurons import LIFNeuron

Array = np.ndarray[Any, Any]

TOLERANCE = {"float32": 16 * 2.0**-23, "float64": 1e-13}
"""Of a gradient, relative to the largest of its array or to 1."""


class Machine:
    """Where the kernels run: an array module, and how an array gets there."""

    def __init__(self, module: Any, put: Callable[[Array], Any], monkeypatch: pytest.MonkeyPatch) -> None:
        self.module, self.put, self._monkeypatch = module, put, monkeypatch
        self.launches: list[str] = []

    @contextmanager
    def watched(self) -> Iterator[pytest.MonkeyPatch]:
        """Within the block all arrays count as lying on this machine, and `launches` lists the kernels that run."""
        launch, self.launches = kernels_cuda._launch, []

        def listed(name: str, *args: Any) -> None:
            self.launches.append(name)
            launch(name, *args)

        with self._monkeypatch.context() as patch:
            patch.setattr(kernels_cuda, "_launch", listed)
            if self.module.__name__ != "cupy":
                patch.setattr(kernels_cuda, "array_module", lambda *_: self.module)
            yield patch

    @contextmanager
    def fused(self, forward: int = 0, backward: int = 0) -> Iterator[None]:
        """Within the block the array operations of `kernels` fail, and each kernel must run so many times."""
        with self.watched() as patch:
            for name in ("_array_forward", "_array_backward"):
                patch.setattr(kernels, name, lambda *_: pytest.fail("array operations, not the fused kernel"))
            yield
        assert self.launches.count("lif_forward") == forward
        assert self.launches.count("lif_backward") == backward


@pytest.fixture(scope="session")
def stand_in(tmp_path_factory: pytest.TempPathFactory) -> Any:
    if cuda_on_cpu.compiler() is None:
        pytest.skip("needs a C++ compiler: set CXX, or have c++, g++ or clang++ on the path")
    return cuda_on_cpu.module(tmp_path_factory.mktemp("kernels"))


@pytest.fixture
def cpu(stand_in: Any, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """The CUDA source compiled for the CPU."""
    return Machine(stand_in, lambda array: array, monkeypatch)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Machine:
    try:
        cupy = backend.load("cupy")
    except BackendError as error:
        no_gpu(request, error)
    return Machine(cupy, cupy.asarray, monkeypatch)


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> Machine:
    return request.getfixturevalue(request.param)


class Layer:
    """A layer's arrays by the names of `kernels`, made on the host; `forward` and `backward` fill them.

    At rest it has no potential to begin with, and nobody asks for the one that is left.
    """

    def __init__(
        self, steps: int, count: int, dtype: Any, repeated: bool, seed: int = 0, *, at_rest: bool = False
    ) -> None:
        rng = np.random.default_rng(seed)
        rows = 1 if repeated else steps
        self.x, self.grad = rng.normal(0.5, 1.5, (rows, count)), rng.normal(size=(steps, count))
        self.v, self.dv = rng.normal(size=count), rng.normal(size=count)
        self.spikes, self.charged, self.final = (np.full((steps, count), 7.0) for _ in range(3))
        self.final, self.dx = self.final[0].copy(), np.full((rows, count), 7.0)
        for name, array in vars(self).items():
            setattr(self, name, array.astype(dtype))
        if at_rest:
            self.v = self.final = self.dv = None

    def on(self, put: Callable[[Array], Any]) -> "Layer":
        """A copy of the layer elsewhere."""
        copy = object.__new__(Layer)
        for name, array in vars(self).items():
            setattr(copy, name, None if array is None else put(array.copy()))
        return copy

    def forward(self, neuron: LIFNeuron) -> "Layer":
        arrays = self.x, self.v, neuron.constants(), self.spikes, self.charged, self.final
        assert kernels.forward(*arrays, array_module(self.x).empty_like(self.charged[0])) is None
        return self

    def backward(self, neuron: LIFNeuron) -> "Layer":
        arrays = self.grad, self.dv, neuron.constants(), self.spikes, self.charged, self.dx
        kernels.backward(*arrays, array_module(self.x).empty_like(self.charged))
        return self


def assert_equal(found: Layer, expected: Layer, *names: str) -> None:
    """The same bits, but for the sign of a zero."""
    for name in names:
        there, here = getattr(found, name), getattr(expected, name)
        if here is None:
            assert there is None
            continue
        there = to_numpy(there)
        assert there.dtype == here.dtype
        np.testing.assert_array_equal(there, here, err_msg=name)


def assert_close(found: Layer, expected: Layer, *names: str) -> None:
    for name in names:
        there, here = getattr(found, name), getattr(expected, name)
        if here is None:
            assert there is None
            continue
        there = to_numpy(there)
        largest = max(1.0, np.abs(here).max(initial=0.0))
        np.testing.assert_allclose(
            there / largest, here / largest, rtol=0, atol=TOLERANCE[here.dtype.name], err_msg=name
        )


def assert_same(machine: Machine, neuron: LIFNeuron, layer: Layer) -> None:
    """Both kernels on the machine leave what the array operations leave on NumPy, and their inputs alone."""
    expected, found = layer.on(np.asarray).forward(neuron), layer.on(machine.put)
    with machine.fused(forward=1, backward=0):
        found.forward(neuron)
    assert_equal(found, expected, "spikes", "charged", "final", "x", "v")
    expected.backward(neuron)
    with machine.fused(forward=0, backward=1):
        found.backward(neuron)
    assert_close(found, expected, "dx", "dv")
    assert_equal(found, layer, "grad", "x", "v")
    assert_equal(found, expected, "spikes", "charged")
