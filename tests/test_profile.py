"""The profile of a training step: what it counts, and that it changes nothing."""

import threading
import time
import tracemalloc
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from custom_op import custom
from helpers import assert_sentence, random_leaf
from tiny import assert_mistake, minispike

from minispike import backend, no_grad, viz
from minispike.backend import default_module
from minispike.errors import ConfigError
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.modes import watcher
from minispike.nn.attention import softmax_attention
from minispike.nn.functional import linear
from minispike.nn.losses import cross_entropy
from minispike.nn.module import Parameter
from minispike.nn.optim import AdamW
from minispike.ops import exp
from minispike.profile import Floor, OpRow, Profile, StepProfile, profile_step, profiled
from minispike.snn.attention import spiking_attention
from minispike.tensor import Tensor

B, L, T, D, H, C, F, V = 4, 5, 3, 8, 2, 3, 6, 11
STUDENT = SpikeBERTConfig(V, D, depth=2, heads=H, time_steps=T, num_labels=C, max_length=L, feature_dim=F, mlp_ratio=2)
SMALL = (
    "student.dim=8", "student.depth=1", "student.heads=2", "student.mlp_ratio=2", "student.max_length=6",
    "teacher.vocab_size=20", "teacher.hidden_size=4", "teacher.heads=2", "stage2.batch_size=3",
)  # fmt: skip
"""A student for ``--set``."""

STEP = StepProfile(
    ops=(OpRow("SpikingLinear", 6, 0.03, 0.05, 0.02, 4_000_000), OpRow("Add", 2, 0.002, 0.0, 0.0, 1_000)),
    norm=0.001,
    optimiser=0.004,
    rest=0.013,
    multiply_adds=10**9,
    peak=5_000_000,
    state=3_000_000,
)


def student_loss(model: SpikeBERT, length: int = L) -> Tensor:
    """Cross entropy and a term on the hidden states, of tokens without padding."""
    ids = np.random.default_rng(0).integers(0, V, size=(B, length))
    out = model(ids)
    loss = cross_entropy(out.logits, np.arange(B) % C)
    for state in out.hidden_states:
        loss = loss + (state * state).mean()
    return loss


def multiply_adds(profile: Profile) -> int:
    """Of all products that were made."""
    products = [each for record in profile.ops.values() for each in record.products.elements()]
    return sum(n * rows * inner * columns for n, rows, inner, columns in products)


def calls(profile: Profile) -> dict[str, int]:
    return {name: record.calls for name, record in profile.ops.items()}


# ---- What is recorded


def test_calls_of_a_network_whose_ops_are_known() -> None:
    x, w, b = random_leaf((4, 3)), random_leaf((3, 3), 1), random_leaf((3,), 2)
    with profiled() as profile:
        h = exp(x @ w + b)  # b is broadcast, and its gradient summed by the engine
        loss = (h @ w + h * h).sum()  # the gradients of h and w are joined by the engine
        forward = calls(profile)
        loss.backward()
    assert forward == calls(profile) == {"MatMul": 2, "Add": 2, "Exp": 1, "Mul": 1, "Sum": 1}
    assert all(record.forward > 0 and record.backward > 0 for record in profile.ops.values())
    assert all(record.kept == 0 and not record.products for record in profile.ops.values())


def test_ops_within_an_op_are_parts_of_it() -> None:
    """The backward of a quotient is quotients, products and a sign, and the forward of this op is another op."""
    x = random_leaf((4, 3))
    twice = custom(lambda a: exp(Tensor._of(a.copy())).array, lambda grad, out, a: (grad * exp(a),))
    with profiled() as profile:
        (twice(x) / (x * x)).sum().backward()
    assert calls(profile) == {"Custom": 1, "Mul": 1, "Div": 1, "Sum": 1}
    with profiled() as profile:
        (1.0 / x).sum().backward(create_graph=True)
    assert calls(profile) == {"Div": 1, "Sum": 1}


def test_nothing_is_recorded_outside() -> None:
    x = random_leaf((2, 2))
    with profiled() as outer:
        loss = exp(x).sum()
        with profiled() as inner:
            exp(x)
        thread = threading.Thread(target=lambda: exp(x) * x)
        thread.start()
        thread.join()
        with no_grad():
            x * 2.0
    loss.backward()
    x - x
    assert watcher() is None
    assert calls(outer) == {"Exp": 1, "Sum": 1, "Mul": 1} and calls(inner) == {"Exp": 1}
    assert all(record.backward == 0 for record in outer.ops.values())


