# %% [markdown]
# # 03 One neuron
#
# **Goal.** Say what a leaky integrate-and-fire neuron does in each time step, predict when it fires, and see what each
# of its constants changes.
#
# Everything here is one number that goes up and down: the *membrane potential* $v$. A network has thousands of them,
# and nothing else that it remembers from one time step to the next.

# %%
import math

import numpy as np
from checks import lesson_03 as check
from lesson import show

from minispike import viz
from minispike.record import membrane_trace
from minispike.snn.neurons import LIFNeuron, integrate_and_fire

# %% [markdown]
# ## Charge, fire, reset
#
# In each time step $t$ an input $x_t$ arrives, and the neuron
#
# $$
# \begin{aligned}
# \text{charges} && m_t &= v_{t-1} + \frac{x_t - v_{t-1}}{\tau} \\
# \text{fires} && s_t &= 1 \text{ if } m_t \ge \theta \text{, else } 0 \\
# \text{resets} && v_t &= (1 - s_t)\, m_t
# \end{aligned}
# $$
#
# In words: the potential moves towards the input, by one part in $\tau$ of what lies between them. If that takes it to
# the *threshold* $\theta$, the neuron sends a *spike*, and begins again at 0. What the next layer sees is $s_t$ alone,
# a 1 or a 0.
#
# $\tau$ is the *membrane time constant*, in time steps. Potential, input and threshold have one unit, which in a
# network means nothing; we take $\theta = 1$.

# %%
neuron = LIFNeuron(tau=2.0, threshold=1.0)
inputs = np.array([0.8, 1.5, 0.0, 1.2, 1.2, 1.2, 0.3, 2.4, 0.0, 0.0])
trace = membrane_trace(inputs[:, None], neuron)  # [T, N]: 10 steps of one neuron
show(viz.membrane_trace(None, trace, title="charge, fire, reset"))

# %% [markdown]
# Follow the line through a step: it rises or falls to the marker ($m_t$), and where the marker is a triangle, on or
# above the dashed threshold, it drops to 0. Let us redo it with nothing but Python's own arithmetic.

# %%
v, by_hand = 0.0, []
for x in inputs:
    m = v + (x - v) / 2.0
    s = 1.0 if m >= 1.0 else 0.0
    v = (1.0 - s) * m
    by_hand.append((m, s))

assert [s for _, s in by_hand] == trace.spikes[:, 0].tolist()
assert np.allclose([m for m, _ in by_hand], trace.before[:, 0])
assert math.isclose(by_hand[1][0], 0.95) and [t for t, (_, s) in enumerate(by_hand, 1) if s] == [5, 8]
print("spikes at steps", [t for t, (_, s) in enumerate(by_hand, 1) if s])

# %% [markdown]
# **What we saw.** Step 2 brings an input of 1.5, well above the threshold, and the neuron does not quite fire: it goes
# half of the way, from 0.4 to 0.95. In steps 4 and 5 the smaller input 1.2, twice, takes it over. And what came before
# counts for less and less, since in every step half of it is gone: the neuron *leaks*.
#
# The same loop is in the library, twice. `minispike/snn/neurons.py` has it as you would write it down
# (`lif_composed`), and `minispike/snn/kernels.py` as it runs fast. The tests hold the second to the first.

# %% [markdown]
# ## How often does it fire?
#
# Hold the input still at $x$. From rest, without a spike, the potential after $n$ steps is
#
# $$ m_n = x\,(1 - d^n), \qquad d = 1 - 1/\tau, $$
#
# which creeps up to $x$ and, for $\tau > 1$, never gets there. So a neuron whose input is below the threshold stays
# silent for ever. (*At* the threshold rounding decides: for $\tau = 2$, after some fifty steps $m_n$ is $x$ to the
# last digit.) Above it, the first spike comes in the first step in which $m_n \ge \theta$, that is
#
# $$ n = \left\lceil \frac{\ln(1 - \theta/x)}{\ln d} \right\rceil, $$
#
# and since a reset is a fresh start, there is a spike every $n$ steps: the *firing rate* is $1/n$. The curve of rate
# over input is the neuron's *f-I curve*.

# %%
tau, steps = 8.0, 4000
currents = np.linspace(0.5, 6.0, 111)
counted = membrane_trace(currents[None], LIFNeuron(tau=tau), time_steps=steps).spikes.mean(axis=0)
decay = 1.0 - 1.0 / tau
predicted = np.array([1.0 / math.ceil(math.log(1 - 1 / x) / math.log(decay)) if x > 1 else 0.0 for x in currents])

ax = viz.new_figure(6.0, 3.0).subplots()
ax.plot(currents, predicted, color="black", label="closed form")
ax.plot(currents[::3], counted[::3], "o", color="#4c72b0", markerfacecolor="white", label="counted")
ax.axvline(1.0, color="grey", linestyle="--", label="threshold")
ax.set_xlabel("constant input")
ax.set_ylabel("firing rate (spikes a step)")
ax.legend(frameon=False)
show(ax)

