"""A checkpoint comes back as it was, or is refused by name; half a file never stands in its place."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence

pytest.importorskip("safetensors")

from safetensors.numpy import save_file

from minispike import checkpoint
from minispike.checkpoint import load_tensors, part, save_tensors
from minispike.errors import CheckpointError

Array = np.ndarray[Any, Any]


def tensors() -> dict[str, Array]:
    """Every type a checkpoint may hold, and the shapes and strides that are easy to lose."""
    rng = np.random.default_rng(0)
    table = rng.normal(size=(3, 4))
    return {
        "half": table.astype(np.float16),
        "single": table.astype(np.float32),
        "double": table,
        "count": np.array(7, dtype=np.int64),
        "flags": table > 0,
        "none": np.zeros((0, 5), np.float32),
        "turned.weight": table.T,
        "every second": table[:, ::2],
        "backwards": table[::-1],
        "extremes": np.array([np.nan, np.inf, -0.0, np.finfo(np.float64).tiny / 2]),
    }


def assert_same(found: dict[str, Array], expected: dict[str, Array]) -> None:
    assert sorted(found) == sorted(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape), name
        assert found[name].tobytes() == array.tobytes(), name


def test_round_trip(tmp_path: Path) -> None:
    notes = {"step": 3, "best": repr(0.1 + 0.2), "names": ["a", "é"], "config": {"tau": 2.0, "none": None}}
    save_tensors(tmp_path / "new" / "a.safetensors", tensors(), notes)
    found, read = load_tensors(str(tmp_path / "new" / "a.safetensors"))
    assert_same(found, tensors())
    assert read == notes and float(read["best"]) == 0.1 + 0.2


def test_nothing_at_all(tmp_path: Path) -> None:
    save_tensors(tmp_path / "a.safetensors", {})
    assert load_tensors(tmp_path / "a.safetensors") == ({}, {})


def test_what_is_loaded_is_a_copy(tmp_path: Path) -> None:
    """A running phase writes its next checkpoint over the one it was resumed from."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": np.ones(4096)})
    found, _ = load_tensors(path)
    path.write_bytes(b"\0" * path.stat().st_size)
    found["a"] += 1
    assert (found["a"] == 2).all()


def test_saving_leaves_the_arrays_alone(tmp_path: Path) -> None:
    given = tensors()
    save_tensors(tmp_path / "a.safetensors", given)
    assert_same(given, tensors())


def test_a_foreign_safetensors_file(tmp_path: Path) -> None:
    """Weights of somebody else are read; only their notes are empty."""
    save_file({"a": np.arange(3.0)}, tmp_path / "a.safetensors", metadata={"format": "pt"})
    found, notes = load_tensors(tmp_path / "a.safetensors")
    assert found["a"].tolist() == [0, 1, 2] and notes == {}


def written(folder: Path) -> bytes:
    save_tensors(folder / "whole.safetensors", tensors(), {"step": 3})
    return (folder / "whole.safetensors").read_bytes()


@pytest.mark.parametrize("kept", [0.0, 4 / 1000, 0.3, 0.9, 0.999])
def test_truncated(tmp_path: Path, kept: float) -> None:
    whole = written(tmp_path)
    (tmp_path / "cut.safetensors").write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(CheckpointError, match=r"cut\.safetensors: expected a safetensors file, got .+; try") as caught:
        load_tensors(tmp_path / "cut.safetensors")
    assert_sentence(caught.value)
    assert caught.value.__cause__ is not None


def with_header(header: bytes, content: bytes = b"") -> bytes:
    return len(header).to_bytes(8, "little") + header + content


FOREIGN = {
    "text": b"a line of text, longer than the number at the start of a safetensors file\n" * 9,
    "pickle": b"\x80\x02}q\x00(X\x06\x00\x00\x00weightK\x01u." * 9,
    "zip": b"PK\x03\x04" + bytes(200),
    "no JSON": with_header(b"{]"),
    "notes are no JSON": with_header(json.dumps({"__metadata__": {"minispike": "{"}}).encode()),
    "notes are a list": with_header(json.dumps({"__metadata__": {"minispike": "[1]"}}).encode()),
    "beyond the end": with_header(b'{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}}', bytes(4)),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_foreign(tmp_path: Path, name: str) -> None:
    (tmp_path / "a.safetensors").write_bytes(FOREIGN[name])
    with pytest.raises(CheckpointError, match=r"a\.safetensors: expected a safetensors file, got .+; try") as caught:
        load_tensors(tmp_path / "a.safetensors")
    assert_sentence(caught.value)


def test_missing(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no\.safetensors: expected a file, got none; try") as caught:
        load_tensors(tmp_path / "no.safetensors")
    assert_sentence(caught.value)
    with pytest.raises(CheckpointError, match="expected a file, got a folder"):
        load_tensors(tmp_path)


def test_missing_library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "safetensors.numpy", None)
    for attempt in (lambda: load_tensors(tmp_path / "a"), lambda: save_tensors(tmp_path / "a", {})):
        with pytest.raises(CheckpointError, match=r'safetensors: expected .*; try pip install "minispike\[distill\]"'):
            attempt()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("when", ["notes", "rename", "disk"])
def test_a_failure_leaves_the_file_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, when: str) -> None:
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": np.ones(3)}, {"step": 1})
    notes: dict[str, Any] = {"step": 2}

    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    if when == "notes":
        notes["step"] = object()  # which JSON does not know
    else:
        monkeypatch.setattr(os, {"rename": "replace", "disk": "fsync"}[when], broken)
    with pytest.raises((OSError, TypeError)):
        save_tensors(path, {"a": np.zeros(3)}, notes)
    monkeypatch.undo()
    found, read = load_tensors(path)
    assert found["a"].tolist() == [1, 1, 1] and read == {"step": 1}
    assert list(tmp_path.iterdir()) == [path]


def test_replaced_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until the new file is complete, the old one stands under its name."""
    path = tmp_path / "a.safetensors"
    save_tensors(path, {"a": np.ones(3)}, {"step": 1})
    replace, seen = os.replace, []

    def look(source: Path, target: Path) -> None:
        seen.extend(load_tensors(file)[1]["step"] for file in (target, source))
        replace(source, target)

    monkeypatch.setattr(os, "replace", look)
    save_tensors(path, {"a": np.zeros(3)}, {"step": 2})
    assert seen == [1, 2] and load_tensors(path)[1] == {"step": 2}


def test_parts() -> None:
    found = {"model.a": 1, "model.model.b": 2, "best.model.a": 3, "models.a": 4}
    assert part(found, "model.") == {"a": 1, "model.b": 2}
    assert part(found, "optimiser.") == {}
    assert checkpoint.part({}, "model.") == {}
