"""Notebooks are made of their sources, whole or not at all, and a stale one is noticed."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

for needed in ("jupytext", "nbclient", "nbformat", "ipykernel"):
    pytest.importorskip(needed, reason="needs the extra 'tutorials'")

SOURCE = "# %% [markdown]\n# # A lesson\n\n# %%\nx = 40\nprint(x + 2)\n\n# %%\nx + 1\n"


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module, with one lesson of its own."""
    module: Any = importlib.import_module("tutorials.build")
    monkeypatch.setattr(module, "FOLDER", tmp_path)
    (tmp_path / "03_short.py").write_text(SOURCE)
    return module


def wrong_with(build: Any) -> str:
    found: str = build.disagreement(build.FOLDER / "03_short.py")
    return found


def spoilt(notebook: Path, change: Any) -> None:
    content = json.loads(notebook.read_text())
    change(content)
    notebook.write_text(json.dumps(content))


def test_a_notebook_has_what_its_cells_said(build: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert build.main([]) == 0
    assert "03_short.py: " in capsys.readouterr().out
    notebook = build.FOLDER / "03_short.ipynb"
    title, first, second = json.loads(notebook.read_text())["cells"]
    assert title["source"] == ["# A lesson"]
    assert first["outputs"][0]["text"] == ["42\n"]
    assert second["outputs"][0]["data"]["text/plain"] == ["41"]
    assert wrong_with(build) == ""
    assert build.main(["--check"]) == 0
    before = notebook.read_bytes()
    assert build.main(["03"]) == 0
    assert notebook.read_bytes() == before, "the same whenever it is built"


def test_a_cell_that_fails_leaves_the_notebook(build: Any) -> None:
    build.main(["03"])
    notebook = build.FOLDER / "03_short.ipynb"
    before = notebook.read_bytes()
    (build.FOLDER / "03_short.py").write_text(SOURCE.replace("x + 1", "assert x == 1, 'a claim'"))
    with pytest.raises(SystemExit, match=r"03_short\.py: a cell failed[\s\S]*a claim"):
        build.main(["03"])
    assert notebook.read_bytes() == before
    assert wrong_with(build) == "the notebook was made from another source"
    assert build.main(["--check"]) == 1


def test_keep_runs_and_writes_nothing(build: Any) -> None:
    assert build.main(["--keep"]) == 0
    assert not (build.FOLDER / "03_short.ipynb").exists()
    assert wrong_with(build) == "there is no notebook"


def test_stale_notebooks_are_told(build: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    build.main(["03"])
    notebook = build.FOLDER / "03_short.ipynb"
    whole = notebook.read_text()

    def not_run(content: Any) -> None:
        content["cells"][1]["execution_count"] = None

    def failed(content: Any) -> None:
        content["cells"][1]["outputs"] = [{"output_type": "error", "ename": "E", "evalue": "", "traceback": []}]

    for change, told in [(not_run, "was not run from beginning to end"), (failed, "has failed")]:
        spoilt(notebook, change)
        assert told in wrong_with(build)
        notebook.write_text(whole)
    monkeypatch.setattr(build, "LARGEST", 100)
    assert "expected at most 100" in wrong_with(build)


def test_a_lesson_that_is_not_there(build: Any) -> None:
    with pytest.raises(SystemExit, match="lesson: expected one of 03, got 99; try 03"):
        build.main(["99"])
