"""The gradient checker flags no right gradient, knows where there is none, and puts everything back."""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import pytest
from custom_op import custom
from helpers import assert_sentence, leaf, random_leaf

from minispike import check_grads, grad, ops
from minispike.backend import array_module
from minispike.errors import AutogradError, GradientError
from minispike.nn import functional as F
from minispike.nn.attention import softmax_attention_composed
from minispike.nn.layers import LayerNorm, Linear, dropout
from minispike.nn.losses import cross_entropy
from minispike.nn.module import Module, ModuleList
from minispike.ops.op import FusedOp
from minispike.smooth import spikes_are_smooth
from minispike.snn.neurons import LIFNeuron, lif, lif_composed
from minispike.tensor import Tensor, get_default_dtype, grad_enabled

# --- gradients that are right


def network(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
    hidden = ops.gelu(x @ w)
    shares = ops.softmax(hidden @ u, axis=-1)
    return ops.log(shares + 0.5).mean(0) + (hidden * hidden).sum() * 0.1


def spiking(x: Tensor, w: Tensor, u: Tensor) -> Tensor:
    return lif(F.layer_norm(F.linear(x, w), u[0], u[1]), LIFNeuron(threshold=0.3, detach_reset=False), time_steps=3)


RIGHT: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]], int]] = {
    "network": (network, [(3, 4), (4, 5), (5, 2)], 2),
    "spiking": (spiking, [(1, 2, 4), (5, 4), (2, 5)], 1),
    "composed": (lambda x: lif_composed(x, LIFNeuron(reset=None)), [(4, 3)], 1),
    "large": (lambda x: ops.exp(x * 3.0) * 1e4, [(6,)], 2),
    "small": (lambda x: ops.tanh(x) * 1e-6, [(6,)], 2),
    "constant": (lambda x: x * 0.0 + 1.0, [(3,)], 2),
    "cancelling": (lambda x: (x * 1e3 - x * 999.0).sum(), [(40,)], 2),
    "attention": (lambda q, k, v: softmax_attention_composed(q, k, v, 2), [(1, 3, 4)] * 3, 2),
    "several": (lambda x, y: {"a": x * y, "b": [ops.sigmoid(x), (y,)]}, [(2,), (2,)], 2),
}


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_is_never_flagged(name: str) -> None:
    f, shapes, order = RIGHT[name]
    for seed in range(200 if name in ("large", "cancelling") else 40):
        inputs = [random_leaf(shape, 1000 * seed + i) for i, shape in enumerate(shapes)]
        report = check_grads(f, *inputs, order=order, seed=seed, spikes="smooth")
        assert report.worst_error < 1e-6
        assert report.checks == len(shapes) * order


@pytest.mark.thorough
@pytest.mark.parametrize("name", RIGHT)
def test_a_right_gradient_is_never_flagged_thorough(name: str) -> None:
    f, shapes, order = RIGHT[name]
    for seed in range(1000):
        inputs = [random_leaf(shape, 1000 * seed + i) for i, shape in enumerate(shapes)]
        check_grads(f, *inputs, order=order, seed=seed, spikes="smooth")


# --- points where there is no gradient

KINKS: dict[str, tuple[Callable[[Tensor], Tensor], float]] = {
    "relu": (ops.relu, 0.0),
    "absolute": (ops.absolute, 0.0),
    "absolute beside its kink": (lambda x: ops.absolute(x - 1.0), 1.000003),
    "maximum of equals": (lambda x: ops.maximum(x, 0.5), 0.5),
    "sign": (custom(lambda a: array_module(a).sign(a), lambda g, out, a: (g * 0.0,)), 0.0),
    "maximum beside the other": (lambda x: ops.maximum(x, 0.5), 0.500001),
    "clip": (lambda x: ops.clip(x, -1.0, 1.0), 1.0),
    "step": (lambda x: x * 0.0 + lif(x.reshape(1, -1), LIFNeuron(tau=1.0)).reshape(-1), 1.0),
}


