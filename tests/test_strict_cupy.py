"""CuPy's arrays, on a stand-in that is as strict as CuPy: whatever is computed stays where the weights are.

Nothing is fused here (the kernels of a GPU have tests of their own), and the numbers are those of NumPy.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import strict_cupy
from helpers import computed, gradient, leaf
from strict_cupy import CuPy, installed, ndarray
from tiny import BRIEF, distill

import minispike
from minispike import backend, check_grads, ops
from minispike.backend import Array
from minispike.data.batches import Batch
from minispike.data.tokenizer import Encoded
from minispike.distill.losses import LossWeights
from minispike.distill.stages import Distillation, Source, student_logits
from minispike.models.bert import Bert, BertConfig, MaskedLanguageModel
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.attention import softmax_attention, softmax_attention_composed
from minispike.nn.functional import embedding, embedding_composed
from minispike.nn.layers import dropout
from minispike.nn.losses import cross_entropy, cross_entropy_composed, kl_divergence, masked_mse
from minispike.nn.optim import AdamW, clip_gradients
from minispike.record import record_sentence
from minispike.snn.attention import spiking_attention, spiking_attention_composed
from minispike.snn.neurons import LIFNeuron, leaky_integrator, lif_with_state
from minispike.snn.shift import shift_tokens, shift_tokens_composed
from minispike.tensor import Tensor
from teachers.onnx_teacher import OnnxTeacher


@pytest.fixture(autouse=True)
def cupy(monkeypatch: pytest.MonkeyPatch) -> CuPy:
    """The stand-in in CuPy's place; the backend in use is NumPy."""
    return installed(monkeypatch)


def on_cupy(make: Callable[[], Any]) -> Any:
    """What ``make`` makes there, while NumPy is in use again."""
    with backend.use("cupy"):
        return make()


def test_new_arrays_lie_where_their_neighbour_does(cupy: CuPy) -> None:
    beside = cupy.asarray(np.ones(2, dtype=np.float32))
    assert isinstance(made := backend.empty((2, 3), beside), ndarray)
    assert (made.shape, made.dtype) == ((2, 3), beside.dtype)


# ---- The stand-in


