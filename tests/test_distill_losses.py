"""What the student is asked to match: the losses, their weights and the map of the layers."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from helpers import assert_sentence, gradient, random_leaf
from hypothesis import given
from hypothesis import strategies as st

from minispike import default_dtype
from minispike.distill.losses import Alignment, LossWeights, embedding_loss, feature_loss, layer_map
from minispike.errors import ConfigError, ShapeError
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.tensor import Tensor

# ---- Losses


@pytest.mark.parametrize("layers", [1, 3])
def test_feature_loss_is_the_mean_over_tokens_numbers_and_layers(layers: int) -> None:
    rng = np.random.default_rng(0)
    ours = [random_leaf((2, 4, 3), seed=i) for i in range(layers)]
    theirs = [rng.normal(size=(2, 4, 3)) for _ in range(layers)]
    mask = np.array([[True, True, False, False], [True, True, True, True]])
    squares = [((a.numpy() - b) ** 2)[mask].mean() for a, b in zip(ours, theirs, strict=True)]
    loss = feature_loss(ours, theirs, mask)
    assert loss.item() == pytest.approx(np.mean(squares), rel=1e-12)
    loss.backward()
    for a, b in zip(ours, theirs, strict=True):
        slope = 2 * (a.numpy() - b) / (6 * 3 * layers) * mask[..., None]
        np.testing.assert_allclose(gradient(a), slope, atol=1e-14)
    everything = np.mean([(a.numpy() - b) ** 2 for a, b in zip(ours, theirs, strict=True)])
    assert feature_loss(ours, theirs, None).item() == pytest.approx(everything, rel=1e-12)


def test_padding_has_no_part_in_feature_loss() -> None:
    ours, theirs = random_leaf((2, 3, 2)), random_leaf((2, 3, 2), seed=1).numpy()
    mask = np.array([[True, False, False], [True, True, False]])
    loss = feature_loss([ours], [theirs], mask).item()
    theirs[~mask] = 1e9
    assert feature_loss([ours], [theirs], mask).item() == loss


def test_the_reference_form_by_hand() -> None:
    """A sum over layers of means, divided by the batch once more; the mask is a question of its own."""
    ours, theirs = [random_leaf((2, 3, 4), seed=i) for i in range(3)], [np.zeros((2, 3, 4))] * 3
    mask = np.array([[True, False, False], [True, True, False]])
    for chosen, counted in ((None, np.ones((2, 3), bool)), (mask, mask)):
        expected = sum((a.numpy()[counted] ** 2).mean() for a in ours) / 2
        assert feature_loss(ours, theirs, chosen, per_batch=True).item() == pytest.approx(expected, rel=1e-12)


def test_the_reference_form_is_the_recorded_loss(shared: Path) -> None:
    with np.load(shared / "parity" / "parity_small.npz") as recorded:
        ours = [Tensor(recorded[f"f64/rep/{i}"], dtype=np.float64) for i in range(2)]
        theirs = list(recorded["teacher/reps"].astype(np.float64))
        expected = float(recorded["f64/stage1/loss"])
    assert feature_loss(ours, theirs, None, per_batch=True).item() == pytest.approx(expected, rel=1e-12)


def test_features_that_do_not_fit() -> None:
    ours = [random_leaf((2, 3, 4)), random_leaf((2, 3, 4))]
    for theirs in ([np.zeros((2, 3, 4))], [np.zeros((2, 3, 5))] * 2, [np.zeros((2, 4, 4))] * 2):
        with pytest.raises(ShapeError, match="teacher features: expected 2 layers of") as caught:
            feature_loss(ours, theirs, None)
        assert_sentence(caught.value)


def test_embedding_loss() -> None:
    table, target = random_leaf((5, 3)), np.ones((5, 3))
    assert embedding_loss(table, target).item() == pytest.approx(((table.numpy() - 1) ** 2).mean(), rel=1e-12)


def test_the_embedding_table_is_projected_to_the_teachers_width() -> None:
    """The projection learns with the table, and is left out of what inference needs."""
    config = SpikeBERTConfig(11, 8, 1, 2, 2, 2, max_length=6, embedding_dim=5)
    with default_dtype(np.float64):
        model = SpikeBERT(config)
    table, weight = model.embedding.weight, model.embedding_transform.weight
    assert model.projected_embedding().shape == (11, 5)
    target = np.ones((11, 5))
    embedding_loss(model.projected_embedding(), target).backward()
    error = table.numpy() @ weight.numpy().T - target
    np.testing.assert_allclose(gradient(weight), 2 / error.size * error.T @ table.numpy(), atol=1e-14)
    np.testing.assert_allclose(gradient(table), 2 / error.size * error @ weight.numpy(), atol=1e-14)
    without = SpikeBERT(replace(config, embedding_dim=0))
    assert without.projected_embedding() is without.embedding.weight


@pytest.mark.parametrize(
    ("depth", "layers", "expected"),
    [
        (2, 2, (1, 2)), (2, 12, (6, 12)), (4, 12, (3, 6, 9, 12)), (12, 12, tuple(range(1, 13))), (1, 6, (6,)),
        (4, 6, (2, 3, 5, 6)), (4, 2, (1, 1, 2, 2)), (3, 1, (1, 1, 1)),
    ],
)  # fmt: skip
def test_layer_map(depth: int, layers: int, expected: tuple[int, ...]) -> None:
    assert layer_map(depth, layers) == expected


@given(st.integers(1, 30), st.integers(1, 30))
def test_the_last_block_learns_from_the_last_layer(depth: int, layers: int) -> None:
    found = layer_map(depth, layers)
    assert len(found) == depth and found[-1] == layers and found[0] >= 1
    gaps = np.diff([0, *found])
    assert gaps.min() >= 0 and gaps.max() - gaps.min() <= 1


@pytest.mark.parametrize(
    ("depth", "layers", "expected"),
    [(6, 12, (1, 3, 5, 7, 9, 11)), (12, 12, tuple(range(1, 13))), (2, 6, (1, 4)), (4, 2, (1, 1, 2, 2))],
)
def test_the_reference_begins_at_the_first_layer(depth: int, layers: int, expected: tuple[int, ...]) -> None:
    assert layer_map(depth, layers, Alignment(reach="early")) == expected


def test_chosen_layers() -> None:
    assert layer_map(3, 6, Alignment((0, 3, 3))) == (0, 3, 3)
    for chosen in ((1,), (1, 2, 3, 4), (1, 2, 7), (-1, 2, 3)):
        with pytest.raises(ConfigError, match=r"layers: expected 3 layers from 0 to 6, got \[") as caught:
            layer_map(3, 6, Alignment(chosen))
        assert_sentence(caught.value)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"features": -0.1}, "features"), ({"logits": math.nan}, "logits"), ({"embedding": math.inf}, "embedding"),
        ({"temperature": 0.0}, "temperature"), ({"temperature": math.inf}, "temperature"),
        ({"features": 0, "logits": 0, "cross_entropy": 0}, "weights"),
    ],
)  # fmt: skip
def test_impossible_weights(values: dict[str, float], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected") as caught:
        LossWeights(**values)
    assert_sentence(caught.value)


def test_what_distillation_does_unless_told_otherwise() -> None:
    assert Alignment() == Alignment(layers=(), reach="last", masked=True, per_batch=False)
    assert LossWeights() == LossWeights(features=0.3, embedding=0.0, logits=1.0, cross_entropy=0.1, temperature=2.0)


def test_the_weight_of_the_labels_counts_like_the_others() -> None:
    assert LossWeights(features=0, logits=0, cross_entropy=1).cross_entropy == 1
    with pytest.raises(ConfigError, match="^cross_entropy: expected"):
        LossWeights(cross_entropy=-0.1)
