"""Every fused op but the neurons equals its composition in value and gradient, and passes `check_grads`."""

import importlib
import pkgutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fused_pairs import Pair, assert_right, assert_same, ops_behind, outputs
from helpers import assert_sentence, leaf, random_leaf

import minispike
from minispike import default_dtype, grad, smooth_spikes
from minispike.backend import asarray, scatter_add, to_numpy
from minispike.errors import ShapeError
from minispike.nn import functional as F
from minispike.nn.attention import SoftmaxAttention, softmax_attention, softmax_attention_composed
from minispike.nn.losses import CrossEntropy, cross_entropy, cross_entropy_composed
from minispike.ops.op import FusedOp
from minispike.snn.attention import SpikingAttention, spiking_attention, spiking_attention_composed
from minispike.snn.neurons import LIF, LIFNeuron, lif, lif_composed, lif_with_state
from minispike.snn.shift import ShiftTokens, shift_tokens, shift_tokens_composed
from minispike.snn.spiking_linear import SpikingLinear, spiking_linear, spiking_linear_composed
from minispike.snn.surrogate import Spike
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]


# --- every one of them has a composition


def leaves(*shapes: tuple[int, ...]) -> list[Tensor]:
    return [random_leaf(shape, seed) for seed, shape in enumerate(shapes)]


def three(*shape: int) -> list[Tensor]:
    return leaves(shape, shape, shape)


IDS = np.array([1, 1, 3])

PAIRS: dict[type[FusedOp], Callable[[], Pair]] = {
    F.Linear: lambda: Pair(F.linear, F.linear_composed, leaves((2, 5), (4, 5), (4,))),
    F.LayerNorm: lambda: Pair(F.layer_norm, F.layer_norm_composed, leaves((2, 5), (5,), (5,))),
    F.NormedLinear: lambda: Pair(F.normed_linear, F.normed_linear_composed, leaves((2, 5), (4, 5), (4,), (4,), (4,))),
    F.Embedding: lambda: Pair(lambda w: F.embedding(IDS, w), lambda w: F.embedding_composed(IDS, w), leaves((6, 3))),
    CrossEntropy: lambda: Pair(
        lambda x: cross_entropy(x, IDS), lambda x: cross_entropy_composed(x, IDS), leaves((3, 4))
    ),
    SoftmaxAttention: lambda: Pair(
        lambda *a: softmax_attention(*a, 2), lambda *a: softmax_attention_composed(*a, 2), three(2, 3, 4)
    ),
    SpikingAttention: lambda: Pair(
        lambda *a: spiking_attention(*a, 2), lambda *a: spiking_attention_composed(*a, 2), three(2, 2, 3, 4)
    ),
    ShiftTokens: lambda: Pair(
        lambda x: shift_tokens(x, 1), lambda x: shift_tokens_composed(x, 1), leaves((3, 2, 5, 8))
    ),
    SpikingLinear: lambda: Pair(
        lambda *a: spiking_linear(*a, LIFNeuron()),
        lambda *a: spiking_linear_composed(*a, LIFNeuron()),
        leaves((4, 2, 5), (6, 5), (6,), (6,), (6,)),
    ),
    LIF: lambda: Pair(lambda x: lif(x, LIFNeuron()), lambda x: lif_composed(x, LIFNeuron())[0], leaves((5, 2, 3))),
}


def test_every_fused_op_has_a_row() -> None:
    for module in pkgutil.walk_packages(minispike.__path__, "minispike."):
        if module.name != "minispike.__main__":  # which runs
            importlib.import_module(module.name)
    kinds: list[type] = [FusedOp]
    for kind in kinds:  # which grows
        kinds += kind.__subclasses__()
    ours = {kind for kind in kinds[1:] if kind.__module__.startswith("minispike.")}
    assert ours == {*PAIRS, Spike}  # a spike is what no other ops can say; tests/test_surrogates.py has it


