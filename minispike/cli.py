"""The command line. What a command needs is imported when it runs, so `--help` needs nothing but NumPy."""

import argparse
import errno
import os
import signal
import sys
import traceback
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from typing import Any

from minispike import __version__
from minispike.commands.text import silence
from minispike.errors import MinispikeError, problem, warn

OK, MISTAKE, INTERRUPTED = 0, 2, 130
"""Exit codes: done; something the user can mend; stopped by Ctrl-C or SIGTERM."""

_FULL = (errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC))
"""What a system says when a disk is full, or a user's share of it."""

_FOLDER = "folder with train.tsv, dev.tsv, test.tsv"
_TEXT = "unlabelled text, one sentence a line"
_BERT = "BERT folder or ONNX file"
_BACKEND = "numpy or cupy (default: MINISPIKE_BACKEND, or numpy)"

DEBUG_VARIABLE = "MINISPIKE_DEBUG"
"""With 1 in this environment variable, a mistake is shown with its traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Carry out a command.

    Args:
        argv: the words after ``minispike``; by default those of the process.

    Returns:
        The exit code: 0, 2 for a mistake (told on standard error), 130 where the command was interrupted.
    """
    try:
        args = _parse(argv)
    except SystemExit as stop:  # after --help and --version, or a mistake that argparse has told already
        return int(stop.code or OK)
    try:
        with _terminate_like_interrupt(), _printable_output():
            code = getattr(import_module(f"minispike.commands.{args.module}"), args.function)(args)
            if sys.stdout is not None:  # somebody has closed it
                sys.stdout.flush()
        return int(code)
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:  # who read the output has had enough of it
        silence()
        return OK
    except MinispikeError as error:
        return _mistake(str(error))
    except OSError as error:
        if error.strerror is None:
            raise
        where = str(error.filename or "the file system")
        if error.errno in _FULL:
            hint = "to free some, and then --resume RUN for a run that was under way"
            return _mistake(problem(where, expected="room on the disk", got=error.strerror, hint=hint))
        return _mistake(problem(where, expected="access", got=error.strerror, hint="another path"))


def _parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """What was asked for. Sentences may stand before and after flags, which argparse alone does not allow."""
    parser = _parser()
    args, rest = parser.parse_known_args(argv)
    if hasattr(args, "sentences") and not any(word.startswith("-") for word in rest):
        args.sentences += rest
    elif rest:
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    return args


def _mistake(message: str) -> int:
    """Tell a mistake; with the traceback for those who ask for it."""
    if os.environ.get(DEBUG_VARIABLE) == "1":
        traceback.print_exc()
    warn(message)
    return MISTAKE


@contextmanager
def _terminate_like_interrupt() -> Iterator[None]:
    """While a command runs, SIGTERM ends it as Ctrl-C does: files are whole, and the way to go on is told."""

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    try:
        before = signal.signal(signal.SIGTERM, interrupt)
    except ValueError:  # not in the main thread, where there are no signals to catch
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def _printable_output() -> Iterator[None]:
    """Write an escape for what the terminal's encoding lacks, such as Chinese on a Western Windows."""
    for stream in (sys.stdout, sys.stderr):
        with suppress(AttributeError, ValueError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    yield


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="minispike",
        description="Spiking language models: distilled from a BERT, measured, and asked.",
        epilog="Exit codes: 0 done, 2 a mistake that the message tells how to mend, 130 interrupted.",
    )
    parser.add_argument("--version", action="version", version=f"minispike {__version__}")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    _add_distill(commands)
    _add_teacher(commands)
    _add_asking(commands)
    _add_gradcheck(commands)
    _add_profile(commands)
    _add(commands, "doctor", "doctor", "run", "what is installed, and which backends work")
    return parser


class _Parser(argparse.ArgumentParser):
    """A parser for which an abbreviated flag is a mistake: it would change its meaning with the next flag."""

    def __init__(self, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)


def _add(commands: Any, name: str, module: str, function: str, text: str) -> argparse.ArgumentParser:
    """A subcommand, carried out by a function of a module in `minispike.commands`."""
    described = f"{text[0].upper()}{text[1:]}{'' if text.endswith('?') else '.'}"
    parser: argparse.ArgumentParser = commands.add_parser(name, help=text, description=described)
    parser.set_defaults(module=module, function=function)
    return parser


def _add_distill(commands: Any) -> None:
    text = "train a spiking student from a teacher, compare, measure, and write a report"
    parser = _add(commands, "distill", "distill", "run", text)
    parser.add_argument("--data", metavar="DIR", help=f"{_FOLDER} (default: built-in corpus)")
    parser.add_argument("--text", metavar="FILE", help=f"{_TEXT} (default: the training texts)")
    parser.add_argument("--teacher", metavar="PATH", help=f"{_BERT} (default: a small BERT, from scratch)")
    _add_settings(parser, "tiny without --data, mini with it")
    parser.add_argument("--seeds", type=int, metavar="N", help="run N seeds, and tell mean and deviation")
    parser.add_argument("--out", metavar="DIR", help="new or empty folder (default: runs/DATE-TIME)")
    parser.add_argument("--resume", metavar="RUN", help="go on with an interrupted run; no settings beside")
    parser.add_argument("--list-settings", action="store_true", help="print all settings with their values")


