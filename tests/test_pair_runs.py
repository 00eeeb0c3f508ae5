"""A run on pairs of sentences: from the files to the report, with and without a file of single sentences."""

import json
from pathlib import Path
from typing import Any

import pytest

for _name in ("tokenizers", "onnxruntime", "onnx", "safetensors", "matplotlib"):
    pytest.importorskip(_name)

from tiny import distill

from minispike import pipeline
from minispike.distill.stages import Distillation
from minispike.loaded import load

pytestmark = pytest.mark.usefixtures("quick_report")

IN_PARTS = tuple(f"{phase}.accumulate=3" for phase in ("stage1", "stage2", "teacher.pretraining", "teacher.finetuning"))


@pytest.fixture
def mrpc(tmp_path: Path, shared: Path) -> Path:
    """The first pairs of MRPC."""
    folder = tmp_path / "mrpc"
    folder.mkdir()
    for part, count in (("train", 80), ("dev", 24), ("test", 24)):
        lines = (shared / "data" / "mrpc" / f"{part}.tsv").read_text(encoding="utf-8").split("\n")
        (folder / f"{part}.tsv").write_text("\n".join(lines[: count + 1]) + "\n", encoding="utf-8")
    return folder


@pytest.mark.parametrize("text", [False, True])
def test_a_run_on_pairs(tmp_path: Path, mrpc: Path, monkeypatch: pytest.MonkeyPatch, text: bool) -> None:
    """Stage 1 takes what it is given; stage 2, a pair task, takes pairs alone."""
    read: dict[str, list[tuple[int, bool]]] = {}

    class Watched(Distillation):
        def __init__(self, name: str, student: Any, sources: Any, *args: Any, **how: Any) -> None:
            read[name] = [(len(s.texts), s.texts.segments is not None) for s in sources]
            super().__init__(name, student, sources, *args, **how)

    monkeypatch.setattr(pipeline, "Distillation", Watched)
    file = tmp_path / "text.txt"
    file.write_text("\n".join(f"a sentence by itself , number {i} ." for i in range(40)), encoding="utf-8")
    flags = ("--data", mrpc, *(("--text", file) if text else ()))
    outcome = distill(tmp_path / "run", "augment.passes=2", "data.max_length=32", *IN_PARTS, flags=flags)
    assert outcome.code == 0, outcome.err
    done = json.loads((tmp_path / "run" / "state.json").read_text(encoding="utf-8"))["done"]
    assert done["texts"]["notes"][0] == f"80 training, 24 dev, 24 test pairs; {40 if text else 80} unlabelled"
    note = "stage 2 takes the training pairs in its place"
    assert (note in outcome.err) == any(note in line for line in done["texts"]["notes"]) == text
    assert "of train" in outcome.err and "try more, such as --set data.max_length=64" in outcome.err
    assert load(tmp_path / "run").pairs
    varied = done["stage 2"]["augmented"]
    assert 100 < varied <= 160
    assert read == {
        "stage 1": [(40, False) if text else (80, True)],
        "stage 2": [(80, True), (80 + varied, True)],
        "direct training": [(80, True)],
    }
