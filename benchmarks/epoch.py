"""A real epoch: ``python -m benchmarks.epoch`` counts the sentences a second that training gets through.

minispike trains its own way and PyTorch after the authors' recipe (`benchmarks.sentences` says how they differ), in
turns: in each round both go through the next piece of the training set, or of a share of it. After the last round both
have been through all of it.
"""

import argparse
import json
import math
import statistics
from dataclasses import asdict
from pathlib import Path

import numpy as np

from benchmarks.report import at_least_one, cell, number, share, spread, write
from benchmarks.sentences import CONTENDERS, Work
from benchmarks.setups import SETUPS
from benchmarks.turns import Figures, take_turns

BASELINE = "PyTorch + SpikingJelly"


def padded(work: Work) -> dict[str, float]:
    """Tokens a sentence that each computes, padding included: its mean over an epoch."""
    stream = work.stream
    batches = [stream.batch(step).input_ids.shape for step in range(stream.batches_per_epoch)]
    own = sum(rows * length for rows, length in batches) / sum(rows for rows, _ in batches)
    return {"minispike": own, BASELINE: float(work.max_length)}


def rates(figures: Figures, batch: int) -> list[float]:
    """Sentences a second, round by round."""
    return [batch * len(seconds) / sum(seconds) for seconds in figures.rounds]


def table(found: dict[str, Figures], work: Work) -> list[str]:
    """The figures as a table."""
    batch, tokens = work.setup.batch, padded(work)
    speeds = {name: statistics.median(rates(f, batch)) for name, f in found.items() if not f.lost}
    head = ("", "sentences a second", "rounds", "whole epoch", "SpikingJelly = 1", "tokens a sentence", "peak (MB)")
    lines = [f"| {' | '.join(head)} |", "|-" * len(head) + "|"]
    for name, figures in found.items():
        if figures.lost:
            cells = [name, f"did not run: {cell(figures.lost)}", *[""] * 5]
        else:
            steps = [seconds for round_ in figures.rounds for seconds in round_]
            ratio = f"{speeds[name] / speeds[BASELINE]:.2f}" if BASELINE in speeds else ""
            cells = [name, number(speeds[name]), spread(rates(figures, batch))]
            cells += [number(batch * len(steps) / sum(steps)), ratio, f"{tokens[name]:.1f}"]
            cells += [f"{figures.peak / 2**20:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return lines


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.tsv and test.tsv")
    parser.add_argument("--vocab", required=True, help="WordPiece vocabulary, vocab.txt or tokenizer.json")
    parser.add_argument("--setup", choices=SETUPS, default="S", help="sizes of the network")
    parser.add_argument("--batch", type=at_least_one, default=32, help="sentences a step")
    parser.add_argument("--max-length", type=at_least_one, default=128, help="tokens of a sentence at most")
    parser.add_argument("--share", type=share, default=0.25, help="of the training set, drawn at random")
    parser.add_argument("--rounds", type=at_least_one, default=6)
    parser.add_argument("--out", type=Path, help="the table goes to OUT.md, all figures to OUT.json")
    args = parser.parse_args()
    work = Work(args.data, args.vocab, args.setup, args.share, args.batch, args.max_length)
    steps = math.ceil(work.stream.batches_per_epoch / args.rounds)
    starts = {name: ["benchmarks.sentences", name, json.dumps(asdict(work))] for name in CONTENDERS}
    found = take_turns(starts, args.rounds, steps, "epoch")
    lengths, setup = work.texts.encoded.lengths, work.setup
    about = f"{len(lengths)} sentences of {np.mean(lengths):.1f} tokens in the mean, special ones included"
    lines = [f"## {args.setup}: {setup}", "", f"{about}; {args.rounds} rounds, {steps} steps each; random targets.", ""]
    lines += [*table(found, work), ""]
    print("\n".join(lines), flush=True)
    results = {
        name: f.record() if f.lost else f.record() | {"sentences_a_second": rates(f, setup.batch)}
        for name, f in found.items()
    }
    write(args.out, lines, {"contenders": results, "tokens": padded(work), "mean_length": float(np.mean(lengths))})


if __name__ == "__main__":
    main()
