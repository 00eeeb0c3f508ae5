"""The energy of a sentence: the spikes of a SpikeBERT are counted, the products of a BERT computed.

    report = measure_energy(model, in_order(encoded, 32))
    print(report.to_text())

Formula, constants and assumptions stand in `minispike.ledger`.
"""

from collections.abc import Iterable, Iterator

import numpy as np

from minispike.data.batches import Batch
from minispike.errors import ConfigError, DataError, problem
from minispike.ledger import (
    AC_PICOJOULE,
    ASSUMPTIONS,
    COSTS,
    FORMULAS,
    MAC_PICOJOULE,
    MATRIX_KINDS,
    Convention,
    Cost,
    EnergyReport,
    EnergyRow,
    Ledger,
)
from minispike.models.bert import BertConfig
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.record import Recorder
from minispike.tensor import no_grad

__all__ = [
    "AC_PICOJOULE", "ASSUMPTIONS", "COSTS", "FORMULAS", "MAC_PICOJOULE", "MATRIX_KINDS", "Convention", "Cost",
    "EnergyReport", "EnergyRow", "Ledger", "bert_ledger", "measure_energy", "same_shape",
]  # fmt: skip


class _Tally:
    """Sums of operations over sentences, by row; becomes a `Ledger` of means."""

    def __init__(self) -> None:
        self._sums: dict[tuple[str, str], list[float]] = {}

    def add(self, name: str, kind: str, *, dense: float = 0, macs: float = 0, accumulates: float = 0) -> None:
        """Add to a row."""
        sums = self._sums.setdefault((name, kind), [0.0, 0.0, 0.0])
        for i, value in enumerate((dense, accumulates, macs)):
            sums[i] += value

    def add_elements(self, name: str, kind: str, elements: float) -> None:
        """Add to a row what `COSTS` says of so many elements."""
        cost = COSTS[kind]
        self.add(name, kind, macs=cost.macs * elements, accumulates=cost.accumulates * elements)

    def ledger(self, name: str, sentences: int, convention: Convention) -> Ledger:
        """The rows for a mean sentence."""
        flops = _flops(convention)
        rows = []
        for (row, kind), sums in self._sums.items():
            dense, accumulates, macs = (s / sentences for s in sums)
            energy = flops * (MAC_PICOJOULE * macs + AC_PICOJOULE * accumulates)
            rows.append(EnergyRow(row, kind, dense, accumulates, macs, energy))
        return Ledger(name, tuple(rows))


def measure_energy(
    model: SpikeBERT,
    batches: Iterable[Batch],
    teacher: BertConfig | None = None,
    convention: Convention = "mac",
) -> EnergyReport:
    """Run a SpikeBERT on sentences, count its spikes, and set up its ledger and those of dense networks.

    The sentences of a batch are run in groups of one length, so none is padded: padding would cost energy,
    and the length decides the order of the products in attention. (A network that lets padding spike may fire
    a little differently when it is padded.)

    Args:
        model: the network.
        batches: the sentences, such as those of `in_order`; each counts alike.
        teacher: the shape of the teacher, to compare with it too; default none.
        convention: ``"mac"``, the default, or ``"paper"``; see `Convention`.

    Raises:
        DataError: there is no sentence.
        ConfigError: an unknown convention.

    Example:
        >>> import numpy as np
        >>> from minispike.data.batches import in_order
        >>> from minispike.data.tokenizer import Encoded
        >>> from minispike.energy import measure_energy
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> model = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=8, depth=1, heads=2, num_labels=2))
        >>> texts = Encoded((np.array([2, 5, 3]), np.array([2, 6, 7, 3])), None, truncated=0.0, unknown=0.0)
        >>> report = measure_energy(model, in_order(texts, batch_size=2))
        >>> report.sentences, report.tokens, [ledger.name for ledger in report.ledgers]
        (2, 7, ['SpikeBERT', 'BERT of the same shape'])
        >>> rows = {row.name: row for row in report.rows}
        >>> rows["blocks.0.attention.q"].macs, rows["classifier"].macs  # only the latter multiplies: 4 x 8 x 2
        (0.0, 64.0)
    """
    _flops(convention)  # a mistake is better found before the network has run than after
    c, tally, lengths = model.config, _Tally(), list[int]()
    for batch in batches:
        own = batch.mask.sum(axis=1)  # [B]
        for length in np.unique(own):
            these = own == length
            input_ids = batch.input_ids[these][batch.mask[these]].reshape(-1, length)
            recorder = Recorder()
            with no_grad():
                model(input_ids, features=False, observe=recorder)
            _add_sentences(tally, c, recorder, int(length), len(input_ids))
            lengths += [int(length)] * len(input_ids)
    if not lengths:
        hint = "a data set with sentences"
        raise DataError(problem("batches", expected="at least one sentence", got="none", hint=hint))
    twin = same_shape(c)
    return EnergyReport(
        tally.ledger("SpikeBERT", len(lengths), convention),
        bert_ledger(twin, lengths, convention, "BERT of the same shape"),
        bert_ledger(teacher, lengths, convention, "BERT, the teacher") if teacher else None,
        len(lengths),
        sum(lengths),
        convention,
    )


