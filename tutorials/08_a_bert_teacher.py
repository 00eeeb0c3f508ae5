# %% [markdown]
# # 08 A BERT teacher
#
# **Goal.** Look into a BERT: what it makes of a sentence, layer by layer, what can be read from that, and what of it a
# spiking student can copy.
#
# A spiking network is hard to train by labels alone. SpikeBERT learns from a *teacher* instead: a BERT, which knows
# more than the labels say. The one of these lessons has 2 layers of width 96 and is small enough to ship
# (`models/README.md` says how it was trained). A BERT of 12 layers is asked in the same words.

# %%
import numpy as np
from checks import lesson_08 as check
from lesson import MODELS, as_batch, scratch, show

from minispike import no_grad, viz
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.data.tokenizer import Tokenizer
from minispike.models.bert import Bert
from teachers.onnx_teacher import OnnxTeacher

reviews = build_reviews(ReviewsConfig(labelled=2000, dev=100, test=1000, unlabelled=0))
for text, label in zip(reviews.test.texts[:4], reviews.test.labels, strict=False):
    print(f"{reviews.label_names[label]:9} {text}")

# %% [markdown]
# These are reviews from a grammar, with a label that is right by construction. Half of it is in the word order: *not*,
# *although*, *far from* decide (`minispike/data/reviews.py`).
#
# ## From text to tokens
#
# BERT reads *word pieces*: frequent words are one piece, others are put together from several. `[CLS]` comes first,
# `[SEP]` last.

# %%
tokenizer = Tokenizer.from_file(MODELS / "bert-finetuned")


def pieces(text: str) -> list[str]:
    """The tokens of a text, as words."""
    return [tokenizer.token(int(i)) for i in tokenizer.encode([text]).ids[0]]


print(pieces("this film is not dull ."))
print(pieces("this film is unwatchable ."))
assert pieces("this film is not dull .") == ["[CLS]", "this", "film", "is", "not", "dull", ".", "[SEP]"]
assert len(pieces("unwatchable")) > 3, "a word that it has never seen is spelt out"

# %% [markdown]
# ## Through ONNX Runtime
#
# A teacher is asked, never trained. So it need not run in our engine: ONNX is a file format for networks, and ONNX
# Runtime computes them, whoever trained them. Our own `Bert` writes such a file; `OnnxTeacher` opens it, or somebody
# else's, and finds the hidden states in it.

# %%
berts, teachers = {}, {}
for name in ("pretrained", "finetuned"):
    berts[name] = Bert.from_folder(MODELS / f"bert-{name}")
    berts[name].to_onnx(scratch(f"{name}.onnx"))
    teachers[name] = OnnxTeacher(scratch(f"{name}.onnx"), threads=1)
teacher = teachers["finetuned"]
print(f"{teacher.num_layers} layers, width {teacher.hidden_size}, {teacher.vocab_size} tokens known")

batch = as_batch(tokenizer, reviews.test.texts)
answer = teacher(batch.input_ids, batch.mask)
print("hidden states", [states.shape for states in answer.hidden_states], "logits", answer.logits.shape)

with no_grad():
    ours = berts["finetuned"](batch.input_ids, batch.mask)
apart = max(
    float(np.abs(a[batch.mask] - b.numpy()[batch.mask]).max())
    for a, b in zip(answer.hidden_states, ours.hidden_states, strict=True)
)
print(f"ONNX Runtime and our engine differ by at most {apart:.1e}")
assert apart < 1e-3
right = float((answer.logits.argmax(axis=1) == reviews.test.labels).mean())
print(f"the fine-tuned teacher is right on {right:.1%} of {len(batch)} test sentences")
assert right > 0.93

# %% [markdown]
# ## Hidden states
#
# $$ h_0 = \mathrm{norm}(E_{\mathrm{token}} + P_{\mathrm{place}}), \qquad h_l = \mathrm{layer}_l(h_{l-1}), $$
#
# In words: each token begins as the sum of what it is and where it stands, and each layer mixes in what stands around
# it. So $h_0$ of a word is the same in every sentence that has it at that place, and $h_2$ is not. Take the word at
# place 5 in two sentences that differ *before* it:

