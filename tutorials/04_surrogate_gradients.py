# %% [markdown]
# # 04 Surrogate gradients
#
# **Goal.** See why the true gradient of a spike is of no use, what is put in its place, and train a few neurons to fire
# when we want them to.
#
# Training goes downhill: change each weight a little, in the direction in which the loss falls. For a neuron that fires
# or does not, "a little" changes nothing at all, until it changes everything.

# %%
from itertools import pairwise

import numpy as np
from checks import lesson_04 as check
from lesson import show

from minispike import Tensor, check_grads, viz
from minispike.nn.module import Parameter
from minispike.nn.optim import AdamW
from minispike.ops import sum_
from minispike.snn.neurons import LIFNeuron, lif
from minispike.snn.surrogate import SURROGATES, ATan, Surrogate, spike

# %% [markdown]
# ## A step has no slope
#
# A neuron fires when $u = m - \theta \ge 0$. The output is a step, $s(u)$: flat on the left, flat on the right, and
# broken at 0. Take a network with one weight and look at its loss from close by.

# %%
inputs = np.array([0.9, 0.2, 1.4, 0.7, 0.1, 1.1, 0.8, 0.3])[:, None]  # [T, 1]
wanted = np.array([0.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 0.0])[:, None]


def loss_of(weight: float) -> float:
    """The squared distance between the spikes and those we want."""
    spikes = lif(Tensor(inputs * weight), LIFNeuron()).numpy()
    return float(((spikes - wanted) ** 2).sum())


weights = np.linspace(0.5, 3.0, 1001)
losses = np.array([loss_of(w) for w in weights])
ax = viz.new_figure(6.0, 2.8).subplots()
ax.plot(weights, losses, color="black")
ax.set_xlabel("weight of the input")
ax.set_ylabel("loss (wrong spikes)")
show(ax)

# %%
slopes = np.diff(losses) / np.diff(weights)
flat = np.mean(slopes == 0)
print(f"the loss is flat between {flat:.1%} of neighbouring weights")
assert flat > 0.98, "almost everywhere"
assert set(losses) <= set(range(9)), "and elsewhere it jumps, by whole spikes"

# %% [markdown]
# **What we saw.** Stairs. On a stair the derivative is 0 and says nothing; at an edge there is none. A search that
# follows the gradient stays where it is, for ever.

# %% [markdown]
# ## A slope from somewhere else
#
# So we lie, in one place only. Forward the neuron fires as before. Backward, where the chain rule asks for the
# derivative of the step, we put in that of a smooth step $S$:
#
# $$ \frac{\partial s}{\partial u} \;\text{ is replaced by }\; S'(u), \qquad
# S(u) = \tfrac{1}{\pi} \arctan\!\left(\tfrac{\pi}{2}\,\alpha u\right) + \tfrac12 . $$
#
# This is the *surrogate gradient*. In words: a neuron close to its threshold, above or below, would have been easy to
# change, and gets much of the blame; one far away gets little. $\alpha$ says what is close. The library has six. (The
# steps of `fast_sigmoid` have tails so long that they come near 0 and 1 only far outside the picture.)

# %%
figure = viz.new_figure(8.0, 3.2)
left, right = figure.subplots(1, 2)
surrogates = {name: kind() for name, kind in SURROGATES.items()}
viz.surrogate_plot(left, surrogates, derivative=False)
viz.surrogate_plot(right, surrogates)
show(figure)

# %% [markdown]
# Each derivative is that of its smooth step; `minispike/snn/surrogate.py` has both as one line each. Let us not believe
# that, but measure it.

# %%
u = np.linspace(-1.9, 1.9, 77) + 0.013  # beside the corners of the triangle and the box
for name, surrogate in surrogates.items():
    small = 1e-5
    measured = (surrogate.primitive(u + small) - surrogate.primitive(u - small)) / (2 * small)
    assert np.abs(measured - surrogate.derivative(u.copy())).max() < 1e-5, name  # a copy: it may write into u

