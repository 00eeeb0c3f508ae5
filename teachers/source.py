"""Where a run's teachers come from: made from scratch, or a given BERT that is fine-tuned; from then on ONNX."""

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from minispike.checkpoint import save_tensors
from minispike.config import RunConfig, TeacherConfig
from minispike.corpus import Corpus, Split
from minispike.data.tokenizer import Encoded, Tokenizer
from minispike.distill.teacher import FoundTeacher, Teacher
from minispike.errors import TeacherError, problem, warn
from minispike.models.bert import Bert, BertConfig, bert_from_weights
from minispike.models.bert_folder import read_label_names
from minispike.runfolder import FINETUNED, PRETRAINED, TOKENIZER, Facts, RunFolder, load_teacher, restored_or_anew
from minispike.train.loop import train
from teachers.cache import CacheFolder, default_folder
from teachers.onnx_file import copy_model, onnx_of
from teachers.onnx_session import check_provider
from teachers.onnx_teacher import OnnxTeacher
from teachers.ports import no_classifier
from teachers.training import FineTuning, Pretraining
from teachers.view import CachedView

READ = "read teacher"
PRETRAIN_SEED, FINETUNE_SEED = 1, 2


class OnnxTeachers:
    """Teachers that run through ONNX Runtime: a `minispike.distill.teacher.TeacherSource`.

    The copies in the run folder are what a run works with, so it needs what it was given only once:

        teacher/pretrained.onnx     the teacher of stage 1, with any external data beside it
        teacher/finetuned.onnx      the teacher of stage 2, where there is another
        teacher/*.safetensors       their weights, where minispike knows them
    """

    def __init__(self) -> None:
        self._caches: dict[tuple[str, int], CacheFolder] = {}  # one each, which knows what is in use

    def find_tokenizer(self, config: RunConfig, corpus: Corpus, kept: Path) -> Tokenizer:
        """The tokenizer of an interrupted run, else the given teacher's, else one trained on the training text.

        Raises:
            DataError: the teacher's folder has none.
            TeacherError: there is no such teacher.
        """
        c = config.teacher
        if kept.is_file():
            return Tokenizer.from_file(kept)
        if not c.path:
            texts = *corpus.data.train.sentences, *corpus.unlabelled.sentences
            return Tokenizer.train(texts, vocab_size=c.vocab_size)
        path = Path(c.path)
        if not path.exists():
            expected, hint = "the folder of a BERT, or an ONNX file", "another path"
            raise TeacherError(problem(str(path), expected=expected, got="nothing there", hint=hint))
        return Tokenizer.from_file(path if path.is_dir() else path.parent)

    def read(
        self, config: RunConfig, tokenizer: Tokenizer, label_names: Sequence[str], done: Collection[str] = ()
    ) -> FoundTeacher | None:
        """Read and check the teacher that the configuration names, or tell the shape of one made from scratch.

        Raises:
            TeacherError: it cannot be read, or has no hidden states, or not the task's classes.
            DataError: it has another vocabulary than its tokenizer.
            BackendError: ONNX Runtime lacks the provider.
        """
        c, path, num_labels = config.teacher, Path(config.teacher.path), len(label_names)
        check_provider(c.provider)
        if READ in done:
            return None
        if not c.path:
            shape = scratch_shape(c, tokenizer.vocab_size, config.data.max_length)
            return FoundTeacher(shape.num_hidden_layers, shape.max_position_embeddings)
        if (file := onnx_of(path)) is not None:
            teacher = _open(c, file)
            tokenizer.check_matches(teacher.vocab_size)
            _check_classes(file, teacher.num_labels, num_labels, no_classifier(teacher.outputs))
            _check_order(file, teacher.label_names, label_names, "the folder of a BERT, with teacher.finetune=true")
            table = teacher.position_embeddings
            return FoundTeacher(teacher.num_layers, None if table is None else len(table), teacher.shape)
        bert = Bert.from_folder(path, 0 if c.finetune else None)
        tokenizer.check_matches(bert.config.vocab_size)
        if not c.finetune:
            _check_classes(path, bert.config.num_labels, num_labels)
            _check_order(path, read_label_names(path), label_names, "teacher.finetune=true")
        return FoundTeacher(bert.config.num_hidden_layers, bert.config.max_position_embeddings, bert)

    def prepare(
        self,
        run: RunFolder,
        found: FoundTeacher | None,
        tokenizer: Tokenizer,
        unlabelled: Encoded,
        train: Split,
        dev: Split,
        label_names: Sequence[str],
    ) -> tuple[Teacher, Teacher]:
        """The pretrained and the fine-tuned teacher; a given one that is used as it is stands for both.

        Raises:
            TeacherError: a model in the run folder is damaged.
        """
        c, as_it_is = run.config.teacher, False
        if c.path:
            kept = run.phase(READ, lambda: _keep(run, found, label_names))
            as_it_is = kept["as it is"]
        else:
            run.phase(Pretraining.name, lambda: _pretrain(run, tokenizer, unlabelled))
        pretrained = _taken_up(run, PRETRAINED)
        if as_it_is:
            return pretrained, pretrained
        run.phase(FineTuning.name, lambda: _finetune(run, tokenizer, train, dev, label_names))
        return pretrained, _taken_up(run, FINETUNED)

    def view(self, run: RunFolder, teacher: Teacher, texts: Encoded, layers: Sequence[int], name: str) -> CachedView:
        """A view that remembers in the cache that the run's configuration names."""
        c = run.config.teacher
        place = c.cache_folder, c.cache_mb
        if place not in self._caches:
            self._caches[place] = _open_cache(*place)
        cache = self._caches[place]
        key = (run.path / TOKENIZER).read_bytes(), str(run.config.data.max_length).encode()
        return CachedView(teacher, texts, layers, cache, key, name)