def _add_teacher(commands: Any) -> None:
    parser: argparse.ArgumentParser = commands.add_parser("teacher", help="make a teacher outside of any run")
    jobs = parser.add_subparsers(title="jobs", required=True, metavar="JOB", dest="job")

    pretrain = _add(jobs, "pretrain", "teacher", "pretrain", "a small BERT and its tokenizer, from text")
    pretrain.add_argument("--text", metavar="FILE", help=_TEXT)
    finetune = _add(jobs, "finetune", "teacher", "finetune", "a BERT fine-tuned on a task, best on dev")
    finetune.add_argument("--teacher", metavar="DIR", help="BERT folder")
    finetune.add_argument("--data", metavar="DIR", help=_FOLDER)
    for job in (pretrain, finetune):
        job.add_argument("--out", metavar="DIR", help="new or empty folder for the teacher")
        job.add_argument("--resume", metavar="DIR", help="go on with an interrupted job; no settings beside")
        _add_settings(job, "mini; its sections data and teacher count")

    text = "a BERT folder or a foreign ONNX model as ONNX with every hidden state"
    convert = _add(jobs, "convert", "teacher", "convert", text)
    convert.add_argument("--teacher", metavar="PATH", required=True, help=_BERT)
    convert.add_argument("--out", metavar="DIR", required=True, help="new or empty folder")


def _add_settings(parser: argparse.ArgumentParser, default: str, trains: bool = True) -> None:
    text = "preset, then file, then flags, then --set: the last word counts"
    group = parser.add_argument_group("settings", text)
    group.add_argument("--preset", metavar="NAME", help=f"settings to begin with (default: {default})")
    group.add_argument("--config", metavar="FILE", help="TOML file with settings")
    group.add_argument("--backend", metavar="NAME", help=_BACKEND)
    group.add_argument("--seed", type=int, metavar="N", help="of everything random (default: 0)")
    if trains:
        text = "compute two sentences at a time, which takes longer (low_memory=true in every phase)"
        group.add_argument("--low-memory", action="store_true", help=text)
    example = "any setting, such as stage2.steps=9"
    group.add_argument("--set", action="extend", nargs="+", default=[], metavar="KEY=VALUE", help=example)


def _add_gradcheck(commands: Any) -> None:
    parser = _add(commands, "gradcheck", "gradcheck", "run", "is the gradient of your own function right?")
    parser.add_argument("target", metavar="FILE.py:FUNCTION", help="a function of tensors that returns tensors")
    text = "of an input, such as 3,4; once for each, in order (default: 3,4, or the arrays that are default values)"
    parser.add_argument("--shape", metavar="N,M", action="append", default=[], help=text)
    parser.add_argument("--order", type=int, choices=(1, 2), default=1, help="2: the gradient of the gradient too")
    parser.add_argument("--seed", type=int, metavar="N", default=0, help="of inputs and direction (default: 0)")
    parser.add_argument("--rtol", type=float, metavar="X", default=1e-6, help="allowed relative error (default: 1e-6)")
    parser.add_argument("--atol", type=float, metavar="X", default=1e-9, help="allowed absolute error (default: 1e-9)")
    parser.add_argument("--eps", type=float, metavar="X", default=1e-4, help="step of the difference (default: 1e-4)")
    text = "smooth: neurons emit the primitive of their surrogate, as a check of spiking functions needs"
    parser.add_argument("--spikes", choices=("hard", "smooth"), default="hard", help=text)


def _add_profile(commands: Any) -> None:
    parser = _add(commands, "profile", "profile", "run", "where the time and memory of a training step of a student go")
    text = "sentences a step (default: stage2.batch_size)"
    parser.add_argument("--batch-size", type=int, metavar="N", help=text)
    text = "tokens a sentence (default: data.max_length, or the student's max_length if that is less)"
    parser.add_argument("--length", type=int, metavar="L", help=text)
    parser.add_argument("--steps", type=int, metavar="N", default=10, help="that count, after two (default: 10)")
    parser.add_argument("--out", metavar="FILE", help="a picture as well, .svg or .png")
    _add_settings(parser, "tiny; its sections student and stage2 count", trains=False)


def _add_asking(commands: Any) -> None:
    labelled = "file with the columns text and label, or text, text2 and label"
    evaluate = _add(commands, "evaluate", "ask", "evaluate", "how good a student is on labelled texts")
    predict = _add(commands, "predict", "ask", "predict", "labels and probabilities of sentences")
    energy = _add(commands, "energy", "ask", "energy", "what a sentence costs a student, next to a BERT")
    for parser in (evaluate, predict, energy):
        parser.add_argument("run", metavar="RUN", help="folder of a finished run")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--backend", metavar="NAME", help=_BACKEND)
    evaluate.add_argument("--file", metavar="FILE", required=True, help=labelled)
    predict.add_argument("sentences", metavar="SENTENCE", nargs="*", help="a text, or two with a tab between")
    predict.add_argument("--file", metavar="FILE", help="one such sentence a line, instead; no blank lines count")
    energy.add_argument("--file", metavar="FILE", required=True, help=f"{labelled}; labels may be missing")
    conventions = "4.6 pJ a MAC and 0.9 pJ an AC (mac, default), or twice that (paper)"
    energy.add_argument("--convention", choices=("mac", "paper"), default="mac", help=conventions)
