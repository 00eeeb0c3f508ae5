"""Surrogates against their primitives, and the smooth mode that runs these in the place of spikes."""

import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import gradient, leaf, random_leaf

from minispike import smooth_spikes
from minispike.backend import asarray, to_numpy
from minispike.smooth import FrozenValues, freeze, frozen_values, spikes_are_smooth
from minispike.snn.neurons import LIFNeuron, lif, lif_composed
from minispike.snn.surrogate import SURROGATES, ATan, Rectangle, Surrogate, fire, spike
from minispike.tensor import Tensor

# --- surrogates

GRID = np.linspace(-2.0, 2.0, 801) + 1e-3  # no point of it lies on a corner


def values(f: Callable[[Any], Any], u: Any) -> Any:
    """What a function makes of an array of NumPy's, computed on the backend."""
    return to_numpy(f(asarray(u.copy())))


@pytest.mark.parametrize("name", SURROGATES)
@pytest.mark.parametrize("alpha", [None, 0.7, 3.0])
def test_a_surrogate_is_the_derivative_of_its_primitive(name: str, alpha: float | None) -> None:
    surrogate = SURROGATES[name]() if alpha is None else SURROGATES[name](alpha)
    h = 1e-4

    def s(shift: float) -> Any:
        return values(surrogate.primitive, GRID + shift)

    numeric = (s(-2 * h) - 8 * s(-h) + 8 * s(h) - s(2 * h)) / (12 * h)
    found = values(surrogate.derivative, GRID)
    smooth = np.ones(len(GRID), bool)
    for corner in {"rectangle": (-0.5, 0.5), "triangle": (-1.0, 0.0, 1.0), "fast_sigmoid": (0.0,)}.get(name, ()):
        smooth &= abs(GRID - corner / surrogate.alpha) > 5 * h
    assert smooth.sum() >= len(GRID) - 6
    np.testing.assert_allclose(found[smooth], numeric[smooth], rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates_are_even_and_half_way_up_at_threshold(name: str) -> None:
    surrogate: Surrogate = SURROGATES[name]()
    assert values(surrogate.primitive, np.zeros(1))[0] == pytest.approx(0.5)
    np.testing.assert_allclose(values(surrogate.derivative, GRID), values(surrogate.derivative, -GRID), rtol=1e-12)
    assert (np.diff(values(surrogate.primitive, GRID)) >= 0).all()
    for dtype in (np.float32, np.float64):
        u = GRID.astype(dtype)
        assert values(surrogate.primitive, u).dtype == values(surrogate.derivative, u).dtype == dtype
        x = leaf(u, dtype)
        spike(x, surrogate).backward(np.ones(len(u)))
        np.testing.assert_array_equal(x.numpy(), u)  # derivative may overwrite its argument, never the tensor


def test_the_peaks_of_the_surrogates() -> None:
    peaks = {"atan": 1.0, "sigmoid": 1.0, "fast_sigmoid": 1.0, "triangle": 1.0, "rectangle": 1.0}
    for name, peak in peaks.items():
        assert values(SURROGATES[name]().derivative, np.zeros(1))[0] == pytest.approx(peak)
    peak = values(SURROGATES["gaussian"]().derivative, np.zeros(1))[0]
    assert peak == pytest.approx(2.0 / math.sqrt(2 * math.pi))


def test_spikes_step_at_zero() -> None:
    u = np.array([-1.0, -1e-300, -0.0, 0.0, 1e-300, 2.0])
    np.testing.assert_array_equal(values(lambda u: fire(u, ATan()), u), [0, 0, 1, 1, 1, 1])
    x = leaf(u)
    y = spike(x, Rectangle(0.2))
    np.testing.assert_array_equal(y.numpy(), [0, 0, 1, 1, 1, 1])
    y.backward(np.arange(6.0))
    np.testing.assert_allclose(gradient(x), 0.2 * np.arange(6.0))
    single = leaf(0.5)
    spike(single, ATan()).backward()
    assert gradient(single).shape == ()


# --- smooth mode


def test_smooth_mode_runs_the_primitive() -> None:
    u = np.linspace(-1.0, 1.0, 5)
    for kind in SURROGATES.values():
        with smooth_spikes():
            np.testing.assert_array_equal(spike(Tensor(u), kind()).numpy(), values(kind().primitive, u))
            x = random_leaf((3, 4))
            fused, composed = (
                lif(x, LIFNeuron(surrogate=kind())),
                lif_composed(x, LIFNeuron(surrogate=kind()))[0],
            )
            np.testing.assert_allclose(fused.numpy(), composed.numpy(), rtol=1e-12)
            assert not set(np.unique(fused.numpy())) <= {0.0, 1.0}
        assert set(np.unique(spike(Tensor(u), kind()).numpy())) == {0.0, 1.0}


def test_smooth_mode_is_per_thread_and_nests() -> None:
    seen: list[bool] = []
    with smooth_spikes():
        thread = threading.Thread(target=lambda: seen.append(spikes_are_smooth()))
        thread.start()
        thread.join(timeout=10)
        assert spikes_are_smooth()
        with smooth_spikes(False):
            assert not spikes_are_smooth()
        assert spikes_are_smooth()
    assert not spikes_are_smooth()
    assert seen == [False]
    with pytest.raises(ZeroDivisionError), smooth_spikes():
        raise ZeroDivisionError
    assert not spikes_are_smooth()


def test_frozen_values_are_played_back_in_order() -> None:
    frozen = FrozenValues()
    first, second = Tensor([1.0]), Tensor([2.0])
    with frozen_values(frozen):
        assert (first.detach().item(), second.detach().item()) == (1.0, 2.0)
        first.assign([5.0])
        for _ in range(2):
            frozen.replay()
            assert (first.detach().item(), second.detach().item()) == (1.0, 2.0)
        frozen.replay()
        assert (freeze(asarray(np.zeros(1))), freeze(asarray(np.zeros(1)))) == (1.0, 2.0)
    assert first.detach().item() == 5.0


def test_frozen_values_are_copies() -> None:
    frozen, array = FrozenValues(), asarray(np.ones(2))
    with frozen_values(frozen):
        assert freeze(array) is array
        array[...] = 7.0
        frozen.replay()
        np.testing.assert_array_equal(to_numpy(freeze(array)), [1.0, 1.0])
    assert freeze(array) is array


def test_frozen_values_nest() -> None:
    outer, inner = FrozenValues(), FrozenValues()
    with frozen_values(outer):
        freeze(asarray([1.0]))
        with frozen_values(inner):
            freeze(asarray([9.0]))
        freeze(asarray([2.0]))
        outer.replay()
        played = [to_numpy(freeze(asarray([0.0]))).item() for _ in range(2)]
    assert played == [1.0, 2.0]
