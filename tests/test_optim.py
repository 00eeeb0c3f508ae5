"""AdamW and the clipping of gradients against what they say they compute."""

import math
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence

from minispike import default_dtype
from minispike.backend import array_module, to_numpy
from minispike.errors import AutogradError, CheckpointError, ConfigError
from minispike.models.bert import Bert, BertConfig, MaskedLanguageModel
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.module import Parameter
from minispike.nn.optim import CHUNK, AdamW, clip_gradients, clip_scale, decays, gradient_norm
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]


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
        np.testing.assert_allclose(p.numpy(), expected, rtol=0, atol=1e-12)
        np.testing.assert_allclose(to_numpy(optimiser.first[name]), m, rtol=0, atol=1e-12)
        np.testing.assert_allclose(to_numpy(optimiser.second[name]), v, rtol=0, atol=1e-12)


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
    np.testing.assert_allclose(p.numpy(), expected, rtol=0, atol=1e-12)


def test_adamw_of_broadcast_gradients() -> None:
    """The gradient of a sum is one number seen everywhere."""
    p = Parameter(np.ones((3, 2)), dtype=np.float64)
    optimiser = AdamW([("w", p)], weight_decay=0.0)
    p.sum().backward()
    optimiser.step(0.1)
    np.testing.assert_allclose(p.numpy(), np.full((3, 2), 0.9), rtol=1e-7)


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
    assert (a.numpy() != 1.0).all()
    assert (b.numpy() == 1.0).all()
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
        np.testing.assert_allclose(p.numpy(), 0.9 if name in chosen else 1.0, rtol=1e-6)


@pytest.mark.parametrize("dense", [False, True])
def test_of_a_model_the_tables_alone_are_spared(dense: bool) -> None:
    """A projection of the embeddings is a matrix like any other, whatever it is called."""
    rng = np.random.default_rng(0)
    if dense:
        model: Any = MaskedLanguageModel(Bert(BertConfig(7, 8, 1, 2, 16, 4, num_labels=2), rng), rng)
        prefix = "bert.embeddings."
        tables = {f"{prefix}{kind}_embeddings.weight" for kind in ("word", "position", "token_type")}
    else:
        model = SpikeBERT(SpikeBERTConfig(7, 8, 1, 2, 2, 2, max_length=4, embedding_dim=8), rng)
        tables = {"embedding.weight", "position.weight"}
    parameters = dict(model.named_parameters())
    assert tables <= parameters.keys()
    matrices = {n for n, p in parameters.items() if p.ndim == 2}
    assert {n for n, p in parameters.items() if decays(n, p)} == matrices - tables
    assert dense or "embedding_transform.weight" in matrices - tables


def test_moments_are_made_when_a_gradient_comes() -> None:
    """Until then they are zeros in the state, and make no difference."""
    a, b = Parameter(np.ones((2, 2))), Parameter(np.ones(3))
    optimiser = AdamW([("a", a), ("b", b)])
    a.sum().backward()
    optimiser.step(0.1)
    assert optimiser.first.keys() == optimiser.second.keys() == {"a"}
    state = optimiser.state_dict()
    assert sorted(state) == ["first.a", "first.b", "second.a", "second.b", "steps"]
    assert not state["first.b"].any() and state["second.b"].shape == (3,) and state["first.b"].dtype == np.float32
    again = AdamW([("a", Parameter(a.numpy())), ("b", Parameter(b.numpy()))])
    again.load_state_dict(state)
    assert again.first.keys() == {"a"}
    for one in (optimiser, again):
        one.parameters["a"].grad, one.parameters["b"].grad = Tensor(np.full((2, 2), 0.5)), Tensor([1.0, 2.0, 3.0])
        one.step(0.1)
    for name, array in optimiser.state_dict().items():
        np.testing.assert_array_equal(again.state_dict()[name], array)
    np.testing.assert_array_equal(again.parameters["b"].numpy(), b.numpy())
    fresh = AdamW([("a", Parameter(a.numpy())), ("b", Parameter(b.numpy()))]).state_dict()
    again.load_state_dict(fresh)  # what it knew is forgotten
    assert not again.first and again.steps == 0


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
    second = {n: Parameter(p.numpy(), dtype=np.float64) for n, p in first.items()}
    kept = {n: a.copy() for n, a in state.items()}
    after = AdamW(second.items())
    after.load_state_dict(state)
    run(after, {n: g[3:] for n, g in gradients.items()}, 0.01)
    for name, p in straight.items():
        np.testing.assert_array_equal(second[name].numpy(), p.numpy())
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


