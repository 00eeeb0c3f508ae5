"""What goes on inside a SpikeBERT: firing rates over a data set, spikes and potentials of one sentence.

    recorder = Recorder()
    for batch in batches:
        model(batch.input_ids, batch.mask, features=False, observe=recorder.batch(batch.mask))
    recorder.firing_rates()["blocks.0.attention.q"]

A model tells its observer three kinds of arrays. ``<layer>`` are the spikes of a layer ``[T, B, L, N]``,
``<layer>.current`` is what its neurons receive, and ``<layer>.input`` what its weights meet. The last two are
``[1, B, L, N]`` where they are the same at every time step. ``embedding`` are the input spikes ``[1, B, L,
D]``.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from minispike.backend import Array, array_module, asarray, to_numpy
from minispike.errors import DataError, ShapeError, problem
from minispike.models.spikebert import SpikeBERT
from minispike.snn.neurons import LIFNeuron, lif_composed
from minispike.tensor import Tensor, no_grad

__all__ = ["MembraneTrace", "Recorder", "Recording", "layer_neurons", "membrane_trace", "record_sentence"]

_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True, eq=False)
class MembraneTrace:
    """What N neurons do over T time steps; potentials in the unit of the threshold.

    Attributes:
        current: ``[T, N]`` input.
        before: ``[T, N]`` potential after the charge, before the reset.
        after: ``[T, N]`` potential after the reset.
        spikes: ``[T, N]``, 0 or 1.
        neuron: the constants of the neurons.

    Example:
        >>> import numpy as np
        >>> from minispike.record import membrane_trace
        >>> from minispike.snn.neurons import LIFNeuron
        >>> trace = membrane_trace(np.array([[3.0], [0.0]]), LIFNeuron(tau=2.0, threshold=1.0, reset=None))
        >>> trace.before[:, 0].tolist(), trace.after[:, 0].tolist()  # a soft reset takes the threshold off
        ([1.5, 0.25], [0.5, 0.25])
    """

    current: _Floats
    before: _Floats
    after: _Floats
    spikes: _Floats
    neuron: LIFNeuron


def membrane_trace(current: Array, neuron: LIFNeuron, time_steps: int | None = None) -> MembraneTrace:
    """Recompute the potentials of neurons from their input, starting at rest.

    A forward pass keeps no potentials. The input, and `lif_composed` in the input's own precision, bring them
    back.

    Args:
        current: ``[T, N]``, or ``[1, N]`` for one that stays the same.
        neuron: the constants.
        time_steps: T, where ``current`` is not to say it; None, the default: its length.

    Raises:
        ShapeError: ``current`` has another number of steps than ``time_steps``.

    Example:
        >>> import numpy as np
        >>> from minispike.record import membrane_trace
        >>> from minispike.snn.neurons import LIFNeuron
        >>> trace = membrane_trace(np.array([[1.5]]), LIFNeuron(tau=2.0, threshold=1.0), time_steps=3)
        >>> trace.before[:, 0].tolist()  # half way to 1.5, and half of the rest: that reaches the threshold
        [0.75, 1.125, 0.75]
        >>> trace.spikes[:, 0].tolist(), trace.after[:, 0].tolist()
        ([0.0, 1.0, 0.0], [0.75, 0.0, 0.75])
    """
    with no_grad():
        spikes, before, after = lif_composed(Tensor(current), neuron, time_steps=time_steps)
    steps = len(spikes)
    seen = np.broadcast_to(to_numpy(current), (steps, *current.shape[1:]))
    return MembraneTrace(seen, before.numpy(), after.numpy(), spikes.numpy(), neuron)


@dataclass(frozen=True, eq=False)
class Recording:
    """One sentence of L tokens on its way through the network, padding cut off.

    Attributes:
        spikes: by layer ``[T, L, N]``; ``embedding``, the input, is ``[1, L, D]``.
        currents: by layer ``[T, L, N]`` or ``[1, L, N]``, the input of the neurons.
        time_steps: T.
        neurons: by layer, the constants of its neurons; may be empty.

    Example:
        >>> import numpy as np
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> from minispike.record import record_sentence
        >>> model = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=8, depth=1, heads=2, time_steps=3, num_labels=2))
        >>> recording = record_sentence(model, np.array([2, 5, 6, 3]))
        >>> recording.spikes["blocks.0.attention.q"].shape  # [T, L, N]
        (3, 4, 8)
        >>> recording.trace("blocks.0.attention.q", token=1, cells=[0, 5]).before.shape  # [T, cells]
        (3, 2)
    """

    spikes: Mapping[str, _Floats]
    currents: Mapping[str, _Floats]
    time_steps: int
    neurons: Mapping[str, LIFNeuron] = field(default_factory=dict)

    def trace(self, layer: str, token: int, cells: Sequence[int]) -> MembraneTrace:
        """The membrane potentials of some neurons of a layer at one token.

        Args:
            layer: such as ``blocks.0.attention.q``.
            token: position in the sentence.
            cells: numbers of the neurons.

        Raises:
            DataError: the layer is not among ``neurons``.
        """
        if layer not in self.neurons:
            expected = "one of " + (", ".join(self.neurons) or "none")
            raise DataError(problem("layer", expected=expected, got=repr(layer), hint="record_sentence()"))
        current = self.currents[layer][:, token, list(cells)]  # [T or 1, N]
        return membrane_trace(current, self.neurons[layer], self.time_steps)


class Recorder:
    """An observer of `SpikeBERT`: sums over as many batches as one likes, arrays of one sentence if asked to.

    Only tokens count, not padding: tell `batch` the mask before each forward pass.

    Args:
        keep: keep the spikes and currents of the first sentence of the first batch for `recording`; default false.

    Example:
        >>> import numpy as np
        >>> from minispike.record import Recorder
        >>> recorder = Recorder()
        >>> spikes = np.zeros((2, 1, 3, 4))  # [T, B, L, N]
        >>> spikes[0] = 1.0  # at the first of two time steps every neuron fires
        >>> recorder.batch(mask=np.array([[True, True, False]]))("layer", spikes)
        >>> recorder.counts(), recorder.elements(), recorder.firing_rates()  # the third token is padding
        ({'layer': 8.0}, {'layer': 16}, {'layer': 0.5})
    """

    def __init__(self, keep: bool = False) -> None:
        self._keep = keep
        self._mask: Array | None = None
        self._counts: defaultdict[str, float] = defaultdict(float)
        self._elements: defaultdict[str, int] = defaultdict(int)
        self._kept: dict[str, _Floats] = {}

    def batch(self, mask: Array | None) -> Self:
        """Announce the next batch, and return the recorder itself.

        Args:
            mask: booleans ``[B, L]``, True for tokens; None: all are.
        """
        self._mask = mask
        return self

    def __call__(self, name: str, array: Array) -> None:
        """Take note of an array ``[T or 1, B, L, N]``; the network calls this.

        Raises:
            ShapeError: it does not fit the mask.
        """
        mask = self._mask
        if mask is not None and mask.shape != array.shape[1:3]:
            expected = f"[T, {mask.shape[0]}, {mask.shape[1]}, N]"
            hint = "recorder.batch(mask) for each batch"
            raise ShapeError(problem(name, expected=expected, got=f"shape {array.shape}", hint=hint))
        tokens = array.shape[1] * array.shape[2] if mask is None else int(mask.sum())
        self._elements[name] += array.shape[0] * tokens * array.shape[3]
        if not name.endswith(".current"):
            by_token = array.sum(axis=(0, 3), dtype=np.float64)  # [B, L]
            valid = by_token if mask is None else by_token[asarray(mask, module=array_module(array))]
            self._counts[name] += float(valid.sum())
        if self._keep and name not in self._kept and not name.endswith(".input"):
            first = array[:, 0] if mask is None else array[:, 0, asarray(mask[0], module=array_module(array))]
            self._kept[name] = to_numpy(first.copy())  # [T or 1, L, N]

    def counts(self) -> dict[str, float]:
        """The sum of every array of spikes or inputs over time steps and tokens: spikes, where it is binary.

        An input of the first block is there once for all time steps, and is summed once.
        """
        return dict(self._counts)

    def elements(self) -> dict[str, int]:
        """The size of every array summed over batches, without padding: time steps x tokens x neurons."""
        return dict(self._elements)

    def firing_rates(self) -> dict[str, float]:
        """Spikes for each neuron, token and time step, 0 to 1, by layer in the order of the network.

        ``embedding`` is the share of ones in the input. Empty before the first batch.
        """
        return {
            name: count / self._elements[name]
            for name, count in self._counts.items()
            if not name.endswith(".input") and self._elements[name]
        }

    def recording(self, neurons: Mapping[str, LIFNeuron] | None = None) -> Recording:
        """The sentence that was kept.

        Args:
            neurons: the constants by layer, from `layer_neurons`; only `Recording.trace` needs them.

        Raises:
            DataError: nothing was kept.
        """
        if not self._kept:
            hint = "Recorder(keep=True) and a forward pass"
            raise DataError(problem("recording", expected="a sentence", got="none", hint=hint))
        ending = ".current"
        spikes = {n: a for n, a in self._kept.items() if not n.endswith(ending)}
        currents = {n.removesuffix(ending): a for n, a in self._kept.items() if n.endswith(ending)}
        return Recording(spikes, currents, max(len(a) for a in spikes.values()), dict(neurons or {}))


def layer_neurons(model: SpikeBERT) -> dict[str, LIFNeuron]:
    """The constants of the neurons of every layer, by the name that an observer is told.

    Example:
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> from minispike.record import layer_neurons
        >>> model = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=8, depth=1, heads=2, num_labels=2))
        >>> for name, neuron in layer_neurons(model).items():
        ...     print(name, neuron.threshold)
        blocks.0.attention.q 1.0
        blocks.0.attention.k 1.0
        blocks.0.attention.v 1.0
        blocks.0.attention.mix 0.5
        blocks.0.attention.output 1.0
        blocks.0.mlp.hidden 1.0
        blocks.0.mlp.output 1.0
    """
    found: dict[str, LIFNeuron] = {}
    for i, block in enumerate(model.blocks):
        attention, mlp = block.attention, block.mlp
        for part in ("q", "k", "v"):
            found[f"blocks.{i}.attention.{part}"] = getattr(attention, part).neuron
        found[f"blocks.{i}.attention.mix"] = attention.neuron
        found[f"blocks.{i}.attention.output"] = attention.output.neuron
        found[f"blocks.{i}.mlp.hidden"] = mlp.hidden.neuron
        found[f"blocks.{i}.mlp.output"] = mlp.output.neuron
    return found


def record_sentence(model: SpikeBERT, input_ids: Array) -> Recording:
    """Run one sentence through the network and keep every spike and every current.

    Args:
        model: the network.
        input_ids: integers ``[L]``, without padding.

    Returns:
        The sentence, with what `Recording.trace` needs.

    Raises:
        ShapeError: the ids are no integers ``[L]``, or more than the network reads, or one is not in its vocabulary.

    Example:
        >>> import numpy as np
        >>> from minispike.models.spikebert import SpikeBERT
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> from minispike.record import record_sentence
        >>> model = SpikeBERT(SpikeBERTConfig(vocab_size=10, dim=8, depth=1, heads=2, time_steps=3, num_labels=2))
        >>> recording = record_sentence(model, np.array([2, 5, 6, 3]))
        >>> recording.spikes["embedding"].shape, recording.time_steps  # the input is there once for all time steps
        ((1, 4, 8), 3)
    """
    recorder = Recorder(keep=True)
    with no_grad():
        model(to_numpy(input_ids)[None], features=False, observe=recorder.batch(None))
    return recorder.recording(layer_neurons(model))
