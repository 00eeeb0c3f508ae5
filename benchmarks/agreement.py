"""Whether the contenders compute the same: ``python -m benchmarks.agreement`` compares logits and gradients in float64.

Weights go from minispike's network to PyTorch's by their names; then both see one batch.
"""

import numpy as np
import torch
from torch.nn import functional as F

from benchmarks import ours, pytorch
from benchmarks.setups import SETUPS
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


def main() -> None:
    """Print the largest differences, relative to the largest number; fail beyond 1e-9."""
    setup = SETUPS["tiny"]
    with default_dtype(np.float64):
        lesson = ours.Lesson(setup, 1)
    names = [name for name, _ in lesson.model.named_parameters()]
    loss = lesson.losses(lesson.rows[0])["loss"]
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


if __name__ == "__main__":
    main()
