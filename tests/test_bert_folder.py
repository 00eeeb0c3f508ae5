"""Folders in the layout of Hugging Face are read whole or refused, and written as they are read."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from plain_bert import Array, Sizes, random_weights
from safetensors.numpy import load_file, save_file

from minispike.errors import TeacherError
from minispike.models.bert_folder import read_bert_folder, write_bert_folder

SIZES = Sizes(num_labels=3)
WEIGHTS = random_weights(SIZES)


def folder_of(folder: Path, weights: dict[str, Array] = WEIGHTS, sizes: Sizes = SIZES, **changes: Any) -> Path:
    """A folder with ``weights`` as they are and ``changes`` in its config.json, None for a key left out."""
    config = {key: value for key, value in asdict(sizes).items() if key not in ("dropout", "num_labels")}
    config |= {"model_type": "bert", "hidden_act": "gelu", "hidden_dropout_prob": sizes.dropout} | changes
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(json.dumps({key: v for key, v in config.items() if v is not None}))
    save_file(weights, folder / "model.safetensors")
    return folder


def assert_equal(weights: dict[str, Any], expected: dict[str, Any]) -> None:
    assert sorted(weights) == sorted(expected)
    for name, value in weights.items():
        assert value.dtype == np.float32
        np.testing.assert_array_equal(value, expected[name])


def test_write_and_read(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}")
    write_bert_folder(SIZES, WEIGHTS, tmp_path / "tokenizer.json", tmp_path / "bert", label_names=("no", "so", "yes"))
    fields, weights = read_bert_folder(tmp_path / "bert")
    assert fields == asdict(SIZES)
    assert_equal(weights, WEIGHTS)
    names = sorted(path.name for path in (tmp_path / "bert").iterdir())
    assert names == ["config.json", "model.safetensors", "tokenizer.json"]
    config = json.loads((tmp_path / "bert" / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "no", "1": "so", "2": "yes"} and config["label2id"]["yes"] == 2
    stored = load_file(tmp_path / "bert" / "model.safetensors")
    assert "bert.embeddings.LayerNorm.weight" in stored and "classifier.weight" in stored


def test_write_a_bare_encoder_and_a_word_head(tmp_path: Path) -> None:
    sizes = replace(SIZES, num_labels=0)
    bare = random_weights(sizes)
    write_bert_folder(sizes, bare, None, tmp_path / "bare")
    assert json.loads((tmp_path / "bare" / "config.json").read_text())["architectures"] == ["BertModel"]
    assert sorted(load_file(tmp_path / "bare" / "model.safetensors")) == sorted(bare)
    assert_equal(read_bert_folder(tmp_path / "bare")[1], bare)
    with_head = bare | {"cls.predictions.bias": np.ones(sizes.vocab_size, np.float32)}
    write_bert_folder(sizes, with_head, None, tmp_path / "head")
    assert json.loads((tmp_path / "head" / "config.json").read_text())["architectures"] == ["BertForMaskedLM"]
    assert_equal(read_bert_folder(tmp_path / "head")[1], with_head)


def test_transposed_weights_are_written_in_order(tmp_path: Path) -> None:
    turned = {name: np.asfortranarray(value) for name, value in WEIGHTS.items()}
    write_bert_folder(SIZES, turned, None, tmp_path / "bert")
    assert_equal(read_bert_folder(tmp_path / "bert")[1], WEIGHTS)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("prefix", ["", "bert."])
@pytest.mark.parametrize("old", [False, True])
def test_reads_other_names_and_types(tmp_path: Path, dtype: type, prefix: str, old: bool) -> None:
    stored: dict[str, Array] = {}
    for name, value in WEIGHTS.items():
        if old and "LayerNorm" in name:
            name = name.replace(".weight", ".gamma").replace(".bias", ".beta")
        stored[name if name.startswith("classifier") else prefix + name] = value.astype(dtype)
    stored[f"{prefix}embeddings.position_ids"] = np.arange(24)[None]
    stored["cls.seq_relationship.weight"] = np.zeros((2, 16), dtype)
    fields, weights = read_bert_folder(folder_of(tmp_path / "bert", stored))
    assert fields["num_labels"] == 3
    assert_equal(weights, WEIGHTS)


def test_reads_bfloat16(tmp_path: Path) -> None:
    """Written by hand: NumPy has no such type."""
    sizes = replace(SIZES, num_labels=0)
    weights = {name: np.round(value * 4) / 4 for name, value in random_weights(sizes).items()}
    header, data, at = {}, b"", 0
    for name, value in weights.items():
        upper = (np.ascontiguousarray(value).view(np.uint32) >> 16).astype(np.uint16)
        header[name] = {"dtype": "BF16", "shape": value.shape, "data_offsets": [at, at + upper.nbytes]}
        data, at = data + upper.tobytes(), at + upper.nbytes
    text = json.dumps(header).encode()
    folder = folder_of(tmp_path / "bert", sizes=sizes)
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + data)
    assert_equal(read_bert_folder(folder)[1], weights)


def test_tied_copies_are_left_out_and_others_kept(tmp_path: Path) -> None:
    tied = WEIGHTS | {"cls.predictions.decoder.weight": WEIGHTS["embeddings.word_embeddings.weight"]}
    assert_equal(read_bert_folder(folder_of(tmp_path / "tied", tied))[1], WEIGHTS)
    free = WEIGHTS | {"cls.predictions.decoder.weight": WEIGHTS["embeddings.word_embeddings.weight"] + 1}
    assert_equal(read_bert_folder(folder_of(tmp_path / "free", free))[1], free)


def test_defaults_of_the_config(tmp_path: Path) -> None:
    sizes = replace(SIZES, max_position_embeddings=512, num_labels=0)
    weights = random_weights(sizes)
    left_out = dict.fromkeys(
        ("max_position_embeddings", "type_vocab_size", "layer_norm_eps", "hidden_dropout_prob", "hidden_act")
    )
    fields, _ = read_bert_folder(folder_of(tmp_path / "bert", weights, sizes, **left_out))
    assert fields == asdict(sizes)


def test_minilm(shared: Path) -> None:
    fields, weights = read_bert_folder(shared / "models" / "minilm-l6")
    assert (fields["num_hidden_layers"], fields["hidden_size"], fields["num_labels"]) == (6, 384, 0)
    assert weights["embeddings.word_embeddings.weight"].shape == (30522, 384)
    assert sum(value.size for value in weights.values()) == 22_713_216


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "roberta"}, "model_type: expected 'bert', got 'roberta'"),
        ({"hidden_act": "gelu_new"}, "hidden_act: expected 'gelu', got 'gelu_new'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type: expected 'absolute'"),
        ({"is_decoder": True}, "is_decoder: expected False, got True"),
        ({"hidden_size": None}, "hidden_size: expected a whole number > 0, got nothing"),
        ({"num_hidden_layers": "2"}, "num_hidden_layers: expected a whole number > 0, got '2'"),
        ({"num_attention_heads": 3}, "num_attention_heads: expected a divisor of hidden_size 16, got 3"),
        ({"num_hidden_layers": 3}, r"missing: encoder\.layer\.2\..* and 6 more"),
        ({"num_hidden_layers": 1}, r"unexpected: encoder\.layer\.1\..* and 6 more"),
        (
            {"vocab_size": 41},
            r"misshaped: embeddings\.word_embeddings\.weight \(40, 16\) instead of \(41, 16\)",
        ),
        (
            {"id2label": {"0": "no", "1": "yes"}},
            r"misshaped: classifier\.weight \(3, 16\) instead of \(2, 16\)",
        ),
    ],
)
def test_bad_configs(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(TeacherError, match=message):
        read_bert_folder(folder_of(tmp_path / "bert", **changes))


def test_bad_weights(tmp_path: Path) -> None:
    folder = folder_of(tmp_path / "bert")
    whole = (folder / "model.safetensors").read_bytes()
    for wrong in (whole[:-3], whole[:20], b"", b"version https://example.org/spec\n" * 9):
        (folder / "model.safetensors").write_bytes(wrong)
        with pytest.raises(TeacherError, match=r"model\.safetensors: expected a whole safetensors file, got .+; try"):
            read_bert_folder(folder)
    save_file(
        {name: np.rint(value).astype(np.int8) for name, value in WEIGHTS.items()},
        folder / "model.safetensors",
    )
    with pytest.raises(TeacherError, match="expected floating point, got I8"):
        read_bert_folder(folder)
    both = WEIGHTS | {"bert.classifier.bias": np.zeros(3, np.float32)}
    with pytest.raises(TeacherError, match=r"got classifier\.bias twice"):
        read_bert_folder(folder_of(folder, both))


def test_missing_files(tmp_path: Path) -> None:
    with pytest.raises(TeacherError, match=r"config\.json: expected a file, got no such file"):
        read_bert_folder(tmp_path)
    folder = folder_of(tmp_path / "bert")
    (folder / "model.safetensors").unlink()
    for name, got in (
        ("other", "no such file"),
        ("pytorch_model.bin", "a pickled pytorch_model.bin"),
        ("model.safetensors.index.json", "weights in several shards"),
    ):
        (folder / name).write_text("")
        with pytest.raises(TeacherError, match=rf"model\.safetensors: expected one file of weights, got {got}"):
            read_bert_folder(folder)
    for wrong in ("{", "[1]"):
        (folder / "config.json").write_text(wrong)
        with pytest.raises(TeacherError, match=r"config\.json: expected"):
            read_bert_folder(folder)
    (folder / "config.json").write_bytes(b"\xff\xfe")
    with pytest.raises(TeacherError, match=r"config\.json: expected JSON"):
        read_bert_folder(folder)


def test_tokenizers(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    with pytest.raises(TeacherError, match=r"tokenizer_path .*got a folder without them"):
        write_bert_folder(SIZES, WEIGHTS, source, tmp_path / "bert")
    with pytest.raises(TeacherError, match="got no such file"):
        write_bert_folder(SIZES, WEIGHTS, source / "tokenizer.json", tmp_path / "bert")
    with pytest.raises(TeacherError, match="label_names: expected 3 names, one a class, got 2"):
        write_bert_folder(SIZES, WEIGHTS, None, tmp_path / "bert", label_names=("a", "b"))
    assert not (tmp_path / "bert").exists()
    for name in ("vocab.txt", "tokenizer.json", "special_tokens_map.json", "notes.md"):
        (source / name).write_text(name)
    write_bert_folder(SIZES, WEIGHTS, source, tmp_path / "bert")
    copied = {path.name for path in (tmp_path / "bert").iterdir()} - {"config.json", "model.safetensors"}
    assert copied == {"vocab.txt", "tokenizer.json", "special_tokens_map.json"}
    (tmp_path / "mine.json").write_text("mine")
    write_bert_folder(SIZES, WEIGHTS, tmp_path / "mine.json", tmp_path / "other")
    assert (tmp_path / "other" / "tokenizer.json").read_text() == "mine"
