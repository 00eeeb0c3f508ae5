"""What several lessons use."""

import time
from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from IPython.display import Image, display

from minispike.data.batches import Batch, collate
from minispike.data.tokenizer import Tokenizer
from minispike.distill.start import starting_tables
from minispike.models.bert import Bert
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from teachers.onnx_teacher import OnnxTeacher

MODELS = Path(__file__).parent / "models"
"""A small BERT and a student of its, which ``python -m tutorials.make_models`` trains; see the README there."""

_SCRATCH = TemporaryDirectory(prefix="minispike-lesson-")  # gone when the lesson is


def show(picture: Any) -> None:
    """Show a picture below the cell.

    Args:
        picture: a figure, or the axes of one.
    """
    figure = getattr(picture, "figure", None) or picture
    content = BytesIO()
    figure.savefig(content, format="png", dpi=90, bbox_inches="tight")
    display(Image(data=content.getvalue(), format="png"))


def scratch(name: str) -> Path:
    """A path in a folder that is deleted when the lesson ends."""
    return Path(_SCRATCH.name) / name


def open_teacher(name: str) -> OnnxTeacher:
    """A BERT of `MODELS`, exported to ONNX and opened; lesson 08 takes these steps one by one.

    Args:
        name: ``"bert-pretrained"`` or ``"bert-finetuned"``.
    """
    path = scratch(f"{name}.onnx")
    Bert.from_folder(MODELS / name).to_onnx(path)
    return OnnxTeacher(path, threads=1)


def fresh_student(teacher: OnnxTeacher, blocks: int, seed: int = 0) -> SpikeBERT:
    """An untaught student of width 64, with 2 time steps and 2 classes, that begins with its teacher's embeddings."""
    rng = np.random.default_rng(seed)
    config = SpikeBERTConfig(
        vocab_size=teacher.vocab_size, dim=64, depth=blocks, heads=4, attention_scale=0.125, time_steps=2,
        num_labels=2, max_length=32, threshold=0.5, feature_dim=teacher.hidden_size,
    )  # fmt: skip
    student = SpikeBERT(config, rng)
    tables = starting_tables(teacher.word_embeddings, teacher.position_embeddings, config.dim, rng)
    student.embedding.weight.assign(tables.words.astype(np.float32))
    student.position.weight.assign(tables.positions.astype(np.float32))
    return student


def as_batch(tokenizer: Tokenizer, texts: Sequence[str]) -> Batch:
    """All texts in one batch, padded to the longest."""
    return collate(tokenizer.encode(texts), np.arange(len(texts)), pad_id=tokenizer.pad_id)


def fastest(work: Callable[[], Any], tries: int = 5) -> float:
    """Seconds of a call, the best of some tries: what disturbs a measurement only ever makes it longer."""
    taken = []
    for _ in range(tries):
        began = time.perf_counter()
        work()
        taken.append(time.perf_counter() - began)
    return min(taken)