REFUSED: dict[str, tuple[type[Exception], Callable[[Any, Any, Any], Any]]] = {
    "conversion": (TypeError, lambda xp, here, there: np.asarray(there)),
    "a list of its arrays": (TypeError, lambda xp, here, there: np.array([there, there])),
    # NumPy's arrays
    "NumPy's array on the right": (TypeError, lambda xp, here, there: there + here),
    "NumPy's array on the left": (TypeError, lambda xp, here, there: here + there),
    "beside a number": (TypeError, lambda xp, here, there: there.sum() * here),
    "in a comparison": (TypeError, lambda xp, here, there: there == here),
    "in place": (TypeError, lambda xp, here, there: there.__iadd__(here)),
    "in place, on NumPy": (TypeError, lambda xp, here, there: here.__iadd__(there)),
    "in a product": (TypeError, lambda xp, here, there: there @ here.T),
    "in a function": (TypeError, lambda xp, here, there: xp.where(here > 0, there, 0.0)),
    "in a list": (TypeError, lambda xp, here, there: xp.concatenate([there, here])),
    "as an index": (TypeError, lambda xp, here, there: there[np.array([0])]),
    "as one of two": (TypeError, lambda xp, here, there: there[0, np.array([0])]),
    "as an index of NumPy's": (TypeError, lambda xp, here, there: np.ones(3)[there[0]]),
    "as an index of add.at": (TypeError, lambda xp, here, there: xp.add.at(there, np.array([0]), there[:1])),
    "as what is added": (TypeError, lambda xp, here, there: xp.add.at(there, xp.asarray([0]), here[:1])),
    "as what is written": (TypeError, lambda xp, here, there: there.__setitem__(0, here[0])),
    "as where it is written": (TypeError, lambda xp, here, there: np.exp(there, out=here)),
    "as counts": (TypeError, lambda xp, here, there: xp.repeat(there, np.array([1, 2]), axis=0)),
    "its own as counts": (TypeError, lambda xp, here, there: xp.repeat(there, xp.asarray([1, 2]), axis=0)),
    "a number that decides the type": (TypeError, lambda xp, here, there: there.astype("f4") * np.float64(2.0)),
    "a whole number that does": (TypeError, lambda xp, here, there: there.astype("f4") * np.int64(3)),
    "one in a function": (TypeError, lambda xp, here, there: xp.where(there > 0, there.astype("f4"), np.float64(0))),
    "one as a bound": (TypeError, lambda xp, here, there: xp.clip(there.astype("f4"), np.float64(0.0), 1.0)),
    "one as a method's": (TypeError, lambda xp, here, there: there.astype("f4").clip(np.float64(0.0), 1.0)),
    "as a method's counts": (TypeError, lambda xp, here, there: there.repeat(np.array([1, 2]), axis=0)),
    "a list that is taken": (TypeError, lambda xp, here, there: there.take([0, 1])),
    # lists and tuples
    "a list as an operand": (TypeError, lambda xp, here, there: there * [1.0, 2.0, 3.0]),
    "a tuple as an operand": (TypeError, lambda xp, here, there: there * (1.0, 2.0, 3.0)),
    "on the left": (TypeError, lambda xp, here, there: (1.0, 2.0, 3.0) - there),
    "a list as an argument": (TypeError, lambda xp, here, there: xp.maximum(there, [1.0, 2.0, 3.0])),
    "a list in a product": (TypeError, lambda xp, here, there: there @ [[1.0], [2.0], [3.0]]),
    "a list that is written": (TypeError, lambda xp, here, there: there.__setitem__(0, [1.0, 2.0, 3.0])),
    "a tuple that is written": (TypeError, lambda xp, here, there: there.__setitem__(0, (1.0, 2.0, 3.0))),
    "a list as an index": (TypeError, lambda xp, here, there: there[[0]]),
    "a list as a condition": (TypeError, lambda xp, here, there: xp.where([True, False, True], there, 0.0)),
    "a number as a condition": (TypeError, lambda xp, here, there: xp.where(True, there, 0.0)),
    "a list beside a condition": (TypeError, lambda xp, here, there: xp.where(there > 0, [1.0, 2.0, 3.0], there)),
    "the sum of a list": (TypeError, lambda xp, here, there: xp.sum([1.0, 2.0])),
    "a stack of numbers": (TypeError, lambda xp, here, there: xp.stack([1.0, 2.0])),
    "a list made longer": (TypeError, lambda xp, here, there: xp.broadcast_to([1.0, 2.0], (3, 2))),
    # elements
    "objects": (ValueError, lambda xp, here, there: xp.array([None, 1])),
    "objects by their type": (ValueError, lambda xp, here, there: there.astype(object)),
    "words": (ValueError, lambda xp, here, there: xp.asarray(["a"])),
    # arguments
    "where= of a sum": (TypeError, lambda xp, here, there: there.sum(where=there > 0)),
    "initial= of a maximum": (TypeError, lambda xp, here, there: there.max(initial=0.0)),
    "without its name": (TypeError, lambda xp, here, there: there.max(0, None, False, -5.0)),
    "where= of a function": (TypeError, lambda xp, here, there: xp.exp(there, where=there > 0)),
    "out= of einsum": (TypeError, lambda xp, here, there: xp.einsum("ij->ij", there, out=there)),
    "casting= of a type": (TypeError, lambda xp, here, there: there.astype("f4", casting="same_kind")),
    # what CuPy has not
    "a function of NumPy's": (TypeError, lambda xp, here, there: np.unique(there)),
    "another one": (TypeError, lambda xp, here, there: np.concatenate([there, there])),
    "a reduction of NumPy's": (TypeError, lambda xp, here, there: np.add.reduce(there)),
    "multiply.at": (AttributeError, lambda xp, here, there: xp.multiply.at),
    "a function that it lacks": (AttributeError, lambda xp, here, there: xp.vectorize),
    "a method that it lacks": (AttributeError, lambda xp, here, there: there.setflags(write=False)),
    # what CuPy has, and the stand-in leaves out on purpose
    "random numbers, which the host draws": (AttributeError, lambda xp, here, there: xp.random),
    "reduceat": (AttributeError, lambda xp, here, there: xp.add.reduceat),
    "a shape that is assigned": (AttributeError, lambda xp, here, there: setattr(there, "shape", (3, 2))),
}


@pytest.mark.parametrize("what", REFUSED)
def test_the_stand_in_refuses(cupy: CuPy, what: str) -> None:
    here, there = np.ones((2, 3)), cupy.asarray(np.ones((2, 3)))
    expected, job = REFUSED[what]
    with pytest.raises(expected):
        job(cupy, here, there)
    np.testing.assert_array_equal(there.get(), here)


def test_what_the_stand_in_returns_is_its_own(cupy: CuPy) -> None:
    there = cupy.asarray(np.ones((2, 3)))
    assert isinstance(there, ndarray) and backend.array_module(there) is cupy
    for result in (there.sum(), there[0, 0], there[0], 2.0 * there, there @ there.T, cupy.exp(there), there.T, -there):
        assert isinstance(result, ndarray)
    assert type(there.get()) is np.ndarray and type(there.sum().item()) is float


