"""Surrogate gradients: what stands in for the derivative of a spike.

A neuron fires when ``u = m - threshold >= 0``. The true derivative of this step is 0 everywhere but at one
point, where there is none. A surrogate replaces it by the derivative of a smooth step, its *primitive*
(Neftci et al. 2019, arXiv 1901.09948). All are written for the scaled input ``z = alpha u``; alpha (per unit of
membrane potential, dimensionless here) sets the width: the larger, the narrower.

    name          primitive S(u)                   derivative S'(u)               alpha  source
    ATan          atan(pi/2 z) / pi + 1/2          alpha/2 / (1 + (pi/2 z)^2)     2      Fang et al. 2021, 2007.05785
    Sigmoid       1 / (1 + exp(-z))                alpha S (1 - S)                4      Zenke, Vogels 2021
    FastSigmoid   u / (1 + |z|) + 1/2              1 / (1 + |z|)^2                10     Zenke, Ganguli 2018, 1705.11146
    Triangle      1/2 + z - z|z|/2, |z| <= 1       alpha max(0, 1 - |z|)          1      Esser et al. 2016, 1603.08270
    Rectangle     z + 1/2, cut to [0, 1]           alpha where |z| < 1/2          1      Wu et al. 2018, 1706.02609
    Gaussian      Phi(z)                           alpha exp(-z^2/2) / sqrt(2 pi) 2      Wu et al. 2018, 1706.02609

The fused kernels of a GPU (`minispike.snn.kernels_cuda`) need the derivative in CUDA C: `Surrogate.cuda` holds it
beside the NumPy form, in the words of the table.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from minispike.backend import Array, array_module
from minispike.errors import ConfigError, problem
from minispike.ops.op import FusedOp
from minispike.ops.special import erf_array
from minispike.smooth import spikes_are_smooth
from minispike.tensor import Tensor


@dataclass(frozen=True)
class Surrogate:
    """A smooth step and its derivative; both take ``u`` (membrane potential above threshold), of any shape.

    A surrogate of your own overrides `primitive` and `derivative`, and so runs everywhere. With `cuda` beside
    `derivative` it runs in the fused kernels of a GPU too; without, a GPU takes the array operations, which are
    slower. A class that overrides `derivative` alone does not inherit `cuda`: see `cuda_derivative`.

    Args:
        alpha: inverse width (per unit of membrane potential), > 0; default 1 here; each subclass has its own.

    Raises:
        ConfigError: alpha is not positive.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.surrogate import Surrogate, spike
        >>> class StraightThrough(Surrogate):
        ...     def derivative(self, u):
        ...         return 0.0 * u + 1.0
        >>> u = Tensor([-3.0, 0.5], requires_grad=True)
        >>> spike(u, StraightThrough()).sum().backward()
        >>> u.grad.numpy().tolist()
        [1.0, 1.0]
    """

    cuda: ClassVar[str | None] = None
    """S'(u) as a CUDA C expression in ``z`` and ``alpha`` of type ``real``; it may call what
    `minispike.snn.kernels_cuda` defines. Numbers are written as integers or as ``real(0.5)``: a bare 0.5 would turn
    float32 into float64."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if not self.alpha > 0:
            raise ConfigError(problem("alpha", expected="a number > 0", got=str(self.alpha), hint="alpha=2.0"))

    def primitive(self, u: Array) -> Array:
        """The smooth step S(u), from about 0 to about 1."""
        raise AssertionError(f"{type(self).__name__} has no primitive")

    def derivative(self, u: Array) -> Array:
        """S'(u); may overwrite ``u``."""
        raise AssertionError(f"{type(self).__name__} has no derivative")

    @classmethod
    def cuda_derivative(cls) -> str | None:
        """`cuda`, unless a class between it and this one has another `derivative`, of which it says nothing."""
        first = next(kind for kind in cls.__mro__ if "cuda" in vars(kind) or "derivative" in vars(kind))
        return cls.cuda if "cuda" in vars(first) else None


