"""What goes into every file of results: the machine, the versions, the command; and the tables below them."""

import argparse
import datetime
import json
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from minispike.train.workers import cores
from minispike.version import __version__

LIBRARIES = ("numpy", "torch", "spikingjelly", "snntorch", "onnxruntime")


def machine() -> dict[str, str]:
    """What it was measured on, and with."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:  # not on Linux
        lines = []
    named = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    found = {"cpu": next(named, platform.processor()), "cores": str(cores()), "system": platform.system()}
    found |= {"date": datetime.date.today().isoformat(), "minispike": __version__ + _commit()}
    return found | {"python": platform.python_version()} | {name: _version(name) for name in LIBRARIES}


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "missing"


def _commit() -> str:
    """The commit of the checkout, and whether code has changed since; nothing where there is no checkout."""
    git = ["git", "-C", str(Path(__file__).parent.parent)]
    try:
        found = subprocess.run([*git, "describe", "--always"], capture_output=True, text=True)
        changed = subprocess.run([*git, "diff", "--quiet", "HEAD", "--", "*.py"], capture_output=True).returncode
    except OSError:  # no git
        return ""
    return f" at {found.stdout.strip()}{', changed' if changed else ''}" if found.returncode == 0 else ""


def command() -> str:
    """What was typed."""
    module = sys.modules["__main__"].__spec__
    return shown(["benchmarks" if module is None else module.name.removesuffix(".__main__"), *sys.argv[1:]])


def shown(words: Sequence[str]) -> str:
    """A module and its words as a command, with the last part alone of each absolute path."""
    return shlex.join(["python", "-m", *(Path(word).name if os.path.isabs(word) else word for word in words)])


def write(out: Path | None, lines: list[str], results: dict[str, Any]) -> None:
    """Write ``out`` as Markdown and as JSON, replacing what was there; nothing if ``out`` is None.

    Args:
        out: the path of both files; its suffix, if any, gives way to theirs.
        lines: of Markdown.
        results: the same figures, and those that they are medians of.
    """
    if out is None:
        return
    about = machine()
    out.parent.mkdir(parents=True, exist_ok=True)
    head = [f"`{command()}`", "", ", ".join(f"{name} {value}" for name, value in about.items()), ""]
    out.with_suffix(".md").write_text("\n".join(head + lines).rstrip() + "\n", encoding="utf-8")
    record = {"command": command(), "machine": about, "results": results}
    out.with_suffix(".json").write_text(json.dumps(record, indent=1), encoding="utf-8")


def cell(text: str) -> str:
    """A text that fits into a cell of a table."""
    text = " ".join(text.replace("|", "/").split())
    return text if len(text) <= 120 else text[:117] + "..."


def number(value: float) -> str:
    """Three digits or more."""
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def spread(values: Iterable[float]) -> str:
    """The lowest and the highest."""
    found = list(values)
    return f"{number(min(found))} to {number(max(found))}"


def at_least_one(text: str) -> int:
    """A number of the command line that is 1 or more."""
    if int(text) < 1:
        raise argparse.ArgumentTypeError("expected a number >= 1")
    return int(text)


def share(text: str) -> float:
    """A number of the command line that is above 0 and at most 1."""
    if not 0 < float(text) <= 1:
        raise argparse.ArgumentTypeError("expected a share above 0, at most 1")
    return float(text)
