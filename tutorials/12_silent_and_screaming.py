# %% [markdown]
# # 12 A silent network, and a screaming one
#
# **Goal.** Notice that a network fires too little or too much, find out why, and cure it.
#
# A spiking network that does nothing looks like one that does something: it runs, gives answers, and has a loss. No
# error tells of neurons that never fire, or always. One has to look.

# %%
from dataclasses import replace

import numpy as np
from checks import lesson_12 as check
from lesson import show
from sklearn.datasets import load_digits

from minispike import Tensor, backend, no_grad, viz
from minispike.data.batches import Batch
from minispike.energy import measure_energy
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.layers import Linear
from minispike.nn.losses import cross_entropy
from minispike.nn.module import ModuleList
from minispike.nn.optim import AdamW
from minispike.ops import mean
from minispike.record import Recorder, layer_neurons, membrane_trace, record_sentence
from minispike.snn.neurons import LIFNeuron, lif
from minispike.snn.surrogate import ATan, Surrogate, Triangle

# %% [markdown]
# ## A silent one
#
# The network of the reference program, small, with fresh weights and $T = 4$ time steps, twice. The one difference is
# the time constant: $\tau = 2$, as the program trains it, and $\tau = 10$. `Recorder` counts the spikes of each layer,
# and one backward pass shows what each would learn. (`mix` are the neurons behind attention's sums; `mlp.hidden` and
# `mlp.output` the two layers of the feed-forward part. `features=False` leaves out what only distillation needs.)

# %%
rng = np.random.default_rng(0)
ids, labels = rng.integers(0, 500, (8, 64)), rng.integers(0, 2, 8)
SILENT = SpikeBERTConfig.reference(500, dim=128, depth=2, heads=2, tau=10.0)
HEALTHY = replace(SILENT, tau=2.0)


def made(config: SpikeBERTConfig, scale: float = 1.0) -> SpikeBERT:
    """A network with fresh weights; ``scale`` is the weight of the norms before its neurons."""
    model = SpikeBERT(config)
    for parameter in (p for n, p in model.blocks.named_parameters() if n.endswith("norm.weight")):
        parameter.assign(parameter.numpy() * scale)
    return model


def look(model: SpikeBERT) -> tuple[dict[str, float], dict[str, float]]:
    """Firing rates, and the length of the gradient of each matrix, by layer."""
    recorder = Recorder()
    cross_entropy(model(ids, features=False, observe=recorder.batch(None)).logits, labels).backward()
    parameters = model.blocks.named_parameters("blocks.")
    gradients = {n.removesuffix(".linear.weight"): p.grad for n, p in parameters if n.endswith("linear.weight")}
    return recorder.firing_rates(), {name: float(np.linalg.norm(grad.numpy())) for name, grad in gradients.items()}


(quiet, no_slope), (awake, slope) = look(made(SILENT)), look(made(HEALTHY))
for ax, rates, tau in zip(viz.new_figure(10.0, 3.8).subplots(1, 2), (quiet, awake), (10, 2), strict=True):
    viz.firing_rate_bars(ax, rates).set_title(f"tau = {tau}")
show(ax)
print(f"tau 10: q fires in one of {1 / quiet['blocks.0.attention.q']:,.0f} time steps\ngradients, tau 10 and tau 2:")
for name in (name for name in slope if name.startswith("blocks.0")):
    print(f"{name:25} {no_slope[name]:.0e}, {slope[name]:.0e}")
assert max(rate for name, rate in quiet.items() if "block" in name) < 0.003 < 0.03 < awake["blocks.0.attention.q"]
assert all(no_slope[f"blocks.0.attention.{part}"] < 1e-3 * slope[f"blocks.0.attention.{part}"] for part in "qkv")
assert no_slope["blocks.0.attention.output"] == 0 and list(quiet.values()).count(0) == 6, "three layers of each block"

# %% [markdown]
# **What we saw.** With $\tau = 10$ a query fires in one time step of two thousand or so (the bars say 0.1 %), and three
# layers never. Queries, keys and values get less than a thousandth of the gradient: each is multiplied by the others,
# which are nearly all 0 (lesson 07). The output of attention gets none: a weight learns from its input, and that is 0.
#
# ## Why?
#
# Held at $x$, a neuron that has not fired is at $m_T = x\,(1 - d^T)$ after $T$ steps, with $d = 1 - 1/\tau$ (lesson
# 03). In words: in four steps it gets through a *gain* of $1 - d^4$ of its input. A layer norm makes inputs of standard
# deviation 1. So to fire even once, a neuron must draw an input of $\theta / (1 - d^T)$ standard deviations. Ask one
# whose input is well above the threshold.

