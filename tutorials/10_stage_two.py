# %% [markdown]
# # 10 Stage 2: distilling a task
#
# **Goal.** Train a spiking student on a task with all that its teacher can say: see what a temperature does, where more
# text comes from when labels are few, and take the loss apart, term by term, in a table made here.

# %%
import json
import os
from contextlib import redirect_stderr
from dataclasses import replace
from io import StringIO

import numpy as np
from checks import lesson_10 as check
from lesson import MODELS, as_batch, fresh_student, open_teacher, scratch, show

from minispike import Tensor, viz
from minispike.data.batches import collate
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.data.text import Examples
from minispike.data.tokenizer import Tokenizer
from minispike.distill.augment import AugmentConfig, augment
from minispike.distill.losses import LossWeights, layer_map
from minispike.distill.stages import Distillation, Source, student_logits
from minispike.files import atomic_write
from minispike.models.spikebert import SpikeBERT
from minispike.nn.losses import kl_divergence
from minispike.train.journal import Journal
from minispike.train.loop import Keeper, TrainConfig, train
from teachers.cache import CacheFolder
from teachers.view import CachedView

tokenizer = Tokenizer.from_file(MODELS / "bert-finetuned")
pretrained, finetuned = open_teacher("bert-pretrained"), open_teacher("bert-finetuned")

# %% [markdown]
# ## The loss
#
# $$ \mathcal L = \lambda_f\, \mathcal L_{\text{features}} + \lambda_k\, K^2\, \mathrm{KL}(p \| q)
#    + \lambda_c\, \mathrm{CE}, $$
#
# $$ p = \mathrm{softmax}(t / K),\; q = \mathrm{softmax}(z / K), $$
#
# $$ \mathrm{KL}(p \| q) = \sum_c p_c \ln \frac{p_c}{q_c} . $$
#
# In words: be like the teacher inside (lesson 09), say what the teacher says, and get the labels right. $t$ are the
# logits of the teacher and $z$ those of the student; KL, the *Kullback-Leibler divergence*, is 0 where $q$ is $p$, and
# above 0 elsewhere; CE is the cross entropy with the label (lesson 05). The *temperature* $K$ flattens both answers
# before they are compared; here it is 2. The weights $\lambda$ are called `features`, `logits` and `cross_entropy`.
# (The paper adds a term for the table of embeddings; our student begins with the teacher's table instead.)
#
# What the temperature does shows in the gradient with respect to the student's logits. With $C$ classes, and a bar for
# the mean over them,
#
# $$ \frac{\partial}{\partial z}\, K^2\, \mathrm{KL}(p \| q) = K\, (q - p)
#    \;\xrightarrow{\;K \to \infty\;}\; \frac{(z - \bar z) - (t - \bar t)}{C} . $$

# %%
t = np.array([[4.0, -3.0]])
gaps = np.linspace(-12, 12, 49)  # the student's logits, [gap/2, -gap/2]


def pull(gap: float, temperature: float) -> float:
    """The gradient at the student's first logit."""
    z = Tensor(np.array([[gap / 2, -gap / 2]]), requires_grad=True)
    kl_divergence(t, z, temperature).backward()
    return float(z.grad.numpy()[0, 0])


ax = viz.new_figure(5.4, 3.0).subplots()
for temperature, style in ((1.0, "-"), (2.0, "--"), (5.0, "-."), (50.0, ":")):
    ax.plot(gaps, [pull(gap, temperature) for gap in gaps], style, color="black", label=f"temperature {temperature:g}")
ax.axvline(7.0, color="grey", linewidth=0.8)
ax.set_xlabel("the student's first logit less its second (the teacher's: 7)")
ax.set_ylabel("gradient")
ax.legend(frameon=False)
show(ax)
softened = [np.exp(v / 2.0) / np.exp(v / 2.0).sum() for v in (np.array([1.0, -1.0]), t[0])]
assert np.isclose(pull(2.0, 2.0), 2.0 * (softened[0] - softened[1])[0]), "K (q - p)"
assert np.isclose(pull(2.0, 1e4), (2.0 - 7.0) / 4, rtol=1e-3), "the difference of logits: plain regression"

# %% [markdown]
# **What we saw.** At temperature 1, where both are sure of the same class, the student is left in peace, whether its
# logits differ by 7 or by 12. The hotter, the more the teacher's *numbers* count, and in the limit the student is asked
# for its logits. Our teacher is sure nearly always (lesson 08), so this matters.
#
# ## Text without labels
#
# With a teacher, labels are not what one runs out of: it gives its opinion on any sentence. There is *transfer text*:
# unlabelled sentences of the domain, and variants of labelled ones, in which words are hidden or exchanged and pieces
# cut out (Tang et al. 2019). A variant may say the opposite, or nothing. That does not matter: nobody hands the old
# label on, the teacher reads it anew.

