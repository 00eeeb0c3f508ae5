"""The checker names the mistake that was made, and the command does as the function does."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from custom_op import custom
from helpers import assert_sentence

from minispike import check_grads
from minispike.backend import array_module, asarray
from minispike.cli import main
from minispike.errors import GradientError
from minispike.ops import concatenate
from minispike.ops.op import FusedOp
from minispike.snn.neurons import LIFNeuron, lif
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]


class Product(FusedOp):
    """``x w^T`` with a backward that somebody spoils: x ``[N, in]``, w ``[out, in]``."""

    def __init__(self, spoil: Any) -> None:
        self.spoil = spoil

    def forward(self, x: Array, w: Array) -> Array:
        self.x, self.w = x, w
        return x @ w.T

    def backward_arrays(self, grad: Array) -> Any:
        return self.spoil(grad, self.x, self.w)


def message(spoil: Any, shapes: tuple[tuple[int, ...], tuple[int, ...]] = ((4, 5), (3, 5))) -> str:
    rng = np.random.default_rng(1)
    with pytest.raises(GradientError) as caught:
        check_grads(lambda x, w: Product(spoil)(x, w), *(rng.normal(size=shape) for shape in shapes))
    assert_sentence(caught.value)
    return str(caught.value)


def rolled(a: Array, by: int, axis: int) -> Array:
    return array_module(a).roll(a, by, axis)


HOLES = np.array([1.0, 0.0, 1.0, 1.0, 1.0])


@pytest.mark.parametrize(
    ("spoil", "cause"),
    [
        (lambda g, x, w: (-g @ w, g.T @ x), "mistake: a wrong sign"),
        (lambda g, x, w: (g @ w * 0.5, g.T @ x), "every element is 1/2 times what it should be"),
        (lambda g, x, w: (g @ w * np.pi, g.T @ x), "every element is 3.14159265 times"),
        (lambda g, x, w: (g @ w * -3, g.T @ x), "a wrong sign and a wrong factor: every element is 3 times"),
        (lambda g, x, w: (g @ w, g.T @ x / 4), r"1/4 times .* \(a mean over the 4 rows .* in place of a sum\?\)"),
        (lambda g, x, w: (g @ w, g[:1].T @ x[:1]), "a missing sum over axis 0 of the output: only 0 of 0 to 3"),
        (lambda g, x, w: (g @ w, g[-1:].T @ x[-1:]), "a missing sum over axis 0 of the output: only 3 of 0 to 3"),
        (lambda g, x, w: (g @ w, (x.T @ g).reshape(3, 5)), "stand in the order of the transpose"),
        (lambda g, x, w: (rolled(g @ w, 1, 0), g.T @ x), "a shift by one: every element of axis 0 .* too late"),
        (lambda g, x, w: (rolled(g @ w, -1, 1), g.T @ x), "a shift by one: every element of axis 1 .* too early"),
        (lambda g, x, w: ((g @ w)[:, ::-1].copy(), g.T @ x), "an axis that runs backwards: 1"),
        (lambda g, x, w: (None, g.T @ x), "a gradient that does not arrive"),
        (
            lambda g, x, w: (g @ w * asarray(HOLES), g.T @ x),
            "a part that is missing: no gradient arrives at 4 of 20 elements",
        ),
    ],
)
def test_names_the_mistake(spoil: Any, cause: str) -> None:
    assert re.search(cause, message(spoil)), message(spoil)


def test_square_matrices_that_are_transposed() -> None:
    spoiled = message(lambda g, x, w: (g @ w, x.T @ g), ((4, 3), (3, 3)))
    assert "a transposed gradient: axes 0 and 1 are exchanged" in spoiled


def spoiled(forward: Any, backward: Any, *shapes: tuple[int, ...], outputs: int = 1) -> str:
    """What is said of an op with this backward."""
    rng = np.random.default_rng(2)
    f = custom(forward, backward)
    with pytest.raises(GradientError) as caught:
        check_grads(lambda *x: [f(*x), *(t * 2.0 for t in x)][:outputs], *(rng.normal(size=shape) for shape in shapes))
    assert_sentence(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("shapes", "backward", "cause"),
    [
        (((2, 3, 4), (4,)), lambda g: g.sum(0)[0], "a missing sum over axis 1 of the output: only 0 of 0 to 2"),
        (((2, 3, 4), (4,)), lambda g: g.sum(1)[1], "a missing sum over axis 0 of the output: only 1 of 0 to 1"),
        (((2, 5, 4), (4,)), lambda g: g.sum(0)[2], "a missing sum over axis 1 of the output: only 2 of 0 to 4"),
        (((2, 3, 4), (4,)), lambda g: g[0, 0], "a missing sum over axes 0 and 1 of the output: only the first"),
        (((2, 3, 4), (4,)), lambda g: g[-1, -1], "a missing sum over axes 0 and 1 of the output: only the last"),
        (((5, 4), (5, 1)), lambda g: g[:, :1], "a missing sum over axis 1 of the output: only 0 of 0 to 3"),
        (((5, 4), (5, 1)), lambda g: g[:, 3:], "a missing sum over axis 1 of the output: only 3 of 0 to 3"),
        (((4, 3), ()), lambda g: g[0].sum(), "a missing sum over axis 0 of the output: only 0 of 0 to 3"),
    ],
)
def test_names_a_missing_sum_over_what_was_broadcast(shapes: Any, backward: Any, cause: str) -> None:
    said = spoiled(lambda a, b: a + b, lambda g, out, a, b: (g, backward(g)), *shapes)
    assert f"mistake: {cause}" in said, said


def test_names_a_step_of_time_that_is_counted_alone() -> None:
    said = spoiled(np.matmul, lambda g, out, x, w: (g @ w.transpose(), x[0].transpose() @ g[0]), (3, 2, 4), (4, 5))
    assert "mistake: a missing sum over axis 0 of the output: only 0 of 0 to 2" in said, said


def test_names_an_output_that_is_counted_alone() -> None:
    """The second output is forgotten: a detached one, say, which stays as it is where nothing holds it."""
    f = custom(lambda a: array_module(a).concatenate([a, a * a]), lambda g, out, a: (g[:3],))
    with pytest.raises(GradientError) as caught:
        check_grads(lambda x: (f(x), x * 3.0), np.random.default_rng(0).normal(size=3))
    assert "likeliest" not in str(caught.value)
    lost = custom(lambda a: a * a, lambda g, out, a: (g * 0.0,))
    with pytest.raises(GradientError, match="outputs that were forgotten: only output 1 of 2 has been counted"):
        check_grads(lambda x: (lost(x), x * 3.0), np.random.default_rng(0).normal(size=3))


@pytest.mark.parametrize(("step", "word"), [(1, "late"), (-1, "early")])
def test_names_a_shift_that_loses_what_it_pushes_out(step: int, word: str) -> None:
    def shifted(g: Tensor) -> Tensor:
        empty = g[:1] * 0.0
        return concatenate([empty, g[:-1]] if step > 0 else [g[1:], empty])

    said = spoiled(lambda a: a * 1.0, lambda g, out, a: (shifted(g),), (6, 2))
    assert f"every element of axis 0 is one place too {word}" in said, said


@pytest.mark.parametrize(
    ("factor", "cause"),
    [
        (-1.0, "mistake: a wrong sign"), (2.0, "every element is 2 times"), (0.5, "every element is 1/2 times"),
        (129 / 49, ""), (1.1, ""),
    ],
)  # fmt: skip
def test_a_single_number_is_not_explained_by_any_factor(factor: float, cause: str) -> None:
    said = spoiled(lambda a: a * a, lambda g, out, a: (g * a * (2.0 * factor),), ())
    assert cause in said if cause else "likeliest" not in said, said


def test_a_factor_near_1_is_shown_with_its_digits() -> None:
    said = spoiled(lambda a: a * a, lambda g, out, a: (g * a * 2.00001,), (4,))
    assert "every element is 1.000005 times what it should be" in said, said


def test_says_nothing_where_nothing_fits() -> None:
    assert "likeliest" not in message(lambda g, x, w: ((g @ w) ** 2, g.T @ x))


def test_looks_at_some_elements_of_many() -> None:
    calls = [0]

    def spoiled(x: Tensor, w: Tensor) -> Tensor:
        calls[0] += 1
        return Product(lambda g, x, w: (-g @ w, g.T @ x))(x, w)

    rng = np.random.default_rng(0)
    with pytest.raises(GradientError, match="mistake: a wrong sign"):
        check_grads(spoiled, rng.normal(size=(50, 40)), rng.normal(size=(2, 40)))
    assert calls[0] < 400


def test_a_spiking_function_is_not_blamed_for_its_steps() -> None:
    with pytest.raises(GradientError) as caught:
        check_grads(lambda x: lif(x, LIFNeuron()), np.random.default_rng(0).normal(size=(3, 4)))
    assert "spikes='smooth'" in str(caught.value)


# --- the command

OPS = """
from __future__ import annotations
from dataclasses import dataclass
import numpy as np
from minispike.ops import exp, tanh
from minispike.ops.op import FusedOp
from minispike.snn.neurons import LIFNeuron, lif
from minispike.tensor import Tensor
import beside

