"""The learning rate as a pure function of the step: a linear warm-up, then a decay to a floor."""

import math
from dataclasses import dataclass, field
from typing import Literal

from minispike.errors import ConfigError, problem


@dataclass(frozen=True)
class Schedule:
    """How the learning rate moves over a phase of ``steps`` steps, as a share of its peak::

        w    = max(1, round(warmup * steps)) - 1       the last step of the warm-up
        m(s) = (s + 1) / (w + 1)                       for steps s = 0 ... w
        m(s) = floor + (1 - floor) * d(p)              for steps s = w + 1 ... steps - 1
        p    = (s - w) / (steps - 1 - w)               the progress after the warm-up, 1 at the last step
        d(p) = (1 + cos(pi * p)) / 2                   cosine
             = 1 - p                                   linear
             = 1                                       constant; the floor has no part in it

    All of these are dimensionless. The first step has a share above 0, so that no step is spent on nothing.

    Sources: cosine, Loshchilov & Hutter 2017, arXiv:1608.03983, eq. 5, a single cycle; linear, Devlin et al.
    2019, arXiv:1810.04805, appendix A.2; warm-up, Goyal et al. 2017, arXiv:1706.02677, section 2.2.

    Attributes:
        warmup: the share of the steps over which the rate rises, from 0 to 1.
        shape: how it falls after that.
        floor: the share of the peak at the last step, from 0 to 1.

    Raises:
        ConfigError: if a value is outside its range.

    Example:
        >>> from minispike.train.schedule import Schedule
        >>> schedule = Schedule(warmup=0.4)  # two steps of five
        >>> [round(schedule.multiplier(step, 5), 2) for step in range(5)]
        [0.5, 1.0, 0.75, 0.25, 0.0]
    """

    warmup: float = field(default=0.1, metadata={"help": "share of the steps over which the rate rises"})
    shape: Literal["cosine", "linear", "constant"] = field(
        default="cosine", metadata={"help": "how the rate falls after the warm-up"}
    )
    floor: float = field(default=0.0, metadata={"help": "share of the peak rate at the last step"})

    def __post_init__(self) -> None:
        for name, value, usual in (("warmup", self.warmup, 0.1), ("floor", self.floor, 0.0)):
            if not 0 <= value <= 1:
                expected, hint = "a share from 0 to 1", f"{name}={usual}"
                raise ConfigError(problem(name, expected=expected, got=str(value), hint=hint))
        if self.shape not in ("cosine", "linear", "constant"):
            expected, hint = '"cosine", "linear" or "constant"', 'shape="cosine"'
            raise ConfigError(problem("shape", expected=expected, got=repr(self.shape), hint=hint))

    def multiplier(self, step: int, steps: int) -> float:
        """The share of the peak at ``step``, counted from 0, of ``steps`` in all: m(s).

        Raises:
            ValueError: if there is no such step.

        Example:
            >>> from minispike.train.schedule import Schedule
            >>> falling = Schedule(warmup=0.0, shape="linear", floor=0.2)
            >>> [round(falling.multiplier(step, 5), 2) for step in range(5)]
            [1.0, 0.8, 0.6, 0.4, 0.2]
        """
        if not 0 <= step < steps:
            expected = f"a step from 0 to {steps - 1}" if steps > 0 else "a phase of at least one step"
            raise ValueError(problem("step", expected=expected, got=f"{step} of {steps}", hint="more steps"))
        top = max(1, round(self.warmup * steps)) - 1
        if step <= top:
            return (step + 1) / (top + 1)
        if self.shape == "constant":
            return 1.0
        progress = (step - top) / (steps - 1 - top)
        decay = (1 + math.cos(math.pi * progress)) / 2 if self.shape == "cosine" else 1 - progress
        return self.floor + (1 - self.floor) * decay

    def learning_rate(self, step: int, steps: int, peak: float) -> float:
        """The learning rate at ``step`` of ``steps``: ``peak`` times the `multiplier`.

        Raises:
            ValueError: if there is no such step, or ``peak`` is negative or not finite.

        Example:
            >>> from minispike.train.schedule import Schedule
            >>> Schedule(warmup=0.1).learning_rate(4, 100, peak=1e-3)  # the fifth of ten steps of warm-up
            0.0005
        """
        if not 0 <= peak < math.inf:
            raise ValueError(problem("peak", expected="a rate of 0 or more", got=str(peak), hint="peak=1e-3"))
        return peak * self.multiplier(step, steps)
