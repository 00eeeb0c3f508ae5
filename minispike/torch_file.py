"""Tensors from a file that ``torch.save`` wrote, read without running anything that is in it.

Such a file is a ZIP archive: a pickle, ``data.pkl``, describes a table of tensors, and the members ``data/0``,
``data/1``, ... hold their numbers. A pickle is a program for a small stack machine that can call any function of any
library. So it is not handed to `pickle`: the machine below knows the few instructions of which a table of tensors is
made, calls nothing but what stands in this file, and refuses the rest. PyTorch is not needed.
"""

import math
import pickletools
import sys
import zipfile
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np

from minispike.errors import CheckpointError, problem

Arrays = dict[str, "np.ndarray[Any, Any]"]

_TYPES = {
    "FloatStorage": "f4", "DoubleStorage": "f8", "HalfStorage": "f2", "BFloat16Storage": "u2", "LongStorage": "i8",
    "IntStorage": "i4", "ShortStorage": "i2", "CharStorage": "i1", "ByteStorage": "u1", "BoolStorage": "?",
}  # fmt: skip
"""PyTorch's name of a type, and NumPy's; bfloat16, which NumPy lacks, is the upper half of a float32."""

_TABLE = "a plain table of tensors, as torch.save(model.state_dict(), path) writes it"
_LARGEST = 2**62
"""No number in a description is larger."""


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
        Read-only arrays by name; tensors that share their numbers do so here. bfloat16 comes as float32, every other
        type as it is.

    Raises:
        CheckpointError: the file is damaged, older, or holds anything but a table of names and tensors.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(archive)
    except zipfile.BadZipFile as cause:
        expected, hint = "a whole file of torch.save, of PyTorch 1.6 or later", "a complete copy, or to save it again"
        raise CheckpointError(problem(str(path), expected=expected, got=str(cause), hint=hint)) from cause
    except OSError:
        raise
    except Exception as cause:  # damaged files fail in any way
        got = str(cause) if isinstance(cause, _RefusedError) else f"{type(cause).__name__}: {cause}"
        hint = "to load it with PyTorch, if you trust it, and to save model.state_dict() alone"
        raise CheckpointError(problem(str(path), expected=_TABLE, got=got, hint=hint)) from cause


class _RefusedError(Exception):
    """What was found in place of a table of tensors."""


class _Storage(NamedTuple):
    """Numbers in a row: a member of the archive, and the type and length of what it holds."""

    type: str
    key: str
    length: int


class _Tensor(NamedTuple):
    """A view of a storage; offset and strides in elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def _read(archive: zipfile.ZipFile) -> Arrays:
    pickles = [name for name in archive.namelist() if name.rpartition("/")[2] == "data.pkl"]
    if len(pickles) != 1:
        raise _RefusedError(f"{len(pickles)} members data.pkl in the archive")
    folder = pickles[0].removesuffix("data.pkl")
    order = sys.byteorder
    if f"{folder}byteorder" in archive.namelist():
        order = "big" if _member(archive, f"{folder}byteorder").strip() == b"big" else "little"
    table = _Machine().run(_member(archive, pickles[0]))
    if not isinstance(table, dict):
        raise _RefusedError(f"a {type(table).__name__}")
    storages: dict[_Storage, Any] = {}
    tensors: Arrays = {}
    for name, tensor in table.items():
        if not isinstance(tensor, _Tensor):
            raise _RefusedError(f"{name!r} with a {type(tensor).__name__}")
        if tensor.storage not in storages:
            content = _member(archive, f"{folder}data/{tensor.storage.key}")
            storages[tensor.storage] = _numbers(content, tensor.storage, order != sys.byteorder)
        tensors[name] = _array(storages[tensor.storage], tensor, name)
    return tensors


def _member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The content of a member, which takes as much room in the archive: ``torch.save`` does not compress."""
    if name not in archive.namelist():
        raise _RefusedError(f"no member {name}")
    info = archive.getinfo(name)
    if info.compress_type != zipfile.ZIP_STORED or info.file_size != info.compress_size or info.flag_bits & 1:
        raise _RefusedError(f"a member {name} that is compressed or encrypted")
    return archive.read(name)


