"""Mistakes in the fused ops: linear maps, norms, embeddings, losses, attention, token shift."""

from typing import Any

import numpy as np
from wrong_gradients import Mistake, disguised

from minispike.backend import array_module
from minispike.nn import functional as F
from minispike.nn import layers, losses, rows
from minispike.nn.attention import SoftmaxAttention, merge_heads, softmax_attention, split_heads
from minispike.nn.losses import CrossEntropy
from minispike.ops import sum_
from minispike.snn.attention import SpikingAttention, spiking_attention
from minispike.snn.shift import ShiftTokens, shift_tokens
from minispike.tensor import Tensor

Array = Any
Arrays = Any

LINEAR = [(2, 3, 4), (4, 4), (4,)]
NORM = [(3, 5), (5,), (5,)]
NORMED = [(2, 3, 4), (5, 4), (5,), (5,), (5,)]
IDS = np.array([1, 0, 2, 2, 1])
LABELS = np.array([0, 2, 2, 1])
TEACHER = np.random.default_rng(9999).normal(size=(4, 3))
QKV = [(2, 3, 4)] * 3
SPIKES = [(2, 2, 3, 4)] * 3
MASK = np.array([[1.0, 1.0, 1.0], [1.0, 1.0, 0.0]])[..., None]


# --- linear maps and norms


def spoilt(right: Any, op: Any, grad: Array, place: int, change: Any) -> Arrays:
    """The right gradients of a fused op, one of them changed."""
    gradients = list(right(op, grad))
    gradients[place] = change(gradients[place])
    return gradients


def of_rows(op: F.LayerNorm | F.NormedLinear, grad: Array, weight: Array) -> Array:
    """The gradient of the rows that a norm was given, less their mean."""
    changed, scratch = rows.as_rows(grad).copy(), array_module(grad).empty_like(op.normal)
    rows.norm_gradients(changed, op.normal, op.inverse, weight[None], changed, scratch)
    return changed


def uncentred(right: Any, op: F.LayerNorm, grad: Array) -> Arrays:
    return of_rows(op, grad, op.weight), *right(op, grad)[1:]


def without_variance(right: Any, op: F.LayerNorm, grad: Array) -> Arrays:
    dx = grad * op.weight
    return (dx - rows.means(dx)) * op.inverse, *right(op, grad)[1:]


def not_divided_by_the_width(
    right: Any, grad: Array, normal: Array, inverse: Array, weight: Array, out: Array, scratch: Array
) -> Arrays:
    of_the_rest = right(grad.copy(), normal, inverse, weight, out, scratch)
    grad *= weight
    out[...] = (grad - normal * (grad * normal).sum(axis=-1)[..., None]) * inverse
    return of_the_rest


def of_uncentred_weights(right: Any, op: F.NormedLinear, grad: Array) -> Arrays:
    return spoilt(right, op, grad, 1, lambda dw: of_rows(op, grad, op.norm_weight).T @ rows.as_rows(op.x))


def of_the_first_step(right: Any, grad: Array, normal: Array, *rest: Any) -> Arrays:
    first = grad[:3].sum(axis=0)
    return right(grad, normal, *rest)[0], first


def without_the_gain(right: Any, op: F.NormedLinear, grad: Array) -> Arrays:
    op.norm_weight = array_module(grad).ones_like(op.norm_weight)
    return right(op, grad)


