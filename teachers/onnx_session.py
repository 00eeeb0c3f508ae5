"""ONNX Runtime's sessions: what computes, in how many threads, and whether it can."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from minispike.errors import BackendError, problem
from minispike.extras import extra
from teachers.onnx_file import not_onnx

Provider = Literal["cpu", "cuda"]
"""What computes: ONNX Runtime's name of it is in `_PROVIDERS`, with options that keep float32 what it is."""

_PROVIDERS: dict[str, tuple[str, dict[str, str]]] = {
    "cpu": ("CPUExecutionProvider", {}),
    "cuda": ("CUDAExecutionProvider", {"use_tf32": "0"}),
}


def open_session(path: Path, source: str | bytes, threads: int | None, provider: Provider) -> Any:
    """A session of ONNX Runtime.

    Args:
        path: of the model, for errors.
        source: the model: a path, or its bytes.
        threads: for each operation; None or 0 leaves the choice to ONNX Runtime.
        provider: what computes.

    Raises:
        TeacherError: ONNX Runtime cannot read the model, or is not installed.
        BackendError: it lacks the provider, or cannot start it.
    """
    runtime = extra("onnxruntime")
    name, how = _checked_provider(provider, runtime.get_available_providers())
    options = runtime.SessionOptions()
    options.log_severity_level = 3  # errors; warnings are about the file's maker, not its user
    # Threads that spin while they wait for the next batch take the cores from the student in between.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.intra_op_num_threads = threads or 0
    try:
        session = runtime.InferenceSession(source, options, providers=[(name, how)])
    except Exception as error:  # each of ONNX Runtime's errors is a class of its own
        raise not_onnx(path, error) from error
    if name not in session.get_providers():  # it has turned to the CPU: CUDA's libraries or the device are missing
        got, hint = f"{name} that does not start", 'nvidia-smi to see the device, or teacher.provider="cpu"'
        raise BackendError(problem("teacher.provider", expected=f"a usable {name}", got=got, hint=hint))
    return session


def check_provider(provider: Provider) -> None:
    """See that ONNX Runtime has a provider, before anything is trained for it.

    Raises:
        BackendError: it has not.
        TeacherError: ``onnxruntime`` is not installed.
    """
    _checked_provider(provider, extra("onnxruntime").get_available_providers())


def _checked_provider(provider: Provider, available: Sequence[str]) -> tuple[str, dict[str, str]]:
    """ONNX Runtime's name of a provider, and its options."""
    if provider not in _PROVIDERS:
        expected = " or ".join(get_args(Provider))
        raise BackendError(problem("teacher.provider", expected=expected, got=repr(provider), hint='"cpu"'))
    name, how = _PROVIDERS[provider]
    if name not in available:
        expected, got = f"an ONNX Runtime with {name}", f"one with {', '.join(available)}"
        hint = 'pip uninstall onnxruntime, then pip install onnxruntime-gpu; or teacher.provider="cpu"'
        raise BackendError(problem("teacher.provider", expected=expected, got=got, hint=hint))
    return name, how
