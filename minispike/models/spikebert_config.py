"""The shape and the neurons of a SpikeBERT: every number that `minispike.models.spikebert` is built from."""

from dataclasses import dataclass

from minispike.errors import ConfigError, problem
from minispike.snn.neurons import LIFNeuron
from minispike.snn.surrogate import SURROGATES


@dataclass(frozen=True)
class SpikeBERTConfig:
    """The shape and the neurons of a SpikeBERT.

    Args:
        vocab_size: V, rows of the embedding table; 0 in a run's configuration: that of the teacher.
        dim: D, width.
        depth: number of blocks.
        heads: attention heads; must divide ``dim``.
        time_steps: T.
        num_labels: C, classes; 0 in a run's configuration: that of the data.
        max_length: rows of the position table; 0: no position information, as in the reference.
        feature_dim: width of the features that are distilled; 0: that of the teacher (or ``dim``).
        shift: share of the channels that both halves of a block read from the token before, and again from the
            token after (see `minispike.snn.shift`); 0: none, as in the reference.
        mlp_ratio: hidden width of the feed-forward part, in units of ``dim``.
        tau: membrane time constant in time steps.
        threshold: firing threshold; attention's neurons have half of it.
        surrogate, alpha: surrogate gradient, by its name in `SURROGATES`, and its inverse width.
        attention_scale: factor on spiking attention (dimensionless).
        mask_padding: padding does not spike into attention and the mean; the reference lets it.
        embedding_threshold: where an embedded number becomes a spike.
    """

    vocab_size: int = 0
    dim: int = 256
    depth: int = 4
    heads: int = 8
    time_steps: int = 4
    num_labels: int = 0
    max_length: int = 128
    feature_dim: int = 0
    shift: float = 0.25
    mlp_ratio: int = 4
    tau: float = 2.0
    threshold: float = 1.0
    surrogate: str = "atan"
    alpha: float = 2.0
    attention_scale: float = 0.125
    mask_padding: bool = True
    embedding_threshold: float = 0.0

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
        for name in ("vocab_size", "num_labels", "max_length", "feature_dim"):
            if getattr(self, name) < 0:
                got = str(getattr(self, name))
                raise ConfigError(problem(name, expected="a number >= 0", got=got, hint=f"{name}=0"))
        if self.dim % self.heads:
            got = f"{self.heads} heads for width {self.dim}"
            raise ConfigError(problem("heads", expected="a divisor of dim", got=got, hint="heads=4"))
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
        """The model of the authors' program, quirks included: no positions, and padding like any token."""
        return cls(
            vocab_size, dim, depth, heads, time_steps, num_labels,
            max_length=0, shift=0.0, tau=tau, threshold=threshold, mask_padding=False,
        )  # fmt: skip

    def neuron(self, threshold: float | None = None) -> LIFNeuron:
        """The LIF neuron of this network, at its threshold or another."""
        surrogate = SURROGATES[self.surrogate](self.alpha)
        return LIFNeuron(tau=self.tau, threshold=threshold or self.threshold, surrogate=surrogate)
