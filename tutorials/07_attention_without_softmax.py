# %% [markdown]
# # 07 Attention without softmax
#
# **Goal.** Turn the attention of a transformer into that of a spiking one, see why the softmax can go, in which order
# to multiply, and what padding does.

# %%
import time

import numpy as np
from checks import lesson_07 as check
from lesson import show

from minispike import Tensor, no_grad, viz
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.attention import softmax_attention
from minispike.record import Recorder
from minispike.snn.attention import spiking_attention

# %% [markdown]
# ## Attention, in three products
#
# Each token of a sentence has a *query*, a *key* and a *value*. Token $i$ looks at token $j$ as much as its query
# matches the other's key, and takes that much of its value:
#
# $$ \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt d}\right) V . $$
#
# In words: all products of a query with a key ($L \times L$ scores), made positive and made to add up to 1 by the
# softmax, weigh the values. The softmax is there for a reason: a product of real numbers may be negative, and a
# negative weight would mean to look *away*.
#
# Spikes are 0 or 1. A product of two rows of spikes *counts the places where both fire*. It cannot be negative, so
# there is nothing for a softmax to mend:
#
# $$ s \cdot (Q K^\top)\, V, \qquad Q, K, V \in \{0, 1\}^{L \times d}, \quad s = \tfrac18 . $$

# %%
rng = np.random.default_rng(0)
T, L, D, HEADS = 4, 12, 32, 2
q, k, v = (Tensor((rng.random((T, 1, L, D)) < 0.2).astype(np.float32)) for _ in range(3))
out = spiking_attention(q, k, v, HEADS).numpy()

scores = q.numpy()[0, 0, :, :16] @ k.numpy()[0, 0, :, :16].T  # the first head, the first time step
assert set(np.unique(scores)) <= set(range(17)), "whole numbers: common spikes"
assert np.array_equal(out[0, 0, :, :16], scores @ v.numpy()[0, 0, :, :16] / 8)
assert np.array_equal(out * 8, np.round(out * 8)), "and what comes out are eighths"

soft = Tensor(rng.normal(size=(1, L, D)))
figure = viz.new_figure(8.0, 3.0)
left, right = figure.subplots(1, 2)
logits = soft.numpy()[0, :, :16] @ soft.numpy()[0, :, :16].T / 4
weights = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
viz.attention_map(left, weights, title="softmax: rows add up to 1", label="weight")
viz.attention_map(right, scores, title="spikes, as they are", label="common spikes")
show(figure)

# %% [markdown]
# **What we saw.** The weights on the right are not normalised. A token whose query fires often looks at everything
# more. That is why a layer of neurons follows: it fires where enough has come together, and makes spikes of it again.
#
# ## In which order?
#
# Without a softmax between them, the three factors may be multiplied in either order:
#
# $$ (Q K^\top)\, V = Q\, (K^\top V). $$
#
# The first makes a matrix of $L \times L$ and costs about $2 L^2 d$ multiplications; the second one of $d \times d$,
# for $2 L d^2$. With long sentences and narrow heads the second is far cheaper, and it grows with $L$, not with its
# square. The library takes whichever is less.


# %%
def seconds(length: int, keys_first: bool) -> float:
    """The best of several tries, for one head of width 32."""
    a, b, c = (rng.random((length, 32)).astype(np.float32) for _ in range(3))
    times = []
    for _ in range(15):
        began = time.perf_counter()
        a @ (b.T @ c) if keys_first else (a @ b.T) @ c
        times.append(time.perf_counter() - began)
    return min(times)


lengths = (32, 64, 128, 256, 512, 1024, 2048)
taken = {order: [seconds(n, order) * 1e6 for n in lengths] for order in (False, True)}
ax = viz.new_figure(6.0, 3.0).subplots()
ax.loglog(lengths, taken[False], "o-", color="black", label="(q k^T) v")
ax.loglog(lengths, taken[True], "s--", color="black", label="q (k^T v)")
ax.set_xlabel("tokens L")
ax.set_ylabel("time (microseconds)")
ax.legend(frameon=False)
show(ax)

