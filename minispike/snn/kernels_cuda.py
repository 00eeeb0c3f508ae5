"""The loops of `minispike.snn.kernels` as two CUDA kernels: one thread a neuron, all of T inside the thread.

With array operations a GPU starts some ten kernels a time step, and each reads and writes the whole layer. Here a
layer is one launch forward and one backward; the membrane potential stays in a register, and every other number is
read or written once. Threads next to each other take neurons next to each other, so that at every step a warp
reads one stretch of memory.

The source is compiled at the first launch, once for each type and surrogate (`source`), by CuPy's `RawModule`. The
compiler gets ``--fmad=false``: left to itself it contracts ``decay * v + gain * x`` into a fused multiply-add, which
rounds once rather than twice; a potential that lands just on the threshold would then fire on one backend and not
on the other. Without contraction the forward pass is that of NumPy bit for bit (the order of the operations is the
same, and CUDA rounds sums, products and quotients as IEEE 754 says); backward, exp and tanh differ in the last digits.

What is fused, and what is left to the array operations, is said in `fuses`.

Tested on a GPU by ``pytest -m gpu``; without one, the arithmetic by compiling this very source for the CPU, the
launch on a stand-in.
"""

from functools import cache
from typing import Any

import numpy as np

from minispike.backend import Array, array_module
from minispike.snn.constants import Constants

THREADS = 256
"""Threads a block."""

OPTIONS = ("--fmad=false",)
"""What the compiler is told."""

TYPES = {"float32": "float", "float64": "double"}
"""The types of array that are fused, and their names in C."""

SOURCE = r"""
typedef REAL real;
#define PI real(3.14159265358979323846)
__device__ real square(real a) { return a * a; }
__device__ real sigmoid(real a) { return real(0.5) * tanh(real(0.5) * a) + real(0.5); }

// S'(u), which stands in for ds/du; u: membrane potential above threshold
__device__ real surrogate(real u, real alpha)
{
    const real z = alpha * u;
    return SURROGATE;
}

// x [T, N], or [1, N] if repeated; v, last [N]; spikes, charged [T, N].  N = count, T = steps
extern "C" __global__ void lif_forward(
    const real *x, const real *v, real *spikes, real *charged, real *last,
    long long count, int steps, int repeated,
    real decay, real gain, real offset, real threshold, int hard, real rest)
{
    const long long n = (long long) blockIdx.x * blockDim.x + threadIdx.x;  // this thread's neuron
    if (n >= count) return;
    real potential = v[n];
    for (int t = 0; t < steps; ++t) {
        const long long i = t * count + n;                                                 // [t, n]
        const real m = decay * potential + gain * x[repeated ? n : i] + offset;            // charge
        const real s = m >= threshold ? 1 : 0;                                             // fire
        potential = hard ? (1 - s) * m + s * rest : m - s * threshold;                     // reset
        charged[i] = m;
        spikes[i] = s;
    }
    last[n] = potential;
}

// grad, spikes, charged [T, N]; dv [N], changed in place; dx [T, N], or [1, N] if repeated
extern "C" __global__ void lif_backward(
    const real *grad, const real *spikes, const real *charged, real *dv, real *dx,
    long long count, int steps, int repeated,
    real decay, real gain, real threshold, int hard, real rest, int detached, real alpha)
{
    const long long n = (long long) blockIdx.x * blockDim.x + threadIdx.x;
    if (n >= count) return;
    real carried = dv[n];  // gradient of the potential after step t
    real sum = 0;
    for (int t = steps - 1; t >= 0; --t) {
        const long long i = t * count + n;
        const real m = charged[i], s = spikes[i];
        real ds = grad[i];
        if (!detached) ds += carried * (hard ? rest - m : -threshold);  // the spike also moved the potential
        real dm = surrogate(m - threshold, alpha) * ds + carried;
        if (hard) dm -= carried * s;
        if (repeated) sum += gain * dm;
        else dx[i] = gain * dm;
        carried = decay * dm;
    }
    if (repeated) dx[n] = sum;
    dv[n] = carried;
}
"""
"""Both kernels, for REAL ``float`` or ``double`` and the expression SURROGATE; see `source`."""


