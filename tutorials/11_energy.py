# %% [markdown]
# # 11 Energy
#
# **Goal.** Count what an answer of a spiking network costs, layer by layer, set it against how often the answer is
# right, and know what the usual figure of 0.9 pJ leaves out.
#
# The network is the student of these lessons: two blocks of width 64, two time steps, distilled from a BERT on the
# built-in reviews (lesson 10 tells how).

# %%
from dataclasses import replace

import numpy as np
from checks import lesson_11 as check
from lesson import MODELS, fastest, show

import minispike
from minispike import backend, no_grad, viz
from minispike.data.batches import in_order
from minispike.data.reviews import build_reviews
from minispike.energy import AC_PICOJOULE, MAC_PICOJOULE, bert_ledger, same_shape
from minispike.models.bert import Bert, BertConfig
from minispike.models.spikebert import SpikeBERT
from minispike.train.workers import single_threaded_products

run = minispike.load(MODELS / "student")
T, test = run.model.config.time_steps, build_reviews().test
some = test.subset(np.arange(0, len(test), 10))  # every tenth
accuracy = run.evaluate(some).result.accuracy
print(f"{accuracy:.1%} of {len(some)} test sentences")
assert accuracy > 0.85

# %% [markdown]
# ## Additions in place of products
#
# A dense layer multiplies every input by a weight and adds it up: a *multiply-accumulate* (MAC). Where the input is a
# spike there is nothing to multiply: a 1 adds the weight, a 0 does nothing at all. What is left are *accumulates* (AC),
# as many as there are spikes, times the outputs that each one reaches. For layer $l$, with firing rate $r_l$,
#
# $$ \mathrm{AC}_l = r_l \cdot T \cdot \mathrm{MAC}_l, \qquad
# E = 4.6\,\mathrm{pJ} \cdot \mathrm{MAC} + 0.9\,\mathrm{pJ} \cdot \mathrm{AC}. $$
#
# In words: a spiking layer does the additions of the dense one, in each time step, but for the share of inputs that are
# silent; and an addition is cheap. (The literature says *synaptic operations*, SOP.) The prices are those of 32-bit
# floats on a chip of 45 nm: 0.9 pJ an addition, 3.7 pJ a multiplication, so 4.6 for both (Horowitz 2014).
#
# The student is compared with a *BERT of its shape*: as many blocks and heads, as wide, on the same sentences. In the
# second picture the layers of attention are blue, all others dark.

# %%
report = run.energy(some.texts)
show(viz.energy_bars(None, report))
print(f"of a BERT of its shape: {report.ratio:.1%}, in products of matrices alone {report.matrix_ratio:.1%}")
assert report.matrix_ratio < report.ratio < 0.4
rates = run.firing_rates(some.texts)
show(viz.firing_rate_bars(None, rates))
assert 0.01 < min(rates.values()) < max(rates.values()) < 0.6, "nobody is always on, and nobody dead"

# %% [markdown]
# **What we saw.** Most neurons are silent most of the time, and the products are cheap. But two kinds of rows are not
# products at all: norms and neurons, a good part of the student. We come back to them.
#
# ## One row by hand
#
# An observer is told every array that goes by. (`features=False` leaves out what only distillation needs.) The layer
# `mlp.hidden` is the first of the two behind attention, from width 64 to 256. For one sentence, we do what spiking
# hardware would do: for each input that is not 0, add its weights, and count the additions.

# %%
NAME, seen = "blocks.1.mlp.hidden", {}
with no_grad():
    ids = np.array([run.encode(some.texts[:1]).ids[0]])
    run.model(ids, features=False, observe=lambda name, array: seen.update({name: backend.to_numpy(array).copy()}))
counts = seen[f"{NAME}.input"][:, 0]  # [T, L, in]
weight = run.model.blocks[1].mlp.hidden.linear.weight.numpy()  # [out, in]

sums, additions = np.zeros((*counts.shape[:2], len(weight))), 0
for t, token, i in np.argwhere(counts):
    for _ in range(int(counts[t, token, i])):
        sums[t, token] += weight[:, i]
        additions += len(weight)