def test_an_op_that_fails_is_told_as_ever_and_not_recorded() -> None:
    with pytest.raises(ValueError) as told, profiled() as profile:
        random_leaf((2, 3)) + random_leaf((4,))
    assert_sentence(told.value)
    assert watcher() is None and not profile.ops


@pytest.mark.parametrize("memory", [False, True])
def test_gradients_are_the_same_bits(memory: bool) -> None:
    model = SpikeBERT(STUDENT, np.random.default_rng(0))

    def gradients() -> list[Any]:
        for p in model.parameters():
            p.grad = None
        loss = student_loss(model)
        loss.backward()
        return [loss.numpy(), *(p.grad.numpy() for p in model.parameters() if p.grad is not None)]

    before = gradients()
    with profiled(memory=memory) as profile:
        seen = gradients()
    assert len(before) > 40 and profile.ops["SpikingLinear"].calls == 12
    for a, b in zip(before, seen, strict=True):
        np.testing.assert_array_equal(a, b)


def test_the_clock_is_read_once_the_device_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[Any] = []
    monkeypatch.setattr("minispike.profile.synchronise", waits.append)
    with profiled():
        exp(random_leaf((2, 2))).sum().backward()
    assert waits == [default_module()] * 8  # before and after two forwards and two backwards


# ---- Products of matrices


@pytest.mark.parametrize(("length", "attention"), [(5, 5 * 4 * 4), (3, 3 * 3 * 4)])
def test_multiply_adds_of_a_student_by_hand(length: int, attention: int) -> None:
    """Heads are 4 wide, so that the keys meet the values first in the longer sentences."""
    once, always = B * length, T * B * length  # rows before time begins, and after
    first = 3 * once * D * D + always * D * D + 2 * always * D * 2 * D
    second = 4 * always * D * D + 2 * always * D * 2 * D
    heads = 2 * once * D * F + T * B * D * C  # the two transforms, and the classifier
    by_hand = 3 * (first + second + heads) + 2 * 7 * (T * B * H) * attention
    model = SpikeBERT(STUDENT, np.random.default_rng(0))
    with profiled(memory=True) as profile:
        student_loss(model, length).backward()
    assert multiply_adds(profile) == by_hand
    assert {name for name, r in profile.ops.items() if r.products} == {
        "SpikingLinear", "SpikingAttention", "NormedLinear", "Linear",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("a", "b", "product"),
    [
        ((2, 3), (3, 4), (1, 2, 3, 4)),
        ((5, 2, 3), (3, 4), (5, 2, 3, 4)),
        ((6, 1, 2, 3), (5, 3, 4), (30, 2, 3, 4)),
        ((3,), (3, 4), (1, 1, 3, 4)),
        ((2, 3), (3,), (1, 2, 3, 1)),
        ((3,), (3,), (1, 1, 3, 1)),
    ],
)
def test_products_of_a_matmul(a: tuple[int, ...], b: tuple[int, ...], product: tuple[int, int, int, int]) -> None:
    n, rows, inner, columns = product
    with profiled(memory=True) as profile:
        (random_leaf(a) @ random_leaf(b)).sum().backward()
    made = sorted(profile.ops["MatMul"].products.elements())
    assert made == sorted([product, (n, rows, columns, inner), (n, inner, rows, columns)])


def test_gradients_that_nobody_wants_make_no_products() -> None:
    x, w = Tensor(np.ones((2, 3))), random_leaf((4, 3), dtype=np.float32)
    with profiled(memory=True) as profile:
        (linear(x, w).sum() + (x @ w.transpose()).sum()).backward()
    for name in ("Linear", "MatMul"):
        made = list(profile.ops[name].products.elements())
        assert len(made) == 2 and multiply_adds(profile) == 2 * 2 * 2 * 3 * 4


def test_products_of_attention_with_softmax() -> None:
    q, k, v = (random_leaf((2, 5, 8), seed) for seed in range(3))
    with profiled(memory=True) as profile:
        softmax_attention(q, k, v, heads=4).sum().backward()
    assert multiply_adds(profile) == 6 * (2 * 4) * 5 * 5 * 2


