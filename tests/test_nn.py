"""Modules, losses, dropout and the optimiser against what they say they compute."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence, leaf, random_leaf

from minispike import check_grads, default_dtype
from minispike.errors import AutogradError, CheckpointError, ConfigError, ShapeError
from minispike.nn import functional as F
from minispike.nn.layers import Embedding, LayerNorm, Linear, dropout
from minispike.nn.module import Module, ModuleList, Parameter
from minispike.nn.optim import CHUNK, AdamW, clip_gradients, decays
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
    assert (tree.norm.bias.data == 0.0).all()
    other.load_state_dict(state)
    for name, array in other.state_dict().items():
        np.testing.assert_array_equal(array, state[name])
        assert array.dtype == np.float32
    state["norm.bias"] += 1.0
    assert (other.norm.bias.data == 1.0).all()


def test_loading_casts_and_keeps_parameters() -> None:
    tree = Tree(1)
    before = tree.parameters()
    weights = {n: a.astype(np.float16, order="F") for n, a in Tree(2).state_dict().items()}
    tree.load_state_dict(weights)
    assert all(a is b for a, b in zip(before, tree.parameters(), strict=True))
    assert {p.dtype for p in before} == {np.dtype(np.float32)}
    np.testing.assert_allclose(tree.table.weight.data, Tree(2).table.weight.data, atol=1e-4)


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
    np.testing.assert_array_equal(tree.norm.weight.data, before)
    np.testing.assert_array_equal(tree.table.weight.data, state["table.weight"])
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
    np.testing.assert_allclose(linear(x).data, x.data @ linear.weight.data.T + linear.bias.data, rtol=1e-13)
    h = linear(x).data
    expected = (h - h.mean(-1, keepdims=True)) / np.sqrt(h.var(-1, keepdims=True) + 0.1)
    np.testing.assert_allclose(norm(linear(x)).data, expected, rtol=1e-12)
    np.testing.assert_array_equal(table(np.array([[4, 0]])).data, table.weight.data[[[4, 0]]])
    check_grads(lambda linear, norm, x: norm(linear(x)), linear, norm, x)


# --- dropout


def test_dropout_statistics() -> None:
    x = leaf(np.full((300, 400), 2.0), np.float32)
    for rate in (0.1, 0.5, 0.9):
        y = dropout(x, rate, np.random.default_rng(0))
        assert y.dtype == np.float32
        kept = y.data != 0.0
        spread = math.sqrt(rate * (1 - rate) / x.size)
        assert abs(kept.mean() - (1 - rate)) < 4 * spread
        np.testing.assert_allclose(y.data[kept], 2.0 / (1 - rate), rtol=1e-6)
        assert y.data.mean() == pytest.approx(2.0, rel=0.02)
        x.grad = None
        y.sum().backward()
        assert x.grad is not None
        np.testing.assert_allclose(x.grad.data, np.where(kept, 1.0 / (1 - rate), 0.0), rtol=1e-6)


def test_dropout_rows_and_columns_are_independent() -> None:
    kept = dropout(Tensor(np.ones((200, 200))), 0.5, np.random.default_rng(1)).data > 0
    for axis in (0, 1):
        assert abs(kept.mean(axis=axis) - 0.5).max() < 0.2
        assert abs(np.corrcoef(kept.astype(float), rowvar=bool(axis)) - np.eye(200)).max() < 0.4


def test_no_dropout() -> None:
    x = random_leaf((2, 3))
    assert dropout(x, 0.5, None) is x
    rng = np.random.default_rng(0)
    assert dropout(x, 0.0, rng) is x
    assert rng.random() == np.random.default_rng(0).random()  # no number was drawn
    same = [dropout(x, 0.5, np.random.default_rng(7)).data for _ in range(2)]
    np.testing.assert_array_equal(*same)
    double = dropout(Tensor(x, dtype=np.float32), 0.5, np.random.default_rng(7)).data
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
    expected = -log_softmax(logits.array)[np.arange(5), labels].mean()
    assert F.cross_entropy(logits, labels).item() == pytest.approx(expected, rel=1e-13)
    assert F.cross_entropy(logits, labels.tolist()).item() == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("temperature", [1.0, 0.5, 4.0])
def test_kl_divergence_formula(temperature: float) -> None:
    teacher, student = np.random.default_rng(1).normal(size=(5, 3)), random_leaf((5, 3), 2)
    p, q = log_softmax(teacher / temperature), log_softmax(student.array / temperature)
    expected = temperature**2 * (np.exp(p) * (p - q)).sum() / 5
    loss = F.kl_divergence(teacher, student, temperature)
    assert loss.item() == pytest.approx(expected, rel=1e-12)
    check_grads(lambda x: F.kl_divergence(teacher, x, temperature), student, order=2)
    assert F.kl_divergence(student.array, student, temperature).item() == pytest.approx(0.0, abs=1e-14)
    single = F.kl_divergence(teacher, Tensor(student, dtype=np.float32), temperature)
    assert single.dtype == np.float32


def test_masked_mse_formula() -> None:
    a, b = random_leaf((2, 3, 4), 1), np.random.default_rng(2).normal(size=(2, 3, 4))
    mask = np.array([[True, True, False], [True, False, False]])
    square = (a.array - b) ** 2
    for given, expected in ((None, square.mean()), (mask, square[mask].mean()), (~mask & mask, 0.0)):
        assert F.masked_mse(a, b, given).item() == pytest.approx(expected, rel=1e-13)
        check_grads(lambda a, given=given: F.masked_mse(a, b, given), a, order=2)
    assert F.masked_mse(a, b, np.ones((2, 3), bool)).item() == pytest.approx(square.mean(), rel=1e-13)
    table = random_leaf((6, 2))
    assert F.masked_mse(table, np.zeros((6, 2))).item() == pytest.approx((table.array**2).mean())
    single = Tensor(a, dtype=np.float32)
    assert F.masked_mse(single, b.astype(np.float32), mask).dtype == np.float32


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        (ShapeError, lambda x, y: F.masked_mse(x, y[0])),
        (ShapeError, lambda x, y: F.masked_mse(x, y[..., :1])),
        (ShapeError, lambda x, y: F.masked_mse(x, y, np.ones((3, 2), bool))),
        (ShapeError, lambda x, y: F.masked_mse(x, y, np.ones((2, 3, 4), bool))),
        (ShapeError, lambda x, y: F.kl_divergence(y, x)),
        (ShapeError, lambda x, y: F.kl_divergence(y[0, :2], x[0])),
        (ShapeError, lambda x, y: F.kl_divergence(y[0, 0], x[0, 0])),
        (ConfigError, lambda x, y: F.kl_divergence(y[0], x[0], 0.0)),
        (ConfigError, lambda x, y: F.kl_divergence(y[0], x[0], -1.0)),
    ],
)
def test_mistakes_with_losses(kind: type[Exception], job: Callable[..., Any]) -> None:
    with pytest.raises(kind) as caught:
        job(Tensor(np.ones((2, 3, 4))), np.ones((2, 3, 4)))
    assert_sentence(caught.value)


# --- AdamW


def plain_adamw(
    p: Array, gradients: list[Array], rate: float, betas: tuple[float, float], eps: float, decay: float
) -> tuple[Array, Array, Array]:
    """Algorithm 2 of Loshchilov and Hutter, word by word."""
    m, v = np.zeros_like(p), np.zeros_like(p)
    for t, g in enumerate(gradients, start=1):
        m = betas[0] * m + (1 - betas[0]) * g
        v = betas[1] * v + (1 - betas[1]) * g**2
        m_hat, v_hat = m / (1 - betas[0] ** t), v / (1 - betas[1] ** t)
        p = p - rate * decay * p - rate * m_hat / (np.sqrt(v_hat) + eps)
    return p, m, v


def run(optimiser: AdamW, gradients: dict[str, list[Array]], rate: float) -> None:
    for t in range(len(next(iter(gradients.values())))):
        for name, p in optimiser.parameters.items():
            p.grad = Tensor(gradients[name][t])
        optimiser.step(rate)


SETTINGS = [((0.9, 0.999), 1e-8, 0.01), ((0.8, 0.95), 1e-3, 0.0), ((0.0, 0.5), 1e-6, 0.3)]


@pytest.mark.parametrize(("betas", "eps", "decay"), SETTINGS)
def test_adamw_against_a_plain_one(betas: tuple[float, float], eps: float, decay: float) -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 5), "b": (3,), "scale": (), "long": (CHUNK + 5,), "two": (2, CHUNK), "none": (0, 2)}
    start = {n: rng.normal(size=s) for n, s in shapes.items()}
    gradients = {n: [rng.normal(size=s) for _ in range(4)] for n, s in shapes.items()}
    parameters = {n: Parameter(a, dtype=np.float64) for n, a in start.items()}
    optimiser = AdamW(parameters.items(), betas=betas, eps=eps, weight_decay=decay, decay_all=True)
    run(optimiser, gradients, 3e-3)
    for name, p in parameters.items():
        expected, m, v = plain_adamw(start[name], gradients[name], 3e-3, betas, eps, decay)
        np.testing.assert_allclose(p.data, expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(optimiser.first[name], m, rtol=0, atol=1e-12)
        np.testing.assert_allclose(optimiser.second[name], v, rtol=0, atol=1e-12)


@pytest.mark.parametrize("layout", ["fortran", "transposed", "strided", "reversed"])
def test_adamw_of_arrays_in_any_layout(layout: str) -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(size=(6, 4))
    view = {
        "fortran": np.asfortranarray(base),
        "transposed": base.T,
        "strided": base[::2],
        "reversed": base[::-1],
    }[layout]
    gradients = [rng.normal(size=view.shape) for _ in range(3)]
    p = Parameter(view, dtype=np.float64)
    optimiser = AdamW([("w", p)], weight_decay=0.1)
    for i, g in enumerate(gradients):
        p.grad = Tensor(g if i % 2 else np.asfortranarray(g))
        optimiser.step(0.01)
    expected = plain_adamw(view, gradients, 0.01, (0.9, 0.999), 1e-8, 0.1)[0]
    np.testing.assert_allclose(p.data, expected, rtol=0, atol=1e-12)


def test_adamw_of_broadcast_gradients() -> None:
    """The gradient of a sum is one number seen everywhere."""
    p = Parameter(np.ones((3, 2)), dtype=np.float64)
    optimiser = AdamW([("w", p)], weight_decay=0.0)
    p.sum().backward()
    optimiser.step(0.1)
    np.testing.assert_allclose(p.data, np.full((3, 2), 0.9), rtol=1e-7)


def test_adamw_in_single_precision() -> None:
    p = Parameter(np.ones((3, 2)))
    optimiser = AdamW([("w", p)])
    (p * p).sum().backward()
    optimiser.step(0.1)
    assert p.dtype == optimiser.first["w"].dtype == optimiser.second["w"].dtype == np.float32


def test_parameters_without_a_gradient_stay() -> None:
    a, b = Parameter(np.ones((2, 2))), Parameter(np.ones((2, 2)))
    optimiser = AdamW([("a", a), ("b", b)], weight_decay=0.5)
    a.sum().backward()
    optimiser.step(0.1)
    assert (a.data != 1.0).all()
    assert (b.data == 1.0).all()
    optimiser.zero_grad()
    assert a.grad is None


def test_a_step_makes_old_graphs_refuse() -> None:
    p = Parameter(np.ones((2, 2)))
    optimiser = AdamW([("p", p)])
    y = (p * p).sum()
    y.backward(retain_graph=True)
    optimiser.step(0.1)
    with pytest.raises(AutogradError):
        y.backward()


def test_weight_decay_falls_on_matrices_alone() -> None:
    shapes = {
        "blocks.0.q.linear.weight": (2, 2), "blocks.0.q.linear.bias": (2,), "norm.weight": (2,),
        "embedding.weight": (3, 2), "position.weight": (3, 2), "embeddings.word_embeddings.weight": (3, 2),
        "scale": (), "classifier.weight": (2, 2),
    }  # fmt: skip
    parameters = {n: Parameter(np.ones(s)) for n, s in shapes.items()}
    chosen = {n for n, p in parameters.items() if decays(n, p)}
    assert chosen == {"blocks.0.q.linear.weight", "classifier.weight"}
    assert AdamW(parameters.items(), weight_decay=0.2).decay == {n: 0.2 * (n in chosen) for n in shapes}
    everywhere = AdamW(parameters.items(), weight_decay=0.2, decay_all=True)
    assert set(everywhere.decay.values()) == {0.2}
    for p in parameters.values():
        p.grad = Tensor(np.zeros(p.shape))
    AdamW(parameters.items(), weight_decay=0.2).step(0.5)
    for name, p in parameters.items():
        np.testing.assert_allclose(p.data, 0.9 if name in chosen else 1.0, rtol=1e-6)


def test_the_state_of_the_optimiser_goes_round() -> None:
    rng = np.random.default_rng(0)
    shapes = {"w": (4, 3), "b": (3,)}
    gradients = {n: [rng.normal(size=s) for _ in range(6)] for n, s in shapes.items()}
    with default_dtype(np.float64):
        straight = {n: Parameter(np.ones(s)) for n, s in shapes.items()}
        first = {n: Parameter(np.ones(s)) for n, s in shapes.items()}
    run(AdamW(straight.items()), gradients, 0.01)

    before = AdamW(first.items())
    run(before, {n: g[:3] for n, g in gradients.items()}, 0.01)
    state = before.state_dict()
    assert sorted(state) == ["first.b", "first.w", "second.b", "second.w", "steps"]
    assert state["steps"] == 3
    second = {n: Parameter(p.data, dtype=np.float64) for n, p in first.items()}
    kept = {n: a.copy() for n, a in state.items()}
    after = AdamW(second.items())
    after.load_state_dict(state)
    run(after, {n: g[3:] for n, g in gradients.items()}, 0.01)
    for name, p in straight.items():
        np.testing.assert_array_equal(second[name].data, p.data)
    for name, array in state.items():  # neither optimiser works on the arrays of the state
        np.testing.assert_array_equal(array, kept[name])


@pytest.mark.parametrize(
    "change",
    [
        lambda s: {n: a for n, a in s.items() if n != "first.w"},
        lambda s: {n: a for n, a in s.items() if n != "steps"},
        lambda s: s | {"first.x": np.ones(1)},
        lambda s: s | {"second.w": np.ones(3)},
        lambda s: {},
    ],
)
def test_the_state_of_another_optimiser_is_refused(change: Any) -> None:
    optimiser = AdamW([("w", Parameter(np.ones((2, 2))))])
    state = optimiser.state_dict()
    with pytest.raises(CheckpointError) as caught:
        optimiser.load_state_dict(change(state))
    assert_sentence(caught.value)
    assert optimiser.steps == 0


# --- clipping


def test_clipping_scales_all_gradients_together() -> None:
    a, b, c = Parameter(np.ones(2)), Parameter(np.ones((2, 2))), Parameter(np.ones(3))
    a.grad, b.grad = Tensor([3.0, 0.0], dtype=np.float32), Tensor(np.full((2, 2), 2.0), dtype=np.float32)
    assert clip_gradients([a, b, c], 10.0) == pytest.approx(5.0)
    np.testing.assert_array_equal(a.grad.data, [3.0, 0.0])
    assert clip_gradients([a, b, c], 0.0) == pytest.approx(5.0)
    np.testing.assert_array_equal(a.grad.data, [3.0, 0.0])
    assert clip_gradients([a, b, c], 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(a.grad.data, [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(b.grad.data, np.full((2, 2), 0.4), rtol=1e-6)
    assert clip_gradients([a, b, c], 1.0) == pytest.approx(1.0)
    assert clip_gradients([], 1.0) == 0.0
    assert clip_gradients([c], 1.0) == 0.0


def test_clipping_of_gradients_as_backward_leaves_them() -> None:
    """Equal gradients of several leaves, the stretched gradient of a sum, and one number."""
    a, b, c, d = (Parameter(np.ones(s)) for s in ((2, 2), (2, 2), (2, 2), ()))
    ((a + b).sum() + c.sum() + d * 2.0).backward()
    assert clip_gradients([a, b, c, d], 2.0) == pytest.approx(4.0)
    for p in (a, b, c):
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.data, np.full((2, 2), 0.5), rtol=1e-6)
    assert d.grad is not None
    assert d.grad.item() == 1.0


def test_clipping_leaves_what_is_not_finite() -> None:
    for bad in (math.inf, math.nan):
        a = Parameter(np.ones(2))
        a.grad = Tensor([bad, 1.0])
        assert not math.isfinite(clip_gradients([a], 1.0))
        assert a.grad.data[1] == 1.0
