"""AdamW, and the clipping of gradients."""

import math
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from minispike.backend import Array, array_module, copied, lock, to_numpy, unlock
from minispike.errors import CheckpointError, problem
from minispike.nn.module import Parameter
from minispike.tensor import Tensor

CHUNK = 65536
"""Elements updated at a time: small enough that all the arrays of a chunk stay in a core's cache."""


TABLES = frozenset(("embedding", "position", "word_embeddings", "position_embeddings", "token_type_embeddings"))
"""The modules whose weight is a table of embeddings: by their own name, whatever they are a part of."""


def decays(name: str, parameter: Parameter) -> bool:
    """Whether weight decay applies by default: to matrices, but not to norms, biases and embeddings."""
    owner = name.rpartition(".")[0].rpartition(".")[2]
    return parameter.ndim > 1 and owner not in TABLES


class AdamW:
    """Adam with decoupled weight decay (Loshchilov and Hutter 2019, arXiv 1711.05101, algorithm 2).

    For gradient g at step t, with learning rate r:

        m = b1 m + (1 - b1) g          v = b2 v + (1 - b2) g^2
        p = (1 - r w) p - r (m / (1 - b1^t)) / (sqrt(v / (1 - b2^t)) + eps)

    Args:
        parameters: pairs of name and parameter.
        betas: b1 and b2, default (0.9, 0.999).
        eps: default 1e-8.
        weight_decay: w, default 0.01.
        decay_all: decay norms, biases and embeddings too (as the reference program does).
        threads: that share the work of a step on a CPU; the numbers are the same for any number of them.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, Parameter]],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        decay_all: bool = False,
        threads: int = 1,
    ) -> None:
        self.parameters = dict(parameters)
        self.betas, self.eps = betas, eps
        self.decay = {n: weight_decay if decay_all or decays(n, p) else 0.0 for n, p in self.parameters.items()}
        self.steps = 0
        self.first: dict[str, Array] = {}  # the moments of parameters that have had a gradient; of others they are 0
        self.second: dict[str, Array] = {}
        self._threads, self._pool = threads, ThreadPoolExecutor(threads) if threads > 1 else None

    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Change every parameter that has a gradient.

        Args:
            learning_rate: r.
            scale: what the gradients are multiplied with first; see `clip_scale`.
        """
        self.steps += 1
        pieces: list[tuple[list[Array], float]] = []
        changed: list[Parameter] = []
        for name, p in self.parameters.items():
            if p.grad is None:
                continue
            if name not in self.first:
                self.first[name], self.second[name] = _moment(p), _moment(p)
            if not p.array.flags.c_contiguous:
                p.array = p.array.copy()
            unlock(p.array)
            changed.append(p)
            chunk = CHUNK if array_module(p.array) is np else p.size
            flat = [a.reshape(-1) for a in (p.array, p.grad.array, self.first[name], self.second[name])]
            for start in range(0, p.size, max(chunk, 1)):
                pieces.append(([a[start : start + chunk] for a in flat], self.decay[name]))

        def update(share: int) -> None:
            for (p_, g, m, v), decay in pieces[share :: self._threads]:
                self._update(p_, g, m, v, learning_rate, scale, decay)

        for _ in map(update, (0,)) if self._pool is None else self._pool.map(update, range(self._threads)):
            pass
        for p in changed:
            lock(p.array)
            p.version += 1

    def _update(self, p: Array, g: Array, m: Array, v: Array, learning_rate: float, scale: float, decay: float) -> None:
        """The equations above on one chunk, in place."""
        module = array_module(p)
        b1, b2 = self.betas
        g = g * scale
        m *= b1
        m += (1 - b1) * g
        v *= b2
        g *= g
        g *= 1 - b2
        v += g
        denominator = module.sqrt(v)
        denominator *= 1.0 / math.sqrt(1 - b2**self.steps)
        denominator += self.eps
        module.divide(m, denominator, out=denominator)
        denominator *= learning_rate / (1 - b1**self.steps)
        if decay:
            p *= 1 - learning_rate * decay
        p -= denominator

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for p in self.parameters.values():
            p.grad = None

    def state_dict(self) -> dict[str, "np.ndarray[Any, Any]"]:
        """The moments of every parameter on the host, named ``first.<name>`` and ``second.<name>``, and ``steps``."""
        state = {
            f"{kind}.{n}": to_numpy(moments[n]).copy() if n in moments else np.zeros(p.shape, dtype=p.dtype)
            for kind, moments in self._moments()
            for n, p in self.parameters.items()
        }
        return state | {"steps": np.array(self.steps, dtype=np.int64)}

    def _moments(self) -> tuple[tuple[str, dict[str, Array]], ...]:
        return ("first", self.first), ("second", self.second)

    def load_state_dict(self, state: Mapping[str, "np.ndarray[Any, Any]"]) -> None:
        """Take over what `state_dict` returned.

        Raises:
            CheckpointError: it belongs to other parameters.
        """
        expected = {f"{kind}.{n}": p.shape for kind, _ in self._moments() for n, p in self.parameters.items()}
        if {n: a.shape for n, a in state.items() if n != "steps"} != expected or "steps" not in state:
            got = f"{len(state)} tensors with other names or shapes"
            hint = "the checkpoint of this run"
            raise CheckpointError(problem("optimiser", expected=f"{len(expected)} moments", got=got, hint=hint))
        for kind, moments in self._moments():
            moments.clear()
            for name, p in self.parameters.items():
                if state[f"first.{name}"].any() or state[f"second.{name}"].any():
                    moments[name] = copied(state[f"{kind}.{name}"], p.dtype, module=array_module(p.array))
        self.steps = int(state["steps"])


def _moment(p: Parameter) -> Array:
    """Zeros in the shape of a parameter, contiguous whatever its own strides: a step writes through flat views."""
    return array_module(p.array).zeros(p.shape, dtype=p.dtype)


def gradient_norm(parameters: Iterable[Parameter]) -> float:
    """The norm of all gradients together."""
    gradients = [p.grad.array for p in parameters if p.grad is not None]
    return math.sqrt(sum(float(array_module(g).vdot(g, g)) for g in gradients))


def clip_scale(norm: float, largest: float) -> float:
    """What gradients of this norm are multiplied with for it to be at most ``largest`` (0: any)."""
    return largest / norm if largest and norm > largest and math.isfinite(norm) else 1.0


def clip_gradients(parameters: Iterable[Parameter], largest: float) -> float:
    """Scale all gradients together so that their norm is at most ``largest`` (0: leave them).

    The training loop does the same in the optimiser's step, without a pass over the gradients of its own.

    Returns:
        The norm before clipping, over all parameters.
    """
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    scale = clip_scale(norm, largest)
    for p in parameters:
        if p.grad is not None and scale != 1:
            p.grad = Tensor._of(p.grad.array * scale)
    return norm
