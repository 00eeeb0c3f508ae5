# %% [markdown]
# # 07 Attention without softmax
#
# **Goal.** Turn the attention of a language model into that of a spiking one, see why the softmax can go, in which
# order to multiply, what padding does, and how the whole network is put together.

# %%
from collections import defaultdict

import numpy as np
from checks import lesson_07 as check
from lesson import MODELS, fastest, show

import minispike
from minispike import Tensor, no_grad, viz
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.nn.attention import softmax_attention
from minispike.nn.layers import normed_linear
from minispike.ops import mean
from minispike.snn.attention import spiking_attention
from minispike.snn.neurons import lif
from minispike.snn.shift import shift_tokens
from minispike.snn.surrogate import ATan, spike

# %% [markdown]
# ## Attention, in three products
#
# A *token* is a word or a piece of one; a sentence is $L$ of them, each a row of $D$ numbers. Attention is how they
# hear of each other. Three learned matrices make of each row a *query* (what am I looking for?), a *key* (what do I
# offer?) and a *value* (what do I hand on?). Token $i$ looks at token $j$ as much as its query matches the other's key,
# and takes that much of its value:
#
# $$ \mathrm{softmax}\!\left(\frac{Q K^\top}{\sqrt d}\right) V , $$
#
# $$ \mathrm{softmax}(z)_j = \frac{e^{z_j}}{\sum_i e^{z_i}} . $$
#
# The $D$ columns are cut into *heads* of $d$ columns, and each head does this by itself.
#
# In words: all products of a query with a key ($L \times L$ scores), made positive and made to add up to 1 by the
# softmax, weigh the values. The softmax is there for a reason: a product of real numbers may be negative, and a
# negative weight would mean to look *away*.
#
# Spikes are 0 or 1. A product of two rows of spikes *counts the places where both fire*. It cannot be negative, so
# there is nothing for a softmax to mend:
#
# $$ s \cdot (Q K^\top)\, V, \qquad Q, K, V \in \{0, 1\}^{L \times d}, \quad s = \tfrac18 . $$
#
# ($s$ is a fixed scale, that of the reference, which keeps the sums near the threshold of the neurons that follow. All
# this happens in every time step by itself.)

# %%
rng = np.random.default_rng(0)
T, L, D, HEADS = 4, 12, 32, 2
q, k, v = (Tensor((rng.random((T, 1, L, D)) < 0.2).astype(np.float32)) for _ in range(3))
out = spiking_attention(q, k, v, HEADS).numpy()

scores = q.numpy()[0, 0, :, :16] @ k.numpy()[0, 0, :, :16].T  # the first head, the first time step
assert set(np.unique(scores)) <= set(range(17)), "whole numbers: common spikes"
assert np.array_equal(out[0, 0, :, :16], scores @ v.numpy()[0, 0, :, :16] / 8)
assert np.array_equal(out * 8, np.round(out * 8)), "and what comes out are eighths"

soft, keys = Tensor(rng.normal(size=(1, L, D))), rng.normal(size=(L, 16))
figure = viz.new_figure(8.0, 3.0)
left, right = figure.subplots(1, 2)
products = soft.numpy()[0, :, :16] @ keys.T / 4  # the root of 16
weights = np.exp(products) / np.exp(products).sum(axis=1, keepdims=True)
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
# The first makes a matrix of $L \times L$ and costs $2 L^2 d$ multiplications; the second one of $d \times d$,
# for $2 L d^2$. With long sentences and narrow heads the second is far cheaper, and it grows with $L$, not with its
# square. The library takes whichever is less.


