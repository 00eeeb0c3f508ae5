"""Processes that compute the parts of a batch side by side, for networks too small for threads.

Threads of Python take turns between two operations of NumPy. Where an operation takes a tenth of a millisecond that
costs nothing; where it takes a hundredth, two threads together are no faster than one. Processes wait for nobody. They
are copies of this one, made when there is first work for them (``fork``), so that they know the model and its task
already. All of them see the same weights, in memory that they share, and leave their gradients in such memory. What a
part gives depends on the part alone, and results come in the order of the parts: the numbers are the same for any
number of processes, and the same as those of threads.
"""

import math
import mmap
import multiprocessing
import pickle
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import islice
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

import numpy as np

from minispike.backend import CACHE_LINE, lock, unlock
from minispike.errors import TrainingError, problem, warn
from minispike.nn.module import Parameter
from minispike.row_gradient import RowGradient
from minispike.tensor import Tensor
from minispike.train.memory import give_back_freed_memory
from minispike.train.workers import single_threaded_products


def available() -> bool:
    """Whether this process can be copied: Windows has no ``fork``, on macOS system libraries do not survive one, and
    a daemon of `multiprocessing` may have no processes of its own."""
    return sys.platform == "linux" and not multiprocessing.current_process().daemon


class PartResult(NamedTuple):
    """The terms of a part's loss, and the gradient of each parameter: None where the loss does not depend on it, and
    no gradients at all after a term that is no number."""

    terms: Mapping[str, float]
    gradients: Sequence[Tensor | None]


class Processes:
    """Computes parts in this process and in copies of it, at the same time.

    Until `close` the parameters lie in shared memory.

    Args:
        compute: the terms and gradients of a part.
        parameters: what ``compute`` takes the gradients of, in its order; arrays of NumPy's.
        count: processes, this one included: as many at most, and no more than there are parts.
        name: of the work, in errors.
    """

    def __init__(
        self, compute: Callable[[Any], PartResult], parameters: Sequence[Parameter], count: int, name: str
    ) -> None:
        self._compute, self._parameters, self._count, self._name = compute, parameters, count, name
        self._weights = _shared_arrays(parameters)
        self._helpers: list[_Helper] = []

    def map(self, parts: Iterable[Any]) -> Generator[PartResult]:
        """The result of each part, in order; its gradients hold until the next one is asked for. An error is raised
        in its place.

        Args:
            parts: data that can be pickled.
        """
        self._share_weights()
        waiting = iter(parts)
        with single_threaded_products:
            while some := list(islice(waiting, self._count)):
                helpers = self._enough_helpers(len(some) - 1)
                for helper, part in zip(helpers, some[1:], strict=False):
                    helper.give(part)
                yield self._compute(some[0])
                for helper in helpers:
                    yield helper.result()
                yield from map(self._compute, some[1 + len(helpers) :])  # where helpers are missing

    def _enough_helpers(self, wanted: int) -> "list[_Helper]":
        """So many helpers, started where they are missing; fewer, where the system has no room for another."""
        if len(self._helpers) < wanted:
            give_back_freed_memory()
        try:
            while len(self._helpers) < wanted:
                gradients = _shared_arrays(self._parameters)
                with _interrupts_held():
                    self._helpers.append(_Helper(self._name, self._compute, gradients, self._helpers))
        except OSError as error:
            self._count = len(self._helpers) + 1
            warn(f"{self._name}: goes on in {self._count} processes, the same but slower: {error.strerror or error}")
        return self._helpers[:wanted]

    def _share_weights(self) -> None:
        """Bring parameters that were assigned to into the shared memory; what is there changes in place."""
        for p, shared in zip(self._parameters, self._weights, strict=True):
            if p.array is not shared:
                unlock(shared)
                shared[...] = p.array
                lock(shared)
                p.array = shared

    def close(self) -> None:
        """End the copies, whatever they are doing, and give the parameters memory of their own."""
        for helper in self._helpers:
            helper.end()
        for p in self._parameters:
            p.array = p.array.copy()
            lock(p.array)


