"""``minispike gradcheck``: prove or refute the gradient of a function in a file of the user's own."""

import difflib
import importlib.util
import inspect
import sys
from argparse import Namespace
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minispike.errors import ConfigError, GradientError, problem
from minispike.gradcheck import check_grads

USUAL_SHAPE = (3, 4)
"""Of an input of which nobody has said anything."""


def run(args: Namespace) -> int:
    """Carry out the command."""
    path, _, name = args.target.rpartition(":")
    if not path or not name:
        hint = "minispike gradcheck ops.py:swish"
        raise ConfigError(problem("gradcheck", expected="FILE.py:FUNCTION", got=repr(args.target), hint=hint))
    if args.seed < 0:
        raise ConfigError(problem("--seed", expected="a number >= 0", got=str(args.seed), hint="--seed 0"))
    folder = str(Path(path).parent.resolve())
    sys.path.insert(0, folder)  # as with ``python FILE``: for what lies beside it
    try:
        return _check(args, _function(Path(path), name), name)
    finally:
        sys.path.remove(folder)


def _check(args: Namespace, function: Callable[..., Any], name: str) -> int:
    """Check a function and tell that it is right."""
    inputs = _inputs(name, function, [_shape(text) for text in args.shape], args.seed)
    limits = {"rtol": args.rtol, "atol": args.atol, "eps": args.eps}
    report = check_grads(function, *inputs, order=args.order, seed=args.seed, spikes=args.spikes, **limits)
    if report.unseen:
        names = ", ".join(report.unseen)
        got = f"one by {names} that rounding of the function's values hides"
        hint = "outputs of different size one at a time"
        raise GradientError(problem(name, expected="slopes that can be seen", got=got, hint=hint))
    shapes = ", ".join(str(i.shape) for i in inputs)
    print(
        f"{name}: right by {report.checks} checks on inputs {shapes}; largest relative error {report.worst_error:.1e}"
    )
    return 0


def _function(path: Path, name: str) -> Callable[..., Any]:
    """A function of a file, which is imported for it: what the file does when imported is done."""
    if not path.is_file():
        got = "a folder" if path.is_dir() else "none"
        raise ConfigError(problem(str(path), expected="a Python file", got=got, hint="the path of the file"))
    spec = importlib.util.spec_from_file_location(f"gradcheck_{path.stem}", path)
    if spec is None or spec.loader is None:
        got = f"a file that ends in {path.suffix!r}"
        raise ConfigError(problem(str(path), expected="a Python file", got=got, hint=f"{path.stem}.py"))
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the module of a class
    try:
        spec.loader.exec_module(module)
    except Exception as cause:
        got = f"{type(cause).__name__}: {cause}"
        raise ConfigError(
            problem(str(path), expected="a file that can be imported", got=got, hint=f"python {path}")
        ) from cause
    found = getattr(module, name, None)
    if not callable(found):
        own = {n: value for n, value in vars(module).items() if getattr(value, "__module__", "") == spec.name}
        names = [n for n, value in own.items() if inspect.isfunction(value) and not n.startswith("_")]
        near = difflib.get_close_matches(name, names, n=1) or names[-1:] or ["FUNCTION"]
        got = "none" if found is None else f"a {type(found).__name__}"
        hint = f"{path}:{near[0]}"
        raise ConfigError(problem(f"{path}:{name}", expected="a function of that name", got=got, hint=hint))
    return found


def _inputs(name: str, function: Callable[..., Any], shapes: Sequence[tuple[int, ...]], seed: int) -> list[Any]:
    """The arrays by which is differentiated, one for each parameter, in order.

    The shapes go to the parameters without a default value; one that has an array as its default gets that.
    """
    positional = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    parameters = [p for p in inspect.signature(function).parameters.values() if p.kind in positional]
    open_ = [p for p in parameters if p.default is p.empty]
    named = [p for p in inspect.signature(function).parameters.values() if p.kind == p.KEYWORD_ONLY]
    if lacking := [p.name for p in named if p.default is p.empty]:
        expected, got = "settings with default values", f"none for {', '.join(lacking)}"
        raise ConfigError(problem(name, expected=expected, got=got, hint=f"{lacking[0]}=1.0 in its definition"))
    if shapes and len(shapes) != len(open_):
        expected, hint = f"{len(open_)} shapes, for {', '.join(p.name for p in open_) or 'no input'}", "--shape 3,4"
        raise ConfigError(problem(name, expected=expected, got=str(len(shapes)), hint=hint))
    rng = np.random.default_rng([seed, 1])
    wanted = shapes or [USUAL_SHAPE] * len(open_)
    try:
        drawn = {p.name: rng.normal(size=shape) for p, shape in zip(open_, wanted, strict=True)}
    except (MemoryError, ValueError) as cause:  # of more elements than there is room for, or than can be counted
        got = ", ".join(map(str, wanted))
        raise ConfigError(
            problem("--shape", expected="inputs that fit in memory", got=got, hint="--shape 3,4")
        ) from cause
    inputs: list[Any] = []
    for p in parameters:
        value = drawn.get(p.name, p.default)
        if not hasattr(value, "shape"):
            break  # from here on, settings
        inputs.append(np.asarray(value, dtype=np.float64) if isinstance(value, np.ndarray) else value)
    if not inputs:
        expected = "a function of arrays or tensors"
        raise ConfigError(problem(name, expected=expected, got="one without inputs", hint=f"def {name}(x): ..."))
    return inputs


def _shape(text: str) -> tuple[int, ...]:
    """``3,4`` as ``(3, 4)``; an empty word is the shape of a number."""
    try:
        lengths = tuple(int(word) for word in text.split(",") if word.strip())
        if min(lengths, default=1) < 1:
            raise ValueError(text)
    except ValueError as cause:
        expected = "lengths of axes, 1 or more, with commas between"
        raise ConfigError(problem("--shape", expected=expected, got=repr(text), hint="--shape 3,4")) from cause
    return lengths