@pytest.mark.parametrize("name", KINKS)
@pytest.mark.parametrize("others", [0, 100_000])
def test_a_kink_is_told_from_a_wrong_gradient(name: str, others: int) -> None:
    f, point = KINKS[name]
    x = leaf(np.array([point] + [2.5] * others))
    with pytest.raises(GradientError, match="differentiable point") as caught:
        check_grads(lambda x: f(x) + x * 10.0, x)
    assert_sentence(caught.value)


def test_a_wrong_gradient_of_a_bent_function_is_not_called_a_kink() -> None:
    steep = custom(lambda a: np.sin(50.0 * a), lambda g, out, a: (g * Tensor(51.0 * np.cos(50.0 * a.array)),))
    with pytest.raises(GradientError, match="finite difference"):
        check_grads(steep, random_leaf((5,)))


def test_a_bend_that_is_narrower_than_the_step_is_no_kink() -> None:
    """A layer norm over two numbers that nearly agree; 1,000 times steeper than it is elsewhere, and smooth."""
    x, ones, zeros = leaf([[0.5, 0.5004]]), leaf([1.0, 1.0]), leaf([0.0, 0.0])
    for seed in range(20):
        check_grads(lambda x, w, b: F.layer_norm(x, w, b, eps=1e-7), x, ones, zeros, seed=seed)
    wrong = custom(lambda a: array_module(a).tanh(3e3 * a), lambda g, out, a: (g * (1.0 - out * out) * 2e3,))
    with pytest.raises(GradientError, match="finite difference"):
        check_grads(wrong, leaf([1e-4, -2e-4, 3e-4]))


def test_hard_spikes_cannot_be_checked_and_the_error_says_so() -> None:
    x = random_leaf((4, 3))
    for f in (lif, lambda x, n: lif_composed(x, n)[0]):
        with pytest.raises(GradientError, match="spikes='smooth'"):
            check_grads(lambda x, f=f: f(x, LIFNeuron(threshold=0.4)), x)
    assert not spikes_are_smooth()


def test_an_output_that_is_not_a_number_is_caught() -> None:
    with pytest.raises(GradientError), np.errstate(invalid="ignore"):
        check_grads(ops.sqrt, leaf([-1.0]))


# --- what goes in, and what is put back


class Pair(Module):
    def __init__(self) -> None:
        rng = np.random.default_rng(0)
        self.first = Linear(3, 4, rng, std=1.0)
        self.rest = ModuleList([LayerNorm(4), Linear(4, 2, rng, std=1.0)])

    def forward(self, x: Tensor) -> Tensor:
        hidden = ops.tanh(self.first(x))
        for layer in self.rest:
            hidden = layer(hidden)
        return hidden


def test_modules_and_nested_inputs() -> None:
    model, x = Pair(), np.random.default_rng(1).normal(size=(2, 3))
    given = {"models": [model], "x": (x, None, "text", 3, np.arange(3)), "w": [random_leaf((2,), 4)]}
    seen: list[Any] = []

    def f(d: dict[str, Any], scale: float) -> Any:
        seen.append(d["x"][1:])
        assert isinstance(d["x"][0], Tensor)
        return {"out": [d["models"][0](d["x"][0]) * scale], "w": d["w"][0] * d["w"][0]}

    report = check_grads(f, given, 2.0)
    assert report.checks == len(model.parameters()) + 2
    for rest in seen:
        assert rest[:3] == (None, "text", 3)
        assert rest[3] is given["x"][4]
    for p in model.parameters():
        assert p.dtype == np.float32


def test_a_tensor_that_is_given_twice_is_one_input() -> None:
    x = random_leaf((3,))
    assert check_grads(lambda a, b: a * b, x, x).checks == 1


def test_tensors_without_gradient_are_constants() -> None:
    x, c = random_leaf((3,)), Tensor(np.ones(3))
    assert check_grads(lambda a, b: a * b, x, c).checks == 1