class _Helper:
    """One copy of this process, at the other end of a pipe. It is given a part, and asked for the result, in turn.

    Args:
        name: of the work.
        compute: what it does.
        gradients: shared arrays in which it leaves the gradients.
        older: the helpers before it, whose pipes it does not keep open.
    """

    def __init__(
        self, name: str, compute: Callable[[Any], PartResult], gradients: Sequence[Any], older: "Sequence[_Helper]"
    ) -> None:
        self._name, self._gradients, self._owes = name, gradients, False
        fork = multiprocessing.get_context("fork")
        self._pipe, end = fork.Pipe()
        pipes = [self._pipe, *(helper._pipe for helper in older)]
        self._process = fork.Process(target=_serve, args=(compute, gradients, end, pipes), daemon=True)
        with warnings.catch_warnings():  # of threads: those of ONNX Runtime and of BLAS, which the copy never calls on
            warnings.simplefilter("ignore", DeprecationWarning)
            self._process.start()
        end.close()

    def give(self, part: Any) -> None:
        """Let it compute a part; a result that nobody has asked for is dropped."""
        if self._owes:
            self._receive()
        try:
            self._pipe.send(part)
        except ConnectionError as cause:
            raise self._lost() from cause
        self._owes = True

    def result(self) -> PartResult:
        """What it found; waits for it."""
        terms, found = self._receive()
        if isinstance(terms, BaseException):
            raise terms
        pairs = zip(self._gradients, found, strict=True) if found else ()
        return PartResult(terms, [_received(array, sent) for array, sent in pairs])

    def _receive(self) -> Any:
        try:
            answer = self._pipe.recv()
        except (EOFError, ConnectionError) as cause:
            raise self._lost() from cause
        self._owes = False
        return answer

    def end(self) -> None:
        """Stop it at once."""
        self._process.kill()
        self._process.join()
        self._pipe.close()

    def _lost(self) -> TrainingError:
        self._process.join(timeout=10)
        code = self._process.exitcode
        got = f"one that has ended, exit code {code}"
        if code == -signal.SIGKILL:
            got = f"one that was ended, exit code {code}, as a system does that is short of memory"
        hint = "--resume RUN, with workers=1 for this phase in its config.toml if that happens again"
        return TrainingError(problem(f"{self._name}: a worker process", expected="an answer", got=got, hint=hint))


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Let Ctrl-C and SIGTERM wait for the end of the block, lest they meet a copy that is half made."""
    held: list[int] = []
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():  # in others nobody is interrupted
        handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in handlers.items() if handler is not None}
    try:
        for number in before:
            signal.signal(number, lambda came, _: held.append(came))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in held:
            signal.raise_signal(came)


def _serve(
    compute: Callable[[Any], PartResult], gradients: Sequence[Any], pipe: Connection, others: Sequence[Connection]
) -> None:
    """What a copy does until the process that made it closes the pipe, or dies."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the process that made it, which ends this one
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    for other in others:  # while a copy holds them open, nobody notices the end of their process
        other.close()
    with single_threaded_products, suppress(EOFError, ConnectionError):  # nobody asks any more
        while True:
            content = pipe.recv_bytes()
            try:
                terms, found = compute(pickle.loads(content))
            except Exception as error:
                _send_error(pipe, error)
                continue
            pipe.send((dict(terms), [_left(array, g) for array, g in zip(gradients, found, strict=False)]))


def _left(array: Any, gradient: Tensor | None) -> Any:
    """Leave a gradient in shared memory; what is sent in its place: whether there is one, or rows, which are few."""
    if isinstance(gradient, RowGradient):
        return gradient.rows, gradient.values
    if gradient is not None:
        array[...] = gradient.array
    return gradient is not None


def _received(array: Any, sent: Any) -> Tensor | None:
    """The gradient that `_left` has left."""
    if isinstance(sent, tuple):
        return RowGradient(len(array), *sent)
    return Tensor._of(array[...]) if sent else None


def _send_error(pipe: Connection, error: Exception) -> None:
    """Hand an error to the process that asked, with the place where it was raised."""
    sent = error
    try:
        if type(pickle.loads(pickle.dumps(error))) is not type(error):
            raise TypeError
    except Exception:  # its class has a way of its own to be made
        sent = RuntimeError("".join(traceback.format_exception_only(error)).strip())
    sent.add_note(f"In a worker process:\n{''.join(traceback.format_exception(error))}")
    pipe.send((sent, ()))


def _shared_arrays(parameters: Sequence[Parameter]) -> list[Any]:
    """An array of zeros for each parameter, in memory that this process and its copies share."""
    like = [p.array for p in parameters]
    starts = np.cumsum([0, *(math.ceil(a.nbytes / CACHE_LINE) * CACHE_LINE for a in like)])
    memory = mmap.mmap(-1, max(int(starts[-1]), 1))
    return [
        np.frombuffer(memory, a.dtype, a.size, int(start)).reshape(a.shape)
        for a, start in zip(like, starts[:-1], strict=True)
    ]