@pytest.mark.parametrize("kind", PAIRS, ids=lambda kind: kind.__name__)
def test_twice_through_the_same_graph(kind: type[FusedOp]) -> None:
    pair = PAIRS[kind]()
    out, rng = pair.fused(*pair.inputs), np.random.default_rng(1)
    total = sum(((t * rng.normal(size=t.shape)).sum() for t in outputs(out)), start=Tensor(0.0))
    before = [t.numpy() for t in outputs(out)]
    first = grad(total, pair.inputs)
    kept = [g.numpy() for g in first if g is not None]
    second = grad(total, pair.inputs)
    assert len(kept) == len(pair.inputs)
    for a, b, again in zip(kept, first, second, strict=True):
        assert b is not None and again is not None
        np.testing.assert_array_equal(a, b.numpy())
        np.testing.assert_array_equal(a, again.numpy())
    for a, t in zip(before, outputs(out), strict=True):
        np.testing.assert_array_equal(a, t.numpy())


OF_SEVERAL = [F.Linear, F.LayerNorm, F.NormedLinear, SoftmaxAttention, SpikingAttention, SpikingLinear]


def test_which_ops_have_several_inputs() -> None:
    assert [kind for kind in PAIRS if len(PAIRS[kind]().inputs) > 1] == OF_SEVERAL


