"""Every hyper-parameter of ``minispike distill``, in one frozen tree, and the presets that fill it."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from minispike.backend import backends
from minispike.data.reviews import ReviewsConfig
from minispike.distill.augment import AugmentConfig
from minispike.distill.losses import Alignment, LossWeights
from minispike.distill.stages import Stage1Config, Stage2Config
from minispike.errors import ConfigError, problem
from minispike.models.spikebert_config import SpikeBERTConfig, nearest_divisor
from minispike.train.loop import SelectedConfig, TrainConfig


def _at_least(least: float, section: Any, *names: str) -> None:
    """See that settings are not below a bound."""
    for name in names:
        if not getattr(section, name) >= least:
            got, hint = str(getattr(section, name)), f"{name}={getattr(type(section), name)}"
            raise ConfigError(problem(name, expected=f"a number >= {least}", got=got, hint=hint))


@dataclass(frozen=True)
class DataConfig:
    """What is read."""

    path: str = field(default="", metadata={"help": "folder with train.tsv, dev.tsv, test.tsv; empty: built-in corpus"})
    text: str = field(default="", metadata={"help": "file of unlabelled text, one sentence a line"})
    max_length: int = field(default=64, metadata={"help": "longest sentence in tokens; longer ones are cut"})
    dev_fraction: float = field(default=0.1, metadata={"help": "share of train that becomes dev where dev is missing"})
    text_limit: int = field(default=0, metadata={"help": "most unlabelled sentences to read; 0: all"})
    reviews: ReviewsConfig = field(default_factory=ReviewsConfig)

    def __post_init__(self) -> None:
        _at_least(3, self, "max_length")  # [CLS], a token, [SEP]
        _at_least(0, self, "text_limit")
        if not 0 < self.dev_fraction < 1:
            got, hint = str(self.dev_fraction), "dev_fraction=0.1"
            raise ConfigError(problem("dev_fraction", expected="a share between 0 and 1", got=got, hint=hint))


@dataclass(frozen=True)
class TeacherConfig:
    """The teacher: given (a BERT folder or an ONNX file), or made from scratch in the shape below."""

    path: str = field(default="", metadata={"help": "BERT folder or ONNX file; empty: train a small BERT"})
    finetune: bool = field(default=True, metadata={"help": "fine-tune on the task; false: the teacher is ready"})
    vocab_size: int = field(default=1000, metadata={"help": "most word pieces of a tokenizer made from scratch"})
    hidden_size: int = field(default=96, metadata={"help": "width of a teacher made from scratch"})
    layers: int = field(default=2, metadata={"help": "layers of a teacher made from scratch"})
    heads: int = field(default=4, metadata={"help": "attention heads of a teacher made from scratch"})
    mask_share: float = field(default=0.15, metadata={"help": "share of the tokens hidden in pretraining"})
    provider: Literal["cpu", "cuda"] = field(default="cpu", metadata={"help": "what runs the teacher's ONNX model"})
    threads: int = field(default=0, metadata={"help": "of ONNX Runtime; 0: one for each core"})
    cache_folder: str = field(default="", metadata={"help": "keeps the teacher's answers; empty: the user's cache"})
    cache_mb: int = field(default=2048, metadata={"help": "most room for that folder on the disk; 0: no cache"})
    pretraining: TrainConfig = field(default_factory=lambda: TrainConfig(steps=2400, batch_size=64, learning_rate=2e-3))
    finetuning: SelectedConfig = field(
        default_factory=lambda: SelectedConfig(steps=2000, batch_size=32, learning_rate=1e-3, schedule="linear")
    )

    def __post_init__(self) -> None:
        _at_least(7, self, "vocab_size")  # the five special tokens, and two to tell apart
        _at_least(1, self, "hidden_size", "layers", "heads")
        _at_least(0, self, "threads", "cache_mb")
        if self.hidden_size % self.heads:
            got = f"{self.heads} heads for width {self.hidden_size}"
            hint = f"heads={nearest_divisor(self.hidden_size, self.heads)}"
            raise ConfigError(problem("heads", expected="a divisor of hidden_size", got=got, hint=hint))
        if not 0 < self.mask_share <= 1:
            expected, got = "a share above 0, at most 1", str(self.mask_share)
            raise ConfigError(problem("mask_share", expected=expected, got=got, hint="mask_share=0.15"))


@dataclass(frozen=True)
class RunConfig:
    """One run of ``minispike distill``."""

    preset: str = field(default="tiny", metadata={"help": "the preset that this configuration began as"})
    seed: int = field(default=0, metadata={"help": "of everything random"})
    backend: str = field(default="numpy", metadata={"help": "numpy or cupy"})
    checkpoint_minutes: float = field(default=5.0, metadata={"help": "minutes between checkpoints"})
    start: Literal["teacher", "random"] = field(
        default="teacher", metadata={"help": "where the student's embeddings start: from the teacher's, or at random"}
    )
    direct: bool = field(default=True, metadata={"help": "train the same student directly too, for comparison"})
    data: DataConfig = field(default_factory=DataConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    student: SpikeBERTConfig = field(default_factory=SpikeBERTConfig)
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    stage1: Stage1Config = field(default_factory=Stage1Config)
    stage2: Stage2Config = field(default_factory=Stage2Config)

    def __post_init__(self) -> None:
        _at_least(0, self, "seed", "checkpoint_minutes")
        if self.backend not in backends():
            expected, hint = " or ".join(backends()), "--backend numpy"
            raise ConfigError(problem("backend", expected=expected, got=repr(self.backend), hint=hint))
        self._check_student()
        self._check_transfer()

    def _check_student(self) -> None:
        for name in ("vocab_size", "num_labels", "feature_dim", "embedding_dim"):
            if found := getattr(self.student, name):
                expected, hint = "0: a run takes it from the teacher and the data", f"student.{name}=0"
                raise ConfigError(problem(f"student.{name}", expected=expected, got=str(found), hint=hint))

    def _check_transfer(self) -> None:
        """Stage 2 reads transfer text if, and only if, there is some, and room for it."""
        passes, stage2 = self.augment.passes, self.stage2
        if stage2.labelled == 1 and passes:
            expected, hint = "0, since stage2.labelled=1 leaves no room for variants", "augment.passes=0"
            raise ConfigError(problem("augment.passes", expected=expected, got=str(passes), hint=hint))
        if stage2.labelled < 1 and not (passes or stage2.transfer):
            expected, hint = "true, or variants to read instead", "augment.passes=2 or stage2.labelled=1"
            raise ConfigError(problem("stage2.transfer", expected=expected, got="false", hint=hint))


def _tiny() -> RunConfig:
    """The built-in corpus, end to end in a few minutes on two cores: 2 blocks of width 128."""
    return RunConfig(
        preset="tiny",
        data=DataConfig(max_length=32),
        # Twice BERT's share of hidden words: more to learn from in each step (Wettig et al. 2022, arXiv 2202.08005).
        teacher=TeacherConfig(mask_share=0.3, pretraining=TrainConfig(steps=2000, batch_size=64, learning_rate=2e-3)),
        student=SpikeBERTConfig(
            dim=128, depth=2, heads=4, attention_scale=0.125, time_steps=2, max_length=32, threshold=0.5
        ),
        stage1=Stage1Config(steps=400, batch_size=32, learning_rate=4e-3),
        stage2=Stage2Config(
            steps=1000,
            batch_size=32,
            learning_rate=5e-3,
            evaluations=5,
            labelled=0.25,
            weights=LossWeights(features=5.0),
        ),
    )


def _mini() -> RunConfig:
    """Real data: 4 blocks of width 256. Two time steps, and twice the training steps that four would leave time for."""
    return RunConfig(
        preset="mini",
        data=DataConfig(max_length=64),
        teacher=TeacherConfig(
            finetuning=SelectedConfig(steps=864, batch_size=32, learning_rate=5e-5, schedule="linear", evaluations=8)
        ),
        student=SpikeBERTConfig(
            dim=256, depth=4, heads=8, attention_scale=0.125, time_steps=2, max_length=128, threshold=0.5
        ),
        augment=AugmentConfig(passes=8),
        stage1=Stage1Config(steps=600, batch_size=32, learning_rate=2e-3),
        stage2=Stage2Config(
            steps=3200,
            batch_size=32,
            learning_rate=2e-3,
            evaluations=20,
            labelled=0.25,
            weights=LossWeights(features=5.0),
        ),
    )


def _small() -> RunConfig:
    """Real data: 6 blocks of width 384, the shape of a 6-layer MiniLM."""
    student = replace(_mini().student, dim=384, depth=6, heads=12, attention_scale=0.125)
    return replace(_mini(), preset="small", student=student)


def _base() -> RunConfig:
    """The paper's size: 12 blocks of width 768. For a GPU, or a long weekend."""
    mini = _mini()
    return replace(
        mini,
        preset="base",
        data=DataConfig(max_length=128),
        student=replace(mini.student, dim=768, depth=12, heads=12, attention_scale=0.125, time_steps=4),
        stage1=replace(mini.stage1, steps=20000, learning_rate=5e-4),
        stage2=replace(mini.stage2, steps=20000, learning_rate=5e-4),
    )


