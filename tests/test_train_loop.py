"""The training loop learns, selects, stops, and says what goes wrong."""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence
from hypothesis import given
from hypothesis import strategies as st

pytest.importorskip("safetensors")

from toy_regression import TRUTH, Regression, assert_same_weights, losses_of, run

from minispike.backend import array_module
from minispike.checkpoint import load_tensors
from minispike.errors import ConfigError, TrainingError
from minispike.ops import mean
from minispike.ops.op import Op
from minispike.tensor import Tensor
from minispike.train import loop
from minispike.train.journal import Journal
from minispike.train.loop import SelectedConfig, TrainConfig, _evaluation_due

# ---- Learning and selecting


def test_it_learns(tmp_path: Path) -> None:
    task = Regression()
    c = SelectedConfig(steps=300, batch_size=8, learning_rate=0.1, weight_decay=0.0, clip=0.0)
    facts, lines = run(tmp_path, task, c)
    np.testing.assert_allclose(task.model.weight.numpy(), TRUTH, atol=1e-2)
    np.testing.assert_allclose(task.model.bias.numpy(), [1], atol=1e-2)
    assert losses_of(lines)[-1]["loss"] < 1e-3 * losses_of(lines)[0]["loss"]
    assert facts["score"] > -1e-3


def test_the_first_step_by_hand(tmp_path: Path) -> None:
    """Clipped, decayed, and Adam's first step: all but the sign of the gradient times the rate."""
    task = Regression()
    start = task.model.state_dict()
    x = np.random.default_rng([9, 0]).normal(size=(8, 3))
    error = x @ start["weight"].T + start["bias"] - (x @ TRUTH.T + 1)
    slope = {"weight": 2 * error.T @ x / 8, "bias": 2 * error.mean(axis=0)}
    norm = math.sqrt(sum((g**2).sum() for g in slope.values()))
    c = SelectedConfig(steps=1, batch_size=8, learning_rate=0.1, weight_decay=0.2, clip=1e-3)
    _, lines = run(tmp_path, task, c)
    line = losses_of(lines)[0]
    assert line["gradient_norm"] == pytest.approx(norm)  # before clipping
    assert (line["phase"], line["step"], line["rate"]) == ("toy", 0, 0.1)
    assert line["loss"] == line["square"] == pytest.approx((error**2).mean()) == pytest.approx(2 * line["half"])
    decay = {"weight": 1 - 0.1 * 0.2, "bias": 1.0}
    for name, g in slope.items():
        cut = g * 1e-3 / norm
        expected = start[name] * decay[name] - 0.1 * cut / (np.abs(cut) + 1e-8)
        np.testing.assert_allclose(task.model.state_dict()[name], expected, rtol=1e-12)


@pytest.mark.parametrize("everything", [False, True])
def test_what_decays(tmp_path: Path, everything: bool) -> None:
    class Still(Regression):
        def losses(self, x: Any) -> Mapping[str, Tensor]:
            return {"loss": (mean(self.model.weight) + mean(self.model.bias)) * 0.0}

        def evaluate(self) -> Mapping[str, float]:
            return {}

    task = Still()
    task.model.bias.assign(np.array([3.0]))
    start = task.model.state_dict()
    run(tmp_path, task, SelectedConfig(steps=2, warmup=0, schedule="constant", weight_decay=0.5, learning_rate=0.1,
                                      decay_all=everything))  # fmt: skip
    found = task.model.state_dict()
    np.testing.assert_allclose(found["weight"], start["weight"] * 0.95**2)
    np.testing.assert_allclose(found["bias"], start["bias"] * (0.95**2 if everything else 1))


@pytest.mark.parametrize("parts", [2, 4])
def test_parts_of_a_batch_equal_the_whole(tmp_path: Path, parts: int) -> None:
    whole, divided = Regression(), Regression(pieces=parts)
    facts, lines = run(tmp_path / "whole", whole)
    facts_of_parts, lines_of_parts = run(tmp_path / "parts", divided)
    for name, array in whole.model.state_dict().items():
        np.testing.assert_allclose(divided.model.state_dict()[name], array, rtol=1e-10)
    assert facts_of_parts["step"] == facts["step"]
    for a, b in zip(losses_of(lines), losses_of(lines_of_parts), strict=True):
        assert a.pop("phase") == b.pop("phase")
        assert b == pytest.approx(a, rel=1e-9)


@pytest.mark.parametrize(
    ("scores", "best"),
    [((1, 3, 2, 2), 1), ((1, 2, 3, 4), 3), ((4, 3, 2, 1), 0), ((1, 3, 3, 2), 1), ((-9, -8, -8, -9), 1)],
)
def test_the_best_on_dev_is_kept(tmp_path: Path, scores: Sequence[float], best: int) -> None:
    """Of two that are equally good, the first."""
    task = Regression(scores=scores)
    facts, lines = run(tmp_path, task)
    assert facts == {"score": scores[best], "step": task.evaluated[best]}
    assert_same_weights(task.model.state_dict(), task.weights_then[best])
    assert [line["dev"]["score"] for line in lines if "dev" in line] == list(scores)
    assert not np.array_equal(task.weights_then[0]["weight"], task.weights_then[-1]["weight"])


