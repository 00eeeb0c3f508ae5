"""AdamW, and the clipping of gradients."""

import math
from collections.abc import Iterable, Mapping
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
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, Parameter]],
        *,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.01,
        decay_all: bool = False,
    ) -> None:
        self.parameters = dict(parameters)
        self.betas, self.eps = betas, eps
        self.decay = {n: weight_decay if decay_all or decays(n, p) else 0.0 for n, p in self.parameters.items()}
        self.steps = 0
        self.first: dict[str, Array] = {}  # the moments of parameters that have had a gradient; of others they are 0
        self.second: dict[str, Array] = {}

    def step(self, learning_rate: float) -> None:
        """Change every parameter that has a gradient."""
        self.steps += 1
        for name, p in self.parameters.items():
            if p.grad is None:
                continue
            if name not in self.first:
                self.first[name], self.second[name] = _moment(p), _moment(p)
            if not p.array.flags.c_contiguous:
                p.array = p.array.copy()
            chunk = CHUNK if array_module(p.array) is np else p.size
            unlock(p.array)
            flat = [a.reshape(-1) for a in (p.array, p.grad.array, self.first[name], self.second[name])]
            for start in range(0, p.size, max(chunk, 1)):
                p_, g, m, v = (a[start : start + chunk] for a in flat)
                self._update(p_, g, m, v, learning_rate, self.decay[name])
            lock(p.array)
            p.version += 1

    def _update(self, p: Array, g: Array, m: Array, v: Array, learning_rate: float, decay: float) -> None:
        """The equations above on one chunk, in place."""
        module = array_module(p)
        b1, b2 = self.betas
        m *= b1
        m += (1 - b1) * g
        v *= b2
        g = g * g
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


def clip_gradients(parameters: Iterable[Parameter], largest: float) -> float:
    """Scale all gradients together so that their norm is at most ``largest`` (0: leave them).

    Returns:
        The norm before clipping, over all parameters.
    """
    pairs = [(p, p.grad.array) for p in parameters if p.grad is not None]
    norm = math.sqrt(sum(float(array_module(g).vdot(g, g)) for _, g in pairs))
    if largest and norm > largest and math.isfinite(norm):
        for p, g in pairs:
            p.grad = Tensor._of(g * (largest / norm))
    return norm
