"""One flag says where arrays live; what cannot be had is an error that says why, never a silent fall-back."""

import ast
import importlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from helpers import assert_sentence
from hypothesis import given
from hypothesis import strategies as st

from minispike import backend
from minispike.errors import BackendError
from minispike.tensor import Tensor

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing has been said about the backend yet, and nothing loaded."""
    monkeypatch.delenv(backend.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(backend, "_current", None)
    monkeypatch.setattr(backend, "_modules", {})


class Elsewhere:
    """An array that says it is CuPy's, and lies in NumPy's memory all the same."""

    def __init__(self, values: Any) -> None:
        self.values = np.asarray(values)

    def get(self) -> Any:
        return self.values


Elsewhere.__module__ = "cupy"


def fake_cupy(devices: int | Exception = 1) -> ModuleType:
    """A module that passes for CuPy on a machine with so many devices."""

    def count() -> int:
        if isinstance(devices, Exception):
            raise devices
        return devices

    module = ModuleType("cupy")
    module.cuda = SimpleNamespace(runtime=SimpleNamespace(getDeviceCount=count))  # type: ignore[attr-defined]
    module.asarray = lambda value, dtype=None: Elsewhere(np.asarray(value, dtype))  # type: ignore[attr-defined]
    return module


@pytest.fixture
def cupy(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A CuPy that works."""
    module = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


# ---- Which backend


def test_numpy_unless_something_is_said() -> None:
    assert backend.current() == "numpy"
    assert backend.default_module() is np
    assert backend.backends() == ("numpy", "cupy")


def test_use_as_a_function_lasts(cupy: ModuleType) -> None:
    backend.use("cupy")
    assert backend.current() == "cupy" and backend.default_module() is cupy
    backend.use("numpy")
    assert backend.current() == "numpy" and backend.default_module() is np


def test_use_as_a_block_ends(cupy: ModuleType) -> None:
    with backend.use("cupy"):
        assert backend.default_module() is cupy
        with backend.use("numpy"):
            assert backend.default_module() is np
        assert backend.default_module() is cupy
    assert backend.current() == "numpy"


def test_a_block_ends_with_an_exception_too(cupy: ModuleType) -> None:
    backend.use("numpy")
    with pytest.raises(KeyError), backend.use("cupy"):
        raise KeyError
    assert backend.current() == "numpy"


def test_the_environment_speaks_before_anybody_else_has(monkeypatch: pytest.MonkeyPatch, cupy: ModuleType) -> None:
    monkeypatch.setenv("MINISPIKE_BACKEND", "cupy")
    assert backend.current() == "cupy" and backend.default_module() is cupy
    with backend.use("numpy"):
        assert backend.current() == "numpy"
    assert backend.current() == "cupy"
    backend.use("numpy")
    assert backend.current() == "numpy" and backend.default_module() is np
    monkeypatch.setattr(backend, "_current", None)
    monkeypatch.setenv("MINISPIKE_BACKEND", "")
    assert backend.current() == "numpy"


def test_new_arrays_are_made_on_the_backend(cupy: ModuleType) -> None:
    assert type(backend.asarray([1, 2])) is np.ndarray
    with backend.use("cupy"):
        there = backend.asarray([1, 2], np.float32)
    assert type(there) is Elsewhere and there.values.dtype == np.float32
    back = backend.asarray(there)
    assert type(back) is np.ndarray and back.dtype == np.float32


# ---- What cannot be had


@pytest.mark.parametrize("name", ["torch", "", "NumPy", "cupy "])
def test_unknown_names(name: str) -> None:
    with pytest.raises(BackendError, match=f"backend: expected numpy or cupy, got {name!r}; try") as caught:
        backend.use(name)
    assert_sentence(caught.value)


def test_an_unknown_name_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MINISPIKE_BACKEND", "abacus")
    with pytest.raises(BackendError, match="got 'abacus'"):
        Tensor([1.0])


@pytest.mark.parametrize(("name", "near"), [("cuda", "cupy"), ("CuPy", "cupy"), ("nunpy", "numpy"), ("xyz", "numpy")])
def test_an_unknown_name_has_a_nearest_one_and_a_place(monkeypatch: pytest.MonkeyPatch, name: str, near: str) -> None:
    with pytest.raises(BackendError, match=f"^backend: expected numpy or cupy, .* try --backend {near}$"):
        backend.use(name)
    monkeypatch.setenv("MINISPIKE_BACKEND", name)
    with pytest.raises(BackendError, match=f"^MINISPIKE_BACKEND: expected .* try MINISPIKE_BACKEND={near}$") as caught:
        Tensor([1.0])
    assert_sentence(caught.value)


