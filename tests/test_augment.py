"""More sentences for the teacher to label: as the probabilities say, and none that is held out."""

import math
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence
from hypothesis import given
from hypothesis import strategies as st

from minispike.data.overlap import normalise
from minispike.data.text import Examples, read_tsv
from minispike.data.tokenizer import Tokenizer
from minispike.distill.augment import AugmentConfig, augment, split_words
from minispike.errors import ConfigError

SENTENCES = (
    "a fine film with a dull end", "a good film with a dull plot", "the plot is fine", "the end is not fine",
    "nobody likes a dull film", "the cast is good and the plot is dull", "a good cast", "it is what it is",
)  # fmt: skip


def vary(c: AugmentConfig, seed: int = 0, held_out: Sequence[str] = (), given: Sequence[str] = SENTENCES) -> list[str]:
    held = Examples(tuple(held_out))
    found = augment(Examples(tuple(given)), c, np.random.default_rng(seed), (held,))
    assert found.labels is None and found.pairs is None
    return list(found.texts)


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


# ---- Pairs

PAIRS = Examples(SENTENCES, np.arange(8), SENTENCES[3:] + SENTENCES[:3])


def rows(examples: Examples) -> list[tuple[str, str]]:
    assert examples.pairs is not None
    return list(zip(examples.texts, examples.pairs, strict=True))


def keys(examples: Examples) -> list[tuple[str, str]]:
    return [(normalise(a), normalise(b)) for a, b in rows(examples)]


def test_pairs_become_pairs() -> None:
    """None twice, none of the given ones, none that is held out; nothing is drawn of labels."""
    c = AugmentConfig(passes=30, mask=0.1, replace=0.3, ngram=0.3)
    free = augment(PAIRS, c, np.random.default_rng(0))
    assert free.labels is None and len(set(keys(free))) == len(free) > 150
    assert not set(keys(free)) & set(keys(PAIRS)) and all(a and b for a, b in keys(free))
    held_out = free.subset(range(0, len(free), 3))
    loud = Examples(held_out.texts, None, tuple(text.upper() + " !" for text in held_out.pairs or ()))
    kept = augment(PAIRS, c, np.random.default_rng(0), (PAIRS.subset([0]), loud))
    assert rows(kept) == [pair for pair, key in zip(rows(free), keys(free), strict=True) if key not in keys(loud)]


def test_a_pair_is_held_out_as_a_pair() -> None:
    """Not where one text of it is, nor where the letters are the same with another text between them."""
    c = AugmentConfig(passes=1, mask=0, replace=0, ngram=1)
    given = Examples(("a",), None, ("b c",))
    seeds = [augment(given, c, np.random.default_rng(seed)) for seed in range(20)]
    assert {pair for found in seeds for pair in rows(found)} == {("a", "b"), ("a", "c")}
    for held_out, left in (
        (Examples(("a",), None, ("c",)), {("a", "b")}),
        (Examples(("c",), None, ("a",)), {("a", "b"), ("a", "c")}),
        (Examples(("ac", "a"), None, ("?", "d")), {("a", "b"), ("a", "c")}),
    ):
        found = [augment(given, c, np.random.default_rng(seed), (held_out,)) for seed in range(20)]
        assert {pair for some in found for pair in rows(some)} == left


def test_each_text_of_a_pair_is_varied_by_itself() -> None:
    """Pieces are cut of each, and of both at once as often as chance has it; replacements come from either side."""
    words = [" ".join(f"{side}{i}" for i in range(9)) for side in "ab"]
    given, c = Examples((words[0],), None, (words[1],)), AugmentConfig(passes=1, mask=0, replace=0, ngram=0.5)
    cut: Counter[tuple[bool, bool]] = Counter()
    for seed in range(800):
        for a, b in rows(augment(given, c, np.random.default_rng(seed))):
            assert a in words[0] and b in words[1]
            cut[a != words[0], b != words[1]] += 1
    assert all(cut[which] == pytest.approx(200, abs=45) for which in ((True, False), (False, True), (True, True)))
    given = Examples(("x p y",), None, ("x q y",))
    found = augment(given, AugmentConfig(passes=40, mask=0, replace=1, ngram=0), np.random.default_rng(0))
    assert set(rows(found)) == {("x p y", "x p y"), ("x q y", "x q y"), ("x q y", "x p y")}


def test_no_pairs() -> None:
    """Nothing was made, and it is still of the kind that was asked for."""
    found = augment(PAIRS, AugmentConfig(), np.random.default_rng(0))
    assert (found.texts, found.pairs) == ((), ())


