"""The training loop goes on after an interruption as if there had been none."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("safetensors")

from toy_regression import CONFIG, NEVER, Lines, Regression, assert_same_weights, run

from minispike.checkpoint import load_tensors
from minispike.train.journal import Journal
from minispike.train.loop import Keeper, SelectedConfig, TrainConfig, train


class Interruption(BaseException):
    """A signal, a power cut: nothing that a loop would catch."""


# ---- Interrupted and taken up


class Fragile(Regression):
    """Saved after one step, and interrupted in a later one: before it, or between the parts of its batch."""

    def __init__(self, keeper: Keeper, saved_after: int, dies_in: int, after_parts: int = 0, **how: Any) -> None:
        super().__init__(**how)
        self.keeper, self.saved_after, self.dies_in, self.after_parts = keeper, saved_after, dies_in, after_parts

    def parts(self, step: int) -> Iterator[Any]:
        self.keeper.minutes = 0 if step == self.saved_after else NEVER
        for number, part in enumerate(super().parts(step)):
            if step == self.dies_in and number == self.after_parts:
                raise Interruption
            yield part


def interrupted(folder: Path, saved_after: int, dies_in: int, c: TrainConfig = CONFIG, **how: Any) -> Lines:
    """A run that is saved once, dies later, and leaves this journal."""
    with Journal(folder / "metrics.jsonl", append=True) as journal:
        keeper = Keeper(folder / "checkpoint", journal, NEVER)
        with pytest.raises(Interruption):
            train(Fragile(keeper, saved_after, dies_in, **how), c, keeper)
    return Journal.read(folder / "metrics.jsonl")


@pytest.mark.parametrize("dies_in", range(1, 12))
def test_resumed_as_if_nothing_had_happened(tmp_path: Path, dies_in: int) -> None:
    """From a checkpoint after any step: the same weights, journal and results, bit by bit."""
    straight = Regression(pieces=2)
    facts, lines = run(tmp_path / "straight", straight)
    for saved_after in range(dies_in):
        folder = tmp_path / str(saved_after)
        left = interrupted(folder, saved_after, dies_in, pieces=2, after_parts=dies_in % 2)
        assert max(line["step"] for line in left) == dies_in - 1
        assert load_tensors(folder / "checkpoint")[1]["step"] == saved_after + 1
        task = Regression(seed=123, pieces=2)  # what it begins with does not matter
        assert run(folder, task) == (facts, lines)
        assert task.asked == list(range(saved_after + 1, 12))
        assert_same_weights(task.model.state_dict(), straight.model.state_dict())


def test_resumed_twice(tmp_path: Path) -> None:
    straight = run(tmp_path / "straight", Regression())
    interrupted(tmp_path / "run", 2, 6)
    interrupted(tmp_path / "run", 7, 9, seed=1)
    assert load_tensors(tmp_path / "run" / "checkpoint")[1]["step"] == 8
    assert run(tmp_path / "run", Regression(seed=2)) == straight


@pytest.mark.parametrize("saved_after", [1, 2, 3, 4, 5])
def test_the_selection_is_resumed_too(tmp_path: Path, saved_after: int) -> None:
    """The best may lie before the checkpoint, and the patience that is left is what was left."""
    c = SelectedConfig(steps=12, batch_size=8, learning_rate=0.05, evaluations=12, patience=4)
    scores = (1, 2, 9, 3, 1, 8, 4, 4, 4, 5, 0, 0)
    straight = Regression(scores=scores)
    expected = run(tmp_path / "straight", straight, c)
    assert expected[0] == {"score": 9, "step": 2} and len(straight.asked) == 7
    interrupted(tmp_path / "run", saved_after, 6, c, scores=scores)
    task = Regression(seed=1, scores=scores[saved_after + 1 :])
    assert run(tmp_path / "run", task, c) == expected
    assert_same_weights(task.model.state_dict(), straight.model.state_dict())


def test_a_run_that_has_stopped_stays_stopped(tmp_path: Path) -> None:
    """Killed after patience ran out, before its results were on record."""
    c = SelectedConfig(steps=12, batch_size=8, evaluations=12, patience=2)
    scores = (1, 3, 2, 2)
    task = Regression(scores=scores)
    expected = run(tmp_path, task, c, minutes=0)
    again = Regression(seed=1, scores=())
    assert run(tmp_path, again, c) == expected
    assert again.asked == []
    assert_same_weights(again.model.state_dict(), task.model.state_dict())


def test_interrupted_while_the_checkpoint_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    straight = run(tmp_path / "straight", Regression())
    replace, saves = os.replace, []

    def dies_at_the_third(source: Path, target: Path) -> None:
        saves.append(target)
        if len(saves) == 3:
            raise Interruption
        replace(source, target)

    monkeypatch.setattr(os, "replace", dies_at_the_third)
    with pytest.raises(Interruption):
        run(tmp_path / "run", Regression(), minutes=0)
    monkeypatch.undo()
    assert load_tensors(tmp_path / "run" / "checkpoint")[1]["step"] == 2
    assert run(tmp_path / "run", Regression(seed=1)) == straight


def test_a_checkpoint_of_another_phase_is_not_taken_up(tmp_path: Path) -> None:
    class Other(Regression):
        name = "other"

    straight = Regression()
    run(tmp_path / "straight", straight)
    interrupted(tmp_path / "run", 3, 5)
    before = Journal.read(tmp_path / "run" / "metrics.jsonl")
    other = Other()
    _, lines = run(tmp_path / "run", other)
    assert other.asked == list(range(12)) and lines[: len(before)] == before
    assert_same_weights(other.model.state_dict(), straight.model.state_dict())


def test_seconds_add_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Time before the checkpoint counts; time between the interruption and the resumption does not."""
    now = [0.0]
    monkeypatch.setattr("minispike.train.loop.time.monotonic", lambda: now[0])

    class Slow(Regression):
        def parts(self, step: int) -> Iterator[Any]:
            now[0] += 60.0
            if step == 7 and self.dies:
                raise Interruption
            yield from super().parts(step)

    task = Slow()
    task.dies = True  # type: ignore[attr-defined]
    with Journal(tmp_path / "metrics.jsonl") as journal:
        keeper = Keeper(tmp_path / "checkpoint", journal, minutes=1.5)  # saved after every second step
        with pytest.raises(Interruption):
            train(task, CONFIG, keeper)
        notes = load_tensors(tmp_path / "checkpoint")[1]
        assert (notes["step"], notes["seconds"]) == (6, 360)
        now[0] += 10_000
        task.dies = False  # type: ignore[attr-defined]
        assert train(task, CONFIG, keeper)["seconds"] == 12 * 60