# %%
recording = record_sentence(made(SILENT), ids[0])
currents = recording.currents["blocks.0.attention.q"][0, 3]
slow = recording.trace("blocks.0.attention.q", 3, [int(np.abs(currents - 1.7).argmin())])
fast = membrane_trace(slow.current, replace(slow.neuron, tau=2.0))
upper, lower = viz.new_figure(7.0, 4.4).subplots(2, 1)
viz.membrane_trace(upper, slow, title="tau = 10")
viz.membrane_trace(lower, fast, title="tau = 2, the same input")
show(lower)

assert np.allclose(slow.before[:, 0], slow.current[:, 0] * (1 - 0.9 ** np.arange(1, 5)), atol=1e-5), "the closed form"
assert slow.spikes.sum() == 0 < fast.spikes.sum() and abs(currents.std() - 1) < 0.01
gains = {tau: 1 - (1 - 1 / tau) ** 4 for tau in (10, 2)}
print({tau: f"gain {g:.2f}: fires with an input of {1 / g:.2f} standard deviations" for tau, g in gains.items()})

# %% [markdown]
# ## Three cures, and one that only helps
#
# Four steps are over before the slow membrane has noticed. The formula names three cures: a smaller $\tau$, a lower
# $\theta$, a larger input (the weight of the norm). A wider surrogate, with an $\alpha$ of 0.8 for the usual 2, makes
# nobody fire, but makes those who do not *easier to teach*.

# %%
cures = {
    "as it is": made(SILENT),
    "tau 2": made(HEALTHY),
    "threshold 0.3": made(replace(SILENT, threshold=0.3)),
    "norm weight 3": made(SILENT, scale=3.0),
    "alpha 0.8": made(replace(SILENT, alpha=0.8)),
}
found = {name: look(model) for name, model in cures.items()}
rate = {name: np.mean([100 * r for n, r in rates.items() if "block" in n]) for name, (rates, _) in found.items()}
for name, (_, gradients) in found.items():
    q, hidden = gradients["blocks.0.attention.q"], gradients["blocks.0.mlp.hidden"]
    print(f"{name:13} {rate[name]:5.2f} % fire; gradient {q:.1e} in q, {hidden:.1e} in mlp.hidden")
woken = ("tau 2", "threshold 0.3", "norm weight 3")
assert all(rate[name] > 20 * rate["as it is"] for name in woken)
assert all(found[name][1]["blocks.0.attention.q"] > 1000 * no_slope["blocks.0.attention.q"] for name in woken)
assert found["norm weight 3"][0]["blocks.0.attention.mix"] < 0.1 * awake["blocks.0.attention.mix"]
assert found["alpha 0.8"][0] == quiet, "not one spike more"
assert all(1.3 * g <= found["alpha 0.8"][1][layer] <= 4 * g for layer, g in no_slope.items()), "and more to learn"

# %% [markdown]
# **What we saw.** The first three wake the network; the weight of the norm least, for the neurons behind attention have
# no norm before them. The wider surrogate multiplies gradients by two or so, large or small: that of q stays tiny.
#
# ## A screaming one
#
# Lower the threshold of the healthy one. What a neuron says of a token in $T = 4$ steps is one of 16 words, such as
# 0101. How much it tells of a token is the *entropy* of its words over many tokens, in *bits*,
#
# $$ H = -\sum_w p_w \log_2 p_w . $$
#
# In words: how surprising they are; 0 for a neuron that always says the same, 1 if it says 0000 as often as 1111.


# %%
def bits(spikes: np.ndarray) -> float:
    """Entropy of the words of a layer's spikes ``[T, B, L, N]``, mean of its neurons."""
    words = np.tensordot([1, 2, 4, 8], spikes.astype(int), 1).reshape(-1, spikes.shape[-1])  # [B L, N]
    shares = np.array([np.bincount(w, minlength=16) for w in words.T]) / len(words)  # [N, 16]
    return float(-(shares * np.log2(np.where(shares > 0, shares, 1))).sum(axis=1).mean())


thresholds, told, cost = (3.0, 2.0, 1.0, 0.5, 0.2, 0.1, 0.03, 0.01), [], []
for threshold in thresholds:
    model, seen = made(replace(HEALTHY, threshold=threshold)), {}
    with no_grad():
        model(ids, features=False, observe=lambda name, array, seen=seen: seen.update({name: backend.to_numpy(array)}))
    told.append(np.mean([bits(seen[layer]) for layer in layer_neurons(model)]))
    cost.append(100 * measure_energy(model, [Batch(ids, ids >= 0, None, None, np.arange(8))]).matrix_ratio)