def test_a_lock_is_numpys_alone() -> None:
    array, elsewhere = np.ones(2), Elsewhere([1.0])
    for a in (array, elsewhere):
        backend.lock(a)
    assert not array.flags.writeable and elsewhere.values.flags.writeable
    for a in (array, elsewhere):
        backend.unlock(a)
    assert array.flags.writeable


def test_cupy_is_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(BackendError, match="backend 'cupy': expected the package CuPy") as caught:
        backend.use("cupy")
    assert_sentence(caught.value)
    assert isinstance(caught.value.__cause__, ImportError)
    assert "ModuleNotFoundError: import of cupy halted" in str(caught.value)
    assert 'pip install "minispike[cuda12]"' in str(caught.value) and "--backend numpy" in str(caught.value)


def test_cupy_breaks_while_it_is_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    cause = OSError("libcudart.so.12: cannot open shared object file")

    def broken(name: str) -> ModuleType:
        assert name == "cupy"
        raise cause

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(BackendError, match=r"got OSError: libcudart\.so\.12: cannot open") as caught:
        backend.use("cupy")
    assert caught.value.__cause__ is cause


@pytest.mark.parametrize(
    ("devices", "got"),
    [(0, "RuntimeError: the CUDA runtime counts 0 devices"), (OSError("no driver"), "OSError: no driver")],
)
def test_cupy_without_a_device(monkeypatch: pytest.MonkeyPatch, devices: int | Exception, got: str) -> None:
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy(devices))
    with pytest.raises(BackendError, match=f"expected at least one CUDA device, got {got}; try nvidia-smi") as caught:
        backend.use("cupy")
    assert_sentence(caught.value)
    assert caught.value.__cause__ is devices or devices == 0


@pytest.mark.parametrize("before", [None, "numpy"])
def test_a_failure_leaves_the_backend_and_is_not_remembered(
    monkeypatch: pytest.MonkeyPatch, before: str | None
) -> None:
    if before:
        backend.use(before)
    monkeypatch.setitem(sys.modules, "cupy", None)
    for attempt in (lambda: backend.use("cupy"), lambda: backend.use("torch"), lambda: backend.load("cupy")):
        with pytest.raises(BackendError):
            attempt()
        assert backend._current == before and backend.default_module() is np
    working = fake_cupy()
    monkeypatch.setitem(sys.modules, "cupy", working)
    with backend.use("cupy"):
        assert backend.default_module() is working


def test_no_fall_back_inside_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    monkeypatch.setenv("MINISPIKE_BACKEND", "cupy")
    with pytest.raises(BackendError, match="expected the package CuPy"):
        Tensor([1.0])


# ---- Arrays


def test_the_module_of_arrays(cupy: ModuleType) -> None:
    here, there = np.zeros(2), Elsewhere([0.0])
    assert backend.array_module() is np
    assert backend.array_module(here, 1.0, None) is np
    assert backend.array_module(here, there) is cupy and backend.array_module(there, here) is cupy
    with backend.use("cupy"):  # of the arrays, not of the flag
        assert backend.array_module(here) is np


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape", [(), (0, 3), (5,), (3, 7), (33, 1001)])
def test_arrays_that_begin_at_a_cache_line(shape: tuple[int, ...], dtype: str) -> None:
    beside = np.ones(2, dtype=dtype)
    arrays = [backend.empty(shape, beside) for _ in range(5)]
    for i, array in enumerate(arrays):
        assert (array.shape, array.dtype) == (shape, beside.dtype)
        assert array.flags.c_contiguous
        assert array.flags.writeable
        assert array.size == 0 or array.ctypes.data % backend.CACHE_LINE == 0
        array[...] = i
    for i, array in enumerate(arrays):  # none lies in another's memory
        assert (array == i).all()


def test_to_numpy() -> None:
    here = np.zeros(2)
    assert backend.to_numpy(here) is here
    there = Elsewhere([1.0, 2.0])
    assert backend.to_numpy(there) is there.values
    assert backend.to_numpy([1, 2]).tolist() == [1, 2]


