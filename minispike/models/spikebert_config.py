"""The shape and the neurons of a SpikeBERT: every number that `minispike.models.spikebert` is built from."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal

from minispike.errors import ConfigError, problem
from minispike.snn.neurons import LIFNeuron
from minispike.snn.surrogate import SURROGATES


def _setting(default: Any, meaning: str) -> Any:
    return field(default=default, metadata={"help": meaning})


def nearest_divisor(number: int, wanted: int) -> int:
    """The divisor of ``number`` (>= 1) that is closest to ``wanted``; of two, the smaller.

    Example:
        >>> from minispike.models.spikebert_config import nearest_divisor
        >>> nearest_divisor(16, 3)
        2
    """
    return min((n for n in range(1, number + 1) if number % n == 0), key=lambda n: abs(n - wanted))


@dataclass(frozen=True)
class SpikeBERTConfig:
    """The shape and the neurons of a SpikeBERT; what each field means stands beside it.

    In a run's configuration `vocab_size`, `num_labels`, `feature_dim` and `embedding_dim` stay 0: the run takes
    them from the teacher and the data. The fields by which the default differs from the authors' program are
    ``max_length``, ``shift`` and ``mask_padding``; `reference` sets them as there.

    Raises:
        ConfigError: a number is out of its range, or the heads do not divide the width.

    Example:
        >>> from minispike.models.spikebert_config import SpikeBERTConfig
        >>> config = SpikeBERTConfig(dim=64, depth=2, heads=4)
        >>> config.max_length, config.shift, config.mask_padding
        (128, 0.25, True)
        >>> SpikeBERTConfig(dim=64, heads=12)
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: heads: expected a divisor of dim, got 12 heads for width 64; try heads=8
    """

    vocab_size: int = _setting(0, "rows V of the embedding table; set by the run")
    dim: int = _setting(256, "width D")
    depth: int = _setting(4, "number of blocks")
    heads: int = _setting(8, "attention heads; must divide dim")
    time_steps: int = _setting(4, "time steps T")
    num_labels: int = _setting(0, "classes C; set by the run")
    max_length: int = _setting(128, "rows of the position table; 0: no position information (the authors' program)")
    feature_dim: int = _setting(0, "width of the distilled hidden states, 0 for dim; set by the run")
    embedding_dim: int = _setting(0, "width that a learned projection maps the table to, 0: none; set by the run")
    shift: float = _setting(0.25, "share of channels read from the token before, and again after; 0: none (authors)")
    mlp_ratio: int = _setting(4, "hidden width of the feed-forward part, in units of dim")
    tau: float = _setting(2.0, "membrane time constant in time steps, >= 1")
    threshold: float = _setting(1.0, "firing threshold; attention's neurons have half of it")
    reset: Literal["hard", "soft"] = _setting("hard", "after a spike: to 0 (hard), or down by the threshold (soft)")
    detach_reset: bool = _setting(True, "the gradient ignores the spike in the reset")
    decay_input: bool = _setting(True, "the input is divided by tau too")
    surrogate: str = _setting("atan", "surrogate gradient: " + ", ".join(SURROGATES))
    alpha: float = _setting(0.0, "inverse width of the surrogate gradient; 0: its usual one")
    attention_scale: float = _setting(0.125, "factor on spiking attention (dimensionless)")
    mask_padding: bool = _setting(True, "padding is kept out of attention and mean; false: it counts (authors)")
    embedding_threshold: float = _setting(0.0, "where an embedded number becomes a spike")

    def __post_init__(self) -> None:
        if self.surrogate not in SURROGATES:
            expected = "one of " + ", ".join(SURROGATES)
            raise ConfigError(problem("surrogate", expected=expected, got=repr(self.surrogate), hint="'atan'"))
        if not 0 <= self.shift <= 0.5:
            got = str(self.shift)
            raise ConfigError(problem("shift", expected="a share from 0 to 0.5", got=got, hint="shift=0.25"))
        for name in ("dim", "depth", "heads", "time_steps", "mlp_ratio"):
            if getattr(self, name) < 1:
                got = str(getattr(self, name))
                raise ConfigError(problem(name, expected="a number >= 1", got=got, hint=f"{name}=4"))
        for name in ("vocab_size", "num_labels", "max_length", "feature_dim", "embedding_dim", "alpha"):
            if getattr(self, name) < 0:
                got = str(getattr(self, name))
                raise ConfigError(problem(name, expected="a number >= 0", got=got, hint=f"{name}=0"))
        if self.dim % self.heads:
            got = f"{self.heads} heads for width {self.dim}"
            hint = f"heads={nearest_divisor(self.dim, self.heads)}"
            raise ConfigError(problem("heads", expected="a divisor of dim", got=got, hint=hint))
        if not 0 < self.threshold < math.inf:
            got = str(self.threshold)
            raise ConfigError(problem("threshold", expected="a number > 0", got=got, hint="threshold=1.0"))
        if not 0 <= self.attention_scale < math.inf:  # 0: a network without attention
            expected, got = "a number >= 0", str(self.attention_scale)
            raise ConfigError(problem("attention_scale", expected=expected, got=got, hint="attention_scale=0.125"))
        for name in ("embedding_threshold", "alpha"):
            if not math.isfinite(getattr(self, name)):
                got = str(getattr(self, name))
                raise ConfigError(problem(name, expected="a finite number", got=got, hint=f"{name}=0.0"))
        if self.reset not in ("hard", "soft"):
            raise ConfigError(problem("reset", expected="hard or soft", got=repr(self.reset), hint="reset='hard'"))
        self.neuron()

    @classmethod
    def reference(
        cls,
        vocab_size: int,
        dim: int = 768,
        depth: int = 12,
        heads: int = 8,
        time_steps: int = 4,
        num_labels: int = 2,
        tau: float = 2.0,
        threshold: float = 1.0,
    ) -> "SpikeBERTConfig":
        """The model of the authors' program, quirks included: no positions, and padding like any token.

        Args:
            vocab_size: V, rows of the embedding table.
            dim, depth, heads: width D, blocks, and attention heads, which divide D.
            time_steps: T.
            num_labels: C, classes.
            tau: membrane time constant in time steps, > 1.
            threshold: of every neuron; half of it in attention.

        Raises:
            ConfigError: heads do not divide the width, or a number is out of its range.

        Example:
            >>> from minispike.models.spikebert_config import SpikeBERTConfig
            >>> config = SpikeBERTConfig.reference(vocab_size=28996)
            >>> config.max_length, config.shift, config.mask_padding
            (0, 0.0, False)
        """
        return cls(
            vocab_size, dim, depth, heads, time_steps, num_labels,
            max_length=0, shift=0.0, tau=tau, threshold=threshold, mask_padding=False,
        )  # fmt: skip

    def neuron(self, threshold: float | None = None) -> LIFNeuron:
        """The LIF neuron of this network, at its threshold or another.

        Args:
            threshold: in the unit of the input; None: that of the network.

        Example:
            >>> from minispike.models.spikebert_config import SpikeBERTConfig
            >>> config = SpikeBERTConfig(threshold=1.0)
            >>> config.neuron().threshold, config.neuron(config.threshold / 2).threshold  # the second is attention's
            (1.0, 0.5)
        """
        kind = SURROGATES[self.surrogate]
        return LIFNeuron(
            tau=self.tau,
            threshold=threshold or self.threshold,
            reset=0.0 if self.reset == "hard" else None,
            detach_reset=self.detach_reset,
            decay_input=self.decay_input,
            surrogate=kind(self.alpha) if self.alpha else kind(),
        )
