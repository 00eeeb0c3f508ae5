# %% [markdown]
# # 05 A spiking classifier on real data
#
# **Goal.** Train a small network of spiking neurons to read handwritten digits, feed it in two ways, and see what time
# steps buy.
#
# The digits are the 1,797 images of 8 x 8 pixels that scikit-learn ships: scans of forms filled in by people at
# Boğaziçi University.

# %%
import numpy as np
from checks import lesson_05 as check
from lesson import show
from sklearn.datasets import load_digits

from minispike import Tensor, no_grad, viz
from minispike.nn.layers import Linear
from minispike.nn.losses import cross_entropy
from minispike.nn.module import Module
from minispike.nn.optim import AdamW
from minispike.ops import mean
from minispike.snn.neurons import LIFNeuron, lif

digits = load_digits()
pixels, labels = (digits.data / 16.0).astype(np.float32), digits.target  # grey from 0 to 1
order = np.random.default_rng(0).permutation(len(labels))
train, test = order[:1300], order[1300:]

figure = viz.new_figure(8.0, 1.4)
for i, ax in enumerate(figure.subplots(1, 10)):
    ax.imshow(pixels[order[i]].reshape(8, 8), cmap="gray_r")
    ax.set_title(str(labels[order[i]]), fontsize="small")
    ax.set_axis_off()
show(figure)

# %% [markdown]
# ## From grey to spikes
#
# A neuron knows 0 and 1. There are two usual ways to tell it of a grey of 0.3.
#
# *Rate coding*: in each time step a pixel fires with the probability of its grey,
#
# $$ P(s_t = 1) = g, $$
#
# in words: a throw of a coin for each pixel and step, so that over many steps it fires in a share of $g$ of them.
# *Direct coding*: the grey itself is the input current of the first layer, the same in every step, and the first
# neurons turn it into spikes.