ax = viz.new_figure(5.5, 2.8).subplots()
ax.semilogx(thresholds, told, "o-", color="black")
ax.set(xlabel="threshold", ylabel="bits a neuron tells\nof a token (circles)")
other = ax.twinx()
other.semilogx(thresholds, cost, "s--", color="grey")
other.set_ylabel("energy of matrices\n(% of a BERT, squares)")
show(ax)
q, mix = (seen[f"blocks.0.attention.{layer}"] for layer in ("q", "mix"))  # at the last threshold
zeros, ones = np.mean(~q.any(axis=0)), np.mean(q.all(axis=0))
print(f"at {thresholds[-1]}: q says 0000 {zeros:.0%} of the time, 1111 {ones:.0%}; in mix {mix.mean():.0%} fire")
assert 0 < np.argmax(told) < 6 and max(told) > 1.5 * told[-1] and max(told) > 5 * told[0], "the middle tells most"
assert all(np.diff(cost) > 0) and cost[-1] > 1.4 * cost[3], "every spike costs"
assert min(zeros, ones) > 0.4 and mix.mean() > 0.9 and bits(mix) < 0.2, "always 1 is as good as never"

# %% [markdown]
# **What we saw.** A hill. On its right nobody speaks. On its left a neuron tells less for more energy. In q, behind a
# norm, half of the inputs are negative, so half say 0000, and the others 1111; behind attention, whose sums of spikes
# cannot be negative, everybody fires, and says nothing.
#
# ## Death in training
#
# Lesson 05 put a price of 1 on spikes, and the network fell silent: while the price stands, silence is cheapest. Take
# it away: does the network come back? Call a neuron *lost* that stays more than 1 below its threshold for every image.
# What is left of its gradient is the surrogate's tail, of `ATan` small, of `Triangle` nothing. AdamW divides a gradient
# by the root of a running mean of its squares, so a small one may still make a step. But that mean forgets a thousandth
# a step: of the large gradients before, two thirds are left after 20 epochs. So we try the *same* optimiser, and else
# begin with a new one. And some get a *wish* (a *regulariser*): the squared distance of the firing rate from 0.2, as a
# loss.

# %%
u = np.array([-0.5, -1.5, -6.0])
for surrogate in (ATan(2.0), Triangle(1.0), Triangle(0.1)):
    print(f"{surrogate}: slope {surrogate.derivative(u.copy()).round(4)} at {u}")
assert not Triangle(1.0).derivative(u.copy())[1:].any() and 0.6 < 0.999 ** (20 * 20) < 0.7, "exactly 0; two thirds"
pixels, classes = np.float32(load_digits().data / 16.0), load_digits().target