class _Machine:
    """The instructions of a pickle, without those that a table of tensors does not need."""

    def __init__(self) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, program: bytes) -> Any:
        """What the program leaves."""
        for instruction, argument_, _ in pickletools.genops(program):
            name, argument = instruction.name, cast(Any, argument_)
            if name == "STOP":
                return self._stack.pop()
            if name in ("PROTO", "FRAME"):
                continue
            if name in _VALUES:
                if isinstance(argument, int) and abs(argument) > _LARGEST:
                    raise _RefusedError("a number of more than 62 bits")
                self._stack.append(argument)
            elif name in _CONSTANTS:
                self._stack.append(_CONSTANTS[name])
            elif name in ("EMPTY_DICT", "EMPTY_LIST"):
                self._stack.append({} if name == "EMPTY_DICT" else [])
            elif name == "MARK":
                self._marks.append(len(self._stack))
            elif name in ("BINPUT", "LONG_BINPUT", "PUT"):
                self._memo[argument] = self._stack[-1]
            elif name == "MEMOIZE":
                self._memo[len(self._memo)] = self._stack[-1]
            elif name in ("BINGET", "LONG_BINGET", "GET"):
                self._stack.append(self._memo[argument])
            elif name == "TUPLE":
                self._stack.append(tuple(self._to_mark()))
            elif name in ("TUPLE1", "TUPLE2", "TUPLE3"):
                self._stack.append(tuple(self._take(int(name[-1]))))
            elif name in ("SETITEM", "SETITEMS"):
                self._set(self._take(2) if name == "SETITEM" else self._to_mark())
            elif name in ("APPEND", "APPENDS"):  # of lists that stand beside a table, which is refused by its entries
                self._take(1) if name == "APPEND" else self._to_mark()
            elif name == "GLOBAL":
                self._stack.append(_Name(argument))
            elif name in ("REDUCE", "NEWOBJ"):
                function, arguments = self._take(2)
                self._stack.append(_called(function, arguments))
            elif name == "BINPERSID":
                self._stack.append(_storage(self._stack.pop()))
            elif name == "BUILD":  # notes that an OrderedDict carries beside its entries
                self._take(1)
            else:
                raise _RefusedError(f"something that needs the instruction {name}")
        raise _RefusedError("a description without an end")

    def _take(self, count: int) -> list[Any]:
        """The topmost values, off the stack."""
        if len(self._stack) < count:
            raise _RefusedError("a description that takes more than there is")
        taken = self._stack[-count:]
        del self._stack[-count:]
        return taken

    def _to_mark(self) -> list[Any]:
        """The values above the last mark, off the stack."""
        start = self._marks.pop()
        taken = self._stack[start:]
        del self._stack[start:]
        return taken

    def _set(self, pairs: list[Any]) -> None:
        """Enter pairs of name and value into the dictionary on top."""
        table = self._stack[-1] if self._stack else None
        if not isinstance(table, dict) or len(pairs) % 2:
            raise _RefusedError("entries without a table")
        for name, value in zip(pairs[::2], pairs[1::2], strict=True):
            if not isinstance(name, str):
                raise _RefusedError(f"a {type(name).__name__} for a name")
            table[name] = value


_VALUES = ("BINUNICODE", "SHORT_BINUNICODE", "UNICODE", "BININT", "BININT1", "BININT2", "INT", "LONG1", "BINFLOAT")
_CONSTANTS = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}


class _Name(NamedTuple):
    """``module name``, of something that is never looked up."""

    name: str


def _called(function: Any, arguments: Any) -> Any:
    """What a call of the few functions that are known would give."""
    if not isinstance(function, _Name) or not isinstance(arguments, tuple):
        raise _RefusedError("a call of something that has no name")
    if function.name == "collections OrderedDict" and not arguments:
        return {}
    if function.name == "torch._utils _rebuild_tensor_v2":
        storage, offset, shape, strides = arguments[:4]
        return _Tensor(storage, offset, shape, strides)
    if function.name == "torch._utils _rebuild_parameter":
        return arguments[0]
    raise _RefusedError(f"something that needs {function.name.replace(' ', '.')}")


def _storage(reference: Any) -> _Storage:
    """The storage that a reference names: ``("storage", type, key, device, count)``."""
    kind, type_, key, _, count = reference
    name = type_.name.removeprefix("torch ") if isinstance(type_, _Name) else ""
    if kind != "storage" or name not in _TYPES or type(key) is not str or type(count) is not int or count < 0:
        raise _RefusedError("a reference to something that is no storage")
    return _Storage(name, key, count)


def _numbers(content: bytes, storage: _Storage, swapped: bool) -> Any:
    """The numbers of a storage, ``[length]``; ``swapped``: written on a machine of the other byte order."""
    dtype = np.dtype(_TYPES[storage.type])
    if len(content) < storage.length * dtype.itemsize:
        raise _RefusedError(f"fewer than {storage.length} numbers in data/{storage.key}")
    values = np.frombuffer(content, dtype, storage.length)
    values = values.byteswap() if swapped else values
    if storage.type == "BFloat16Storage":
        values = (values.astype(np.uint32) << 16).view(np.float32)
    return values


def _array(values: Any, tensor: _Tensor, name: str) -> "np.ndarray[Any, Any]":
    """A tensor as a view of its numbers. Nothing that a file says is believed: outside of them lies foreign memory."""
    offset, shape, strides = tensor.offset, tensor.shape, tensor.strides
    if not isinstance(shape, tuple) or not isinstance(strides, tuple) or len(shape) != len(strides):
        raise _RefusedError(f"{name!r} without shape and strides")
    if not all(type(n) is int and n >= 0 for n in (offset, *shape, *strides)):
        raise _RefusedError(f"{name!r} with an impossible shape, stride or offset")
    if math.prod(shape) == 0:
        return np.zeros(shape, values.dtype)
    last = offset + sum((n - 1) * step for n, step in zip(shape, strides, strict=True))
    if math.prod(shape) > len(values) or last >= len(values):
        raise _RefusedError(f"{name!r} of shape {shape}, which ends behind its {len(values)} numbers")
    steps = [step * values.itemsize for step in strides]
    return np.lib.stride_tricks.as_strided(values[offset:], shape, steps, writeable=False)