@given(
    index=st.lists(st.integers(0, 5), max_size=40),
    width=st.integers(1, 3),
    kind=st.sampled_from([np.int32, np.int64, np.uint8]),
)
def test_scatter_add_is_add_at(index: list[int], width: int, kind: Any) -> None:
    rng = np.random.default_rng(len(index))
    rows = np.array(index, dtype=kind)
    values = rng.integers(-99, 99, size=(len(index), width)).astype(np.float64)  # sums of integers are exact
    target = rng.integers(-99, 99, size=(6, width)).astype(np.float64)
    expected = target.copy()
    np.add.at(expected, rows, values)
    before = rows.copy(), values.copy()
    backend.scatter_add(target, rows, values)
    np.testing.assert_array_equal(target, expected)
    np.testing.assert_array_equal(rows, before[0])
    np.testing.assert_array_equal(values, before[1])


def test_scatter_add_by_hand() -> None:
    target = np.zeros((3, 2), np.float32)
    backend.scatter_add(target, np.array([2, 0, 2]), np.array([[1, 2], [3, 4], [5, 6]], np.float32))
    assert target.tolist() == [[3, 4], [0, 0], [6, 8]] and target.dtype == np.float32
    backend.scatter_add(target, np.array([], np.int64), np.zeros((0, 2), np.float32))
    assert target.tolist() == [[3, 4], [0, 0], [6, 8]]


def test_scatter_add_where_the_target_lies(cupy: ModuleType) -> None:
    asked: list[Any] = []
    cupy.add = SimpleNamespace(at=lambda *arguments: asked.append(arguments))  # type: ignore[attr-defined]
    arguments = Elsewhere(np.zeros((2, 1))), Elsewhere([0]), Elsewhere([[1.0]])
    backend.scatter_add(*arguments)
    assert asked == [arguments]


# ---- What is imported


def imported(tree: ast.AST) -> Iterator[str]:
    """The modules that a file names in an import, or in a call of ``import_module``."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
        elif isinstance(node, ast.Call) and "import" in ast.unparse(node.func):
            yield from (str(a.value) for a in node.args if isinstance(a, ast.Constant))


def test_only_backend_imports_cupy() -> None:
    files = [path for folder in ("minispike", "teachers") for path in (ROOT / folder).rglob("*.py")]
    guilty = {
        path.relative_to(ROOT).as_posix()
        for path in files
        if any(name.partition(".")[0] == "cupy" for name in imported(ast.parse(path.read_text(encoding="utf-8"))))
    }
    assert guilty == {"minispike/backend.py"}


NUMPY_ALONE = """
import sys

class Block:
    allowed = {"minispike", "numpy", *sys.stdlib_module_names}

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in self.allowed:
            raise ModuleNotFoundError(f"blocked: {name}", name=name)

before = {name.partition(".")[0] for name in sys.modules}  # what the interpreter's set-up has brought along
sys.meta_path.insert(0, Block())

import numpy as np
import minispike
from minispike.models.spikebert import SpikeBERT
from minispike.models.spikebert_config import SpikeBERTConfig
from minispike.nn.losses import cross_entropy
from minispike.train.journal import Journal
from minispike.train.loop import Keeper, TrainConfig, train
from pathlib import Path

class Task:
    name = "tiny"

    def __init__(self):
        shape = dict(vocab_size=11, dim=8, depth=1, heads=2, time_steps=2, num_labels=2, max_length=4)
        self.model = SpikeBERT(SpikeBERTConfig(**shape))

    def parts(self, step):
        ids = np.random.default_rng(step).integers(0, 11, (3, 4))
        yield ids

    def losses(self, ids):
        return {"loss": cross_entropy(self.model(ids, np.ones((3, 4), bool)).logits, np.array([0, 1, 0]))}

    def evaluate(self):
        return {"score": 0.0}

task = Task()
start = task.model.state_dict()
with Journal(sys.argv[1]) as journal:
    train(task, TrainConfig(steps=2, batch_size=3), Keeper(Path(sys.argv[1] + ".none"), journal))
assert any((start[n] != a).any() for n, a in task.model.state_dict().items() if n.startswith("blocks"))
assert minispike.load and minispike.check_grads

# NumPy's compiled parts leave helpers without a spec there
found = {name for name, module in sys.modules.items() if getattr(module, "__spec__", None)}
after = {name.partition(".")[0] for name in found} - before - set(sys.stdlib_module_names)
print(sorted(after))
"""


def test_the_core_needs_numpy_alone(tmp_path: Path) -> None:
    """With every extra out of reach, minispike is imported and a small SpikeBERT trained."""
    done = subprocess.run(
        [sys.executable, "-c", NUMPY_ALONE, str(tmp_path / "journal")],
        cwd=ROOT,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1", "MINISPIKE_BACKEND": "numpy"},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "['minispike', 'numpy']"
