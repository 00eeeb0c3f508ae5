"""Files that are written whole or not at all."""

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any


@contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Put the path into errors of the system within the block that name no file, such as that of a full disk.

    Args:
        path: of what is read or written there.

    Example:
        >>> from minispike.files import named
        >>> try:
        ...     with named("runs/model.safetensors"):
        ...         raise OSError(28, "No space left on device")
        ... except OSError as error:
        ...     print(error.filename)
        runs/model.safetensors
    """
    try:
        yield
    except OSError as error:
        if error.filename is None:
            error.filename = str(path)
        raise


@contextmanager
def atomic_write(path: str | Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file that appears under ``path`` only once it is complete.

    The bytes go to a temporary file in the same folder (a rename across file systems is a copy),
    reach the disk, and are renamed over ``path``. After any exception ``path`` is what it was before.
    The finished file has the permissions of any new file, those that the umask leaves.

    Args:
        path: where the file shall stand; its folder is made if it is missing.
        mode: ``"w"`` for UTF-8 text with ``\\n`` line ends, ``"wb"`` for bytes.

    Raises:
        ValueError: for any other ``mode``.
        OSError: the file cannot be written; its ``filename`` is the path, or the temporary file's.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from minispike.files import atomic_write
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     path = Path(folder) / "results.txt"
        ...     with atomic_write(path) as file:
        ...         _ = file.write("accuracy 0.9")
        ...         print("half written:", path.exists())
        ...     print("complete:", path.read_text())
        half written: False
        complete: accuracy 0.9
    """
    if mode not in ("w", "wb"):
        raise ValueError(f'mode: expected "w" or "wb", got {mode!r}; try "w"')
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile.mkstemp: its files can be read by their owner alone, and the rename would keep that.
    part = target.with_name(f".{target.name}.{secrets.token_hex(4)}.part")
    how: dict[str, Any] = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    try:
        with named(target):
            with open(part, mode.replace("w", "x"), **how) as file:
                yield file
                file.flush()
                os.fsync(file.fileno())
            os.replace(part, target)  # only after the file is closed, or Windows refuses
    except BaseException:
        part.unlink(missing_ok=True)
        raise
