"""What makes a spiking network a differentiable function, so that its gradient can be checked.

Two things stand between a finite difference and the gradient that training uses. A spike is a step, whose true
derivative is 0: within `smooth_spikes` every surrogate runs its smooth primitive in the forward pass too. And a
detached value does change when an input is nudged, although the gradient ignores it: `frozen_values` holds it
at the base point. Both switches belong to one thread.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from minispike.backend import Array
from minispike.errors import GradientError, problem


class FrozenValues:
    """Detached values, recorded in a first run and played back, in the same order, in the later ones.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.smooth import FrozenValues, frozen_values
        >>> values = FrozenValues()
        >>> with frozen_values(values):
        ...     recorded = Tensor(1.0).detach()
        ...     values.replay()
        ...     Tensor(5.0).detach().item()
        1.0
    """

    def __init__(self) -> None:
        self._values: list[Array] = []
        self._next: int | None = None

    def replay(self) -> None:
        """From now on play back, from the start."""
        self._next = 0

    def __len__(self) -> int:
        return len(self._values)

    def pass_through(self, value: Array) -> Array:
        """Record ``value``, or give back what was recorded in its place.

        Raises:
            GradientError: nothing of this shape was.
        """
        if self._next is None:
            self._values.append(value.copy())
            return value
        self._next += 1
        known = self._values[self._next - 1] if self._next <= len(self._values) else None
        if known is None or known.shape != value.shape:
            expected = "as many detached values, of the same shapes, each time the function is called"
            got = f"one of shape {value.shape} as number {self._next} of {len(self._values)}"
            hint = "no detach() that depends on the values"
            raise GradientError(problem("detach", expected=expected, got=got, hint=hint))
        return known


class _Switches(threading.local):
    smooth: bool = False
    frozen: FrozenValues | None = None


_switches = _Switches()


@contextmanager
def smooth_spikes(on: bool = True) -> Iterator[None]:
    """Within the block, in this thread, neurons emit the surrogate's primitive instead of 0 or 1.

    Args:
        on: whether they do; False gives spikes again within another block.

    Example:
        >>> import minispike
        >>> from minispike.snn.surrogate import Sigmoid, spike
        >>> with minispike.smooth_spikes():
        ...     spike(minispike.Tensor([-0.5, 0.0, 0.5]), Sigmoid(alpha=4.0))  # 0, 1, 1 without the block
        Tensor([0.1192 0.5    0.8808], float32)
    """
    before, _switches.smooth = _switches.smooth, on
    try:
        yield
    finally:
        _switches.smooth = before


def spikes_are_smooth() -> bool:
    """Whether `smooth_spikes` is on in this thread.

    Example:
        >>> from minispike.smooth import smooth_spikes, spikes_are_smooth
        >>> with smooth_spikes():
        ...     spikes_are_smooth()
        True
    """
    return _switches.smooth


@contextmanager
def frozen_values(values: FrozenValues | None) -> Iterator[None]:
    """Within the block, in this thread, ``values`` records what is detached, or replays it (None: neither).

    Example:
        >>> from minispike import Tensor
        >>> from minispike.smooth import FrozenValues, frozen_values
        >>> values = FrozenValues()
        >>> with frozen_values(values):
        ...     constant = Tensor([1.0, 2.0]).detach()
        >>> len(values)
        1
    """
    before, _switches.frozen = _switches.frozen, values
    try:
        yield
    finally:
        _switches.frozen = before


def freeze(value: Array) -> Array:
    """What a detached value is: itself, or, under `frozen_values`, the one of the base point.

    Args:
        value: an array of any shape.

    Raises:
        GradientError: under `frozen_values`, none of this shape was recorded in its place.

    Example:
        >>> import numpy as np
        >>> from minispike.smooth import freeze
        >>> value = np.ones(2)
        >>> freeze(value) is value
        True
    """
    return value if _switches.frozen is None else _switches.frozen.pass_through(value)
