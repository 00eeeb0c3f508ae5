"""The grammar of the embedded reviews, as plain text, and its parser.

A word in capitals is a symbol. The sign after it says which opinion it takes on: ``+`` that of the rule it stands
in, ``-`` the opposite one. So ::

    CONTRAST: although BRIEF- , BRIEF+

reads "a positive contrast is *although*, a negative clause, a comma, a positive clause" and in the same breath the
same with both opinions turned round.
"""

import itertools
import re
from functools import cache
from typing import NamedTuple

__all__ = ["CLAUSES", "DOMAINS", "Grammar", "Part", "Symbol", "grammar"]

# `SYMBOL: weight production | ...`, the weight being 1 where none is written. `ITEM+` and `ITEM-` differ in more
# than their words, so each has rules of its own.
_RULES = """
REVIEW: 8 STATEMENT+ . | 4 FRONT STATEMENT+ . | 5 VIEW STATEMENT+ . | 4 STATEMENT+ , BACK . | 2 PERSONAL+ .
    | 3 SETTING . STATEMENT+ . | SETTING . VIEW STATEMENT+ . | 3 FRONT PERSONAL+ . | 2 SETTING . PERSONAL+ .
FRONT: 4 MANNER , | 2 to be HONEST , | 2 i must say that | in all HONESTY ,
VIEW: 3 in my OPINION , | 3 i THINK that | 2 if you ask me , | for me , | my FRIEND and i THINK that
BACK: 2 i THINK | if you ask me | in my OPINION | to be HONEST
SETTING: i SAW it on DAY | we SAW it on DAY | i SAW it with my FRIEND | we SAW it with my FRIEND
    | my FRIEND and i SAW it | i SAW it last SEASON | we SAW it last SEASON
STATEMENT: 40 PLAIN+ | 8 NEGATED+ | 8 CONTRAST+ | 2 CORRECTION+ | 4 COMPARISON+ | 8 AGREEMENT+ | LOOK+
PERSONAL: 10 LIKING+ | 4 DISLIKING+ | 3 CHANGE+ | 3 PREFERENCE+

SUBJECT: 5 the PART | 2 its PART | 2 the PART in this THING | the PART here | 4 WHOLE
TOPIC: 6 the PART | 2 its PART | the PART here
WHOLE: 3 this THING | this MODIFIER THING

PLAIN: 5 SUBJECT BE ADJ+ | 3 SUBJECT BE DEGREE MILD+ | 2 SUBJECT FEELS ADJ+ | SUBJECT FEELS DEGREE MILD+
    | 2 SUBJECT BE full of QUALITY+ | SUBJECT HAVE real QUALITY+ | 3 the PART SAVES+ WHOLE | 3 WHOLE IS a NOUN+
    | WHOLE IS a real NOUN+ | 2 WHOLE IS a ADJ+ one | WHOLE IS a DEGREE MILD+ one | 2 it is easy to LOVE+ WHOLE
    | everyone should PRAISE+ WHOLE
NEGATED: 8 SUBJECT BE DENIAL MILD- | 2 SUBJECT never FEELS MILD- | SUBJECT DO not FEEL MILD-
    | SUBJECT DO not FEEL at all MILD- | 2 there is nothing MILD- about TOPIC | 2 SUBJECT HAVE no QUALITY-
    | SUBJECT HAVE hardly any QUALITY- | nobody would call SUBJECT MILD- | 2 the PART cannot SAVE- WHOLE
    | 2 even the ADJ- PART cannot SAVE- WHOLE | 3 WHOLE IS DENIAL a NOUN- | WHOLE IS no NOUN-
    | WHOLE IS not a MILD- one | nobody could LOVE- WHOLE | 2 it is hard to LOVE- WHOLE
    | it is impossible to LOVE- WHOLE | nobody should PRAISE- WHOLE | it would be wrong to PRAISE- WHOLE
DENIAL: 4 NOT | not at all | anything but | by no means | in no way
NOT: 4 not | 3 never | 2 hardly | far from

CONTRAST: 2 BRIEF- but BRIEF+ | 2 BRIEF- , yet BRIEF+ | BRIEF- ; still , BRIEF+ | BRIEF- ; however , BRIEF+
    | 2 although BRIEF- , BRIEF+ | though BRIEF- , BRIEF+ | even though BRIEF- , BRIEF+ | while BRIEF- , BRIEF+
    | 2 BRIEF+ , although BRIEF- | BRIEF+ , though BRIEF- | BRIEF+ even though BRIEF-
    | 2 BOOST- part of it but BOOST+ the whole THING | although BOOST- part of it , BOOST+ the whole THING
    | BOOST+ the whole THING although BOOST- part of it | 2 CONCESSION- but VERDICT+ | CONCESSION- , yet VERDICT+
    | CONCESSION- ; still , VERDICT+ | although CONCESSION- , VERDICT+ | even though CONCESSION- , VERDICT+
    | VERDICT+ , although CONCESSION- | VERDICT+ even though CONCESSION- | despite DRAWBACK- , VERDICT+
    | VERDICT+ despite DRAWBACK-
BRIEF: 6 TOPIC BE MILD+ | 4 TOPIC BE NOT TRAIT- | TOPIC FEELS MILD+ | TOPIC never FEELS TRAIT-
    | TOPIC HAVE some QUALITY+ | TOPIC HAVE no QUALITY-
BOOST: the PART SAVES+
CONCESSION: 3 BRIEF+ | TOPIC BE MODERATE MILD+
DRAWBACK: 3 the MILD+ PART | its MILD+ PART
VERDICT: 3 WHOLE IS ADJ+ | WHOLE IS INTENSE MILD+ | 2 WHOLE IS a NOUN+ | 2 WHOLE IS NOT TRAIT- | WHOLE IS NOT a NOUN-
    | WHOLE HAVE no QUALITY- | 2 i LOVED+ WHOLE

CORRECTION: 3 SUBJECT BE not TRAIT- but TRAIT+ | 2 SUBJECT BE TRAIT+ , not TRAIT-
    | 2 SUBJECT BE more TRAIT+ than TRAIT- | SUBJECT BE TRAIT+ rather than TRAIT-
    | 2 SUBJECT BE never TRAIT- and always TRAIT+ | SUBJECT BE always TRAIT+ and never TRAIT-
    | 2 WHOLE IS not a NOUN- but a NOUN+ | WHOLE IS a NOUN+ , not a NOUN- | WHOLE IS a NOUN+ rather than a NOUN-
    | WHOLE IS less a NOUN- than a NOUN+
LOOK: WHOLE looked TRAIT- but it IS TRAIT+ | WHOLE IS TRAIT+ , although it looked TRAIT-
    | although WHOLE looked TRAIT- , it IS TRAIT+ | WHOLE IS TRAIT+ even though it sounded TRAIT-
    | WHOLE sounded TRAIT- , yet it IS TRAIT+
AGREEMENT: 3 BRIEF+ and BRIEF+ | BRIEF+ ; besides , BRIEF+ | 2 VERDICT+ because BRIEF+ | BRIEF+ , so VERDICT+

COMPARISON: 3 ITEM+ IS BETTER than ITEM- | 2 ITEM+ IS MUCH BETTER than ITEM- | 3 ITEM- IS WORSE than ITEM+
    | 2 ITEM- IS MUCH WORSE than ITEM+ | 2 ITEM- IS not as GOOD as ITEM+ | ITEM- IS not nearly as GOOD as ITEM+
    | ITEM+ BEATS ITEM- | ITEM+ easily BEATS ITEM- | ITEM- cannot MATCH ITEM+
    | compared with ITEM- , ITEM+ IS GOOD | compared with ITEM+ , ITEM- IS BAD | nobody would PICK ITEM- over ITEM+
    | everyone would PICK ITEM+ over ITEM-
PREFERENCE: 3 i LIKED ITEM+ more than ITEM- | 2 i LIKED ITEM- less than ITEM+ | 2 i prefer ITEM+ to ITEM-
    | 2 i would PICK ITEM+ over ITEM- | i would rather PICK ITEM+ than ITEM- | i would never PICK ITEM- over ITEM+
ITEM+: 4 this THING | this MODIFIER THING
ITEM-: 3 the RIVAL | 2 the RANK one | the RANK THING

CHANGE: 2 i expected a NOUN- but got a NOUN+ | instead of a NOUN- , i got a NOUN+ | i got a NOUN+ instead of a NOUN-
    | i expected WHOLE to be TRAIT- but it was TRAIT+ | at first WHOLE was TRAIT- but later it was TRAIT+
    | at first i LOVED- WHOLE but later i LOVED+ it | my FRIEND LOVED- WHOLE but i LOVED+ it
    | although my FRIEND LOVED- WHOLE , i LOVED+ it | i LOVED+ WHOLE although my FRIEND LOVED- it
LIKING: 3 i LOVED+ WHOLE | i really LOVED+ WHOLE | we both LOVED+ WHOLE | 2 i found SUBJECT ADJ+
    | i found SUBJECT DEGREE MILD+ | i would PRAISE+ WHOLE | i would call SUBJECT ADJ+
DISLIKING: 2 i did not find SUBJECT MILD- | i never found SUBJECT MILD- | 2 i would not call SUBJECT MILD-
    | i would hardly call SUBJECT MILD- | 2 i could not LOVE- WHOLE | we could not LOVE- WHOLE
    | 2 i would not PRAISE- WHOLE | i would never PRAISE- WHOLE
"""

