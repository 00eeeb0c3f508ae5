"""The main job, phase by phase; each one is on record when it is done, and an interrupted one is taken up.

    texts -> teacher -> stage 1 -> stage 2 -> direct training -> evaluation -> energy -> report
"""

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minispike import backend
from minispike.checkpoint import load_tensors, save_tensors
from minispike.config import RunConfig
from minispike.corpus import Corpus, Split, encode, encoding_notes, read_corpus
from minispike.data.baselines import BagOfWords, majority_class
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.distill.augment import augment
from minispike.distill.losses import LossWeights, layer_map
from minispike.distill.stages import Distillation, Source, student_logits
from minispike.distill.start import StartingTables, starting_tables
from minispike.errors import RunFolderError, problem
from minispike.metrics import accuracy, macro_f1, wilson_interval
from minispike.models.spikebert import SpikeBERT, SpikeBERTConfig
from minispike.runfolder import MODEL, Facts, RunFolder, read_config
from minispike.teaching import find_tokenizer, prepare_teachers
from minispike.train.loop import TrainConfig, train
from minispike.train.predict import predict_logits
from minispike.train.progress import Progress
from teachers.onnx_teacher import OnnxTeacher
from teachers.view import OnnxView

STUDENT_SEED, STAGE1_SEED, STAGE2_SEED, DIRECT_SEED, AUGMENT_SEED = 3, 4, 5, 6, 7
STAGE1, STAGE2, DIRECT = "stage 1", "stage 2", "direct training"


@dataclass(frozen=True, eq=False)
class Prepared:
    """Everything the student's phases share."""

    run: RunFolder
    corpus: Corpus
    tokenizer: Tokenizer
    train: Split
    dev: Split
    test: Split
    unlabelled: Encoded
    pretrained: OnnxTeacher
    finetuned: OnnxTeacher
    student: SpikeBERTConfig
    start: StartingTables

    @property
    def layers(self) -> int:
        """The teacher's number of layers."""
        return self.pretrained.num_layers


def distill(config: RunConfig, out: Path, *, resume: bool = False) -> Facts:
    """Run every phase that is not yet on record in the folder ``out``.

    Args:
        config: of the run; with ``resume``, that of the folder counts.
        out: the run folder.
        resume: go on with an interrupted run.

    Returns:
        The results: a mapping for every phase (``evaluation`` has the table).

    Raises:
        MinispikeError: anything the user can mend.
    """
    if resume:
        config = read_config(out)
    with backend.use(config.backend):
        run = RunFolder(out, config, resume=resume)
        try:
            p = _prepare(run)
            run.phase(STAGE1, lambda: _stage1(p))
            run.phase(STAGE2, lambda: _stage2(p))
            if config.direct:
                run.phase(DIRECT, lambda: _direct(p))
            run.phase("evaluation", lambda: _evaluate(p))
            return dict(run.state["done"])
        finally:
            run.close()


def _prepare(run: RunFolder) -> Prepared:
    c = run.config
    corpus = read_corpus(c.data, c.seed)
    _check_same_texts(run, corpus)
    tokenizer = find_tokenizer(run, corpus)
    length = c.data.max_length
    splits = [encode(tokenizer, e, length) for e in (corpus.data.train, corpus.data.dev, corpus.data.test)]
    unlabelled = tokenizer.encode(corpus.unlabelled, max_length=length)
    num_labels = len(corpus.data.label_names)
    teachers = prepare_teachers(run, tokenizer, unlabelled, splits[0], splits[1], num_labels)
    student = replace(
        c.student,
        vocab_size=tokenizer.vocab_size,
        num_labels=num_labels,
        feature_dim=teachers[0].hidden_size,
    )
    rng = np.random.default_rng([c.seed, STUDENT_SEED, 1])
    start = starting_tables(teachers[0].word_embeddings, teachers[0].position_embeddings, student.dim, rng)
    return Prepared(run, corpus, tokenizer, *splits, unlabelled, *teachers, student, start)


