"""Results in words: tables for a reader, JSON for a program."""

import json
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

_DENSE = {"twin": "a BERT of the same shape", "teacher": "the teacher"}
"""The networks that the student's energy is compared with."""


def say(text: str = "") -> None:
    """Print at once. A reader that has gone away silences the output, and does not stop a run."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        silence()


def silence() -> None:
    """Let standard output go nowhere from now on, with what is still in its buffer."""
    # Only the file descriptor will do: Python flushes the stream once more when it ends.
    with suppress(OSError, ValueError), open(os.devnull, "w") as nowhere:
        os.dup2(nowhere.fileno(), sys.stdout.fileno())


def show_json(value: Any) -> None:
    """Print plain data as JSON, in ASCII, which every terminal and pipe can carry."""
    print(json.dumps(value, indent=1))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Aligned columns: the first to the left, figures to the right."""
    lines = [head, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    return "\n".join(
        "  ".join(
            f"{cell:<{width}}" if i == 0 else f"{cell:>{width}}"
            for i, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def percent(share: float) -> str:
    """A share of 0 to 1 with two decimals."""
    return f"{100 * share:.2f} %"


def interval(low: float, high: float) -> str:
    """Both ends of a confidence interval."""
    return f"{100 * low:.1f} to {100 * high:.1f} %"


def results_table(figures: Mapping[str, Mapping[str, Any]]) -> str:
    """Accuracy, interval and macro F1 of every model of a run."""
    rows = [
        (name, percent(f["accuracy"]), interval(f["low"], f["high"]), percent(f["macro_f1"]))
        for name, f in figures.items()
    ]
    return table(("model", "accuracy", "95 % interval", "macro F1"), rows)


def energy_line(facts: Mapping[str, Any]) -> str:
    """What a sentence costs the student, in mJ, and relative to the dense networks."""
    parts = [f"energy of a sentence: {facts['student']['total_mj']:.4g} mJ"]
    for name, words in _DENSE.items():
        if name in facts:
            shares = facts[name]
            own, matrices = shares["student_share"], shares["student_matrix_share"]
            parts.append(f"{100 * own:.1f} % of {words} ({100 * matrices:.1f} % in products of matrices)")
    return ", ".join(parts)


def seeds_tables(summary: Mapping[str, Any]) -> str:
    """What several seeds have come to: every model, then the energy of the student; each with its deviation."""
    models = [(name, *_spreads(figures)) for name, figures in summary["models"].items()]
    energy = [(_DENSE[name], *_spreads(shares)) for name, shares in summary["energy"].items()]
    quality = table(("model", "mean accuracy", "deviation", "mean macro F1", "deviation"), models)
    shares = ("student's share of the energy of", "mean", "deviation", "mean in matrix products", "deviation")
    return f"{quality}\n\n{table(shares, energy)}"


def _spreads(figures: Mapping[str, Mapping[str, float]]) -> list[str]:
    """Mean and standard deviation of each figure."""
    return [percent(spread[name]) for spread in figures.values() for name in ("mean", "standard_deviation")]
