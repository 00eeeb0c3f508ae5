"""CUDA C compiled for the CPU, with as much of CuPy's `RawModule` as a launch needs.

The source is compiled as it stands between a few definitions and a launcher that runs the threads one after the
other. Like the CUDA driver, the launcher takes a pointer to each argument; unlike it, it is told their sizes too, and
refuses one that is not that of the kernel's parameter.
"""

import ctypes
import os
import re
import shutil
import subprocess
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

BEFORE = """
#include <cmath>
#include <cstddef>
#include <utility>
using std::exp; using std::fabs; using std::sqrt; using std::tanh;
#define __global__
#define __device__ static
struct Index { unsigned x; };
static Index blockIdx, blockDim, threadIdx;
"""

AFTER = """
template <class... A, std::size_t... I>
int launch(void (*kernel)(A...), unsigned first, unsigned blocks, unsigned threads,
           void **args, const std::size_t *sizes, std::size_t count, std::index_sequence<I...>)
{
    if (count != sizeof...(A) || !((sizes[I] == sizeof(A)) && ...)) return 1;
    blockDim.x = threads;
    for (blockIdx.x = first; blockIdx.x < blocks; ++blockIdx.x)
        for (threadIdx.x = 0; threadIdx.x < threads; ++threadIdx.x)
            kernel(*static_cast<A *>(args[I])...);
    return 0;
}
template <class... A>
int start(void (*kernel)(A...), unsigned first, unsigned blocks, unsigned threads,
          void **args, const std::size_t *sizes, std::size_t count)
{
    return launch(kernel, first, blocks, threads, args, sizes, count, std::index_sequence_for<A...>());
}
"""

START = """
extern "C" int start_{0}(unsigned first, unsigned blocks, unsigned threads,
                         void **args, const std::size_t *sizes, std::size_t count)
{{ return start({0}, first, blocks, threads, args, sizes, count); }}
"""

FLAGS = ("-std=c++17", "-O2", "-ffp-contract=off", "-Werror=double-promotion", "-shared", "-fPIC")
"""No fused multiply-add, as on the GPU; and no float that becomes a double unasked."""


def compiler() -> str | None:
    """The system's C++ compiler, if there is one."""
    return shutil.which(os.environ.get("CXX") or "c++") or shutil.which("g++") or shutil.which("clang++")


class Kernel:
    """One kernel; called as CuPy's `RawKernel`."""

    def __init__(self, start: Any) -> None:
        self.start = start

    def __call__(self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], first: int = 0) -> None:
        """Run the threads of the blocks from ``first`` on."""
        assert 0 < grid[0] < 2**31 and 0 < block[0] <= 1024  # what CUDA allows
        kept = []
        for arg in args:
            if isinstance(arg, np.ndarray):
                assert arg.flags.c_contiguous and arg.dtype in (np.float32, np.float64)
                arg = np.uint64(arg.ctypes.data)
            assert isinstance(arg, np.generic), f"{arg!r} has no size of its own"
            kept.append(np.array(arg))
        pointers = (ctypes.c_void_p * len(kept))(*(a.ctypes.data for a in kept))
        sizes = (ctypes.c_size_t * len(kept))(*(a.nbytes for a in kept))
        assert self.start(first, grid[0], block[0], pointers, sizes, ctypes.c_size_t(len(kept))) == 0, (
            "the arguments are not the kernel's parameters, in number or size"
        )


def module(folder: Path) -> ModuleType:
    """A stand-in for CuPy whose arrays are NumPy's and whose `RawModule` compiles for the CPU, in ``folder``."""

    class RawModule:
        def __init__(self, *, code: str, options: tuple[str, ...] = ()) -> None:
            assert options == ("--fmad=false",)  # what FLAGS says in the words of this compiler
            names = re.findall(r'extern "C" __global__ void (\w+)\(', code)
            number = len(list(folder.glob("*.so")))
            path = folder / f"kernels{number}.cpp"
            path.write_text(BEFORE + code + AFTER + "".join(START.format(name) for name in names))
            library = path.with_suffix(".so")
            found = compiler()
            assert found is not None
            done = subprocess.run([found, *FLAGS, path, "-o", library], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr
            self.library = ctypes.CDLL(str(library))

        def get_function(self, name: str) -> Kernel:
            return Kernel(self.library[f"start_{name}"])

    stand_in = ModuleType("stand_in_for_cupy")
    stand_in.RawModule = RawModule  # type: ignore[attr-defined]
    for function in (np.ascontiguousarray, np.broadcast_to, np.empty, np.full, np.zeros):
        setattr(stand_in, function.__name__, function)
    return stand_in
