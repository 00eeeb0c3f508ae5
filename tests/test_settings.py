"""Settings: mappings, TOML, command lines, and what is said of a mistake in them."""

import dataclasses
import math
import os
import tomllib
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Optional

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minispike.config import RunConfig
from minispike.errors import ConfigError, ShapeError, problem
from minispike.settings import (
    describe,
    fields_help,
    from_mapping,
    override,
    read_toml,
    to_mapping,
    to_toml,
)


@dataclass(frozen=True)
class Neuron:
    tau: float = field(default=2.0, metadata={"help": "membrane time constant in steps"})
    reset: Literal["zero", "subtract"] = "subtract"

    def __post_init__(self) -> None:
        if not self.tau > 1:
            raise ConfigError(problem("tau", expected="a number > 1", got=str(self.tau), hint="tau=2.0"))


@dataclass(frozen=True)
class Student:
    depth: int = field(default=12, metadata={"help": "blocks"})
    width: int = 768
    neuron: Neuron = Neuron(tau=1.5)

    def __post_init__(self) -> None:
        if self.width % 12:
            raise ValueError("the width is no multiple of 12")


@dataclass(frozen=True)
class Teacher:
    path: str
    layers: tuple[int, ...] = (1, 3)


@dataclass(frozen=True)
class Everything:
    whole: int = 1
    number: float = 0.5
    flag: bool = False
    text: str = "some text"
    wholes: tuple[int, ...] = (1,)
    numbers: tuple[float, ...] = ()
    texts: tuple[str, ...] = ("a", "b")
    flags: tuple[bool, ...] = (True,)
    kinds: tuple[Literal["x", "y"], ...] = ()
    choice: Literal["cosine", "linear", 8] = "cosine"
    maybe_whole: int | None = None
    maybe_number: Optional[float] = 0.25  # noqa: UP045
    maybe_text: str | None = "given"
    maybe_list: tuple[int, ...] | None = (1,)
    maybe_choice: Literal["a", "b"] | None = "a"
    student: Student = Student(depth=6)
    made: Neuron = field(default_factory=Neuron)
    maybe_neuron: Neuron | None = None
    nothing: "Empty" = field(default_factory=lambda: Empty())


@dataclass(frozen=True)
class Empty:
    """A section without settings."""


@dataclass(frozen=True)
class Run:
    seed: int = 0
    student: Student = Student()
    teacher: Teacher = Teacher("some/dir")
    extra: Neuron | None = None


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


def same(one: Any, other: Any) -> bool:
    """Equality of value and type, where NaN equals NaN and 0.0 differs from -0.0."""
    if type(one) is not type(other):
        return False
    if dataclasses.is_dataclass(one):
        return all(same(getattr(one, f.name), getattr(other, f.name)) for f in dataclasses.fields(one))
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other) if isinstance(one, float) else bool(one == other)


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


# ---- Mappings


def test_what_is_left_out_takes_the_default_of_its_place() -> None:
    value = from_mapping(Everything, {"student": {"width": 24}, "number": 3, "maybe_neuron": {}})
    assert value.student == Student(depth=6, width=24)
    assert same(value.number, 3.0)
    assert value.maybe_neuron == Neuron()


def test_none_and_ready_sections_are_taken() -> None:
    value = from_mapping(Everything, {"maybe_text": None, "maybe_neuron": "none", "student": Student(depth=1)})
    assert (value.maybe_text, value.maybe_neuron, value.student.depth) == (None, None, 1)


