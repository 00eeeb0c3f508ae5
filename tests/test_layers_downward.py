"""A file imports only from files above it in the map of the code, so that it can be read from the top down."""

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]

MAP = (
    "version errors extras",
    "files torch_file checkpoint",
    "backend",
    "modes smooth",
    "graph tensor row_gradient",
    "ops",
    "differences nesting diagnosis verdict gradcheck",
    "nn",
    "snn",
    "models",
    "data metrics",
    "profile record ledger energy charts viz",
    "train",
    "distill",
    "toml_text setting_types settings config",
    "corpus page report records runstate runfolder preparation loaded summary pipeline seeds",
    "teachers",
    "commands cli __main__ __init__",
)
"""The map, from the top down: a line may import from itself and the lines above it."""

RANK = {name: rank for rank, line in enumerate(MAP) for name in line.split()}


def modules() -> dict[str, Path]:
    """Every module by its dotted name; a package goes by the name of its ``__init__``."""
    found: dict[str, Path] = {}
    for package in ("minispike", "teachers"):
        for path in (ROOT / package).rglob("*.py"):
            parts = path.relative_to(ROOT).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


MODULES = modules()


class TypesLeftOut(ast.NodeTransformer):
    """Takes ``if TYPE_CHECKING:`` out of a module: what stands there is for mypy and is never run."""

    def visit_If(self, node: ast.If) -> Any:
        if ast.unparse(node.test) == "TYPE_CHECKING":
            return [self.visit(other) for other in node.orelse]
        return self.generic_visit(node)


def imports(name: str, path: Path) -> Iterator[tuple[str, int]]:
    """Our modules that a module imports, wherever in the file, and the lines; those of types alone do not count."""
    tree = TypesLeftOut().visit(ast.parse(path.read_text(encoding="utf-8")))
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names if alias.name in MODULES)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}:{node.lineno} has a relative import"
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                if inner in MODULES or node.module in MODULES:
                    yield (inner if inner in MODULES else str(node.module)), node.lineno


GRAPH = {name: dict(imports(name, path)) for name, path in MODULES.items()}


def place(module: str) -> str:
    """The name by which the map has a module."""
    package, _, rest = module.partition(".")
    return package if package == "teachers" else rest.partition(".")[0] or "__init__"


def test_the_graph_is_not_empty() -> None:
    assert len(MODULES) > 60
    assert sum(map(len, GRAPH.values())) > 200
    assert set(GRAPH["minispike.ops.shape"]) >= {"minispike.ops.arithmetic", "minispike.tensor", "minispike.backend"}


def test_every_module_has_its_place_and_every_place_a_module() -> None:
    assert {place(module) for module in MODULES} == set(RANK)


def test_no_module_imports_itself_in_a_circle() -> None:
    try:
        TopologicalSorter(GRAPH).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


def test_imports_go_upwards_in_the_map() -> None:
    wrong = [
        f"{MODULES[name].relative_to(ROOT).as_posix()}:{line} imports {other}, which is below it"
        for name, others in GRAPH.items()
        for other, line in others.items()
        if RANK[place(other)] > RANK[place(name)]
    ]
    assert not wrong, "\n".join(wrong)


def named_in_contributing() -> list[set[str]]:
    """The modules that each row of the map in CONTRIBUTING.md names, by file or by folder, from the top down."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in text.partition("\n## ")[0].splitlines() if line.startswith("| ")][1:]
    found = []
    for row in rows:
        found.append(set[str]())
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", row):
            modules = {
                module
                for module, path in MODULES.items()
                for own in [f"/{path.relative_to(ROOT).as_posix()}"]
                if own.endswith(f"/{name}") or (name.endswith("/") and own.rpartition("/")[0].endswith(f"/{name[:-1]}"))
            }
            assert modules, f"CONTRIBUTING.md names {name}, which there is not"
            found[-1] |= modules
    return found


def test_the_map_for_readers_names_every_module() -> None:
    packages = {name for name, path in MODULES.items() if path.name == "__init__.py" and name != "minispike"}
    assert set(MODULES) - packages - set.union(*named_in_contributing()) == set()


def test_the_map_for_readers_is_in_the_same_order() -> None:
    """By the first place of each row, for a bare `attention.py` stands for two."""
    ranks = [min(RANK[place(module)] for module in row) for row in named_in_contributing()]
    assert ranks == sorted(ranks) and len(ranks) > 20


def test_the_command_line_alone_knows_the_teachers() -> None:
    """The core can be read, and used with other teachers, without them: not even for types may it import them."""
    wrong = [
        f"{path.relative_to(ROOT).as_posix()}:{node.lineno}"
        for path in (ROOT / "minispike").rglob("*.py")
        if path.parent.name != "commands"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if names_teachers(node)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "line", ["import teachers", "import teachers.view as v", "from teachers.view import x", 'load("teachers.view")']
)
def test_any_import_of_the_teachers_is_found(line: str) -> None:
    assert any(map(names_teachers, ast.walk(ast.parse(line))))
    assert not any(map(names_teachers, ast.walk(ast.parse(line.replace("teachers", "minispike.distill.teacher")))))


def names_teachers(node: ast.AST) -> Any:
    """Whether a node imports from the package, or spells the name of one of its modules."""
    names: list[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
        names = [str(node.module)]
    elif isinstance(node, ast.Constant) and re.fullmatch(r"teachers(\.\w+)+", str(node.value)):
        names = [node.value]
    return any(name.partition(".")[0] == "teachers" for name in names)