def _check_same_texts(run: RunFolder, corpus: Corpus) -> None:
    """A resumed run must read what the interrupted one read."""
    digest = corpus.digest()
    if run.phase("texts", lambda: {"digest": digest, "notes": list(corpus.notes)})["digest"] != digest:
        got, hint = "other texts or labels than before the interruption", "a new run with --out"
        raise RunFolderError(problem(str(run.path), expected="the same data", got=got, hint=hint))


def new_student(p: Prepared) -> SpikeBERT:
    """The student before any training: the same for distillation and for direct training."""
    model = SpikeBERT(p.student, np.random.default_rng([p.run.config.seed, STUDENT_SEED, 0]))
    model.embedding.weight.assign(backend.asarray(p.start.words, np.float32))
    if p.student.max_length and p.start.positions is not None:
        rows = min(p.student.max_length, len(p.start.positions))
        table = model.position.weight.numpy()
        table[:rows] = p.start.positions[:rows]
        model.position.weight.assign(backend.asarray(table))
    return model


def _view(p: Prepared, teacher: OnnxTeacher, texts: Encoded, layers: tuple[int, ...], name: str) -> OnnxView:
    memory = p.run.config.teacher.cache_mb * 2**20
    with Progress(f"ask teacher: {name}", len(texts)) as progress:
        return OnnxView(teacher, texts, layers, memory, p.tokenizer.pad_id, lambda done, _: progress.update(done - progress.done))


def _stage1(p: Prepared) -> Facts:
    c = p.run.config.stage1
    student = new_student(p)
    layers = layer_map(p.student.depth, p.layers, c.layers)
    view = _view(p, p.pretrained, p.unlabelled, layers, "unlabelled text")
    task = Distillation(
        STAGE1,
        student,
        [Source(p.unlabelled, None, c.batch_size, view)],
        LossWeights(features=1.0, embedding=c.embedding, logits=0.0, cross_entropy=0.0),
        (p.run.config.seed, STAGE1_SEED),
        pad_id=p.tokenizer.pad_id,
        parts=c.accumulate,
        embedding_target=p.start.words if c.embedding else None,
    )
    facts = train(task, c, p.run.keeper)
    save_student(p.run.path / "stage1.safetensors", student)
    return {"seconds": facts["seconds"], "layers": list(layers)}


def _stage2(p: Prepared) -> Facts:
    c = p.run.config.stage2
    student, _ = load_student(p.run.path / "stage1.safetensors")
    layers = layer_map(p.student.depth, p.layers, c.layers)
    labelled = round(c.labelled * c.batch_size)
    view = _view(p, p.finetuned, p.train.texts, layers, "labelled sentences")
    sources = [Source(p.train.texts, p.train.labels, labelled, view)]
    varied = _augmented(p)
    if labelled < c.batch_size:
        texts = _joined(p.unlabelled, p.tokenizer.encode(varied, max_length=p.run.config.data.max_length))
        view = _view(p, p.finetuned, texts, layers, "transfer text")
        sources.append(Source(texts, None, c.batch_size - labelled, view))
    task = Distillation(
        STAGE2,
        student,
        sources,
        c.weights,
        (p.run.config.seed, STAGE2_SEED),
        pad_id=p.tokenizer.pad_id,
        parts=c.accumulate,
        embedding_target=p.start.words if c.weights.embedding else None,
        dev=p.dev.both(),
    )
    facts = train(task, c, p.run.keeper)
    save_student(p.run.path / MODEL, student, p.corpus.data.label_names)
    return {"seconds": facts["seconds"], "dev": facts["score"], "best_step": facts["step"], "augmented": len(varied)}


def _augmented(p: Prepared) -> list[str]:
    """Variants of the training sentences, for the teacher to label."""
    c = p.run.config
    rng = np.random.default_rng([c.seed, AUGMENT_SEED])
    return augment(p.corpus.data.train.texts, c.augment, rng, [*p.corpus.data.dev.texts, *p.corpus.data.test.texts])


