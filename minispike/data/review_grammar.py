"""The grammar of the embedded reviews, as plain text, and its parser.

A word in capitals is a symbol. The sign after it says which opinion it takes on: ``+`` that of the rule it
stands in, ``-`` the opposite one. So ::

    CONTRAST: although BRIEF- , BRIEF+

reads "a positive contrast is *although*, a negative clause, a comma, a positive clause", and in the same
breath the same with both opinions turned round.
"""

import itertools
import re
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple

__all__ = ["CLAUSES", "DOMAINS", "Grammar", "Part", "Symbol", "choices", "grammar"]

# `SYMBOL: weight production | ...`, the weight being 1 where none is written. What `ITEM+` and `ITEM-` become
# is said for each of the two opinions.
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
    | 2 SUBJECT BE full of QUALITY+ | SUBJECT HAVE real QUALITY+ | 3 the PART SAVES+ WHOLE
    | 3 WHOLE IS a NOUN+ | WHOLE IS a real NOUN+ | 2 WHOLE IS a ADJ+ one | WHOLE IS a INTENSE MILD+ one
    | 2 it is easy to LOVE+ WHOLE | everyone should PRAISE+ WHOLE
NEGATED: 8 SUBJECT BE DENIAL MILD- | 2 SUBJECT never FEELS MILD- | SUBJECT DO not FEEL MILD-
    | 2 there is nothing MILD- about TOPIC | 2 SUBJECT HAVE no QUALITY- | SUBJECT HAVE hardly any QUALITY-
    | 2 nobody would call SUBJECT MILD- | 2 the PART cannot SAVE- WHOLE
    | 2 even the ADJ- PART cannot SAVE- WHOLE | 3 WHOLE IS DENIAL a NOUN- | WHOLE IS no NOUN-
    | WHOLE IS not a MILD- one | 2 nobody could LOVE- WHOLE | 3 it is hard to LOVE- WHOLE
    | 2 nobody should PRAISE- WHOLE
DENIAL: 6 NOT | not at all | by no means
NOT: 4 not | 3 never | 2 hardly | far from

CONTRAST: 4 BRIEF- but BRIEF+ | 3 BRIEF- , yet BRIEF+ | 2 BRIEF- ; however , BRIEF+
    | 4 although BRIEF- , BRIEF+ | 2 even though BRIEF- , BRIEF+ | 3 BRIEF+ , although BRIEF-
    | 2 BRIEF+ even though BRIEF- | 3 BOOST- part of it but BOOST+ the whole THING
    | 2 although BOOST- part of it , BOOST+ the whole THING
    | BOOST+ the whole THING although BOOST- part of it | 3 CONCESSION- but VERDICT+
    | CONCESSION- , yet VERDICT+ | CONCESSION- ; however , VERDICT+ | 2 although CONCESSION- , VERDICT+
    | even though CONCESSION- , VERDICT+ | 2 VERDICT+ , although CONCESSION-
    | VERDICT+ even though CONCESSION- | 2 despite DRAWBACK- , VERDICT+ | 2 VERDICT+ despite DRAWBACK-
BRIEF: 6 TOPIC BE MILD+ | 4 TOPIC BE NOT TRAIT- | TOPIC FEELS MILD+ | TOPIC never FEELS TRAIT-
    | TOPIC HAVE some QUALITY+ | TOPIC HAVE no QUALITY-
BOOST: the PART SAVES+
CONCESSION: 3 BRIEF+ | TOPIC BE MODERATE MILD+
DRAWBACK: 3 the MILD+ PART | its MILD+ PART
VERDICT: 3 WHOLE IS ADJ+ | WHOLE IS INTENSE MILD+ | 2 WHOLE IS a NOUN+ | 2 WHOLE IS NOT TRAIT-
    | WHOLE IS NOT a NOUN- | WHOLE HAVE no QUALITY- | 2 i LOVED+ WHOLE

CORRECTION: 3 SUBJECT BE not TRAIT- but TRAIT+ | 2 SUBJECT BE TRAIT+ , not TRAIT-
    | 2 SUBJECT BE more TRAIT+ than TRAIT- | SUBJECT BE TRAIT+ rather than TRAIT-
    | 2 SUBJECT BE never TRAIT- and always TRAIT+ | SUBJECT BE always TRAIT+ and never TRAIT-
    | 2 WHOLE IS not a NOUN- but a NOUN+ | WHOLE IS a NOUN+ , not a NOUN-
    | WHOLE IS a NOUN+ rather than a NOUN- | WHOLE IS less a NOUN- than a NOUN+