# `SYMBOL ... [context ...]: word ...`: the words that each of the symbols may become, in these contexts only. The
# first symbol is the name under which a template hides the word. Forms are plural/singular, then the past.
_WORDS = """
ADJ+: superb excellent wonderful brilliant splendid
ADJ-: awful terrible dreadful horrible miserable
ADJ+ MILD+ GOOD: good great impressive pleasant
ADJ- MILD- BAD: bad poor mediocre disappointing
ADJ+ MILD+ TRAIT+ story: gripping clever charming touching funny
ADJ- MILD- TRAIT- story: dull boring clumsy shallow tedious
ADJ+ MILD+ TRAIT+ craft: lively graceful polished
ADJ- MILD- TRAIT- craft: lifeless flat sloppy
ADJ+ MILD+ TRAIT+ food: delicious tasty fresh
ADJ- MILD- TRAIT- food: bland stale greasy
ADJ+ MILD+ TRAIT+ service: friendly polite attentive helpful
ADJ- MILD- TRAIT- service: rude slow careless grumpy
ADJ+ MILD+ TRAIT+ place: clean cosy bright stylish
ADJ- MILD- TRAIT- place: dirty noisy shabby gloomy
QUALITY+ story: charm wit depth
QUALITY+ craft: energy grace charm
QUALITY+ food: flavour spice
QUALITY+ service: warmth charm
QUALITY+ place: style charm warmth
QUALITY-: flaws faults weaknesses
QUALITY- story: cliches
NOUN+: gem masterpiece delight joy treat triumph success
NOUN-: bore chore failure mess letdown flop mistake
LOVED+ LIKED: loved liked enjoyed admired
LOVED-: hated disliked despised resented
LOVE+: love like enjoy admire
LOVE-: hate dislike despise fault
PRAISE+: recommend praise revisit celebrate
PRAISE-: avoid skip shun
SAVE+ SAVES+: save/saves/saved carry/carries/carried lift/lifts/lifted improve/improves/improved
SAVE- SAVES-: ruin/ruins/ruined spoil/spoils/spoiled hurt/hurts/hurt sink/sinks/sank
DEGREE INTENSE: very really truly so
DEGREE MODERATE: quite rather fairly
BETTER: better finer nicer
WORSE: worse weaker poorer
MUCH: much far clearly
BEATS: beats outshines surpasses tops
MATCH: match equal rival
PICK: choose pick
BE: are/is/were/was
IS: is/is/was/was
HAVE: have/has/had
DO: do/does/did
FEEL FEELS story craft: feel/feels/felt
FEEL FEELS food: taste/tastes/tasted
FEEL FEELS service: seem/seems/seemed
FEEL FEELS place: look/looks/looked
MANNER: honestly frankly overall personally certainly
HONEST: honest frank fair clear
HONESTY: honesty fairness
OPINION: opinion view eyes
THINK: think believe feel find
FRIEND: sister brother mother father cousin neighbour
DAY: monday tuesday friday saturday sunday
SEASON: week month summer winter
MODIFIER: new famous french small modern
RANK: first last other old
SAW film show: saw watched
SAW book: read finished
SAW restaurant hotel: visited tried
THING film: film movie thriller drama comedy
THING book: book novel memoir mystery
THING restaurant: restaurant diner bistro cafe
THING hotel: hotel hostel inn resort
THING show: show musical opera revue
RIVAL film book: original prequel sequel
RIVAL show: original premiere
RIVAL restaurant: tavern canteen
RIVAL hotel: motel campsite
PART film story: plot script dialogue ending
PART film craft: acting cast music direction
PART book story: plot dialogue ending characters*
PART book craft: prose writing
PART restaurant food: soup pasta salad desserts*
PART restaurant service: service staff waiters*
PART restaurant place: room terrace
PART hotel food: breakfast buffet
PART hotel service: staff manager
PART hotel place: rooms* lobby bathroom garden
PART show story: plot jokes*
PART show craft: singing dancing songs* orchestra
"""