@dataclass(frozen=True)
class ATan(Surrogate):
    """The arc tangent; its long tails keep far neurons learning. The choice of the reference SpikeBERT.

    ``S'(u) = alpha / 2 / (1 + (pi/2 alpha u)^2)`` (Fang et al. 2021, arXiv 2007.05785).

    Args:
        alpha: inverse width (per unit of membrane potential), > 0, default 2.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.surrogate import ATan
        >>> ATan().derivative(np.array([-1.0, 0.0, 1.0])).round(3).tolist()
        [0.092, 1.0, 0.092]
    """

    cuda = "alpha / 2 / (1 + square(PI / 2 * z))"
    alpha: float = 2.0

    def primitive(self, u: Array) -> Array:
        return array_module(u).arctan(u * (0.5 * math.pi * self.alpha)) * (1.0 / math.pi) + 0.5

    def derivative(self, u: Array) -> Array:
        width = 2.0 / (math.pi * self.alpha)  # both halves of the fraction times its square: one pass less over u
        u *= u
        u += width**2
        return array_module(u).divide(0.5 * self.alpha * width**2, u, out=u)


@dataclass(frozen=True)
class Sigmoid(Surrogate):
    """The logistic function.

    ``S'(u) = alpha S (1 - S)`` with ``S = 1 / (1 + exp(-alpha u))`` (Zenke and Vogels 2021).

    Args:
        alpha: inverse width (per unit of membrane potential), > 0, default 4.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.surrogate import Sigmoid
        >>> Sigmoid().derivative(np.array([-1.0, 0.0, 1.0])).round(3).tolist()
        [0.071, 1.0, 0.071]
    """

    cuda = "alpha * sigmoid(z) * (1 - sigmoid(z))"
    alpha: float = 4.0

    def primitive(self, u: Array) -> Array:
        return 0.5 * array_module(u).tanh((0.5 * self.alpha) * u) + 0.5

    def derivative(self, u: Array) -> Array:
        s = self.primitive(u)
        return self.alpha * s * (1.0 - s)


@dataclass(frozen=True)
class FastSigmoid(Surrogate):
    """The fast sigmoid of SuperSpike: no exponential. Its step is ``2 / alpha`` high rather than 1.

    ``S'(u) = 1 / (1 + |alpha u|)^2`` (Zenke and Ganguli 2018, arXiv 1705.11146).

    Args:
        alpha: inverse width (per unit of membrane potential), > 0, default 10.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.surrogate import FastSigmoid
        >>> FastSigmoid().derivative(np.array([-0.9, 0.0, 0.1])).round(3).tolist()
        [0.01, 1.0, 0.25]
    """

    cuda = "1 / square(1 + fabs(z))"
    alpha: float = 10.0

    def primitive(self, u: Array) -> Array:
        return u / (1.0 + self.alpha * abs(u)) + 0.5

    def derivative(self, u: Array) -> Array:
        return 1.0 / (1.0 + self.alpha * abs(u)) ** 2


@dataclass(frozen=True)
class Triangle(Surrogate):
    """A tent of base ``2 / alpha``: neurons further from threshold do not learn.

    ``S'(u) = alpha max(0, 1 - |alpha u|)`` (Esser et al. 2016, arXiv 1603.08270).

    Args:
        alpha: inverse width (per unit of membrane potential), > 0, default 1.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.surrogate import Triangle
        >>> Triangle().derivative(np.array([-2.0, 0.0, 0.25])).tolist()
        [0.0, 1.0, 0.75]
    """

    cuda = "fabs(z) > 1 ? 0 : alpha * (1 - fabs(z))"
    alpha: float = 1.0

    def primitive(self, u: Array) -> Array:
        z = array_module(u).clip(self.alpha * u, -1.0, 1.0)
        return 0.5 + z - 0.5 * z * abs(z)

    def derivative(self, u: Array) -> Array:
        return self.alpha * array_module(u).maximum(0.0, 1.0 - self.alpha * abs(u))


