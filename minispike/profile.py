"""Where the time and the memory of a training step go, op by op, beside the floor of its matrix products.

    with profiled() as profile:
        model(x).sum().backward()
    profile.ops["Linear"].forward  # seconds, of all calls together

The engine hands every op of the thread to the `Profile`, which carries it out between two looks at the clock. A
backward counts as a whole, with the ops that it is written in; the sums by which the engine joins gradients belong to
no op. `profile_step` takes medians over some training steps, and looks at memory and matrix products in one more, for
tracing memory slows Python down.

The floor of a step is the time of its matrix products alone: by the same library, of arrays of the same shapes, each
in one piece. Ops say which products they make (`minispike.ops.op.Op.products`; `einsum` says of none).
"""

import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, TypeVar

import numpy as np

from minispike.backend import Array, array_module, asarray, default_module, synchronise
from minispike.errors import ConfigError, problem
from minispike.modes import switched
from minispike.nn.optim import AdamW, clip_scale, gradient_norm
from minispike.ops.op import Op, Product
from minispike.tensor import Tensor, grad

__all__ = ["Floor", "OpRecord", "OpRow", "Profile", "StepProfile", "profile_step", "profiled"]

Result = TypeVar("Result")

WARMUP = 2
"""Steps before those that count: they make the optimiser's moments, and memory that is kept."""


@dataclass
class OpRecord:
    """What the ops of one class have done, all calls together.

    Attributes:
        calls: forward passes.
        forward, backward: s.
        kept: bytes that were allocated in forward passes and not freed in them: outputs, and what backward needs.
        products: the products of matrices they have made, forward and backward, and how often.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.profile import profiled
        >>> x = Tensor(np.ones(1000), requires_grad=True)
        >>> with profiled() as profile:
        ...     y = x * x
        >>> profile.ops["Mul"].calls, profile.ops["Mul"].forward > 0
        (1, True)
    """

    calls: int = 0
    forward: float = 0.0
    backward: float = 0.0
    kept: int = 0
    products: Counter[Product] = field(default_factory=Counter)


class Profile:
    """What ops have done, by the name of their class; made by `profiled`.

    Attributes:
        ops: an `OpRecord` for each class.
        peak: bytes, at most, that the block had allocated at a time; 0 unless memory was asked for.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.profile import profiled
        >>> x = Tensor([1.0, 2.0], requires_grad=True)
        >>> with profiled() as profile:
        ...     (x * x + x).sum().backward()
        >>> {name: record.calls for name, record in profile.ops.items()}
        {'Mul': 1, 'Add': 1, 'Sum': 1}
    """

    def __init__(self, memory: "_Traced | _Pooled | None" = None) -> None:
        self.ops: dict[str, OpRecord] = {}
        self.peak = 0
        self._memory = memory

    def __call__(self, op: Op, inputs: Sequence[Tensor], backward: bool, work: Callable[[], Result]) -> Result:
        """Carry out an op and note it; the engine calls this."""
        module, memory = default_module(), self._memory
        before = 0 if memory is None else memory.used()
        with switched("watcher", None):  # ops within this one are parts of it
            began = _now(module)
            result = work()
            seconds = _now(module) - began
        record = self.ops.setdefault(type(op).__name__, OpRecord())
        if backward:
            record.backward += seconds
        else:
            record.calls += 1
            record.forward += seconds
        if memory is not None:
            record.kept += 0 if backward else memory.used() - before
            record.products.update(op.products(*inputs)[backward])
        return result


@contextmanager
def profiled(*, memory: bool = False) -> Iterator[Profile]:
    """Within the block, in this thread, ops are recorded; a block within it has them to itself.

    Args:
        memory: record bytes (of the backend in use) and matrix products too; default false. That takes time: the
            seconds then say little.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.profile import profiled
        >>> a, b = Tensor(np.ones((3, 4))), Tensor(np.ones((4, 5)))
        >>> with profiled(memory=True) as profile:
        ...     c = a @ b
        >>> profile.ops["MatMul"].products
        Counter({(1, 3, 4, 5): 1})
    """
    if not memory:
        profile = Profile()
        with switched("watcher", profile):
            yield profile
        return
    with _memory(default_module()) as counted:
        profile = Profile(counted)
        with switched("watcher", profile):
            yield profile
        profile.peak = counted.peak()