# %%
few = Examples(("this film is not dull .", "the hotel was great .", "that meal was dreadful ."), np.array([1, 1, 0]))
varied = augment(few, AugmentConfig(passes=8), np.random.default_rng(3))  # those that come twice are dropped
encoded = tokenizer.encode(varied.texts, mask_marks=True)  # the word [MASK] is the token of that name
batch = collate(encoded, np.arange(len(encoded)), pad_id=tokenizer.pad_id)
logits = finetuned(batch.input_ids, batch.mask).logits
for variant, (negative, positive) in zip(varied.texts, logits, strict=True):
    print(f"{positive - negative:+6.1f}   {variant}")

# %% [markdown]
# On the left is the teacher's opinion: above 0 it is positive. It has one of everything, even of *this film is*.
#
# ## The experiment
#
# Short reviews, to be quick, and a student of one block. It takes both stages, a quarter of each batch of stage 2
# from the labelled sentences and the rest from unlabelled text (the main job mixes variants in). `Distillation` and
# `train` are those of the main job (`minispike distill`); `CachedView` keeps the teacher's answers on disk, so that
# each sentence is asked about once.

# %%
MOST_WORDS, STEPS = 10, 400


def short(examples: Examples) -> Examples:
    """The examples of few words."""
    kept = [i for i, text in enumerate(examples.texts) if len(text.split()) <= MOST_WORDS]
    return Examples(tuple(examples.texts[i] for i in kept), examples.labels[kept])


reviews = build_reviews(ReviewsConfig())
labelled, test = short(reviews.train), short(reviews.test)
known, unseen = tokenizer.encode(labelled.texts), tokenizer.encode(test.texts)
text = tokenizer.encode([text for text in reviews.unlabelled if len(text.split()) <= MOST_WORDS])
layers = layer_map(1, finetuned.num_layers)
cache = CacheFolder(scratch("answers"), 2**30)
print(f"{len(known)} labelled sentences, {len(text)} without labels, {len(unseen)} to test on")


def phase(name: str, student: SpikeBERT, steps: int, rate: float, sources: list[Source], weights: LossWeights) -> None:
    """Train a student in place."""
    task = Distillation(name, student, sources, weights, seed_key=(0, 2), pad_id=tokenizer.pad_id)
    config = TrainConfig(steps=steps, batch_size=32, learning_rate=rate, workers=1)
    with redirect_stderr(StringIO()), Journal(scratch("losses.jsonl")) as journal:  # where progress is shown
        train(task, config, Keeper(scratch("checkpoint"), journal, minutes=60))


def distilled(weights, stage1: bool, transfer: bool, seed: int = 0, teacher=finetuned, steps: int = STEPS) -> float:
    """The accuracy on test of a student taught like this."""
    student = fresh_student(finetuned, 1, seed)
    if stage1:  # texts, their labels, how many in a batch, and who teaches
        source = Source(text, None, 32, CachedView(pretrained, text, layers, cache))
        phase("stage 1", student, 100, 4e-3, [source], LossWeights(features=1.0, logits=0.0, cross_entropy=0.0))
    share = 8 if transfer else 32
    sources = [Source(known, labelled.labels, share, CachedView(teacher, known, layers, cache))]
    if transfer:
        sources.append(Source(text, None, 32 - share, CachedView(teacher, text, layers, cache)))
    phase("stage 2", student, steps, 8e-3, sources, weights)
    return float((student_logits(student, unseen, tokenizer.pad_id).argmax(axis=1) == test.labels).mean())


# %% [markdown]
# ## An ablation table
#
# One thing is taken away at a time; the last row has no teacher at all. A row is a run with one seed, the start of the
# student. Other seeds begin elsewhere: their rows were recorded by this very cell, told to take four
# (`MINISPIKE_LESSON_SEEDS=4 python -m tutorials.build 10`).

# %%
full = LossWeights(features=5.0, logits=1.0, cross_entropy=0.1)
ROWS = {  # weights, stage 1, transfer text
    "everything": (full, True, True),
    "no stage 1": (full, False, True),
    "no features": (replace(full, features=0.0), True, True),
    "no logits": (replace(full, logits=0.0), True, True),
    "no transfer text": (full, True, False),
    "labels alone": (LossWeights(features=0.0, logits=0.0, cross_entropy=1.0), False, False),
}
seeds = range(int(os.environ.get("MINISPIKE_LESSON_SEEDS", "1")))
runs = {name: [distilled(*row, seed) for seed in seeds] for name, row in ROWS.items()}
record = MODELS / "ablation.json"
if len(seeds) > 1:
    with atomic_write(record) as file:
        file.write(json.dumps(runs, indent=1) + "\n")
