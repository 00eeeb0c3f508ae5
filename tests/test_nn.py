"""Modules, losses and dropout against what they say they compute."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence, leaf, random_leaf

from minispike import check_grads, default_dtype
from minispike.errors import AutogradError, CheckpointError, ConfigError, ShapeError
from minispike.nn import functional as F
from minispike.nn.layers import Embedding, LayerNorm, Linear, dropout, normed_linear
from minispike.nn.losses import cross_entropy, kl_divergence, masked_mse
from minispike.nn.module import Module, ModuleList, Parameter
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]


class Leaf(Module):
    def __init__(self, rng: np.random.Generator) -> None:
        self.linear = Linear(3, 2, rng)
        self.scale = Parameter(1.0)
        self.note = "not a parameter"
        self.constant = Tensor([1.0])


class Tree(Module):
    def __init__(self, seed: int = 0) -> None:
        rng = np.random.default_rng(seed)
        self.table = Embedding(5, 3, rng)
        self.parts = ModuleList([Leaf(rng), Leaf(rng)])
        self.norm = LayerNorm(2)


# --- modules

NAMES = [
    "table.weight",
    "parts.0.linear.weight", "parts.0.linear.bias", "parts.0.scale",
    "parts.1.linear.weight", "parts.1.linear.bias", "parts.1.scale",
    "norm.weight", "norm.bias",
]  # fmt: skip


def test_parameters_have_dotted_names_in_order_of_assignment() -> None:
    tree = Tree()
    assert [name for name, _ in tree.named_parameters()] == NAMES
    assert [name for name, _ in tree.named_parameters("model.")] == ["model." + name for name in NAMES]
    assert [p.shape for p in tree.parameters()] == [(5, 3), (2, 3), (2,), (), (2, 3), (2,), (), (2,), (2,)]
    assert tree.count_parameters() == 15 + 2 * (6 + 2 + 1) + 4
    assert all(isinstance(p, Parameter) and p.requires_grad for p in tree.parameters())


def test_module_lists() -> None:
    parts = Tree().parts
    assert len(parts) == 2
    assert list(parts) == [parts[0], parts[1]]
    assert parts[-1] is parts[1]
    with pytest.raises(IndexError):
        parts[2]
    with pytest.raises(AttributeError):
        parts.unknown  # noqa: B018


def test_parameters_take_the_default_type() -> None:
    assert {p.dtype for p in Tree().parameters()} == {np.dtype(np.float32)}
    with default_dtype(np.float64):
        assert {p.dtype for p in Tree().parameters()} == {np.dtype(np.float64)}
    assert Parameter(np.ones(2), dtype=np.float64).dtype == np.float64


def test_initial_weights_do_not_depend_on_the_type() -> None:
    single = Tree(3).state_dict()
    with default_dtype(np.float64):
        double = Tree(3).state_dict()
    for name in NAMES:
        np.testing.assert_array_equal(single[name], double[name].astype(np.float32))
    rng = np.random.default_rng(0)
    assert Linear(400, 300, rng).weight.numpy().std() == pytest.approx(0.02, rel=0.02)
    assert Embedding(400, 300, rng, std=0.5).weight.numpy().std() == pytest.approx(0.5, rel=0.02)


def test_state_dicts_are_copies_and_go_round() -> None:
    tree, other = Tree(1), Tree(2)
    state = tree.state_dict()
    assert list(state) == NAMES
    state["norm.bias"] += 1.0
    assert (tree.norm.bias.numpy() == 0.0).all()
    other.load_state_dict(state)
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
        assert array.dtype == np.float32
    state["norm.bias"] += 1.0
    assert (other.norm.bias.numpy() == 1.0).all()


def test_loading_casts_and_keeps_parameters() -> None:
    tree = Tree(1)
    before = tree.parameters()
    weights = {n: a.astype(np.float16, order="F") for n, a in Tree(2).state_dict().items()}
    tree.load_state_dict(weights)
    assert all(a is b for a, b in zip(before, tree.parameters(), strict=True))
    assert {p.dtype for p in before} == {np.dtype(np.float32)}
    np.testing.assert_allclose(tree.table.weight.numpy(), Tree(2).table.weight.numpy(), atol=1e-4)


FAULTS: dict[str, tuple[Callable[[dict[str, Array]], dict[str, Array]], list[str]]] = {
    "missing": (
        lambda s: {n: a for n, a in s.items() if "scale" not in n},
        ["missing", "parts.0.scale", "parts.1.scale"],
    ),
    "unexpected": (lambda s: s | {"a": np.ones(1), "b": np.ones(1)}, ["unexpected", "a, b"]),
    "misshaped": (
        lambda s: s | {"norm.bias": np.ones(3), "parts.0.scale": np.ones(1)},
        ["norm.bias (3,) instead of (2,)", "parts.0.scale (1,) instead of ()"],
    ),
    "all three": (lambda s: {n: np.ones(7) for n in ["norm.bias", "x"]}, ["missing", "unexpected", "shape"]),
    "many": (lambda s: s | {f"n{i}": np.ones(1) for i in range(30)}, ["and 22 more"]),
    "prefixed": (
        lambda s: {"module." + n: a for n, a in s.items()},
        ["missing: table.weight", "unexpected: module.table.weight"],
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_loading_is_all_or_nothing(name: str) -> None:
    change, words = FAULTS[name]
    tree = Tree(1)
    before = tree.state_dict()
    with pytest.raises(CheckpointError) as caught:
        tree.load_state_dict(change(Tree(2).state_dict()))
    assert_sentence(caught.value)
    for word in ["Tree", *words]:
        assert word in str(caught.value)
    for key, array in tree.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_what_may_be_missing() -> None:
    tree = Tree(1)
    state = Tree(2).state_dict()
    part = {n: a for n, a in state.items() if not n.startswith("norm.")}
    before = tree.norm.weight.numpy()
    tree.load_state_dict(part, may_miss=("norm.",))
    np.testing.assert_array_equal(tree.norm.weight.numpy(), before)
    np.testing.assert_array_equal(tree.table.weight.numpy(), state["table.weight"])
    with pytest.raises(CheckpointError):
        tree.load_state_dict({}, may_miss=("norm.",))
    tree.load_state_dict({}, may_miss=("",))


def test_loading_makes_old_graphs_refuse() -> None:
    tree = Tree(1)
    y = (tree.norm.weight * 2.0).sum()
    tree.load_state_dict(Tree(2).state_dict())
    with pytest.raises(AutogradError):
        y.backward()


def test_zero_grad() -> None:
    tree = Tree()
    (tree.norm.weight.sum() + tree.parts[0].scale).backward()
    assert tree.norm.weight.grad is not None
    tree.zero_grad()
    assert all(p.grad is None for p in tree.parameters())


def test_layers_are_their_functions() -> None:
    rng = np.random.default_rng(0)
    with default_dtype(np.float64):
        linear, norm, table = Linear(3, 4, rng, std=1.0), LayerNorm(4, eps=0.1), Embedding(5, 3, rng)
    x = random_leaf((2, 3))
    np.testing.assert_allclose(linear(x).numpy(), x.numpy() @ linear.weight.numpy().T + linear.bias.numpy(), rtol=1e-13)
    h = linear(x).numpy()
    expected = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(norm(linear(x)).numpy(), expected, rtol=1e-12)
    np.testing.assert_array_equal(table(np.array([[4, 0]])).numpy(), table.weight.numpy()[[[4, 0]]])
    check_grads(lambda linear, norm, x: norm(linear(x)), linear, norm, x)


# --- dropout


def test_dropout_statistics() -> None:
    x = leaf(np.full((300, 400), 2.0), np.float32)
    for rate in (0.1, 0.5, 0.9):
        y = dropout(x, rate, np.random.default_rng(0))
        assert y.dtype == np.float32
        kept = y.numpy() != 0.0
        spread = math.sqrt(rate * (1 - rate) / x.size)
        assert abs(kept.mean() - (1 - rate)) < 4 * spread
        np.testing.assert_allclose(y.numpy()[kept], 2.0 / (1 - rate), rtol=1e-6)
        assert y.numpy().mean() == pytest.approx(2.0, rel=0.02)
        x.grad = None
        y.sum().backward()
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.numpy(), np.where(kept, 1.0 / (1 - rate), 0.0), rtol=1e-6)


def test_dropout_rows_and_columns_are_independent() -> None:
    kept = dropout(Tensor(np.ones((200, 200))), 0.5, np.random.default_rng(1)).numpy() > 0
    for axis in (0, 1):
        assert abs(kept.mean(axis=axis) - 0.5).max() < 0.2
        assert abs(np.corrcoef(kept.astype(float), rowvar=bool(axis)) - np.eye(200)).max() < 0.4


def test_no_dropout() -> None:
    x = random_leaf((2, 3))
    assert dropout(x, 0.5, None) is x
    rng = np.random.default_rng(0)
    assert dropout(x, 0.0, rng) is x
    assert rng.random() == np.random.default_rng(0).random()  # no number was drawn
    same = [dropout(x, 0.5, np.random.default_rng(7)).numpy() for _ in range(2)]
    np.testing.assert_array_equal(*same)
    double = dropout(Tensor(x, dtype=np.float32), 0.5, np.random.default_rng(7)).numpy()
    np.testing.assert_array_equal(double == 0.0, same[0] == 0.0)  # the same places in both types


@pytest.mark.parametrize("rate", [1.0, -0.1, 1.5, math.nan])
def test_impossible_rates(rate: float) -> None:
    with pytest.raises(ConfigError) as caught:
        dropout(Tensor([1.0]), rate, np.random.default_rng(0))
    assert_sentence(caught.value)


# --- losses


def log_softmax(a: Array) -> Array:
    return a - np.log(np.exp(a).sum(axis=-1, keepdims=True))


def test_cross_entropy_formula() -> None:
    logits, labels = random_leaf((5, 3)), np.array([0, 2, 1, 1, 0])
    expected = -log_softmax(logits.numpy())[np.arange(5), labels].mean()
    assert cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-13)
    assert cross_entropy(logits, labels.tolist()).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_kl_divergence_formula(temperature: float) -> None:
    teacher, student = np.random.default_rng(1).normal(size=(5, 3)), random_leaf((5, 3), 2)
    p, q = log_softmax(teacher / temperature), log_softmax(student.numpy() / temperature)
    expected = temperature**2 * (np.exp(p) * (p - q)).sum() / 5
    loss = kl_divergence(teacher, student, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    check_grads(lambda x: kl_divergence(teacher, x, temperature), student, order=2)
    assert kl_divergence(student.numpy(), student, temperature).item() == pytest.approx(0.0, abs=1e-14)
    single = kl_divergence(teacher, Tensor(student, dtype=np.float32), temperature)
    assert single.dtype == np.float32


def test_masked_mse_formula() -> None:
    a, b = random_leaf((2, 3, 4), 1), np.random.default_rng(2).normal(size=(2, 3, 4))
    mask = np.array([[True, True, False], [True, False, False]])
    square = (a.numpy() - b) ** 2
    for given, expected in ((None, square.mean()), (mask, square[mask].mean()), (~mask & mask, 0.0)):
        assert masked_mse(a, b, given).item() == pytest.approx(expected, rel=1e-13)
        check_grads(lambda a, given=given: masked_mse(a, b, given), a, order=2)
    assert masked_mse(a, b, np.ones((2, 3), bool)).item() == pytest.approx(square.mean(), rel=1e-13)
    table = random_leaf((6, 2))
    assert masked_mse(table, np.zeros((6, 2))).item() == pytest.approx((table.numpy() ** 2).mean())
    single = Tensor(a, dtype=np.float32)
    assert masked_mse(single, b.astype(np.float32), mask).dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        (ShapeError, lambda x, y: masked_mse(x, y[0])),
        (ShapeError, lambda x, y: masked_mse(x, y[..., :1])),
        (ShapeError, lambda x, y: masked_mse(x, y, np.ones((3, 2), bool))),
        (ShapeError, lambda x, y: masked_mse(x, y, np.ones((2, 3, 4), bool))),
        (ShapeError, lambda x, y: kl_divergence(y, x)),
        (ShapeError, lambda x, y: kl_divergence(y[0, :2], x[0])),
        (ShapeError, lambda x, y: kl_divergence(y[0, 0], x[0, 0])),
        (ConfigError, lambda x, y: kl_divergence(y[0], x[0], 0.0)),
        (ConfigError, lambda x, y: kl_divergence(y[0], x[0], -1.0)),
    ],
)
def test_mistakes_with_losses(kind: type[Exception], job: Callable[..., Any]) -> None:
    with pytest.raises(kind) as caught:
        job(Tensor(np.ones((2, 3, 4))), np.ones((2, 3, 4)))
    assert_sentence(caught.value)


def test_a_layer_begins_without_a_shift() -> None:
    rng = np.random.default_rng(0)
    for layer in (Linear(3, 4, rng), LayerNorm(4)):
        np.testing.assert_array_equal(layer.bias.numpy(), np.zeros(4))
    np.testing.assert_array_equal(LayerNorm(4).weight.numpy(), np.ones(4))


def test_eps_is_added_to_the_variance() -> None:
    """By default it is 1e-5: numbers whose variance is 1e-5 become 1 / sqrt(2)."""
    rng = np.random.default_rng(0)
    for eps in (1e-5, 0.1):
        x = Tensor([[eps**0.5, -(eps**0.5)]], dtype=np.float64)
        with default_dtype(np.float64):
            linear = Linear(2, 2, rng)
            norm = LayerNorm(2) if eps == 1e-5 else LayerNorm(2, eps)
        linear.weight.assign(np.eye(2))
        given = {} if eps == 1e-5 else {"eps": eps}
        composed = [F.layer_norm(x, norm.weight, norm.bias, **given)]
        composed += [F.normed_linear(x, linear.weight, linear.bias, norm.weight, norm.bias, **given)]
        for found in (norm(x), normed_linear(x, linear, norm), *composed):
            np.testing.assert_allclose(found.numpy(), [[0.5**0.5, -(0.5**0.5)]], rtol=1e-12)
