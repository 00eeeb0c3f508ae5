"""Settings from command lines, and what is said of a mistake in them."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sample_settings import Everything, Neuron, Run, Student

from minispike.errors import ConfigError
from minispike.settings import override

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