# %%
orders = {"(q k^T) v": lambda q, k, v: (q @ k.T) @ v, "q (k^T v)": lambda q, k, v: q @ (k.T @ v)}
lengths, taken = (32, 64, 128, 256, 512, 1024, 2048), {}
for _ in range(3):  # in turns, so that a slow moment of the machine hits one round alone
    for n in lengths:
        head = [rng.random((n, 32)).astype(np.float32) for _ in range(3)]  # of width 32
        for order, product in orders.items():
            spent = fastest(lambda product=product, head=head: product(*head), 10)
            taken[order, n] = min(taken.get((order, n), np.inf), 1e6 * spent)
ax = viz.new_figure(6.0, 3.0).subplots()
for order, style in (("(q k^T) v", "o-"), ("q (k^T v)", "s--")):
    ax.loglog(lengths, [taken[order, n] for n in lengths], style, color="black", label=order)
ax.set_xlabel("tokens L")
ax.set_ylabel("time (microseconds)")
ax.legend(frameon=False)
show(ax)

# %%
x, y, z = (Tensor((rng.random((1, 1, 40, 8)) < 0.3).astype(np.float32)) for _ in range(3))
a, b, c = (t.numpy()[0, 0] for t in (x, y, z))
assert np.array_equal((a @ b.T) @ c, a @ (b.T @ c)), "the same to the last bit: these are whole numbers"
assert taken["q (k^T v)", 2048] < 0.5 * taken["(q k^T) v", 2048], "at 2,048 tokens the second order is far ahead"

# %% [markdown]
# With a softmax this freedom is gone: it needs whole rows of $Q K^\top$.
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
print(f"without the mask {np.mean(unmasked != short):.0%} of the numbers would be different")
assert np.mean(unmasked != short) > 0.1

# %% [markdown]
# The reference program of SpikeBERT has no mask. Padding takes part there, and what a sentence says depends on the
# length that all are padded to. In this library that is the setting `student.mask_padding`.
#
# ## The whole network
#
# That was attention. Here is all of a SpikeBERT, in the library's functions, from word numbers to logits. Four things
# are new.
#
# - An *embedding* is a table with a row of numbers for each token, and another one for each place in the sentence. Both
#   are added, and a number of 0 or more becomes a spike: the input, the same at every time step.
# - A *layer norm* shifts and scales the numbers of a token to mean 0 and deviation 1, then by learned weights, so that
#   neurons get inputs of a fitting size.
# - The *token shift* gives a quarter of the columns the values of the token before, and a quarter those of the token
#   after. It costs nothing, and neighbours see each other.
# - A *block* is attention and an *MLP* (two layers for each token by itself, the first four times as wide). Each *adds*
#   its spikes to what came in. So what goes from block to block are counts: 0 or 1 at first, at most 3 after a block.

# %%
run = minispike.load(MODELS / "student")  # two blocks of width 64, distilled on reviews (lesson 10)
model, config = run.model, run.model.config


def fires(x: Tensor, part) -> Tensor:
    """A spiking layer: linear map, layer norm, LIF neurons over time."""
    return lif(normed_linear(x, part.linear, part.norm), config.neuron(), time_steps=config.time_steps)


def network(ids: np.ndarray, seen: dict[str, np.ndarray]) -> Tensor:
    """Ids ``[B, L]`` without padding to logits ``[B, C]``."""
    x = spike(model.embedding(ids) + model.position(np.arange(ids.shape[1])), ATan())[None]  # [1, B, L, D]
    for i, block in enumerate(model.blocks):
        near = shift_tokens(x, block.shifted)
        q, k, v = (fires(near, part) for part in (block.attention.q, block.attention.k, block.attention.v))
        seen[f"q{i}"], seen[f"k{i}"] = q.numpy()[:, 0], k.numpy()[:, 0]  # [T, L, D]
        attended = spiking_attention(q, k, v, config.heads, config.attention_scale)
        mix = lif(attended, config.neuron(config.threshold / 2))  # fires where enough has come together
        x = x + fires(mix, block.attention.output)  # [T, B, L, D], counts
        x = x + fires(fires(shift_tokens(x, block.shifted), block.mlp.hidden), block.mlp.output)
        assert x.numpy().max() <= 1 + 2 * (i + 1)
    return mean(model.classifier(mean(model.norm(x), 2)), 0)  # mean over tokens, and over time


