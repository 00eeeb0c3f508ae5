"""Accuracy, its interval, and macro F1, against numbers worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minispike.errors import DataError, ShapeError
from minispike.metrics import ModelResult, accuracy, macro_f1, wilson_interval


def test_accuracy_by_hand() -> None:
    assert accuracy([0, 1, 2, 2], [0, 1, 2, 0]) == 0.75
    assert accuracy(np.array([1]), np.array([0])) == 0.0


def test_wilson_by_hand() -> None:
    # p = 1/2, z = 2, n = 4: centre 1/2, half = sqrt(1/4 + 1/4) / 2
    assert wilson_interval(2, 4, z=2.0) == pytest.approx((0.5 - math.sqrt(0.5) / 2, 0.5 + math.sqrt(0.5) / 2))
    # none right: from 0 to z^2 / (n + z^2)
    assert wilson_interval(0, 10, z=2.0) == pytest.approx((0.0, 4 / 14))


def test_wilson_of_the_literature() -> None:
    # Newcombe 1998, Statistics in Medicine 17, table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29
    for correct, n, low, high in [
        (81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718),
    ]:  # fmt: skip
        assert wilson_interval(correct, n) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(1, 10**6), st.data())
def test_wilson_holds_the_share_and_stays_within_0_and_1(n: int, data: st.DataObject) -> None:
    correct = data.draw(st.integers(0, n))
    low, high = wilson_interval(correct, n)
    assert 0.0 <= low <= correct / n <= high <= 1.0
    mirrored = wilson_interval(n - correct, n)
    assert mirrored == pytest.approx((1 - high, 1 - low), abs=1e-12)


def test_macro_f1_by_hand() -> None:
    labels = [0, 0, 0, 1, 1, 2]
    guesses = [0, 0, 1, 1, 2, 0]
    # class 0: TP 2, FP 1, FN 1; class 1: TP 1, FP 1, FN 1; class 2: TP 0
    assert macro_f1(labels, guesses, 3) == pytest.approx((4 / 6 + 2 / 4 + 0.0) / 3)


def test_macro_f1_leaves_out_classes_that_are_nowhere() -> None:
    assert macro_f1([0, 1], [0, 1], 5) == 1.0
    assert macro_f1([0, 0], [0, 3], 5) == pytest.approx((2 / 3 + 0.0) / 2)


def test_result_of_a_model() -> None:
    result = ModelResult.measure("student", [0, 1, 1, 0], [0, 1, 0, 0], 2, "after two stages")
    assert (result.accuracy, result.note) == (0.75, "after two stages")
    assert (result.low, result.high) == wilson_interval(3, 4)
    assert result.macro_f1 == pytest.approx((4 / 5 + 2 / 3) / 2)


def test_errors() -> None:
    with pytest.raises(DataError, match="labels: expected at least one"):
        accuracy([], [])
    with pytest.raises(ShapeError, match=r"predictions: expected one for each of the labels \(2,\)"):
        accuracy([0, 1], [0])
    with pytest.raises(ShapeError, match="argmax"):
        accuracy([0, 1], [[0, 1], [1, 0]])
    with pytest.raises(DataError, match="predictions: expected 0 to 1, got 0 to 2"):
        macro_f1([0, 1], [0, 2], 2)
    with pytest.raises(DataError, match="labels: expected 0 to 1, got -1 to 0"):
        macro_f1([0, -1], [0, 1], 2)
    with pytest.raises(DataError, match="5 of 4"):
        wilson_interval(5, 4)
    with pytest.raises(DataError, match="0 of 0"):
        wilson_interval(0, 0)