@dataclass(frozen=True)
class Rectangle(Surrogate):
    """A box of width ``1 / alpha`` and area 1.

    ``S'(u) = alpha`` where ``|alpha u| < 1/2``, else 0 (Wu et al. 2018, arXiv 1706.02609).

    Args:
        alpha: inverse width (per unit of membrane potential), > 0, default 1.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.surrogate import Rectangle
        >>> Rectangle(alpha=2.0).derivative(np.array([-0.3, 0.0, 0.2])).tolist()
        [0.0, 2.0, 2.0]
    """

    cuda = "fabs(z) < real(0.5) ? alpha : 0"
    alpha: float = 1.0

    def primitive(self, u: Array) -> Array:
        return array_module(u).clip(self.alpha * u + 0.5, 0.0, 1.0)

    def derivative(self, u: Array) -> Array:
        return self.alpha * (abs(self.alpha * u) < 0.5).astype(u.dtype)


@dataclass(frozen=True)
class Gaussian(Surrogate):
    """The bell curve of standard deviation ``1 / alpha``.

    ``S'(u) = alpha exp(-(alpha u)^2 / 2) / sqrt(2 pi)`` (Wu et al. 2018, arXiv 1706.02609).

    Args:
        alpha: inverse width (per unit of membrane potential), > 0, default 2.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.surrogate import Gaussian
        >>> Gaussian().derivative(np.array([-0.5, 0.0, 2.0])).round(3).tolist()
        [0.484, 0.798, 0.0]
    """

    cuda = "alpha * exp(-square(z) / 2) / sqrt(2 * PI)"
    alpha: float = 2.0

    def primitive(self, u: Array) -> Array:
        return 0.5 * (1.0 + erf_array(u * (self.alpha * math.sqrt(0.5))))

    def derivative(self, u: Array) -> Array:
        height = self.alpha / math.sqrt(2.0 * math.pi)
        return height * array_module(u).exp((-0.5 * self.alpha**2) * (u * u))


SURROGATES: dict[str, type[Surrogate]] = {
    "atan": ATan,
    "sigmoid": Sigmoid,
    "fast_sigmoid": FastSigmoid,
    "triangle": Triangle,
    "rectangle": Rectangle,
    "gaussian": Gaussian,
}
"""The surrogates by the names that configurations use."""


def fire(u: Array, surrogate: Surrogate) -> Array:
    """1 where ``u >= 0``, else 0, in the type of ``u``; under `smooth_spikes` the primitive.

    Args:
        u: membrane potential above threshold, of any shape.
        surrogate: whose primitive that is.

    Example:
        >>> import numpy as np
        >>> from minispike.snn.surrogate import ATan, fire
        >>> fire(np.array([-0.5, 0.0, 0.5]), ATan()).tolist()  # at the threshold it fires
        [0.0, 1.0, 1.0]
    """
    return surrogate.primitive(u) if spikes_are_smooth() else (u >= 0).astype(u.dtype)


class Spike(FusedOp):
    """A step forward, a surrogate backward; see `spike`."""

    def __init__(self, surrogate: Surrogate) -> None:
        self.surrogate = surrogate

    def forward(self, u: Array) -> Array:
        self.u = u
        return fire(u, self.surrogate)

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        return (grad * self.surrogate.derivative(self.u.copy()),)


def spike(u: Tensor, surrogate: Surrogate) -> Tensor:
    """Spikes of a membrane potential ``u`` above threshold: 1 where ``u >= 0``; backward uses the surrogate.

    Args:
        u: any shape.
        surrogate: one of `SURROGATES`, or of your own.

    Returns:
        0 or 1, of the shape and type of u; under `smooth_spikes` the surrogate's primitive.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.surrogate import Triangle, spike
        >>> u = Tensor([-0.5, 0.0, 2.0], requires_grad=True)
        >>> s = spike(u, Triangle())
        >>> s.sum().backward()
        >>> s.numpy().tolist(), u.grad.numpy().tolist()
        ([0.0, 1.0, 1.0], [0.5, 1.0, 0.0])
    """
    return Spike(surrogate)(u)