# %%
x, y, z = (Tensor((rng.random((1, 1, 40, 8)) < 0.3).astype(np.float32)) for _ in range(3))
a, b, c = (t.numpy()[0, 0] for t in (x, y, z))
assert np.array_equal((a @ b.T) @ c, a @ (b.T @ c)), "the same to the last bit: these are whole numbers"
assert taken[True][-1] < 0.5 * taken[False][-1], "at 2,048 tokens the second order is far ahead"

# %% [markdown]
# With a softmax this freedom is gone: it needs whole rows of $Q K^\top$. Linear attention, which others take great
# pains to approximate, comes for free with spikes.
#
# ## What padding does
#
# Sentences of a batch are padded to one length. A padded place must not be looked at: with a softmax its score is set
# to minus infinity; here its *value* is set to 0, and whatever its weight, it adds nothing.

# %%
mask = np.ones((1, L, 1), dtype=np.float32)
mask[:, 8:] = 0.0  # four places of padding
masked = spiking_attention(q, k, v, HEADS, mask=mask).numpy()[:, :, :8]
short = spiking_attention(*(Tensor(t.numpy()[:, :, :8]) for t in (q, k, v)), HEADS).numpy()
assert np.array_equal(masked, short), "as if the padding were not there"
unmasked = out[:, :, :8]
print(f"without the mask {np.mean(unmasked != short):.0%} of the numbers would be others")
assert np.mean(unmasked != short) > 0.1

# %% [markdown]
# The reference program of SpikeBERT has no mask. Padding takes part there, and what a sentence says depends on the
# length that all are padded to. In this library that is the setting `student.mask_padding`.
#
# ## In the network
#
# Attention has four spiking layers around it: for $Q$, $K$, $V$, and the output. Let us look at one sentence of random
# words in a network that has not learned anything yet.

# %%
config = SpikeBERTConfig.reference(100, 64, 1, 4, 4, num_labels=2)
model, recorder = SpikeBERT(config), Recorder(keep=True)
with no_grad():
    model(rng.integers(0, 100, (1, 10)), observe=recorder.batch(None))
recording = recorder.recording()
figure = viz.new_figure(8.0, 6.0)
for ax, part in zip(figure.subplots(3, 1), ("q", "k", "v"), strict=True):
    viz.spike_raster(ax, recording.spikes[f"blocks.0.attention.{part}"], neurons=32, title=part)
show(figure)
rates = {part: float(recording.spikes[f"blocks.0.attention.{part}"].mean()) for part in ("q", "k", "v")}
print({part: f"{rate:.1%} fire" for part, rate in rates.items()})
assert all(0.02 < rate < 0.6 for rate in rates.values())

# %% [markdown]
# ## Break it
#
# Does attention know the order of the words? Shuffle them.

# %%
shuffle = rng.permutation(L)
mixed = spiking_attention(*(Tensor(t.numpy()[:, :, shuffle]) for t in (q, k, v)), HEADS).numpy()
assert np.array_equal(mixed, out[:, :, shuffle]), "each token says what it said before"
same = softmax_attention(*(Tensor(soft.numpy()[:, shuffle]) for _ in range(3)), HEADS).numpy()
assert np.allclose(same, softmax_attention(soft, soft, soft, HEADS).numpy()[:, shuffle]), "with a softmax too"
print("attention sees a bag of tokens; order must come from elsewhere (lesson 13)")

# %% [markdown]
# ## Exercises
#
# Answers are in `solutions/lesson_07.py`.
#
# **1.** Write spiking attention of one head, in the order that costs less.


# %%
def one_head(q: np.ndarray, k: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Spikes ``[L, d]`` each to ``[L, d]``, with the scale 1/8."""
    return ...  # your code


# %%
check.one_head(one_head)

# %% [markdown]
# **2.** How many multiplications does each order take, for one head of width $d$ and $L$ tokens? Return both, that of
# $(Q K^\top) V$ first.


# %%
def multiplications(length: int, width: int) -> tuple[int, int]:
    """Of scalars."""
    return ...  # your code


# %%
check.multiplications(multiplications)

# %% [markdown]
# ## Where to read on
#
# - A. Vaswani et al.: *Attention Is All You Need* (arXiv 1706.03762).
# - Z. Zhou et al.: *Spikformer: When Spiking Neural Network Meets Transformer* (arXiv 2209.15425): attention of spikes.
# - `minispike/snn/attention.py`: forward and backward in both orders, sixty lines.
