"""The lessons run where arrays are CuPy's: on the strict stand-in, and on a GPU."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_tutorials import FOLDER, SOURCES

DRIVER = """
import runpy, sys
import pytest
import strict_cupy
from minispike import backend

if sys.argv[1] == "strict":
    strict_cupy.installed(pytest.MonkeyPatch())
with backend.use("cupy"):
    runpy.run_path(sys.argv[2], run_name="__main__")
"""


def run_on(kind: str, source: Path) -> None:
    """Run a lesson in a second process, as its notebook would: beside the modules of the lessons."""
    for needed in ("IPython", "sklearn", "matplotlib", "onnxruntime", "safetensors", "tokenizers"):
        pytest.importorskip(needed, reason="needs the extra 'tutorials'")
    places = [
        Path(__file__).parent,
        FOLDER,
        FOLDER.parent,
        *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep)),
    ]
    setting = os.environ | {"PYTHONPATH": os.pathsep.join(map(str, places))}
    command = [sys.executable, "-c", DRIVER, kind, str(source)]
    done = subprocess.run(command, cwd=FOLDER, env=setting, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.thorough
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_on_the_strict_stand_in(source: Path) -> None:
    run_on("strict", source)


@pytest.mark.gpu
@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_on_a_gpu(source: Path) -> None:
    run_on("cupy", source)
