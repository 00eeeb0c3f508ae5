"""Files of text and labels, read strictly: a bad row is named by file and line, never skipped.

A labelled file is UTF-8 with tab-separated columns and a header, ``text<TAB>label`` for single texts or
``text<TAB>text2<TAB>label`` for pairs. There is no quoting: a quotation mark is part of the text. Files may
be compressed (``.xz``, ``.gz``). A data set is a folder with ``train.tsv``, ``test.tsv`` and, if possible,
``dev.tsv``.
"""

import gzip
import lzma
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from minispike.errors import ConfigError, DataError, ShapeError, problem

__all__ = ["Dataset", "Examples", "data_error", "load_dataset", "read_lines", "read_sentences", "read_text", "read_tsv"]

_HEADERS = (("text", "label"), ("text", "text2", "label"), ("text",), ("text", "text2"))
_SUFFIXES = (".tsv", ".tsv.xz", ".tsv.gz")
_DEV_SPLIT = 0x646576  # "dev" in ASCII: a stream of random numbers that no phase of training shares


@dataclass(frozen=True, eq=False)
class Examples:
    """N texts or pairs of texts, with or without labels.

    Attributes:
        texts: the N texts, or the first text of each pair.
        labels: [N] int64, positions in the tuple of label names; ``None`` (default) for unlabelled text.
        pairs: the second text of each pair; ``None`` (default) for single texts.

    Raises:
        ShapeError: labels or pairs are not as many as the texts.

    Example:
        >>> import numpy as np
        >>> from minispike.data.text import Examples
        >>> examples = Examples(("so dull", "a gem", "fine"), labels=np.array([0, 1, 1]))
        >>> some = examples.subset([2, 0])
        >>> some.texts, some.labels.tolist()
        (('fine', 'so dull'), [1, 0])
    """

    texts: tuple[str, ...]
    labels: NDArray[np.int64] | None = None
    pairs: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        for name, part in (("labels", self.labels), ("pairs", self.pairs)):
            if part is not None and len(part) != len(self.texts):
                expected, got = f"one for each of the {len(self.texts)} texts", str(len(part))
                raise ShapeError(problem(name, expected=expected, got=got, hint="taking both from the same rows"))

    def __len__(self) -> int:
        """The number of examples N."""
        return len(self.texts)

    @property
    def sentences(self) -> tuple[str, ...]:
        """Every text by itself: the N texts, and behind them, if they are pairs, the N second ones."""
        return (*self.texts, *(self.pairs or ()))

    def subset(self, index: ArrayLike) -> "Examples":
        """The examples at the positions ``index`` (integers [M]), in that order."""
        chosen = np.asarray(index, dtype=np.int64)
        return Examples(
            texts=tuple(self.texts[i] for i in chosen),
            labels=None if self.labels is None else self.labels[chosen],
            pairs=None if self.pairs is None else tuple(self.pairs[i] for i in chosen),
        )


@dataclass(frozen=True, eq=False)
class Dataset:
    """The three labelled parts of a task.

    Attributes:
        train, dev, test: to learn from, to choose by, and to measure with.
        label_names: label ``i`` in each of them is called ``label_names[i]``.

    Example:
        >>> import numpy as np
        >>> from minispike.data.text import Dataset, Examples
        >>> positive, negative = Examples(("a gem",), np.array([1])), Examples(("so dull",), np.array([0]))
        >>> dataset = Dataset(positive, negative, negative, label_names=("negative", "positive"))
        >>> dataset.label_names[dataset.train.labels[0]]
        'positive'
    """

    train: Examples
    dev: Examples
    test: Examples
    label_names: tuple[str, ...]


def data_error(where: str, expected: str, got: str, hint: str) -> DataError:
    """The error about a file, or about a line of it written ``file:line``, in the words of `problem`.

    Args:
        where: the file or the line.
        expected, got, hint: as of `problem`.

    Example:
        >>> from minispike.data.text import data_error
        >>> print(data_error("train.tsv:7", "2 columns", "3", "one tab a line"))
        train.tsv:7: expected 2 columns, got 3; try one tab a line
    """
    return DataError(problem(where, expected=expected, got=got, hint=hint))


