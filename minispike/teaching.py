"""Where a run's teachers come from: made from scratch, or a given BERT that is fine-tuned; from then on ONNX."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from minispike.checkpoint import load_tensors, save_tensors
from minispike.config import TeacherConfig
from minispike.corpus import Corpus, Split
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.errors import TeacherError, problem
from minispike.models.bert import Bert, BertConfig, bert_from_weights
from minispike.runfolder import Facts, RunFolder
from minispike.train.loop import train
from teachers.convert import read_bert_folder, read_label_names
from teachers.onnx_export import export_bert
from teachers.onnx_teacher import OnnxTeacher
from teachers.training import FineTuning, Pretraining

PRETRAINED, FINETUNED = "teacher/pretrained", "teacher/finetuned"
READ = "read teacher"
PRETRAIN_SEED, FINETUNE_SEED = 1, 2


def find_tokenizer(c: TeacherConfig, corpus: Corpus, kept: Path) -> Tokenizer:
    """The tokenizer of an interrupted run, else the given teacher's, else one trained on the training text.

    Args:
        c: names the teacher.
        corpus: the texts to learn from.
        kept: where an interrupted run has its copy; of a new run, there is no such file.

    Raises:
        DataError: the teacher's folder has none.
        TeacherError: there is no such teacher.
    """
    if kept.is_file():
        return Tokenizer.from_file(kept)
    if not c.path:
        return Tokenizer.train([*corpus.data.train.texts, *corpus.unlabelled], vocab_size=c.vocab_size)
    path = Path(c.path)
    if not path.exists():
        expected, hint = "the folder of a BERT, or an ONNX file", "another path"
        raise TeacherError(problem(str(path), expected=expected, got="nothing there", hint=hint))
    return Tokenizer.from_file(path if path.is_dir() else path.parent)


def given_teacher(c: TeacherConfig, tokenizer: Tokenizer, label_names: Sequence[str]) -> Bert | OnnxTeacher | None:
    """Read and check the teacher that the configuration names; None where one is made from scratch.

    Args:
        c: names the teacher.
        tokenizer: that it must match.
        label_names: of the task, which a teacher that is not fine-tuned must know, in this order.

    Raises:
        TeacherError: it cannot be read, or has no hidden states, or not the task's classes.
        DataError: it has another vocabulary than its tokenizer.
    """
    if not c.path:
        return None
    path, num_labels = Path(c.path), len(label_names)
    if path.is_file():
        teacher = OnnxTeacher(path)
        tokenizer.check_matches(teacher.vocab_size)
        _check_classes(path, teacher.num_labels, num_labels)
        return teacher
    fields, weights = read_bert_folder(path)
    tokenizer.check_matches(fields["vocab_size"])
    if not c.finetune:
        _check_classes(path, fields["num_labels"], num_labels)
        _check_order(path, tuple(label_names))
    return bert_from_weights(fields, encoder_weights(weights), 0 if c.finetune else num_labels)


def prepare_teachers(
    run: RunFolder,
    given: Bert | OnnxTeacher | None,
    tokenizer: Tokenizer,
    unlabelled: Encoded,
    train_split: Split,
    dev: Split,
    num_labels: int,
) -> tuple[OnnxTeacher, OnnxTeacher]:
    """The pretrained and the fine-tuned teacher, both through ONNX Runtime.

    Args:
        run: keeps them.
        given: from `given_teacher`; an interrupted run that has a copy needs it no more.
        tokenizer: of both.
        unlabelled: for pretraining.
        train_split, dev: for fine-tuning.
        num_labels: classes of the task.
    """
    if isinstance(given, OnnxTeacher):
        return given, given
    if run.config.teacher.path:
        run.phase(READ, lambda: _keep(run, given))
    else:
        run.phase(Pretraining.name, lambda: _pretrain(run, tokenizer, unlabelled))
    pretrained = run.path / f"{PRETRAINED}.onnx"
    if run.config.teacher.path and not run.config.teacher.finetune:
        teacher = OnnxTeacher(pretrained)
        return teacher, teacher
    run.phase(FineTuning.name, lambda: _finetune(run, tokenizer, train_split, dev, num_labels))
    return OnnxTeacher(pretrained), OnnxTeacher(run.path / f"{FINETUNED}.onnx")


def teacher_shape(run: Path) -> BertConfig | None:
    """The shape of the teacher of a run folder, where it is known (not of a foreign ONNX file)."""
    for name in (FINETUNED, PRETRAINED):
        path = run / f"{name}.safetensors"
        if path.is_file():
            return BertConfig(**load_tensors(path)[1]["config"])
    return None


def _check_classes(path: Path, own: int, num_labels: int) -> None:
    """A teacher that is used as it is must know the task already."""
    if own == num_labels:
        return
    expected, got = f"logits of {num_labels} classes", f"{own} classes" if own else "no classifier"
    hint = "the folder of a BERT, with teacher.finetune=true"
    raise TeacherError(problem(str(path), expected=expected, got=got, hint=hint))


def _check_order(path: Path, label_names: tuple[str, ...]) -> None:
    """The same names in another order would be taken for each other."""
    own = read_label_names(path)
    if own != label_names and sorted(own) == sorted(label_names):
        expected, got = f"classes in the order {', '.join(label_names)}", ", ".join(own)
        hint = "teacher.finetune=true"
        raise TeacherError(problem(str(path), expected=expected, got=got, hint=hint))


def _store(run: RunFolder, name: str, bert: Bert) -> None:
    """Weights, to go on training from, and the ONNX file, to teach with."""
    weights = bert.state_dict()
    save_tensors(run.path / f"{name}.safetensors", weights, {"config": vars(bert.config)})
    export_bert(bert.config, weights, run.path / f"{name}.onnx")


def _keep(run: RunFolder, given: Bert | None) -> Facts:
    """A given BERT, exported as the pretrained teacher."""
    assert given is not None
    _store(run, PRETRAINED, given)
    return {"parameters": given.count_parameters()}


def encoder_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
    """Without the heads of pretraining, which distillation has no use for."""
    return {name: w for name, w in weights.items() if not name.startswith("cls.")}


def scratch_shape(c: TeacherConfig, vocab_size: int, max_length: int) -> BertConfig:
    """The shape of a teacher made from scratch."""
    return BertConfig(
        vocab_size=vocab_size,
        hidden_size=c.hidden_size,
        num_hidden_layers=c.layers,
        num_attention_heads=c.heads,
        intermediate_size=4 * c.hidden_size,
        max_position_embeddings=max_length,
        initializer_range=0.6 / c.hidden_size**0.5,  # 0.02 is right for 768; a narrow network needs larger ones
    )


def _pretrain(run: RunFolder, tokenizer: Tokenizer, unlabelled: Encoded) -> Facts:
    bert, facts = pretrained_bert(run, tokenizer, unlabelled)
    _store(run, PRETRAINED, bert)
    return facts


def pretrained_bert(run: RunFolder, tokenizer: Tokenizer, unlabelled: Encoded) -> tuple[Bert, Facts]:
    """A small BERT that has learned to guess hidden words, and the results of the phase."""
    c, key = run.config.teacher, (run.config.seed, PRETRAIN_SEED)
    shape = scratch_shape(c, tokenizer.vocab_size, run.config.data.max_length)
    bert = Bert(shape, np.random.default_rng([*key, 3]))
    task = Pretraining(bert, unlabelled, tokenizer, c.pretraining.batch_size, c.mask_share, key)
    facts = train(task, c.pretraining, run.keeper)
    return bert, {"seconds": facts["seconds"], "parameters": bert.count_parameters()}


def _finetune(run: RunFolder, tokenizer: Tokenizer, train_split: Split, dev: Split, num_labels: int) -> Facts:
    weights, notes = load_tensors(run.path / f"{PRETRAINED}.safetensors")
    bert = bert_from_weights(notes["config"], weights, num_labels)
    facts = finetune_bert(run, bert, tokenizer, train_split, dev)
    _store(run, FINETUNED, bert)
    return facts


def finetune_bert(run: RunFolder, bert: Bert, tokenizer: Tokenizer, train_split: Split, dev: Split) -> Facts:
    """Fine-tune a BERT in place, best on dev; the results of the phase."""
    c, key = run.config.teacher, (run.config.seed, FINETUNE_SEED)
    size = c.finetuning.batch_size
    task = FineTuning(bert, train_split.both(), dev.both(), size, key, tokenizer.pad_id)
    facts = train(task, c.finetuning, run.keeper)
    return {"seconds": facts["seconds"], "dev": facts["score"], "parameters": bert.count_parameters()}
