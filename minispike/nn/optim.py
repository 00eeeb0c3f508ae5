"""AdamW, and the clipping of gradients."""

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from functools import partial
from typing import Any

import numpy as np

from minispike.backend import Array, array_module, copied, lock, to_numpy, unlock
from minispike.errors import CheckpointError, ConfigError, problem
from minispike.nn.module import Parameter
from minispike.row_gradient import RowGradient, numbers
from minispike.tensor import Tensor

CHUNK = 65536
"""Elements updated at a time: small enough that all the arrays of a chunk stay in a core's cache."""


TABLES = frozenset(("embedding", "position", "word_embeddings", "position_embeddings", "token_type_embeddings"))
"""The modules whose weight is a table of embeddings: by their own name, whatever they are a part of."""


def decays(name: str, parameter: Parameter) -> bool:
    """Whether weight decay applies by default: to matrices, but not to norms, biases and embeddings.

    Args:
        name: of the parameter in its model, dotted.
        parameter: its number of axes counts.

    Example:
        >>> from minispike.nn.module import Parameter
        >>> from minispike.nn.optim import decays
        >>> matrix = Parameter([[1.0]])
        >>> decays("head.weight", matrix), decays("embedding.weight", matrix), decays("head.bias", Parameter([1.0]))
        (True, False, False)
    """
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
        decay_all: decay norms, biases and embeddings too, as the reference program does; default False.
        threads: that share the work of a step on a CPU, default 1; the numbers are the same for any number of them.

    Raises:
        ConfigError: one parameter comes under two names.

    Example:
        >>> from minispike.nn.module import Parameter
        >>> from minispike.nn.optim import AdamW
        >>> p = Parameter([1.0, 1.0])
        >>> (p * [0.001, 1000.0]).sum().backward()
        >>> AdamW([("p", p)]).step(learning_rate=0.1)
        >>> p  # the first step is as long for a small gradient as for a large one
        Tensor([0.9 0.9], float32, requires_grad=True)
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
        if len({id(p) for p in self.parameters.values()}) < len(self.parameters):
            expected, hint = "every parameter under one name", "model.named_parameters()"
            raise ConfigError(problem("parameters", expected=expected, got="one under two", hint=hint))
        self.betas, self.eps = betas, eps
        self.decay = {n: weight_decay if decay_all or decays(n, p) else 0.0 for n, p in self.parameters.items()}
        self.steps = 0
        self.first: dict[str, Array] = {}  # the moments of parameters that have had a gradient; of others they are 0
        self.second: dict[str, Array] = {}
        self._moved: dict[str, Array] = {}  # which rows of a table have had a gradient
        self._threads, self._pool = threads, ThreadPoolExecutor(threads) if threads > 1 else None

    def step(self, learning_rate: float, scale: float = 1.0) -> None:
        """Change every parameter that has a gradient.

        Args:
            learning_rate: r.
            scale: what the gradients are multiplied with first; see `clip_scale`.
        """
        self.steps += 1
        pieces: list[Callable[[], None]] = []
        given = {name: p for name, p in self.parameters.items() if p.grad is not None}
        for name, p in given.items():
            if name not in self.first:
                self.first[name], self.second[name] = _moment(p), _moment(p)
            if not p.array.flags.c_contiguous:
                p.array = p.array.copy()
            unlock(p.array)
            pieces += self._pieces(name, p, learning_rate, scale)

        told = np.geterr()  # which belongs to a thread

        def share(number: int) -> None:
            with np.errstate(**told):
                for piece in pieces[number :: self._threads]:
                    piece()

        futures = [self._pool.submit(share, i) for i in range(self._threads)] if self._pool and len(pieces) > 1 else []
        try:
            for i in range(0 if futures else self._threads):
                share(i)
            for future in futures:
                future.result()
        finally:  # whatever has become of it, nobody goes on with parameters that are being changed
            wait(futures)
            for p in given.values():
                lock(p.array)
                p.version += 1

    def _pieces(self, name: str, p: Parameter, learning_rate: float, scale: float) -> Iterator[Callable[[], None]]:
        """The step of a parameter as pieces of work that depend on nothing but their own numbers."""
        assert p.grad is not None
        arrays, how = (p.array, self.first[name], self.second[name]), (learning_rate, scale, self.decay[name])
        if (rows := self._moving_rows(name, p)) is not None:
            grad = np.zeros((len(rows), p.shape[1]), dtype=p.dtype)
            grad[np.searchsorted(rows, p.grad.rows)] = p.grad.values  # type: ignore[attr-defined]
            size = max(CHUNK // max(p.shape[1], 1), 1)
            for start in range(0, len(rows), size):
                yield partial(self._update_rows, rows[start : start + size], grad[start : start + size], arrays, how)
            return
        size = CHUNK if array_module(p.array) is np else max(p.size, 1)
        p_, m, v, g = (a.reshape(-1) for a in (*arrays, p.grad.array))
        for start in range(0, p.size, size):
            piece = slice(start, start + size)
            yield partial(self._update, p_[piece], g[piece], m[piece], v[piece], *how)

    def _moving_rows(self, name: str, p: Parameter) -> Array | None:
        """The rows of a table that a step moves, where these are few: those that have had a gradient, now or before.

        The moments of all others are 0, and so is what is taken from them. None: all rows, as where weights decay.
        """
        if not isinstance(p.grad, RowGradient) or self.decay[name] or not self.eps:
            self._moved.pop(name, None)
            return None
        if name not in self._moved:
            self._moved[name] = self.first[name].any(axis=1) | self.second[name].any(axis=1)
        self._moved[name][p.grad.rows] = True
        rows = np.flatnonzero(self._moved[name])
        return rows if len(rows) <= len(p) // 2 else None

    def _update_rows(self, rows: Array, g: Array, arrays: Sequence[Array], how: tuple[float, float, float]) -> None:
        """The equations above on some rows of a table."""
        p, m, v = (a[rows] for a in arrays)
        self._update(p, g, m, v, *how)
        for array, values in zip(arrays, (p, m, v), strict=True):
            array[rows] = values

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
        self._moved.clear()
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
    """The norm of all gradients together; a parameter without a gradient counts nothing.

    Example:
        >>> from minispike.nn.module import Parameter
        >>> from minispike.nn.optim import gradient_norm
        >>> p, q = Parameter(1.0), Parameter(1.0)
        >>> (3.0 * p + 4.0 * q).backward()
        >>> gradient_norm([p, q])
        5.0
    """
    gradients = [numbers(p.grad) for p in parameters if p.grad is not None]
    return math.sqrt(sum(float(array_module(g).vdot(g, g)) for g in gradients))


def clip_scale(norm: float, largest: float) -> float:
    """What gradients of this norm are multiplied with for it to be at most ``largest`` (0: any).

    A norm that is not finite gives 1: no scale would mend such gradients.

    Example:
        >>> from minispike.nn.optim import clip_scale
        >>> clip_scale(4.0, 1.0), clip_scale(0.5, 1.0), clip_scale(4.0, 0.0)
        (0.25, 1.0, 1.0)
    """
    return largest / norm if largest and norm > largest and math.isfinite(norm) else 1.0


def clip_gradients(parameters: Iterable[Parameter], largest: float) -> float:
    """Scale all gradients together so that their norm is at most ``largest`` (0: leave them).

    The training loop does the same in the optimiser's step, without a pass over the gradients of its own.

    Args:
        parameters: whose ``grad`` is replaced where it is scaled.
        largest: norm, over all parameters together. A norm that is not finite is left as it is.

    Returns:
        The norm before clipping, over all parameters.

    Example:
        >>> from minispike.nn.module import Parameter
        >>> from minispike.nn.optim import clip_gradients
        >>> p = Parameter([1.0, 1.0])
        >>> (p * [6.0, 8.0]).sum().backward()
        >>> clip_gradients([p], 5.0), p.grad.numpy().tolist()
        (10.0, [3.0, 4.0])
    """
    parameters = list(parameters)
    norm = gradient_norm(parameters)
    scale = clip_scale(norm, largest)
    for p in parameters:
        if p.grad is not None and scale != 1:
            p.grad = Tensor._of(p.grad.array * scale)
    return norm
