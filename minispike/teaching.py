"""Where a run's teachers come from: made from scratch, or a given BERT that is fine-tuned; from then on ONNX."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from minispike.checkpoint import load_tensors, save_tensors
from minispike.config import RunConfig, TeacherConfig
from minispike.corpus import Corpus, Split
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.errors import TeacherError, problem
from minispike.models.bert import Bert, BertConfig, bert_from_weights
from minispike.runfolder import TOKENIZER, Facts, RunFolder
from minispike.train.loop import train
from teachers.convert import read_bert_folder
from teachers.onnx_export import export_bert
from teachers.onnx_teacher import OnnxTeacher
from teachers.training import FineTuning, Pretraining

PRETRAINED, FINETUNED = "teacher/pretrained", "teacher/finetuned"
PRETRAIN_SEED, FINETUNE_SEED = 1, 2


def find_tokenizer(run: RunFolder, corpus: Corpus) -> Tokenizer:
    """The teacher's tokenizer, or one trained on the training text; a copy is kept in the run folder.

    Raises:
        TeacherError: the teacher's folder has none.
    """
    kept = run.path / TOKENIZER
    if kept.is_file():
        return Tokenizer.from_file(kept)
    c = run.config.teacher
    if c.path:
        folder = Path(c.path) if Path(c.path).is_dir() else Path(c.path).parent
        tokenizer = Tokenizer.from_file(folder)
    else:
        texts = [*corpus.data.train.texts, *corpus.unlabelled]
        tokenizer = Tokenizer.train(texts, vocab_size=c.vocab_size)
    tokenizer.save(kept)
    return tokenizer


def prepare_teachers(
    run: RunFolder, tokenizer: Tokenizer, unlabelled: Encoded, train_split: Split, dev: Split, num_labels: int
) -> tuple[OnnxTeacher, OnnxTeacher]:
    """The pretrained and the fine-tuned teacher, both through ONNX Runtime.

    Raises:
        TeacherError: the given one cannot be read, has no hidden states, or another vocabulary than its tokenizer.
    """
    c = run.config.teacher
    if c.path and Path(c.path).is_file():
        teacher = _given_onnx(Path(c.path), tokenizer, num_labels)
        return teacher, teacher
    if c.path:
        run.phase("read teacher", lambda: _read(run, tokenizer))
    else:
        run.phase(Pretraining.name, lambda: _pretrain(run, tokenizer, unlabelled))
    if c.path and not c.finetune:
        teacher = _given_onnx(run.path / f"{PRETRAINED}.onnx", tokenizer, num_labels)
        return teacher, teacher
    run.phase(FineTuning.name, lambda: _finetune(run, tokenizer, train_split, dev, num_labels))
    return OnnxTeacher(run.path / f"{PRETRAINED}.onnx"), OnnxTeacher(run.path / f"{FINETUNED}.onnx")


def teacher_shape(run: RunFolder) -> BertConfig | None:
    """The shape of the run's teacher, where it is known (not of a foreign ONNX file)."""
    path = run.path / f"{PRETRAINED}.safetensors"
    return BertConfig(**load_tensors(path)[1]["config"]) if path.is_file() else None


def _given_onnx(path: Path, tokenizer: Tokenizer, num_labels: int) -> OnnxTeacher:
    """A teacher that is used as it is: it must know the task already."""
    teacher = OnnxTeacher(path)
    tokenizer.check_matches(teacher.vocab_size)
    if teacher.num_labels != num_labels:
        raise TeacherError(
            problem(
                str(path),
                expected=f"logits of {num_labels} classes",
                got=f"{teacher.num_labels} classes" if teacher.num_labels else "no classifier",
                hint="a BERT folder, which is fine-tuned on the task first",
            )
        )
    return teacher


def _store(run: RunFolder, name: str, bert: Bert) -> None:
    """Weights, to go on training from, and the ONNX file, to teach with."""
    weights = bert.state_dict()
    save_tensors(run.path / f"{name}.safetensors", weights, {"config": vars(bert.config)})
    export_bert(bert.config, weights, run.path / f"{name}.onnx")


def _read(run: RunFolder, tokenizer: Tokenizer) -> Facts:
    """A given BERT folder: checked, and exported as the pretrained teacher."""
    fields, weights = read_bert_folder(Path(run.config.teacher.path))
    tokenizer.check_matches(fields["vocab_size"])
    keep_head = fields["num_labels"] if not run.config.teacher.finetune else 0
    bert = bert_from_weights(fields, _encoder_weights(weights), keep_head)
    _store(run, PRETRAINED, bert)
    return {"parameters": bert.count_parameters()}


def _encoder_weights(weights: Mapping[str, Any]) -> dict[str, Any]:
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
    )


def _pretrain(run: RunFolder, tokenizer: Tokenizer, unlabelled: Encoded) -> Facts:
    c, key = run.config.teacher, (run.config.seed, PRETRAIN_SEED)
    shape = scratch_shape(c, tokenizer.vocab_size, run.config.data.max_length)
    bert = Bert(shape, np.random.default_rng([*key, 3]))
    task = Pretraining(bert, unlabelled, tokenizer, c.pretraining.batch_size, c.mask_share, key)
    facts = train(task, c.pretraining, run.keeper)
    _store(run, PRETRAINED, bert)
    return {"seconds": facts["seconds"], "parameters": bert.count_parameters()}


def _finetune(run: RunFolder, tokenizer: Tokenizer, train_split: Split, dev: Split, num_labels: int) -> Facts:
    c, key = run.config.teacher, (run.config.seed, FINETUNE_SEED)
    weights, notes = load_tensors(run.path / f"{PRETRAINED}.safetensors")
    bert = bert_from_weights(notes["config"], weights, num_labels)
    size = c.finetuning.batch_size
    task = FineTuning(bert, train_split.both(), dev.both(), size, key, tokenizer.pad_id)
    facts = train(task, c.finetuning, run.keeper)
    _store(run, FINETUNED, bert)
    return {"seconds": facts["seconds"], "dev": facts["score"], "parameters": bert.count_parameters()}
