"""What teachers have said, on disk: asked once, a sentence need not be asked about again, in this run or a later one.

A folder holds one file for each data set and teacher, an *entry*, named by a fingerprint of everything that its
numbers depend on. A record in it belongs to one sentence and begins with a checksum, 0 where nothing is known yet:

    header      "minispike teacher cache 1 <fingerprint>\\n"
    record 0    checksum uint32, payload
    record 1    ...

The checksum is what makes the file safe without any order of writing: a record that is cut short, torn by a power
failure or damaged does not fit its checksum, and counts as unknown. Two processes that fill the same entry write
the same bytes. Files are made sparse, read through a memory map and written with plain writes, for a full disk is
an error of a write, and the end of the process in a map.
"""

import hashlib
import mmap
import os
import re
import struct
import sys
import zlib
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from minispike.errors import warn

ENVIRONMENT_VARIABLE = "MINISPIKE_CACHE"

_HEADER = "minispike teacher cache 1 {}\n"
_ENTRY = re.compile(r"[0-9a-f]{64}\.teacher")
_CHECKSUM = struct.Struct("<I")


def default_folder() -> Path | None:
    """Where entries are kept by default: ``$MINISPIKE_CACHE``, else the user's cache by the platform's habit.

    None where the user has no home, as in a container that runs under a number without a name.
    """
    if own := os.environ.get(ENVIRONMENT_VARIABLE):
        return Path(own)
    try:
        if sys.platform == "darwin":
            caches = Path.home() / "Library" / "Caches"
        elif sys.platform == "win32":
            caches = Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
        else:
            caches = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    except RuntimeError:
        return None
    return caches / "minispike"


def fingerprint(parts: Iterable[bytes]) -> str:
    """SHA-256 of some parts and of where each of them ends."""
    mark = hashlib.sha256()
    for part in parts:
        mark.update(len(part).to_bytes(8, "little") + part)
    return mark.hexdigest()


class Entry:
    """An open file of records, one for each of N sentences.

    Args:
        path: a file that `CacheFolder` has made.
        starts: of the N records in the file, and the file's length.
        fails: is told why a record could not be written.
    """

    def __init__(self, path: Path, starts: Sequence[int], fails: Callable[[Path, Exception, str], None]) -> None:
        self.path, self._starts, self._fails, self._writes = path, starts, fails, True
        self._file = open(path, "r+b", buffering=0)
        try:
            self._map = mmap.mmap(self._file.fileno(), starts[-1], access=mmap.ACCESS_READ)
        except BaseException:
            self._file.close()
            raise

    @property
    def size(self) -> int:
        """Of the file, in bytes."""
        return self._starts[-1]

    def get(self, index: int) -> bytes | None:
        """The payload of a sentence; None if it is not known."""
        record = self._map[self._starts[index] : self._starts[index + 1]]
        payload = record[_CHECKSUM.size :]
        return payload if _CHECKSUM.unpack_from(record)[0] == _checksum(payload) else None

    def put(self, index: int, payload: bytes) -> None:
        """Keep the payload of a sentence. Where the disk is full, say so, and write no more."""
        if not self._writes:
            return
        record = _CHECKSUM.pack(_checksum(payload)) + payload
        assert len(record) == self._starts[index + 1] - self._starts[index]
        try:
            self._file.seek(self._starts[index])
            if self._file.write(record) != len(record):
                raise OSError("no space left")
        except OSError as error:
            self._writes = False
            self._fails(self.path, error, "no more answers are kept")

    def close(self) -> None:
        """Let go of the file; it becomes the one that was used last."""
        self._map.close()
        self._file.close()
        with suppress(OSError):
            os.utime(self.path)


