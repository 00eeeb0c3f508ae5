"""The lessons: sources and notebooks agree, and the checks of exercises tell right from wrong."""

import importlib
import math
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wrong_answers import EXERCISES, Exercise

from minispike import Tensor
from minispike.snn.surrogate import ATan, Surrogate

FOLDER = Path(__file__).parents[1] / "tutorials"
SOURCES = sorted(FOLDER.glob("[0-9][0-9]_*.py"))


@pytest.fixture(autouse=True)
def in_the_folder_of_the_lessons(monkeypatch: pytest.MonkeyPatch) -> None:
    """The modules beside the lessons, as a notebook finds them."""
    monkeypatch.syspath_prepend(str(FOLDER))


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_notebook_is_that_of_its_source(source: Path) -> None:
    pytest.importorskip("jupytext", reason="needs the extra 'tutorials'")
    assert importlib.import_module("tutorials.build").disagreement(source) == ""


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_a_lesson_is_short_and_has_its_parts(source: Path) -> None:
    text = source.read_text(encoding="utf-8")
    assert len(text.splitlines()) < 300
    parts = ("**Goal.**", "**What we saw.**", "## Break it", "## Exercises", "## Where to read on", "# your code")
    for part in (*parts, "assert ", "show("):
        assert part in text, part
    if "$$" in text:
        assert re.search(r"\bin words\b", text, re.IGNORECASE), "an equation is read aloud"
    assert 2 <= text.count("# %%\ncheck.") <= 3, "exercises"


FUNCTIONS = [exercise for exercise in EXERCISES if not isinstance(exercise.wrong[0], type)]
"""The exercises whose answer is a function, not a class."""


@pytest.fixture(params=EXERCISES, ids=lambda e: f"{e.lesson}-{e.check}")
def exercise(request: pytest.FixtureRequest) -> Exercise:
    return request.param


def verdict(exercise: Exercise, answer: Callable[..., Any]) -> Any:
    return getattr(importlib.import_module(f"checks.lesson_{exercise.lesson}"), exercise.check)(answer)


def stub(exercise: Exercise) -> Any:
    """The answer as the lesson hands it out: the cell with its name, run alone."""
    (source,) = [path for path in SOURCES if path.name.startswith(exercise.lesson)]
    (cell,) = [
        c
        for c in source.read_text(encoding="utf-8").split("# %%")
        if f" {exercise.answer}(" in c and "# your code" in c
    ]
    names: dict[str, Any] = {"np": np, "Surrogate": Surrogate}
    exec(cell, names)
    return names[exercise.answer]


def test_the_right_answer(exercise: Exercise) -> None:
    answers = importlib.import_module(f"solutions.lesson_{exercise.lesson}")
    found = verdict(exercise, getattr(answers, exercise.answer))
    assert found, found
    assert repr(found).startswith("Right: ")


def test_the_untouched_stub(exercise: Exercise) -> None:
    found = verdict(exercise, stub(exercise))
    assert not found
    assert "still to be written" in repr(found)


@pytest.mark.parametrize("number", [0, 1])
def test_wrong_answers(exercise: Exercise, number: int) -> None:
    found = verdict(exercise, exercise.wrong[number])
    assert not found
    assert repr(found).startswith("Not yet: ")


@pytest.mark.parametrize(
    ("found", "expected", "told"),
    [
        (np.array([2.0]), 2.0, "array([2.]), of shape (1,); a single number is asked for"),
        (np.ones(2), np.ones((1, 2)), "of shape (2,); shape (1, 2) is asked for"),
        (Tensor(2.0), 2.0, "a Tensor; .item() or .numpy() takes its numbers out"),
        (math.nan, 2.0, "nan; that is no number"),
        ((1.0, 2.0, 3.0), (1.0, 2.0), "2 results are asked for"),
        ((1.0, np.ones(3)), (1.0, 2.0), "of shape (3,); a single number is asked for"),
        ("two", 2.0, "'two', of type str; numbers are asked for"),
        ({}, np.ones(2), "{}, of type dict; numbers are asked for"),
        (2.0, "two", "2.0, of type float; a string is asked for"),
        ([[1.0], [1.0, 2.0]], np.ones((2, 2)), "which is no array of numbers"),
        ("1.0", lambda x: float(x) == 1.0, "'1.0', of type str; numbers are asked for"),
        (np.array([1.0]), lambda x: float(x[0]) == 1.0, "of shape (1,); a single number is asked for"),
        (2.5, 2.0, "gives 2.5."),
        (None, 2.0, "gives None."),
        (2.0, None, "gives 2.0."),
        (-1.0, lambda x: ATan(x).alpha == 1.0, "gives -1.0."),  # who judges it raises
        (np.array([0.123456]), np.array([0.5]), "array([0.123])."),
    ],
)
def test_a_verdict_tells_the_kind_of_a_mistake(found: Any, expected: Any, told: str) -> None:
    def answer(x: float) -> Any:
        return found

    verdict = importlib.import_module("checks.verdict").tell(answer, [((1.0,), expected)])
    assert not verdict
    assert repr(verdict).startswith("Not yet: answer(1.0) gives ")
    assert told in repr(verdict), verdict


def test_a_verdict_on_an_answer_that_raises() -> None:
    verdict = importlib.import_module("checks.verdict").tell(lambda x: 1 / x, [((0,), 1.0)])
    assert repr(verdict) == "Not yet: <lambda>(0) raises ZeroDivisionError: division by zero"


@pytest.mark.parametrize("found", [None, True, "text", math.nan, Tensor(1.0), (n for n in (1.0, 2.0))])
@pytest.mark.parametrize("exercise", FUNCTIONS, ids=lambda e: f"{e.lesson}-{e.check}")
def test_answers_of_a_wrong_kind(exercise: Exercise, found: Any) -> None:
    told = verdict(exercise, lambda *_: found)
    assert not told
    assert repr(told).startswith("Not yet: "), told


def test_an_answer_that_is_half_done() -> None:
    tell = importlib.import_module("checks.verdict").tell
    assert repr(tell(partial(max, 1.0), [((2.0,), 2.0)])).startswith("Right: functools.partial(")
    assert "still to be written" in repr(tell(lambda x: (x, ...), [((1.0,), (1.0, 2.0))]))


def test_every_exercise_is_here() -> None:
    handed_out = sum(path.read_text(encoding="utf-8").count("return ...  # your code") for path in SOURCES)
    classes = sum(path.read_text(encoding="utf-8").count("(Surrogate):") for path in SOURCES)  # of two methods
    assert handed_out - classes == len(EXERCISES)