text = "this film is not dull but touching ."
ids, seen = run.encode([text]).ids[0][None], {}
with no_grad():
    ours, theirs = network(ids, seen).numpy(), model(ids).logits.numpy()
assert np.allclose(ours, theirs, atol=1e-4), "twenty lines, and the library's network"
print(dict(zip(run.label_names, map(float, ours[0].astype(float).round(1)), strict=True)))

# %% [markdown]
# Where does it look? All heads of the first block (number 0) together, at the last time step:

# %%
tokens = [run.tokenizer.token(int(i)) for i in ids[0]]
common = seen["q0"][-1] @ seen["k0"][-1].T  # [L, L]
show(viz.attention_map(None, common, tokens, "block 0", "common spikes"))
show(viz.spike_raster(viz.new_figure(8.0, 2.4).subplots(), seen["k0"], tokens, title="keys of block 0"))

# %% [markdown]
# The columns differ and the rows hardly do: all tokens look at the same places, here most at *not* and *but*, on which
# the opinion turns. Is that so in general? One sentence is an anecdote. Take 400 test sentences, and count how often a
# word is among the two most looked at.

# %%
sentences, hits, share_of_columns = build_reviews(ReviewsConfig(unlabelled=0)).test.texts[:400], defaultdict(list), []
for text in sentences:
    ids, seen = run.encode([text]).ids[0][None], {}
    with no_grad():
        network(ids, seen)
    common = seen["q0"][-1] @ seen["k0"][-1].T  # [query, key]
    share_of_columns.append(float(common.mean(axis=0).var() / common.var()))
    most = np.argsort(-common.mean(axis=0))[:2]
    for i, token in enumerate(ids[0]):
        hits[run.tokenizer.token(int(token))].append(i in most)
rates = {word: float(np.mean(found)) for word, found in hits.items() if len(found) >= 20}
ranked = sorted(rates, key=rates.get, reverse=True)
print("most often:", ", ".join(f"{word} {rates[word]:.0%}" for word in ranked[:8]))
print("and never:", ", ".join(word for word in ranked if not rates[word]))
print(f"of what varies in such a map {np.mean(share_of_columns):.0%} goes by the key alone")
assert min(rates[word] for word in ("than", "although", "but")) > 0.5, "words that say which clause counts"
assert np.mean(share_of_columns) > 0.6

# %% [markdown]
# **What we saw.** This block looks most at words that tell which part of a sentence counts, *than*, *although*, *but*,
# and that nobody has pointed out to it; but at *with* too, which means nothing here, and at *not* in a third of the
# sentences that have it. And it hardly asks who is looking. A map of attention is a place to begin to ask, not an
# answer.
#
# ## Break it
#
# Does attention know the order of the words? Shuffle them.

# %%
shuffle = rng.permutation(L)
mixed = spiking_attention(*(Tensor(t.numpy()[:, :, shuffle]) for t in (q, k, v)), HEADS).numpy()
assert np.array_equal(mixed, out[:, :, shuffle]), "each token says what it said before"
same = softmax_attention(*(Tensor(soft.numpy()[:, shuffle]) for _ in range(3)), HEADS).numpy()
assert np.allclose(same, softmax_attention(soft, soft, soft, HEADS).numpy()[:, shuffle]), "with a softmax too"
print("attention sees a bag of tokens; order comes from the table of places and the token shift")

# %% [markdown]
# ## Exercises
#
# Answers are in `solutions/lesson_07.py`.
#
# **1.** Write spiking attention of one head, in the order that costs less. (The check sees the result alone.)


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
# - `minispike/snn/attention.py`: forward and backward in both orders. `minispike/models/spikebert.py`: the network.
# - Lesson 08: who has taught that student.