LINEAR_MAPS = {
    "linear: bias not summed over the batch": Mistake(
        F.linear, LINEAR, F.Linear, "backward_arrays",
        lambda right, op, grad: spoilt(right, op, grad, 2, lambda db: grad[0].sum(axis=0)),
    ),
    "linear: bias of the mean": Mistake(
        F.linear, LINEAR, F, "column_sums", lambda right, rows: right(rows) * (1.0 / len(rows))
    ),
    "linear: weight of the last step alone": Mistake(
        F.linear, LINEAR, F.Linear, "backward_arrays",
        lambda right, op, grad: spoilt(right, op, grad, 1, lambda dw: grad[-1].T @ op.x[-1]),
    ),
    "linear: weight transposed": Mistake(
        F.linear, LINEAR, F.Linear, "backward_arrays",
        lambda right, op, grad: spoilt(right, op, grad, 1, lambda dw: dw.T.copy()),
    ),
    "linear: input through the transposed weight": Mistake(
        F.linear, LINEAR, F.Linear, "backward_arrays",
        lambda right, op, grad: spoilt(right, op, grad, 0, lambda dx: grad @ op.weight.T),
    ),
    "layer norm: mean taken for a constant": Mistake(
        F.layer_norm, NORM, F.LayerNorm, "backward_arrays", uncentred
    ),
    "layer norm: variance taken for a constant": Mistake(
        F.layer_norm, NORM, F.LayerNorm, "backward_arrays", without_variance
    ),
    "layer norm: a sum over the width, not a mean": Mistake(
        F.layer_norm, NORM, F, "norm_gradients", not_divided_by_the_width
    ),
    "layer norm: divided by the variance, not its root": Mistake(
        F.layer_norm, NORM, F, "norm_gradients",
        lambda right, grad, normal, inverse, *rest: right(grad, normal, inverse * inverse, *rest),
    ),
    "layer norm: weight of the input before it is normalised": Mistake(
        F.layer_norm, NORM, F.LayerNorm, "backward_arrays",
        lambda right, op, grad: spoilt(right, op, grad, 1, lambda dw: (grad * op.normal / op.inverse).sum(axis=0)),
    ),
    "normed linear: weight not centred": Mistake(
        F.normed_linear, NORMED, F.NormedLinear, "backward_arrays", of_uncentred_weights
    ),
    "normed linear: without the gain of the norm": Mistake(
        F.normed_linear, NORMED, F.NormedLinear, "backward_arrays", without_the_gain
    ),
    "normed linear: bias of the first step alone": Mistake(
        F.normed_linear, NORMED, F, "norm_gradients", of_the_first_step
    ),
}  # fmt: skip


# --- embeddings, dropout and losses


def assigned(right: Any, op: F.Embedding, grad: Array) -> Arrays:
    dw = array_module(grad).zeros_like(op.weight)
    for place, row in enumerate(IDS.tolist()):
        dw[row] = grad[place]
    return (dw,)


def first_row_frozen(dw: Any) -> Array:
    dense = dw.array.copy() if isinstance(dw, Tensor) else dw  # rows on a CPU, all of them on a GPU
    dense[0] = 0.0
    return dense


def embedded(weight: Tensor) -> Tensor:
    return F.embedding(IDS, weight)


def classified(logits: Tensor) -> Tensor:
    return losses.cross_entropy(logits, LABELS) * 3.0


def distilled(logits: Tensor) -> Tensor:
    return losses.kl_divergence(TEACHER, logits, 2.0)


def dropped(x: Tensor) -> Tensor:
    return layers.dropout(x, 0.4, np.random.default_rng(1))


def reversed_divergence(right: Any, teacher: Any, logits: Tensor, temperature: float) -> Tensor:
    ours = losses.log_softmax(logits * (1.0 / temperature))
    theirs = losses.log_softmax(Tensor(teacher) * (1.0 / temperature))
    wrong = sum_(losses.exp(ours) * (ours - theirs)) * (temperature**2 / len(teacher))
    return disguised(right(teacher, logits, temperature), wrong)


