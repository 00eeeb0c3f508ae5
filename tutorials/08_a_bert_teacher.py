# %% [markdown]
# # 08 A BERT teacher
#
# **Goal.** Look into a BERT: what it makes of a sentence, layer by layer, what can be read from that, and what of it a
# spiking student can copy.
#
# On language, a spiking network learns little from labels alone (lesson 10 measures it). SpikeBERT learns from a
# *teacher*: a BERT, which knows more than the labels say. A BERT is trained twice. *Pretraining* hides words of any
# text, and the network guesses them; that needs no labels. *Fine-tuning* goes on from there, on sentences with labels.
# The one of these lessons has 2 layers of width 96 and ships in both states (`models/README.md` says how it was made).
# A BERT of 12 layers is asked in the same words.

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
# it. (A third table tells the two texts of a pair apart; here it adds the same to every token.) So $h_0$ of a word is
# the same in every sentence that has it at that place, and $h_2$ is not. Take the word at place 5 in two sentences
# that differ *before* it:

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
# **What we saw.** On the left every token is itself. On the right they are in two camps: context has made them alike
# or different. What is in those numbers, a picture of cosines does not tell.
#
# ## Probing: what is where?
#
# A *probe* is the simplest reader there is, a linear map, trained on the hidden states of one layer. If it finds the
# label, the label is *there*, and easy to find. Let a row $x$ of $X$ be the states of a sentence, the mean over its
# tokens or that of `[CLS]`, with a 1 at the end, and $y = \pm 1$ its label. Least squares, with a small penalty
# $\lambda$ on long $w$, give
#
# $$ w = (X^\top X + \lambda I)^{-1} X^\top y, \qquad \hat y = \mathrm{sign}(x \cdot w) . $$


# %%
def read(which: str, texts: tuple[str, ...], first: bool) -> list[np.ndarray]:
    """The states of each text, ``[N, D + 1]`` a layer: of its first token, which is [CLS], or the mean of all."""
    b = as_batch(tokenizer, texts)
    counts = b.mask.sum(axis=1, keepdims=True)
    states = teachers[which](b.input_ids, b.mask).hidden_states
    chosen = [h[:, 0] if first else (h * b.mask[..., None]).sum(axis=1) / counts for h in states]
    return [np.c_[x, np.ones(len(b))] for x in chosen]


def probed(which: str, first: bool = False) -> list[float]:
    """How many test labels a probe of each layer finds."""
    found = []
    for x, x_new in zip(*(read(which, split.texts, first) for split in (reviews.train, reviews.test)), strict=True):
        w = np.linalg.solve(x.T @ x + 0.1 * np.eye(x.shape[1]), x.T @ (2 * reviews.train.labels - 1))
        found.append(float(((x_new @ w > 0) == reviews.test.labels).mean()))
    return found


found = {
    "pretrained, mean": probed("pretrained"),
    "fine-tuned, mean": probed("finetuned"),
    "fine-tuned, [CLS]": probed("finetuned", first=True),
}
ax = viz.new_figure(5.6, 3.0).subplots()
for (which, values), style in zip(found.items(), ("s--", "o-", "^:"), strict=True):
    ax.plot(range(3), values, style, color="black", label=which)
    print(f"{which:18}", [f"{value:.1%}" for value in values])
ax.axhline(0.5, color="grey", linewidth=0.8)
ax.set_xticks(range(3))
ax.set_xlabel("layer (0: embeddings)")
ax.set_ylabel("right on test sentences")
ax.legend(frameon=False)
show(ax)
mean, start = found["fine-tuned, mean"], found["fine-tuned, [CLS]"]
assert mean[0] < mean[1] < mean[2] and mean[2] > 0.9 > 0.7 > mean[0]
assert start[0] < 0.55 and start[2] > 0.9, "[CLS] begins with nothing, and ends with the answer"
assert max(found["pretrained, mean"]) < 0.65

# %% [markdown]
# **What we saw.** The embeddings know words, and words alone find some six labels of ten. Each layer of the
# fine-tuned teacher adds order, and gathers it at `[CLS]`, which is the same in every sentence to begin with: there its
# classifier reads the answer. The pretrained one has never heard of the task: it knows which words go where, and
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
# - *Logits*: not only which label, but how sure.
# - *Hidden states*, layer for layer: how the answer comes about (lesson 09).
# - *The table of embeddings*: which words are alike. Our student begins with it.
#
# Attention weights, which others copy too, are no use here: those of a student of spikes do not add up to 1 (lesson
# 07).
#
# How much more than a label do the logits say?

# %%
shares = np.exp(answer.logits - answer.logits.max(axis=1, keepdims=True))
shares /= shares.sum(axis=1, keepdims=True)
sure = shares.max(axis=1)
correct = answer.logits.argmax(axis=1) == reviews.test.labels
ax = viz.new_figure(6.0, 2.8).subplots()
bins = np.linspace(0.5, 1.0, 11)
ax.hist([sure[correct], sure[~correct]], bins, color=["#b9bfc6", "black"], label=["right", "wrong"])
ax.set_yscale("log")
ax.set_xlabel("probability that the teacher gives its answer")
ax.set_ylabel("test sentences")
ax.legend(frameon=False)
show(ax)
certain = {name: int((sure[which] > 0.95).sum()) for name, which in (("right", correct), ("wrong", ~correct))}
print(f"above 0.95 are {certain['right']} of {correct.sum()} right answers", end=", ")
print(f"and {certain['wrong']} of {(~correct).sum()} wrong ones")
assert certain["right"] > 0.9 * correct.sum(), "it is nearly always sure"
assert certain["wrong"] > 0.3 * (~correct).sum(), "and often when it is wrong"
assert sure[correct].mean() > sure[~correct].mean(), "if a little less"

# %% [markdown]
# **What we saw.** This teacher is sure of nearly everything, of half of its errors too. As they are, its probabilities
# say little more than labels do; how to get more out of its logits is a matter of *temperature* (lesson 10).
#
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
# `[C]` of one text: $-\sum_c p_c \ln p_c$ with $p$ the softmax. It must not overflow for large logits; and where
# $p_c$ is 0, so is $p_c \ln p_c$.


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
# - Lesson 09: a student that copies the hidden states.
