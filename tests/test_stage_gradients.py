"""The whole loss of each stage, of every preset at a small size, against finite differences by every parameter."""

from dataclasses import replace

import numpy as np
import pytest
from test_distill_stages import Oracle, texts

from minispike import check_grads, default_dtype
from minispike.config import PRESETS, RunConfig, preset
from minispike.distill.losses import LossWeights
from minispike.distill.stages import Distillation, Source
from minispike.models.spikebert import SpikeBERT
from minispike.tensor import Tensor

LABELS = np.array([0, 2, 1, 1, 0])
NAMES = [pytest.param(name, marks=[] if name in ("tiny", "reference") else [pytest.mark.thorough]) for name in PRESETS]
"""The rest differ from `tiny` in their size alone, and are all small here."""


def small(config: RunConfig) -> SpikeBERT:
    """The student of a preset in all but its size, with weights at which every neuron matters."""
    c = config.student
    c = replace(c, vocab_size=40, num_labels=3, dim=8, depth=2, heads=2, time_steps=2, mlp_ratio=2, feature_dim=6)
    c = replace(c, embedding_dim=6, max_length=12 if c.max_length else 0)
    rng = np.random.default_rng(5)
    with default_dtype(np.float64):
        model = SpikeBERT(c, rng)
        for parameter in model.parameters():
            parameter.assign(rng.normal(0.0, 0.4, parameter.shape))
    return model


def checked(task: Distillation) -> int:
    """How many parameters the loss of a step has been checked by."""
    parts = list(task.parts(3))

    def loss(_: SpikeBERT) -> Tensor:
        total = task.losses(parts[0])["loss"]
        for part in parts[1:]:
            total = total + task.losses(part)["loss"]
        return total

    return check_grads(loss, task.model, spikes="smooth", rtol=1e-7).checks


@pytest.mark.parametrize("name", NAMES)
def test_stage_1(name: str) -> None:
    config, student, encoded = preset(name), small(preset(name)), texts(5)
    task = Distillation(
        "stage 1", student, [Source(encoded, None, 4, Oracle(encoded, loud=1.0))],
        LossWeights(features=1.0, embedding=0.3), (0,), parts=2, alignment=config.stage1.alignment,
        embedding_target=np.ones((40, 6)),
    )  # fmt: skip
    assert checked(task) == len(student.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_stage_2(name: str) -> None:
    config, student, labelled, more = preset(name), small(preset(name)), texts(5), texts(6, seed=1)
    sources = [Source(labelled, LABELS, 3, Oracle(labelled, loud=1.0)), Source(more, None, 2, Oracle(more, loud=1.0))]
    weights = replace(config.stage2.weights, embedding=0.3)
    task = Distillation(
        "stage 2", student, sources, weights, (0,), parts=2, alignment=config.stage2.alignment,
        embedding_target=np.ones((40, 6)),
    )  # fmt: skip
    assert checked(task) == len(student.parameters())
