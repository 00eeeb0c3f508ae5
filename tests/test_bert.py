"""Bert against a plain one, its gradients, padding, dropout, and the weights of a real model."""

import json
from collections.abc import Callable
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import plain_bert
import pytest
from helpers import assert_sentence
from plain_bert import Sizes, random_weights
from safetensors.numpy import load_file

from minispike import check_grads, default_dtype
from minispike.errors import CheckpointError, ConfigError, ShapeError
from minispike.models.bert import Bert, BertConfig, MaskedLanguageModel, bert_from_weights
from minispike.nn.losses import cross_entropy
from minispike.nn.optim import AdamW
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]

TINY = BertConfig(
    vocab_size=13,
    hidden_size=6,
    num_hidden_layers=2,
    num_attention_heads=2,
    intermediate_size=8,
    max_position_embeddings=7,
    num_labels=3,
)
IDS = np.array([[1, 2, 3, 4, 2], [5, 6, 0, 0, 0], [7, 8, 9, 10, 0]])
MASK = IDS > 0
SEGMENTS = np.array([[0, 0, 1, 1, 1], [0, 1, 0, 0, 0], [0, 0, 0, 1, 0]])
LABELS = np.array([2, 0, 1])


def lively(model: Any, seed: int = 1) -> Any:
    """Weights of a size at which attention is uneven and every bias matters."""
    rng = np.random.default_rng(seed)
    for name, parameter in model.named_parameters():
        if "orm." not in name:
            parameter.assign(rng.normal(0.0, 0.5, parameter.shape))
    return model


def bert_of(config: BertConfig, seed: int = 0) -> Bert:
    with default_dtype(np.float64):
        model: Bert = lively(Bert(config, np.random.default_rng(seed)))
    return model


# --- values


@pytest.mark.parametrize("num_labels", [0, 3])
def test_against_a_plain_bert(num_labels: int) -> None:
    sizes = Sizes(num_labels=num_labels)
    weights = random_weights(sizes)
    config = {k: v for k, v in asdict(sizes).items() if k != "num_labels"}
    with default_dtype(np.float64):
        model = bert_from_weights(config, weights, num_labels)
    ids, mask, segments = plain_bert.batch(sizes, (9, 1, 5))
    states, logits = plain_bert.forward(sizes, weights, ids, mask, segments)
    out = model(ids, mask, segments)
    assert len(out.hidden_states) == len(states) == sizes.num_hidden_layers + 1
    for found, expected in zip(out.hidden_states, states, strict=True):
        np.testing.assert_allclose(found.numpy()[mask], expected[mask], rtol=0, atol=1e-12)
    if logits is None:
        assert out.logits is None
    else:
        assert out.logits is not None
        np.testing.assert_allclose(out.logits.numpy(), logits, rtol=0, atol=1e-12)


def test_weights_of_a_real_model(shared: Path) -> None:
    folder = shared / "models" / "minilm-l6"
    stored = json.loads((folder / "config.json").read_text())
    config = {f.name: stored[f.name] for f in fields(BertConfig) if f.name in stored}
    weights = load_file(folder / "model.safetensors")
    model = bert_from_weights(config, {n: w for n, w in weights.items() if not n.endswith("position_ids")})
    assert model.count_parameters() == 22_713_216
    assert {p.dtype for p in model.parameters()} == {np.dtype(np.float32)}

    sizes = Sizes(**{f.name: stored[f.name] for f in fields(Sizes) if f.name in stored})
    ids, mask, segments = plain_bert.batch(sizes, (8, 3))
    out = model(ids, mask, segments)
    assert [h.shape for h in out.hidden_states] == [(2, 8, 384)] * 7
    expected, _ = plain_bert.forward(sizes, weights, ids, mask, segments)
    for found, state in zip(out.hidden_states, expected, strict=True):
        np.testing.assert_allclose(found.numpy()[mask], state[mask], rtol=0, atol=2e-5)


def test_default_arguments() -> None:
    model = bert_of(TINY)
    plain = model(IDS)
    full = model(IDS, np.ones_like(MASK), np.zeros_like(IDS))
    np.testing.assert_array_equal(plain.logits.numpy(), full.logits.numpy())
    assert abs(model(IDS, MASK).logits.numpy() - plain.logits.numpy()).max() > 1e-3
    assert abs(model(IDS, None, SEGMENTS).logits.numpy() - plain.logits.numpy()).max() > 1e-3
    assert model_without_head(TINY)(IDS).logits is None


def model_without_head(config: BertConfig) -> Bert:
    return bert_of(replace(config, num_labels=0))


# --- gradients


