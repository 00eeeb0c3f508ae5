"""The terms of a step of distillation, in parts and by hand, and who is asked for them."""

import math
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from helpers import computed, gradient

from minispike import default_dtype
from minispike.data.batches import Batch, BatchStream
from minispike.data.tokenizer import Encoded
from minispike.distill.losses import Alignment, LossWeights
from minispike.distill.stages import Distillation, Source, Stage2Config
from minispike.errors import ConfigError
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig

Array = np.ndarray[Any, Any]


def texts(count: int, seed: int = 0, vocabulary: int = 40, longest: int = 9) -> Encoded:
    """Random texts of 3 and more tokens, all of them different."""
    rng = np.random.default_rng(seed)
    ids = [rng.integers(5, vocabulary, size=rng.integers(3, longest)).astype(np.int32) for _ in range(count)]
    return Encoded(tuple(ids), None, 0.0, 0.0)


# ---- The stages


@pytest.mark.parametrize("share", [0.0, -0.5, 1.01, math.nan])
def test_impossible_shares(share: float) -> None:
    with pytest.raises(ConfigError, match="^labelled: expected a share above 0"):
        Stage2Config(labelled=share)


class Oracle:
    """A teacher whose answers are a function of the text, and who counts the questions; loud where there is padding."""

    def __init__(self, encoded: Encoded, layers: int = 2, width: int = 6, classes: int = 3, loud: float = 1e6) -> None:
        self.encoded, self.layers, self.width, self.classes, self.loud = encoded, layers, width, classes, loud
        self.asked: list[tuple[str, tuple[int, ...]]] = []

    def hidden(self, batch: Batch) -> Sequence[Array]:
        self.asked.append(("hidden", tuple(batch.index)))
        return self.states(batch)

    def prefetch(self, batch: Batch) -> None:
        self.asked.append(("prefetch", tuple(batch.index)))

    def logits(self, batch: Batch) -> Array:
        self.asked.append(("logits", tuple(batch.index)))
        return self.answers(batch)

    def states(self, batch: Batch) -> list[Array]:
        found = [np.full((*batch.mask.shape, self.width), self.loud, np.float32) for _ in range(self.layers)]
        for layer, state in enumerate(found):
            state[batch.mask] = np.sin(batch.input_ids[batch.mask][:, None] + layer + np.arange(self.width))
        return found

    def answers(self, batch: Batch) -> Array:
        return np.cos(batch.index[:, None] + np.arange(self.classes)).astype(np.float32)

    def questions(self) -> set[str]:
        return {name for name, _ in self.asked}


def student(classes: int = 3, **given: Any) -> SpikeBERT:
    shape = {"dim": 8, "depth": 2, "heads": 2, "time_steps": 2, "max_length": 12, "threshold": 0.3, "feature_dim": 6}
    with default_dtype(np.float64):
        return SpikeBERT(SpikeBERTConfig(vocab_size=40, num_labels=classes, **(shape | given)))  # type: ignore[arg-type]


def weights(**given: float) -> LossWeights:
    zero = {field.name: 0.0 for field in fields(LossWeights)} | {"temperature": 2.0}
    return LossWeights(**{**zero, **given})


def log_softmax(logits: Array) -> Array:
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def softmax(logits: Array) -> Array:
    return np.exp(log_softmax(logits))


def by_hand(model: SpikeBERT, batch: Batch, oracle: Oracle | None, w: LossWeights) -> dict[str, float]:
    """The unweighted terms of a batch in plain NumPy, from the student's outputs."""
    out = model(batch.input_ids, batch.mask)
    ours = log_softmax(out.logits.numpy())
    found: dict[str, float] = {}
    if batch.labels is not None:
        found["cross_entropy"] = -float(ours[np.arange(len(batch)), batch.labels].mean())
    if oracle is not None:
        pairs = zip(out.hidden_states, oracle.states(batch), strict=True)
        found["features"] = float(np.mean([((a.numpy() - b) ** 2)[batch.mask].mean() for a, b in pairs]))
        target = log_softmax(oracle.answers(batch).astype(np.float64) / w.temperature)
        warm = log_softmax(out.logits.numpy() / w.temperature)
        found["logits"] = w.temperature**2 * float((np.exp(target) * (target - warm)).sum(axis=1).mean())
    return found


