# %% [markdown]
# # 06 One flag: NumPy to CuPy
#
# **Goal.** Write code that runs on a CPU and on a GPU unchanged, find out where the time of a training step goes, and
# tell from two measured numbers whether an operation waits for arithmetic or for memory.
#
# No GPU is needed: what is measured is your processor, and a recorded run tells of a GPU. Later lessons need but a word
# of this one: `SpikingLinear` is a linear map, a layer norm and neurons in one operation. (A *layer norm* shifts and
# scales the numbers of each token to mean 0 and deviation 1, then by weights that are learned.)

# %%
import re
from pathlib import Path

import numpy as np
from checks import lesson_06 as check
from lesson import fastest, show
from numpy.lib.mixins import NDArrayOperatorsMixin

import minispike
from minispike import Tensor, backend, no_grad, ops, viz
from minispike.commands.profile import training
from minispike.config import preset
from minispike.nn import functional as F
from minispike.profile import profile_step, profiled
from minispike.snn.neurons import LIFNeuron, lif
from minispike.snn.spiking_linear import spiking_linear, spiking_linear_composed
from minispike.train.workers import single_threaded_products

try:
    GPU = backend.load("cupy")
except minispike.MinispikeError:
    GPU = None  # then a recorded run will tell of one

# %% [markdown]
# ## Ask the argument
#
# CuPy has the functions of NumPy under the same names, for arrays in the memory of a GPU. So one source can serve both,
# if it never says *which* it means. `minispike.use("cupy")` says where *new* arrays are made. All else asks the arrays
# that it is given: `backend.array_module(x)` is the module that `x` is an array of.

# %%
x = Tensor([-1.0, 0.5, 2.0])
xp = backend.array_module(x.array)
assert xp is backend.default_module(), "a new array is made where use() says"
assert backend.array_module((ops.exp(x) * 2.0).array) is xp, "an op, and a number beside it, follow the input"

# %% [markdown]
# What breaks it is a *leak*: a line that means NumPy where it should have asked. On a CPU nobody notices. CuPy's arrays
# refuse to mix with NumPy's, for that would be a hidden journey between two memories. Here is one that refuses too.


# %%
class Elsewhere(NDArrayOperatorsMixin):
    """An array that computes with its own kind and with numbers alone."""

    def __init__(self, values):
        self.values = np.array(values)

    def __array_ufunc__(self, function, method, *inputs, **options):
        if any(isinstance(i, np.ndarray) for i in inputs):
            raise TypeError("this array is elsewhere, and the other one is NumPy's")
        own = [i.values if isinstance(i, Elsewhere) else i for i in inputs]
        return Elsewhere(getattr(function, method)(*own, **options))

    def __array__(self, *_, **__):
        raise TypeError("this array is elsewhere, and is not copied by itself")


# %%
tried = {
    "an operation": lambda x: np.maximum(x, 0.0) * 2.0,  # NumPy hands over to the array's own
    "a new array": lambda x: x * np.linspace(0.0, 1.0, 3),
    "a conversion": lambda x: np.asarray(x).sum(),
}
here, refused = np.array([-1.0, 0.5, 2.0]), {}
away = (GPU.asarray if GPU else Elsewhere)(here)
for name, function in tried.items():
    function(here)  # on NumPy each of them works
    try:
        function(away)
    except TypeError as error:
        refused[name] = str(error)
    print(f"{name}: {refused.get(name, 'runs on both')}")
assert list(refused) == ["a new array", "a conversion"]

# %% [markdown]
# The new array should come from `backend.array_module(x)`. The conversion should not be; where a number must come to
# the host, say to print the loss, `backend.to_numpy` says so in plain sight.
#
# ## Where the time goes
#
# `profile_step` trains a small SpikeBERT on random words for some steps, and asks the clock before and after every
# operation. NumPy's elementwise work uses one core, so we give the products of matrices one too. An operation's
# `floor` is the time that its products would take alone.

# %%
tiny = preset("tiny")
with single_threaded_products:
    profile = profile_step(*training(tiny, batch=16, length=32), steps=5)
