"""Whole layers on the CUDA kernels, and which layers are fused."""

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import cuda_machines
import numpy as np
import pytest
import test_fused_neurons
import test_neurons
import test_spiking_linear
from cuda_machines import Array, Layer, Machine, assert_close, assert_equal, assert_same
from helpers import gradient

from minispike import backend, grad
from minispike.backend import array_module, to_numpy
from minispike.smooth import smooth_spikes
from minispike.snn import kernels_cuda
from minispike.snn.neurons import LIFNeuron, lif
from minispike.snn.spiking_linear import spiking_linear, spiking_linear_composed
from minispike.snn.surrogate import SURROGATES, ATan, Surrogate
from minispike.tensor import Tensor

# fixtures, which a test finds by their names here
cpu, gpu, machine, stand_in = cuda_machines.cpu, cuda_machines.gpu, cuda_machines.machine, cuda_machines.stand_in


# --- whole layers, as the tests of the array operations have them

recorded = test_neurons.recorded


@pytest.mark.parametrize("key", test_neurons.RECORDED)
def test_recorded_case(cpu: Machine, recorded: Any, key: str) -> None:
    steps = len(recorded[1]["x"])  # all at once, then one at a time
    with cpu.fused(forward=1 + steps, backward=1 + steps):
        test_neurons.test_recorded_case(recorded, key)


@pytest.mark.parametrize("neuron", test_fused_neurons.NEURONS, ids=test_fused_neurons.name_of)
def test_the_layer_equals_its_composition(cpu: Machine, neuron: LIFNeuron) -> None:
    with cpu.fused(forward=3, backward=3):
        test_fused_neurons.test_lif(neuron)


@pytest.mark.parametrize("neuron", test_fused_neurons.SMOOTH[::5], ids=test_fused_neurons.name_of)
def test_gradients(cpu: Machine, neuron: LIFNeuron) -> None:
    """Smooth spikes go forward by array operations; the kernel takes them back, and finite differences agree."""
    with cpu.watched():
        test_fused_neurons.test_lif_gradients(neuron)
    assert set(cpu.launches) == {"lif_backward"}


def test_the_layer_leaves_what_it_is_given(cpu: Machine) -> None:
    with cpu.fused(forward=1, backward=1):
        test_fused_neurons.test_lif_leaves_what_it_is_given()


def test_strided_input(cpu: Machine) -> None:
    with cpu.fused(forward=3, backward=3):
        test_fused_neurons.test_lif_of_strided_input()


@pytest.mark.parametrize("neuron", test_neurons.NEURONS, ids=test_fused_neurons.name_of)
def test_state_and_shapes(cpu: Machine, neuron: LIFNeuron) -> None:
    with cpu.watched():
        test_neurons.test_state_carried_over_equals_one_long_call(neuron)
        test_neurons.test_a_constant_input_equals_a_repeated_one(neuron)
        for shape in ((1, 3), (4, 0, 3), (1, 0), (3,), (1,)):
            test_neurons.test_one_step_empty_batches_and_single_neurons(neuron, shape)


@pytest.mark.gpu
@pytest.mark.parametrize("neuron", test_neurons.NEURONS, ids=test_fused_neurons.name_of)
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


@pytest.mark.parametrize("name", test_spiking_linear.NEURONS)
@pytest.mark.parametrize("steps", [3, 1], ids=["over time", "constant"])
def test_the_spiking_layer(cpu: Machine, name: str, steps: int) -> None:
    """Its neurons fire once more in backward, and then go back."""
    inputs, neuron = test_spiking_linear.layer(steps, 5, 6), test_spiking_linear.NEURONS[name]
    with cpu.fused(forward=2, backward=1):
        found = spiking_linear(*inputs, neuron, time_steps=3)
        gradients = grad(found.sum(), inputs)
    expected = spiking_linear_composed(*inputs, neuron, time_steps=3)
    np.testing.assert_array_equal(found.numpy(), expected.numpy())
    for a, b in zip(gradients, grad(expected.sum(), inputs), strict=True):
        assert a is not None and b is not None
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-12)


@pytest.mark.gpu
@pytest.mark.parametrize("name", test_spiking_linear.NEURONS)
def test_a_spiking_layer_on_a_gpu(gpu: Machine, name: str) -> None:
    neuron = test_spiking_linear.NEURONS[name]
    here = test_spiking_linear.layer(3, 50, 6)
    expected = spiking_linear(*here, neuron)
    with backend.use("cupy"):
        there = [Tensor(x.numpy(), requires_grad=True, dtype=np.float64) for x in here]
        with gpu.fused(forward=2, backward=1):
            found = spiking_linear(*there, neuron)
            gradients = grad(found.sum(), there)
    np.testing.assert_array_equal(to_numpy(found.array), expected.numpy())
    for a, b in zip(gradients, grad(expected.sum(), here), strict=True):
        assert a is not None and b is not None
        np.testing.assert_allclose(to_numpy(a.array), b.numpy(), rtol=0, atol=1e-12)


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


@pytest.mark.parametrize("dtypes", [("float32", "float64"), ("float64", "float32")])
def test_a_state_of_another_type_is_read_as_what_it_is(machine: Machine, dtypes: tuple[str, str]) -> None:
    layer = Layer(3, 40, dtypes[0], repeated=False)
    layer.v, layer.dv = layer.v.astype(dtypes[1]), layer.dv.astype(dtypes[1])
    expected, found = layer.on(np.asarray), layer.on(machine.put)
    expected.forward(LIFNeuron()).backward(LIFNeuron())
    with machine.watched():
        found.forward(LIFNeuron()).backward(LIFNeuron())
    assert machine.launches == []
    assert_close(found, expected, "spikes", "charged", "final", "dx", "dv")


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


def test_arrays_of_which_one_lies_on_the_host_are_not_fused(cpu: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    c, (here, there) = LIFNeuron().constants(), np.zeros((2, 2, 3))
    monkeypatch.setattr(kernels_cuda, "array_module", lambda array: np if array is here else cpu.module)
    assert kernels_cuda.fuses(c, there, there)
    for arrays in ((here, there), (there, here), (here, here)):
        assert not kernels_cuda.fuses(c, *arrays)
