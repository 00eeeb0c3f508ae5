"""Foreign ONNX teachers in the commands: converted, told of, used, and counted in the energy."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from foreign_bert import SIZES, called, node, output, saved
from onnx import TensorProto, helper
from plain_bert import random_weights
from test_surgery import hide
from tiny import Outcome, assert_mistake, distill, minispike

for library in ("tokenizers", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

from minispike.models.bert_folder import write_bert_folder

Finished = tuple[Path, Outcome]


@pytest.fixture
def folder(finished: Finished, tmp_path: Path) -> Path:
    """A teacher that knows the task of the tiny run, in a foreign file, and its tokenizer beside it."""
    given = tmp_path / "given"
    given.mkdir()
    shutil.copy(finished[0] / "tokenizer.json", given)
    model = onnx.load(finished[0] / "teacher" / "finetuned.onnx")
    hide(model)
    del model.metadata_props[:]
    onnx.save(called(model, logits="scores", input_ids="input.1", attention_mask="mask"), given / "foreign.onnx")
    return given


def test_convert_keeps_the_classifier_and_tells_how_to_use_it(folder: Path, tmp_path: Path) -> None:
    made = tmp_path / "made"
    said = minispike("teacher", "convert", "--teacher", folder / "foreign.onnx", "--out", made)
    assert said.code == 0, said.err
    assert "2 labels" in said.out
    use = f"minispike distill --teacher {made} --data DIR --set teacher.finetune=false"
    assert said.out.splitlines()[-2:] == ["to use it as it is:", use]
    model = onnx.load(made / "model.onnx")
    assert [value.name for value in model.graph.input] == ["input_ids", "attention_mask", "token_type_ids"]
    outputs = [value.name for value in model.graph.output]
    assert outputs == ["scores", "hidden_states.0", "hidden_states.1", "hidden_states.2", "logits"]
    steps = ("stage1.steps=1", "stage2.steps=1", "direct=false", "teacher.finetune=false")
    said = distill(tmp_path / "run", *steps, flags=["--teacher", made])
    assert said.code == 0, said.err
    assert "% of the teacher" in said.out
    again = minispike("teacher", "convert", "--teacher", made, "--out", tmp_path / "again")
    assert again.code == 0 and (tmp_path / "again" / "model.onnx").is_file()
    said = minispike("teacher", "finetune", "--teacher", made, "--out", tmp_path / "task")
    assert_mistake(said, "made: expected the folder of a BERT, got a folder with model.onnx alone")


def test_convert_tells_an_encoder(tmp_path: Path, finished: Finished) -> None:
    sizes = replace(SIZES, num_labels=0)
    write_bert_folder(sizes, random_weights(sizes), None, tmp_path / "bert")
    said = minispike("teacher", "convert", "--teacher", tmp_path / "bert", "--out", tmp_path / "a")
    assert said.code == 0 and "no classifier" in said.out and "an encoder" in said.out
    assert said.out.splitlines()[-1] == f"minispike distill --teacher {tmp_path / 'bert'} --data DIR"
    model = onnx.load(tmp_path / "a" / "model.onnx")
    del model.graph.output[:]
    output(called(model, **{"hidden_states.2": "last"}), "last", "batch", "length", 16)
    said = minispike("teacher", "convert", "--teacher", saved(model, tmp_path), "--out", tmp_path / "b")
    assert said.code == 0 and "no classifier among the outputs last [batch, length, 16]" in said.out
    assert "an encoder" in said.out and "export the model with its classifier" in said.out
    assert not any(line.startswith("minispike distill") for line in said.out.splitlines())


def test_distill_names_the_outputs_of_an_encoder(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "foreign.onnx")
    model.graph.output.pop()
    output(model, "pooler.output", "batch", 16)
    onnx.save(model, folder / "model.onnx")
    said = distill(tmp_path / "run", flags=["--teacher", folder])
    expected = "model.onnx: expected logits of 2 classes, got no classifier among the outputs pooler.output [batch, 16]"
    assert_mistake(said, expected)


def test_the_energy_of_a_foreign_teacher(folder: Path, finished: Finished, tmp_path: Path) -> None:
    steps = ("stage1.steps=1", "stage2.steps=1", "direct=false")
    run = tmp_path / "run"
    said = distill(run, *steps, flags=["--teacher", folder / "foreign.onnx"])
    assert said.code == 0, said.err
    ledgers = [json.loads((path / "energy.json").read_text(encoding="utf-8"))["energy"] for path in (run, finished[0])]
    assert ledgers[0]["teacher"] == ledgers[1]["teacher"] and ledgers[0]["teacher"] is not None
    assert "% of the teacher" in said.out
    assert "BERT, the teacher" in (run / "report.html").read_text(encoding="utf-8")
    assert "not counted" not in (run / "report.html").read_text(encoding="utf-8")


def test_an_energy_that_is_not_known_is_said_to_be(folder: Path, tmp_path: Path) -> None:
    model = onnx.load(folder / "foreign.onnx")
    model.graph.initializer.append(helper.make_tensor("square", TensorProto.FLOAT, [16, 16], np.eye(16).ravel()))
    for i in range(3):
        node(model, "MatMul", ["hidden_states.2", "square"], f"more.{i}")
    onnx.save(model, folder / "foreign.onnx")
    steps = ("stage1.steps=1", "stage2.steps=1", "direct=false")
    said = distill(tmp_path / "run", *steps, flags=["--teacher", folder / "foreign.onnx"])
    assert said.code == 0, said.err
    assert "% of the teacher" not in said.out
    note = "the energy of the teacher is not counted: its ONNX graph does not tell the sizes of a BERT"
    assert f"energy: {note}" in said.err
    assert note in (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
