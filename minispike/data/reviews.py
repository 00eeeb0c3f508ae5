"""An embedded corpus: short reviews from a grammar of our own, in which word order decides the label.

The label of a sentence is the opinion its derivation began with (`minispike.data.review_grammar` says how):
it holds by construction and has no noise. What a reader, or a model, has to know is little, and nearly all of
it is about order:

- a negator turns round what follows: *not good*, *far from dull*, *hardly a gem*, *nobody could like this*;
- of two contrasted clauses the one after *but*, *yet*, *however* decides, or the one that *although*, *even
  though*, *despite* does not introduce;
- what the writer thinks decides, and thinks in the end: not a friend, an expectation or a first look;
- in a comparison *this* film, book, restaurant, hotel or show is reviewed, not the one it is compared with.

Nothing is negated twice, and nothing that a plain *not* would leave lukewarm (*not terrible*) is negated.

Most rules hold a symbol twice, once with each sign. Exchanging the two gives the `mirror` of a sentence: the
same words in another order, with the other label. The corpus takes in both, so that counting words (which
finds 62 to 68 % of the labels) cannot solve it. A small transformer can.
"""

import hashlib
import itertools
import math
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from typing import NamedTuple, TypeVar

import numpy as np

from minispike.data.review_grammar import CLAUSES, DOMAINS, Part, choices, grammar
from minispike.data.text import Examples
from minispike.errors import ConfigError, problem

__all__ = ["Derivation", "Reviews", "ReviewsConfig", "build_reviews", "derivations", "mirror", "template_of"]

_SHARES = {"test": 0.15, "dev": 0.20, "train": 1.0}  # where the share of each split ends
_MOST_ALIKE = 0.01  # of a part may share a template, for a few short ones would fill much of it
_MIN_WORDS, _MAX_WORDS = 4, 18
_MOST = 1_000_000
_PATIENCE = 40  # derivations to try for each sentence asked for, before the grammar counts as exhausted

_T = TypeVar("_T")
_Chance = Callable[[], float]


@dataclass(frozen=True)
class ReviewsConfig:
    """How much to write, at most a million sentences of a kind.

    Raises:
        ConfigError: a value is negative, or too large.

    Example:
        >>> from minispike.data.reviews import ReviewsConfig
        >>> ReviewsConfig(labelled=100, unlabelled=0)
        ReviewsConfig(seed=0, labelled=100, dev=1000, test=4000, unlabelled=0)
    """

    seed: int = field(default=0, metadata={"help": "fixes every sentence and every split of the built-in corpus"})
    labelled: int = field(default=4000, metadata={"help": "sentences of its training set"})
    dev: int = field(default=1000, metadata={"help": "sentences of its development set"})
    test: int = field(default=4000, metadata={"help": "sentences of its test set"})
    unlabelled: int = field(default=20000, metadata={"help": "its sentences without labels, from templates of train"})

    def __post_init__(self) -> None:
        for item in fields(self):
            value, most = getattr(self, item.name), math.inf if item.name == "seed" else _MOST
            if not 0 <= value <= most:
                expected, hint = "0 or more" if value < 0 else f"at most {most}", f"{item.name}={item.default}"
                raise ConfigError(problem(item.name, expected=expected, got=str(value), hint=hint))


@dataclass(frozen=True, eq=False)
class Reviews:
    """The corpus: each part is half positive, no sentence occurs twice, and no template in two of the splits.

    Attributes:
        train: labelled sentences to learn from; labels [N] int64, 0 negative and 1 positive.
        dev: labelled sentences, of templates that only they have.
        test: labelled sentences, of templates that only they have.
        unlabelled: more sentences of the templates of ``train``.
        label_names: ``("negative", "positive")``.

    Example:
        >>> from minispike.data.reviews import ReviewsConfig, build_reviews, template_of
        >>> reviews = build_reviews(ReviewsConfig(labelled=200, dev=20, test=20, unlabelled=0))
        >>> templates = [{template_of(text) for text in part.texts} for part in (reviews.train, reviews.test)]
        >>> templates[0] & templates[1]  # the test asks for sentences of another make
        set()
    """

    train: Examples
    dev: Examples
    test: Examples
    unlabelled: tuple[str, ...]
    label_names: tuple[str, ...] = ("negative", "positive")


