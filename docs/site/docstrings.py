"""The docstrings of the project as Sphinx wants them.

- an indented block that no section heads is code or a table in type of one width, as its author laid it out;
- names in single backticks are links: to the reference, or else to the source page of what they name; a name that
  nothing in the project has is a warning, and so ends the build;
- types of NumPy's have the short names that the code has;
- the fields of a configuration are told with the help that ``minispike distill --list-settings`` shows.
"""

import ast
import builtins
import dataclasses
import re
from importlib import import_module
from itertools import takewhile
from textwrap import dedent
from typing import Any

from docutils import nodes
from numpy.typing import ArrayLike
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.ext.napoleon.docstring import GoogleDocstring
from sphinx.roles import XRefRole
from sphinx.util import logging
from sphinx.util.nodes import make_refnode
from sphinx.util.typing import stringify_annotation

from docs.site.places import Place, find, module_file, names
from docs.site.sources import ROOT, files, of_signature, uri

logger = logging.getLogger(__name__)

SECTION = re.compile(r"(Args|Arguments|Attributes|Returns|Yields|Raises|Example|Examples|Note|Notes):$")


def with_blocks(lines: list[str]) -> list[str]:
    """Mark the indented blocks of a docstring as literal ones, but for those that belong to a section.

    >>> with_blocks(["Charges:", "", "    m = v + x", "", "Args:", "    x: input."])
    ['Charges:', '', '.. code-block:: python', '', '    m = v + x', '', 'Args:', '    x: input.']
    """
    made: list[str] = []
    in_section = False
    for i, line in enumerate(lines):
        indented = line.startswith("    ")
        if line.strip() and not indented:
            in_section = bool(SECTION.match(line))
        starts = indented and not in_section and (i == 0 or not lines[i - 1].strip())
        before = _paragraph_before(made)
        marked = before and (before[-1].startswith("    ") or before[-1].endswith("::"))
        if starts and not marked:
            block = [text for text in takewhile(lambda text: not text[:1].strip(), lines[i:]) if text.strip()]
            made += [f".. code-block:: {'python' if _is_python(block) else 'text'}", ""]
        made.append(line)
    return made


def _is_python(block: list[str]) -> bool:
    """Whether a block is code, and no table of formulas."""
    try:
        ast.parse(dedent("\n".join(block)))
    except SyntaxError:
        return False
    return True


def _paragraph_before(made: list[str]) -> list[str]:
    """The last lines with text, before the blank ones at the end."""
    last = len(made)
    while last and not made[last - 1].strip():
        last -= 1
    first = last
    while first and made[first - 1].strip():
        first -= 1
    return made[first:last]


