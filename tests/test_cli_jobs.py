"""Teachers and several seeds, by the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny import (
    BRIEF,
    MODELS,
    TEACHER,
    Outcome,
    assert_mistake,
    distill,
    interrupt,
    minispike,
    results,
    reviews,
    snapshot,
)

import minispike as package
from minispike.runfolder import read_config
from teachers.onnx_teacher import OnnxTeacher

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

pytestmark = pytest.mark.usefixtures("quick_report")

Finished = tuple[Path, Outcome]


# ---- Several seeds


def test_seeds_are_run_told_and_resumed(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "seeds"
    with monkeypatch.context() as patch:
        interrupt(patch, "stage 2", step=3, skip=1)
        stopped = distill(out, "checkpoint_minutes=0", flags=["--seeds", 2])
    assert stopped.code == 130
    assert f"minispike distill --resume {out}" in stopped.err
    assert json.loads((out / "seeds.json").read_text(encoding="utf-8"))["seeds"] == [0, 1]
    first = snapshot(out / "seed-0")
    resumed = minispike("distill", "--resume", out)
    assert resumed.code == 0, resumed.err
    assert snapshot(out / "seed-0") == first
    assert (read_config(out / "seed-0").seed, read_config(out / "seed-1").seed) == (0, 1)
    assert results(out / "seed-0")["metrics"] == results(finished[0])["metrics"]
    assert results(out / "seed-1")["metrics"] != results(finished[0])["metrics"]
    told = resumed.out.split("2 seeds\n")[1].split("\n\n")[0].splitlines()
    tables = [results(out / f"seed-{seed}")["state"]["done"]["evaluation"]["table"] for seed in (0, 1)]
    for line, name in zip(told[1:], MODELS, strict=True):
        shares = [100 * table[name]["accuracy"] for table in tables]
        mean, deviation = np.mean(shares), np.std(shares, ddof=1)
        assert line.split()[-8:-4] == [f"{mean:.2f}", "%", f"{deviation:.2f}", "%"]
    assert minispike("distill", "--resume", out).out.count("report: ") == 2


def test_no_seeds_is_a_mistake(tmp_path: Path) -> None:
    assert_mistake(distill(tmp_path / "run", flags=["--seeds", 0]), "--seeds: expected a number >= 1, got 0")
    (tmp_path / "seeds.json").write_text("{}", encoding="utf-8")
    assert_mistake(minispike("distill", "--resume", tmp_path), "expected a plan of seeds")


# ---- Little memory


def test_with_little_memory_a_run_is_one_of_small_parts(tmp_path: Path) -> None:
    """A batch of 8 in four parts, in every phase, by one worker."""
    phases = ("teacher.pretraining", "teacher.finetuning", "stage1", "stage2")
    parts = [f"{phase}.{setting}" for phase in phases for setting in ("accumulate=4", "workers=1")]
    found, expected = tmp_path / "low", tmp_path / "parts"
    assert distill(found, *BRIEF, flags=["--low-memory"]).code == 0
    assert distill(expected, *BRIEF, *parts).code == 0
    for name, value in results(expected).items():
        assert name == "state" or results(found)[name] == value, name


# ---- Teachers


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a pretrained and a fine-tuned teacher, ``bert`` and ``task``, and the data ``data``."""
    folder = tmp_path_factory.mktemp("teachers")
    (folder / "text.txt").write_text("\n".join(reviews().unlabelled), encoding="utf-8")
    (folder / "data").mkdir()
    for name in ("train", "dev", "test"):
        split = getattr(reviews(), name)
        rows = [f"{text}\t{'no yes'.split()[label]}" for text, label in zip(split.texts, split.labels, strict=True)]
        (folder / "data" / f"{name}.tsv").write_text("\n".join(["text\tlabel", *rows]), encoding="utf-8")
    said = minispike("teacher", "pretrain", "--text", folder / "text.txt", "--out", folder / "bert", "--set", *TEACHER)
    assert said.code == 0, said.err
    assert "minispike distill --teacher" in said.out
    assert said.err.startswith("data: 100 unlabelled\ndata: unlabelled: 0.00 % of the sentences truncated")
    said = minispike(
        "teacher", "finetune", "--teacher", folder / "bert", "--data", folder / "data", "--out", folder / "task",
        "--set", *TEACHER,
    )  # fmt: skip
    assert said.code == 0, said.err
    assert "teacher.finetune=false" in said.out
    assert said.err.startswith("data: 200 training, 40 dev") and "data: test: 0.00 %" in said.err
    return folder


def test_made_teachers_have_the_layout_of_hugging_face(made: Path) -> None:
    for name in ("bert", "task"):
        assert {"config.json", "model.safetensors", "tokenizer.json", "model.onnx"} <= {
            path.name for path in (made / name).iterdir()
        }
    config = json.loads((made / "task" / "config.json").read_text(encoding="utf-8"))
    assert config["id2label"] == {"0": "no", "1": "yes"}
    assert config["architectures"] == ["BertForSequenceClassification"]


