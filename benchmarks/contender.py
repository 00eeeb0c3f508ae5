"""One contender in a process of its own, which takes its turn when it is asked: ``python -m benchmarks.contender``.

Its words are the name, the setup and the job; a line of standard input is the number of steps to time, an empty one
the end. Each answer is a line of JSON.
"""

import json
import resource
import sys
from collections.abc import Callable
from typing import Any

from benchmarks.setups import Setup


def _ours(setup: Setup, job: str) -> Any:
    from benchmarks import ours

    return ours.Training(setup) if job == "train" else ours.Inference(setup)


def _torch(neuron: str, compiled: bool = False) -> Callable[[Setup, str], Any]:
    def made(setup: Setup, job: str) -> Any:
        from benchmarks import pytorch

        kind = pytorch.Training if job == "train" else pytorch.Inference
        return kind(setup, neuron, compiled)

    return made


def _floor(name: str) -> Callable[[Setup, str], Any]:
    def made(setup: Setup, job: str) -> Any:
        from benchmarks import floor

        return getattr(floor, name)(setup, training=job == "train")

    return made


CONTENDERS: dict[str, Callable[[Setup, str], Any]] = {
    "minispike": _ours,
    "PyTorch + SpikingJelly": _torch("SpikingJelly"),
    "torch.compile of it": _torch("SpikingJelly", compiled=True),
    "PyTorch, hand-fused LIF": _torch("hand-fused"),
    "PyTorch + snnTorch": _torch("snnTorch"),
    "products in NumPy": _floor("NumPyFloor"),
    "products in PyTorch": _floor("TorchFloor"),
}


def peak() -> int:
    """The most memory that this process and the copies that it has made have held, in bytes."""
    here, there = (resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return 1024 * (here + there)


def main() -> None:
    """Answer until there is nothing more to answer."""
    name, setup, job = sys.argv[1], Setup(**json.loads(sys.argv[2])), sys.argv[3]
    contender = CONTENDERS[name](setup, job)
    answers, sys.stdout = sys.stdout, sys.stderr  # what a library prints is no answer
    print(json.dumps({"ready": True, "peak": peak()}), file=answers, flush=True)
    for line in sys.stdin:
        if not line.strip():
            break
        print(json.dumps({"seconds": contender.seconds(int(line)), "peak": peak()}), file=answers, flush=True)


if __name__ == "__main__":
    main()