def read_text(path: str | Path) -> str:
    """The whole of a UTF-8 file, decompressed if it ends in ``.xz`` or ``.gz``, without a byte order mark.

    Every file of text is opened here, so that each way of failing has one wording.

    Raises:
        DataError: the file is missing, a folder, unreadable, truncated or corrupt, or not UTF-8.

    Example:
        >>> import gzip, tempfile
        >>> from pathlib import Path
        >>> from minispike.data.text import read_text
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "notes.txt.gz"
        ...     _ = path.write_bytes(gzip.compress("tout va bien à Paris".encode()))
        ...     print(read_text(path))
        tout va bien à Paris
    """
    path = Path(path)
    raw = _read_bytes(path)
    try:
        return raw.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        got = f"the byte 0x{raw[error.start]:02x} at offset {error.start}"
        hint = "converting the file, as in `iconv -f gb18030 -t utf-8`"
        raise data_error(f"{path}:{line}", "UTF-8 text", got, hint) from error


def read_lines(path: str | Path) -> list[str]:
    """The sentences of an unlabelled file, one a line, stripped at both ends; blank lines are dropped.

    Raises:
        DataError: as for `read_text`, or no line has any text.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.data.text import read_lines
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "text.txt"
        ...     _ = path.write_text("a gem .\\n\\n  so dull .\\n")
        ...     print(read_lines(path))
        ['a gem .', 'so dull .']
    """
    lines = [line for line in map(str.strip, read_text(path).split("\n")) if line]
    if not lines:
        raise data_error(str(path), "one sentence a line", "a file without text", "another file")
    return lines


def read_sentences(path: str | Path) -> list[str]:
    """The sentences of a file to learn from: as `read_lines`, but no table, whose labels would be read as words.

    Raises:
        DataError: as for `read_lines`, or a line has a tab in it.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.data.text import read_sentences
        >>> from minispike.errors import DataError
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "train.tsv"
        ...     _ = path.write_text("text\\tlabel\\na gem .\\t1\\n")
        ...     try:
        ...         read_sentences(path)
        ...     except DataError as error:
        ...         print(str(error).split("got ")[1])
        a table, with a tab in 'text\\tlabel'; try a file of its column text alone
    """
    lines = read_lines(path)
    for line in lines:
        if "\t" in line:
            got, hint = f"a table, with a tab in {_shorten(line)!r}", "a file of its column text alone"
            raise data_error(str(path), "one sentence a line", got, hint)
    return lines


def read_tsv(path: str | Path, label_names: Sequence[str] | None = None) -> tuple[Examples, tuple[str, ...]]:
    """Read one file of examples.

    Args:
        path: a file whose header is ``text<TAB>label`` or ``text<TAB>text2<TAB>label``. Without the column
            ``label`` the examples are unlabelled.
        label_names: the labels that may occur, in the order of their numbers. By default those of the file,
            sorted (as numbers if all are integers).

    Returns:
        The examples and the label names (empty for an unlabelled file read without ``label_names``).

    Raises:
        DataError: as for `read_text`; the file is empty or has a wrong header; a row has too few or too many
            columns, an empty text, an empty label, or a label that is not in ``label_names``.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.data.text import read_tsv
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "train.tsv"
        ...     _ = path.write_text("text\\tlabel\\na gem\\tpos\\nso dull\\tneg\\n")
        ...     examples, names = read_tsv(path)
        >>> examples.texts, examples.labels.tolist(), names
        (('a gem', 'so dull'), [1, 0], ('neg', 'pos'))
    """
    path = Path(path)
    lines = [line.removesuffix("\r") for line in read_text(path).split("\n")]
    while lines and not lines[-1].strip():  # blank lines at the end are an editor's habit, not rows
        lines.pop()
    header = _check_header(path, lines)
    rows = [_split_row(f"{path}:{number}", line, header) for number, line in enumerate(lines[1:], start=2)]
    columns = dict(zip(header, zip(*rows, strict=True), strict=True))
    names = tuple(label_names) if label_names is not None else _sort_labels(set(columns.get("label", ())))
    labels = _number_labels(path, columns["label"], names) if "label" in columns else None
    return Examples(columns["text"], labels, columns.get("text2")), names