class _Traced:
    """Bytes on the host, by Python's own account, to which NumPy reports its arrays."""

    def __init__(self) -> None:
        tracemalloc.reset_peak()
        self._before = self.used()

    def used(self) -> int:
        return tracemalloc.get_traced_memory()[0]

    def peak(self) -> int:
        return tracemalloc.get_traced_memory()[1] - self._before


class _Pooled:
    """Bytes on a GPU, by the pool that CuPy takes its arrays from.

    The pool does not tell of its fullest moment, but of what it has asked of the device, which is a little more.
    """

    def __init__(self, module: Any) -> None:
        self._pool = module.get_default_memory_pool()
        self._pool.free_all_blocks()
        self._before = self.used()

    def used(self) -> int:
        return int(self._pool.used_bytes())

    def peak(self) -> int:
        return int(self._pool.total_bytes()) - self._before


@contextmanager
def _memory(module: Any) -> Iterator[_Traced | _Pooled]:
    """Who counts the bytes of an array module's arrays; Python traces memory as long as it must, and no longer."""
    if module is not np:
        yield _Pooled(module)
        return
    traced_before = tracemalloc.is_tracing()
    if not traced_before:
        tracemalloc.start()
    try:
        yield _Traced()
    finally:
        if not traced_before:
            tracemalloc.stop()


def _now(module: Any) -> float:
    """The time in seconds, once the device has done all that it was told."""
    synchronise(module)
    return time.perf_counter()


class Floor:
    """Products of matrices by themselves, made of random numbers.

    Args:
        products: how often each is made, by the name of the op that makes it. A product ``(n, r, k, c)`` is of n
            pairs of matrices ``[r, k]`` and ``[k, c]``.
        dtype: of the numbers.
        module: array module that multiplies.

    Example:
        >>> import numpy as np
        >>> from minispike.profile import Floor
        >>> floor = Floor({"Linear": {(1, 64, 32, 16): 3}}, np.float32, np)  # [64, 32] times [32, 16], three times
        >>> seconds = floor.seconds()
        >>> list(seconds), 0.0 < seconds["Linear"] < 1.0
        (['Linear'], True)
    """

    def __init__(self, products: Mapping[str, Mapping[Product, int]], dtype: Any, module: Any) -> None:
        self._module, rng = module, np.random.default_rng(0)
        known: dict[tuple[int, ...], Array] = {}  # products share their operands, or a large network would need many

        def operand(*shape: int) -> Array:
            shape = shape if shape[0] > 1 else shape[1:]
            if shape not in known:
                known[shape] = asarray(rng.random(shape, dtype=np.float32), dtype, module=module)
            return known[shape]

        self._work = {
            name: [(times, operand(n, rows, k), operand(n, k, columns)) for (n, rows, k, columns), times in own.items()]
            for name, own in products.items()
        }

    def seconds(self) -> dict[str, float]:
        """How long the products of each op take now, in s."""
        found = {}
        for name, work in self._work.items():
            began = _now(self._module)
            for times, a, b in work:
                for _ in range(times):
                    a @ b
            found[name] = _now(self._module) - began
        return found


@dataclass(frozen=True)
class OpRow:
    """The ops of one class in a training step.

    Attributes:
        name: of the class.
        calls: forward passes.
        forward, backward: s, medians over steps.
        floor: s, of its products of matrices alone, forward and backward; 0 for an op that makes none.
        kept: bytes, as in `OpRecord`.

    Example:
        >>> from minispike.profile import OpRow
        >>> OpRow("Linear", calls=2, forward=0.25, backward=0.5, floor=0.5, kept=0).seconds
        0.75
    """

    name: str
    calls: int
    forward: float
    backward: float
    floor: float
    kept: int

    @property
    def seconds(self) -> float:
        """Forward and backward together."""
        return self.forward + self.backward