@pytest.mark.parametrize(
    ("mapping", "message"),
    [
        (
            {"student": {"dept": 6}},
            "student.dept: expected one of the keys of student, got an unknown key; try student.depth",
        ),
        ({"sead": 1}, "sead: expected one of the keys of config, got an unknown key; try seed"),
        (
            {"tau": 3},
            r"tau: expected .* of config, got an unknown key; try student.neuron.tau or extra.tau",
        ),
        ({"zzz": 1}, "zzz: expected one of .*; try one of seed, student, teacher, extra"),
        (
            {"student": {"depth": "6"}},
            r'student.depth: expected int, got "6" \(str\); try student.depth = 12',
        ),
        ({"student": {"depth": 6.0}}, r"student.depth: expected int, got 6.0 \(float\); try"),
        ({"student": {"depth": True}}, r"student.depth: expected int, got true \(bool\); try"),
        (
            {"student": {"neuron": {"tau": True}}},
            r"student.neuron.tau: expected float, got true \(bool\); try .* = 1.5",
        ),
        (
            {"student": {"neuron": {"tau": 10**400}}},
            r"student.neuron.tau: expected float, got 10{56}\.\.\. \(int\); try",
        ),
        ({"student": 6}, r"student: expected section, got 6 \(int\); try student = \{depth = 12\}"),
        ({"extra": 6}, r'extra: expected section \| "none", got 6 \(int\); try extra = \{tau = 2.0\}'),
        (
            {"teacher": {"path": 3}},
            r'teacher.path: expected str, got 3 \(int\); try teacher.path = "some/dir"',
        ),
        ({"teacher": {"path": "\udc80"}}, r"teacher.path: expected str, got"),
        ({"teacher": {"path": None}}, r'teacher.path: expected str, got "none" \(NoneType\); try'),
        (
            {"teacher": {"layers": 1}},
            r"teacher.layers: expected list of int, got 1 \(int\); try .* = \[1, 3\]",
        ),
        (
            {"teacher": {"layers": [1, 2.5]}},
            r"teacher.layers\[1\]: expected int, got 2.5 \(float\); try .* = \[1, 3\]",
        ),
        (
            {"student": {"neuron": {"reset": "subtrct"}}},
            r'student.neuron.reset: expected "zero" \| "subtract", got "subtrct" .*; try .* = "subtract"',
        ),
        (
            {"student": {"neuron": {"tau": 0.5}}},
            "student.neuron.tau: expected a number > 1, got 0.5; try student.neuron.tau=2.0",
        ),
        ({"student": {"width": 5}}, "student: the width is no multiple of 12"),
    ],
)
def test_mistakes_are_named_with_their_dotted_key(mapping: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{message}"):
        from_mapping(Run, mapping)


def test_a_literal_does_not_take_a_like_value() -> None:
    assert from_mapping(Everything, {"choice": 8}).choice == 8
    for value in (8.0, "8", True):
        with pytest.raises(ConfigError, match=r"^choice: expected"):
            from_mapping(Everything, {"choice": value})


def test_a_value_without_default_must_be_given() -> None:
    @dataclass(frozen=True)
    class Needy:
        teacher: Teacher

    assert from_mapping(Needy, {"teacher": {"path": "x"}}).teacher == Teacher("x")
    with pytest.raises(ConfigError, match=r'^teacher.path: expected str, got nothing; try teacher.path = "text"'):
        from_mapping(Needy, {})


def test_the_outermost_section_has_the_name_it_is_given() -> None:
    with pytest.raises(ConfigError, match=r"^zzz: expected one of the keys of the preset, got"):
        from_mapping(Run, {"zzz": 1}, where="the preset")
    with pytest.raises(ConfigError, match=r"^the preset: the width is no multiple of 12$"):
        from_mapping(Student, {"width": 5}, where="the preset")


def test_a_dataclass_own_errors_become_config_errors() -> None:
    @dataclass(frozen=True)
    class Shaped:
        size: int = 1

        def __post_init__(self) -> None:
            if self.size == 2:
                raise ShapeError("size: expected 1")
            if self.size == 3:
                raise TypeError("a bug")

    with pytest.raises(ConfigError, match=r"^size: expected 1$"):
        from_mapping(Shaped, {"size": 2})
    with pytest.raises(TypeError, match="a bug"):
        from_mapping(Shaped, {"size": 3})


@pytest.mark.parametrize("hint", [dict[str, int], int | str, Path, tuple[int, int], tuple[tuple[int, ...], ...], Any])
def test_other_types_cannot_be_settings(hint: Any) -> None:
    cls = dataclasses.make_dataclass("Odd", [("odd", hint, None)], frozen=True)
    with pytest.raises(TypeError, match=r"^odd: expected a type that"):
        from_mapping(cls, {})


def test_fields_that_are_derived_are_no_settings() -> None:
    @dataclass(frozen=True)
    class Derived:
        size: int = 2
        area: int = field(init=False, default=4)

    assert to_mapping(Derived()) == {"size": 2}
    assert from_mapping(Derived, {"size": 3}) == Derived(3)


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


# ---- Command lines


@pytest.mark.parametrize(
    ("assignment", "expected"),
    [
        ("whole=6", Everything(whole=6)),
        (" whole = 1_000 ", Everything(whole=1000)),
        ("number=1e-3", Everything(number=1e-3)),
        ("number=2", Everything(number=2.0)),
        ("flag=true", Everything(flag=True)),
        ("text=some/dir", Everything(text="some/dir")),
        ("text=C:\\dir\\new", Everything(text="C:\\dir\\new")),
        ("text=2024", Everything(text="2024")),
        ("text=true", Everything(text="true")),
        ("text=a=b, c", Everything(text="a=b, c")),
        ("text=", Everything(text="")),
        ("text=none", Everything(text="none")),
        ("text=[1, 2]", Everything(text="[1, 2]")),
        ("text=x\nwhole = 2", Everything(text="x\nwhole = 2")),
        ('text="quoted\\n"', Everything(text="quoted\n")),
        ("text='quoted\\n'", Everything(text="quoted\\n")),
        ("wholes=[1, 3]", Everything(wholes=(1, 3))),
        ("numbers=[1, 0.5]", Everything(numbers=(1.0, 0.5))),
        ('texts=["a"]', Everything(texts=("a",))),
        ("choice=linear", Everything(choice="linear")),
        ('choice="linear"', Everything(choice="linear")),
        ("choice=8", Everything(choice=8)),
        ("maybe_text=none", Everything(maybe_text=None)),
        ("maybe_text=some", Everything(maybe_text="some")),
        ("maybe_list=none", Everything(maybe_list=None)),
        ("maybe_choice=b", Everything(maybe_choice="b")),
        ("maybe_neuron.tau=3", Everything(maybe_neuron=Neuron(tau=3.0))),
        ("student.neuron.reset=zero", Everything(student=Student(6, neuron=Neuron(1.5, "zero")))),
        ("student={depth = 2}", Everything(student=Student(2))),
    ],
)
def test_assignments(assignment: str, expected: Everything) -> None:
    assert override(Everything(), [assignment]) == expected


def test_assignments_are_laid_over_the_instance_together_and_the_last_wins() -> None:
    base = Run(seed=3, student=Student(depth=2))
    changed = override(base, ["student.width=7", "student={width = 36}", "student.neuron.tau=4", "seed=1", "seed=2"])
    assert changed == Run(seed=2, student=Student(2, 36, Neuron(4.0)))
    assert override(base, []) == base
    assert override(Run(extra=Neuron()), ["extra=none"]).extra is None


@pytest.mark.parametrize(
    ("assignment", "message"),
    [
        ("seed", "override: expected key=value, got 'seed'; try seed=value"),
        ("=3", "override: expected key=value, got '=3'; try key=3"),
        ("", "override: expected key=value, got ''; try key=value"),
        (
            "student.dept=6",
            "student.dept: expected one of the keys of student, got an unknown key; try student.depth",
        ),
        ("depth=6", "depth: expected one of the keys of config, got an unknown key; try student.depth"),
        ("seed.x=6", r"seed: expected int, got \{x = \"6\"\} \(dict\); try seed = 0"),
        ("student..depth=6", "student.: expected one of the keys of student"),
        ("seed=six", "seed: expected int, got six; try seed=0"),
        ("seed=", "seed: expected int, got nothing; try seed=0"),
        ("seed=1\nstudent = 2", "seed: expected int, got 1\nstudent = 2; try seed=0"),
        ("seed=none", "seed: expected int, got none; try seed=0"),
        ("seed=1.5", r"seed: expected int, got 1.5 \(float\); try seed = 0"),
        ("student=6", r"student: expected section, got 6 \(int\); try"),
        ("teacher.layers=1,3", r"teacher.layers: expected list of int, got 1,3; try teacher.layers=\[1, 3\]"),
        ('teacher.path="open', 'teacher.path: expected str, got "open; try teacher.path="text"'),
        ("student.neuron.reset=sub", 'student.neuron.reset: expected .*, got "sub" .*; try .* = "subtract"'),
        ("student.neuron.tau=0", "student.neuron.tau: expected a number > 1, got 0.0; try"),
    ],
)
def test_mistakes_in_assignments(assignment: str, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{message}"):
        override(Run(), [assignment])


@given(st.text(max_size=20))
def test_any_text_is_applied_or_refused(text: str) -> None:
    for key in ("seed", "teacher.path", "teacher.layers", "student", "extra", ""):
        for assignment in (key + text, f"{key}={text}"):
            with suppress(ConfigError):
                assert isinstance(override(Run(), [assignment]), Run)


# ---- Help


def test_help_lists_each_setting_once() -> None:
    rows = fields_help(Run)
    assert rows[0] == ("seed", "int", "0", "")
    assert ("student.depth", "int", "12", "blocks") in rows
    assert ("student.neuron.tau", "float", "1.5", "membrane time constant in steps") in rows
    assert ("student.neuron.reset", '"zero" | "subtract"', '"subtract"', "") in rows
    assert ("teacher.layers", "list of int", "[1, 3]", "") in rows
    assert ("extra", 'section | "none"', '"none"', "") in rows
    assert ("extra.tau", "float", "2.0", "membrane time constant in steps") in rows
    keys = [row.key for row in rows]
    assert len(keys) == len(set(keys))
    assert fields_help(Teacher)[0] == ("path", "str", "required", "")


def test_every_setting_of_a_run_says_what_it_means() -> None:
    assert [row.key for row in fields_help(RunConfig) if not row.help] == []


# ---- The settings of a run


@pytest.mark.parametrize("section", ["stage1", "teacher.pretraining"])
@pytest.mark.parametrize("name", ["evaluations", "patience"])
def test_a_phase_without_dev_has_no_settings_for_it(section: str, name: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{section}.{name}: expected one of the keys of {section}, got an unknown"):
        override(RunConfig(), [f"{section}.{name}=3"])
    for other in ("stage2", "teacher.finetuning"):
        override(RunConfig(), [f"{other}.{name}=3"])
