"""Answers to the exercises of lesson 01."""

import numpy as np


def division_gradients(g: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A quotient grows with a by 1/b, and falls with b by a/b^2."""
    return g / b, -g * a / b**2


def unbroadcast(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Axes that NumPy put in front go; those of length 1 stay, with the sum."""
    g = g.sum(axis=tuple(range(g.ndim - len(shape))))
    return g.sum(axis=tuple(i for i, size in enumerate(shape) if size == 1), keepdims=True)
