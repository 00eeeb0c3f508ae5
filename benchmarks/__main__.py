"""Side by side: ``python -m benchmarks`` measures minispike and its peers in turns and writes what it has found.

Every contender is a process of its own, which keeps its network from round to round. In a round each is asked for a
few steps, one contender after the other while the others wait; a contender's figure is the median over all rounds.
"""

import argparse
from pathlib import Path
from typing import Any

from benchmarks.contender import CONTENDERS, FLOORS, INFERENCE_ALONE, words
from benchmarks.floor import multiply_adds
from benchmarks.report import at_least_one, cell, number, spread, write
from benchmarks.setups import SETUPS, Setup
from benchmarks.turns import Figures, take_turns

BASELINE = "PyTorch + SpikingJelly"
HEAD = (
    "", "ms", "rounds (ms)", "speed, SpikingJelly = 1", "G multiply-adds a second", "floor / time (%)", "peak (MB)",
)  # fmt: skip


def table(found: dict[str, Figures], setup: Setup, job: str) -> list[str]:
    """The figures as a table."""
    lines = [f"| {' | '.join(HEAD)} |", "|-" * len(HEAD) + "|"]
    for name, figures in found.items():
        if figures.lost:
            cells = [name, f"did not run: {cell(figures.lost)}", *[""] * 5]
        else:
            seconds = figures.seconds
            rate = multiply_adds(setup, training=job == "train") / seconds / 1e9
            peak = "" if name.startswith("products") else f"{figures.peak / 2**20:.0f}"
            ratio, share = _per(found, BASELINE, seconds), _per(found, FLOORS.get(name), seconds)
            cells = [name, number(1e3 * seconds), spread(1e3 * s for s in figures.medians)]
            cells += [f"{ratio:.2f}" if ratio else "", number(rate), f"{100 * share:.0f}" if share else "", peak]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def _per(found: dict[str, Figures], name: str | None, seconds: float) -> float | None:
    """The time of a contender, in units of ``seconds``; None if it has no time."""
    figures = found.get(name or "")
    return None if figures is None or figures.lost else figures.seconds / seconds


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--setup", nargs="+", choices=SETUPS, default=["S", "M"])
    parser.add_argument("--job", nargs="+", choices=("train", "infer"), default=["train", "infer"])
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--steps", type=at_least_one, default=4, help="timed in a round")
    parser.add_argument("--only", nargs="+", choices=CONTENDERS, default=list(CONTENDERS), help="contenders")
    parser.add_argument("--out", type=Path, help="tables go to OUT.md, all figures to OUT.json")
    args = parser.parse_args()
    results: dict[str, Any] = {}
    lines: list[str] = []
    for name in args.setup:
        for job in args.job:
            setup = SETUPS[name]
            taking_part = [who for who in args.only if job == "infer" or who not in INFERENCE_ALONE]
            starts = {who: words(who, setup, job) for who in taking_part}
            found = take_turns(starts, args.rounds, args.steps, f"{name}, {job}")
            results[f"{name} {job}"] = {who: figures.record() for who, figures in found.items()}
            new = [f"## {name}, {job}: {setup}", "", *table(found, setup, job), ""]
            print("\n".join(new), flush=True)
            lines += new
            write(args.out, lines, results)


if __name__ == "__main__":
    main()