# %%
twins = ["the film was never dull .", "the film was always dull ."]
pair = as_batch(tokenizer, twins)
place = pieces(twins[0]).index("dull")
layers = [states[:, place] for states in teacher(pair.input_ids, pair.mask).hidden_states]  # [2, D] each
cosines = [float(a @ b / np.linalg.norm(a) / np.linalg.norm(b)) for a, b in layers]
for layer, cosine in enumerate(cosines):
    print(f"layer {layer}: the two 'dull' have the cosine {cosine:.2f}")
assert cosines[0] > 0.9999, "the same word at the same place"
assert cosines[0] > cosines[1] > cosines[2], "but layer by layer it becomes something else not to be dull"
assert cosines[2] < 0.8

# %%
figure = viz.new_figure(8.0, 3.2)
one = teacher(pair.input_ids[:1], pair.mask[:1]).hidden_states
for ax, layer in zip(figure.subplots(1, 2), (0, 2), strict=True):
    unit = one[layer][0] / np.linalg.norm(one[layer][0], axis=1, keepdims=True)
    viz.attention_map(ax, unit @ unit.T, pieces(twins[0]), f"layer {layer}", "cosine")
    ax.set_xlabel("token")
    ax.set_ylabel("token")
show(figure)

# %% [markdown]
# **What we saw.** On the left every token is itself. On the right some have grown alike, and *was* and *never* have
# joined `[CLS]`: what the sentence says has been gathered there, where the classifier reads it.
#
# ## Probing: what is where?
#
# A *probe* is the simplest reader there is, a linear map, trained on the hidden states of one layer. If it finds the
# label, the label is *there*, and easy to find. With the mean $x$ of the states of a sentence and $y = \pm 1$:
#
# $$ w = (X^\top X + \lambda I)^{-1} X^\top y, \qquad \hat y = \mathrm{sign}(x \cdot w) . $$


# %%
def pooled(which: str, texts: tuple[str, ...]) -> list[np.ndarray]:
    """The mean hidden state of each text, one ``[N, D + 1]`` a layer; the last column is 1."""
    b = as_batch(tokenizer, texts)
    counts = b.mask.sum(axis=1, keepdims=True)
    states = teachers[which](b.input_ids, b.mask).hidden_states
    return [np.c_[(h * b.mask[..., None]).sum(axis=1) / counts, np.ones(len(b))] for h in states]


found = {}
for which in ("pretrained", "finetuned"):
    seen, new = pooled(which, reviews.train.texts), pooled(which, reviews.test.texts)
    found[which] = []
    for x, x_new in zip(seen, new, strict=True):
        w = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ (2 * reviews.train.labels - 1))
        found[which].append(float(((x_new @ w > 0) == reviews.test.labels).mean()))

ax = viz.new_figure(5.0, 3.0).subplots()
for (which, values), style in zip(found.items(), ("s--", "o-"), strict=True):
    ax.plot(range(3), values, style, color="black", label=which)
ax.axhline(0.5, color="grey", linewidth=0.8)
ax.set_xticks(range(3))
ax.set_xlabel("layer (0: embeddings)")
ax.set_ylabel("right on test sentences")
ax.legend(frameon=False)
show(ax)
print(found)
assert found["finetuned"][0] < found["finetuned"][1] < found["finetuned"][2]
assert found["finetuned"][2] > 0.9 > 0.7 > found["finetuned"][0]
assert max(found["pretrained"]) < 0.65

# %% [markdown]
# **What we saw.** The embeddings know words, and words alone find some six labels of ten. Each layer of the
# fine-tuned teacher adds order. The pretrained one has never heard of the task: it knows which words go where, and
# good and bad ones go to the same places. Its table of embeddings says so:


# %%
def neighbours(which: str, word: str, count: int = 4) -> list[str]:
    """The tokens whose embeddings have the largest cosine with a word's."""
    table = teachers[which].word_embeddings  # [V, D]
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    order = np.argsort(-unit @ unit[tokenizer.encode([word]).ids[0][1]])
    return [tokenizer.token(int(i)) for i in order[1 : count + 1]]


