"""The baselines against optima known by hand, the condition of an optimum, and a published figure."""

from pathlib import Path

import numpy as np
import pytest

from minispike.data.baselines import BagOfWords, majority_class
from minispike.data.text import Examples, read_tsv
from minispike.errors import DataError, ShapeError


def examples(*rows: tuple[str, int], pairs: tuple[str, ...] | None = None) -> Examples:
    return Examples(tuple(text for text, _ in rows), np.array([label for _, label in rows]), pairs)


def random_examples(count: int, num_labels: int, seed: int) -> Examples:
    rng = np.random.default_rng(seed)
    words = np.array(["red", "green", "blue", "black", "white"])
    texts = tuple(" ".join(words[rng.random(5) < 0.4]) for _ in range(count))
    return Examples(texts, rng.integers(num_labels, size=count))


def test_majority() -> None:
    assert majority_class([2, 0, 2, 1]) == 2
    assert majority_class([1, 0, 1, 0]) == 0


def test_majority_needs_labels() -> None:
    with pytest.raises(DataError, match="labels: expected one or more labels, got none; try a labelled set"):
        majority_class([])


def test_single_words_that_decide_are_found() -> None:
    train = examples(("A good film .", 1), ("Good !", 1), ("a bad film .", 0), ("the bad one", 0))
    model = BagOfWords.fit(train, train, 2, strengths=[0.1])
    assert (model.l2, model.dev_accuracy) == (0.1, 1.0)
    assert model.predict(("GOOD", "it's bad", "unheard-of: good")).tolist() == [1, 0, 1]
    assert model.predict(()).shape == (0,)


def test_order_is_not_seen() -> None:
    train = examples(("not good but bad", 0), ("not bad but good", 1))
    assert BagOfWords.fit(train, train, 2).dev_accuracy == 0.5


def test_optimum_of_one_word() -> None:
    # "a" has label 1 and "b" label 0. By symmetry the biases are equal, and W["a"] = (-m, m), so that
    # dL/dW["a", 1] = softmax_1 - 1 + l2 m = 0, which is  l2 m = 1 / (1 + exp(2 m)).
    l2 = 0.5
    model = BagOfWords.fit(examples(("a", 1), ("b", 0)), examples(("a", 1)), 2, strengths=[l2])
    row = model.weights[model.vocabulary["a"]]
    bias = model.weights[model.vocabulary[""]]
    margin = (row[1] - row[0]) / 2
    np.testing.assert_allclose(bias[1] - bias[0], 0, atol=1e-6)
    np.testing.assert_allclose(row.sum(), 0, atol=1e-6)
    np.testing.assert_allclose(l2 * margin, 1 / (1 + np.exp(2 * margin)), rtol=1e-5)


def test_biases_are_not_held_down() -> None:
    train = examples(*[("x", 0)] * 3, *[("x", 1)])
    model = BagOfWords.fit(train, train, 2, strengths=[1e6])
    bias = model.weights[model.vocabulary[""]]
    np.testing.assert_allclose(bias[0] - bias[1], np.log(3), rtol=1e-4)  # the odds of the labels


def test_one_label_is_always_answered() -> None:
    train = examples(("a b", 1), ("b c", 1))
    assert BagOfWords.fit(train, train, 3).predict(("a", "d")).tolist() == [1, 1]


@pytest.mark.parametrize("num_labels", [2, 3, 5])
@pytest.mark.parametrize("l2", [0.1, 10.0])
def test_gradient_vanishes_at_the_optimum(num_labels: int, l2: float) -> None:
    train = random_examples(60, num_labels, seed=num_labels)
    assert train.labels is not None
    model = BagOfWords.fit(train, train, num_labels, strengths=[l2])
    columns = sorted(model.vocabulary, key=model.vocabulary.__getitem__)
    present = np.array([[word == "" or word in text.split() for word in columns] for text in train.texts])
    logits = present @ model.weights  # [N, C]
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    held = np.array([[0.0 if word == "" else l2] for word in columns])
    gradient = present.T @ (shares - np.eye(num_labels)[train.labels]) + held * model.weights
    np.testing.assert_allclose(gradient, 0, atol=1e-4)


def test_dev_chooses_the_strength() -> None:
    train, dev = random_examples(80, 2, seed=1), random_examples(40, 2, seed=2)
    single = {l2: BagOfWords.fit(train, dev, 2, strengths=[l2]).dev_accuracy for l2 in (0.01, 1.0, 100.0)}
    model = BagOfWords.fit(train, dev, 2, strengths=list(single))
    assert model.dev_accuracy == max(single.values())
    assert model.l2 == max(l2 for l2, accuracy in single.items() if accuracy == model.dev_accuracy)


def test_pairs_keep_their_texts_apart() -> None:
    train = examples(("yes", 1), ("no", 0), pairs=("no", "yes"))
    model = BagOfWords.fit(train, train, 2)
    assert model.dev_accuracy == 1.0
    assert model.predict(("yes", "no"), ("no", "yes")).tolist() == [1, 0]
    with pytest.raises(ShapeError, match="pairs"):
        model.predict(("yes", "no"), ("no",))


def test_chinese_characters_are_words() -> None:
    train = examples(("味道好", 1), ("很好吃", 1), ("味道差", 0), ("很差", 0))
    model = BagOfWords.fit(train, train, 2)
    assert model.predict(("服务好", "服务差")).tolist() == [1, 0]


@pytest.mark.parametrize(
    ("train", "dev", "message"),
    [
        (Examples(("a",)), examples(("a", 0)), "train: expected one or more labels, got none"),
        (examples(("a", 0)), Examples(()), "dev: expected one or more labels, got none"),
        (examples(("a", 0)), examples(("a", 2)), "labels: expected labels below 2, got 2; try num_labels=3"),
    ],
)
def test_what_cannot_be_fitted(train: Examples, dev: Examples, message: str) -> None:
    with pytest.raises(DataError, match=message):
        BagOfWords.fit(train, dev, 2)


def test_sst2(shared: Path) -> None:
    train, names = read_tsv(shared / "data/sst2/train.tsv")
    dev, test = (read_tsv(shared / f"data/sst2/{part}.tsv", names)[0] for part in ("dev", "test"))
    model = BagOfWords.fit(train, dev, 2)
    accuracy = np.mean(model.predict(test.texts) == test.labels)
    assert 0.80 <= accuracy <= 0.815  # 0.807 is what a unigram logistic regression is known to reach
