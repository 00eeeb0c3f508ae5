"""The same network and the same step in PyTorch, with the neurons of others, and with a hand-fused one."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import clock
from benchmarks.setups import Setup

TAU, ALPHA = 2.0, 2.0


def spikingjelly_neuron(threshold: float) -> nn.Module:
    """SpikingJelly's neuron over all time steps, by its own PyTorch code."""
    from spikingjelly.activation_based import neuron, surrogate

    return neuron.LIFNode(
        tau=TAU, v_threshold=threshold, surrogate_function=surrogate.ATan(ALPHA), detach_reset=True, step_mode="m"
    )


class SnnTorch(nn.Module):
    """snnTorch's neuron, called once a time step as its users do."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        import snntorch

        self.neuron = snntorch.Leaky(
            beta=1.0 - 1.0 / TAU, threshold=threshold, reset_mechanism="zero", reset_delay=False,
            spike_grad=snntorch.surrogate.atan(alpha=ALPHA),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        potential, spikes = self.neuron.init_leaky(), []
        for current in x:
            s, potential = self.neuron(current / TAU, potential)
            spikes.append(s)
        return torch.stack(spikes)


class FusedLIF(torch.autograd.Function):
    """All time steps in one node, in place: what somebody would write who knows where the time goes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, threshold: float) -> Tensor:
        charged, spikes = torch.empty_like(x), torch.empty_like(x)
        potential = torch.zeros_like(x[0])
        for t in range(len(x)):
            m = torch.add(potential, x[t], out=charged[t]).mul_(1.0 / TAU)
            s = torch.ge(m, threshold, out=spikes[t])
            torch.mul(m, 1.0 - s, out=potential)
        ctx.save_for_backward(charged, spikes)
        ctx.threshold = threshold
        return spikes

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        (grad,) = grads
        charged, spikes = ctx.saved_tensors
        dx, carried = torch.empty_like(grad), torch.zeros_like(grad[0])
        for t in reversed(range(len(grad))):
            u = (charged[t] - ctx.threshold).mul_(torch.pi / 2 * ALPHA).square_().add_(1.0)
            dm = torch.div(grad[t], u, out=u).mul_(ALPHA / 2)
            dm.add_(carried.mul_(1.0 - spikes[t]))
            carried = torch.mul(dm, 1.0 / TAU, out=dx[t]).clone()
        return dx, None


class HandFused(nn.Module):
    """`FusedLIF` as a layer."""

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, x: Tensor) -> Tensor:
        return FusedLIF.apply(x.contiguous(), self.threshold)


class Layer(nn.Module):
    """Linear, layer norm, neurons."""

    def __init__(self, inputs: int, outputs: int, neuron: Callable[[float], nn.Module]) -> None:
        super().__init__()
        self.linear, self.norm, self.neuron = nn.Linear(inputs, outputs), nn.LayerNorm(outputs), neuron(1.0)
        nn.init.normal_(self.linear.weight, std=0.02)
        nn.init.zeros_(self.linear.bias)

    def forward(self, x: Tensor) -> Tensor:
        return self.neuron(self.norm(self.linear(x)))


class Block(nn.Module):
    """Spiking attention and MLP, each added to its input."""

    def __init__(self, dim: int, heads: int, neuron: Callable[[float], nn.Module]) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.output = (Layer(dim, dim, neuron) for _ in range(4))
        self.mix = neuron(0.5)
        self.hidden, self.last = Layer(dim, 4 * dim, neuron), Layer(4 * dim, dim, neuron)

    def forward(self, x: Tensor) -> Tensor:
        steps, batch, length, dim = x.shape
        q, k, v = (
            layer(x).reshape(steps, batch, length, self.heads, -1).transpose(2, 3) for layer in (self.q, self.k, self.v)
        )
        mixed = ((q @ k.transpose(-2, -1)) @ v) * 0.125
        x = x + self.output(self.mix(mixed.transpose(2, 3).reshape(steps, batch, length, dim)))
        return x + self.last(self.hidden(x))


