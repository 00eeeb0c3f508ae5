"""Whatever is wrong with what a user gives: the command says what, where and how to mend it, and writes nothing."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import Outcome, assert_mistake, cut_short, distill, minispike

for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
    pytest.importorskip(library)

import onnx
from onnx import TensorProto, helper, numpy_helper
from plain_bert import Sizes, random_weights

from minispike import backend
from minispike.data.tokenizer import Tokenizer
from minispike.models.bert_folder import write_bert_folder

Finished = tuple[Path, Outcome]
ROWS = tuple(f"a {word} {noun} .\t{label}" for word, label in (("fine", 1), ("dull", 0)) for noun in "abcdefgh")
DEV = ("one fine day .\t1", "one dull day .\t0")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with nothing wrong yet."""
    folder = tmp_path / "data"
    folder.mkdir()
    for name, rows in (("train", ROWS), ("dev", DEV), ("test", ("two fine days .\t1", "two dull days .\t0"))):
        write_rows(folder / f"{name}.tsv", rows)
    return folder


@pytest.fixture
def bert(tmp_path: Path) -> Path:
    """A BERT folder with its tokenizer, and nothing wrong yet."""
    texts = [row.split("\t")[0] for row in (*ROWS, *DEV)]
    tokenizer = Tokenizer.train(texts, vocab_size=60)
    tokenizer.save(tmp_path / "tokenizer.json")
    sizes = Sizes(vocab_size=tokenizer.vocab_size, max_position_embeddings=32)
    write_bert_folder(sizes, random_weights(sizes), tmp_path / "tokenizer.json", tmp_path / "bert")
    return tmp_path / "bert"


def write_rows(path: Path, rows: tuple[str, ...]) -> None:
    path.write_text("\n".join(["text\tlabel", *rows]) + "\n", encoding="utf-8")


def refused(tmp_path: Path, *flags: object, settings: tuple[str, ...] = (), parts: tuple[str, ...]) -> None:
    """A run is refused with these parts in its message, and leaves no folder, not even an empty one."""
    before = sorted(tmp_path.rglob("*"))
    for more in ((), ("--seeds", 2)):
        outcome = distill(tmp_path / "out" / "run", *settings, flags=(*flags, "--preset", "tiny", *more))
        assert_mistake(outcome, *parts)
        assert outcome.out == ""
    assert sorted(tmp_path.rglob("*")) == before


# ---- Texts