recorded = json.loads(record.read_text(encoding="utf-8"))

answers = as_batch(tokenizer, test.texts)
taught_by = float((finetuned(answers.input_ids, answers.mask).logits.argmax(axis=1) == test.labels).mean())
for name, values in recorded.items():
    print(f"{name:18} here {runs[name][0]:.1%}; recorded", ", ".join(f"{v:.1%}" for v in values), end="; ")
    print(f"mean {np.mean(values):.1%}")
print(f"{'the teacher':18} {taught_by:.1%}")

# %%
ax = viz.new_figure(6.0, 2.8).subplots()
names = list(recorded)[::-1]
ax.barh(names, [100 * np.mean(recorded[name]) for name in names], color="#b9bfc6", edgecolor="black")
for i, name in enumerate(names):
    ax.plot(100 * np.array(recorded[name]), [i] * len(recorded[name]), "k.")
ax.axvline(100 * taught_by, color="black", linestyle="--")
ax.text(100 * taught_by - 0.5, 2.5, "teacher", ha="right", va="center", rotation=90)
ax.set_xlim(50, 100)
ax.set_xlabel("right on short test sentences (%): mean of the seeds, and each")
show(ax)
for name in ("no features", "no logits", "no transfer text", "labels alone"):
    assert runs["everything"][0] > runs[name][0], f"here: {name}"
    assert np.mean(recorded["everything"]) > np.mean(recorded[name]) + 0.05, f"recorded: {name}"
without = np.array(recorded["everything"]) - np.array(recorded["no stage 1"])  # pairs of one seed
error = float(without.std(ddof=1) / np.sqrt(len(without)))
print(f"stage 1: {100 * without.mean():+.1f} points in the mean, with a standard error of {100 * error:.1f}")
assert abs(without.mean()) < 2 * error, "so few seeds cannot tell it from nothing"

# %% [markdown]
# **What we saw.** Taught with everything, a student is well ahead of one that had labels alone; without features,
# logits or transfer text nearly all of that is lost. What stage 1 is worth, four seeds cannot tell: two students got
# there without it, two did not. (Here stage 2 compares features too, on the same text. The paper, with ten seeds and
# other text in stage 1, finds three points.) One seed a row would have told whatever story one likes.
#
# ## Break it
#
# The student believes its teacher. Give it one that says the opposite, and leave all the labels as they are.


# %%
class Liar:
    """The fine-tuned teacher, with its logits exchanged."""

    def __init__(self) -> None:
        self.fingerprint = "the opposite of " + finetuned.fingerprint

    def __getattr__(self, name: str):
        return getattr(finetuned, name)

    def __call__(self, *words, **options):
        output = finetuned(*words, **options)
        return type(output)(output.hidden_states, None if output.logits is None else output.logits[:, ::-1])


misled = distilled(full, stage1=False, transfer=True, teacher=Liar(), steps=200)
print(f"a student of a liar: {misled:.1%}")
assert misled < 0.4, "the teacher's word counts for more than the labels, a tenth of the loss on a quarter of the batch"

# %% [markdown]
# ## Exercises
#
# Answers are in `solutions/lesson_10.py`.
#
# **1.** The teacher's answer at a temperature: logits `[C]` to probabilities `[C]`. It must not overflow.


# %%
def softened_answer(logits: np.ndarray, temperature: float) -> np.ndarray:
    """The hotter, the flatter."""
    return ...  # your code


# %%
check.softened_answer(softened_answer)

# %% [markdown]
# **2.** The gradient of $K^2\, \mathrm{KL}(p \| q)$ with respect to the student's logits `[C]`, from both logits. (Use
# your answer to the first exercise.)


# %%
def distillation_gradient(theirs: np.ndarray, ours: np.ndarray, temperature: float) -> np.ndarray:
    """Of one sentence, ``[C]``."""
    return ...  # your code


# %%
check.distillation_gradient(distillation_gradient)

# %% [markdown]
# ## Where to read on
#
# - G. Hinton, O. Vinyals, J. Dean: *Distilling the Knowledge in a Neural Network* (arXiv 1503.02531): temperature.
# - R. Tang et al.: *Distilling Task-Specific Knowledge from BERT into Simple Neural Networks* (arXiv 1903.12136): the
#   augmentation.
# - C. Lv et al.: *SpikeBERT* (arXiv 2308.15122), the ablation table.
# - `minispike/distill/stages.py`; `minispike distill`, which does all this on the whole corpus, or on yours.
# - Lesson 11: what an answer of the student costs.
