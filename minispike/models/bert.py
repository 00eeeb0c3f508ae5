"""BERT (Devlin et al. 2019, arXiv 1810.04805) on minispike's own ops: the teacher, while it is being trained.

Modules bear the names of a Hugging Face ``BertModel``, so its weights load as they are.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minispike.backend import Array, array_module, to_numpy
from minispike.errors import ConfigError, ShapeError, problem
from minispike.models.bert_folder import read_bert_folder
from minispike.models.bert_weights import encoder_weights
from minispike.models.inputs import token_ids, token_mask
from minispike.models.onnx_export import export_bert
from minispike.nn import functional as F
from minispike.nn.attention import softmax_attention
from minispike.nn.layers import Embedding, LayerNorm, Linear, dropout
from minispike.nn.module import Module, ModuleList, Parameter
from minispike.ops import gelu, tanh
from minispike.tensor import Tensor

Rng = np.random.Generator | None


@dataclass(frozen=True)
class BertConfig:
    """The shape of a BERT; field names as in Hugging Face's ``config.json``, defaults those of BERT-base.

    Attributes:
        vocab_size: V, rows of the table of word embeddings.
        hidden_size: D, width of the hidden states.
        num_hidden_layers: N.
        num_attention_heads: heads of width D / heads; a divisor of D.
        intermediate_size: width inside the feed-forward part.
        max_position_embeddings: rows of the table of positions, the most tokens of a text.
        type_vocab_size: kinds of segments.
        layer_norm_eps: added to the variance in layer norms.
        dropout: share, 0 to 1, of what is dropped from embeddings, attention output and feed-forward output while a
            generator is passed; attention weights have none.
        num_labels: C, classes of the task head; 0 for none.
        initializer_range: standard deviation of fresh weights.

    Raises:
        ConfigError: the heads do not divide the width.

    Example:
        >>> from minispike.models.bert import BertConfig
        >>> BertConfig().hidden_size, BertConfig().num_hidden_layers  # the defaults are those of BERT-base
        (768, 12)
        >>> BertConfig(hidden_size=100)  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: num_attention_heads: expected a divisor of hidden_size, got 12 heads for ...
    """

    vocab_size: int = 30522
    hidden_size: int = 768
    num_hidden_layers: int = 12
    num_attention_heads: int = 12
    intermediate_size: int = 3072
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    dropout: float = 0.1
    num_labels: int = 0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        if self.num_attention_heads < 1 or self.hidden_size % self.num_attention_heads:
            got = f"{self.num_attention_heads} heads for width {self.hidden_size}"
            raise ConfigError(
                problem(
                    "num_attention_heads",
                    expected="a divisor of hidden_size",
                    got=got,
                    hint="heads of 64, as many as fit into the width",
                )
            )

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "BertConfig":
        """The shape that ``fields`` tell; what they tell beside it is left alone.

        Args:
            fields: by the names of the attributes; those that are missing take their defaults.

        Raises:
            ConfigError: the heads do not divide the width.

        Example:
            >>> from minispike.models.bert import BertConfig
            >>> BertConfig.of({"model_type": "bert", "hidden_size": 384}).hidden_size
            384
        """
        return cls(**{name: fields[name] for name in cls.__dataclass_fields__ if name in fields})


@dataclass(frozen=True)
class BertOutput:
    """``hidden_states``: one ``[B, L, D]`` for the embeddings and one a layer; ``logits``: ``[B, C]`` or None.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert import Bert, BertConfig
        >>> config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_labels=3)
        >>> output = Bert(config, np.random.default_rng(0))([[2, 5, 3]])
        >>> [states.shape for states in output.hidden_states], output.logits.shape
        ([(1, 3, 8), (1, 3, 8), (1, 3, 8)], (1, 3))
    """

    hidden_states: tuple[Tensor, ...]
    logits: Tensor | None


class _Embeddings(Module):
    def __init__(self, c: BertConfig, rng: np.random.Generator) -> None:
        self.word_embeddings = Embedding(c.vocab_size, c.hidden_size, rng, c.initializer_range)
        self.position_embeddings = Embedding(c.max_position_embeddings, c.hidden_size, rng, c.initializer_range)
        self.token_type_embeddings = Embedding(c.type_vocab_size, c.hidden_size, rng, c.initializer_range)
        self.LayerNorm = LayerNorm(c.hidden_size, c.layer_norm_eps)

    def forward(self, ids: Array, segments: Array) -> Tensor:
        positions = array_module(ids).arange(ids.shape[1])
        x = self.word_embeddings(ids) + self.position_embeddings(positions) + self.token_type_embeddings(segments)
        return self.LayerNorm(x)


class _SelfAttention(Module):
    def __init__(self, c: BertConfig, rng: np.random.Generator) -> None:
        self.query = Linear(c.hidden_size, c.hidden_size, rng, c.initializer_range)
        self.key = Linear(c.hidden_size, c.hidden_size, rng, c.initializer_range)
        self.value = Linear(c.hidden_size, c.hidden_size, rng, c.initializer_range)
        self.heads = c.num_attention_heads

    def forward(self, x: Tensor, mask: Array | None) -> Tensor:
        return softmax_attention(self.query(x), self.key(x), self.value(x), self.heads, mask)


class _Output(Module):
    """Linear, dropout, residual, layer norm: the end of both halves of a layer."""

    def __init__(self, in_features: int, c: BertConfig, rng: np.random.Generator) -> None:
        self.dense = Linear(in_features, c.hidden_size, rng, c.initializer_range)
        self.LayerNorm = LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.rate = c.dropout

    def forward(self, x: Tensor, residual: Tensor, rng: Rng) -> Tensor:
        return self.LayerNorm(residual + dropout(self.dense(x), self.rate, rng))


class _Attention(Module):
    def __init__(self, c: BertConfig, rng: np.random.Generator) -> None:
        self.self = _SelfAttention(c, rng)
        self.output = _Output(c.hidden_size, c, rng)

    def forward(self, x: Tensor, mask: Array | None, rng: Rng) -> Tensor:
        return self.output(self.self(x, mask), x, rng)


class _Dense(Module):
    def __init__(self, in_features: int, out_features: int, c: BertConfig, rng: np.random.Generator) -> None:
        self.dense = Linear(in_features, out_features, rng, c.initializer_range)


class _Layer(Module):
    def __init__(self, c: BertConfig, rng: np.random.Generator) -> None:
        self.attention = _Attention(c, rng)
        self.intermediate = _Dense(c.hidden_size, c.intermediate_size, c, rng)
        self.output = _Output(c.intermediate_size, c, rng)

    def forward(self, x: Tensor, mask: Array | None, rng: Rng) -> Tensor:
        x = self.attention(x, mask, rng)
        return self.output(gelu(self.intermediate.dense(x)), x, rng)


class _Encoder(Module):
    def __init__(self, c: BertConfig, rng: np.random.Generator) -> None:
        self.layer = ModuleList([_Layer(c, rng) for _ in range(c.num_hidden_layers)])


class Bert(Module):
    """The encoder, with a pooler and, for ``num_labels > 0``, a classifier.

    Args:
        config: the shape.
        rng: generator for the initial weights, drawn from N(0, ``initializer_range``); biases start at 0.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert import Bert, BertConfig
        >>> config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=2, num_attention_heads=2, num_labels=2)
        >>> bert = Bert(config, np.random.default_rng(0))
        >>> alone = bert([[2, 5, 3]]).logits.numpy()
        >>> padded = bert([[2, 5, 3, 0]], [[1, 1, 1, 0]]).logits.numpy()  # padding is masked, and changes nothing
        >>> float(abs(alone - padded).max()) < 1e-5
        True
    """

    def __init__(self, config: BertConfig, rng: np.random.Generator) -> None:
        self.config = config
        self.embeddings = _Embeddings(config, rng)
        self.encoder = _Encoder(config, rng)
        self.pooler = _Dense(config.hidden_size, config.hidden_size, config, rng)
        if config.num_labels:
            self.classifier = Linear(config.hidden_size, config.num_labels, rng, config.initializer_range)

    def forward(
        self, input_ids: Array, attention_mask: Array | None = None, segment_ids: Array | None = None, rng: Rng = None
    ) -> BertOutput:
        """Run the network.

        Args:
            input_ids: integers ``[B, L]``, an array or lists.
            attention_mask: booleans, or 0 and 1, ``[B, L]``, True for tokens; None: no padding.
            segment_ids: integers ``[B, L]``, 0 for the first text and 1 for the second; None: all 0.
            rng: generator for dropout; None: no dropout.

        Returns:
            The N + 1 hidden states ``[B, L, D]``, and the logits ``[B, C]`` or None.

        Raises:
            ShapeError: ids or mask are of another shape or type, L exceeds ``max_position_embeddings``, or an id
                the vocabulary.
        """
        c = self.config
        weight = self.embeddings.word_embeddings.weight
        input_ids = token_ids(input_ids, weight)
        attention_mask = token_mask(attention_mask, input_ids)
        if input_ids.shape[1] > c.max_position_embeddings:
            got, hint = f"{input_ids.shape[1]}", f"max_length={c.max_position_embeddings}"
            expected = f"at most {c.max_position_embeddings} tokens"
            raise ShapeError(problem("input_ids", expected=expected, got=got, hint=hint))
        segments = array_module(input_ids).zeros_like(input_ids)
        if segment_ids is not None:
            segments = token_ids(segment_ids, weight, "segment_ids")
        if segments.shape != input_ids.shape:
            expected, got = f"shape {input_ids.shape}", f"shape {segments.shape}"
            raise ShapeError(problem("segment_ids", expected=expected, got=got, hint="the segments of the same batch"))
        x = dropout(self.embeddings(input_ids, segments), c.dropout, rng)  # [B, L, D]
        states = [x]
        for layer in self.encoder.layer:
            x = layer(x, attention_mask, rng)
            states.append(x)
        logits = None
        if c.num_labels:
            pooled = tanh(self.pooler.dense(x[:, 0]))  # [B, D]
            logits = self.classifier(dropout(pooled, c.dropout, rng))
        return BertOutput(tuple(states), logits)

    @classmethod
    def from_folder(cls, folder: str | Path, num_labels: int | None = None) -> "Bert":
        """Load a folder in the layout of Hugging Face: ``config.json`` beside ``model.safetensors``.

        The heads of pretraining are left out.

        Args:
            folder: of the files; weights in float16, float32 or float64.
            num_labels: classes of the task head, drawn anew (seed 0) where the file has another or none; 0 for no
                head; None, the default: what the file has.

        Raises:
            TeacherError: a file is missing or damaged, or of something else than a BERT.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from minispike.models.bert import Bert, BertConfig
            >>> from minispike.models.bert_folder import write_bert_folder
            >>> config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=2, num_attention_heads=2)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     write_bert_folder(config, Bert(config, np.random.default_rng(0)).state_dict(), None, folder)
            ...     bert = Bert.from_folder(folder, num_labels=3)  # the file has no classifier: one is drawn
            >>> bert([[2, 5, 3]]).logits.shape
            (1, 3)
        """
        fields, weights = read_bert_folder(folder)
        classes = fields["num_labels"] if num_labels is None else num_labels
        return bert_from_weights(fields, encoder_weights(weights), classes)

    def to_onnx(self, path: str | Path, *, half: bool = False, label_names: Sequence[str] | None = None) -> None:
        """Write an ONNX file that hands out every hidden state and, with a classifier, the logits.

        Args:
            path: the file, written whole or not at all; see `minispike.models.onnx_export` for what is in it.
            half: store matrices as float16, half the size; default false.
            label_names: of the classes, kept in the file; default none.

        Raises:
            TeacherError: ``onnx`` is not installed, there are more or fewer names than classes, or the weights do
                not fit into one file or into float16.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> import onnx
            >>> from minispike.models.bert import Bert, BertConfig
            >>> config = BertConfig(
            ...     vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2, num_labels=2
            ... )
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     Bert(config, np.random.default_rng(0)).to_onnx(f"{folder}/bert.onnx", label_names=("no", "yes"))
            ...     model = onnx.load(f"{folder}/bert.onnx")
            >>> [output.name for output in model.graph.output]
            ['hidden_states.0', 'hidden_states.1', 'logits']
        """
        export_bert(self.config, self.state_dict(), path, half=half, label_names=label_names)


class MaskedLanguageModel(Module):
    """Bert with BERT's prediction head: dense, GELU, layer norm, and the embedding table as output weights.

    The task: Devlin et al. 2019, section 3.1, task 1.

    Args:
        bert: the encoder that is trained.
        rng: generator for the head.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert import Bert, BertConfig, MaskedLanguageModel
        >>> config = BertConfig(vocab_size=10, hidden_size=8, num_hidden_layers=1, num_attention_heads=2)
        >>> rng = np.random.default_rng(0)
        >>> model = MaskedLanguageModel(Bert(config, rng), rng)
        >>> ids, chosen = np.array([[2, 4, 6, 3]]), np.array([[False, True, True, False]])
        >>> model(ids, ids > 0, chosen).shape  # a score for each of 10 tokens at two places
        (2, 10)
    """

    def __init__(self, bert: Bert, rng: np.random.Generator) -> None:
        self.bert = bert
        width = bert.config.hidden_size
        self.dense = Linear(width, width, rng, bert.config.initializer_range)
        self.norm = LayerNorm(width, bert.config.layer_norm_eps)
        self.bias = Parameter(np.zeros(bert.config.vocab_size))

    def forward(
        self, input_ids: Array, mask: Array, chosen: Array, segment_ids: Array | None = None, rng: Rng = None
    ) -> Tensor:
        """Logits over the vocabulary at the chosen positions.

        Args:
            input_ids: ``[B, L]`` with some tokens masked.
            mask: ``[B, L]``, True for tokens.
            chosen: booleans ``[B, L]``, True where a prediction is wanted; N of them.
            segment_ids: ``[B, L]``, of pairs; None: all 0.
            rng: generator for dropout; None: no dropout.

        Returns:
            ``[N, V]``, in the order of the places, sentence by sentence.

        Raises:
            ShapeError: as of `Bert`.
        """
        states = self.bert(input_ids, mask, segment_ids, rng).hidden_states[-1]
        at = np.flatnonzero(to_numpy(chosen))
        picked = F.embedding(at, states.reshape(-1, states.shape[-1]))  # [N, D]
        head = self.norm(gelu(self.dense(picked)))
        return F.linear(head, self.bert.embeddings.word_embeddings.weight, self.bias)


def bert_from_weights(config: Mapping[str, Any], weights: Mapping[str, Array], num_labels: int = 0) -> Bert:
    """A Bert with loaded weights; a classifier that the weights lack is drawn anew (seed 0), pooler too.

    Args:
        config: fields of `BertConfig`.
        weights: by Hugging Face's names.
        num_labels: classes of the task head, 0 for none.

    Raises:
        CheckpointError: the weights do not fit.

    Example:
        >>> import numpy as np
        >>> from minispike.models.bert import Bert, BertConfig, bert_from_weights
        >>> shape = {"vocab_size": 10, "hidden_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> pretrained = Bert(BertConfig(**shape), np.random.default_rng(1))
        >>> classifier = bert_from_weights(shape, pretrained.state_dict(), num_labels=2)
        >>> states = [model([[2, 5, 3]]).hidden_states[-1].numpy() for model in (pretrained, classifier)]
        >>> bool((states[0] == states[1]).all()), classifier.classifier.weight.shape
        (True, (2, 8))
    """
    model = Bert(BertConfig.of({**config, "num_labels": num_labels}), np.random.default_rng(0))
    kept = {n: w for n, w in weights.items() if num_labels or not n.startswith("classifier.")}
    fresh = model.state_dict()
    if (
        num_labels
        and kept.get("classifier.weight", fresh["classifier.weight"]).shape != fresh["classifier.weight"].shape
    ):
        kept = {n: w for n, w in kept.items() if not n.startswith("classifier.")}
    model.load_state_dict(kept, may_miss=("classifier.", "pooler."))
    return model
