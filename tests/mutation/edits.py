"""The list of mutations: one mistake each that a person could make, and the tests that should notice it."""

from dataclasses import dataclass
from pathlib import Path

from mutation import edits_checks, edits_engine, edits_networks, edits_neurons, edits_ops

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Edit:
    """A mistake: in ``file`` the text ``old``, which stands there once, becomes ``new``."""

    file: str
    old: str
    new: str
    why: str

    @property
    def name(self) -> str:
        """What tells it from all the others."""
        return f"{self.file}: {self.old!r} -> {self.new!r}"

    def applied(self, text: str) -> str:
        """The text of the file with the mistake.

        Raises:
            ValueError: the old text stands there never, or more than once, or the new one is the same.
        """
        if text.count(self.old) != 1 or self.old == self.new:
            raise ValueError(f"{self.name}: the old text stands there {text.count(self.old)} times, and must once")
        return text.replace(self.old, self.new)


PARTS = (edits_ops, edits_engine, edits_neurons, edits_networks, edits_checks)
EDITS = [
    Edit(file, old, new, why)
    for part in PARTS
    for file, edits in part.EDITS.items()
    for old, new, why in edits
]  # fmt: skip

_OPS = ("ops_corners", "erf", "tensor", "callers_arrays", "backward", "ops")
_ENGINE = ("backward", "tensor", "ops_corners", "callers_arrays", "strict_cupy", "gradcheck")
_NEURONS = ("neurons", "fused_neurons", "surrogates", "fused")
_CHECKER = ("gradcheck", "diagnosis")
_FUSED = ("fused", "spiking_linear", "nn", "callers_arrays", "strict_cupy")

SUBSETS: dict[str, tuple[str, ...]] = {
    "minispike/ops/": _OPS,
    "minispike/graph.py": _ENGINE,
    "minispike/tensor.py": _ENGINE,
    "minispike/modes.py": _ENGINE,
    "minispike/backend.py": ("backend", "fused", "optim", "tensor", "callers_arrays"),
    "minispike/smooth.py": ("surrogates", "gradcheck"),
    "minispike/gradcheck.py": _CHECKER,
    "minispike/differences.py": _CHECKER,
    "minispike/nesting.py": _CHECKER,
    "minispike/verdict.py": _CHECKER,
    "minispike/snn/constants.py": _NEURONS,
    "minispike/snn/neurons.py": _NEURONS,
    "minispike/snn/kernels.py": (*_NEURONS, "spiking_linear"),
    "minispike/snn/spiking_linear.py": ("spiking_linear", "fused"),
    "minispike/snn/kernels_cuda.py": ("kernels_cuda", "kernels_cuda_layers"),
    "minispike/snn/surrogate.py": ("surrogates", "neurons", "fused_neurons", "kernels_cuda", "kernels_cuda_layers"),
    "minispike/snn/attention.py": _FUSED,
    "minispike/snn/shift.py": _FUSED,
    "minispike/nn/optim.py": ("optim", "row_gradient"),
    "minispike/row_gradient.py": ("row_gradient",),
    "minispike/nn/": _FUSED,
    "minispike/distill/losses.py": ("distill_losses", "nn"),
    "minispike/train/schedule.py": ("schedule",),
}
"""The test files, by their names without ``test_``, for the file or folder that is changed; the first that fits."""

DESELECTED = (
    "tests/test_gradcheck.py::test_a_right_gradient_is_never_flagged[numpy-network]",
    "tests/test_backward.py::test_a_deep_graph_needs_no_recursion",
    "tests/test_kernels_cuda.py::test_the_compiler_for_gpus_contracts_nothing",
    "tests/test_strict_cupy.py::test_a_run_and_what_is_asked_of_it_later",
)
"""Slow tests that are left out."""


def subset(file: str) -> list[str]:
    """What pytest is told to run for a change in a file; of the two backends of a test, NumPy alone."""
    names = next(names for start, names in SUBSETS.items() if file.startswith(start))
    return [
        *(f"tests/test_{name}.py" for name in names),
        *(f"--deselect={test}" for test in DESELECTED),
        "-knot [strict",
    ]
