"""Where the student starts: its embeddings are the teacher's, turned so that their signs keep neighbours together.

The student's first spikes are the signs of its embedded tokens. Cut through the origin at random angles, two vectors
disagree in a share of signs proportional to the angle between them (Charikar 2002, STOC), so a *centred* table,
turned at random, hands the teacher's similarities on to the first spikes. The turn is a principal-axes projection to
the student's width (where that is smaller) followed by a random rotation, which spreads the variance over all axes
(Gong and Lazebnik 2011, CVPR).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class StartingTables:
    """``words``: ``[V, D]``; ``positions``: ``[P, D]`` or None. Unit variance over the words.

    Example:
        >>> import numpy as np
        >>> from minispike.distill.start import starting_tables
        >>> tables = starting_tables(np.eye(6), None, width=4, rng=np.random.default_rng(0))
        >>> tables.words.shape, tables.positions
        ((6, 4), None)
    """

    words: Any
    positions: Any | None


def starting_tables(words: Any, positions: Any | None, width: int, rng: np.random.Generator) -> StartingTables:
    """The teacher's tables in the student's width.

    Args:
        words: the teacher's word embeddings ``[V, D_t]``.
        positions: its position embeddings ``[P, D_t]``, or None.
        width: the student's D.
        rng: for the rotation.

    Returns:
        Both tables in float64, centred over their rows, turned and scaled alike: with one factor, which gives the
        words unit variance.

    Example:
        >>> import numpy as np
        >>> from minispike.distill.start import starting_tables
        >>> words = np.array([[0.0, 0.0], [3.0, 4.0], [6.0, 8.0]])
        >>> turned = starting_tables(words, None, width=2, rng=np.random.default_rng(0)).words
        >>> round(float(turned.std()), 6), float(abs(turned.mean(axis=0)).max()) < 1e-12
        (1.0, True)
        >>> near, far = np.linalg.norm(turned[1] - turned[0]), np.linalg.norm(turned[2] - turned[0])
        >>> round(float(far / near), 6)  # distances keep their ratios
        2.0
    """
    words = np.asarray(words, dtype=np.float64)
    centred = words - words.mean(axis=0)
    turn = _rotation(centred, width, rng)
    turned = centred @ turn
    scale = 1.0 / max(float(turned.std()), 1e-12)
    if positions is not None:
        positions = np.asarray(positions, dtype=np.float64)
        positions = (positions - positions.mean(axis=0)) @ turn * scale
    return StartingTables(turned * scale, positions)


def _rotation(centred: Any, width: int, rng: np.random.Generator) -> Any:
    """``[D_t, width]``: orthonormal columns, or, for a wider student, orthonormal rows."""
    own = centred.shape[1]
    random, triangle = np.linalg.qr(rng.normal(size=(width, width)))
    random = random * np.sign(np.diag(triangle))  # makes the rotation uniform, and the same on every machine
    if width >= own:
        return random[:own]
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending: the last columns carry most variance
    return axes[:, -width:] @ random
