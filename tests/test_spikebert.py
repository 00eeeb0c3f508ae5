"""SpikeBERT as a whole: gradients of every parameter, padding, word order, shapes and mistakes."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence

from minispike import check_grads, default_dtype, no_grad
from minispike.backend import to_numpy
from minispike.errors import ConfigError, ShapeError
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.losses import cross_entropy, masked_mse
from minispike.nn.optim import AdamW
from minispike.snn.surrogate import SURROGATES
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]

TINY = SpikeBERTConfig(
    vocab_size=11,
    dim=8,
    depth=2,
    heads=2,
    time_steps=3,
    num_labels=3,
    max_length=6,
    mlp_ratio=2,
    threshold=0.5,
)


def like_reference(config: SpikeBERTConfig) -> SpikeBERTConfig:
    """The quirks of `SpikeBERTConfig.reference` at another size."""
    return replace(config, max_length=0, shift=0.0, mask_padding=False)


REFERENCE = like_reference(TINY)

SMALL = SpikeBERTConfig(
    vocab_size=50, dim=32, depth=2, heads=4, time_steps=4, num_labels=3, max_length=40, threshold=0.5
)

IDS = np.array([[1, 2, 3, 4, 2], [5, 6, 0, 0, 0], [7, 8, 9, 10, 0]])
MASK = IDS > 0
LABELS = np.array([2, 0, 1])


def model_of(config: SpikeBERTConfig, seed: int = 0, dtype: Any = np.float64) -> SpikeBERT:
    """Weights large enough for spikes in every layer."""
    with default_dtype(dtype):
        model = SpikeBERT(config, np.random.default_rng(seed))
    rng = np.random.default_rng(seed + 1)
    for name, parameter in model.named_parameters():
        if name.endswith("linear.weight") or name == "classifier.weight":
            parameter.assign(rng.normal(0.0, 1.0 / np.sqrt(parameter.shape[1]), parameter.shape))
        elif name.endswith("bias"):
            parameter.assign(rng.normal(0.0, 0.3, parameter.shape))
    return model


# --- gradients


@pytest.mark.parametrize("config", [TINY, REFERENCE], ids=["default", "reference"])
def test_the_gradient_of_every_parameter(config: SpikeBERTConfig) -> None:
    model = model_of(config)

    def loss(model: SpikeBERT) -> Tensor:
        return cross_entropy(model(IDS, MASK, features=False).logits, LABELS)

    report = check_grads(loss, model, spikes="smooth", rtol=1e-7)
    assert report.checks == len(model.parameters())


@pytest.mark.parametrize("config", [TINY, replace(REFERENCE, feature_dim=5)], ids=["default", "reference"])
def test_the_gradient_of_the_features(config: SpikeBERTConfig) -> None:
    model = model_of(config)
    targets = np.random.default_rng(3).normal(size=(2, *IDS.shape, config.feature_dim or config.dim))

    def loss(model: SpikeBERT) -> list[Tensor]:
        states = model(IDS, MASK).hidden_states
        return [masked_mse(state, target, MASK) for state, target in zip(states, targets, strict=True)]

    check_grads(loss, model, spikes="smooth", rtol=1e-7)


@pytest.mark.parametrize("surrogate", ["sigmoid", "fast_sigmoid", "gaussian"])
def test_the_gradient_with_other_surrogates(surrogate: str) -> None:
    config = replace(TINY, depth=1, surrogate=surrogate, alpha=1.5)
    model = model_of(config)
    check_grads(lambda m: m(IDS, MASK).logits, model, spikes="smooth", rtol=1e-7)


@pytest.mark.thorough
@pytest.mark.parametrize("seed", range(20))
def test_the_gradient_of_every_parameter_thorough(seed: int) -> None:
    for config in (TINY, REFERENCE, replace(TINY, heads=1, time_steps=1), replace(TINY, dim=4, tau=5.0)):
        model = model_of(config, seed)
        check_grads(
            lambda m: cross_entropy(m(IDS, MASK).logits, LABELS),
            model,
            spikes="smooth",
            rtol=1e-7,
            seed=seed,
        )


def test_the_default_initialisation_lets_gradients_through() -> None:
    model = SpikeBERT(replace(TINY, dim=32, heads=4, threshold=1.0))
    cross_entropy(model(IDS, MASK).logits, LABELS).backward()
    for name, parameter in model.named_parameters():
        if not name.startswith("transforms."):
            assert parameter.grad is not None, name
            assert np.isfinite(parameter.grad.numpy()).all()
    assert abs(model.embedding.weight.grad.numpy()).max() > 0


# --- padding and word order


def padded(ids: Array, mask: Array, more: int, fill: int) -> tuple[Array, Array]:
    return (
        np.pad(ids, ((0, 0), (0, more)), constant_values=fill),
        np.pad(mask, ((0, 0), (0, more)), constant_values=False),
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_default_logits_do_not_depend_on_padding(dtype: Any) -> None:
    model = model_of(SMALL, dtype=dtype)
    rng = np.random.default_rng(5)
    for length in (1, 7, 20):  # a head is 8 wide: both orders of multiplication
        ids = rng.integers(1, 50, (2, length))
        mask = np.ones(ids.shape, bool)
        expected = model(ids, mask)
        np.testing.assert_array_equal(model(ids).logits.numpy(), expected.logits.numpy())
        for more, fill in ((1, 0), (5, 0), (20, 0), (9, 17)):
            out = model(*padded(ids, mask, more, fill))
            np.testing.assert_allclose(
                out.logits.numpy(), expected.logits.numpy(), rtol=0, atol=2e-6 if dtype == np.float32 else 1e-12
            )
            for state, other in zip(out.hidden_states, expected.hidden_states, strict=True):
                np.testing.assert_allclose(
                    state.numpy()[:, :length], other.numpy(), rtol=0, atol=1e-5 if dtype == np.float32 else 1e-12
                )


def test_default_gradients_do_not_depend_on_padding() -> None:
    model = model_of(SMALL)
    ids = np.random.default_rng(5).integers(1, 50, (2, 6))
    mask = np.ones(ids.shape, bool)
    gradients = []
    for given in ((ids, mask), padded(ids, mask, 10, 3)):
        model.zero_grad()
        cross_entropy(model(*given).logits, LABELS[:2]).backward()
        gradients.append([p.grad.numpy() for p in model.parameters() if p.grad is not None])
    for a, b in zip(*gradients, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-13)


def test_sentences_of_a_batch_do_not_see_each_other() -> None:
    model = model_of(SMALL)
    together = model(IDS, MASK).logits.numpy()
    for i in range(len(IDS)):
        alone = model(IDS[i : i + 1, : MASK[i].sum()]).logits.numpy()
        np.testing.assert_allclose(alone[0], together[i], rtol=0, atol=1e-12)


def test_reference_logits_depend_on_padding() -> None:
    model = model_of(like_reference(SMALL))
    ids = np.random.default_rng(5).integers(1, 50, (2, 6))
    mask = np.ones(ids.shape, bool)
    assert abs(model(*padded(ids, mask, 10, 0)).logits.numpy() - model(ids).logits.numpy()).max() > 1e-3


def test_the_reference_reads_a_bag_of_words() -> None:
    rng = np.random.default_rng(5)
    ids = rng.integers(1, 50, (4, 12))
    shuffled = rng.permuted(ids, axis=1)
    assert (shuffled != ids).any(axis=1).all()
    bag = model_of(like_reference(SMALL))
    np.testing.assert_allclose(bag(shuffled).logits.numpy(), bag(ids).logits.numpy(), rtol=0, atol=1e-12)
    ordered = model_of(SMALL)
    difference = abs(ordered(shuffled).logits.numpy() - ordered(ids).logits.numpy()).max(axis=1)
    assert (difference > 1e-3).all()


def test_like_reference_is_the_reference_preset() -> None:
    preset = SpikeBERTConfig.reference(50, 32, 2, 4, num_labels=3, threshold=0.5)
    assert preset == like_reference(SMALL)


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5])
def test_a_token_reaches_as_far_as_the_shifts_carry_it(shift: float) -> None:
    """Without attention (scale 0) a token is seen one neighbour further away in every half of a block."""
    config = replace(TINY, shift=shift, depth=1, attention_scale=0.0, max_length=9)
    model = model_of(config)
    ids = np.random.default_rng(3).integers(1, 11, (1, 9))
    other = ids.copy()
    other[0, 4] = ids[0, 4] % 10 + 1
    before, after = (model(i).hidden_states[0].numpy() for i in (ids, other))
    changed = np.flatnonzero(abs(before - after).max(axis=(0, 2)) > 1e-9)
    reach = 1 if shift else 0
    assert changed.min() >= 4 - reach
    assert changed.max() <= 4 + reach
    assert 4 in changed


def test_a_sentence_of_nothing_but_padding_gives_numbers() -> None:
    mask = np.array([[True, True, True, True, True], [False] * 5, [True, False, False, False, False]])
    out = model_of(TINY)(IDS, mask)
    assert np.isfinite(out.logits.numpy()).all()


# --- shapes, spikes, observation


def test_shapes_and_types() -> None:
    for dtype in (np.float32, np.float64):
        model = model_of(replace(TINY, feature_dim=5), dtype=dtype)
        out = model(IDS, MASK)
        assert out.logits.shape == (3, 3)
        assert [h.shape for h in out.hidden_states] == [(3, 5, 5)] * 2
        assert {t.dtype for t in (out.logits, *out.hidden_states)} == {np.dtype(dtype)}
        assert model(IDS, MASK, features=False).hidden_states == ()
    assert model_of(TINY)(np.zeros((0, 4), int)).logits.shape == (0, 3)
    assert model_of(replace(TINY, time_steps=1))(IDS, MASK).logits.shape == (3, 3)


def test_everything_that_spikes_is_a_count() -> None:
    """Spikes are 0 or 1; what enters a block counts them, at most 1 + 2 per block before it."""
    model = model_of(SMALL)
    seen: dict[str, Array] = {}
    model(IDS, MASK, observe=lambda name, array: seen.__setitem__(name, to_numpy(array).copy()))
    layers = [n for n in seen if not n.endswith((".input", ".current"))]
    assert len(layers) == 1 + 7 * SMALL.depth
    for name in layers:
        assert set(np.unique(seen[name])) <= {0.0, 1.0}, name
        assert 0.001 < seen[name].mean() < 0.999, name
    for i in range(SMALL.depth):
        count = seen[f"blocks.{i}.attention.q.input"]
        assert (count == np.round(count)).all()
        assert 0 <= count.min() <= count.max() <= 1 + 2 * i
        mixed = seen[f"blocks.{i}.attention.mix.current"] / SMALL.attention_scale
        assert (mixed == np.round(mixed)).all()
    assert (seen["embedding"][0][~MASK] == 0.0).all()


def test_observing_changes_nothing_and_needs_no_graph() -> None:
    model = model_of(TINY)
    expected = model(IDS, MASK).logits.numpy()
    names: list[str] = []
    with no_grad():
        out = model(IDS, MASK, observe=lambda name, array: names.append(name))
    np.testing.assert_array_equal(out.logits.numpy(), expected)
    assert not out.logits.requires_grad
    assert len(names) == len(set(names)) == 1 + TINY.depth * (6 * 3 + 2)


def test_the_same_seed_gives_the_same_model() -> None:
    a, b, c = (SpikeBERT(TINY, np.random.default_rng(s)).state_dict() for s in (1, 1, 2))
    assert a.keys() == b.keys()
    assert all((a[n] == b[n]).all() for n in a)
    assert any((a[n] != c[n]).any() for n in a)
    default = SpikeBERT(TINY).state_dict()
    assert all((default[n] == w).all() for n, w in SpikeBERT(TINY, np.random.default_rng(0)).state_dict().items())


def test_it_learns_word_order() -> None:
    """A few steps suffice to tell "a b" from "b a", which a bag of words cannot."""
    ids = np.array([[1, 2], [2, 1], [3, 4], [4, 3]])
    labels = np.array([0, 1, 0, 1])
    model = SpikeBERT(SpikeBERTConfig(vocab_size=5, dim=32, depth=1, heads=4, num_labels=2, max_length=2))
    optimiser = AdamW(model.named_parameters())
    losses = []
    for _ in range(60):
        loss = cross_entropy(model(ids, features=False).logits, labels)
        losses.append(loss.item())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step(5e-3)
    assert losses[-1] < 0.1 < 0.6 < losses[0]


# --- mistakes


@pytest.mark.parametrize(
    "job",
    [
        lambda: SpikeBERTConfig(dim=10, heads=4),
        lambda: SpikeBERTConfig(heads=0),
        lambda: SpikeBERTConfig(heads=-8),
        lambda: SpikeBERTConfig(dim=0),
        lambda: SpikeBERTConfig(depth=0),
        lambda: SpikeBERTConfig(time_steps=0),
        lambda: SpikeBERTConfig(mlp_ratio=0),
        lambda: SpikeBERTConfig(max_length=-1),
        lambda: SpikeBERTConfig(shift=0.6),
        lambda: SpikeBERTConfig(feature_dim=-1),
        lambda: SpikeBERTConfig(vocab_size=-1),
        lambda: SpikeBERTConfig(reset="never"),  # type: ignore[arg-type]
        lambda: SpikeBERTConfig(surrogate="step"),
        lambda: SpikeBERTConfig(alpha=-1.0),
        lambda: SpikeBERTConfig(tau=0.5),
        lambda: SpikeBERT(SpikeBERTConfig(num_labels=2)),
        lambda: SpikeBERT(SpikeBERTConfig(vocab_size=2)),
    ],
)
def test_impossible_configurations(job: Callable[[], Any]) -> None:
    with pytest.raises(ConfigError) as caught:
        job()
    assert_sentence(caught.value)


@pytest.mark.parametrize(
    ("ids", "mask"),
    [
        (np.ones((1, 7), int), None),
        (np.full((1, 2), 11), None),
        (np.full((1, 2), -1), None),
        (np.ones((1, 2)), None),
        (IDS, MASK[:, :4]),
        (IDS, np.ones((3, 4), bool)),
        (IDS, MASK[:2]),
        (IDS, MASK * 2),
        (IDS, MASK[0]),
        (IDS, [[True], [True, False]]),
        (IDS, MASK.astype(str)),
        ([1, 2], None),
        ([[1], [1, 2]], None),
        ([[1.0, 2.0]], None),
        ([["a"]], None),
        ([[True]], None),
        (None, None),
        (np.zeros((2, 0), int), None),
        (IDS[None], None),
    ],
)
def test_impossible_batches(ids: Array, mask: Array | None) -> None:
    with pytest.raises(ShapeError) as caught:
        model_of(TINY)(ids, mask)
    assert_sentence(caught.value)


def test_lists_and_masks_of_numbers_will_do() -> None:
    model = model_of(TINY)
    expected = model(IDS, MASK).logits.numpy()
    for mask in (MASK.astype(np.int64), MASK.astype(np.float32), MASK.tolist(), MASK.astype(int).tolist()):
        np.testing.assert_array_equal(model(IDS.tolist(), mask).logits.numpy(), expected)


def test_a_mask_is_checked_even_where_padding_counts() -> None:
    with pytest.raises(ShapeError, match="attention_mask: expected"):
        model_of(replace(TINY, mask_padding=False))(IDS, MASK[:2])


def test_ids_that_change_after_the_forward_pass_change_nothing() -> None:
    model, ids = model_of(TINY), IDS.copy()
    out = model(ids).logits.sum()
    ids[...] = 0
    out.backward()
    expected = model_of(TINY)
    expected(IDS).logits.sum().backward()
    assert model.embedding.weight.grad is not None and expected.embedding.weight.grad is not None
    np.testing.assert_array_equal(model.embedding.weight.grad.numpy(), expected.embedding.weight.grad.numpy())


def test_every_surrogate_can_be_asked_for() -> None:
    for name in SURROGATES:
        neuron = SpikeBERTConfig(surrogate=name, alpha=1.25).neuron()
        assert neuron.surrogate == SURROGATES[name](1.25)
        assert SpikeBERTConfig(surrogate=name).neuron().surrogate == SURROGATES[name]()
    assert SpikeBERTConfig(threshold=0.8).neuron(0.4).threshold == 0.4


def test_every_neuron_can_be_asked_for() -> None:
    neuron = SpikeBERTConfig(reset="soft", detach_reset=False, decay_input=False, tau=3.0).neuron()
    assert (neuron.reset, neuron.detach_reset, neuron.decay_input, neuron.tau) == (None, False, False, 3.0)
    assert SpikeBERTConfig().neuron().reset == 0.0
