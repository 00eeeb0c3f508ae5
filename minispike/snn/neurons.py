"""Spiking neurons over time: state is passed in and returned, and nothing needs to be reset.

At every time step a neuron charges, fires and resets. With membrane potential v, input x, threshold theta and
resting potential v_r (all in the same arbitrary unit; tau in time steps):

    charge   m_t = v_{t-1} + (x_t - (v_{t-1} - v_r)) / tau      input decays ("decay_input")
             m_t = v_{t-1} - (v_{t-1} - v_r) / tau + x_t        input does not
    fire     s_t = 1 if m_t >= theta else 0
    reset    v_t = (1 - s_t) m_t + s_t v_r                      hard
             v_t = m_t - s_t theta                              soft (v_r = 0 in the charge)

Both charges have the form ``m = decay v + gain x + offset``, which is what the loops in `kernels` compute. The
gradient flows back through time by the chain rule; for the step in ``fire`` a surrogate stands in, and with a
*detached* reset the gradient ignores that s_t also appears in the reset.

Sources: Gerstner et al. 2014, "Neuronal Dynamics", ch. 1.3; the discrete forms as in Fang et al. 2021
(arXiv 2007.05785).
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from minispike.backend import Array, array_module, empty
from minispike.errors import ConfigError, ShapeError, problem
from minispike.nn.module import Module, Parameter
from minispike.ops import broadcast_to, sigmoid, stack
from minispike.ops.op import FusedOp
from minispike.snn import kernels
from minispike.snn.constants import Constants
from minispike.snn.surrogate import ATan, Surrogate, spike
from minispike.tensor import Tensor


@dataclass(frozen=True)
class LIFNeuron:
    """The constants of a leaky integrate-and-fire neuron; the equations are at the top of `minispike.snn.neurons`.

    Args:
        tau: membrane time constant in time steps, >= 1, default 2; ``math.inf`` integrates without leak.
        threshold: potential at which it fires, in the unit of the input (dimensionless in a network), default 1.
        reset: potential after a spike (hard reset, and the resting potential), in the same unit, default 0, or None for
            a soft reset.
        detach_reset: the gradient ignores the spike in the reset (the usual choice, the stabler one, and the default).
        decay_input: the input is divided by tau too, by default. Must be False without a leak.
        surrogate: what stands in for the derivative of the spike, default `ATan`.

    Raises:
        ConfigError: tau < 1, or a decaying input with infinite tau.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import LIFNeuron, lif_composed
        >>> neuron = LIFNeuron(tau=2.0, threshold=1.0)
        >>> spikes, charged, potentials = lif_composed(Tensor([[1.0]]), neuron, time_steps=3)
        >>> charged.numpy().tolist()  # half way to the input at each step, so never quite to the threshold
        [[0.5], [0.75], [0.875]]
    """

    tau: float = 2.0
    threshold: float = 1.0
    reset: float | None = 0.0
    detach_reset: bool = True
    decay_input: bool = True
    surrogate: Surrogate = field(default_factory=ATan)

    def __post_init__(self) -> None:
        if not self.tau >= 1:
            raise ConfigError(problem("tau", expected="a number >= 1", got=str(self.tau), hint="tau=2.0"))
        if np.isinf(self.tau) and self.decay_input:
            got, hint = "tau=inf with decay_input=True", "decay_input=False"
            raise ConfigError(problem("decay_input", expected="a finite tau", got=got, hint=hint))

    @property
    def resting(self) -> float:
        """The potential towards which the membrane leaks, and at which it starts."""
        return self.constants().resting

    def constants(self) -> Constants:
        """The same neuron as decay, gain and offset.

        Example:
            >>> from minispike.snn.neurons import LIFNeuron
            >>> c = LIFNeuron(tau=2.0, reset=-1.0, decay_input=False).constants()
            >>> c.decay, c.gain, c.offset  # m = v - (v + 1) / 2 + x
            (0.5, 1.0, -0.5)
        """
        leak = 1.0 / self.tau
        gain = leak if self.decay_input else 1.0
        offset = leak * (self.reset or 0.0)
        return Constants(1.0 - leak, gain, offset, self.threshold, self.reset, self.detach_reset, self.surrogate)


def integrate_and_fire(
    threshold: float = 1.0,
    reset: float | None = 0.0,
    detach_reset: bool = True,
    surrogate: Surrogate | None = None,
) -> LIFNeuron:
    """The neuron without a leak: ``m_t = v_{t-1} + x_t``.

    Args:
        threshold, reset, detach_reset: as for `LIFNeuron`.
        surrogate: None, the default: `ATan`.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import integrate_and_fire, lif
        >>> spikes = lif(Tensor([[0.75]]), integrate_and_fire(reset=None), time_steps=8)
        >>> spikes.sum().item()  # a soft reset loses nothing: 8 x 0.75 / threshold
        6.0
    """
    return LIFNeuron(float("inf"), threshold, reset, detach_reset, False, surrogate or ATan())


class LIF(FusedOp):
    """A layer of neurons over all of T as one node of the graph, with its own backward through time.

    With ``with_state`` the output has one more row, the potential after the last step.
    """

    def __init__(self, neuron: LIFNeuron, steps: int, with_state: bool) -> None:
        self.constants, self.steps, self.with_state = neuron.constants(), steps, with_state

    def forward(self, x: Array, v: Array | None = None) -> Array:
        count = x[0].size
        self.x_shape, self.has_v = x.shape, v is not None
        start = None if v is None else v.reshape(count)
        out = empty((self.steps + self.with_state, count), x)
        charged = empty((self.steps, count), x)
        final = out[self.steps] if self.with_state else None
        spikes = out[: self.steps]
        flat, self.blocks, seen = x.reshape(len(x), count), kernels.blocks(charged, self.steps), []
        scratch = kernels.block_scratch(charged, 1, self.blocks)[0]
        for b in self.blocks:
            first, last = (None if a is None else a[b] for a in (start, final))
            arrays = flat[:, b], first, self.constants, spikes[:, b], charged[:, b], last, scratch[: b.stop - b.start]
            seen.append(kernels.forward(*arrays))
        if any(self.needs):
            pairs = zip(seen, self.blocks, strict=True)
            self.charged, self.seen = charged, [spikes[:, b] if s is None else s for s, b in pairs]
        return out.reshape(len(out), *x.shape[1:])

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        flat = grad.reshape(len(grad), self.charged.shape[1])
        dv = None
        if self.with_state:
            dv = flat[self.steps].copy()
        elif self.has_v:
            dv = array_module(grad).zeros_like(self.charged[0])
        dx = empty((self.x_shape[0], flat.shape[1]), grad)
        scratch = kernels.block_scratch(self.charged, self.steps, self.blocks)
        for seen, b in zip(self.seen, self.blocks, strict=True):
            spikes_grad, last = flat[: self.steps, b], None if dv is None else dv[b]
            arrays = seen, self.charged[:, b], dx[:, b], scratch[:, : b.stop - b.start]
            kernels.backward(spikes_grad, last, self.constants, *arrays)
        dx = dx.reshape(self.x_shape)
        return (dx,) if dv is None or not self.has_v else (dx, dv.reshape(self.x_shape[1:]))


def check_steps(x: Tensor, v: Tensor | None, time_steps: int | None) -> int:
    """The number of time steps, once shapes are known to fit.

    Args:
        x, v, time_steps: as for `lif_with_state`.

    Raises:
        ShapeError: they do not fit.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import check_steps
        >>> check_steps(Tensor([[1.0]]), None, 4)
        4
        >>> check_steps(Tensor([[1.0], [2.0]]), None, 4)
        Traceback (most recent call last):
            ...
        minispike.errors.ShapeError: x: expected 1 or 4 time steps, got 2; try time_steps=None
    """
    if x.ndim == 0 or len(x) == 0:
        raise ShapeError(problem("x", expected="[T, ...] with T >= 1", got=f"shape {x.shape}", hint="x[None]"))
    if time_steps is not None and (time_steps < 1 or len(x) not in (1, time_steps)):
        expected = f"1 or {time_steps} time steps" if time_steps > 0 else "time_steps >= 1"
        raise ShapeError(problem("x", expected=expected, got=f"{len(x)}", hint="time_steps=None"))
    if v is not None and v.shape != x.shape[1:]:
        hint = "the state that the same batch returned, or None"
        raise ShapeError(problem("v", expected=f"shape {x.shape[1:]}", got=f"{v.shape}", hint=hint))
    return time_steps or len(x)


def lif(x: Tensor, neuron: LIFNeuron, *, time_steps: int | None = None) -> Tensor:
    """Spikes of a layer that starts at rest.

    Args:
        x: input ``[T, ...]``, or ``[1, ...]`` for one that stays the same over ``time_steps``.
        neuron: the constants.
        time_steps: T, where x is not to say it.

    Returns:
        Spikes ``[T, ...]``, 0 or 1 in the type of x.

    Raises:
        ShapeError: x has no time step, or another number than ``time_steps``.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import LIFNeuron, lif
        >>> x = Tensor([[0.9, 1.5, 2.5]])  # [1, neurons]: the same current at every step
        >>> lif(x, LIFNeuron(tau=2.0, threshold=1.0), time_steps=4).transpose().numpy().tolist()
        [[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]
    """
    return LIF(neuron, check_steps(x, None, time_steps), with_state=False)(x)


def lif_with_state(
    x: Tensor, neuron: LIFNeuron, v: Tensor | None = None, *, time_steps: int | None = None
) -> tuple[Tensor, Tensor]:
    """Spikes of a layer, and the membrane potential to go on from.

    Args:
        x, neuron, time_steps: as for `lif`.
        v: membrane potential ``[...]`` before the first step; None: at rest.

    Returns:
        Spikes ``[T, ...]`` and membrane potential ``[...]`` after the last step.

    Raises:
        ShapeError: as `lif`, or v has not the shape of one time step of x.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import LIFNeuron, lif_with_state
        >>> spikes, v = lif_with_state(Tensor([[1.5]]), LIFNeuron())
        >>> later, end = lif_with_state(Tensor([[1.5]]), LIFNeuron(), v)  # goes on where the first stopped
        >>> spikes.item(), v.item(), later.item(), end.item()
        (0.0, 0.75, 1.0, 0.0)
    """
    steps = check_steps(x, v, time_steps)
    op = LIF(neuron, steps, with_state=True)
    out = op(x) if v is None else op(x, v)
    return out[:steps], out[steps]


def lif_composed(
    x: Tensor,
    neuron: LIFNeuron,
    v: Tensor | None = None,
    *,
    time_steps: int | None = None,
    leak: Tensor | float | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """`lif_with_state` one time step after the other in elementary ops, as one would write it down.

    Args:
        x, neuron, v, time_steps: as for `lif_with_state`.
        leak: takes the place of ``1 / neuron.tau``; a tensor makes the time constant learnable.

    Returns:
        Spikes ``[T, ...]``, membrane potentials before reset ``[T, ...]``, and after reset ``[T, ...]``.

    Raises:
        ShapeError: as `lif_with_state`.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import LIFNeuron, lif_composed
        >>> spikes, before, after = lif_composed(Tensor([[1.5]]), LIFNeuron(), time_steps=3)
        >>> [t.numpy().ravel().tolist() for t in (spikes, before, after)]
        [[0.0, 1.0, 0.0], [0.75, 1.125, 0.75], [0.75, 0.0, 0.75]]
    """
    steps = check_steps(x, v, time_steps)
    leak = 1.0 / neuron.tau if leak is None else leak
    rest = neuron.resting
    potential = v if v is not None else Tensor._of(array_module(x.array).full(x.shape[1:], rest, dtype=x.dtype))
    spikes, charged, reset = [], [], []
    for t in range(steps):
        current = x[t % len(x)]
        if neuron.decay_input:
            m = potential + (current - (potential - rest)) * leak
        else:
            m = potential - (potential - rest) * leak + current
        s = spike(m - neuron.threshold, neuron.surrogate)
        seen = s.detach() if neuron.detach_reset else s
        potential = m - seen * neuron.threshold if neuron.reset is None else m - seen * (m - neuron.reset)
        spikes.append(s)
        charged.append(m)
        reset.append(potential)
    return stack(spikes), stack(charged), stack(reset)


class ParametricLIF(Module):
    """A layer whose time constant is learned: ``1 / tau = sigmoid(w)``, one w for the layer.

    Source: Fang et al. 2021, arXiv 2007.05785.

    Args:
        neuron: the constants; its tau (> 1, finite) is where learning starts.

    Raises:
        ConfigError: learning cannot start from that tau.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import LIFNeuron, ParametricLIF
        >>> layer = ParametricLIF(LIFNeuron(tau=2.0))
        >>> spikes, v = layer(Tensor([[1.5], [1.5]]))
        >>> spikes.sum().backward()
        >>> layer.w.grad.item() > 0  # a larger w is a shorter tau, which would have fired sooner
        True
    """

    def __init__(self, neuron: LIFNeuron) -> None:
        if not 1 < neuron.tau < float("inf"):
            raise ConfigError(problem("tau", expected="1 < tau < inf", got=str(neuron.tau), hint="tau=2.0"))
        self.neuron = neuron
        self.w = Parameter(-np.log(neuron.tau - 1.0))

    def forward(self, x: Tensor, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Input ``[T, ...]`` and potential ``[...]`` to spikes ``[T, ...]`` and potential ``[...]``."""
        spikes, _, potentials = lif_composed(x, self.neuron, v, leak=sigmoid(self.w))
        return spikes, potentials[len(x) - 1]


def leaky_integrator(x: Tensor, tau: float = 2.0, v: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """A membrane that never fires: ``v_t = v_{t-1} + (x_t - v_{t-1}) / tau``; the read-out of many networks.

    Args:
        x: ``[T, ...]``.
        tau: time constant in time steps, >= 1, default 2.
        v: ``[...]`` potential before the first step, in the unit of x; None: 0.

    Returns:
        Potentials ``[T, ...]`` and the last of them ``[...]``.

    Raises:
        ConfigError: tau < 1.
        ShapeError: x has no time step, or v is not of the shape of a step.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.snn.neurons import leaky_integrator
        >>> potentials, last = leaky_integrator(Tensor([[1.0], [1.0], [0.0]]))
        >>> potentials.numpy().tolist()
        [[0.5], [0.75], [0.375]]
    """
    if not tau >= 1:
        raise ConfigError(problem("tau", expected="a number >= 1", got=str(tau), hint="tau=2.0"))
    steps = check_steps(x, v, None)
    potential = v if v is not None else broadcast_to(Tensor._beside(0.0, [x], x.dtype), x.shape[1:])
    potentials = []
    for t in range(steps):
        potential = potential + (x[t] - potential) * (1.0 / tau)
        potentials.append(potential)
    return stack(potentials), potential
