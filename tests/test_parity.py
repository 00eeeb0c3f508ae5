"""The reference preset against numbers recorded from the authors' program."""

import operator
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence
from safetensors.numpy import save_file

from minispike import default_dtype
from minispike.backend import to_numpy
from minispike.errors import CheckpointError
from minispike.models.spikebert import SpikeBERT, SpikeBERTOutput, reference_name
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.losses import cross_entropy, kl_divergence, masked_mse
from minispike.nn.optim import AdamW
from minispike.ops import mean
from minispike.snn.attention import spiking_attention
from minispike.snn.neurons import lif_with_state
from minispike.tensor import Tensor

Array = np.ndarray[Any, Any]
CONFIG = SpikeBERTConfig.reference(vocab_size=100, dim=32, depth=2, heads=4, time_steps=4, num_labels=3)
T, B, L, D = 4, 3, 12, 32


@pytest.fixture(scope="module")
def recorded(shared: Path) -> dict[str, Array]:
    with np.load(shared / "parity" / "parity_small.npz") as arrays:
        return dict(arrays)


def reference_weights(recorded: dict[str, Array]) -> dict[str, Array]:
    return {name.removeprefix("w/"): array for name, array in recorded.items() if name.startswith("w/")}


def model_of(recorded: dict[str, Array], dtype: Any = np.float64) -> SpikeBERT:
    with default_dtype(dtype):
        model = SpikeBERT(CONFIG)
    model.load_reference(reference_weights(recorded))
    return model


def observed(model: SpikeBERT, ids: Array) -> tuple[SpikeBERTOutput, dict[str, Array]]:
    seen: dict[str, Array] = {}
    out = model(ids, observe=lambda name, array: seen.__setitem__(name, to_numpy(array).copy()))
    return out, seen


def assert_near(found: Any, expected: Array, tolerance: float = 1e-12) -> None:
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance)


# --- activations: recorded name to ours

PARTS = {
    "attention.q": ("attn.q_m", "attn.q_ln", "attn.q_lif"),
    "attention.k": ("attn.k_m", "attn.k_ln", "attn.k_lif"),
    "attention.v": ("attn.v_m", "attn.v_ln", "attn.v_lif"),
    "attention.output": ("attn.last_m", "attn.last_ln", "attn.last_lif"),
    "mlp.hidden": ("mlp.fc1", "mlp.ln1", "mlp.lif1"),
    "mlp.output": ("mlp.fc2", "mlp.ln2", "mlp.lif2"),
}
"""Our spiking layers, and the names of their linear map, norm and neurons in the reference."""


def in_time(array: Array) -> Array:
    """``[1, B, L, D]``, which holds for every step, as ``[T, B, L, D]``."""
    return np.broadcast_to(array, (T, *array.shape[1:]))


def folded(array: Array) -> Array:
    """``[T or 1, B, L, D]`` as the reference keeps it inside blocks, ``[T B, L, D]``."""
    array = in_time(array)
    return array.reshape(-1, *array.shape[2:])


def batch_first(array: Array) -> Array:
    """``[T or 1, B, L, D]`` as the reference keeps it between blocks, ``[B, T, L, D]``."""
    return in_time(array).swapaxes(0, 1)


