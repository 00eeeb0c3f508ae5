"""A neuron as the loops over time see it."""

from dataclasses import dataclass

from minispike.snn.surrogate import Surrogate


@dataclass(frozen=True)
class Constants:
    """A neuron as the loops see it: ``m = decay v + gain x + offset``, fire at ``m >= threshold``, reset.

    Attributes:
        decay: what a time step leaves of the potential, from 0 to 1 (dimensionless).
        gain: what the input is multiplied with (dimensionless).
        offset: what is added at every step, in the unit of the potential.
        threshold: potential at which it fires, in that unit.
        reset: the potential after a spike (hard reset), or None: subtract the threshold (soft reset).
        detach_reset: whether the gradient ignores the spike in the reset.
        surrogate: what stands in for the derivative of the spike.

    Example:
        >>> from minispike.snn.neurons import LIFNeuron
        >>> c = LIFNeuron(tau=4.0).constants()
        >>> c.decay, c.gain, c.offset, c.resting
        (0.75, 0.25, 0.0, 0.0)
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