def same_shape(c: SpikeBERTConfig) -> BertConfig:
    """The BERT that has the depth, width, heads and feed-forward width of a SpikeBERT.

    Example:
        >>> from minispike.energy import same_shape
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> bert = same_shape(SpikeBERTConfig(vocab_size=1000, dim=128, depth=2, heads=4, mlp_ratio=4, num_labels=2))
        >>> bert.hidden_size, bert.num_hidden_layers, bert.intermediate_size
        (128, 2, 512)
    """
    return BertConfig(
        vocab_size=c.vocab_size,
        hidden_size=c.dim,
        num_hidden_layers=c.depth,
        num_attention_heads=c.heads,
        intermediate_size=c.mlp_ratio * c.dim,
        max_position_embeddings=c.max_length,
        num_labels=c.num_labels,
    )


def _flops(convention: Convention) -> int:
    """How often an operation is charged."""
    if convention not in ("mac", "paper"):
        expected, hint = "'mac' or 'paper'", "convention='mac'"
        raise ConfigError(problem("convention", expected=expected, got=repr(convention), hint=hint))
    return 2 if convention == "paper" else 1


def _spiking_layers(c: SpikeBERTConfig, block: int) -> Iterator[tuple[str, int, int]]:
    """The weight matrices of a block: name, inputs, outputs."""
    wide = c.mlp_ratio * c.dim
    for part in ("q", "k", "v", "output"):
        yield f"blocks.{block}.attention.{part}", c.dim, c.dim
    yield f"blocks.{block}.mlp.hidden", c.dim, wide
    yield f"blocks.{block}.mlp.output", wide, c.dim


