"""More sentences for the teacher to label: words masked, replaced and cut (Tang et al. 2019, arXiv 1903.12136).

The original replaces a word by another of the same part of speech, which takes a tagger. Here a word is replaced
by one that was seen between the same two neighbours somewhere in the training text: a class by distribution instead
of by grammar. A word whose neighbours were seen with no other stays.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from minispike.data.overlap import normalise
from minispike.errors import ConfigError, problem


@dataclass(frozen=True)
class AugmentConfig:
    """How sentences are varied; the probabilities are those of the paper."""

    passes: int = field(default=0, metadata={"help": "variants drawn of every training sentence"})
    mask: float = field(default=0.1, metadata={"help": "probability that a word becomes [MASK]"})
    replace: float = field(default=0.1, metadata={"help": "probability that a word is replaced"})
    ngram: float = field(default=0.25, metadata={"help": "probability that only 1 to 5 words in a row are kept"})

    def __post_init__(self) -> None:
        if self.passes < 0:
            raise ConfigError(problem("passes", expected="a number >= 0", got=str(self.passes), hint="passes=0"))
        for name in ("mask", "replace", "ngram"):
            if not 0 <= getattr(self, name) <= 1:
                got, hint = str(getattr(self, name)), f"{name}=0.1"
                raise ConfigError(problem(name, expected="a probability from 0 to 1", got=got, hint=hint))
        if self.mask + self.replace > 1:
            got = f"{self.mask} + {self.replace}"
            hint = "mask=0.1, replace=0.1"
            raise ConfigError(problem("mask + replace", expected="at most 1", got=got, hint=hint))


def augment(
    texts: Sequence[str], c: AugmentConfig, rng: np.random.Generator, held_out: Iterable[str] = ()
) -> list[str]:
    """Variants of the texts, without duplicates, the texts themselves, or anything equal to a held-out text.

    Args:
        texts: training sentences, words separated by spaces.
        c: probabilities and number of passes.
        rng: every choice comes from it.
        held_out: dev and test texts, which must not be made by accident.
    """
    words_between = _words_between(texts)
    seen = {normalise(t) for t in (*texts, *held_out)}
    out: list[str] = []
    for _ in range(c.passes):
        for text in texts:
            variant = _vary(text.split(), words_between, c, rng)
            key = normalise(variant)
            if key and key not in seen:
                seen.add(key)
                out.append(variant)
    return out


def _words_between(texts: Sequence[str]) -> dict[tuple[str, str], list[str]]:
    """For every pair of neighbours the words that stood between them, as often as they did."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for text in texts:
        words = ["<s>", *text.split(), "</s>"]
        for left, word, right in zip(words, words[1:], words[2:], strict=False):
            found[left, right].append(word)
    return found


def _vary(
    words: list[str], words_between: dict[tuple[str, str], list[str]], c: AugmentConfig, rng: np.random.Generator
) -> str:
    padded = ["<s>", *words, "</s>"]
    out = []
    for i, word in enumerate(words):
        dice = rng.random()
        if dice < c.mask:
            out.append("[MASK]")
        elif dice < c.mask + c.replace:
            others = words_between.get((padded[i], padded[i + 2]), [word])
            out.append(others[int(rng.integers(len(others)))])
        else:
            out.append(word)
    if out and rng.random() < c.ngram:
        n = int(rng.integers(1, 6))
        start = int(rng.integers(max(1, len(out) - n + 1)))
        out = out[start : start + n]
    return " ".join(out)
