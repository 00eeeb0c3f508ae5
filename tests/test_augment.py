"""More sentences for the teacher to label: as the probabilities say, and none that is held out."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence

from minispike.data.overlap import normalise
from minispike.distill.augment import AugmentConfig, augment
from minispike.errors import ConfigError

SENTENCES = (
    "a fine film with a dull end", "a good film with a dull plot", "the plot is fine", "the end is not fine",
    "nobody likes a dull film", "the cast is good and the plot is dull", "a good cast", "it is what it is",
)  # fmt: skip


def vary(c: AugmentConfig, seed: int = 0, held_out: Sequence[str] = (), given: Sequence[str] = SENTENCES) -> list[str]:
    return augment(given, c, np.random.default_rng(seed), held_out)


def test_nothing_to_do() -> None:
    assert vary(AugmentConfig()) == []
    assert vary(AugmentConfig(passes=5, mask=0, replace=0, ngram=0)) == []  # they would all be the originals
    assert vary(AugmentConfig(passes=3), given=()) == []


def test_deterministic_by_seed() -> None:
    c = AugmentConfig(passes=5)
    assert vary(c) == vary(c) != vary(c, seed=1)
    more = vary(AugmentConfig(passes=9))
    assert more[: len(vary(c))] == vary(c)  # further passes add, and change nothing


def test_no_duplicates_no_originals_nothing_held_out() -> None:
    c = AugmentConfig(passes=60, mask=0.1, replace=0.4, ngram=0.4)
    free = vary(c)
    keys = [normalise(text) for text in free]
    assert len(set(keys)) == len(keys) > 100 and all(keys)
    assert not set(keys) & {normalise(text) for text in SENTENCES}
    held_out = [text.upper() + " !" for text in free[::3]]
    kept = vary(c, held_out=held_out)
    assert not {normalise(text) for text in kept} & {normalise(text) for text in held_out}
    assert kept == [text for text in free if normalise(text) not in {normalise(h) for h in held_out}]


def test_masks_alone() -> None:
    words = " ".join(f"w{i}" for i in range(4000))
    (variant,) = vary(AugmentConfig(passes=1, mask=0.1, replace=0, ngram=0), given=[words])
    changed = [new for new, old in zip(variant.split(), words.split(), strict=True) if new != old]
    assert set(changed) == {"[MASK]"} and len(changed) / 4000 == pytest.approx(0.1, abs=0.02)


def test_masks_and_replacements_together() -> None:
    """Every other word of two long texts has one alternative, itself and the other being equally frequent."""
    ours, theirs = ([w for i in range(4000) for w in (f"k{i}", f"{side}{i}")] for side in "ab")
    variant = vary(AugmentConfig(passes=1, mask=0.2, replace=0.3, ngram=0), given=[" ".join(ours), " ".join(theirs)])[0]
    fates = Counter("mask" if w == "[MASK]" else w[0] for w in variant.split()[1::2])
    assert fates["mask"] / 4000 == pytest.approx(0.2, abs=0.025)
    assert fates["b"] / 4000 == pytest.approx(0.3 / 2, abs=0.025)
    assert fates["a"] == 4000 - fates["mask"] - fates["b"]


def test_replacements_stood_between_the_same_neighbours() -> None:
    c = AugmentConfig(passes=40, mask=0, replace=0.5, ngram=0)
    sources = [["<s>", *text.split(), "</s>"] for text in SENTENCES]
    seen = {tuple(words[i : i + 3]) for words in sources for i in range(len(words) - 2)}

    def made_of(words: list[str], new: list[str]) -> bool:
        """Each word is the source's own, or stood between those two neighbours of the source elsewhere."""
        return len(new) == len(words) - 2 and all(
            word == words[i + 1] or (words[i], word, words[i + 2]) in seen for i, word in enumerate(new)
        )

    variants = vary(c)
    assert len(variants) > 5
    for variant in variants:
        assert any(made_of(words, variant.split()) for words in sources), variant


def test_replacements_are_as_frequent_as_the_words_they_stand_for() -> None:
    """Between x and y stood p four times and q once, and z where the sentence goes on."""
    given = ["x p y"] * 4 + ["x q y", "x z y end"]
    found: Counter[str] = Counter()
    for seed in range(600):
        found.update(vary(AugmentConfig(passes=1, mask=0, replace=1, ngram=0), seed, given=given))
    assert set(found) == {"x p y end", "x q y end", "x z y"}
    assert found["x p y end"] / found["x q y end"] == pytest.approx(4, rel=0.4)


def test_pieces_of_one_to_five_words() -> None:
    words = [f"w{i}" for i in range(9)]
    lengths: Counter[int] = Counter()
    starts: Counter[str] = Counter()
    for seed in range(1000):
        for variant in vary(AugmentConfig(passes=1, mask=0, replace=0, ngram=1), seed, given=[" ".join(words)]):
            piece = variant.split()
            lengths[len(piece)] += 1
            starts[piece[0]] += 1
            assert variant in " ".join(words)
    assert set(lengths) == {1, 2, 3, 4, 5} and min(lengths.values()) > 150
    assert set(starts) == set(words)
    rare = [
        vary(AugmentConfig(passes=1, mask=0, replace=0, ngram=0.25), s, given=[" ".join(words)]) for s in range(1000)
    ]
    assert sum(map(bool, rare)) == pytest.approx(250, abs=45)


@pytest.mark.parametrize(
    ("values", "name"),
    [
        ({"passes": -1}, "passes"), ({"mask": 1.1}, "mask"), ({"replace": -0.1}, "replace"),
        ({"ngram": math.nan}, "ngram"), ({"mask": 0.6, "replace": 0.6}, r"mask \+ replace"),
    ],
)  # fmt: skip
def test_impossible_probabilities(values: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigError, match=f"^{name}: expected") as caught:
        AugmentConfig(**values)
    assert_sentence(caught.value)