@pytest.mark.parametrize("form", ["folder to fine-tune", "folder as it is", "onnx"])
def test_a_made_teacher_teaches(made: Path, tmp_path: Path, form: str) -> None:
    teacher = {"folder to fine-tune": "bert", "folder as it is": "task", "onnx": "task/model.onnx"}[form]
    flags = ["--teacher", made / teacher, "--data", made / "data", "--preset", "tiny"]
    settings = ["teacher.finetune=false"] if form == "folder as it is" else []
    run = tmp_path / "run"
    said = distill(run, *settings, flags=flags)
    assert said.code == 0, said.err
    state = json.loads((run / "state.json").read_text(encoding="utf-8"))["done"]
    assert ("fine-tune teacher" in state) == (form == "folder to fine-tune")
    assert package.load(run).label_names == ("no", "yes")
    assert "% of the teacher" in said.out
    if form != "folder to fine-tune":
        dev = results(made / "task")["state"]["done"]["fine-tune teacher"]["test"]
        assert state["evaluation"]["table"]["teacher"] == pytest.approx(dev)


def test_convert(made: Path, tmp_path: Path) -> None:
    said = minispike("teacher", "convert", "--teacher", made / "task", "--out", tmp_path / "a")
    assert said.code == 0, said.err
    assert "2 layers of width 16, 300 tokens, 2 labels" in said.out
    assert {path.name for path in (tmp_path / "a").iterdir()} == {"model.onnx", "tokenizer.json"}
    foreign = hide_states(tmp_path / "a" / "model.onnx", tmp_path / "foreign.onnx")
    said = minispike("teacher", "convert", "--teacher", foreign, "--out", tmp_path / "b")
    assert said.code == 0, said.err
    assert "has no tokenizer beside it" in said.out
    assert [OnnxTeacher(tmp_path / name / "model.onnx").label_names for name in ("a", "b")] == [("no", "yes")] * 2
    bare = minispike("teacher", "convert", "--teacher", made / "bert", "--out", tmp_path / "c")
    assert bare.code == 0 and OnnxTeacher(tmp_path / "c" / "model.onnx").label_names == ()
    outputs = [run_onnx(tmp_path / name / "model.onnx") for name in ("a", "b")]
    assert outputs[0].keys() == outputs[1].keys() == {"hidden_states.0", "hidden_states.1", "hidden_states.2", "logits"}
    for name, array in outputs[0].items():
        np.testing.assert_allclose(outputs[1][name], array, rtol=1e-5, atol=1e-6)
    assert_mistake(minispike("teacher", "convert", "--teacher", foreign, "--out", tmp_path / "b"), "got other files")


def hide_states(source: Path, target: Path) -> Path:
    """A model with the logits as its only output, as others export it."""
    import onnx

    model = onnx.load(source)
    kept = [output for output in model.graph.output if output.name == "logits"]
    del model.graph.output[:]
    model.graph.output.extend(kept)
    onnx.save(model, target)
    return target


def run_onnx(path: Path) -> dict[str, Any]:
    """Every output of a model for one sentence."""
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    ids = np.array([[2, 5, 9, 3]])
    names = [output.name for output in session.get_outputs()]
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}
    return dict(zip(names, session.run(names, feeds), strict=True))


@pytest.mark.parametrize(("job", "phase"), [("pretrain", "pretrain teacher"), ("finetune", "fine-tune teacher")])
def test_an_interrupted_teacher_is_taken_up(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, job: str, phase: str
) -> None:
    source = ["--text", made / "text.txt"]
    if job == "finetune":
        source = ["--teacher", made / "bert", "--data", made / "data"]
    out = tmp_path / "out"
    with monkeypatch.context() as patch:
        interrupt(patch, phase, step=5)
        stopped = minispike("teacher", job, *source, "--out", out, "--set", *TEACHER, "checkpoint_minutes=0")
    assert stopped.code == 130
    assert f"minispike teacher {job} --resume {out}" in stopped.err
    assert not (out / "model.onnx").exists()
    assert_mistake(minispike("distill", "--resume", out), f"got one of minispike teacher {job}")
    assert_mistake(minispike("teacher", job, "--resume", out, "--seed", 3), "--resume: expected no settings")
    resumed = minispike("teacher", job, "--resume", out)
    assert resumed.code == 0, resumed.err
    assert results(out) == results(made / {"pretrain": "bert", "finetune": "task"}[job])
    assert minispike("teacher", job, "--resume", out).out == resumed.out[resumed.out.index("\n\n") + 1 :]


def test_teachers_need_a_source_and_a_place(tmp_path: Path) -> None:
    assert_mistake(minispike("teacher", "pretrain", "--text", "x"), "--out: expected a path")
    assert_mistake(minispike("teacher", "pretrain", "--out", tmp_path / "a"), "data.text: expected a path")
    assert_mistake(minispike("teacher", "finetune", "--out", tmp_path / "a"), "teacher.path: expected a path")
    assert not (tmp_path / "a").exists()
