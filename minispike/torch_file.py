"""Tensors from a file that ``torch.save`` wrote, read without running anything that is in it.

Such a file is a ZIP archive: a pickle, ``data.pkl``, describes a table of tensors, and the members ``data/0``,
``data/1``, ... hold their numbers. A pickle is a program, which can call any function of any library. Here it may name
nothing but what a table of tensors is made of, and these names lead to functions of this file, which do no more than
note down what they are told. PyTorch is not needed.
"""

import math
import pickle
import sys
import zipfile
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from minispike.errors import CheckpointError, problem

Arrays = dict[str, "np.ndarray[Any, Any]"]

_TYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "u2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
"""PyTorch's name of a type, and NumPy's; bfloat16, which NumPy lacks, is the upper half of a float32."""

_TABLE = "a plain table of tensors, as torch.save(model.state_dict(), path) writes it"


def is_torch_file(path: str | Path) -> bool:
    """Whether a file begins like one of ``torch.save``'s: as a ZIP archive or, before PyTorch 1.6, as a pickle."""
    with open(path, "rb") as file:
        begin = file.read(4)
    return begin == b"PK\x03\x04" or begin[:1] == b"\x80"


def load_torch(path: str | Path) -> Arrays:
    """The tensors of a file that ``torch.save`` wrote.

    Args:
        path: the file, of PyTorch 1.6 or later.

    Returns:
        Arrays by name; bfloat16 comes as float32, every other type as it is.

    Raises:
        CheckpointError: the file is damaged, older, or holds anything but a table of names and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive, str(path))
    except zipfile.BadZipFile as cause:
        expected, hint = "a whole file of torch.save, of PyTorch 1.6 or later", "a complete copy, or to save it again"
        raise CheckpointError(problem(str(path), expected=expected, got=str(cause), hint=hint)) from cause


def _read(archive: zipfile.ZipFile, path: str) -> Arrays:
    pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise _refused(path, f"{len(pickles)} members data.pkl in the archive")
    folder = pickles[0].removesuffix("data.pkl")
    swapped = False
    if f"{folder}byteorder" in archive.namelist():
        swapped = archive.read(f"{folder}byteorder").decode("ascii", "replace").strip() != sys.byteorder
    with archive.open(pickles[0]) as file:
        try:
            table = _Reader(file, path).load()
        except CheckpointError:
            raise
        except Exception as cause:  # damaged pickles fail in any way
            raise _refused(path, f"{type(cause).__name__}: {cause}") from cause
    if not isinstance(table, dict):
        raise _refused(path, f"a {type(table).__name__}")
    storages: dict[_Storage, Any] = {}
    tensors: Arrays = {}
    for name, tensor in table.items():
        if not isinstance(name, str) or not isinstance(tensor, _Tensor):
            raise _refused(path, f"{name!r} with a {type(tensor).__name__}")
        if tensor.storage not in storages:
            storages[tensor.storage] = _numbers(archive, folder, swapped, tensor.storage, path)
        tensors[name] = _array(storages[tensor.storage], tensor, name, path)
    return tensors


@dataclass(frozen=True, slots=True)
class _Type:
    """A name such as ``torch.FloatStorage``."""

    name: str


@dataclass(frozen=True, slots=True)
class _Storage:
    """Numbers in a row: a member of the archive."""

    type: _Type
    key: str
    count: int


@dataclass(frozen=True, slots=True)
class _Tensor:
    """A view of a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> _Tensor:
    """What stands for ``torch._utils._rebuild_tensor_v2``."""
    if not isinstance(storage, _Storage):
        raise TypeError(f"a tensor of a {type(storage).__name__}")
    numbers = [offset, *shape, *strides]
    if len(shape) != len(strides) or not all(type(n) is int and n >= 0 for n in numbers):
        raise ValueError(f"a tensor of shape {shape} and strides {strides} at {offset}")
    return _Tensor(storage, offset, tuple(shape), tuple(strides))


def _parameter(tensor: Any, *_: Any) -> Any:
    """What stands for ``torch._utils._rebuild_parameter``."""
    return tensor


_NAMES: Mapping[tuple[str, str], Any] = {
    ("collections", "OrderedDict"): OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
} | {("torch", name): _Type(name) for name in _TYPES}
"""All that a pickle may name."""


class _Reader(pickle.Unpickler):
    """Runs a pickle in which everything but `_NAMES` is unknown."""

    def __init__(self, file: Any, path: str) -> None:
        super().__init__(file, encoding="utf-8")
        self._path = path

    def find_class(self, module: str, name: str) -> Any:
        found = _NAMES.get((module, name))
        if found is None:
            raise _refused(self._path, f"something that needs {module}.{name}")
        return found

    def persistent_load(self, pid: Any) -> _Storage:
        kind, type_, key, _, count = pid
        if kind != "storage" or not isinstance(type_, _Type) or type(key) is not str or type(count) is not int:
            raise ValueError(f"a reference to {pid!r}")
        return _Storage(type_, key, count)


def _numbers(archive: zipfile.ZipFile, folder: str, swapped: bool, storage: _Storage, path: str) -> Any:
    """The numbers of a storage, ``[count]``; ``swapped``: written on a machine of the other byte order."""
    dtype = np.dtype(_TYPES[storage.type.name])
    member = f"{folder}data/{storage.key}"
    if member not in archive.namelist():
        raise _refused(path, f"no member {member}")
    if archive.getinfo(member).file_size < storage.count * dtype.itemsize:
        raise _refused(path, f"fewer than {storage.count} numbers in {member}")
    values = np.frombuffer(archive.read(member), dtype, storage.count)
    values = values.byteswap() if swapped else values
    if storage.type.name == "BFloat16Storage":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values


def _array(values: Any, tensor: _Tensor, name: str, path: str) -> "np.ndarray[Any, Any]":
    """A tensor as an array of its own."""
    if math.prod(tensor.shape) > len(values):
        raise _refused(path, f"{name!r} of shape {tensor.shape}, made of {len(values)} numbers")
    last = tensor.offset + sum((n - 1) * step for n, step in zip(tensor.shape, tensor.strides, strict=True))
    if 0 in tensor.shape:
        return np.zeros(tensor.shape, values.dtype)
    if last >= len(values):
        raise _refused(path, f"{name!r} of shape {tensor.shape}, which ends behind its {len(values)} numbers")
    strides = [step * values.itemsize for step in tensor.strides]
    view = np.lib.stride_tricks.as_strided(values[tensor.offset :], tensor.shape, strides, writeable=False)
    return np.array(view, order="C")


def _refused(path: str, got: str) -> CheckpointError:
    hint = "to load it with PyTorch, if you trust it, and to save model.state_dict() alone"
    return CheckpointError(problem(path, expected=_TABLE, got=got, hint=hint))
