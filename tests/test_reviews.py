"""The embedded corpus: splits, balance, and labels against a reader who knows nothing of the grammar."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from minispike.data.baselines import BagOfWords
from minispike.data.overlap import drop_overlap
from minispike.data.review_grammar import choices, grammar
from minispike.data.reviews import (
    Reviews,
    ReviewsConfig,
    build_reviews,
    derivations,
    mirror,
    template_of,
)
from minispike.errors import ConfigError

SMALL = ReviewsConfig(seed=3, labelled=200, dev=51, test=100, unlabelled=300)

PRAISE = """
    superb excellent wonderful brilliant splendid good great pleasant gripping clever charming
    touching funny lively graceful polished delicious tasty fresh friendly polite attentive helpful
    clean cosy bright stylish charm wit depth energy grace flavour spice warmth style gem
    masterpiece delight joy treat triumph success loved liked enjoyed admired love like enjoy admire
    recommend praise revisit celebrate save saves saved carry carries carried lift lifts lifted
"""
BLAME = """
    awful terrible dreadful horrible miserable bad poor mediocre dull boring clumsy shallow tedious
    lifeless flat sloppy bland stale greasy rude slow careless grumpy dirty noisy shabby gloomy
    flaws faults weaknesses cliches bore chore failure mess letdown flop mistake hated disliked
    despised resented hate dislike despise fault avoid skip shun ruin ruins ruined spoil spoils
    spoiled hurt hurts
