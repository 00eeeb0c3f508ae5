"""A teacher that is given: what a run keeps of it, tells about it, and refuses."""

import json
import shutil
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from tiny import Outcome, assert_mistake, distill, interrupt, minispike

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

import onnx
import onnxruntime

from minispike.corpus import Split
from minispike.data.tokenizer import Encoded
from minispike.errors import BackendError, TeacherError
from minispike.models.bert import Bert, BertConfig
from minispike.pipeline import _doubts
from minispike.runfolder import read_config
from teachers.onnx_file import copy_model, digest, external_data
from teachers.onnx_teacher import OnnxTeacher

pytestmark = pytest.mark.usefixtures("quick_report")

Finished = tuple[Path, Outcome]


@pytest.fixture
def given(finished: Finished, tmp_path: Path) -> Path:
    """The ONNX file of a teacher that knows the task, weights in a second file, tokenizer beside it."""
    folder = tmp_path / "given"
    folder.mkdir()
    shutil.copy(finished[0] / "tokenizer.json", folder)
    model = onnx.load(finished[0] / "teacher" / "finetuned.onnx")
    where = {"save_as_external_data": True, "location": "weights.data", "size_threshold": 100}
    onnx.save(model, folder / "model.onnx", **where)
    return folder / "model.onnx"


