"""The journal of a run: one JSON object a line, cut back to the checkpoint when the run is resumed."""

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from minispike.errors import DataError, problem
from minispike.files import named

# JSON has no such numbers, and a journal must be able to tell of a loss that became one.
_NOT_FINITE = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class Journal:
    """Appends lines of figures to a file, ``metrics.jsonl`` in a run folder.

    A line reaches the operating system at once, so it outlives the process; `sync` makes it outlive a power
    cut. A checkpoint stores `position` after a `sync`; a resumed run hands it to `truncate`, so lines written
    after the checkpoint, which the repeated steps write again, do not stand there twice.

    Args:
        path: the file; its folder is made if it is missing.
        append: go on with the lines that are there; a last line that a killed process left unfinished is cut
            off. If False, as by default, the file is emptied.

    Example:
        >>> import tempfile
        >>> from minispike.train.journal import Journal
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with Journal(f"{folder}/metrics.jsonl") as journal:
        ...         journal.write(step=0, loss=0.7)
        ...         checkpoint = journal.position
        ...         journal.write(step=1, loss=float("nan"))  # after the checkpoint: to be written again
        ...         journal.truncate(checkpoint)
        ...     print(Journal.read(f"{folder}/metrics.jsonl"))
        [{'step': 0, 'loss': 0.7}]
    """

    def __init__(self, path: str | Path, append: bool = False) -> None:
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "a+b", buffering=0)  # a line that a full disk refused is not tried once more
        if append:
            self._cut_half_line()
        else:
            self._file.truncate(0)

    @property
    def position(self) -> int:
        """Bytes written so far; always the end of a line."""
        return self._file.seek(0, os.SEEK_END)

    def write(self, **fields: Any) -> None:
        """Append one line.

        Floats keep all their digits; NaN and the infinities become the strings ``"nan"``, ``"inf"`` and
        ``"-inf"``. NumPy's scalars and arrays become numbers and lists.

        Raises:
            TypeError: for a value that JSON does not know; nothing is written then.

        Example:
            >>> import tempfile
            >>> import numpy as np
            >>> from minispike.train.journal import Journal
            >>> with tempfile.TemporaryDirectory() as folder, Journal(f"{folder}/metrics.jsonl") as journal:
            ...     journal.write(step=1, loss=float("nan"), rates=np.array([0.5, 0.25]))
            ...     print(journal.path.read_text(), end="")
            {"step": 1, "loss": "nan", "rates": [0.5, 0.25]}
        """
        line = json.dumps({name: _plain(value) for name, value in fields.items()}, allow_nan=False)
        content = line.encode("ascii") + b"\n"
        with named(self.path):
            while content:
                content = content[self._file.write(content) :]

    def sync(self) -> None:
        """Wait until all lines are on the disk."""
        with named(self.path):
            os.fsync(self._file.fileno())

    def truncate(self, position: int) -> None:
        """Cut the file back to an earlier `position`, and to the end of a line if that is inside one.

        Raises:
            DataError: if the file is shorter than that, so that lines are missing.
        """
        size = self.position
        if not 0 <= position <= size:
            expected, got = f"{position} bytes or more", f"{size} bytes"
            hint = "the journal that belongs to this checkpoint"
            raise DataError(problem(str(self.path), expected=expected, got=got, hint=hint))
        self._file.truncate(position)
        self._cut_half_line()
        self.sync()

    def close(self) -> None:
        """Close the file; closing twice does no harm."""
        self._file.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @staticmethod
    def read(path: str | Path) -> list[dict[str, Any]]:
        """All whole lines of a journal, oldest first; a last line without its line end is left out.

        The strings ``"nan"``, ``"inf"`` and ``"-inf"`` come back as floats, so a column is all numbers.

        Raises:
            DataError: if there is no such file, or with the line's number if a line is not a JSON object.
        """
        try:
            lines = Path(path).read_bytes().split(b"\n")[:-1]
        except OSError as error:
            got = error.strerror or str(error)
            hint = "the folder of a run that has started"
            raise DataError(problem(str(path), expected="a journal", got=got, hint=hint)) from error
        return [_parse(line, f"{path}:{number}") for number, line in enumerate(lines, start=1)]

    def _cut_half_line(self) -> None:
        self._file.seek(0)
        end = self._file.read().rfind(b"\n") + 1
        self._file.truncate(end)


def _plain(value: Any) -> Any:
    if hasattr(value, "tolist"):
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        return str(float(value))
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _figures(value: Any) -> Any:
    if isinstance(value, str):
        return _NOT_FINITE.get(value, value)
    if isinstance(value, list):
        return [_figures(item) for item in value]
    if isinstance(value, dict):
        return {key: _figures(item) for key, item in value.items()}
    return value


def _parse(line: bytes, place: str) -> dict[str, Any]:
    try:
        fields = json.loads(line.decode("utf-8"))
    except ValueError:
        fields = None
    if not isinstance(fields, dict):
        got = repr(line[:60].decode("utf-8", "replace"))
        raise DataError(problem(place, expected="a JSON object", got=got, hint="removing the line"))
    return {name: _figures(value) for name, value in fields.items()}
