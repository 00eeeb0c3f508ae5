"""BERT checkpoints as folders in the layout of Hugging Face: ``config.json`` beside ``model.safetensors``."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minispike.errors import TeacherError, problem
from minispike.extras import extra
from minispike.files import atomic_write
from minispike.models.bert_weights import BertConfigLike, BertFields, Weights, check_weights, fields_of

# The files that make a tokenizer: one of the first two is enough, the others come along if they are there.
_TOKENIZER_FILES = ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json")

# Buffers of positions and segments, and the next-sentence head: in many files, of no use to a teacher.
_NOT_NEEDED = re.compile(r"embeddings\.(position_ids|token_type_ids)|cls\.seq_relationship\..+")

_DTYPES = {"F16": np.float16, "F32": np.float32, "F64": np.float64}


def read_bert_folder(folder: str | Path) -> tuple[BertFields, Weights]:
    """Read a BERT from ``config.json`` and ``model.safetensors``.

    Names may carry the prefix ``bert.`` and the old ``gamma`` and ``beta`` of layer norms. The next-sentence
    head and copies of the word embeddings under the masked language modelling head are left out.

    Args:
        folder: of the two files; weights in float16, bfloat16, float32 or float64.

    Returns:
        The sizes (``BertConfig(**fields)``) and the weights in float32 by their names without prefix.

    Raises:
        TeacherError: a file that is missing, broken or cut short; not a BERT, or one that computes something
            else (another activation, relative positions, a decoder); weights that do not fit the config.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from minispike.models.bert import Bert, BertConfig
        >>> from minispike.models.bert_folder import read_bert_folder, write_bert_folder
        >>> config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> weights = Bert(config, np.random.default_rng(0)).state_dict()
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_bert_folder(config, weights, None, folder)
        ...     fields, again = read_bert_folder(folder)
        >>> fields["hidden_size"], all((again[name] == weights[name]).all() for name in weights)
        (8, True)
    """
    folder = Path(folder)
    config = _read_config(folder / "config.json")
    path = folder / "model.safetensors"
    if not path.is_file():
        got = "a pickled pytorch_model.bin" if (folder / "pytorch_model.bin").is_file() else "no such file"
        if (folder / "model.safetensors.index.json").is_file():
            got = "weights in several shards"
        raise TeacherError(
            problem(
                str(path),
                expected="one file of weights",
                got=got,
                hint="the model saved as one safetensors file",
            )
        )
    weights = _plain_names(str(path), _read_safetensors(path))
    labels = weights["classifier.weight"].shape[0] if "classifier.weight" in weights else 0
    if labels and "id2label" in config:
        labels = len(config["id2label"])
    fields = _bert_fields(str(folder / "config.json"), config, labels)
    check_weights(str(path), fields, weights)
    return fields, weights


def read_label_names(folder: str | Path) -> tuple[str, ...]:
    """The names that ``config.json`` gives the classes, in the order of the logits; none if it has no names.

    Raises:
        TeacherError: the file is missing or broken, or of no BERT.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.models.bert_folder import read_label_names
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "config.json"
        ...     _ = path.write_text('{"model_type": "bert", "id2label": {"1": "positive", "0": "negative"}}')
        ...     print(read_label_names(folder))
        ('negative', 'positive')
    """
    names = _read_config(Path(folder) / "config.json").get("id2label")
    return tuple(str(names[i]) for i in sorted(names, key=int)) if isinstance(names, dict) else ()


def write_bert_folder(
    config: BertConfigLike,
    weights: Mapping[str, NDArray[Any]],
    tokenizer_path: str | Path | None,
    folder: str | Path,
    *,
    label_names: Sequence[str] | None = None,
) -> None:
    """Write a BERT in the layout that `read_bert_folder` reads, each file whole or not at all.

    Args:
        config: the sizes.
        weights: as `bert_shapes` names them; stored as float32.
        tokenizer_path: a ``tokenizer.json``, a ``vocab.txt`` or a folder that holds either, to be copied;
            None for weights without a tokenizer.
        folder: made if it is missing.
        label_names: names of the classes for ``config.json``; ``LABEL_i`` by default.

    Raises:
        TeacherError: weights that do not fit ``config``, no tokenizer at ``tokenizer_path``, or another
            number of label names than of classes.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from minispike.models.bert import Bert, BertConfig
        >>> from minispike.models.bert_folder import read_label_names, write_bert_folder
        >>> config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_labels=2)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     weights = Bert(config, np.random.default_rng(0)).state_dict()
        ...     write_bert_folder(config, weights, tokenizer_path=None, folder=folder, label_names=("no", "yes"))
        ...     print(sorted(path.name for path in Path(folder).iterdir()), read_label_names(folder))
        ['config.json', 'model.safetensors'] ('no', 'yes')
    """
    fields = fields_of(config, weights)
    check_weights("weights", fields, weights)
    tokenizer = _tokenizer_files(Path(tokenizer_path)) if tokenizer_path is not None else {}
    settings = _hf_config(fields, weights, label_names)
    # Heads stand beside an encoder named ``bert``; a bare encoder has no prefix. So does Hugging Face name
    # them.
    bare = settings["architectures"] == ["BertModel"]
    tensors = {
        name if bare or name.startswith(("classifier.", "cls.")) else f"bert.{name}": np.ascontiguousarray(
            value, dtype=np.float32
        )
        for name, value in weights.items()
    }
    folder = Path(folder)
    with atomic_write(folder / "model.safetensors", "wb") as file:
        file.write(extra("safetensors.numpy").save(tensors, metadata={"format": "pt"}))
    for name, content in tokenizer.items():
        with atomic_write(folder / name, "wb") as file:
            file.write(content)
    with atomic_write(folder / "config.json") as file:
        file.write(json.dumps(settings, indent=2) + "\n")


def _read_config(path: Path) -> dict[str, Any]:
    """The JSON object of a ``config.json`` of a BERT as this project computes it."""
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        hint = "the folder of a BERT with config.json and model.safetensors"
        raise TeacherError(problem(str(path), expected="a file", got="no such file", hint=hint)) from error
    except ValueError as error:  # not UTF-8, or not JSON
        raise TeacherError(problem(str(path), expected="JSON", got=str(error), hint="a fresh copy")) from error
    if not isinstance(config, dict):
        raise TeacherError(problem(str(path), expected="a JSON object", got=type(config).__name__, hint="a fresh copy"))
    for key, value in (
        ("model_type", "bert"),
        ("hidden_act", "gelu"),
        ("position_embedding_type", "absolute"),
        ("is_decoder", False),
    ):
        if config.get(key, value) != value:
            raise TeacherError(
                problem(f"{path}: {key}", expected=repr(value), got=repr(config[key]), hint="a BERT encoder")
            )
    return config


def _bert_fields(where: str, config: Mapping[str, Any], labels: int) -> BertFields:
    def positive(key: str, default: int | None = None) -> int:
        value = config.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            got = "nothing" if value is None else repr(value)
            raise TeacherError(
                problem(
                    f"{where}: {key}",
                    expected="a whole number > 0",
                    got=got,
                    hint="the config of the checkpoint",
                )
            )
        return value

    fields = BertFields(
        vocab_size=positive("vocab_size"),
        hidden_size=positive("hidden_size"),
        num_hidden_layers=positive("num_hidden_layers"),
        num_attention_heads=positive("num_attention_heads"),
        intermediate_size=positive("intermediate_size"),
        max_position_embeddings=positive("max_position_embeddings", 512),
        type_vocab_size=positive("type_vocab_size", 2),
        layer_norm_eps=float(config.get("layer_norm_eps", 1e-12)),
        dropout=float(config.get("hidden_dropout_prob", 0.1)),
        num_labels=labels,
    )
    width, heads = fields["hidden_size"], fields["num_attention_heads"]
    if width % heads:
        raise TeacherError(
            problem(
                f"{where}: num_attention_heads",
                expected=f"a divisor of hidden_size {width}",
                got=str(heads),
                hint="the config of the checkpoint",
            )
        )
    return fields


def _read_safetensors(path: Path) -> Weights:
    """Every tensor of numbers of a safetensors file, as float32; integer buffers are left out."""
    library = extra("safetensors")
    try:
        entries = library.deserialize(path.read_bytes())
    except library.SafetensorError as error:
        raise TeacherError(
            problem(
                str(path),
                expected="a whole safetensors file",
                got=str(error),
                hint="a fresh copy of the file",
            )
        ) from error
    weights: Weights = {}
    for name, entry in sorted(entries):
        kind, shape = entry["dtype"], entry["shape"]
        if kind == "BF16":  # the upper half of a float32
            value = (np.frombuffer(entry["data"], np.uint16).astype(np.uint32) << 16).view(np.float32)
        elif kind in _DTYPES:
            value = np.frombuffer(entry["data"], _DTYPES[kind]).astype(np.float32)
        elif kind.startswith(("I", "U", "B")) and _NOT_NEEDED.fullmatch(name.removeprefix("bert.")):
            continue
        else:
            raise TeacherError(
                problem(
                    f"{path}: {name}",
                    expected="floating point",
                    got=kind,
                    hint="a model that is not quantised",
                )
            )
        weights[name] = value.reshape(shape)
    return weights


def _plain_names(where: str, weights: Weights) -> Weights:
    """``weights`` by the names of this project, without what no teacher needs."""
    plain: Weights = {}
    for name, value in weights.items():
        short = name.removeprefix("bert.")
        short = re.sub(r"LayerNorm\.gamma$", "LayerNorm.weight", short)
        short = re.sub(r"LayerNorm\.beta$", "LayerNorm.bias", short)
        if _NOT_NEEDED.fullmatch(short):
            continue
        if short in plain:
            raise TeacherError(
                problem(where, expected="one tensor a name", got=f"{short} twice", hint="a fresh copy of the file")
            )
        plain[short] = value
    for copy, original in (
        ("cls.predictions.decoder.weight", "embeddings.word_embeddings.weight"),
        ("cls.predictions.decoder.bias", "cls.predictions.bias"),
    ):
        if copy in plain and original in plain and np.array_equal(plain[copy], plain[original]):
            del plain[copy]
    return plain


def _tokenizer_files(path: Path) -> dict[str, bytes]:
    """Name and content of the files of a tokenizer, read before anything is written."""
    if path.is_dir():
        files = {name: path / name for name in _TOKENIZER_FILES if (path / name).is_file()}
    else:
        files = {"vocab.txt" if path.suffix == ".txt" else "tokenizer.json": path} if path.is_file() else {}
    if not files.keys() & set(_TOKENIZER_FILES[:2]):
        raise TeacherError(
            problem(
                f"tokenizer_path {path}",
                expected="a tokenizer.json, a vocab.txt, or a folder with one of them",
                got="a folder without them" if path.is_dir() else "no such file",
                hint="the tokenizer the model was trained with",
            )
        )
    return {name: file.read_bytes() for name, file in files.items()}


def _hf_config(fields: BertFields, weights: Mapping[str, Any], label_names: Sequence[str] | None) -> dict[str, Any]:
    architecture = "BertModel"
    if fields["num_labels"]:
        architecture = "BertForSequenceClassification"
    elif any(name.startswith("cls.") for name in weights):
        architecture = "BertForMaskedLM"
    config: dict[str, Any] = {
        "architectures": [architecture],
        "model_type": "bert",
        "hidden_act": "gelu",
        "position_embedding_type": "absolute",
        "pad_token_id": 0,
        "attention_probs_dropout_prob": fields["dropout"],
        "hidden_dropout_prob": fields["dropout"],
        **{key: value for key, value in fields.items() if key not in ("dropout", "num_labels")},
    }
    if fields["num_labels"]:
        names = list(label_names or [f"LABEL_{i}" for i in range(fields["num_labels"])])
        if len(names) != fields["num_labels"]:
            raise TeacherError(
                problem(
                    "label_names",
                    expected=f"{fields['num_labels']} names, one a class",
                    got=str(len(names)),
                    hint="the labels of the training data",
                )
            )
        config["id2label"] = {str(i): name for i, name in enumerate(names)}
        config["label2id"] = {name: i for i, name in enumerate(names)}
    return config