class Derivation(NamedTuple):
    """A symbol of the grammar and what it became: a sentence, if the symbol is the first one, ``REVIEW``.

    Attributes:
        symbol: the symbol that was rewritten.
        positive: the opinion it took on.
        parts: what it became, in order: words, and the derivations of other symbols.

    Example:
        >>> from minispike.data.reviews import Derivation
        >>> adjective = Derivation("ADJ", True, ("excellent",))
        >>> Derivation("PLAIN", True, ("this", "film", "is", "a", adjective, "one")).text
        'this film is an excellent one'
    """

    symbol: str
    positive: bool
    parts: "tuple[str | Derivation, ...]"

    def words(self) -> list[str]:
        """The words and punctuation marks, from left to right."""
        found: list[str] = []
        for part in self.parts:
            found += [part] if isinstance(part, str) else part.words()
        return found

    @property
    def text(self) -> str:
        """The words, separated by spaces, with *an* for *a* before a vowel."""
        words = self.words()
        for i, following in enumerate(words[1:]):
            if words[i] == "a" and following[0] in "aeiou":
                words[i] = "an"
        return " ".join(words)


_DEFAULTS = ReviewsConfig()


def build_reviews(config: ReviewsConfig = _DEFAULTS) -> Reviews:
    """Write the corpus: about a second for the default sizes, and the same text each time.

    Templates go to train, dev or test (80, 5 and 15 %) by a hash of seed and template, each with its mirror
    image. Unlabelled text is of the templates of train.

    Args:
        config: how much of each part, and the seed; default `ReviewsConfig` as it is.

    Raises:
        ConfigError: more sentences are asked for than the grammar readily gives.

    Example:
        >>> from minispike.data.reviews import ReviewsConfig, build_reviews
        >>> reviews = build_reviews(ReviewsConfig(labelled=100, dev=10, test=10, unlabelled=10))
        >>> len(reviews.train), int(reviews.train.labels.sum())  # half of them are positive
        (100, 50)
    """
    sizes = {"train": config.labelled, "unlabelled": config.unlabelled}
    sizes |= {"dev": config.dev, "test": config.test}
    room = {(part, label): (size + label) // 2 for part, size in sizes.items() for label in (0, 1)}
    rows: dict[str, list[tuple[str, int]]] = {part: [] for part in sizes}
    missing, seen, alike = sum(sizes.values()), set[str](), Counter[tuple[str, str]]()
    for derivation in itertools.islice(derivations(config.seed), _PATIENCE * (missing + 100)):
        if not missing:
            break
        image = mirror(derivation)
        pair = [derivation] if image is None else [derivation, image]
        twins = [(twin.text, int(twin.positive)) for twin in pair]
        template = min(template_of(text) for text, _ in twins)
        split = _split_of(template, config.seed)
        for text, label in twins:
            part = "unlabelled" if split == "train" and not room["train", label] else split
            letters = "".join(filter(str.isalpha, text))  # two texts that differ in punctuation alone are one
            common = alike[part, template] >= _MOST_ALIKE * sizes[part]
            if room[part, label] and letters not in seen and not common:
                alike[part, template] += 1
                rows[part].append((text, label))
                seen.add(letters)
                room[part, label] -= 1
                missing -= 1
    if missing:
        got = ", ".join(f"{len(rows[part])} {part}" for part in sizes)
        raise ConfigError(problem("reviews", expected=str(config), got=got, hint="fewer sentences"))
    train, unlabelled, dev, test = (_shuffled(rows[part], config.seed) for part in sizes)
    return Reviews(train, dev, test, unlabelled.texts)


def derivations(seed: int = 0) -> Iterator[Derivation]:
    """Derive sentences of 4 to 18 words without end, a positive and a negative one in turn.

    Args:
        seed: fixes all of them; default 0.

    Example:
        >>> import itertools
        >>> from minispike.data.reviews import derivations
        >>> [derivation.positive for derivation in itertools.islice(derivations(seed=0), 4)]
        [True, False, True, False]
    """
    chance = _chances(seed)
    for positive in itertools.cycle((True, False)):
        fits = False
        while not fits:
            derivation = _Writer(chance).derive("REVIEW", positive)
            fits = _MIN_WORDS <= sum(map(str.isalpha, derivation.words())) <= _MAX_WORDS
        yield derivation


def mirror(derivation: Derivation) -> Derivation | None:
    """Exchange two parts that have one symbol and opposite opinions: the same words, the other label.

    Args:
        derivation: of a sentence, or of a part of one.

    Returns:
        The other sentence; ``None`` if no two such parts stand side by side.

    Example:
        >>> from minispike.data.reviews import Derivation, mirror
        >>> dull, clever = Derivation("BRIEF", False, ("dull",)), Derivation("BRIEF", True, ("clever",))
        >>> contrast = Derivation("CONTRAST", True, (dull, "but", clever))
        >>> image = mirror(contrast)
        >>> (contrast.text, contrast.positive), (image.text, image.positive)
        (('dull but clever', True), ('clever but dull', False))
    """
    parts = list(derivation.parts)
    branches = [(i, part) for i, part in enumerate(parts) if isinstance(part, Derivation)]
    for (i, first), (j, second) in itertools.combinations(branches, 2):
        if first.symbol == second.symbol and first.positive != second.positive:
            parts[i], parts[j] = second, first
            return Derivation(derivation.symbol, not derivation.positive, tuple(parts))
    for i, branch in branches:
        if (image := mirror(branch)) is not None:
            parts[i] = image
            return Derivation(derivation.symbol, not derivation.positive, tuple(parts))
    return None


def template_of(text: str) -> str:
    """The derivation with its words masked: the name of the symbol for each word that a symbol became.

    What is left are the words of the rules: negators, conjunctions, the structure. Punctuation goes.

    Args:
        text: of the corpus: words and marks with spaces between them.

    Example:
        >>> from minispike.data.reviews import template_of
        >>> template_of("although its plot is dull , the cast saves this film .")
        'although its PART BE ADJ the PART SAVE this THING'
    """
    masks = grammar().masks
    return " ".join([masks.get(word, word) for word in text.split() if word.isalpha()])


def _split_of(template: str, seed: int) -> str:
    digest = hashlib.blake2b(f"{seed} {template}".encode(), digest_size=8).digest()
    position = int.from_bytes(digest, "big") / 2**64
    return next(split for split, end in _SHARES.items() if position < end)


def _shuffled(rows: list[tuple[str, int]], seed: int) -> Examples:
    # A sentence and its mirror image are written one after the other; no reader should meet them in pairs.
    order = np.random.default_rng([seed, len(rows)]).permutation(len(rows))
    labels = np.array([label for _, label in rows], dtype=np.int64)
    return Examples(tuple(rows[i][0] for i in order), labels[order])


def _chances(seed: int) -> _Chance:
    """A function that returns the next number from [0, 1). Drawn in blocks, for a draw of one is slow."""
    rng = np.random.default_rng([seed, int.from_bytes(b"reviews", "big")])
    blocks: Iterator[list[float]] = (rng.random(4096).tolist() for _ in itertools.count())
    return itertools.chain.from_iterable(blocks).__next__


class _Writer:
    """Writes one sentence, and knows what holds for all of it: domain, tense, the words that are taken."""

    def __init__(self, chance: _Chance) -> None:
        self.chance = chance
        self.domain = self.pick(tuple(DOMAINS))
        self.whole = Part(self.pick(choices("THING", "", self.domain)), DOMAINS[self.domain], False)
        self.past = chance() < 0.4
        self.used: set[str] = set()
        self.topic = self.whole

    def pick(self, options: Sequence[_T]) -> _T:
        """One of the options, each as likely."""
        return options[int(self.chance() * len(options))]

    def derive(self, name: str, positive: bool, sign: str = "") -> Derivation:
        """Rewrite a symbol until only words are left."""
        known = grammar().rules
        rule = known.get(name) or known.get(name + sign)
        if rule is None:
            return Derivation(name, positive, (self.word(name, sign),))
        if name in CLAUSES:
            parts = grammar().parts[self.domain]
            self.topic = self.pick([part for part in parts if part.noun not in self.used])
        elif name == "WHOLE":
            self.topic = self.whole
        sums, productions = rule
        found: list[str | Derivation] = []
        for item in productions[bisect(sums, self.chance() * sums[-1])]:
            if isinstance(item, str):
                found.append(item)
            else:
                opinion = positive if item.sign != "-" else not positive
                found.append(self.derive(item.name, opinion, item.sign and "-+"[opinion]))
        return Derivation(name, positive, tuple(found))

    def word(self, name: str, sign: str) -> str:
        """A word for a symbol that agrees with the topic, new to the sentence if there is a choice."""
        if name == "THING":
            return self.whole.noun
        if name == "PART":
            self.used.add(self.topic.noun)
            return self.topic.noun
        options = choices(name + sign, self.topic.kind, self.domain)
        word = self.pick([option for option in options if option not in self.used] or options)
        self.used.add(word)
        if "/" not in word:
            return word
        forms = word.split("/")
        form = 0 if name in ("SAVE", "FEEL") else 2 * self.past + (not self.topic.plural)
        return forms[min(form, len(forms) - 1)]