@pytest.mark.parametrize("double", [0, 1])
@pytest.mark.parametrize("kind", OF_SEVERAL, ids=lambda kind: kind.__name__)
def test_float32_beside_float64_is_float64(kind: type[FusedOp], double: int) -> None:
    pair = PAIRS[kind]()
    mixed = [x if i == double else Tensor(x.numpy().astype(np.float32)) for i, x in enumerate(pair.inputs)]
    with smooth_spikes():
        for ours, theirs in zip(outputs(pair.fused(*mixed)), outputs(pair.composed(*mixed)), strict=True):
            assert ours.dtype == theirs.dtype
            np.testing.assert_allclose(ours.numpy(), theirs.numpy(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", PAIRS, ids=lambda kind: kind.__name__)
def test_a_composition_is_made_of_elementary_ops(kind: type[FusedOp]) -> None:
    pair = PAIRS[kind]()
    assert_same(pair)
    assert kind in ops_behind(pair.fused(*pair.inputs))
    assert not any(issubclass(op, FusedOp) for op in ops_behind(pair.composed(*pair.inputs)) - {Spike})


SHAPES = [(5,), (1, 5), (2, 3, 5), (2, 1, 3, 5), (0, 5), (2, 0, 5)]


# --- linear, layer norm, embedding, cross entropy


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("bias", [True, False])
def test_linear(shape: tuple[int, ...], bias: bool) -> None:
    inputs = [random_leaf(shape, 1), random_leaf((4, 5), 2)] + [random_leaf((4,), 3)] * bias
    assert_right(Pair(F.linear, F.linear_composed, inputs))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_layer_norm(shape: tuple[int, ...], eps: float) -> None:
    inputs = [random_leaf(shape, 1), random_leaf((5,), 2), random_leaf((5,), 3)]
    assert_right(Pair(lambda *a: F.layer_norm(*a, eps=eps), lambda *a: F.layer_norm_composed(*a, eps=eps), inputs))


def test_layer_norm_leaves_its_input() -> None:
    x, weight, bias = random_leaf((3, 4), 1), leaf(np.ones(4)), leaf(np.zeros(4))
    before = x.numpy()
    y = F.layer_norm(x, weight, bias)
    np.testing.assert_allclose(y.numpy().mean(axis=-1), np.zeros(3), atol=1e-12)
    y.backward(seed := Tensor(np.ones((3, 4))))
    np.testing.assert_array_equal(x.numpy(), before)
    np.testing.assert_array_equal(seed.numpy(), np.ones((3, 4)))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("eps", [1e-5, 0.1])
def test_normed_linear(shape: tuple[int, ...], eps: float) -> None:
    inputs = [random_leaf(shape, 1), random_leaf((4, 5), 2), *(random_leaf((4,), seed) for seed in (3, 4, 5))]
    fused = Pair(lambda *a: F.normed_linear(*a, eps=eps), lambda *a: F.normed_linear_composed(*a, eps=eps), inputs)
    assert_right(fused)


def test_normed_linear_of_a_layer_with_large_weights_of_one_sign() -> None:
    """The mean that is taken out of the weights may be many times what is left of them."""
    x, rest = random_leaf((7, 5), 1), [random_leaf((4,), seed) for seed in (3, 4, 5)]
    weight = leaf(random_leaf((4, 5), 2).numpy() + 1e3)
    found, expected = F.normed_linear(x, weight, *rest), F.normed_linear_composed(x, weight, *rest)
    np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize(
    "ids", [[1, 1, 3, 0, 1], [[0, 5], [5, 2]], 4, [], np.zeros((2, 0), int), np.array([3, 3], np.uint8)]
)
def test_embedding(ids: Any) -> None:
    ids = np.asarray(ids, int) if not isinstance(ids, np.ndarray) else ids
    assert_right(Pair(lambda w: F.embedding(ids, w), lambda w: F.embedding_composed(ids, w), [random_leaf((6, 3))]))


def test_scatter_add_against_numpy() -> None:
    rng = np.random.default_rng(0)
    for count in (0, 1, 7, 200):
        index, values = rng.integers(0, 9, count), rng.normal(size=(count, 4))
        ours, theirs = asarray(np.ones((9, 4))), np.ones((9, 4))
        scatter_add(ours, asarray(index), asarray(values))
        np.add.at(theirs, index, values)
        np.testing.assert_allclose(to_numpy(ours), theirs, rtol=1e-13)


@pytest.mark.parametrize(("rows", "classes"), [(1, 2), (4, 3), (0, 3), (3, 1)])
def test_cross_entropy(rows: int, classes: int) -> None:
    labels = np.random.default_rng(0).integers(0, classes, rows)
    assert_right(
        Pair(
            lambda x: cross_entropy(x, labels),
            lambda x: cross_entropy_composed(x, labels),
            [random_leaf((rows, classes), 1)],
        )
    )


def test_cross_entropy_of_large_logits() -> None:
    logits = leaf([[1e4, 0.0], [0.0, 1e4]], np.float32)
    loss = cross_entropy(logits, [0, 0])
    assert loss.item() == 5e3
    loss.backward()
    assert logits.grad is not None
    np.testing.assert_array_equal(logits.grad.numpy(), [[0.0, 0.0], [-0.5, 0.5]])


# --- attention


def masks(batch: int, length: int) -> list[Array | None]:
    """No mask, one without padding, and one with sentences of length L, L - 1, ..."""
    lengths = np.maximum(length - np.arange(batch), 1)
    return [None, np.ones((batch, length), bool), np.arange(length) < lengths[:, None]]


@pytest.mark.parametrize(
    ("batch", "length", "width", "heads"), [(2, 3, 4, 2), (1, 1, 3, 1), (3, 5, 6, 3), (0, 2, 4, 2)]
)
@pytest.mark.parametrize("which", [0, 1, 2])
def test_softmax_attention(batch: int, length: int, width: int, heads: int, which: int) -> None:
    mask = masks(batch, length)[which]
    assert_right(
        Pair(
            lambda *a: softmax_attention(*a, heads, mask),
            lambda *a: softmax_attention_composed(*a, heads, mask),
            [random_leaf((batch, length, width), seed) for seed in range(3)],
        )
    )


def test_softmax_attention_by_hand() -> None:
    q, k, v = (np.random.default_rng(s).normal(size=(1, 3, 4)) for s in range(3))
    mask = np.array([[True, True, False]])
    out = softmax_attention(Tensor(q), Tensor(k), Tensor(v), 2, mask).numpy()
    for head in range(2):
        part = slice(2 * head, 2 * head + 2)
        powers = np.exp(q[0, :, part] @ k[0, :2, part].T / np.sqrt(2))
        np.testing.assert_allclose(
            out[0, :, part], powers / powers.sum(axis=1, keepdims=True) @ v[0, :2, part], rtol=1e-13
        )


def test_softmax_attention_ignores_what_is_masked() -> None:
    q, k, v = (random_leaf((2, 4, 6), seed) for seed in range(3))
    mask = masks(2, 4)[2]
    assert mask is not None
    out = softmax_attention(q, k, v, 2, mask)
    gradients = grad(out, [k, v], np.ones(out.shape))
    for g in gradients:
        assert g is not None
        assert (g.numpy()[~mask] == 0.0).all()
    changed = [Tensor(np.where(mask[..., None], t.numpy(), 1e3)) for t in (k, v)]
    np.testing.assert_array_equal(softmax_attention(q, *changed, 2, mask).numpy(), out.numpy())


@pytest.mark.parametrize(
    ("steps", "batch", "length", "width", "heads"),
    [(2, 2, 3, 8, 2), (2, 2, 5, 4, 2), (1, 1, 1, 3, 1), (3, 2, 2, 4, 4), (2, 0, 2, 4, 2)],
)  # both orders of multiplication: more tokens than numbers in a head, and fewer
@pytest.mark.parametrize("which", [0, 1, 2])
def test_spiking_attention(steps: int, batch: int, length: int, width: int, heads: int, which: int) -> None:
    mask = masks(batch, length)[which]
    ones = None if mask is None else mask[..., None].astype(float)
    assert_right(
        Pair(
            lambda *a: spiking_attention(*a, heads, 0.3, ones),
            lambda *a: spiking_attention_composed(*a, heads, 0.3, ones),
            [random_leaf((steps, batch, length, width), seed) for seed in range(3)],
        )
    )


def test_spiking_attention_does_not_touch_its_inputs() -> None:
    mask = np.array([[[1.0], [0.0]]])
    inputs = [random_leaf((1, 1, 2, 4), seed) for seed in range(3)]
    before = [t.numpy() for t in inputs]
    spiking_attention(*inputs, 1, mask=mask).backward(np.ones((1, 1, 2, 4)))
    for t, old in zip(inputs, before, strict=True):
        np.testing.assert_array_equal(t.numpy(), old)


# --- all of them in float32, and their mistakes


def test_single_precision_stays_single() -> None:
    with default_dtype(np.float32):
        x = random_leaf((2, 3, 4), 1, np.float32)
        weight, bias = random_leaf((4, 4), 2, np.float32), random_leaf((4,), 3, np.float32)
        hidden = F.layer_norm(F.linear(x, weight, bias), bias, bias)
        attended = softmax_attention(hidden, hidden, hidden, 2, np.array([[True] * 3, [True, False, False]]))
        mixed = spiking_attention(*(a.reshape(1, 2, 3, 4) for a in (attended, x, hidden)), 2)
        loss = cross_entropy(lif(mixed, LIFNeuron(), time_steps=2).mean((0, 2)), np.array([0, 3]))
        assert loss.dtype == np.float32
        loss.backward()
    for t in (x, weight, bias):
        assert t.grad is not None
        assert t.grad.dtype == np.float32


def ones(*shape: int) -> Tensor:
    return Tensor(np.ones(shape))


@pytest.mark.parametrize(
    "job",
    [
        lambda: F.linear(ones(2, 3), ones(4, 5)),
        lambda: F.linear(ones(), ones(4, 5)),
        lambda: F.linear(ones(2, 5), ones(5)),
        lambda: F.linear(ones(2, 5), ones(4, 5), ones(5)),
        lambda: F.linear(ones(2, 5), ones(4, 5), ones(1)),
        lambda: F.layer_norm(ones(2, 3), ones(4), ones(4)),
        lambda: F.layer_norm(ones(2, 3), ones(3), ones(1)),
        lambda: F.layer_norm(ones(), ones(1), ones(1)),
        lambda: F.normed_linear(ones(2, 3), ones(4, 5), *[ones(4)] * 3),
        lambda: F.normed_linear(ones(2, 5), ones(4, 5), ones(5), ones(4), ones(4)),
        lambda: F.normed_linear(ones(2, 5), ones(4, 5), *[ones(4)] * 2, ones(5)),
        lambda: F.embedding(np.array([0, 6]), ones(6, 3)),
        lambda: F.embedding(np.array([-1]), ones(6, 3)),
        lambda: F.embedding(np.array([1.0]), ones(6, 3)),
        lambda: F.embedding(np.array([True]), ones(6, 3)),
        lambda: F.embedding([[0], [1, 2]], ones(6, 3)),
        lambda: F.embedding(None, ones(6, 3)),
        lambda: F.embedding(np.array([0]), ones(6)),
        lambda: cross_entropy(ones(2, 3), np.array([0, 3])),
        lambda: cross_entropy(ones(2, 3), np.array([0, -1])),
        lambda: cross_entropy(ones(2, 3), np.array([0])),
        lambda: cross_entropy(ones(2, 3), np.array([0.0, 1.0])),
        lambda: cross_entropy(ones(2, 3, 4), np.zeros((2, 3), int)),
        lambda: softmax_attention(*[ones(1, 2, 6)] * 3, 4),
        lambda: softmax_attention(*[ones(1, 2, 6)] * 3, 0),
        lambda: softmax_attention(*[ones(2, 6)] * 3, 2),
        lambda: softmax_attention(ones(1, 2, 6), ones(1, 3, 6), ones(1, 3, 6), 2),
        lambda: softmax_attention(*[ones(1, 2, 6)] * 3, 2, np.ones((1, 3), bool)),
        lambda: softmax_attention(*[ones(2, 2, 6)] * 3, 2, np.ones((1, 2), bool)),
        lambda: spiking_attention(*[ones(1, 1, 2, 6)] * 3, 4),
        lambda: spiking_attention(*[ones(1, 2, 6)] * 3, 2),
        lambda: spiking_attention(ones(1, 1, 2, 6), ones(1, 1, 2, 6), ones(1, 1, 2, 3), 3),
        lambda: spiking_attention(*[ones(1, 1, 2, 6)] * 3, 2, mask=np.ones((1, 2))),
        lambda: lif(ones(), LIFNeuron()),
        lambda: lif(ones(0, 3), LIFNeuron()),
        lambda: lif(ones(3, 3), LIFNeuron(), time_steps=4),
        lambda: lif(ones(1, 3), LIFNeuron(), time_steps=0),
        lambda: lif(ones(1, 3), LIFNeuron(), time_steps=-2),
        lambda: lif_with_state(ones(2, 3), LIFNeuron(), ones(2, 3)),
        lambda: lif_with_state(ones(2, 3), LIFNeuron(), ones(4)),
        lambda: lif_composed(ones(2, 3), LIFNeuron(), ones(4)),
    ],
)
def test_mistakes(job: Callable[[], Any]) -> None:
    with pytest.raises(ShapeError) as caught:
        job()
    assert_sentence(caught.value)


@pytest.mark.parametrize("channels", [0, 1, 4])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("length", [1, 2, 5])
def test_shift_tokens(channels: int, masked: bool, length: int) -> None:
    mask = (np.arange(length) < np.array([length, 1])[:, None])[..., None].astype(float) if masked else None
    inputs = [random_leaf((3, 2, length, 8))]
    assert_right(
        Pair(
            lambda x: shift_tokens(x, channels, mask),
            lambda x: shift_tokens_composed(x, channels, mask),
            inputs,
        )
    )


def test_shift_tokens_by_hand() -> None:
    x = Tensor(np.arange(12.0).reshape(1, 3, 4))
    expected = [[[0, 5, 2, 3], [0, 9, 6, 7], [4, 0, 10, 11]]]
    np.testing.assert_array_equal(shift_tokens(x, 1).numpy(), expected)


@pytest.mark.parametrize("channels", [-1, 3])
@pytest.mark.parametrize("shift", [shift_tokens, shift_tokens_composed])
def test_shift_tokens_of_more_than_half_the_width(shift: Callable[..., Tensor], channels: int) -> None:
    told = f"channels: expected 0 to 2, half of the width, got {channels}; try channels=2"
    with pytest.raises(ShapeError, match=f"^{told}$"):
        shift(Tensor(np.ones((1, 3, 5))), channels)


def test_softmax_attention_of_large_scores() -> None:
    q, k, v = (Tensor(a, dtype=np.float32) for a in ([[[300.0], [-300.0]]], [[[1.0], [-1.0]]], [[[1.0], [2.0]]]))
    np.testing.assert_array_equal(softmax_attention(q, k, v, 1).numpy(), [[[1.0], [2.0]]])


@pytest.mark.parametrize("length", [3, 20])  # (q k^T) v and q (k^T v)
def test_spiking_attention_counts_before_it_scales(length: int) -> None:
    rng = np.random.default_rng(length)
    q, k, v = ((rng.random((1, 1, length, 6)) < 0.5).astype(np.float32) for _ in range(3))
    counts = q[0, 0] @ k[0, 0].T @ v[0, 0]
    found = spiking_attention(Tensor(q), Tensor(k), Tensor(v), 1, 0.3).numpy()[0, 0]
    np.testing.assert_array_equal(found, counts * np.float32(0.3))


def test_spiking_attention_counts_in_eighths() -> None:
    spikes = Tensor(np.ones((1, 1, 3, 2)))
    for attention in (spiking_attention, spiking_attention_composed):
        np.testing.assert_array_equal(attention(*[spikes] * 3, 1).numpy(), np.full((1, 1, 3, 2), 3 * 2 / 8))
