"""The CUDA kernels against the array operations, on two machines: compiled for the CPU, and on a GPU (marker gpu).

Forward there is no tolerance: without fused multiply-add every backend rounds the same operations in the same order.
Backward the surrogate's constants are multiplied in another order, and exp and tanh are another library's: a few
units in the last place of the largest number, which is where the terms of a sum cancel. `TOLERANCE` says how many.
"""

import itertools
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cuda_on_cpu
import numpy as np
import pytest
import test_fused
import test_neurons
from helpers import gradient

from minispike import backend
from minispike.backend import array_module, to_numpy
from minispike.errors import BackendError
from minispike.smooth import smooth_spikes
from minispike.snn import kernels, kernels_cuda
from minispike.snn.neurons import LIFNeuron, lif
from minispike.snn.surrogate import SURROGATES, ATan, Surrogate
from minispike.tensor import Tensor

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
            patch.setattr(kernels, "_blocks", lambda *_: pytest.fail("array operations, not the fused kernel"))
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
def gpu(monkeypatch: pytest.MonkeyPatch) -> Machine:
    try:
        cupy = backend.load("cupy")
    except BackendError as error:
        pytest.skip(str(error))
    return Machine(cupy, cupy.asarray, monkeypatch)


@pytest.fixture(params=["cpu", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> Machine:
    return request.getfixturevalue(request.param)


class Layer:
    """A layer's arrays by the names of `kernels`, made on the host; `forward` and `backward` fill them."""

    def __init__(self, steps: int, count: int, dtype: Any, repeated: bool, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        rows = 1 if repeated else steps
        self.x, self.grad = rng.normal(0.5, 1.5, (rows, count)), rng.normal(size=(steps, count))
        self.v, self.dv = rng.normal(size=count), rng.normal(size=count)
        self.spikes, self.charged, self.final = (np.full((steps, count), 7.0) for _ in range(3))
        self.final, self.dx = self.final[0].copy(), np.full((rows, count), 7.0)
        for name, array in vars(self).items():
            setattr(self, name, array.astype(dtype))

    def on(self, put: Callable[[Array], Any]) -> "Layer":
        """A copy of the layer elsewhere."""
        copy = object.__new__(Layer)
        for name, array in vars(self).items():
            setattr(copy, name, put(array.copy()))
        return copy

    def forward(self, neuron: LIFNeuron) -> "Layer":
        assert kernels.forward(self.x, self.v, neuron.constants(), self.spikes, self.charged, self.final) is None
        return self

    def backward(self, neuron: LIFNeuron) -> "Layer":
        kernels.backward(self.grad, self.dv, neuron.constants(), self.spikes, self.charged, self.dx)
        return self


def assert_equal(found: Layer, expected: Layer, *names: str) -> None:
    """The same bits, but for the sign of a zero."""
    for name in names:
        there, here = to_numpy(getattr(found, name)), getattr(expected, name)
        assert there.dtype == here.dtype
        np.testing.assert_array_equal(there, here, err_msg=name)


def assert_close(found: Layer, expected: Layer, *names: str) -> None:
    for name in names:
        there, here = to_numpy(getattr(found, name)), getattr(expected, name)
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


NEURONS = [
    LIFNeuron(tau, 0.7, reset, detach, decay, surrogate())
    for tau, reset, detach, decay, surrogate in itertools.product(
        [3.0, float("inf")], [0.0, None, -0.2], [True, False], [True, False], SURROGATES.values()
    )
    if tau == 3.0 or (not decay and surrogate is ATan)
]


@pytest.mark.parametrize("dtype", TYPES := ["float32", "float64"])
@pytest.mark.parametrize("neuron", NEURONS, ids=test_fused.name_of)
def test_the_kernels_equal_the_array_operations(machine: Machine, neuron: LIFNeuron, dtype: str) -> None:
    for steps, repeated in itertools.product([1, 4, 7], [False, True]):
        layer = Layer(steps, 3 * kernels_cuda.THREADS + 9, dtype, repeated, seed=steps)
        assert_same(machine, neuron, layer)
        spikes = layer.on(np.asarray).forward(neuron).spikes
        assert 0.1 < spikes.mean() < 0.9


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("count", [1, kernels_cuda.THREADS, kernels_cuda.THREADS + 1])
def test_few_neurons_and_full_blocks(machine: Machine, count: int, dtype: str) -> None:
    assert_same(machine, LIFNeuron(detach_reset=False), Layer(3, count, dtype, repeated=False))


@pytest.mark.parametrize("repeated", [False, True])
def test_no_neurons(machine: Machine, repeated: bool) -> None:
    assert_same(machine, LIFNeuron(), Layer(3, 0, "float32", repeated))


@pytest.mark.parametrize("dtype", TYPES)
def test_a_potential_that_lands_on_the_threshold(machine: Machine, dtype: str) -> None:
    """Here a fused multiply-add, which rounds once, stays below the threshold and does not fire."""
    layer, neuron, kind = Layer(1, 4000, dtype, repeated=False), LIFNeuron(3.0), np.dtype(dtype).type
    c = neuron.constants()
    gained = kind(c.gain) * layer.x[0]
    twice = kind(c.decay) * layer.v + gained
    exact = np.longdouble(kind(c.decay)) * layer.v + gained
    below = np.flatnonzero(exact.astype(dtype) < twice)
    if below.size == 0:
        pytest.skip("needs a long double that is wider than a double")
    neuron = LIFNeuron(3.0, threshold=float(twice[below[0]]))
    assert layer.on(np.asarray).forward(neuron).spikes[0, below[0]] == 1.0
    assert_same(machine, neuron, layer)


def test_strided_arrays(machine: Machine) -> None:
    """Views in and out, which are neither to be misread nor written beside."""

    def every_other(array: Array) -> Any:
        return machine.put(np.repeat(array, 2, axis=-1))[..., ::2]

    def backwards(array: Array) -> Any:
        return machine.put(array[..., ::-1].copy())[..., ::-1]

    def transposed(array: Array) -> Any:
        return machine.put(array.T.copy()).T

    neuron, layer = LIFNeuron(3.0, 0.7, -0.2, False), Layer(4, 300, "float64", repeated=False)
    expected = layer.on(np.asarray).forward(neuron).backward(neuron)
    for view in (every_other, backwards, transposed):
        found = layer.on(view)
        assert not found.spikes.flags.c_contiguous
        with machine.fused(forward=1, backward=1):
            found.forward(neuron).backward(neuron)
        assert_equal(found, expected, "spikes", "charged", "final", "x", "v", "grad")
        assert_close(found, expected, "dx", "dv")
    wide = machine.put(np.full((4, 600), 3.0))
    found = layer.on(machine.put)
    found.spikes = wide[:, ::2]
    with machine.fused(forward=1):
        found.forward(neuron)
    assert_equal(found, expected, "spikes")
    assert (to_numpy(wide)[:, 1::2] == 3.0).all()


def test_a_broadcast_gradient(machine: Machine) -> None:
    """The gradient of a sum has one number, seen [T, N] times through strides of 0."""
    neuron, layer = LIFNeuron(), Layer(4, 300, "float32", repeated=False)
    layer.grad[...] = 0.5
    expected, found = layer.on(np.asarray), layer.on(machine.put)
    for each, module in ((expected, np), (found, machine.module)):
        each.grad = module.broadcast_to(each.grad[:1, :1], each.grad.shape)
    with machine.fused(forward=1, backward=1):
        found.forward(neuron).backward(neuron)
    expected.forward(neuron).backward(neuron)
    assert_close(found, expected, "dx", "dv")


def test_the_last_potential_may_lie_where_the_first_was(machine: Machine) -> None:
    neuron, layer = LIFNeuron(), Layer(4, 300, "float32", repeated=False)
    expected, found = layer.on(np.asarray).forward(neuron), layer.on(machine.put)
    found.final = found.v
    with machine.fused(forward=1):
        found.forward(neuron)
    assert_equal(found, expected, "spikes", "charged", "final")


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("alpha", [None, 0.7, 3.0])
@pytest.mark.parametrize("name", SURROGATES)
def test_the_two_forms_of_a_surrogate(machine: Machine, name: str, alpha: float | None, dtype: str) -> None:
    """With threshold 0, T = 1 and a seed of ones the gradient is the surrogate: on a line, at corners, far out."""
    surrogate = SURROGATES[name]() if alpha is None else SURROGATES[name](alpha)
    special = [0.0, -0.0, 1.0, -1.0, 0.5, -0.5, 1e-30, 1e30, -1e30, np.inf, -np.inf, np.nan]
    corners = np.array([-1.0, -0.5, 0.5, 1.0]) / surrogate.alpha
    u = np.concatenate([np.linspace(-9, 9, 4001), special, corners]).astype(dtype)
    layer = Layer(1, len(u), dtype, repeated=False)
    layer.charged[0], layer.grad[...], layer.dv[...] = u, 1.0, 0.0
    neuron = LIFNeuron(1.0, 0.0, None, surrogate=surrogate)
    found = layer.on(machine.put)
    with machine.fused(backward=1):
        found.backward(neuron)
    with np.errstate(over="ignore"):  # of 1e30 squared, in float32
        slope = surrogate.derivative(u.copy())
    tolerance = TOLERANCE[dtype] * surrogate.alpha
    np.testing.assert_allclose(to_numpy(found.dx)[0], slope, rtol=0, atol=tolerance)


# --- whole layers, as the tests of the array operations have them

recorded = test_neurons.recorded


@pytest.mark.parametrize("key", test_neurons.RECORDED)
def test_recorded_case(cpu: Machine, recorded: Any, key: str) -> None:
    steps = len(recorded[1]["x"])  # all at once, then one at a time
    with cpu.fused(forward=1 + steps, backward=1 + steps):
        test_neurons.test_recorded_case(recorded, key)


@pytest.mark.parametrize("neuron", test_fused.NEURONS, ids=test_fused.name_of)
def test_the_layer_equals_its_composition(cpu: Machine, neuron: LIFNeuron) -> None:
    with cpu.fused(forward=3, backward=3):
        test_fused.test_lif(neuron)


@pytest.mark.parametrize("neuron", test_fused.SMOOTH[::5], ids=test_fused.name_of)
def test_gradients(cpu: Machine, neuron: LIFNeuron) -> None:
    """Smooth spikes go forward by array operations; the kernel takes them back, and finite differences agree."""
    with cpu.watched():
        test_fused.test_lif_gradients(neuron)
    assert set(cpu.launches) == {"lif_backward"}


def test_the_layer_leaves_what_it_is_given(cpu: Machine) -> None:
    with cpu.fused(forward=1, backward=1):
        test_fused.test_lif_leaves_what_it_is_given()


def test_strided_input(cpu: Machine) -> None:
    with cpu.fused(forward=3, backward=3):
        test_fused.test_lif_of_strided_input()


@pytest.mark.parametrize("neuron", test_neurons.NEURONS, ids=test_fused.name_of)
def test_state_and_shapes(cpu: Machine, neuron: LIFNeuron) -> None:
    with cpu.watched():
        test_neurons.test_state_carried_over_equals_one_long_call(neuron)
        test_neurons.test_a_constant_input_equals_a_repeated_one(neuron)
        for shape in ((1, 3), (4, 0, 3), (1, 0), (3,), (1,)):
            test_neurons.test_one_step_empty_batches_and_single_neurons(neuron, shape)


# --- what is fused


@dataclass(frozen=True)
class Own(Surrogate):
    """A user's surrogate, without CUDA C."""

    def derivative(self, u: Array) -> Array:
        return array_module(u).exp(-abs(u)) * self.alpha


@dataclass(frozen=True)
class OwnInCUDA(Own):
    cuda = "alpha * exp(-fabs(z / alpha))"


@dataclass(frozen=True)
class OtherDerivative(ATan):
    """One that inherits CUDA C of another derivative than its own."""

    def derivative(self, u: Array) -> Array:
        return 2.0 * super().derivative(u)


class Mixed(Own, ATan):
    """One whose derivative comes from a class to the left of the one with CUDA C."""


@dataclass(frozen=True)
class OtherWidth(ATan):
    alpha: float = 5.0


def test_cuda_belongs_to_the_derivative_it_stands_beside() -> None:
    for surrogate in SURROGATES.values():
        assert surrogate.cuda_derivative() == surrogate.cuda is not None
    assert OtherWidth.cuda_derivative() == ATan.cuda
    assert OwnInCUDA.cuda_derivative() == OwnInCUDA.cuda
    for without in (Surrogate, Own, OtherDerivative, Mixed):
        assert without.cuda_derivative() is None


@pytest.mark.parametrize("surrogate", [Own(), OtherDerivative(), Mixed()], ids=lambda s: type(s).__name__)
def test_without_cuda_the_array_operations_run(machine: Machine, surrogate: Surrogate) -> None:
    neuron, layer = LIFNeuron(surrogate=surrogate), Layer(3, 40, "float64", repeated=False)
    expected, found = layer.on(np.asarray).forward(neuron).backward(neuron), layer.on(machine.put)
    with machine.watched():
        assert not kernels_cuda.fuses(neuron.constants(), found.x)
        found.forward(neuron).backward(neuron)
    assert machine.launches == []
    assert_equal(found, expected, "spikes", "charged", "final")
    assert_close(found, expected, "dx", "dv")


@pytest.mark.parametrize("surrogate", [OwnInCUDA(), OtherWidth()], ids=lambda s: type(s).__name__)
def test_a_surrogate_of_ones_own_with_cuda_is_fused(machine: Machine, surrogate: Surrogate) -> None:
    assert_same(machine, LIFNeuron(surrogate=surrogate), Layer(3, 40, "float64", repeated=False))


def test_other_and_mixed_types_are_not_fused(machine: Machine) -> None:
    c = LIFNeuron().constants()
    half, single, double = (machine.put(np.zeros((2, 3), kind)) for kind in (np.float16, np.float32, np.float64))
    with machine.watched():
        assert kernels_cuda.fuses(c, single, single) and kernels_cuda.fuses(c, double, double)
        assert not kernels_cuda.fuses(c, half, half) and not kernels_cuda.fuses(c, single, double)
    layer = Layer(3, 40, "float32", repeated=False)
    expected, found = layer.on(np.asarray), layer.on(machine.put)
    for each in (expected, found):
        each.grad = each.grad.astype(np.float64)
        with machine.watched() if each is found else nullcontext():
            each.forward(LIFNeuron()).backward(LIFNeuron())
    assert machine.launches == ["lif_forward"]
    assert_close(found, expected, "dx", "dv")


def test_smooth_spikes_go_forward_by_array_operations(machine: Machine) -> None:
    neuron, layer = LIFNeuron(detach_reset=False), Layer(3, 40, "float64", repeated=False)
    expected, found = layer.on(np.asarray), layer.on(machine.put)
    with smooth_spikes():
        expected.forward(neuron)
        with machine.watched():
            found.forward(neuron)
    assert machine.launches == []
    assert_close(found, expected, "spikes", "charged", "final")


def test_arrays_on_the_host_are_not_fused() -> None:
    assert not kernels_cuda.fuses(LIFNeuron().constants(), np.zeros((2, 3)))


# --- large layers, and the compiler


@pytest.mark.skipif(sys.platform != "linux", reason="needs files with holes")
def test_more_neurons_than_32_bits_count(stand_in: Any, tmp_path: Path) -> None:
    """The last two blocks alone of 2^32 neurons and a few, in files of which no other page is ever touched."""
    count, steps, last = 2**32 + 5, 2, slice(2**32 - 2, None)
    rows = {"x": steps, "v": 1, "spikes": steps, "charged": steps, "final": 1, "grad": steps, "dv": 1, "dx": steps}
    try:
        large = {name: np.memmap(tmp_path / name, np.float32, "w+", shape=(rows[name], count)) for name in rows}
    except OSError as error:
        pytest.skip(f"needs a folder that takes files of 34 GB with holes: {error}")
    finally:
        for file in tmp_path.iterdir():
            file.unlink()  # a mapped file lives on without its name
    small, neuron = Layer(steps, 7, "float32", repeated=False), LIFNeuron(3.0)
    for name in ("x", "v", "grad", "dv"):
        large[name][:, last] = getattr(small, name)

    code = kernels_cuda.source(np.float32, str(ATan.cuda))
    compiled = stand_in.RawModule(code=code, options=kernels_cuda.OPTIONS)
    threads = kernels_cuda.THREADS
    blocks = (count + threads - 1) // threads
    decay, gain, offset, threshold, rest, alpha = (np.float32(n) for n in (2 / 3, 1 / 3, 0, 1, 0, 2))
    shape, hard, detached = (np.int64(count), np.int32(steps), np.int32(0)), np.int32(1), np.int32(1)
    for kernel, names, numbers in (
        ("lif_forward", ("x", "v", "spikes", "charged", "final"), (decay, gain, offset, threshold, hard, rest)),
        (
            "lif_backward",
            ("grad", "spikes", "charged", "dv", "dx"),
            (decay, gain, threshold, hard, rest, detached, alpha),
        ),
    ):
        arguments = (*(large[name] for name in names), *shape, *numbers)
        compiled.get_function(kernel)((blocks,), (threads,), arguments, first=blocks - 2)

    small.forward(neuron).backward(neuron)
    for name in ("spikes", "charged", "final"):
        np.testing.assert_array_equal(large[name][:, last], np.atleast_2d(getattr(small, name)), err_msg=name)
    for name in ("dv", "dx"):
        expected = np.atleast_2d(getattr(small, name))
        np.testing.assert_allclose(large[name][:, last], expected, rtol=0, atol=TOLERANCE["float32"], err_msg=name)


@pytest.mark.gpu
def test_more_numbers_than_32_bits_count_on_a_gpu(gpu: Machine) -> None:
    steps, count, last = 3, 2**31 // 3 + 1000, slice(-1000, None)
    needed = 1.1 * 4 * count * (5 * steps + 3)
    if gpu.module.cuda.runtime.memGetInfo()[0] < needed:
        pytest.skip(f"needs {needed / 1e9:.0f} GB of free memory on the GPU")
    small, neuron = Layer(steps, 1000, "float32", repeated=False), LIFNeuron(3.0)
    large = object.__new__(Layer)
    for name, array in vars(small).items():
        there = gpu.module.zeros((*array.shape[:-1], count), np.float32)
        there[..., last] = gpu.put(array)
        setattr(large, name, there)
    with gpu.fused(forward=1, backward=1):
        large.forward(neuron).backward(neuron)
    for name, array in vars(large).items():
        setattr(large, name, array[..., last])
    small.forward(neuron).backward(neuron)
    assert_equal(large, small, "spikes", "charged", "final")
    assert_close(large, small, "dx", "dv")


@pytest.mark.gpu
@pytest.mark.parametrize("neuron", test_neurons.NEURONS, ids=test_fused.name_of)
def test_a_layer_on_a_gpu(gpu: Machine, neuron: LIFNeuron) -> None:
    """The op from tensor to gradient, with the arrays where a user has them."""
    values = np.random.default_rng(0).normal(size=(4, 3, 50))
    seed = np.random.default_rng(1).normal(size=values.shape)
    here = Tensor(values, requires_grad=True, dtype=np.float64)
    spikes = lif(here, neuron)
    spikes.backward(seed)
    with backend.use("cupy"):
        there = Tensor(values, requires_grad=True, dtype=np.float64)
        with gpu.fused(forward=1, backward=1):
            found = lif(there, neuron)
            found.backward(backend.asarray(seed))
    np.testing.assert_array_equal(to_numpy(found.array), spikes.array)
    np.testing.assert_allclose(gradient(there), gradient(here), rtol=0, atol=1e-12)


@pytest.mark.skipif(shutil.which("nvcc") is None, reason="needs nvcc")
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("name", ["atan", "triangle"])
def test_the_compiler_for_gpus_contracts_nothing(tmp_path: Path, name: str, dtype: str) -> None:
    """Both kernels compile as CUDA; no multiply-add is fused, and float32 meets no double. These two surrogates
    call no library function, in which fused multiply-adds are meant."""
    code, assembly = tmp_path / "kernels.cu", tmp_path / "kernels.ptx"
    code.write_text(kernels_cuda.source(dtype, str(SURROGATES[name].cuda)))
    for options, contracted in ((kernels_cuda.OPTIONS, False), ((), True)):
        command = ["nvcc", "--ptx", "-Werror", "all-warnings", *options, str(code), "-o", str(assembly)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        instructions = assembly.read_text()
        assert "lif_forward" in instructions and "lif_backward" in instructions
        assert ("fma.rn" in instructions) == contracted
        assert (".f64 " in instructions) == (dtype == "float64")