def source(dtype: Any, derivative: str) -> str:
    """The CUDA C of both kernels.

    Args:
        dtype: float32 or float64.
        derivative: of the surrogate, as `Surrogate.cuda` has it.
    """
    return SOURCE.replace("REAL", TYPES[np.dtype(dtype).name]).replace("SURROGATE", derivative)


@cache
def _compiled(module: Any, dtype: Any, derivative: str) -> Any:
    """Both kernels as a `RawModule`, which is compiled when a device first asks for one of them."""
    return module.RawModule(code=source(dtype, derivative), options=OPTIONS)


def fuses(c: Constants, *arrays: Array) -> bool:
    """Whether the kernels of this file do the work, rather than the array operations of `kernels`.

    They do where all ``arrays`` lie on a GPU, all in float32 or all in float64, and the neuron's surrogate has its
    derivative in CUDA C (`Surrogate.cuda_derivative`): all in `SURROGATES` have, one of your own may not.
    """
    return (
        all(array_module(array) is not np for array in arrays)
        and len({array.dtype for array in arrays}) == 1
        and arrays[0].dtype.name in TYPES
        and c.surrogate.cuda_derivative() is not None
    )


def _launch(name: str, c: Constants, inputs: list[Array], outputs: list[Array], numbers: list[Any]) -> None:
    """One thread for each neuron, on arrays in C order: others are copied, and what is put out copied back.

    Args:
        name: the kernel.
        c: the neuron.
        inputs, outputs: the kernel's arrays, in its order; the first of the inputs is ``[T, ...]``, and so tells N.
        numbers: its other arguments; a Python float is handed over in the type of the arrays.
    """
    module, dtype, count = array_module(outputs[0]), outputs[0].dtype, inputs[0][0].size
    if count == 0:
        return
    dense = [module.ascontiguousarray(array) for array in inputs + outputs]
    scalars = [dtype.type(number) if isinstance(number, float) else number for number in numbers]
    kernel = _compiled(module, dtype, str(c.surrogate.cuda_derivative())).get_function(name)
    kernel(((count + THREADS - 1) // THREADS,), (THREADS,), (*dense, np.int64(count), *scalars))
    for filled, array in zip(dense[len(inputs) :], outputs, strict=True):
        if not array.flags.c_contiguous:
            array[...] = filled


def _reset(c: Constants) -> tuple[np.int32, float]:
    """Whether the reset is hard, and to where."""
    return np.int32(c.reset is not None), float(c.resting)


def forward(x: Array, v: Array | None, c: Constants, spikes: Array, charged: Array, final: Array | None) -> None:
    """`kernels.forward` in one launch, with the same arguments but ``scratch`` and ``seen``."""
    module = array_module(x)
    v = module.full(spikes.shape[1:], c.resting, dtype=x.dtype) if v is None else v
    final = module.empty(spikes.shape[1:], dtype=x.dtype) if final is None else final
    shape = [np.int32(len(spikes)), np.int32(len(x) == 1)]
    neuron = [float(c.decay), float(c.gain), float(c.offset), float(c.threshold), *_reset(c)]
    _launch("lif_forward", c, [x, v], [spikes, charged, final], [*shape, *neuron])


def backward(grad: Array, dv: Array | None, c: Constants, spikes: Array, charged: Array, dx: Array) -> None:
    """`kernels.backward` in one launch, with the same arguments but ``scratch``; ``spikes`` as the reset saw them."""
    dv = array_module(grad).zeros(grad.shape[1:], dtype=grad.dtype) if dv is None else dv
    shape = [np.int32(len(grad)), np.int32(len(dx) == 1)]
    neuron = [float(c.decay), float(c.gain), float(c.threshold), *_reset(c)]
    slope = [np.int32(c.detach_reset), float(c.surrogate.alpha)]
    _launch("lif_backward", c, [grad, spikes, charged], [dv, dx], [*shape, *neuron, *slope])
