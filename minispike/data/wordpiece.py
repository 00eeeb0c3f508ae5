"""How BERT's vocabularies are read and learnt with the ``tokenizers`` library."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

from minispike.data.text import data_error, read_text
from minispike.errors import BackendError, problem

if TYPE_CHECKING:
    import tokenizers

__all__ = ["MASK", "SPECIAL", "bert_tokenizer", "is_uncased", "learn_pieces", "load_library", "read_vocabulary"]

MASK = "[MASK]"
"""The token that stands for a hidden word, and its mark in text that augmentation wrote."""

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", MASK)
"""The special tokens of BERT, in the order in which a learnt vocabulary numbers them."""


def load_library() -> ModuleType:
    """The ``tokenizers`` library, imported only once a tokenizer is made.

    Raises:
        BackendError: it is not installed.

    Example:
        >>> from minispike.data.wordpiece import load_library
        >>> load_library().__name__
        'tokenizers'
    """
    try:
        import tokenizers
    except ImportError as error:
        got, hint = f"an import that fails ({error})", '`pip install "minispike[distill]"`'
        raise BackendError(problem("tokenizers", expected="the library", got=got, hint=hint)) from error
    return tokenizers


def bert_tokenizer(vocab: Mapping[str, int], lowercase: bool) -> "tokenizers.Tokenizer":
    """A ``tokenizers.Tokenizer`` that splits texts as BERT does, with the pieces of ``vocab``.

    Args:
        vocab: the number of each piece; ``[UNK]`` among them.
        lowercase: fold capitals and strip accents.

    Raises:
        BackendError: the library is not installed.

    Example:
        >>> from minispike.data.wordpiece import bert_tokenizer
        >>> inner = bert_tokenizer({"[UNK]": 0, "film": 1, "##s": 2}, lowercase=True)
        >>> inner.encode("Films, film").tokens
        ['film', '##s', '[UNK]', 'film']
    """
    lib = load_library()
    inner: tokenizers.Tokenizer = lib.Tokenizer(lib.models.WordPiece(dict(vocab), unk_token="[UNK]"))
    inner.normalizer = lib.normalizers.BertNormalizer(lowercase=lowercase)
    inner.pre_tokenizer = lib.pre_tokenizers.BertPreTokenizer()
    inner.decoder = lib.decoders.WordPiece(prefix="##")
    inner.add_special_tokens([token for token in SPECIAL if token in vocab])
    if "[SEP]" in vocab and "[CLS]" in vocab:  # not used here, but other readers of a saved file rely on it
        ends = [(token, vocab[token]) for token in ("[SEP]", "[CLS]")]
        inner.post_processor = lib.processors.BertProcessing(*ends)
    return inner


def read_vocabulary(path: Path, content: str) -> dict[str, int]:
    """The tokens in the text of a BERT vocabulary; each has the number of its line, counted from 0.

    Args:
        path: what errors call it; nothing is read from there.
        content: one token a line.

    Raises:
        DataError: a token stands in two lines.

    Example:
        >>> from pathlib import Path
        >>> from minispike.data.wordpiece import read_vocabulary
        >>> read_vocabulary(Path("vocab.txt"), "[PAD]\\n[UNK]\\nfilm\\n")
        {'[PAD]': 0, '[UNK]': 1, 'film': 2}
    """
    vocab: dict[str, int] = {}
    for number, line in enumerate(content.rstrip("\r\n").split("\n")):
        token = line.removesuffix("\r")
        if token in vocab:
            got = f"{token!r}, which line {vocab[token] + 1} has too"
            where, hint = f"{path}:{number + 1}", "the vocabulary as it was published"
            raise data_error(where, "another token in each line", got, hint)
        vocab[token] = number
    return vocab


def is_uncased(path: Path) -> bool:
    """Whether the vocabulary at ``path`` wants capitals folded, by the configuration beside it; default true.

    Raises:
        DataError: the configuration is not a JSON object, or its ``do_lower_case`` neither true nor false.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.data.wordpiece import is_uncased
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = (Path(folder) / "tokenizer_config.json").write_text('{"do_lower_case": false}')
        ...     print(is_uncased(Path(folder) / "vocab.txt"), is_uncased(Path("vocab.txt")))
        False True
    """
    config = path.with_name("tokenizer_config.json")
    if not config.exists():
        return True
    try:
        stored = json.loads(read_text(config))
    except ValueError as error:
        got = f"text that fails with {error}"
        raise data_error(str(config), "a JSON object", got, "fetching it again") from error
    uncased = stored.get("do_lower_case", True) if isinstance(stored, dict) else stored
    if not isinstance(uncased, bool):
        raise data_error(str(config), "do_lower_case true or false", repr(uncased), "mending it")
    return uncased


def learn_pieces(texts: Iterable[str], vocab_size: int, lowercase: bool, min_frequency: int) -> dict[str, int]:
    """Learn a vocabulary by merging the most frequent neighbours: each piece with its number.

    Left alone, the library numbers the characters inside words (``##a``) in the order of a hash map, and
    settles ties between merges by these numbers, so two trainings differ. Here every character gets its
    number first, by code point, by being declared a special token or a letter of the alphabet.

    Args:
        texts: what to learn from.
        vocab_size: the most pieces there may be, special tokens included.
        lowercase: whether capitals are folded.
        min_frequency: how often a merged piece must occur.

    Raises:
        DataError: the texts hold no words.
        BackendError: the library is not installed.

    Example:
        >>> from minispike.data.wordpiece import learn_pieces
        >>> pieces = learn_pieces(["ab ab", "ba"], vocab_size=40, lowercase=True, min_frequency=2)
        >>> [piece for piece in sorted(pieces, key=pieces.get) if piece[0] != "["]
        ['##a', '##b', 'a', 'b', 'ab']
    """
    inner = bert_tokenizer({"[UNK]": 0}, lowercase)
    texts = list(texts)
    words: Counter[str] = Counter()
    for text in texts:
        normal = inner.normalizer.normalize_str(text)
        words.update(word for word, _ in inner.pre_tokenizer.pre_tokenize_str(normal))
    if not words:
        raise data_error("texts", "texts to learn a vocabulary from", "no words", "texts that are not empty")
    inside = {letter for word in words for letter in word[1:]}
    alphabet = _frequent_letters(words, inside, vocab_size - len(SPECIAL))
    trainer = load_library().trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=[*SPECIAL, *(f"##{letter}" for letter in sorted(alphabet & inside))],
        initial_alphabet=sorted(alphabet),
        limit_alphabet=len(alphabet),
        show_progress=False,
    )
    inner.train_from_iterator(texts, trainer)
    return inner.get_vocab(with_added_tokens=False)  # the added [UNK] still has the number it had before


def _frequent_letters(words: Mapping[str, int], inside: set[str], room: int) -> set[str]:
    """The characters in most words, as many as fit; one that stands ``inside`` words takes two places."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        counts.update(dict.fromkeys(word, count))
    chosen: set[str] = set()
    for letter in sorted(counts, key=lambda letter: (-counts[letter], letter)):
        room -= 2 if letter in inside else 1
        if room < 0:
            break
        chosen.add(letter)
    return chosen