# %%
def rate_coded(grey: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """``[B, pixels]`` to random spikes ``[T, B, pixels]``."""
    return (rng.random((steps, *grey.shape)) < grey).astype(np.float32)


def direct(grey: np.ndarray, steps: int, rng: np.random.Generator) -> np.ndarray:
    """``[B, pixels]`` to the same current at every step, ``[1, B, pixels]``."""
    return grey[None]


seen = rate_coded(pixels[:200], 500, np.random.default_rng(1)).mean(axis=0)
print(f"after 500 steps the rate is off by {np.abs(seen - pixels[:200]).mean():.3f} in the mean")
few = rate_coded(pixels[:200], 4, np.random.default_rng(1)).mean(axis=0)
print(f"after 4 steps by {np.abs(few - pixels[:200]).mean():.3f}")
assert np.abs(seen - pixels[:200]).mean() < 0.02 < np.abs(few - pixels[:200]).mean()

# %% [markdown]
# ## The network
#
# A linear map and a layer of LIF neurons, then a linear map alone. What the second map makes of the spikes, averaged
# over the time steps, are the *logits*, one number a class, and the largest is the answer. The loss is the *cross
# entropy*, $-\ln p$ with $p$ the probability that the softmax of the logits gives the right class: 0 if it is sure of
# it, $\ln 10 = 2.3$ for a guess.


# %%
class Reader(Module):
    """64 pixels, 64 spiking neurons, 10 logits."""

    def __init__(self, steps: int, rng: np.random.Generator) -> None:
        self.steps, self.neuron = steps, LIFNeuron(tau=2.0, threshold=1.0)
        self.first, self.second = Linear(64, 64, rng), Linear(64, 10, rng)

    def forward(self, x: np.ndarray) -> tuple[Tensor, Tensor]:
        """Input ``[T or 1, B, 64]`` to logits ``[B, 10]`` and the hidden spikes ``[T, B, 64]``."""
        spikes = lif(self.first(Tensor(x)), self.neuron, time_steps=self.steps)
        return mean(self.second(spikes), 0), spikes


def accuracy(model: Reader, code, rng: np.random.Generator) -> float:
    """Of the test images."""
    with no_grad():
        logits, _ = model(code(pixels[test], model.steps, rng))
    return float((logits.numpy().argmax(axis=1) == labels[test]).mean())


def taught(code, steps: int, price: float = 0.0, epochs: int = 25) -> tuple[Reader, list[float]]:
    """A network, and its losses; ``price`` is that of firing all the time."""
    rng = np.random.default_rng(2)
    model, losses = Reader(steps, rng), []
    optimiser = AdamW(model.named_parameters())
    for _ in range(epochs):
        for batch in np.array_split(rng.permutation(train), 20):
            optimiser.zero_grad()
            logits, spikes = model(code(pixels[batch], steps, rng))
            loss = cross_entropy(logits, labels[batch]) + mean(spikes) * price
            loss.backward()
            optimiser.step(0.005)
            losses.append(loss.item())
    return model, losses


model, losses = taught(direct, 4)
reached = accuracy(model, direct, np.random.default_rng(3))
print(f"{reached:.1%} of {len(test)} test images, with 4 time steps")
assert reached > 0.93

# %%
with no_grad():
    _, spikes = model(direct(pixels[test], 4, np.random.default_rng(3)))
rate = float(spikes.numpy().mean())
figure = viz.new_figure(8.0, 2.8)
left, right = figure.subplots(1, 2)
left.plot(losses, color="black", linewidth=0.8)
left.set_xlabel("training step")
left.set_ylabel("cross entropy")
right.imshow(spikes.numpy()[:, 0].T, cmap="gray_r", aspect="auto", interpolation="nearest")
right.set_xlabel("time step")
right.set_ylabel("hidden neuron")
right.set_xticks(range(4), range(1, 5))
show(figure)
print(f"the hidden neurons fire in {rate:.1%} of the steps")
assert 0.3 < rate < 0.6, "neither silent nor always on"

# %% [markdown]
# **What we saw.** A network whose neurons say nothing but 0 and 1 reads digits. On the right is one image: which
# neurons fire in which step. (Most that fire do so in every step: the input is the same in each.) Nearly half of them
# do, for nobody has asked for less. But a 0 costs nothing where an
# answer is computed by adding: this *sparsity* is what spiking hardware saves energy by (lesson 11). So put a price
# on spikes.

# %%
prices = (0.0, 0.03, 0.1, 0.3, 1.0)
spent = []
for price in prices:
    thrifty, _ = taught(direct, 4, price)
    with no_grad():
        fired = thrifty(direct(pixels[test], 4, np.random.default_rng(3)))[1].numpy().mean()
    spent.append((accuracy(thrifty, direct, np.random.default_rng(3)), float(fired)))
    print(f"price {price:>4}: {spent[-1][0]:.1%} right, {fired:.1%} of the neurons fire")
assert spent[3][1] < 0.5 * spent[0][1], "a price of 0.3 saves more than half of the spikes"
assert spent[3][0] > spent[0][0] - 0.03, "for nearly the same answers"
assert spent[4][1] < 0.01, "and at a price of 1 silence is cheapest"
assert spent[4][0] < 0.2

# %% [markdown]
# **What we saw.** Most spikes said nothing that others did not say. But ask too much and the network falls silent, and
# a silent network gives one answer to everything. While the price stands it does not come back (lesson 12).
#
# ## What do time steps buy?

# %%
counts = (1, 2, 4, 8)
found = {
    code.__name__: [accuracy(taught(code, steps)[0], code, np.random.default_rng(3)) for steps in counts]
    for code in (direct, rate_coded)
}
ax = viz.new_figure(5.5, 3.0).subplots()
for (name, values), style in zip(found.items(), ("o-", "s--"), strict=True):
    ax.plot(counts, values, style, color="black", label=name.replace("_", " "))
ax.set_xlabel("time steps T")
ax.set_ylabel("accuracy on the test images")
ax.set_xticks(counts)
ax.legend(frameon=False)
show(ax)
for name, values in found.items():
    print(name, [f"{v:.1%}" for v in values])
error = float(np.sqrt(0.98 * 0.02 / len(test)))
print(f"standard error of such a figure: {error:.1%}")

# %%
assert found["rate_coded"][-1] > found["rate_coded"][0] + 0.03, "noise averages out over time"
assert found["direct"][0] > found["rate_coded"][0], "with few steps, direct coding is ahead"
assert np.ptp(found["direct"]) < 4 * error, "and more steps buy it nothing that could be told from chance"

# %% [markdown]
# **What we saw.** With rate coding one time step is a coin thrown for each pixel, and more steps average the noise
# away. Direct coding has no noise to average, and here one step is as good as eight. What more steps are good for is a
# fair question: a neuron says more in four steps than in one (lesson 12), and each step costs energy (lesson 11).
# SpikeBERT codes directly, its input is the same at every step, and the paper takes four.
#
# ## Break it
#
# Take the grey away from the trained network: every pixel above one half is full on, the others off. It was never
# trained on that.

# %%
hard_edged = accuracy(model, lambda grey, steps, rng: (grey[None] > 0.5).astype(np.float32), np.random.default_rng(3))
print(f"black and white: {hard_edged:.1%}, with grey {reached:.1%}")
assert hard_edged < reached

# %% [markdown]
# ## Exercises
#
# Answers are in `solutions/lesson_05.py`.
#
# **1.** How far is a rate off? For a pixel of grey $g$ and $T$ time steps, return the standard deviation of its firing
# rate under rate coding.


# %%
def rate_deviation(grey: float, steps: int) -> float:
    """Of the share of steps in which the pixel fires."""
    return ...  # your code


# %%
check.deviation(rate_deviation)

# %% [markdown]
# **2.** A third way, *latency coding*: a pixel fires once, the brighter the earlier. Write it for greys from 0 to 1:
# with $T$ steps, a grey of 1 fires in the first step, one of 0 never, and between them the steps are evenly spread:
# grey in $(1 - 1/T, 1]$ fires in step 1, $(1 - 2/T, 1 - 1/T]$ in step 2, and so on.


# %%
def latency_coded(grey: np.ndarray, steps: int) -> np.ndarray:
    """``[N]`` to spikes ``[T, N]``, 0 or 1."""
    return ...  # your code


# %%
check.latency(latency_coded)

# %% [markdown]
# ## Where to read on
#
# - E. Alpaydin, C. Kaynak: *Optical Recognition of Handwritten Digits* (UCI Machine Learning Repository,
#   1998): the data.
# - J. K. Eshraghian et al.: *Training Spiking Neural Networks Using Lessons From Deep Learning* (arXiv 2109.12894):
#   codes for inputs and outputs, compared.
# - Lesson 06: how fast it all runs, and why. Who has no use for that may go on to lesson 07, where words become spikes.
