"""Tensors on disk, as safetensors files: written whole or not at all, and read with clear errors."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minispike.errors import CheckpointError, problem
from minispike.files import atomic_write
from minispike.torch_file import is_torch_file, load_torch

Arrays = dict[str, "np.ndarray[Any, Any]"]
_NOTES = "minispike"


def _library() -> Any:
    """safetensors for NumPy, which is an extra."""
    try:
        import safetensors.numpy
    except ImportError as cause:
        hint = 'pip install "minispike[distill]"'
        raise CheckpointError(problem("safetensors", expected="the package", got="none", hint=hint)) from cause
    return safetensors


def save_tensors(
    path: str | Path, tensors: Mapping[str, "np.ndarray[Any, Any]"], notes: Mapping[str, Any] | None = None
) -> None:
    """Write arrays and notes to a safetensors file, whole or not at all.

    Args:
        path: the file.
        tensors: arrays on the host, by name.
        notes: anything JSON can hold; kept in the file's header. Default none.

    Raises:
        CheckpointError: ``safetensors`` is not installed.
        OSError: the file cannot be written; what was there before stays.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from minispike.checkpoint import load_tensors, save_tensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_tensors(f"{folder}/step.safetensors", {"w": np.eye(2)}, {"step": 7})
        ...     tensors, notes = load_tensors(f"{folder}/step.safetensors")
        >>> tensors["w"].tolist(), notes
        ([[1.0, 0.0], [0.0, 1.0]], {'step': 7})
    """
    content = _library().numpy.save(
        {name: np.asarray(array, order="C") for name, array in tensors.items()},
        metadata={_NOTES: json.dumps(dict(notes or {}))},
    )
    with atomic_write(path, "wb") as file:
        file.write(content)


def load_tensors(path: str | Path, *, hint: str = "") -> tuple[Arrays, dict[str, Any]]:
    """Read what `save_tensors` wrote, or any other safetensors file (whose notes are empty).

    Args:
        path: the file.
        hint: how to go on where it is missing or damaged; by default, that is said of any file.

    Returns:
        The arrays by name, on the host, and the notes.

    Raises:
        CheckpointError: no such file, a truncated or a foreign one; or ``safetensors`` is not installed.

    Example:
        >>> from minispike.checkpoint import load_tensors
        >>> load_tensors("nowhere.safetensors")
        Traceback (most recent call last):
            ...
        minispike.errors.CheckpointError: nowhere.safetensors: expected a file, got none; try the path of a checkpoint
    """
    library = _library()
    if not Path(path).is_file():
        got = "a folder" if Path(path).is_dir() else "none"
        raise CheckpointError(problem(str(path), expected="a file", got=got, hint=hint or "the path of a checkpoint"))
    try:
        with library.safe_open(path, framework="numpy") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            notes = dict(json.loads((file.metadata() or {}).get(_NOTES, "{}")))
    except Exception as cause:  # the library's errors for damaged files share no base
        got = f"{type(cause).__name__}: {cause}"
        hint = hint or "a complete copy of the file"
        raise CheckpointError(problem(str(path), expected="a safetensors file", got=got, hint=hint)) from cause
    return tensors, notes


def load_weights(path: str | Path) -> Arrays:
    """The tensors of a safetensors file or of one that ``torch.save`` wrote, whichever it is.

    Raises:
        CheckpointError: as `load_tensors` and `minispike.torch_file.load_torch`.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from minispike.checkpoint import load_weights, save_tensors
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_tensors(f"{folder}/model.bin", {"w": np.eye(2)})  # what is in a file tells its kind, not its name
        ...     print(list(load_weights(f"{folder}/model.bin")))
        ['w']
    """
    if Path(path).is_file() and is_torch_file(path):
        return load_torch(path)
    return load_tensors(path)[0]


def part(tensors: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    """The tensors whose names begin with ``prefix``, without it.

    Example:
        >>> from minispike.checkpoint import part
        >>> part({"model.bias": 1, "model.weight": 2, "best.bias": 3}, "model.")
        {'bias': 1, 'weight': 2}
    """
    return {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
