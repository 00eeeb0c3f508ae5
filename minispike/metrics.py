"""How good predictions are, and how sure one can be of it.

    accuracy   p = correct / n                          share of right predictions, 0 to 1
    Wilson     (p + z^2/2n +- z sqrt(p (1-p)/n + z^2/4n^2)) / (1 + z^2/n)
    macro F1   mean over the classes of 2 TP / (2 TP + FP + FN)

with TP, FP, FN the predictions of a class that are right, that are wrong, and that are missing. All
dimensionless.

Sources: Wilson 1927, J. American Statistical Association 22, 209-212, for the interval, which (unlike ``p +-
z sqrt(p (1-p)/n)``) stays within 0 and 1 and keeps its coverage for few examples; Opitz and Burst 2019, arXiv
1911.03347, for the mean of the F1 of the classes (rather than the F1 of mean precision and mean recall).
"""

import math
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minispike.errors import DataError, ShapeError, problem

__all__ = ["ModelResult", "accuracy", "macro_f1", "wilson_interval"]


@dataclass(frozen=True)
class ModelResult:
    """A line of a table of results.

    Attributes:
        name: of the model.
        accuracy: share of right predictions, 0 to 1.
        low, high: ends of its 95 % Wilson interval.
        macro_f1: mean F1 of the classes, 0 to 1; None: not known.
        note: what else a reader should know, in a few words.

    Example:
        >>> from minispike.metrics import ModelResult
        >>> result = ModelResult.measure("student", labels=[0, 1, 1, 0], predictions=[0, 1, 0, 0], num_labels=2)
        >>> result.accuracy, round(result.low, 2), round(result.high, 2)
        (0.75, 0.3, 0.95)
    """

    name: str
    accuracy: float
    low: float
    high: float
    macro_f1: float | None = None
    note: str = ""

    @classmethod
    def measure(cls, name: str, labels: ArrayLike, predictions: ArrayLike, num_labels: int, note: str = "") -> Self:
        """The result of these predictions.

        Args:
            name: of the model.
            labels, predictions: integers ``[N]`` in 0 to ``num_labels`` - 1, N >= 1.
            num_labels: C, number of classes.
            note: default none.

        Raises:
            DataError: there is no label, or one outside of the ``num_labels`` classes.
            ShapeError: the two differ in length.
        """
        truth, guess = _pair(labels, predictions)
        low, high = wilson_interval(int(np.sum(truth == guess)), len(truth))
        return cls(name, accuracy(truth, guess), low, high, macro_f1(truth, guess, num_labels), note)


def accuracy(labels: ArrayLike, predictions: ArrayLike) -> float:
    """The share of predictions that are right, 0 to 1.

    Args:
        labels: integers ``[N]``, N >= 1.
        predictions: integers ``[N]``.

    Raises:
        DataError: there is no label.
        ShapeError: the two differ in length.

    Example:
        >>> from minispike.metrics import accuracy
        >>> accuracy([0, 1, 1, 0], [0, 1, 0, 0])
        0.75
    """
    truth, guess = _pair(labels, predictions)
    return float(np.mean(truth == guess))


def wilson_interval(correct: int, n: int, z: float = 1.96) -> tuple[float, float]:
    """The interval of accuracies that ``correct`` right predictions out of ``n`` are compatible with.

    Args:
        correct: right predictions, 0 to n.
        n: predictions, >= 1.
        z: standard normal deviations; 1.96, the default, for 95 %.

    Returns:
        Lower and upper end, within 0 to 1.

    Raises:
        DataError: no prediction, or more right ones than predictions.

    Example:
        >>> from minispike.metrics import wilson_interval
        >>> [round(end, 3) for end in wilson_interval(9, 10)]
        [0.596, 0.982]
        >>> [round(end, 3) for end in wilson_interval(900, 1000)]  # the same accuracy, and a tenth of the doubt
        [0.88, 0.917]
    """
    if n < 1 or not 0 <= correct <= n:
        got, hint = f"{correct} of {n}", "a data set with examples"
        raise DataError(problem("correct", expected="0 to n right out of n >= 1", got=got, hint=hint))
    share, spread = correct / n, z * z / n
    centre = share + spread / 2
    half = math.sqrt(spread * (share * (1 - share) + spread / 4))
    low, high = (centre - half) / (1 + spread), (centre + half) / (1 + spread)
    # Rounding would leave 1e-18 instead of 0, or 1 - 1e-16 instead of 1, where the formula has them exactly.
    return (0.0 if correct == 0 else low), (1.0 if correct == n else high)


def macro_f1(labels: ArrayLike, predictions: ArrayLike, num_labels: int) -> float:
    """The mean over the classes of the harmonic mean of precision and recall, 0 to 1.

    A class that neither labels nor predictions have does not enter the mean; one that is only predicted, or
    never, enters it with 0.

    Args:
        labels: integers ``[N]`` in 0 to ``num_labels`` - 1, N >= 1.
        predictions: integers ``[N]``, likewise.
        num_labels: C, number of classes.

    Raises:
        DataError: there is no label, or one outside of the ``num_labels`` classes.
        ShapeError: the two differ in length.

    Example:
        >>> from minispike.metrics import macro_f1
        >>> labels, predictions = [0, 0, 0, 1], [0, 0, 0, 0]  # right three times in four, and blind to class 1
        >>> round(macro_f1(labels, predictions, 2), 4)  # F1 of class 0 is 6 / 7, of class 1 it is 0
        0.4286
    """
    truth, guess = _pair(labels, predictions)
    for name, values in (("labels", truth), ("predictions", guess)):
        if values.min() < 0 or values.max() >= num_labels:
            got = f"{values.min()} to {values.max()}"
            hint = "the number of classes of the data"
            raise DataError(problem(name, expected=f"0 to {num_labels - 1}", got=got, hint=hint))
    right = np.bincount(truth[truth == guess], minlength=num_labels)  # [C], true positives
    # 2 TP + FP + FN: as often as the class was predicted, plus as often as it was there
    seen = np.bincount(guess, minlength=num_labels) + np.bincount(truth, minlength=num_labels)
    return float(np.mean(2 * right[seen > 0] / seen[seen > 0]))


def _pair(labels: ArrayLike, predictions: ArrayLike) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Both as integers ``[N]`` of one length, N >= 1."""
    truth, guess = (np.asarray(a, dtype=np.int64) for a in (labels, predictions))
    if truth.ndim != 1 or truth.shape != guess.shape:
        expected, got = f"one for each of the labels {truth.shape}", f"shape {guess.shape}"
        raise ShapeError(problem("predictions", expected=expected, got=got, hint="logits.argmax(axis=1)"))
    if not len(truth):
        raise DataError(problem("labels", expected="at least one", got="none", hint="a data set with examples"))
    return truth, guess