def test_without_dev_the_last_weights_stay(tmp_path: Path) -> None:
    task = Regression(scores=())
    facts, lines = run(tmp_path, task)
    assert facts == {"score": -math.inf, "step": -1}
    assert_same_weights(task.model.state_dict(), task.weights_then[-1])
    assert task.evaluated[-1] == 11 and not any("dev" in line for line in lines)


@pytest.mark.parametrize(
    ("patience", "scores", "evaluations"),  # so many are looked at before it stops
    [
        (0, (5, 0, 0, 0, 0, 0), 6),
        (1, (1, 2, 2, 3, 1, 1), 3),
        (2, (1, 2, 2, 3, 1, 4), 6),
        (2, (1, 2, 2, 1, 3, 4), 4),
        (3, (1, 2, 2, 3, 1, 3), 6),
        (3, (3, 2, 2, 3, 4, 4), 4),
    ],
)
def test_patience(tmp_path: Path, patience: int, scores: Sequence[float], evaluations: int) -> None:
    task = Regression(scores=scores)
    c = SelectedConfig(steps=6, batch_size=8, evaluations=6, patience=patience)
    facts, lines = run(tmp_path, task, c)
    assert len(task.evaluated) == len(task.asked) == len(losses_of(lines)) == evaluations
    assert facts["score"] == max(scores[:evaluations])
    assert_same_weights(task.model.state_dict(), task.weights_then[scores.index(facts["score"])])


@given(steps=st.integers(1, 300), evaluations=st.integers(1, 60))
def test_dev_is_looked_at_as_often_as_promised(steps: int, evaluations: int) -> None:
    c = SelectedConfig(steps=steps, evaluations=evaluations)
    due = [step for step in range(steps) if _evaluation_due(step, c)]
    assert len(due) == min(steps, evaluations)
    assert due[-1] == steps - 1
    gaps = np.diff([-1, *due])
    assert gaps.max() - gaps.min() <= 1


def test_evaluations_by_hand(tmp_path: Path) -> None:
    task = Regression()
    run(tmp_path, task, SelectedConfig(steps=10, batch_size=8, evaluations=4))
    assert task.evaluated == [2, 4, 7, 9]


def test_a_phase_without_dev_keeps_its_last_weights(tmp_path: Path) -> None:
    """It has no settings for what it does not do, and nobody looks at dev."""
    task, selected = Regression(), Regression()
    c = TrainConfig(steps=12, batch_size=8, learning_rate=0.05, warmup=0.2, weight_decay=0.1)
    assert not hasattr(c, "evaluations") and not hasattr(c, "patience")
    facts, lines = run(tmp_path / "plain", task, c)
    run(tmp_path / "selected", selected)
    assert facts == {"score": -math.inf, "step": -1} and task.evaluated == []
    assert len(losses_of(lines)) == len(lines) == 12
    assert_same_weights(task.model.state_dict(), selected.weights_then[-1])  # of the same steps


@pytest.mark.parametrize(("steps", "every"), [(12, 1), (399, 1), (400, 2)])
def test_the_journal(tmp_path: Path, steps: int, every: int) -> None:
    """About 200 lines of losses, the first and the last step among them, with the rate they were made at."""
    c = SelectedConfig(steps=steps, batch_size=8, learning_rate=0.05, evaluations=1)
    _, lines = run(tmp_path, Regression(), c)
    assert [line["step"] for line in losses_of(lines)] == sorted({*range(0, steps, every), steps - 1})
    for line in losses_of(lines):
        assert line["rate"] == c.rates().learning_rate(line["step"], steps, 0.05)
    assert lines[-1] == {"phase": "toy", "step": steps - 1, "dev": lines[-1]["dev"]} and lines[-1]["dev"]["more"] == 1.5


# ---- What goes wrong


class Breaks(Regression):
    """At a step, a term becomes something else."""

    def __init__(self, step: int, term: str, factor: float, pieces: int = 1) -> None:
        super().__init__(pieces=pieces)
        self.breaks_at, self.term, self.factor = step, term, factor

    def parts(self, step: int) -> Iterator[tuple[bool, Any]]:
        *sound, last = super().parts(step)
        yield from ((False, part) for part in sound)
        yield step == self.breaks_at, last

    def losses(self, part: tuple[bool, Any]) -> Mapping[str, Tensor]:
        breaks, x = part
        terms = dict(super().losses(x))
        return self.broken(terms) if breaks else terms

    def broken(self, terms: dict[str, Tensor]) -> Mapping[str, Tensor]:
        return terms | {self.term: terms[self.term] * self.factor}


