"""The main job, phase by phase; each one is on record when it is done, and an interrupted one is taken up.

    texts -> teacher -> stage 1 -> stage 2 -> direct training -> evaluation -> energy -> report

Nothing is written before everything that is given has been read and found fit.
"""

import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from minispike import backend, summary
from minispike.config import RunConfig
from minispike.corpus import encoding_notes, transfer_set
from minispike.data.baselines import BagOfWords, majority_class
from minispike.data.text import Examples
from minispike.data.tokenizer import Encoded
from minispike.distill.augment import augment
from minispike.distill.losses import LossWeights, layer_map
from minispike.distill.stages import Distillation, Source, student_logits
from minispike.distill.teacher import Teacher, TeacherSource, TeacherView
from minispike.errors import warn
from minispike.loaded import load_student, save_student
from minispike.metrics import ModelResult, accuracy
from minispike.models.spikebert import SpikeBERT
from minispike.preparation import STUDENT_SEED, Prepared, prepare, read_inputs
from minispike.runfolder import MODEL, Facts, RunFolder, check_free, read_config, read_state
from minispike.train.loop import TrainConfig, train
from minispike.train.predict import predict_logits
from minispike.train.progress import Progress

STAGE1_SEED, STAGE2_SEED, DIRECT_SEED, AUGMENT_SEED = 4, 5, 6, 7
STAGE1, STAGE2, DIRECT = "stage 1", "stage 2", "direct training"
EVALUATION, ENERGY, REPORT = "evaluation", "energy", "report"


def distill(
    config: RunConfig,
    out: Path,
    teachers: TeacherSource,
    *,
    resume: bool = False,
    begin: Callable[[], None] | None = None,
) -> Facts:
    """Run every phase that is not yet on record in the folder ``out``.

    Args:
        config: of the run; with ``resume``, that of the folder counts.
        out: the run folder. It is made once all inputs have been read and found fit.
        teachers: finds or makes them.
        resume: go on with an interrupted run.
        begin: called at that moment, before anything is written.

    Returns:
        The results: a mapping for every phase (``evaluation`` has the table).

    Raises:
        MinispikeError: anything the user can mend.
    """
    done: Facts = {}
    if resume:
        config, done = read_config(out), read_state(out)["done"]
        if REPORT in done:
            return done
    else:
        check_free(out)
    with backend.use(config.backend):
        inputs = read_inputs(config, out, teachers, done)
        if begin is not None:
            begin()
        run = RunFolder(out, config, resume=resume)
        try:
            p = prepare(run, inputs, teachers)
            run.phase(STAGE1, lambda: _with_views(_stage1, p))
            run.phase(STAGE2, lambda: _with_views(_stage2, p))
            if config.direct:
                run.phase(DIRECT, lambda: _direct(p))
            run.phase(EVALUATION, lambda: _evaluate(p))
            run.phase(ENERGY, lambda: _in_one(ENERGY, summary.measure, p))
            run.phase(REPORT, lambda: _in_one(REPORT, summary.report, p))
            return dict(run.state["done"])
        finally:
            run.close()


def _in_one(name: str, work: Callable[[RunFolder, Examples], Facts], p: Prepared) -> Facts:
    """A phase of a single step, about the test set, that is shown to have been begun and done."""
    with Progress(name, 1) as progress:
        facts = work(p.run, p.inputs.corpus.data.test)
        progress.update()
    return facts


def new_student(p: Prepared) -> SpikeBERT:
    """The student before any training: the same for distillation and for direct training."""
    model = SpikeBERT(p.student, np.random.default_rng([p.run.config.seed, STUDENT_SEED, 0]))
    if p.run.config.start == "random":
        return model
    model.embedding.weight.assign(backend.asarray(p.start.words, np.float32))
    if p.student.max_length and p.start.positions is not None:
        rows = min(p.student.max_length, len(p.start.positions))
        table = model.position.weight.numpy()
        table[:rows] = p.start.positions[:rows]
        model.position.weight.assign(backend.asarray(table))
    return model


def _with_views(stage: Callable[[Prepared, ExitStack], Facts], p: Prepared) -> Facts:
    """Carry out a stage, and close its views on the teachers, whatever comes."""
    with ExitStack() as views:
        return stage(p, views)


def _view(
    p: Prepared, views: ExitStack, teacher: Teacher, texts: Encoded, layers: tuple[int, ...], name: str
) -> TeacherView:
    """What a teacher says about texts, until ``views`` are closed."""
    view = p.teachers.view(p.run, teacher, texts, layers, name)
    views.callback(view.close)
    return view


def _stage1(p: Prepared, views: ExitStack) -> Facts:
    c = p.run.config.stage1
    student = new_student(p)
    layers = layer_map(p.student.depth, p.layers, c.alignment)
    view = _view(p, views, p.pretrained, p.inputs.unlabelled, layers, "unlabelled text")
    task = Distillation(
        STAGE1,
        student,
        [Source(p.inputs.unlabelled, None, c.batch_size, view)],
        LossWeights(features=1.0, embedding=c.embedding, logits=0.0, cross_entropy=0.0),
        (p.run.config.seed, STAGE1_SEED),
        pad_id=p.inputs.tokenizer.pad_id,
        parts=c.parts(),
        alignment=c.alignment,
        embedding_target=p.pretrained.word_embeddings if c.embedding else None,
    )
    facts = train(task, c, p.run.keeper)
    save_student(p.run.path / "stage1.safetensors", student)
    return {"seconds": facts["seconds"], "layers": list(layers)}


