"""Notebooks from their sources: ``python -m tutorials.build`` runs every lesson and writes its notebook beside it.

A lesson is a ``.py`` file in percent format: what is reviewed and linted. The notebook, with the outputs of its last
run, is what people open. A cell that fails, a claim that no longer holds among them, ends the command, and leaves the
old notebook as it was.

    python -m tutorials.build                 all lessons
    python -m tutorials.build 03 04           some of them
    python -m tutorials.build --check         whether sources and notebooks agree; runs nothing
    python -m tutorials.build --keep 03       runs, and leaves the notebook as it is
"""

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from minispike.files import atomic_write

FOLDER = Path(__file__).parent

LARGEST = 400_000
"""Bytes of a notebook."""


def lessons(numbers: Sequence[str] = ()) -> list[Path]:
    """The sources, in order: those whose names begin with one of ``numbers``, or all.

    Raises:
        SystemExit: there is no lesson of that number.
    """
    every = sorted(FOLDER.glob("[0-9][0-9]_*.py"))
    chosen = [path for path in every if not numbers or path.name.startswith(tuple(numbers))]
    for number in numbers:
        if not any(path.name.startswith(number) for path in every):
            known = ", ".join(path.name[:2] for path in every)
            raise SystemExit(f"lesson: expected one of {known}, got {number}; try {every[0].name[:2]}")
    return chosen


def notebook(source: Path) -> Any:
    """The notebook of a source, not run; the same whenever the source is."""
    made = jupytext.read(source)
    made.metadata = nbformat.NotebookNode(
        kernelspec={"display_name": "Python 3", "language": "python", "name": "python3"},
        language_info={"name": "python"},
    )
    made.nbformat, made.nbformat_minor = 4, 5
    for number, cell in enumerate(made.cells):
        cell.id = f"cell-{number:03d}"
        cell.metadata = nbformat.NotebookNode()
    return made


def run(source: Path) -> Any:
    """The notebook with its outputs, from a fresh kernel in the folder of the lessons.

    Raises:
        SystemExit: a cell fails; says which, and how.
    """
    made = notebook(source)
    how: dict[str, Any] = {"kernel_name": "python3", "timeout": 600, "resources": {"metadata": {"path": str(FOLDER)}}}
    how["coalesce_streams"] = True  # what a cell prints is one output, however it came
    client = NotebookClient(made, extra_arguments=["--log-level=ERROR"], **how)  # on this machine alone: no warning
    try:
        client.execute()
    except CellExecutionError as error:
        raise SystemExit(f"{source.name}: a cell failed\n{error}") from error
    for cell in made.cells:
        cell.metadata = nbformat.NotebookNode()  # when a cell ran is no part of what it said
    return made


def text(made: Any) -> str:
    """A notebook as it is stored."""
    return nbformat.writes(made) + "\n"


def disagreement(source: Path) -> str:
    """What is wrong with the notebook of a source, without running it; empty if nothing is."""
    path = source.with_suffix(".ipynb")
    if not path.is_file():
        return "there is no notebook"
    if path.stat().st_size > LARGEST:
        return f"the notebook has {path.stat().st_size:,} bytes, expected at most {LARGEST:,}"
    stored, expected = nbformat.read(path, as_version=4), notebook(source)
    pairs = [[(cell.cell_type, cell.source) for cell in made.cells] for made in (stored, expected)]
    if pairs[0] != pairs[1]:
        return "the notebook was made from another source"
    code = [cell for cell in stored.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        return "the notebook was not run from beginning to end"
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        return "a cell of the notebook has failed"
    return ""


def main(words: Sequence[str] | None = None) -> int:
    """Build, or check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("lessons", nargs="*", metavar="NUMBER", help="such as 03; none: all")
    parser.add_argument("--check", action="store_true", help="compare sources and notebooks, run nothing")
    parser.add_argument("--keep", action="store_true", help="run, and leave the notebooks as they are")
    args = parser.parse_args(words)
    failed = False
    for source in lessons(args.lessons):
        if args.check:
            wrong = disagreement(source)
            failed |= bool(wrong)
            print(
                f"{source.name}: {f'{wrong}; try python -m tutorials.build {source.name[:2]}' if wrong else 'agrees'}"
            )
            continue
        began = time.monotonic()
        made = run(source)
        if not args.keep:
            with atomic_write(source.with_suffix(".ipynb")) as file:
                file.write(text(made))
        print(f"{source.name}: {time.monotonic() - began:.1f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
