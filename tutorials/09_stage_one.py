# %% [markdown]
# # 09 Stage 1: distilling representations
#
# **Goal.** Teach a spiking student to think like its teacher, block by block, on text without a single label; choose
# which block learns from which layer; and watch the features align.
#
# It is the first of SpikeBERT's two stages. The teacher here has only guessed hidden words; it knows no task yet, and
# neither will the student.

# %%
import inspect

import numpy as np
from checks import lesson_09 as check
from lesson import MODELS, as_batch, fresh_student, open_teacher, show

from minispike import no_grad, viz
from minispike.data.batches import BatchStream
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.data.tokenizer import Tokenizer
from minispike.distill.losses import Alignment, feature_loss, layer_map
from minispike.models.spikebert import SpikeBERT
from minispike.nn.optim import AdamW

tokenizer = Tokenizer.from_file(MODELS / "bert-pretrained")
teacher = open_teacher("bert-pretrained")
reviews = build_reviews(ReviewsConfig(labelled=0, dev=100, test=500, unlabelled=12000))
texts = [text for text in reviews.unlabelled if len(text.split()) <= 10]  # short ones, to be quick
encoded = tokenizer.encode(texts)
held_out = as_batch(tokenizer, [text for text in reviews.test.texts if len(text.split()) <= 10])
print(f"{len(texts)} sentences to learn from, {len(held_out)} to look at")

# %% [markdown]
# ## What is compared
#
# The teacher's hidden states are real numbers; a block of the student hands on *counts of spikes*, at every time step.
# So a learned map stands between them, used in training alone:
#
# $$ r_i = \mathrm{norm}\Big(W_i \cdot \frac1T \sum_t x^{(i)}_t + b_i\Big), \qquad
#    \mathcal L = \frac1n \sum_{i=1}^{n} \| r_i - h_{l(i)} \|^2_{\text{mean}} . $$
#
# In words: the counts of block $i$, averaged over time, mapped and normed, are to be the hidden states of layer $l(i)$
# of the teacher, token by token, number by number. Padding does not count.
#
# ## Which block learns from which layer?
#
# A student has fewer blocks than its teacher has layers. Spread them evenly, and let the last learn from the last:
# $l(i) = \lceil i N / n \rceil$ for $i = 1 \dots n$. (Where blocks have numbers, in names and in pictures, the first
# one is 0.)

# %%
print("6 blocks, 12 layers:", layer_map(6, 12))
print("as the authors' program has it:", layer_map(6, 12, Alignment(reach="early")))
assert layer_map(6, 12)[-1] == 12
assert 12 not in layer_map(6, 12, Alignment(reach="early")), "nobody learns from the teacher's last layer"

# %% [markdown]
# ## Where the student starts
#
# The student's first spikes are the signs of its embedded tokens. If these are the teacher's embeddings, centred and
# turned at random, tokens that are alike to the teacher begin with like spikes: two vectors at the angle $\theta$
# differ in a share of $\theta / \pi$ of their signs (Charikar 2002).

# %%
print(inspect.getsource(fresh_student))

words = teacher.word_embeddings - teacher.word_embeddings.mean(axis=0)
unit = words / np.linalg.norm(words, axis=1, keepdims=True)
signs = fresh_student(teacher, 2).embedding.weight.numpy() >= 0
rng = np.random.default_rng(1)
likeliest = np.argsort(-np.triu(unit @ unit.T, 1), axis=None)[:300]  # the 300 pairs that are most alike,
pairs = np.vstack([np.c_[np.unravel_index(likeliest, (len(unit),) * 2)], rng.integers(len(unit), size=(700, 2))])
pairs = pairs[pairs[:, 0] != pairs[:, 1]]  # and 700 at random
angles = np.arccos((unit[pairs[:, 0]] * unit[pairs[:, 1]]).sum(axis=1))
differ = (signs[pairs[:, 0]] != signs[pairs[:, 1]]).mean(axis=1)
ax = viz.new_figure(4.6, 3.0).subplots()
ax.plot(angles / np.pi, differ, ".", color="grey", markersize=3, label="pairs of tokens")
ax.plot([0.15, 0.65], [0.15, 0.65], color="black", label="angle / pi")
ax.set_xlabel("angle between the teacher's embeddings / pi")
ax.set_ylabel("share of spikes that differ")
ax.legend(frameon=False)
show(ax)
agreement = float(np.corrcoef(angles, differ)[0, 1])
print(f"correlation {agreement:.2f}")
assert agreement > 0.7