class CacheFolder:
    """A folder of entries that keeps within a size.

    Where room is needed, the entries go that have not been used for longest, but none that is open here. Another
    process may have it open: it keeps its file without a name, and loses nothing but the next run's profit.

    That an entry is too large, and that the folder cannot be written, is told on standard error, each once.

    Args:
        path: the folder; made when it is first needed.
        limit: bytes that all entries together may take; 0: nothing is kept, which is no cause for a warning.
    """

    def __init__(self, path: Path, limit: int) -> None:
        self.path, self.limit = path, limit
        self._open: list[Entry] = []
        self._told: set[str] = set()

    def open(
        self, key: str, sizes: Sequence[int], what: str = "answers", instead: str = "they are not kept"
    ) -> Entry | None:
        """The entry of a key, made if it is missing or damaged.

        Args:
            key: 64 hexadecimal digits, from `fingerprint`.
            sizes: bytes of each sentence's payload.
            what: is kept in it, for messages.
            instead: what happens where it is too large, for messages.

        Returns:
            None if it does not fit beside those that are open, or if the folder cannot be written.
        """
        header = _HEADER.format(key).encode()
        starts = list(accumulate((_CHECKSUM.size + size for size in sizes), initial=len(header)))
        path, size = self.path / f"{key}.teacher", starts[-1]
        others = {entry.path: entry.size for entry in self._open if entry.path != path}
        used = sum(others.values())
        if used + size > self.limit:
            beside = f", of which {_amount(used)} are in use" if used else ""
            room = f"no room for {_amount(size)} of {what} within {_amount(self.limit)}{beside}"
            self._tell("too large", f"{self.path}: {room}; {instead}; try a larger teacher.cache_mb")
            return None
        try:
            if not _is_whole(path, header, size):
                self._make_room(size, {*others, path})
                _create(path, header, size)
            os.utime(path)
            entry = Entry(path, starts, self._fails)
        except (OSError, ValueError) as error:  # ValueError: of a map, where the file has just been cut
            self._fails(path, error, "answers are not kept")
            return None
        self._open.append(entry)
        return entry

    def close(self, entry: Entry) -> None:
        """Close an entry, which may be deleted from now on."""
        self._open.remove(entry)
        entry.close()

    def _fails(self, path: Path, error: Exception, consequence: str) -> None:
        reason = getattr(error, "strerror", None) or str(error)
        self._tell("not written", f"{path}: {reason}; {consequence}; try another teacher.cache_folder")

    def _tell(self, kind: str, text: str) -> None:
        """A warning, if it is the first of its kind and a cache is wanted."""
        if self.limit and kind not in self._told:
            self._told.add(kind)
            warn(f"teacher cache: {text}")

    def _make_room(self, size: int, spared: set[Path]) -> None:
        """Delete the entries that were used longest ago, until there is room for ``size`` more bytes."""
        self.path.mkdir(parents=True, exist_ok=True)
        found: list[tuple[float, int, Path]] = []
        for path in self.path.iterdir():
            with suppress(OSError):  # another process may have deleted it
                if _ENTRY.fullmatch(path.name):
                    found.append((path.stat().st_mtime, path.stat().st_size, path))
        excess = sum(length for _, length, _ in found) + size - self.limit
        for _, length, path in sorted(found):
            if excess > 0 and path not in spared:
                with suppress(OSError):
                    path.unlink()
                    excess -= length


def _is_whole(path: Path, header: bytes, size: int) -> bool:
    """Whether there is an entry of this header and size."""
    try:
        with open(path, "rb") as file:
            return path.stat().st_size == size and file.read(len(header)) == header
    except FileNotFoundError:
        return False


def _create(path: Path, header: bytes, size: int) -> None:
    """A new entry that knows nothing. The old one is unlinked, not cut: whoever has it open keeps its bytes."""
    path.unlink(missing_ok=True)
    with open(path, "xb") as file:
        file.truncate(size)
        file.write(header)


def _checksum(payload: bytes) -> int:
    """CRC-32; never 0, which a hole in the file reads as."""
    return zlib.crc32(payload) or 1


def _amount(count: int) -> str:
    """Bytes in words."""
    return f"{count / 2**20:.0f} MiB" if count >= 2**20 else f"{count / 2**10:.1f} KiB"