# ---- Ops: constants, masks and labels go to the tensors

FLAGS = np.array([[True, True, False], [True, False, False]])  # [B, L]
X = np.random.default_rng(0).normal(size=(2, 3, 4))  # [B, L, D]
STEPS = np.random.default_rng(1).integers(0, 2, size=(2, 2, 3, 4)).astype(np.float64)  # [T, B, L, D]

OPS: dict[str, tuple[Any, Callable[[Tensor], Tensor]]] = {
    "number": (X, lambda x: 1.0 - 2.0 * x / 3.0 + x**2),
    "list": (X, lambda x: ops.add([1.0, 2.0, 3.0, 4.0], x)),
    "array on either side": (X, lambda x: np.ones(4) - x * np.full((3, 1), 2.0)),
    "matrix": (X, lambda x: x @ np.ones((4, 2))),
    "mean, max, softmax": (X, lambda x: x.mean(1) + x.max(1) + ops.softmax(x).sum(1) + ops.log_softmax(x).mean(1)),
    "nothing to shift": (np.zeros((0, 4)), lambda x: ops.softmax(x, 1)),
    "gelu, sigmoid, clip": (X, lambda x: ops.gelu(x) + ops.sigmoid(x) + ops.clip(x, -1.0, 1.0) + abs(x)),
    "maximum": (X, lambda x: ops.maximum(x, 0.1) + ops.minimum(x, 0.1) + ops.minimum(x, X[0])),
    "where": (X, lambda x: ops.where(FLAGS[..., None], x, 0.0) + ops.where(x > 0, x * x, x)),
    "where of a list": (X, lambda x: ops.where([True, False, True, False], x, 1.0)),
    "joined": (X, lambda x: ops.concatenate([x, X, np.zeros((2, 3, 4))])),
    "einsum": (X, lambda x: ops.einsum("bld,dh->blh", x, np.ones((4, 2)))),
    "key": (X, lambda x: x[FLAGS] * x[[0, 1, 1], np.array([0, 0, 2])] + x[..., np.int64(1)].sum()),
    "taken": (X, lambda x: ops.take(x, np.array([2, 0, 0]), 1) + x[:, [1, 1, 2]]),
    "embedding": (X[0], lambda x: embedding([[0, 2], [2, 2]], x) + embedding_composed(np.array([[0, 2], [2, 2]]), x)),
    "cross entropy": (X[0], lambda x: cross_entropy(x, np.array([0, 3, 1])) + cross_entropy_composed(x, [0, 3, 1])),
    "masked mse": (X, lambda x: masked_mse(x, np.ones((2, 3, 4)), FLAGS) + masked_mse(x, X[::-1])),
    "divergence": (X[0], lambda x: kl_divergence(X[1], x, 2.0)),
    "dropout": (X, lambda x: dropout(x, 0.5, np.random.default_rng(0))),
    "attention": (X, lambda x: softmax_attention(x, x, x, 2, FLAGS) + softmax_attention_composed(x, x, x, 2, FLAGS)),
    "spiking attention": (
        STEPS,
        lambda x: (
            spiking_attention(x, x, x, 2, 0.125, FLAGS[..., None].astype(float))
            + spiking_attention_composed(x, x, x, 2, 0.125, FLAGS[..., None].astype(float))
        ),
    ),
    "shift": (
        STEPS,
        lambda x: (
            shift_tokens(x, 1, FLAGS[..., None].astype(float))
            + shift_tokens_composed(x, 1, FLAGS[..., None].astype(float))
        ),
    ),
    "neurons": (X, lambda x: lif_with_state(x, LIFNeuron())[0] + leaky_integrator(x)[0]),
}


@pytest.mark.parametrize("name", OPS)
def test_an_op_runs_where_its_tensor_is(name: str) -> None:
    value, op = OPS[name]
    here, there = leaf(value), on_cupy(lambda: leaf(value))
    outs = []
    for x in (here, there):
        out = op(x)
        out.backward(np.ones(out.shape))
        outs.append(out)
    assert isinstance(outs[1].array, ndarray) and there.grad is not None and isinstance(there.grad.array, ndarray)
    np.testing.assert_array_equal(outs[1].numpy(), outs[0].numpy())
    np.testing.assert_allclose(gradient(there), gradient(here), rtol=0, atol=1e-14)
    with backend.use("cupy"):  # and the other way round: this backend is in use, and the tensor is on NumPy
        again = op(here)
        again.backward(np.ones(again.shape))
    assert type(again.array) is np.ndarray
    np.testing.assert_array_equal(again.numpy(), outs[0].numpy())