def test_any_number_of_threads_gives_the_same_bits() -> None:
    shapes = {"table": (3, CHUNK), "odd": (CHUNK + 7,), "small": (5,), "none": (0, 2)}
    rng = np.random.default_rng(0)
    start, gradients = ({n: rng.normal(size=s) for n, s in shapes.items()} for _ in range(2))
    found = []
    for threads in (1, 2, 3, 16):
        parameters = {n: Parameter(a) for n, a in start.items()}
        optimiser = AdamW(parameters.items(), threads=threads)
        run(optimiser, {n: [g, -g, g * g] for n, g in gradients.items()}, 0.01)
        found.append({n: p.numpy() for n, p in parameters.items()} | optimiser.state_dict())
    for other in found[1:]:
        for name, array in found[0].items():
            np.testing.assert_array_equal(other[name], array, err_msg=name)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_step_that_fails_leaves_no_parameter_open(threads: int) -> None:
    """And none that a graph takes for unchanged."""
    parameters = {n: Parameter(np.ones(CHUNK + 1)) for n in ("a", "b")}
    optimiser = AdamW(parameters.items(), threads=threads)
    for p in parameters.values():
        p.grad = Tensor(np.full(CHUNK + 1, 1e30, np.float32))
    with np.errstate(all="raise"), pytest.raises(FloatingPointError):
        optimiser.step(0.1)
    for p in parameters.values():
        assert p.version == 1
        assert array_module(p.array) is not np or not p.array.flags.writeable


def test_one_parameter_under_two_names() -> None:
    p = Parameter(np.ones(2))
    with pytest.raises(ConfigError) as caught:
        AdamW([("a", p), ("b", p)])
    assert_sentence(caught.value)


def test_a_scale_of_the_gradients_is_that_of_clipping() -> None:
    """Without a change of the gradients themselves."""
    rng = np.random.default_rng(0)
    start, gradient = rng.normal(size=(4, 5)), rng.normal(size=(4, 5)) * 10
    clipped, scaled = Parameter(start), Parameter(start)
    clipped.grad, scaled.grad = Tensor(gradient), Tensor(gradient)
    norm = gradient_norm([scaled])
    assert clip_gradients([clipped], 1.0) == norm > 1
    AdamW([("p", clipped)]).step(0.1)
    AdamW([("p", scaled)]).step(0.1, clip_scale(norm, 1.0))
    np.testing.assert_array_equal(clipped.numpy(), scaled.numpy())
    np.testing.assert_array_equal(scaled.grad.numpy(), Tensor(gradient).numpy())


# --- clipping


def test_clipping_scales_all_gradients_together() -> None:
    a, b, c = Parameter(np.ones(2)), Parameter(np.ones((2, 2))), Parameter(np.ones(3))
    a.grad, b.grad = Tensor([3.0, 0.0], dtype=np.float32), Tensor(np.full((2, 2), 2.0), dtype=np.float32)
    assert clip_gradients([a, b, c], 10.0) == pytest.approx(5.0)
    np.testing.assert_array_equal(a.grad.numpy(), [3.0, 0.0])
    assert clip_gradients([a, b, c], 0.0) == pytest.approx(5.0)
    np.testing.assert_array_equal(a.grad.numpy(), [3.0, 0.0])
    assert clip_gradients([a, b, c], 1.0) == pytest.approx(5.0)
    np.testing.assert_allclose(a.grad.numpy(), [0.6, 0.0], rtol=1e-6)
    np.testing.assert_allclose(b.grad.numpy(), np.full((2, 2), 0.4), rtol=1e-6)
    assert clip_gradients([a, b, c], 1.0) == pytest.approx(1.0)
    assert clip_gradients([], 1.0) == 0.0
    assert a.grad is not None and b.grad is not None
    before = a.grad
    clip_gradients([a, b], 0.5)
    assert a.grad is not before and np.linalg.norm(before.numpy()) > np.linalg.norm(
        a.grad.numpy()
    )  # a graph may hold it
    assert clip_gradients([c], 1.0) == 0.0