# %% [markdown]
# (Two clouds, since we took the pairs that are most alike and pairs at random.) The table of places is taken over in
# the same way.

# %% [markdown]
# ## How well does it do?
#
# A mean square alone says little. Compare it with that of the best constant guess, the mean of the states: the *share
# of the variance explained* is
#
# $$ R^2 = 1 - \frac{\sum \| r - h \|^2}{\sum \| \bar h - h \|^2} . $$
#
# 1 is a perfect copy, 0 no better than the mean, and below 0 worse.


# %%
def explained(student: SpikeBERT, layers: tuple[int, ...]) -> list[float]:
    """R^2 of each block on sentences that nobody has learned from."""
    with no_grad():
        ours = student(held_out.input_ids, held_out.mask).hidden_states
    targets = teacher(held_out.input_ids, held_out.mask, layers=layers).hidden_states
    shares = []
    for r, h in zip(ours, targets, strict=True):
        r, h = r.numpy()[held_out.mask], h[held_out.mask]  # [tokens, D]
        shares.append(float(1 - ((r - h) ** 2).sum() / ((h - h.mean(axis=0)) ** 2).sum()))
    return shares


def distil(student: SpikeBERT, layers: tuple[int, ...], steps: int, other: int = 0, every: int = 10):
    """Train a student; how well it does every so many steps, and its losses.

    ``other``: a teacher who reads the sentence so many rows on.
    """
    stream = BatchStream(encoded, None, 32, [0, 1], tokenizer.pad_id)
    optimiser = AdamW(student.named_parameters())
    seen, losses = [explained(student, layers)], []
    for step in range(steps):
        batch = stream.batch(step)
        ids, mask = np.roll(batch.input_ids, other, axis=0), np.roll(batch.mask, other, axis=0)
        targets = teacher(ids, mask, layers=layers).hidden_states
        optimiser.zero_grad()
        loss = feature_loss(student(batch.input_ids, batch.mask).hidden_states, targets, batch.mask)
        loss.backward()
        optimiser.step(4e-3 * min(1.0, (step + 1) / 20) * (1.0 - step / steps))  # up, then down
        losses.append(loss.item())
        if (step + 1) % every == 0:
            seen.append(explained(student, layers))
    return seen, losses


layers = layer_map(2, teacher.num_layers)
untaught, student = fresh_student(teacher, 2), fresh_student(teacher, 2)
seen, losses = distil(student, layers, 150)
ax = viz.new_figure(5.2, 3.0).subplots()
for block, (style, values) in enumerate(zip(("o-", "s--"), zip(*seen, strict=True), strict=True)):
    ax.plot(range(0, 151, 10), values, style, color="black", label=f"block {block}, from layer {layers[block]}")
ax.axhline(0.0, color="grey", linewidth=0.8)
ax.set_ylim(-1.4, 1.0)
ax.set_xlabel("training step")
ax.set_ylabel("variance explained R^2")
ax.legend(frameon=False)
show(ax)
print("in the end", [f"{value:.2f}" for value in seen[-1]])
assert all(value < 0 for value in seen[0])
assert all(value > 0.5 for value in seen[-1])

# %% [markdown]
# ## Watching features align
#
# Five frequent words, each time they occur, in the plane in which the teacher's last layer varies most. The student's
# states are drawn in the *same* plane.

# %%
targets = teacher(held_out.input_ids, held_out.mask, layers=(2,)).hidden_states[0]
mean = targets[held_out.mask].mean(axis=0)
axes = np.linalg.eigh(np.cov(targets[held_out.mask].T))[1][:, :-3:-1]  # [D, 2], those of the largest variance
with no_grad():
    states = {
        "student, untaught": untaught(held_out.input_ids, held_out.mask).hidden_states[1].numpy(),
        "student, taught": student(held_out.input_ids, held_out.mask).hidden_states[1].numpy(),
        "teacher": targets,
    }
