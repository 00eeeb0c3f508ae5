"""The error function against that of the standard library."""

import math
from typing import Any

import numpy as np
import pytest

from minispike.backend import asarray, to_numpy
from minispike.ops.special import erf_array

erf_reference = np.vectorize(math.erf, otypes=[np.float64])
EDGES = [0.0, -0.0, 1e-300, -1e-40, 5e-324, 1e-8, 0.5, np.nextafter(1.0, 0.0), 1.0, -1.0, 5.9, 6.0, 6.1, 27.0]


def erf(x: Any) -> Any:
    """The error function of an array of NumPy's, computed on the backend."""
    return to_numpy(erf_array(asarray(x)))


def test_erf_in_double_precision() -> None:
    x = np.concatenate([np.linspace(-7.0, 7.0, 20_001), np.geomspace(1e-300, 10.0, 2_000), EDGES])
    found, expected = erf(x), erf_reference(x)
    assert abs(found - expected).max() <= 1e-15
    small = abs(x) < 0.5  # here the relative error counts too
    np.testing.assert_allclose(found[small], expected[small], rtol=1e-15)
    assert (np.signbit(found) == np.signbit(x)).all()


def test_erf_in_single_precision() -> None:
    x = np.concatenate([np.linspace(-7.0, 7.0, 20_001), EDGES]).astype(np.float32)
    found = erf(x)
    assert found.dtype == np.float32
    assert abs(found - erf_reference(x.astype(np.float64))).max() <= 1e-6
    assert abs(found).max() <= 1.0


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_erf_at_the_ends_and_without_numbers(dtype: Any) -> None:
    x = np.array([np.nan, np.inf, -np.inf], dtype)
    np.testing.assert_array_equal(erf(x), [np.nan, 1.0, -1.0])
    assert erf(np.zeros((2, 0), dtype)).shape == (2, 0)
    single = erf(np.array(0.5, dtype))
    assert single.shape == ()
    assert single.dtype == dtype
    assert single == pytest.approx(math.erf(0.5), rel=1e-6)
    given = asarray(x.copy())
    erf_array(given)
    np.testing.assert_array_equal(to_numpy(given), x)