@pytest.mark.parametrize(
    ("length", "first", "second"),
    [(5, (12, 4, 5, 4), (12, 5, 4, 4)), (3, (12, 3, 4, 3), (12, 3, 3, 4))],
    ids=["q (k^T v)", "(q k^T) v"],
)
def test_products_of_attention_between_spikes(length: int, first: tuple[int, ...], second: tuple[int, ...]) -> None:
    """Backward makes the first one again, and its like for the gradient; and three of the second kind, for q, k, v."""
    q, k, v = (random_leaf((3, 2, length, 8), seed) for seed in range(3))
    with profiled(memory=True) as profile:
        out = spiking_attention(q, k, v, heads=2)
        assert profile.ops["SpikingAttention"].products == {first: 1, second: 1}
        out.sum().backward()
    assert profile.ops["SpikingAttention"].products == {first: 3, second: 4}


def test_the_floor_makes_the_products_it_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch)
    floor = Floor({"one": {(1, 2, 3, 4): 2}, "many": {(6, 2, 3, 4): 1}}, np.float32, default_module())
    shapes = {name: [(times, a.shape, b.shape) for times, a, b in work] for name, work in floor._work.items()}
    assert shapes == {"one": [(2, (2, 3), (3, 4))], "many": [(1, (6, 2, 3), (6, 3, 4))]}
    assert floor.seconds() == {"one": 1.0, "many": 1.0}


# ---- A step


def small_training() -> tuple[Any, AdamW]:
    """A loss of four ops, and its optimiser."""
    w = Parameter(np.random.default_rng(0).normal(size=(3, 3)))
    x = Tensor(np.ones((2, 3)))
    return lambda: (exp(x @ w) / 7.0).sum(), AdamW([("w", w)])


def ticking(patch: pytest.MonkeyPatch, slow: int = -1) -> None:
    """From now on a clock goes on by 1 s when it is read; before the reading ``slow``, by 1,000 s."""
    now, readings = [0.0], count()

    def read() -> float:
        now[0] += 1000.0 if next(readings) == slow else 1.0
        return now[0]

    patch.setattr(time, "perf_counter", read)


def test_rows_add_up_to_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    ticking(monkeypatch)
    loss, optimiser = small_training()
    profile = profile_step(loss, optimiser, steps=1)
    assert sorted(op.name for op in profile.ops) == ["Div", "Exp", "MatMul", "Sum"]
    assert all((op.calls, op.forward, op.backward) == (1, 1.0, 1.0) for op in profile.ops)
    # Between the four readings of a step lie two for each forward and backward.
    assert (profile.norm, profile.optimiser, profile.rest) == (1.0, 1.0, 9.0)
    assert profile.seconds == 3 + 2 * 8 == sum(op.seconds for op in profile.ops) + sum(profile.others.values())
    assert {op.name: op.floor for op in profile.ops} == {"MatMul": 1.0, "Exp": 0.0, "Div": 0.0, "Sum": 0.0}
    assert profile.floor == 1.0 and profile.multiply_adds == 2 * 2 * 3 * 3
    assert profile.state == 3 * 9 * 4


def test_rows_are_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    """One slow moment, wherever it is, changes nothing."""

    def rows(slow: int) -> list[Any]:
        ticking(monkeypatch, slow)
        profile = profile_step(*small_training(), steps=3)
        times = sorted((op.name, op.forward, op.backward, op.floor) for op in profile.ops)
        return [*times, profile.norm, profile.optimiser, profile.rest]

    in_a_step, of_the_floor = 4 + 2 * 8, 2
    before = 2 * 4 + in_a_step + of_the_floor
    calm = rows(slow=-1)
    for slow in range(0, before + 3 * (in_a_step + of_the_floor), 5):
        assert rows(slow) == calm


def test_a_step_trains() -> None:
    loss, optimiser = small_training()
    before, profile = loss().item(), profile_step(loss, optimiser, 2, learning_rate=0.1)
    assert loss().item() < before and optimiser.steps == 5
    assert [op.seconds for op in profile.ops] == sorted((op.seconds for op in profile.ops), reverse=True)
    with pytest.raises(ConfigError) as told:
        profile_step(loss, optimiser, 0)
    assert_sentence(told.value)


def test_memory_that_is_kept(array_backend: str) -> None:
    x = random_leaf((100, 1000))
    with profiled(memory=True) as profile:
        loss = exp(x.reshape(1000, 100)).sum()
        loss.backward()
    assert not tracemalloc.is_tracing()
    kept = {name: record.kept for name, record in profile.ops.items()}
    if array_backend != "strict":  # which counts nothing
        assert kept["Exp"] == pytest.approx(800_000, abs=5_000)
        assert abs(kept["Reshape"]) < 5_000 and abs(kept["Sum"]) < 5_000
        assert profile.peak > 1_600_000  # the exponentials, and their gradient


