"""The examples in docstrings run, and give what they say; in the API reference everything public has one."""

import doctest
import inspect
import pkgutil
import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from test_layers_downward import GRAPH, ROOT

import minispike
import teachers
from minispike.ops.op import FusedOp, Op

REFERENCE = (
    "minispike", "minispike.errors", "minispike.backend", "minispike.modes", "minispike.smooth", "minispike.tensor",
    "minispike.graph", "minispike.row_gradient",
    "minispike.gradcheck", "minispike.ops", "minispike.ops.op", "minispike.ops.arithmetic",
    "minispike.ops.functions", "minispike.ops.special", "minispike.ops.comparison", "minispike.ops.shape",
    "minispike.nn.functional", "minispike.nn.rows", "minispike.nn.layers", "minispike.nn.attention",
    "minispike.nn.losses", "minispike.nn.module", "minispike.nn.optim", "minispike.snn.constants",
    "minispike.snn.neurons", "minispike.snn.surrogate", "minispike.snn.attention", "minispike.snn.shift",
    "minispike.snn.kernels", "minispike.snn.spiking_linear", "minispike.models.bert", "minispike.models.spikebert",
    "minispike.models.spikebert_config", "minispike.models.inputs", "minispike.models.bert_folder",
    "minispike.models.bert_weights", "minispike.models.onnx_export", "minispike.data.baselines",
    "minispike.data.batches", "minispike.data.overlap", "minispike.data.review_grammar", "minispike.data.reviews",
    "minispike.data.text", "minispike.data.tokenizer", "minispike.data.wordpiece", "minispike.distill.augment",
    "minispike.distill.losses", "minispike.distill.stages", "minispike.distill.start", "minispike.distill.teacher",
    "minispike.train.loop", "minispike.train.schedule", "minispike.train.predict", "minispike.train.journal",
    "minispike.metrics", "minispike.record", "minispike.ledger", "minispike.energy", "minispike.viz",
    "minispike.charts", "minispike.profile", "minispike.loaded", "minispike.config", "minispike.settings",
    "minispike.checkpoint", "minispike.files", "minispike.pipeline", "teachers.onnx_teacher",
)  # fmt: skip
"""The modules of the API reference."""

WITHOUT = {
    "minispike.modes.Watcher",  # protocols: the engine, a stage or the loop calls them
    "minispike.distill.teacher.Teacher",
    "minispike.distill.teacher.TeacherView",
    "minispike.distill.teacher.TeacherSource",
    "minispike.train.loop.Task",
    "minispike.models.bert_weights.BertConfigLike",
    "minispike.pipeline.distill",  # the main job: it asks for teachers, and takes minutes
    "minispike.pipeline.new_student",  # of what the main job has read and checked, teachers and all
}
"""What is public in the reference and has no example. The class of an op has none either: its function has it."""