def _open(c: TeacherConfig, path: Path) -> OnnxTeacher:
    return OnnxTeacher(path, c.threads, c.provider)


def _taken_up(run: RunFolder, name: str) -> OnnxTeacher:
    """The run's own copy of a teacher, which it does not make twice."""
    try:
        return _open(run.config.teacher, run.path / f"{name}.onnx")
    except TeacherError as error:
        raise TeacherError(f"{error}, or {restored_or_anew(run.path)}") from error


def _open_cache(folder: str, megabytes: int) -> CacheFolder:
    """The folder of the settings or the user's own; where there is none, one that keeps nothing, with a warning."""
    path = Path(folder) if folder else default_folder()
    if path is None:
        if megabytes:
            warn("teacher cache: the user has no home folder; answers are not kept; try teacher.cache_folder")
        return CacheFolder(Path(), 0)
    return CacheFolder(path, megabytes * 2**20)


def _check_classes(path: Path, own: int, num_labels: int, without: str = "no classifier") -> None:
    """A teacher that is used as it is must know the task already."""
    if own == num_labels:
        return
    expected, got = f"logits of {num_labels} classes", f"{own} classes" if own else without
    hint = "the folder of a BERT, with teacher.finetune=true"
    raise TeacherError(problem(str(path), expected=expected, got=got, hint=hint))


def _check_order(path: Path, own: Sequence[str], label_names: Sequence[str], hint: str) -> None:
    """The same names in another order would be taken for each other. Who has other names, or none, is trusted."""
    if tuple(own) != tuple(label_names) and sorted(own) == sorted(label_names):
        expected, got = f"classes in the order {', '.join(label_names)}", ", ".join(own)
        raise TeacherError(problem(str(path), expected=expected, got=got, hint=hint))


def _store(run: RunFolder, name: str, bert: Bert, label_names: Sequence[str] = ()) -> None:
    """Weights, to go on training from, and the ONNX file, to teach with."""
    save_tensors(run.path / f"{name}.safetensors", bert.state_dict(), {"config": vars(bert.config)})
    bert.to_onnx(run.path / f"{name}.onnx", label_names=label_names)


def _keep(run: RunFolder, found: FoundTeacher | None, label_names: Sequence[str]) -> Facts:
    """A given teacher's copy, as the pretrained one: a BERT's is an export, an ONNX file's has the same bytes."""
    assert found is not None
    c, bert = run.config.teacher, found.content
    if (file := onnx_of(Path(c.path))) is not None:
        told = ": an ONNX file is not fine-tuned, whatever teacher.finetune says" if c.finetune else ""
        warn(f"teacher: {file} is used as it is{told}")
        copy_model(file, run.path / f"{PRETRAINED}.onnx")
        return {"as it is": True, "shape": found.content}
    _store(run, PRETRAINED, bert, () if c.finetune else label_names)
    return {"as it is": not c.finetune, "parameters": bert.count_parameters()}


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
    size, parts = c.pretraining.batch_size, c.pretraining.parts()
    task = Pretraining(bert, unlabelled, tokenizer, size, c.mask_share, key, parts=parts)
    facts = train(task, c.pretraining, run.keeper)
    return bert, {"seconds": facts["seconds"], "parameters": bert.count_parameters()}


def _finetune(
    run: RunFolder, tokenizer: Tokenizer, train_split: Split, dev: Split, label_names: Sequence[str]
) -> Facts:
    weights, notes = load_teacher(run.path, PRETRAINED)
    bert = bert_from_weights(notes["config"], weights, len(label_names))
    facts = finetune_bert(run, bert, tokenizer, train_split, dev)
    _store(run, FINETUNED, bert, label_names)
    return facts


def finetune_bert(run: RunFolder, bert: Bert, tokenizer: Tokenizer, train_split: Split, dev: Split) -> Facts:
    """Fine-tune a BERT in place, best on dev; the results of the phase."""
    c, key = run.config.teacher, (run.config.seed, FINETUNE_SEED)
    size, parts = c.finetuning.batch_size, c.finetuning.parts()
    task = FineTuning(bert, train_split.both(), dev.both(), size, key, tokenizer.pad_id, parts=parts)
    facts = train(task, c.finetuning, run.keeper)
    return {"seconds": facts["seconds"], "dev": facts["score"], "parameters": bert.count_parameters()}