"""
NEGATORS = {"not", "never", "hardly", "far", "no", "nothing", "nobody", "cannot", "hard"}
LEFT_WINS = re.compile(r"\b(better than|finer than|nicer than|more than|over|beats|outshines|to (?=the|this))\b")
RIGHT_WINS = re.compile(r"\b(worse than|weaker than|poorer than|less than|not as \w+ as|cannot (match|equal))\b")


def opinion(text: str) -> bool | None:
    """Whether a reader would call a text positive; ``None`` if nothing in it is an opinion."""
    text = text.split(" . ")[-1]
    for pattern, left_wins in ((LEFT_WINS, True), (RIGHT_WINS, False)):
        if found := pattern.search(text):
            this_is_left = text.index("this ") < found.start()
            return (this_is_left == left_wins) != bool(re.search("nobody|never", text))
    if found := re.search(r"(.*)\b(?:although|even though|despite|instead of)\b(.*)", text):
        main = opinion(found[1])
        return opinion(found[2].split(" , ", 1)[1]) if main is None else main
    text = re.sub(r"(more \w+|rather) than .*", r"\1", text)  # "more dull than clever"
    praise, blame = PRAISE.split(), BLAME.split()
    clause = re.split(r" (?:but|yet|however|and|because|, so) ", text)[-1].split()
    sentiments = [word in praise for word in clause if word in praise or word in blame]
    return sentiments[-1] != any(word in NEGATORS for word in clause) if sentiments else None


@pytest.fixture(scope="module")
def reviews() -> Reviews:
    return build_reviews()


@pytest.mark.parametrize(
    ("text", "positive"),
    [
        ("the acting is not good .", False),
        ("the service was never slow .", True),
        ("this film is hardly a masterpiece .", False),
        ("the plot is dull but the acting saves the whole film .", True),
        ("the acting is lively but the plot ruins the whole film .", False),
        ("although the cast is great , the plot ruins this film .", False),
        ("this film is a mess , although its music is lively .", False),
        ("i liked the first one more than this film .", False),
        ("the sequel is worse than this movie .", True),
        ("this book is more dull than clever .", False),
        ("to be fair , nobody could like this inn .", False),
        ("we saw it on friday . it is hard to fault this show .", True),
    ],
)
def test_reader(text: str, positive: bool) -> None:
    assert opinion(text) is positive


@pytest.mark.parametrize("part", ["train", "dev", "test"])
def test_labels_are_what_a_reader_says(reviews: Reviews, part: str) -> None:
    examples = getattr(reviews, part)
    wrong = [
        (text, label)
        for text, label in zip(examples.texts, examples.labels, strict=True)
        if opinion(text) is not bool(label)
    ]
    assert wrong == []


def test_sizes_balance_and_length(reviews: Reviews) -> None:
    config = ReviewsConfig()
    assert reviews.label_names == ("negative", "positive")
    assert len(reviews.unlabelled) == config.unlabelled
    for examples, size in zip((reviews.train, reviews.dev, reviews.test), (4000, 1000, 4000), strict=True):
        assert len(examples) == size
        assert examples.labels is not None
        assert examples.labels.dtype == np.int64
        assert np.mean(examples.labels) == 0.5
    words = [len(re.findall(r"[a-z]+", text)) for text in reviews.train.texts + reviews.unlabelled]
    assert (min(words), max(words)) == (4, 18)


def test_no_template_in_two_splits(reviews: Reviews) -> None:
    learnt = {template_of(text) for text in reviews.train.texts + reviews.unlabelled}
    dev, test = ({template_of(text) for text in part.texts} for part in (reviews.dev, reviews.test))
    assert not learnt & dev
    assert not learnt & test
    assert not dev & test
    assert len(learnt) > 5000
    assert len(dev) > 300
    assert len(test) > 1000


def test_no_template_fills_a_split(reviews: Reviews) -> None:
    for texts in (reviews.train.texts, reviews.dev.texts, reviews.test.texts, reviews.unlabelled):
        assert max(Counter(map(template_of, texts)).values()) <= len(texts) / 100


def test_no_sentence_twice(reviews: Reviews) -> None:
    parts = (reviews.train.texts, reviews.dev.texts, reviews.test.texts, reviews.unlabelled)
    for kept, others in itertools.permutations(parts, 2):
        assert drop_overlap(kept, others).dropped == 0
    assert all(len(set(part)) == len(part) for part in parts)


def test_word_order_decides(reviews: Reviews) -> None:
    model = BagOfWords.fit(reviews.train, reviews.dev, 2)
    accuracy = np.mean(model.predict(reviews.test.texts) == reviews.test.labels)
    assert 0.58 < accuracy < 0.75
    bags: dict[str, set[int]] = {}
    assert reviews.test.labels is not None
    for text, label in zip(reviews.test.texts, reviews.test.labels, strict=True):
        bags.setdefault(" ".join(sorted(text.split())), set()).add(int(label))
    both = sum(len(labels) for labels in bags.values() if len(labels) == 2)
    assert both > len(reviews.test) / 4  # sentences whose very words occur with the other label too


def test_seed_fixes_every_sentence() -> None:
    first, again = build_reviews(SMALL), build_reviews(SMALL)
    other = build_reviews(ReviewsConfig(4, 200, 51, 100, 300))
    assert (first.train.texts, first.dev.texts, first.test.texts) == (
        again.train.texts,
        again.dev.texts,
        again.test.texts,
    )
    assert first.unlabelled == again.unlabelled
    np.testing.assert_array_equal(first.train.labels, again.train.labels)
    assert len(set(first.train.texts) & set(other.train.texts)) < 20
    assert first.dev.labels is not None
    assert np.bincount(first.dev.labels).tolist() == [25, 26]


def test_less_unlabelled_text_leaves_the_rest_as_it_is() -> None:
    more, none = build_reviews(SMALL), build_reviews(ReviewsConfig(3, 200, 51, 100, unlabelled=0))
    assert more.train.texts == none.train.texts
    assert more.test.texts == none.test.texts
    assert none.unlabelled == ()


def test_mirror_keeps_words_and_turns_the_label() -> None:
    mirrored = 0
    for derivation in itertools.islice(derivations(5), 2000):
        if (image := mirror(derivation)) is None:
            continue
        mirrored += 1
        assert image.positive != derivation.positive
        assert sorted(image.words()) == sorted(derivation.words())
        assert opinion(image.text) == image.positive
        assert mirror(image) == derivation
    assert mirrored > 300


def test_a_template_hides_words_and_nothing_else() -> None:
    assert template_of("honestly , the soup was not stale .") == "MANNER the PART BE not ADJ"
    assert template_of("the songs are not dull .") == template_of("the plot is not clever .")
    assert template_of("the plot is never dull .") != template_of("the plot is not dull .")
    assert NEGATORS.isdisjoint(grammar().masks)
    assert {"but", "yet", "however", "although", "even", "despite", "than", "over"}.isdisjoint(grammar().masks)


def test_no_word_is_both_good_and_bad() -> None:
    signed = {symbol for symbol, _ in grammar().words if symbol[-1] in "+-"}
    kinds = ("story", "craft", "food", "service", "place")
    words = {sign: {w for s in signed if s[-1] == sign for k in kinds for w in choices(s, k, "")} for sign in "+-"}
    assert words["+"].isdisjoint(words["-"])
    assert {form for word in words["+"] for form in word.split("/")} == set(PRAISE.split())
    assert {form for word in words["-"] for form in word.split("/")} == set(BLAME.split())


def test_no_text_at_all() -> None:
    reviews = build_reviews(ReviewsConfig(0, 0, 0, 0, 0))
    assert len(reviews.train) == len(reviews.dev) == len(reviews.test) == len(reviews.unlabelled) == 0


def test_more_than_the_grammar_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("minispike.data.reviews._PATIENCE", 1)
    with pytest.raises(ConfigError, match=r"reviews: expected ReviewsConfig.*, got .* test; try fewer sentences"):
        build_reviews(ReviewsConfig(test=200, labelled=0, dev=0, unlabelled=0))


@pytest.mark.parametrize("field", ["seed", "labelled", "dev", "test", "unlabelled"])
def test_sizes_are_not_negative(field: str) -> None:
    with pytest.raises(ConfigError, match=f"{field}: expected 0 or more, got -1; try {field}="):
        ReviewsConfig(**{field: -1})
