"""ONNX models as files: read, written, fingerprinted and copied, with the external data that may lie beside them."""

import hashlib
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from minispike.errors import TeacherError, problem
from minispike.extras import extra
from minispike.files import atomic_write

if TYPE_CHECKING:
    import onnx

ONNX = "model.onnx"
"""The model in a folder that minispike has made."""


def onnx_of(path: Path) -> Path | None:
    """The ONNX file that a teacher's path stands for: the file itself, or that in a folder without other weights.

    Returns:
        None if the path is a BERT's folder, or there is nothing.
    """
    inside = path / ONNX
    if inside.is_file() and not (path / "model.safetensors").is_file():
        return inside
    return path if path.is_file() else None


def load_model(path: Path, *, weights: bool = True) -> "onnx.ModelProto":
    """The model in a file, by default with its external data.

    Raises:
        TeacherError: the file is no ONNX model, or its external data is missing.
    """
    library = extra("onnx")
    if not path.is_file():
        got = "a folder" if path.is_dir() else "no such file"
        raise TeacherError(problem(str(path), expected="an ONNX file", got=got, hint="the path of the model"))
    try:
        model: onnx.ModelProto = library.load(path, load_external_data=weights)
    except Exception as error:  # of protobuf for the file itself, of others for external data
        raise not_onnx(path, error) from error
    if not model.graph.node:  # protobuf takes an empty file for an empty message
        raise not_onnx(path, "a file without a graph")
    return model


def serialised(path: Path, model: "onnx.ModelProto") -> bytes:
    """The bytes of a model that came from ``path``. Raises TeacherError from 2 GiB on."""
    if model.ByteSize() >= 2**31:
        raise TeacherError(
            problem(
                str(path),
                expected="a model below 2 GiB, as not all of its inputs and outputs are there by our names",
                got=f"{model.ByteSize() / 2**30:.1f} GiB",
                hint="an export with outputs named hidden_states.0 to hidden_states.N and logits",
            )
        )
    return bytes(model.SerializeToString())


def external_data(path: Path) -> tuple[str, ...]:
    """The files that a model keeps weights in, relative to its folder. Raises TeacherError as `load_model`."""
    model = load_model(path, weights=False)
    tensors = extra("onnx.external_data_helper")._get_all_tensors(model)
    entries = (entry for tensor in tensors if tensor.data_location == tensor.EXTERNAL for entry in tensor.external_data)
    return tuple(sorted({entry.value for entry in entries if entry.key == "location"}))


def digest(path: Path) -> str:
    """A fingerprint of a model: of the bytes of its file, and of its external data."""
    mark = hashlib.sha256()
    for part in (path, *(path.parent / name for name in external_data(path))):
        with open(part, "rb") as file:
            mark.update(hashlib.file_digest(file, "sha256").digest())
    return mark.hexdigest()


def copy_model(source: Path, target: Path) -> None:
    """Copy a model with its external data, each file whole or not at all, the model last.

    Raises:
        TeacherError: ``source`` is no model, or keeps weights outside of its folder.
    """
    names = external_data(source)
    for name in names:
        if not (target.parent / name).resolve().is_relative_to(target.parent.resolve()) or name == target.name:
            expected, hint = "external data in its own folder", "onnx.save(model, path, save_as_external_data=True)"
            raise TeacherError(problem(str(source), expected=expected, got=name, hint=hint))
    pairs = [(source.parent / name, target.parent / name) for name in names]
    for part, copy in (*pairs, (source, target)):
        with open(part, "rb") as original, atomic_write(copy, "wb") as file:
            shutil.copyfileobj(original, file)


def not_onnx(path: Path, cause: object) -> TeacherError:
    """The error for a file that ONNX or ONNX Runtime cannot read."""
    hint = "a fresh copy of the file, with its external data beside it if it has any"
    return TeacherError(problem(str(path), expected="an ONNX model", got=first_line(cause), hint=hint))


def first_line(cause: object) -> str:
    """The first line of what an exception says, or else its name."""
    text = str(cause).strip()
    return text.splitlines()[0] if text else type(cause).__name__
