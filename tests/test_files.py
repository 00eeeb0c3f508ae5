"""Files that are written whole or not at all."""

import os
import stat
from pathlib import Path

import pytest

from minispike.files import atomic_write


def test_text_has_unix_line_ends_and_utf8(tmp_path: Path) -> None:
    target = tmp_path / "new" / "folder" / "text.txt"
    with atomic_write(target) as file:
        file.write("a\nö 好\n")
        assert not target.exists()
    assert target.read_bytes() == "a\nö 好\n".encode()
    assert list(target.parent.iterdir()) == [target]


def test_bytes_are_written_as_they_are(tmp_path: Path) -> None:
    with atomic_write(tmp_path / "data.bin", "wb") as file:
        file.write(b"\r\n\x00\xff")
    assert (tmp_path / "data.bin").read_bytes() == b"\r\n\x00\xff"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "text.txt"
    target.write_text("old")
    with pytest.raises(error), atomic_write(target) as file:
        file.write("new")
        raise error
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_rename_leaves_no_part(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(OSError, match="taken"), atomic_write(tmp_path / "taken") as file:
        file.write("new")
    assert list(tmp_path.iterdir()) == [tmp_path / "taken"]


@pytest.mark.skipif(os.name == "nt", reason="Windows has no umask")
@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_permissions_follow_the_umask(tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        with atomic_write(tmp_path / "text.txt") as file:
            file.write("new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "text.txt").stat().st_mode) == 0o666 & ~umask


@pytest.mark.parametrize("mode", ["a", "r", "x", "w+"])
def test_other_modes_are_refused(tmp_path: Path, mode: str) -> None:
    with pytest.raises(ValueError, match="mode: expected"), atomic_write(tmp_path / "text.txt", mode):
        pass
    assert list(tmp_path.iterdir()) == []
