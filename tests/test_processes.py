"""Copies of a process that compute parts beside it: what they give, and how they end."""

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence

from minispike.errors import DataError, TrainingError, problem
from minispike.nn.module import Parameter
from minispike.tensor import grad
from minispike.train import processes
from minispike.train.processes import PartResult, Processes
from minispike.train.workers import Workers

pytestmark = pytest.mark.skipif(not processes.available(), reason="needs a system that copies processes")


class Sums:
    """A loss ``number * sum(a)`` that leaves out the parameter ``b`` for odd numbers, and says who computed it."""

    def __init__(self) -> None:
        self.a, self.b = Parameter(np.arange(6.0).reshape(2, 3)), Parameter(np.float32(2.0))

    def __call__(self, number: int) -> PartResult:
        loss = self.a.sum() * number
        loss = loss if number % 2 else loss + self.b * 10
        terms = {"loss": loss.item(), "process": float(os.getpid())}
        return PartResult(terms, grad(loss, [self.a, self.b]))

    def workers(self, count: int) -> Processes:
        return Processes(self, [self.a, self.b], count, "sums")


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists() and "zombie" not in Path(f"/proc/{pid}/status").read_text()


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_results_come_in_the_order_of_the_parts(count: int) -> None:
    sums = Sums()
    with closing(sums.workers(count)) as workers:
        for _ in range(2):
            found: list[float] = []
            for n, (terms, (a, b)) in enumerate(workers.map(range(5))):
                assert terms["loss"] == 15 * n + (20 if n % 2 == 0 else 0)
                np.testing.assert_array_equal(a.data, np.full((2, 3), float(n)))
                assert b is None if n % 2 else b.item() == 10
                found.append(terms["process"])
            assert len(found) == 5 and len(set(found)) == min(count, 5) and found[0] == os.getpid()
        assert list(workers.map([])) == []


def test_they_see_weights_change() -> None:
    sums = Sums()
    with closing(sums.workers(2)) as workers:
        sums.a.assign(np.ones((2, 3)))
        assert [terms["loss"] for terms, _ in workers.map([1, 1])] == [6.0, 6.0]
        sums.a.array.setflags(write=True)
        sums.a.array += np.arange(6.0).reshape(2, 3)
        assert [terms["loss"] for terms, _ in workers.map([1, 1])] == [21.0, 21.0]
    np.testing.assert_array_equal(sums.a.data, np.arange(6.0).reshape(2, 3) + 1)
    assert sums.a.array.base is None and not sums.a.array.flags.writeable  # memory of its own, locked as before


def test_an_error_is_raised_in_its_place_with_where_it_came_from() -> None:
    def compute(part: int) -> PartResult:
        if part == 1:
            raise DataError(problem("part", expected="another", got="1", hint="2"))
        return PartResult({}, ())

    with closing(Processes(compute, [], 2, "test")) as workers:
        results = workers.map([0, 1])
        assert next(results).terms == {}
        with pytest.raises(DataError, match="part: expected another, got 1") as caught:
            next(results)
        assert "in compute" in caught.value.__notes__[0]


class UnpicklableError(Exception):
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


class ErrorWithItsOwnSignature(Exception):  # noqa: N818
    def __init__(self, code: int, where: str) -> None:
        super().__init__(f"{code} {where}")


class Impostor(Exception):  # noqa: N818
    def __reduce__(self) -> Any:
        return dict, ()


ERRORS = [UnpicklableError("lost words"), ErrorWithItsOwnSignature(7, "lost words"), Impostor("lost words")]


@pytest.mark.parametrize("error", ERRORS)
def test_an_error_that_cannot_be_sent(error: Exception) -> None:
    def compute(part: int) -> PartResult:
        if part == 1:
            raise error
        return PartResult({}, ())

    with closing(Processes(compute, [], 2, "test")) as workers:
        with pytest.raises(RuntimeError, match=f"{type(error).__name__}: .*lost words") as caught:
            list(workers.map([0, 1]))
        assert "in compute" in caught.value.__notes__[0]
        assert list(workers.map([0, 2])) == [({}, ()), ({}, [])]  # it goes on


class Unreadable:
    """Data that can be sent, but not be read."""

    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_a_part_that_cannot_be_read() -> None:
    with closing(Sums().workers(2)) as workers, pytest.raises(ValueError, match="no number"):
        list(workers.map([0, Unreadable()]))


def test_results_that_nobody_asked_for_are_dropped() -> None:
    with closing(Sums().workers(3)) as workers:
        results = workers.map([0, 1, 2])
        next(results)
        results.close()
        assert [terms["loss"] for terms, _ in workers.map([3, 5, 7])] == [45.0, 75.0, 105.0]


def test_no_more_processes_than_parts() -> None:
    with closing(Sums().workers(40)) as workers:
        list(workers.map([1]))
        assert len(workers._helpers) == 0
        list(workers.map([1, 2, 3]))
        assert len(workers._helpers) == 2


