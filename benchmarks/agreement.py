"""Whether the contenders compute the same: ``python -m benchmarks.agreement`` compares logits and gradients in float64.

Weights go from minispike's network to PyTorch's by their names; then both see one batch. The network that ONNX Runtime
runs is compared with SpikingJelly's, with the same weights: in float64, where no spike is in doubt, and in float32 as
it is measured, where a current within rounding of the threshold may fire in one network and not in the other.
"""

from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import exported, ours, pytorch
from benchmarks.setups import SETUPS, Setup
from minispike import default_dtype
from minispike.tensor import grad

NAMES = (
    (".attention.", "."), ("mlp.hidden.", "hidden."), ("mlp.output.", "last."),
    ("transforms.{i}.linear.", "transforms.{i}.0."), ("transforms.{i}.norm.", "transforms.{i}.1."),
)  # fmt: skip


def torch_name(name: str, depth: int) -> str:
    """PyTorch's name of a parameter of ours."""
    for here, there in NAMES:
        for i in range(depth):
            name = name.replace(here.format(i=i), there.format(i=i))
    return name


def gradients_agree() -> None:
    """Print the largest differences of loss and gradients, relative to the largest number; fail beyond 1e-9."""
    setup = SETUPS["tiny"]
    with default_dtype(np.float64):
        lesson = ours.Lesson(setup, 1)
    names = [name for name, _ in lesson.model.named_parameters()]
    loss = lesson.losses((lesson.rows[0], setup.ids()))["loss"]
    expected = dict(zip(names, grad(loss, lesson.model.parameters()), strict=True))
    for neuron in ("SpikingJelly", "hand-fused"):  # snnTorch's spikes are float32, whatever it is given
        model = pytorch.SpikeBERT(setup, pytorch.NEURONS[neuron]).double()
        weights = {torch_name(n, setup.depth): torch.from_numpy(p.numpy()) for n, p in lesson.model.named_parameters()}
        model.load_state_dict(weights)
        logits, states = model(torch.from_numpy(setup.ids()))
        theirs = F.cross_entropy(logits, torch.from_numpy(setup.labels()))
        for state, target in zip(states, setup.targets(), strict=True):
            theirs = theirs + 0.1 * F.mse_loss(state, torch.from_numpy(target).double())
        theirs.backward()
        found = {name: parameter.grad for name, parameter in model.named_parameters()}
        worst = max(
            float(abs(found[torch_name(name, setup.depth)].numpy() - g.numpy()).max() / max(abs(g.numpy()).max(), 1e-9))
            for name, g in expected.items()
            if g is not None
        )
        difference = abs(theirs.item() - loss.item())
        print(f"{neuron}: loss differs by {difference:.1e}, gradients by {worst:.1e} of their largest number")
        assert max(difference, worst) < 1e-9


def answers(setup: Setup, dtype: torch.dtype) -> list[tuple[Any, Any]]:
    """Logits ``[B, C]`` and spike counts ``[T, B, L, D]`` of the last block, by PyTorch and by ONNX Runtime."""
    torch.manual_seed(0)
    model = pytorch.SpikeBERT(setup, pytorch.NEURONS["SpikingJelly"]).to(dtype).eval()
    twin = pytorch.SpikeBERT(setup, exported.Unrolled).to(dtype)
    twin.load_state_dict(model.state_dict())
    ids = setup.ids()
    with torch.no_grad():
        counts, _ = model.counts(torch.from_numpy(ids), features=False)
        logits = model.head(counts)
    return [(logits.numpy(), counts.numpy()), tuple(exported.session(twin, ids).run(None, {"ids": ids}))]


def export_agrees() -> None:
    """Print the largest differences of the logits; fail beyond 1e-9 in float64.

    In float32, fail beyond 1e-5 among the sentences whose spike counts are the same, number by number, and where they
    are so for less than half of the sentences.
    """
    (logits, counts), (theirs, their_counts) = answers(SETUPS["tiny"], torch.float64)
    difference = abs(logits - theirs).max()
    print(f"ONNX Runtime, float64: logits differ by {difference:.1e}")
    assert (counts == their_counts).all()
    assert difference < 1e-9
    (logits, counts), (theirs, their_counts) = answers(SETUPS["S"], torch.float32)
    same = (counts == their_counts).all(axis=(0, 2, 3))  # [B]
    difference = abs(logits - theirs)[same].max(initial=0.0)
    print(f"ONNX Runtime, float32: {same.sum()} of {len(same)} sentences have the same spike counts; ", end="")
    print(f"their logits differ by {difference:.1e}")
    assert same.mean() >= 0.5
    assert difference < 1e-5


def main() -> None:
    """Compare all."""
    gradients_agree()
    export_agrees()


if __name__ == "__main__":
    main()