def test_the_gradient_of_every_parameter() -> None:
    model = bert_of(TINY)

    def loss(model: Bert) -> Tensor:
        return cross_entropy(model(IDS, MASK, SEGMENTS).logits, LABELS)

    report = check_grads(loss, model, rtol=1e-7)
    assert report.checks == len(model.parameters()) == 5 + 16 * TINY.num_hidden_layers + 4


def test_the_gradient_under_dropout() -> None:
    model = bert_of(replace(TINY, num_hidden_layers=1, dropout=0.3))

    def loss(model: Bert) -> Tensor:
        rng = np.random.default_rng(0)  # the same numbers are dropped at every evaluation
        return cross_entropy(model(IDS, MASK, rng=rng).logits, LABELS)

    check_grads(loss, model, rtol=1e-7)


def test_the_gradient_of_a_masked_language_model() -> None:
    """The embedding table is input and output weights at once."""
    with default_dtype(np.float64):
        model = lively(
            MaskedLanguageModel(Bert(replace(TINY, num_labels=0), np.random.default_rng(0)), np.random.default_rng(1))
        )
    chosen = MASK & (IDS % 2 == 0)
    labels = IDS[chosen]

    def loss(model: MaskedLanguageModel) -> Tensor:
        return cross_entropy(model(np.where(chosen, 12, IDS), MASK, chosen), labels)

    check_grads(loss, model, rtol=1e-7)
    assert model(IDS, MASK, chosen).shape == (chosen.sum(), TINY.vocab_size)
    assert model(IDS, MASK, np.zeros_like(MASK)).shape == (0, TINY.vocab_size)
    names = [name for name, _ in model.named_parameters()]
    assert {"dense.weight", "norm.weight", "bias", "bert.embeddings.word_embeddings.weight"} <= set(names)
    assert len(names) == len(set(names))


def test_a_masked_language_model_predicts_from_the_chosen_place() -> None:
    with default_dtype(np.float64):
        model = lively(MaskedLanguageModel(Bert(TINY, np.random.default_rng(0)), np.random.default_rng(1)))
    both = model(IDS, MASK, MASK).numpy()
    at = np.argwhere(MASK)
    for row, (b, i) in enumerate(at):
        chosen = np.zeros_like(MASK)
        chosen[b, i] = True
        np.testing.assert_allclose(model(IDS, MASK, chosen).numpy()[0], both[row], rtol=1e-12)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(20))
def test_the_gradient_of_every_parameter_thorough(seed: int) -> None:
    model = bert_of(TINY, seed)
    check_grads(lambda m: m(IDS, MASK, SEGMENTS).logits, model, rtol=1e-7, seed=seed)


# --- padding and dropout


def test_nothing_depends_on_padding() -> None:
    model = bert_of(TINY)
    ids, mask = IDS[:, :4], MASK[:, :4]
    expected = model(ids, mask)
    for more, fill in ((1, 0), (3, 0), (2, 5)):
        wider = np.pad(ids, ((0, 0), (0, more)), constant_values=fill)
        out = model(wider, np.pad(mask, ((0, 0), (0, more))))
        np.testing.assert_allclose(out.logits.numpy(), expected.logits.numpy(), rtol=0, atol=1e-12)
        for found, state in zip(out.hidden_states, expected.hidden_states, strict=True):
            np.testing.assert_allclose(found.numpy()[:, :4][mask], state.numpy()[mask], rtol=0, atol=1e-12)
    for i in range(3):
        alone = model(ids[i : i + 1, : mask[i].sum()])
        np.testing.assert_allclose(alone.logits.numpy()[0], expected.logits.numpy()[i], rtol=0, atol=1e-12)


