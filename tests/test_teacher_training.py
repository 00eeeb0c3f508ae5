"""Words are hidden as BERT's recipe says, and every draw is a function of seed and step."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest

pytest.importorskip("tokenizers")


from minispike.data.batches import Batch
from minispike.data.tokenizer import Tokenizer
from minispike.models.bert import Bert, BertConfig
from minispike.tensor import Tensor
from teachers.training import FineTuning, Pretraining

Array = np.ndarray[Any, Any]


SENTENCES = (
    "a fine film with a dull end", "a good film with a dull plot", "the plot is fine", "the end is not fine",
    "nobody likes a dull film", "the cast is good and the plot is dull", "a good cast", "it is what it is",
)  # fmt: skip


def log_softmax(logits: Array) -> Array:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.train(SENTENCES * 2, vocab_size=60)


class Observed(Pretraining):
    """Masked language modelling that shows what it hands to the model instead of running it."""

    def seen(self, step: int) -> tuple[Array, Array, Array, Batch]:
        """Ids with some hidden, mask, chosen places, and the batch as it was."""
        shown: list[tuple[Array, Array, Array]] = []

        def model(ids: Array, mask: Array, chosen: Array, _: Any) -> Tensor:
            shown.append((ids, mask, chosen))
            return Tensor(np.zeros((int(chosen.sum()), self._tokenizer.vocab_size)))

        self.model, kept = model, self.model  # type: ignore[assignment]
        (terms,) = self.losses(step)
        self.model = kept
        assert terms["loss"].item() == pytest.approx(math.log(self._tokenizer.vocab_size), rel=1e-5)
        return (*shown[0], self._stream.batch(step))


def pretraining(tokenizer: Tokenizer, share: float = 0.15, seed: int = 0, batch_size: int = 8) -> Observed:
    shape = BertConfig(tokenizer.vocab_size, 8, 1, 2, 16, 16)
    bert = Bert(shape, np.random.default_rng(0))
    return Observed(bert, tokenizer.encode(SENTENCES * 4, max_length=12), tokenizer, batch_size, share, (seed, 1))


def test_a_share_of_the_words_is_chosen(tokenizer: Tokenizer) -> None:
    for share in (0.15, 0.5):
        task = pretraining(tokenizer, share, batch_size=32)
        chosen = words = 0
        for step in range(150):
            ids, mask, picked, batch = task.seen(step)
            word = mask & (batch.input_ids != tokenizer.cls_id) & (batch.input_ids != tokenizer.sep_id)
            assert not (picked & ~word).any()
            np.testing.assert_array_equal(ids[~picked], batch.input_ids[~picked])
            np.testing.assert_array_equal(mask, batch.mask)
            chosen, words = chosen + picked.sum(), words + word.sum()
        assert chosen / words == pytest.approx(share, rel=0.04)


def test_eight_in_ten_are_hidden_one_is_random_one_stays(tokenizer: Tokenizer) -> None:
    task = pretraining(tokenizer, 0.5, batch_size=32)
    fates: Counter[str] = Counter()
    replacements: Counter[int] = Counter()
    for step in range(150):
        ids, _, picked, batch = task.seen(step)
        for new, old in zip(ids[picked].tolist(), batch.input_ids[picked].tolist(), strict=True):
            fate = "mask" if new == tokenizer.mask_id else "same" if new == old else "random"
            fates[fate] += 1
            replacements[new] += fate == "random"
    total, vocabulary = sum(fates.values()), tokenizer.vocab_size
    assert total > 10_000
    assert fates["mask"] / total == pytest.approx(0.8 + 0.1 / vocabulary, abs=0.015)
    assert fates["random"] / total == pytest.approx(0.1 * (1 - 2 / vocabulary), abs=0.012)
    assert fates["same"] / total == pytest.approx(0.1 + 0.1 / vocabulary, abs=0.012)
    assert len(replacements) > 0.9 * vocabulary - 1  # from the whole vocabulary


def test_hiding_is_a_function_of_seed_and_step(tokenizer: Tokenizer) -> None:
    a, b = pretraining(tokenizer), pretraining(tokenizer)
    for step in (3, 0):
        a.seen(1)
        for x, y in zip(a.seen(step)[:3], b.seen(step)[:3], strict=True):
            np.testing.assert_array_equal(x, y)
    epoch = a._stream.batches_per_epoch
    hidden = [pretraining(tokenizer, seed=seed).seen(step) for seed, step in ((0, 0), (0, epoch), (1, 0))]
    assert len({ids.tobytes() for ids, *_ in hidden}) == 3


def test_there_is_always_a_word_to_guess(tokenizer: Tokenizer) -> None:
    task = pretraining(tokenizer, share=1e-9)
    for step in range(10):
        _, _, picked, batch = task.seen(step)
        assert picked.sum() == 1
        assert batch.input_ids[picked][0] not in (tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id)


def test_the_loss_is_taken_at_the_chosen_places(tokenizer: Tokenizer) -> None:
    task = pretraining(tokenizer)
    ids, mask, picked, batch = task.seen(2)
    logits = log_softmax(task.model(ids, mask, picked).numpy().astype(np.float64))
    expected = -logits[np.arange(len(logits)), batch.input_ids[picked]].mean()
    quiet = Pretraining(
        Bert(BertConfig(tokenizer.vocab_size, 8, 1, 2, 16, 16, dropout=0.0), np.random.default_rng(0)),
        tokenizer.encode(SENTENCES * 4, max_length=12), tokenizer, 8, 0.15, (0, 1),
    )  # fmt: skip
    (terms,) = quiet.losses(2)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert quiet.evaluate() == {}


def test_fine_tuning(tokenizer: Tokenizer) -> None:
    encoded, labels = tokenizer.encode(SENTENCES, max_length=12), np.arange(8) % 2
    bert = Bert(BertConfig(tokenizer.vocab_size, 8, 1, 2, 16, 16, num_labels=2), np.random.default_rng(0))
    task = FineTuning(bert, (encoded, labels), (encoded, labels), 4, (0, 2))
    first, again, later = (next(task.losses(step))["loss"].item() for step in (0, 0, 1))
    assert first == again != later
    answers = [int(bert(ids[None]).logits.numpy().argmax()) for ids in encoded.ids]
    assert task.evaluate() == {"score": (np.array(answers) == labels).mean()}
