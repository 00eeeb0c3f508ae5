"""The pictures of the reference, each drawn by one function from numbers that were really computed.

Most show the student that ships with the lessons (``tutorials/models``).
"""

from contextlib import redirect_stderr
from functools import cache
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

import minispike
from minispike import viz
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.distill.losses import LossWeights
from minispike.distill.stages import Distillation, Source
from minispike.loaded import LoadedRun
from minispike.metrics import ModelResult
from minispike.models.bert import Bert
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.losses import cross_entropy
from minispike.nn.optim import AdamW
from minispike.profile import profile_step
from minispike.record import Recording, membrane_trace, record_sentence
from minispike.snn.neurons import LIFNeuron
from minispike.snn.surrogate import SURROGATES
from minispike.train.journal import Journal
from minispike.train.loop import Keeper, TrainConfig, train
from teachers.cache import CacheFolder
from teachers.onnx_teacher import OnnxTeacher
from teachers.view import CachedView

MODELS = Path(__file__).parents[1] / "tutorials" / "models"
SENTENCE = "this film is not dull but touching ."


@cache
def student() -> LoadedRun:
    """The student that ships with the lessons: 2 blocks of width 64, 90 % right on the built-in reviews."""
    return minispike.load(MODELS / "student")


@cache
def recorded() -> tuple[Recording, list[str]]:
    """What that student does with one sentence, and the sentence's tokens."""
    run = student()
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
    """How many spikes a query and a key have in common, in all heads together, at the last step."""
    recording, tokens = recorded()
    q, k = (recording.spikes[f"blocks.0.attention.{part}"][-1] for part in ("q", "k"))  # [L, D]
    return viz.attention_map(None, q @ k.T, tokens, title="block 0", label="common spikes")


def surrogates() -> Any:
    """All six, each at its usual width."""
    return viz.surrogate_plot(None, {name: kind() for name, kind in SURROGATES.items()})


def losses() -> Any:
    """Forty steps of stage 2, with a fresh student and the BERT of the lessons."""
    with TemporaryDirectory() as folder, redirect_stderr(StringIO()):
        rows = _stage_two(student(), Path(folder))
    terms = [term for term in viz.numeric_terms(rows) if term not in ("rate", "gradient_norm")]
    return viz.loss_curves(None, rows, terms, title="stage 2")


def _stage_two(run: LoadedRun, folder: Path) -> list[dict[str, Any]]:
    """The journal of forty steps."""
    Bert.from_folder(MODELS / "bert-finetuned").to_onnx(folder / "teacher.onnx")
    reviews = build_reviews(ReviewsConfig(labelled=640, dev=100, test=100, unlabelled=0))
    texts = run.encode(reviews.train.texts)
    view = CachedView(OnnxTeacher(folder / "teacher.onnx"), texts, (1, 2), CacheFolder(folder, 2**30))
    source = Source(texts, reviews.train.labels, 32, view)
    task = Distillation("stage 2", SpikeBERT(run.model.config), [source], LossWeights(features=5.0), (0,))
    with Journal(folder / "metrics.jsonl") as journal:
        train(task, TrainConfig(steps=40, learning_rate=5e-3), Keeper(folder / "checkpoint", journal))
    view.close()
    return Journal.read(folder / "metrics.jsonl")


def rates() -> Any:
    """How often the layers fire on a hundred sentences of dev."""
    run = student()
    reviews = build_reviews(ReviewsConfig(unlabelled=0))
    return viz.firing_rate_bars(None, run.firing_rates(reviews.dev.texts[:100]))


def energy() -> Any:
    """What one sentence costs the student, and a BERT of its shape."""
    return viz.energy_bars(None, student().energy([SENTENCE]))


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
