"""One contender in a process of its own, which takes its turn when it is asked: ``python -m benchmarks.contender``.

Its words are the name, the setup and the job; a line of standard input is the number of steps to time, an empty one
the end. Each answer is a line of JSON.
"""

import json
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Protocol

from benchmarks.setups import Setup


class Contender(Protocol):
    """Somebody who can be asked for steps."""

    def seconds(self, steps: int) -> list[float]:
        """How long each of some steps took."""
        ...


def _ours(setup: Setup, job: str) -> Contender:
    from benchmarks import ours

    return ours.Training(setup) if job == "train" else ours.Inference(setup)


def _torch(neuron: str, compiled: bool = False) -> Callable[[Setup, str], Contender]:
    def made(setup: Setup, job: str) -> Contender:
        from benchmarks import pytorch

        kind = pytorch.Training if job == "train" else pytorch.Inference
        return kind(setup, neuron, compiled)

    return made


def _exported(setup: Setup, job: str) -> Contender:
    from benchmarks import exported

    return exported.Inference(setup)


def _floor(name: str) -> Callable[[Setup, str], Contender]:
    def made(setup: Setup, job: str) -> Contender:
        from benchmarks import floor

        return getattr(floor, name)(setup, training=job == "train")

    return made


CONTENDERS: dict[str, Callable[[Setup, str], Contender]] = {
    "minispike": _ours,
    "PyTorch + SpikingJelly": _torch("SpikingJelly"),
    "torch.compile of it": _torch("SpikingJelly", compiled=True),
    "PyTorch, hand-fused LIF": _torch("hand-fused"),
    "PyTorch + snnTorch": _torch("snnTorch"),
    "ONNX Runtime": _exported,
    "products in NumPy": _floor("NumPyFloor"),
    "products in PyTorch": _floor("TorchFloor"),
}
"""Who takes part; the last two are the floors under the others."""

INFERENCE_ALONE = ("ONNX Runtime",)
"""Who does not train."""

FLOORS = {
    "minispike": "products in NumPy",
    "PyTorch + SpikingJelly": "products in PyTorch",
    "torch.compile of it": "products in PyTorch",
    "PyTorch, hand-fused LIF": "products in PyTorch",
    "PyTorch + snnTorch": "products in PyTorch",
}
"""Whose products are whose floor."""


def words(name: str, setup: Setup, job: str) -> list[str]:
    """What starts a contender (see `benchmarks.turns.Process`)."""
    return ["benchmarks.contender", name, json.dumps(asdict(setup)), job]


def peak() -> int:
    """The most memory that this process has held, and the most that a child of it has, in bytes; 0 on Windows."""
    try:
        import resource
    except ImportError:
        return 0
    here, there = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return (1 if sys.platform == "darwin" else 1024) * (here + there)


def serve(make: Callable[[], Contender]) -> None:
    """Make a contender, and answer until there is nothing more to answer."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    contender = make()
    print(json.dumps({"ready": True}), file=answers, flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        print(json.dumps({"seconds": contender.seconds(int(line)), "peak": peak()}), file=answers, flush=True)


if __name__ == "__main__":
    serve(lambda: CONTENDERS[sys.argv[1]](Setup(**json.loads(sys.argv[2])), sys.argv[3]))