figure = viz.new_figure(9.0, 3.2)
for ax, (name, values) in zip(figure.subplots(1, 3, sharex=True, sharey=True), states.items(), strict=True):
    for word, mark in zip((".", "this", "is", "i", "not"), "ox^s+", strict=True):
        at = held_out.input_ids == tokenizer.encode([word]).ids[0][1]
        x, y = ((values[at] - mean) @ axes).T
        ax.plot(
            x,
            y,
            mark,
            markersize=4,
            label={".": "full stop"}.get(word, word),
            color="black",
            alpha=0.5,
            markerfacecolor="none",
        )
    ax.set_title(name, fontsize="medium")
    ax.set_xlabel("first axis")
ax.legend(frameon=False, fontsize="small", loc="upper left", bbox_to_anchor=(1.0, 1.0))
figure.axes[0].set_ylabel("second axis")
show(figure)

# %% [markdown]
# **What we saw.** Untaught, all words of the student are one heap. Taught for a few seconds, without a label, they
# stand about where the teacher's stand, though what carries them are 64 counts from 0 to 5 (lesson 07).
#
# ## The deeper, the harder
#
# Give one block one layer to learn from, each in turn.

# %%
LOOKS = (60, 120, 180)
reached = {
    layer: [r[0] for r in distil(fresh_student(teacher, 1), (layer,), 180, every=60)[0][1:]] for layer in range(3)
}
for layer, values in reached.items():
    steps = ", ".join(f"{value:.2f} after {n} steps" for n, value in zip(LOOKS, values, strict=True))
    print(f"one block, from layer {layer}: R^2 = {steps}")
assert all(a > b > c for a, b, c in zip(*reached.values(), strict=True)), "the deeper the layer, the less"

# %% [markdown]
# **What we saw.** Layer 0 are embeddings, and to copy them is to look up a table (even that takes time, and 64 spikes
# do not carry 96 numbers). A layer above has mixed tokens as often as its number says, and one block falls behind. That
# is why blocks learn from layers in their order, each a little more than the one below.
#
# ## Break it
#
# A teacher who reads another sentence than the student: the states have the right length, the right scale, and belong
# to other words.

# %%
wrong, falling = distil(fresh_student(teacher, 2), layers, 60, other=1)
print(f"the loss falls from {falling[0]:.2f} to {falling[-1]:.2f} (with the right teacher to {losses[59]:.2f}),")
print("and R^2 is", [f"{value:.2f}" for value in wrong[-1]])
assert falling[-1] < 0.6 * falling[0]
assert all(bad < 0.5 * good for bad, good in zip(wrong[-1], seen[6], strict=True))

# %% [markdown]
# Nothing failed, and the loss fell: to that of a constant guess. A falling loss is no proof; a figure on held-out
# sentences, next to a plain guess, is one.
#
# ## Exercises
#
# Answers are in `solutions/lesson_09.py`.
#
# **1.** Which layer does block $i$ of $n$ learn from (both counted from 1), if the teacher has $N$? In whole numbers,
# without rounding errors.


# %%
def teacher_layer(block: int, blocks: int, layers: int) -> int:
    """Evenly spaced, the last block from the last layer."""
    return ...  # your code


# %%
check.layer(teacher_layer)

# %% [markdown]
# **2.** The loss of one block: the mean square over the numbers of all *tokens*, padding left out. States `[B, L, D]`,
# mask `[B, L]`.


# %%
def block_loss(ours: np.ndarray, theirs: np.ndarray, mask: np.ndarray) -> float:
    """A mean over tokens and width."""
    return ...  # your code


# %%
check.loss(block_loss)

# %% [markdown]
# ## Where to read on
#
# - C. Lv, T. Li, J. Xu et al.: *SpikeBERT: A Language Spikformer Learned from BERT with Knowledge Distillation*
#   (arXiv 2308.15122): the two stages.
# - X. Jiao et al.: *TinyBERT: Distilling BERT for Natural Language Understanding* (Findings of EMNLP 2020,
#   arXiv 1909.10351): hidden states and attention, layer by layer.
# - M. Charikar: *Similarity Estimation Techniques from Rounding Algorithms* (STOC 2002): signs and angles.
# - `minispike/distill/losses.py` and `start.py`; `distill/stages.py`, stage 1 as the main job runs it.
# - Lesson 10: the task, and what stage 1 is worth for it.
