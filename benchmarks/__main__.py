"""Side by side: ``python -m benchmarks`` measures minispike and its peers in turns and writes what it has found.

Every contender is a process of its own, which keeps its network from round to round. In a round each is asked for a
few steps, one contender after the other while the others wait; a contender's figure is the median over all rounds.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

from benchmarks.contender import CONTENDERS
from benchmarks.floor import multiply_adds
from benchmarks.setups import SETUPS, Setup

BASELINE = "PyTorch + SpikingJelly"


class Process:
    """A contender at the other end of a pipe."""

    def __init__(self, name: str, setup: Setup, job: str) -> None:
        words = [sys.executable, "-m", "benchmarks.contender", name, json.dumps(asdict(setup)), job]
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, text=True)
        self.seconds: list[float] = []
        self.rounds: list[float] = []
        self.peak = self._answer()["peak"]

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"a contender ended with code {self.process.wait()}: {self.process.args!r}")
        return json.loads(line)

    def ask(self, steps: int) -> None:
        """Time some steps."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{steps}\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.seconds += answer["seconds"]
        self.rounds.append(statistics.median(answer["seconds"]))
        self.peak = answer["peak"]

    def end(self) -> None:
        """Let it go."""
        self.process.kill()
        self.process.wait()


def measured(names: list[str], setup: Setup, job: str, rounds: int, steps: int) -> dict[str, Any]:
    """Each contender's median, spread and peak of memory."""
    processes: dict[str, Process] = {}
    lost: dict[str, str] = {}
    for name in names:
        try:
            processes[name] = Process(name, setup, job)
        except RuntimeError as error:
            lost[name] = str(error)
    try:
        for i in range(rounds):
            for name, process in list(processes.items()):
                try:
                    process.ask(steps)
                except RuntimeError as error:
                    lost[name] = str(error)
                    processes.pop(name)
            print(f"{job}: round {i + 1} of {rounds}", file=sys.stderr)
    finally:
        for process in processes.values():
            process.end()
    found: dict[str, Any] = {}
    for name, process in processes.items():
        median = statistics.median(process.rounds)
        found[name] = {
            "seconds": median,
            "spread": [min(process.rounds), max(process.rounds)],
            "peak_mb": process.peak / 2**20,
        }
    for name, why in lost.items():
        found[name] = {"lost": why}
    return found


def table(found: dict[str, Any], setup: Setup, job: str) -> list[str]:
    """The figures as a table."""
    training = job == "train"
    base = found.get(BASELINE, {}).get("seconds")
    lines = ["| | ms | rounds (ms) | speed, SpikingJelly = 1 | G multiply-adds a second | peak (MB) |", "|-|-|-|-|-|-|"]
    for name, figures in found.items():
        if "lost" in figures:
            lines.append(f"| {name} | did not run | | | | |")
            continue
        seconds, (low, high) = figures["seconds"], figures["spread"]
        ratio = f"{base / seconds:.2f}" if base else ""
        rate = multiply_adds(setup, training=training) / seconds / 1e9
        peak = "" if name.startswith("products") else f"{figures['peak_mb']:.0f}"
        shown = f"{1e3 * low:.0f} to {1e3 * high:.0f}"
        lines.append(f"| {name} | {1e3 * seconds:.0f} | {shown} | {ratio} | {rate:.0f} | {peak} |")
    return lines


def machine() -> dict[str, str]:
    """What it was measured on."""
    from importlib.metadata import version

    names = ("numpy", "torch", "spikingjelly", "snntorch", "onnxruntime")
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        platform.processor(),
    )
    return {"cpu": cpu, "python": platform.python_version(), **{name: version(name) for name in names}}


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", nargs="+", choices=SETUPS, default=["S", "M"])
    parser.add_argument("--job", nargs="+", choices=("train", "infer"), default=["train", "infer"])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=4, help="timed in a round")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="contenders")
    parser.add_argument("--out", type=Path, help="a file for the tables; JSON beside it")
    args = parser.parse_args()
    record: dict[str, Any] = {"command": " ".join(sys.argv[1:]), "machine": machine(), "results": {}}
    lines = [", ".join(f"{name} {value}" for name, value in record["machine"].items()), ""]
    for name in args.setup:
        for job in args.job:
            found = measured(args.only, SETUPS[name], job, args.rounds, args.steps)
            record["results"][f"{name} {job}"] = found
            lines += [f"## {name}, {job}: {SETUPS[name]}", "", *table(found, SETUPS[name], job), ""]
            print("\n".join(lines[-len(found) - 5 :]), flush=True)
            if args.out:
                args.out.write_text("\n".join(lines), encoding="utf-8")
                args.out.with_suffix(".json").write_text(json.dumps(record, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
