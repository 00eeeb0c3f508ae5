"""A BERT teacher that ONNX Runtime computes, our own export or somebody else's."""

import json
import platform
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from minispike.backend import Array, to_numpy
from minispike.distill.teacher import TeacherOutput
from minispike.errors import ShapeError, TeacherError, problem
from minispike.extras import extra
from minispike.models.onnx_export import LABELS_KEY
from teachers.bert_shape import find_shape
from teachers.onnx_file import digest, first_line, load_model, serialised
from teachers.onnx_session import Provider, open_session
from teachers.ports import INPUTS, LOGITS, Axes, adopt, checked_inputs, no_classifier, output_axes
from teachers.surgery import find_embeddings, hidden_state_names


class OnnxTeacher:
    """A BERT in an ONNX file, frozen.

    The model needs the inputs ``input_ids`` and ``attention_mask`` and may have ``token_type_ids``, all
    ``[batch, length]`` with both axes free. Hidden states are its outputs ``hidden_states.0`` to
    ``hidden_states.N``, logits its output ``logits`` ``[batch, labels]``. What it lacks of these, or calls
    otherwise, `teachers.ports.adopt` finds.

    Args:
        path: the ONNX file, with its external data beside it if it has any.
        threads: threads for each operation; None or 0 leaves the choice to ONNX Runtime (one for each core).
        provider: what computes, ``"cpu"`` (default) or ``"cuda"``, for which ``onnxruntime-gpu`` must be installed.
            Results are arrays on the host all the same.
        layers: hidden states that a call returns when it names none; None means all. 0 are the embeddings,
            ``num_layers`` is the last layer.

    Raises:
        TeacherError: no such file, not an ONNX model, one that is no such BERT, an unknown layer, or
            ``onnxruntime`` or ``onnx`` is not installed.
        BackendError: ONNX Runtime lacks the provider, or cannot start it.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from minispike.models.bert import Bert, BertConfig
        >>> from teachers.onnx_teacher import OnnxTeacher
        >>> sizes = {"hidden_size": 8, "num_hidden_layers": 2, "num_attention_heads": 2, "num_labels": 2}
        >>> bert = Bert(BertConfig(vocab_size=10, **sizes), np.random.default_rng(0))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     bert.to_onnx(f"{folder}/bert.onnx", label_names=("no", "yes"))
        ...     teacher = OnnxTeacher(f"{folder}/bert.onnx", threads=1)
        >>> teacher.num_layers, teacher.hidden_size, teacher.vocab_size, teacher.label_names
        (2, 8, 10, ('no', 'yes'))
        >>> ids = np.array([[2, 5, 3]])
        >>> output = teacher(ids, np.ones_like(ids), layers=(2,))  # as minispike computes it:
        >>> np.allclose(output.logits, bert(ids).logits.numpy(), atol=1e-5), output.hidden_states[0].shape
        (True, (1, 3, 8))
    """

    def __init__(
        self,
        path: str | Path,
        threads: int | None = None,
        provider: Provider = "cpu",
        layers: Sequence[int] | None = None,
    ) -> None:
        self.path, self.provider = Path(path), provider
        model = load_model(self.path)
        adopted = adopt(model, self.path)
        self._words, self._positions = find_embeddings(adopted.graph)
        self._label_names = _label_names({entry.key: entry.value for entry in model.metadata_props})
        # A model that is used as it is goes by its path: it may be larger than one message of 2 GiB.
        source = str(self.path) if adopted is model else serialised(self.path, adopted)
        self._session = open_session(self.path, source, threads, provider)
        self._inputs = checked_inputs(self.path, self._session)
        outputs = {output.name: output.shape for output in self._session.get_outputs()}
        self._states = hidden_state_names(outputs)
        self._has_logits = len(outputs.get(LOGITS, ())) == 2  # three axes: a score for each word, no classifier
        self._hidden_size, self._num_labels = self._sizes(outputs)
        self._outputs = output_axes(model)
        self._shape = find_shape(adopted.graph, self._hidden_size, self.num_layers)
        self.layers = self._checked_layers(layers, tuple(range(len(self._states))))

    @property
    def num_layers(self) -> int:
        """Number of layers N; there are N + 1 hidden states."""
        return len(self._states) - 1

    @property
    def hidden_size(self) -> int:
        """Width D of the hidden states."""
        return self._hidden_size

    @property
    def num_labels(self) -> int:
        """Number of classes C of the logits, 0 if there are no logits."""
        return self._num_labels

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the logits; none if the file has none, as those of others."""
        return self._label_names if len(self._label_names) == self.num_labels else ()

    @property
    def vocab_size(self) -> int:
        """Number of words V in the table of word embeddings."""
        return int(self._words.shape[0])

    @property
    def word_embeddings(self) -> NDArray[np.float32]:
        """The table of word embeddings ``[V, D]``."""
        return self._words

    @property
    def position_embeddings(self) -> NDArray[np.float32] | None:
        """The table of position embeddings ``[P, D]``, None if none can be told for certain."""
        return self._positions

    @property
    def outputs(self) -> Mapping[str, Axes]:
        """The outputs of the file itself, by its own names, with their axes."""
        return self._outputs

    @property
    def shape(self) -> dict[str, int] | None:
        """Sizes by the names of `minispike.models.bert.BertConfig`, None if the graph does not tell all of them."""
        known = {"vocab_size": self.vocab_size, "num_labels": self.num_labels}
        return None if self._shape is None else self._shape | known

    @cached_property
    def fingerprint(self) -> str:
        """Of the model's files, the provider, the version of ONNX Runtime and the processor, for which it chooses
        its kernels: all of them decide on last digits. So does a graphics card, which is not known here: with the
        provider ``"cuda"``, machines that differ in it alone need caches of their own.
        """
        return f"{digest(self.path)} {self.provider} {extra('onnxruntime').__version__} {_processor()}"

    @property
    def group_size(self) -> int:
        """Sentences of one length that may share a batch without any effect on a sentence's numbers.

        On the CPU any number may: a row of a product of matrices does not depend on how many rows there are,
        which the tests hold it to. CUDA's libraries choose their way of summing by the number of rows.
        """
        return 64 if self.provider == "cpu" else 1

    def __call__(
        self,
        input_ids: Array,
        mask: Array,
        segment_ids: Array | None = None,
        layers: Sequence[int] | None = None,
        *,
        logits: bool | None = None,
    ) -> TeacherOutput:
        """Compute a batch. The whole model runs each time; what is not asked for is not copied out.

        Args:
            input_ids: whole numbers ``[B, L]``; this and the next two are arrays of either backend.
            mask: ``[B, L]``, true for tokens and false for padding.
            segment_ids: ``[B, L]``, 0 and 1 for the first and second of a pair; None means all 0. A model
                without segments ignores them.
            layers: hidden states to return, by default those the teacher was made with.
            logits: True asks for them, False leaves them out, None returns them if the teacher has them.

        Returns:
            Hidden states, one ``[B, L, D]`` for each of the layers, and logits ``[B, C]`` or None: float32, on the
            host.

        Raises:
            TeacherError: an id beyond the vocabulary, more tokens than positions, an unknown layer, logits
                asked of a teacher without a classifier, or whatever else ONNX Runtime refuses.
            ShapeError: arrays that are not all ``[B, L]``.
        """
        input_ids, mask = to_numpy(input_ids), to_numpy(mask)
        segment_ids = None if segment_ids is None else to_numpy(segment_ids)
        chosen = self._checked_layers(layers, self.layers)
        if logits and not self._has_logits:
            got, hint = no_classifier(self.outputs), "a teacher fine-tuned on the task and exported with its classifier"
            raise TeacherError(problem(f"logits of {self.path}", expected="an output", got=got, hint=hint))
        self._check_ids(input_ids, mask, segment_ids)
        names = [self._states[i] for i in chosen]
        with_logits = self._has_logits and logits is not False
        if with_logits:
            names.append(LOGITS)
        arrays = self._run(names, input_ids, mask, segment_ids)
        return TeacherOutput(tuple(arrays[: len(chosen)]), arrays[-1] if with_logits else None)

    def _run(
        self,
        names: Sequence[str],
        input_ids: NDArray[Any],
        mask: NDArray[Any],
        segment_ids: NDArray[Any] | None,
    ) -> list[NDArray[np.float32]]:
        if not names:  # which ONNX Runtime would take for all
            return []
        segments = np.zeros_like(input_ids) if segment_ids is None else segment_ids
        given = dict(zip(INPUTS, (input_ids, mask, segments), strict=True))
        feeds = {name: np.ascontiguousarray(given[name], dtype=dtype) for name, dtype in self._inputs.items()}
        try:
            arrays = self._session.run(list(names), feeds)
        except Exception as error:  # each of ONNX Runtime's errors is a class of its own
            shape = "x".join(map(str, input_ids.shape))
            raise TeacherError(
                problem(
                    str(self.path),
                    expected="a model that runs",
                    got=f"{first_line(error)} on a batch of {shape}",
                    hint="a shorter batch or another export",
                )
            ) from error
        return [np.asarray(array, dtype=np.float32) for array in arrays]

    def _sizes(self, outputs: Mapping[str, Sequence[Any]]) -> tuple[int, int]:
        """Width and number of labels, as declared; where the file leaves them open, as a first run shows."""
        names = [self._states[-1], *([LOGITS] if self._has_logits else [])]
        sizes: list[Any] = [outputs[name][-1] if outputs[name] else None for name in names]
        if not all(isinstance(size, int) for size in sizes):
            one = np.ones((1, 1), dtype=np.int64)
            sizes = [array.shape[-1] for array in self._run(names, one, one, one - 1)]
        return sizes[0], sizes[1] if self._has_logits else 0

    def _checked_layers(self, layers: Sequence[int] | None, default: tuple[int, ...]) -> tuple[int, ...]:
        if layers is None:
            return default
        wrong = [layer for layer in layers if not 0 <= layer <= self.num_layers]
        if wrong:
            raise TeacherError(
                problem(
                    "layers",
                    expected=f"0 (embeddings) to {self.num_layers} (last layer)",
                    got=", ".join(map(str, wrong)),
                    hint=f"layers=({self.num_layers},)",
                )
            )
        return tuple(int(layer) for layer in layers)

    def _check_ids(self, input_ids: NDArray[Any], mask: NDArray[Any], segment_ids: NDArray[Any] | None) -> None:
        shapes = [array.shape for array in (input_ids, mask, segment_ids) if array is not None]
        if input_ids.ndim != 2 or len(set(shapes)) > 1 or not np.issubdtype(input_ids.dtype, np.integer):
            got = f"{input_ids.dtype} ids and shapes " + ", ".join(map(str, shapes))
            hint = "collate(encoded, index)"
            raise ShapeError(problem("batch", expected="whole numbers, all [B, L]", got=got, hint=hint))
        if input_ids.size and (input_ids.min() < 0 or input_ids.max() >= self.vocab_size):
            worst = input_ids.min() if input_ids.min() < 0 else input_ids.max()
            raise TeacherError(
                problem(
                    "input_ids",
                    expected=f"ids below the teacher's vocabulary of {self.vocab_size}",
                    got=str(worst),
                    hint="the tokenizer the teacher was trained with",
                )
            )
        if self._positions is not None and input_ids.shape[1] > len(self._positions):
            raise TeacherError(
                problem(
                    "input_ids",
                    expected=f"at most {len(self._positions)} tokens, the teacher's positions",
                    got=str(input_ids.shape[1]),
                    hint=f"max_length={len(self._positions)}",
                )
            )


def _label_names(notes: Mapping[str, str]) -> tuple[str, ...]:
    """The names that `minispike.models.onnx_export` has left in a file's metadata; none if there are none."""
    try:
        names = json.loads(notes.get(LABELS_KEY, "[]"))
    except ValueError:  # somebody else's entry of the same name
        return ()
    return tuple(map(str, names)) if isinstance(names, list) else ()


def _processor(source: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's kind, name and, on Linux, features, each as far as the system tells."""
    parts = [platform.machine(), platform.processor()]
    try:
        lines = source.read_text(encoding="utf-8", errors="replace").partition("\n\n")[0].splitlines()
    except OSError:  # not on Linux
        lines = []
    told = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts += [told[name] for name in ("model name", "flags", "Features") if name in told]
    return " ".join(part for part in parts if part)