@pytest.mark.parametrize("factor", [math.nan, math.inf])
@pytest.mark.parametrize("term", ["square", "loss"])
def test_a_loss_that_is_no_number(tmp_path: Path, term: str, factor: float) -> None:
    task = Breaks(7, term, factor, pieces=2)
    with pytest.raises(TrainingError, match=f"toy, step 7: {term}: expected a finite number, got {factor}") as caught:
        run(tmp_path, task, minutes=0)
    assert_sentence(caught.value)
    assert f"the checkpoint {tmp_path / 'checkpoint'} is kept" in str(caught.value)
    tensors, notes = load_tensors(tmp_path / "checkpoint")
    assert notes["step"] == 7
    weights = {name.removeprefix("model."): a for name, a in tensors.items() if name.startswith("model.")}
    assert_same_weights(task.model.state_dict(), weights)  # the step has not been taken
    assert all(np.isfinite(a).all() for a in weights.values())
    assert losses_of(Journal.read(tmp_path / "metrics.jsonl"))[-1]["step"] == 6
    facts, _ = run(tmp_path, Regression(seed=5))  # and it can be taken up, once the cause is mended
    assert facts == run(tmp_path / "other", Regression())[0]


def test_no_checkpoint_yet_is_not_promised(tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="step 0: loss") as caught:
        run(tmp_path, Breaks(0, "loss", math.nan))
    assert "checkpoint" not in str(caught.value) and not (tmp_path / "checkpoint").exists()


def test_a_gradient_that_is_no_number(tmp_path: Path) -> None:
    """A finite loss may have a gradient beyond all numbers."""

    class Steep(Breaks):
        def broken(self, terms: dict[str, Tensor]) -> Mapping[str, Tensor]:
            return {"loss": terms["loss"] + mean(self.model.weight) * 0.0 * 1e300 * 1e300}

    task = Steep(3, "loss", 1.0)
    with np.errstate(all="ignore"), pytest.raises(TrainingError, match="toy, step 3: the norm of the gradient"):
        run(tmp_path, task)


def test_gradients_of_parts_are_added_up_in_an_array_of_the_loops_own(tmp_path: Path) -> None:
    """Whoever has made a gradient may keep it."""
    kept = [Tensor([[1.0, 2.0, 3.0]], dtype=np.float64)]

    class Constant(Op):
        def forward(self, a: Any) -> Any:
            return array_module(a).asarray(a.sum())

        def backward(self, grad: Tensor, out: Tensor, *inputs: Tensor) -> Sequence[Tensor]:
            return kept

    class Kept(Regression):
        def losses(self, part: Any) -> Mapping[str, Tensor]:
            return {"loss": Constant()(self.model.weight)}

    run(tmp_path, Kept(pieces=2), TrainConfig(steps=3, batch_size=8, workers=1))
    np.testing.assert_array_equal(kept[0].numpy(), [[1.0, 2.0, 3.0]])


def test_where_memory_is_short_two_sentences_are_computed_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {size: TrainConfig(batch_size=size, low_memory=True).parts() for size in (1, 2, 3, 8, 9)}
    assert parts == {1: 1, 2: 1, 3: 2, 8: 4, 9: 5}
    assert TrainConfig(batch_size=8, low_memory=True, accumulate=3).parts() == 3
    monkeypatch.setattr(loop, "cores", lambda: 4)
    task, settings = Regression(), ({}, {"low_memory": True}, {"low_memory": True, "workers": 3})
    found = [loop._side_by_side(task, TrainConfig(**how)) for how in settings]
    assert found == ([4, 1, 3] if array_module(task.model.weight.array) is np else [1, 1, 1])


@pytest.mark.parametrize(
    "values",
    [
        {"steps": 0}, {"batch_size": 0}, {"accumulate": -1}, {"workers": -1}, {"evaluations": 0}, {"evaluations": -1},
        {"learning_rate": 0.0}, {"learning_rate": -1e-3}, {"learning_rate": math.nan}, {"learning_rate": math.inf},
        {"clip": -1.0}, {"clip": math.nan}, {"weight_decay": -0.1}, {"patience": -1}, {"warmup": 1.5}, {"floor": -0.1},
        {"accumulate": 9, "batch_size": 8},
    ],
)  # fmt: skip
def test_impossible_settings(values: dict[str, Any]) -> None:
    for kind in (SelectedConfig, TrainConfig):
        if kind is TrainConfig and next(iter(values)) in ("evaluations", "patience"):
            continue
        with pytest.raises(ConfigError, match=f"^{next(iter(values))}: expected") as caught:
            kind(**values)
        assert_sentence(caught.value)