def _stage2(p: Prepared, views: ExitStack) -> Facts:
    c = p.run.config.stage2
    student, _ = load_student(p.run.path / "stage1.safetensors")
    layers = layer_map(p.student.depth, p.layers, c.alignment) if c.weights.features else ()
    labelled = max(1, round(c.labelled * c.batch_size))

    def view(texts: Encoded, name: str) -> TeacherView | None:
        asked = c.weights.features or c.weights.logits
        return _view(p, views, p.finetuned, texts, layers, name) if asked else None

    sources = [Source(p.inputs.train.texts, p.inputs.train.labels, labelled, view(p.inputs.train.texts, "labelled"))]
    varied = _augmented(p) if labelled < c.batch_size else Examples(())
    if labelled < c.batch_size:
        length = p.run.config.data.max_length
        variants = p.inputs.tokenizer.encode(varied.texts, varied.pairs, length, mask_marks=True)
        texts = transfer_set(p.inputs.unlabelled, p.inputs.train.texts, variants, mix=c.transfer)
        sources.append(Source(texts, None, c.batch_size - labelled, view(texts, "transfer text")))
    task = Distillation(
        STAGE2,
        student,
        sources,
        c.weights,
        (p.run.config.seed, STAGE2_SEED),
        pad_id=p.inputs.tokenizer.pad_id,
        parts=c.parts(),
        alignment=c.alignment,
        embedding_target=p.finetuned.word_embeddings if c.weights.embedding else None,
        dev=p.inputs.dev.both(),
    )
    facts = train(task, c, p.run.keeper)
    _save(p, MODEL, student)
    found = {"dev": facts["score"], "best_step": facts["step"], "augmented": len(varied)}
    return {"seconds": facts["seconds"]} | found


def _augmented(p: Prepared) -> Examples:
    """Variants of the training examples, for the teacher to label."""
    c, data = p.run.config, p.inputs.corpus.data
    return augment(data.train, c.augment, np.random.default_rng([c.seed, AUGMENT_SEED]), (data.dev, data.test))


def _direct(p: Prepared) -> Facts:
    """The same student from the same start, on labelled sentences alone.

    It takes as many steps as both stages together, with full batches: the most that a fair comparison gives it.
    """
    c1, c2 = p.run.config.stage1, p.run.config.stage2
    student = new_student(p)
    c: TrainConfig = replace(c2, steps=c1.steps + c2.steps)
    task = Distillation(
        DIRECT,
        student,
        [Source(p.inputs.train.texts, p.inputs.train.labels, c2.batch_size, None)],
        LossWeights(features=0.0, embedding=0.0, logits=0.0, cross_entropy=1.0),
        (p.run.config.seed, DIRECT_SEED),
        pad_id=p.inputs.tokenizer.pad_id,
        parts=c.parts(),
        dev=p.inputs.dev.both(),
    )
    facts = train(task, c, p.run.keeper)
    _save(p, "direct.safetensors", student)
    return {"seconds": facts["seconds"], "dev": facts["score"], "best_step": facts["step"]}


def _save(p: Prepared, name: str, student: SpikeBERT) -> None:
    """A student that has learned the task, with what is to be known of the task."""
    data = p.inputs.corpus.data
    save_student(p.run.path / name, student, data.label_names, pairs=data.train.pairs is not None)


def _evaluate(p: Prepared) -> Facts:
    """Everybody's answers on the test set."""
    began = time.monotonic()
    data, labels = p.inputs.corpus.data, p.inputs.test.labels
    classes = len(data.label_names)

    def ask(ids: Any, mask: Any, segments: Any) -> Any:
        return _Answer(p.finetuned(ids, mask, segments, layers=(), logits=True).logits)

    pad = p.inputs.tokenizer.pad_id

    def student(file: str) -> Any:
        return student_logits(load_student(p.run.path / file)[0], p.inputs.test.texts, pad).argmax(axis=1)

    answers: dict[str, Callable[[], Any]] = {
        "majority class": lambda: np.full(len(labels), majority_class(p.inputs.train.labels)),
        "bag of words": lambda: BagOfWords.fit(data.train, data.dev, classes).predict(data.test.texts, data.test.pairs),
        "teacher": lambda: predict_logits(ask, p.inputs.test.texts, pad_id=pad).argmax(axis=1),
        "student": lambda: student(MODEL),
    }
    if p.run.config.direct:
        answers["direct"] = lambda: student("direct.safetensors")
    table: Facts = {}
    with Progress(EVALUATION, len(answers)) as progress:
        for name, answer in answers.items():
            table[name] = _figures(ModelResult.measure(name, labels, answer(), classes))
            progress.update()
    doubts = _doubts(p, predict_logits(ask, p.inputs.dev.texts, pad_id=pad))
    notes = [*doubts, *encoding_notes(p.inputs.named)]
    return {"table": table, "notes": notes, "seconds": time.monotonic() - began}


def _doubts(p: Prepared, teacher: Any) -> list[str]:
    """A warning if the teacher's logits ``[N, C]`` on dev are worth no more than the most frequent label."""
    dev = p.inputs.dev.labels
    own = accuracy(dev, teacher.argmax(axis=1))
    least = accuracy(dev, np.full(len(dev), majority_class(p.inputs.train.labels)))
    if own > least:
        return []
    note = f"the teacher knows no more than the majority class: {own:.1%} and {least:.1%} of dev are right"
    warn(f"{EVALUATION}: {note}")
    return [note]


@dataclass(frozen=True)
class _Answer:
    """Logits that lie on the host already, in the form `predict_logits` expects."""

    values: Any

    def numpy(self) -> Any:
        return self.values


def _figures(result: ModelResult) -> Facts:
    return {name: getattr(result, name) for name in ("accuracy", "low", "high", "macro_f1")}
