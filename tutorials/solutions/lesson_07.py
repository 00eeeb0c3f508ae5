"""Answers to the exercises of lesson 07."""

import numpy as np


def one_head(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """The smaller of the two matrices in the middle: ``L x L`` or ``d x d``."""
    length, width = q.shape
    return (q @ (k.T @ v) if length > width else (q @ k.T) @ v) / 8


def multiplications(length: int, width: int) -> tuple[int, int]:
    """Two products each."""
    return 2 * length**2 * width, 2 * length * width**2
