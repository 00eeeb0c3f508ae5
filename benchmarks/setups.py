"""What is measured: networks of several sizes, all of them the reference SpikeBERT."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Setup:
    """A network and a batch.

    Attributes:
        depth, dim, heads: of the network.
        length: tokens a sentence, L.
        batch: sentences, B.
        time_steps: T.
        vocab: rows of the table of embeddings; that of bert-base-uncased.
        classes: of the classifier.
    """

    depth: int
    dim: int
    heads: int
    length: int
    batch: int
    time_steps: int = 4
    vocab: int = 30522
    classes: int = 2

    def ids(self, seed: int = 0) -> NDArray[np.int64]:
        """Token ids ``[B, L]``, few words often and many seldom, as in a text."""
        drawn = np.random.default_rng(seed).zipf(1.3, size=(self.batch, self.length))
        return np.minimum(drawn, self.vocab - 1).astype(np.int64)

    def labels(self, seed: int = 0) -> NDArray[np.int64]:
        """Classes ``[B]``."""
        return np.random.default_rng([seed, 1]).integers(0, self.classes, self.batch)

    def targets(self, seed: int = 0) -> list[NDArray[np.float32]]:
        """What a teacher would say: hidden states ``[B, L, D]``, one a block."""
        rng = np.random.default_rng([seed, 2])
        shape = (self.batch, self.length, self.dim)
        return [rng.standard_normal(shape, dtype=np.float32) for _ in range(self.depth)]


SETUPS = {
    "S": Setup(depth=4, dim=256, heads=8, length=64, batch=16),
    "M": Setup(depth=6, dim=384, heads=12, length=64, batch=8),
    "base": Setup(depth=12, dim=768, heads=12, length=128, batch=2),
    "tiny": Setup(depth=2, dim=32, heads=2, length=8, batch=4, vocab=100),
}
"""``tiny`` shows that everything runs."""
