"""How time grows: ``python -m benchmarks.growth`` measures one axis after the other around one small network.

Along an axis (time steps T, tokens L, blocks, sentences B) every point of every contender is a process of its own, and
all of them take turns in every round. The exponent k of ``time ~ size^k`` is fitted by least squares to the logarithms
of the medians at the `UPPER` largest sizes, where what does not grow (the start of operations, the update of the
weights) has least weight.
"""

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.contender import words
from benchmarks.report import at_least_one, cell, number, spread, write
from benchmarks.setups import Setup
from benchmarks.turns import Figures, take_turns

CONTENDERS = ("minispike", "PyTorch + SpikingJelly")
JOBS = {"train": "training step", "infer": "inference"}
AXES = {"time_steps": "time steps T", "length": "tokens L", "depth": "blocks", "batch": "sentences B"}
BASE = Setup(depth=2, dim=256, heads=8, length=64, batch=4, vocab=8000)
"""The table of embeddings is small, for its update takes the same time everywhere."""
POINTS = {
    "time_steps": (1, 2, 4, 8, 16),
    "length": (16, 32, 64, 128, 256, 512),
    "depth": (1, 2, 4, 8),
    "batch": (1, 2, 4, 8, 16, 32),
}
UPPER = 3
QUICK = Setup(depth=1, dim=32, heads=2, length=8, batch=2, time_steps=2, vocab=100)
QUICK_POINTS = {"time_steps": (1, 2, 4), "length": (4, 8, 16), "depth": (1, 2), "batch": (1, 2, 4)}

Curve = dict[int, Figures]
"""What was found at each size."""


def exponent(curve: Curve) -> tuple[float, list[int]] | None:
    """The exponent and the sizes that it was fitted to; None where fewer than two of these were measured."""
    sizes = [size for size in sorted(curve)[-UPPER:] if not curve[size].lost]
    if len(sizes) < 2:
        return None
    slope = np.polyfit(np.log(sizes), np.log([curve[size].seconds for size in sizes]), 1)[0]
    return float(slope), sizes


def measured(base: Setup, axis: str, sizes: Sequence[int], job: str, rounds: int, steps: int) -> dict[str, Curve]:
    """Each contender's times along an axis."""
    points = [(size, name) for size in sizes for name in CONTENDERS]
    starts = {f"{name} {size}": words(name, replace(base, **{axis: size}), job) for size, name in points}
    found = take_turns(starts, rounds, steps, f"{AXES[axis]}, {job}", memory=False)
    return {name: {size: found[f"{name} {size}"] for size in sizes} for name in CONTENDERS}


def table(axis: str, curves: dict[str, dict[str, Curve]]) -> list[str]:
    """An axis as a table: times in ms with the spread of the rounds, and exponents."""
    columns = [(job, name, curve) for job, found in curves.items() for name, curve in found.items()]
    names = [f"{name}, {JOBS[job]} (ms)" for job, name, _ in columns]
    lines = [f"| {AXES[axis]} | {' | '.join(names)} |", "|-" * (len(columns) + 1) + "|"]
    for size in columns[0][2]:
        lines.append(f"| {size} | {' | '.join(_time(curve[size]) for _, _, curve in columns)} |")
    lines.append(f"| exponent | {' | '.join(_exponent(curve) for _, _, curve in columns)} |")
    return lines


def _time(figures: Figures) -> str:
    if figures.lost:
        return f"did not run: {cell(figures.lost)}"
    return f"{number(1e3 * figures.seconds)} ({spread(1e3 * s for s in figures.medians)})"


def _exponent(curve: Curve) -> str:
    fitted = exponent(curve)
    return "" if fitted is None else f"{fitted[0]:.2f} ({fitted[1][0]} to {fitted[1][-1]})"