def test_the_loss_of_stage_2_by_hand() -> None:
    """Labelled and unlabelled text, every term, and each sentence counting alike."""
    labelled, free = texts(10), texts(23, seed=1)
    labels = np.arange(10) % 3
    model, w = student(), LossWeights(0.7, 0.2, 1.3, 0.4, temperature=3.0)
    sources = [Source(labelled, labels, 4, Oracle(labelled)), Source(free, None, 12, Oracle(free))]
    target = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    task = Distillation("stage 2", model, sources, w, (5, 1), embedding_target=target)
    for step in (0, 3):
        found = [{name: value.item() for name, value in terms.items()} for terms in computed(task, step)]
        expected: list[dict[str, float]] = []
        for i, (source, size) in enumerate(zip(sources, (4, 12), strict=True)):
            batch = BatchStream(source.texts, source.labels, size, [5, 1, i]).batch(step)
            terms = by_hand(model, batch, Oracle(source.texts), w)
            expected.append({n: v * getattr(w, n) * size / 16 for n, v in terms.items()})
        expected.append({"embedding": 0.2 * float(((model.embedding.weight.numpy() - target) ** 2).mean())})
        assert len(found) == 3
        for terms, values in zip(found, expected, strict=True):
            assert terms == pytest.approx({**values, "loss": sum(values.values())}, rel=1e-6)


ALIGNMENTS = {
    "masked": Alignment(),
    "padding counts": Alignment(masked=False),
    "divided by the batch": Alignment(per_batch=True),
    "the reference": Alignment(masked=False, per_batch=True),
}


@pytest.mark.parametrize("padding_counts", [False, True])
@pytest.mark.parametrize("alignment", ALIGNMENTS)
@pytest.mark.parametrize("parts", [3, 16, *(pytest.param(n, marks=pytest.mark.thorough) for n in (2, 5))])
def test_in_parts_or_as_a_whole_loss_and_gradient_are_the_same(
    parts: int, alignment: str, padding_counts: bool
) -> None:
    """Though 7 and 12 sentences of uneven length divide by none of these; the smaller source has fewer parts."""
    labelled, free = texts(20, longest=12), texts(31, seed=1, longest=12)
    w = LossWeights(0.7, 0.2, 1.3, 0.4, temperature=3.0)

    def at(count: int, step: int) -> tuple[dict[str, float], dict[str, Array]]:
        model = student(mask_padding=not padding_counts)
        oracles = [Oracle(encoded, loud=1.5) for encoded in (labelled, free)]
        sources = [Source(labelled, np.arange(20) % 3, 7, oracles[0]), Source(free, None, 12, oracles[1])]
        how: dict[str, Any] = {"embedding_target": np.ones((40, 8)), "alignment": ALIGNMENTS[alignment]}
        sums: dict[str, float] = {}
        pieces = 0
        for terms in computed(Distillation("x", model, sources, w, (5, 1), parts=count, **how), step):
            terms["loss"].backward()
            pieces += 1
            for name, value in terms.items():
                sums[name] = sums.get(name, 0.0) + value.item()
        assert pieces == min(count, 7) + min(count, 12) + 1
        return sums, {name: gradient(parameter) for name, parameter in model.named_parameters()}

    for step in (0, 4):
        loss, slopes = at(1, step)
        loss_in_parts, slopes_in_parts = at(parts, step)
        assert loss_in_parts == pytest.approx(loss, rel=1e-12)
        assert sum(float(np.abs(slope).max() > 1e-6) for slope in slopes.values()) > 20
        for name, slope in slopes.items():
            scale = max(1.0, float(np.abs(slope).max()))
            np.testing.assert_allclose(slopes_in_parts[name], slope, rtol=0, atol=1e-12 * scale, err_msg=name)


@pytest.mark.parametrize("parts", [1, 4])
def test_the_reference_divides_by_the_sentences_of_the_step(parts: int) -> None:
    """Not by those of a source or of a part: the sum over layers of the mean, over 16, for a batch of 16."""
    labelled, free, model = texts(10), texts(23, seed=1), student()
    sources = [Source(labelled, np.arange(10) % 3, 4, Oracle(labelled)), Source(free, None, 12, Oracle(free))]
    w = weights(features=1.0)
    task = Distillation("x", model, sources, w, (0,), parts=parts, alignment=Alignment(per_batch=True))
    found = sum(terms["features"].item() for terms in computed(task, 0))
    means = [
        by_hand(model, BatchStream(s.texts, s.labels, s.size, [0, i]).batch(0), Oracle(s.texts), w)["features"]
        for i, s in enumerate(sources)
    ]
    layers = 2
    assert found == pytest.approx(layers * (4 * means[0] + 12 * means[1]) / 16 / 16, rel=1e-6)


def test_a_step_reads_the_same_sentences_in_however_many_parts() -> None:
    """And asks the teacher for all of them at once."""
    encoded = texts(30)
    asked: list[list[tuple[str, tuple[int, ...]]]] = []
    for parts in (1, 3, 7):
        oracle = Oracle(encoded)
        sources = [Source(encoded, None, 10, oracle)]
        task = Distillation("x", student(), sources, weights(features=1.0, logits=1.0), (0,), parts=parts)
        for step in range(4):
            list(computed(task, step))
        asked.append(oracle.asked)
    assert asked[0] == asked[1] == asked[2]
    assert {len(index) for _, index in asked[0]} == {10}