show(viz.step_bars(None, profile))
first, share = profile.ops[0], profile.ops[0].seconds / sum(op.seconds for op in profile.ops)
print(f"{first.name}: {share:.0%} of the time in ops")
arithmetic = 2 * tiny.student.dim / (2 * tiny.student.dim + 7 + 6)  # of an output: D inputs, norm 7, neuron 6
print(f"its matrix products: {arithmetic:.0%} of its arithmetic, alone {first.floor / first.seconds:.0%} of its time")
assert first.name == "SpikingLinear" and share > 0.5
assert 0 < first.floor / first.seconds < 0.8 * arithmetic, "the rest is norm and neurons, element by element"

# %% [markdown]
# **What we saw.** One kind of operation is most of the step. An output takes $2 D$ operations of products ($D = 128$
# inputs, or more), and some 13 of norm and neuron, counted below: so products are nearly all of its arithmetic, and not
# nearly all of its time. What is the rest waiting for?
#
# ## The roofline
#
# A processor does so many operations a second, its *peak*, and its memory brings so many bytes a second, the
# *bandwidth*. Let an operation make $F$ floating-point operations (FLOP) and move at least $M$ bytes. Its *arithmetic
# intensity* is $I = F / M$, and it can reach at most
#
# $$ P(I) = \min(\text{peak},\; I \cdot \text{bandwidth}). $$
#
# In words: who does little with each byte waits for memory, however fast the processor is; who does much with each
# byte is held up by arithmetic. Where the two are equal is the *ridge*. First a table: a call of each operation, its
# FLOP, its bytes (four a number). Layer norm takes about 7 FLOP a number: two sums, centre, square, scale, two for the
# learned weights. A neuron takes 6: three to charge, a comparison, two to reset. Then the clock. Copy and add give the
# bandwidth of this machine, the wide linear map its peak: these lie on the roof, or next to it, by definition.

# %%
rng = np.random.default_rng(0)
BIG = 1 << 24  # numbers: 64 MiB, more than a core's own caches
source, target = np.ones(BIG, np.float32), np.ones(BIG, np.float32)
layer = Tensor(rng.random((4, 8192, 256), dtype=np.float32))  # [T, tokens, D]
gain, shift, n = Tensor(np.ones(256, np.float32)), Tensor(np.zeros(256, np.float32)), layer.array.size


def linear(rows: int, width: int):
    """A row of the table: each byte of input, weight and output is moved once."""
    a, w = (Tensor(rng.random(shape, dtype=np.float32)) for shape in ((rows, width), (width, width)))
    return lambda: F.linear(a, w), 2 * rows * width**2, 4 * (2 * rows * width + width**2)


works = {
    "copy": (lambda: np.copyto(target, source), 0, 8 * BIG),
    "add": (lambda: np.add(source, 1.0, out=target), BIG, 8 * BIG),
    "layer norm": (lambda: F.layer_norm(layer, gain, shift), 7 * n, 8 * n),
    "LIF, T = 4": (lambda: lif(layer, LIFNeuron()), 6 * n, 8 * n),
    "linear, 64": linear(16384, 64),
    "linear, 1024": linear(1024, 1024),
}

# %%
taken = dict.fromkeys(works, np.inf)
with no_grad(), single_threaded_products:
    for name in list(works) * 6:  # in turns, so that a slow moment of the machine hits all alike
        taken[name] = min(taken[name], fastest(works[name][0], 1))

bandwidth = max(works[name][2] / taken[name] for name in ("copy", "add"))  # bytes a second
peak = works["linear, 1024"][1] / taken["linear, 1024"]  # FLOP a second
ridge = peak / bandwidth
print(f"bandwidth {bandwidth / 1e9:.1f} GB/s, peak {peak / 1e9:.0f} GFLOP/s, ridge at {ridge:.1f} FLOP/byte")

