"""Settings from mappings, what is said of a mistake in them, and their help."""

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from sample_settings import Everything, Neuron, Run, Student, Teacher, same

from minispike.config import RunConfig
from minispike.errors import ConfigError, ShapeError
from minispike.settings import fields_help, from_mapping, override, to_mapping

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
