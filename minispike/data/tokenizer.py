"""WordPiece tokenizers of the BERT family: texts in, token numbers out.

The ``tokenizers`` library splits texts into pieces. What surrounds the pieces is written here, so that every
tokenizer file behaves alike: the layout ``[CLS] text [SEP]`` or ``[CLS] text [SEP] text2 [SEP]``, truncation,
and no padding (a batch is padded to its own longest text, see `minispike.data.batches`).

A text is text: ``[SEP]`` or ``[MASK]`` in what somebody wrote is brackets and letters, and no special token.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minispike.data.text import data_error, read_text
from minispike.data.wordpiece import (
    MASK,
    SPECIAL,
    bert_tokenizer,
    is_uncased,
    learn_pieces,
    load_library,
    read_vocabulary,
)
from minispike.errors import ConfigError, ShapeError, problem
from minispike.files import atomic_write

if TYPE_CHECKING:
    import tokenizers

__all__ = ["Encoded", "Tokenizer"]

_SEGMENTS = np.array([0, 1], dtype=np.int32)
_CHUNK = 4096  # texts handed to the library at once: its own results weigh far more than the numbers kept


@dataclass(frozen=True, eq=False)
class Encoded:
    """N texts (or pairs) as token numbers, none of them padded.

    Attributes:
        ids: N arrays [L_i] int32, each ``[CLS] ... [SEP]``.
        segments: for pairs, N arrays [L_i] int32, 0 up to the first ``[SEP]`` and 1 after it; else ``None``.
        truncated: share of the texts that were longer than ``max_length``, 0 to 1.
        unknown: share of ``[UNK]`` among the kept tokens, ``[CLS]`` and ``[SEP]`` not counted, 0 to 1.

    Example:
        >>> import numpy as np
        >>> from minispike.data.tokenizer import Encoded
        >>> texts = Encoded((np.array([2, 7, 3]), np.array([2, 7, 8, 9, 3])), None, truncated=0.0, unknown=0.0)
        >>> len(texts), texts.lengths.tolist(), texts.subset([1]).lengths.tolist()
        (2, [3, 5], [5])
    """

    ids: tuple[NDArray[np.int32], ...]
    segments: tuple[NDArray[np.int32], ...] | None
    truncated: float
    unknown: float

    def __len__(self) -> int:
        """The number of texts N."""
        return len(self.ids)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """[N] int64: the tokens of each text, ``[CLS]`` and ``[SEP]`` included."""
        return np.array([len(ids) for ids in self.ids], dtype=np.int64)

    def subset(self, index: ArrayLike) -> "Encoded":
        """The texts at the positions ``index`` (integers [M]); both shares stay those of the whole."""
        chosen = np.asarray(index, dtype=np.int64)
        segments = None if self.segments is None else tuple(self.segments[i] for i in chosen)
        return Encoded(tuple(self.ids[i] for i in chosen), segments, self.truncated, self.unknown)


class Tokenizer:
    """A tokenizer with the special tokens of BERT, made by `from_file` or `train`.

    Attributes:
        pad_id: the number of ``[PAD]``, which fills batches and is masked out.
        unk_id: the number of ``[UNK]``, which stands for what the vocabulary cannot spell.
        cls_id: the number of ``[CLS]``, the first token of every text.
        sep_id: the number of ``[SEP]``, the last token of every text.

    Args:
        inner: a ``tokenizers.Tokenizer``. Padding and truncation stored in it are switched off: many
            published files pad every text to a fixed length, which costs time and changes nothing.
        name: what errors call it; by default "tokenizer".

    Raises:
        DataError: its vocabulary lacks ``[PAD]``, ``[UNK]``, ``[CLS]`` or ``[SEP]``.

    Example:
        >>> from minispike.data.tokenizer import Tokenizer
        >>> from minispike.data.wordpiece import bert_tokenizer
        >>> vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "film", "##s"])}
        >>> tokenizer = Tokenizer(bert_tokenizer(vocabulary, lowercase=True))
        >>> ids = tokenizer.encode(["Films !"]).ids[0]
        >>> [tokenizer.token(i) for i in ids]
        ['[CLS]', 'film', '##s', '[UNK]', '[SEP]']
    """

    def __init__(self, inner: "tokenizers.Tokenizer", name: str = "tokenizer") -> None:
        inner.no_padding()
        inner.no_truncation()
        inner.encode_special_tokens = True  # as the ordinary text that they are within a text
        self._inner, self._name = inner, name
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (self._find(token) for token in SPECIAL[:4])
        self._vocab_size = max(inner.get_vocab().values()) + 1
        self._is_special = np.zeros(self.vocab_size, dtype=bool)
        self._is_special[[n for n in map(inner.token_to_id, SPECIAL) if n is not None]] = True

    @classmethod
    def from_file(cls, path: str | Path) -> "Tokenizer":
        """Read a ``tokenizer.json``, a BERT vocabulary (``.txt``, one token a line), or a folder with either.

        A folder's ``tokenizer.json`` goes before its ``vocab.txt``. A vocabulary says nothing about capitals:
        they are folded unless a ``tokenizer_config.json`` beside it has ``do_lower_case`` false.

        Raises:
            DataError: there is no such file, it cannot be read as a tokenizer, or it lacks a special token.
            BackendError: the ``tokenizers`` library is not installed.

        Example:
            >>> import tempfile
            >>> from pathlib import Path
            >>> from minispike.data.tokenizer import Tokenizer
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     path = Path(folder) / "vocab.txt"
            ...     _ = path.write_text("[PAD]\\n[UNK]\\n[CLS]\\n[SEP]\\nfilm\\n")
            ...     Tokenizer.from_file(folder).encode(["film"]).ids[0].tolist()
            [2, 4, 3]
        """
        path = Path(path)
        if path.is_dir():
            found = [path / name for name in ("tokenizer.json", "vocab.txt") if (path / name).exists()]
            if not found:
                expected, got = "tokenizer.json or vocab.txt", "a folder with neither"
                raise data_error(str(path), expected, got, "another folder")
            path = found[0]
        content = read_text(path)
        if path.suffix == ".txt":
            return cls(bert_tokenizer(read_vocabulary(path, content), is_uncased(path)), str(path))
        library = load_library()
        try:
            inner = library.Tokenizer.from_str(content)
        except Exception as error:  # the library raises bare Exception for whatever it cannot read
            expected, got = "a tokenizer.json or a vocabulary in .txt", f"a file that fails with {error}"
            raise data_error(str(path), expected, got, "fetching it again") from error
        return cls(inner, str(path))

    @classmethod
    def train(
        cls, texts: Iterable[str], vocab_size: int = 8000, *, lowercase: bool = True, min_frequency: int = 2
    ) -> "Tokenizer":
        """Learn a WordPiece vocabulary. The same texts give the same vocabulary, number by number.

        The numbers begin with the special tokens, ``[PAD]`` being 0; then come single characters, then pieces
        in the order in which they were merged.

        Args:
            texts: the texts; a pair counts as two.
            vocab_size: the most tokens there may be, special ones included; default 8000. There are fewer if
                nothing is left to merge. If not even the characters fit, the rarest become ``[UNK]``.
            lowercase: fold capitals and strip accents, as the uncased models do; default true.
            min_frequency: how often a merged piece must occur in the texts; default 2.

        Raises:
            DataError: the texts hold no words.
            ConfigError: ``vocab_size`` leaves no room beside the special tokens.
            BackendError: the ``tokenizers`` library is not installed.

        Example:
            >>> from minispike.data.tokenizer import Tokenizer
            >>> tokenizer = Tokenizer.train(["a fine film", "a fine plot"], vocab_size=40)
            >>> [tokenizer.token(i) for i in tokenizer.encode(["fine plot"]).ids[0]]  # "plot" came once
            ['[CLS]', 'fine', 'p', '##l', '##o', '##t', '[SEP]']
        """
        least = len(SPECIAL) + 2
        if vocab_size < least:
            expected = f"at least {least}, for the special tokens and a character"
            raise ConfigError(problem("vocab_size", expected=expected, got=str(vocab_size), hint="vocab_size=8000"))
        return cls(bert_tokenizer(learn_pieces(texts, vocab_size, lowercase, min_frequency), lowercase))

    def save(self, path: str | Path) -> None:
        """Write a ``tokenizer.json``, whole or not at all, without padding or truncation.

        Args:
            path: the file; its folder is made if it is missing.

        Raises:
            OSError: the file cannot be written.

        Example:
            >>> import tempfile
            >>> from minispike.data.tokenizer import Tokenizer
            >>> tokenizer = Tokenizer.train(["a fine film", "a fine plot"], vocab_size=40)
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     tokenizer.save(f"{folder}/tokenizer.json")
            ...     again = Tokenizer.from_file(f"{folder}/tokenizer.json")
            >>> again.encode(["fine"]).ids[0].tolist() == tokenizer.encode(["fine"]).ids[0].tolist()
            True
        """
        with atomic_write(path) as file:
            file.write(self._inner.to_str(pretty=True))

    @property
    def vocab_size(self) -> int:
        """How many rows an embedding needs: one more than the highest token number."""
        return self._vocab_size

    @property
    def mask_id(self) -> int:
        """The number of ``[MASK]``. Raises DataError if the vocabulary has none."""
        return self._find(MASK)

    def token(self, id: int) -> str:
        """The spelling of a token. Raises DataError for a number outside the vocabulary."""
        token = self._inner.id_to_token(id) if id >= 0 else None
        if token is None:
            expected = f"a token number from 0 to {self.vocab_size - 1}"
            raise data_error(self._name, expected, str(id), "the tokenizer of the model")
        return token

    def encode(
        self,
        texts: Sequence[str],
        pairs: Sequence[str] | None = None,
        max_length: int = 128,
        *,
        mask_marks: bool = False,
    ) -> Encoded:
        """Turn texts, or pairs of texts, into token numbers.

        What is longer than ``max_length`` loses its end; of a pair, the longer text loses first, until both
        are equally long (where one piece is left over, the first text gets it if it was the longer).

        Args:
            texts: N texts, or the first text of each pair.
            pairs: the N second texts; default none.
            max_length: the most tokens a text (or a pair) may have, special ones included; default 128.
            mask_marks: read each ``[MASK]`` in a text as the mask token (as ``[UNK]`` where the vocabulary has
                none), for texts in which augmentation has put it; default false.

        Raises:
            ShapeError: ``texts`` and ``pairs`` differ in number.
            ConfigError: ``max_length`` leaves no room for a piece of each text.

        Example:
            >>> from minispike.data.tokenizer import Tokenizer
            >>> from minispike.data.wordpiece import bert_tokenizer
            >>> vocabulary = {token: i for i, token in enumerate(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "so", "dull"])}
            >>> tokenizer = Tokenizer(bert_tokenizer(vocabulary, lowercase=True))
            >>> pair = tokenizer.encode(["so so dull"], pairs=["dull"], max_length=6)
            >>> pair.ids[0].tolist(), pair.segments[0].tolist(), pair.truncated  # the longer text has lost its end
            ([2, 4, 4, 3, 5, 3], [0, 0, 0, 0, 1, 1], 1.0)
        """
        sides = [texts] if pairs is None else [texts, pairs]
        if len(sides[-1]) != len(texts):
            got, hint = str(len(sides[-1])), "one second text for each text"
            raise ShapeError(problem("pairs", expected=f"{len(texts)}, as texts", got=got, hint=hint))
        special = 1 + len(sides)
        if max_length < special + len(sides):
            expected, got = f"at least {special + len(sides)}", str(max_length)
            raise ConfigError(problem("max_length", expected=expected, got=got, hint="max_length=128"))
        pieces = self._pieces_and_masks if mask_marks else self._pieces
        rows = list(zip(*map(pieces, sides), strict=True))
        kept = [_longest_first([len(part) for part in row], max_length - special) for row in rows]
        ids = [self._frame(row, keep) for row, keep in zip(rows, kept, strict=True)]
        segments = None if pairs is None else tuple(np.repeat(_SEGMENTS, [i + 2, j + 1]) for i, j in kept)
        cut = sum(len(row) - special < sum(map(len, parts)) for row, parts in zip(ids, rows, strict=True))
        unknown = sum(int(np.count_nonzero(row == self.unk_id)) for row in ids)
        return Encoded(
            ids=tuple(ids),
            segments=segments,
            truncated=cut / max(len(ids), 1),
            unknown=unknown / max(sum(map(sum, kept)), 1),
        )

    def check_matches(self, vocab_size: int) -> None:
        """Check that the tokenizer belongs to a model with ``vocab_size`` word embeddings.

        Raises:
            DataError: it has another number of tokens.
        """
        if vocab_size != self.vocab_size:
            expected, got = f"{vocab_size} tokens, as many as the model embeds", str(self.vocab_size)
            raise data_error(self._name, expected, got, "the tokenizer that was published with the model")

    def _find(self, token: str) -> int:
        """The number of a special token."""
        number = self._inner.token_to_id(token)
        if number is None:
            expected, got = f"the token {token}", "a vocabulary without it"
            raise data_error(self._name, expected, got, "the tokenizer of a BERT model")
        return number

    def _pieces(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The pieces of each text, without special tokens and in full length."""
        pieces: list[NDArray[np.int32]] = []
        for start in range(0, len(texts), _CHUNK):
            batch = self._inner.encode_batch_fast(list(texts[start : start + _CHUNK]), add_special_tokens=False)
            for encoding in batch:
                ids = np.array(encoding.ids, dtype=np.int32)
                # A file that splits at spaces alone, or adds its tokens as ordinary ones, still finds "[SEP]".
                ids[self._is_special[ids]] = self.unk_id
                pieces.append(ids)
        return pieces

    def _pieces_and_masks(self, texts: Sequence[str]) -> list[NDArray[np.int32]]:
        """The pieces of each text, with a mask token for each ``[MASK]``."""
        number = self._inner.token_to_id(MASK)
        mask = np.array([self.unk_id if number is None else number], dtype=np.int32)
        rows = [text.split(MASK) for text in texts]
        pieces = iter(self._pieces([part for row in rows for part in row]))
        joined = []
        for row in rows:
            found = [next(pieces)]
            for _ in row[1:]:
                found += [mask, next(pieces)]
            joined.append(np.concatenate(found))
        return joined

    def _frame(self, parts: Sequence[NDArray[np.int32]], keep: Sequence[int]) -> NDArray[np.int32]:
        """``[CLS] part [SEP]`` or ``[CLS] part [SEP] part [SEP]``, ``keep`` pieces of each: [L] int32."""
        row = np.full(1 + len(parts) + sum(keep), self.sep_id, dtype=np.int32)
        row[0], start = self.cls_id, 1
        for part, count in zip(parts, keep, strict=True):
            row[start : start + count] = part[:count]
            start += count + 1  # the [SEP] behind the part
        return row


def _longest_first(lengths: Sequence[int], room: int) -> tuple[int, ...]:
    """How many pieces to keep of a text, or of each text of a pair, as the ``tokenizers`` library does."""
    if sum(lengths) <= room:
        return tuple(lengths)
    if len(lengths) == 1:
        return (room,)
    short = min(*lengths, room // 2)
    return (room - short, short) if lengths[0] > lengths[1] else (short, room - short)
