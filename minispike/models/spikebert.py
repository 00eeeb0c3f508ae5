"""SpikeBERT (Lv et al. 2023, arXiv 2308.15122): a transformer whose activations are spikes.

    ids -> embedding + position -> spikes -> block, block, ... -> norm -> mean over tokens -> classifier
    block:  x + fire(o(spiking attention of fire(q x), fire(k x), fire(v x)))
            x + fire(fc2(fire(fc1 x)))
            every weight matrix followed by layer norm and LIF neurons; both halves read x through a token shift

Everything in time is ``[T, B, L, D]``: time steps, batch, tokens, width. The input spikes are the same at every
step, so the first block's weights meet them once, as ``[1, B, L, D]``, and time begins in its neurons.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minispike.backend import Array, array_module
from minispike.checkpoint import load_weights
from minispike.errors import ConfigError, ShapeError, problem
from minispike.models.inputs import token_ids, token_mask
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.layers import Embedding, LayerNorm, Linear, normed_linear
from minispike.nn.module import Module, ModuleList
from minispike.ops import mean, sum_
from minispike.snn.attention import spiking_attention
from minispike.snn.neurons import LIFNeuron, lif
from minispike.snn.shift import shift_tokens
from minispike.snn.spiking_linear import spiking_linear
from minispike.snn.surrogate import spike
from minispike.tensor import Tensor, no_grad

Observer = Callable[[str, Array], None]
"""Called with a name and an array as the forward pass goes by; see `minispike.record`."""


@dataclass(frozen=True)
class SpikeBERTOutput:
    """``logits``: ``[B, C]``; ``hidden_states``: one ``[B, L, feature_dim]`` a block, as distilled.

    Example:
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> config = SpikeBERTConfig(vocab_size=10, dim=8, depth=2, heads=2, num_labels=3, feature_dim=6)
        >>> output = SpikeBERT(config)([[2, 5, 3]])
        >>> output.logits.shape, [states.shape for states in output.hidden_states]
        ((1, 3), [(1, 3, 6), (1, 3, 6)])
    """

    logits: Tensor
    hidden_states: tuple[Tensor, ...]


MOST_BLOCKS = 127
"""With more, the counts between blocks, of two spikes a block and one of the input, may not fit into a byte."""


class SpikingLayer(Module):
    """Linear, layer norm, LIF neurons: ``[T or 1, B, L, in]`` to spikes ``[T, B, L, out]``.

    It is called with the input, T, the name that an observer is told, and the observer or None.

    Args:
        in_features, out_features: widths.
        neuron: the constants.
        rng: generator for the weights, drawn from N(0, 0.02).
        counts: the input are spikes or counts of them, at most 255; default false.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.models.spikebert import SpikingLayer
        >>> from minispike.snn.neurons import LIFNeuron
        >>> layer = SpikingLayer(4, 6, LIFNeuron(), np.random.default_rng(0))
        >>> spikes = layer(Tensor(np.ones((1, 2, 5, 4))), 3, "layer", None)  # time begins in its neurons
        >>> spikes.shape, set(spikes.numpy().ravel().tolist()) <= {0.0, 1.0}
        ((3, 2, 5, 6), True)
    """

    def __init__(
        self, in_features: int, out_features: int, neuron: LIFNeuron, rng: np.random.Generator, counts: bool = False
    ) -> None:
        self.counts = counts
        self.linear = Linear(in_features, out_features, rng)
        self.norm = LayerNorm(out_features)
        self.neuron = neuron

    def forward(self, x: Tensor, steps: int, name: str, observe: Observer | None) -> Tensor:
        linear, norm = self.linear, self.norm
        parameters = linear.weight, linear.bias, norm.weight, norm.bias
        how: dict[str, Any] = {"eps": norm.eps, "time_steps": steps, "counts": self.counts}
        spikes = spiking_linear(x, *parameters, self.neuron, **how)  # [T, B, L, out]
        if observe is not None:
            observe(f"{name}.input", x.array)
            with no_grad():
                observe(f"{name}.current", normed_linear(x, linear, norm).array)  # [T or 1, B, L, out]
            observe(name, spikes.array)
        return spikes


class Attention(Module):
    """Spiking self-attention with its four spiking layers: ``[T or 1, B, L, D]`` to spikes ``[T, B, L, D]``.

    It is called with the input, T, the weights of the tokens ``[B, L, 1]`` (0 for padding) or None, a name and an
    observer or None. The neurons behind the products have half the threshold of the others, as in the authors'
    program.

    Args:
        c: the shape and the neurons.
        rng: generator for the weights.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.models.spikebert import Attention
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> attention = Attention(SpikeBERTConfig(dim=8, heads=2, threshold=1.0), np.random.default_rng(0))
        >>> attention.q.neuron.threshold, attention.neuron.threshold
        (1.0, 0.5)
        >>> seen = {}
        >>> spikes = attention(Tensor(np.ones((1, 2, 5, 8))), 3, None, "a", observe=seen.__setitem__)
        >>> [name for name in seen if not name.endswith(("input", "current"))]
        ['a.q', 'a.k', 'a.v', 'a.mix', 'a.output']
    """

    def __init__(self, c: SpikeBERTConfig, rng: np.random.Generator) -> None:
        neuron, small = c.neuron(), c.depth <= MOST_BLOCKS
        self.q = SpikingLayer(c.dim, c.dim, neuron, rng, counts=small)
        self.k = SpikingLayer(c.dim, c.dim, neuron, rng, counts=small)
        self.v = SpikingLayer(c.dim, c.dim, neuron, rng, counts=small)
        self.output = SpikingLayer(c.dim, c.dim, neuron, rng, counts=True)
        self.neuron = c.neuron(c.threshold / 2)
        self.heads, self.scale = c.heads, c.attention_scale

    def forward(self, x: Tensor, steps: int, mask: Array | None, name: str, observe: Observer | None) -> Tensor:
        q = self.q(x, steps, f"{name}.q", observe)  # [T, B, L, D], as all below
        k = self.k(x, steps, f"{name}.k", observe)
        v = self.v(x, steps, f"{name}.v", observe)
        attended = spiking_attention(q, k, v, self.heads, self.scale, mask)
        spikes = lif(attended, self.neuron)
        if observe is not None:
            observe(f"{name}.mix.current", attended.array)
            observe(f"{name}.mix", spikes.array)
        return self.output(spikes, steps, f"{name}.output", observe)


class MLP(Module):
    """Two spiking layers, the first ``mlp_ratio`` times as wide: ``[T, B, L, D]`` to spikes ``[T, B, L, D]``.

    Args:
        c: the shape and the neurons.
        rng: generator for the weights.

    Example:
        >>> import numpy as np
        >>> from minispike.models.spikebert import MLP
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> mlp = MLP(SpikeBERTConfig(dim=8, heads=2, mlp_ratio=4), np.random.default_rng(0))
        >>> mlp.hidden.linear.weight.shape, mlp.output.linear.weight.shape
        ((32, 8), (8, 32))
    """

    def __init__(self, c: SpikeBERTConfig, rng: np.random.Generator) -> None:
        self.hidden = SpikingLayer(c.dim, c.mlp_ratio * c.dim, c.neuron(), rng, counts=c.depth <= MOST_BLOCKS)
        self.output = SpikingLayer(c.mlp_ratio * c.dim, c.dim, c.neuron(), rng, counts=True)

    def forward(self, x: Tensor, steps: int, name: str, observe: Observer | None) -> Tensor:
        hidden = self.hidden(x, steps, f"{name}.hidden", observe)  # [T, B, L, mlp_ratio D]
        return self.output(hidden, steps, f"{name}.output", observe)


class Block(Module):
    """Attention and MLP, each *added* to its input, which therefore counts spikes: 0, 1, 2, ...

    ``[T or 1, B, L, D]`` to ``[T, B, L, D]``; it is called as `Attention` is.

    Args:
        c: the shape and the neurons.
        rng: generator for the weights.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.models.spikebert import Block
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> block = Block(SpikeBERTConfig(dim=8, heads=2), np.random.default_rng(0))
        >>> counts = block(Tensor(np.ones((1, 2, 5, 8))), 3, None, "block", None)  # an input of ones ...
        >>> counts.shape, set(counts.numpy().ravel().tolist()) <= {1.0, 2.0, 3.0}  # ... and up to two spikes more
        ((3, 2, 5, 8), True)
    """

    def __init__(self, c: SpikeBERTConfig, rng: np.random.Generator) -> None:
        self.attention = Attention(c, rng)
        self.mlp = MLP(c, rng)
        self.shifted = int(c.shift * c.dim)

    def forward(self, x: Tensor, steps: int, mask: Array | None, name: str, observe: Observer | None) -> Tensor:
        x = x + self.attention(self._shift(x, mask), steps, mask, f"{name}.attention", observe)
        return x + self.mlp(self._shift(x, mask), steps, f"{name}.mlp", observe)

    def _shift(self, x: Tensor, mask: Array | None) -> Tensor:
        return shift_tokens(x, self.shifted, mask) if self.shifted else x


class Transform(Module):
    """The external projection: what a block's mean over time is compared to the teacher through. Training only.

    Mean over T, linear map, layer norm: ``[T, B, L, D]`` to ``[B, L, feature_dim]``, or D where that is 0.

    Args:
        c: the shape.
        rng: generator for the weights.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.models.spikebert import Transform
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> transform = Transform(SpikeBERTConfig(dim=8, heads=2, feature_dim=6), np.random.default_rng(0))
        >>> transform(Tensor(np.ones((3, 2, 5, 8)))).shape  # one vector a token, whatever T is
        (2, 5, 6)
    """

    def __init__(self, c: SpikeBERTConfig, rng: np.random.Generator) -> None:
        width = c.feature_dim or c.dim
        self.linear = Linear(c.dim, width, rng)
        self.norm = LayerNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        return normed_linear(mean(x, 0), self.linear, self.norm)  # [B, L, feature_dim]


class SpikeBERT(Module):
    """The network.

    Args:
        config: its shape; ``vocab_size`` and ``num_labels`` must be known (> 0).
        rng: generator for the initial weights: embeddings from N(0, 1), positions from N(0, 0.5), matrices from
            N(0, 0.02), biases 0; None: seed 0.

    Raises:
        ConfigError: the vocabulary or the number of classes is not set.

    Example:
        >>> import numpy as np
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> model = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=16, depth=1, heads=2, num_labels=2))
        >>> sentence, backwards = [[2, 5, 6, 7, 3]], [[3, 7, 6, 5, 2]]
        >>> np.allclose(model(sentence).logits.numpy(), model(backwards).logits.numpy())  # positions tell them apart
        False
        >>> bag = SpikeBERT(SpikeBERTConfig.reference(vocab_size=10, dim=16, depth=1, heads=2))
        >>> np.allclose(bag(sentence).logits.numpy(), bag(backwards).logits.numpy(), atol=1e-5)  # it has none
        True
    """

    def __init__(self, config: SpikeBERTConfig, rng: np.random.Generator | None = None) -> None:
        for name in ("vocab_size", "num_labels"):
            if getattr(config, name) < 1:
                raise ConfigError(problem(name, expected="a number >= 1", got="0", hint=f"{name}=2"))
        rng = rng or np.random.default_rng(0)
        self.config = config
        self.embedding = Embedding(config.vocab_size, config.dim, rng, std=1.0)
        if config.max_length:
            self.position = Embedding(config.max_length, config.dim, rng, std=0.5)
        self.blocks = ModuleList([Block(config, rng) for _ in range(config.depth)])
        self.transforms = ModuleList([Transform(config, rng) for _ in range(config.depth)])
        if config.embedding_dim:
            self.embedding_transform = Linear(config.dim, config.embedding_dim, rng)
        self.norm = LayerNorm(config.dim)
        self.classifier = Linear(config.dim, config.num_labels, rng)

    def forward(
        self,
        input_ids: Array,
        attention_mask: Array | None = None,
        *,
        features: bool = True,
        observe: Observer | None = None,
    ) -> SpikeBERTOutput:
        """Run the network over its T time steps, from rest.

        Args:
            input_ids: integers ``[B, L]``, an array or lists.
            attention_mask: booleans, or 0 and 1, ``[B, L]``, True for tokens; None, or a config without
                ``mask_padding``: all count.
            features: compute the hidden states too, as by default; inference does not need them.
            observe: is told of every input, current and spike (see `minispike.record`); default None.

        Returns:
            The logits ``[B, C]``, means over the time steps, and the hidden states, none without ``features``.

        Raises:
            ShapeError: ids or mask are of another shape or type, L exceeds ``max_length``, or an id the vocabulary.
        """
        c = self.config
        input_ids = token_ids(input_ids, self.embedding.weight)
        weights = self._token_weights(input_ids, attention_mask)  # [B, L, 1] or None
        x = self.encode(input_ids, weights)[None]  # [1, B, L, D]
        if observe is not None:
            observe("embedding", x.array)
        states: list[Tensor] = []
        for i, (block, transform) in enumerate(zip(self.blocks, self.transforms, strict=True)):
            x = block(x, c.time_steps, weights, f"blocks.{i}", observe)  # [T, B, L, D]
            if features:
                states.append(transform(x))
        tokens = self.norm(x)
        if weights is None:
            pooled = mean(tokens, 2)  # [T, B, D]
        else:
            counts = array_module(weights).maximum(weights.sum(axis=1, keepdims=True), 1.0)
            pooled = sum_(tokens * Tensor._of(weights / counts), 2)
        return SpikeBERTOutput(mean(self.classifier(pooled), 0), tuple(states))

    def encode(self, input_ids: Array, weights: Array | None = None) -> Tensor:
        """Token ids ``[B, L]`` as input spikes ``[B, L, D]``: one where embedding plus position reaches the threshold.

        The threshold is ``embedding_threshold``, 0 by default; the surrogate of the network carries the gradient.

        Args:
            input_ids: ``[B, L]``.
            weights: ``[B, L, 1]``, 0 where nothing shall fire; None: everything may.

        Raises:
            ShapeError: there are more tokens than positions.

        Example:
            >>> import numpy as np
            >>> from minispike.models.spikebert import SpikeBERT
            >>> from minispike.models.spikebert_config import SpikeBERTConfig
            >>> model = SpikeBERT(SpikeBERTConfig(vocab_size=3, dim=2, depth=1, heads=1, num_labels=2, max_length=0))
            >>> model.embedding.weight.assign(np.array([[0.3, -0.2], [-1.0, 0.0], [-0.1, -0.1]]))
            >>> model.encode(np.array([[0, 1, 2]])).numpy().tolist()  # 1 where a number is at least 0
            [[[1.0, 0.0], [0.0, 1.0], [0.0, 0.0]]]
        """
        c = self.config
        x = self.embedding(input_ids)
        if c.max_length:
            if input_ids.shape[1] > c.max_length:
                got, expected = str(input_ids.shape[1]), f"at most {c.max_length} tokens"
                raise ShapeError(problem("input_ids", expected=expected, got=got, hint="a shorter max_length"))
            x = x + self.position(array_module(input_ids).arange(input_ids.shape[1]))
        spikes = spike(x - c.embedding_threshold, c.neuron().surrogate)
        return spikes if weights is None else spikes * weights

    def projected_embedding(self) -> Tensor:
        """The embedding table as the teacher's is compared to it, ``[V, embedding_dim or D]``. Training only.

        Example:
            >>> from minispike.models.spikebert import SpikeBERT
            >>> from minispike.models.spikebert_config import SpikeBERTConfig
            >>> model = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=8, heads=2, num_labels=2, embedding_dim=12))
            >>> model.embedding.weight.shape, model.projected_embedding().shape
            ((10, 8), (10, 12))
        """
        table = self.embedding.weight
        return self.embedding_transform(table) if self.config.embedding_dim else table

    def _token_weights(self, input_ids: Array, mask: Array | None) -> Array | None:
        """1 for a token, 0 for padding, ``[B, L, 1]``; None where nothing is padding or padding counts."""
        mask = token_mask(mask, input_ids)
        if mask is None or not self.config.mask_padding or bool(mask.all()):
            return None
        return mask[..., None].astype(self.embedding.weight.dtype)

    def load_reference(self, weights: Mapping[str, Array] | str | Path, *, may_lack_classifier: bool = False) -> None:
        """Take over a checkpoint of the authors' program.

        Args:
            weights: name to array, or the path of a ``.safetensors`` file or of one that ``torch.save`` wrote, which is
                read without running code from it. A prefix ``module.`` is stripped.
            may_lack_classifier: accept a stage-1 checkpoint, which has no classifier; ours keeps its values. Default
                false.

        Raises:
            CheckpointError: names are missing, unexpected, or of another shape; nothing is changed then.

        Example:
            >>> import numpy as np
            >>> from minispike.models.spikebert import SpikeBERT
            >>> from minispike.models.spikebert_config import SpikeBERTConfig
            >>> model = SpikeBERT(SpikeBERTConfig.reference(vocab_size=10, dim=8, depth=1, heads=2))
            >>> model.load_reference({"module.emb.weight": np.zeros((10, 8))})  # doctest: +ELLIPSIS
            Traceback (most recent call last):
                ...
            minispike.errors.CheckpointError: weights of SpikeBERT: expected the model's 33 tensors, got missing: ...
        """
        if not isinstance(weights, Mapping):
            weights = load_weights(weights)
        renamed = {reference_name(name): array for name, array in weights.items()}
        self.load_state_dict(renamed, may_miss=("classifier.",) if may_lack_classifier else ())


_REFERENCE_PARTS = (
    ("emb.", "embedding."), ("last_ln.", "norm."),
    (".attn.q_m.", ".attention.q.linear."), (".attn.q_ln.", ".attention.q.norm."),
    (".attn.k_m.", ".attention.k.linear."), (".attn.k_ln.", ".attention.k.norm."),
    (".attn.v_m.", ".attention.v.linear."), (".attn.v_ln.", ".attention.v.norm."),
    (".attn.last_m.", ".attention.output.linear."), (".attn.last_ln.", ".attention.output.norm."),
    (".mlp.fc1.", ".mlp.hidden.linear."), (".mlp.ln1.", ".mlp.hidden.norm."),
    (".mlp.fc2.", ".mlp.output.linear."), (".mlp.ln2.", ".mlp.output.norm."),
)  # fmt: skip


def reference_name(name: str) -> str:
    """Our name of a parameter of the authors' program; a name that is none of theirs comes back as it is.

    Args:
        name: theirs, with the prefix ``module.`` of a training on several GPUs or without.

    Example:
        >>> from minispike.models.spikebert import reference_name
        >>> reference_name("module.blocks.0.attn.q_m.weight")
        'blocks.0.attention.q.linear.weight'
    """
    name = name.removeprefix("module.")
    if name.startswith("transforms."):
        return name.replace(".fc.", ".linear.").replace(".ln.", ".norm.")
    for theirs, ours in _REFERENCE_PARTS:
        if name.startswith(theirs) if not theirs.startswith(".") else theirs in name:
            return name.replace(theirs, ours, 1)
    return name
