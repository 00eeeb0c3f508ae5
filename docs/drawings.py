"""The pictures of the reference, each drawn by one function from numbers that were really computed.

Most show one short run of ``minispike distill``, which is made when the first of them is drawn.
"""

from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

import minispike
from minispike import cli, viz
from minispike.data.reviews import build_reviews
from minispike.loaded import LoadedRun
from minispike.metrics import ModelResult
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.losses import cross_entropy
from minispike.nn.optim import AdamW
from minispike.pipeline import STAGE2
from minispike.profile import profile_step
from minispike.record import Recording, membrane_trace, record_sentence
from minispike.snn.neurons import LIFNeuron
from minispike.snn.surrogate import SURROGATES
from minispike.train.journal import Journal

SENTENCE = "this film is not dull but touching ."


@cache
def short_run() -> LoadedRun:
    """Distil a student for a moment, on the built-in corpus: enough to see how pictures are read."""
    folder = Path(mkdtemp()) / "run"
    sizes = ("labelled=600", "dev=200", "test=400", "unlabelled=1500")
    settings = [f"data.reviews.{size}" for size in sizes]
    settings += ["teacher.pretraining.steps=60", "teacher.finetuning.steps=60", "stage1.steps=20", "stage2.steps=60"]
    if cli.main(["distill", "--out", str(folder), "--set", *settings]):
        raise RuntimeError("minispike distill has failed")
    return minispike.load(folder)


@cache
def recorded() -> tuple[Recording, list[str]]:
    """What that student does with one sentence, and the sentence's tokens."""
    run = short_run()
    ids = run.encode([SENTENCE]).ids[0]
    return record_sentence(run.model, ids), [run.tokenizer.token(int(i)) for i in ids]


def new_figure() -> Any:
    """Two pictures side by side."""
    figure = viz.new_figure(8.0, 2.6)
    left, right = figure.subplots(1, 2)
    u = np.linspace(-2, 2, 201)
    left.plot(u, SURROGATES["atan"]().primitive(u.copy()))
    right.plot(u, SURROGATES["atan"]().derivative(u.copy()))
    left.set_title("S(u)", loc="left")
    right.set_title("dS/du", loc="left")
    return left


def membrane() -> Any:
    """A neuron that is given a current for twelve steps."""
    current = np.array([0.4, 1.2, 1.6, 1.6, 1.6, 0.0, 0.0, 2.4, 0.8, 0.8, 1.4, 1.4])[:, None]  # [T, 1]
    trace = membrane_trace(current, LIFNeuron(tau=2.0, threshold=1.0))
    return viz.membrane_trace(None, trace, title="tau 2, threshold 1, hard reset")


def raster() -> Any:
    """The queries of the first block."""
    recording, tokens = recorded()
    layer = "blocks.0.attention.q"
    ax = viz.new_figure(8.0, 2.6).subplots()
    return viz.spike_raster(ax, recording.spikes[layer], tokens, neurons=48, title=layer)


def labels() -> Any:
    """A curve over the tokens: how many neurons of the input fire at each."""
    recording, tokens = recorded()
    ax = viz.new_figure(6.0, 2.0).subplots()
    ax.plot(recording.spikes["embedding"][0].sum(axis=-1), "o-")  # [1, L, D] to [L]
    ax.set_ylabel("input spikes")
    viz.label_tokens(ax, tokens, len(tokens))
    return ax


def attention() -> Any:
    """How many spikes a query and a key have in common, in the first head at the last step."""
    recording, tokens = recorded()
    width = short_run().model.config.dim // short_run().model.config.heads
    q, k = (recording.spikes[f"blocks.0.attention.{part}"][-1, :, :width] for part in ("q", "k"))  # [L, d]
    ax = viz.new_figure(6.0, 4.8).subplots()
    return viz.attention_map(ax, q @ k.T, tokens, title="block 0, head 0", label="common spikes")


def surrogates() -> Any:
    """All six, each at its usual width."""
    return viz.surrogate_plot(None, {name: kind() for name, kind in SURROGATES.items()})


def losses() -> Any:
    """The loss of stage 2 and its terms, from the journal of the run."""
    rows = [row for row in Journal.read(short_run().path / "metrics.jsonl") if row.get("phase") == STAGE2]
    terms = [term for term in viz.numeric_terms(rows) if term not in ("rate", "gradient_norm")]
    return viz.loss_curves(None, rows, terms, title="stage 2")


def rates() -> Any:
    """How often the layers fire on a hundred sentences of dev."""
    run = short_run()
    reviews = build_reviews(run.config.data.reviews)
    return viz.firing_rate_bars(None, run.firing_rates(reviews.dev.texts[:100]))


def energy() -> Any:
    """What one sentence costs the student, a BERT of its shape, and the teacher."""
    return viz.energy_bars(None, short_run().energy([SENTENCE]))


def accuracies() -> Any:
    """Two guesses at the labels of 200 sentences, and what chance alone makes of their accuracies."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 2, 200)
    often = np.where(rng.random(200) < 0.9, truth, 1 - truth)
    results = {"right nine times in ten": often, "always 1": np.ones(200, dtype=int)}
    return viz.accuracy_bars(None, [ModelResult.measure(name, truth, found, 2) for name, found in results.items()])


def step() -> Any:
    """Where a training step of a small student spends its time."""
    rng = np.random.default_rng(0)
    model = SpikeBERT(SpikeBERTConfig(vocab_size=500, num_labels=2, dim=64, depth=2, heads=4), rng)
    ids, truth = rng.integers(0, 500, (8, 16)), rng.integers(0, 2, 8)
    optimiser = AdamW(model.named_parameters())
    return viz.step_bars(None, profile_step(lambda: cross_entropy(model(ids).logits, truth), optimiser))