def test_a_run_needs_its_onnx_teacher_once(
    given: Path, finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Interrupted, moved away from, and robbed of what it was given, a run goes on."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(given.parent)
    with monkeypatch.context() as patch:
        interrupt(patch, "stage 2", step=3)
        stopped = distill(tmp_path / "run", "checkpoint_minutes=0", flags=["--teacher", given.name])
    assert stopped.code == 130
    line = f"teacher: {given} is used as it is: an ONNX file is not fine-tuned, whatever teacher.finetune says\n"
    assert stopped.err.count(line) == 1 and "fine-tune teacher" not in stopped.err
    kept = tmp_path / "run" / "teacher"
    assert {path.name for path in kept.iterdir()} == {"pretrained.onnx", "weights.data"}
    assert digest(kept / "pretrained.onnx") == digest(given)
    shutil.rmtree(given.parent)
    monkeypatch.chdir(tmp_path / "elsewhere")
    resumed = minispike("distill", "--resume", tmp_path / "run")
    assert resumed.code == 0, resumed.err
    assert line not in resumed.err
    tables = [
        json.loads((run / "state.json").read_text(encoding="utf-8"))["done"]["evaluation"]["table"]
        for run in (tmp_path / "run", finished[0])
    ]
    assert tables[0]["teacher"] == tables[1]["teacher"]
    assert minispike("predict", tmp_path / "run", "a fine film .").code == 0


def test_the_order_of_an_onnx_teachers_labels_is_checked(given: Path, tmp_path: Path) -> None:
    assert OnnxTeacher(given).label_names == ("negative", "positive")
    model = onnx.load(given)
    for entry in model.metadata_props:
        entry.value = entry.value.replace('"negative", "positive"', '"positive", "negative"')
    onnx.save(model, given)
    said = distill(tmp_path / "run", flags=["--teacher", given])
    assert_mistake(said, f"{given}: expected classes in the order negative, positive, got positive, negative")
    assert not (tmp_path / "run").exists()


def test_without_finetuning_nothing_is_contradicted(given: Path, tmp_path: Path) -> None:
    steps = ("stage1.steps=1", "stage2.steps=1", "direct=false", "teacher.finetune=false")
    said = distill(tmp_path / "run", *steps, flags=["--teacher", given])
    assert said.code == 0, said.err
    assert f"teacher: {given} is used as it is\n" in said.err


def test_copies_are_whole(given: Path, tmp_path: Path) -> None:
    assert external_data(given) == ("weights.data",)
    copy_model(given, tmp_path / "copy" / "pretrained.onnx")
    before = digest(given)
    assert digest(tmp_path / "copy" / "pretrained.onnx") == before
    content = bytearray((given.parent / "weights.data").read_bytes())
    content[0] ^= 1
    (given.parent / "weights.data").write_bytes(content)
    assert digest(given) != before
    model = onnx.load(given, load_external_data=False)
    for tensor in model.graph.initializer:
        for entry in tensor.external_data:
            if entry.key == "location":
                entry.value = "../weights.data"
    given.write_bytes(model.SerializeToString())
    with pytest.raises(TeacherError, match=r"expected external data in its own folder, got \.\./weights\.data"):
        copy_model(given, tmp_path / "other" / "pretrained.onnx")
    assert not (tmp_path / "other").exists()


def test_paths_are_kept_from_the_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run.toml").write_text('[data]\npath = "own/data"\n[teacher]\ncache_folder = "c"\n', encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    flags = ("--config", "run.toml", "--text", "lines.txt", "--teacher", "../bert")
    listed = minispike("distill", *flags, "--list-settings").out
    for key, path in (
        ("data.path", tmp_path / "own" / "data"),
        ("data.text", tmp_path / "lines.txt"),
        ("teacher.path", tmp_path.parent / "bert"),
        ("teacher.cache_folder", tmp_path / "c"),
    ):
        assert any(line.startswith(f'{key} = "{path}"') for line in listed.splitlines()), key
    assert 'data.path = ""' in minispike("distill", "--list-settings").out


def test_a_provider_that_is_not_there(given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider", "OtherProvider"])
    said = distill(tmp_path / "run", "teacher.provider=cuda", flags=["--teacher", given])
    parts = ("CUDAExecutionProvider, got one with CPUExecutionProvider, OtherProvider", "pip install onnxruntime-gpu")
    assert_mistake(said, "teacher.provider: expected an ONNX Runtime with", *parts)
    parts = ("expected an ONNX Runtime with CUDAExecutionProvider",)
    assert_mistake(distill(tmp_path / "run", "teacher.provider=cuda"), *parts)  # before any teacher is made
    assert not (tmp_path / "run").exists()
    assert_mistake(distill(tmp_path / "run", "teacher.provider=tpu"), "teacher.provider: expected", '"cpu"')
    with pytest.raises(BackendError, match="expected cpu or cuda, got 'tpu'"):
        OnnxTeacher(given, provider="tpu")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:Specified provider")
def test_a_provider_that_does_not_start(given: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ONNX Runtime takes the CPU then, and says so to nobody."""
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CUDAExecutionProvider"])
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda _: ["CPUExecutionProvider"])
    with pytest.raises(BackendError, match="expected a usable CUDAExecutionProvider"):
        OnnxTeacher(given, provider="cuda")


def test_provider_and_threads_of_the_settings_are_used(
    given: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[Any, ...]] = []
    begin = OnnxTeacher.__init__

    def watched(self: OnnxTeacher, *args: Any, **named: Any) -> None:
        made.append(args[1:])
        begin(self, *args, **named)

    monkeypatch.setattr(OnnxTeacher, "__init__", watched)
    steps = ("stage1.steps=1", "stage2.steps=1", "direct=false", "teacher.threads=1")
    assert distill(tmp_path / "run", *steps, flags=["--teacher", given]).code == 0
    assert set(made) == {(1, "cpu")}
    assert read_config(tmp_path / "run").teacher.threads == 1
    assert OnnxTeacher(given, threads=2).fingerprint == OnnxTeacher(given).fingerprint


def test_a_teacher_that_knows_no_more_than_the_majority(capsys: pytest.CaptureFixture[str]) -> None:
    texts = Encoded((), None, 0.0, 0.0)
    inputs = SimpleNamespace(train=Split(texts, np.array([1, 1, 0])), dev=Split(texts, np.array([1, 1, 0, 0, 1])))
    p: Any = SimpleNamespace(inputs=inputs)
    right, wrong = np.eye(2)[[1, 1, 0, 0, 0]], np.eye(2)[[1, 1, 1, 1, 1]]
    assert _doubts(p, right) == [] and capsys.readouterr().err == ""
    [note] = _doubts(p, wrong)
    assert note == "the teacher knows no more than the majority class: 60.0% and 60.0% of dev are right"
    assert capsys.readouterr().err == f"evaluation: {note}\n"


@pytest.mark.parametrize("labels", [0, 3])
def test_a_bert_writes_itself(tmp_path: Path, labels: int) -> None:
    shape = BertConfig(40, 16, 2, 2, 32, 24, num_labels=labels)
    bert = Bert(shape, np.random.default_rng(0))
    bert.to_onnx(tmp_path / "bert.onnx")
    bert.to_onnx(tmp_path / "half.onnx", half=True)
    ids, mask = np.array([[1, 2, 3, 4], [5, 6, 7, 0]]), np.array([[True] * 4, [True] * 3 + [False]])
    out = bert(ids, mask)
    for name, tolerance in (("bert", 1e-5), ("half", 1e-2)):
        found = OnnxTeacher(tmp_path / f"{name}.onnx")(ids, mask)
        for a, b in zip(found.hidden_states, out.hidden_states, strict=True):
            np.testing.assert_allclose(a[mask], b.numpy()[mask], rtol=0, atol=tolerance)
        if out.logits is not None:
            np.testing.assert_allclose(found.logits, out.logits.numpy(), rtol=0, atol=tolerance)


def test_a_bert_without_the_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(TeacherError, match=r'onnx: expected .*; try pip install "minispike\[distill\]"'):
        Bert(BertConfig(40, 16, 1, 2, 32, 24), np.random.default_rng(0)).to_onnx(tmp_path / "bert.onnx")
    assert not list(tmp_path.iterdir())