def load_dataset(folder: str | Path, dev_fraction: float = 0.1, seed: int = 0) -> Dataset:
    """Read ``train.tsv``, ``dev.tsv`` and ``test.tsv`` (each may end in ``.xz`` or ``.gz``) of a folder.

    Without a dev file, dev is cut out of train: the same share of every label, chosen by ``seed``. The test
    file is never touched for this, and nothing ever stands in for it.

    Args:
        folder: the folder of the data set.
        dev_fraction: share of train that becomes dev if there is no dev file; default 0.1.
        seed: which examples those are; default 0.

    Raises:
        DataError: a file is missing, given twice, unlabelled or malformed (see `read_tsv`); train has fewer
            than two labels; dev or test has a label that train lacks; only some of the files hold pairs.
        ConfigError: ``dev_fraction`` is not between 0 and 1, or ``seed`` is negative.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> import numpy as np
        >>> from minispike.data.text import load_dataset
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     for part, rows in (("train", 40), ("test", 10)):
        ...         lines = ["text\\tlabel", *(f"text {i}\\t{i % 2}" for i in range(rows))]
        ...         _ = (Path(folder) / f"{part}.tsv").write_text("\\n".join(lines))
        ...     data = load_dataset(folder, dev_fraction=0.2)
        >>> len(data.train), len(data.dev), len(data.test)  # dev comes out of train
        (32, 8, 10)
        >>> np.bincount(data.dev.labels).tolist()  # the same share of each label
        [4, 4]
    """
    paths = _find_parts(Path(folder))
    train, names = _read_labelled(paths["train"])
    if len(names) < 2:
        got, hint = f"only {names[0]!r}", "a file with examples of every class"
        raise data_error(str(paths["train"]), "at least two different labels", got, hint)
    others = {part: _read_labelled(paths[part], names)[0] for part in ("dev", "test") if part in paths}
    for part, examples in others.items():
        if (examples.pairs is None) != (train.pairs is None):
            expected, got = ("single texts", "pairs") if train.pairs is None else ("pairs", "single texts")
            raise data_error(f"{paths[part]}:1", f"{expected}, as in train", got, "the same columns in all files")
    if "dev" not in others:
        train, others["dev"] = _cut_dev(paths["train"], train, dev_fraction, seed)
    return Dataset(train, others["dev"], others["test"], names)


def _shorten(text: str, width: int = 60) -> str:
    """A text short enough for one line of an error."""
    return text if len(text) <= width else text[: width - 3] + "..."


def _read_bytes(path: Path) -> bytes:
    """The bytes of a file, decompressed by its suffix."""
    try:
        raw = path.read_bytes()
    except OSError as error:
        raise data_error(
            str(path), "a readable file", error.strerror or type(error).__name__, "another path"
        ) from error
    try:
        match path.suffix:
            case ".xz":
                return lzma.decompress(raw)
            case ".gz":
                return gzip.decompress(raw)
            case _:
                return raw
    except (lzma.LZMAError, zlib.error, EOFError, OSError) as error:
        got, hint = f"a truncated or corrupt one ({error})", "fetching or compressing it again"
        raise data_error(str(path), f"a whole {path.suffix} file", got, hint) from error


def _check_header(path: Path, lines: list[str]) -> tuple[str, ...]:
    """The column names in the first line, with at least one row below them."""
    expected = "the header text<TAB>label or text<TAB>text2<TAB>label, and rows below it"
    hint = "adding that header as first line, its names separated by a tab"
    if not lines:
        raise data_error(str(path), expected, "an empty file", hint)
    header = tuple(lines[0].split("\t"))
    doubled = sorted({name for name in header if header.count(name) > 1})
    if doubled:
        raise data_error(f"{path}:1", expected, f"the column {_shorten(doubled[0])!r} more than once", hint)
    if header not in _HEADERS:
        raise data_error(f"{path}:1", expected, repr(_shorten(lines[0])), hint)
    if len(lines) == 1:
        raise data_error(f"{path}:1", expected, "a header and no rows", "adding a row for each example")
    return header