def test_a_tensor_that_an_op_made_can_be_checked() -> None:
    x = random_leaf((3,))
    assert check_grads(lambda a: a * a * a, x * 2.0, order=2).checks == 2


def snapshot(tensors: Sequence[Tensor]) -> list[Any]:
    return [(id(t.array), t.dtype, t.requires_grad, t.grad, t.version, t.numpy().tobytes()) for t in tensors]


@pytest.mark.parametrize("wrong", [False, True])
@pytest.mark.parametrize("order", [1, 2])
def test_everything_is_put_back(wrong: bool, order: int) -> None:
    x = random_leaf((3,), 1, np.float32)
    x.grad = Tensor([1.0, 2.0, 3.0])
    w, c = random_leaf((3,), 2, np.float64), Tensor([1.0, 2.0, 3.0])
    before = snapshot([x, w, c])
    f = custom(np.multiply, lambda g, out, a, b: (g * b, g * a * (3.0 if wrong else 1.0)))

    def job(x: Tensor, w: Tensor, c: Tensor) -> Tensor:
        assert x.dtype == np.float64
        assert get_default_dtype() is np.float64
        assert spikes_are_smooth()
        return f(x, w) + c

    if wrong:
        with pytest.raises(GradientError):
            check_grads(job, x, w, c, order=order, spikes="smooth")
    else:
        check_grads(job, x, w, c, order=order, spikes="smooth")
    assert snapshot([x, w, c]) == before
    assert get_default_dtype() is np.float32
    assert not spikes_are_smooth()


def test_an_error_of_the_function_puts_everything_back() -> None:
    x = random_leaf((3,), 1, np.float32)
    before = snapshot([x])
    calls: list[int] = []

    def f(x: Tensor) -> Tensor:
        calls.append(1)
        if len(calls) == 4:
            raise ZeroDivisionError
        return x * x

    with pytest.raises(ZeroDivisionError):
        check_grads(f, x)
    assert snapshot([x]) == before


def test_nothing_to_check() -> None:
    for job in (
        lambda: check_grads(lambda: Tensor(1.0)),
        lambda: check_grads(lambda x: x, Tensor([1.0])),
        lambda: check_grads(lambda x: x.detach(), leaf([1.0])),
        lambda: check_grads(lambda x: 3.0, leaf([1.0])),
    ):
        with pytest.raises(GradientError) as caught:
            job()
        assert_sentence(caught.value)


def test_empty_inputs_pass() -> None:
    check_grads(lambda x: x * 2.0, leaf(np.zeros((0, 3))), order=2)


def test_detached_values_are_held_at_the_base_point() -> None:
    """The gradient through a detached factor is that of a constant, and smooth mode checks it as such."""
    x = random_leaf((3,))
    check_grads(lambda x: x * ops.exp(x).detach(), x, spikes="smooth")
    (g,) = grad((x * ops.exp(x).detach()).sum(), [x])
    assert g is not None
    np.testing.assert_array_equal(g.numpy(), np.exp(x.numpy()))


def test_a_fused_op_of_ones_own() -> None:
    class Square(FusedOp):
        def forward(self, a: Any) -> Any:
            self.a = a
            return a * a

        def backward_arrays(self, grad: Any) -> Any:
            return (2.0 * self.a * grad,)

    assert check_grads(lambda x: Square()(x), random_leaf((2, 3))).worst_error < 1e-9


# --- what a user gives


@pytest.mark.parametrize(
    ("settings", "told"),
    [
        ({"order": 3}, "order: expected 1 or 2, got 3"), ({"order": "2"}, "order: expected"),
        ({"rtol": 0.0}, "rtol: expected a number between 0 and 1"), ({"rtol": None}, "rtol: expected"),
        ({"atol": -1.0}, "atol: expected a number from 0 to 1"), ({"atol": np.nan}, "atol: expected"),
        ({"eps": 0.0}, "eps: expected a number > 0"), ({"eps": "a"}, "eps: expected"), ({"eps": np.nan}, "eps"),
        ({"seed": None}, "seed: expected a whole number >= 0"), ({"seed": -1}, "seed: expected"),
        ({"seed": 1.5}, "seed: expected"), ({"spikes": "soft"}, "spikes: expected 'hard' or 'smooth', got 'soft'"),
        ({"spikes": True}, "spikes: expected"),
    ],
)  # fmt: skip
def test_bad_settings(settings: dict[str, Any], told: str) -> None:
    with pytest.raises(GradientError, match=told) as caught:
        check_grads(ops.exp, random_leaf((2,)), **settings)
    assert_sentence(caught.value)


