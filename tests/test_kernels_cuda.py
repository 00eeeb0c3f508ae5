"""The CUDA kernels against the array operations, on two machines: compiled for the CPU, and on a GPU (marker gpu)."""

import itertools
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cuda_machines
import numpy as np
import pytest
import test_fused_neurons
from cuda_machines import TOLERANCE, Array, Layer, Machine, assert_close, assert_equal, assert_same

from minispike.backend import to_numpy
from minispike.snn import kernels_cuda
from minispike.snn.neurons import LIFNeuron
from minispike.snn.surrogate import SURROGATES, ATan

# fixtures, which a test finds by their names here
cpu, gpu, machine, stand_in = cuda_machines.cpu, cuda_machines.gpu, cuda_machines.machine, cuda_machines.stand_in


NEURONS = [
    LIFNeuron(tau, 0.7, reset, detach, decay, surrogate())
    for tau, reset, detach, decay, surrogate in itertools.product(
        [3.0, float("inf")], [0.0, None, -0.2], [True, False], [True, False], SURROGATES.values()
    )
    if tau == 3.0 or (not decay and surrogate is ATan)
]


@pytest.mark.parametrize("dtype", TYPES := ["float32", "float64"])
@pytest.mark.parametrize("neuron", NEURONS, ids=test_fused_neurons.name_of)
def test_the_kernels_equal_the_array_operations(machine: Machine, neuron: LIFNeuron, dtype: str) -> None:
    for steps, repeated, at_rest in itertools.product([1, 4, 7], [False, True], [False, True]):
        layer = Layer(steps, 3 * kernels_cuda.THREADS + 9, dtype, repeated, seed=steps, at_rest=at_rest)
        assert_same(machine, neuron, layer)
        spikes = layer.on(np.asarray).forward(neuron).spikes
        assert (0 if at_rest else 0.1) < spikes.mean() < 0.9


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