# %%
placed = {name: (flop / size, flop / taken[name]) for name, (_, flop, size) in works.items() if name != "copy"}
ax = viz.new_figure(6.5, 3.8).subplots()
intensity = np.logspace(-1.3, 3, 200)
ax.loglog(intensity, np.minimum(peak, intensity * bandwidth) / 1e9, color="black", label="roof, with its ridge")
for (name, (i, speed)), marker in zip(placed.items(), "so^Dv", strict=True):
    ax.plot(i, speed / 1e9, marker, color="#2f7fb5", markeredgecolor="black", label=name)
ax.set(xlabel="arithmetic intensity (FLOP/byte)", ylabel="speed (GFLOP/s)")
ax.legend(frameon=False, fontsize="small", loc="lower right")
show(ax)
for name in ("add", "layer norm", "LIF, T = 4"):
    print(f"{name}: takes as long as {taken[name] / (works[name][2] / bandwidth):.1f} passes at full bandwidth")
    assert placed[name][0] < ridge, f"{name} is on the slope: memory decides"
    assert placed[name][0] < 1, "less than one operation a byte"
assert placed["linear, 1024"][0] > placed["linear, 64"][0] > 10 * placed["add"][0]

# %% [markdown]
# **What we saw.** What goes by the element lies on the left, under the slope: less than one operation a byte, and no
# faster multiplier would help. Products of matrices lie on the right: each number that is fetched is used over and
# over, the more the wider the matrix. Layer norm and neurons lie far *below* the slope. The roof is that of one pass,
# which reads the input and writes the output once. NumPy does one thing at a time: centre, and write all of it; square,
# and read it all again. Each such pass moves every number once more.
#
# ## What fusing buys
#
# To *fuse* is to do everything for a block of numbers while it lies in a cache. That is what `spiking_linear` does;
# `spiking_linear_composed` is the same in elementary ops, each a pass over a whole time step or more, each leaving an
# array behind for backward.

# %%
spikes = Tensor((rng.random((4, 2048, 256)) < 0.2).astype(np.float32))
weight = Tensor(rng.normal(0, 0.1, (256, 256)).astype(np.float32), requires_grad=True)
bias, norm_gain, norm_shift = (Tensor(v.array.copy(), requires_grad=True) for v in (shift, gain, shift))
inputs = (spikes, weight, bias, norm_gain, norm_shift, LIFNeuron())
counted, kept, best = {}, {}, {}
for fused in (spiking_linear, spiking_linear_composed):
    with profiled(memory=True) as seen:
        out = fused(*inputs)
    counted[fused] = sum(record.calls for record in seen.ops.values())
    kept[fused] = sum(record.kept for record in seen.ops.values()) / out.array.nbytes
    with single_threaded_products:
        best[fused] = fastest(lambda fused=fused: fused(*inputs).sum().backward())
    print(f"{fused.__name__}: ops {counted[fused]}, kept {kept[fused]:.1f} outputs, {1e3 * best[fused]:.0f} ms")
assert counted[spiking_linear] == 1 and counted[spiking_linear_composed] > 30
assert 5 * kept[spiking_linear] <= kept[spiking_linear_composed]  # of a GPU it sees none: 0 and 0
assert best[spiking_linear] < 0.8 * best[spiking_linear_composed]

# %% [markdown]
# **What we saw.** The same arithmetic in a fraction of the time (forward and backward) and of the memory.
#
# ## What to look for on a GPU
#
# The roofline is the same there, with other numbers. Two things are new.
#
# - *Launches.* Each operation is a kernel that Python starts, which takes microseconds, for ten numbers or ten million.
# - *Synchronising.* A launch returns before the work is done. A clock that does not wait (`backend.synchronise`) sees
#   launches alone; and a line that looks at a value, such as `if loss > 3`, waits for all that was launched.
#
# Here is a step on a GPU: measured, if there is one; else as recorded, of two networks on 32 sentences: a BERT of 6
# layers of width 384, and a SpikeBERT of 4 blocks of width 256 with two time steps.