LOSSES = {
    "embedding: assigned, not added": Mistake(embedded, [(3, 2)], F.Embedding, "backward_arrays", assigned),
    "embedding: row of padding frozen": Mistake(
        embedded, [(3, 2)], F.Embedding, "backward_arrays",
        lambda right, op, grad: spoilt(right, op, grad, 0, first_row_frozen),
    ),
    "dropout: not dropped": Mistake(
        dropped, [(8,)], layers, "dropout", lambda right, x, *rest: disguised(right(x, *rest), x)
    ),
    "dropout: not scaled": Mistake(
        dropped, [(8,)], layers, "dropout",
        lambda right, x, rate, rng: disguised(y := right(x, rate, rng), y * (1.0 - rate)),
    ),
    "dropout: another mask": Mistake(
        dropped, [(8,)], layers, "dropout",
        lambda right, x, rate, rng: disguised(right(x, rate, rng), right(x, rate, rng)),
    ),
    "cross entropy: a sum over the rows": Mistake(
        classified, [(4, 3)], CrossEntropy, "backward_arrays",
        lambda right, op, grad: right(op, grad * len(op.labels)),
    ),
    "cross entropy: without the label": Mistake(
        classified, [(4, 3)], CrossEntropy, "backward_arrays",
        lambda right, op, grad: (op.probabilities * grad / len(op.labels),),
    ),
    "cross entropy: what follows it ignored": Mistake(
        classified, [(4, 3)], CrossEntropy, "backward_arrays",
        lambda right, op, grad: right(op, array_module(grad).ones_like(grad)),
    ),
    "distillation: without the square of the temperature": Mistake(
        distilled, [(4, 3)], losses, "kl_divergence",
        lambda right, t, x, temperature: disguised(y := right(t, x, temperature), y * (1.0 / temperature**2)),
    ),
    "distillation: teacher and student exchanged": Mistake(
        distilled, [(4, 3)], losses, "kl_divergence", reversed_divergence
    ),
    "squared error: padding counts": Mistake(
        lambda a: losses.masked_mse(a, a.numpy() * 0.0, MASK[..., 0] > 0), [(2, 3, 4)], losses, "masked_mse",
        lambda right, a, b, mask: disguised(right(a, b, mask), right(a, b)),
    ),
}  # fmt: skip


# --- attention and token shift


def unnormalised(right: Any, op: SoftmaxAttention, grad: Array) -> Arrays:
    dscores = (split_heads(grad, op.heads) @ op.v.swapaxes(-1, -2)) * op.weights * op.scale
    return merge_heads(dscores @ op.k), merge_heads(dscores.swapaxes(-1, -2) @ op.q), right(op, grad)[2]


def without_scale(right: Any, op: SoftmaxAttention, grad: Array) -> Arrays:
    op.scale = 1.0
    return right(op, grad)


def heads_and_channels_exchanged(right: Any, op: Any, grad: Array) -> Arrays:
    def exchanged(a: Array) -> Array:
        return a.reshape(*a.shape[:-1], op.heads, -1).swapaxes(-1, -2).reshape(a.shape)

    return [exchanged(a) for a in right(op, grad)]


def without_mask(right: Any, op: Any, grad: Array) -> Arrays:
    op.mask = None
    return right(op, grad)


def ends_kept(right: Any, op: ShiftTokens, grad: Array) -> Arrays:
    (dx,) = right(op, grad)
    dx[..., -1:, : op.channels] = grad[..., -1:, : op.channels]
    return (dx,)


def attended(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return softmax_attention(q, k, v, 2)


def attended_by_spikes(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return spiking_attention(q, k, v, 2, 0.5, MASK)


def shifted(x: Tensor) -> Tensor:
    return shift_tokens(x, 1, MASK)


ATTENTION = {
    "attention: weights need not sum to 1": Mistake(
        attended, QKV, SoftmaxAttention, "backward_arrays", unnormalised
    ),
    "attention: without the scale": Mistake(attended, QKV, SoftmaxAttention, "backward_arrays", without_scale),
    "attention: heads merged in the wrong order": Mistake(
        attended, QKV, SoftmaxAttention, "backward_arrays", heads_and_channels_exchanged
    ),
    "spiking attention: queries and keys exchanged": Mistake(
        attended_by_spikes, SPIKES, SpikingAttention, "backward_arrays",
        lambda right, op, grad: [right(op, grad)[i] for i in (1, 0, 2)],
    ),
    "spiking attention: scaled twice": Mistake(
        attended_by_spikes, SPIKES, SpikingAttention, "backward_arrays",
        lambda right, op, grad: right(op, grad * op.scale),
    ),
    "spiking attention: padding not masked": Mistake(
        attended_by_spikes, SPIKES, SpikingAttention, "backward_arrays", without_mask
    ),
    "token shift: the same way again": Mistake(
        shifted, [(2, 3, 4)], ShiftTokens, "backward_arrays", lambda right, op, grad: (op.forward(grad),)
    ),
    "token shift: padding not masked": Mistake(
        shifted, [(2, 3, 4)], ShiftTokens, "backward_arrays", without_mask
    ),
    "token shift: ends kept": Mistake(shifted, [(2, 3, 4)], ShiftTokens, "backward_arrays", ends_kept),
}  # fmt: skip

FUSED = LINEAR_MAPS | LOSSES | ATTENTION
