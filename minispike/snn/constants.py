"""A neuron as the loops over time see it."""

from dataclasses import dataclass

from minispike.snn.surrogate import Surrogate


@dataclass(frozen=True)
class Constants:
    """A neuron as the loops see it: ``m = decay v + gain x + offset``, fire at ``m >= threshold``, reset.

    ``reset`` is the potential after a spike (hard reset), or None: subtract the threshold (soft reset).
    """

    decay: float
    gain: float
    offset: float
    threshold: float
    reset: float | None
    detach_reset: bool
    surrogate: Surrogate

    @property
    def resting(self) -> float:
        """The potential at which the membrane starts, and towards which it leaks."""
        return self.reset or 0.0
