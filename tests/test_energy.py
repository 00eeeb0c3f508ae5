"""The ledger, held against loops over every spike of a small network and against sums done by hand."""

import json
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from minispike.backend import to_numpy
from minispike.data.batches import Batch, in_order
from minispike.data.tokenizer import Encoded
from minispike.energy import (
    AC_PICOJOULE,
    ASSUMPTIONS,
    COSTS,
    FORMULAS,
    MAC_PICOJOULE,
    MATRIX_KINDS,
    EnergyReport,
    EnergyRow,
    Ledger,
    bert_ledger,
    measure_energy,
    same_shape,
)
from minispike.errors import ConfigError, DataError
from minispike.models.bert import BertConfig
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.snn.attention import SpikingAttention
from minispike.tensor import Tensor, default_dtype, no_grad

STEPS, DIM, HEADS, WIDE = 3, 8, 2, 16
CONFIG = SpikeBERTConfig(
    vocab_size=30, dim=DIM, depth=2, heads=HEADS, time_steps=STEPS, num_labels=3, max_length=12, mlp_ratio=2,
    attention_scale=2.0, shift=0.0,
)  # fmt: skip
LENGTHS = (3, 7, 4, 7)  # heads are 4 wide: both orders of the products in attention, and one length twice


@pytest.fixture(scope="module")
def model() -> SpikeBERT:
    with default_dtype(np.float64):
        network = SpikeBERT(CONFIG, np.random.default_rng(3))
        rng = np.random.default_rng(4)
        for name, parameter in network.named_parameters():
            if ".norm.bias" in name:  # or a small network hardly fires
                parameter.assign(parameter.numpy() + rng.normal(0.4, 0.5, size=parameter.shape))
    return network


@pytest.fixture(scope="module")
def encoded() -> Encoded:
    rng = np.random.default_rng(5)
    return Encoded(tuple(rng.integers(0, 30, size=n).astype(np.int32) for n in LENGTHS), None, 0.0, 0.0)


@pytest.fixture(scope="module")
def report(model: SpikeBERT, encoded: Encoded) -> EnergyReport:
    return measure_energy(model, in_order(encoded, 3))  # the batches hold padding


def row(ledger: Ledger, name: str, kind: str | None = None) -> EnergyRow:
    (found,) = [r for r in ledger.rows if r.name == name and kind in (None, r.kind)]
    return found


def sentences(model: SpikeBERT, encoded: Encoded) -> Iterator[dict[str, NDArray[np.float64]]]:
    """Every array of every sentence, ``[T or 1, L, N]``."""
    for batch in in_order(encoded, 1):
        seen: dict[str, NDArray[np.float64]] = {}
        with no_grad():
            model(batch.input_ids, features=False, observe=lambda n, a, s=seen: s.update({n: to_numpy(a)[:, 0].copy()}))
        yield seen


def accumulates_of_linear(inputs: NDArray[np.float64], outputs: int) -> int:
    """Add a row of weights as often as each input says, one addition at a time."""
    done = 0
    for t, i, n in np.ndindex(inputs.shape):
        for _ in range(int(inputs[t, i, n])):
            for _ in range(outputs):
                done += 1
    return done


def accumulates_of_attention(
    q: NDArray[np.float64], k: NDArray[np.float64], v: NDArray[np.float64]
) -> tuple[int, NDArray[np.float64]]:
    """Run spiking attention spike by spike, and count the additions."""
    done, out, width = 0, np.zeros(q.shape), DIM // HEADS
    length = q.shape[1]
    for t in range(STEPS):
        for head in range(HEADS):
            at = slice(head * width, (head + 1) * width)
            a, b, c = q[t, :, at], k[t, :, at], v[t, :, at]
            if length > width:
                kv, result = np.zeros((width, width)), np.zeros((length, width))
                for i, n in zip(*np.nonzero(b), strict=True):  # a spike of k adds a token of v to a row
                    kv[n] += c[i]
                    done += width
                for i, n in zip(*np.nonzero(a), strict=True):  # a spike of q adds a row
                    result[i] += kv[n]
                    done += width
            else:
                scores, result = np.zeros((length, length)), np.zeros((length, width))
                for i, n in zip(*np.nonzero(a), strict=True):  # a spike of q adds a column of k
                    scores[i] += b[:, n]
                    done += length
                for i, n in zip(*np.nonzero(c), strict=True):  # a spike of v adds a column of scores
                    result[:, n] += scores[:, i]
                    done += length
            out[t, :, at] = result
    return done, out


