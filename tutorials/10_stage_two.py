# %% [markdown]
# # 10 Stage 2: distilling a task
#
# **Goal.** Train a spiking student on a task with all that its teacher can say: see what a temperature does, where more
# text comes from when labels are few, and take the loss apart, term by term, in a table made here.

# %%
from contextlib import redirect_stderr
from io import StringIO

import numpy as np
from checks import lesson_10 as check
from lesson import MODELS, as_batch, open_teacher, scratch, show

from minispike import Tensor, viz
from minispike.data.reviews import ReviewsConfig, build_reviews
from minispike.data.text import Examples
from minispike.data.tokenizer import Tokenizer
from minispike.distill.augment import AugmentConfig, augment
from minispike.distill.losses import LossWeights, layer_map
from minispike.distill.stages import Distillation, Source, student_logits
from minispike.distill.start import starting_tables
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
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
# $$ \mathcal L = \lambda_f\, \mathcal L_{\text{features}}
#    + \lambda_k\, \tau^2\, \mathrm{KL}(p_\tau \| q_\tau) + \lambda_c\, \mathrm{CE}(q_1, y), \qquad
#    p_\tau = \mathrm{softmax}(t / \tau),\; q_\tau = \mathrm{softmax}(z / \tau) . $$
#
# In words: be like the teacher inside, say what the teacher says (its logits are $t$, the student's $z$), and get the
# labels right. The *temperature* $\tau$ flattens both answers before they are compared. (The paper adds a term for
# the table of embeddings; our student begins with the teacher's table instead.)
#
# What the temperature does shows in the gradient with respect to the student's logits:
#
# $$ \frac{\partial}{\partial z}\, \tau^2\, \mathrm{KL}(p_\tau \| q_\tau) = \tau\, (q_\tau - p_\tau)
#    \;\xrightarrow{\;\tau \to \infty\;}\; \frac{(z - \bar z) - (t - \bar t)}{C} . $$

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
assert np.isclose(pull(2.0, 2.0), 2.0 * (softened[0] - softened[1])[0]), "tau (q - p)"
assert np.isclose(pull(2.0, 1e4), (2.0 - 7.0) / 4, rtol=1e-3), "the difference of logits: plain regression"

# %% [markdown]
# **What we saw.** At temperature 1 a student that is right and sure is left in peace, whatever the teacher's logits
# are. The hotter, the more the teacher's *numbers* count, and in the limit the student is asked for its logits.
#
# ## Text without labels
#
# With a teacher, labels are not what one runs out of: it gives its opinion on any sentence. There is *transfer text*:
# unlabelled sentences of the domain, and variants of labelled ones, in which words are hidden or exchanged and pieces
# cut out (Tang et al. 2019). A variant may say the opposite, or nothing. That does not matter: nobody hands the old
# label on, the teacher reads it anew.

# %%
few = Examples(("this film is not dull .", "the hotel was lovely ."), np.array([1, 1]))
varied = augment(few, AugmentConfig(passes=12), np.random.default_rng(3))
batch = as_batch(tokenizer, varied.texts)
logits = finetuned(batch.input_ids, batch.mask).logits
for text, (negative, positive) in zip(varied.texts, logits, strict=True):
    print(f"{positive - negative:+6.1f}   {text}")

# %% [markdown]
# ## The experiment
#
# Short reviews, to be quick, and a student of one block. It takes both stages, a quarter of each batch of stage 2 from
# the labelled sentences and the rest from transfer text. `Distillation` and `train` are those of the main job
# (`minispike distill`); `CachedView` keeps the teacher's answers on disk, so that each sentence is asked about once.

# %%
MOST_WORDS, STEPS = 10, 450


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


def new_student() -> SpikeBERT:
    """One block of width 64, from the teacher's embeddings."""
    rng = np.random.default_rng(0)
    config = SpikeBERTConfig(
        vocab_size=tokenizer.vocab_size, dim=64, depth=1, heads=4, attention_scale=0.125, time_steps=2, num_labels=2,
        max_length=32, threshold=0.5, feature_dim=finetuned.hidden_size,
    )  # fmt: skip
    student = SpikeBERT(config, rng)
    tables = starting_tables(finetuned.word_embeddings, finetuned.position_embeddings, 64, rng)
    student.embedding.weight.assign(tables.words.astype(np.float32))
    student.position.weight.assign(tables.positions.astype(np.float32))
    return student


