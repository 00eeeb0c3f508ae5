"""The lessons: sources and notebooks agree, and the checks of exercises tell right from wrong."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from wrong_answers import EXERCISES, Exercise

from minispike.snn.surrogate import Surrogate

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
    text = source.read_text()
    assert len(text.splitlines()) < 300
    for part in ("**Goal.**", "## Break it", "## Exercises", "## Where to read on", "# your code", "assert "):
        assert part in text, part


@pytest.fixture(params=EXERCISES, ids=lambda e: f"{e.lesson}-{e.check}")
def exercise(request: pytest.FixtureRequest) -> Exercise:
    return request.param


def verdict(exercise: Exercise, answer: Callable[..., Any]) -> Any:
    return getattr(importlib.import_module(f"checks.lesson_{exercise.lesson}"), exercise.check)(answer)


def stub(exercise: Exercise) -> Any:
    """The answer as the lesson hands it out: the cell with its name, run alone."""
    (source,) = [path for path in SOURCES if path.name.startswith(exercise.lesson)]
    (cell,) = [c for c in source.read_text().split("# %%") if f" {exercise.answer}(" in c and "# your code" in c]
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


def test_every_exercise_is_here() -> None:
    handed_out = sum(path.read_text().count("return ...  # your code") for path in SOURCES)
    classes = sum(path.read_text().count("(Surrogate):") for path in SOURCES)  # of two methods
    assert handed_out - classes == len(EXERCISES)
