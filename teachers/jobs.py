"""Teachers by themselves: pretrained, fine-tuned, or converted, to be used by many runs.

Each job leaves a folder in the layout of Hugging Face with a ``model.onnx`` beside it, which hands out every
hidden state. While it trains, the folder is a run folder too: it can be interrupted and resumed.
"""

import hashlib
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from minispike import backend
from minispike.config import RunConfig
from minispike.corpus import encode, read_corpus, tell_notes
from minispike.data.text import read_sentences
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.errors import ConfigError, TeacherError, problem
from minispike.files import atomic_write
from minispike.metrics import ModelResult
from minispike.models.bert import Bert
from minispike.models.bert_folder import read_label_names, write_bert_folder
from minispike.preparation import check_same_texts
from minispike.runfolder import TOKENIZER, Facts, RunFolder, check_free, read_config, read_state
from minispike.runstate import FINETUNE, PRETRAIN
from minispike.train.predict import predict_logits
from teachers.onnx_file import ONNX, load_model, onnx_of, serialised
from teachers.onnx_teacher import OnnxTeacher
from teachers.ports import adopt, no_classifier
from teachers.source import finetune_bert, pretrained_bert, scratch_shape
from teachers.training import FineTuning, Pretraining


def pretrain_teacher(
    config: RunConfig, out: Path, *, resume: bool = False, begin: Callable[[], None] | None = None
) -> Facts:
    """Train a tokenizer and a small BERT on unlabelled text (``data.text``), by guessing hidden words.

    Args:
        config: its sections ``data`` and ``teacher`` count; with ``resume``, that of the folder does.
        out: the folder of the teacher.
        resume: go on with an interrupted job.
        begin: called once all inputs have been found fit, before anything is written.

    Returns:
        The results of the phase.

    Raises:
        MinispikeError: anything the user can mend.
    """
    return _carry_out(PRETRAIN, Pretraining.name, _read_text, config, out, resume, begin)


def finetune_teacher(
    config: RunConfig, out: Path, *, resume: bool = False, begin: Callable[[], None] | None = None
) -> Facts:
    """Fine-tune a BERT (``teacher.path``, a folder) on a task (``data.path``); the best on dev is kept.

    Args:
        config: its sections ``data`` and ``teacher`` count; with ``resume``, that of the folder does.
        out: the folder of the teacher.
        resume: go on with an interrupted job.
        begin: called once all inputs have been found fit, before anything is written.

    Returns:
        The results of the phase: accuracy on ``dev``, and ``test`` with its interval and macro F1.

    Raises:
        MinispikeError: anything the user can mend.
    """
    return _carry_out(FINETUNE, FineTuning.name, _read_task, config, out, resume, begin)


@dataclass(frozen=True)
class _Work:
    """What is left to do once all is read: the texts' fingerprint, notes on them, encoded sets, and the phase."""

    digest: str
    notes: Sequence[str]
    sets: Sequence[tuple[str, Encoded]]
    phase: Callable[[RunFolder], Facts]


def _carry_out(
    job: str,
    phase: str,
    read: Callable[[RunConfig, Path], _Work],
    config: RunConfig,
    out: Path,
    resume: bool,
    begin: Callable[[], None] | None,
) -> Facts:
    """The results of a job of one phase: read, then tell, then write."""
    done: Facts = {}
    if resume:
        config, done = read_config(out), read_state(out, job)["done"]
    else:
        check_free(out)
    if phase in done:
        return dict(done[phase])
    with backend.use(config.backend):
        work = read(config, out)
        if begin is not None:
            begin()
        run = RunFolder(out, config, resume=resume, job=job)
        try:
            check_same_texts(run, work.digest, work.notes)
            tell_notes(work.notes, work.sets, config)
            return run.phase(phase, lambda: work.phase(run))
        finally:
            run.close()


def _read_text(config: RunConfig, out: Path) -> _Work:
    """The text and its tokenizer; the work is to pretrain."""
    texts = read_sentences(_given("data.text", config.data.text))[: config.data.text_limit or None]
    kept, length = out / TOKENIZER, config.data.max_length
    own = kept.is_file()
    tokenizer = Tokenizer.from_file(kept) if own else Tokenizer.train(texts, vocab_size=config.teacher.vocab_size)
    encoded = tokenizer.encode(texts, max_length=length)
    scratch_shape(config.teacher, tokenizer.vocab_size, length)  # or a mistake is told

    def pretrain(run: RunFolder) -> Facts:
        tokenizer.save(kept)
        bert, facts = pretrained_bert(run, tokenizer, encoded)
        _write(bert, kept, out)
        return facts | {"truncated": encoded.truncated, "unknown": encoded.unknown}

    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()
    return _Work(digest, [f"{len(texts)} unlabelled"], [("unlabelled", encoded)], pretrain)