# %%
assert counted[currents < 1].max() == 0, "below the threshold nothing fires"
assert np.abs(counted - predicted).max() <= 1 / steps, "the counts are the closed form, but for the last, cut-off wait"
assert len(np.unique(predicted)) < 0.5 * len(currents), "a rate is one over a whole number: stairs, not a slope"

# %% [markdown]
# **What we saw.** Silence up to the threshold, then a steep rise, then stairs: time comes in steps, so the wait between
# two spikes is a whole number. With as few as four time steps, as networks have, a neuron can only fire 0, 1, 2, 3 or 4
# times. If only the count is read, that is all the precision there is.

# %% [markdown]
# ## Two ways to reset
#
# A *hard* reset starts again at 0, and forgets by how much the threshold was passed. A *soft* reset takes the threshold
# off, and keeps the rest: $v_t = m_t - s_t\,\theta$. (In `LIFNeuron`, `reset` is the potential after a spike, and
# `None` means a soft reset.)
#
# To see the difference, take a neuron that does not leak: `integrate_and_fire` just adds its input up,
#
# $$ m_t = v_{t-1} + x_t . $$
#
# There are two ways to charge, too. The one above moves *towards* the input and so divides it by $\tau$: the library
# calls that a *decaying input*. The other adds the whole input, $m_t = v_{t-1} - v_{t-1}/\tau + x_t$
# (`decay_input=False`); without a leak ($\tau = \infty$) it is the formula of this section.

# %%
strong = np.full((12, 1), 0.75)
hard = membrane_trace(strong, integrate_and_fire())
soft = membrane_trace(strong, integrate_and_fire(reset=None))
figure = viz.new_figure(7.0, 5.0)
above, below = figure.subplots(2, 1)
viz.membrane_trace(above, hard, title="hard reset: what is above the threshold is lost")
viz.membrane_trace(below, soft, title="soft reset: it is kept")
show(figure)

# %% [markdown]
# With a soft reset nothing is ever lost: the spikes of $T$ steps account for all of the input but what is still in the
# membrane.

# %%
for x in (0.25, 0.75, 0.9375):  # sums of powers of 2, which add up without rounding
    long = membrane_trace(np.full((1, 1), x), integrate_and_fire(reset=None), time_steps=1000)
    assert long.spikes.sum() + long.after[-1, 0] == 1000 * x, "input = spikes + what is left after the last reset"
    short = membrane_trace(np.full((1, 1), x), integrate_and_fire(), time_steps=1000)
    print(f"input {x}: rate {long.spikes.mean():.3f} with a soft reset, {short.spikes.mean():.3f} with a hard one")

assert hard.spikes.sum() == 6, "0.75 + 0.75 passes 1 in every second step, and 0.5 is thrown away"
assert soft.spikes.sum() == 9, "12 times 0.75 is 9"

# %% [markdown]
# ## Break it
#
# What if the threshold is so low that every input fires, or so high that none does? Both neurons still run, without an
# error and without a warning. They are just useless: the output says nothing of the input. Lesson 12 is about how to
# notice.

# %%
rng = np.random.default_rng(0)
noise = rng.uniform(0.0, 2.0, size=(200, 1))
for threshold in (0.001, 1.0, 100.0):
    rate = membrane_trace(noise, LIFNeuron(threshold=threshold)).spikes.mean()
    print(f"threshold {threshold:>7}: {rate:.2f} spikes a step")
    assert (rate > 0.98) == (threshold == 0.001)
    assert (rate == 0) == (threshold == 100.0)

# %% [markdown]
# ## Exercises
#
# Fill in each function and run the cell below it, which tells you whether it is right, and for which input if not.
# Answers are in `solutions/lesson_03.py`.
#
# **1.** After how many steps does a neuron at rest fire for the first time, if its input stays the same? Return `None`
# if it never does.


# %%
def steps_to_first_spike(x: float, tau: float, threshold: float) -> int | None:
    """For a constant input x above 0, tau > 1, and the charge at the top of this lesson."""
    return ...  # your code


# %%
check.first_spike(steps_to_first_spike)

# %% [markdown]
# **2.** Which constant input makes a neuron of this $\tau$ and $\theta$ fire in every $n$-th step? There is a range of
# them; give any one.


# %%
def input_for_a_spike_every(n: int, tau: float, threshold: float) -> float:
    """For a hard reset, tau > 1."""
    return ...  # your code


# %%
check.period(input_for_a_spike_every)

# %% [markdown]
# **3.** Write one step of a neuron with the charge at the top of this lesson and a *soft* reset.


# %%
def soft_step(v: float, x: float, tau: float, threshold: float) -> tuple[float, float]:
    """The spike (0.0 or 1.0) and the potential after the reset."""
    return ...  # your code


# %%
check.soft_reset(soft_step)

# %% [markdown]
# ## Where to read on
#
# - W. Gerstner, W. M. Kistler, R. Naud, L. Paninski: *Neuronal Dynamics* (2014), chapter 1.3, for the neuron in
#   continuous time.
# - W. Fang et al.: *Incorporating Learnable Membrane Time Constant to Enhance Learning of Spiking Neural Networks*
#   (arXiv 2007.05785), for the form in time steps, and for learning $\tau$.
# - Lesson 04: what to do about a step that has no slope.