def phase(name: str, student: SpikeBERT, steps: int, rate: float, sources: list[Source], weights: LossWeights) -> None:
    """Train a student in place."""
    task = Distillation(name, student, sources, weights, (0, 2), pad_id=tokenizer.pad_id)
    config = TrainConfig(steps=steps, batch_size=32, learning_rate=rate, workers=1)
    with redirect_stderr(StringIO()), Journal(scratch("losses.jsonl")) as journal:  # where progress is shown
        train(task, config, Keeper(scratch("checkpoint"), journal, minutes=60))


def distilled(weights: LossWeights, stage1: bool = True, transfer: bool = True, teacher=finetuned) -> float:
    """The accuracy on test of a student taught like this."""
    student = new_student()
    if stage1:
        source = Source(text, None, 32, CachedView(pretrained, text, layers, cache))
        phase("stage 1", student, 100, 4e-3, [source], LossWeights(features=1.0, logits=0.0, cross_entropy=0.0))
    share = 8 if transfer else 32
    sources = [Source(known, labelled.labels, share, CachedView(teacher, known, layers, cache))]
    if transfer:
        sources.append(Source(text, None, 32 - share, CachedView(teacher, text, layers, cache)))
    phase("stage 2", student, STEPS, 8e-3, sources, weights)
    return float((student_logits(student, unseen, tokenizer.pad_id).argmax(axis=1) == test.labels).mean())


# %% [markdown]
# ## An ablation table
#
# One thing is taken away at a time; the last row has no teacher at all.

# %%
full = LossWeights(features=5.0, logits=1.0, cross_entropy=0.1)
table = {
    "everything": distilled(full),
    "no stage 1": distilled(full, stage1=False),
    "no features": distilled(LossWeights(features=0.0, logits=1.0, cross_entropy=0.1)),
    "no logits": distilled(LossWeights(features=5.0, logits=0.0, cross_entropy=1.0)),
    "no transfer text": distilled(full, transfer=False),
    "labels alone": distilled(
        LossWeights(features=0.0, logits=0.0, cross_entropy=1.0), stage1=False, transfer=False
    ),
}  # fmt: skip
answers = as_batch(tokenizer, test.texts)
taught_by = float((finetuned(answers.input_ids, answers.mask).logits.argmax(axis=1) == test.labels).mean())
for name, value in table.items():
    print(f"{name:18} {value:6.1%}")
print(f"{'the teacher':18} {taught_by:6.1%}")

# %%
ax = viz.new_figure(6.0, 2.8).subplots()
ax.barh(list(table)[::-1], [100 * v for v in table.values()][::-1], color="#b9bfc6", edgecolor="black")
ax.axvline(100 * taught_by, color="black", linestyle="--")
ax.text(100 * taught_by - 0.5, 2.5, "teacher", ha="right", va="center", rotation=90)
ax.set_xlim(50, 100)
ax.set_xlabel("right on short test sentences (%)")
show(ax)
error = float(np.sqrt(table["everything"] * (1 - table["everything"]) / len(unseen)))
print(f"standard error of such a figure: {error:.1%}")
assert table["everything"] > table["labels alone"] + 0.05
for name in ("no features", "no logits", "no transfer text"):
    assert table["everything"] > table[name], name

# %% [markdown]
# **What we saw.** Taught with everything, the student is far ahead of one that had labels alone, and features, logits
# and transfer text are each needed for it. Stage 1 is worth no more here than chance is: stage 2 compares features too,
# on the same text. (The paper, whose stage 1 reads other text than stage 2, loses 3 points without it.) One run a row
# is a hint, not a result: another seed begins elsewhere, and moves a row by more than the standard error.
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


misled = distilled(full, stage1=False, teacher=Liar())
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
# **2.** The gradient of $\tau^2\, \mathrm{KL}(p_\tau \| q_\tau)$ with respect to the student's logits `[C]`, from both
# logits. (Use your answer to the first exercise.)


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