def test_what_lies_on_cupy_goes_to_a_tensor_of_numpys(cupy: CuPy) -> None:
    x = leaf(X)
    assert type((x + cupy.asarray(X)).array) is np.ndarray
    assert type(ops.where(cupy.asarray(X > 0), x, 0.0).array) is np.ndarray
    x.assign(cupy.asarray(X + 1))
    assert type(x.array) is np.ndarray
    there = on_cupy(lambda: leaf(X))
    for value in (X + 1, (X + 1).tolist(), x, cupy.asarray(X + 1)):
        there.assign(value)
        assert isinstance(there.array, ndarray)
        np.testing.assert_array_equal(there.numpy(), X + 1)


def test_comparisons_are_made_where_the_tensor_is() -> None:
    there = on_cupy(lambda: leaf(X))
    for flags in (there > 0, there == X, there <= X.tolist()):
        assert isinstance(flags, ndarray) and flags.dtype == bool
    assert bool((there == X).all())


def test_gradients_are_checked_where_the_tensor_is() -> None:
    x = on_cupy(lambda: leaf(X))
    assert check_grads(lambda a: (a * a + ops.tanh(a)).sum(), x, order=2).worst_error < 1e-6
    assert check_grads(lambda a: (a * 2.0).sum(), x, order=2).worst_error < 1e-6  # the second derivative is nothing


# ---- Models

IDS = np.array([[1, 2, 3, 4], [5, 6, 0, 0], [7, 8, 9, 0]])  # [B, L]
MASK = IDS > 0
LABELS = np.array([1, 0, 1])
SPIKING = SpikeBERTConfig(13, 8, 2, 2, 2, 2, max_length=6, feature_dim=6, embedding_dim=6, shift=0.25)
DENSE = BertConfig(13, 8, 2, 2, 16, 6, num_labels=2)


def spikebert() -> SpikeBERT:
    return SpikeBERT(SPIKING, np.random.default_rng(0))


def language_model() -> MaskedLanguageModel:
    rng = np.random.default_rng(0)
    return MaskedLanguageModel(Bert(DENSE, rng), rng)


def trained(model: Any, loss: Callable[[Any], Tensor]) -> dict[str, Any]:
    """The loss of two steps, the gradients of the last, the moments, and the weights after."""
    optimiser, found = AdamW(model.named_parameters()), {}
    for step in range(2):
        optimiser.zero_grad()
        value = loss(model)
        value.backward()
        clip_gradients(model.parameters(), 1.0)
        optimiser.step(0.01)
        found[f"loss.{step}"] = value.item()
    found |= {f"gradient.{n}": gradient(p) for n, p in model.named_parameters() if p.grad is not None}
    optimiser.load_state_dict(optimiser.state_dict())
    return found | optimiser.state_dict() | model.state_dict()


def agree(make: Callable[[], Any], loss: Callable[[Any], Tensor]) -> None:
    """A model learns on CuPy, while NumPy is in use, what it learns on NumPy."""
    model = on_cupy(make)
    found, expected = trained(model, loss), trained(make(), loss)
    assert all(isinstance(p.array, ndarray) for p in model.parameters())
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-4, atol=1e-6, err_msg=name)


def test_spikebert() -> None:
    def loss(model: SpikeBERT) -> Tensor:
        return cross_entropy(model(IDS, MASK).logits, LABELS) + model.projected_embedding().mean()

    agree(spikebert, loss)


def test_bert() -> None:
    def loss(model: Bert) -> Tensor:
        out = model(IDS.tolist(), MASK.astype(int), IDS % 2, np.random.default_rng(0))
        return cross_entropy(out.logits, LABELS)

    agree(lambda: Bert(DENSE, np.random.default_rng(0)), loss)


def test_masked_language_model() -> None:
    def loss(model: MaskedLanguageModel) -> Tensor:
        return cross_entropy(model(IDS, MASK, IDS % 3 == 1), IDS[IDS % 3 == 1])

    agree(language_model, loss)


@pytest.mark.parametrize("model_on_cupy", [False, True])
def test_a_language_model_is_told_on_cupy_what_to_predict(cupy: CuPy, model_on_cupy: bool) -> None:
    given = (IDS, MASK, IDS % 3 == 1)
    model = on_cupy(language_model) if model_on_cupy else language_model()
    found = model(*[cupy.asarray(a) for a in given])
    assert isinstance(found.array, ndarray) == model_on_cupy
    np.testing.assert_allclose(found.numpy(), language_model()(*given).numpy(), rtol=1e-6)


