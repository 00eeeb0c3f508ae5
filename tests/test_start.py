"""The student starts with the teacher's angles between words, as far as its width can hold them."""

import math
from typing import Any

import numpy as np
import pytest

from minispike.distill.start import starting_tables

Array = np.ndarray[Any, Any]


def cosines(table: Array) -> Array:
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    return unit @ unit.T


def upper(square: Array) -> Array:
    return square[np.triu_indices(len(square), 1)]


def teacher_table(count: int = 60, width: int = 16, seed: int = 0) -> Array:
    """Off centre, and with most of its variance along a few axes, as embeddings of a BERT are."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, width)) * 0.9 ** np.arange(width) ** 1.5 * 0.05 + rng.normal(size=width) * 0.1


@pytest.mark.parametrize("width", [4, 12, 16, 40])
def test_tables_are_centred_and_of_unit_variance(width: int) -> None:
    words, positions = teacher_table(), teacher_table(9, seed=1)
    start = starting_tables(words.astype(np.float32), positions, width, np.random.default_rng(0))
    assert start.words.shape == (60, width) and start.positions.shape == (9, width)
    np.testing.assert_allclose(start.words.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(start.positions.mean(axis=0), 0, atol=1e-12)
    assert start.words.std() == pytest.approx(1, rel=1e-12)


@pytest.mark.parametrize("width", [16, 17, 40])
def test_an_equal_or_wider_student_has_the_teachers_angles(width: int) -> None:
    """A rotation: all inner products of the centred table stay, but for one common factor."""
    words, positions = teacher_table(), teacher_table(9, seed=1)
    start = starting_tables(words, positions, width, np.random.default_rng(0))
    both = np.concatenate([words - words.mean(axis=0), positions - positions.mean(axis=0)])
    ours = np.concatenate([start.words, start.positions])
    factor = (ours**2).sum() / (both**2).sum()
    np.testing.assert_allclose(ours @ ours.T, both @ both.T * factor, rtol=0, atol=1e-10)
    np.testing.assert_allclose(cosines(ours), cosines(both), rtol=0, atol=1e-10)


@pytest.mark.parametrize("width", [1, 3, 8, 15])
def test_a_narrower_student_has_the_angles_of_the_principal_axes(width: int) -> None:
    """No projection to this width keeps more of the inner products (Eckart and Young 1936)."""
    words = teacher_table()
    centred = words - words.mean(axis=0)
    ours = starting_tables(words, None, width, np.random.default_rng(0)).words
    values, axes = np.linalg.eigh(centred.T @ centred)
    best = centred @ axes[:, -width:]
    factor = (ours**2).sum() / (best**2).sum()
    np.testing.assert_allclose(ours @ ours.T, best @ best.T * factor, rtol=0, atol=1e-10)
    if width == 8:
        assert values[-width:].sum() > 0.95 * values.sum()
        assert np.corrcoef(upper(cosines(ours)), upper(cosines(centred)))[0, 1] > 0.95


def test_variance_is_spread_over_all_axes() -> None:
    """Before the turn a few axes carry nearly all of it; their signs alone would say much, the others little."""
    words = teacher_table(400, 64)
    for width in (32, 64):
        shares = starting_tables(words, None, width, np.random.default_rng(0)).words.var(axis=0)
        assert shares.max() < 8 * shares.mean()
    assert words.var(axis=0).max() > 8 * words.var(axis=0).mean()


@pytest.mark.parametrize("width", [16, 8])
def test_the_start_depends_on_the_generator_alone(width: int) -> None:
    words = teacher_table()
    a, b, c = (starting_tables(words, None, width, np.random.default_rng(seed)).words for seed in (3, 3, 4))
    np.testing.assert_array_equal(a, b)
    assert not np.allclose(a, c)


@pytest.mark.parametrize("width", [24, 96, 256])
def test_signs_agree_as_far_as_vectors_do(width: int) -> None:
    """The first spikes of two words agree in a share ``1 - angle / pi`` of the channels, so in order of cosine."""
    rng = np.random.default_rng(0)
    base = rng.normal(size=96)
    others = np.stack([base * math.cos(a) + rng.normal(size=96) * math.sin(a) for a in np.linspace(0, math.pi, 13)])
    words = np.concatenate([others, -others, rng.normal(size=(400, 96))])
    words -= words.mean(axis=0)
    agreements = []
    for seed in range(60):
        start = starting_tables(words, None, width, np.random.default_rng(seed)).words
        agreements.append([((start[0] >= 0) == (start[i] >= 0)).mean() for i in range(13)])
    agreement = np.mean(agreements, axis=0)
    similarity = cosines(start)[0, :13]  # the same for every rotation
    assert agreement[0] == 1
    np.testing.assert_allclose(agreement, 1 - np.arccos(np.clip(similarity, -1, 1)) / math.pi, rtol=0, atol=0.05)
    for i, j in zip(*np.nonzero(similarity[:, None] - similarity > 0.3), strict=True):
        assert agreement[i] > agreement[j]
    if width >= 96:
        np.testing.assert_allclose(similarity, cosines(words)[0, :13], rtol=0, atol=1e-10)