def test_tracing_that_was_on_stays_on() -> None:
    tracemalloc.start()
    try:
        with profiled(memory=True):
            pass
        assert tracemalloc.is_tracing()
    finally:
        tracemalloc.stop()


# ---- The command


def test_the_command_prints_a_table_and_draws(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    picture = tmp_path / "new" / "step.svg"
    done = minispike("profile", "--steps", 2, "--out", picture, "--length", 4, "--set", *SMALL)
    assert (done.code, done.err) == (0, "")
    head, *lines = done.out.splitlines()
    assert head == f"1 blocks x 8, 2 time steps; 3 x 4 tokens; {backend.current()}"
    rows = {line.split("  ")[0]: line for line in lines}
    assert rows["op"].split("  ")[-1] == "kept MB"
    assert rows["SpikingLinear"].split()[1] == "6" and rows["SpikingAttention"].split()[1] == "1"
    for name in ("LIF", "CrossEntropy", "gradient norm", "optimiser", "the rest", "all"):
        assert "%" in rows[name]
    shares = {name: float(line.split(" %")[0].split()[-1]) for name, line in rows.items() if " %" in line}
    whole = shares.pop("all")
    assert whole == 100 and sum(list(shares.values())[:-1]) == pytest.approx(100, abs=1)  # the last line has one too
    assert lines[-2].startswith("a step: ") and lines[-2].endswith(" % of it") and "matrix products alone" in lines[-2]
    assert lines[-1] == f"picture: {picture}"
    assert "<svg" in picture.read_text(encoding="utf-8") and [p.name for p in picture.parent.iterdir()] == ["step.svg"]


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--batch-size", 0), "--batch-size: expected a number >= 1, got 0; try --batch-size 32"),
        (("--length", -1), "--length: expected a number >= 1, got -1; try --length 6"),
        (("--length", 7), "--length: expected at most 6, the student's max_length, got 7; try --length 6"),
        (("--steps", 0), "--steps: expected a number >= 1, got 0; try --steps 10"),
        (("--out", "step.pdf"), "--out: expected a file that ends in .svg or .png, got step.pdf; try --out step.svg"),
        (("--out", "."), "--out: expected a file that ends in .svg or .png, got the folder .; try --out step.svg"),
        (("--set", "student.depth=0"), "student.depth: expected"),
        (("--preset", "tinny"), "preset: expected"),
    ],
)
def test_mistakes_are_told_before_anything_is_computed(
    flags: tuple[object, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("minispike.commands.profile.training", lambda *_: pytest.fail("a student was made"))
    assert_mistake(minispike("profile", "--set", *SMALL, *flags), told)


def test_a_batch_without_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_room(*_: Any) -> None:
        raise MemoryError

    monkeypatch.setattr("minispike.commands.profile.profile_step", no_room)
    outcome = minispike("profile", "--batch-size", 9, "--set", *SMALL)
    assert_mistake(outcome, "--batch-size: expected a step that fits in memory, got 9 x 6 tokens; try --batch-size 4")


def test_a_picture_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    figure = pytest.importorskip("matplotlib.figure")
    monkeypatch.setattr("minispike.commands.profile.profile_step", lambda *_: STEP)
    path = tmp_path / "step.PNG"
    assert minispike("profile", "--out", path, "--set", *SMALL).code == 0
    whole = path.read_bytes()
    assert whole.startswith(b"\x89PNG")

    def full(_: Any, file: Any, **__: Any) -> None:
        file.write(b"half of it")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(figure.Figure, "savefig", full)
    assert_mistake(minispike("profile", "--out", path, "--set", *SMALL), "expected room on the disk")
    assert [p.name for p in tmp_path.iterdir()] == ["step.PNG"] and path.read_bytes() == whole


def test_bars_are_the_times() -> None:
    pytest.importorskip("matplotlib")
    ax: Any = viz.step_bars(None, STEP)
    widths = [bar.get_width() for bar in ax.patches]
    assert widths == pytest.approx([30, 2, 50, 0, 1, 4, 13])  # forward, backward, what is neither
    assert [label.get_text() for label in ax.get_yticklabels()] == ["SpikingLinear", "Add", *STEP.others]
    assert [list(line.get_xydata()[0]) for line in ax.lines] == [pytest.approx([20, 0])] * 2
    assert "(ms)" in ax.get_xlabel() and "20%" in ax.get_title(loc="left")
    assert {text.get_text() for text in ax.get_legend().get_texts()} >= {"forward", "backward"}