def test_what_is_no_function_and_what_is_no_input() -> None:
    for job, told in (
        (lambda: check_grads(3, random_leaf((2,))), "f: expected a function"),  # type: ignore[arg-type]
        (lambda: check_grads(ops.exp, [1.0, 2.0]), "check_grads: expected a tensor to differentiate by, got list"),
        (lambda: check_grads(ops.exp), "got no arguments"),
        (lambda: check_grads(lambda x: x.detach() * 2.0, random_leaf((2,))), "expected outputs with a graph, got none"),
        (lambda: check_grads(lambda x: {"a": object()}, random_leaf((2,))), r"the output\['a'\]: expected tensors"),
    ):
        with pytest.raises(GradientError, match=told) as caught:
            job()
        assert_sentence(caught.value)


@dataclass
class Parts:
    """Tensors with names."""

    x: Any
    rest: Any = None


def test_dataclasses_go_in_and_come_out() -> None:
    x, y = random_leaf((3,), 1), random_leaf((3,), 2)
    given, seen = Parts(x, {"y": y, "n": 3}), list[Any]()

    def f(parts: Parts) -> Parts:
        seen.append(parts)
        return Parts(parts.x * 2.0, [parts.rest["y"] * parts.x, None, "text", 3.0])

    assert check_grads(f, given).checks == 2
    assert all(parts is given for parts in seen)  # nothing in it had to change
    assert check_grads(lambda parts: parts.x * 2.0, Parts(np.ones(3))).checks == 1
    wrong = custom(lambda a: a * 2.0, lambda g, out, a: (g * 3.0,))
    with pytest.raises(GradientError, match="finite differences"):
        check_grads(lambda parts: (parts.x * 2.0, Parts(wrong(parts.x))), given)


def test_a_function_must_give_the_same_each_time() -> None:
    rng, count = np.random.default_rng(0), [0]

    def counting(x: Tensor) -> Tensor:
        count[0] += 1
        return ops.exp(x * float(count[0]))

    def growing(x: Tensor) -> Tensor:
        count[0] += 1
        return ops.concatenate([x] * count[0])

    def detaching(x: Tensor) -> Tensor:
        count[0] += 1
        return x * x.detach() if count[0] % 2 else x * x.detach() * x.detach()

    for f, told in (
        (lambda x: dropout(x, 0.5, rng), "f: expected the same outputs for the same inputs"),
        (counting, "f: expected the same outputs"), (growing, "f: expected outputs of the shapes"),
        (detaching, "detach: expected as many detached values"),
    ):  # fmt: skip
        count[0] = 0
        with pytest.raises(GradientError, match=told) as caught:
            check_grads(f, random_leaf((4,)))
        assert_sentence(caught.value)


def test_an_input_that_is_changed_in_place_is_refused(array_backend: str) -> None:
    def careless(a: Any) -> Any:
        a *= 2.0
        return a

    if array_backend != "numpy":
        pytest.skip("CuPy's arrays cannot be locked")
    with pytest.raises(AutogradError, match="expected a forward that leaves its inputs as they are") as caught:
        check_grads(custom(careless, lambda g, out, a: (g * 2.0,)), random_leaf((3,)))
    assert_sentence(caught.value)


# --- what stands in the way of a comparison