# %%
if GPU:
    with minispike.use("cupy"):
        there = profile_step(*training(tiny, batch=16, length=32), steps=5)
    print(f"a step takes {1e3 * there.seconds:.1f} ms here, its matrix products alone {1e3 * there.floor:.1f} ms")
    assert there.floor < there.seconds
else:
    path = Path(minispike.__file__).parents[1] / "benchmarks/results/h200.md"  # as `pip install -e` has it
    record = path.read_text(encoding="utf-8")
    on_gpu = [float(line.split("|")[4]) for line in record.splitlines() if re.match(r"\| (fine|stage)", line)]
    on_cpu = [float(s) for s in re.search(r"about ([\d.]+) and ([\d.]+)\s+seconds", record).groups()]
    for name, g, c in zip(("BERT", "SpikeBERT"), on_gpu, on_cpu, strict=True):
        print(f"{name:9} {g} s a step on an H200, {c} s on two cores of an Intel Xeon: {c / g:.1f} times as fast")
        assert 1 < c / g < 10 < 4.8e12 / (2 * bandwidth)
    print(f"memory: 4.8 TB/s there; two cores like this one move {2 * bandwidth / 1e12:.3f} TB/s at most")

# %% [markdown]
# **What we saw.** The recorded run gained a factor of one digit, where memory would allow far more (if its processor,
# which was another, is like this one): the card was waiting for Python. In that run the neurons were fused already, all
# time steps in one launch (`minispike/snn/kernels_cuda.py`); norms, products and the update of weights were not.
#
# ## Break it
#
# The roofline takes it for granted that the work is long. Make it short.

# %%
each = {}
for size in (10, 100, 1000, 10**4, 10**5, 10**6, BIG):
    a, b, times = np.ones(size, np.float32), np.ones(size, np.float32), max(3, min(1000, 10**6 // size))
    each[size] = fastest(lambda a=a, b=b, times=times: [np.add(a, 1.0, out=b) for _ in range(times)]) / times
    print(f"{size:>10,} numbers: {1e6 * each[size]:8.1f} us a call, {1e9 * each[size] / size:6.2f} ns a number")
assert each[1000] < 10 * each[10], "a hundred times the numbers, and not ten times the time"
assert each[BIG] > 100 * each[10], "and here it is the numbers"

# %% [markdown]
# **What we saw.** A floor: up to a thousand numbers a call costs what it costs, NumPy's *launch*. Where the numbers fit
# into a cache, each costs least. On a GPU the floor is higher and memory faster: only much larger arrays leave it.
#
# ## Exercises
#
# Answers are in `solutions/lesson_06.py`.
#
# **1.** A linear map of $D$ inputs and $D$ outputs, in float32, meets $N$ rows; input, weight and output move once
# each. What is the smallest $N$ for which its intensity reaches the ridge? Return `None` if no $N$ will do.


# %%
def rows_to_reach(ridge: float, width: int) -> int | None:
    """The ridge in FLOP/byte; a multiplication and an addition are two FLOP."""
    return ...  # your code


# %%
check.rows(rows_to_reach)

# %% [markdown]
# **2.** How many numbers must an operation move to take as long as its launch? (With 10 microseconds, 4.8 TB/s and 8
# bytes a number it is six million, or more than 23,000 tokens of width 256.)


# %%
def numbers_worth_a_launch(launch: float, bandwidth: float, bytes_each: float) -> float:
    """The launch in seconds, the bandwidth in bytes a second, bytes that are moved for each number."""
    return ...  # your code


# %%
check.launch(numbers_worth_a_launch)

# %% [markdown]
# ## Where to read on
#
# - S. Williams, A. Waterman, D. Patterson: *Roofline: An Insightful Visual Performance Model for Multicore
#   Architectures* (Communications of the ACM 52(4), 2009).
# - R. Okuta et al.: *CuPy: A NumPy-Compatible Library for NVIDIA GPU Calculations* (LearningSys workshop, NIPS 2017).
# - NVIDIA: *H200 Tensor Core GPU* (data sheet): 4.8 TB/s. `benchmarks/results/`: more measurements.
# - Lesson 07: attention without a softmax.