# %% [markdown]
# A surrogate is no approximation of the true derivative, which is 0. For one spike it is the exact slope of something
# else, of $S(u)$. Through several time steps it is the chain rule, with $S'$ taken at the potentials of the network
# that *spikes*, and with the reset held fixed: how a spike changes the potential after it is left out of the gradient
# (`detach_reset`, the default; Zenke and Vogels 2021 find that it trains better). So it is nobody's exact gradient.
#
# How then does one know that the code is right? The library can put out $S(u)$ in place of every spike: then all is
# smooth, with the same lines of backward, and finite differences can check them (lesson 02). That is `spikes="smooth"`.

# %%
x = Tensor(np.linspace(-1, 1, 5), requires_grad=True)
sum_(spike(x, ATan())).backward()
assert np.allclose(x.grad.numpy(), ATan().derivative(np.linspace(-1, 1, 5))), "one spike"

at = np.random.default_rng(0).uniform(0.0, 2.0, size=(6, 1))  # [T, 1]
gradients = {}
for detached in (True, False):
    neuron = LIFNeuron(detach_reset=detached)
    report = check_grads(lambda x, neuron=neuron: lif(x, neuron), at, spikes="smooth")
    x = Tensor(at, requires_grad=True)
    sum_(lif(x, neuron)).backward()
    gradients[detached] = x.grad.numpy()[:, 0]
    print(f"detach_reset={detached}: gradient {gradients[detached].round(2)}, backward off by {report.worst_error:.0e}")
assert not np.allclose(gradients[True], gradients[False]), "the reset counts, if it is let"

# %% [markdown]
# ## Neurons that fire on time
#
# Twelve input lines with spikes at random, four neurons, each with a weight a line. We want each neuron to fire at
# certain time steps and at no other. The optimiser is `AdamW`: it moves each weight against its gradient, divided by
# the size that this weight's gradients have had of late, so that all weights move at about one pace, the learning rate.
# (A `Parameter` is a Tensor that is trained.)

# %%
rng = np.random.default_rng(4)
STEPS, LINES, NEURONS = 40, 12, 4
lines = Tensor((rng.random((STEPS, LINES)) < 0.3).astype(np.float64))
target = np.zeros((STEPS, NEURONS))
for i in range(NEURONS):
    target[5 + 3 * i :: 11, i] = 1.0  # neuron i: from step 5 + 3 i on, every 11 steps


def train(neuron: LIFNeuron, layers: int = 1, seed: int = 5) -> tuple[list[float], np.ndarray]:
    """The losses, and the spikes in the end; layers before the last have as many neurons as there are lines."""
    draw, widths, losses = np.random.default_rng(seed), [LINES] * layers + [NEURONS], []
    weights = [Parameter(draw.normal(0.3, 0.3, shape)) for shape in pairwise(widths)]
    optimiser = AdamW([(f"layer {i}", weight) for i, weight in enumerate(weights)], weight_decay=0.0)
    for _ in range(300):
        optimiser.zero_grad()
        spikes = lines
        for weight in weights:
            spikes = lif(spikes @ weight, neuron)  # [T, neurons]
        wrong = spikes - Tensor(target)
        loss = sum_(wrong * wrong)
        loss.backward()
        optimiser.step(0.03)
        losses.append(loss.item())
    return losses, spikes.numpy()


losses, spikes = train(LIFNeuron())
figure = viz.new_figure(8.0, 3.0)
left, right = figure.subplots(1, 2)
left.plot(losses, color="black")
left.set_xlabel("training step")
left.set_ylabel("loss (wrong spikes)")
for i in range(NEURONS):
    right.vlines(
        np.flatnonzero(target[:, i]), i - 0.4, i + 0.4, color="#bbbbbb", linewidth=6, label="wanted" if i == 0 else None
    )
    right.plot(
        np.flatnonzero(spikes[:, i]),
        np.full(int(spikes[:, i].sum()), i),
        "|",
        color="black",
        markersize=14,
        label="fired" if i == 0 else None,
    )
