"""Parts of a batch are computed side by side, and nothing but the time tells."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import distill
from toy_regression import Regression, assert_same_weights, run

from minispike import default_dtype
from minispike.data.tokenizer import Encoded
from minispike.errors import TrainingError
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.modes import get_default_dtype, grad_enabled, no_grad
from minispike.smooth import smooth_spikes, spikes_are_smooth
from minispike.tensor import Tensor
from minispike.train import loop, processes
from minispike.train.loop import SelectedConfig
from minispike.train.predict import predict_logits
from minispike.train.workers import Workers, cores

pytestmark = pytest.mark.usefixtures("quick_report")

needs_processes = pytest.mark.skipif(not processes.available(), reason="needs a system that copies processes")


def threads_of_blas() -> int:
    """How many threads a product of matrices takes, at most, of those that NumPy uses."""
    info = pytest.importorskip("threadpoolctl").threadpool_info()
    return max(pool["num_threads"] for pool in info if pool["user_api"] == "blas")


def same(job: int) -> int:
    return job


@pytest.mark.parametrize("count", [1, 2, 3])
def test_results_come_in_the_order_of_the_jobs(count: int) -> None:
    first_may_end = threading.Event()

    def work(job: int) -> tuple[int, str]:
        if job == 0 and count > 1:
            assert first_may_end.wait(timeout=60)  # which a later job allows: so they do run side by side
        if job == 1:
            first_may_end.set()
        return job, threading.current_thread().name

    workers = Workers(work, count)
    found = list(workers.map(range(5)))
    workers.close()
    assert [job for job, _ in found] == list(range(5))
    names = {name for _, name in found}
    assert (names == {threading.current_thread().name}) == (count == 1) and len(names) <= count


def test_an_error_is_raised_in_its_place_and_ends_the_rest() -> None:
    done, gate = list[int](), threading.Event()

    def work(job: int) -> int:
        if job == 1:
            raise ZeroDivisionError
        if job == 2:  # keeps a worker busy, so that what comes later is still waiting when the error is told
            assert gate.wait(timeout=60)
        done.append(job)
        return job

    workers = Workers(work, 2)
    results = workers.map([0, 1, 2, 2, 3, 4, 5])
    assert next(results) == 0
    with pytest.raises(ZeroDivisionError):
        next(results)
    gate.set()
    workers.close()
    assert 5 not in done and threads_of_blas() > 0


def test_an_error_among_the_jobs_is_raised() -> None:
    def jobs() -> Iterator[int]:
        yield 1
        raise KeyError("no job")

    workers = Workers(same, 2)
    with pytest.raises(KeyError):
        list(workers.map(jobs()))
    workers.close()


def test_workers_share_type_and_spikes_but_not_the_graph_switch() -> None:
    workers = Workers(lambda _: (get_default_dtype(), spikes_are_smooth(), grad_enabled()), 2)
    with default_dtype(np.float64), smooth_spikes(), no_grad():
        switches = list(workers.map(range(2)))
    assert switches == [(np.float64, True, True)] * 2
    workers.close()


@pytest.mark.parametrize("count", [1, 2])
def test_products_take_one_thread_each_while_parts_are_computed(count: int) -> None:
    before, workers = threads_of_blas(), Workers(lambda _: threads_of_blas(), count)
    assert set(workers.map(range(2))) == {1}
    assert threads_of_blas() == before
    workers.close()


def test_products_get_their_threads_back_when_the_last_has_done() -> None:
    """However the work of several threads overlaps."""
    before = threads_of_blas()
    first, second = (Workers(same, 1).map(range(2)) for _ in range(2))
    assert (next(first), next(second)) == (0, 0)
    first.close()
    assert threads_of_blas() == 1
    second.close()
    assert threads_of_blas() == before


def test_cores() -> None:
    assert cores() >= 1


@pytest.fixture(params=["threads", pytest.param("processes", marks=needs_processes)])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """What parts of a batch are computed in."""
    monkeypatch.setattr(loop, "available", lambda: request.param == "processes")
    return str(request.param)


def test_training_ends_the_same_for_any_number_of_workers(tmp_path: Path, kind: str) -> None:
    found: list[Any] = []
    for workers in (1, 2, 3, 4, 6):
        task = Regression(pieces=4)
        c = SelectedConfig(steps=20, batch_size=8, learning_rate=0.05, accumulate=4, workers=workers)
        found.append((task, *run(tmp_path / str(workers), task, c)))
    for task, facts, lines in found[1:]:
        assert_same_weights(task.model.state_dict(), found[0][0].model.state_dict())
        assert (facts, lines) == found[0][1:]


class Lopsided(Regression):
    """The first part of a batch does not depend on the bias; every other one does."""

    def parts(self, step: int) -> Iterator[tuple[int, Any]]:
        yield from enumerate(super().parts(step))

    def losses(self, part: tuple[int, Any]) -> Any:
        number, x = part
        if number:
            return super().losses(x)
        error = Tensor(x) @ self.model.weight.transpose()
        return {"loss": (error * error).mean()}


def test_gradients_that_the_first_part_lacks(tmp_path: Path, kind: str) -> None:
    """Kept from the memory in which a worker leaves that of its next part."""
    found: list[Any] = []
    for workers in (1, 2):
        task = Lopsided(pieces=4)
        c = SelectedConfig(steps=20, batch_size=8, learning_rate=0.05, accumulate=4, workers=workers)
        found.append((task.model.state_dict, run(tmp_path / str(workers), task, c)))
    assert_same_weights(found[0][0](), found[1][0]())
    assert found[0][1] == found[1][1]


def test_a_part_that_fails_stops_the_training(tmp_path: Path, kind: str) -> None:
    class NoNumber(Regression):
        def losses(self, x: Any) -> Any:
            return {"loss": super().losses(x)["loss"] * np.nan}

    class Raises(Regression):
        def losses(self, x: Any) -> Any:
            raise MemoryError

    c = SelectedConfig(steps=2, batch_size=8, accumulate=2, workers=2)
    with pytest.raises(TrainingError, match="toy, step 0: loss: expected a finite number, got nan"):
        run(tmp_path / "nan", NoNumber(pieces=2), c)
    with pytest.raises(MemoryError):
        run(tmp_path / "error", Raises(pieces=2), c)


def test_answers_to_a_data_set_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    model = SpikeBERT(SpikeBERTConfig(13, 8, 1, 2, 2, 2, max_length=9), rng)
    encoded = Encoded(tuple(rng.integers(0, 13, length) for length in rng.integers(2, 10, 50)), None, 0.0, 0.0)

    def logits(ids: Any, mask: Any, _: Any) -> Tensor:
        out = model(ids, mask, features=False).logits
        assert not out.requires_grad  # without a graph, in whichever thread
        return out

    found = predict_logits(logits, encoded, batch_size=8)
    with no_grad():
        for ids, row in zip(encoded.ids, found, strict=True):
            np.testing.assert_allclose(model(ids[None]).logits.numpy()[0], row, atol=1e-5)


SETTINGS = ("stage1.embedding=0.1", "stage2.weights.embedding=0.1", "stage2.accumulate=3")
PHASES = ("teacher.pretraining", "teacher.finetuning", "stage1", "stage2")


@needs_processes
def test_a_run_ends_the_same_whoever_computes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every phase, with dropout and all terms of the losses: the same weights, bit by bit."""
    runs: list[Path] = []
    for name, workers, copies in (("one", 1, True), ("three", 3, True), ("threads", 2, False)):
        monkeypatch.setattr(loop, "available", lambda copies=copies: copies)
        runs.append(tmp_path / name)
        outcome = distill(runs[-1], *SETTINGS, *(f"{phase}.workers={workers}" for phase in PHASES))
        assert outcome.code == 0, outcome
    kept = [path.relative_to(runs[0]) for path in runs[0].rglob("*") if path.suffix in (".safetensors", ".onnx")]
    assert len(kept) >= 5
    for run_ in runs[1:]:
        for path in kept:
            assert (run_ / path).read_bytes() == (runs[0] / path).read_bytes(), (run_, path)
