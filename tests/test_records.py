"""Records: plain data compared with the type that says what it holds."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np
import pytest
from helpers import assert_sentence

pytest.importorskip("safetensors")

from minispike.checkpoint import save_tensors
from minispike.errors import CheckpointError, RunFolderError
from minispike.ledger import EnergyReport, EnergyRow, Ledger
from minispike.records import fitted, load_noted, read_record


class Part(TypedDict):
    names: list[str]
    share: NotRequired[float]


class Whole(TypedDict):
    count: int
    parts: dict[str, Part]
    other: Any


@dataclass(frozen=True)
class Built:
    name: str
    sizes: tuple[int, ...] = (1,)
    inner: "Built | None" = None


GOOD: dict[str, Any] = {"count": 1, "parts": {"a": {"names": ["x"], "share": 1}}, "other": None}


def test_what_fits_is_taken_with_what_stands_beside_it() -> None:
    assert fitted(Whole, GOOD | {"later": 7}) == GOOD | {"later": 7}
    assert isinstance(fitted(Whole, GOOD)["parts"]["a"]["share"], float)
    found = fitted(Built, {"name": "n", "later": 7, "inner": {"name": "m", "sizes": [2, 3]}})
    assert found == Built("n", (1,), Built("m", (2, 3)))


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ([], "[] (list) instead of section"),
        (GOOD | {"count": True}, "count = true (bool) instead of int"),
        (GOOD | {"parts": [1]}, "parts = [1] (list) instead of section"),
        (GOOD | {"parts": {"a": 3}}, "parts.a = 3 (int) instead of section"),
        (GOOD | {"parts": {"a": {}}}, "no parts.a.names"),
        (GOOD | {"parts": {"a": {"names": "x"}}}, 'parts.a.names = "x" (str) instead of list'),
        (GOOD | {"parts": {"a": {"names": ["x", 2]}}}, "parts.a.names[1] = 2 (int) instead of str"),
        ({"count": 1, "parts": {}}, "no other"),
    ],
)
def test_the_first_part_that_does_not_fit_is_named(value: Any, told: str) -> None:
    with pytest.raises(ValueError) as caught:
        fitted(Whole, value)
    assert str(caught.value) == told


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"[" * 100_000, b"null", b'{"count": 1}'])
def test_a_damaged_file(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(RunFolderError, match=r"a\.json: expected a whole, got .+; try a copy") as caught:
        read_record(tmp_path / "a.json", Whole, what="a whole", hint="a copy")
    assert_sentence(caught.value)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="expected a whole, got No such file") as caught:
        read_record(tmp_path / "a.json", Whole, what="a whole", hint="a copy")
    assert_sentence(caught.value)


def test_notes_on_tensors(tmp_path: Path) -> None:
    path, weights = tmp_path / "a.safetensors", {"w": np.zeros(2)}
    save_tensors(path, weights, {"names": ["x"]})
    assert load_noted(path, Part, what="a part", hint="a copy")[1] == {"names": ["x"]}
    for notes, got in (({}, "tensors of something else"), ({"names": 5}, r"names = 5 \(int\) instead of list")):
        save_tensors(path, weights, notes)
        with pytest.raises(CheckpointError, match=f"expected a part, got {got}; try a copy") as caught:
            load_noted(path, Part, what="a part", hint="a copy")
        assert_sentence(caught.value)
    path.write_bytes(b"garbage")
    with pytest.raises(CheckpointError, match="expected a safetensors file, got .*; try a copy"):
        load_noted(path, Part, what="a part", hint="a copy")


def test_an_energy_report_comes_back_as_it_was() -> None:
    ledger = Ledger("net", (EnergyRow("a", "linear", 1.0, 2.0, 3.0, 4.0),))
    for teacher in (ledger, None):
        report = EnergyReport(ledger, ledger, teacher, 2, 9, "paper")
        assert fitted(EnergyReport, report.to_mapping()) == report