row = next(row for row in run.energy(some.texts[:1]).rows if row.name == NAME)
print(f"{additions:,} additions, in the ledger {row.accumulates:,.0f}; a dense layer: {row.dense_macs:,.0f} MAC")
assert np.allclose(sums, counts @ weight.T, atol=1e-4), "the same sums, without one multiplication"
assert additions == row.accumulates and np.isclose(row.picojoule, AC_PICOJOULE * additions)
assert np.isclose(row.accumulates, counts.mean() * T * row.dense_macs), "the formula"

# %% [markdown]
# ## Not all inputs are spikes
#
# Why the inner loop? A block *adds* its output to its input, so what the next one reads is 0, 1, 2 and so on: a count,
# charged as that many additions. The "firing rate" of the formula is then a mean count, and may be above 1.

# %%
values, times = np.unique(counts, return_counts=True)
print({int(v): f"{n / counts.size:.0%}" for v, n in zip(values, times, strict=True)}, f"mean {counts.mean():.2f}")
assert values.max() <= 4, "a spike of the input, two of the first block, one of the second's attention"
assert AC_PICOJOULE * 4 < MAC_PICOJOULE, "so few additions are cheaper than one multiplication"

# %% [markdown]
# With 12 blocks `mlp.hidden` of the last may read a 24 (and what leaves the block is at most 25); somewhere on the way
# multiplying becomes cheaper (exercise 2).
#
# ## When does it pay?
#
# A spiking layer costs what a dense one costs when $r \cdot T \cdot 0.9 = 4.6$, that is $r \cdot T = 5.1$.

# %%
layers = {row.name: row for row in report.rows if row.kind == "linear"}
own = {name: row.picojoule / (MAC_PICOJOULE * row.dense_macs) for name, row in layers.items()}
mean_input = {name: row.accumulates / row.dense_macs / T for name, row in layers.items()}
ax = viz.new_figure(6.0, 3.2).subplots()
for steps, style in zip((1, 2, 4, 8), (":", "-", "-.", "--"), strict=True):
    ax.plot([0, 2], [0, 2 * steps * AC_PICOJOULE / MAC_PICOJOULE], style, color="black", label=f"T = {steps}")
ax.plot(list(mean_input.values()), list(own.values()), "o", color="#2f7fb5", label="layers of the student")
ax.axhline(1.0, color="grey", linewidth=3, alpha=0.5)
ax.set(xlabel="spikes for each input and time step", ylabel="energy (1: a dense layer's)", ylim=(0, 1.5), xlim=(0, 2))
ax.legend(frameon=False, fontsize="small", loc="lower right")
show(ax)
even = MAC_PICOJOULE / AC_PICOJOULE
assert 5 < even < 5.2 and even / 8 < 0.64 and max(own.values()) < 1

# %% [markdown]
# **What we saw.** Up to five time steps a layer of true spikes cannot lose, for it cannot fire more than always. With
# eight it has to be silent a third of the time. (The line is for products alone. In the first block, whose input is the
# same at every step, q, k and v are computed once, and lie at half the rate of their input.)
#
# ## 4.6 pJ for a MAC, or for a FLOP?
#
# Published figures differ by a factor of two. A MAC is *two* FLOP, and some charge 4.6 pJ for each. The paper of
# SpikeBERT gives 102.24 mJ for a sentence of BERT (arXiv 2308.15122), whose program pads sentences to 128 tokens.

# %%
base = BertConfig(28996, 768, 12, 12, 3072, 512)  # words, width, layers, heads, feed-forward width, positions
for convention in ("mac", "paper"):
    ledger = bert_ledger(base, [128], convention)
    print(f"{convention}: {ledger.dense_macs / 1e9:.1f} billion MAC, {ledger.matrix_mj:.1f} mJ")
assert abs(ledger.matrix_mj / 102.24 - 1) < 0.02, "4.6 pJ for each FLOP, at 128 tokens"
assert abs(bert_ledger(base, [248], "mac").matrix_mj / 102.24 - 1) < 0.02, "or for each MAC, at some 250"
twice = run.energy(some.texts, convention="paper")
assert np.isclose(twice.student.total_mj, 2 * report.student.total_mj) and np.isclose(twice.ratio, report.ratio)