def test_products_take_one_thread_in_every_process() -> None:
    info = pytest.importorskip("threadpoolctl").threadpool_info

    def compute(_: int) -> PartResult:
        return PartResult({"threads": max(pool["num_threads"] for pool in info() if pool["user_api"] == "blas")}, ())

    with closing(Processes(compute, [], 3, "test")) as workers:
        assert [terms["threads"] for terms, _ in workers.map(range(6))] == [1] * 6


def test_copied_while_another_thread_opens_and_shuts_the_lock_of_products() -> None:
    """A copy has the locks of all threads, but not the threads that would open them."""
    done = threading.Event()

    def busy() -> None:
        while not done.is_set():
            list(Workers(abs, 1).map([1]))

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for _ in range(30):
            with closing(Sums().workers(2)) as workers:
                list(workers.map([0, 1]))
    finally:
        done.set()
        thread.join()


def test_no_processes_within_a_daemon() -> None:
    fork = multiprocessing.get_context("fork")
    with fork.Pool(1) as pool:
        assert pool.apply(processes.available) is False
    assert processes.available()


def test_fewer_where_there_is_no_room_for_another(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    started, fork = list[int](), os.fork

    def full() -> int:
        started.append(1)
        if len(started) > 1:
            raise BlockingIOError("no more processes")
        return fork()

    monkeypatch.setattr(os, "fork", full)
    with closing(Sums().workers(4)) as workers:
        for _ in range(2):
            assert len({terms["process"] for terms, _ in workers.map(range(5))}) == 2
    assert capsys.readouterr().err == "sums: goes on in 2 processes, the same but slower: no more processes\n"


def test_a_process_that_is_killed_is_told() -> None:
    sums = Sums()
    with closing(sums.workers(2)) as workers:
        pid = int(list(workers.map([0, 1]))[1].terms["process"])
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(
            TrainingError, match=r"sums: a worker process: expected an answer, got .* exit code -9, as a system"
        ) as caught:
            list(workers.map([0, 1]))
    assert_sentence(caught.value)


def test_they_end_with_close_whatever_they_do() -> None:
    def compute(part: int) -> PartResult:
        if part:
            time.sleep(600)
        return PartResult({"process": float(os.getpid())}, ())

    workers = Processes(compute, [], 3, "test")
    results = workers.map([0, 1, 2])
    assert next(results).terms["process"] == os.getpid()
    pids = [helper._process.pid for helper in workers._helpers]
    assert len(pids) == 2
    assert all(is_running(pid) for pid in pids if pid)
    workers.close()
    assert not any(is_running(pid) for pid in pids if pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_waits_for_a_copy_that_is_being_made(number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    fork, seen = os.fork, list[object]()

    def interrupted() -> int:
        os.kill(os.getpid(), number)
        time.sleep(0.05)
        return fork()

    monkeypatch.setattr(os, "fork", interrupted)

    def told(*_: object) -> None:
        seen.append(len(workers._helpers))
        raise KeyboardInterrupt

    before = signal.signal(number, told)
    try:
        with closing(Sums().workers(2)) as workers, pytest.raises(KeyboardInterrupt):
            list(workers.map([0, 1]))
        assert seen == [1] and not is_running(workers._helpers[0]._process.pid or 0)
        assert signal.getsignal(number) is told
    finally:
        signal.signal(number, before)


ALONE = """
import os, time
from minispike.train.processes import PartResult, Processes
from minispike.train.workers import Workers

def compute(part):
    if part == "wait":
        time.sleep(600)
    if part == "soon":
        time.sleep(1)
    return PartResult({"process": float(os.getpid())}, ())

if __name__ == "__main__":
    workers = Processes(compute, [], 3, "test")
    pids = [int(terms["process"]) for terms, _ in workers.map([0, 1, 2])]
    print(*pids[1:], flush=True)
    list(workers.map(["wait", "soon", 0]))
"""


@pytest.fixture(params=[signal.SIGKILL, signal.SIGINT, signal.SIGTERM])
def ended(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[list[int], str]]:
    """The copies of a process that was ended by a signal to it alone or, by Ctrl-C, to all; and what it complained."""
    script = tmp_path / "alone.py"
    script.write_text(ALONE)
    process = subprocess.Popen(
        [sys.executable, script], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True, preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    assert process.stdout is not None and process.stderr is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    time.sleep(0.2)
    if request.param == signal.SIGINT:
        os.killpg(process.pid, signal.SIGINT)
    else:
        process.send_signal(request.param)
    process.wait(timeout=60)
    yield pids, process.stderr.read()
    process.stdout.close()
    process.stderr.close()


def test_no_copy_outlives_its_process(ended: tuple[list[int], str]) -> None:
    pids, complaint = ended
    assert len(pids) == 2
    for _ in range(100):
        if not any(is_running(pid) for pid in pids):
            break
        time.sleep(0.1)
    assert not any(is_running(pid) for pid in pids)
    assert complaint.count("Traceback") <= 1  # that of the process itself