def test_dropout_only_with_a_generator() -> None:
    model = bert_of(replace(TINY, dropout=0.5))
    np.testing.assert_array_equal(model(IDS, MASK).logits.numpy(), model(IDS, MASK).logits.numpy())
    first, again, other = (model(IDS, MASK, rng=np.random.default_rng(s)).logits.numpy() for s in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert abs(first - other).max() > 1e-3
    assert abs(first - model(IDS, MASK).logits.numpy()).max() > 1e-3
    without = bert_of(replace(TINY, dropout=0.0))
    rng = np.random.default_rng(1)
    np.testing.assert_array_equal(without(IDS, MASK, rng=rng).logits.numpy(), without(IDS, MASK).logits.numpy())


def test_where_dropout_happens() -> None:
    """On the embeddings, on the output of both halves of every layer, and before the classifier."""
    shapes = []

    class Watched:
        def random(self, shape: tuple[int, ...], dtype: Any) -> Array:
            shapes.append(shape)
            return np.ones(shape, dtype)

    rng: Any = Watched()
    model = bert_of(replace(TINY, dropout=0.5))
    model(IDS, MASK, rng=rng)
    assert shapes == [(3, 5, 6)] * (1 + 2 * TINY.num_hidden_layers) + [(3, 6)]


def test_it_learns() -> None:
    with default_dtype(np.float32):
        model = Bert(replace(TINY, hidden_size=16, intermediate_size=32), np.random.default_rng(0))
    optimiser = AdamW(model.named_parameters())
    for _ in range(60):
        loss = cross_entropy(model(IDS, MASK).logits, LABELS)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step(3e-3)
    assert loss.item() < 0.1


# --- loading, and mistakes


def config_of(**changes: Any) -> dict[str, Any]:
    return {k: v for k, v in asdict(replace(TINY, **changes)).items() if k != "num_labels"}


def test_weights_load_strictly() -> None:
    weights = model_without_head(TINY).state_dict()
    model = bert_from_weights(config_of(), weights)
    for name, array in model.state_dict().items():
        np.testing.assert_allclose(array, weights[name], rtol=1e-6)
    key = "encoder.layer.1.attention.self.query.bias"
    for fault, message in (
        ({n: w for n, w in weights.items() if n != key}, "missing: encoder"),
        (weights | {"cls.extra": np.ones(1)}, "unexpected: cls.extra"),
        (weights | {key: np.ones(2)}, r"of another shape: encoder.*\(2,\) instead of \(6,\)"),
    ):
        with pytest.raises(CheckpointError, match=message) as caught:
            bert_from_weights(config_of(), fault)
        assert_sentence(caught.value)


def test_heads_that_are_missing_or_of_another_task() -> None:
    weights = bert_of(TINY).state_dict()
    kept = bert_from_weights(config_of(), weights, 3)
    np.testing.assert_allclose(kept.classifier.weight.numpy(), weights["classifier.weight"], rtol=1e-6)
    fresh = bert_from_weights(config_of(), weights, 2)
    assert fresh.classifier.weight.shape == (2, 6)
    np.testing.assert_allclose(fresh.pooler.dense.weight.numpy(), weights["pooler.dense.weight"], rtol=1e-6)
    assert bert_from_weights(config_of(), weights)(IDS).logits is None
    bare = {n: w for n, w in weights.items() if not n.startswith(("classifier.", "pooler."))}
    assert bert_from_weights(config_of(), bare, 4)(IDS).logits.shape == (3, 4)


def test_lists_and_masks_of_numbers_will_do() -> None:
    model = bert_of(TINY)
    expected = model(IDS, MASK, np.zeros_like(IDS)).logits.numpy()
    for mask in (MASK.astype(np.int64), MASK.astype(np.float32), MASK.tolist(), MASK.astype(int).tolist()):
        found = model(IDS.tolist(), mask, np.zeros_like(IDS).tolist()).logits
        np.testing.assert_array_equal(found.numpy(), expected)
    assert model(np.zeros((0, 4), int), np.zeros((0, 4), bool)).logits.shape[0] == 0


@pytest.mark.parametrize(
    ("kind", "job"),
    [
        (ConfigError, lambda: BertConfig(hidden_size=10, num_attention_heads=4)),
        (ConfigError, lambda: BertConfig(num_attention_heads=0)),
        (ShapeError, lambda: bert_of(TINY)(np.ones((1, 8), int))),
        (ShapeError, lambda: bert_of(TINY)(np.full((1, 2), 13))),
        (ShapeError, lambda: bert_of(TINY)(IDS, None, np.full_like(IDS, 2))),
        (ShapeError, lambda: bert_of(TINY)(IDS, MASK[:, :3])),
        (ShapeError, lambda: bert_of(TINY)([1, 2])),
        (ShapeError, lambda: bert_of(TINY)([[1], [1, 2]])),
        (ShapeError, lambda: bert_of(TINY)([[1.0, 2.0]])),
        (ShapeError, lambda: bert_of(TINY)(None)),
        (ShapeError, lambda: bert_of(TINY)([[1, -2]])),
        (ShapeError, lambda: bert_of(TINY)(np.zeros((1, 0), int))),
        (ShapeError, lambda: bert_of(TINY)(IDS, MASK * 2)),
        (ShapeError, lambda: bert_of(TINY)(IDS, None, IDS[:1] * 0)),
        (ShapeError, lambda: bert_of(TINY)(IDS, None, IDS * 0.0)),
    ],
)
def test_mistakes(kind: type[Exception], job: Callable[[], Any]) -> None:
    with pytest.raises(kind) as caught:
        job()
    assert_sentence(caught.value)