def life(before: Surrogate, after: Surrogate, wish: float = 0.0, new: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """A reader of digits, 25 epochs with a price of 1 on spikes and 60 without: its firing rate in each step of the 60,
    and how far the weights of each neuron that was lost have moved in them."""
    draw, rates = np.random.default_rng(2), []
    first, second = Linear(64, 64, draw), Linear(64, 10, draw)
    for epoch in range(85):
        neuron = LIFNeuron(surrogate=before if epoch < 25 else after)
        if epoch == 0 or (epoch == 25 and new):
            optimiser = AdamW(ModuleList([first, second]).named_parameters(), weight_decay=0.0)
        if epoch == 25:
            currents, weights = first(Tensor(pixels)).numpy(), first.weight.numpy()
        for rows in np.array_split(draw.permutation(len(pixels)), 20):
            optimiser.zero_grad()
            spikes = lif(first(Tensor(pixels[None, rows])), neuron, time_steps=4)
            rate = mean(spikes)
            extra = rate if epoch < 25 else (rate - 0.2) * (rate - 0.2) * wish
            (cross_entropy(mean(second(spikes), 0), classes[rows]) + extra).backward()
            optimiser.step(0.005)
            rates.append(rate.item())
    potentials = membrane_trace(currents.reshape(1, -1), neuron, 4).before.reshape(-1, 64)  # at the end of the price
    return np.array(rates[500:]), np.abs(first.weight.numpy() - weights).max(axis=1)[potentials.max(axis=0) < 0]


# %%
A, B, WIDE = ATan(), Triangle(), Triangle(0.1)
lives = {"ATan, wish": life(A, A, wish=10.0), "ATan": life(A, A), "ATan, same optimiser": life(A, A, new=False)}
lives |= {"Triangle": life(B, B), "Triangle, wish": life(B, B, wish=10.0), "Triangle, widened": life(B, WIDE)}
ax = viz.new_figure(6.5, 2.8).subplots()
for (name, (rates, moved)), style in zip(lives.items(), ("--", "-", "-.", "-", ":", "-."), strict=True):
    ax.plot(100 * rates.reshape(60, 20).mean(axis=1), style, color="black" if "ATan" in name else "#888888", label=name)
    print(f"{name}: {len(moved)} of 64 neurons were lost, their weights have moved by up to {moved.max():.2f}")
ax.set(xlabel="epoch since the price is gone", ylabel="firing rate (%)")
ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
show(ax)
back = {name: int(np.argmax(rates > 0.08)) for name, (rates, _) in lives.items()}  # the first step, or 0: never
kept = lives["ATan, same optimiser"][0]
assert 0 < back["ATan, wish"] < back["ATan"] < 400 and len(moved) > 40, "a tail is enough, with a wish sooner"
print(f"same optimiser: {kept[:300].mean():.1%} fire in 15 epochs, {kept[-20:].mean():.1%} after 60")
assert kept[:300].mean() < 0.001 and kept[-20:].mean() < 0.5 * lives["ATan"][0][-20:].mean()
assert lives["Triangle"][1].max() == lives["Triangle, wish"][1].max() == 0 < back["Triangle, widened"], "not a bit"

# %% [markdown]
# **What we saw.** With a tail and a new optimiser the network fires again by itself, with a wish sooner. With the same
# optimiser, which remembers, little comes back. With `Triangle` the lost stay lost (two lines lie on each other), and a
# wish does not help: its gradient comes through the same surrogate, and is 0, until that is widened to reach them.
#
# ## Break it
#
# Another cure for $\tau = 10$: do not divide the input by $\tau$ (`decay_input=False`), for ten times the gain.

# %%
loud, _ = look(made(replace(SILENT, decay_input=False)))
print(f"gain {10 * (1 - 0.9**4):.2f}:", *(f"{part} {loud[f'blocks.0.attention.{part}']:.0%}" for part in ("q", "mix")))
assert loud["blocks.0.attention.mix"] > 0.5, "from silence to screaming in one word"

# %% [markdown]
# ## A checklist
#
# | symptom | measure | cure |
# |-|-|-|
# | a layer is silent | its inputs against $\theta / (1 - d^T)$ | smaller $\tau$, lower $\theta$, larger norm |
# | it fires, and does not learn | gradients by layer; the factors beside them | wake the factor that is 0 |
# | gradients tiny, not 0 | how far is the threshold? | a wider surrogate (exercise 2) |
# | half fire behind norms, all behind attention | bits, energy | higher $\theta$, a price on spikes |
# | rates fall to 0 in training | the price; the surrogate's tail | lower price, new optimiser; wider surrogate; wish |
#
# ## Exercises
#
# Answers are in `solutions/lesson_12.py`.
#
# **1.** Predict the 7 % of q in the healthy network. A neuron at rest gets a constant input, drawn from the standard
# normal distribution. At which rate does it fire in $T$ steps, in the mean over inputs? (With its hard reset, whoever
# needs $n$ steps for the first spike fires every $n$ steps.)


# %%
def expected_rate(tau: float, threshold: float, steps: int) -> float:
    """Spikes a step; the chance of an input above x is ``math.erfc(x / math.sqrt(2)) / 2``."""
    return ...  # your code


# %%
check.rate(expected_rate)

# %% [markdown]
# **2.** The derivative of `ATan` is $\tfrac{\alpha}{2} / (1 + (\tfrac{\pi}{2} \alpha u)^2)$. With which $\alpha$ is it
# largest, at a distance $u$ from the threshold?


# %%
def best_alpha(u: float) -> float:
    """For any u but 0."""
    return ...  # your code


# %%
check.alpha(best_alpha)

# %% [markdown]
# ## Where to read on
#
# - J. Rossbroich, J. Gygax, F. Zenke: *Fluctuation-driven Initialization for Spiking Neural Network Training* (arXiv
#   2206.10226): how to begin neither silent nor screaming, and firing rates as a regulariser.
# - `minispike/record.py`: what can be watched. `minispike/snn/surrogate.py`: the tails.
# - Lesson 13: what the paper says, tried.
