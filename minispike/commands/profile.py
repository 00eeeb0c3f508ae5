"""``minispike profile``: where the time and the memory of a training step go."""

from argparse import Namespace
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from minispike import backend, viz
from minispike.commands.options import assemble
from minispike.commands.text import say, table
from minispike.config import RunConfig
from minispike.distill.losses import feature_loss
from minispike.errors import ConfigError, problem
from minispike.files import atomic_write
from minispike.models.spikebert import SpikeBERT
from minispike.nn.losses import cross_entropy
from minispike.nn.optim import AdamW
from minispike.profile import StepProfile, profile_step
from minispike.tensor import Tensor
from minispike.train.memory import keep_freed_memory
from minispike.train.workers import single_threaded_products

PICTURES = (".svg", ".png")
"""Endings of the files that ``--out`` takes."""

LABELS = 2
"""Classes of the student."""


def run(args: Namespace) -> int:
    """Carry out the command: a step as one worker of the training loop makes it, with all of the batch to itself."""
    config = assemble(args)
    batch, length = _sizes(args, config)
    if args.out is not None:
        _check_picture(Path(args.out))
    with backend.use(config.backend), single_threaded_products:
        keep_freed_memory()
        try:
            loss, optimiser = training(config, batch, length)
            profile = profile_step(loss, optimiser, args.steps, config.stage2.learning_rate, config.stage2.clip)
        except MemoryError as cause:
            got, hint = f"{batch} x {length} tokens", f"--batch-size {max(1, batch // 2)}"
            raise ConfigError(
                problem("--batch-size", expected="a step that fits in memory", got=got, hint=hint)
            ) from cause
    s = config.student
    say(f"{s.depth} blocks x {s.dim}, {s.time_steps} time steps; {batch} x {length} tokens; {config.backend}")
    say(f"medians of {args.steps} steps\n\n{profile_table(profile)}\n\n{in_short(profile)}")
    if args.out is not None:
        _draw(profile, Path(args.out))
        say(f"picture: {args.out}")
    return 0


def training(config: RunConfig, batch: int, length: int) -> tuple[Callable[[], Tensor], AdamW]:
    """A student, on random tokens without padding, labels and features of a teacher: what most of stage 2 is made of.

    Args:
        config: its student, with as many words, and features as wide, as of a teacher made from scratch.
        batch, length: B sentences of L tokens.

    Returns:
        The loss, cross entropy and feature loss, whenever it is called; and the optimiser of all parameters.
    """
    rng = np.random.default_rng(config.seed)
    width = config.teacher.hidden_size
    shape = replace(config.student, vocab_size=config.teacher.vocab_size, num_labels=LABELS, feature_dim=width)
    ids = rng.integers(0, shape.vocab_size, size=(batch, length))
    labels = rng.integers(0, LABELS, size=batch)
    mask = np.ones((batch, length), dtype=bool)
    targets = [
        backend.asarray(rng.standard_normal((batch, length, width), dtype=np.float32)) for _ in range(shape.depth)
    ]
    student = SpikeBERT(shape, rng)

    def loss() -> Tensor:
        out = student(ids, mask)
        return cross_entropy(out.logits, labels) + feature_loss(out.hidden_states, targets, backend.asarray(mask))

    c = config.stage2
    return loss, AdamW(student.named_parameters(), weight_decay=c.weight_decay, decay_all=c.decay_all)


def ms(seconds: float) -> str:
    """Seconds in milliseconds."""
    return f"{1e3 * seconds:.2f}"


def mb(size: int) -> str:
    """Bytes in megabytes."""
    return f"{size / 1e6:.1f}"


def profile_table(profile: StepProfile) -> str:
    """A row an op, by time, then the rows of the others, and the sum of all."""

    def share(seconds: float) -> str:
        return f"{100 * seconds / profile.seconds:.1f} %"

    rows = [
        (op.name, str(op.calls), ms(op.forward), ms(op.backward), share(op.seconds), ms(op.floor), mb(op.kept))
        for op in profile.ops
    ]
    rows += [(name, "", ms(seconds), "", share(seconds), "", "") for name, seconds in profile.others.items()]
    kept = mb(sum(op.kept for op in profile.ops))
    rows.append(("all", "", ms(profile.seconds), "", share(profile.seconds), ms(profile.floor), kept))
    return table(("op", "calls", "forward ms", "backward ms", "share", "floor ms", "kept MB"), rows)


def in_short(profile: StepProfile) -> str:
    """Memory, and how far the step is above its floor."""
    return (
        f"memory of a step: {mb(profile.peak)} MB at most, beside {mb(profile.state)} MB of weights and moments\n"
        f"a step: {ms(profile.seconds)} ms; its matrix products alone ({profile.multiply_adds / 1e9:.3g} billion"
        f" multiply-adds): {ms(profile.floor)} ms, {100 * profile.floor / profile.seconds:.1f} % of it"
    )


def _sizes(args: Namespace, config: RunConfig) -> tuple[int, int]:
    """Sentences of a batch, and their length."""
    longest = config.student.max_length
    usual = min(config.data.max_length, longest or config.data.max_length)
    batch = config.stage2.batch_size if args.batch_size is None else args.batch_size
    length = usual if args.length is None else args.length
    for name, value, try_ in (("--batch-size", batch, 32), ("--length", length, usual), ("--steps", args.steps, 10)):
        if value < 1:
            raise ConfigError(problem(name, expected="a number >= 1", got=str(value), hint=f"{name} {try_}"))
    if longest and length > longest:
        expected, hint = f"at most {longest}, the student's max_length", f"--length {longest}"
        raise ConfigError(problem("--length", expected=expected, got=str(length), hint=hint))
    return batch, length


def _check_picture(path: Path) -> None:
    """See that a picture can be drawn and has a place, before anything is computed for it."""
    if path.suffix.lower() not in PICTURES or path.is_dir():
        got = f"the folder {path}" if path.is_dir() else str(path)
        hint = f"--out {path.stem or 'step'}.svg"
        raise ConfigError(problem("--out", expected="a file that ends in .svg or .png", got=got, hint=hint))
    viz.new_figure()


def _draw(profile: StepProfile, path: Path) -> None:
    """The picture, whole or not at all."""
    figure = viz.new_figure(height=1.4 + 0.24 * (len(profile.ops) + len(profile.others)))
    viz.step_bars(figure.subplots(), profile)
    with atomic_write(path, "wb") as file:
        figure.savefig(file, format=path.suffix.lower()[1:], dpi=130)
