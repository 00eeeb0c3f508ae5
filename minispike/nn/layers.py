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

    Example:
        >>> import numpy as np
        >>> from minispike.nn.layers import Linear
        >>> layer = Linear(3, 2, np.random.default_rng(0))
        >>> {name: p.shape for name, p in layer.named_parameters()}, layer(np.zeros((5, 3))).shape
        ({'weight': (2, 3), 'bias': (2,)}, (5, 2))
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

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.layers import LayerNorm
        >>> norm = LayerNorm(2, eps=0.0)
        >>> norm(Tensor([[1.0, 3.0], [10.0, 70.0]])).numpy().tolist()
        [[-1.0, 1.0], [-1.0, 1.0]]
    """

    def __init__(self, width: int, eps: float = 1e-5) -> None:
        self.weight = Parameter(np.ones(width))
        self.bias = Parameter(np.zeros(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """``[..., D]`` to ``[..., D]``."""
        return F.layer_norm(x, self.weight, self.bias, self.eps)


def normed_linear(x: Tensor, linear: Linear, norm: LayerNorm) -> Tensor:
    """``norm(linear(x))`` as one op: ``[..., in_features]`` to ``[..., out_features]``.

    Raises:
        ShapeError: x does not fit the linear map, or its output not the norm.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.layers import LayerNorm, Linear, normed_linear
        >>> linear, norm, x = Linear(3, 2, np.random.default_rng(0)), LayerNorm(2), Tensor([1.0, 2.0, 3.0])
        >>> abs(normed_linear(x, linear, norm) - norm(linear(x))).max().item() < 1e-5
        True
    """
    return F.normed_linear(x, linear.weight, linear.bias, norm.weight, norm.bias, norm.eps)


class Embedding(Module):
    """A table of V rows of width D, drawn from N(0, std).

    Args:
        rows, width: V and D.
        rng: generator for the table.
        std: standard deviation, default 0.02.

    Example:
        >>> import numpy as np
        >>> from minispike.nn.layers import Embedding
        >>> table = Embedding(10, 4, np.random.default_rng(0))
        >>> table([[1, 5, 1]]).shape  # [B, L] to [B, L, D]
        (1, 3, 4)
    """

    def __init__(self, rows: int, width: int, rng: np.random.Generator, std: float = 0.02) -> None:
        self.weight = Parameter(rng.normal(0.0, std, size=(rows, width)))

    def forward(self, ids: Array) -> Tensor:
        """Integers ``[...]`` to ``[..., D]``."""
        return F.embedding(ids, self.weight)


def dropout(x: Tensor, rate: float, rng: np.random.Generator | None) -> Tensor:
    """Zero a share ``rate`` of the elements and scale the rest by ``1 / (1 - rate)``; without a generator, ``x``.

    Source: Srivastava et al. 2014, JMLR 15.

    Args:
        x: any shape.
        rate: the probability that an element is zeroed, from 0 to less than 1.
        rng: draws which, on the host; None: none, as when the network is evaluated.

    Raises:
        ConfigError: the rate is not in [0, 1).

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.layers import dropout
        >>> x = Tensor(np.ones(100))
        >>> sorted(set(dropout(x, 0.5, np.random.default_rng(0)).numpy().tolist())), dropout(x, 0.5, None) is x
        ([0.0, 2.0], True)
    """
    if not 0.0 <= rate < 1.0:
        raise ConfigError(problem("dropout", expected="0 <= rate < 1", got=str(rate), hint="0.1"))
    if rng is None or rate == 0.0:
        return x
    kept = rng.random(x.shape, dtype=np.float32) >= rate
    scales = kept.astype(x.dtype) * (1.0 / (1.0 - rate))
    return x * Tensor._of(asarray(scales, dtype=x.dtype, module=array_module(x.array)))
