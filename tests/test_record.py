"""What an observer keeps of a forward pass."""

import numpy as np
import pytest
from numpy.typing import NDArray

from minispike.backend import to_numpy
from minispike.data.batches import Batch, in_order
from minispike.data.tokenizer import Encoded
from minispike.errors import DataError, ShapeError
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.record import Recorder, layer_neurons, membrane_trace, record_sentence
from minispike.snn.neurons import LIFNeuron
from minispike.tensor import default_dtype, no_grad


@pytest.fixture(scope="module")
def model() -> SpikeBERT:
    with default_dtype(np.float64):
        config = SpikeBERTConfig(vocab_size=30, dim=8, depth=2, heads=2, time_steps=3, num_labels=2, max_length=12)
        network = SpikeBERT(config, np.random.default_rng(3))
        rng = np.random.default_rng(4)
        for name, parameter in network.named_parameters():
            if ".norm.bias" in name:  # or a small network hardly fires
                parameter.assign(parameter.numpy() + rng.normal(0.4, 0.5, size=parameter.shape))
    return network


def texts(*lengths: int) -> Encoded:
    rng = np.random.default_rng(5)
    return Encoded(tuple(rng.integers(0, 30, size=n).astype(np.int32) for n in lengths), None, 0.0, 0.0)


def run(model: SpikeBERT, batch: Batch, recorder: Recorder) -> None:
    with no_grad():
        model(batch.input_ids, batch.mask, features=False, observe=recorder.batch(batch.mask))


def arrays_of(model: SpikeBERT, batch: Batch) -> dict[str, NDArray[np.float64]]:
    seen: dict[str, NDArray[np.float64]] = {}
    with no_grad():
        model(batch.input_ids, batch.mask, features=False, observe=lambda n, a: seen.update({n: to_numpy(a).copy()}))
    return seen


def test_sums_over_tokens_and_batches(model: SpikeBERT) -> None:
    batches = list(in_order(texts(3, 7, 5, 2, 9), 2))
    recorder = Recorder()
    counts: dict[str, float] = {}
    sizes: dict[str, int] = {}
    for batch in batches:
        run(model, batch, recorder)
        for name, array in arrays_of(model, batch).items():
            for t, b, i in np.ndindex(array.shape[:3]):
                if batch.mask[b, i]:
                    counts[name] = counts.get(name, 0.0) + array[t, b, i].sum()
                    sizes[name] = sizes.get(name, 0) + array.shape[3]
    assert recorder.elements() == sizes
    rates = recorder.firing_rates()
    assert list(rates)[:3] == ["embedding", "blocks.0.attention.q", "blocks.0.attention.k"]
    assert len(rates) == 1 + 7 * 2
    assert sizes["blocks.0.attention.q.input"] * 3 == sizes["blocks.1.attention.q.input"]
    for name, value in recorder.counts().items():
        assert value == counts[name]
    for name, rate in rates.items():
        assert rate == counts[name] / sizes[name]
        assert 0 <= rate <= 1
    assert sum(rate > 0 for rate in rates.values()) > 10


def test_padding_does_not_count(model: SpikeBERT) -> None:
    encoded = texts(3, 9)
    together, alone = Recorder(), Recorder()
    run(model, next(in_order(encoded, 2)), together)
    for batch in in_order(encoded, 1):
        run(model, batch, alone)
    assert together.counts() == alone.counts()
    assert together.elements() == alone.elements()


def test_no_mask_means_that_all_are_tokens(model: SpikeBERT) -> None:
    recorder = Recorder()
    model(np.zeros((2, 4), dtype=np.int64), features=False, observe=recorder.batch(None))
    assert recorder.elements()["blocks.1.mlp.hidden"] == 3 * 2 * 4 * 32


def test_a_forgotten_mask_is_an_error(model: SpikeBERT) -> None:
    first, second = in_order(texts(3, 7), 1)
    recorder = Recorder().batch(first.mask)
    with pytest.raises(ShapeError, match=r"embedding: expected \[T, 1, 3, N\].*recorder.batch"):
        model(second.input_ids, features=False, observe=recorder)


def test_keeps_the_first_sentence_without_its_padding(model: SpikeBERT) -> None:
    batch = next(in_order(texts(3, 9), 2))
    recorder = Recorder(keep=True)
    run(model, batch, recorder)
    run(model, next(in_order(texts(6), 1)), recorder)
    recording, arrays = recorder.recording(), arrays_of(model, batch)
    assert recording.time_steps == 3
    assert set(recording.spikes) == set(recorder.firing_rates())
    assert set(recording.currents) == set(recording.spikes) - {"embedding"}
    for name, spikes in recording.spikes.items():
        np.testing.assert_array_equal(spikes, arrays[name][:, 0, :3])
    for name, current in recording.currents.items():
        np.testing.assert_array_equal(current, arrays[f"{name}.current"][:, 0, :3])


def test_potentials_agree_with_the_spikes_of_the_network(model: SpikeBERT) -> None:
    recording = record_sentence(model, np.arange(5))
    assert set(recording.neurons) == set(layer_neurons(model)) == set(recording.currents)
    assert recording.neurons["blocks.0.attention.mix"].threshold == 0.5
    fired = 0
    for layer in recording.currents:
        trace = recording.trace(layer, 2, range(8))
        np.testing.assert_array_equal(trace.spikes, recording.spikes[layer][:, 2, :8])
        np.testing.assert_array_equal(trace.before >= trace.neuron.threshold, trace.spikes == 1)
        assert trace.current.shape == trace.after.shape == (3, 8)
        fired += int(trace.spikes.sum())
    assert fired > 10


def test_membrane_trace_by_hand() -> None:
    neuron = LIFNeuron(tau=2.0, threshold=1.0)
    trace = membrane_trace(np.array([[1.5, 0.0], [1.5, 3.0], [0.5, 1.0]]), neuron)
    np.testing.assert_array_equal(trace.before, [[0.75, 0.0], [1.125, 1.5], [0.25, 0.5]])
    np.testing.assert_array_equal(trace.after, [[0.75, 0.0], [0.0, 0.0], [0.25, 0.5]])
    np.testing.assert_array_equal(trace.spikes, [[0, 0], [1, 1], [0, 0]])
    constant = membrane_trace(np.array([[1.5]]), neuron, time_steps=3)
    np.testing.assert_array_equal(constant.before, [[0.75], [1.125], [0.75]])
    np.testing.assert_array_equal(constant.current, [[1.5], [1.5], [1.5]])


def test_errors(model: SpikeBERT) -> None:
    with pytest.raises(DataError, match=r"recording: expected a sentence.*keep=True"):
        Recorder().recording()
    with pytest.raises(DataError, match=r"layer: expected one of blocks.0.attention.q.*got 'mlp'"):
        record_sentence(model, np.arange(3)).trace("mlp", 0, [0])