def activations(model: SpikeBERT, ids: Array) -> dict[str, Array]:
    """Every activation under its recorded name: observed, or one layer beyond what is observed."""
    out, seen = observed(model, ids)
    found = {
        "emb.out": model.embedding(ids).numpy(),
        "atan.out": batch_first(seen["embedding"]),
    }
    for i in range(CONFIG.depth):
        block = f"blocks.{i}"
        for part, (linear, norm, neurons) in PARTS.items():
            layer, name = operator.attrgetter(part)(model.blocks[i]), f"{block}.{part}"
            found[f"{block}.{linear}.out"] = folded(layer.linear(Tensor(seen[f"{name}.input"])).numpy())
            found[f"{block}.{norm}.out"] = folded(seen[f"{name}.current"])
            found[f"{block}.{neurons}.in"] = in_time(seen[f"{name}.current"])
            found[f"{block}.{neurons}.out"] = seen[name]
        found[f"{block}.attn.attn_lif.in"] = seen[f"{block}.attention.mix.current"]
        found[f"{block}.attn.attn_lif.out"] = seen[f"{block}.attention.mix"]
        found[f"{block}.attn.out"] = batch_first(seen[f"{block}.attention.output"])
        found[f"{block}.mlp.out"] = batch_first(seen[f"{block}.mlp.output"])
        end = seen[f"{block}.mlp.hidden.input"] + seen[f"{block}.mlp.output"]
        found[f"{block}.out"] = batch_first(end)
        found[f"transforms.{i}.fc.out"] = model.transforms[i].linear(mean(Tensor(end), 0)).numpy()
        found[f"transforms.{i}.ln.out"] = found[f"transforms.{i}.out"] = out.hidden_states[i].numpy()
        if i + 1 < CONFIG.depth:
            np.testing.assert_array_equal(seen[f"blocks.{i + 1}.attention.q.input"], end)
    tokens = model.norm(Tensor(end))  # [T, B, L, D]
    found["last_ln.out"] = batch_first(tokens.numpy())
    found["classifier.out"] = model.classifier(mean(tokens, 2)).numpy().swapaxes(0, 1)  # [B, T, C]
    return found


def test_every_activation(recorded: dict[str, Array]) -> None:
    found = activations(model_of(recorded), recorded["input_ids"])
    expected = {name[len("f64/act/") :]: a for name, a in recorded.items() if name.startswith("f64/act/")}
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert_near(found[name], array)
    assert_near(found["classifier.out"], recorded["f64/out_BTC"])


def test_spikes_are_identical_in_single_precision(recorded: dict[str, Array]) -> None:
    """In float32 as in float64, although the two programs round differently."""
    for dtype, kind in ((np.float32, "f32"), (np.float64, "f64")):
        found = activations(model_of(recorded, dtype), recorded["input_ids"])
        spiking = [name for name in found if re.search(r"(lif\d?|atan)\.out$", name)]
        assert len(spiking) == 1 + 7 * CONFIG.depth
        for name in spiking:
            assert found[name].dtype == dtype
            np.testing.assert_array_equal(found[name], recorded[f"{kind}/act/{name}"])


def test_single_precision_outputs(recorded: dict[str, Array]) -> None:
    out = model_of(recorded, np.float32)(recorded["input_ids"])
    assert out.logits.dtype == np.float32
    assert_near(out.logits.numpy(), recorded["f32/logits"], 1e-5)
    for i, state in enumerate(out.hidden_states):
        assert_near(state.numpy(), recorded[f"f32/rep/{i}"], 1e-5)


def test_logits_and_features(recorded: dict[str, Array]) -> None:
    model = model_of(recorded)
    out = model(recorded["input_ids"])
    assert_near(out.logits.numpy(), recorded["f64/logits"])
    assert len(out.hidden_states) == CONFIG.depth
    for i, state in enumerate(out.hidden_states):
        assert_near(state.numpy(), recorded[f"f64/rep/{i}"])
    padded = np.arange(L) < np.array([[12], [5], [1]])
    assert_near(model(recorded["input_ids"], padded).logits.numpy(), recorded["f64/logits"])  # the mask is not used


# --- losses and their gradients


def stage_1(recorded: dict[str, Array], out: SpikeBERTOutput) -> Tensor:
    """The feature loss: per layer a mean over B L D, divided by B once more."""
    terms = [
        masked_mse(state, recorded["teacher/reps"][i].astype(state.dtype)) for i, state in enumerate(out.hidden_states)
    ]
    return sum(terms[1:], start=terms[0]) * (1.0 / B)


def stage_2(recorded: dict[str, Array], model: SpikeBERT, out: SpikeBERTOutput) -> dict[str, Tensor]:
    table = model.embedding.weight
    terms = {
        "emb": masked_mse(table, recorded["teacher/emb"].astype(table.dtype)),
        "ce": cross_entropy(out.logits, recorded["labels"]),
        "logit": kl_divergence(recorded["teacher/logits"], out.logits),
        "rep": stage_1(recorded, out),
    }
    total = 0.1 * terms["emb"] + 0.1 * terms["ce"] + 1.0 * terms["logit"] + 0.1 * terms["rep"]
    return terms | {"total": total}