def swish(x):
    return x * beside.half(tanh(x * 0.5) + 1)

def product(x, w, scale=2.0):
    return x @ w * scale

def at_its_own(x=np.array([0.5, 1.0])):
    return exp(x)

def spiking(x):
    return lif(x, LIFNeuron(threshold=0.3))

class Half(FusedOp):
    def forward(self, x):
        return x + 1

    def backward_arrays(self, grad):
        return (grad / 2,)

def halved(x):
    return Half()(x)

def nothing(scale=1.0):
    return Tensor(scale)

def keyword(x, *, scale):
    return x * scale

@dataclass
class Scaled:
    scale: float = 2.0

    def __call__(self, x):
        import beside
        return beside.half(x) * self.scale

scaled = Scaled()
constant = 3
"""


@pytest.fixture
def ops(tmp_path: Path) -> str:
    (tmp_path / "ops.py").write_text(OPS)
    (tmp_path / "beside.py").write_text("def half(x):\n    return x * 0.5\n")
    return str(tmp_path / "ops.py")


@pytest.mark.parametrize(
    ("words", "shapes"),
    [
        (("swish",), "(3, 4)"),
        (("swish", "--shape", "2,3,1", "--order", "2"), "(2, 3, 1)"),
        (("swish", "--shape", ""), "()"),
        (("product", "--shape", "3,4", "--shape", "4,2", "--seed", "7"), "(3, 4), (4, 2)"),
        (("at_its_own",), "(2,)"),
        (("scaled",), "(3, 4)"),
        (("spiking", "--spikes", "smooth", "--rtol", "1e-7"), "(3, 4)"),
    ],
)
def test_right_functions(ops: str, words: tuple[str, ...], shapes: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", f"{ops}:{words[0]}", *words[1:]]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{words[0]}: right by ") and f"on inputs {shapes};" in printed


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("halved",), "gradient by args[0]"),
        (("spiking",), "spikes='smooth'"),
        (("swisch",), "expected a function of that name, got none"),
        (("constant",), "got a int"),
        (("nothing",), "expected a function of arrays or tensors"),
        (("product", "--shape", "3,4"), "expected 2 shapes, for x, w, got 1"),
        (("swish", "--shape", "3,x"), "expected lengths of axes, 1 or more, with commas between, got '3,x'"),
        (("swish", "--shape=-3"), "expected lengths of axes"),
        (("swish", "--shape", "2,0"), "expected lengths of axes"),
        (("swish", "--seed=-1"), "--seed: expected a number >= 0"),
        (("swish", "--rtol", "0"), "rtol: expected a number between 0 and 1"),
        (("swish", "--rtol", "nan"), "rtol: expected a number between 0 and 1"),
        (("swish", "--eps", "0"), "eps: expected a number > 0"),
        (("swish", "--atol=-1"), "atol: expected a number from 0 to 1"),
        (("swish", "--shape", "100000000000000"), "--shape: expected inputs that fit in memory"),
        (("Half.forward",), "ops.py:keyword"),
        (("keyword",), "expected settings with default values, got none for scale"),
    ],
)
def test_mistakes(ops: str, words: tuple[str, ...], told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gradcheck", f"{ops}:{words[0]}", *words[1:]]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize(
    ("target", "told"),
    [
        ("swish", "expected FILE.py:FUNCTION, got 'swish'"),
        ("nowhere.py:swish", "nowhere.py: expected a Python file, got none"),
        ("ops.py:", "expected FILE.py:FUNCTION"),
        ("notes.txt:swish", "got a file that ends in '.txt'"),
        (".:swish", "expected a Python file, got a folder"),
        ("broken.py:swish", "broken.py: expected a file that can be imported, got SyntaxError: "),
        ("lacking.py:swish", "got ModuleNotFoundError: No module named 'nothing_of_this_name'"),
    ],
)
def test_no_such_function(tmp_path: Path, target: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "notes.txt").write_text("x")
    (tmp_path / "broken.py").write_text("def swish(x)")
    (tmp_path / "lacking.py").write_text("import nothing_of_this_name")
    assert main(["gradcheck", target if target == "swish" else f"{tmp_path}/{target}"]) == 2
    assert told in capsys.readouterr().err


def test_from_the_shell(ops: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "minispike", "gradcheck", f"{ops}:halved"], capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 2 and "1/2 times what it should be" in done.stderr and not done.stdout