def picture(path: Path, found: dict[str, dict[str, dict[str, Curve]]], base: Setup) -> None:
    """Four panels, one an axis; contenders and jobs differ in marks and strokes, not in colour alone.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 7.5), layout="constrained")
    FigureCanvasAgg(figure)
    looks = {
        ("minispike", "train"): ("black", "-", "o", "black"),
        ("PyTorch + SpikingJelly", "train"): ("black", "--", "o", "white"),
        ("minispike", "infer"): ("0.5", "-", "s", "0.5"),
        ("PyTorch + SpikingJelly", "infer"): ("0.5", "--", "s", "white"),
    }
    for place, (axis, jobs) in enumerate(found.items(), start=1):
        panel = figure.add_subplot(2, 2, place)
        for job, curves in jobs.items():
            for name, curve in curves.items():
                sizes = [size for size in curve if not curve[size].lost]
                times = np.array([1e3 * curve[size].seconds for size in sizes])
                ends = [[1e3 * f(curve[size].medians) for size in sizes] for f in (min, max)]
                colour, stroke, mark, fill = looks[name, job]
                panel.errorbar(
                    sizes, times, yerr=[times - ends[0], np.array(ends[1]) - times], label=f"{name}, {JOBS[job]}",
                    color=colour, linestyle=stroke, marker=mark, markerfacecolor=fill, markersize=5, capsize=2,
                )  # fmt: skip
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        ticks = sorted({size for curves in jobs.values() for curve in curves.values() for size in curve})
        panel.set_xticks(ticks, [str(size) for size in ticks])
        panel.set_xlabel(AXES[axis] + (" of a sentence" if axis == "length" else ""))
        panel.set_ylabel("time of a batch (ms)")
        panel.grid(True, which="major", color="0.9")
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False)
    shape = f"{base.depth} blocks of width {base.dim}, T {base.time_steps}, L {base.length}, B {base.batch}"
    figure.suptitle(f"Time against size around {shape}; median of the rounds, bars from lowest to highest", fontsize=10)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=150)


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", nargs="+", choices=AXES, default=list(AXES))
    parser.add_argument("--rounds", type=at_least_one, help="default 5")
    parser.add_argument("--steps", type=at_least_one, help="timed in a round; default 3")
    parser.add_argument("--quick", action="store_true", help="a tiny network, 2 rounds of 1 step: whether all runs")
    parser.add_argument("--out", type=Path, help="tables go to OUT.md, all figures to OUT.json, a picture to OUT.png")
    args = parser.parse_args()
    base, points = (QUICK, QUICK_POINTS) if args.quick else (BASE, POINTS)
    rounds, steps = args.rounds or (2 if args.quick else 5), args.steps or (1 if args.quick else 3)
    found: dict[str, dict[str, dict[str, Curve]]] = {}
    lines = [f"Around {base}: median of {rounds} rounds, {steps} steps each (lowest to highest round).", ""]
    for axis in args.axis:
        found[axis] = {job: measured(base, axis, points[axis], job, rounds, steps) for job in JOBS}
        new = [f"## {AXES[axis]}", "", *table(axis, found[axis]), ""]
        print("\n".join(new), flush=True)
        lines += new
        write(args.out, lines, record(found))
    if args.out is not None:
        png = args.out.with_suffix(".png")
        try:
            picture(png, found, base)
            lines.append(f"![time against size]({png.name})")
        except ImportError as error:
            lines.append(f"No picture: {cell(str(error))}")
        write(args.out, lines, record(found))


def record(found: dict[str, dict[str, dict[str, Curve]]]) -> dict[str, Any]:
    """All figures as plain data: by axis, job and contender."""
    return {
        axis: {job: {name: _curve(curve) for name, curve in curves.items()} for job, curves in jobs.items()}
        for axis, jobs in found.items()
    }


def _curve(curve: Curve) -> dict[str, Any]:
    fitted = exponent(curve)
    told = {} if fitted is None else {"exponent": fitted[0], "fitted_to": fitted[1]}
    points = {str(size): figures.record() for size, figures in curve.items()}
    return {"points": points} | told


if __name__ == "__main__":
    main()