def test_numbers_that_are_not_finite() -> None:
    for backward in (lambda g, out, a: (g * np.inf,), lambda g, out, a: (g * np.nan,)):
        with pytest.raises(GradientError, match="expected finite numbers, got (inf|-inf|nan) by backward") as caught:
            check_grads(custom(lambda a: a * a, backward), random_leaf((3,)))
        assert_sentence(caught.value)
    entropy = custom(lambda a: a * 1.0, lambda g, out, a: (g * (ops.log(ops.absolute(a)) + 1.0),))
    with pytest.raises(GradientError, match="finite numbers"), np.errstate(divide="ignore"):
        check_grads(entropy, leaf([0.0, 1.0, 2.0]))


@pytest.mark.parametrize("value", [1e4, 1e5, 1e6])
def test_large_numbers(value: float) -> None:
    """Of x^2, and of x + value: rounding takes the slope's digits at a short step, and leaves them at a long one."""
    for seed in range(30):
        x = random_leaf((5,), seed)
        check_grads(lambda x: x * x, leaf(x.numpy() * value), seed=seed)
        check_grads(lambda x: x + value, x, seed=seed)
        with pytest.raises(GradientError, match="finite differences"):
            check_grads(custom(lambda a: a + value, lambda g, out, a: (g * 1.001,)), x, seed=seed)


def test_small_numbers_are_looked_at_as_closely() -> None:
    for sign in (-1.0, 0.0, 1.001):
        f = custom(lambda a: 1e-10 * a * a, lambda g, out, a, sign=sign: (g * (2e-10 * sign) * a,))
        with pytest.raises(GradientError, match="finite differences"):
            check_grads(f, random_leaf((3,)))


def test_what_rounding_hides_is_told() -> None:
    x, y = random_leaf((3,), 1), random_leaf((3,), 2)
    with pytest.raises(GradientError, match="beside whose rounding the slope is lost") as caught:
        check_grads(lambda x: x * 1e-3 + 1e10, x)
    assert_sentence(caught.value)
    assert check_grads(lambda x, y: x * 1e-3 + y * 1e10, x, y).unseen == ("args[0]",)
    assert check_grads(lambda x, y: x * y, x, y).unseen == ()
    assert check_grads(lambda x: ops.softmax(x).sum(), x).worst_error < 1e-6  # nothing at all is a gradient too


def test_the_report_counts_what_is_detached() -> None:
    x = random_leaf((3,))
    assert check_grads(lambda x: x * ops.exp(x), x).detached == 0
    assert check_grads(lambda x: x * ops.exp(x).detach() + x.detach(), x).detached == 2
    assert check_grads(lambda x: lif_composed(x, LIFNeuron())[0], random_leaf((4, 3)), spikes="smooth").detached == 4


def test_the_report_has_the_largest_error() -> None:
    """Of an input that is not the last, and of the first order though the second has less."""
    almost = custom(np.multiply, lambda g, out, a, b: (g * b * (1.0 + 1e-7), g * a))
    x, y = random_leaf((3,), 1), random_leaf((3,), 2)
    for order in (1, 2):
        assert check_grads(almost, x, y, order=order).worst_error == pytest.approx(1e-7, rel=0.05)


class Point(NamedTuple):
    x: Any
    y: Any


@dataclass
class Scaled:
    x: Any
    scale: Any = field(init=False, default_factory=lambda: np.full(3, 2.0))


def test_named_tuples_stay_what_they_are() -> None:
    for x in (random_leaf((3,), 1), np.ones(3)):  # an array becomes a tensor, and needs a tuple of its own
        assert check_grads(lambda p: p.x * p.y, Point(x, random_leaf((3,), 2))).checks == 2


def test_what_a_dataclass_makes_itself_is_no_input() -> None:
    assert check_grads(lambda s: s.x * s.scale, Scaled(np.ones(3))).checks == 1


def test_the_absolute_tolerance() -> None:
    almost = custom(np.multiply, lambda g, out, a, b: (g * b * (1.0 + 1e-5), g * a))
    inputs = random_leaf((3,), 1), random_leaf((3,), 2)
    check_grads(almost, *inputs, rtol=1e-9, atol=1e-3)
    with pytest.raises(GradientError, match="finite difference"):
        check_grads(almost, *inputs, rtol=1e-9, atol=0.0)


