"""Answers to the exercises of lesson 04."""

import math

import numpy as np

from minispike.snn.surrogate import Surrogate


class CosineBump(Surrogate):
    """Outside of its base the step is 0 on the left and 1 on the right: cut z to [-1, 1], and one form does for all."""

    def primitive(self, u: np.ndarray) -> np.ndarray:
        """The integral of the bump."""
        z = np.clip(self.alpha * u, -1.0, 1.0)
        return 0.5 * (1.0 + z + np.sin(np.pi * z) / np.pi)

    def derivative(self, u: np.ndarray) -> np.ndarray:
        """The bump."""
        z = np.clip(self.alpha * u, -1.0, 1.0)
        return 0.5 * self.alpha * (1.0 + np.cos(np.pi * z))


def half_width(alpha: float) -> float:
    """Where ``(pi/2 alpha u)^2`` is 1."""
    return 2.0 / (math.pi * alpha)