LOOK: WHOLE looked TRAIT- but it IS TRAIT+ | WHOLE IS TRAIT+ , although it looked TRAIT-
    | although WHOLE looked TRAIT- , it IS TRAIT+ | WHOLE IS TRAIT+ even though it sounded TRAIT-
    | WHOLE sounded TRAIT- , yet it IS TRAIT+
AGREEMENT: 4 BRIEF+ and BRIEF+ | 2 VERDICT+ because BRIEF+ | BRIEF+ , so VERDICT+

COMPARISON: 4 ITEM+ IS BETTER than ITEM- | 2 ITEM+ IS MUCH BETTER than ITEM- | 4 ITEM- IS WORSE than ITEM+
    | 2 ITEM- IS MUCH WORSE than ITEM+ | 4 ITEM- IS not as GOOD as ITEM+ | 3 ITEM+ BEATS ITEM-
    | 2 ITEM- cannot MATCH ITEM+ | 2 nobody would PICK ITEM- over ITEM+
    | 2 everyone would PICK ITEM+ over ITEM-
PREFERENCE: 3 i LIKED ITEM+ more than ITEM- | 2 i LIKED ITEM- less than ITEM+ | 3 i prefer ITEM+ to ITEM-
    | 2 i would PICK ITEM+ over ITEM- | i would never PICK ITEM- over ITEM+
ITEM+: 4 this THING | this MODIFIER THING
ITEM-: 3 the RIVAL | 2 the RANK one | the RANK THING

CHANGE: 2 i expected a NOUN- but got a NOUN+ | instead of a NOUN- , i got a NOUN+
    | i got a NOUN+ instead of a NOUN- | i expected WHOLE to be TRAIT- but it was TRAIT+
    | at first WHOLE was TRAIT- but later it was TRAIT+ | at first i LOVED- WHOLE but later i LOVED+ it
    | my FRIEND LOVED- WHOLE but i LOVED+ it | although my FRIEND LOVED- WHOLE , i LOVED+ it
    | i LOVED+ WHOLE although my FRIEND LOVED- it
LIKING: 3 i LOVED+ WHOLE | i really LOVED+ WHOLE | we both LOVED+ WHOLE | 2 i found SUBJECT ADJ+
    | i found SUBJECT DEGREE MILD+ | i would PRAISE+ WHOLE
DISLIKING: 2 i did not find SUBJECT MILD- | i never found SUBJECT MILD- | 2 i would not call SUBJECT MILD-
    | 2 i could not LOVE- WHOLE | we could not LOVE- WHOLE | 2 i would not PRAISE- WHOLE
    | i would never PRAISE- WHOLE
"""

# `SYMBOL ... context ...: word ...`: what each of the symbols may become, in these contexts or in any. The
# name of the first symbol is what a template hides the words under. Verbs: plural/singular, then the past.
_WORDS = """
ADJ+: superb excellent wonderful brilliant splendid
ADJ-: awful terrible dreadful horrible miserable
ADJ+ MILD+ GOOD: good great pleasant
ADJ- MILD- BAD: bad poor mediocre
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
SAVE+ SAVES+: save/saves/saved carry/carries/carried lift/lifts/lifted
SAVE- SAVES-: ruin/ruins/ruined spoil/spoils/spoiled hurt/hurts/hurt
DEGREE: so
DEGREE INTENSE: very really truly
DEGREE MODERATE: quite rather fairly
BETTER: better finer nicer
WORSE: worse weaker poorer
MUCH: much clearly plainly
BEATS: beats outshines
MATCH: match equal
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
    {"PLAIN", "NEGATED", "BRIEF", "BOOST", "CONCESSION", "DRAWBACK", "VERDICT"}
    | {"CORRECTION", "LOOK", "CHANGE", "LIKING", "DISLIKING"}
)
"""The symbols that begin to speak of something else: words agree within them, in kind and in number."""