DOMAINS = {"film": "story", "book": "story", "restaurant": "place", "hotel": "place", "show": "story"}
"""What is reviewed, and the kind of words that suit it as a whole."""

CLAUSES = frozenset(
    "PLAIN NEGATED BRIEF BOOST CONCESSION DRAWBACK VERDICT CORRECTION LOOK CHANGE LIKING DISLIKING".split()
)
"""The symbols that begin to speak of something else: their words agree with it in kind and number."""


class Symbol(NamedTuple):
    """A symbol in a production, with its sign: ``+``, ``-``, or nothing if its words have no opinion."""

    name: str
    sign: str


class Part(NamedTuple):
    """A part of what is reviewed: its noun, the kind of words that suit it, and its number."""

    noun: str
    kind: str
    plural: bool


class Grammar:
    """The rules and words, parsed.

    Attributes:
        rules: for each symbol (``CONTRAST``, or ``ITEM+`` if its rules depend on the opinion) the running sums of the
            weights, and the productions: words and symbols.
        parts: for each domain, what can be said to be good or bad about it.
        masks: for each word that a symbol may become, the name under which a template hides it.
    """

    def __init__(self) -> None:
        self.rules: dict[str, tuple[list[int], list[tuple[str | Symbol, ...]]]] = {}
        self.parts: dict[str, list[Part]] = {}
        self.masks: dict[str, str] = {}
        self._words: dict[tuple[str, str], list[str]] = {}
        for rule in re.split(r"\n(?! )", _RULES.strip().replace("\n\n", "\n")):
            name, _, body = rule.partition(":")
            lines = [re.findall(r"^\d+|\S+", line.strip()) for line in body.split("|")]
            weights = [int(line.pop(0)) if line[0].isdigit() else 1 for line in lines]
            self.rules[name] = list(itertools.accumulate(weights)), [tuple(map(_item, line)) for line in lines]
        for line in _WORDS.strip().splitlines():
            head, _, body = line.partition(":")
            self._add_words(head.split(), body.split())

    def _add_words(self, head: list[str], words: list[str]) -> None:
        symbols, contexts = [name for name in head if name.isupper()], [name for name in head if name.islower()]
        if symbols == ["PART"]:
            domain, kind = contexts
            found = [Part(word.rstrip("*"), kind, word.endswith("*")) for word in words]
            self.parts.setdefault(domain, []).extend(found)
        for key in itertools.product(symbols, contexts or [""]):
            self._words.setdefault(key, []).extend(words)
        for form in re.findall(r"[a-z]+", " ".join(words)):
            self.masks.setdefault(form, symbols[0].rstrip("+-"))

    @cache
    def choices(self, symbol: str, kind: str, domain: str) -> list[str]:
        """The words for a symbol, with its sign, that speaks of something of this kind in this domain."""
        return [word for context in ("", kind, domain) for word in self._words.get((symbol, context), ())]


@cache
def grammar() -> Grammar:
    """The grammar, parsed once."""
    return Grammar()


def _item(token: str) -> str | Symbol:
    name = token.rstrip("+-")
    return Symbol(name, token[len(name) :]) if name.isupper() else token