def test_linear_layers_spike_by_spike(model: SpikeBERT, encoded: Encoded, report: EnergyReport) -> None:
    sizes = {"attention.q": DIM, "attention.k": DIM, "attention.v": DIM, "attention.output": DIM}
    sizes |= {"mlp.hidden": WIDE, "mlp.output": DIM}
    names = {f"blocks.{i}.{part}": outputs for i in range(2) for part, outputs in sizes.items()}
    counted: defaultdict[str, int] = defaultdict(int)
    largest = 0.0
    for arrays in sentences(model, encoded):
        largest = max(largest, arrays["blocks.1.mlp.hidden.input"].max())
        for name, outputs in names.items():
            counted[name] += accumulates_of_linear(arrays[f"{name}.input"], outputs)
    assert largest >= 3  # a residual count is more than one spike
    for name, outputs in names.items():
        line = row(report.student, name)
        inputs = WIDE if name.endswith("mlp.output") else DIM
        assert counted[name] > 0, name
        assert line.kind == "linear"
        assert line.accumulates * len(LENGTHS) == pytest.approx(counted[name], rel=1e-12)
        assert line.macs == 0
        assert line.dense_macs * len(LENGTHS) == pytest.approx(sum(LENGTHS) * inputs * outputs)
        assert line.picojoule == pytest.approx(0.9 * line.accumulates)


def test_the_first_block_meets_its_input_once(model: SpikeBERT, encoded: Encoded, report: EnergyReport) -> None:
    ones = sum(a["embedding"].sum() for a in sentences(model, encoded))
    assert row(report.student, "blocks.0.attention.q").accumulates * len(LENGTHS) == pytest.approx(ones * DIM)


def test_attention_spike_by_spike(model: SpikeBERT, encoded: Encoded, report: EnergyReport) -> None:
    for i in range(2):
        name, counted = f"blocks.{i}.attention", 0
        for arrays in sentences(model, encoded):
            q, k, v = (arrays[f"{name}.{part}"] for part in "qkv")
            done, out = accumulates_of_attention(q, k, v)
            np.testing.assert_allclose(out * CONFIG.attention_scale, arrays[f"{name}.mix.current"])
            counted += done
        line = row(report.student, f"{name}.mix")
        assert counted > 0
        assert (line.kind, line.macs) == ("attention", 0)
        assert line.accumulates * len(LENGTHS) == pytest.approx(counted)
        assert line.dense_macs * len(LENGTHS) == pytest.approx(2 * sum(n * n for n in LENGTHS) * DIM)


