"""``minispike doctor``: what this machine has, and what it lacks."""

import os
import platform
import sys
from argparse import Namespace
from importlib import import_module, metadata
from importlib.util import find_spec
from types import ModuleType
from typing import Any

import numpy as np

from minispike import __version__, backend
from minispike.errors import BackendError

_EXTRAS = {
    "distill": ("tokenizers", "onnxruntime", "onnx", "safetensors", "tqdm", "threadpoolctl"),
    "viz": ("matplotlib",),
}
_USED = {"matplotlib": "matplotlib.figure"}
"""The part of a package that is really used, where the package alone imports next to nothing."""


def run(args: Namespace) -> int:
    """Carry out the command."""
    sections = {
        "versions": _versions(),
        "packages": [_package(extra, name) for extra, names in _EXTRAS.items() for name in names],
        "backends": [_backend(name) for name in dict.fromkeys((*backend.backends(), backend.current()))],
        "matrix products": _blas(),
        "environment": [_environment(name) for name in _VARIABLES],
    }
    for title, lines in sections.items():
        print(title)
        for line in lines:
            print(f"  {line}")
    return 0


_VARIABLES = (backend.ENVIRONMENT_VARIABLE, "OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def _versions() -> list[str]:
    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return [
        f"minispike {__version__}",
        f"Python {platform.python_version()}",
        f"NumPy {np.__version__}",
        f"{platform.system()} on {platform.machine()}, {os.cpu_count()} cores, {usable} of them usable",
    ]


def _package(extra: str, name: str) -> str:
    """A package as it is imported: that its files are there does not mean that it works."""
    try:
        if find_spec(name) is None:
            return f'{name:14} missing; pip install "minispike[{extra}]"'
        module = import_module(_USED.get(name, name))
    except Exception as error:  # a compiled library that does not load raises whatever it likes
        cause = " ".join(f"{type(error).__name__}: {error}".split())
        return f'{name:14} broken; {cause}; pip install --force-reinstall "{name}"'
    return f"{name:14} {_version(name, module)}"


def _version(name: str, module: ModuleType) -> str:
    """What the package itself says, or else what the installer has noted."""
    said = getattr(sys.modules.get(name, module), "__version__", None)
    if said is not None:
        return str(said)
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return "of unknown version"


def _backend(name: str) -> str:
    chosen = " (in use)" if name == backend.current() else ""
    try:
        module = backend.load(name)
    except BackendError as error:
        return f"{name}{chosen}: not usable; {error}"
    return f"{name}{chosen}: {module.__version__}{_devices(module) if name == 'cupy' else ''}"


def _devices(cupy: Any) -> str:
    """The names of the GPUs that CuPy sees."""
    runtime = cupy.cuda.runtime
    names = [runtime.getDeviceProperties(i)["name"].decode() for i in range(runtime.getDeviceCount())]
    return f" on {', '.join(names)}"


def _blas() -> list[str]:
    """What multiplies matrices, and with how many threads."""
    try:
        threadpool_info = import_module("threadpoolctl").threadpool_info
    except Exception:  # `packages` has said why
        blas: Any = np.show_config(mode="dicts")
        built = blas.get("Build Dependencies", {}).get("blas", {})
        hint = 'for the number of threads: pip install "minispike[distill]"'
        return [f"{built.get('name', 'unknown')} {built.get('version', '')}; {hint}"]
    return [
        f"{pool['internal_api']} {pool.get('version') or ''}, threads: {pool['num_threads']}"
        for pool in threadpool_info()
    ] or ["unknown"]


def _environment(name: str) -> str:
    return f"{name} {os.environ.get(name) or 'not set'}"