def _process(app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Before napoleon reads a docstring."""
    lines[:] = with_blocks(lines)
    told = any(SECTION.match(line) and line.startswith(("Args", "Attributes")) for line in lines)
    if what == "class" and dataclasses.is_dataclass(obj) and not told:
        own = [f for f in dataclasses.fields(obj) if "help" in f.metadata]
        if own:
            lines += ["", "Attributes:", *(f"    {f.name}: {f.metadata['help']}{_default(f)}." for f in own), ""]
    if what in ("property", "attribute", "data"):
        # Napoleon would take what stands before the first colon for a type: it is given an empty comment to look at.
        lines[:] = ["..", "", *GoogleDocstring(lines, app.config, app, "method", name, obj, options).lines()]


ARRAY_LIKE = stringify_annotation(ArrayLike, "smart")

ARRAY = re.compile(r"~?(?:numpy\.)?ndarray\[(?:~?typing\.)?tuple\[.*?\.\.\.\], ~?(?:numpy\.)?dtype\[(.*?)\]\]")


def short_types(text: str) -> str:
    """Types of NumPy's as they are written in the code, and not as they are defined.

    >>> short_types("x: ~numpy.ndarray[tuple[~typing.Any, ...], ~numpy.dtype[~numpy.int64]]")
    'x: NDArray[~numpy.int64]'
    """
    return ARRAY.sub(r"NDArray[\1]", text.replace(ARRAY_LIKE, "ArrayLike"))


def _signature(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, signature: str | None, returned: str | None
) -> tuple[str | None, str | None]:
    """The signature that the reference shows."""
    return (short_types(signature) if signature else signature), (short_types(returned) if returned else returned)


def _default(field: Any) -> str:
    """The default of a field in words, if it has a short one."""
    value = field.default
    if value is dataclasses.MISSING:
        return ""
    return f" (default ``{value!r}``)"


class Name(XRefRole):
    """A name in single backticks."""

    def process_link(
        self, env: BuildEnvironment, refnode: nodes.Element, has_explicit_title: bool, title: str, target: str
    ) -> tuple[str, str]:
        refnode["refdomain"], refnode["reftype"], refnode["by_name"] = "py", "obj", True
        refnode["py:module"] = env.ref_context.get("py:module")
        refnode["py:class"] = env.ref_context.get("py:class")
        return title, target


def _missing(app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, text: nodes.Element) -> Any:
    """What the reference does not have under the name as it is written."""
    if not node.get("by_name"):
        return None
    target, module, owner = node["reftarget"], node.get("py:module"), node.get("py:class")
    documented = env.domains.python_domain.objects
    wanted = _meant(target, module, owner)
    for known in filter(None, [wanted, target if wanted is None else None]):
        hits = [name for name in documented if name == known or name.endswith(f".{known}")]
        hits = [name for name in hits if not documented[name].aliased] or hits
        if len(hits) == 1:
            entry = documented[hits[0]]
            return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, [text], hits[0])
    place = (_place(wanted) if wanted else None) or _defined(target)
    if place is None:
        if hasattr(builtins, target):  # Python's own, which every reader knows
            return text
        logger.warning("%s: nothing has this name; double backticks for what is no name", target, location=node)
        return text
    link = nodes.reference("", "", text, internal=True)
    link["refuri"] = uri(app, node["refdoc"], place.file, place.first)
    return link


def _meant(target: str, module: str | None, owner: str | None) -> str | None:
    """The full name of what a docstring of a module, or of a class of it, means by ``target``; None if unknown."""
    starts = [f"{module}.{owner}", module] if module and owner else [module]
    for start in (*starts, "minispike", ""):
        full = f"{start}.{target}" if start else target
        found = _home(full) if start is not None else None
        if found:
            return found
    return None


def _home(full: str) -> str | None:
    """The name of an object where it is defined: ``minispike.tensor.grad`` for ``minispike.grad``."""
    parts = full.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        if module_file(ROOT, module) is None:
            continue
        if cut == len(parts):
            return module
        found: Any = import_module(module)
        for part in parts[cut:]:
            if not hasattr(found, part):
                break
            found = getattr(found, part)
        else:
            if hasattr(found, "__path__") or type(found).__name__ == "module":
                return str(found.__name__)
            home, name = getattr(found, "__module__", None), getattr(found, "__qualname__", None)
            own = isinstance(home, str) and isinstance(name, str) and module_file(ROOT, home) and "<" not in name
            return f"{home}.{name}" if own else full
        file = module_file(ROOT, module)
        return full if file and ".".join(parts[cut:]) in names(ROOT, file) else None
    return None


def _place(full: str) -> Place | None:
    """Where something with a full name stands."""
    parts = full.split(".")
    for cut in range(len(parts), 0, -1):
        module = ".".join(parts[:cut])
        file = module_file(ROOT, module)
        if file in files():
            return find(ROOT, module) if cut == len(parts) else of_signature(module, ".".join(parts[cut:]))
    return None


def _defined(target: str) -> Place | None:
    """The one thing in the project that has this name, if there is one."""
    hits = [
        (file, name)
        for file in files()
        if file.startswith(("minispike/", "teachers/"))
        for name in names(ROOT, file)
        if name == target or name.endswith(f".{target}")
    ]
    if len(hits) != 1:
        return None
    file, name = hits[0]
    return find(ROOT, f"{file.removesuffix('.py').removesuffix('/__init__').replace('/', '.')}:{name}")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the role, and what happens to docstrings."""
    app.add_role("name", Name(innernodeclass=nodes.literal))
    app.connect("autodoc-process-docstring", _process, priority=400)
    app.connect("autodoc-process-signature", _signature)
    app.connect("missing-reference", _missing)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
