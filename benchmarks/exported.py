"""The network of `benchmarks.pytorch` without PyTorch: exported to ONNX, and run by ONNX Runtime."""

import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import clock, pytorch
from benchmarks.setups import Setup

OPSET = 17  # the first with LayerNormalization
THREADS = 2
"""Of each operation; as many as minispike computes halves of a batch at a time."""


class Unrolled(nn.Module):
    """The neuron in ordinary operations, one time step after the other, so that it can be exported."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        potential, spikes = torch.zeros_like(x[0]), []
        for current in x.unbind(0):
            charged = (potential + current) * (1.0 / pytorch.TAU)  # tau = 2: v + (x - v) / 2
            fired = (charged >= self.threshold).to(x.dtype)
            potential = charged * (1.0 - fired)
            spikes.append(fired)
        return torch.stack(spikes)


class Answers(nn.Module):
    """What is asked of a network: its logits ``[B, C]``, and the spike counts ``[T, B, L, D]`` that they come from."""

    def __init__(self, network: pytorch.SpikeBERT) -> None:
        super().__init__()
        self.network = network

    def forward(self, ids: Tensor) -> tuple[Tensor, Tensor]:
        counts, _ = self.network.counts(ids, features=False)
        return self.network.head(counts), counts


def session(network: pytorch.SpikeBERT, ids: NDArray[np.int64]) -> Any:
    """ONNX Runtime with the network in it, for batches of the shape of ``ids``."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
    options.log_severity_level = 3  # errors
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that PyTorch has another exporter too, which needs another library
        path = str(Path(folder) / "network.onnx")
        torch.onnx.export(
            Answers(network).eval(), (torch.from_numpy(ids),), path, dynamo=False, opset_version=OPSET,
            input_names=["ids"], output_names=["logits", "counts"],
        )  # fmt: skip
        return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


class Inference:
    """The logits of one batch."""

    def __init__(self, setup: Setup) -> None:
        torch.manual_seed(0)
        self.ids = setup.ids()
        self.session = session(pytorch.SpikeBERT(setup, Unrolled), self.ids)

    def answer(self) -> None:
        """One batch."""
        self.session.run(["logits"], {"ids": self.ids})

    def seconds(self, steps: int) -> list[float]:
        """How long each batch took."""
        return clock.seconds(self.answer, steps)