class EmbeddingSpike(torch.autograd.Function):
    """``1[x >= 0]`` with the gradient of `ALPHA`'s arctangent."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x >= 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        return grads[0] * (ALPHA / 2) / (1 + (torch.pi / 2 * ALPHA * x).square())


class SpikeBERT(nn.Module):
    """The reference network."""

    def __init__(self, setup: Setup, neuron: Callable[[float], nn.Module]) -> None:
        super().__init__()
        self.time_steps = setup.time_steps
        self.embedding = nn.Embedding(setup.vocab, setup.dim)
        self.blocks = nn.ModuleList(Block(setup.dim, setup.heads, neuron) for _ in range(setup.depth))
        self.transforms = nn.ModuleList(
            nn.Sequential(nn.Linear(setup.dim, setup.dim), nn.LayerNorm(setup.dim)) for _ in range(setup.depth)
        )
        self.norm, self.classifier = nn.LayerNorm(setup.dim), nn.Linear(setup.dim, setup.classes)

    def counts(self, ids: Tensor, features: bool = True) -> tuple[Tensor, list[Tensor]]:
        """The spike counts of the last block ``[T, B, L, D]``, and the hidden states ``[B, L, D]`` of every block."""
        x = EmbeddingSpike.apply(self.embedding(ids)).expand(self.time_steps, -1, -1, -1)
        states = []
        for block, transform in zip(self.blocks, self.transforms, strict=True):
            x = block(x)
            if features:
                states.append(transform(x.mean(0)))
        return x, states

    def head(self, counts: Tensor) -> Tensor:
        """The logits ``[B, C]``."""
        return self.classifier(self.norm(counts).mean(2)).mean(0)

    def forward(self, ids: Tensor, features: bool = True) -> tuple[Tensor, list[Tensor]]:
        x, states = self.counts(ids, features)
        return self.head(x), states


NEURONS: dict[str, Callable[[float], nn.Module]] = {
    "SpikingJelly": spikingjelly_neuron,
    "hand-fused": HandFused,
    "snnTorch": SnnTorch,
}


def forget(model: nn.Module) -> None:
    """Put the neurons that keep a state back to rest."""
    for module in model.modules():
        if hasattr(module, "reset") and hasattr(module, "v"):
            module.reset()


class Learner:
    """A network and its optimiser."""

    def __init__(self, setup: Setup, neuron: str, compiled: bool = False) -> None:
        torch.manual_seed(0)
        self.plain = SpikeBERT(setup, NEURONS[neuron])
        self.model = torch.compile(self.plain) if compiled else self.plain
        matrices = [p for n, p in self.plain.named_parameters() if p.ndim > 1 and n != "embedding.weight"]
        others = [p for n, p in self.plain.named_parameters() if p.ndim == 1 or n == "embedding.weight"]
        groups = [{"params": matrices}, {"params": others, "weight_decay": 0.0}]  # what decays in minispike
        self.optimiser = torch.optim.AdamW(groups, lr=5e-4, weight_decay=0.01)

    def step(self, ids: Tensor, labels: Tensor, targets: list[Tensor]) -> float:
        """One step; its loss."""
        logits, states = self.model(ids)
        loss = F.cross_entropy(logits, labels)
        for state, target in zip(states, targets, strict=True):
            loss = loss + 0.1 * F.mse_loss(state, target)
        self.optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(self.plain.parameters(), 1.0)
        self.optimiser.step()
        forget(self.plain)
        return loss.item()


class Training:
    """Steps of training, on other sentences each time."""

    def __init__(self, setup: Setup, neuron: str, compiled: bool = False) -> None:
        self.learner = Learner(setup, neuron, compiled)
        self.setup, self.labels = setup, torch.from_numpy(setup.labels())
        self.targets = [torch.from_numpy(target) for target in setup.targets()]
        self.drawn = 0

    def step(self) -> None:
        """One step, on the sentences that minispike's has too."""
        self.drawn += 1
        self.learner.step(torch.from_numpy(self.setup.ids(self.drawn)), self.labels, self.targets)

    def seconds(self, steps: int) -> list[float]:
        """How long each step took."""
        return clock.seconds(self.step, steps)


class Inference:
    """The logits of one batch."""

    def __init__(self, setup: Setup, neuron: str, compiled: bool = False) -> None:
        torch.manual_seed(0)
        self.plain = SpikeBERT(setup, NEURONS[neuron]).eval()
        self.model = torch.compile(self.plain) if compiled else self.plain
        self.ids = torch.from_numpy(setup.ids())

    def answer(self) -> None:
        """One batch."""
        with torch.inference_mode():
            self.model(self.ids, features=False)
        forget(self.plain)

    def seconds(self, steps: int) -> list[float]:
        """How long each batch took."""
        return clock.seconds(self.answer, steps)
