"""Everything, one part after the other: ``python -m benchmarks.all`` runs each part's own command.

Each part writes files of its own into the folder of results, and ``summary.md`` says which parts ran, with the command
that repeats each alone. A part that fails says why there, and the others go on.
"""

import argparse
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.report import cell, shown, write

PARTS = ("agreement", "speed", "base", "growth", "epoch", "cache")


def commands(args: argparse.Namespace) -> dict[str, list[str]]:
    """What each part runs: a module and its words."""
    epoch = ["benchmarks.epoch", *_given(args, "data", "vocab")]
    cache = ["benchmarks.cache", *_given(args, "data", "teacher")]
    if args.quick:
        speed = ["benchmarks", "--setup", "tiny", "--rounds", "2", "--steps", "1"]
        few = ["--share", "0.01", "--rounds", "2"]
        return {
            "agreement": ["benchmarks.agreement"], "speed": speed, "base": [*speed, "--only", "minispike"],
            "growth": ["benchmarks.growth", "--quick"], "epoch": [*epoch, "--setup", "tiny", *few],
            "cache": [*cache, *few],
        }  # fmt: skip
    return {
        "agreement": ["benchmarks.agreement"],
        "speed": ["benchmarks", "--setup", "S", "M"],
        "base": ["benchmarks", "--setup", "base", "--steps", "2"],
        "growth": ["benchmarks.growth"],
        "epoch": epoch,
        "cache": cache,
    }


def _given(args: argparse.Namespace, *names: str) -> list[str]:
    """Flags that are handed on; a part that misses one says so."""
    return [word for name in names if getattr(args, name) for word in (f"--{name}", getattr(args, name))]


def run(words: list[str]) -> str:
    """Run a module; returns the last line of its errors if it fails, else nothing. Its errors are seen as they come."""
    last = ""
    with subprocess.Popen([sys.executable, "-m", *words], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        for line in process.stderr:
            sys.stderr.write(line)
            last = line.strip() or last
    return (last or f"it ended with code {process.returncode}") if process.returncode else ""


def main() -> None:
    """Run, and write the summary after each part."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", help="folder with train.tsv and test.tsv, for epoch and cache")
    parser.add_argument("--vocab", help="WordPiece vocabulary, for epoch")
    parser.add_argument("--teacher", help="folder of a BERT, for cache")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--quick", action="store_true", help="tiny sizes: whether everything runs")
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    args = parser.parse_args()
    lines = ["| part | minutes | | command |", "|-|-|-|-|"]
    results: dict[str, Any] = {}
    for part, words in commands(args).items():
        if part not in args.parts:
            continue
        where = [] if part == "agreement" else ["--out", str(args.out / part)]
        began = time.monotonic()
        failure = run([*words, *where])
        minutes = (time.monotonic() - began) / 60
        outcome = f"did not run: {cell(failure)}" if failure else f"[{part}.md]({part}.md)" if where else "agrees"
        lines.append(f"| {part} | {minutes:.1f} | {outcome} | `{shown([*words, *where])}` |")
        results[part] = {"minutes": minutes, "failure": failure}
        write(args.out / "summary", lines, results)
    print("\n".join(lines))


if __name__ == "__main__":
    main()