def test_the_order_of_attention_is_that_of_the_network() -> None:
    for length in (DIM // HEADS, DIM // HEADS + 1):
        op, spikes = SpikingAttention(HEADS, 0.125, None), Tensor(np.ones((STEPS, 1, length, DIM)))
        op(spikes, spikes, spikes)
        assert op.keys_first == (length > DIM // HEADS)


def test_norms_neurons_and_sums_by_hand(report: EnergyReport) -> None:
    tokens = sum(LENGTHS) / len(LENGTHS)
    # outputs of the six weight matrices of a block: 5 of width D and one of width 2 D
    norms = {"blocks.0.norms": 3 * DIM + STEPS * (2 * DIM + WIDE), "blocks.1.norms": STEPS * (5 * DIM + WIDE)}
    elements = norms | {"blocks.1.neurons": STEPS * (6 * DIM + WIDE), "blocks.1.residuals": STEPS * 2 * DIM}
    elements |= {"blocks.0.neurons": elements["blocks.1.neurons"], "embedding": DIM}
    elements |= {"norm": STEPS * DIM, "pool": STEPS * DIM}
    for name, each in elements.items():
        line = row(report.student, name)
        cost = COSTS[line.kind]
        assert line.macs == pytest.approx(cost.macs * each * tokens)
        assert line.accumulates == pytest.approx(cost.accumulates * each * tokens)
        assert line.dense_macs == 0
    head = row(report.student, "classifier")
    assert (head.kind, head.dense_macs, head.macs) == ("head", DIM * 3, STEPS * DIM * 3)


def test_sums(report: EnergyReport) -> None:
    student = report.student
    assert len(student.rows) == 1 + 2 * 10 + 3
    assert len({r.name for r in student.rows}) == len(student.rows)
    energy = MAC_PICOJOULE * student.macs + AC_PICOJOULE * student.accumulates
    assert student.total_mj == pytest.approx(energy * 1e-9)
    assert sum(student.by_kind().values()) == pytest.approx(student.total_mj)
    rest = sum(r.picojoule for r in student.rows if r.kind in COSTS) * 1e-9
    assert student.matrix_mj + rest == pytest.approx(student.total_mj)
    assert set(MATRIX_KINDS) | set(COSTS) >= set(student.by_kind()) | set(report.twin.by_kind())
    assert report.ratio == student.total_mj / report.twin.total_mj
    assert report.matrix_ratio == student.matrix_mj / report.twin.matrix_mj
    assert (report.sentences, report.tokens, report.teacher) == (4, sum(LENGTHS), None)
    assert report.rows == student.rows


def test_sentences_count_alike_however_they_are_batched(
    model: SpikeBERT, encoded: Encoded, report: EnergyReport
) -> None:
    alone = measure_energy(model, in_order(encoded, 1))
    for ours, theirs in zip(alone.rows, report.rows, strict=True):
        assert vars(ours) == pytest.approx(vars(theirs))


def test_padding_may_stand_anywhere(model: SpikeBERT) -> None:
    ids = np.array([[0, 0, 5, 6, 7], [8, 9, 10, 11, 12]])
    left = Batch(ids, np.array([[False, False, True, True, True], [True] * 5]), None, None, np.arange(2))
    plain = Encoded((ids[0, 2:].astype(np.int32), ids[1].astype(np.int32)), None, 0.0, 0.0)
    assert measure_energy(model, [left]).rows == measure_energy(model, in_order(plain, 1)).rows


def test_bert_base_by_hand() -> None:
    ledger = bert_ledger(BertConfig(), [128])
    layer = 4 * 128 * 768**2 + 2 * 128 * 768 * 3072 + 2 * 128**2 * 768
    assert ledger.dense_macs == ledger.macs - sum(r.macs for r in ledger.rows if r.kind in COSTS) == 12 * layer
    # 11.2 GMAC are 51.4 mJ; charged for each FLOP, as in the paper, twice that
    assert ledger.dense_macs == pytest.approx(11.2e9, rel=3e-3)
    assert ledger.matrix_mj == pytest.approx(51.4, rel=3e-3)
    paper = bert_ledger(BertConfig(), [128], "paper")
    assert paper.matrix_mj == pytest.approx(102.8, rel=3e-3)


def test_bert_rows_by_hand() -> None:
    config = BertConfig(hidden_size=4, num_hidden_layers=1, num_attention_heads=2, intermediate_size=6, num_labels=3)
    ledger = bert_ledger(config, [2, 4])  # 3 tokens and 10 pairs of tokens on average
    expected = {
        "embeddings": (0, 24), "embeddings.norm": (36, 24), "layer.0.query": (48, 0), "layer.0.key": (48, 0),
        "layer.0.value": (48, 0), "layer.0.attention": (80, 0), "layer.0.softmax": (40, 60),
        "layer.0.attention.output": (48, 0), "layer.0.intermediate": (72, 0), "layer.0.gelu": (36, 0),
        "layer.0.output": (72, 0), "layer.0.norms": (72, 48), "layer.0.residuals": (0, 24), "pooler": (16, 0),
        "pooler.tanh": (8, 0), "classifier": (12, 0),
    }  # fmt: skip
    assert {r.name: (r.macs, r.accumulates) for r in ledger.rows} == expected
    without = bert_ledger(BertConfig(hidden_size=4, num_attention_heads=2), [2])
    assert {r.kind for r in without.rows} >= {"linear"}
    assert not [r for r in without.rows if r.kind == "head"]


def test_twin_and_teacher(model: SpikeBERT, encoded: Encoded) -> None:
    teacher = BertConfig(hidden_size=16, num_hidden_layers=3, num_attention_heads=4, intermediate_size=64)
    report = measure_energy(model, in_order(encoded, 2), teacher)
    assert same_shape(CONFIG) == BertConfig(
        vocab_size=30, hidden_size=DIM, num_hidden_layers=2, num_attention_heads=HEADS,
        intermediate_size=WIDE, max_position_embeddings=12, num_labels=3,
    )  # fmt: skip
    assert report.twin.rows == bert_ledger(same_shape(CONFIG), LENGTHS).rows
    assert report.teacher is not None
    assert report.teacher.rows == bert_ledger(teacher, LENGTHS).rows
    assert len(report.ledgers) == 3
    # the dense counterpart of the student is the twin, but for the pooler
    pooler = row(report.twin, "pooler").macs
    assert report.student.dense_macs == pytest.approx(report.twin.dense_macs - pooler)


def test_the_convention_of_the_paper_doubles_everything(
    model: SpikeBERT, encoded: Encoded, report: EnergyReport
) -> None:
    paper = measure_energy(model, in_order(encoded, 4), convention="paper")
    for ours, theirs in zip(report.ledgers, paper.ledgers, strict=True):
        assert theirs.total_mj == pytest.approx(2 * ours.total_mj)
    assert (paper.ratio, paper.matrix_ratio) == pytest.approx((report.ratio, report.matrix_ratio))


def test_as_text_and_as_data(report: EnergyReport) -> None:
    text = report.to_text()
    for line in (FORMULAS["mac"], *ASSUMPTIONS):
        assert line in text
    assert FORMULAS["paper"] in replace(report, convention="paper").to_text()
    for r in report.rows:
        assert r.name in text
    assert f"{report.matrix_ratio:.1%}" in text
    data = json.loads(json.dumps(report.to_mapping()))
    assert data["ratio"] == report.ratio
    assert data["teacher"] is None
    assert data["student"]["rows"][0]["name"] == "embedding"
    assert data["twin"]["total_mj"] == report.twin.total_mj


def test_errors(model: SpikeBERT, encoded: Encoded) -> None:
    with pytest.raises(DataError, match="batches: expected at least one sentence"):
        measure_energy(model, [])
    with pytest.raises(DataError, match="lengths: expected at least one sentence"):
        bert_ledger(BertConfig(), [])
    with pytest.raises(ConfigError, match="convention: expected 'mac' or 'paper', got 'joule'"):
        measure_energy(model, in_order(encoded, 4), convention="joule")  # type: ignore[arg-type]


def test_a_token_shift_only_moves_spikes(encoded: Encoded) -> None:
    """What crosses the end of a sentence is gone; the rest is charged as it arrives, and the shift itself is free."""
    network = SpikeBERT(replace(CONFIG, shift=0.25), np.random.default_rng(3))
    found = measure_energy(network, in_order(encoded, 3)).student
    arrived = sum(a["blocks.0.attention.q.input"].sum() for a in sentences(network, encoded))
    sent = sum(a["embedding"].sum() for a in sentences(network, encoded))
    assert arrived < sent
    assert row(found, "blocks.0.attention.q").accumulates * len(LENGTHS) == pytest.approx(arrived * DIM)
    assert not [r for r in found.rows if "shift" in r.name]
