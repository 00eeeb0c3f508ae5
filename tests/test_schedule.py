"""The learning rate over a phase."""

import math
from dataclasses import FrozenInstanceError
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minispike.errors import ConfigError
from minispike.train.schedule import Schedule

SHARES = st.floats(0, 1)


def test_linear_by_hand() -> None:
    schedule = Schedule(warmup=0.2, shape="linear", floor=0.1)
    shares = [schedule.multiplier(step, 11) for step in range(11)]
    assert shares == pytest.approx([0.5, 1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1])


def test_cosine_by_hand() -> None:
    schedule = Schedule(warmup=0.0, shape="cosine", floor=0.2)
    shares = [schedule.multiplier(step, 5) for step in range(5)]
    quarter = 0.2 + 0.8 * (1 + math.cos(math.pi / 4)) / 2
    assert shares == pytest.approx([1.0, quarter, 0.6, 1.2 - quarter, 0.2])


def test_constant_stays_at_the_peak() -> None:
    schedule = Schedule(warmup=0.5, shape="constant", floor=0.3)
    assert [schedule.multiplier(step, 4) for step in range(4)] == [0.5, 1.0, 1.0, 1.0]


@given(SHARES, st.sampled_from(["cosine", "linear"]), SHARES, st.integers(1, 300))
def test_rises_to_the_peak_then_falls_to_the_floor(warmup: float, shape: Any, floor: float, steps: int) -> None:
    schedule = Schedule(warmup, shape, floor)
    shares = [schedule.multiplier(step, steps) for step in range(steps)]
    top = shares.index(1.0)
    assert top + 1 == max(1, round(warmup * steps))
    assert shares[: top + 1] == sorted(shares[: top + 1])
    assert shares[0] > 0
    falls = list(zip(shares[top:], shares[top + 1 :], strict=False))
    assert all(after <= before + 1e-12 for before, after in falls)
    if top < steps - 1:
        assert shares[-1] == pytest.approx(floor)


def test_learning_rate_is_a_share_of_the_peak() -> None:
    schedule = Schedule()
    assert schedule.learning_rate(50, 100, 3e-4) == 3e-4 * schedule.multiplier(50, 100)
    assert schedule.learning_rate(99, 100, 3e-4) == 0.0
    assert schedule.learning_rate(0, 1, 3e-4) == 3e-4


@pytest.mark.parametrize(
    ("values", "start"),
    [
        ({"warmup": 1.5}, "warmup: expected a share from 0 to 1, got 1.5; try"),
        ({"warmup": math.nan}, "warmup: expected"),
        ({"floor": -0.1}, "floor: expected"),
        ({"shape": "cosin"}, "shape: expected"),
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, Any], start: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{start}"):
        Schedule(**values)


@pytest.mark.parametrize(("step", "steps"), [(-1, 10), (10, 10), (0, 0)])
def test_there_is_no_such_step(step: int, steps: int) -> None:
    with pytest.raises(ValueError, match=r"^step: expected"):
        Schedule().multiplier(step, steps)


@pytest.mark.parametrize("peak", [-1.0, math.nan, math.inf])
def test_an_impossible_peak_is_refused(peak: float) -> None:
    with pytest.raises(ValueError, match=r"^peak: expected"):
        Schedule().learning_rate(0, 1, peak)


def test_is_frozen() -> None:
    with pytest.raises(FrozenInstanceError):
        Schedule().floor = 0.5  # type: ignore[misc]
