"""An array that was handed to an op stays the caller's: to change it before the backward pass changes no gradient."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import gradient, leaf
from strict_cupy import installed

from minispike import backend, ops
from minispike.models.bert import Bert, BertConfig
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.attention import softmax_attention, softmax_attention_composed
from minispike.nn.functional import embedding, embedding_composed
from minispike.nn.losses import cross_entropy, cross_entropy_composed, kl_divergence, masked_mse
from minispike.snn.attention import spiking_attention, spiking_attention_composed
from minispike.snn.shift import shift_tokens, shift_tokens_composed
from minispike.tensor import Tensor

RNG = np.random.default_rng(0)
NUMBERS = RNG.normal(size=(4, 6))
SINGLES = NUMBERS.astype(np.float32)
ROWS = np.array([0, 1, 1, 3])
LABELS = np.array([0, 1, 2, 5])
IDS = np.array([[0, 1], [1, 3]])
FLAGS = np.array([[True, False], [True, True]])  # [B, L]
WEIGHTS = FLAGS[..., None].astype(np.float64)  # [B, L, 1]


def tokens(x: Tensor) -> Tensor:
    return x.reshape(2, 2, 6)  # [B, L, D]


def in_time(x: Tensor) -> Tensor:
    return x.reshape(1, 2, 2, 6)  # [T, B, L, D]


def three(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return x, x, x


CASES: dict[str, tuple[Any, Callable[[Tensor, Any], Tensor]]] = {
    "+": (NUMBERS, lambda x, a: (x + a) ** 2),
    "-": (SINGLES, lambda x, a: (a - x) ** 2),
    "*": (NUMBERS, lambda x, a: x * a),
    "/": (SINGLES, lambda x, a: a / x),
    "@": (NUMBERS.T, lambda x, a: x @ a),
    "maximum": (NUMBERS, lambda x, a: ops.maximum(x * 2.0, a) + ops.minimum(a, x)),
    "einsum": (NUMBERS, lambda x, a: ops.einsum("ij,kj->ik", x, a)),
    "concatenate": (NUMBERS, lambda x, a: ops.concatenate([x, a]) ** 2),
    "where": (NUMBERS > 0, lambda x, a: ops.where(a, x * x, 0.5 * x)),
    "where a": (NUMBERS, lambda x, a: ops.where(NUMBERS > 0, x, a) ** 2),
    "getitem": (ROWS, lambda x, a: x[a] ** 2),
    "getitem, a tuple": (LABELS, lambda x, a: x[np.arange(4), a] ** 2),
    "getitem, flags": (NUMBERS > 0, lambda x, a: x[a] ** 2),
    "take": (ROWS, lambda x, a: ops.take(x, a, 1) ** 2),
    "embedding": (IDS, lambda x, a: embedding(a, x) ** 2),
    "embedding, composed": (IDS, lambda x, a: embedding_composed(a, x) ** 2),
    "cross entropy": (LABELS, cross_entropy),
    "cross entropy, composed": (LABELS, cross_entropy_composed),
    "mse": (NUMBERS, masked_mse),
    "masked mse": (FLAGS, lambda x, a: masked_mse(tokens(x), np.ones((2, 2, 6)), a)),
    "masked mse, weights": (WEIGHTS[..., 0], lambda x, a: masked_mse(tokens(x), np.ones((2, 2, 6)), a)),
    "divergence": (NUMBERS, lambda x, a: kl_divergence(a, x, 2.0)),
    "attention": (FLAGS, lambda x, a: softmax_attention(*three(tokens(x)), 2, a) ** 2),
    "attention, composed": (FLAGS, lambda x, a: softmax_attention_composed(*three(tokens(x)), 2, a) ** 2),
    "spiking attention": (WEIGHTS, lambda x, a: spiking_attention(*three(in_time(x)), 2, 0.1, a) ** 2),
    "spiking attention, composed": (
        WEIGHTS,
        lambda x, a: spiking_attention_composed(*three(in_time(x)), 2, 0.1, a) ** 2,
    ),
    "shift": (WEIGHTS, lambda x, a: shift_tokens(in_time(x), 2, a) ** 2),
    "shift, composed": (WEIGHTS, lambda x, a: shift_tokens_composed(in_time(x), 2, a) ** 2),
}


def changed(array: Any) -> None:
    """Other values of the same kind, in place."""
    array[...] = ~array if array.dtype == bool else array[::-1].copy()


@pytest.mark.parametrize("where", ["numpy", "cupy"])
@pytest.mark.parametrize("name", CASES)
def test_a_gradient_goes_by_the_values_of_the_forward_pass(
    name: str, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(monkeypatch)
    given, op = CASES[name]
    with backend.use(where):
        found = []
        for change in (False, True):
            x, a = leaf(NUMBERS + 3.0), backend.asarray(given.copy())
            loss = op(x, a).sum()
            if change:
                changed(a)
                assert not np.array_equal(backend.to_numpy(a), given)
            loss.backward()
            found.append(gradient(x))
    np.testing.assert_array_equal(found[1], found[0])


@pytest.mark.parametrize("argument", ["ids", "mask", "segments", "labels"])
@pytest.mark.parametrize("kind", ["spikebert", "bert"])
def test_a_model_does_too(kind: str, argument: str) -> None:
    def gradients(change: bool) -> dict[str, Any]:
        given = {"ids": IDS + 1, "mask": FLAGS.copy(), "segments": IDS % 2, "labels": np.array([0, 1])}
        rng = np.random.default_rng(0)
        if kind == "bert":
            model: Any = Bert(BertConfig(7, 8, 1, 2, 16, 4, num_labels=2), rng)
            logits = model(given["ids"], given["mask"], given["segments"]).logits
        else:
            model = SpikeBERT(SpikeBERTConfig(7, 8, 1, 2, 2, 2, max_length=4, shift=0.25), rng)
            logits = model(given["ids"], given["mask"]).logits
        loss = cross_entropy(logits, given["labels"])
        if change:
            changed(given[argument])
        loss.backward()
        return {name: gradient(p) for name, p in model.named_parameters() if p.grad is not None}

    expected, found = gradients(False), gradients(True)
    assert found.keys() == expected.keys()
    for name in expected:
        np.testing.assert_array_equal(found[name], expected[name], err_msg=name)