# %% [markdown]
# So at 128 tokens it charged each FLOP. A ratio is the same, if both sides are counted alike; mJ need the count beside.
#
# ## Accuracy against energy
#
# The weights stay; we turn one knob: the number of time steps, or the threshold.


# %%
def turned(**knob):
    """Accuracy with its interval, and the energy report, of the student with another setting."""
    model = SpikeBERT(replace(run.model.config, **knob))
    model.load_state_dict(run.model.state_dict())
    other = replace(run, model=model)
    return other.evaluate(some).result, other.energy(some.texts)


by_steps = {steps: turned(time_steps=steps) for steps in (1, 2, 4, 8)}
by_threshold = {threshold: turned(threshold=threshold) for threshold in (0.2, 0.3, 0.4, 0.6, 0.8, 1.0)}
ax = viz.new_figure(6.5, 3.6).subplots()
for knob, found, style, place in (("T", by_steps, "ko-", (-10, 5)), ("threshold", by_threshold, "bs:", (6, -13))):
    energy = [1e6 * e.student.total_mj for _, e in found.values()]
    right = 100 * np.array([[a.accuracy, a.low, a.high] for a, _ in found.values()])
    ax.errorbar(energy, right[:, 0], yerr=np.abs(right[:, 1:] - right[:, :1]).T, fmt=style, label=knob)
    for value, x, y in zip(found, energy, right[:, 0], strict=True):
        ax.annotate(f"{value:g}", (x, y), place, textcoords="offset points", fontsize="small")
ax.axvline(1e6 * report.twin.total_mj, color="grey", linestyle=":", label="BERT of its shape")
ax.set(xlabel="energy of a sentence (nJ)", ylabel="accuracy (%), with 95 % interval")
ax.legend(frameon=False)
show(ax)

# %%
cost = {steps: e for steps, (_, e) in by_steps.items()}
assert np.ptp([a.accuracy for a, _ in by_steps.values()]) < 0.06, "time steps hardly change how often it is right"
assert cost[1].ratio < 0.6 * cost[2].ratio and cost[8].ratio > 6 * cost[1].ratio, "and cost nearly in proportion"
assert cost[8].matrix_ratio < 0.8 and cost[8].ratio > 1, "at 8 the products still save; the whole does not"
assert max(by_threshold[far][0].accuracy for far in (0.2, 1.0)) < by_steps[2][0].accuracy - 0.05, "it learned at 0.5"
assert by_threshold[1.0][1].ratio > cost[1].ratio, "and saves less than a time step does"

# %% [markdown]
# **What we saw.** This student, trained with two steps and a threshold of 0.5, is right nearly as often with one step,
# for half the energy. Then why two, or the paper's four? With direct coding one step did as well as more in lesson 05
# too; we know of no task in these lessons on which more pay. The threshold is a dear knob: turned far, either way, it
# costs answers. With 8 steps the student takes more than a BERT, though its products take two thirds. That is the first
# thing that 0.9 pJ hides.
#
# ## What 0.9 pJ hides
#
# **Norms and neurons.** They are no spikes: real arithmetic, for each output, in each time step. By kind of row:

# %%
shares = {kind: energy / report.student.total_mj for kind, energy in report.student.by_kind().items()}
print({kind: f"{share:.0%}" for kind, share in shares.items() if share > 0.005})
assert shares["norm"] + shares["neuron"] > 0.25
assert (report.twin.total_mj - report.twin.matrix_mj) / report.twin.total_mj < 0.05, "in a BERT such things are nothing"

# %% [markdown]
# (They grow with the width $D$, and products with $D^2$: in a wide network they weigh less.)
#
# **Memory.** An addition needs its weight from somewhere. At 45 nm a word of 32 bits from a small memory on the chip
# (SRAM) costs about 5 pJ, from DRAM about 640 pJ (Han et al. 2015, after Horowitz). What that comes to depends on how
# often a weight is fetched: once a sentence, or once for each operation.

# %%
fetched_once = sum(row.dense_macs for row in layers.values()) / (report.tokens / report.sentences)  # all weights
spiking, usual = report.student.total_mj * 1e9, report.twin.total_mj * 1e9  # pJ
hidden = {"arithmetic alone": report.ratio}
for memory, price in (("on chip", 5), ("DRAM", 640)):
    hidden[f"{memory}, a weight once"] = (spiking + price * fetched_once) / (usual + price * fetched_once)