def _add_sentences(tally: _Tally, c: SpikeBERTConfig, recorder: Recorder, length: int, sentences: int) -> None:
    """Add what some sentences of one length cost a SpikeBERT that ``recorder`` has observed."""
    counts, elements = recorder.counts(), recorder.elements()
    tokens, head_width = length * sentences, c.dim // c.heads
    tally.add_elements("embedding", "embedding", tokens * c.dim)
    for i in range(c.depth):
        for name, inputs, outputs in _spiking_layers(c, i):
            if name.endswith("attention.output"):
                attention = f"blocks.{i}.attention"
                # The order that SpikingAttention picks; of each product, the factor that is spikes drives.
                keys_first = length > head_width
                drivers = ("k", "q") if keys_first else ("q", "v")
                spikes = sum(counts[f"{attention}.{part}"] for part in drivers)
                fan_out = head_width if keys_first else length
                dense = 2 * length * tokens * c.dim
                tally.add(f"{attention}.mix", "attention", dense=dense, accumulates=spikes * fan_out)
            dense, accumulates = tokens * inputs * outputs, counts[f"{name}.input"] * outputs
            tally.add(name, "linear", dense=dense, accumulates=accumulates)
        layers = [name for name, _, _ in _spiking_layers(c, i)]
        normed = sum(elements[f"{name}.current"] for name in layers)
        fired = sum(elements[name] for name in [*layers, f"blocks.{i}.attention.mix"])
        tally.add_elements(f"blocks.{i}.norms", "norm", normed)
        tally.add_elements(f"blocks.{i}.neurons", "neuron", fired)
        tally.add_elements(f"blocks.{i}.residuals", "residual", 2 * c.time_steps * tokens * c.dim)
    tally.add_elements("norm", "norm", c.time_steps * tokens * c.dim)
    tally.add_elements("pool", "pool", c.time_steps * tokens * c.dim)
    dense = sentences * c.dim * c.num_labels
    tally.add("classifier", "head", dense=dense, macs=c.time_steps * dense)


def bert_ledger(
    config: BertConfig, lengths: Iterable[int], convention: Convention = "mac", name: str = "BERT"
) -> Ledger:
    """What sentences of these lengths cost a BERT: multiply-accumulates, whatever the activations.

    Args:
        config: its shape. A pooler and a classifier are counted if it has ``num_labels``.
        lengths: tokens of each sentence; at least one.
        convention: ``"mac"``, the default, or ``"paper"``; see `Convention`.
        name: of the ledger; default ``BERT``.

    Raises:
        DataError: there is no sentence.
        ConfigError: an unknown convention.

    Example:
        >>> from minispike.energy import bert_ledger
        >>> from minispike.models.bert import BertConfig
        >>> config = BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8)
        >>> ledger = bert_ledger(config, lengths=[3])
        >>> ledger.dense_macs  # 4 x 3 x 4 x 4 of linear maps, 2 x 3 x 3 x 4 of attention, 2 x 3 x 4 x 8 of the MLP
        456.0
    """
    each = np.asarray(list(lengths), dtype=np.float64)
    if not len(each):
        hint = "the lengths of the sentences"
        raise DataError(problem("lengths", expected="at least one sentence", got="none", hint=hint))
    tally, tokens, pairs = _Tally(), float(each.sum()), float((each**2).sum())
    width, wide = config.hidden_size, config.intermediate_size

    def linear(row: str, kind: str, rows: float, inputs: int, outputs: int) -> None:
        macs = rows * inputs * outputs
        tally.add(row, kind, dense=macs, macs=macs)

    tally.add_elements("embeddings", "embedding", tokens * width)
    tally.add_elements("embeddings.norm", "norm", tokens * width)
    for i in range(config.num_hidden_layers):
        layer = f"layer.{i}"
        for part in ("query", "key", "value"):
            linear(f"{layer}.{part}", "linear", tokens, width, width)
        tally.add(f"{layer}.attention", "attention", dense=2 * pairs * width, macs=2 * pairs * width)
        tally.add_elements(f"{layer}.softmax", "softmax", pairs * config.num_attention_heads)
        linear(f"{layer}.attention.output", "linear", tokens, width, width)
        linear(f"{layer}.intermediate", "linear", tokens, width, wide)
        tally.add_elements(f"{layer}.gelu", "activation", tokens * wide)
        linear(f"{layer}.output", "linear", tokens, wide, width)
        tally.add_elements(f"{layer}.norms", "norm", 2 * tokens * width)
        tally.add_elements(f"{layer}.residuals", "residual", 2 * tokens * width)
    if config.num_labels:
        linear("pooler", "head", len(each), width, width)
        tally.add_elements("pooler.tanh", "activation", len(each) * width)
        linear("classifier", "head", len(each), width, config.num_labels)
    return tally.ledger(name, len(each), convention)