def test_the_seed_chooses_the_direction() -> None:
    x = random_leaf((3,))
    first, again, other = (check_grads(ops.exp, x, seed=seed).worst_error for seed in (1, 1, 2))
    assert first == again != other


def test_the_second_order_checks_the_backward_that_is_recorded() -> None:
    """A backward may compute otherwise when it is recorded itself, as that of gelu does."""
    f = custom(np.square, lambda g, out, a: (g * a * (3.0 if grad_enabled() else 2.0),))
    x = random_leaf((3,))
    check_grads(f, x)
    with pytest.raises(GradientError, match="finite difference"):
        check_grads(f, x, order=2)


CANCELLING: dict[str, tuple[Callable[[Tensor], Tensor], int]] = {
    "less its mean": (lambda x: (x - x.mean()).sum(), 2),
    "shares that add up": (lambda x: ops.softmax(x).sum(-1), 2),
    "two halves of 1": (lambda x: ops.sigmoid(x) + ops.sigmoid(-x), 2),
    "saturated": (lambda x: ops.tanh(x + 8.0), 2),
    "saturated on both sides": (lambda x: ops.sigmoid(x - 20.0) + ops.sigmoid(x + 20.0), 2),
    "confident and right": (lambda x: cross_entropy(x + leaf(np.eye(3, 6) * 18.0), [0, 1, 2]), 1),
    "certain and right": (lambda x: cross_entropy(x + leaf(np.eye(3, 6) * 40.0), [0, 1, 2]), 1),
    "variance far from 0": (lambda x: ((x + 1e6 - (x + 1e6).mean()) * (x + 1e6 - (x + 1e6).mean())).mean(), 1),
    "flat": (lambda x: (x * 0.01) ** 6, 2),
}


@pytest.mark.parametrize("name", CANCELLING)
def test_numbers_that_cancel_within_are_no_mistake(name: str) -> None:
    """What is left of large numbers is rounded as these are, and so is what a gradient of 0 comes to."""
    f, order = CANCELLING[name]
    for seed in range(30):
        check_grads(f, random_leaf((3, 6), seed), order=order, seed=seed)


@pytest.mark.parametrize("scale", [1e-4, 1e-8, 1e-15])
def test_what_is_steep_beside_small_numbers_is_no_kink(scale: float) -> None:
    ones, zeros = leaf(np.ones(6)), leaf(np.zeros(6))
    for f in (lambda x: ops.tanh(x * (1.0 / scale)), lambda x: F.layer_norm(x, ones, zeros, scale**2)):
        for seed in range(10):
            check_grads(f, leaf(random_leaf((3, 6), seed).numpy() * scale), seed=seed)


def test_outputs_that_do_not_depend_on_an_input_do_not_hide_it() -> None:
    wrong = custom(lambda a: a * a, lambda g, out, a: (g * a,))
    for large in (1e6, 1e12, 1e15):
        with pytest.raises(GradientError, match="finite differences"):
            check_grads(lambda x, y, large=large: (wrong(x), y * large), random_leaf((3,), 1), random_leaf((3,), 2))


def test_a_gradient_of_0_beside_a_small_slope_is_seen() -> None:
    for slope in (1e-8, 1e-10):
        lost = custom(lambda a, slope=slope: a * slope + 1.0, lambda g, out, a: (g * 0.0,))
        with pytest.raises(GradientError):
            check_grads(lost, random_leaf((3,)))


def test_a_module_is_a_function_with_parameters() -> None:
    model = Pair()
    assert check_grads(model, random_leaf((2, 3))).checks == 1 + len(model.parameters())


def test_a_dictionary_stays_of_its_kind() -> None:
    seen = list[Any]()

    def f(given: Any) -> Tensor:
        seen.append(type(given))
        return given["x"] * given["lacking"]

    check_grads(f, defaultdict(lambda: 2.0, x=np.ones(3)))
    assert set(seen) == {defaultdict}