class Symbol(NamedTuple):
    """A symbol in a production.

    Attributes:
        name: without the sign.
        sign: ``+`` for the opinion of the rule, ``-`` for the opposite one, nothing if it has no opinion of its own.

    Example:
        >>> from minispike.data.review_grammar import Symbol, grammar
        >>> sums, productions = grammar().rules["CONTRAST"]
        >>> ("although", Symbol("BRIEF", "-"), ",", Symbol("BRIEF", "+")) in productions
        True
    """

    name: str
    sign: str


class Part(NamedTuple):
    """A part of what is reviewed.

    Attributes:
        noun: what it is called.
        kind: of the words that suit it, such as ``food``.
        plural: its number; verbs agree with it.

    Example:
        >>> from minispike.data.review_grammar import grammar
        >>> grammar().parts["restaurant"][0]
        Part(noun='soup', kind='food', plural=False)
    """

    noun: str
    kind: str
    plural: bool


@dataclass(frozen=True)
class Grammar:
    """The rules and the words, parsed.

    Attributes:
        rules: for each symbol (``CONTRAST``, or ``ITEM+`` if its rules depend on the opinion) the running
            sums of the weights, and the productions: words and symbols.
        words: what each symbol, with its opinion, may become in a context (a kind, a domain, or ``""``: any).
        parts: for each domain, what can be said to be good or bad about it.
        masks: for each word that a symbol may become, the name under which a template hides it.

    Example:
        >>> from minispike.data.review_grammar import grammar
        >>> parsed = grammar()
        >>> parsed.masks["superb"], parsed.masks["dull"]  # a template hides both under one name
        ('ADJ', 'ADJ')
    """

    rules: dict[str, tuple[list[int], list[tuple[str | Symbol, ...]]]]
    words: dict[tuple[str, str], list[str]]
    parts: dict[str, list[Part]]
    masks: dict[str, str]


@cache
def grammar() -> Grammar:
    """The grammar, parsed once.

    Example:
        >>> from minispike.data.review_grammar import grammar
        >>> grammar() is grammar()
        True
        >>> len(grammar().rules["SETTING"][1])  # ways to begin a review with how it was seen
        7
    """
    parsed = Grammar({}, {}, {}, {})
    for rule in re.findall(r"^\S.*(?:\n +.*)*", _RULES, re.MULTILINE):
        name, _, body = rule.partition(":")
        options = [option.split() for option in body.split("|")]
        weights = [int(option.pop(0)) if option[0].isdigit() else 1 for option in options]
        productions = [tuple(map(_symbol_or_word, option)) for option in options]
        parsed.rules[name] = list(itertools.accumulate(weights)), productions
    for line in _WORDS.strip().splitlines():
        head, words = (side.split() for side in line.split(":"))
        symbols = [name for name in head if name.isupper()]
        contexts = head[len(symbols) :] or [""]
        if symbols == ["PART"]:  # for which a star marks the plural
            domain, kind = contexts
            found = [Part(word.rstrip("*"), kind, word.endswith("*")) for word in words]
            parsed.parts.setdefault(domain, []).extend(found)
        for key in itertools.product(symbols, contexts):
            parsed.words.setdefault(key, []).extend(words)
        for form in re.findall(r"[a-z]+", " ".join(words)):
            parsed.masks.setdefault(form, symbols[0].rstrip("+-"))
    return parsed


@cache
def choices(symbol: str, kind: str, domain: str) -> list[str]:
    """What a symbol, such as ``MILD+``, may become when it speaks of this kind of thing in this domain.

    Args:
        symbol: with its sign, if it has one.
        kind: ``story``, ``craft``, ``food``, ``service``, ``place``, or ``""``.
        domain: one of `DOMAINS`.

    Returns:
        The words for any context, then those for the kind, then those for the domain; verbs with their forms,
        ``save/saves/saved``.

    Example:
        >>> from minispike.data.review_grammar import choices
        >>> choices("MILD-", "food", "restaurant")
        ['bad', 'poor', 'mediocre', 'bland', 'stale', 'greasy']
    """
    words = grammar().words
    return [word for context in ("", kind, domain) for word in words.get((symbol, context), ())]


def _symbol_or_word(token: str) -> str | Symbol:
    name = token.rstrip("+-")
    return Symbol(name, token[len(name) :]) if name.isupper() else token
