"""``minispike teacher``: a BERT pretrained, fine-tuned or converted, outside of any run."""

import sys
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path

from minispike.commands.options import assemble, command, need, refuse_settings
from minispike.commands.text import interval, percent, say
from minispike.config import RunConfig
from minispike.runfolder import CONFIG, Facts, read_config
from minispike.settings import describe
from teachers.jobs import convert_teacher, finetune_teacher, pretrain_teacher
from teachers.onnx_file import ONNX

_AS_IT_IS = ("--set", "teacher.finetune=false")


def pretrain(args: Namespace) -> int:
    """Make a small BERT from text."""
    facts = _train(args, pretrain_teacher)
    say(f"\n{facts['parameters']:,} parameters, {facts['seconds']:.0f} s; an encoder, fine-tuned when it is used:")
    say(command("minispike", "distill", "--teacher", args.resume or args.out, "--data", "DIR"))
    return 0


def finetune(args: Namespace) -> int:
    """Fine-tune a BERT on a task."""
    facts = _train(args, finetune_teacher)
    test = facts["test"]
    say(f"\ndev {percent(facts['dev'])}, {facts['seconds']:.0f} s")
    figures = f"{percent(test['accuracy'])} ({interval(test['low'], test['high'])})"
    say(f"test {figures}, macro F1 {percent(test['macro_f1'])}; to use it as it is:")
    use = ("--teacher", args.resume or args.out, "--data", args.data or "DIR")
    say(command("minispike", "distill", *use, *_AS_IT_IS))
    return 0


def convert(args: Namespace) -> int:
    """Export a BERT to ONNX, or expose the hidden states of an ONNX model."""
    facts = convert_teacher(Path(args.teacher), Path(args.out))
    labels = f"{facts['num_labels']} labels" if facts["num_labels"] else facts["without"]
    sizes = f"{facts['layers']} layers of width {facts['hidden_size']}, {facts['vocab_size']} tokens"
    say(f"{Path(args.out) / ONNX}: {sizes}, {labels}")
    if not facts["tokenizer"]:
        missing = f"{args.teacher} has no tokenizer beside it"
        say(f"{missing}; put its tokenizer.json or vocab.txt into {args.out}")
    _tell_use(args, facts)
    return 0


def _tell_use(args: Namespace, facts: Facts) -> None:
    """What a converted teacher is good for."""
    if facts["num_labels"]:
        say("to use it as it is:")
        say(command("minispike", "distill", "--teacher", args.out, "--data", "DIR", *_AS_IT_IS))
        return
    say("an encoder, good for its hidden states (teachers.onnx_teacher.OnnxTeacher); it does not know a task,")
    if facts["trainable"]:
        say("and ONNX is not fine-tuned, but the folder it was made of is:")
        say(command("minispike", "distill", "--teacher", args.teacher, "--data", "DIR"))
    else:
        say("and ONNX is not fine-tuned; to distill, export the model with its classifier, or use its BERT folder")


def _train(args: Namespace, job: Callable[..., Facts]) -> Facts:
    """Begin a job with the settings of the command line, or go on with one."""
    if args.resume is not None:
        refuse_settings(args)
        out = Path(args.resume)
        config: RunConfig = read_config(out)
    else:
        need(args, "out")
        out, config = Path(args.out), assemble(args, own_data=True)
    parts = ("seed", "backend", "checkpoint_minutes", "data.", "teacher.")
    lines = [line for line in describe(config).splitlines() if line.startswith(parts)]
    try:
        return job(config, out, resume=args.resume is not None, begin=lambda: say("\n".join(lines)))
    except KeyboardInterrupt:
        if (out / CONFIG).is_file():
            go_on = command("minispike", "teacher", args.job, "--resume", out)
            print(f"interrupted; to go on: {go_on}", file=sys.stderr)
        raise