class View:
    """A teacher that says something about every sentence; ``place`` says where."""

    def __init__(self, place: Callable[[Any], Array]) -> None:
        self.place = place

    def hidden(self, batch: Batch) -> Sequence[Array]:
        return [self.place(np.full((*batch.mask.shape, 6), 0.5 * i, np.float32)) for i in range(2)]

    def logits(self, batch: Batch) -> Array:
        return self.place(np.stack([batch.index % 3, batch.index % 2], axis=1).astype(np.float32))

    def prefetch(self, batch: Batch) -> None:
        pass

    def close(self) -> None:
        pass


@pytest.mark.parametrize("teacher_on_cupy", [False, True])
def test_the_losses_of_stage_2(cupy: CuPy, teacher_on_cupy: bool) -> None:
    texts = Encoded(tuple(row[row > 0] for row in IDS), None, 0.0, 0.0)
    weights = LossWeights(features=0.3, embedding=0.1, logits=1.0, cross_entropy=0.1)

    def terms(student: SpikeBERT, view: View) -> dict[str, float]:
        sources = [Source(texts, LABELS, 2, view), Source(texts, None, 1, view)]
        target = np.ones((13, 6), np.float32)
        task = Distillation("stage 2", student, sources, weights, (0,), parts=2, embedding_target=target)
        total: dict[str, float] = {}
        for losses in computed(task, 0):
            losses["loss"].backward()
            for name, term in losses.items():
                total[name] = total.get(name, 0.0) + term.item()
        assert student_logits(student, texts).shape == (3, 2)
        return total | {f"gradient of {n}": abs(gradient(p)).sum() for n, p in student.named_parameters()}

    there = View(cupy.asarray if teacher_on_cupy else np.asarray)
    assert terms(on_cupy(spikebert), there) == pytest.approx(terms(spikebert(), View(np.asarray)), rel=1e-4, abs=1e-6)


def test_one_sentence_is_recorded(cupy: CuPy) -> None:
    expected = record_sentence(spikebert(), IDS[0])
    for ids in (IDS[0], cupy.asarray(IDS[0])):
        found = record_sentence(on_cupy(spikebert), ids)
        for name, spikes in expected.spikes.items():
            np.testing.assert_array_equal(found.spikes[name], spikes)


# ---- A run


@pytest.fixture
def run(tmp_path: Path, quick_report: None) -> Iterator[Path]:
    """The main job, tiny, with ``--backend cupy``."""
    for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
        pytest.importorskip(library)
    done = distill(tmp_path / "run", *BRIEF, flags=["--backend", "cupy"])
    assert done.code == 0, done.err
    assert backend.current() == "numpy"
    yield tmp_path / "run"


def test_a_run_and_what_is_asked_of_it_later(run: Path, cupy: CuPy) -> None:
    texts = ["a fine film .", "not good at all", "dull"]
    there, here = on_cupy(lambda: minispike.load(run)), minispike.load(run)
    assert isinstance(there.model.embedding.weight.array, ndarray)
    np.testing.assert_allclose(there.logits(texts), here.logits(texts), atol=1e-6)
    assert [p.label for p in there.predict(texts)] == [p.label for p in here.predict(texts)]
    assert there.firing_rates(texts) == pytest.approx(here.firing_rates(texts))
    assert there.energy(texts).student.total_mj == pytest.approx(here.energy(texts).student.total_mj)
    with backend.use("cupy"):  # the other way round
        np.testing.assert_allclose(here.logits(texts), there.logits(texts), atol=1e-6)
        assert here.firing_rates(texts) == pytest.approx(there.firing_rates(texts))
    teacher = OnnxTeacher(next((run / "teacher").glob("finetuned*.onnx")))
    for segments in (None, IDS % 2):
        given = [None if a is None else cupy.asarray(a) for a in (IDS, MASK, segments)]
        found, expected = teacher(*given, layers=(1,)), teacher(IDS, MASK, segments, layers=(1,))
        assert type(found.logits) is type(found.hidden_states[0]) is np.ndarray
        np.testing.assert_array_equal(found.logits, expected.logits)
        np.testing.assert_array_equal(found.hidden_states[0], expected.hidden_states[0])


def test_numpy_gets_no_view_of_what_lies_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    strict_cupy.installed(monkeypatch)
    with backend.use("cupy"):
        x = Tensor([1.0, 2.0])
    with pytest.raises(ValueError, match="without a copy"):
        x.__array__(copy=False)