def test_nothing_is_wrong_yet(tmp_path: Path, data: Path, bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minispike.summary.write_report", lambda *_: None)
    outcome = distill(tmp_path / "run", flags=("--data", data, "--teacher", bert, "--preset", "tiny"))
    assert outcome.code == 0, outcome.err


def test_missing_files(tmp_path: Path, data: Path) -> None:
    refused(tmp_path, "--data", tmp_path / "nowhere", parts=("nowhere: expected a folder with train.tsv", "got no"))
    refused(tmp_path, "--data", data, "--text", data / "no.txt", parts=("no.txt: expected a readable file",))
    refused(tmp_path, "--config", data / "no.toml", parts=("no.toml: expected a TOML file",))
    refused(tmp_path, "--teacher", data / "no.onnx", parts=("no.onnx: expected the folder of a BERT",))
    (data / "test.tsv").unlink()
    refused(tmp_path, "--data", data, parts=("data: expected the files train.tsv and test.tsv", "no test.tsv"))


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("train.tsv", b"", ("train.tsv: expected the header text<TAB>label", "got an empty file")),
        ("train.tsv", b"text\tlabel\nfine\t1\ndull 0\n", ("train.tsv:3: expected 2 tab-separated columns", "dull 0")),
        ("train.tsv", b"text\tlabel\nfine\t1\ngood\t1\n", ("train.tsv: expected at least two different labels",)),
        ("train.tsv", "text\tlabel\nfine\t1\n好\t0\n".encode("gb18030"), ("train.tsv:3: expected UTF-8 text",)),
        ("train.tsv", b"sentence\tlabel\nfine\t1\n", ("train.tsv:1: expected the header", "'sentence\\tlabel'")),
        ("train.tsv", b"text\nfine\ndull\n", ("train.tsv:1: expected the column label",)),
        ("dev.tsv", b"text\tlabel\nfine\t1\nodd\t2\n", ("dev.tsv:3: expected one of the labels 0, 1", "got '2'")),
        ("test.tsv", b"text\tlabel\nfine\tgood\n", ("test.tsv:2: expected one of the labels 0, 1", "'good'")),
        ("test.tsv", b"text\ttext2\tlabel\na\tb\t1\n", ("test.tsv:1: expected single texts, as in train",)),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bad_labelled_files(tmp_path: Path, data: Path, name: str, content: bytes, parts: tuple[str, ...]) -> None:
    (data / name).write_bytes(content)
    refused(tmp_path, "--data", data, parts=parts)


def test_bad_unlabelled_files(tmp_path: Path, data: Path) -> None:
    text = data / "text.txt"
    text.write_text("\n \n", encoding="utf-8")
    refused(tmp_path, "--text", text, parts=("text.txt: expected one sentence a line", "a file without text"))
    text.write_bytes("a day\n不".encode("utf-16"))
    refused(tmp_path, "--text", text, parts=("text.txt:1: expected UTF-8 text",))
    text.with_suffix(".xz").write_bytes(b"\xfd7zXZ and no more")
    refused(tmp_path, "--text", text.with_suffix(".xz"), parts=("text.xz: expected a whole .xz file",))
    text.write_text("Two fine days!\n", encoding="utf-8")
    parts = ("unlabelled text: expected sentences that dev and test lack",)
    refused(tmp_path, "--data", data, "--text", text, parts=parts)


def test_labelled_files_for_a_run(finished: Finished, tmp_path: Path) -> None:
    run, file = finished[0], tmp_path / "file.tsv"
    write_rows(file, ("good\tpositive", "odd\tneutral"))
    parts = ("file.tsv:3: expected one of the labels negative, positive", "got 'neutral'")
    assert_mistake(minispike("evaluate", run, "--file", file), *parts)
    file.write_text("text\ngood\n", encoding="utf-8")
    assert_mistake(minispike("evaluate", run, "--file", file), "examples: expected labels, got unlabelled text")
    assert minispike("energy", run, "--file", file).code == 0
    for command in ("evaluate", "energy", "predict"):
        outcome = minispike(command, run, "--file", tmp_path / "no.tsv")
        assert_mistake(outcome, "no.tsv: expected a readable file")


# ---- Settings


@pytest.mark.parametrize(
    ("setting", "parts"),
    [
        ("student.dept=2", ("student.dept: expected one of the keys of student", "try student.depth")),
        ("stage3.steps=2", ("stage3: expected one of the keys of config",)),
        ("stage1.steps=many", ("stage1.steps: expected int, got many",)),
        ("stage1.steps=0", ("stage1.steps: expected a number >= 1",)),
        ("stage1.alignment.layers=[1]", ("stage1.alignment.layers: expected 2 layers from 0 to 2",)),
        ("stage2.alignment.layers=[1, 3]", ("stage2.alignment.layers: expected 2 layers from 0 to 2",)),
        ("student.heads=3", ("student.heads: expected a divisor of dim", "try student.heads=2")),
        ("teacher.heads=3", ("teacher.heads: expected a divisor of hidden_size", "try teacher.heads=2")),
        ("student.vocab_size=5", ("student.vocab_size: expected 0: a run takes it",)),
        ("student.threshold=nan", ("student.threshold: expected a number > 0, got nan; try student.threshold=",)),
        ("student.attention_scale=-1", ("student.attention_scale: expected a number >= 0",)),
        ("student.embedding_threshold=inf", ("student.embedding_threshold: expected a finite number",)),
        ("stage1.embedding=nan", ("stage1.embedding: expected a weight >= 0, got nan",)),
        ("stage2.transfer=false", ("stage2.transfer: expected true, or variants",)),
        ("data.dev_fraction=2", ("data.dev_fraction: expected a share between 0 and 1",)),
        ("teacher.vocab_size=3", ("teacher.vocab_size: expected a number >= 7, got 3",)),
        ("data.max_length=40", ("data.max_length: expected at most 32, student.max_length, got 40",)),
        ("data.max_length=2", ("data.max_length: expected a number >= 3, got 2",)),
        ("data.reviews.test=-1", ("data.reviews.test: expected 0 or more",)),
        ("seed=-1", ("seed: expected a number >= 0, got -1",)),
        ("backend=torch", ("backend: expected numpy or cupy, got 'torch'",)),
        ("preset=mini", ("preset: expected a flag of its own", "try --preset mini")),
        ("steps", ("override: expected key=value, got 'steps'",)),
    ],
)
def test_bad_settings(tmp_path: Path, setting: str, parts: tuple[str, ...]) -> None:
    refused(tmp_path, settings=(setting,), parts=parts)


def test_bad_settings_files(tmp_path: Path) -> None:
    file = tmp_path / "own.toml"
    file.write_text("[student\ndim = 16\n", encoding="utf-8")
    refused(tmp_path, "--config", file, parts=("own.toml:1: expected TOML",))
    file.write_text("[student]\ndims = 16\n", encoding="utf-8")
    refused(tmp_path, "--config", file, parts=("own.toml: student.dims: expected one of the keys", "student.dim"))
    assert_mistake(minispike("distill", "--preset", "huge"), "preset: expected one of tiny, mini", "got 'huge'")


def test_no_cupy(finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setattr(backend, "_modules", {})
    parts = ("backend 'cupy': expected the package CuPy", "got ModuleNotFoundError", "--backend numpy")
    refused(tmp_path, "--backend", "cupy", parts=parts)
    assert_mistake(minispike("predict", finished[0], "good", "--backend", "cupy"), *parts)
    monkeypatch.setenv("MINISPIKE_BACKEND", "cupy")
    assert_mistake(minispike("predict", finished[0], "good"), *parts)
    refused(tmp_path, parts=parts)


# ---- Teachers


def test_a_teacher_without_hidden_states(tmp_path: Path, bert: Path) -> None:
    table = np.ones((60, 4), np.float32)
    nodes = [
        helper.make_node("Gather", ["table", "input_ids"], ["words"]),
        helper.make_node("Cast", ["attention_mask"], ["mask"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMean", ["words"], ["logits"], axes=[1], keepdims=0),
    ]
    inputs = [
        helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "length"])
        for name in ("input_ids", "attention_mask")
    ]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", 4])]
    graph = helper.make_graph(nodes, "bag", inputs, outputs, [numpy_helper.from_array(table, "table")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, bert / "bag.onnx")
    parts = ("hidden states: expected 1 + 2N layer norms", "got 0 layer norms")
    refused(tmp_path, "--teacher", bert / "bag.onnx", parts=parts)
    outcome = minispike("teacher", "convert", "--teacher", bert / "bag.onnx", "--out", tmp_path / "out")
    assert_mistake(outcome, *parts)
    assert not (tmp_path / "out").exists()


def test_teachers_that_do_not_fit(tmp_path: Path, data: Path, bert: Path) -> None:
    flags = ("--data", data, "--teacher", bert)
    long = ("data.max_length: expected at most 32, the teacher's positions, got 40",)
    refused(tmp_path, *flags, settings=("data.max_length=40", "student.max_length=40"), parts=long)
    none = ("bert: expected logits of 2 classes, got no classifier", "teacher.finetune=true")
    refused(tmp_path, *flags, settings=("teacher.finetune=false",), parts=none)


def test_a_teacher_with_the_labels_in_another_order(tmp_path: Path, data: Path, bert: Path) -> None:
    words = Tokenizer.from_file(bert).vocab_size
    sizes = Sizes(vocab_size=words, max_position_embeddings=32, num_labels=2)
    write_bert_folder(sizes, random_weights(sizes), bert, tmp_path / "task", label_names=["1", "0"])
    flags = ("--data", data, "--teacher", tmp_path / "task")
    parts = ("task: expected classes in the order 0, 1, got 1, 0",)
    refused(tmp_path, *flags, settings=("teacher.finetune=false",), parts=parts)


def test_onnx_teachers_that_do_not_fit(tmp_path: Path, data: Path, bert: Path) -> None:
    made = minispike("teacher", "convert", "--teacher", bert, "--out", tmp_path / "onnx")
    assert made.code == 0, made.err
    parts = ("model.onnx: expected logits of 2 classes, got no classifier",)
    refused(tmp_path, "--data", data, "--teacher", tmp_path / "onnx" / "model.onnx", parts=parts)


def test_teachers_that_cannot_be_fine_tuned(tmp_path: Path, data: Path, bert: Path) -> None:
    flags = ("--teacher", bert, "--data", data)
    outcome = minispike("teacher", "finetune", *flags, "--out", tmp_path / "out", "--set", "data.max_length=33")
    assert_mistake(outcome, "data.max_length: expected at most 32")
    outcome = minispike("teacher", "finetune", "--teacher", bert / "config.json", "--out", tmp_path / "out")
    assert_mistake(outcome, "config.json: expected the folder of a BERT, got a file")
    assert not (tmp_path / "out").exists()


def test_a_tokenizer_of_another_model(tmp_path: Path, data: Path, bert: Path) -> None:
    Tokenizer.train(["some other words altogether"], vocab_size=30).save(bert / "tokenizer.json")
    parts = ("tokenizer.json: expected", "tokens, as many as the model embeds")
    refused(tmp_path, "--data", data, "--teacher", bert, parts=parts)
    for job in (("finetune", "--data", data), ("convert",)):
        outcome = minispike("teacher", job[0], "--teacher", bert, *job[1:], "--out", tmp_path / "out")
        assert_mistake(outcome, *parts)
    (bert / "tokenizer.json").write_text("{}", encoding="utf-8")
    refused(tmp_path, "--data", data, "--teacher", bert, parts=("tokenizer.json: expected a tokenizer.json",))
    (bert / "tokenizer.json").unlink()
    refused(tmp_path, "--data", data, "--teacher", bert, parts=("bert: expected tokenizer.json or vocab.txt",))
    assert not (tmp_path / "out").exists()


def test_damaged_teachers(tmp_path: Path, data: Path, bert: Path) -> None:
    flags = ("--data", data, "--teacher", bert)
    config = json.loads((bert / "config.json").read_text(encoding="utf-8"))
    (bert / "config.json").write_text(json.dumps({**config, "hidden_size": 32}), encoding="utf-8")
    refused(tmp_path, *flags, parts=("model.safetensors: expected the weights of a BERT of 2 layers x 32", "misshaped"))
    (bert / "config.json").write_text(json.dumps({**config, "model_type": "roberta"}), encoding="utf-8")
    refused(tmp_path, *flags, parts=("config.json: model_type: expected 'bert', got 'roberta'",))
    (bert / "config.json").write_text(json.dumps(config), encoding="utf-8")
    cut_short(bert / "model.safetensors")
    refused(tmp_path, *flags, parts=("model.safetensors: expected a whole safetensors file",))
    (bert / "model.onnx").write_bytes(b"no model")
    refused(tmp_path, "--data", data, "--teacher", bert / "model.onnx", parts=("model.onnx: expected an ONNX model",))
