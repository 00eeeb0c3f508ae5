"""What the weights of a BERT are called and how large they are.

They go by the names of Hugging Face without ``bert.``: ``embeddings.*``, ``encoder.layer.i.*``,
``pooler.dense.*``, ``classifier.*`` for a task head, ``cls.predictions.*`` for masked language modelling.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from minispike.errors import TeacherError, problem

Weights = dict[str, NDArray[np.float32]]
Shape = tuple[int, ...]


class BertFields(TypedDict):
    """The sizes of a BERT, by the names of ``BertConfig``; ``num_labels`` 0 means no classifier.

    Example:
        >>> from minispike.models.bert import BertConfig
        >>> from minispike.models.bert_weights import fields_of
        >>> fields = fields_of(BertConfig(hidden_size=384), weights={})
        >>> fields["hidden_size"], fields["num_labels"]
        (384, 0)
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int
    type_vocab_size: int
    layer_norm_eps: float
    dropout: float
    num_labels: int


class BertConfigLike(Protocol):
    """Anything with the fields of ``BertConfig`` as attributes."""

    @property
    def vocab_size(self) -> int: ...
    @property
    def hidden_size(self) -> int: ...
    @property
    def num_hidden_layers(self) -> int: ...
    @property
    def num_attention_heads(self) -> int: ...
    @property
    def intermediate_size(self) -> int: ...
    @property
    def max_position_embeddings(self) -> int: ...
    @property
    def type_vocab_size(self) -> int: ...
    @property
    def layer_norm_eps(self) -> float: ...
    @property
    def dropout(self) -> float: ...
    @property
    def num_labels(self) -> int: ...


def fields_of(config: BertConfigLike, weights: Mapping[str, Any]) -> BertFields:
    """The fields of ``config`` as a mapping, with ``num_labels`` of the classifier where ``config`` has 0.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert import BertConfig
        >>> from minispike.models.bert_weights import fields_of
        >>> fields_of(BertConfig(num_labels=0), {"classifier.weight": np.zeros((3, 768))})["num_labels"]
        3
    """
    labels = config.num_labels
    if not labels and "classifier.weight" in weights:
        labels = int(weights["classifier.weight"].shape[0])
    return BertFields(
        vocab_size=config.vocab_size,
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        intermediate_size=config.intermediate_size,
        max_position_embeddings=config.max_position_embeddings,
        type_vocab_size=config.type_vocab_size,
        layer_norm_eps=config.layer_norm_eps,
        dropout=config.dropout,
        num_labels=labels,
    )


def bert_shapes(fields: BertFields) -> dict[str, Shape]:
    """Name and shape of each weight a BERT must have, matrices as ``[out, in]``.

    The pooler is among them when there is a classifier, which reads it; it may be absent otherwise.

    Args:
        fields: the sizes.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert import BertConfig
        >>> from minispike.models.bert_weights import bert_shapes, fields_of
        >>> shapes = bert_shapes(fields_of(BertConfig(), {}))
        >>> shapes["encoder.layer.11.intermediate.dense.weight"]  # [out, in]
        (3072, 768)
        >>> sum(int(np.prod(shape)) for shape in shapes.values())  # of BERT-base, without pooler and classifier
        108891648
    """
    width, inner = fields["hidden_size"], fields["intermediate_size"]
    shapes: dict[str, Shape] = {
        "embeddings.word_embeddings.weight": (fields["vocab_size"], width),
        "embeddings.position_embeddings.weight": (fields["max_position_embeddings"], width),
        "embeddings.token_type_embeddings.weight": (fields["type_vocab_size"], width),
        **_norm("embeddings.LayerNorm", width),
    }
    for i in range(fields["num_hidden_layers"]):
        layer = f"encoder.layer.{i}"
        for part in (
            "attention.self.query",
            "attention.self.key",
            "attention.self.value",
            "attention.output.dense",
        ):
            shapes |= _linear(f"{layer}.{part}", width, width)
        shapes |= _norm(f"{layer}.attention.output.LayerNorm", width)
        shapes |= _linear(f"{layer}.intermediate.dense", inner, width)
        shapes |= _linear(f"{layer}.output.dense", width, inner)
        shapes |= _norm(f"{layer}.output.LayerNorm", width)
    if fields["num_labels"]:
        shapes |= _linear("pooler.dense", width, width) | _linear("classifier", fields["num_labels"], width)
    return shapes


def check_weights(where: str, fields: BertFields, weights: Mapping[str, Any]) -> None:
    """See that ``weights`` are those of a BERT of the sizes in ``fields``, no more, no less, each of its
    shape.

    The pooler without a classifier and the head of masked language modelling are optional.

    Args:
        where: the file or argument to blame in the error.
        fields: the sizes.
        weights: arrays by name.

    Raises:
        TeacherError: names that are missing, unexpected or misshaped, each listed.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert import BertConfig
        >>> from minispike.models.bert_weights import bert_shapes, check_weights, fields_of
        >>> fields = fields_of(BertConfig(num_hidden_layers=1), {})
        >>> weights = {name: np.zeros(shape) for name, shape in bert_shapes(fields).items()}
        >>> check_weights("model.safetensors", fields, weights)  # nothing to say
        >>> del weights["embeddings.LayerNorm.bias"]
        >>> check_weights("model.safetensors", fields, weights)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        minispike.errors.TeacherError: model.safetensors: ... got missing: embeddings.LayerNorm.bias; try ...
    """
    wanted = bert_shapes(fields)
    known = wanted | _optional_shapes(fields)
    missing = [name for name in wanted if name not in weights]
    unexpected = [name for name in weights if name not in known]
    misshaped = [
        f"{name} {tuple(weights[name].shape)} instead of {shape}"
        for name, shape in known.items()
        if name in weights and tuple(weights[name].shape) != shape
    ]
    found = [
        f"{kind}: {_listed(names)}"
        for kind, names in (("missing", missing), ("unexpected", unexpected), ("misshaped", misshaped))
        if names
    ]
    if found:
        expected = f"the weights of a BERT of {fields['num_hidden_layers']} layers x {fields['hidden_size']}"
        hint = "a checkpoint and a config.json that belong together"
        raise TeacherError(problem(where, expected=expected, got="; ".join(found), hint=hint))


def _linear(name: str, out_width: int, in_width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (out_width, in_width), f"{name}.bias": (out_width,)}


def _norm(name: str, width: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _optional_shapes(fields: BertFields) -> dict[str, Shape]:
    width, vocabulary = fields["hidden_size"], fields["vocab_size"]
    return (
        _linear("pooler.dense", width, width)
        | _linear("cls.predictions.transform.dense", width, width)
        | _norm("cls.predictions.transform.LayerNorm", width)
        | _linear("cls.predictions.decoder", vocabulary, width)
        | {"cls.predictions.bias": (vocabulary,)}
    )


def _listed(names: Sequence[str], most: int = 10) -> str:
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest} more" if rest > 0 else "")


def encoder_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """The weights without the heads of pretraining, for which `minispike.models.bert.Bert` has no place.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert_weights import encoder_weights
        >>> weights = {"pooler.dense.bias": np.zeros(8), "cls.predictions.bias": np.zeros(10)}
        >>> list(encoder_weights(weights))
        ['pooler.dense.bias']
    """
    return {name: w for name, w in weights.items() if not name.startswith("cls.")}
