"""More text for the teacher to label: words masked, replaced and cut (Tang et al. 2019, arXiv 1903.12136).

The original replaces a word by another of the same part of speech, which takes a tagger. Here a word is replaced
by one that was seen between the same two neighbours somewhere in the training text: a class by distribution instead
of by grammar, which asks nothing of the language. A word whose neighbours were seen with no other stays.

What a word is, each text says itself. One with Chinese characters has no spaces to go by: there every such
character is a word, as in BERT's own tokenizer, and so is every run of other letters and digits, and every mark.
A character is then replaced by one seen between the same two characters, and a piece of 1 to 5 words is one of 1 to
5 characters. Any other text is cut at its spaces. White space stays as it was: none is put between characters.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from minispike.data.overlap import normalise
from minispike.data.text import Examples
from minispike.errors import ConfigError, problem

_CJK = (  # what BERT's tokenizer takes for Chinese characters: the blocks of ideographs, no kana and no hangul
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
    "\U00020000-\U0002a6df\U0002a700-\U0002b73f\U0002b740-\U0002b81f\U0002b820-\U0002ceaf\U0002f800-\U0002fa1f"
)
_HAS_CJK = re.compile(f"[{_CJK}]")
_CHARACTERS = re.compile(rf"(\s*)([{_CJK}]|[^\W{_CJK}]+|[^\w\s])")
_SPACED = re.compile(r"(\s*)(\S+)")

Words = Sequence[tuple[str, str]]
"""The words of a text, each behind the white space before it: joined, they are the text."""


@dataclass(frozen=True)
class AugmentConfig:
    """How sentences are varied; the probabilities are those of Tang et al. 2019.

    Raises:
        ConfigError: a probability is not within 0 and 1, those of one word add up to more, or passes are negative.

    Example:
        >>> from minispike.distill.augment import AugmentConfig
        >>> AugmentConfig(mask=0.6, replace=0.6)
        Traceback (most recent call last):
            ...
        minispike.errors.ConfigError: mask + replace: expected at most 1, got 0.6 + 0.6; try mask=0.1, replace=0.1
    """

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
    examples: Examples, c: AugmentConfig, rng: np.random.Generator, held_out: Iterable[Examples] = ()
) -> Examples:
    """Variants of the examples, without duplicates, the examples themselves, or anything equal to a held-out one.

    Of a pair, each text is varied by itself, and the variants make a pair. Pairs are compared as pairs: two of them
    are equal if both texts are.

    Args:
        examples: training texts or pairs; labels have no part in it.
        c: probabilities and number of passes.
        rng: every choice comes from it.
        held_out: dev and test, texts or pairs like ``examples``, which must not be made by accident.

    Returns:
        Unlabelled texts, or pairs if ``examples`` are pairs.

    Example:
        >>> import numpy as np
        >>> from minispike.data.text import Examples
        >>> from minispike.distill.augment import AugmentConfig, augment
        >>> reviews = Examples(("a fine film", "a dull film", "a fine plot"))
        >>> config = AugmentConfig(passes=20, mask=0.0, replace=1.0, ngram=0.0)
        >>> augment(reviews, config, np.random.default_rng(0)).texts  # what is not there yet
        ('a dull plot',)
    """
    sources = [tuple(map(split_words, example)) for example in _rows(examples)]
    words_between = _words_between(words for source in sources for words in source)
    seen = {_key(example) for part in (examples, *held_out) for example in _rows(part)}
    out: list[tuple[str, ...]] = []
    for _ in range(c.passes):
        for source in sources:
            variant = tuple(_vary(words, words_between, c, rng) for words in source)
            key = _key(variant)
            if all(key) and key not in seen:
                seen.add(key)
                out.append(variant)
    first, *second = zip(*out, strict=True) if out else [()] * len(_sides(examples))
    return Examples(first, None, second[0] if second else None)


def split_words(text: str) -> Words:
    """The words of a text and the white space before each: characters where there are Chinese ones.

    Example:
        >>> from minispike.distill.augment import split_words
        >>> split_words("a fine film")
        [('', 'a'), (' ', 'fine'), (' ', 'film')]
        >>> split_words("12点到 BUS站,好")
        [('', '12'), ('', '点'), ('', '到'), (' ', 'BUS'), ('', '站'), ('', ','), ('', '好')]
    """
    return (_CHARACTERS if _HAS_CJK.search(text) else _SPACED).findall(text)


def _sides(examples: Examples) -> tuple[tuple[str, ...], ...]:
    return (examples.texts,) if examples.pairs is None else (examples.texts, examples.pairs)


def _rows(examples: Examples) -> Iterable[tuple[str, ...]]:
    """Each example as its one text or its two."""
    return zip(*_sides(examples), strict=True)


def _key(example: Iterable[str]) -> tuple[str, ...]:
    """What two examples share that count as the same."""
    return tuple(map(normalise, example))


def _words_between(texts: Iterable[Words]) -> dict[tuple[str, str], list[str]]:
    """For every pair of neighbours the words that stood between them, as often as they did."""
    found: dict[tuple[str, str], list[str]] = defaultdict(list)
    for text in texts:
        words = _bounded(text)
        for left, word, right in zip(words, words[1:], words[2:], strict=False):
            found[left, right].append(word)
    return found


def _bounded(words: Words) -> list[str]:
    """The words with the ends of the text as neighbours of the first and the last."""
    return ["<s>", *(word for _, word in words), "</s>"]


def _vary(
    words: Words, words_between: Mapping[tuple[str, str], Sequence[str]], c: AugmentConfig, rng: np.random.Generator
) -> str:
    around = _bounded(words)
    out = []
    for i, (space, word) in enumerate(words):
        dice = rng.random()
        if dice < c.mask:
            out.append(space + "[MASK]")
        elif dice < c.mask + c.replace:
            others = words_between.get((around[i], around[i + 2]), [word])
            out.append(space + others[int(rng.integers(len(others)))])
        else:
            out.append(space + word)
    if out and rng.random() < c.ngram:
        n = int(rng.integers(1, 6))
        start = int(rng.integers(max(1, len(out) - n + 1)))
        out = out[start : start + n]
    return "".join(out).strip()