def _split_row(where: str, line: str, header: tuple[str, ...]) -> tuple[str, ...]:
    """The cells of one row: texts as they are, the label without outer white space, none of them empty."""
    cells = line.split("\t")
    if not line.strip():
        raise data_error(where, "a row", "a blank line", "deleting the line")
    if len(cells) != len(header):
        expected = f"{len(header)} tab-separated columns ({', '.join(header)})"
        got = f"{len(cells)} in {_shorten(line)!r}"
        raise data_error(where, expected, got, "one tab between columns and none inside a text")
    for name, cell in zip(header, cells, strict=True):
        if not cell.strip():
            raise data_error(where, f"a non-empty {name}", repr(cell), "filling it in or deleting the row")
    if header[-1] == "label":
        cells[-1] = cells[-1].strip()
    return tuple(cells)


def _sort_labels(labels: set[str]) -> tuple[str, ...]:
    """Label names in their order: by value if all are integers, else by spelling."""
    if all(re.fullmatch(r"[+-]?[0-9]+", name) for name in labels):
        return tuple(sorted(labels, key=lambda name: (int(name), name)))
    return tuple(sorted(labels))


def _number_labels(path: Path, labels: Sequence[str], names: tuple[str, ...]) -> NDArray[np.int64]:
    """The labels as positions in ``names``: [N] int64."""
    numbers = {name: number for number, name in enumerate(names)}
    for line, name in enumerate(labels, start=2):
        if name not in numbers:
            expected = f"one of the labels {_shorten(', '.join(names))}"
            hint = "mending the label; a new one needs examples in the training file, before training"
            raise data_error(f"{path}:{line}", expected, repr(_shorten(name)), hint)
    return np.array([numbers[name] for name in labels], dtype=np.int64)


def _find_parts(folder: Path) -> dict[str, Path]:
    """The files of a data set: ``train`` and ``test``, and ``dev`` if it is there."""
    if not folder.is_dir():
        raise data_error(str(folder), "a folder with train.tsv and test.tsv", "no folder", "another path")
    paths: dict[str, Path] = {}
    for part in ("train", "dev", "test"):
        found = [folder / (part + suffix) for suffix in _SUFFIXES if (folder / (part + suffix)).exists()]
        if len(found) > 1:
            got = " and ".join(path.name for path in found)
            raise data_error(str(folder), f"one {part} file", got, "keeping one of them")
        if found:
            paths[part] = found[0]
    missing = [f"{part}.tsv" for part in ("train", "test") if part not in paths]
    if missing:
        expected = "the files train.tsv and test.tsv (also .tsv.xz or .tsv.gz)"
        hint = "adding what is missing; only dev.tsv can be made, from train.tsv"
        raise data_error(str(folder), expected, f"no {' and no '.join(missing)}", hint)
    return paths


def _read_labelled(path: Path, names: Sequence[str] | None = None) -> tuple[Examples, tuple[str, ...]]:
    """One part of a data set, which must have labels."""
    examples, found = read_tsv(path, names)
    if examples.labels is None:
        raise data_error(f"{path}:1", "the column label", "unlabelled text", "a labelled version of it")
    return examples, found


def _cut_dev(path: Path, train: Examples, fraction: float, seed: int) -> tuple[Examples, Examples]:
    """Split train into train and dev, label by label; each side keeps the order of the file."""
    if not 0.0 < fraction < 1.0:
        expected, got = "a share between 0 and 1", str(fraction)
        raise ConfigError(problem("dev_fraction", expected=expected, got=got, hint="dev_fraction=0.1"))
    if seed < 0:
        raise ConfigError(problem("seed", expected="an integer >= 0", got=str(seed), hint="seed=0"))
    assert train.labels is not None
    rng = np.random.default_rng([seed, _DEV_SPLIT])
    in_dev = np.zeros(len(train), dtype=bool)
    for label in np.unique(train.labels):
        members = np.flatnonzero(train.labels == label)
        count = min(max(round(fraction * len(members)), 1), len(members) - 1)  # train keeps one of each label
        in_dev[rng.permutation(members)[:count]] = True
    if not in_dev.any():
        expected, got = "enough examples to cut dev from", f"{len(train)}"
        raise data_error(str(path), expected, got, "adding more, or a dev.tsv")
    return train.subset(np.flatnonzero(~in_dev)), train.subset(np.flatnonzero(in_dev))
