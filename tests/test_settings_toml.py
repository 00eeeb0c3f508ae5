"""Settings written as TOML and read back, and what is said of a mistake in a file."""

import math
import os
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_settings import Empty, Everything, Neuron, Run, Student, same

from minispike.errors import ConfigError
from minispike.settings import describe, from_mapping, override, read_toml, to_mapping, to_toml

TEXT = st.text() | st.sampled_from(['"', "\\", "'''", '"""\n', "\r\n", "\x00\x1f\x7f", "\t#= ", "好\u2028😀", "None"])
NUMBER = st.floats() | st.sampled_from([1e-12, 1e22, -0.0, 5e-324, math.inf, -math.inf, math.nan])
NEURON = st.builds(Neuron, tau=st.floats(1, exclude_min=True), reset=st.sampled_from(["zero", "subtract"]))


def lists(items: "st.SearchStrategy[Any]") -> "st.SearchStrategy[tuple[Any, ...]]":
    return st.lists(items, max_size=4).map(tuple)


EVERYTHING = st.builds(
    Everything,
    whole=st.integers(),
    number=NUMBER,
    flag=st.booleans(),
    text=TEXT | st.just("none"),
    wholes=lists(st.integers()),
    numbers=lists(NUMBER),
    texts=lists(TEXT | st.just("none")),
    flags=lists(st.booleans()),
    kinds=lists(st.sampled_from(["x", "y"])),
    choice=st.sampled_from(["cosine", "linear", 8]),
    maybe_whole=st.none() | st.integers(),
    maybe_number=st.none() | NUMBER,
    maybe_text=st.none() | TEXT.filter(lambda text: text != "none"),
    maybe_list=st.none() | lists(st.integers()),
    maybe_choice=st.none() | st.sampled_from(["a", "b"]),
    student=st.builds(Student, depth=st.integers(), width=st.just(24), neuron=NEURON),
    made=NEURON,
    maybe_neuron=st.none() | NEURON,
)


# ---- Round trips


@given(EVERYTHING)
def test_toml_round_trip(value: Everything) -> None:
    assert same(from_mapping(Everything, tomllib.loads(to_toml(value))), value)
    assert same(from_mapping(Everything, to_mapping(value)), value)


@given(EVERYTHING)
def test_description_is_toml_and_overrides(value: Everything) -> None:
    lines = describe(value)
    assert same(from_mapping(Everything, tomllib.loads(lines)), value)
    assert same(override(Everything(), lines.split("\n")), value)


def test_toml_is_readable() -> None:
    assert to_toml(Run()) == (
        "seed = 0\n"
        'extra = "none"\n'
        "\n[student]\ndepth = 12\nwidth = 768\n"
        '\n[student.neuron]\ntau = 1.5\nreset = "subtract"\n'
        '\n[teacher]\npath = "some/dir"\nlayers = [1, 3]\n'
    )
    assert to_toml(Student()).startswith("depth = 12\n")


def test_description_is_aligned() -> None:
    lines = describe(Run()).splitlines()
    assert lines[:2] == ["seed                 = 0", "student.depth        = 12"]
    assert len({line.index("=") for line in lines}) == 1
    assert describe(Empty()) == ""


def test_numpy_floats_are_floats() -> None:
    assert tomllib.loads(to_toml(Neuron(tau=np.float64(2.5)))) == {"tau": 2.5, "reset": "subtract"}


def test_the_text_none_cannot_stand_where_none_can() -> None:
    with pytest.raises(ConfigError, match=r"^maybe_text: expected any text but"):
        to_toml(Everything(maybe_text="none"))


# ---- Files


def write(folder: Path, content: str | bytes) -> Path:
    path = folder / "run.toml"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def test_a_file_is_laid_over_the_base(tmp_path: Path) -> None:
    path = write(tmp_path, "[student]\ndepth = 3\n")
    base = Run(seed=7, student=Student(width=24))
    assert read_toml(Run, path, base) == Run(seed=7, student=Student(depth=3, width=24))
    assert read_toml(Run, str(path)) == Run(student=Student(depth=3))


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    assert read_toml(Run, write(tmp_path, b"\xef\xbb\xbfseed = 3\r\n")) == Run(seed=3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"seed = 1\nstudent = six\n", r":2: expected TOML, got 'student = six' \(.*\); try"),
        (b"seed = 1\n\n[student", r":3: expected TOML, got '\[student' \(.*\); try"),
        (b"seed = 1\nseed = 2\n", r":2: expected TOML, got 'seed = 2' \(.*\); try"),
        (b"seed = ", r":1: expected TOML, got 'seed =' \(.*\); try"),
        (
            b"seed = 1\n# caf\xe9\n",
            ":2: expected UTF-8 text, got the byte 0xe9; try saving the file as UTF-8",
        ),
        (b"sead = 1\n", ": sead: expected one of the keys of the file, got an unknown key; try seed"),
        (
            b"seed = 1979-05-27\n",
            r": seed: expected int, got datetime.date\(1979, 5, 27\) \(date\); try seed = 0",
        ),
    ],
)
def test_mistakes_in_a_file_are_named_with_the_file(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"run\.toml{message}"):
        read_toml(Run, write(tmp_path, content))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.toml: expected a TOML file, got No such file"):
        read_toml(Run, tmp_path / "nowhere.toml")
    if os.name != "nt":
        with pytest.raises(ConfigError, match="expected a TOML file, got Is a directory"):
            read_toml(Run, tmp_path)
