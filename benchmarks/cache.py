"""What remembering saves: ``python -m benchmarks.cache`` asks a teacher about every sentence of an epoch, twice.

The teacher is a BERT that ONNX Runtime computes, asked as a student asks it, batch by batch in the order of training:
for the hidden states of a layer for each block, and for logits if it has any. The first time it has to compute; the
second time, in a view of its own, its answers come from the file in which they were kept, which the operating system
still holds in memory. Each round begins with an empty folder.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.report import at_least_one, number, share, spread, write
from benchmarks.sentences import SEED_KEY, Texts, read
from minispike.data.batches import BatchStream
from minispike.data.tokenizer import Tokenizer
from minispike.distill.losses import Alignment, layer_map
from teachers.cache import CacheFolder
from teachers.jobs import convert_teacher
from teachers.onnx_file import ONNX
from teachers.onnx_teacher import OnnxTeacher
from teachers.view import CachedView

ROOM = 2**40
"""Bytes that the cache may take: enough for any data set."""


def ask(teacher: OnnxTeacher, texts: Texts, stream: BatchStream, layers: Sequence[int], folder: Path) -> float:
    """Sentences a second, over an epoch.

    Raises:
        RuntimeError: the answers cannot be kept.
    """
    view = CachedView(teacher, texts.encoded, layers, CacheFolder(folder, ROOM))
    try:
        if not view.remembers:
            raise RuntimeError(f"{folder}: no room for {view.nbytes / 2**20:.0f} MB of answers")
        count, began = 0, time.perf_counter()
        for step in range(stream.batches_per_epoch):
            batch = stream.batch(step)
            view.hidden(batch)
            if teacher.num_labels:
                view.logits(batch)
            count += len(batch)
        return count / (time.perf_counter() - began)
    finally:
        view.close()


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, help="folder with train.tsv and test.tsv")
    parser.add_argument("--teacher", required=True, type=Path, help="folder of a BERT, with its tokenizer")
    parser.add_argument("--blocks", type=at_least_one, default=4, help="of the student: layers that are asked for")
    parser.add_argument("--batch", type=at_least_one, default=32, help="sentences asked about at a time")
    parser.add_argument("--max-length", type=at_least_one, default=128, help="tokens of a sentence at most")
    parser.add_argument("--share", type=share, default=0.25, help="of the training set, drawn at random")
    parser.add_argument("--rounds", type=at_least_one, default=5)
    parser.add_argument("--out", type=Path, help="the table goes to OUT.md, all figures to OUT.json")
    args = parser.parse_args()
    texts = read(args.data, Tokenizer.from_file(args.teacher), args.share, args.max_length)
    stream = BatchStream(texts.encoded, texts.labels, args.batch, SEED_KEY, texts.pad_id)
    found: dict[str, list[float]] = {"computed": [], "from the cache": []}
    with tempfile.TemporaryDirectory() as place:
        convert_teacher(args.teacher, Path(place) / "teacher")
        teacher = OnnxTeacher(Path(place) / "teacher" / ONNX)
        layers = layer_map(args.blocks, teacher.num_layers, Alignment())
        for i in range(args.rounds):
            with tempfile.TemporaryDirectory(dir=place) as folder:
                for rates in found.values():
                    rates.append(ask(teacher, texts, stream, layers, Path(folder)))
            print(f"cache: round {i + 1} of {args.rounds}", file=sys.stderr)
    mean = float(np.mean(texts.encoded.lengths))
    kept = ", ".join(map(str, layers)) + (" and logits" if teacher.num_labels else "")
    shape = f"{teacher.num_layers} layers of width {teacher.hidden_size}"
    lines = [f"## A teacher of {shape}, asked for layers {kept}", ""]
    lines += [f"{len(texts.encoded)} sentences of {mean:.1f} tokens in the mean, {args.rounds} rounds.", ""]
    lines += ["| | sentences a second | rounds | computed = 1 |", "|-|-|-|-|"]
    medians = {name: statistics.median(rates) for name, rates in found.items()}
    for name, rates in found.items():
        ratio = medians[name] / medians["computed"]
        lines.append(f"| {name} | {number(medians[name])} | {spread(rates)} | {ratio:.1f} |")
    print("\n".join([*lines, ""]), flush=True)
    write(args.out, lines, {"sentences_a_second": found, "mean_length": mean, "layers": list(layers)})


if __name__ == "__main__":
    main()