def assert_gradients(model: SpikeBERT, recorded: dict[str, Array], prefix: str, tolerance: float = 1e-12) -> None:
    """Every gradient under the prefix, and none beyond: what has no recorded gradient has none here."""
    expected = {reference_name(n[len(prefix) :]): a for n, a in recorded.items() if n.startswith(prefix)}
    assert expected
    for name, parameter in model.named_parameters():
        if name not in expected:
            assert parameter.grad is None, name
            continue
        found = np.zeros(parameter.shape) if parameter.grad is None else parameter.grad.numpy()
        assert_near(found, expected.pop(name), tolerance)
    assert not expected


def test_cross_entropy_and_its_gradient(recorded: dict[str, Array]) -> None:
    model = model_of(recorded)
    loss = cross_entropy(model(recorded["input_ids"], features=False).logits, recorded["labels"])
    assert_near(loss.numpy(), recorded["f64/loss_ce"])
    loss.backward()
    assert_gradients(model, recorded, "f64/grad_ce/")


def test_stage_1_loss_and_its_gradient(recorded: dict[str, Array]) -> None:
    model = model_of(recorded)
    loss = stage_1(recorded, model(recorded["input_ids"]))
    assert_near(loss.numpy(), recorded["f64/stage1/loss"])
    loss.backward()
    assert_gradients(model, recorded, "f64/stage1/grad/")


def test_stage_2_loss_its_gradient_and_a_step_of_the_optimiser(recorded: dict[str, Array]) -> None:
    model = model_of(recorded)
    terms = stage_2(recorded, model, model(recorded["input_ids"]))
    for name, term in terms.items():
        assert_near(term.numpy(), recorded[f"f64/kd/loss_{name}"])
    terms["total"].backward()
    assert_gradients(model, recorded, "f64/kd/grad/")
    AdamW(model.named_parameters(), weight_decay=5e-3, decay_all=True).step(5e-4)
    found = dict(model.named_parameters())
    for name, array in recorded.items():
        if name.startswith("f64/adamw1/"):
            assert_near(found.pop(reference_name(name[len("f64/adamw1/") :])).numpy(), array)
    assert not found


def test_gradients_in_single_precision(recorded: dict[str, Array]) -> None:
    model = model_of(recorded, np.float32)
    stage_2(recorded, model, model(recorded["input_ids"]))["total"].backward()
    assert_gradients(model, recorded, "f32/kd/grad/", 1e-5)


# --- a second call that the reference program makes without resetting its neurons


def test_a_second_call_from_where_the_first_left_off(recorded: dict[str, Array]) -> None:
    """Potentials carried over by hand: the model itself always starts at rest."""
    model, ids = model_of(recorded), recorded["input_ids"]
    potentials: dict[int, Tensor] = {}

    def fire(key: Any, current: Tensor, neuron: Any) -> Tensor:
        spikes, potentials[id(key)] = lif_with_state(
            current, neuron, potentials.get(id(key)), time_steps=CONFIG.time_steps
        )
        return spikes

    def layer(part: Any, x: Tensor) -> Tensor:
        return fire(part, part.norm(part.linear(x)), part.neuron)

    def run() -> Array:
        x = model.encode(ids)[None]
        for block in model.blocks:
            a = block.attention
            mixed = spiking_attention(layer(a.q, x), layer(a.k, x), layer(a.v, x), a.heads, a.scale)
            x = x + layer(a.output, fire(a, mixed, a.neuron))
            x = x + layer(block.mlp.output, layer(block.mlp.hidden, x))
        return model.classifier(mean(model.norm(x), 2)).numpy().swapaxes(0, 1)

    assert_near(run(), recorded["f64/out_BTC"])
    assert_near(run(), recorded["f64/out_BTC_second_call_no_reset"])
    assert_near(model(ids).logits.numpy(), recorded["f64/logits"])


# --- loading is strict


def test_names_of_the_reference(recorded: dict[str, Array]) -> None:
    names = reference_weights(recorded)
    assert len(names) == 28 * CONFIG.depth + 5
    assert sorted(map(reference_name, names)) == sorted(n for n, _ in SpikeBERT(CONFIG).named_parameters())
    assert SpikeBERT(CONFIG).count_parameters() == sum(a.size for a in names.values())