@dataclass(frozen=True)
class StepProfile:
    """A training step in rows, which add up to it; each is the median of its own over all steps.

    Attributes:
        ops: by time, the longest first.
        norm: of the gradient, s.
        optimiser: its step, s.
        rest: whatever is left, s: the engine, with its sums of gradients, Python between the ops, and the recording.
        multiply_adds: of all products of matrices.
        peak: bytes that a step allocates beside the weights and moments, at its fullest moment.
        state: bytes of these.

    Example:
        >>> from minispike.profile import OpRow, StepProfile
        >>> row = OpRow("Linear", calls=2, forward=0.25, backward=0.5, floor=0.5, kept=0)
        >>> profile = StepProfile((row,), norm=0.125, optimiser=0.125, rest=0.0, multiply_adds=10, peak=0, state=0)
        >>> profile.seconds, profile.floor / profile.seconds  # half of the step is matrix products
        (1.0, 0.5)
    """

    ops: tuple[OpRow, ...]
    norm: float
    optimiser: float
    rest: float
    multiply_adds: int
    peak: int
    state: int

    @property
    def others(self) -> dict[str, float]:
        """The rows that are no op's, in s."""
        return {"gradient norm": self.norm, "optimiser": self.optimiser, "the rest": self.rest}

    @property
    def seconds(self) -> float:
        """The whole step."""
        return sum(row.seconds for row in self.ops) + sum(self.others.values())

    @property
    def floor(self) -> float:
        """Its products of matrices alone, s."""
        return sum(row.floor for row in self.ops)


def profile_step(
    loss: Callable[[], Tensor], optimiser: AdamW, steps: int = 10, learning_rate: float = 1e-3, clip: float = 1.0
) -> StepProfile:
    """Train for some steps, in this thread, and tell where they spend time and memory.

    Args:
        loss: the forward pass, to one number; called once a step.
        optimiser: of the parameters, which are changed.
        steps: that count, by default 10; two come before them, and one looks at memory and products.
        learning_rate, clip: of a step, default 1e-3, and of the norm of its gradient, default 1 (0: any).

    Raises:
        ConfigError: no step is asked for.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.layers import Linear
        >>> from minispike.nn.optim import AdamW
        >>> from minispike.profile import profile_step
        >>> layer, x = Linear(4, 3, np.random.default_rng(0)), Tensor(np.ones((5, 4)))
        >>> profile = profile_step(lambda: layer(x).sum(), AdamW(layer.named_parameters()), steps=2)
        >>> profile.multiply_adds  # 5 x 4 x 3 forward, and as many for the gradient of the weight; x needs none
        120
        >>> profile.state  # bytes: 15 parameters and two moments of each, in float32
        180
    """
    if steps < 1:
        raise ConfigError(problem("steps", expected="a number >= 1", got=str(steps), hint="steps=10"))
    parameters = list(optimiser.parameters.values())
    module = array_module(*(p.array for p in parameters))

    def step() -> tuple[float, float, float]:
        """Seconds of the forward and backward pass, of the norm, and of the optimiser."""
        began = _now(module)
        optimiser.zero_grad()
        for p, g in zip(parameters, grad(loss(), parameters, retain_graph=False), strict=True):
            p.grad = g
        passed = _now(module)
        norm = gradient_norm(parameters)
        normed = _now(module)
        optimiser.step(learning_rate, clip_scale(norm, clip))
        return passed - began, normed - passed, _now(module) - normed

    for _ in range(WARMUP):
        step()
    optimiser.zero_grad()  # gradients belong to the memory of a step
    with profiled(memory=True) as seen:
        step()
    made = {name: record.products for name, record in seen.ops.items() if record.products}
    floor = Floor(made, parameters[0].dtype, module)
    floor.seconds()
    laps, profiles, floors = [], [], []
    for _ in range(steps):
        with profiled() as profile:
            laps.append(step())
        profiles.append(profile.ops)
        floors.append(floor.seconds())
    names = dict.fromkeys(name for ops in (seen.ops, *profiles) for name in ops)
    nothing = OpRecord()
    rows = [_row(n, seen.ops.get(n, nothing), [ops.get(n, nothing) for ops in profiles], floors) for n in names]
    passes, norms, updates = zip(*laps, strict=True)
    inside = [sum(record.forward + record.backward for record in ops.values()) for ops in profiles]
    return StepProfile(
        ops=tuple(sorted(rows, key=lambda row: -row.seconds)),
        norm=median(norms),
        optimiser=median(updates),
        rest=median(whole - part for whole, part in zip(passes, inside, strict=True)),
        multiply_adds=sum(n * r * k * c * times for own in made.values() for (n, r, k, c), times in own.items()),
        peak=seen.peak,
        state=sum(3 * p.array.nbytes for p in parameters),  # AdamW's moments are two
    )


def _row(name: str, seen: OpRecord, timed: Sequence[OpRecord], floors: Sequence[Mapping[str, float]]) -> OpRow:
    """The medians of an op."""
    forward, backward = (median(getattr(record, way) for record in timed) for way in ("forward", "backward"))
    return OpRow(name, seen.calls, forward, backward, median(own.get(name, 0.0) for own in floors), seen.kept)
