"""The errors that a user can mend, and the one sentence form that all of them share."""

import sys
from contextlib import suppress


class MinispikeError(Exception):
    """A mistake the user can mend. The command line prints it without a traceback and exits with 2.

    Example:
        >>> import minispike
        >>> try:
        ...     minispike.Tensor([1.0, 2.0]).item()
        ... except minispike.MinispikeError as error:
        ...     print(error)
        item: expected one element, got shape (2,); try sum() or mean()
    """


class ConfigError(MinispikeError):
    """An unknown key, a wrong type or an impossible value in a configuration.

    Example:
        >>> from minispike.snn.neurons import LIFNeuron
        >>> LIFNeuron(tau=0.5)
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: tau: expected a number >= 1, got 0.5; try tau=2.0
    """


class DataError(MinispikeError):
    """A file of text or labels that cannot be used as it is.

    Example:
        >>> from minispike.data.text import read_text
        >>> read_text("no_such_file.txt")
        Traceback (most recent call last):
            ...
        minispike.errors.DataError: no_such_file.txt: ...
    """


class CheckpointError(MinispikeError):
    """Weights that are missing, truncated, foreign, or of other shapes than the model's.

    Example:
        >>> from minispike.nn.layers import LayerNorm
        >>> LayerNorm(2).load_state_dict({})
        Traceback (most recent call last):
            ...
        minispike.errors.CheckpointError: weights of LayerNorm: expected the model's 2 tensors, got missing: weight, ...
    """


class BackendError(MinispikeError):
    """A backend that was asked for and cannot be had.

    Example:
        >>> import minispike
        >>> minispike.use("coopy")
        Traceback (most recent call last):
            ...
        minispike.errors.BackendError: backend: expected numpy or cupy, got 'coopy'; try --backend cupy
    """


class TeacherError(MinispikeError):
    """A teacher that lacks what distillation needs (hidden states, logits, a matching vocabulary).

    Example:
        >>> from minispike.extras import extra
        >>> extra("no_such_library")  # as where ONNX Runtime is missing
        Traceback (most recent call last):
            ...
        minispike.errors.TeacherError: no_such_library: expected an installed library, got No module named ...
    """


class TrainingError(MinispikeError):
    """A run that cannot go on, such as a loss that is not a number.

    Example:
        >>> from pathlib import Path
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> from minispike.nn.layers import Linear
        >>> from minispike.tensor import Tensor
        >>> from minispike.train.loop import Keeper, TrainConfig, train
        >>> task = SimpleNamespace(name="fit", model=Linear(1, 1, np.random.default_rng(0)), parts=lambda step: [None])
        >>> task.losses = lambda part: {"loss": Tensor(float("nan"))}
        >>> train(task, TrainConfig(workers=1), Keeper(Path("unused"), journal=None))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        minispike.errors.TrainingError: fit, step 0: loss: expected a finite number, got nan; try ...
    """


class RunFolderError(MinispikeError):
    """A run folder that is occupied, missing, or not a run.

    Example:
        >>> import minispike
        >>> minispike.load("no_such_run")
        Traceback (most recent call last):
            ...
        minispike.errors.RunFolderError: no_such_run: expected a run folder, got no such folder; try ...
    """


class ShapeError(MinispikeError, ValueError):
    """Arrays whose shapes or types do not fit together. It is a `ValueError` too, as NumPy's would be.

    Example:
        >>> import minispike
        >>> minispike.Tensor([1.0, 2.0]) + [1.0, 2.0, 3.0]
        Traceback (most recent call last):
            ...
        minispike.errors.ShapeError: Add: expected shapes that fit together, got (2,) and (3,) ...
    """


class AutogradError(MinispikeError, RuntimeError):
    """A backward pass that cannot be done: freed graph, changed array, first-order-only op.

    Example:
        >>> import minispike
        >>> x = minispike.Tensor(1.0, requires_grad=True)
        >>> y = x * x
        >>> y.backward(), y.backward()
        Traceback (most recent call last):
            ...
        minispike.errors.AutogradError: backward: expected a graph that no backward pass has freed, got a second ...
    """


class GradientError(MinispikeError, AssertionError):
    """An analytic gradient that differs from the numeric one.

    Example:
        >>> import minispike
        >>> from minispike.ops.op import Op
        >>> class Square(Op):
        ...     def forward(self, x):
        ...         return x * x
        ...     def backward(self, grad, out, x):
        ...         return (grad * x,)  # it should be 2 x
        >>> minispike.check_grads(Square(), minispike.Tensor([1.0, 2.0], requires_grad=True))  # doctest: +ELLIPSIS
        Traceback (most recent call last):
            ...
        minispike.errors.GradientError: gradient by args[0] of shape (2,): expected ... ratio 0.5; ...
    """


def problem(name: str, *, expected: str, got: str, hint: str) -> str:
    """The sentence of an error: ``name: expected ..., got ...; try ...``.

    Example:
        >>> from minispike.errors import problem
        >>> problem("tau", expected="a number > 1", got="0.5", hint="tau=2.0")
        'tau: expected a number > 1, got 0.5; try tau=2.0'
    """
    return f"{name}: expected {expected}, got {got}; try {hint}"


def warn(text: str) -> None:
    """Tell the user on standard error, in one line, something that does not stop the work, whoever listens.

    Example:
        >>> import contextlib, sys
        >>> from minispike.errors import warn
        >>> with contextlib.redirect_stderr(sys.stdout):
        ...     warn("matplotlib is missing: no pictures")
        matplotlib is missing: no pictures
    """
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # a reader that has gone away; a closed stream
            print(text, file=sys.stderr, flush=True)
