"""Losses: one number for how far an output is from a label, from other numbers, from another distribution.

Which of them distillation adds up, and with which weights, is in `minispike.distill`.
"""

from collections.abc import Sequence

from minispike.backend import Array, array_module, copied
from minispike.errors import ConfigError, ShapeError, problem
from minispike.ops import exp, log_softmax, mean, sum_
from minispike.ops.op import FusedOp
from minispike.tensor import Tensor


class CrossEntropy(FusedOp):
    """Softmax and negative log-likelihood in one; its gradient is ``softmax - one_hot``."""

    def __init__(self, labels: Array) -> None:
        self.labels = labels

    def forward(self, logits: Array) -> Array:
        module = array_module(logits)
        count = len(logits)
        shifted = logits - logits.max(axis=-1, keepdims=True)
        powers = module.exp(shifted)
        total = powers.sum(axis=-1, keepdims=True)
        picked = (module.arange(count), self.labels)
        self.picked, self.probabilities = picked, powers / total
        return module.asarray((module.log(total[:, 0]) - shifted[picked]).sum() / max(count, 1))

    def backward_arrays(self, grad: Array) -> Sequence[Array | None]:
        out = self.probabilities * grad
        out[self.picked] -= grad
        out /= max(len(out), 1)
        return (out,)


def cross_entropy(logits: Tensor, labels: Array) -> Tensor:
    """The mean over rows of ``-log softmax(logits)[label]``.

    Args:
        logits: ``[N, C]``.
        labels: integers ``[N]`` in ``[0, C)``, an array or a list.

    Returns:
        A tensor of one number, in nats.

    Raises:
        ShapeError: shapes differ, or a label is out of range or no integer.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.losses import cross_entropy
        >>> logits = Tensor([[0.0, 0.0]], requires_grad=True)
        >>> cross_entropy(logits, [1]).backward()
        >>> logits.grad.numpy().tolist()  # softmax less one at the label
        [[0.5, -0.5]]
    """
    labels = copied(labels, module=array_module(logits.array))
    if logits.ndim != 2 or labels.shape != logits.shape[:1]:
        got = f"logits {logits.shape}, labels {labels.shape}"
        raise ShapeError(problem("cross_entropy", expected="[N, C] and [N]", got=got, hint="reshape(-1, C)"))
    if labels.size and labels.dtype.kind not in "iu":
        hint = "labels.astype(int)"
        raise ShapeError(problem("labels", expected="integers", got=str(labels.dtype), hint=hint))
    if labels.size and not 0 <= int(labels.min()) <= int(labels.max()) < logits.shape[1]:
        got = f"labels from {int(labels.min())} to {int(labels.max())}"
        expected = f"labels from 0 to {logits.shape[1] - 1}"
        raise ShapeError(problem("cross_entropy", expected=expected, got=got, hint="num_labels of the model"))
    return CrossEntropy(labels)(logits)


def cross_entropy_composed(logits: Tensor, labels: Array) -> Tensor:
    """`cross_entropy` in elementary ops, which can be differentiated twice; Args and Returns are the same.

    Example:
        >>> from minispike import Tensor
        >>> from minispike.nn.losses import cross_entropy_composed
        >>> round(cross_entropy_composed(Tensor([[0.0, 0.0, 0.0]]), [1]).item(), 4)  # log 3
        1.0986
    """
    rows = array_module(logits.array).arange(len(logits))
    return -mean(log_softmax(logits)[rows, labels])


def masked_mse(a: Tensor, b: Array, mask: Array | None = None) -> Tensor:
    """The mean of ``(a - b)^2``; with a mask over the tokens, of the tokens alone.

    Args:
        a: ``[B, L, D]``.
        b: a constant of the same shape.
        mask: booleans ``[B, L]``; None: every element counts, and the shape may be any.

    Returns:
        A tensor of one number, in the unit of a squared; 0 where the mask has no token.

    Raises:
        ShapeError: shapes differ.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.losses import masked_mse
        >>> a, b = Tensor([[[1.0], [3.0]]]), np.zeros((1, 2, 1))
        >>> masked_mse(a, b).item(), masked_mse(a, b, np.array([[True, False]])).item()
        (5.0, 1.0)
    """
    if a.shape != b.shape or (mask is not None and (a.ndim != 3 or mask.shape != a.shape[:2])):
        got = f"{a.shape}, {tuple(b.shape)}" + ("" if mask is None else f" and mask {mask.shape}")
        expected, hint = "one shape [B, L, D], mask [B, L]", "teacher and student on the same batch"
        raise ShapeError(problem("masked_mse", expected=expected, got=got, hint=hint))
    difference = a - b
    if mask is None:
        return mean(difference * difference)
    per_token = mean(difference * difference, -1)  # [B, L]
    weights = copied(mask, a.dtype, module=array_module(a.array))
    return sum_(per_token * Tensor._of(weights)) * (1.0 / max(float(weights.sum()), 1.0))


def kl_divergence(teacher_logits: Array, logits: Tensor, temperature: float = 1.0) -> Tensor:
    """``T^2 KL(softmax(teacher / T) || softmax(logits / T))``, mean over the batch (Hinton et al. 2015).

    The factor T^2 keeps the size of the gradient independent of the temperature (arXiv 1503.02531).

    Args:
        teacher_logits: ``[B, C]``, a constant.
        logits: ``[B, C]``, the student's.
        temperature: T, dimensionless, > 0; default 1.

    Returns:
        A tensor of one number, in nats.

    Raises:
        ShapeError: shapes differ.
        ConfigError: the temperature is not positive.

    Example:
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.losses import kl_divergence
        >>> kl_divergence(np.log([[0.5, 0.5]]), Tensor(np.log([[0.75, 0.25]]))).item()  # log(4 / 3) / 2
        0.1438...
    """
    if logits.ndim != 2 or teacher_logits.shape != logits.shape:
        got, hint = f"{tuple(teacher_logits.shape)} and {logits.shape}", "num_labels of the teacher"
        raise ShapeError(problem("kl_divergence", expected="both [B, C]", got=got, hint=hint))
    if not temperature > 0:
        hint = "temperature=1.0"
        raise ConfigError(problem("temperature", expected="a number > 0", got=str(temperature), hint=hint))
    target = log_softmax(Tensor._beside(teacher_logits, [logits], logits.dtype) * (1.0 / temperature))
    ours = log_softmax(logits * (1.0 / temperature))
    return sum_(exp(target) * (target - ours)) * (temperature**2 / max(logits.shape[0], 1))
