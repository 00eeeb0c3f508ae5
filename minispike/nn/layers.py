"""The layers of ordinary networks: linear map, layer norm, embedding, dropout."""

import numpy as np

from minispike.backend import Array, array_module, asarray
from minispike.errors import ConfigError, problem
from minispike.nn import functional as F
from minispike.nn.module import Module, Parameter
from minispike.tensor import Tensor


class Linear(Module):
    """``x W^T + b``, the weights drawn from N(0, std) and the bias 0.

    Args:
        in_features, out_features: widths of input and output.
        rng: generator for the weights; numbers are drawn on the host, so every backend starts alike.
        std: standard deviation of the weights, default 0.02 as in BERT.
    """

    def __init__(self, in_features: int, out_features: int, rng: np.random.Generator, std: float = 0.02) -> None:
        self.weight = Parameter(rng.normal(0.0, std, size=(out_features, in_features)))
        self.bias = Parameter(np.zeros(out_features))

    def forward(self, x: Tensor) -> Tensor:
        """``[..., in_features]`` to ``[..., out_features]``."""
        return F.linear(x, self.weight, self.bias)


class LayerNorm(Module):
    """Normalisation over the last axis, with a learned scale (1 at first) and shift (0).

    Args:
        width: length D of the last axis.
        eps: added to the variance, default 1e-5.
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.weight = Parameter(np.ones(width))
        self.bias = Parameter(np.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        return F.layer_norm(x, self.weight, self.bias, self.eps)


def normed_linear(x: Tensor, linear: Linear, norm: LayerNorm) -> Tensor:
    """``norm(linear(x))`` as one op: ``[..., in_features]`` to ``[..., out_features]``."""
    return F.normed_linear(x, linear.weight, linear.bias, norm.weight, norm.bias, norm.eps)


class Embedding(Module):
    """A table of V rows of width D, drawn from N(0, std).

    Args:
        rows, width: V and D.
        rng: generator for the table.
        std: standard deviation, default 0.02.
    """

    def __init__(self, rows: int, width: int, rng: np.random.Generator, std: float = 0.02) -> None:
        self.weight = Parameter(rng.normal(0.0, std, size=(rows, width)))

    def forward(self, ids: Array) -> Tensor:
        """Integers ``[...]`` to ``[..., D]``."""
        return F.embedding(ids, self.weight)


def dropout(x: Tensor, rate: float, rng: np.random.Generator | None) -> Tensor:
    """Zero a share ``rate`` of the elements and scale the rest by ``1 / (1 - rate)``; without a generator, ``x``.

    Source: Srivastava et al. 2014, JMLR 15.

    Raises:
        ConfigError: the rate is not in [0, 1).
    """
    if not 0.0 <= rate < 1.0:
        raise ConfigError(problem("dropout", expected="0 <= rate < 1", got=str(rate), hint="0.1"))
    if rng is None or rate == 0.0:
        return x
    kept = rng.random(x.shape, dtype=np.float32) >= rate
    scales = kept.astype(x.dtype) * (1.0 / (1.0 - rate))
    return x * Tensor._of(asarray(scales, dtype=x.dtype, module=array_module(x.array)))