def _reference() -> RunConfig:
    """The model, the losses and the data of the authors' program, every quirk by its name.

    No positions, padding that counts, layers aligned one early, a loss divided by the batch twice, decay of
    everything, random embeddings, no transfer text but augmented sentences, no warm-up, no clipping.

    What stays mended: dev selects, never test; weights load strictly; a batch is padded to its own longest
    sentence, not to the maximum length; the teacher's logits, not labels, teach augmented sentences.
    """
    base = _base()
    student = SpikeBERTConfig(
        dim=768, depth=12, heads=8, attention_scale=0.125, time_steps=4, tau=2.0, threshold=1.0,
        max_length=0, shift=0.0, mask_padding=False,
    )  # fmt: skip
    alignment = Alignment(reach="early", masked=False, per_batch=True)
    weights = LossWeights(features=0.1, embedding=0.1, logits=1.0, cross_entropy=0.1, temperature=1.0)
    stage2 = replace(base.stage2, weights=weights, weight_decay=5e-3, decay_all=True, transfer=False)
    return replace(
        base,
        preset="reference",
        start="random",
        student=student,
        stage1=replace(base.stage1, decay_all=True, warmup=0.0, clip=0.0, alignment=alignment),
        stage2=replace(stage2, warmup=0.0, clip=0.0, alignment=alignment),
        augment=AugmentConfig(passes=20),
    )


PRESETS: dict[str, Callable[[], RunConfig]] = {
    "tiny": _tiny, "mini": _mini, "small": _small, "base": _base, "reference": _reference
}  # fmt: skip
"""Configurations to start from, by name."""


def preset(name: str) -> RunConfig:
    """The configuration of a preset.

    Raises:
        ConfigError: there is no such preset.
    """
    if name not in PRESETS:
        expected = "one of " + ", ".join(PRESETS)
        raise ConfigError(problem("preset", expected=expected, got=repr(name), hint="--preset mini"))
    return PRESETS[name]()