# ---- Words


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", []),
        (" \t ", []),
        ("it 's  fine .", ["it", "'s", "fine", "."]),
        ("café, naïve", ["café,", "naïve"]),
        ("味道还好", ["味", "道", "还", "好"]),
        ("168元12种，OK 吗？？", ["168", "元", "12", "种", "，", "OK", "吗", "？", "？"]),
        ("\U00020000\u3400\uf900\U0002ceaf", ["\U00020000", "\u3400", "\uf900", "\U0002ceaf"]),  # every block counts
        ("これは魚", ["これは", "魚"]),  # kana are letters like any other
    ],
)  # fmt: skip
def test_words_by_hand(text: str, words: list[str]) -> None:
    assert [word for _, word in split_words(text)] == words


@given(st.text(st.sampled_from("ab ,\t\u3000\n_\u597d\u5473\U00020001\uff0c\u3053\u0301")) | st.text())
def test_joined_words_are_the_text(text: str) -> None:
    found = split_words(text)
    assert "".join(space + word for space, word in found) == text.rstrip()
    assert all(word.strip() == word != "" and not space.strip() for space, word in found)


CHINESE = ("waimai_10k", "chnsenticorp_htl")


def chinese(shared: Path, name: str, part: str = "train", count: int = 400) -> Examples:
    return read_tsv(shared / "data" / name / f"{part}.tsv")[0].subset(range(count))


@pytest.mark.parametrize("name", CHINESE)
def test_chinese_reviews_have_the_words_of_bert(shared: Path, name: str) -> None:
    """But for runs of symbols, which BERT does not take for punctuation: here each of them is a word."""
    pytest.importorskip("tokenizers")
    from tokenizers.normalizers import BertNormalizer
    from tokenizers.pre_tokenizers import BertPreTokenizer

    normal, cut = BertNormalizer(lowercase=False, strip_accents=False), BertPreTokenizer()
    reviews, same = chinese(shared, name).texts, 0
    for text in reviews:
        found = split_words(text)
        assert "".join(space + word for space, word in found) == text.rstrip()
        same += [word for _, word in found] == [word for word, _ in cut.pre_tokenize_str(normal.normalize_str(text))]
    assert same > 0.98 * len(reviews)


@pytest.mark.parametrize("name", CHINESE)
def test_chinese_reviews_are_varied_character_by_character(shared: Path, name: str) -> None:
    reviews = chinese(shared, name)
    held_out = chinese(shared, name, "dev")

    def made(**how: float) -> tuple[str, ...]:
        c = AugmentConfig(**{"passes": 1, "mask": 0, "replace": 0, "ngram": 0, **how})  # type: ignore[arg-type]
        return augment(reviews, c, np.random.default_rng(0), (held_out,)).texts

    masked = made(mask=0.1)
    shares = [text.count("[MASK]") / len(split_words(text.replace("[MASK]", "\u53e3"))) for text in masked]
    assert len(masked) > 300 and np.mean(shares) == pytest.approx(0.12, abs=0.04)  # those without a mask are dropped
    originals = {text.strip(): len(split_words(text)) for text in reviews.texts}
    replaced = made(replace=0.5)
    assert len(replaced) > 200 and not set(replaced) & set(originals)
    assert {len(split_words(text)) for text in replaced} <= set(originals.values())
    assert not {normalise(text) for text in replaced} & {normalise(text) for text in held_out.texts}
    spaced = sum(" " in text for text in reviews.texts)
    for variants in (masked, replaced):
        assert sum(" " in text for text in variants) <= spaced  # none is put in
    pieces = made(ngram=1)
    assert {len(split_words(text)) for text in pieces} == {1, 2, 3, 4, 5}
    assert all(any(piece in text for text in reviews.texts) for piece in pieces)


def test_a_mask_between_chinese_characters_is_one_token(shared: Path) -> None:
    pytest.importorskip("tokenizers")
    reviews = chinese(shared, "waimai_10k")
    tokenizer = Tokenizer.train(reviews.texts, vocab_size=3000)
    varied = augment(reviews, AugmentConfig(passes=1, replace=0, ngram=0), np.random.default_rng(0))
    encoded = tokenizer.encode(varied.texts, max_length=512, mask_marks=True)
    masks = [int((ids == tokenizer.mask_id).sum()) for ids in encoded.ids]
    assert masks == [text.count("[MASK]") for text in varied.texts] and sum(masks) > 500
