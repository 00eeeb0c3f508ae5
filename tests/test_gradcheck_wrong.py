"""The gradient checker catches every kind of wrong gradient."""

import re
from typing import Any

import numpy as np
import pytest
from custom_op import custom
from fused_pairs import outputs
from helpers import assert_sentence, random_leaf
from wrong_fused import FUSED
from wrong_gradients import Mistake
from wrong_networks import NETWORKS
from wrong_neurons import NEURONS
from wrong_ops import OPS, SECOND

from minispike import check_grads, default_dtype, smooth_spikes, verdict
from minispike.errors import GradientError
from minispike.snn import kernels_cuda

TABLES = (OPS, FUSED, NEURONS, NETWORKS)
WRONG: dict[str, Mistake] = {name: mistake for table in TABLES for name, mistake in table.items()}
SEEDS = range(10)


@pytest.fixture(autouse=True)
def by_array_operations(monkeypatch: pytest.MonkeyPatch) -> None:
    """The mistakes are in the loops over array operations, so the kernels of a GPU must not step in for these."""
    monkeypatch.setattr(kernels_cuda, "fuses", lambda *_: False)


def test_there_are_many_kinds_of_wrong() -> None:
    assert len(WRONG) == sum(len(table) for table in TABLES) >= 60


def values(mistake: Mistake, seed: int) -> list[Any]:
    """What the function gives, as it is now, with smooth spikes."""
    with default_dtype(np.float64), smooth_spikes():
        return [t.numpy() for t in outputs(mistake.function(*mistake.arguments(seed)))]


FUNCTIONS = {(mistake.function, tuple(mistake.inputs)): name for name, mistake in WRONG.items()}
"""A function in which several mistakes are made is here once, under the name of one of them."""


@pytest.mark.parametrize("name", FUNCTIONS.values())
def test_without_the_mistake_nothing_is_flagged(name: str) -> None:
    mistake = WRONG[name]
    for seed in SEEDS:
        check_grads(mistake.function, *mistake.arguments(seed), seed=seed, spikes="smooth")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_gradient_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    mistake = WRONG[name]
    for seed in SEEDS:
        right = values(mistake, seed)
        with mistake.made():
            for ours, theirs in zip(values(mistake, seed), right, strict=True):
                np.testing.assert_array_equal(ours, theirs)
            with pytest.raises(GradientError, match="finite difference") as caught:
                check_grads(mistake.function, *mistake.arguments(seed), seed=seed, spikes="smooth")
        assert_sentence(caught.value)
        assert isinstance(caught.value, AssertionError)
        # What is made of a wrong gradient takes most of the time; the first seed has shown it.
        monkeypatch.setattr(verdict, "likeliest_cause", lambda *_: "")


@pytest.mark.parametrize("name", SECOND)
def test_a_wrong_second_derivative_is_caught_by_order_2_alone(name: str) -> None:
    mistake = SECOND[name]
    for seed in SEEDS:
        x = mistake.arguments(seed)
        check_grads(mistake.function, *x, seed=seed, order=2)
        with mistake.made():
            check_grads(mistake.function, *x, seed=seed)
            with pytest.raises(GradientError):
                check_grads(mistake.function, *x, seed=seed, order=2)


def test_the_message_tells_the_input_and_the_ratio() -> None:
    f = custom(lambda a, b: a * b, lambda g, out, a, b: (g * b, g * a * 2.0))
    with pytest.raises(GradientError) as caught:
        check_grads(lambda d: f(d["left"], d["right"]), {"left": random_leaf((3,)), "right": random_leaf((3,), 1)})
    message = str(caught.value)
    assert "args[0]['right'] of shape (3,)" in message
    assert "ratio 2" in message
    assert re.search(r"finite differences along \[(-?0\.\d{3}(, )?){3}\]", message)
    assert "relative error 0.5" in message
