"""minispike: spiking language models, small enough to read.

>>> import minispike
>>> x = minispike.Tensor([1.0, 2.0], requires_grad=True)
>>> (x * x).sum().backward()
>>> x.grad.numpy().tolist()
[2.0, 4.0]
"""

from pathlib import Path
from typing import TYPE_CHECKING

from minispike import ops
from minispike.backend import use
from minispike.errors import GradientError, MinispikeError
from minispike.gradcheck import check_grads
from minispike.smooth import smooth_spikes
from minispike.tensor import Tensor, default_dtype, grad, no_grad
from minispike.version import __version__ as __version__

if TYPE_CHECKING:
    from minispike.loaded import LoadedRun

__all__ = [
    "GradientError", "MinispikeError", "Tensor", "check_grads", "default_dtype", "grad", "load", "no_grad",
    "ops", "smooth_spikes", "use",
]  # fmt: skip


def load(run: str | Path) -> "LoadedRun":
    """Load the student of a run on the backend in use.

    A finished run answers questions: ``minispike.load("runs/tiny").predict(["not a dull moment ."])[0].label``.

    Args:
        run: a folder that ``minispike distill`` wrote.

    Returns:
        The student with its tokenizer and the names of its labels; it predicts, evaluates and counts energy.

    Raises:
        RunFolderError: it is no run, or its student is not trained yet.
        CheckpointError: the student's file is damaged, or of something else.
        DataError: its tokenizer is missing, damaged, or of another model.
        ConfigError: its configuration is damaged.

    Example:
        >>> import minispike
        >>> minispike.load("no/such/folder")
        Traceback (most recent call last):
            ...
        minispike.errors.RunFolderError: no/such/folder: expected a run folder, got no such folder; try ...
    """
    from minispike import loaded  # here, so that ``import minispike`` needs nothing but NumPy

    return loaded.load(run)