def test_the_gradient_by_hand() -> None:
    """At the classifier's bias, whose gradient is that of the logits, summed over all sentences."""
    labelled, free = texts(10), texts(23, seed=1)
    sources = [Source(labelled, np.arange(10) % 3, 4, Oracle(labelled)), Source(free, None, 4, Oracle(free))]
    model, w = student(), LossWeights(0.7, 0.0, 1.3, 0.4, temperature=2.0)
    for terms in computed(Distillation("stage 2", model, sources, w, (0,)), 0):
        terms["loss"].backward()
    expected = np.zeros(3)
    for i, source in enumerate(sources):
        batch = BatchStream(source.texts, source.labels, 4, [0, i]).batch(0)
        ours = model(batch.input_ids, batch.mask).logits.numpy()
        theirs = Oracle(source.texts).answers(batch).astype(np.float64)
        expected += 0.5 * 1.3 * 2.0 * (softmax(ours / 2) - softmax(theirs / 2)).mean(axis=0)
        if batch.labels is not None:
            expected += 0.5 * 0.4 * (softmax(ours) - np.eye(3)[batch.labels]).mean(axis=0)
    np.testing.assert_allclose(gradient(model.classifier.bias), expected, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize(
    ("given", "questions"),
    [
        ({"features": 1.0}, {"hidden", "prefetch"}),
        ({"logits": 1.0}, {"logits", "prefetch"}),
        ({"features": 1.0, "logits": 1.0}, {"hidden", "logits", "prefetch"}),
        ({"cross_entropy": 1.0}, set()),
        ({"embedding": 1.0, "cross_entropy": 1.0}, set()),
    ],
)
def test_the_teacher_is_asked_for_what_is_needed(given: dict[str, float], questions: set[str]) -> None:
    encoded = texts(12)
    oracle = Oracle(encoded)
    sources = [Source(encoded, np.zeros(12, int), 4, oracle)]
    task = Distillation("x", student(), sources, weights(**given), (0,), embedding_target=np.zeros((40, 8)))
    stream = BatchStream(encoded, None, 4, [0, 0])
    for step in range(2):
        oracle.asked.clear()
        found = [set(terms) for terms in computed(task, step)]
        assert set().union(*found) == {*given, "loss"}
        assert oracle.questions() == questions
        for name, index in oracle.asked:  # the next batch, while the student is busy with this one
            assert index == tuple(stream.batch(step + (name == "prefetch")).index)


def test_a_source_without_any_term_is_passed_over() -> None:
    """Unlabelled text, and only the labels have a weight."""
    encoded = texts(8)
    sources = [Source(encoded, np.zeros(8, int), 2, None), Source(encoded, None, 6, Oracle(encoded))]
    task = Distillation("x", student(), sources, weights(cross_entropy=1.0), (0,))
    (terms,) = computed(task, 0)
    assert set(terms) == {"cross_entropy", "loss"}


def test_the_embedding_term() -> None:
    encoded, target = texts(8), np.random.default_rng(1).normal(size=(40, 8))
    sources = [Source(encoded, None, 4, Oracle(encoded))]
    model = student()
    both = weights(features=1, embedding=0.5)
    *_, term = computed(Distillation("x", model, sources, both, (0,), embedding_target=target), 0)
    expected = 0.5 * float(((model.embedding.weight.numpy() - target) ** 2).mean())
    assert term["embedding"].item() == term["loss"].item() == pytest.approx(expected, rel=1e-6)
    (only,) = computed(Distillation("x", model, sources, both, (0,)), 0)  # no target
    assert set(only) == {"features", "loss"}
    (none,) = computed(Distillation("x", model, sources, weights(features=1), (0,), embedding_target=target), 0)
    assert set(none) == {"features", "loss"}


def test_batches_depend_on_the_step_and_the_seed_alone() -> None:
    def losses(seed: int, steps: Sequence[int]) -> list[float]:
        encoded = texts(30)
        sources = [Source(encoded, None, 4, Oracle(encoded)), Source(encoded, None, 4, Oracle(encoded))]
        task = Distillation("x", student(), sources, weights(logits=1.0), (seed, 4))
        return [terms["loss"].item() for step in steps for terms in computed(task, step)]

    assert losses(0, (5,)) == losses(0, (1, 5))[2:]
    a, b = losses(0, (5,))
    assert a != b  # each source has its own order
    assert losses(1, (5,)) != [a, b]


def test_evaluation_on_dev() -> None:
    encoded, model = texts(9), student()
    answers = [int(model(ids[None], None).logits.numpy().argmax()) for ids in encoded.ids]
    labels = np.array(answers)
    labels[:3] = (labels[:3] + 1) % 3
    sources = [Source(encoded, labels, 4, None)]
    w = weights(cross_entropy=1.0)
    assert Distillation("x", model, sources, w, (0,), dev=(encoded, labels)).evaluate() == {"score": 6 / 9}
    assert Distillation("x", model, sources, w, (0,)).evaluate() == {}
