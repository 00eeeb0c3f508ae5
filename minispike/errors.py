"""The errors that a user can mend, and the one sentence form that all of them share."""

import sys
from contextlib import suppress


class MinispikeError(Exception):
    """A mistake the user can mend. The command line prints it without a traceback and exits with 2."""


class ConfigError(MinispikeError):
    """An unknown key, a wrong type or an impossible value in a configuration."""


class DataError(MinispikeError):
    """A file of text or labels that cannot be used as it is."""


class CheckpointError(MinispikeError):
    """Weights that are missing, truncated, foreign, or of other shapes than the model's."""


class BackendError(MinispikeError):
    """A backend that was asked for and cannot be had."""


class TeacherError(MinispikeError):
    """A teacher that lacks what distillation needs (hidden states, logits, a matching vocabulary)."""


class TrainingError(MinispikeError):
    """A run that cannot go on, such as a loss that is not a number."""


class RunFolderError(MinispikeError):
    """A run folder that is occupied, missing, or not a run."""


class ShapeError(MinispikeError, ValueError):
    """Arrays whose shapes or types do not fit together."""


class AutogradError(MinispikeError, RuntimeError):
    """A backward pass that cannot be done: freed graph, changed array, first-order-only op."""


class GradientError(MinispikeError, AssertionError):
    """An analytic gradient that differs from the numeric one."""


def problem(name: str, *, expected: str, got: str, hint: str) -> str:
    """The sentence of an error: ``name: expected ..., got ...; try ...``.

    >>> problem("tau", expected="a number > 1", got="0.5", hint="tau=2.0")
    'tau: expected a number > 1, got 0.5; try tau=2.0'
    """
    return f"{name}: expected {expected}, got {got}; try {hint}"


def warn(text: str) -> None:
    """Tell the user on standard error, in one line, something that does not stop the work, whoever listens."""
    if sys.stderr is not None:
        with suppress(OSError, ValueError):  # a reader that has gone away; a closed stream
            print(text, file=sys.stderr, flush=True)