def test_clipping_of_gradients_as_backward_leaves_them() -> None:
    """Equal gradients of several leaves, the stretched gradient of a sum, and one number."""
    a, b, c, d = (Parameter(np.ones(s)) for s in ((2, 2), (2, 2), (2, 2), ()))
    ((a + b).sum() + c.sum() + d * 2.0).backward()
    assert clip_gradients([a, b, c, d], 2.0) == pytest.approx(4.0)
    for p in (a, b, c):
        assert p.grad is not None
        np.testing.assert_allclose(p.grad.numpy(), np.full((2, 2), 0.5), rtol=1e-6)
    assert d.grad is not None
    assert d.grad.item() == 1.0


def test_clipping_leaves_what_is_not_finite() -> None:
    for bad in (math.inf, math.nan):
        a = Parameter(np.ones(2))
        a.grad = Tensor([bad, 1.0])
        assert not math.isfinite(clip_gradients([a], 1.0))
        assert a.grad.numpy()[1] == 1.0


def test_moments_in_another_order_in_memory_are_taken_over() -> None:
    """What a step writes must reach them: through a copy in the order of a step it would not."""

    def optimiser_after(order: Any, steps: int) -> AdamW:
        p = Parameter(np.ones((2, 3)))
        first, second = (np.arange(1.0, 7.0).reshape(2, 3) * scale for scale in (0.1, 1.0))
        optimiser = AdamW([("w", p)])
        optimiser.load_state_dict(
            {"first.w": order(first), "second.w": order(second), "steps": np.array(3)},
        )
        for _ in range(steps):
            p.grad = Tensor(np.ones((2, 3)))
            optimiser.step(0.1)
        return optimiser

    expected, found = optimiser_after(np.ascontiguousarray, 2), optimiser_after(np.asfortranarray, 2)
    for name, array in expected.state_dict().items():
        np.testing.assert_array_equal(found.state_dict()[name], array)
    np.testing.assert_array_equal(found.parameters["w"].numpy(), expected.parameters["w"].numpy())


def test_adamw_by_default() -> None:
    rng = np.random.default_rng(0)
    start, gradients = rng.normal(size=(2, 3)), [rng.normal(size=(2, 3)) * 1e-6 for _ in range(3)]
    p = Parameter(start, dtype=np.float64)
    run(AdamW([("w", p)]), {"w": gradients}, 0.01)
    expected = plain_adamw(start, gradients, 0.01, (0.9, 0.999), 1e-8, 0.01)[0]
    np.testing.assert_allclose(p.numpy(), expected, rtol=0, atol=1e-14)


def test_a_parameter_is_locked_again_after_a_step(array_backend: str) -> None:
    if array_backend != "numpy":
        pytest.skip("CuPy's arrays cannot be locked")
    p = Parameter(np.ones((2, 2)))
    p.grad = Tensor(np.ones((2, 2)))
    AdamW([("w", p)]).step(0.1)
    with pytest.raises(ValueError, match="read-only"):
        p.array[...] = 0.0


def test_a_state_is_a_copy_that_later_steps_leave() -> None:
    p = Parameter(np.ones((2, 2)))
    optimiser = AdamW([("w", p)])
    p.grad = Tensor(np.ones((2, 2)))
    optimiser.step(0.1)
    state = optimiser.state_dict()
    before = {name: array.copy() for name, array in state.items()}
    optimiser.step(0.1)
    for name, array in before.items():
        np.testing.assert_array_equal(state[name], array)


def test_a_first_moment_of_zero_comes_with_a_second_one() -> None:
    """Gradients that cancel."""
    state = {"first.w": np.zeros(3), "second.w": np.ones(3), "steps": np.array(5)}
    optimiser = AdamW([("w", Parameter(np.ones(3)))])
    optimiser.load_state_dict(state)
    np.testing.assert_array_equal(optimiser.state_dict()["second.w"], np.ones(3))