right.set_xlabel("time step")
right.set_ylabel("neuron")
right.set_yticks(range(NEURONS))
right.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), fontsize="small")
show(figure)

# %%
print(f"wrong spikes: {losses[0]:.0f} before, {losses[-1]:.0f} after {len(losses)} steps; wanted {int(target.sum())}")
assert losses[-1] == 0

# %% [markdown]
# **What we saw.** The loss still comes in whole spikes, so the curve goes down in jumps; but down it goes, to not one
# wrong spike, although every true derivative of it is 0.
#
# ## Break it
#
# How much can we lie? Try widths from very wide ($\alpha$ small: everybody is close to the threshold) to very narrow
# ($\alpha$ large: nobody is, which is nearly the true gradient again).

# %%
widths = {alpha: train(LIFNeuron(surrogate=ATan(alpha)))[0] for alpha in (0.01, 0.5, 2.0, 10.0, 1000.0)}
for alpha, curve in widths.items():
    print(f"alpha {alpha:>7}: {np.mean(curve[-50:]):5.1f} wrong spikes over the last 50 steps")

assert all(widths[alpha][-1] == 0 for alpha in (0.01, 0.5, 2.0)), "wide ones learn it"
assert np.mean(widths[10.0][-50:]) < np.mean(widths[1000.0][-50:]), "the narrower, the less"
assert np.mean(widths[1000.0][-50:]) > 0.25 * losses[0], "and the narrowest is stuck"

# %% [markdown]
# **What we saw.** Too narrow a surrogate learns little or nothing. A very wide one does no harm *here*: there is one
# layer, whose weights all get blamed in the right direction, and AdamW divides by the size of the gradient anyway. With
# a layer of neurons in front, whose blame comes through another surrogate, it does.

# %%
through_two = {}
for alpha in (0.01, 0.5, 2.0, 10.0):
    runs = [train(LIFNeuron(surrogate=ATan(alpha)), layers=2, seed=seed)[0] for seed in (5, 6, 7)]
    through_two[alpha] = float(np.mean([run[-50:] for run in runs]))
    print(f"two layers, alpha {alpha:>5}: {through_two[alpha]:4.1f} wrong spikes, mean of three runs")
assert through_two[0.5] < 0.5 * through_two[0.01] and through_two[0.5] < 0.5 * through_two[10.0]

# %% [markdown]
# The middle is the place to be, and the deeper the network, the more so.
#
# ## Exercises
#
# Fill in each function and run the cell below it. Answers are in `solutions/lesson_04.py`.
#
# **1.** A surrogate of your own: the *cosine bump*, $S'(u) = \tfrac{\alpha}{2}\bigl(1 + \cos(\pi \alpha u)\bigr)$ where
# $|\alpha u| < 1$, else 0. Write the derivative, and the smooth step $S$ that it belongs to, from 0 on the left to 1 on
# the right.


# %%
class CosineBump(Surrogate):
    """Both take an array ``u`` and return a new one; ``self.alpha`` is alpha."""

    def primitive(self, u: np.ndarray) -> np.ndarray:
        """The smooth step."""
        return ...  # your code

    def derivative(self, u: np.ndarray) -> np.ndarray:
        """Its derivative."""
        return ...  # your code


# %%
check.cosine_bump(CosineBump)

# %% [markdown]
# **2.** How wide is a surrogate? Return the distance from the threshold at which the derivative of `ATan(alpha)` has
# fallen to half of its largest value.


# %%
def half_width(alpha: float) -> float:
    """In the unit of the potential."""
    return ...  # your code


# %%
check.width(half_width)

# %% [markdown]
# ## Where to read on
#
# - E. O. Neftci, H. Mostafa, F. Zenke: *Surrogate Gradient Learning in Spiking Neural Networks* (arXiv 1901.09948): the
#   idea, and where it came from.
# - F. Zenke, T. P. Vogels: *The Remarkable Robustness of Surrogate Gradient Learning* (Neural Computation 33, 2021):
#   the shape matters little, the width more.
# - Lesson 12: what to do when nothing fires, or everything.
