"""Which tests run on which backend: NumPy, a strict stand-in for CuPy, and CuPy itself where there is a GPU.

Every test file is on one of three lists. A file about arrays runs on NumPy and on the stand-in each time, so that a
leak from one backend to the other fails on a machine without a GPU. A file about whole runs does so in the long
version (marker thorough), and a file that meets no array of a backend runs once. On CuPy (``-m gpu``) run the files
of the first two lists.
"""

from collections.abc import Iterator
from typing import NoReturn

import pytest
import strict_cupy

from minispike import backend
from minispike.errors import BackendError

ARRAYS = frozenset(
    "backward bert diagnosis distill_losses distill_stages energy erf fused fused_neurons gradcheck neurons nn ops"
    " ops_corners optim parity profile record spikebert spiking_linear surrogates teacher_training tensor train_loop"
    " train_resume".split()
)
"""About arrays."""

RUNS = frozenset(
    "ask bad_input bad_runs cli cli_jobs damaged_runs docstrings foreign_teachers given_teacher gradcheck_right"
    " gradcheck_wrong pair_runs readme stage_gradients view".split()
)
"""About whole runs, or long."""

ONCE = frozenset(
    # text, settings, files, pictures, ONNX, examples, weights that are on the host
    "augment baselines batches bert_folder checkpoint corpus corpus_digest corpus_encoding data_text docs files"
    " journal layers_downward lesson_models lessons metrics mutation_list onnx_export onnx_origins onnx_teacher overlap"
    " progress records report reviews schedule seeds_summary settings settings_overrides settings_toml start surgery"
    " teacher_cache tokenizer torch_file tutorials tutorials_build viz"
    # about the backends themselves, and what a CPU alone has: copies of a process, gradients of some rows
    " backend callers_arrays every_backend row_gradient kernels_cuda kernels_cuda_layers processes strict_cupy workers"
    # to the last bit, in second processes
    " default_run resume".split()
)
"""On NumPy alone."""


def parameters(name: str) -> list[object]:
    """The backends of a test file, by its name without ``test_``; none for one that runs once.

    Raises:
        pytest.UsageError: it is on no list.
    """
    if name in ONCE:
        return []
    if name not in ARRAYS | RUNS:
        raise pytest.UsageError(f"tests/test_{name}.py is on no list of tests/every_backend.py; put it on one")
    strict = pytest.param("strict", marks=[pytest.mark.thorough] if name in RUNS else [])
    return ["numpy", strict, pytest.param("cupy", marks=pytest.mark.gpu)]


@pytest.fixture(scope="module", autouse=True)
def array_backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Where new arrays lie: ``numpy``, ``strict`` or ``cupy``."""
    name = getattr(request, "param", "numpy")
    if name == "numpy":
        yield name
        return
    with pytest.MonkeyPatch.context() as patch:
        if name == "strict":
            strict_cupy.installed(patch)
        try:
            chosen = backend.use("cupy")
        except BackendError as error:
            no_gpu(request, error)
        with chosen:
            yield name


def no_gpu(request: pytest.FixtureRequest, error: BackendError) -> NoReturn:
    """Who asks for `-m gpu` hears that there is none; another choice of tests, as `-m thorough`, goes without."""
    if "gpu" in request.config.option.markexpr:
        pytest.fail(str(error), pytrace=False)
    pytest.skip(str(error))