def _read_task(config: RunConfig, out: Path) -> _Work:
    """The BERT and the labelled sentences; the work is to fine-tune."""
    source, length = Path(_given("teacher.path", config.teacher.path)), config.data.max_length
    corpus = read_corpus(config.data, config.seed)
    data = corpus.data
    bert = Bert.from_folder(_folder(source), len(data.label_names))
    tokenizer = Tokenizer.from_file(source)
    tokenizer.check_matches(bert.config.vocab_size)
    if length > (positions := bert.config.max_position_embeddings):
        expected, hint = f"at most {positions}, the teacher's positions", f"data.max_length={positions}"
        raise TeacherError(problem("data.max_length", expected=expected, got=str(length), hint=hint))
    train, dev, test = (encode(tokenizer, split, length) for split in (data.train, data.dev, data.test))

    def finetune(run: RunFolder) -> Facts:
        facts = finetune_bert(run, bert, tokenizer, train, dev)

        def logits(ids: Any, mask: Any, segments: Any) -> Any:
            return bert(ids, mask, segments).logits

        found = predict_logits(logits, test.texts, pad_id=tokenizer.pad_id).argmax(axis=1)
        result = ModelResult.measure("teacher", test.labels, found, len(data.label_names))
        _write(bert, source, out, data.label_names)
        return facts | {"test": {name: getattr(result, name) for name in ("accuracy", "low", "high", "macro_f1")}}

    sets = [("train", train.texts), ("dev", dev.texts), ("test", test.texts)]
    return _Work(corpus.digest(), corpus.notes, sets, finetune)


def convert_teacher(source: Path, out: Path) -> Facts:
    """Write the ONNX model of a teacher, with our names and every hidden state, and its tokenizer beside it.

    Args:
        source: the folder of a BERT, or an ONNX model somebody else has exported (the file, or its folder).
        out: the folder to write; must be new or empty.

    Returns:
        ``layers``, ``hidden_size``, ``num_labels``, ``vocab_size``, ``seconds``; ``tokenizer``: whether there was
        one beside the source; ``trainable``: whether the source is a folder, which can be fine-tuned; and
        ``without``, where there are no labels: the outputs among which there is no classifier, in words.

    Raises:
        TeacherError: the source is no BERT, or its inputs, hidden states or logits cannot be told.
        DataError: its tokenizer is damaged or of another vocabulary.
        RunFolderError: the folder is occupied.
    """
    began = time.monotonic()
    check_free(out)
    beside = source if source.is_dir() else source.parent
    tokenizer = None
    if any((beside / name).is_file() for name in (TOKENIZER, "vocab.txt")):
        tokenizer = Tokenizer.from_file(beside)
    given = onnx_of(source) if source.is_dir() else source
    without = _write_foreign(given, tokenizer, out) if given is not None else _write_folder(source, tokenizer, out)
    if tokenizer is not None:
        tokenizer.save(out / TOKENIZER)
    made = OnnxTeacher(out / ONNX)
    facts: Facts = {name: getattr(made, name) for name in ("hidden_size", "num_labels", "vocab_size")}
    facts |= {"tokenizer": tokenizer is not None, "trainable": given is None, "seconds": time.monotonic() - began}
    return facts | {"layers": made.num_layers} | ({} if made.num_labels else {"without": without})


def _write_folder(source: Path, tokenizer: Tokenizer | None, out: Path) -> str:
    """The ONNX model of a BERT's folder; returns what to say if it has no classifier."""
    bert = Bert.from_folder(source)
    if tokenizer is not None:
        tokenizer.check_matches(bert.config.vocab_size)
    bert.to_onnx(out / ONNX, label_names=_label_names(source, bert.config.num_labels))
    return "no classifier"


def _write_foreign(given: Path, tokenizer: Tokenizer | None, out: Path) -> str:
    """An ONNX model with all that a teacher needs; returns what to say if it has no classifier."""
    foreign = OnnxTeacher(given)
    if tokenizer is not None:
        tokenizer.check_matches(foreign.vocab_size)
    content = serialised(given, adopt(load_model(given), given))
    with atomic_write(out / ONNX, "wb") as file:
        file.write(content)
    return no_classifier(foreign.outputs)


def _label_names(folder: Path, num_labels: int) -> tuple[str, ...]:
    """Those of a folder's classifier; none where it has no classifier or names another number of classes."""
    names = read_label_names(folder)
    return names if len(names) == num_labels else ()


def _given(name: str, path: str) -> str:
    if not path:
        hint = {"data.text": "--text FILE", "teacher.path": "--teacher DIR"}[name]
        raise ConfigError(problem(name, expected="a path", got="nothing", hint=hint))
    return path


def _folder(source: Path) -> Path:
    if source.is_dir() and onnx_of(source) is None:
        return source
    got = "a file" if source.is_file() else f"a folder with {ONNX} alone" if source.is_dir() else "nothing there"
    hint = "a folder with config.json, model.safetensors and tokenizer.json"
    raise TeacherError(problem(str(source), expected="the folder of a BERT", got=got, hint=hint))


def _write(bert: Bert, tokenizer: Path, out: Path, label_names: tuple[str, ...] | None = None) -> None:
    """The layout of Hugging Face, and the ONNX model."""
    write_bert_folder(bert.config, bert.state_dict(), tokenizer, out, label_names=label_names)
    bert.to_onnx(out / ONNX, label_names=label_names)
