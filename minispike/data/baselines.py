"""What a model has to beat: always saying the most frequent label, and weighing single words.

The bag of words is a softmax regression on which tokens a text has, whatever their order and number:

    L(W, b) = - sum_n log softmax(x_n W + b)[y_n]  +  l2 / 2 * sum W^2

with x_n [V] ones and zeros for the tokens of text n, W [V, C] the weights, b [C] the biases, y_n the label
and l2 the strength of the regularisation, all dimensionless. L is convex. Newton's method finds its optimum:
a step d solves H d = -gradient by conjugate gradients, which ask for products with the Hessian H only
(Nocedal and Wright, Numerical Optimization, 2nd edition, algorithm 7.1).
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minispike.data.text import Examples
from minispike.errors import DataError, problem

__all__ = ["BagOfWords", "majority_class"]

_STRENGTHS = (100.0, 30.0, 10.0, 3.0, 1.0, 0.3)
_ALWAYS = ""  # a token that every text has: its weights are the biases
_TOLERANCE = 1e-6  # length of the gradient at the optimum, relative to that at zero weights
_NEWTON_STEPS, _CG_STEPS, _HALVINGS = 100, 200, 30

_Floats = NDArray[np.float64]
_Ints = NDArray[np.int64]

# A Chinese or Japanese character is a token of its own, for these scripts put no spaces between words.
_TOKEN = re.compile(r"[\u3040-\u30ff\u3400-\u9fff]|[^\W\u3040-\u30ff\u3400-\u9fff]+|[^\w\s]")


def majority_class(labels: ArrayLike) -> int:
    """The most frequent of the labels (integers [N]); the smallest of them if several are.

    Raises:
        DataError: there is no label.

    Example:
        >>> from minispike.data.baselines import majority_class
        >>> majority_class([2, 0, 2, 1]), majority_class([1, 0])
        (2, 0)
    """
    return int(np.argmax(np.bincount(_labels("labels", labels))))


@dataclass(frozen=True, eq=False)
class BagOfWords:
    """A softmax regression on the words, punctuation marks and Chinese characters that a text has.

    The head of this module has the loss and how it is minimised.

    Attributes:
        vocabulary: the row of ``weights`` for each token of the training texts, lower-cased. A word of the
            second text of a pair is another token than the same word of the first text.
        weights: [V, C] float64, what each token says for each label; the token ``""`` holds the biases.
        l2: the strength of the regularisation that was the best on dev.
        dev_accuracy: the share of dev labels found, 0 to 1.

    Example:
        >>> import numpy as np
        >>> from minispike.data.baselines import BagOfWords
        >>> from minispike.data.text import Examples
        >>> train = Examples(("good film", "bad film", "good plot", "bad plot"), np.array([1, 0, 1, 0]))
        >>> model = BagOfWords.fit(train, train, num_labels=2)
        >>> model.predict(["a good book", "a bad book"]).tolist()
        [1, 0]
        >>> first, second = model.predict(["bad , not good", "good , not bad"])  # the order of words is lost on it
        >>> bool(first == second)
        True
    """

    vocabulary: dict[str, int]
    weights: _Floats
    l2: float
    dev_accuracy: float

    @classmethod
    def fit(cls, train: Examples, dev: Examples, num_labels: int, strengths: Sequence[float] = _STRENGTHS) -> Self:
        """Fit once for each strength of the regularisation and keep the best on dev, the strongest of equals.

        Args:
            train: labelled texts or pairs.
            dev: labelled texts or pairs to choose the strength by.
            num_labels: C, the number of labels.
            strengths: values of l2 to try, above 0. Default 100, 30, 10, 3, 1, 0.3.

        Raises:
            DataError: train or dev is empty or has no labels, or a label is not below ``num_labels``.
        """
        train_labels, dev_labels = _labels("train", train.labels), _labels("dev", dev.labels)
        if (largest := max(train_labels.max(), dev_labels.max())) >= num_labels:
            expected, hint = f"labels below {num_labels}", f"num_labels={largest + 1}"
            raise DataError(problem("labels", expected=expected, got=str(largest), hint=hint))
        features = _features(train)
        vocabulary = {token: i for i, token in enumerate(sorted(set().union(*features)))}
        seen = _Occurrences.of(features, vocabulary)
        targets = np.eye(num_labels)[train_labels]  # [N, C]
        best, weights = cls(vocabulary, np.zeros((len(vocabulary), num_labels)), 0.0, -1.0), None
        for l2 in sorted(strengths, reverse=True):
            weights = _Loss(seen, targets, l2, vocabulary[_ALWAYS]).optimum(weights)  # from the one before
            fitted = cls(vocabulary, weights, l2, 0.0)
            accuracy = float(np.mean(fitted.predict(dev.texts, dev.pairs) == dev_labels))
            if accuracy > best.dev_accuracy:
                best = cls(vocabulary, weights, l2, accuracy)
        return best

    def predict(self, texts: Sequence[str], pairs: Sequence[str] | None = None) -> _Ints:
        """The labels [N] int64 of N texts, or of N pairs. Words that training did not have say nothing.

        Args:
            texts: N texts, or the first text of each pair.
            pairs: the N second texts; None, the default, for single texts.

        Raises:
            ShapeError: there are not as many second texts as first ones.
        """
        features = _features(Examples(tuple(texts), pairs=None if pairs is None else tuple(pairs)))
        logits = _Occurrences.of(features, self.vocabulary).times(self.weights)  # [N, C]
        labels: _Ints = np.argmax(logits, axis=1).astype(np.int64)
        return labels


@dataclass(frozen=True, eq=False)
class _Occurrences:
    """The matrix X [N, V] of ones and zeros, kept as the rows [K] and columns [K] of its ones."""

    rows: _Ints
    columns: _Ints
    shape: tuple[int, int]

    @classmethod
    def of(cls, features: Sequence[Iterable[str]], vocabulary: dict[str, int]) -> Self:
        found = [sorted(vocabulary[token] for token in text if token in vocabulary) for text in features]
        rows = np.repeat(np.arange(len(found)), [len(columns) for columns in found])
        columns = np.array([column for columns in found for column in columns], dtype=np.int64)
        return cls(rows, columns, (len(found), len(vocabulary)))

    def times(self, weights: _Floats) -> _Floats:
        """X weights: [V, C] -> [N, C]."""
        return _sum_by(self.rows, weights[self.columns], self.shape[0])

    def transposed_times(self, values: _Floats) -> _Floats:
        """X^T values: [N, C] -> [V, C]."""
        return _sum_by(self.columns, values[self.rows], self.shape[1])


class _Loss:
    """The loss L at one l2, with its gradient and Hessian. Weights are [V, C], the biases in row ``bias``."""

    def __init__(self, seen: _Occurrences, targets: _Floats, l2: float, bias: int) -> None:
        self.seen, self.targets = seen, targets
        self.decay = np.full((seen.shape[1], 1), l2)
        self.decay[bias] = 0.0

    def at(self, weights: _Floats) -> tuple[float, _Floats]:
        """L, a number, and softmax(X W + b) [N, C]."""
        logits = self.seen.times(weights)
        logits -= logits.max(axis=1, keepdims=True)
        log_total = np.log(np.exp(logits).sum(axis=1, keepdims=True))  # [N, 1]
        loss = np.sum(log_total[:, 0] - np.sum(self.targets * logits, axis=1))
        return float(loss + 0.5 * np.sum(self.decay * weights**2)), np.exp(logits - log_total)

    def gradient(self, weights: _Floats, shares: _Floats) -> _Floats:
        """dL/dW [V, C], with ``shares`` the softmax at the weights."""
        return self.seen.transposed_times(shares - self.targets) + self.decay * weights

    def hessian_times(self, direction: _Floats, shares: _Floats) -> _Floats:
        """H direction [V, C], with ``shares`` the softmax at the weights."""
        change = shares * self.seen.times(direction)
        change -= shares * change.sum(axis=1, keepdims=True)
        return self.seen.transposed_times(change) + self.decay * direction

    def optimum(self, start: _Floats | None = None) -> _Floats:
        """The weights [V, C] at which the gradient vanishes."""
        zero = np.zeros((self.seen.shape[1], self.targets.shape[1]))
        small = _TOLERANCE * max(1e-3, float(np.linalg.norm(self.gradient(zero, self.at(zero)[1]))))
        weights = zero if start is None else start
        loss, shares = self.at(weights)
        for _ in range(_NEWTON_STEPS):
            gradient = self.gradient(weights, shares)
            if np.linalg.norm(gradient) <= small:
                break
            step = self._newton_step(gradient, shares)
            slope, scale = float(np.sum(gradient * step)), 1.0
            for _ in range(_HALVINGS):  # until the loss falls as much as its slope promises (Armijo)
                new_loss, new_shares = self.at(weights + scale * step)
                if new_loss <= loss + 1e-4 * scale * slope:
                    break
                scale /= 2
            else:
                break  # no fall to be had: the optimum, as far as float64 can tell
            weights, loss, shares = weights + scale * step, new_loss, new_shares
        return weights

    def _newton_step(self, gradient: _Floats, shares: _Floats) -> _Floats:
        """Solve H step = -gradient, the closer the smaller the gradient."""
        step, residual = np.zeros_like(gradient), -gradient
        direction, square = residual, float(np.sum(residual**2))
        enough = square * min(0.25, square**0.5 / len(shares))
        for _ in range(_CG_STEPS):
            image = self.hessian_times(direction, shares)
            length = square / float(np.sum(direction * image))
            step, residual = step + length * direction, residual - length * image
            square, before = float(np.sum(residual**2)), square
            if square <= enough:
                break
            direction = residual + square / before * direction
        return step


def _sum_by(groups: _Ints, values: _Floats, count: int) -> _Floats:
    """Add up the rows of values [K, C] that belong to one group: [count, C]."""
    return np.stack([np.bincount(groups, column, count) for column in values.T], axis=1)


def _features(examples: Examples) -> list[set[str]]:
    found = [{_ALWAYS, *_TOKEN.findall(text.lower())} for text in examples.texts]
    for features, pair in zip(found, examples.pairs or (), strict=False):
        features.update(f"2 {token}" for token in _TOKEN.findall(pair.lower()))  # tokens have no spaces
    return found


def _labels(name: str, labels: ArrayLike | None) -> _Ints:
    found = np.asarray([] if labels is None else labels, dtype=np.int64)
    if not len(found):
        raise DataError(problem(name, expected="one or more labels", got="none", hint="a labelled set"))
    return found