for which in ("pretrained", "finetuned"):
    print(f"{which:10} dull: {', '.join(neighbours(which, 'dull'))}")
assert {"gripping", "bright"} & set(neighbours("pretrained", "dull"))
assert not {"gripping", "bright"} & set(neighbours("finetuned", "dull"))

# %% [markdown]
# ## What a student can copy
#
# - *Logits*: not only which label, but how sure. A label says 1; a teacher says 0.7, and that is a lesson.
# - *Hidden states*, layer for layer: how the answer comes about (lesson 09).
# - *The table of embeddings*: which words are alike. Our student begins with it.
#
# Attention weights, which others copy too, a spiking student has none to compare with (lesson 07).

# %%
shares = np.exp(answer.logits - answer.logits.max(axis=1, keepdims=True))
shares /= shares.sum(axis=1, keepdims=True)
sure = shares.max(axis=1)
correct = answer.logits.argmax(axis=1) == reviews.test.labels
ax = viz.new_figure(5.0, 2.8).subplots()
bins = np.linspace(0.5, 1.0, 21)
ax.hist([sure[correct], sure[~correct]], bins, stacked=True, color=["#b9bfc6", "black"], label=["right", "wrong"])
ax.set_yscale("log")
ax.set_xlabel("probability that the teacher gives its answer")
ax.set_ylabel("test sentences")
ax.legend(frameon=False)
show(ax)
print(f"mean probability where it is right {sure[correct].mean():.3f}, where it is wrong {sure[~correct].mean():.3f}")
assert sure[correct].mean() > sure[~correct].mean(), "it knows when it does not know"

# %% [markdown]
# ## Break it
#
# Take the mask away. Padding is then read as if somebody had said it, and every token of the sentence sees it.

# %%
short, long = reviews.test.texts[0], max(reviews.test.texts, key=len)
alone, beside = as_batch(tokenizer, [short]), as_batch(tokenizer, [short, long])
length = alone.input_ids.shape[1]
expected = teacher(alone.input_ids, alone.mask).hidden_states[2][0]
with_mask = teacher(beside.input_ids, beside.mask).hidden_states[2][0, :length]
without = teacher(beside.input_ids, np.ones_like(beside.mask)).hidden_states[2][0, :length]
print(f"with the mask the numbers move by {np.abs(with_mask - expected).max():.1e}", end=", ")
print(f"without it by {np.abs(without - expected).max():.1f}")
assert np.abs(with_mask - expected).max() < 1e-3 < 0.1 < np.abs(without - expected).max()

# %% [markdown]
# ## Exercises
#
# Answers are in `solutions/lesson_08.py`.
#
# **1.** The mean over the tokens of each sentence, padding left out: states `[B, L, D]` and a mask `[B, L]`, True for
# tokens, to `[B, D]`.


# %%
def masked_mean(states: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The mean state of each sentence."""
    return ...  # your code


# %%
check.masked_mean(masked_mean)

# %% [markdown]
# **2.** Which of two texts is the teacher less sure of? Write the *entropy* of its answer in nats, from the logits
# `[C]` of one text: $-\sum_c p_c \ln p_c$ with $p$ the softmax. It must not overflow for large logits.


# %%
def entropy(logits: np.ndarray) -> float:
    """0: sure; ``ln C``: no idea."""
    return ...  # your code


# %%
check.entropy(entropy)

# %% [markdown]
# ## Where to read on
#
# - J. Devlin, M.-W. Chang, K. Lee, K. Toutanova: *BERT: Pre-training of Deep Bidirectional Transformers for Language
#   Understanding* (NAACL 2019, arXiv 1810.04805).
# - I. Tenney, D. Das, E. Pavlick: *BERT Rediscovers the Classical NLP Pipeline* (ACL 2019, arXiv 1905.05950): probing
#   all layers.
# - J. Hewitt, P. Liang: *Designing and Interpreting Probes with Control Tasks* (EMNLP 2019, arXiv 1909.03368): when a
#   probe finds what it has learned itself.
# - `teachers/onnx_teacher.py`, and `teachers/surgery.py`, which finds the hidden states in a file that does not name
#   them.
