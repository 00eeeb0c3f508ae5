"""Words are hidden as BERT's recipe says, and every draw is a function of seed and step."""

import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from helpers import computed

pytest.importorskip("tokenizers")


from minispike import default_dtype
from minispike.data.batches import Batch, BatchStream
from minispike.data.tokenizer import Tokenizer
from minispike.models.bert import Bert, BertConfig
from minispike.nn.losses import cross_entropy
from minispike.nn.module import Module
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

        def model(ids: Array, mask: Array, chosen: Array, *_: Any) -> Tensor:
            shown.append((ids, mask, chosen))
            return Tensor(np.zeros((int(chosen.sum()), self._tokenizer.vocab_size)))

        self.model, kept = model, self.model  # type: ignore[assignment]
        (terms,) = computed(self, step)
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
    (terms,) = computed(quiet, 2)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-5)
    assert quiet.evaluate() == {}


def test_fine_tuning(tokenizer: Tokenizer) -> None:
    encoded, labels = tokenizer.encode(SENTENCES, max_length=12), np.arange(8) % 2
    bert = Bert(BertConfig(tokenizer.vocab_size, 8, 1, 2, 16, 16, num_labels=2), np.random.default_rng(0))
    task = FineTuning(bert, (encoded, labels), (encoded, labels), 4, (0, 2))
    first, again, later = (next(computed(task, step))["loss"].item() for step in (0, 0, 1))
    assert first == again != later
    answers = [int(bert(ids[None]).logits.numpy().argmax()) for ids in encoded.ids]
    assert task.evaluate() == {"score": (np.array(answers) == labels).mean()}


# ---- Parts of a batch


def bert_of(tokenizer: Tokenizer, dropout: float, labels: int = 0) -> Bert:
    """In float64, with weights large enough for every parameter to have a gradient."""
    with default_dtype(np.float64):
        shape = BertConfig(
            tokenizer.vocab_size, 8, 1, 2, 16, 16, num_labels=labels, dropout=dropout, initializer_range=0.3
        )
        return Bert(shape, np.random.default_rng(0))


def pieces_and_gradients(task: Pretraining | FineTuning, step: int) -> tuple[int, float, dict[str, Array]]:
    """How many parts a step had, the sum of their losses, and the gradient that they leave."""
    losses = []
    for terms in computed(task, step):
        terms["loss"].backward()
        losses.append(terms["loss"].item())
    model: Module = task.model
    slopes = {name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None}
    return len(losses), sum(losses), slopes


def assert_same_step(
    whole: Pretraining | FineTuning, in_parts: Pretraining | FineTuning, step: int, parts: int
) -> None:
    one, loss, slopes = pieces_and_gradients(whole, step)
    count, loss_in_parts, slopes_in_parts = pieces_and_gradients(in_parts, step)
    assert (one, count) == (1, parts)
    assert loss_in_parts == pytest.approx(loss, rel=1e-12)
    assert slopes.keys() == slopes_in_parts.keys() and len(slopes) > 15
    for name, slope in slopes.items():
        assert np.abs(slope).max() > 0 or name.endswith("key.bias"), name  # softmax does not see a key's bias
        np.testing.assert_allclose(slopes_in_parts[name], slope, rtol=0, atol=1e-12, err_msg=name)


PAIRS = SENTENCES[1:] + SENTENCES[:1]


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_pretraining_in_parts(tokenizer: Tokenizer, parts: int, paired: bool) -> None:
    """A part's weight is its share of the words to be guessed, of which sentences of uneven length have uneven many."""
    encoded = tokenizer.encode(SENTENCES * 4, PAIRS * 4 if paired else None, max_length=16)

    def task(count: int) -> Pretraining:
        with default_dtype(np.float64):
            return Pretraining(bert_of(tokenizer, 0.0), encoded, tokenizer, 16, 0.3, (0, 1), parts=count)

    for step in (0, 3):
        assert_same_step(task(1), task(parts), step, parts)


def test_a_part_without_a_word_to_guess_is_passed_over(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(SENTENCES, max_length=12)
    task = Pretraining(bert_of(tokenizer, 0.0), encoded, tokenizer, 8, 1e-9, (0, 1), parts=8)
    (terms,) = computed(task, 0)  # of the one word that there always is
    assert math.isfinite(terms["loss"].item())


def test_pairs_are_pretrained_with_their_segments(tokenizer: Tokenizer) -> None:
    encoded = tokenizer.encode(SENTENCES, PAIRS, max_length=16)
    slopes = pieces_and_gradients(Pretraining(bert_of(tokenizer, 0.0), encoded, tokenizer, 8, 0.3, (0, 1)), 0)[2]
    assert (np.abs(slopes["bert.embeddings.token_type_embeddings.weight"]).max(axis=1) > 0).all()


@pytest.mark.parametrize("paired", [False, True])
@pytest.mark.parametrize("parts", [2, 3, 5])
def test_fine_tuning_in_parts(tokenizer: Tokenizer, parts: int, paired: bool) -> None:
    encoded, labels = tokenizer.encode(SENTENCES, PAIRS if paired else None, max_length=16), np.arange(8) % 3
    data = encoded, labels

    def task(count: int) -> FineTuning:
        return FineTuning(bert_of(tokenizer, 0.0, labels=3), data, data, 7, (0, 2), parts=count)

    for step in (0, 3):
        assert_same_step(task(1), task(parts), step, parts)


def test_every_part_draws_its_own_dropout(tokenizer: Tokenizer) -> None:
    """From a child of the step's generator: the parts' losses are those of the parts computed by hand."""
    encoded, labels = tokenizer.encode(SENTENCES, max_length=12), np.arange(8) % 2
    task = FineTuning(bert_of(tokenizer, 0.3, labels=2), (encoded, labels), (encoded, labels), 7, (0, 2), parts=2)
    found = [terms["loss"].item() for terms in computed(task, 4)]
    rng, batch = np.random.default_rng([0, 2, 1, 4]), BatchStream(encoded, labels, 7, (0, 2, 0)).batch(4)
    for loss, rows, dropped in zip(found, (slice(0, 3), slice(3, 7)), rng.spawn(2), strict=True):
        out = task.model(batch.input_ids[rows], batch.mask[rows], None, dropped)
        assert batch.labels is not None
        expected = cross_entropy(out.logits, batch.labels[rows]).item() * (rows.stop - rows.start) / 7
        assert loss == pytest.approx(expected, rel=1e-12)
