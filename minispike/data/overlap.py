"""Keep what is held out for testing out of what is trained on.

Sets and texts from one domain often share sentences that differ only in spacing, capitals or punctuation.
They are compared by their letters and digits alone.
"""

import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Overlap", "drop_overlap", "normalise"]

_SHOWN = 5  # dropped texts that are kept for a report


@dataclass(frozen=True, eq=False)
class Overlap:
    """Which candidates may be used.

    Attributes:
        kept: [K] int64, positions of the candidates that are not held out, ascending.
        dropped: how many candidates are held out.
        examples: the first dropped candidates, at most five, as they were written.

    Example:
        >>> from minispike.data.overlap import drop_overlap
        >>> found = drop_overlap(["so dull", "a gem", "so  dull ."], held_out=["So dull!"])
        >>> found.kept.tolist(), found.dropped, found.examples
        ([1], 2, ('so dull', 'so  dull .'))
    """

    kept: NDArray[np.int64]
    dropped: int
    examples: tuple[str, ...]


def normalise(text: str) -> str:
    """The letters and digits of a text, case-folded, in one spelling where Unicode has several (NFKC).

    Letters of every script count, Chinese characters too. Spaces, punctuation and symbols go.

    Example:
        >>> from minispike.data.overlap import normalise
        >>> normalise("It 's  GREAT !") == normalise("it's great")
        True
    """
    return "".join(filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()))


def drop_overlap(candidates: Sequence[str], held_out: Iterable[str]) -> Overlap:
    """Find the candidates that, after `normalise`, are equal to no held-out text.

    Texts without any letter or digit are compared as they stand, without outer white space.

    Args:
        candidates: texts to train on. For pairs, join both texts with a tab.
        held_out: texts of dev and test, made in the same way. To keep single texts clear of held-out pairs,
            give both texts of each pair.

    Example:
        >>> from minispike.data.overlap import drop_overlap
        >>> train = ["a fine film", "so dull", "So dull!"]
        >>> [train[i] for i in drop_overlap(train, held_out=["so dull ."]).kept]
        ['a fine film']
    """
    forbidden = {_key(text) for text in held_out}
    clear = np.array([_key(text) not in forbidden for text in candidates], dtype=bool)
    hits = np.flatnonzero(~clear)
    return Overlap(np.flatnonzero(clear), len(hits), tuple(candidates[i] for i in hits[:_SHOWN]))


def _key(text: str) -> str:
    """What two texts share that count as the same."""
    return normalise(text) or text.strip()