@pytest.mark.parametrize("prefix", ["", "module."])
def test_a_checkpoint_as_mapping_or_file(recorded: dict[str, Array], tmp_path: Path, prefix: str) -> None:
    weights = {prefix + name: array for name, array in reference_weights(recorded).items()}
    save_file(weights, tmp_path / "spikebert.safetensors")
    for given in (weights, tmp_path / "spikebert.safetensors", str(tmp_path / "spikebert.safetensors")):
        model = SpikeBERT(CONFIG)
        model.load_reference(given)
        for name, array in weights.items():
            found = dict(model.named_parameters())[reference_name(name)].numpy()
            np.testing.assert_array_equal(found, array)


def without(name: str) -> Callable[[dict[str, Array]], dict[str, Array]]:
    return lambda weights: {n: a for n, a in weights.items() if n != name}


def of_stage_1(weights: dict[str, Array]) -> dict[str, Array]:
    return {n: a for n, a in weights.items() if not n.startswith("classifier.")}


FAULTS: dict[str, tuple[Callable[[dict[str, Array]], dict[str, Array]], str]] = {
    "missing": (without("blocks.1.attn.q_m.bias"), r"missing: blocks\.1\.attention\.q\.linear\.bias"),
    "unexpected": (lambda w: w | {"extra.weight": np.ones(2)}, r"unexpected: extra\.weight"),
    "misshaped": (
        lambda w: w | {"emb.weight": np.ones((99, 32))},
        r"embedding\.weight \(99, 32\) instead of \(100, 32\)",
    ),
    "no classifier": (of_stage_1, r"missing: classifier\.weight, classifier\.bias"),
    "one block": (lambda w: {n: a for n, a in w.items() if "s.1." not in n}, "and 20 more"),
    "a third block": (
        lambda w: w | {n.replace("s.1.", "s.2."): a for n, a in w.items() if "s.1." in n},
        "unexpected",
    ),
    "nothing": (lambda w: {}, "missing"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_checkpoint_that_does_not_fit_is_refused(recorded: dict[str, Array], name: str) -> None:
    change, message = FAULTS[name]
    model = SpikeBERT(CONFIG)
    before = model.state_dict()
    with pytest.raises(CheckpointError, match=message) as caught:
        model.load_reference(change(reference_weights(recorded)))
    assert_sentence(caught.value)
    for key, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[key])


def test_a_stage_1_checkpoint(recorded: dict[str, Array]) -> None:
    weights = of_stage_1(reference_weights(recorded))
    assert len(weights) == 28 * CONFIG.depth + 3
    model = SpikeBERT(CONFIG)
    before = model.classifier.weight.numpy()
    model.load_reference(weights, may_lack_classifier=True)
    np.testing.assert_array_equal(model.embedding.weight.numpy(), weights["emb.weight"])
    np.testing.assert_array_equal(model.classifier.weight.numpy(), before)
    for fault in (without("emb.weight"), lambda w: w | {"classifier.weight": np.ones((2, 32))}):
        with pytest.raises(CheckpointError):
            model.load_reference(fault(weights), may_lack_classifier=True)


def test_a_file_that_is_none(tmp_path: Path) -> None:
    (tmp_path / "broken.safetensors").write_bytes(b"not a checkpoint")
    for name in ("broken.safetensors", "missing.safetensors"):
        with pytest.raises(CheckpointError) as caught:
            SpikeBERT(CONFIG).load_reference(tmp_path / name)
        assert_sentence(caught.value)
        assert name in str(caught.value)


def size_of(c: SpikeBERTConfig) -> int:
    """The number of learned numbers, from the shapes alone."""
    d, h = c.dim, c.mlp_ratio * c.dim
    square, wider, narrower = (out * (inner + 3) for out, inner in ((d, d), (h, d), (d, h)))  # linear and norm
    head = 2 * d + c.num_labels * (d + 1)
    return c.vocab_size * d + c.depth * (4 * square + wider + narrower + square) + head


def test_the_size_of_the_published_model() -> None:
    assert SpikeBERT(CONFIG).count_parameters() == size_of(CONFIG)
    published = SpikeBERTConfig.reference(vocab_size=28_996)
    assert size_of(published) == 114_561_026
    assert (published.depth, published.dim, published.heads, published.time_steps) == (12, 768, 8, 4)
    assert (published.tau, published.max_length, published.mask_padding) == (2.0, 0, False)
