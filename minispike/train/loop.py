"""The one training loop: every phase is a `Task` that goes through `train`.

Nothing random is stored. Whatever a task draws at step s comes from a generator made of its seed and s, so a
checkpoint is weights, moments, the step, and what the selection by dev has seen; going on from it gives the
numbers of a run that was never interrupted.
"""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np

from minispike.backend import array_module, default_module
from minispike.checkpoint import Arrays, load_tensors, part, save_tensors
from minispike.errors import ConfigError, TrainingError, problem
from minispike.nn.module import Module, Parameter
from minispike.nn.optim import AdamW, clip_scale, gradient_norm
from minispike.row_gradient import RowGradient, plus
from minispike.tensor import Tensor, grad
from minispike.train.journal import Journal
from minispike.train.memory import keep_freed_memory
from minispike.train.processes import PartResult, Processes, available
from minispike.train.progress import Progress
from minispike.train.schedule import Schedule
from minispike.train.workers import USUAL, Workers, cores

LOG_POINTS = 200
"""About how many lines of losses a phase leaves in the journal."""


LEAST_PART = 2
"""Sentences of a part where memory is short."""


@dataclass(frozen=True)
class TrainConfig:
    """How a phase is optimised, one that keeps its last weights.

    The optimiser is `minispike.nn.optim.AdamW`, the learning rate that of `minispike.train.schedule.Schedule`.

    Raises:
        ConfigError: a number is out of its range, or there are more parts than sentences in a batch.

    Example:
        >>> from minispike.train.loop import TrainConfig
        >>> TrainConfig(batch_size=7, low_memory=True).parts()  # of at most two sentences each
        4
        >>> TrainConfig(batch_size=2, accumulate=4)
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: accumulate: expected at most batch_size, got 4 parts of 2; try accumulate=1
    """

    steps: int = field(default=1000, metadata={"help": "optimiser steps"})
    batch_size: int = field(default=32, metadata={"help": "sentences a step"})
    learning_rate: float = field(default=5e-4, metadata={"help": "peak of the learning rate"})
    weight_decay: float = field(default=0.01, metadata={"help": "AdamW's decay of matrices"})
    decay_all: bool = field(default=False, metadata={"help": "decay norms, biases and embeddings too"})
    warmup: float = field(default=0.1, metadata={"help": "share of the steps over which the rate rises"})
    schedule: Literal["cosine", "linear", "constant"] = field(default="cosine", metadata={"help": "shape of its fall"})
    floor: float = field(default=0.0, metadata={"help": "share of the peak at the last step"})
    clip: float = field(default=1.0, metadata={"help": "largest norm of the gradient; 0: any"})
    accumulate: int = field(default=0, metadata={"help": "parts a batch is computed in; 0: two, on a GPU one"})
    workers: int = field(default=0, metadata={"help": "parts computed side by side; 0: one a core"})
    low_memory: bool = field(default=False, metadata={"help": "parts of two sentences, one after the other"})

    def __post_init__(self) -> None:
        self._check(1, "steps", "batch_size")
        self._check(0, "weight_decay", "clip", "accumulate", "workers")
        if not 0 < self.learning_rate < math.inf:
            got = str(self.learning_rate)
            raise ConfigError(problem("learning_rate", expected="a number > 0", got=got, hint="learning_rate=5e-4"))
        if self.batch_size < self.accumulate:
            got = f"{self.accumulate} parts of {self.batch_size}"
            raise ConfigError(problem("accumulate", expected="at most batch_size", got=got, hint="accumulate=1"))
        self.rates()

    def parts(self) -> int:
        """The parts that a batch is computed in, whose gradients are added up.

        On the backend in use: two workers make the most of a CPU's cores, while a GPU is best given all at once. With
        ``low_memory``, as many as it takes for none to have more than two sentences.
        """
        usual = USUAL if default_module() is np else 1
        if self.low_memory:
            usual = -(-self.batch_size // LEAST_PART)
        return self.accumulate or min(usual, self.batch_size)

    def rates(self) -> Schedule:
        """The learning rate over the phase."""
        return Schedule(self.warmup, self.schedule, self.floor)

    def _check(self, least: int, *names: str) -> None:
        for name in names:
            if not least <= getattr(self, name) < math.inf:
                expected, got = f"a number >= {least}", str(getattr(self, name))
                raise ConfigError(problem(name, expected=expected, got=got, hint=f"{name}={least}"))


@dataclass(frozen=True)
class SelectedConfig(TrainConfig):
    """How a phase is optimised that keeps the weights which were best on dev.

    Dev is looked at ``evaluations`` times, evenly, the last time at the end.

    Raises:
        ConfigError: as `TrainConfig`.

    Example:
        >>> from minispike.train.loop import SelectedConfig
        >>> SelectedConfig(steps=1000, evaluations=5, patience=2).schedule  # what `TrainConfig` has it has too
        'cosine'
        >>> SelectedConfig(evaluations=0)
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: evaluations: expected a number >= 1, got 0; try evaluations=1
    """

    evaluations: int = field(default=10, metadata={"help": "times the dev set is looked at"})
    patience: int = field(default=0, metadata={"help": "evaluations without a better one before stopping; 0: never"})

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check(1, "evaluations")
        self._check(0, "patience")


class Task(Protocol):
    """What a phase trains, and on what."""

    name: str

    @property
    def model(self) -> Module:
        """Whose parameters are trained, selected by dev, and left at their best."""
        ...

    def parts(self, step: int) -> Iterator[Any]:
        """What each part of a step's batch is computed from: data that can be pickled, for another process may get
        it. The parts are asked for in order."""
        ...

    def losses(self, part: Any) -> Mapping[str, Tensor]:
        """``"loss"`` of a part, weighted so that the parts add up, and any terms worth logging.

        Parts are computed side by side, in processes or threads of their own: so this depends on the part and the
        weights alone, and changes nothing.
        """
        ...

    def evaluate(self) -> Mapping[str, float]:
        """Figures on dev, asked for where the phase has a `SelectedConfig`; ``"score"``, higher is better, selects.

        Empty: the last weights are the best.
        """
        ...


@dataclass
class Keeper:
    """Where and how often a running phase is saved.

    Args:
        path: the checkpoint file; each one replaces the one before.
        journal: cut back to its length at the checkpoint when a phase is taken up again.
        minutes: between checkpoints, default 5.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.train.journal import Journal
        >>> from minispike.train.loop import Keeper
        >>> with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "metrics.jsonl") as journal:
        ...     Keeper(Path(folder) / "checkpoint.safetensors", journal).minutes
        5.0
    """

    path: Path
    journal: Journal
    minutes: float = 5.0


@dataclass
class _Selection:
    """What the selection by dev has seen."""

    best: float = -math.inf
    best_step: int = -1
    waited: int = 0
    stopped: bool = False
    weights: Arrays = field(default_factory=dict)

    def consider(self, score: float, step: int, model: Module, patience: int) -> None:
        if score > self.best:
            self.best, self.best_step, self.waited, self.weights = score, step, 0, model.state_dict()
        else:
            self.waited += 1
            self.stopped = 0 < patience <= self.waited


def train(task: Task, c: TrainConfig, keeper: Keeper) -> Mapping[str, float]:
    """Train a task's model and leave it with the weights that were best on dev, or with its last ones.

    Takes up the checkpoint of this task, if the keeper has one.

    Args:
        task: model, data and losses.
        c: how it is optimised; dev is looked at, and selects, if it is a `SelectedConfig`.
        keeper: journal and checkpoints.

    Returns:
        ``score`` and ``step`` of the best weights (-inf and -1 where dev did not select), ``seconds`` of
        training, those before a resumed checkpoint included.

    Raises:
        TrainingError: a loss, the gradient or a weight is not a finite number; the last checkpoint stays.
        CheckpointError: the checkpoint is damaged, or of another model.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from types import SimpleNamespace
        >>> import numpy as np
        >>> from minispike import Tensor
        >>> from minispike.nn.layers import Linear
        >>> from minispike.ops import mean
        >>> from minispike.train.journal import Journal
        >>> from minispike.train.loop import Keeper, TrainConfig, train
        >>> model, x = Linear(1, 1, np.random.default_rng(0)), np.array([[1.0], [2.0], [3.0]])
        >>> task = SimpleNamespace(name="fit", model=model, parts=lambda step: [(x, 2 * x + 1)])  # the line to find
        >>> task.losses = lambda part: {"loss": mean((model(Tensor(part[0])) - part[1]) ** 2)}
        >>> config = TrainConfig(steps=200, learning_rate=0.1, weight_decay=0.0, workers=1)
        >>> with tempfile.TemporaryDirectory() as folder, Journal(f"{folder}/metrics.jsonl") as journal:
        ...     _ = train(task, config, Keeper(Path(folder) / "checkpoint.safetensors", journal))
        >>> round(model.weight.item(), 2), round(model.bias.item(), 2)
        (2.0, 1.0)
    """
    keep_freed_memory()
    count = _side_by_side(task, c)
    how: dict[str, Any] = {"weight_decay": c.weight_decay, "decay_all": c.decay_all, "threads": count}
    optimiser = AdamW(task.model.named_parameters(), **how)
    selection = _Selection()
    start, before = _resume(task, optimiser, selection, keeper)
    began = saved = time.monotonic()
    rates = c.rates()
    parameters = list(optimiser.parameters.values())
    with Progress(task.name, c.steps, start=start) as progress, closing(_workers(task, parameters, count)) as workers:
        for step in range(start, c.steps):
            if selection.stopped:
                break
            rate = rates.learning_rate(step, c.steps, c.learning_rate)
            terms = _step(task, optimiser, workers, step, rate, c.clip, keeper.path)
            figures: dict[str, Any] = {"loss": terms["loss"]}
            if step % max(1, c.steps // LOG_POINTS) == 0 or step == c.steps - 1:
                keeper.journal.write(phase=task.name, step=step, rate=rate, **terms)
            if isinstance(c, SelectedConfig) and _evaluation_due(step, c):
                found = dict(task.evaluate())
                if found:
                    selection.consider(found["score"], step, task.model, c.patience)
                    keeper.journal.write(phase=task.name, step=step, dev=found)
                    figures["dev"] = found["score"]
            progress.update(**figures)
            if time.monotonic() - saved > 60 * keeper.minutes and step < c.steps - 1:
                saved = time.monotonic()
                _check_weights(task, step, keeper.path)
                _save(task, optimiser, selection, step + 1, before + saved - began, keeper)
    if selection.weights:
        task.model.load_state_dict(selection.weights)
    _check_weights(task, c.steps - 1, keeper.path)
    seconds = before + time.monotonic() - began
    return {"score": selection.best, "step": selection.best_step, "seconds": seconds}


def _side_by_side(task: Task, c: TrainConfig) -> int:
    """How many workers a step has: as many as asked for, or one a core; one where memory is short, and on a GPU."""
    on_cpu = all(array_module(p.array) is np for p in task.model.parameters())
    usual = 1 if c.low_memory else cores()
    return (c.workers or usual) if on_cpu else 1


def _workers(task: Task, parameters: Sequence[Parameter], count: int) -> Processes | Workers[Any, PartResult]:
    """Who computes the parts of a batch, ``count`` at a time."""

    def compute(part: Any) -> PartResult:
        with np.errstate(all="ignore"):  # what is no number is told by `_step`
            losses = task.losses(part)
            terms = {name: value.item() for name, value in losses.items()}
            sound = all(math.isfinite(number) for number in terms.values())
            return PartResult(terms, grad(losses["loss"], parameters, retain_graph=False, rows=True) if sound else ())

    return Processes(compute, parameters, count, task.name) if count > 1 and available() else Workers(compute, count)


def _step(
    task: Task,
    optimiser: AdamW,
    workers: Processes | Workers[Any, PartResult],
    step: int,
    rate: float,
    clip: float,
    checkpoint: Path,
) -> dict[str, float]:
    """One change of the weights; the terms of its loss, summed over the parts of the batch."""
    parameters = list(optimiser.parameters.values())
    sums: dict[str, float] = {}
    owned: set[int] = set()
    optimiser.zero_grad()
    with closing(workers.map(task.parts(step))) as results:
        for terms, gradients in results:
            for name, number in terms.items():
                if not math.isfinite(number):
                    raise TrainingError(_not_a_number(task.name, name, step, number, checkpoint))
                sums[name] = sums.get(name, 0.0) + number
            for p, g in zip(parameters, gradients, strict=True):
                if g is not None:
                    _add(p, g, owned)
    with np.errstate(all="ignore"):  # `_check_weights` tells of weights that are no numbers
        norm = gradient_norm(parameters)
        if not math.isfinite(norm):
            raise TrainingError(_not_a_number(task.name, "the norm of the gradient", step, norm, checkpoint))
        optimiser.step(rate, clip_scale(norm, clip))
    return sums | {"gradient_norm": norm}


def _add(p: Parameter, gradient: Tensor, owned: set[int]) -> None:
    """Add the gradient of a part; in place, once the sum is an array that was made here.

    The first is taken as it is, unless its memory is a worker's, who may use it for the next part.
    """
    if p.grad is not None:
        p.grad = plus(p.grad, gradient, in_place=id(p) in owned)
        owned.add(id(p))
    elif isinstance(gradient, RowGradient) or gradient.array.base is None:
        p.grad = gradient
    else:
        p.grad = Tensor._of(gradient.array.copy())
        owned.add(id(p))


def _check_weights(task: Task, step: int, checkpoint: Path) -> None:
    """See that nothing is kept of a model that a last step has ruined: its next loss would be the first to tell."""
    for name, p in task.model.named_parameters():
        if not math.isfinite(total := float(abs(p.array).sum())):
            raise TrainingError(_not_a_number(task.name, f"the sum of {name}", step, total, checkpoint))


def _not_a_number(task: str, term: str, step: int, value: float, checkpoint: Path) -> str:
    kept = f"; the checkpoint {checkpoint} is kept" if checkpoint.is_file() else ""
    return problem(
        f"{task}, step {step}: {term}",
        expected="a finite number",
        got=f"{value}{kept}",
        hint="a smaller learning_rate or clip=1.0, in config.toml before --resume or in a new run",
    )


def _evaluation_due(step: int, c: SelectedConfig) -> bool:
    """Whether dev is looked at after this step: ``evaluations`` times, evenly, the last time at the end.

    After every step, if there are fewer steps than that.
    """
    return (step + 1) * c.evaluations // c.steps > step * c.evaluations // c.steps


def _save(task: Task, optimiser: AdamW, selection: _Selection, step: int, seconds: float, keeper: Keeper) -> None:
    tensors = {f"model.{n}": a for n, a in task.model.state_dict().items()}
    tensors |= {f"optimiser.{n}": a for n, a in optimiser.state_dict().items()}
    tensors |= {f"best.{n}": a for n, a in selection.weights.items()}
    keeper.journal.sync()
    notes: dict[str, Any] = {"phase": task.name, "step": step, "journal": keeper.journal.position}
    notes |= {"best": repr(selection.best), "best_step": selection.best_step}
    notes |= {"waited": selection.waited, "stopped": selection.stopped, "seconds": seconds}
    save_tensors(keeper.path, tensors, notes)


def _resume(task: Task, optimiser: AdamW, selection: _Selection, keeper: Keeper) -> tuple[int, float]:
    """Take up the checkpoint of this task: the step to go on with, and the seconds so far; 0 without one."""
    if not keeper.path.is_file():
        return 0, 0.0
    tensors, notes = load_tensors(keeper.path)
    if notes.get("phase") != task.name:
        return 0, 0.0
    task.model.load_state_dict(part(tensors, "model."))
    optimiser.load_state_dict(part(tensors, "optimiser."))
    selection.best, selection.best_step = float(notes["best"]), notes["best_step"]
    selection.waited, selection.stopped = notes["waited"], notes["stopped"]
    selection.weights = part(tensors, "best.")
    keeper.journal.truncate(notes["journal"])
    return int(notes["step"]), float(notes.get("seconds", 0.0))
