"""Every test file has its place on one of the lists of `every_backend`, and both backends start alike."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from every_backend import ARRAYS, ONCE, RUNS, no_gpu, parameters
from strict_cupy import installed, ndarray
from tiny import BRIEF, distill

from minispike import backend
from minispike.data.batches import BatchStream
from minispike.data.tokenizer import Encoded
from minispike.errors import BackendError
from minispike.models.bert import Bert, BertConfig
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.layers import dropout
from minispike.tensor import Tensor
from minispike.train.journal import Journal

PHASES = ("pretrain teacher", "fine-tune teacher", "stage 1", "stage 2", "direct training")


def test_every_file_is_on_one_list() -> None:
    files = {path.stem.removeprefix("test_") for path in Path(__file__).parent.glob("test_*.py")}
    assert sorted(files) == sorted([*ARRAYS, *RUNS, *ONCE])
    with pytest.raises(pytest.UsageError, match=r"test_unknown\.py is on no list"):
        parameters("unknown")


@pytest.mark.parametrize(
    ("asked_for", "outcome"), [("gpu", pytest.fail.Exception), ("thorough", pytest.skip.Exception)]
)
def test_a_gpu_that_was_asked_for_is_not_skipped(asked_for: str, outcome: type[BaseException]) -> None:
    request: Any = SimpleNamespace(config=SimpleNamespace(option=SimpleNamespace(markexpr=asked_for)))
    with pytest.raises(outcome, match="backend 'cupy': expected"):
        no_gpu(request, BackendError("backend 'cupy': expected one, got none"))


def on_both(make: Any) -> tuple[Any, Any]:
    """What is made on NumPy, and on the stand-in."""
    here = make()
    with pytest.MonkeyPatch.context() as patch:
        installed(patch)
        with backend.use("cupy"):
            return here, make()


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpikeBERT(SpikeBERTConfig(13, 8, 2, 2, 2, 2, feature_dim=6, embedding_dim=6), np.random.default_rng(3)),
        lambda: Bert(BertConfig(13, 8, 2, 2, 16, 6, num_labels=2), np.random.default_rng(3)),
    ],
    ids=["student", "teacher"],
)
def test_the_same_weights(make: Any) -> None:
    here, there = on_both(make)
    assert all(isinstance(p.array, ndarray) for p in there.parameters())
    expected = here.state_dict()
    assert there.state_dict().keys() == expected.keys()
    for name, array in there.state_dict().items():
        np.testing.assert_array_equal(array, expected[name])


def test_the_same_batches_and_the_same_dropout() -> None:
    def drawn() -> Any:
        stream = BatchStream(Encoded(tuple(np.arange(2, n) for n in range(3, 23)), None, 0.0, 0.0), None, 4, [7])
        masks = [dropout(Tensor(np.ones((3, 4))), 0.5, np.random.default_rng(s)).numpy() for s in range(3)]
        return [stream.batch(step).input_ids for step in range(12)] + masks

    for a, b in zip(*on_both(drawn), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.usefixtures("quick_report")
def test_a_run_takes_the_same_way_on_both(tmp_path: Path) -> None:
    """The first step of each phase: of equal weights and equal batches, in equal parts, which dropout is drawn by.

    Later steps drift apart as rounding does, and the more so with spikes, of which one may flip.
    """
    for library in ("tokenizers", "onnx", "onnxruntime", "safetensors", "matplotlib"):
        pytest.importorskip(library)
    phases = ("teacher.pretraining", "teacher.finetuning", "stage1", "stage2")
    parts = [f"{phase}.accumulate=2" for phase in phases]

    def losses() -> dict[str, float]:
        run = tmp_path / backend.current()
        done = distill(run, *BRIEF, *parts)
        assert done.code == 0, done.err
        lines = [line for line in Journal.read(run / "metrics.jsonl") if line["step"] == 0 and "loss" in line]
        return {line["phase"]: line["loss"] for line in lines}

    here, there = on_both(losses)
    assert tuple(here) == PHASES
    assert there == pytest.approx(here, rel=1e-5)