def modules(package: ModuleType) -> list[str]:
    """A package and every module in it, but `__main__`, which runs the command line when it is imported."""
    inner = (module.name for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."))
    return [package.__name__, *(name for name in inner if not name.endswith(".__main__"))]


MODULES = [*modules(minispike), *modules(teachers)]


def libraries() -> set[str]:
    """What ``pip install "minispike[distill,viz]"`` brings."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    return {re.split(r"[^\w-]", line)[0] for line in extras["distill"] + extras["viz"]}


def missing(name: str) -> set[str]:
    """The libraries, of those, that a module or one behind it asks for, and that are not installed."""
    behind, todo = set[str](), [name]
    while todo:
        if (module := todo.pop()) not in behind:
            behind.add(module)
            todo += GRAPH[module]
    text = "\n".join(source(import_module(module)) for module in behind)
    absent = {library for library in libraries() if find_spec(library) is None}
    return {library for library in absent if re.search(rf'(import|from) {library}\b|extra\("{library}\b', text)}


def source(module: ModuleType) -> str:
    return Path(str(module.__file__)).read_text(encoding="utf-8")


def run(module: ModuleType) -> doctest.TestResults:
    """Run the examples of a module; those of the reference bring all that they use, as a reader's own code has to."""
    names: dict[str, Any] | None = {} if module.__name__ in REFERENCE else None
    with np.printoptions():  # an example may set them
        return doctest.testmod(module, globs=names, optionflags=doctest.ELLIPSIS)


def public(module: ModuleType) -> Iterator[tuple[str, Any]]:
    """The functions and classes that a module offers, by their full names: `__all__`, or what it defines itself."""
    offered = getattr(module, "__all__", None)
    for name in vars(module) if offered is None else offered:
        value = getattr(module, name)
        if not inspect.isclass(value) and not inspect.isfunction(inspect.unwrap(value)):
            continue
        own = value.__module__ == module.__name__ and not name.startswith("_")
        if own or (offered is not None and value.__module__ in MODULES):
            yield f"{value.__module__}.{value.__qualname__}", value


def lacking(module: ModuleType) -> list[str]:
    """The functions and classes without an example that should have one."""
    return [
        name
        for name, value in public(module)
        if name not in WITHOUT
        and not (inspect.isclass(value) and issubclass(value, Op) and value not in (Op, FusedOp))
        and ">>> " not in (value.__doc__ or "")
    ]


def told_of(page: str) -> set[str]:
    """The modules of a page's entries; of a function or class the one that offers it and the one that defines it."""
    found = set[str]()
    for kind, name in re.findall(r"^\s*\.\. auto(module|function|class):: *(\S+)", page, re.MULTILINE):
        found |= {name} if kind == "module" else {name.rpartition(".")[0], pkgutil.resolve_name(name).__module__}
    return found


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if absent := missing(name):
        pytest.skip(f"needs what is not installed: {', '.join(sorted(absent))}")
    monkeypatch.chdir(tmp_path)  # an example may write files
    module = import_module(name)
    result = run(module)
    assert result.attempted or ">>> " not in source(module), "doctest does not find them: move them into a docstring"
    assert not result.failed, "see the captured output"


@pytest.mark.parametrize("name", REFERENCE)
def test_everything_public_has_an_example(name: str) -> None:
    assert lacking(import_module(name)) == []


def test_every_page_of_the_reference_is_of_these_modules() -> None:
    pages = sorted((ROOT / "docs" / "reference").glob("*.md"))
    found = {page.name: told_of(page.read_text(encoding="utf-8")) for page in pages}
    assert [name for name, named in found.items() if not named] == ["index.md"], "entries are written another way"
    assert set[str]().union(*found.values()) - set(REFERENCE) == set()


def test_of_a_page_every_kind_of_entry_is_seen() -> None:
    entries = "# `.. automodule:: no`\n```{eval-rst}\n.. automodule:: minispike.graph\n   :no-members:\n"
    entries += ".. autofunction:: minispike.viz.spike_raster\n  .. autoclass:: minispike.energy.Ledger\n"
    assert told_of(entries) == {"minispike.graph", "minispike.viz", "minispike.energy", "minispike.ledger"}
    assert told_of(".. autofunction:: minispike.viz.loss_curves") == {"minispike.viz", "minispike.charts"}


def test_what_has_no_example_is_there_and_has_none() -> None:
    found = {name: value for module in REFERENCE for name, value in public(import_module(module))}
    assert set(found) >= WITHOUT
    assert not any(">>> " in (found[name].__doc__ or "") for name in WITHOUT)


def module_of(code: str) -> ModuleType:
    """A module of the reference with this code in it."""
    module = ModuleType("minispike.smooth")
    exec(code, vars(module))
    return module


def test_a_missing_example_is_seen() -> None:
    code = "import math\nfrom pathlib import Path\nfrom functools import cache\ndef _own(): ...\nKNOWN = 1\n"
    assert lacking(module_of(code)) == []
    for added in ("def f():\n    'Words.'", "class f: ...", "@cache\ndef f(): ...", "def f(): ...\n__all__ = ['f']"):
        assert lacking(module_of(code + added)) == ["minispike.smooth.f"]
    assert lacking(module_of("def f():\n    '''\n    >>> 1\n    1\n    '''")) == []


def test_an_example_that_is_wrong_or_does_not_import_what_it_uses_fails(capsys: pytest.CaptureFixture[str]) -> None:
    def outcome(example: str) -> doctest.TestResults:
        module = module_of("import math")
        module.__doc__ = example
        return run(module)

    right = outcome(">>> import math\n>>> math.sqrt(4)\n2.0")
    assert (right.failed, right.attempted) == (0, 2)
    assert outcome(">>> 1 + 1\n3").failed == 1
    assert outcome(">>> math.sqrt(4)\n2.0").failed == 1
    assert "NameError" in capsys.readouterr().out