def _joined(a: Encoded, b: Encoded) -> Encoded:
    """Two sets of texts as one."""
    return replace(a, ids=(*a.ids, *b.ids), segments=None) if len(b) else a


def _direct(p: Prepared) -> Facts:
    """The same student from the same start, on the labelled sentences alone, for as many steps as both stages."""
    c1, c2 = p.run.config.stage1, p.run.config.stage2
    student = new_student(p)
    labelled = round(c2.labelled * c2.batch_size)
    c: TrainConfig = replace(c2, steps=c1.steps + c2.steps)
    task = Distillation(
        DIRECT,
        student,
        [Source(p.train.texts, p.train.labels, labelled, None)],
        LossWeights(features=0.0, embedding=0.0, logits=0.0, cross_entropy=1.0),
        (p.run.config.seed, DIRECT_SEED),
        pad_id=p.tokenizer.pad_id,
        parts=c.accumulate,
        dev=p.dev.both(),
    )
    facts = train(task, c, p.run.keeper)
    save_student(p.run.path / "direct.safetensors", student, p.corpus.data.label_names)
    return {"seconds": facts["seconds"], "dev": facts["score"], "best_step": facts["step"]}


def save_student(path: Path, student: SpikeBERT, label_names: tuple[str, ...] = ()) -> None:
    """The weights, with the configuration in the file's header."""
    save_tensors(path, student.state_dict(), {"student": vars(student.config), "labels": list(label_names)})


def load_student(path: Path) -> tuple[SpikeBERT, tuple[str, ...]]:
    """A student and the names of its labels.

    Raises:
        CheckpointError: the file is missing, damaged, or no student.
    """
    weights, notes = load_tensors(path)
    student = SpikeBERT(SpikeBERTConfig(**notes.get("student", {})))
    student.load_state_dict(weights)
    return student, tuple(notes.get("labels", ()))


def _evaluate(p: Prepared) -> Facts:
    """Everybody's answers on the test set."""
    began = time.monotonic()
    data, labels = p.corpus.data, p.test.labels
    words = BagOfWords.fit(data.train, data.dev, len(data.label_names))

    def ask(ids: Any, mask: Any, segments: Any) -> Any:
        return _Answer(p.finetuned(ids, mask, segments, layers=(), logits=True).logits)

    pad = p.tokenizer.pad_id
    answers = {
        "majority class": np.full(len(labels), majority_class(data.train.labels)),
        "bag of words": words.predict(data.test.texts, data.test.pairs),
        "teacher": predict_logits(ask, p.test.texts, pad_id=pad).argmax(axis=1),
        "student": student_logits(load_student(p.run.path / MODEL)[0], p.test.texts, pad).argmax(axis=1),
    }
    if p.run.config.direct:
        direct, _ = load_student(p.run.path / "direct.safetensors")
        answers["direct"] = student_logits(direct, p.test.texts, pad).argmax(axis=1)
    table = {name: _score(labels, found, len(data.label_names)) for name, found in answers.items()}
    named = [("train", p.train.texts), ("dev", p.dev.texts), ("test", p.test.texts), ("unlabelled", p.unlabelled)]
    return {"table": table, "notes": list(encoding_notes(named)), "seconds": time.monotonic() - began}


@dataclass(frozen=True)
class _Answer:
    """Logits that lie on the host already, in the form `predict_logits` expects."""

    values: Any

    def numpy(self) -> Any:
        return self.values


def _score(labels: Any, found: Any, num_labels: int) -> Facts:
    right = int((labels == found).sum())
    low, high = wilson_interval(right, len(labels))
    return {
        "accuracy": accuracy(labels, found),
        "low": low,
        "high": high,
        "macro_f1": macro_f1(labels, found, num_labels),
    }