hidden["on chip, for each operation"] = (spiking + 5 * report.student.accumulates) / (usual + 5 * report.twin.macs)
print(*(f"{name:28} student / BERT {ratio:.0%}" for name, ratio in hidden.items()), sep="\n")
assert hidden["DRAM, a weight once"] > 0.8, "nearly all of the energy is that of memory, which is the same for both"
assert min(hidden.values()) == report.ratio, "and wherever the weights lie, less is saved than it seems"

# %% [markdown]
# **This computer.** Products on a CPU do not skip a 0; they multiply by it. The count is of a chip made for spikes.

# %%
bert = Bert(same_shape(run.model.config), np.random.default_rng(0))
(batch,) = in_order(run.encode(some.texts[:32]), 32, pad_id=run.tokenizer.pad_id)
with no_grad(), single_threaded_products:
    slow = fastest(lambda: run.model(batch.input_ids, batch.mask, features=False), 15) / 32
    dense = fastest(lambda: bert(batch.input_ids, batch.mask), 15) / 32
print(f"a sentence takes the student {1e3 * slow:.2f} ms, a BERT of its shape {1e3 * dense:.2f} ms")
assert slow > 0.5 * dense, "far from the share that the ledger promises"

# %% [markdown]
# ## Break it
#
# Who is only asked for energy has an easy answer: say nothing, with a threshold that nobody reaches.

# %%
silent, spent = turned(threshold=100.0)
share = spent.student.total_mj / report.student.total_mj
print(f"{silent.accuracy:.1%} right, for {share:.0%} of the energy")
assert next(row.accumulates for row in spent.rows if row.name == "blocks.1.mlp.output") == 0, "nobody fires"
assert 0.4 < silent.accuracy < 0.75 and 0.3 < share < 1, "little better than a guess, and far from free"

# %% [markdown]
# **What we saw.** The input spikes go past the silent blocks to the classifier, which sees little but a bag of words.
# Norms, neurons and the weights that the input meets are paid for. An energy without an accuracy means little.
#
# ## Exercises
#
# Answers are in `solutions/lesson_11.py`.
#
# **1.** What is the largest number of time steps with which a spiking layer of this firing rate costs less than a dense
# one, on a chip with these prices? (Not as much: less.)


# %%
def most_steps(rate: float, addition: float, mac: float) -> int:
    """Spikes for each input and time step, above 0; prices in pJ. 0 if one step is too many."""
    return ...  # your code


# %%
check.steps(most_steps)

# %% [markdown]
# **2.** A chip can, for each input by itself, add a weight as often as the count says, at 0.9 pJ each, or multiply it
# once and add, for 4.6 pJ. It takes what is cheaper. What does a layer cost?


# %%
def cheaper_of_two(counts: np.ndarray, outputs: int) -> float:
    """Inputs ``[N, in]``, whole numbers from 0 on; the energy in pJ."""
    return ...  # your code


# %%
check.cheaper(cheaper_of_two)

# %% [markdown]
# **3.** Weights that are fetched once can serve a whole batch. How many sentences must it have, at least, for fetching
# to cost each of them less than its arithmetic?


# %%
def sentences_to_share(weights: int, word: float, arithmetic: float) -> int:
    """How many weights there are, pJ to fetch one, and pJ of a sentence's arithmetic."""
    return ...  # your code


# %%
check.share(sentences_to_share)

# %% [markdown]
# ## Where to read on
#
# - M. Horowitz: *Computing's Energy Problem (and What We Can Do About It)* (ISSCC 2014): the prices.
# - S. Han, J. Pool, J. Tran, W. J. Dally: *Learning both Weights and Connections for Efficient Neural Networks*
#   (arXiv 1506.02626): the prices of memory, in its table 1.
# - C. Lv et al.: *SpikeBERT: A Language Spikformer Learned from BERT with Knowledge Distillation* (arXiv 2308.15122).
# - `minispike/ledger.py`: every assumption in a sentence; `minispike/energy.py`: how spikes become rows.
# - Lesson 12: networks that fire too little, or too much.
